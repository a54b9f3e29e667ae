//go:build e2e

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestClusterChangesOfObjectsAreEvents: those that come while no server runs too, each once, and an account that may not watch says so.
func TestClusterChangesOfObjectsAreEvents(t *testing.T) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("KUBECONFIG names no cluster: give a disposable one, as `kind create cluster --kubeconfig FILE` makes it")
	}
	need(t, "kubectl", "see https://kubernetes.io/docs/tasks/tools/")
	kubectl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("kubectl", args...).CombinedOutput(); err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ns := fmt.Sprintf("watch-%d", time.Now().UnixNano()%1e10)
	kubectl("create", "namespace", ns)
	t.Cleanup(func() { _ = exec.Command("kubectl", "delete", "namespace", ns, "--wait=false").Run() })
	kubectl("create", "configmap", "there", "-n", ns)
	rules := `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: maps}
spec: {type: kubernetes, kind: ConfigMap, namespaces: [` + ns + `], fields: metadata.name!=kube-root-ca.crt}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: nothing}
spec: {type: kubernetes, apiVersion: acme.example/v1, kind: Widget}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: seen}
spec:
  trigger: {source: maps}
  steps: [{uses: exec.run, with: {command: [echo, "${{ event.type }} ${{ event.data.object.metadata.name }}"]}}]
`
	data := t.TempDir()
	s := serve(t, data, rules)
	var list struct {
		Items []struct{ Type, Subject string }
	}
	want := func(n int, last string) {
		t.Helper()
		waitFor(t, time.Minute, last, func() bool {
			_ = s.get("events?source=maps&limit=100", &list)
			return len(list.Items) >= n && list.Items[0].Type+" "+list.Items[0].Subject == last
		})
		if len(list.Items) != n {
			t.Errorf("%d events, want %d: %+v", len(list.Items), n, list.Items)
		}
	}
	var sources struct {
		Items []struct{ Name, Path, Problem string }
	}
	waitFor(t, time.Minute, "a kind that is not there to be a problem of its source", func() bool {
		_ = s.get("sources", &sources)
		for _, src := range sources.Items {
			if src.Name == "nothing" && strings.Contains(src.Problem, "the cluster has no kind acme.example/v1 Widget") && src.Path == "" {
				return true
			}
		}
		return false
	})
	waitFor(t, time.Minute, "the watch", func() bool { // until it has looked, what comes is there already
		kubectl("create", "configmap", "probe", "-n", ns)
		kubectl("delete", "configmap", "probe", "-n", ns)
		_ = s.get("events?source=maps&limit=100", &list)
		return len(list.Items) > 0
	})
	waitFor(t, time.Minute, "the last probe to be gone", func() bool {
		_ = s.get("events?source=maps&limit=100", &list)
		return list.Items[0].Type == "configmap.deleted"
	})
	n := len(list.Items)
	kubectl("create", "configmap", "new", "-n", ns)
	want(n+1, "configmap.added "+ns+"/new")
	s.kill()
	kubectl("label", "configmap", "there", "-n", ns, "app=shop")
	kubectl("delete", "configmap", "new", "-n", ns)
	s = serve(t, data, rules)
	want(n+3, "configmap.deleted "+ns+"/new")
}
