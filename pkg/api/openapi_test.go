package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/riposte-dev/riposte/pkg/run"
)

// described is what the tests read of an OpenAPI document.
type described struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]any }
}

type operation struct {
	OperationID, Summary string
	Parameters           []struct {
		Name, In string
		Required bool
		Schema   map[string]any
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema map[string]any }
	}
}

func document(t *testing.T) (described, *jsonschema.Compiler) {
	t.Helper()
	text := ask(handler(&store{}), "GET", "/api/v1/openapi.json", nil).Body.Bytes()
	var doc described
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020) // OpenAPI 3.1 says so
	c.AssertFormat()
	if err := c.AddResource("riposte:openapi", plain); err != nil {
		t.Fatal(err)
	}
	return doc, c
}

// TestOpenAPIAnswersAreWhatItSays asks for everything that the document lists. None may be unknown, and each answer must fit
// its schema, as must a failure.
func TestOpenAPIAnswersAreWhatItSays(t *testing.T) {
	doc, compiler := document(t)
	if len(doc.Paths) < 10 {
		t.Fatalf("only %d paths", len(doc.Paths))
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			at := "riposte:openapi#/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path) + "/" + method + "/responses/"
			s := &store{}
			if strings.HasSuffix(path, "/cancel") {
				s.state = run.Running
			}
			if strings.HasSuffix(path, "/approve") || strings.HasSuffix(path, "/reject") {
				s.state, s.asks = run.Waiting, true
			}
			if strings.HasSuffix(path, "/resume") {
				s.pauses = []run.Pause{{By: "ana"}, {Rule: "hello", By: "ana", Since: time.Unix(1, 0), Until: time.Unix(2, 0)}}
			}
			answer := ask(handler(s), strings.ToUpper(method), strings.NewReplacer("{id}", "5ENG7J6GWJ2C0VDEAHNV9B4Y0M", "{name}", "hello").Replace(path), nil)
			status := answer.Result().Status[:3]
			if _, ok := op.Responses[status]; !ok {
				t.Errorf("%s %s: %s %s is none of its answers", method, path, status, answer.Body)
				continue
			}
			if _, ok := op.Responses[status].Content["application/json"]; ok {
				fits(t, compiler, at+status+"/content/application~1json/schema", answer.Body)
			}
			if _, ok := op.Responses[status].Content["application/x-ndjson"]; ok {
				for line := range strings.Lines(answer.Body.String()) {
					fits(t, compiler, at+status+"/content/application~1x-ndjson/schema", strings.NewReader(line))
				}
			}
			failure := ask(handler(&store{}), strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "NONE")+"?no=1", nil)
			if failure.Code/100 != 4 {
				t.Errorf("%s %s: a parameter there is not gives %d", method, path, failure.Code)
			}
			fits(t, compiler, at+"default/content/application~1json/schema", failure.Body)
		}
	}
}

func fits(t *testing.T, c *jsonschema.Compiler, schema string, body io.Reader) {
	t.Helper()
	s, err := c.Compile(schema)
	if err != nil {
		t.Errorf("%s: %v", schema, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(body)
	if err != nil {
		t.Errorf("%s: %v", schema, err)
		return
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("%s: %v", schema, err)
	}
}

// TestOpenAPIIsWhole checks what OpenAPI 3.1 demands of the parts that the document uses.
func TestOpenAPIIsWhole(t *testing.T) {
	doc, compiler := document(t)
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version != "test" {
		t.Errorf("it begins with %s %+v", doc.OpenAPI, doc.Info)
	}
	var ids []string
	for path, operations := range doc.Paths {
		for method, op := range operations {
			ids = append(ids, op.OperationID)
			if op.OperationID == "" || op.Summary == "" || op.Responses["default"].Description == "" {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			var inPath []string
			for _, p := range op.Parameters {
				if p.In == "path" && p.Required {
					inPath = append(inPath, "{"+p.Name+"}")
				}
				if p.Schema == nil {
					t.Errorf("%s %s: parameter %s has no schema", method, path, p.Name)
				}
			}
			if want := regexp.MustCompile(`{\w+}`).FindAllString(path, -1); !slices.Equal(inPath, want) {
				t.Errorf("%s %s: path parameters %v", method, path, inPath)
			}
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("operation ids stand twice: %v", ids)
	}
	for name := range doc.Components.Schemas {
		if _, err := compiler.Compile("riposte:openapi#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
		if !regexp.MustCompile(`^[A-Za-z]+$`).MatchString(name) {
			t.Errorf("schema name %q", name)
		}
	}
}
