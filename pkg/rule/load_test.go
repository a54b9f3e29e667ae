package rule_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// sender is a preset with one field.
type sender struct{}

func (sender) Verify(*source.Request) error                     { return nil }
func (sender) Split(*source.Request) ([]source.Delivery, error) { return nil, nil }
func (sender) Normalise(*event.Event)                           {}

type senderSpec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true"`
}

type params struct {
	Command []string          `yaml:"command,omitempty"`
	Script  string            `yaml:"script,omitempty" expr:"never"`
	Env     map[string]string `yaml:"env,omitempty"`
	To      string            `yaml:"to,omitempty" ref:"target"`
	N       int64             `yaml:"n,omitempty"`
	Any     any               `yaml:"any,omitempty"`
	Wait    time.Duration     `yaml:"wait,omitempty"`
}

type outputs struct {
	Dir string `yaml:"dir"`
}

func options() rule.Options {
	return rule.Options{
		Sources: source.NewRegistry(source.Type{Name: "github", Spec: &senderSpec{}, New: func(decode func(any) error, env source.Env) (source.Source, error) {
			var s senderSpec
			if err := decode(&s); err != nil {
				return nil, err
			}
			for _, ref := range s.Secrets {
				if err := env.CheckSecret(ref); err != nil {
					return nil, err
				}
			}
			return sender{}, nil
		}}),
		Actions: action.NewRegistry([]action.Definition{{
			Name: "do", Params: &params{}, Outputs: outputs{}, RetryInterrupted: true,
			Check: func(p any) error {
				if len(p.(*params).Command) > 0 && p.(*params).Script != "" {
					return errors.New("command and script exclude each other")
				}
				return nil
			},
		}}),
		CheckSecret: func(ref source.SecretRef) error {
			if ref.Secret == "undeclared" {
				return errors.New("secret undeclared is not declared")
			}
			return nil
		},
	}
}

const githubDoc = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: oncall}
spec: {type: log}
---
`

func ruleDoc(spec string) string {
	return githubDoc + "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n" + spec
}

func load(t *testing.T, text string) (*rule.Set, document.Problems) {
	t.Helper()
	return loadWith(t, text, options())
}

func loadWith(t *testing.T, text string, o rule.Options) (*rule.Set, document.Problems) {
	t.Helper()
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(text)}}, o)
	var problems document.Problems
	if err != nil && !errors.As(err, &problems) {
		t.Fatalf("error %T: %v", err, err)
	}
	return set, problems
}

func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	trigger := "  trigger: {source: github, type: push}\n"
	for _, tc := range []struct{ name, doc, want string }{
		{"broken YAML", "a: [", "rules.yaml:"},
		{"tabs", "a:\n\t- b", "rules.yaml:2:"},
		{"not UTF-8", "a: \xff", "UTF-8"},
		{"another version", "apiVersion: riposte.dev/v2\nkind: Rule\nmetadata: {name: r}\nspec: {}", `"riposte.dev/v2"`},
		{"unknown kind", "apiVersion: riposte.dev/v1\nkind: Rul\nmetadata: {name: r}\nspec: {}", "did you mean Rule?"},
		{"kind of another tool", "apiVersion: riposte.dev/v1\nkind: Workflows\nmetadata: {name: r}\nspec: {}", "did you mean Workflow?"},
		{"name", "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: A_b}\nspec: {}", `name "A_b"`},
		{"twice", ruleDoc(trigger+"  steps: [{uses: do}]\n") + "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec: {}", "Rule r is there already, at rules.yaml:"},
		{"unknown field", ruleDoc(trigger + "  step: []\n  steps: [{uses: do}]\n"), "unknown field step"},
		{"the key on stays a text", ruleDoc(trigger + "  on: push\n  steps: [{uses: do}]\n"), "unknown field on"},
		{"key twice", ruleDoc(trigger + "  trigger: {}\n  steps: [{uses: do}]\n"), "trigger"},
		{"no steps", ruleDoc(trigger), "steps is missing"},
		{"empty condition", ruleDoc(trigger + "  when: \"\"\n  steps: [{uses: do}]\n"), "when is empty"},
		{"misspelt view", ruleDoc(trigger + "  when: event.git.brnch == \"main\"\n  steps: [{uses: do}]\n"), "branch"},
		{"misspelt root", ruleDoc(trigger + "  when: evnt.type == \"push\"\n  steps: [{uses: do}]\n"), "event"},
		{"condition cut by a comment", ruleDoc(trigger + "  when: event.type == # push\n  steps: [{uses: do}]\n"), "YAML comment"},
		{"condition that begins with !", ruleDoc(trigger + "  when: !event.git.forced\n  steps: [{uses: do}]\n"), "quotes"},
		{"unknown source", ruleDoc("  trigger: {source: githb}\n  steps: [{uses: do}]\n"), "did you mean github?"},
		{"no trigger", ruleDoc("  steps: [{uses: do}]\n"), "trigger is missing"},
		{"unknown action", ruleDoc(trigger + "  steps: [{uses: doo}]\n"), "did you mean do?"},
		{"unknown parameter", ruleDoc(trigger + "  steps: [{uses: do, with: {comand: [a]}}]\n"), "did you mean command?"},
		{"parameter of another kind", ruleDoc(trigger + "  steps: [{uses: do, with: {n: many}}]\n"), "whole number"},
		{"bad duration", ruleDoc(trigger + "  steps: [{uses: do, timeout: 5 minutes}]\n"), "duration"},
		{"an event's text in a script", ruleDoc(trigger + "  steps: [{uses: do, with: {script: \"echo ${{ event.type }}\"}}]\n"), "must not hold ${{ }}"},
		{"unknown target", ruleDoc(trigger + "  steps: [{uses: do, with: {to: onkall}}]\n"), "did you mean oncall?"},
		{"a step below", ruleDoc(trigger + "  steps: [{id: a, uses: do, with: {any: \"${{ steps.b.outputs.dir }}\"}}, {id: b, uses: do}]\n"), "steps.b"},
		{"an output there is not", ruleDoc(trigger + "  steps: [{id: a, uses: do}, {id: b, uses: do, with: {any: \"${{ steps.a.outputs.dirr }}\"}}]\n"), "dirr"},
		{"step twice", ruleDoc(trigger + "  steps: [{id: a, uses: do}, {id: a, uses: do}]\n"), "step a is there already"},
		{"needs what is below", ruleDoc(trigger + "  steps: [{id: a, uses: do, needs: [b]}, {id: b, uses: do}]\n"), "step b stands below"},
		{"the action's own check", ruleDoc(trigger + "  steps: [{uses: do, with: {command: [a], script: b}}]\n"), "exclude each other"},
		{"undeclared secret", strings.Replace(githubDoc, "secret: s", "secret: undeclared", 1), "not declared"},
		{"a variable outside --dev", strings.Replace(githubDoc, "secret: s", "env: HOME", 1), "serve --dev"},
		{"a limit of nothing", ruleDoc(trigger + "  limits: [{runs: 0, per: 1h}]\n  steps: [{uses: do}]\n"), "limits[0].runs is 0"},
		{"a mode that is none", ruleDoc(trigger + "  mode: aprove\n  steps: [{uses: do}]\n"), "mode"},
		{"fallback in a circle", githubDoc + "apiVersion: riposte.dev/v1\nkind: Target\nmetadata: {name: t}\nspec: {type: log, fallback: t}\n", "leads back"},
		{"the column in a block", ruleDoc(trigger + "  when: |\n\n      event.type == \"push\"\n        && evnt.type == \"x\"\n  steps: [{uses: do}]\n"), "rules.yaml:19:12: when: "},
		{"too many aliases", "a: &a [x]\nb: [" + strings.Repeat("*a, ", 200) + "]\n", "aliases"},
		{"merge key", "a: &a {b: c}\nd:\n  <<: *a\n", "merge keys"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, problems := load(t, tc.doc)
			if set != nil || len(problems) == 0 {
				t.Fatal("it was accepted")
			}
			if got := problems.Error(); !strings.Contains(got, tc.want) {
				t.Fatalf("the problems are\n%s\nwant something about %q", got, tc.want)
			}
			for _, p := range problems {
				if p.File != "rules.yaml" || p.Line == 0 && tc.name != "not UTF-8" {
					t.Errorf("no place: %+v", p)
				}
			}
		})
	}
}

func TestAllProblemsOfAllFilesAtOnce(t *testing.T) {
	_, err := rule.Load([]rule.File{
		{Path: "b.yaml", Data: []byte(ruleDoc("  trigger: {source: github}\n  when: event.tipe == 1\n  steps: [{uses: nothing}]\n"))},
		{Path: "a.yaml", Data: []byte("kind: [")},
	}, options())
	var problems document.Problems
	if !errors.As(err, &problems) || len(problems) != 3 {
		t.Fatalf("%d problems, want 3:\n%v", len(problems), err)
	}
	if problems[0].File != "a.yaml" || problems[1].File != "b.yaml" || problems[1].Line > problems[2].Line {
		t.Fatalf("not in order:\n%v", err)
	}
	if problems[1].Snippet == "" || !strings.Contains(problems[1].Snippet, "^") {
		t.Errorf("the expression is not shown: %+v", problems[1])
	}
}

func push(body string) *event.Event {
	return &event.Event{ID: "E", Source: "github", Type: "push", Body: []byte(body), Git: &event.Git{Branch: "main", Repo: "acme/shop", Paths: []string{"network/a.tf"}}}
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		when string
		want expression.Truth
	}{
		{`event.git.branch == "main"`, expression.True},
		{`event.git.branch == "dev"`, expression.False},
		{`event.data.env != "prod"`, expression.Absent},
		{`not (event.data.env == "prod")`, expression.Absent},
		{`event.data.env == "prod" || event.git.branch == "main"`, expression.True},
		{`event.data.env == nil`, expression.True},
		{`(event.data?.env ?? "none") == "none"`, expression.True},
		{`event.data.none == nil`, expression.True},
		{`event.data.n == 9007199254740993`, expression.True},
		{`1/0 == 1`, expression.Absent},
		{`changed("network/**")`, expression.True},
		{`changed("docs/**")`, expression.Absent}, // the list is not complete
		{`all(1..1000, all(1..1000, all(1..1000, # > 0)))`, expression.Absent},
	} {
		t.Run(tc.when, func(t *testing.T) {
			set, problems := load(t, ruleDoc("  trigger: {source: github, type: \"pu*\"}\n  when: '"+tc.when+"'\n  steps: [{uses: do}]\n"))
			if problems != nil {
				t.Fatal(problems)
			}
			m := set.Match(t.Context(), push(`{"n": 9007199254740993, "none": null}`), time.Now())
			got := expression.False
			if len(m.Verdicts) > 0 {
				got = m.Verdicts[0].Truth
			}
			if m.Triggered != 1 || len(m.Verdicts)+len(m.False(2)) != 1 || got != tc.want {
				t.Fatalf("matches %+v, want %v", m, tc.want)
			}
		})
	}
}

func TestATriggerSelectsBySourceAndType(t *testing.T) {
	for trigger, want := range map[string]bool{
		"{source: github}": true, "{type: push}": true, "{type: [tag, push]}": true, "{source: \"*\", type: \"p*h\"}": true,
		"{type: pull_request}": false, "{source: github, type: \"alert.*\"}": false,
	} {
		set, problems := load(t, ruleDoc("  trigger: "+trigger+"\n  steps: [{uses: do}]\n"))
		if problems != nil {
			t.Fatal(problems)
		}
		if got := set.Selects(push("{}")); got != want || len(set.Match(t.Context(), push("{}"), time.Now()).Verdicts) == 1 != want {
			t.Errorf("trigger %s selects: %v, want %v", trigger, got, want)
		}
	}
}

func TestParametersKeepTheirKindAndAbsenceRefuses(t *testing.T) {
	set, problems := load(t, ruleDoc(`  trigger: {source: github}
  steps:
    - id: a
      uses: do
      with: {n: "${{ event.data.n }}", any: {list: ["${{ event.data }}"], text: "n is ${{ event.data.n }}"}, env: {N: "${{ event.data.n }}"}, wait: 90s}
    - id: b
      uses: do
      with: {command: ["${{ event.data.missing }}"]}
  onFailure:
    - id: c
      uses: do
      with: {to: oncall, any: "missing is ${{ event.data.missing }}"}
`))
	if problems != nil {
		t.Fatal(problems)
	}
	r := set.Rule("r")
	scope := rule.EventScope(push(`{"n": 42}`), time.Now())
	scope.Vars["steps"], scope.Vars["run"] = map[string]any{}, map[string]any{}
	got, _, err := r.With(context.Background(), run.Main, "a", scope)
	if err != nil {
		t.Fatal(err)
	}
	p := got.(*params)
	nested, _ := p.Any.(map[string]any)
	if p.N != 42 || p.Env["N"] != "42" || p.Wait != 90*time.Second || nested["text"] != "n is 42" {
		t.Errorf("parameters %+v", p)
	}
	_, _, err = r.With(context.Background(), run.Main, "b", scope)
	var absent *expression.AbsentError
	if !errors.As(err, &absent) || absent.Path != "event.data.missing" {
		t.Errorf("an absent parameter gives %v", err)
	}
	got, _, err = r.With(context.Background(), run.OnFailure, "c", scope)
	if err != nil || got.(*params).Any != "missing is <absent: event.data.missing>" {
		t.Errorf("an absent field in a notice gives %+v, %v", got, err)
	}
}

// TestValuesAreQuotedWhereAnActionSaysHow: a value can't mean more in a text than a value, not even where it stands alone
// or in a notice, and what is absent or refused is never replaced by a text.
func TestValuesAreQuotedWhereAnActionSaysHow(t *testing.T) {
	o := options()
	def := o.Actions["do"]
	def.Quote = map[string]func(string, string) (string, error){"any": func(before, value string) (string, error) {
		if strings.Contains(value, "!") {
			return "", errors.New("the value has an exclamation mark")
		}
		return fmt.Sprintf("<%d:%s>", len(before), value), nil
	}}
	o.Actions["do"] = def
	set, problems := loadWith(t, ruleDoc(`  trigger: {source: github}
  steps:
    - {id: a, uses: do, with: {any: "n=${{ event.data.n }} m=${{ event.data.m }}", to: "${{ event.data.m }}"}}
    - {id: b, uses: do, with: {any: {list: ["${{ event.data.m }}", "plain"]}}}
    - {id: c, uses: do, with: {any: "${{ event.data.bad }}"}}
  onFailure:
    - {id: d, uses: do, with: {any: "${{ event.data.bad }}"}}
    - {id: e, uses: do, with: {any: "x ${{ event.data.missing }}"}}
`), o)
	if problems != nil {
		t.Fatal(problems)
	}
	scope := rule.EventScope(push(`{"n": 42, "m": "em", "bad": "no!"}`), time.Now())
	scope.Vars["steps"], scope.Vars["run"] = map[string]any{}, map[string]any{}
	for id, want := range map[string]any{"a": "n=<2:42> m=<11:em>", "b": map[string]any{"list": []any{"<0:em>", "plain"}}} {
		got, _, err := set.Rule("r").With(t.Context(), run.Main, id, scope)
		if err != nil || !reflect.DeepEqual(got.(*params).Any, want) {
			t.Errorf("step %s got %+v, %v, want %v", id, got, err, want)
		}
		if id == "a" && got.(*params).To != "em" {
			t.Errorf("a parameter without a way of quoting is %q", got.(*params).To)
		}
	}
	for id, want := range map[string]string{"c": "exclamation mark", "d": "exclamation mark", "e": "event.data.missing"} {
		phase := run.Main
		if id != "c" {
			phase = run.OnFailure
		}
		if _, _, err := set.Rule("r").With(t.Context(), phase, id, scope); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("step %s: %v, want %q", id, err, want)
		}
	}
}

func TestRevisionNamesTheContentAlone(t *testing.T) {
	a := rule.File{Path: "a.yaml", Data: []byte(githubDoc)}
	b := rule.File{Path: "b.yaml", Data: []byte("# nothing\n")}
	one, err := rule.Load([]rule.File{a, b}, options())
	if err != nil {
		t.Fatal(err)
	}
	two, err := rule.Load([]rule.File{b, a}, options())
	if err != nil {
		t.Fatal(err)
	}
	b.Data = []byte("# something\n")
	three, err := rule.Load([]rule.File{a, b}, options())
	if err != nil {
		t.Fatal(err)
	}
	if one.Revision != two.Revision || one.Revision == three.Revision {
		t.Fatalf("revisions %s %s %s", one.Revision, two.Revision, three.Revision)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(ruleDoc("  trigger: {source: github}\n  when: event.type == \"push\"\n  steps: [{uses: do, with: {any: \"${{ event.id }}\"}}]\n")))
	f.Add([]byte(workflowDoc("w", "  inputs: {a: {type: int, default: 1}}\n  timeout: 1m\n  steps: [{uses: do, with: {n: \"${{ inputs.a }}\"}}]\n  outputs: {b: {type: map, value: {c: \"${{ steps.step1.outputs.dir }}\"}}}\n") +
		ruleDoc("  trigger: {type: push}\n  mode: approve\n  limits: [{runs: 1, per: 1h, by: [event.source]}]\n  concurrency: {group: a, policy: cancel}\n"+
			"  steps: [{id: w, uses: workflow/w, needs: [], forEach: {in: [1], parallel: 2}, if: run.item == 1}, {uses: do, retry: {attempts: 2, on: timeout}}]\n"+
			"  verify: {uses: do, expect: probe.outputs.dir == \"\", for: 1m}\n  onFailure: [{uses: do}]\n  finally: [{uses: do}]\n")))
	f.Add([]byte(workflowDoc("a", "  steps: [{uses: workflow/b}]\n") + workflowDoc("b", "  steps: [{uses: workflow/a, forEach: [[]]}]\n")))
	f.Add([]byte(ruleDoc("  trigger: {}\n  verify: {resolved: true}\n  limits:\n  concurrency:\n  steps: [{uses: do, forEach: , needs: , retry: , with: }]\n  finally: [3]\n")))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("\xef\xbb\xbfkind: Rule\r\n"))
	o := options()
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := rule.Load([]rule.File{{Path: "f.yaml", Data: data}}, o)
		if (set == nil) == (err == nil) {
			t.Fatalf("set %v and error %v", set, err)
		}
		if set != nil {
			set.Match(t.Context(), push(`{"n":1}`), time.Unix(0, 0))
			for _, r := range set.Rules {
				scope := rule.EventScope(push(`{"n":1}`), time.Unix(0, 0))
				_, _ = r.Admission(t.Context(), scope)
				for _, s := range r.Plan.Steps {
					_, _ = r.Items(t.Context(), run.Main, s.ID, scope)
					_, _ = r.Inputs(t.Context(), run.Main, s.ID, scope)
					_, _, _ = r.With(t.Context(), run.Main, s.ID, scope)
				}
			}
		}
	})
}

// Files and rules are read on all processors, and nobody sees that: rules and problems come in the order of the files.
func TestTheOrderIsThatOfTheFiles(t *testing.T) {
	files := []rule.File{{Path: "a-source.yaml", Data: []byte(githubDoc)}}
	var names, places []string
	for f := range 10 {
		var text strings.Builder
		for i := range 30 {
			names = append(names, fmt.Sprintf("rule-%d-%d", f, i))
			fmt.Fprintf(&text, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: rule-%d-%d}\nspec:\n  trigger: {source: github}\n  when: WHEN\n  steps: [{uses: do}]\n", f, i)
			places = append(places, fmt.Sprintf("rules-%d.yaml:%d:15: ", f, 8*i+7))
		}
		files = append(files, rule.File{Path: fmt.Sprintf("rules-%d.yaml", f), Data: []byte(text.String())})
	}
	with := func(when string) []rule.File {
		out := slices.Clone(files)
		for i := range out {
			out[i].Data = bytes.ReplaceAll(out[i].Data, []byte("WHEN"), []byte(when))
		}
		return out
	}
	set, err := rule.Load(with("event.type == 'push'"), options())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range set.Rules {
		if r.Name != names[i] {
			t.Fatalf("rule %d is %s, not %s", i, r.Name, names[i])
		}
		if set.Rule(r.Name) != r {
			t.Errorf("%s is not found by its name", r.Name)
		}
	}
	_, err = rule.Load(with("event.tipe == 'push'"), options())
	var problems document.Problems
	if !errors.As(err, &problems) || len(problems) != len(places) {
		t.Fatalf("%d problems of %d", len(problems), len(places))
	}
	for i, p := range problems {
		if !strings.HasPrefix(p.String(), places[i]) {
			t.Fatalf("problem %d is %s, not at %s", i, p, places[i])
		}
	}
}
