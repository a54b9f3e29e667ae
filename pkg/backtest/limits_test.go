package backtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/backtest"
)

func TestLimits(t *testing.T) {
	report := &backtest.Report{Appear: 2, Disappear: 1, Change: 3}
	for texts, want := range map[string]string{
		"":                     "",
		"appear":               "appear: 2, and at most 0 are let pass",
		"appear:1":             "appear: 2, and at most 1 are let pass",
		"appear:2 disappear:1": "",
		"any:5 change":         "change: 3, and at most 0 are let pass; any: 6, and at most 5 are let pass",
		"any:6":                "",
	} {
		limits, err := backtest.ParseLimits(strings.Fields(texts))
		if err != nil || limits.Exceeded(report) != want {
			t.Errorf("%s: %q, %v; want %q", texts, limits.Exceeded(report), err, want)
		}
	}
	for _, text := range []string{"", "all", "any:", "any:-1", "any:1234567890", "Any"} {
		if _, err := backtest.ParseLimits([]string{text}); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestAReportInOneLine(t *testing.T) {
	for want, r := range map[string]backtest.Report{
		"no run differs, 3 are the same (5 events)": {Events: 5, Same: 3, Rules: []backtest.RuleReport{{Rule: "a", Same: 3}}},
		"1 appear, 4 disappear, 1 change, 0 are the same (9 events); Sources that are gone and had events: 1: b -4, a +1, c ~1": {
			Events: 9, Appear: 1, Disappear: 4, Change: 1, Unreceived: map[string]int{"x": 7},
			Rules: []backtest.RuleReport{{Rule: "a", Appear: 1}, {Rule: "b", Disappear: 4}, {Rule: "c", Change: 1}, {Rule: "d"}},
		},
	} {
		if got := r.Line(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// pushes is a recording of pushes, one a second.
func pushes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(push(fmt.Sprint(i), 0, "main"), "10:00:00Z", fmt.Sprintf("10:%02d:%02dZ", i/60, i%60)) + "\n")
	}
	return b.String()
}

func TestABacktestIsBounded(t *testing.T) {
	set := load(t, ruleOf("deploy", "trigger: {type: push}"))
	o := backtest.Options{Candidate: set, Against: set, Since: start(), Until: start().Add(time.Hour), MaxRuns: 599}
	if _, err := backtest.Run(t.Context(), open(t, pushes(300)), o); !errors.Is(err, backtest.ErrTooManyRuns) || !strings.Contains(err.Error(), "more than 599") {
		t.Error(err)
	}
	o.MaxRuns = 600
	pauses := 0
	o.Pause = func(context.Context) error { pauses++; return nil }
	if report, err := backtest.Run(t.Context(), open(t, pushes(300)), o); err != nil || report.Same != 300 || pauses != 5 {
		t.Errorf("%+v, %v; %d pauses", report, err, pauses)
	}
	enough := errors.New("enough")
	o.Pause = func(context.Context) error { return enough }
	if _, err := backtest.Run(t.Context(), open(t, pushes(300)), o); !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	o.Pause = func(context.Context) error { cancel(enough); return nil }
	if _, err := backtest.Run(ctx, open(t, pushes(300)), o); !errors.Is(err, enough) {
		t.Error(err)
	}
}

// TestChangedPathsAreThoseOfTheDecision has pushes that list nothing, and what a diff found of them.
func TestChangedPathsAreThoseOfTheDecision(t *testing.T) {
	docs := load(t, ruleOf("docs", `trigger: {type: push}
  when: changed("docs/**")`))
	not := load(t, ruleOf("docs", `trigger: {type: push}
  when: not changed("docs/**")`))
	for decision, want := range map[string][2]int{
		``: {0, 0}, // unknown
		`, "decision": {"at": "2026-11-23T10:00:00Z", "runs": []}`:                              {0, 0},
		`, "decision": {"changed": {"paths": ["docs/a", "src/b"]}}`:                             {1, 0},
		`, "decision": {"changed": {"paths": ["src/b"]}}`:                                       {0, 1},
		`, "decision": {"changed": {"paths": ["src/b"], "more": 3}}`:                            {0, 0},
		`, "decision": {"changed": {"paths": ["docs/a"], "more": 3}, "why": "it does not say"}`: {1, 0},
		`, "decision": {"changed": {"paths": 7, "more": []}}`:                                   {0, 0},
	} {
		text := strings.TrimSuffix(push("A", 0, "main"), "}") + decision + "}"
		report, err := backtest.Run(t.Context(), open(t, text), backtest.Options{Candidate: docs, Against: not, Since: start(), Until: start().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		got := [2]int{report.Appear, report.Disappear}
		if report.Same+report.Change > 0 || got != want {
			t.Errorf("%s: %v, want %v", decision, got, want)
		}
	}
}
