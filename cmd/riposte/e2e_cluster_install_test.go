//go:build e2e

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// installed is a release of the chart on the disposable cluster of KUBECONFIG, and a kubeconfig with a token of its service account:
// what a server does with that is bounded by the roles that the chart made.
type installed struct {
	t          *testing.T
	kubeconfig string
	prefix     string // of the namespaces of examples
}

// install installs the chart with the rights of the actions in namespaces called prefix-NAME.
func install(t *testing.T, actions, names []string) *installed {
	t.Helper()
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("KUBECONFIG names no cluster: give a disposable one, as `.ci/cluster up` or `kind create cluster --kubeconfig FILE` makes it")
	}
	need(t, "kubectl", "see https://kubernetes.io/docs/tasks/tools/")
	need(t, "helm", "go install helm.sh/helm/v4/cmd/helm@v4.3.1")
	c := &installed{t: t, prefix: fmt.Sprintf("ex-%d", time.Now().UnixNano()%1e10)}
	release := c.prefix + "-riposte"
	var namespaces []string
	for _, name := range append(names, "riposte") {
		namespaces = append(namespaces, c.prefix+"-"+name)
		c.kubectl("create", "namespace", c.prefix+"-"+name)
	}
	t.Cleanup(func() {
		_, _ = c.try("helm", "uninstall", "rip", "--namespace", release)
		if out, err := c.try("kubectl", append([]string{"delete", "namespace", "--wait=false"}, namespaces...)...); err != nil {
			t.Log(out)
		}
	})
	values := fmt.Sprintf("rbac: {actions: [%s], namespaces: [%s]}\n", strings.Join(actions, ", "), strings.Join(namespaces[:len(names)], ", "))
	args := []string{"install", "rip", "../../charts/riposte", "--namespace", release, "--values", configure(t, values), "--wait", "--timeout", "3m"}
	if image := os.Getenv("RIPOSTE_IMAGE"); image != "" {
		i := strings.LastIndexByte(image, ':')
		args = append(args, "--set", "image.repository="+image[:i], "--set", "image.tag="+image[i+1:])
	}
	c.run("helm", args...)
	c.kubeconfig = c.as(strings.TrimSpace(c.kubectl("-n", release, "create", "token", "rip-riposte", "--duration", "1h")))
	return c
}

// as writes a kubeconfig of the cluster for a token.
func (c *installed) as(token string) string {
	c.t.Helper()
	var view map[string]any
	if err := json.Unmarshal([]byte(c.kubectl("config", "view", "--minify", "--raw", "-o", "json")), &view); err != nil {
		c.t.Fatal(err)
	}
	for _, user := range view["users"].([]any) {
		user.(map[string]any)["user"] = map[string]any{"token": token}
	}
	text, err := json.Marshal(view)
	if err != nil {
		c.t.Fatal(err)
	}
	return configure(c.t, string(text))
}

func (c *installed) try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func (c *installed) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *installed) kubectl(args ...string) string { c.t.Helper(); return c.run("kubectl", args...) }

// apply makes objects by kubectl, as a person does.
func (c *installed) apply(objects string) {
	c.t.Helper()
	c.kubectl("apply", "-f", configure(c.t, objects))
}

// workload is a deployment with one container, as an example's user has it.
func workload(namespace, name, image, memory string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {app.kubernetes.io/part-of: shop}
spec:
  replicas: %[5]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata:
      labels: {app: %[2]s}
      annotations: {example: e2e}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: %[3]s
          resources:
            requests: {memory: 16Mi}
            limits:
              memory: %[4]s
`, namespace, name, image, memory, replicas)
}

const pause = "registry.k8s.io/pause:3.10"

// sick makes pods of an app crash when they are created in a state that the expression of CEL over `object` tells. A node that plays
// a kubelet knows it by the annotation, a real one finds no such program in the image.
func (c *installed) sick(namespace, app, reason, expression string) {
	c.t.Helper()
	if _, err := c.try("kubectl", "get", "mutatingadmissionpolicies.v1.admissionregistration.k8s.io"); err != nil {
		c.t.Skip("the cluster knows no MutatingAdmissionPolicy of v1, by which this test lets pods crash: take a newer Kubernetes")
	}
	name := namespace + "-" + app
	c.apply(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[2]s}}
    objectSelector: {matchLabels: {app: %[3]s}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  matchConditions:
    - name: sick
      expression: %[5]q
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: |
          [
            JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("testbed/fail"), value: %[4]q},
            JSONPatch{op: "add", path: "/spec/containers/0/command", value: ["/there-is-no-such-program"]}
          ]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s}
`, name, namespace, app, reason, expression))
	c.t.Cleanup(func() {
		if _, err := c.try("kubectl", "delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name); err != nil {
			c.t.Log(err)
		}
	})
	probe := configure(c.t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: %s, labels: {app: %s}, annotations: {example: e2e}},
spec: {containers: [{name: app, image: %q, resources: {limits: {memory: 16Mi}}}]}}`, namespace, app, pause))
	waitFor(c.t, time.Minute, "the cluster to let pods crash", func() bool {
		out, err := c.try("kubectl", "create", "--dry-run=server", "-o", "json", "-f", probe)
		return err == nil && strings.Contains(out, "there-is-no-such-program")
	})
}

type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp *string
	}
	Spec struct {
		NodeName   string
		Containers []struct{ Image string }
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

func (p pod) ready() bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c struct{ Type, Status string }) bool { return c.Type == "Ready" && c.Status == "True" })
}

// pods are those of an app that are not on their way out.
func (c *installed) pods(namespace, app string) ([]pod, error) {
	out, err := c.try("kubectl", "-n", namespace, "get", "pods", "-l", "app="+app, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p pod) bool { return p.Metadata.DeletionTimestamp != nil }), nil
}

// settled waits until an app has n pods, and all of them are ready.
func (c *installed) settled(namespace, app string, n int) []pod {
	c.t.Helper()
	var all []pod
	waitFor(c.t, 2*time.Minute, fmt.Sprintf("%d ready pods of %s", n, app), func() bool {
		var err error
		all, err = c.pods(namespace, app)
		return err == nil && len(all) == n && !slices.ContainsFunc(all, func(p pod) bool { return !p.ready() })
	})
	return all
}

// unready tells whether an app has pods that are not ready.
func (c *installed) unready(namespace, app string) func() (bool, error) {
	return func() (bool, error) {
		all, err := c.pods(namespace, app)
		return slices.ContainsFunc(all, func(p pod) bool { return !p.ready() }), err
	}
}

// server starts Riposte with the chart's rights and nothing else, and Alertmanager in front of it.
func (c *installed) server(t *testing.T, rules, config string) (*server, *alerts) {
	t.Helper()
	program := need(t, "prometheus-alertmanager", "apt-get install prometheus-alertmanager")
	sink := collect(t)
	s := serve(t, t.TempDir(), githubSource+alertmanagerSource+oncall(t, sink)+rules,
		"--config", configure(t, config+fmt.Sprintf("kubernetes: {kubeconfig: %q}\n", c.kubeconfig)))
	a := &alerts{t: t, address: freeAddress(t), server: s, oncall: sink}
	process(t, program, "--config.file="+configure(t, `
route: {receiver: riposte, group_by: ["..."], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: riposte
    webhook_configs:
      - url: http://`+s.Hooks+`/hooks/alertmanager
        http_config: {authorization: {type: Bearer, credentials: `+webhookSecret+`}}
`), "--storage.path="+t.TempDir(), "--web.listen-address="+a.address, "--cluster.listen-address=")
	waitFor(t, time.Minute, "Alertmanager to be ready", func() bool {
		resp, err := http.Get("http://" + a.address + "/-/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return s, a
}

// alerts plays Prometheus: it looks at the cluster and tells Alertmanager what fires, and when that is over.
type alerts struct {
	t       *testing.T
	address string
	server  *server
	oncall  *collector
}

// watch lets an alert fire whenever the condition holds, until the test ends.
func (a *alerts) watch(name string, labels map[string]string, holds func() (bool, error)) {
	labels["alertname"], labels["severity"] = name, "critical"
	stop, stopped := make(chan struct{}), make(chan struct{})
	a.t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for fires := false; ; {
			if now, err := holds(); err != nil {
				a.t.Log(err)
			} else if (now || fires) && a.post(labels, !now) {
				fires = now
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
}

func (a *alerts) post(labels map[string]string, over bool) bool {
	alert := map[string]any{"labels": labels, "annotations": map[string]string{"summary": "played by the test"}}
	if over {
		alert["endsAt"] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	body, _ := json.Marshal([]any{alert})
	resp, err := http.Post("http://"+a.address+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// healed waits until the first run of a rule has succeeded and the alert is over, by what Alertmanager sent.
func (a *alerts) healed(rule string) runRecord {
	a.t.Helper()
	r := a.ended(rule)
	if r.State != "succeeded" {
		a.t.Fatalf("the run of %s is %+v", rule, r)
	}
	waitFor(a.t, time.Minute, "the alert to be resolved", func() bool {
		var page struct{ Items []struct{ Type string } }
		if err := a.server.get("events?source=alertmanager&type=alert.resolved", &page); err != nil {
			return false
		}
		return len(page.Items) > 0
	})
	return r
}

// ended waits until the first run of a rule is over.
func (a *alerts) ended(rule string) (r runRecord) {
	a.t.Helper()
	waitFor(a.t, 3*time.Minute, "the run of "+rule+" to end", func() bool {
		all := a.server.runs("rule=" + rule)
		if len(all) == 0 {
			return false
		}
		first := all[len(all)-1]
		return over(first) && a.server.get("runs/"+first.ID, &r) == nil // the list leaves the steps out
	})
	return r
}

// deploys is a host with the repository that examples apply, and the configuration by which a server may push and propose there. A
// step that names a host means it by https, whose API the second credential names.
func deploys(t *testing.T, files map[string]string) (f *exampleForge, config string) {
	t.Helper()
	f = newForge(t, "acme/deploys", files)
	t.Setenv("E2E_FORGE_TOKEN", forgeToken)
	config = "secrets: {forge: {env: E2E_FORGE_TOKEN}}\ncredentials:\n"
	for _, url := range []string{f.url, strings.Replace(f.url, "http:", "https:", 1)} {
		config += fmt.Sprintf("  - {url: \"%s/\", token: forge, forge: github, api: \"%s/api\", account: riposte}\n", url, f.url)
	}
	return f, config
}
