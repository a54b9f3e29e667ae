package rule_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

const twoSources = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: monitor}
spec: {type: github, secrets: [{secret: s}]}
---
`

func correlating(spec string) []rule.File {
	text := twoSources + "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n" + spec
	return []rule.File{{Path: "r.yaml", Data: []byte(text)}}
}

const deployThenAlert = `  correlate:
    within: 15m
    sequence:
      - as: deploy
        trigger: {source: github, type: deployment_status}
        when: event.data.state == "success"
        by: event.data.name
      - as: alert
        trigger: {source: monitor}
        when: event.alert.name == "HighErrorRate"
        by: event.alert.labels.service
  steps:
    - uses: do
      with: {any: "${{ correlated.deploy.data.commit }} ${{ correlated.key }}"}
`

func occurrence(source, kind, body string, alert *event.Alert) *event.Event {
	return &event.Event{
		ID: event.RandomID(), Source: source, Type: kind, ReceivedAt: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Body: json.RawMessage(body), Alert: alert,
	}
}

func TestAnEventJoinsTheGroupsOfItsParts(t *testing.T) {
	set, err := rule.Load(correlating(deployThenAlert), options())
	if err != nil {
		t.Fatal(err)
	}
	c := set.Rule("r").Correlation()
	if c.Spec.Kind != correlate.Sequence || !c.Reads("deploy") || !c.Reads("key") || c.Reads("alert") || c.Reads("events") {
		t.Errorf("correlation is %+v", c)
	}
	high := func(labels map[string]string) *event.Alert {
		return &event.Alert{Name: "HighErrorRate", Labels: labels}
	}
	for _, tt := range []struct {
		name      string
		event     *event.Event
		triggered int // parts whose trigger selects it
		part      int // that matched, -1 for none
		key       string
		absent    string
	}{
		{"the first part", occurrence("github", "deployment_status", `{"state":"success","name":"shop"}`, nil), 1, 0, "shop", ""},
		{"a number as its key", occurrence("github", "deployment_status", `{"state":"success","name":7}`, nil), 1, 0, "7", ""},
		{"the second part", occurrence("monitor", "alert.firing", `{}`, high(map[string]string{"service": "shop"})), 1, 1, "shop", ""},
		{"a condition that is false", occurrence("github", "deployment_status", `{"state":"failure","name":"shop"}`, nil), 1, -1, "", ""},
		{"a key that is absent", occurrence("monitor", "alert.firing", `{}`, high(map[string]string{"app": "shop"})), 1, -1, "", "event.alert.labels.service"},
		{"another type", occurrence("github", "push", `{}`, nil), 0, -1, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m := set.Match(t.Context(), tt.event, tt.event.ReceivedAt); m.Triggered != 0 {
				t.Errorf("a correlating rule was decided by one event: %v", m.Verdicts)
			}
			if set.Selects(tt.event) != (tt.triggered > 0) {
				t.Errorf("selects: %t", set.Selects(tt.event))
			}
			joins := set.Joins(t.Context(), tt.event, tt.event.ReceivedAt)
			if joins.Triggered != tt.triggered || len(joins.List)+joins.Untrue() != tt.triggered {
				t.Fatalf("joins %+v", joins)
			}
			if len(joins.List) == 0 {
				if tt.triggered > 0 && fmt.Sprint(joins.False(2)) != "[r.deploy]" {
					t.Errorf("false: %q", joins.False(2))
				}
				return
			}
			j := joins.List[0]
			if matched := len(j.Matches) == 1; matched != (tt.part >= 0) || matched && (j.Matches[0].Part != tt.part || j.Matches[0].Key != tt.key) {
				t.Errorf("matches %+v", j.Matches)
			}
			if v := j.Verdicts[0]; v.Absent() != tt.absent || tt.absent != "" && v.Truth != expression.Absent {
				t.Errorf("verdict %+v, absent %q", v, v.Absent())
			}
		})
	}
}

func TestSeveralKeysAreOneGroup(t *testing.T) {
	set, err := rule.Load(correlating(`  trigger: {source: github}
  correlate: {count: 3, within: 1h, by: [event.data.a, event.data.b]}
  steps: [{uses: do, with: {any: "${{ correlated.events }}"}}]
`), options())
	if err != nil {
		t.Fatal(err)
	}
	key := func(body string) string {
		return set.Joins(t.Context(), occurrence("github", "push", body, nil), time.Time{}).List[0].Matches[0].Key
	}
	if a, b := key(`{"a":"x","b":"y,z"}`), key(`{"a":"x,y","b":"z"}`); a == b || a != `["x","y,z"]` {
		t.Errorf("keys %s and %s", a, b)
	}
	if !set.Rule("r").Correlation().Reads("events") {
		t.Error("the rule reads the events")
	}
}

func TestStateBelongsToTheMeaningOfARule(t *testing.T) {
	of := func(spec string) string {
		set, err := rule.Load(correlating(spec), options())
		if err != nil {
			t.Fatal(err)
		}
		return set.Rule("r").Correlation().Identity
	}
	same, other := of(deployThenAlert), of(strings.Replace(deployThenAlert, "within: 15m", "within: 16m", 1))
	if same == other {
		t.Error("another window goes on with the same state")
	}
	if of(strings.Replace(deployThenAlert, "uses: do\n      with", "id: s\n      uses: do\n      with", 1)) != same {
		t.Error("other steps start the windows anew")
	}
	if of(strings.Replace(deployThenAlert, "success", "failure", 1)) == same {
		t.Error("another condition goes on with the same state")
	}
}

func TestWhatCorrelateCantSay(t *testing.T) {
	for want, spec := range map[string]string{
		"needs one":                     "  trigger: {source: github}\n  correlate: {within: 1h}\n  steps: [{uses: do}]\n",
		"correlate has 2 of":            "  trigger: {source: github}\n  correlate: {within: 1h, count: 2, collect: true}\n  steps: [{uses: do}]\n",
		"within":                        "  trigger: {source: github}\n  correlate: {count: 2}\n  steps: [{uses: do}]\n",
		"count: must be from 1":         "  trigger: {source: github}\n  correlate: {count: 0, within: 1h}\n  steps: [{uses: do}]\n",
		"trigger is missing":            "  correlate: {count: 2, within: 1h}\n  steps: [{uses: do}]\n",
		"move trigger and when":         "  trigger: {source: github}\n" + deployThenAlert,
		"state belongs to flapping":     "  trigger: {source: github}\n  correlate: {count: 2, within: 1h, state: event.type}\n  steps: [{uses: do}]\n",
		"absence needs":                 "  correlate: {within: 1h, absence: [{as: a, trigger: {source: github}}]}\n  steps: [{uses: do}]\n",
		"correlated.deplyo":             strings.Replace(deployThenAlert, "correlated.deploy", "correlated.deplyo", 1),
		`there is no Source "gitlub"`:   strings.Replace(deployThenAlert, "{source: github, type", "{source: gitlub, type", 1),
		"correlated has already":        strings.Replace(deployThenAlert, "as: deploy", "as: events", 1),
		"parts[1]: the name \"deploy\"": strings.Replace(deployThenAlert, "as: alert", "as: deploy", 1),
		"unknown field labls":           strings.Replace(deployThenAlert, "event.alert.labels", "event.alert.labls", 1),
		"by must be an expression":      "  trigger: {source: github}\n  correlate: {count: 2, within: 1h, by: 3}\n  steps: [{uses: do}]\n",
		"correlated can't be read here": "  trigger: {source: github}\n  steps: [{uses: do, with: {any: \"${{ correlated.key }}\"}}]\n",
		"flapping: changes: must be":    "  trigger: {source: github}\n  correlate: {flapping: 1, within: 1h}\n  steps: [{uses: do}]\n",
	} {
		_, err := rule.Load(correlating(spec), options())
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "flapping: ")) {
			t.Errorf("want an error with %q, got\n%v", want, err)
		}
	}
}
