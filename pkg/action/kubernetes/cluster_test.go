//go:build e2e

package kubernetes_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/kubernetes"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// The tests act on a real cluster, that of KUBECONFIG, which they may spoil.

// cluster is one test's namespace of it.
type cluster struct {
	t      *testing.T
	config *rest.Config
	api    dynamic.Interface
	ns     string
	defs   map[string]action.Definition
	runs   int
}

func open(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("set KUBECONFIG to that of a disposable cluster, for example of `kind create cluster`")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = 1000
	config.Burst = 1000
	c := &cluster{t: t, config: config}
	if c.api, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.defs = definitions(os.Getenv("KUBECONFIG"))
	o := c.create("v1", "Namespace", "", "metadata: {generateName: riposte-e2e-}")
	c.ns = o.GetName()
	t.Cleanup(func() { c.drop("namespaces", "", c.ns) })
	eventually(t, func() error { // without it no pod is admitted
		_, err := c.of("v1", "serviceaccounts", c.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return c
}

func definitions(kubeconfig string) map[string]action.Definition {
	return action.NewRegistry(kubernetes.Definitions(kubernetes.Options{Cluster: kube.New(kube.Options{Kubeconfig: kubeconfig})}))
}

func (c *cluster) of(apiVersion, resource, ns string) dynamic.ResourceInterface {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		c.t.Fatal(err)
	}
	if r := c.api.Resource(gv.WithResource(resource)); ns == "" {
		return r
	}
	return c.api.Resource(gv.WithResource(resource)).Namespace(ns)
}

func plural(kind string) string {
	switch name := strings.ToLower(kind); {
	case strings.HasSuffix(name, "y"):
		return strings.TrimSuffix(name, "y") + "ies"
	default:
		return name + "s"
	}
}

// create makes an object of a text; $NS stands for the namespace.
func (c *cluster) create(apiVersion, kind, ns, text string) *unstructured.Unstructured {
	c.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(text, "$NS", c.ns)), &o.Object); err != nil {
		c.t.Fatal(err)
	}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	made, err := c.of(apiVersion, plural(kind), ns).Create(c.t.Context(), o, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		c.t.Fatal(err)
	}
	if ns == "" && kind != "Namespace" {
		c.t.Cleanup(func() {
			_ = c.of(apiVersion, plural(kind), "").Delete(context.Background(), made.GetName(), metav1.DeleteOptions{})
		})
	}
	return made
}

func (c *cluster) get(apiVersion, resource, name string) *unstructured.Unstructured {
	c.t.Helper()
	o, err := c.of(apiVersion, resource, c.ns).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *cluster) drop(resource, ns, name string) {
	if err := c.of("v1", resource, ns).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		c.t.Error(err)
	}
}

const image = "registry.k8s.io/pause:3.10"

// deployment makes one and waits until it is ready.
func (c *cluster) deployment(name string, replicas int) {
	c.t.Helper()
	c.create("apps/v1", "Deployment", c.ns, fmt.Sprintf(`
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "%[3]s"}]}`, name, replicas, image))
	c.settled(name)
}

func (c *cluster) settled(name string) {
	c.t.Helper()
	eventually(c.t, func() error {
		if h := kube.HealthOf(c.get("apps/v1", "deployments", name)); !h.Healthy() {
			return fmt.Errorf("%s is %s: %s", name, h.Status, h.Message)
		}
		return nil
	})
}

func (c *cluster) pod(app string) string {
	c.t.Helper()
	name := ""
	eventually(c.t, func() error {
		l, err := c.of("v1", "pods", c.ns).List(c.t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		if len(l.Items) == 0 {
			return fmt.Errorf("there is no pod of %s", app)
		}
		name = l.Items[0].GetName()
		return nil
	})
	return name
}

func eventually(t *testing.T, done func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the cluster has no other way to say so
	}
}

// account makes a service account that has the rights of an action and no others, and returns it as a grant names it.
func (c *cluster) account(of string) string {
	c.t.Helper()
	name := strings.ToLower(strings.ReplaceAll(of, ".", "-"))
	_, err := c.of("v1", "serviceaccounts", c.ns).Get(c.t.Context(), name, metav1.GetOptions{})
	if err == nil {
		return c.ns + "/" + name
	}
	c.create("v1", "ServiceAccount", c.ns, "metadata: {name: "+name+"}")
	var here, everywhere []map[string]any
	for _, r := range c.defs[of].Rights {
		rule := map[string]any{"apiGroups": []string{r.APIGroup}, "resources": r.Resources, "verbs": r.Verbs}
		if r.Cluster {
			everywhere = append(everywhere, rule)
		} else {
			here = append(here, rule)
		}
	}
	bind := func(kind, ns, role string, rules []map[string]any) {
		if len(rules) == 0 {
			return
		}
		text, err := yaml.Marshal(map[string]any{"metadata": map[string]any{"name": role}, "rules": rules})
		if err != nil {
			c.t.Fatal(err)
		}
		c.create("rbac.authorization.k8s.io/v1", kind, ns, string(text))
		c.create("rbac.authorization.k8s.io/v1", kind+"Binding", ns, fmt.Sprintf(`
metadata: {name: %s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: %s, name: %s}
subjects: [{kind: ServiceAccount, name: %s, namespace: $NS}]`, role, kind, role, name))
	}
	bind("Role", c.ns, name, here)
	bind("ClusterRole", "", c.ns+"-"+name, everywhere)
	return c.ns + "/" + name
}

// call is one of a run of its own, as a service account that has the action's rights alone.
func (c *cluster) call(name string, params any) *action.Call {
	c.t.Helper()
	c.runs++
	call, _ := actiontest.Call(c.t, actiontest.Case{Params: params})
	call.RunID, call.StartedAt = fmt.Sprintf("run%d", c.runs), time.Now()
	call.ServiceAccount = c.account(name)
	return call
}

func (c *cluster) run(name string, params any) (action.Outputs, error) {
	c.t.Helper()
	return c.made(name, c.call(name, params))
}

func (c *cluster) made(name string, call *action.Call) (out action.Outputs, err error) {
	c.t.Helper()
	def := c.defs[name]
	eventually(c.t, func() error { // what RBAC allows is known a moment later
		out, err = def.Run(c.t.Context(), call)
		if err != nil && strings.Contains(err.Error(), "(403)") && strings.Contains(err.Error(), call.ServiceAccount[strings.Index(call.ServiceAccount, "/")+1:]) && time.Since(call.StartedAt) < 5*time.Second {
			return err
		}
		return nil
	})
	if err == nil {
		actiontest.Outputs(c.t, def, out)
	}
	return out, err
}

func (c *cluster) must(name string, params any) action.Outputs {
	c.t.Helper()
	out, err := c.run(name, params)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) fails(name string, params any, texts ...string) {
	c.t.Helper()
	_, err := c.run(name, params)
	says(c.t, err, texts...)
}

func says(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error is %v; it should contain %q", err, text)
		}
	}
}

func has(t *testing.T, out action.Outputs, want action.Outputs) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if fmt.Sprintf("%T %v", out[k], out[k]) != fmt.Sprintf("%T %v", want[k], want[k]) {
			t.Errorf("output %s is %#v, want %#v", k, out[k], want[k])
		}
	}
}

func TestClusterGet(t *testing.T) {
	c := open(t)
	c.deployment("web", 2)
	for _, kind := range []string{"Deployment", "deployment", "deployments", "deploy", "deployments.apps"} {
		out := c.must("kubernetes.get", &kubernetes.GetParams{Kind: kind, Name: "web", Namespace: c.ns})
		has(t, out, action.Outputs{
			"found": true, "ready": true, "healthy": true, "status": "Current", "replicas": int64(2), "readyReplicas": int64(2), "restarts": int64(0),
			"target": "kubernetes:" + c.ns + "/deployment/web",
		})
		if name, _, _ := unstructured.NestedString(out["object"].(map[string]any), "metadata", "name"); name != "web" {
			t.Errorf("object is %v", out["object"])
		}
	}
	out := c.must("kubernetes.get", &kubernetes.GetParams{Kind: "pod", Name: c.pod("web"), Namespace: c.ns})
	has(t, out, action.Outputs{"ready": true, "target": "kubernetes:" + c.ns + "/deployment/web"})
	out = c.must("kubernetes.get", &kubernetes.GetParams{Kind: "po", Selector: "app=web", Namespace: c.ns})
	has(t, out, action.Outputs{"found": true, "count": int64(2), "ready": true})
	if items := out["items"].([]any); len(items) != 2 {
		t.Errorf("items are %v", items)
	}
	out = c.must("kubernetes.get", &kubernetes.GetParams{Kind: "pod", Name: "nobody", Namespace: c.ns})
	if has(t, out, action.Outputs{"found": false, "count": int64(0)}); out["ready"] != nil {
		t.Error("what is not there is ready")
	}
	c.fails("kubernetes.get", &kubernetes.GetParams{Kind: "Rollout", APIVersion: "argoproj.io/v1alpha1", Name: "x"}, "no kind argoproj.io/v1alpha1 Rollout", "CustomResourceDefinition")
}

func TestClusterGetHidesSecrets(t *testing.T) {
	c := open(t)
	c.create("v1", "Secret", c.ns, "metadata: {name: key}\nstringData: {password: hunter2}")
	call := c.call("kubernetes.get", &kubernetes.GetParams{Kind: "secret", Name: "key", Namespace: c.ns})
	call.ServiceAccount = ""
	out, err := c.made("kubernetes.get", call)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(out); strings.Contains(text, "aHVudGVyMg") || !strings.Contains(text, "password:***") {
		t.Errorf("the secret's outputs are %s", text)
	}
}

// broken is a workload whose pods never become ready: on a real cluster because of its image.
const broken = `
metadata: {name: bad}
spec:
  replicas: 1
  selector: {matchLabels: {app: bad}}
  template:
    metadata: {labels: {app: bad}, annotations: {testbed/fail: ErrImagePull}}
    spec: {containers: [{name: main, image: "registry.invalid/none:1"}]}`

func TestClusterGetSaysWhyNotReady(t *testing.T) {
	c := open(t)
	c.create("apps/v1", "Deployment", c.ns, broken)
	eventually(t, func() error {
		out := c.must("kubernetes.get", &kubernetes.GetParams{Kind: "deploy", Name: "bad", Namespace: c.ns})
		if out["ready"] != false || out["healthy"] != false || !strings.Contains(fmt.Sprint(out["message"]), "ErrImagePull") {
			return fmt.Errorf("outputs are %v", out)
		}
		return nil
	})
}

func TestClusterRestart(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	before := c.pod("web")
	out := c.must("kubernetes.restart", &kubernetes.RestartParams{Kind: "pod", Name: before, Namespace: c.ns, Wait: time.Minute})
	has(t, out, action.Outputs{"target": "kubernetes:" + c.ns + "/deployment/web", "kind": "Deployment", "name": "web", "changed": true, "healthy": true})
	if c.get("apps/v1", "deployments", "web").GetAnnotations()["riposte.dev/run"] == "" {
		t.Error("the deployment does not name the run")
	}
	eventually(t, func() error {
		if c.pod("web") == before {
			return fmt.Errorf("pod %s is still there", before)
		}
		return nil
	})

	call := c.call("kubernetes.restart", &kubernetes.RestartParams{Name: "web", Namespace: c.ns})
	for i, changed := range []bool{true, false} { // the second is the retry of a step that was cut off
		out, err := c.made("kubernetes.restart", call)
		if err != nil || out["changed"] != changed {
			t.Errorf("try %d: %v, %v", i, out, err)
		}
	}
	generation := c.get("apps/v1", "deployments", "web").GetGeneration()
	if _, err := c.made("kubernetes.restart", call); err != nil || c.get("apps/v1", "deployments", "web").GetGeneration() != generation {
		t.Error("a retry restarts once more", err)
	}
	c.patch("deployments", "web", `{"spec":{"paused":true}}`)
	c.fails("kubernetes.restart", &kubernetes.RestartParams{Name: "web", Namespace: c.ns}, "paused")
	c.create("v1", "Pod", c.ns, `{metadata: {name: alone}, spec: {containers: [{name: main, image: "`+image+`"}]}}`)
	c.fails("kubernetes.restart", &kubernetes.RestartParams{Kind: "pod", Name: "alone", Namespace: c.ns}, "controlled by no Deployment")
	c.fails("kubernetes.restart", &kubernetes.RestartParams{Name: "nobody", Namespace: c.ns}, `no deployment "nobody"`)
}

func (c *cluster) patch(resource, name, patch string) {
	c.t.Helper()
	if _, err := c.of("apps/v1", resource, c.ns).Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		c.t.Fatal(err)
	}
}

func TestClusterScale(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	three := int64(3)
	out := c.must("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, Replicas: &three, Wait: time.Minute})
	has(t, out, action.Outputs{"from": int64(1), "replicas": int64(3), "changed": true, "healthy": true, "target": "kubernetes:" + c.ns + "/deployment/web"})
	call := c.call("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, By: 2, Max: 6})
	for i, want := range []action.Outputs{{"replicas": int64(5), "changed": true}, {"replicas": int64(5), "changed": false}} {
		out, err := c.made("kubernetes.scale", call)
		if has(t, out, want); err != nil {
			t.Error(i, err)
		}
	}
	has(t, c.must("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, By: 2, Max: 6}), action.Outputs{"from": int64(5), "replicas": int64(6)})
	has(t, c.must("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, By: 2, Max: 4}), action.Outputs{"replicas": int64(6), "changed": false})
	has(t, c.must("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, By: -9, Min: 2}), action.Outputs{"replicas": int64(2), "changed": true})
	c.fails("kubernetes.scale", &kubernetes.ScaleParams{Name: "web", Namespace: c.ns, By: 1}, "needs a max")
}

func TestClusterRollback(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	image := func() string {
		o := c.get("apps/v1", "deployments", "web")
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		return list[0].(map[string]any)["image"].(string)
	}
	first := image()
	deploy := func(tag string) {
		c.patch("deployments", "web", `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.k8s.io/pause:`+tag+`"}]}}}}`)
		c.settled("web")
	}
	deploy("3.9")
	call := c.call("kubernetes.rollback", &kubernetes.RollbackParams{Name: "web", Namespace: c.ns, Wait: time.Minute})
	out, err := c.made("kubernetes.rollback", call)
	if err != nil {
		t.Fatal(err)
	}
	if has(t, out, action.Outputs{"changed": true, "fromRevision": int64(2), "toRevision": int64(1), "healthy": true}); image() != first {
		t.Errorf("the image is %s", image())
	}
	if out, err = c.made("kubernetes.rollback", call); err != nil || out["changed"] != false || image() != first {
		t.Errorf("a retry rolled back once more: %v, %v, %s", out, err, image())
	}
	c.fails("kubernetes.rollback", &kubernetes.RollbackParams{Name: "web", Namespace: c.ns}, "no rollback has left (2)")
	has(t, c.must("kubernetes.rollback", &kubernetes.RollbackParams{Name: "web", Namespace: c.ns, ToRevision: 2}), action.Outputs{"changed": true})
	if !strings.HasSuffix(image(), ":3.9") {
		t.Errorf("the image is %s", image())
	}
	c.fails("kubernetes.rollback", &kubernetes.RollbackParams{Name: "web", Namespace: c.ns, ToRevision: 77}, "no revision 77")
}

func TestClusterRollbackOfStatefulSet(t *testing.T) {
	c := open(t)
	c.create("apps/v1", "StatefulSet", c.ns, `
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "`+image+`"}]}}`)
	revision := func() error {
		if r, _, _ := unstructured.NestedString(c.get("apps/v1", "statefulsets", "db").Object, "status", "updateRevision"); r == "" {
			return fmt.Errorf("no revision yet")
		}
		return nil
	}
	eventually(t, revision)
	c.patch("statefulsets", "db", `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.k8s.io/pause:3.9"}]}}}}`)
	eventually(t, func() error {
		o := c.get("apps/v1", "statefulsets", "db")
		if seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); seen != o.GetGeneration() {
			return fmt.Errorf("the change is not seen yet")
		}
		return nil
	})
	out := c.must("kubernetes.rollback", &kubernetes.RollbackParams{Kind: "sts", Name: "db", Namespace: c.ns})
	has(t, out, action.Outputs{"changed": true, "images": []any{image}, "target": "kubernetes:" + c.ns + "/statefulset/db"})
}

func TestClusterPatch(t *testing.T) {
	c := open(t)
	c.create("v1", "ConfigMap", c.ns, "metadata: {name: cfg}\ndata: {a: '1', b: '2'}")
	p := &kubernetes.PatchParams{Kind: "cm", Name: "cfg", Namespace: c.ns, Patch: map[string]any{"data": map[string]any{"a": "9", "b": nil}}}
	out := c.must("kubernetes.patch", p)
	if has(t, out, action.Outputs{"changed": true, "target": "kubernetes:" + c.ns + "/configmap/cfg"}); len(out["diff"].([]any)) != 2 {
		t.Errorf("diff is %v", out["diff"])
	}
	if has(t, c.must("kubernetes.patch", p), action.Outputs{"changed": false}); c.get("v1", "configmaps", "cfg").GetAnnotations()["riposte.dev/run"] != "run1" {
		t.Error("what changed nothing left a trace")
	}
	c.must("kubernetes.patch", &kubernetes.PatchParams{Kind: "cm", Name: "cfg", Namespace: c.ns, Operations: []any{map[string]any{"op": "add", "path": "/data/c", "value": "3"}}})
	c.fails("kubernetes.patch", &kubernetes.PatchParams{Kind: "cm", Name: "cfg", Namespace: c.ns, Operations: []any{map[string]any{"op": "remove", "path": "/data/nothing"}}}, "does not take it")
}

func TestClusterDelete(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	pod := c.pod("web")
	p := &kubernetes.DeleteParams{Kind: "pod", Name: pod, Namespace: c.ns}
	has(t, c.must("kubernetes.delete", p), action.Outputs{"existed": true, "gone": true})
	has(t, c.must("kubernetes.delete", p), action.Outputs{"existed": false, "gone": true})
	has(t, c.must("kubernetes.delete", &kubernetes.DeleteParams{Kind: "pod", Name: c.pod("web"), Namespace: c.ns, UID: "another"}), action.Outputs{"existed": false})

	call := c.call("kubernetes.delete", &kubernetes.DeleteParams{Kind: "configmap", Name: "extension-apiserver-authentication", Namespace: "kube-system"})
	call.ServiceAccount = ""
	if _, err := c.made("kubernetes.delete", call); !isRefused(err) {
		t.Errorf("kube-system was not refused: %v", err)
	}
	call.Params = &kubernetes.DeleteParams{Kind: "ns", Name: "kube-system", Namespace: "ignored"}
	if _, err := c.made("kubernetes.delete", call); !isRefused(err) {
		t.Errorf("the namespace kube-system was not refused: %v", err)
	}
	call.Params = &kubernetes.DeleteParams{Kind: "configmap", Name: "riposte-none", Namespace: "kube-system", AllowSystem: []string{"kube-system"}}
	if _, err := c.made("kubernetes.delete", call); err != nil {
		t.Error(err)
	}
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "SystemNamespace")
}

func TestClusterDeleteSaysWhichFinalizerHangs(t *testing.T) {
	c := open(t)
	c.create("batch/v1", "Job", c.ns, `
metadata: {name: stuck, finalizers: [example.com/guard]}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: main, image: "`+image+`"}]}}}`)
	defer func() {
		patch := []byte(`{"metadata":{"finalizers":null}}`)
		if _, err := c.of("batch/v1", "jobs", c.ns).Patch(context.Background(), "stuck", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}()
	c.fails("kubernetes.delete", &kubernetes.DeleteParams{Kind: "job", Name: "stuck", Namespace: c.ns, Wait: 2 * time.Second}, "the finalizers example.com/guard", "not gone")
}

// node is one that tests can cordon.
func (c *cluster) node() string {
	l, err := c.of("v1", "nodes", "").List(c.t.Context(), metav1.ListOptions{})
	if err != nil || len(l.Items) == 0 {
		c.t.Fatal("no node", err)
	}
	return l.Items[0].GetName()
}

func TestClusterCordon(t *testing.T) {
	c := open(t)
	node := c.node()
	defer c.must("kubernetes.uncordon", &kubernetes.NodeParams{Node: node})
	has(t, c.must("kubernetes.cordon", &kubernetes.NodeParams{Node: node}), action.Outputs{"target": "kubernetes:node/" + node, "changed": true})
	has(t, c.must("kubernetes.cordon", &kubernetes.NodeParams{Node: node}), action.Outputs{"changed": false})
	has(t, c.must("kubernetes.uncordon", &kubernetes.NodeParams{Node: node}), action.Outputs{"changed": true})
	c.fails("kubernetes.cordon", &kubernetes.NodeParams{Node: "nobody"}, `no node "nobody"`)
}

func TestClusterDrain(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	node, _, _ := unstructured.NestedString(c.get("v1", "pods", c.pod("web")).Object, "spec", "nodeName")
	defer c.must("kubernetes.uncordon", &kubernetes.NodeParams{Node: node})
	c.create("v1", "Pod", c.ns, `{metadata: {name: alone}, spec: {nodeName: `+node+`, containers: [{name: main, image: "`+image+`"}], terminationGracePeriodSeconds: 1}}`)
	c.fails("kubernetes.drain", &kubernetes.DrainParams{Node: node}, c.ns+"/alone is controlled by nothing", "no pod was evicted")

	c.create("policy/v1", "PodDisruptionBudget", c.ns, "metadata: {name: keep}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}")
	eventually(t, func() error {
		pdb, err := c.of("policy/v1", "poddisruptionbudgets", c.ns).Get(t.Context(), "keep", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n, _, _ := unstructured.NestedInt64(pdb.Object, "status", "currentHealthy"); n != 1 {
			return fmt.Errorf("the budget does not know its pods yet")
		}
		return nil
	})
	pod := c.pod("web")
	drain := &kubernetes.DrainParams{Node: node, Force: true, DeleteEmptyDirData: true, Timeout: 4 * time.Second}
	c.fails("kubernetes.drain", drain, "is cordoned", "disruption budget", "keep", "4s have passed")
	if o := c.get("v1", "pods", pod); o.GetDeletionTimestamp() != nil {
		t.Error("the pod that the budget holds was evicted")
	}
	if err := c.of("policy/v1", "poddisruptionbudgets", c.ns).Delete(t.Context(), "keep", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	drain.Timeout = time.Minute
	out := c.must("kubernetes.drain", drain)
	if n := out["evicted"].(int64); n < 1 {
		t.Errorf("%d pods were evicted", n)
	}
	if _, err := c.of("v1", "pods", c.ns).Get(t.Context(), pod, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error("the pod is still there", err)
	}
}

const manifests = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: %s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "` + image + `"}]}
`

// files writes files below the run's directory of a call.
func files(t *testing.T, call *action.Call, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		file := filepath.Join(call.Dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClusterApplyAndDiff(t *testing.T) {
	c := open(t)
	apply := func(texts map[string]string) (action.Outputs, error) {
		call := c.call("kubernetes.apply", &kubernetes.ApplyParams{Path: "deploy", Namespace: c.ns, Set: "shop", Prune: true, Wait: time.Minute})
		files(t, call, texts)
		return c.made("kubernetes.apply", call)
	}
	diff := func(texts map[string]string) action.Outputs {
		call := c.call("kubernetes.diff", &kubernetes.DiffParams{Path: "deploy", Namespace: c.ns, Set: "shop", Prune: true})
		files(t, call, texts)
		out, err := c.made("kubernetes.diff", call)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	red := map[string]string{"deploy/a.yaml": fmt.Sprintf(manifests, "red"), "deploy/below/b.json": `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"extra"}}`, "deploy/notes.txt": "no manifest"}
	has(t, diff(red), action.Outputs{"changed": true, "created": int64(3)})
	if _, err := c.of("v1", "configmaps", c.ns).Get(t.Context(), "settings", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error("a diff changed something", err)
	}
	out, err := apply(red)
	if has(t, out, action.Outputs{"changed": true, "created": int64(3), "unchanged": int64(0), "healthy": true}); err != nil {
		t.Fatal(err)
	}
	settings := c.get("v1", "configmaps", "settings")
	if out, err = apply(red); err != nil {
		t.Fatal(err)
	}
	has(t, out, action.Outputs{"changed": false, "unchanged": int64(3)})
	if now := c.get("v1", "configmaps", "settings"); now.GetResourceVersion() != settings.GetResourceVersion() {
		t.Error("what was so already was written")
	}
	has(t, diff(red), action.Outputs{"changed": false, "unchanged": int64(3)})
	blue := map[string]string{"deploy/a.yaml": fmt.Sprintf(manifests, "blue")}
	out = diff(blue)
	has(t, out, action.Outputs{"changed": true, "updated": int64(1), "deleted": int64(1), "unchanged": int64(1)})
	if text := fmt.Sprint(out["summary"]); !strings.Contains(text, "data.colour: red -> blue") || !strings.Contains(text, "- "+c.ns+"/configmap/extra") {
		t.Errorf("summary is %s", text)
	}
	if out, err = apply(blue); err != nil {
		t.Fatal(err)
	}
	has(t, out, action.Outputs{"updated": int64(1), "deleted": int64(1)})
	if _, err := c.of("v1", "configmaps", c.ns).Get(t.Context(), "extra", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error("what is in the set no longer is there", err)
	}
	if n := c.get("v1", "configmaps", "settings").GetAnnotations()["riposte.dev/run"]; n == settings.GetAnnotations()["riposte.dev/run"] || n == "" {
		t.Errorf("what was changed names the run %q", n)
	}
}

func TestClusterApplyPrunesOnlyWhatIsItsOwn(t *testing.T) {
	c := open(t)
	one := func(name string) string { return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n" }
	c.must("kubernetes.apply", &kubernetes.ApplyParams{Manifests: one("a") + "---\n" + one("b"), Namespace: c.ns, Set: "s", Prune: true})
	patch := []byte(`{"metadata":{"labels":{"riposte.dev/set":"another"}}}`)
	if _, err := c.of("v1", "configmaps", c.ns).Patch(t.Context(), "b", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	has(t, c.must("kubernetes.apply", &kubernetes.ApplyParams{Manifests: one("a"), Namespace: c.ns, Set: "s", Prune: true}), action.Outputs{"deleted": int64(0), "unchanged": int64(1)})
	c.get("v1", "configmaps", "b")
}

func TestClusterApplyConflict(t *testing.T) {
	c := open(t)
	c.create("v1", "ConfigMap", c.ns, "metadata: {name: settings}\ndata: {colour: green}")
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: red}"
	c.fails("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns}, "data.colour", `is owned by "somebody"`, "force: true")
	has(t, c.must("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns, Force: true}), action.Outputs{"updated": int64(1)})
}

func TestClusterApplyChangesNothingWhereOneIsRefused(t *testing.T) {
	c := open(t)
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 700000}]}"
	c.fails("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns}, c.ns+"/service/bad", "does not take it")
	if _, err := c.of("v1", "configmaps", c.ns).Get(t.Context(), "good", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error("half of it was applied", err)
	}
	c.fails("kubernetes.apply", &kubernetes.ApplyParams{Manifests: "apiVersion: v1\nkind: Secrets\nmetadata: {name: x}\nkind: twice", Namespace: c.ns}, "document 1")
}

func TestClusterApplyDefinitionsFirst(t *testing.T) {
	c := open(t)
	group := c.ns + ".example.com"
	other := c.ns + "-made"
	text := fmt.Sprintf(`
apiVersion: %[1]s/v1
kind: Lamp
metadata: {name: desk, namespace: %[2]s}
spec: {on: true}
---
apiVersion: v1
kind: Namespace
metadata: {name: %[2]s}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: Lamp, plural: lamps}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {on: {type: boolean}}}}}}}
`, group, other)
	t.Cleanup(func() {
		c.drop("namespaces", "", other)
		_ = c.of("apiextensions.k8s.io/v1", "customresourcedefinitions", "").Delete(context.Background(), "lamps."+group, metav1.DeleteOptions{})
	})
	run := func(name string, params any) action.Outputs {
		call := c.call(name, params)
		call.ServiceAccount = "" // the rights are beyond the usual ones
		out, err := c.defs[name].Run(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	has(t, run("kubernetes.diff", &kubernetes.DiffParams{Manifests: text, Namespace: c.ns}), action.Outputs{"created": int64(3)})
	has(t, run("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns, Wait: time.Minute}), action.Outputs{"created": int64(3), "healthy": true})
	has(t, run("kubernetes.diff", &kubernetes.DiffParams{Manifests: text, Namespace: c.ns}), action.Outputs{"unchanged": int64(3)})
	out := run("kubernetes.get", &kubernetes.GetParams{Kind: "Lamp", APIVersion: group + "/v1", Name: "desk", Namespace: other})
	has(t, out, action.Outputs{"found": true})
}

func TestClusterApplyKustomization(t *testing.T) {
	c := open(t)
	apply := func(texts map[string]string) (action.Outputs, error) {
		call := c.call("kubernetes.apply", &kubernetes.ApplyParams{Path: "overlay", Namespace: c.ns, Wait: -1})
		files(t, call, texts)
		return c.made("kubernetes.apply", call)
	}
	out, err := apply(map[string]string{
		"base/kustomization.yaml": "resources: [all.yaml]", "base/all.yaml": fmt.Sprintf(manifests, "red"),
		"overlay/kustomization.yaml": "resources: [../base]\nnamespace: " + c.ns + "\nnamePrefix: test-\nreplicas: [{name: web, count: 2}]",
	})
	if err != nil {
		t.Fatal(err)
	}
	if has(t, out, action.Outputs{"created": int64(2)}); *replicas(c.get("apps/v1", "deployments", "test-web")) != 2 {
		t.Error("the overlay has not the replicas")
	}
	_, err = apply(map[string]string{"overlay/kustomization.yaml": "resources: ['https://example.com/x.yaml']"})
	says(t, err, "only local files are used")
	_, err = apply(map[string]string{"overlay/kustomization.yaml": "resources: ['../../../../../../etc']"})
	says(t, err, "only local files are used")
}

func replicas(o *unstructured.Unstructured) *int64 {
	n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	return &n
}

func TestClusterApplyWaitsForHealth(t *testing.T) {
	c := open(t)
	text := "apiVersion: apps/v1\nkind: Deployment" + broken
	c.fails("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns, Wait: 4 * time.Second}, "deployment/bad", "not healthy yet", "4s have passed", "ErrImagePull")
}

func TestClusterApplyDenied(t *testing.T) {
	c := open(t)
	c.create("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "", `
metadata: {name: $NS}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  validations: [{expression: "!has(object.data) || !('forbidden' in object.data)", message: this key is not wanted here}]`)
	c.create("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "", `
metadata: {name: $NS}
spec: {policyName: $NS, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}}}`)
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {forbidden: 'yes'}"
	eventually(t, func() error { // the server reads its policies now and then
		_, err := c.run("kubernetes.diff", &kubernetes.DiffParams{Manifests: text, Namespace: c.ns})
		if err == nil {
			return fmt.Errorf("it is not denied yet")
		}
		return nil
	})
	c.fails("kubernetes.apply", &kubernetes.ApplyParams{Manifests: text, Namespace: c.ns}, "admission control denies it", "this key is not wanted here")
}

func TestClusterJob(t *testing.T) {
	c := open(t)
	params := &kubernetes.JobParams{Image: "busybox:1.37", Command: []string{"echo", "hello"}, Namespace: c.ns, Env: map[string]string{"A": "b"}, PodSpec: map[string]any{
		"securityContext": map[string]any{"runAsUser": int64(1000)}, "containers": []any{map[string]any{"resources": map[string]any{"requests": map[string]any{"cpu": "1m"}}}},
	}}
	call := c.call("kubernetes.job", params)
	out, err := c.made("kubernetes.job", call)
	if err != nil {
		t.Fatal(err)
	}
	if text := call.Log.(fmt.Stringer).String(); out["log"] == "" || !strings.Contains(text, strings.TrimSpace(out["log"].(string))) || out["reused"] != false {
		t.Errorf("outputs are %v, the log is %q", out, text)
	}
	gone := func() error {
		l, err := c.of("batch/v1", "jobs", c.ns).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(l.Items) > 0 {
			err = fmt.Errorf("job %s is still there", l.Items[0].GetName())
		}
		return err
	}
	eventually(t, gone)

	// One that an earlier attempt has started is found by its name, and not started again.
	call = c.call("kubernetes.job", params)
	ctx, cancel := context.WithCancelCause(t.Context())
	call.Log = &cutOff{cancel: func() { cancel(fmt.Errorf("stop: %w", action.ErrInterrupted)) }}
	if _, err := c.defs["kubernetes.job"].Run(ctx, call); err == nil {
		t.Fatal("a call that was cut off succeeded")
	}
	l, err := c.of("batch/v1", "jobs", c.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(l.Items) != 1 {
		t.Fatal("the job of a call that is interrupted does not stay", err)
	}
	call.Log = io.Discard
	if out, err = c.made("kubernetes.job", call); err != nil || out["reused"] != true {
		t.Errorf("outputs are %v, %v", out, err)
	}
	eventually(t, gone)
	bad := *params
	bad.PodSpec = map[string]any{"nodeSelector": map[string]any{"nowhere": "yes"}}
	bad.Timeout = 3 * time.Second
	c.fails("kubernetes.job", &bad, "is not over", "3s have passed")
	eventually(t, gone)
}

// cutOff is a log at whose first line the server stops.
type cutOff struct {
	once   sync.Once
	cancel func()
}

func (l *cutOff) Write(p []byte) (int, error) {
	l.once.Do(l.cancel)
	return len(p), nil
}

// kubeconfig writes one that differs from the real one.
func (c *cluster) kubeconfig(change func(map[string]any, map[string]any)) string {
	c.t.Helper()
	cluster := map[string]any{"server": c.config.Host, "certificate-authority-data": c.config.CAData, "certificate-authority": c.config.CAFile}
	if len(c.config.CAData) > 0 {
		delete(cluster, "certificate-authority")
	} else {
		delete(cluster, "certificate-authority-data")
	}
	user := map[string]any{}
	change(cluster, user)
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": cluster}}, "users": []any{map[string]any{"name": "u", "user": user}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

func TestClusterFailuresInWords(t *testing.T) {
	c := open(t)
	c.deployment("web", 1)
	params := &kubernetes.RestartParams{Name: "web", Namespace: c.ns}
	attempt := func(kubeconfig, account string) error {
		call := c.call("kubernetes.restart", params)
		call.ServiceAccount = account
		_, err := definitions(kubeconfig)["kubernetes.restart"].Run(t.Context(), call)
		return err
	}
	err := attempt(c.kubeconfig(func(cluster, _ map[string]any) { cluster["server"] = "https://127.0.0.1:1" }), "")
	if says(t, err, "https://127.0.0.1:1", "can't be reached", "connection refused"); action.IsPermanent(err) {
		t.Error("a cluster that can't be reached is given up at once")
	}
	err = attempt(c.kubeconfig(func(_, user map[string]any) { user["token"] = "no-such-token" }), "")
	if says(t, err, "does not accept our credential (401)", "expired"); strings.Contains(fmt.Sprint(err), "no-such-token") {
		t.Error("the error holds the token")
	}
	says(t, attempt(filepath.Join(t.TempDir(), "none"), ""), "find the Kubernetes cluster", "kubernetes.kubeconfig")

	// A real service account without any right, by its own token and by impersonation.
	c.create("v1", "ServiceAccount", c.ns, "metadata: {name: poor}")
	request := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": "poor"}}}
	answer, err := c.of("v1", "serviceaccounts", c.ns).Create(t.Context(), request, metav1.CreateOptions{}, "token")
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(answer.Object, "status", "token")
	withToken := c.kubeconfig(func(_, user map[string]any) { user["token"] = token })
	who := "system:serviceaccount:" + c.ns + ":poor may not get deployments in namespace " + c.ns
	for _, err := range []error{attempt(withToken, ""), attempt(os.Getenv("KUBECONFIG"), c.ns+"/poor")} {
		if says(t, err, who, `{apiGroups: ["apps"], resources: [deployments], verbs: [get]}`); !action.IsPermanent(err) {
			t.Error("what is forbidden is tried again")
		}
	}
	says(t, attempt(withToken, c.ns+"/kubernetes-restart"), ":poor may not act as the service account "+c.ns+"/kubernetes-restart", "resourceNames: [kubernetes-restart], verbs: [impersonate]")
}
