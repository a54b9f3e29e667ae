package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaKnowsEverySection(t *testing.T) {
	if have, want := slices.Sorted(maps.Keys(sectionTypes())), slices.Sorted(slices.Values(sections())); !slices.Equal(have, want) {
		t.Errorf("the schema knows the sections %q, the decoder %q", have, want)
	}
}

// TestSchemaAgreesWithTheDecoder: the schema refuses what the decoder does not know or take, and nothing that it takes.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	schema := compileSchema(t)
	for text, right := range map[string]bool{
		"hooksListen: ':8080'": true,
		"limits: {maxBodyBytes: 25MB, storm: {runs: 60, per: 1m}, blastRadius: [{targets: [a], max: 1}]}": true,
		"limits: {maxBodyBytes: 26214400, bodyBudget: 64MiB}":                                             true,
		"eventLog: {maxAge: 1d12h, idWindow: 7d, reserveBytes: 0}":                                        true,
		"eventLog: {maxAge: 0}":                                          true,
		"secrets: {a: {env: A}, b: {file: /b}}":                          true,
		"grants: [{paths: [\"a/**\"], kubernetes: {serviceAccount: x}}]": true,
		"approvals: {policies: [{names: [a], labels: {tier: a}, needed: 2}], people: [{name: a, groups: [b]}]}": true,
		"git: {allowPrivate: [10.0.0.0/8]}":    true,
		"hooksListne: ':8080'":                 false,
		"hooksListen: 8080":                    false,
		"limits: {maxBodyByte: 25MB}":          false,
		"limits: {maxBodyBytes: 25 megabytes}": false,
		"eventLog: {maxAge: 2 days}":           false,
		"secrets: {a: {value: x}}":             false,
		"secrets: {a: plain}":                  false,
		"grants: [{path: [a]}]":                false,
		"approvals: {people: [{nme: a}]}":      false,
		"engine: {workers: many}":              false,
		"exec: {env: PATH}":                    false,
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); (err == nil) != right {
			t.Errorf("%s: the schema says %v", text, err)
		}
		c := Default()
		if problems := c.decode([]byte(text)); (len(problems) == 0) != right {
			t.Errorf("%s: the decoder says %v", text, problems)
		}
	}
}
