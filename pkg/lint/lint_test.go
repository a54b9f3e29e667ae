package lint_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/lint"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/generic"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
)

type params struct {
	To     string `yaml:"to,omitempty" ref:"target"`
	Text   string `yaml:"text,omitempty"`
	Branch string `yaml:"branch,omitempty"`
	N      int64  `yaml:"n,omitempty"`
}

type outputs struct {
	File string `yaml:"file"`
}

func definition(name string, change func(*action.Definition)) action.Definition {
	d := action.Definition{Name: name, Params: &params{}, Outputs: outputs{}, Changes: true}
	if change != nil {
		change(&d)
	}
	return d
}

func options() lint.Options {
	return lint.Options{
		Sources: source.NewRegistry(github.Type(), gitlab.Type(), alertmanager.Type(), generic.Type()),
		Actions: action.NewRegistry([]action.Definition{
			definition("send", nil),
			definition("look", func(d *action.Definition) { d.Changes = false }),
			definition("run", func(d *action.Definition) { d.Unbounded = true }),
			definition("push", func(d *action.Definition) {
				d.Causes = []action.Cause{{
					Sources: []string{"github", "gitlab"}, Types: []string{"push"},
					Fields: map[string]string{"event.git.branch": "branch"}, Tells: []string{"event.git.pusher"},
				}}
			}),
			definition("restart", func(d *action.Definition) { d.Replaces = []string{"pod", "instance", "fingerprint"} }),
		}),
	}
}

// base are documents without a warning; every rule below stands beside them.
const base = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: gh}
spec: {type: github, secrets: [{secret: gh}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: am}
spec: {type: alertmanager, auth: {bearer: {secret: am}}}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: door}
spec: {type: generic, insecure: true}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: chat}
spec: {type: log}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: base}
spec:
  trigger: {source: [gh, am, door], type: [push, alert.firing, ring]}
  steps: [{uses: send, with: {to: chat, text: base}}]
`

func load(t *testing.T, text string) *rule.Set {
	t.Helper()
	o := options()
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(text)}}, rule.Options{
		Sources: o.Sources, Actions: o.Actions, Now: time.Now,
		Secret: func(source.SecretRef) ([]byte, error) { return nil, errors.New("no secrets here") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func run(t *testing.T, set *rule.Set) []lint.Finding {
	t.Helper()
	found, err := lint.Run(set, options())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func rules(specs ...string) string {
	var b strings.Builder
	for i, spec := range specs {
		fmt.Fprintf(&b, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r%d}\nspec:\n  %s\n", i, strings.ReplaceAll(spec, "\n", "\n  "))
	}
	return b.String()
}

// when is a rule for a type of GitHub's events with a condition.
func when(kind, condition string) string {
	return rules("trigger: {source: gh, type: " + kind + "}\nwhen: " + condition + "\nsteps: [{uses: look}]")
}

// with is a rule for pushes with steps.
func with(steps string) string {
	return rules("trigger: {source: gh, type: push}\nsteps: " + steps)
}

const metadata = "---\napiVersion: riposte.dev/v1\nkind: "

func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		doc  string
		want string // id and a part of what is said; empty: nothing
	}{
		{"", ""},

		// unknown-field
		{when("push", `event.data.head_comit.id == "a"`), `unknown-field: push events of github have no event.data.head_comit; did you mean event.data.head_commit?`},
		{when("push", `event.data.head_commit.id == "a"`), ""},
		{when("push", `event.data.head_commit.message.text == "a"`), "unknown-field: event.data.head_commit.message is a single value, and has no field text"},
		{when("push", `event.data.commits.message == "a"`), "unknown-field: event.data.commits is a list, and has no field message; write any(event.data.commits, .message == …)"},
		{when("push", `any(event.data.commits, .mesage == "a")`), "unknown-field: push events of github have no event.data.commits[…].mesage; did you mean event.data.commits[…].message?"},
		{when("push", `'any(event.data.commits, .message == "a" && any(.added, # startsWith "docs/"))'`), ""},
		{when("push", `event.data.commits[0].author.name == "a"`), ""},
		{when("push", `event.data[event.subject] == "a"`), ""},
		{when("push", `event.data.branch == "a"`), "unknown-field: push events of github have no event.data.branch; did you mean event.git.branch?"},
		{when("pull_request", `event.data.merged`), "unknown-field: pull_request events of github have no event.data.merged; did you mean event.pullRequest.merged?"},
		{when("push", `event.data.full_name == "a"`), "unknown-field: push events of github have no event.data.full_name; did you mean event.data.repository.full_name?"},
		{when("pull_request", `event.data.pull_request.merged`), ""},
		{when("push", `event.data.sender?.lgoin == nil`), "unknown-field"},
		{when("push", `event.alert.name == "a"`), "unknown-field: push events of github have no event.alert; they have event.git, event.data"},
		{when("push", `event.pullRequest?.number == nil`), "unknown-field: push events of github have no event.pullRequest"},
		{when("issue_comment", `event.pullRequest.number == 1`), ""},
		{when("[push, pull_request]", `event.data.number == 1 || event.data.ref == "a"`), ""},
		{when("[push, pull_request]", `event.data.numbr == 1`), "unknown-field: the events that the trigger selects have no event.data.numbr"},
		{when(`"*"`, `event.type == "push" && event.data.number == 1`), "unknown-field: push events of github have no event.data.number"},
		{when("push", `event.headers["X-Github-Event"] == "push" && event.headers["x-github-delivery"] == "a"`), ""},
		{when("push", `event.headers["X-Hub-Signature-256"] == "a"`), "unknown-field: header X-Hub-Signature-256 is not kept by sources of the type github"},
		{when("workflow_dispatch", `event.data.inputs.anything.at.all == "a"`), ""},
		{when("dependabot_alert", `event.data.alert.number == 1`), ""},
		{rules("trigger: {source: am}\nwhen: event.data.alerts[0].labels.anything == \"a\" && event.alert.labels.other == \"b\"\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: am}\nwhen: event.data.alerts[0].label.a == \"a\"\nsteps: [{uses: look}]"), "unknown-field: the events that the trigger selects have no event.data.alerts[…].label; did you mean event.data.alerts[…].labels?"},
		{rules("trigger: {source: am}\nwhen: event.headers.X == \"a\"\nsteps: [{uses: look}]"), "unknown-field: header X is not kept"},
		{rules("trigger: {source: door}\nwhen: event.data.anything == 1 && event.headers.X == \"a\"\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: door}\nwhen: event.git.branch == \"a\"\nsteps: [{uses: look}]"), "unknown-field: the events that the trigger selects have no event.git; they have event.data"},
		{rules("trigger: {source: [gh, door], type: push}\nwhen: event.data.anything == 1\nsteps: [{uses: look}]"), ""},
		{with(`[{uses: look, with: {text: "a ${{ event.data.reff }}"}}]`), "unknown-field: push events of github have no event.data.reff; did you mean event.data.ref?"},
		{with(`[{uses: look, if: event.data.forcd, with: {text: a}}]`), "unknown-field: push events of github have no event.data.forcd"},
		{with(`[{uses: look, with: {text: "$${{ event.data.reff }} ${{ event.data.ref }}"}}]`), ""},

		{rules("correlate:\n  within: 15m\n  sequence:\n    - {as: a, trigger: {source: gh, type: push}, when: event.data.forced, by: event.data.repository.name}\n    - {as: b, trigger: {source: am}, by: event.alert.labels.x}\nsteps: [{uses: look, with: {text: \"${{ correlated.a.data.ref }} ${{ correlated.b.alert.name }} ${{ event.data.receiver }}\"}}]"), ""},
		{rules("correlate:\n  within: 15m\n  sequence:\n    - {as: a, trigger: {source: gh, type: push}}\n    - {as: b, trigger: {source: am}}\nsteps: [{uses: look, with: {text: \"${{ correlated.b.data.ref }}\"}}]"), "unknown-field: the events that the trigger selects have no correlated.b.data.ref"},
		{rules("correlate:\n  within: 15m\n  sequence:\n    - {as: a, trigger: {source: gh, type: push}, by: event.data.nam}\n    - {as: b, trigger: {source: am}}\nsteps: [{uses: look}]"), "unknown-field: push events of github have no event.data.nam"},
		{rules("trigger: {source: gh, type: push}\ncorrelate: {count: 3, within: 1h, by: event.data.reff}\nsteps: [{uses: look}]"), "unknown-field: push events of github have no event.data.reff"},

		// correlated-changed
		{rules(`trigger: {source: gh, type: push}
when: event.git.branch == "main" && changed("a/**")
correlate: {count: 2, within: 1h}
steps: [{uses: look}]`), "correlated-changed: with correlate, changed() knows only the paths that the event lists"},
		{rules(`correlate: {within: 1h, sequence: [{as: a, trigger: {source: gh, type: push}}, {as: b, trigger: {source: gh, type: push}, by: 'changed("a")'}], by: event.git.repo}
steps: [{uses: look}]`), "correlated-changed"},
		{rules(`trigger: {source: gh, type: push}
correlate: {count: 2, within: 1h, by: event.git.repo}
steps: [{uses: look, if: 'changed("a")'}]`), "correlated-changed"},
		{rules(`trigger: {source: gh, type: push}
correlate: {count: 2, within: 1h, by: event.git.repo}
steps: [{uses: look}]`), ""},
		// unknown-event-type
		{when("pushh", "true"), `unknown-event-type: github sends no events of the type "pushh"; did you mean push?`},
		{when("pull_request.opened", "true"), `unknown-event-type: github sends no events of the type "pull_request.opened"; write pull_request, and event.data.action == "opened" in when`},
		{when(`["pull*", "x*"]`, "true"), `unknown-event-type: github sends no events of the type "x*"`},
		{when("unknown", "true"), ""},
		{rules("trigger: {source: door, type: anything}\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {type: anything}\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: am, type: firing}\nsteps: [{uses: look}]"), `unknown-event-type: alertmanager sends no events of the type "firing"`},

		// never-matches
		{when("push", `event.git.branch == "a" && event.git.branch == "b"`), `never-matches: this never matches: event.git.branch == "a" and event.git.branch == "b" exclude each other`},
		{when("push", `event.git.branch == "a" || event.git.branch == "b"`), ""},
		{when("push", `event.git.branch == "a" && event.git.branch != "b"`), ""},
		{when("push", `event.git.branch == "a" && event.git.branch != "a"`), "never-matches"},
		{when("push", `event.git.branch == "a" && not (event.git.branch == "a" || event.git.forced)`), "never-matches"},
		{when("push", `event.git.branch in ["a", "b"] && event.git.branch in ["c"]`), "never-matches"},
		{when("push", `event.git.branch in ["a", "b"] && event.git.branch in ["b"]`), ""},
		{when("push", `event.git.branch in ["a", "b"] && event.git.branch != "a" && event.git.branch != "b"`), "never-matches"},
		{when("push", `event.git.branch in []`), "never-matches: this never matches: event.git.branch in [] is never true"},
		{when("push", `event.git.branch not in []`), ""},
		{when("push", `(event.git.branch == "a" || event.git.branch == "b") && event.git.branch startsWith "c"`), "never-matches"},
		{when("push", `event.git.branch startsWith "a/" && event.git.branch startsWith "b/"`), "never-matches"},
		{when("push", `event.git.branch startsWith "a/" && event.git.branch startsWith "a/b"`), ""},
		{when("push", `upper(event.git.branch) == "a"`), ""},
		{when("push", `event.git.branch == "a" && upper(event.git.branch) == "a"`), "never-matches"},
		{when("push", `event.data.size > 5 && event.data.size < 3`), "never-matches: this never matches: event.data.size > 5 and event.data.size < 3 exclude each other"},
		{when("push", `event.data.size > 5 && event.data.size <= 6 && 3 < event.data.size`), ""},
		{when("push", `event.data.size == 5 && event.data.size > 5`), "never-matches"},
		{when("push", `event.git.branch == nil && event.git.branch == "a"`), "never-matches"},
		{when("push", `event.git.branch == "a" && event.git.tag == "b"`), "never-matches"},
		{when("push", `event.git.branch == "a" || event.git.tag == "b"`), ""},
		{when("push", `event.git.branch == "a" && event.git?.tag == nil`), ""},
		{when("push", `"false"`), "never-matches: this never matches: false is never true"},
		{when("push", `"true"`), ""},
		{when("push", `1 > 2`), "never-matches"},
		{when("push", `event.type == "pull_request"`), `never-matches: this never matches: the trigger and event.type == "pull_request" exclude each other`},
		{when("[push, pull_request]", `event.type == "pull_request"`), ""},
		{when("push", `event.source == "am"`), "never-matches"},
		{when("push", `let x = event.git.branch; x == "a" && changed("a") && now().Hour() > 3`), ""},
		{rules("trigger: {source: am, type: alert.firing}\nwhen: event.alert.status == \"resolved\"\nsteps: [{uses: look}]"), "never-matches: this never matches: the event's type alert.firing and event.alert.status == \"resolved\" exclude each other"},
		{rules("trigger: {source: am}\nwhen: event.alert.status == \"resolved\"\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: door}\nwhen: event.type == \"bell\"\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"a\"\nsteps: [{uses: look, if: event.git.branch == \"b\"}]"), "never-matches: this step never runs: event.git.branch == \"a\" and event.git.branch == \"b\" exclude each other"},
		{with(`[{uses: look, if: "1 == 2"}]`), "never-matches: this step never runs: 1 == 2 is never true"},
		{with(`[{id: a, uses: look}, {uses: look, if: steps.a.state == "failed"}]`), ""},

		// no-source
		{rules("trigger: {source: \"gitlab-*\"}\nsteps: [{uses: look}]"), `no-source: no Source is named like "gitlab-*"`},
		{rules("trigger: {source: \"g*\"}\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: riposte, type: \"storm.*\"}\nsteps: [{uses: look}]"), ""},
		{rules("trigger: {source: [gh, riposte], type: emitted.deployed}\nsteps: [{uses: look}]"), ""},

		// no-timeout
		{with("[{uses: run}]"), "no-timeout: run has no timeout; write timeout: 10m"},
		{with("[{uses: run, timeout: 5m}, {uses: look}]"), ""},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: look}]\nonFailure: [{uses: run}]"), "no-timeout"},

		// loop
		{with("[{uses: push}]"), "loop: push makes a push event of gh, which starts this rule again; exclude what it does itself by event.git.pusher"},
		{with("[{uses: look}]"), ""},
		{rules("trigger: {source: gh, type: pull_request}\nsteps: [{uses: push}]"), ""},
		{rules("trigger: {source: gh}\nwhen: event.type != \"push\"\nsteps: [{uses: push}]"), ""},
		{rules("trigger: {type: push}\nwhen: event.git.pusher != \"riposte\"\nsteps: [{uses: push}]"), ""},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"main\"\nsteps: [{uses: push, with: {branch: pages}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"main\"\nsteps: [{uses: push, with: {branch: main}}]"), "loop"},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"main\"\nsteps: [{uses: push, with: {branch: \"${{ event.git.branch }}\"}}]"), "loop"},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: look}]\nonFailure: [{uses: push}]"), "loop"},
		{rules("mode: observe\ntrigger: {source: gh, type: push}\nsteps: [{uses: push}]"), ""},

		// duplicate-action
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: send, with: {to: chat, text: a}}]", "trigger: {source: \"*\", type: \"pu*\"}\nsteps: [{uses: send, with: {text: a, to: chat}}]"),
			"duplicate-action: rule r0 does the same, send with the same parameters, for the same events (rules.yaml:"},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: send, with: {text: a}}]", "trigger: {source: gh, type: push}\nsteps: [{uses: send, with: {text: b}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: look, with: {text: a}}]", "trigger: {source: gh, type: push}\nsteps: [{uses: look, with: {text: a}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: send, with: {text: a}}]", "trigger: {source: gh, type: create}\nsteps: [{uses: send, with: {text: a}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"a\"\nsteps: [{uses: send, with: {text: a}}]", "trigger: {source: gh, type: push}\nwhen: event.git.branch == \"b\"\nsteps: [{uses: send, with: {text: a}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"a\"\nsteps: [{uses: send, with: {text: a}}]", "trigger: {source: gh, type: push}\nwhen: event.git.branch startsWith \"a\"\nsteps: [{uses: send, with: {text: a}}]"), "duplicate-action"},
		{rules("trigger: {source: gh, type: push}\nsteps: [{uses: send, with: {text: a}}]", "mode: observe\ntrigger: {source: gh, type: push}\nsteps: [{uses: send, with: {text: a}}]"), ""},
		{with("[{uses: send, with: {text: a}}, {uses: send, with: {text: a}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nsteps: [{id: p, uses: look, with: {text: a}}, {uses: send, with: {text: \"${{ steps.p.outputs.file }}\"}}]",
			"trigger: {source: gh, type: push}\nsteps: [{id: p, uses: look, with: {text: b}}, {uses: send, with: {text: \"${{ steps.p.outputs.file }}\"}}]"), ""},
		{rules("trigger: {source: gh, type: push}\nsteps: [{id: p, uses: look, with: {text: a}}, {uses: send, with: {text: \"${{ steps.p.outputs.file }}\"}}]",
			"trigger: {source: gh, type: push}\nsteps: [{id: p, uses: look, with: {text: a}}, {uses: send, with: {text: \"${{ steps.p.outputs.file }}\"}}]"), "duplicate-action"},

		// secrets
		{metadata + "Source\nmetadata: {name: gh2}\nspec: {type: github, secrets: [{secret: s}, {secret: t}, {secret: s}]}\n" + rules("trigger: {source: gh2}\nsteps: [{uses: look}]"), "duplicate-secret: secret s stands in this list already"},
		{metadata + "Source\nmetadata: {name: gh2}\nspec: {type: github, secrets: [{secret: s}, {secret: t}]}\n" + rules("trigger: {source: gh2}\nsteps: [{uses: look}]"), ""},
		{metadata + "Source\nmetadata: {name: gl}\nspec: {type: gitlab, secrets: [{secret: gh}]}\n" + rules("trigger: {source: gl}\nsteps: [{uses: look}]"), "shared-secret: secret gh is that of Source gh too"},

		// unused
		{metadata + "Source\nmetadata: {name: gl}\nspec: {type: gitlab, secrets: [{secret: gl}]}\n", "unused-source: no rule selects events of Source gl"},
		{metadata + "Source\nmetadata: {name: gl}\nspec: {type: gitlab, secrets: [{secret: gl}]}\n" + rules("trigger: {type: push}\nsteps: [{uses: look}]"), ""},
		{metadata + "Target\nmetadata: {name: spare}\nspec: {type: log}\n", "unused-target: nothing is sent to Target spare"},
		{metadata + "Target\nmetadata: {name: spare}\nspec: {type: log}\n" + with("[{uses: send, with: {to: \"${{ event.subject }}\"}}]"), ""},
		{metadata + "Target\nmetadata: {name: spare}\nspec: {type: log}\n" + metadata + "Target\nmetadata: {name: front}\nspec: {type: log, fallback: spare}\n" + with("[{uses: send, with: {to: front}}]"), ""},

		// silenced
		{strings.Replace(with("[{uses: run}]"), "{name: r0}", "{name: r0, annotations: {riposte.dev/ignore: \"loop, no-timeout\"}}", 1), ""},
		{strings.Replace(with("[{uses: run}]"), "{name: r0}", "{name: r0, annotations: {riposte.dev/ignore: loop}}", 1), "no-timeout"},
		{strings.Replace(with("[{uses: look}]"), "{name: r0}", "{name: r0, annotations: {riposte.dev/ignore: no-timeot}}", 1), `unknown-ignore: there is no warning "no-timeot"; did you mean no-timeout?`},
	} {
		found := run(t, load(t, base+tc.doc))
		switch {
		case tc.want == "":
			for _, f := range found {
				t.Errorf("%s\n%s", tc.doc, f)
			}
		case len(found) != 1 || !strings.Contains(said(found[0]), tc.want):
			t.Errorf("%s\nwant %s, got", tc.doc, tc.want)
			for _, f := range found {
				t.Error(said(f))
			}
		case found[0].Line == 0 || found[0].Column == 0 || found[0].File != "rules.yaml":
			t.Errorf("%s\nhas no place: %+v", tc.doc, found[0])
		}
	}
}

func said(f lint.Finding) string { return f.ID + ": " + f.Msg + "; " + f.Hint }

// TestPlaces holds lines, columns and carets against what people see.
func TestPlaces(t *testing.T) {
	text := base + `---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: places}
spec:
  trigger: {source: gh, type: push}
  when: |
    event.git.branch == "main"
    && event.data.reff == "a"
  steps:
    - uses: look
      with: {text: "é ${{ event.data.sendr.login }}"}
`
	lines := strings.Split(text, "\n")
	found := run(t, load(t, text))
	if len(found) != 2 {
		t.Fatalf("%v", found)
	}
	for i, word := range []string{"reff", "sendr"} {
		f := found[i]
		at := string([]rune(lines[f.Line-1])[f.Column-1:])
		if !strings.HasPrefix(at, word) || !strings.HasSuffix(f.Snippet, strings.Repeat("^", len(word))) {
			t.Errorf("line %d, column %d is %q; shown as\n%s", f.Line, f.Column, at, f.Snippet)
		}
	}
	want := `rules.yaml:35:19: warning: push events of github have no event.data.reff [unknown-field]
    && event.data.reff == "a"
                  ^^^^
    hint: did you mean event.data.ref?`
	if got := found[0].String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWithoutSources(t *testing.T) {
	found := run(t, load(t, strings.TrimPrefix(rules("trigger: {type: push}\nsteps: [{uses: look}]"), "---\n")))
	if len(found) != 1 || found[0].ID != "no-source" || !strings.Contains(found[0].Msg, "there is no Source") {
		t.Errorf("%v", found)
	}
}

func TestVerifyAndBounds(t *testing.T) {
	restart := "trigger: {source: am, type: alert.firing}\nsteps: [{uses: restart}]\n"
	for _, tc := range []struct{ spec, want string }{
		{restart + "verify: {resolved: true, within: 5m}", "short-resolved: resolved is awaited for 5m only"},
		{restart + "verify: {resolved: true, within: 10m}", ""},
		{restart + "verify: {resolved: true}", ""},
		{restart + "verify: {resolved: true, for: 10m}", "short-resolved: resolved is awaited for 5m0s only, since it must hold for 10m0s within 15m0s"},
		{restart + "verify: {resolved: true, for: 10m, within: 20m}", ""},
		{restart + "verify: {uses: look, with: {text: x}, expect: probe.outputs.file == event.data.x.y}", "unknown-field"},
		{"trigger: {source: gh, type: push}\nsteps: [{uses: look}]\nlimits: [{runs: 2, per: 1h, by: event.data.sendr.login}]", "unknown-field: push events of github have no event.data.sendr"},
		{"trigger: {source: gh, type: push}\nsteps: [{uses: look}]\nconcurrency: {group: \"${{ event.data.sendr.login }}\"}", "unknown-field"},
		{"trigger: {source: gh, type: push}\nsteps: [{uses: look, forEach: event.data.comits}]", "unknown-field: push events of github have no event.data.comits"},
		{"trigger: {source: gh, type: push}\nsteps: [{uses: look, forEach: {in: [\"${{ event.data.comits }}\"]}}]", "unknown-field"},
		{"trigger: {source: gh, type: push}\nsteps: [{uses: look, forEach: {in: event.data.commits}}]\nfinally: [{uses: look, if: event.data.sendr == nil}]", "unknown-field"},
		{restart + "verify: {uses: look, with: {text: \"${{ event.alert.labels.pod }}\"}, expect: probe.outputs.file == 'x', within: 5m}", "replaced-field: event.alert.labels.pod is another one after restart"},
		{restart + "verify: {uses: look, with: {text: \"${{ event.alert.labels.namespace }}\"}, expect: probe.outputs.file == 'x', within: 5m}", ""},
		{restart + "limits: [{runs: 2, per: 1h, by: [event.alert.labels.namespace, event.alert.fingerprint]}]", "replaced-field: event.alert.fingerprint is another one after restart"},
		{restart + "limits: [{runs: 2, per: 1h, by: event.alert.labels.instance}]", "replaced-field"},
		{restart + "concurrency: {group: \"${{ event.alert.labels.pod }}\", policy: queue}", "replaced-field"},
		{restart + "correlate: {count: 3, within: 1h, by: event.alert.labels.pod}", "replaced-field"},
		{"trigger: {source: am, type: alert.firing}\nsteps: [{uses: look}]\nlimits: [{runs: 2, per: 1h, by: event.alert.labels.pod}]", ""},
		{"correlate:\n  within: 15m\n  sequence:\n    - {as: a, trigger: {source: gh, type: pushh}, by: event.git.repo}\n    - {as: b, trigger: {source: am}, when: event.alert.status == \"x\" && event.alert.status == \"y\"}\nsteps: [{uses: look}]",
			"never-matches unknown-event-type"},
	} {
		found := run(t, load(t, base+rules(tc.spec)))
		var ids []string
		for _, f := range found {
			ids = append(ids, f.ID)
		}
		slices.Sort(ids)
		if tc.want == "" && len(found) > 0 || tc.want != "" && strings.Join(ids, " ") != tc.want && (len(found) != 1 || !strings.Contains(said(found[0]), tc.want)) {
			t.Errorf("%s\ngot %v, want %s", tc.spec, found, tc.want)
		}
	}
}

// workflow is a workflow that has an input, and a rule that uses it.
func workflow(steps, rest, use string) string {
	text := metadata + "Workflow\nmetadata: {name: w}\nspec:\n  inputs: {branch: {type: string, default: main}}\n  steps: " + steps + "\n" + rest
	if use != "" {
		text += rules(use + "\nsteps: [{uses: workflow/w}]")
	}
	return text
}

func TestWorkflows(t *testing.T) {
	const (
		push = "trigger: {source: gh, type: push}"
		read = `{uses: look, with: {text: "${{ inputs.branch }}"}}`
	)
	main := push + "\nwhen: event.git.branch == \"main\""
	for _, tc := range []struct{ doc, want string }{
		{workflow("["+read+"]", "", push), ""},
		{workflow("["+read+"]", "", ""), "unused-workflow: no rule uses Workflow w"},
		{workflow("["+read+"]", "", "") + metadata + "Workflow\nmetadata: {name: v}\nspec: {steps: [{uses: workflow/w}]}\n" + rules(push+"\nsteps: [{uses: workflow/v}]"), ""},
		{workflow("[{uses: look}]", "", push), "unused-input: workflow w does not read its input branch"},
		{workflow("[{uses: look}]", "  outputs: {b: {type: string, value: \"${{ inputs.branch }}\"}}\n", push), ""},
		{workflow("["+read+", {uses: run}]", "", push), "no-timeout: run has no timeout"},
		{workflow("["+read+", {uses: run}]", "  timeout: 10m\n", push), ""},
		{workflow(`[{uses: push, with: {branch: "${{ inputs.branch }}"}}]`, "", main), "loop: push in workflow/w makes a push event of gh"},
		{workflow(`[{uses: push, with: {branch: "${{ inputs.branch }}"}}]`, "", "") + rules(main+"\nsteps: [{uses: workflow/w, with: {branch: pages}}]"), ""},
		{workflow("["+read+", {uses: restart}]", "", "trigger: {source: am, type: alert.firing}\nlimits: [{runs: 2, per: 1h, by: event.alert.labels.pod}]"),
			"replaced-field: event.alert.labels.pod is another one after restart in workflow/w"},
		{metadata + "Target\nmetadata: {name: spare}\nspec: {type: log}\n" + workflow("["+read+", {uses: send, with: {to: spare}}]", "", push), ""},
		{metadata + "Target\nmetadata: {name: spare}\nspec: {type: log}\n" + workflow(`[{uses: send, with: {to: "${{ inputs.branch }}"}}]`, "", "") +
			rules(push+"\nsteps: [{uses: workflow/w, with: {branch: spare}}]"), ""},
		{workflow("["+read+", {uses: send}]", "", "") + rules(push+"\nsteps: [{uses: workflow/w}]", push+"\nsteps: [{uses: workflow/w}]"), "duplicate-action: rule r0 does the same, workflow/w with the same parameters"},
		{workflow("["+read+", {uses: send}]", "", "") + rules(push+"\nsteps: [{uses: workflow/w}]\nconcurrency: {group: g}", push+"\nsteps: [{uses: workflow/w}]\nconcurrency: {group: g}"), ""},
	} {
		found := run(t, load(t, base+tc.doc))
		if tc.want == "" && len(found) > 0 || tc.want != "" && (len(found) != 1 || !strings.Contains(said(found[0]), tc.want)) {
			t.Errorf("%s\ngot %v, want %s", tc.doc, found, tc.want)
		}
	}
}

func TestChecksAreNamedAndExplained(t *testing.T) {
	var ids []string
	for _, c := range lint.Checks() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(c.ID) || c.Doc == "" || !strings.HasSuffix(c.Why, ".") {
			t.Errorf("%+v", c)
		}
		ids = append(ids, c.ID)
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("not in order: %v", ids)
	}
}

func TestBrokenFieldsOfAPresetAreAnError(t *testing.T) {
	o := options()
	broken := o.Sources["github"]
	broken.Fields = "push ref"
	o.Sources["github"] = broken
	if _, err := lint.Run(load(t, base), o); err == nil || !strings.Contains(err.Error(), "github") {
		t.Errorf("got %v", err)
	}
}
