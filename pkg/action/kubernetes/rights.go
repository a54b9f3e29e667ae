package kubernetes

import "github.com/riposte-dev/riposte/pkg/action"

func right(group string, verbs []string, resources ...string) action.Right {
	return action.Right{APIGroup: group, Resources: resources, Verbs: verbs}
}

// clusterRight is one on objects of the core group without a namespace, or in all of them.
func clusterRight(verbs []string, resources ...string) action.Right {
	return action.Right{Resources: resources, Verbs: verbs, Cluster: true}
}

func verbs(v ...string) []string { return v }

// usual are the rights on the kinds that rules are usually about. Secrets and roles are not among them: they are granted by hand.
func usual(v []string) []action.Right {
	return []action.Right{
		right("", v, "configmaps", "persistentvolumeclaims", "serviceaccounts", "services"),
		right("apps", v, "daemonsets", "deployments", "statefulsets"),
		right("autoscaling", v, "horizontalpodautoscalers"),
		right("batch", v, "cronjobs", "jobs"),
		right("networking.k8s.io", v, "ingresses", "networkpolicies"),
		right("policy", v, "poddisruptionbudgets"),
	}
}

// watching are the rights to say why something is not healthy.
func watching(rights ...action.Right) []action.Right {
	return append(rights, right("", verbs("get", "list"), "pods"))
}

// onWorkloads are the rights on what runs pods.
func onWorkloads(v ...string) action.Right {
	return right("apps", v, "daemonsets", "deployments", "statefulsets")
}
