package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestManifestsOfADirectory(t *testing.T) {
	root := tree(t, map[string]string{
		"a.yaml": fmt.Sprintf(configMap, "a") + "---\n# nothing\n---\n" + fmt.Sprintf(configMap, "b"), "below/c.yml": fmt.Sprintf(configMap, "c"),
		"d.json":      `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"}}]}`,
		"README":      "not: a manifest",
		".git/x.yaml": "broken: [",
	})
	got, err := ReadManifests(root, root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got {
		names = append(names, o.GetName())
	}
	if strings.Join(names, " ") != "a b c d" && strings.Join(names, " ") != "a b d c" {
		t.Errorf("objects are %v", names)
	}
}

// TestNothingOutsideIsRead: neither by a link, nor by what a kustomization names, which kustomize would fetch.
func TestNothingOutsideIsRead(t *testing.T) {
	outside := tree(t, map[string]string{"secret.yaml": fmt.Sprintf(configMap, "secret")})
	for name, k := range map[string]string{
		"address":         "resources: ['https://example.com/a.yaml']",
		"repository":      "resources: ['github.com/acme/shop//deploy?ref=main']",
		"git over ssh":    "components: ['git@github.com:acme/shop.git']",
		"parent":          "resources: [../../" + filepath.Base(outside) + "/secret.yaml]",
		"absolute":        "resources: [" + outside + "]",
		"patch":           "patches: [{path: 'https://example.com/p.yaml'}]",
		"generator":       "configMapGenerator: [{name: x, files: [key=https://example.com/k]}]",
		"schema":          "openapi: {path: 'https://example.com/schema.json'}",
		"nested":          "resources: [below]",
		"replacement":     "replacements: [{path: 'http://example.com/r.yaml'}]",
		"transformer":     "transformers: ['https://example.com/t.yaml']",
		"generated alone": "secretGenerator: [{name: x, envs: ['https://example.com/e']}]",
	} {
		root := tree(t, map[string]string{"kustomization.yaml": k, "below/kustomization.yml": "bases: ['https://example.com//x']"})
		if _, err := ReadManifests(root, root); err == nil || !strings.Contains(err.Error(), "only local files are used") {
			t.Errorf("%s: %v", name, err)
		}
	}
	root := tree(t, map[string]string{"a.yaml": fmt.Sprintf(configMap, "a")})
	if err := os.Symlink(filepath.Join(outside, "secret.yaml"), filepath.Join(root, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadManifests(root, root); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("a link outside was followed: %v", err)
	}
	if _, err := ReadManifests(root, filepath.Join(root, "..")); err == nil {
		t.Error("the directory above was read")
	}
}

func TestKustomizationIsBuilt(t *testing.T) {
	root := tree(t, map[string]string{
		"base/kustomization.yaml": "resources: [a.yaml]", "base/a.yaml": fmt.Sprintf(configMap, "a") + "data: {k: v}\n",
		"over/kustomization.yaml": "resources: [../base]\nnamePrefix: x-\npatches:\n- patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: a}\n    data: {k: w}\n",
	})
	got, err := ReadManifests(root, filepath.Join(root, "over"))
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if v, _, _ := unstructured.NestedString(got[0].Object, "data", "k"); got[0].GetName() != "x-a" || v != "w" {
		t.Errorf("object is %v", got[0].Object)
	}
}

func TestMalformedManifests(t *testing.T) {
	for text, want := range map[string]string{
		"kind: ConfigMap\nmetadata: {name: a}":            "apiVersion",
		"apiVersion: v1\nkind: ConfigMap":                 "metadata.name",
		"apiVersion: v1\nmetadata: {name: a}":             "Kind",
		"just text":                                       "no Kubernetes object",
		"apiVersion: v1\nkind: ConfigMap\nkind: Secret":   "already",
		"apiVersion: v1\nkind: List\nitems: [{kind: A}]":  "metadata.name",
		fmt.Sprintf(configMap, "a") + "---\n" + "a: b: c": "document 2",
	} {
		if _, err := ParseManifests([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, should contain %q", text, err, want)
		}
	}
}

func FuzzParseManifests(f *testing.F) {
	f.Add(fmt.Sprintf(configMap, "a") + "---\n" + fmt.Sprintf(configMap, "b"))
	f.Add(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"}}]}`)
	f.Add("---\n---\n- a")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := ParseManifests([]byte(text))
		if err != nil {
			return
		}
		for _, o := range objects {
			if o.GetName() == "" || o.GetKind() == "" {
				t.Errorf("an object without a name or kind: %v", o.Object)
			}
			if _, err := o.MarshalJSON(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDiff(t *testing.T) {
	object := func(text string) *unstructured.Unstructured {
		got, err := ParseManifests([]byte(text))
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		return got[0]
	}
	was := object("apiVersion: v1\nkind: Thing\nmetadata: {name: a, resourceVersion: '1', annotations: {a.b/c: red}}\nspec: {size: 1, list: [{k: a}, {k: b}], gone: true}\nstatus: {x: 1}")
	is := object("apiVersion: v1\nkind: Thing\nmetadata: {name: a, resourceVersion: '2', annotations: {a.b/c: blue}}\nspec: {size: 2, list: [{k: a}, {k: c}], new: []}\nstatus: {x: 2}")
	want := `[{metadata.annotations["a.b/c"] red blue} {spec.gone true <nil>} {spec.list[1].k b c} {spec.new <nil> []} {spec.size 1 2}]`
	if got := fmt.Sprint(Diff(was, is)); got != want {
		t.Errorf("diff is %s, want %s", got, want)
	}
	was = object("apiVersion: v1\nkind: Secret\nmetadata: {name: a, annotations: {last: aHVudGVyMg}}\ndata: {p: aHVudGVyMg}")
	is = object("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {p: aHVudGVyMw}")
	if got := fmt.Sprint(Diff(was, is)); strings.Contains(got, "aHVud") || !strings.Contains(got, "{data.p *** ***}") {
		t.Errorf("a secret's diff is %s", got)
	}
}

func TestKindsAreFoundAsKubectlDoes(t *testing.T) {
	known := []kind{
		newKind("", "v1", "Pod", "pods", true, "po"), newKind("", "v1", "Event", "events", true, "ev"),
		newKind("apps", "v1", "Deployment", "deployments", true, "deploy"), newKind("apps", "v1beta1", "Deployment", "deployments", true, "deploy"),
		newKind("events.k8s.io", "v1", "Event", "events", true, "ev"), newKind("example.com", "v1", "Po", "pos", true),
	}
	for ref, want := range map[Ref]string{
		{Kind: "Deployment"}:                             "apps/v1, Kind=Deployment",
		{Kind: "deploy"}:                                 "apps/v1, Kind=Deployment",
		{Kind: "deployments.apps"}:                       "apps/v1, Kind=Deployment",
		{Kind: "Deployment", APIVersion: "apps/v1beta1"}: "apps/v1beta1, Kind=Deployment",
		{Kind: "event"}:                                  "/v1, Kind=Event",
		{Kind: "events.events.k8s.io"}:                   "events.k8s.io/v1, Kind=Event",
		{Kind: "po"}:                                     "example.com/v1, Kind=Po", // a name goes before a short one
		{Kind: "rollout"}:                                "",
		{Kind: "Deployment", APIVersion: "v1"}:           "",
	} {
		k, ok := pick(known, ref)
		if got := k.gvk.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%+v is %s, want %s", ref, got, want)
		}
	}
}

func newKind(group, version, name, plural string, namespaced bool, short ...string) kind {
	gv := schema.GroupVersion{Group: group, Version: version}
	return kind{gvr: gv.WithResource(plural), gvk: gv.WithKind(name), namespaced: namespaced, names: []string{strings.ToLower(name), plural}, short: short}
}
