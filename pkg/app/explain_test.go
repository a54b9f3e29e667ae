package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/run"
)

const explainedRules = githubSource + `apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: main}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "main"
  steps: [{uses: exec.run, with: {command: ["true"]}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: thrice}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "main"
  correlate: {count: 3, within: 1h, by: event.git.repo}
  steps: [{uses: exec.run, with: {command: ["true"]}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: typo}
spec:
  trigger: {source: github, type: push}
  when: event.data.repository.fullname == "acme/shop"
  steps: [{uses: exec.run, with: {command: ["true"]}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: other}
spec:
  trigger: {source: github, type: issues}
  steps: [{uses: exec.run, with: {command: ["true"]}}]
`

// explained asks until the event is decided and the windows have come to it.
func (s *server) explained(id, query string) explain.Explanation {
	s.t.Helper()
	var x explain.Explanation
	s.wait("the explanation", func() bool {
		x = explain.Explanation{}
		return s.get("events/"+id+"/explain"+query, &x) && x.State != explain.Undecided && !slices.ContainsFunc(x.Rules, behind)
	})
	return x
}

// behind says that a rule's windows are not known up to the event: a partition has not read it, or had no time to answer.
func behind(v explain.Verdict) bool {
	if v.Correlate == nil || v.Correlate.Windows == nil {
		return false
	}
	return v.Correlate.Windows.Behind || len(v.Correlate.Windows.Elsewhere) > 0
}

// verdict writes a rule's part of an explanation in a line.
func verdict(x explain.Explanation, rule string) string {
	for _, v := range x.Rules {
		if v.Rule != rule {
			continue
		}
		text := string(v.Result) + " " + v.Why
		for _, r := range v.Runs {
			text += fmt.Sprintf(" %s %s", r.ID, r.State)
		}
		if v.Correlate != nil {
			for _, g := range v.Correlate.Windows.Groups {
				text += fmt.Sprintf(" (%s: %d, needs %d, %s)", g.Key, len(g.Events), g.Need, g.Until.Sub(g.Since))
			}
		}
		return text
	}
	return "none"
}

func TestAnEventIsExplainedByTheRulesThatDecidedIt(t *testing.T) {
	s := start(t, t.TempDir(), explainedRules)
	first := s.push(pushTo("shop", 1)).ID
	s.ended(first + "-main")
	x := s.explained(first, "")
	for rule, want := range map[string]string{
		"main":   "run  " + first + "-main succeeded",
		"thrice": `waits takes part, by "acme/shop" (acme/shop: 1, needs 2, 1h0m0s)`,
		"typo":   "no match when: event.data.repository.fullname is absent",
		"other":  "none",
	} {
		if got := verdict(x, rule); got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
	}
	if x.State != explain.Decided || x.Loaded != 4 || x.NotCandidates != 1 || x.Event.ID != first || x.Event.Subject != "acme/shop" {
		t.Errorf("explanation %+v", x)
	}
	if all := s.explained(first[:8], "?all=true"); verdict(all, "other") != `no match trigger: type is "push", not issues` {
		t.Errorf("of other: %s", verdict(all, "other"))
	}

	// Other rules become active: the old event is explained by those of before, and its windows are gone with their rule.
	s.write(strings.Replace(explainedRules, "{count: 3, within: 1h", "{count: 4, within: 1h", 1))
	var rules struct{ Revision string }
	s.wait("the new rules", func() bool { return s.get("rules", &rules) && rules.Revision != x.Revision })
	second := s.push(pushTo("shop", 2)).ID
	s.ended(second + "-main")
	again, newer := s.explained(first, ""), s.explained(second, "")
	if again.Revision != x.Revision || newer.Revision != rules.Revision {
		t.Errorf("revisions %s and %s, want %s and %s", again.Revision, newer.Revision, x.Revision, rules.Revision)
	}
	for _, v := range again.Rules {
		if v.Rule == "thrice" && (v.Correlate.Count != 3 || !v.Correlate.Windows.Changed || len(v.Correlate.Windows.Groups) > 0) {
			t.Errorf("of the rule of before: %+v", v.Correlate)
		}
	}
	if got, want := verdict(newer, "thrice"), `waits takes part, by "acme/shop" (acme/shop: 1, needs 3, 1h0m0s)`; got != want {
		t.Errorf("thrice: %s, want %s", got, want)
	}
	if r := s.ended(first + "-main"); r.State != run.Succeeded {
		t.Errorf("run %+v", r)
	}
}
