// Package charts_test renders the chart with helm, and installs it on the cluster of KUBECONFIG.
package charts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/config"
)

const chart = "riposte"

// need returns the path of a program, or skips the test and says what to install.
func need(t testing.TB, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing: %s", name, how)
	}
	return path
}

func helm(t testing.TB) string {
	t.Helper()
	return need(t, "helm", "go install helm.sh/helm/v4/cmd/helm@v4.3.1, and put it on the PATH")
}

// object is a manifest.
type object map[string]any

func (o object) kind() string { return fmt.Sprint(o["kind"]) }
func (o object) name() string { return fmt.Sprint(at(o, "metadata.name")) }

// at returns what is at a path of names, or nil.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch m := v.(type) {
		case object:
			v = m[name]
		case map[string]any:
			v = m[name]
		default:
			return nil
		}
	}
	return v
}

// items are those of the list at a path.
func items(v any, path string) []any {
	list, _ := at(v, path).([]any)
	return list
}

// manifests are what was rendered.
type manifests []object

// get returns the one object of the kind whose name ends like this.
func (m manifests) get(t testing.TB, kind, suffix string) object {
	t.Helper()
	if found := m.all(kind, suffix); len(found) == 1 {
		return found[0]
	} else {
		t.Fatalf("%d objects are a %s …%s, want one; there are %s", len(found), kind, suffix, m)
		return nil
	}
}

func (m manifests) all(kind, suffix string) (found manifests) {
	for _, o := range m {
		if o.kind() == kind && strings.HasSuffix(o.name(), suffix) {
			found = append(found, o)
		}
	}
	return found
}

func (m manifests) String() string {
	names := make([]string, len(m))
	for i, o := range m {
		names[i] = o.kind() + "/" + o.name()
	}
	return strings.Join(names, " ")
}

// pods are the pod templates.
func (m manifests) pods() (specs []any) {
	for _, o := range m {
		if spec := at(o, "spec.template.spec"); spec != nil {
			specs = append(specs, spec)
		}
	}
	return specs
}

// workload is the server's.
func (m manifests) workload(t testing.TB) object {
	t.Helper()
	for _, kind := range []string{"StatefulSet", "Deployment"} {
		if found := m.all(kind, ""); len(found) == 1 {
			return found[0]
		}
	}
	t.Fatalf("there is no workload among %s", m)
	return nil
}

// template runs helm template with the values, and returns what it printed and whether it succeeded.
func template(t testing.TB, values string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(helm(t), "template", "rip", chart, "--namespace", "ns", "--kube-version", "v1.30.0", "--values", file).CombinedOutput()
	return string(out), err
}

// render returns the chart's manifests for the values; the server's configuration among them must be one that the server
// takes.
func render(t testing.TB, values string) manifests {
	t.Helper()
	out, err := template(t, values)
	if err != nil {
		t.Fatalf("%v\n%s\nvalues:\n%s", err, out, values)
	}
	all := parse(t, out)
	loadConfig(t, all)
	seen := map[string]bool{}
	for _, o := range all {
		id := fmt.Sprint(o.kind(), "/", at(o, "metadata.namespace"), "/", o.name())
		if namespaced := !strings.HasPrefix(o.kind(), "Cluster"); seen[id] || namespaced == (at(o, "metadata.namespace") == nil) {
			t.Errorf("%s is there twice, or has no namespace of its own\nvalues:\n%s", id, values)
		}
		seen[id] = true
	}
	for _, spec := range all.pods() {
		restricted(t, spec)
	}
	return all
}

func parse(t testing.TB, text string) (all manifests) {
	t.Helper()
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			t.Fatalf("%v\nin\n%s", err, doc)
		}
		if len(o) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// loadConfig reads the rendered configuration as the server does.
func loadConfig(t testing.TB, all manifests) *config.Config {
	t.Helper()
	text, _ := at(all.get(t, "ConfigMap", "-config"), "data").(map[string]any)["riposte.yaml"].(string)
	file := filepath.Join(t.TempDir(), "riposte.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatalf("the server refuses its configuration: %v\nin\n%s", err, text)
	}
	return c
}

// restricted checks a pod against the Pod Security Standard "restricted", field by field, as
// https://kubernetes.io/docs/concepts/security/pod-security-standards/ lists them; and that the root is read-only.
func restricted(t testing.TB, spec any) {
	t.Helper()
	must := func(ok bool, what string) {
		t.Helper()
		if !ok {
			t.Errorf("a pod is not restricted: %s\n%v", what, spec)
		}
	}
	for _, host := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		must(at(spec, host) == nil, host)
	}
	must(at(spec, "securityContext.runAsNonRoot") == true, "runAsNonRoot")
	must(at(spec, "securityContext.runAsUser") != 0.0, "runAsUser is root")
	must(at(spec, "securityContext.seccompProfile.type") == "RuntimeDefault", "seccompProfile")
	must(at(spec, "automountServiceAccountToken") != nil, "automountServiceAccountToken is left open")
	for _, v := range items(spec, "volumes") {
		kinds := map[string]bool{"configMap": true, "emptyDir": true, "projected": true, "secret": true, "persistentVolumeClaim": true, "csi": true, "downwardAPI": true, "ephemeral": true}
		for kind := range v.(map[string]any) {
			must(kind == "name" || kinds[kind], "volume of kind "+kind)
		}
	}
	for _, c := range append(items(spec, "containers"), items(spec, "initContainers")...) {
		must(at(c, "securityContext.allowPrivilegeEscalation") == false, "allowPrivilegeEscalation")
		must(at(c, "securityContext.privileged") == nil, "privileged")
		must(fmt.Sprint(items(c, "securityContext.capabilities.drop")) == "[ALL]", "capabilities.drop")
		must(at(c, "securityContext.capabilities.add") == nil, "capabilities.add")
		must(at(c, "securityContext.readOnlyRootFilesystem") == true, "readOnlyRootFilesystem")
		for _, p := range items(c, "ports") {
			must(at(p, "hostPort") == nil, "hostPort")
		}
	}
}
