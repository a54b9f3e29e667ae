//go:build e2e

package main_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestClusterExamples runs the examples that act on a cluster, each from the alert or the push until its case is healed, with the rights
// that the chart gives for their actions.
func TestClusterExamples(t *testing.T) {
	tests := map[string]func(t *testing.T, c *installed, namespace string){
		"crash-loop": crashLoop, "crash-stays": crashStays, "rollback-release": rollbackRelease, "scale-on-queue": scaleOnQueue, "drain-node": drainNode,
		"renew-drift": renewDrift, "renew-nightly": renewNightly, "apply-on-push": applyOnPush, "raise-memory": raiseMemory, "beyond": beyondTheRights,
	}
	var names []string
	for name := range tests {
		names = append(names, name)
	}
	slices.Sort(names)
	c := install(t, []string{
		"kubernetes.get", "kubernetes.restart", "kubernetes.rollback", "kubernetes.scale", "kubernetes.cordon", "kubernetes.drain",
		"kubernetes.diff", "kubernetes.apply",
	}, names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			mine := *c
			mine.t = t
			tests[name](t, &mine, c.prefix+"-"+name)
		})
	}
}

// crashLoop: pods crash until they are restarted.
func crashLoop(t *testing.T, c *installed, ns string) {
	c.sick(ns, "cart", "CrashLoopBackOff", `!("kubectl.kubernetes.io/restartedAt" in object.metadata.annotations)`)
	c.apply(workload(ns, "cart", pause, "64Mi", 2))
	_, a := c.server(t, example(t, "crash-loop/crash-loop.yaml", "for: 5m", "every: 1s\n    for: 3s"), "")
	a.watch("DeploymentCrashLooping", map[string]string{"namespace": ns, "deployment": "cart"}, c.unready(ns, "cart"))
	if r := a.healed("restart-crash-looping"); r.step("restart").Outputs["healthy"] != true {
		t.Errorf("the restart says %v", r.step("restart").Outputs)
	}
	c.settled(ns, "cart", 2)
}

// crashStays: a restart does not help, which is told, and not tried again.
func crashStays(t *testing.T, c *installed, ns string) {
	c.sick(ns, "cart", "CrashLoopBackOff", "true")
	c.apply(workload(ns, "cart", pause, "64Mi", 1))
	s, a := c.server(t, example(t, "crash-loop/crash-loop.yaml", "wait: 10m", "wait: 3s"), "")
	a.watch("DeploymentCrashLooping", map[string]string{"namespace": ns, "deployment": "cart"}, c.unready(ns, "cart"))
	if r := a.ended("restart-crash-looping"); r.State != "failed" || !strings.Contains(r.Message, "cart") {
		t.Errorf("the run is %+v", r)
	}
	if got := a.oncall.next(t, time.Minute); !strings.Contains(got, "a restart does not help cart") {
		t.Errorf("oncall is told %s", got)
	}
	if all := s.runs("rule=restart-crash-looping"); len(all) != 1 {
		t.Errorf("there are %d runs", len(all))
	}
}

// rollbackRelease: a release brings errors as soon as it is deployed.
func rollbackRelease(t *testing.T, c *installed, ns string) {
	bad := "registry.k8s.io/pause:3.9"
	burns := func() (bool, error) {
		all, err := c.pods(ns, "shop")
		return slices.ContainsFunc(all, func(p pod) bool { return p.Spec.Containers[0].Image == bad }), err
	}
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		value := "0.001"
		if yes, err := burns(); err != nil || yes {
			value = "0.5"
		}
		answerQuery(w, value)
	}))
	t.Cleanup(prometheus.Close)
	c.apply(workload(ns, "shop", pause, "64Mi", 2))
	c.settled(ns, "shop", 2)
	f := newForge(t, "acme/shop", map[string]string{"README": "deployed by somebody else\n"})
	s, a := c.server(t, example(t, "rollback-release/rollback-release.yaml", "namespace: shop", "namespace: "+ns,
		"for: 5m", "every: 1s\n    for: 3s"), "prometheus: {url: \""+prometheus.URL+"\"}\n")
	f.listen(s.Hooks)
	a.watch("ErrorBudgetBurn", map[string]string{"service": "shop"}, burns)
	c.kubectl("-n", ns, "set", "image", "deployment/shop", "app="+bad)
	f.send("deployment_status", map[string]any{
		"action":            "created",
		"deployment_status": map[string]any{"id": 1, "state": "success", "environment": "production", "updated_at": time.Now().UTC().Format(time.RFC3339)},
		"deployment":        map[string]any{"id": 1, "ref": "main", "sha": f.at("main"), "environment": "production"},
	})
	r := a.healed("rollback-release")
	if out := r.step("back").Outputs; out["fromRevision"] != 2.0 || out["toRevision"] != 1.0 {
		t.Errorf("the rollback says %v", out)
	}
	for _, p := range c.settled(ns, "shop", 2) {
		if p.Spec.Containers[0].Image != pause {
			t.Errorf("a pod has %s", p.Spec.Containers[0].Image)
		}
	}
}

// scaleOnQueue: the queue is too long until there are four workers, who then work it off.
func scaleOnQueue(t *testing.T, c *installed, ns string) {
	c.apply(workload(ns, "orders-worker", pause, "64Mi", 2))
	c.settled(ns, "orders-worker", 2)
	var workedOff atomic.Bool
	_, a := c.server(t, example(t, "scale-on-queue/scale-on-queue.yaml", "namespace: shop", "namespace: "+ns, "for: 10m", "for: 1s"), "")
	a.watch("QueueTooLong", map[string]string{"queue": "orders"}, func() (bool, error) {
		all, err := c.pods(ns, "orders-worker")
		if len(all) >= 4 {
			workedOff.Store(true)
		}
		return !workedOff.Load(), err
	})
	if r := a.healed("scale-up-workers"); r.step("up").Outputs["replicas"] != 4.0 {
		t.Errorf("the way up says %v", r.step("up").Outputs)
	}
	if r := a.ended("scale-workers-back"); r.State != "succeeded" || r.step("back").Outputs["replicas"] != 2.0 {
		t.Errorf("the way back is %+v", r)
	}
	c.settled(ns, "orders-worker", 2)
}

// drainNode: a node is bad as long as pods are on it.
func drainNode(t *testing.T, c *installed, ns string) {
	if nodes := strings.Fields(c.kubectl("get", "nodes", "-o", "name", "--field-selector", "spec.unschedulable=false")); len(nodes) < 2 {
		t.Skip("the cluster has one node: with a second one its pods had somewhere to go to")
	}
	c.apply(workload(ns, "cart", pause, "64Mi", 3) + `---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: cart, namespace: ` + ns + `}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: cart}}}
`)
	bad := c.settled(ns, "cart", 3)[0].Spec.NodeName
	t.Cleanup(func() { _, _ = c.try("kubectl", "uncordon", bad) })
	onIt := func() (bool, error) {
		all, err := c.pods(ns, "cart")
		return slices.ContainsFunc(all, func(p pod) bool { return p.Spec.NodeName == bad }), err
	}
	_, a := c.server(t, example(t, "drain-node/drain-node.yaml"), "")
	a.watch("NodeBroken", map[string]string{"node": bad}, onIt)
	if r := a.healed("drain-bad-node"); r.step("drain").Outputs["evicted"] == 0.0 {
		t.Errorf("the drain says %v", r.step("drain").Outputs)
	}
	if c.kubectl("get", "node", bad, "-o", "jsonpath={.spec.unschedulable}") != "true" {
		t.Error("the node takes pods again")
	}
	if yes, err := onIt(); yes || err != nil {
		t.Errorf("pods are on the node still: %v", err)
	}
	c.settled(ns, "cart", 3)
}

const kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: NAMESPACE\nresources: [cart.yaml]\n" +
	"configMapGenerator: [{name: cart, literals: [greeting=hello]}]\n"

// shopFiles is the kustomization of a shop, with its cart.
func shopFiles(ns, cart string) map[string]string {
	return map[string]string{"shop/kustomization.yaml": strings.Replace(kustomization, "NAMESPACE", ns, 1), "shop/cart.yaml": cart}
}

// applyRule is the example of what is pushed, in a namespace.
func applyRule(t *testing.T, ns string) string {
	return example(t, "apply-on-push/apply-on-push.yaml", "namespace: shop", "namespace: "+ns, "for: 2m", "every: 1s\n    for: 2s")
}

// applyOnPush: what is pushed is there, what is taken out is gone, and what the cluster refuses changes nothing.
func applyOnPush(t *testing.T, c *installed, ns string) {
	f, config := deploys(t, map[string]string{"README": "of the shop\n"})
	s, _ := c.server(t, applyRule(t, ns), config)
	f.listen(s.Hooks)
	pushed := func(files map[string]string) runRecord {
		t.Helper()
		f.push("change", files)
		ids := f.events("push")
		return s.finished(ids[len(ids)-1], "apply-shop")
	}
	if r := pushed(shopFiles(ns, workload(ns, "cart", pause, "64Mi", 2))); r.State != "succeeded" || r.step("apply").Outputs["created"] != 2.0 {
		t.Fatalf("the first push is %+v", r)
	}
	c.settled(ns, "cart", 2)
	if r := pushed(map[string]string{"shop/cart.yaml": workload(ns, "cart", pause, "64Mi", -1)}); r.State != "failed" || !strings.Contains(r.Message, "replicas") {
		t.Errorf("what can't be applied is %+v", r)
	}
	c.settled(ns, "cart", 2)
	if r := pushed(map[string]string{
		"shop/till.yaml":          workload(ns, "till", pause, "64Mi", 1),
		"shop/kustomization.yaml": strings.NewReplacer("NAMESPACE", ns, "cart.yaml", "till.yaml").Replace(kustomization),
	}); r.State != "succeeded" || r.step("apply").Outputs["deleted"] != 1.0 {
		t.Fatalf("the third push is %+v", r)
	}
	c.settled(ns, "till", 1)
	if out := c.kubectl("-n", ns, "get", "deployments", "-o", "name"); strings.Contains(out, "cart") {
		t.Errorf("what was taken out is there still: %s", out)
	}
}

// driftRule is the example of what drifted, in a namespace and for the repository of a host.
func driftRule(t *testing.T, ns string, f *exampleForge) string {
	return example(t, "renew-drift/renew-drift.yaml", "namespace: shop", "namespace: "+ns, `namespace == "shop"`, `namespace == "`+ns+`"`,
		"https://github.com/acme/deploys.git", f.webURL, "within: 5m", "every: 1s\n    within: 1m")
}

// renewDrift: somebody sets an image by hand.
func renewDrift(t *testing.T, c *installed, ns string) {
	f, config := deploys(t, shopFiles(ns, workload(ns, "cart", pause, "64Mi", 2)))
	s, a := c.server(t, applyRule(t, ns)+"---\n"+driftRule(t, ns, f), config)
	f.listen(s.Hooks)
	f.push("again", map[string]string{"shop/note": "touched\n"})
	if r := s.finished(f.events("push")[0], "apply-shop"); r.State != "succeeded" {
		t.Fatalf("the push is %+v", r)
	}
	unreleased := "registry.k8s.io/pause:3.9"
	a.watch("UnreleasedImage", map[string]string{"namespace": ns}, func() (bool, error) {
		all, err := c.pods(ns, "cart")
		return slices.ContainsFunc(all, func(p pod) bool { return p.Spec.Containers[0].Image == unreleased }), err
	})
	c.kubectl("-n", ns, "set", "image", "deployment/cart", "app="+unreleased)
	r := a.healed("renew-drift")
	if out := r.step("drift").Outputs; out["updated"] != 1.0 || !strings.Contains(out["summary"].(string), unreleased) {
		t.Errorf("the difference is %v", out)
	}
	for _, p := range c.settled(ns, "cart", 2) {
		if p.Spec.Containers[0].Image != pause {
			t.Errorf("a pod has %s", p.Spec.Containers[0].Image)
		}
	}
}

// renewNightly: nobody tells that all of it is missing, but the schedule finds it.
func renewNightly(t *testing.T, c *installed, ns string) {
	f, config := deploys(t, shopFiles(ns, workload(ns, "cart", pause, "64Mi", 2)))
	_, a := c.server(t, strings.Replace(driftRule(t, ns, f), "30 3 * * *", "* * * * *", 1), config)
	if r := a.ended("renew-drift"); r.State != "succeeded" || r.step("renew").Outputs["created"] != 2.0 {
		t.Fatalf("the run is %+v", r)
	}
	c.settled(ns, "cart", 2)
	if got := a.oncall.next(t, time.Minute); !strings.Contains(got, "2 created") {
		t.Errorf("oncall is told %s", got)
	}
}

// raiseMemory: the app needs more memory than it used to; a person merges what the rule proposes, which is then applied.
func raiseMemory(t *testing.T, c *installed, ns string) {
	need(t, "awk", "apt-get install mawk")
	f, config := deploys(t, shopFiles(ns, workload(ns, "cart", pause, "128Mi", 1)))
	host := strings.TrimPrefix(f.url, "http://")
	rules := applyRule(t, ns) + "---\n" + example(t, "raise-memory/raise-memory.yaml", `namespace == "shop"`, `namespace == "`+ns+`"`,
		"https://github.com/acme/deploys.git", f.webURL, "host: github.com", "host: "+host)
	s, a := c.server(t, rules, config)
	f.listen(s.Hooks)
	f.push("again", map[string]string{"shop/note": "touched\n"})
	if r := s.finished(f.events("push")[0], "apply-shop"); r.State != "succeeded" {
		t.Fatalf("the push is %+v", r)
	}
	c.sick(ns, "cart", "OOMKilled", `quantity(object.spec.containers[0].resources.limits["memory"]).isLessThan(quantity("150Mi"))`)
	c.kubectl("-n", ns, "delete", "pods", "-l", "app=cart", "--wait=false")
	a.watch("ContainerOOMKilled", map[string]string{"namespace": ns, "deployment": "cart"}, c.unready(ns, "cart"))
	waitFor(t, 2*time.Minute, "a pull request", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.proposed) > 0
	})
	if p := f.proposed[0]; p.head != "riposte/memory-cart" || p.base != "main" || !strings.Contains(p.body, "128Mi -> 192Mi") {
		t.Errorf("the pull request is %+v", p)
	}
	f.merge("riposte/memory-cart")
	if r := a.healed("raise-memory"); r.step("propose").Outputs["number"] != 1.0 {
		t.Errorf("the pull request is %v", r.step("propose").Outputs)
	}
	c.settled(ns, "cart", 1)
	if got := c.kubectl("-n", ns, "get", "deployment", "cart", "-o", "jsonpath={.spec.template.spec.containers[0].resources}"); !strings.Contains(got, "192Mi") || !strings.Contains(got, "16Mi") {
		t.Errorf("its resources are %s", got)
	}
}

// beyondTheRights: what the chart did not grant fails, and the error says which right is missing where.
func beyondTheRights(t *testing.T, c *installed, ns string) {
	c.apply(workload(ns, "cart", pause, "64Mi", 1))
	pods := c.settled(ns, "cart", 1)
	rule := func(name, uses, with string) string {
		return "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: " + name + "}\nspec:\n  trigger: {source: alertmanager, type: alert.firing}\n" +
			"  limits: [{runs: 9, per: 1h}]\n  steps: [{id: act, uses: " + uses + ", with: {" + with + "}}]\n"
	}
	_, a := c.server(t, rule("deletes", "kubernetes.delete", "kind: pod, namespace: "+ns+", name: "+pods[0].Metadata.Name)+
		rule("restarts-elsewhere", "kubernetes.restart", "namespace: kube-system, name: cart")+
		rule("reads-secrets", "kubernetes.get", "kind: secret, namespace: "+ns+", name: cart"), "")
	a.watch("Anything", map[string]string{}, func() (bool, error) { return true, nil })
	for name, says := range map[string][]string{
		"deletes":            {"may not delete pods in namespace " + ns},
		"restarts-elsewhere": {"may not get deployments in namespace kube-system"},
		"reads-secrets":      {"may not get secrets in namespace " + ns},
	} {
		r := a.ended(name)
		for _, text := range append(says, "403", "system:serviceaccount:"+c.prefix+"-riposte:rip-riposte", "verbs: [") {
			if r.State != "failed" || !strings.Contains(r.step("act").Error, text) {
				t.Errorf("%s is %s, without %q: %s", name, r.State, text, r.step("act").Error)
			}
		}
	}
	if left := c.settled(ns, "cart", 1); left[0].Metadata.Name != pods[0].Metadata.Name {
		t.Error("the pod is another")
	}
}
