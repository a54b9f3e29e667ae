package kubernetes

import (
	"regexp"
	"strings"

	"github.com/riposte-dev/riposte/pkg/kube"
)

// kinds are the names under which kubectl knows the kinds that rules are about; those of the second list have no namespace.
func kinds() (namespaced, cluster [][]string) {
	return [][]string{
			{"pod", "pods", "po"}, {"deployment", "deployments", "deploy"}, {"statefulset", "statefulsets", "sts"}, {"daemonset", "daemonsets", "ds"},
			{"replicaset", "replicasets", "rs"}, {"job", "jobs"}, {"cronjob", "cronjobs", "cj"}, {"service", "services", "svc"},
			{"configmap", "configmaps", "cm"}, {"secret", "secrets"}, {"ingress", "ingresses", "ing"}, {"persistentvolumeclaim", "persistentvolumeclaims", "pvc"},
			{"horizontalpodautoscaler", "horizontalpodautoscalers", "hpa"}, {"poddisruptionbudget", "poddisruptionbudgets", "pdb"},
			{"serviceaccount", "serviceaccounts", "sa"}, {"networkpolicy", "networkpolicies", "netpol"},
		}, [][]string{
			{"node", "nodes", "no"}, {"namespace", "namespaces", "ns"}, {"persistentvolume", "persistentvolumes", "pv"},
			{"customresourcedefinition", "customresourcedefinitions", "crd", "crds"}, {"clusterrole", "clusterroles"},
			{"clusterrolebinding", "clusterrolebindings"}, {"storageclass", "storageclasses", "sc"},
		}
}

// kindName is the one name of a kind; scope says whether it has a namespace, where that is known.
func kindName(kind string) (name string, namespaced, known bool) {
	kind, _, _ = strings.Cut(strings.ToLower(kind), ".")
	yes, no := kinds()
	for _, names := range yes {
		for _, n := range names {
			if n == kind {
				return names[0], true, true
			}
		}
	}
	for _, names := range no {
		for _, n := range names {
			if n == kind {
				return names[0], false, true
			}
		}
	}
	return kind, true, false
}

// target names an object for the lock: the same text for all ways to write it. What is only asked of the server, as the owner
// of a pod of another name, it can't know.
func target(ref kube.Ref) string {
	kind, namespaced, known := kindName(ref.Kind)
	namespace := ref.Namespace
	switch {
	case !namespaced:
		namespace = ""
	case namespace == "" && known:
		namespace = kube.DefaultNamespace
	}
	return "kubernetes:" + strings.TrimPrefix(namespace+"/"+kind+"/"+ref.Name, "/")
}

// podOf is a pod's name as a Deployment makes it: its own, the hash of the template, and five letters of an alphabet without
// vowels (k8s.io/apimachinery, pkg/util/rand).
var (
	podOfDeployment  = regexp.MustCompile(`^(.+)-[bcdf-hj-np-tv-z2-9]{6,10}-[bcdf-hj-np-tv-z2-9]{5}$`)
	podOfStatefulSet = regexp.MustCompile(`^(.+)-[0-9]{1,5}$`)
)

// workloadTarget is the target of what is done to a pod's owner: by the pod's name, as far as that tells.
func workloadTarget(ref kube.Ref) string {
	if kind, _, _ := kindName(ref.Kind); kind == "pod" {
		if m := podOfDeployment.FindStringSubmatch(ref.Name); m != nil {
			ref.Kind, ref.Name = "deployment", m[1]
		} else if m := podOfStatefulSet.FindStringSubmatch(ref.Name); m != nil {
			ref.Kind, ref.Name = "statefulset", m[1]
		}
	}
	return target(ref)
}

// parseTarget reads what target writes. What is none names nothing.
func parseTarget(text string) kube.Ref {
	parts := strings.Split(strings.TrimPrefix(text, "kubernetes:"), "/")
	switch len(parts) {
	case 2:
		return kube.Ref{Kind: parts[0], Name: parts[1]}
	case 3:
		return kube.Ref{Namespace: parts[0], Kind: parts[1], Name: parts[2]}
	}
	return kube.Ref{}
}
