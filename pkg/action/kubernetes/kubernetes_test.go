package kubernetes

import (
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/kube"
)

func TestTargetsAreTheSameHoweverTheyAreWritten(t *testing.T) {
	for want, refs := range map[string][]kube.Ref{
		"kubernetes:shop/deployment/web":        {{Kind: "Deployment", Namespace: "shop", Name: "web"}, {Kind: "deploy", Namespace: "shop", Name: "web"}, {Kind: "deployments.apps", APIVersion: "apps/v1", Namespace: "shop", Name: "web"}},
		"kubernetes:default/configmap/settings": {{Kind: "cm", Name: "settings"}, {Kind: "ConfigMap", Namespace: "default", Name: "settings"}},
		"kubernetes:node/n1":                    {{Kind: "no", Name: "n1"}, {Kind: "Node", Namespace: "ignored", Name: "n1"}},
		"kubernetes:shop/rollout/web":           {{Kind: "Rollout", Namespace: "shop", Name: "web"}},
	} {
		for _, ref := range refs {
			if got := target(ref); got != want {
				t.Errorf("%+v is %s, want %s", ref, got, want)
			}
		}
	}
}

// TestTargetOfAPodIsItsWorkloads, where its name tells, so that an alert of a pod and one of its deployment don't overlap.
func TestTargetOfAPodIsItsWorkloads(t *testing.T) {
	for pod, want := range map[string]string{
		"web-7658c7b88c-xcnfn":  "kubernetes:shop/deployment/web",
		"a-b-c-5d4f8b9c7-2x4z6": "kubernetes:shop/deployment/a-b-c",
		"db-0":                  "kubernetes:shop/statefulset/db",
		"alone":                 "kubernetes:shop/pod/alone",
		"agent-x2x4z":           "kubernetes:shop/pod/agent-x2x4z", // of a DaemonSet or a Job
	} {
		if got := workloadTarget(kube.Ref{Kind: "Pod", Namespace: "shop", Name: pod}); got != want {
			t.Errorf("%s is %s, want %s", pod, got, want)
		}
	}
}

// TestDefinitions checks what the engine and the chart rely on, without a cluster.
func TestDefinitions(t *testing.T) {
	for _, def := range Definitions(Options{Cluster: kube.New(kube.Options{Kubeconfig: "/nonexistent"})}) {
		actiontest.Run(t, def, nil)
		if len(def.Rights) == 0 {
			t.Errorf("%s needs no right", def.Name)
		}
		if def.Changes && (def.Target == nil || def.Fenced == "") {
			t.Errorf("%s has no target, or does not say how it is fenced", def.Name)
		}
		for _, r := range def.Rights {
			for _, name := range append(append([]string{r.APIGroup}, r.Resources...), r.Verbs...) {
				if strings.Contains(name, "*") {
					t.Errorf("%s asks for all: %+v", def.Name, r)
				}
			}
		}
	}
}

func TestScaleStaysWithinItsBounds(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		p          ScaleParams
		from, want int64
	}{
		{ScaleParams{Replicas: n(5)}, 2, 5}, {ScaleParams{Replicas: n(0)}, 2, 0}, {ScaleParams{Replicas: n(9), Max: 4}, 2, 4}, {ScaleParams{Replicas: n(0), Min: 1}, 2, 1},
		{ScaleParams{By: 2, Max: 10}, 3, 5}, {ScaleParams{By: 2, Max: 4}, 3, 4}, {ScaleParams{By: 2, Max: 4}, 7, 7}, {ScaleParams{By: -2}, 1, 0}, {ScaleParams{By: -2, Min: 1}, 2, 1},
		{ScaleParams{By: -2, Min: 3}, 2, 2},
	} {
		if got := c.p.wanted(c.from); got != c.want {
			t.Errorf("%+v from %d is %d, want %d", c.p, c.from, got, c.want)
		}
	}
}

func TestRollbackGoesBackToWhatNoneHasLeft(t *testing.T) {
	history := []kube.Revision{{Number: 6}, {Number: 5}, {Number: 3}}
	for _, c := range []struct {
		bad          []int64
		wanted, want int64
	}{{nil, 0, 5}, {[]int64{5}, 0, 3}, {[]int64{5, 3}, 0, 0}, {[]int64{5}, 5, 5}, {nil, 4, 0}} {
		got, err := choose(history, 6, c.bad, c.wanted)
		if got.Number != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%+v: %d, %v", c, got.Number, err)
		}
	}
	if got := remember([]int64{4, 5}, 6, 4); got != "5,6" {
		t.Errorf("left are %s", got)
	}
}

func TestPodSpecIsMergedOverTheRestrictedOne(t *testing.T) {
	p := JobParams{Image: "busybox", PodSpec: map[string]any{
		"nodeSelector":    map[string]any{"disk": "ssd"},
		"securityContext": map[string]any{"runAsUser": int64(7)},
		"containers":      []any{map[string]any{"resources": map[string]any{"limits": map[string]any{"cpu": "1"}}}},
	}}
	spec := p.job(&action.Call{RunID: "r", StepID: "s"}, "name").Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	security := spec["securityContext"].(map[string]any)
	container := spec["containers"].([]any)[0].(map[string]any)
	if security["runAsNonRoot"] != true || security["runAsUser"] != int64(7) || container["image"] != "busybox" || container["resources"] == nil || spec["automountServiceAccountToken"] != false {
		t.Errorf("spec is %v", spec)
	}
}

// TestNothingConnectsBeforeItIsUsed: a rule that is wrong is told without a cluster, and a missing one in words.
func TestNothingConnectsBeforeItIsUsed(t *testing.T) {
	defs := action.NewRegistry(Definitions(Options{Cluster: kube.New(kube.Options{Kubeconfig: "/nonexistent/kubeconfig"})}))
	actiontest.Run(t, defs["kubernetes.restart"], []actiontest.Case{
		{Name: "no cluster", Params: &RestartParams{Name: "web"}, Want: actiontest.Fails, ErrorHas: []string{"kubernetes.restart", "/nonexistent/kubeconfig", "kubernetes.kubeconfig"}},
		{Name: "no name", Params: &RestartParams{}, Want: actiontest.Permanent, ErrorHas: []string{"name is empty"}},
	})
	actiontest.Run(t, defs["kubernetes.apply"], []actiontest.Case{
		{Name: "nothing to apply", Params: &ApplyParams{Manifests: "# nothing", Prune: true}, Want: actiontest.Permanent, ErrorHas: []string{"no objects"}},
		{Name: "outside", Params: &ApplyParams{Path: "../.."}, Want: actiontest.Permanent, ErrorHas: []string{"leads out"}},
	})
}
