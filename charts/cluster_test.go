//go:build e2e

package charts_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// cluster is the disposable cluster of KUBECONFIG. Its nodes may be real ones, which then must have the image of RIPOSTE_IMAGE
// (REPOSITORY:TAG), as kind load makes it, or ones that only play kubelets.
type cluster struct {
	t      *testing.T
	server string
	http   *http.Client
}

func onCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("KUBECONFIG names no cluster: give a disposable one, as `kind create cluster --kubeconfig FILE` makes it")
	}
	need(t, "kubectl", "see https://kubernetes.io/docs/tasks/tools/")
	helm(t)
	c := &cluster{t: t}
	var view struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(c.kubectl("config", "view", "--minify", "--raw", "-o", "json")), &view); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if len(view.Clusters) != 1 || !pool.AppendCertsFromPEM(view.Clusters[0].Cluster.CA) {
		t.Fatal("KUBECONFIG names no cluster with a certificate authority")
	}
	c.server = view.Clusters[0].Cluster.Server
	c.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	return c
}

// run runs a program that must succeed, and returns what it printed.
func (c *cluster) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (c *cluster) try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return stdout.String() + stderr.String(), err
}

func (c *cluster) kubectl(args ...string) string { c.t.Helper(); return c.run("kubectl", args...) }

// namespace makes one in which only restricted pods are admitted, and which is gone after the test.
func (c *cluster) namespace() string {
	c.t.Helper()
	name := fmt.Sprintf("chart-%d", time.Now().UnixNano()%1e10)
	c.kubectl("create", "namespace", name)
	c.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
	c.t.Cleanup(func() {
		if out, err := c.try("kubectl", "delete", "namespace", name, "--wait=false"); err != nil {
			c.t.Log(out)
		}
	})
	return name
}

// helm runs a command of helm on the release rip, with values where they are given.
func (c *cluster) helm(namespace, command, values string, args ...string) string {
	c.t.Helper()
	args = append([]string{command, "rip"}, args...)
	args = append(args, "--namespace", namespace)
	if command == "install" || command == "upgrade" {
		file := filepath.Join(c.t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
			c.t.Fatal(err)
		}
		args = append(args, chart, "--values", file, "--wait", "--timeout", "3m")
		if image := os.Getenv("RIPOSTE_IMAGE"); image != "" {
			i := strings.LastIndexByte(image, ':')
			args = append(args, "--set", "image.repository="+image[:i], "--set", "image.tag="+image[i+1:])
		}
	}
	return c.run("helm", args...)
}

func (c *cluster) get(namespace, kind, name string) object {
	c.t.Helper()
	var o object
	if err := json.Unmarshal([]byte(c.kubectl("-n", namespace, "get", kind, name, "-o", "json")), &o); err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *cluster) list(namespace, kinds, selector string) (all manifests) {
	c.t.Helper()
	var l object
	if err := json.Unmarshal([]byte(c.kubectl("-n", namespace, "get", kinds, "-l", selector, "-o", "json")), &l); err != nil {
		c.t.Fatal(err)
	}
	for _, o := range items(l, "items") {
		all = append(all, o.(map[string]any))
	}
	return all
}

// ready counts the server's pods that are.
func (c *cluster) ready(namespace string) (n int) {
	c.t.Helper()
	for _, p := range c.list(namespace, "pods", servers) {
		for _, condition := range items(p, "status.conditions") {
			if at(condition, "type") == "Ready" && at(condition, "status") == "True" && at(p, "metadata.deletionTimestamp") == nil {
				n++
			}
		}
	}
	return n
}

const servers = "app.kubernetes.io/instance=rip,app.kubernetes.io/component=server"

// TestClusterRelease: what a release goes through, in a namespace that admits only restricted pods.
func TestClusterRelease(t *testing.T) {
	c := onCluster(t)
	ns := c.namespace()
	c.kubectl("-n", ns, "create", "secret", "generic", "webhooks", "--from-literal=github=s3cret", "--from-literal=pager=s3cret2")
	values := `
secrets: {github-webhook: {secret: webhooks, key: github}, pager: {secret: webhooks, key: pager, as: env}}
rules: {inline: {hello.yaml: "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: bell}\nspec: {type: generic, insecure: true}\n"}}
files: {known_hosts: "example.com ssh-ed25519 AAAA"}
ingress: {enabled: true, hosts: [hooks.example.com]}
networkPolicy: {egress: [{ports: [{port: 443}]}]}
rbac: {actions: [kubernetes.restart, kubernetes.cordon]}
`
	notes := c.helm(ns, "install", values)
	if !strings.Contains(notes, "kubectl -n "+ns+" rollout status statefulset/rip-riposte") || !strings.Contains(notes, "get secret rip-riposte-tokens") {
		t.Errorf("the notes are\n%s", notes)
	}
	if c.ready(ns) != 1 {
		t.Errorf("%d pods are ready, want 1", c.ready(ns))
	}
	tokens := func() string { return fmt.Sprint(c.get(ns, "secret", "rip-riposte-tokens")["data"]) }
	config := func() string { return fmt.Sprint(at(c.get(ns, "configmap", "rip-riposte-config"), "data")) }
	checksum := func() any {
		annotations, _ := at(c.get(ns, "statefulset", "rip-riposte"), "spec.template.metadata.annotations").(map[string]any)
		return annotations["checksum/config"]
	}
	firstTokens, firstConfig, firstSum := tokens(), config(), checksum()
	c.run("helm", "test", "rip", "--namespace", ns, "--timeout", "2m")

	c.helm(ns, "upgrade", values)
	if tokens() != firstTokens || config() != firstConfig || checksum() != firstSum {
		t.Error("an upgrade that changes nothing makes new tokens")
	}
	c.helm(ns, "upgrade", values+"config: {engine: {workers: 128}}\nadmin: {tokens: [{name: admin, role: admin}, {name: bot, role: viewer}]}\n")
	if config() == firstConfig || checksum() == firstSum {
		t.Error("a change of the configuration does not reach the pods")
	}
	data, _ := at(c.get(ns, "secret", "rip-riposte-tokens"), "data").(map[string]any)
	if !strings.Contains(firstTokens, fmt.Sprint(data["admin"])) || data["bot"] == nil {
		t.Errorf("a token more changes the first: %d tokens", len(data))
	}
	c.run("helm", "rollback", "rip", "1", "--namespace", ns, "--wait", "--timeout", "3m")
	if tokens() != firstTokens || config() != firstConfig || checksum() != firstSum || c.ready(ns) != 1 {
		t.Error("after the roll-back it is not what it was")
	}

	c.run("helm", "uninstall", "rip", "--namespace", ns, "--wait", "--timeout", "3m")
	kinds := "statefulset,deployment,service,secret,configmap,serviceaccount,role,rolebinding,clusterrole,clusterrolebinding,networkpolicy,ingress,pdb"
	if left := c.list(ns, kinds, "app.kubernetes.io/instance=rip"); len(left) > 0 {
		t.Errorf("uninstalling leaves %s", left)
	}
	if left := c.list(ns, "pvc", servers); len(left) != 1 {
		t.Errorf("of the store's volume there are %d claims left, want 1", len(left))
	}
}

// TestClusterReplicas: from one server to three on NATS, and back.
func TestClusterReplicas(t *testing.T) {
	c := onCluster(t)
	ns := c.namespace()
	if os.Getenv("RIPOSTE_IMAGE") != "" {
		t.Skip("with real nodes the pods would need a NATS cluster to become ready")
	}
	c.helm(ns, "install", "")
	c.helm(ns, "upgrade", "replicas: 3\nnats: {url: \"nats://nats:4222\"}")
	if left := c.list(ns, "statefulset", "app.kubernetes.io/instance=rip"); c.ready(ns) != 3 || len(left) > 0 {
		t.Errorf("%d pods are ready, and there are %s", c.ready(ns), left)
	}
	wait(t, "the budget lets one pod go", func() bool { return at(c.get(ns, "pdb", "rip-riposte"), "status.disruptionsAllowed") == 1.0 })
	c.helm(ns, "upgrade", "replicas: 1") // without any values helm would take those of before
	wait(t, "one server is left", func() bool { return len(c.list(ns, "pods", servers)) == 1 })
	c.run("helm", "uninstall", "rip", "--namespace", ns, "--wait")
}

func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it is not so within a minute: %s", what)
		}
	}
}

// TestClusterTakesEveryObject: the API server finds nothing unknown or wrong in what the chart can render.
func TestClusterTakesEveryObject(t *testing.T) {
	onCluster(t)
	for _, values := range []string{
		"",
		"replicas: 2\nnats: {urlSecret: {name: a, key: b}}\nservice: {type: LoadBalancer, annotations: {a: b}}\npriorityClassName: system-cluster-critical",
		"persistence: {existingClaim: a}\nfiles: {a: b}\nsecrets: {a: {secret: b, key: c}, d: {secret: b, key: c, as: env}}\nextraEnv: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\nextraVolumes: [{name: e, emptyDir: {}}]\nextraVolumeMounts: [{name: e, mountPath: /e}]",
		"ingress: {enabled: true, className: nginx, hosts: [a.example.com], tls: [{secretName: a, hosts: [a.example.com]}], annotations: {a: b}}\nnetworkPolicy: {hooksFrom: [{ipBlock: {cidr: 192.0.2.0/24}}], adminFrom: [{podSelector: {}}], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 443, protocol: TCP}]}]}",
		"rbac: {clusterWide: true, actions: [kubernetes.get], rules: [{apiGroups: [''], resources: [namespaces], verbs: [get], cluster: true}], watch: [{apiGroups: [''], resources: [events]}], impersonate: [a]}",
		"nodeSelector: {a: b}\ntolerations: [{operator: Exists}]\naffinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, labelSelector: {}}}]}}\ntopologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]\nimagePullSecrets: [{name: a}]\nsecurity: {runAsUser: null}",
	} {
		all := render(t, values)
		for _, o := range all {
			at(o, "metadata").(map[string]any)["namespace"] = "default"
		}
		text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": all})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("kubectl", "create", "--dry-run=server", "--validate=strict", "-f", "-")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("Warning")) {
			t.Errorf("%v\n%s\nvalues:\n%s", err, out, values)
		}
	}
}

// request sends a request with a token of a service account, and returns the status and the answer.
func (c *cluster) request(token, method, path, body string, headers ...string) (int, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.server+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// may lists all that the token may do in the namespace and in the whole cluster, as "verb group/resource".
func (c *cluster) may(token, namespace string) map[string]bool {
	c.t.Helper()
	review := fmt.Sprintf(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":%q}}`, namespace)
	status, text := c.request(token, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
	var answer object
	if err := json.Unmarshal(text, &answer); err != nil || status != http.StatusCreated || at(answer, "status.incomplete") == true {
		c.t.Fatalf("%d %v %s", status, err, text)
	}
	return flatten(items(answer, "status.resourceRules"))
}

func flatten(rules []any) map[string]bool {
	all := map[string]bool{}
	for _, r := range rules {
		for _, verb := range items(r, "verbs") {
			for _, group := range items(r, "apiGroups") {
				for _, resource := range items(r, "resources") {
					all[fmt.Sprintf("%v %v/%v %v", verb, group, resource, items(r, "resourceNames"))] = true
				}
			}
		}
	}
	return all
}

// TestClusterRights: the token of the chart's service account may do what the enabled actions need, and nothing else.
func TestClusterRights(t *testing.T) {
	c := onCluster(t)
	ns, shop := c.namespace(), c.namespace()
	c.kubectl("-n", ns, "create", "serviceaccount", "nobody")
	c.kubectl("-n", shop, "create", "serviceaccount", "cart")
	c.kubectl("-n", shop, "create", "serviceaccount", "till")
	nobody := c.may(strings.TrimSpace(c.kubectl("-n", ns, "create", "token", "nobody")), ns)
	beyond := func(token, namespace string) []string {
		t.Helper()
		var more []string
		for right := range c.may(token, namespace) {
			if !nobody[right] {
				more = append(more, right)
			}
		}
		slices.Sort(more)
		return more
	}
	known := rights(t)
	actions := slices.Sorted(maps.Keys(known))
	c.helm(ns, "install", "")
	token := strings.TrimSpace(c.kubectl("-n", ns, "create", "token", "rip-riposte"))
	if more := beyond(token, ns); len(more) > 0 {
		t.Errorf("without actions it may %q", more)
	}
	for _, action := range actions {
		c.helm(ns, "upgrade", "rbac: {actions: ["+action+"], namespaces: ["+shop+"], impersonate: ["+shop+"/cart]}")
		var there, everywhere []any
		for _, r := range known[action] {
			there = append(there, r)
			if r["cluster"] == true {
				everywhere = append(everywhere, r)
			}
		}
		impersonate := map[string]any{"apiGroups": []any{""}, "resources": []any{"serviceaccounts"}, "resourceNames": []any{"cart"}, "verbs": []any{"impersonate"}}
		if got, want := beyond(token, shop), slices.Sorted(maps.Keys(flatten(append(there, impersonate)))); !slices.Equal(got, want) {
			t.Errorf("%s: it may\n%q, want\n%q", action, got, want)
		}
		if got, want := beyond(token, ns), slices.Sorted(maps.Keys(flatten(everywhere))); !slices.Equal(got, want) {
			t.Errorf("%s: beside the namespace it may\n%q, want\n%q", action, got, want)
		}
	}

	c.helm(ns, "upgrade", "rbac: {rules: [{apiGroups: [''], resources: [pods], verbs: [list]}], namespaces: ["+shop+"], impersonate: ["+shop+"/cart]}")
	pods := func(namespace string) string { return "/api/v1/namespaces/" + namespace + "/pods" }
	as := func(name string) []string {
		return []string{"Impersonate-User", "system:serviceaccount:" + shop + ":" + name}
	}
	for _, ask := range []struct {
		path    string
		headers []string
		status  int
		says    string
	}{
		{pods(shop), nil, http.StatusOK, "PodList"},
		{pods(ns), nil, http.StatusForbidden, `cannot list resource \"pods\" in API group \"\" in the namespace`},
		{"/api/v1/namespaces/" + shop + "/secrets", nil, http.StatusForbidden, `cannot list resource \"secrets\"`},
		{"/api/v1/nodes", nil, http.StatusForbidden, `cannot list resource \"nodes\"`},
		// As another account it has that one's rights, which are none here.
		{pods(shop), as("cart"), http.StatusForbidden, `system:serviceaccount:` + shop + `:cart\" cannot list resource \"pods\"`},
		{pods(shop), as("till"), http.StatusForbidden, `cannot impersonate resource \"serviceaccounts\"`},
	} {
		if status, text := c.request(token, http.MethodGet, ask.path, "", ask.headers...); status != ask.status || !strings.Contains(string(text), ask.says) {
			t.Errorf("%s %v: %d %s", ask.path, ask.headers, status, text)
		}
	}
	c.run("helm", "uninstall", "rip", "--namespace", ns, "--wait")
	if more := beyond(strings.TrimSpace(c.kubectl("-n", ns, "create", "token", "nobody")), shop); len(more) > 0 {
		t.Errorf("after it is gone others may %q", more)
	}
}

// TestClusterConfigurationServes: the real server starts with the configuration and the secrets that are in the cluster, and knows
// the token that is there.
func TestClusterConfigurationServes(t *testing.T) {
	c := onCluster(t)
	binary, err := filepath.Abs("../bin/riposte")
	if _, statErr := os.Stat(binary); err != nil || statErr != nil {
		t.Skip("bin/riposte is missing: make build")
	}
	ns := c.namespace()
	c.kubectl("-n", ns, "create", "secret", "generic", "webhooks", "--from-literal=github=s3cret")
	c.helm(ns, "install", `
secrets: {github-webhook: {secret: webhooks, key: github}}
rules: {inline: {rules.yaml: "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: github}\nspec: {type: github, secrets: [{secret: github-webhook}]}\n"}}
config: {eventLog: {reserveBytes: 1MiB}}`)

	// The pod, played by hand: what is mounted, below another root and on other ports.
	root := t.TempDir()
	mounted := func(dir string, files map[string]string) { mountAs(t, filepath.Join(root, dir), files) }
	spec := at(c.get(ns, "statefulset", "rip-riposte"), "spec.template.spec")
	for _, v := range items(spec, "volumes") {
		name := fmt.Sprint(at(v, "name"))
		if m := at(v, "configMap.name"); m != nil {
			mounted(mount(spec, name), c.data(ns, "configmap", fmt.Sprint(m)))
		}
		for _, s := range items(v, "projected.sources") {
			for _, item := range items(s, "secret.items") {
				data := c.data(ns, "secret", fmt.Sprint(at(s, "secret.name")))
				mounted(mount(spec, name), map[string]string{fmt.Sprint(at(item, "path")): data[fmt.Sprint(at(item, "key"))]})
			}
		}
	}
	file := filepath.Join(root, "etc/riposte/config/riposte.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	moved := string(text)
	for from, to := range map[string]string{"/etc/riposte": root + "/etc/riposte", "/var/lib/riposte": root + "/data", ": :8080": ": 127.0.0.1:0", ": :8081": ": 127.0.0.1:0", ": :8082": ": 127.0.0.1:0"} {
		if !strings.Contains(moved, from) {
			t.Fatalf("%q is not in\n%s", from, moved)
		}
		moved = strings.ReplaceAll(moved, from, to)
	}
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(binary, "serve", "--config", file)
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	data := root + "/data"
	wait(t, "the server is ready", func() bool { return exec.Command(binary, "health", "--data", data).Run() == nil })
	token := c.data(ns, "secret", "rip-riposte-tokens")["admin"]
	if out, err := exec.Command(binary, "sources", "list", "--data", data, "--token", token).CombinedOutput(); err != nil || !strings.Contains(string(out), "github") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := exec.Command(binary, "sources", "list", "--data", data, "--token", token+"x").CombinedOutput(); err == nil || !strings.Contains(string(out), "not known") {
		t.Errorf("%v %s", err, out)
	}
}

// mountAs writes a ConfigMap or Secret as kubelets mount them: each file is a link into ..data, which is a link itself and moved
// when the content changes.
func mountAs(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	err := os.MkdirAll(filepath.Join(dir, "..1"), 0o700)
	if err == nil {
		err = os.Symlink("..1", filepath.Join(dir, "..data"))
	}
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "..1", name), []byte(text), 0o600)
		}
		if err == nil {
			err = os.Symlink("..data/"+name, filepath.Join(dir, name))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// data is what a ConfigMap or Secret holds.
func (c *cluster) data(namespace, kind, name string) map[string]string {
	c.t.Helper()
	texts := map[string]string{}
	all, _ := c.get(namespace, kind, name)["data"].(map[string]any)
	for key, value := range all {
		texts[key] = fmt.Sprint(value)
		if kind == "secret" {
			plain, err := base64.StdEncoding.DecodeString(texts[key])
			if err != nil {
				c.t.Fatal(err)
			}
			texts[key] = string(plain)
		}
	}
	return texts
}
