package app_test

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// checkTitled checks a block whose first line says which file it is: values.yaml of the chart, against its schema and with
// the rules in it; nats.yaml, of another chart, as YAML.
func checkTitled(t *testing.T, page, block string) {
	t.Helper()
	title, _, _ := strings.Cut(strings.TrimPrefix(block, "# "), "\n")
	var values map[string]any
	if err := yaml.UnmarshalStrict([]byte(block), &values); err != nil {
		t.Fatalf("%s: %v\nin\n%s", page, err, block)
	}
	switch title {
	case "values.yaml":
		checkValues(t, page, block, values)
	case "nats.yaml":
	default:
		t.Errorf("%s: nobody knows how to check a block titled %q", page, title)
	}
}

func checkValues(t *testing.T, page, block string, values map[string]any) {
	t.Helper()
	text, err := os.ReadFile("../../charts/riposte/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	delete(doc.(map[string]any), "required") // the defaults are there
	c := jsonschema.NewCompiler()
	if err := c.AddResource("values.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("values.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(values); err != nil {
		t.Errorf("%s: %v\nin\n%s", page, err, block)
	}
	rules, _ := values["rules"].(map[string]any)
	inline, _ := rules["inline"].(map[string]any)
	for _, text := range inline {
		checkDocuments(t, page, text.(string))
	}
}
