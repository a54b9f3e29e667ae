package backtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/exec"
	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/github"
)

const sources = `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: alertmanager}
spec: {type: alertmanager, auth: {bearer: {secret: s}}}
`

func load(t testing.TB, rules ...string) *rule.Set {
	t.Helper()
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(sources + strings.Join(rules, ""))}}, rule.Options{
		Sources: source.NewRegistry(github.Type(), alertmanager.Type()), Actions: action.NewRegistry(exec.Definitions(exec.Options{})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ruleOf makes a rule document of the head of its spec.
func ruleOf(name, head string) string {
	return fmt.Sprintf(`---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: %s}
spec:
  %s
  steps: [{uses: exec.run, with: {command: [make, %s]}}]
`, name, head, name)
}

func start() time.Time { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC) }

// push is what the API prints of a push to a branch.
func push(id string, minute int, branch string) string {
	return recorded(id, "github", "push", minute, fmt.Sprintf(`{"ref": "refs/heads/%s", "repository": {"full_name": "acme/shop"}}`, branch))
}

func alert(id string, minute int, service string) string {
	return recorded(id, "alertmanager", "alert.firing", minute, fmt.Sprintf(`{"alerts": [{"status": "firing", "labels": {"alertname": "Down", "service": %q}}]}`, service))
}

func recorded(id, src, typ string, minute int, data string) string {
	at := start().Add(time.Duration(minute) * time.Minute).Format(time.RFC3339Nano)
	return fmt.Sprintf(`{"id": %q, "source": %q, "type": %q, "time": %q, "receivedAt": %q, "deliveryID": "d", "subject": "{[\"", "headers": {"X-Github-Event": %q}, "data": %s}`,
		name(id), src, typ, at, at, typ, data)
}

// name makes an id such as events have.
func name(letter string) string { return event.ID("test", letter) }

// letter is what name made an id of.
func letter(id string) string {
	for c := 'A'; c <= 'Z'; c++ {
		if name(string(c)) == id {
			return string(c)
		}
	}
	return id
}

func open(t testing.TB, text string) *backtest.Recording {
	t.Helper()
	rec, err := backtest.Open(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestRecordingsInEveryForm(t *testing.T) {
	events := []string{push("A", 0, "main"), push("B", 1, "{\\\"}"), push("C", 1, "a"), push("D", 2, strings.Repeat("x", 600_000))}
	backwards := slices.Clone(events)
	slices.Reverse(backwards)
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(`{"items": [`+strings.Join(backwards, ",")+`], "next": "12.3"}`), "", "  "); err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{
		"lines":               strings.Join(events, "\n"),
		"newest first":        strings.Join(backwards, "\n") + "\n",
		"without line breaks": strings.Join(events, ""),
		"a page":              indented.String(),
		"two pages":           `{"items": [` + backwards[0] + `,` + backwards[1] + `], "next": "1"} {"items": [` + backwards[2] + `,` + backwards[3] + `]}`,
		"an empty page":       `{"items": []}` + strings.Join(events, "\n"),
	} {
		t.Run(form, func(t *testing.T) {
			rec := open(t, text)
			var got []string
			err := rec.Each(start(), start().Add(time.Hour), func(r *backtest.Recorded) error {
				got = append(got, letter(r.ID))
				return nil
			})
			if err != nil || !slices.Equal(got, []string{"A", "B", "C", "D"}) || rec.Len() != 4 {
				t.Errorf("%v, %v", got, err)
			}
			got = nil
			err = rec.Each(start().Add(time.Minute), start().Add(2*time.Minute), func(r *backtest.Recorded) error {
				got = append(got, letter(r.ID))
				return nil
			})
			if err != nil || !slices.Equal(got, []string{"B", "C"}) {
				t.Errorf("of one minute %v, %v", got, err)
			}
		})
	}
}

func TestBrokenRecordings(t *testing.T) {
	for text, want := range map[string]string{
		`[1]`: "no JSON object", `{"a": 1}`: "neither receivedAt nor items", `{"receivedAt": "soon"}`: "no receivedAt",
		`{"items": [{"id": "a"}]}`: "no receivedAt", push("A", 0, "a")[:80]: "ends too early", `{"items": 3} x`: "no JSON object",
	} {
		if _, err := backtest.Open(strings.NewReader(text), int64(len(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"receivedAt": "2026-11-23T10:00:00Z", "id": "a", "source": "b", "data": }`: "is not JSON", `{"receivedAt": "2026-11-23T10:00:00Z"}`: "lacks id",
	} {
		err := open(t, text).Each(start(), start().Add(time.Hour), func(*backtest.Recorded) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestComparisons plays one recording from its second minute to its sixtieth; what is expected is a line for each
// difference, and how many runs are the same.
func TestComparisons(t *testing.T) {
	recording := strings.Join([]string{
		push("A", 0, "release"), push("B", 5, "main"), push("C", 6, "dev"), alert("D", 7, "shop"), alert("E", 8, "cart"), push("F", 20, "main"),
		recorded("G", "gone", "push", 21, `{}`), alert("H", 40, "shop"), push("I", 70, "main"),
		recorded("P", "riposte", "run", 30, `{"inputs": {}}`), recorded("Q", "riposte", "storm.brake", 31, `{}`),
	}, "\n")
	deploy := ruleOf("deploy", "trigger: {type: push}\n  when: event.git.branch == \"main\"")
	every := ruleOf("deploy", "trigger: {type: push}")
	sequence := ruleOf("after", `correlate:
    within: 10m
    sequence:
      - {as: push, trigger: {type: push}, when: event.git.branch == "release"}
      - {as: alert, trigger: {type: alert.firing}}`)
	two := ruleOf("two", "trigger: {type: alert.firing}\n  correlate: {count: 2, within: 40m, by: event.alert.name}")
	three := ruleOf("two", "trigger: {type: alert.firing}\n  correlate: {count: 3, within: 40m, by: event.alert.name}")
	silent := ruleOf("silent", `correlate:
    within: 30m
    absence:
      - {as: push, trigger: {type: push}, when: event.git.branch == "release"}
      - {as: alert, trigger: {type: alert.firing}, when: event.alert.labels.service == "web"}`)
	limited := ruleOf("deploy", "trigger: {type: push}\n  when: event.git.branch == \"main\"\n  limits: [{runs: 1, per: 30m, by: event.git.branch}]")
	misspelt := strings.ReplaceAll(limited, "by: event.git.branch", "by: event.data.team")
	grouped := strings.ReplaceAll(deploy, "  steps", "  concurrency: {group: g, policy: skip}\n  steps")
	healing := ruleOf("heal", "trigger: {type: alert.firing}")
	pair := ruleOf("after", `correlate:
    within: 50m
    sequence:
      - {as: push, trigger: {type: push}, when: event.git.branch == "release"}
      - {as: alert, trigger: {type: alert.firing}}
  limits: [{runs: 1, per: 1h, by: correlated.alert.alert.name}]`)
	alone := func(rule string) string { return strings.ReplaceAll(rule, ", by: event.alert.name", "") }
	at := func(minute int) time.Time {
		return start().Add(time.Duration(minute)*time.Minute + 20*time.Millisecond)
	}
	for _, tc := range []struct {
		name               string
		candidate, against []string
		decided            []backtest.Start
		want               []string
		same, gone         int
	}{
		{name: "nothing changes", candidate: []string{deploy, two}, against: []string{deploy, two}, same: 3},
		{name: "a wider condition", candidate: []string{every}, against: []string{deploy}, same: 2, want: []string{"appear deploy C"}},
		{name: "a narrower condition", candidate: []string{deploy}, against: []string{every}, same: 2, want: []string{"disappear deploy C"}},
		{name: "a rule is gone", candidate: []string{two}, against: []string{deploy, two}, same: 1, want: []string{"disappear deploy B", "disappear deploy F"}},
		{name: "other steps", candidate: []string{strings.ReplaceAll(deploy, "make,", "cmake,")}, against: []string{deploy}, want: []string{"change deploy B has other steps", "change deploy F has other steps"}},
		{name: "only observed", candidate: []string{strings.ReplaceAll(deploy, "  trigger", "  mode: observe\n  trigger")}, against: []string{deploy}, want: []string{"change deploy B is only observed", "change deploy F is only observed"}},
		{name: "a window that began before", candidate: []string{sequence}, against: nil, decided: []backtest.Start{{Rule: "after", Event: name("D"), At: at(7)}}, same: 1},
		{name: "another number of events", candidate: []string{two}, against: []string{three}, want: []string{"change two E starts on account of another event than " + name("H")}},
		{name: "another number of events, without by", candidate: []string{alone(two)}, against: []string{alone(three)}, want: []string{"change two E starts on account of another event than " + name("H")}},
		{name: "windows end between events", candidate: []string{silent}, against: []string{two}, want: []string{"disappear two E", "appear silent A"}},
		{name: "what was decided then", candidate: []string{deploy}, decided: []backtest.Start{
			{Rule: "deploy", Event: name("A"), At: at(0)}, {Rule: "deploy", Event: name("B"), At: at(5)}, {Rule: "old", Event: name("C"), At: at(6)},
			{Rule: "deploy", Event: name("I"), At: at(70)}, {Rule: "deploy", Event: name("Z"), At: at(30)}, {Rule: "deploy", Event: name("F"), At: at(20), Observed: true},
		}, same: 1, gone: 1, want: []string{"disappear old C", "change deploy F acts, and was only observed"}},
		{name: "runs by hand", candidate: []string{deploy}, decided: []backtest.Start{
			{Rule: "deploy", Event: name("B"), At: at(5)}, {Rule: "deploy", Event: name("F"), At: at(20)},
			{Rule: "deploy", Event: name("P"), Decided: name("P"), At: at(30)}, {Rule: "deploy", Event: name("C"), Decided: name("P"), At: at(30)},
			{Rule: "old", Event: name("P"), Decided: name("P"), At: at(30)},
		}, same: 2, want: []string{"disappear old P"}},
		{name: "an event of Riposte's own", candidate: []string{ruleOf("tell", "trigger: {source: riposte, type: storm.*}")}, want: []string{"appear tell Q"}},
		{name: "a limit", candidate: []string{limited}, against: []string{deploy}, same: 1, want: []string{"disappear deploy F is refused: LimitReached"}},
		{name: "no limit any more", candidate: []string{deploy}, against: []string{limited}, same: 1, want: []string{"appear deploy F was refused: LimitReached"}},
		{name: "a limit as then", candidate: []string{limited}, decided: []backtest.Start{
			{Rule: "deploy", Event: name("B"), At: at(5)},
			{Rule: "deploy", Event: name("F"), At: at(20), Refused: backtest.Refused(run.Refused, "LimitReached", false)},
		}, same: 1},
		{name: "a limit by an absent field", candidate: []string{misspelt}, against: []string{deploy}, want: []string{"disappear deploy B is refused: AbsentField", "disappear deploy F is refused: AbsentField"}},
		{name: "a group is never busy", candidate: []string{grouped}, against: []string{deploy}, same: 2},
		{name: "a busy group of then", candidate: []string{grouped}, decided: []backtest.Start{
			{Rule: "deploy", Event: name("B"), At: at(5)},
			{Rule: "deploy", Event: name("F"), At: at(20), Refused: backtest.Refused(run.Superseded, "GroupBusy", false)},
		}, same: 2},
		{name: "an alert's rule without limits has one", candidate: []string{healing}, want: []string{"appear heal D", "appear heal E", "appear heal H"}},
		{name: "a limit by what took part", candidate: []string{pair}, want: []string{"appear after D"}},
		{name: "a person is asked", candidate: []string{strings.ReplaceAll(deploy, "  trigger", "  mode: approve\n  trigger")}, against: []string{deploy}, want: []string{"change deploy B asks a person first", "change deploy F asks a person first"}},
		{name: "nothing to compare with", candidate: []string{deploy}, want: []string{"appear deploy B", "appear deploy F"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := backtest.Options{Candidate: load(t, tc.candidate...), Decided: tc.decided, Since: start().Add(2 * time.Minute), Until: start().Add(time.Hour)}
			if tc.against != nil {
				o.Against = load(t, tc.against...)
			}
			report, err := backtest.Run(t.Context(), open(t, recording), o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range report.Differences {
				got = append(got, strings.TrimSpace(strings.Join([]string{d.Kind, d.Rule, letter(d.Event), d.What}, " ")))
			}
			if !slices.Equal(got, tc.want) || report.Same != tc.same || report.Gone != tc.gone {
				t.Errorf("%d same, %d gone,\n%s\nwant\n%s", report.Same, report.Gone, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			if report.Events != 9 || report.Unreceived["gone"] != 1 {
				t.Errorf("%d events, not received %v", report.Events, report.Unreceived)
			}
		})
	}
}

// FuzzOpen demands of any bytes that they are refused, or give events that can be read or are refused one by one.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(push("A", 0, "main") + "\n" + alert("B", 1, "shop")))
	f.Add([]byte(`{"items": [` + alert("B", 1, "shop") + `,` + push("A", 0, "main") + `], "next": "1"}`))
	set := load(f, ruleOf("deploy", "trigger: {type: push}\n  when: event.git.branch == \"main\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := backtest.Open(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		o := backtest.Options{Candidate: set, Since: start().Add(-time.Hour), Until: start().Add(time.Hour)}
		if report, err := backtest.Run(t.Context(), rec, o); err == nil && report.Events > rec.Len() {
			t.Errorf("%d events of %d", report.Events, rec.Len())
		}
	})
}
