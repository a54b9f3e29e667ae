package kube

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Bounds of what is read.
const (
	maxManifests = 64 << 20 // bytes of a directory's manifests
	maxObjects   = 10_000
)

// ReadManifests reads the objects of a file, of a directory with those below it, or of a kustomization. What a link
// leads out of root to is not read, and a kustomization fetches nothing from elsewhere.
func ReadManifests(root, path string) ([]*unstructured.Unstructured, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	if path, err = within(root, path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() && kustomization(path) != "" {
		return build(root, path)
	}
	return readTree(root, path)
}

// within resolves links and refuses what is not below root.
func within(root, path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if real, err = filepath.Abs(real); err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s leads out of the directory that may be read", path)
	}
	return real, nil
}

func readTree(root, path string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	read := int64(0)
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && name != path {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); name != path && !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			return nil
		}
		real, err := within(root, name)
		if err != nil {
			return err
		}
		info, err := os.Stat(real)
		if err != nil || !info.Mode().IsRegular() {
			return errors.Join(err, fmt.Errorf("%s is no regular file", name))
		}
		if read += info.Size(); read > maxManifests {
			return fmt.Errorf("the manifests are more than %d MiB", maxManifests>>20)
		}
		text, err := os.ReadFile(real) //nolint:gosec // its links are resolved, and nobody else writes into the run's directory
		if err != nil {
			return err
		}
		found, err := ParseManifests(text)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(name, root+"/"), err)
		}
		if objects = append(objects, found...); len(objects) > maxObjects {
			return fmt.Errorf("there are more than %d objects", maxObjects)
		}
		return nil
	})
	return objects, err
}

// ParseManifests reads the objects of a text: YAML or JSON, several a text, lists taken apart.
func ParseManifests(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		found, err := parseOne(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		objects = append(objects, found...)
	}
}

func parseOne(doc []byte) ([]*unstructured.Unstructured, error) {
	asJSON, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	if asJSON = bytes.TrimSpace(asJSON); len(asJSON) == 0 || bytes.Equal(asJSON, []byte("null")) {
		return nil, nil
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(asJSON); err != nil {
		return nil, fmt.Errorf("it is no Kubernetes object: %w", err)
	}
	if !o.IsList() {
		if o.GetName() == "" || o.GetAPIVersion() == "" {
			return nil, fmt.Errorf("an object of kind %s has no metadata.name or no apiVersion", o.GetKind())
		}
		return []*unstructured.Unstructured{o}, nil
	}
	list, err := o.ToList()
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for i := range list.Items {
		if list.Items[i].GetName() == "" || list.Items[i].GetKind() == "" {
			return nil, fmt.Errorf("item %d of a list has no kind or no metadata.name", i)
		}
		out = append(out, &list.Items[i])
	}
	return out, nil
}

func kustomization(dir string) string {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return ""
}

// build runs kustomize in process, on what is below root alone.
func build(root, dir string) ([]*unstructured.Unstructured, error) {
	if err := local(root, dir, map[string]bool{}); err != nil {
		return nil, fmt.Errorf("kustomization: %w", err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}
	text, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}
	return ParseManifests(text)
}

// local refuses a kustomization that names anything which is not a file or a directory below root: kustomize would fetch it
// with git or over HTTP.
func local(root, dir string, seen map[string]bool) error {
	if seen[dir] {
		return nil
	}
	seen[dir] = true
	file := kustomization(dir)
	if file == "" {
		return nil
	}
	if _, err := within(root, file); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var k map[string]any
	if err := yaml.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, path := range paths(k) {
		real, err := within(root, filepath.Join(dir, path))
		if err != nil {
			return fmt.Errorf("%s names %q, which is not below the directory that may be read: only local files are used", strings.TrimPrefix(file, root+"/"), path)
		}
		if info, err := os.Stat(real); err == nil && info.IsDir() {
			if err := local(root, real, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// paths lists what a kustomization names as files or directories (kubectl.docs.kubernetes.io/references/kustomize).
func paths(k map[string]any) []string {
	var out []string
	add := func(v any) {
		if text, ok := v.(string); ok && text != "" && !strings.Contains(text, "\n") && !strings.HasPrefix(strings.TrimSpace(text), "{") {
			out = append(out, text)
		}
	}
	list := func(v any, do func(any)) {
		items, _ := v.([]any)
		for _, i := range items {
			do(i)
		}
	}
	for _, key := range []string{"resources", "bases", "components", "crds", "configurations", "generators", "transformers", "validators", "patchesStrategicMerge"} {
		list(k[key], add)
	}
	member := func(key string) func(any) {
		return func(v any) {
			m, _ := v.(map[string]any)
			add(m[key])
		}
	}
	for _, key := range []string{"patches", "patchesJson6902", "replacements"} {
		list(k[key], member("path"))
	}
	member("path")(k["openapi"])
	for _, key := range []string{"configMapGenerator", "secretGenerator"} {
		list(k[key], func(v any) {
			m, _ := v.(map[string]any)
			add(m["env"])
			list(m["envs"], add)
			list(m["files"], func(f any) {
				text, _ := f.(string)
				if _, file, named := strings.Cut(text, "="); named {
					text = file
				}
				add(text)
			})
		})
	}
	return out
}
