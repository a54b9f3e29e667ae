package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// design reads an example of the design, which stands beside the repository.
func design(t *testing.T, name string) (file string, text []byte) {
	t.Helper()
	dir := os.Getenv("RIPOSTE_DESIGN")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "design")
	}
	file = filepath.Join(dir, "examples", name)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the design is not here; set RIPOSTE_DESIGN to its folder")
	}
	if err != nil {
		t.Fatal(err)
	}
	return file, text
}

// withMissing adds what examples use and this version may not have.
func withMissing(actions action.Registry) {
	type target struct {
		Target any `yaml:"target"`
	}
	for _, d := range []action.Definition{
		{Name: "fail", Params: &struct {
			Message string `yaml:"message"`
		}{}},
		{Name: "kubernetes.restart", Changes: true, Outputs: target{}, Params: &struct {
			Namespace string `yaml:"namespace"`
			Pod       string `yaml:"pod"`
		}{}},
		{Name: "kubernetes.get", Params: &target{}, Outputs: struct {
			Ready    bool  `yaml:"ready"`
			Restarts int64 `yaml:"restarts"`
		}{}},
		{Name: "pullrequest.comment", Changes: true, Tells: true, Params: &struct {
			Key  string `yaml:"key"`
			Body string `yaml:"body"`
		}{}},
		{Name: "issue.open", Changes: true, Tells: true, Params: &struct {
			Repo  string `yaml:"repo"`
			Key   string `yaml:"key"`
			Title string `yaml:"title"`
			Body  string `yaml:"body"`
		}{}},
	} {
		if _, there := actions[d.Name]; !there {
			actions[d.Name] = d
		}
	}
}

// TestEveryFormOfTheDesignLoads, and fits the schemas that editors use.
func TestEveryFormOfTheDesignLoads(t *testing.T) {
	o := options()
	withMissing(o.Actions)
	files := []rule.File{{Path: "more.yaml", Data: []byte(`apiVersion: riposte.dev/v1
kind: Source
metadata: {name: gitlab}
spec: {type: gitlab, secrets: [{secret: gitlab}]}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: platform}
spec: {type: slack, url: {secret: slack-platform}}
`)}}
	for _, name := range []string{"rules.yaml", "workflow.yaml", "sources-and-targets.yaml", "ruletest.yaml"} {
		_, text := design(t, name)
		files = append(files, rule.File{Path: name, Data: text})
	}
	set, err := rule.Load(files, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Rules) != 6 || len(set.Workflows) != 1 || len(set.Tests) != 1 {
		t.Errorf("%d rules, %d workflows and %d tests", len(set.Rules), len(set.Workflows), len(set.Tests))
	}
	if r := set.Rule("restart-crashlooping"); r.Plan.Verify == nil || !r.Heals() || !r.Limited() || len(r.Plan.OnFailure) != 1 {
		t.Errorf("restart-crashlooping: %+v", r.Plan)
	}
	if steps := set.Rule("apply-network").Plan.Steps; len(steps) != 2 || !steps[1].Workflow || len(steps[1].Steps) != 3 {
		t.Errorf("apply-network: %+v", steps)
	}
	for _, f := range files {
		fitsSchema(t, o, f.Path, f.Data)
	}
}

func TestTheConfigurationOfTheDesignLoads(t *testing.T) {
	file, _ := design(t, "config.yaml")
	if _, err := config.Load(config.Sources{File: file}); err != nil {
		t.Error(err)
	}
}

// fitsSchema validates the documents of a file as an editor does.
func fitsSchema(t *testing.T, o rule.Options, name string, text []byte) {
	t.Helper()
	items, problems := document.Parse(name, text)
	if problems != nil {
		t.Fatal(problems)
	}
	schemas := rule.Schemas(o.Sources, o.Actions)
	for _, item := range items {
		kind, _ := item.Get("kind").Any().(string)
		if err := validate(schemas[strings.ToLower(kind)], item.Any()); err != nil {
			t.Errorf("%s:%d: %v", name, item.Line, err)
		}
	}
}

func validate(schema map[string]any, value any) error {
	text, err := json.Marshal([]any{schema, value})
	if err != nil {
		return err
	}
	plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	both := plain.([]any)
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", both[0]); err != nil {
		return err
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		return err
	}
	return compiled.Validate(both[1])
}

// TestEveryReasonIsExplained reads the reasons of runs and of the gate from their source.
func TestEveryReasonIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/runs.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range []string{"../run/transition.go", "../gate/gate.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Reason\w+ *= "(\w+)"`).FindAllSubmatch(text, -1) {
			found++
			if !bytes.Contains(page, []byte("`"+string(m[1])+"`")) {
				t.Errorf("docs/runs.md does not explain %s", m[1])
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d reasons were found", found)
	}
}

// TestSchemasRefuseWhatDoesNotLoad, as far as a schema can know.
func TestSchemasRefuseWhatDoesNotLoad(t *testing.T) {
	o := options()
	for _, spec := range []string{
		"{trigger: {type: a}}", "{steps: [{uses: exec.run, need: []}]}", "{steps: [{uses: exec.run, forEach: {parallel: 2}}]}", "{steps: [{uses: exec.run, forEach: 3}]}",
		"{steps: [{uses: exec.run, retry: {}}]}", "{steps: [], concurrency: {group: a, policy: newest}}", "{steps: [], limits: [{runs: 1}]}", "{steps: [], verify: {expects: a}}", "{steps: [], mode: maybe}",
	} {
		items, problems := document.Parse("r.yaml", []byte("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec: "+spec+"\n"))
		if problems != nil {
			t.Fatal(problems)
		}
		if validate(rule.Schemas(o.Sources, o.Actions)["rule"], items[0].Any()) == nil {
			t.Errorf("%s fits the schema", spec)
		}
	}
}
