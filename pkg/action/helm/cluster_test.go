//go:build e2e

package helm_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/helm"
	"github.com/riposte-dev/riposte/pkg/command"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}, annotations: {secret-length: {{ len .Values.db.password | quote }}}}
spec:
  replicas: 1
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}, annotations: {colour: {{ .Values.colour }}{{ if .Values.fail }}, testbed/fail: ErrImagePull{{ end }}}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "{{ if .Values.fail }}registry.invalid/none:1{{ else }}registry.k8s.io/pause:3.10{{ end }}"}]}
`

// TestClusterHelm installs a release, upgrades it, sees a bad upgrade rolled back, and rolls back by hand.
func TestClusterHelm(t *testing.T) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("set KUBECONFIG to that of a disposable cluster, for example of `kind create cluster`")
	}
	if _, err := exec.LookPath("helm"); err != nil {
		t.Skip("install helm")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	namespaces := api.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	ns, err := namespaces.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "riposte-helm-"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), ns.GetName(), metav1.DeleteOptions{}) })
	runner, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	defs := action.NewRegistry(helm.Definitions(helm.Options{
		Runner: runner, Kubeconfig: os.Getenv("KUBECONFIG"), User: func(string) (string, error) { return "system:serviceaccount:" + ns.GetName() + ":healer", nil },
	}))
	// helm acts as a service account that has the rights that the actions say they need, and no others.
	var rules []any
	for _, r := range defs["helm.upgrade"].Rights {
		rules = append(rules, map[string]any{"apiGroups": []any{r.APIGroup}, "resources": list(r.Resources), "verbs": list(r.Verbs)})
	}
	rbac := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	for resource, o := range map[schema.GroupVersionResource]map[string]any{
		{Version: "v1", Resource: "serviceaccounts"}: {"kind": "ServiceAccount", "apiVersion": "v1"},
		rbac.WithResource("roles"):                   {"kind": "Role", "apiVersion": rbac.String(), "rules": rules},
		rbac.WithResource("rolebindings"): {
			"kind": "RoleBinding", "apiVersion": rbac.String(), "roleRef": map[string]any{"apiGroup": rbac.Group, "kind": "Role", "name": "healer"},
			"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "healer", "namespace": ns.GetName()}},
		},
	} {
		o["metadata"] = map[string]any{"name": "healer"}
		if _, err := api.Resource(resource).Namespace(ns.GetName()).Create(t.Context(), &unstructured.Unstructured{Object: o}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, params any) (action.Outputs, string, error) {
		t.Helper()
		call, log := actiontest.Call(t, actiontest.Case{Params: params, Secrets: map[string]string{"db": "hunter22"}})
		chart := filepath.Join(call.Dir, "chart")
		if err := os.MkdirAll(filepath.Join(chart, "templates"), 0o750); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.2.3\nappVersion: '7'\n", "templates/d.yaml": deployment, "values.yaml": "colour: grey\nfail: false\ndb: {password: ''}\n",
		} {
			if err := os.WriteFile(filepath.Join(chart, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := defs[name].Run(t.Context(), call)
		if err == nil {
			actiontest.Outputs(t, defs[name], out)
		}
		if strings.Contains(log.String()+fmt.Sprint(out, err), "hunter22") {
			t.Error("a secret is told")
		}
		return out, log.String(), err
	}
	upgrade := func(values map[string]any, timeout time.Duration) (action.Outputs, string, error) {
		t.Helper()
		return run("helm.upgrade", &helm.UpgradeParams{
			Release: "web", Chart: "chart", Namespace: ns.GetName(), Values: values, Timeout: timeout, SecretValues: map[string]action.SecretRef{"db.password": {Secret: "db"}},
		})
	}
	colour := func() string {
		o, err := api.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(ns.GetName()).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if o.GetAnnotations()["secret-length"] != "8" {
			t.Errorf("the chart got the secret value in %v", o.GetAnnotations())
		}
		c, _, _ := unstructured.NestedString(o.Object, "spec", "template", "metadata", "annotations", "colour")
		return c
	}
	for i, c := range []string{"red", "blue"} {
		out, log, err := upgrade(map[string]any{"colour": c}, time.Minute)
		if err != nil || out["revision"] != int64(i+1) || out["fromRevision"] != int64(i) || out["status"] != "deployed" || out["chart"] != "shop-1.2.3" || out["appVersion"] != "7" || colour() != c {
			t.Fatal(out, err, log)
		}
	}
	if _, _, err := upgrade(map[string]any{"colour": "green", "fail": true}, 4*time.Second); err == nil || !strings.Contains(err.Error(), "helm upgrade") {
		t.Errorf("an upgrade whose pods do not start: %v", err)
	}
	if got := colour(); got != "blue" {
		t.Errorf("a failed upgrade leaves %s", got)
	}
	out, _, err := run("helm.rollback", &helm.RollbackParams{Release: "web", Namespace: ns.GetName(), ToRevision: 1, Timeout: time.Minute})
	if err != nil || colour() != "red" || out["status"] != "deployed" {
		t.Error(out, err, colour())
	}
	if _, _, err := run("helm.rollback", &helm.RollbackParams{Release: "nobody", Namespace: ns.GetName()}); err == nil || !strings.Contains(err.Error(), "no such release") {
		t.Error(err)
	}
}

func list(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}
