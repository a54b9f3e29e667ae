package explain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/github"
)

func noop(context.Context, *action.Call) (action.Outputs, error) { return nil, nil }

// load reads a rules repository whose only action is do.
func load(t testing.TB, files ...rule.File) *rule.Set {
	t.Helper()
	sources := `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: alertmanager}
spec: {type: alertmanager, auth: {bearer: {secret: s}}}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
`
	set, err := rule.Load(append(files, rule.File{Path: "sources.yaml", Data: []byte(sources)}), rule.Options{
		Sources: source.NewRegistry(alertmanager.Type(), github.Type()),
		Actions: action.NewRegistry([]action.Definition{{Name: "do", Params: &struct{}{}, Outputs: struct{}{}, Run: noop}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func file(path, text string) rule.File { return rule.File{Path: path, Data: []byte(text)} }

// ruleOf is a rule with a spec, which is YAML in one line.
func ruleOf(name, spec string) string {
	return fmt.Sprintf("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: %s}\nspec: {%s, steps: [{uses: do}]}\n---\n", name, spec)
}

func clock(hour, minute, second int) time.Time {
	return time.Date(2026, 11, 23, hour, minute, second, 0, time.UTC)
}

// alert is an event as its preset reads it.
func alert(labels map[string]string) *event.Event {
	return &event.Event{
		ID: "01KAR7Q3", Source: "alertmanager", Type: "alert.firing", Subject: "HighErrorRate", Time: clock(10, 12, 3),
		ReceivedAt: clock(10, 12, 3).Add(4 * time.Millisecond), Body: []byte(`{"n": 9007199254740993, "text": "Grüße", "list": [1, 2.5, true, null]}`),
		Alert: &event.Alert{Name: "HighErrorRate", Status: "firing", Labels: labels},
	}
}

func labels() map[string]string {
	return map[string]string{"alertname": "HighErrorRate", "app": "shop", "namespace": "shop", "severity": "page"}
}

const shopRules = `# What is done for the shop.
# platform looks after it.

apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: rollback-on-errors}
spec:
  correlate:
    within: 15m
    sequence:
      - as: deploy
        trigger: {source: github, type: deployment_status}
        by: event.data.deployment.task
      - as: alert
        trigger: {source: alertmanager, type: alert.firing}
        when: event.alert.name == "HighErrorRate"
        by: event.alert.labels.service
  limits: [{runs: 1, per: 1h, by: correlated.key}]
  steps: [{uses: do}]
`

const crashRules = `# A pod that crashes again and again.
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: restart-crashlooping}
spec:
  trigger: {source: alertmanager}
  when: event.alert.name == "KubePodCrashLooping"
  steps: [{uses: do}]
`

// waiting is a group of rollback-on-errors that waits for its alert.
func waiting(key string, since time.Time) correlate.Waiting {
	return correlate.Waiting{
		Key: key, Since: since, Until: since.Add(15 * time.Minute), Missing: []string{"alert"}, Need: 1,
		Events: []correlate.Ref{{Part: "deploy", ID: "DEPLOY-" + key, At: since}},
	}
}

// incident is the input of the golden text.
func incident(t testing.TB) explain.Input {
	var others strings.Builder
	for i := range 38 {
		others.WriteString(ruleOf(fmt.Sprintf("other-%02d", i), "trigger: {type: push}"))
	}
	set := load(t, file("platform/shop.yaml", shopRules), file("platform/crash.yaml", crashRules), file("z.yaml", others.String()),
		file("platform/page.yaml", ruleOf("page-on-errors", `trigger: {source: "alert*"}`)))
	return explain.Input{
		Event: alert(labels()), State: explain.Decided, Set: set, Now: clock(10, 13, 0),
		Runs: []run.Run{{
			ID: "01KAR7Q3-page-on-errors", Rule: "page-on-errors", State: run.Succeeded,
			StartedAt: clock(10, 12, 3), EndedAt: clock(10, 12, 4).Add(200 * time.Millisecond),
		}},
		Windows: func(queries []explain.Query) []explain.Answer {
			out := make([]explain.Answer, len(queries))
			for i, q := range queries {
				if q.Rule.Name != "rollback-on-errors" || q.Keys != nil {
					t.Errorf("asked for %v of %s", q.Keys, q.Rule.Name)
				}
				out[i] = explain.Answer{Groups: []correlate.Waiting{waiting("cart", clock(10, 2, 0)), waiting("shop", clock(10, 3, 11))}, Total: 2}
			}
			return out
		},
	}
}

func render(t testing.TB, x *explain.Explanation, all bool) string {
	t.Helper()
	var b strings.Builder
	if err := explain.Render(&b, x, explain.View{Now: clock(10, 13, 0), Zone: time.UTC, All: all}); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
		t.Errorf("byte %d is not printable ASCII:\n%s", i, b.String())
	}
	return b.String()
}

// TestTheTextIsAsDesigned holds the text against testdata; UPDATE_GOLDEN=1 writes it there.
func TestTheTextIsAsDesigned(t *testing.T) {
	x := explain.Build(t.Context(), incident(t))
	x.Revision = "3f2c1d9aa0"
	golden(t, "incident.txt", render(t, x, false))

	in := incident(t)
	in.All = true
	x = explain.Build(t.Context(), in)
	x.Revision = "3f2c1d9aa0"
	keep := []string{"rollback-on-errors", "restart-crashlooping", "page-on-errors", "other-00"}
	x.Rules = slices.DeleteFunc(x.Rules, func(v explain.Verdict) bool { return !slices.Contains(keep, v.Rule) })
	golden(t, "all.txt", render(t, x, true))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile("testdata/"+name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/" + name)
	if err != nil || got != string(want) {
		t.Errorf("%s (%v): got\n%s\nwant\n%s", name, err, got, want)
	}
}

// outline writes a verdict in a few lines.
func outline(v *explain.Verdict) string {
	text := string(v.Result) + ": " + v.Why
	for _, p := range v.Parts {
		text += "\n" + strings.TrimSpace(p.Part+" trigger "+fmt.Sprint(p.Trigger.Selects)+" "+p.Trigger.Why)
		for _, c := range p.When {
			text += fmt.Sprintf("\n  %s %s", c.Text, c.Verdict)
			for _, s := range c.Seen {
				text += fmt.Sprintf(" %s=%s", s.Path, s.Value)
			}
			text += absence(c.Absent, c.Hint, c.Error)
		}
		for _, by := range p.By {
			text += fmt.Sprintf("\n  by %s %s", by.Text, by.Value) + absence(by.Absent, by.Hint, by.Error)
		}
		if p.State != nil {
			text += fmt.Sprintf("\n  state %s %s", p.State.Text, p.State.Value) + absence(p.State.Absent, p.State.Hint, p.State.Error)
		}
		if p.Key != "" {
			text += "\n  key " + p.Key
		}
	}
	return text
}

func absence(path string, hint []string, failed string) string {
	text := ""
	if path != "" {
		text += " absent " + path
	}
	for _, h := range hint {
		text += " (" + h + ")"
	}
	if failed != "" {
		text += " failed " + failed
	}
	return text
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct{ name, spec, want string }{
		{"true", `trigger: {type: alert.firing}, when: 'event.alert.name == "HighErrorRate"'`, `match: would run
trigger true
  event.alert.name == "HighErrorRate" true event.alert.name="HighErrorRate"`},
		{"observed", `mode: observe, trigger: {type: alert.firing}`, "match: would be observed: its mode is observe\ntrigger true"},
		{"false", `trigger: {type: alert.*}, when: 'event.alert.status == "firing" && event.alert.name == "Down"'`, `no match: when: clause 2 is false
trigger true
  event.alert.status == "firing" true event.alert.status="firing"
  event.alert.name == "Down" false event.alert.name="HighErrorRate"`},
		{"none of several", `trigger: {source: alertmanager}, when: 'event.type == "a" || event.type == "b" || event.type == "c"'`, `no match: when: clauses 1, 2 and 3 are false
trigger true
  event.type == "a" false event.type="alert.firing"
  event.type == "b" false event.type="alert.firing"
  event.type == "c" false event.type="alert.firing"`},
		{"not all", `trigger: {source: alertmanager}, when: 'not (event.type != "a" && event.type != "b")'`, `no match: when: it is false
trigger true
  event.type != "a" true event.type="alert.firing"
  event.type != "b" true event.type="alert.firing"`},
		{"absent", `trigger: {source: alertmanager}, when: 'event.alert.labels.servce == "shop"'`, `no match: when: event.alert.labels.servce is absent
trigger true
  event.alert.labels.servce == "shop" absent absent event.alert.labels.servce (labels present: alertname, app, namespace, service) (did you mean event.alert.labels.service?)`},
		{"failed", `trigger: {source: alertmanager}, when: '1 / (event.data.n - event.data.n) == 1'`, `no match: when: division by zero (1:3)
trigger true
  1 / (event.data.n - event.data.n) == 1 absent event.data.n=9007199254740993 failed division by zero (1:3)`},
		{"values", `trigger: {source: alertmanager}, when: 'event.data.text == "a" || event.data.list == nil || event.alert.labels == nil || event.alert.status == "x"'`, `no match: when: clauses 1, 2, 3 and 4 are false
trigger true
  event.data.text == "a" false event.data.text="Grüße"
  event.data.list == nil false event.data.list=[1,2.5,true,null]
  event.alert.labels == nil false event.alert.labels={"alertname":"HighErrorRate","app":"shop","namespace":"shop","service":"shop"}
  event.alert.status == "x" false event.alert.status="firing"`},
		{"another type", `trigger: {source: [alertmanager, github], type: [push, "pull_*"]}`, `no match: trigger: type is "alert.firing", not push or pull_*
trigger false type is "alert.firing", not push or pull_*`},
		{"another source", `trigger: {source: "git*", type: push}`, `no match: trigger: source is "alertmanager", not git*; type is "alert.firing", not push
trigger false source is "alertmanager", not git*; type is "alert.firing", not push`},
		{"counted", `trigger: {source: alertmanager}, correlate: {count: 3, within: 10m, by: [event.alert.labels.app, event.data.n]}`, `match: would take part, by "[\"shop\",9007199254740993]"
trigger true
  by event.alert.labels.app "shop"
  by event.data.n 9007199254740993
  key ["shop",9007199254740993]`},
		{"counted without a key", `trigger: {source: alertmanager}, correlate: {count: 3, within: 10m, by: event.data.m}`, `no match: correlate.by: event.data.m is absent
trigger true
  by event.data.m  absent event.data.m (data present: list, n, text) (did you mean event.data.n?)`},
		{"flapping", `trigger: {source: alertmanager}, correlate: {flapping: 3, within: 10m, state: event.data.up}`, `no match: correlate.state: event.data.up is absent
trigger true
  state event.data.up  absent event.data.up (data present: list, n, text)`},
		{"parts", `correlate: {within: 1h, all: [{as: a, trigger: {type: push}}, {as: b, trigger: {type: alert.firing}, when: 'event.alert.name == "Down"'}, {as: c, trigger: {source: alertmanager}, by: event.subject}]}`,
			`match: would take part as c, by "HighErrorRate"
a trigger false type is "alert.firing", not push
b trigger true
  event.alert.name == "Down" false event.alert.name="HighErrorRate"
c trigger true
  by event.subject "HighErrorRate"
  key HighErrorRate`},
		{"no part", `correlate: {within: 1h, all: [{as: a, trigger: {type: push}}, {as: b, trigger: {source: github}}]}`, `no match: trigger: that of no part selects the event
a trigger false type is "alert.firing", not push
b trigger false source is "alertmanager", not github`},
		{"one part, which fails", `correlate: {within: 1h, all: [{as: a, trigger: {type: push}}, {as: b, trigger: {source: alertmanager}, when: event.data.gone}]}`, `no match: correlate.b.when: event.data.gone is absent
a trigger false type is "alert.firing", not push
b trigger true
  event.data.gone absent absent event.data.gone (data present: list, n, text)`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			with := map[string]string{"alertname": "HighErrorRate", "app": "shop", "namespace": "shop", "service": "shop"}
			x := explain.Build(t.Context(), explain.Input{Event: alert(with), State: explain.Offline, Set: load(t, file("r.yaml", ruleOf("r", tc.spec))), All: true})
			if got := outline(&x.Rules[0]); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			render(t, x, true)
		})
	}
}

func TestWhatIsNotACandidateIsCountedOnly(t *testing.T) {
	x := explain.Build(t.Context(), incident(t))
	if len(x.Rules) != 3 || x.Loaded != 41 || x.NotCandidates != 38 {
		t.Errorf("%d of %d rules, %d not candidates", len(x.Rules), x.Loaded, x.NotCandidates)
	}
}

func TestNothingIsEvaluatedWhereThatIsNotAllowed(t *testing.T) {
	for _, state := range []explain.State{explain.Undecided, explain.Quarantined} {
		x := explain.Build(t.Context(), explain.Input{Event: alert(nil), State: state, Note: "not decided yet"})
		want := "01KAR7Q3  alertmanager  alert.firing  2026-11-23T10:12:03Z  HighErrorRate  (accepted 10:12:03.004Z)\nnot decided yet\n"
		if got := render(t, x, false); got != want || len(x.Rules) > 0 {
			t.Errorf("%s: got\n%s", state, got)
		}
	}
}

// A run of a rule that the set does not have is named all the same: other rules decided.
func TestRunsOfOtherRulesAreNamed(t *testing.T) {
	x := explain.Build(t.Context(), explain.Input{
		Event: alert(labels()), State: explain.Forgotten, Set: load(t), Now: clock(10, 13, 0),
		Runs: []run.Run{{ID: "R1", Rule: "gone", State: run.Running, StartedAt: clock(10, 12, 3)}, {ID: "R2", Rule: "gone", State: run.Refused, Reason: "AbsentField"}},
	})
	want := "\nRULE  RESULT   WHY\ngone  run      R1  running for 57s\ngone  run      R2  refused: AbsentField\n"
	if got := render(t, x, false); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s", got)
	}
}

func TestLongValuesAreShortenedAndSecretsRemoved(t *testing.T) {
	e := alert(labels())
	text := strings.Repeat("x", 1000)
	many := map[string]any{}
	for i := range 100 {
		many[fmt.Sprint(i)] = i
	}
	body, _ := json.Marshal(map[string]any{"text": text, "list": []string{text, text}, "many": many, "secret": "with hunter2 in it", "quoted": "a\x1b[2J\nb\U0001F600"})
	e.Body = body
	spec := `trigger: {source: alertmanager}, when: 'event.data.text == "" || event.data.list == nil || event.data.many == nil || event.data.secret == "" || event.data.quoted == "" || event.data == nil'`
	x := explain.Build(t.Context(), explain.Input{
		Event: e, State: explain.Offline, Set: load(t, file("r.yaml", ruleOf("r", spec))),
		Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
	})
	want := []string{`"\"xxx`, `"[\"xxx`, `"{100 members}"`, `"with *** in it"`, `"a\u001b[2J\nb😀"`, `"{\"list\":[\"x`}
	for i, c := range x.Rules[0].Parts[0].When {
		got := string(c.Seen[0].Value)
		if len(got) > 600 || !json.Valid(c.Seen[0].Value) || !strings.HasPrefix(got, want[i]) || c.Seen[0].Long == (i == 3 || i == 4) {
			t.Errorf("clause %d saw %d bytes, long %t: %s", i+1, len(got), c.Seen[0].Long, got)
		}
	}
	render(t, x, true)
}
