package explain_test

import (
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/gate"
)

// TestLimits shows the limits and the group that a run for an event is held to, with and without what a server knows.
func TestLimits(t *testing.T) {
	const limited = `trigger: {source: alertmanager}, limits: [{runs: 2, per: 1h, by: [event.alert.labels.app, event.alert.name]}, {runs: 10, per: 1d}]`
	until := clock(10, 30, 0)
	free := &explain.LimitState{Runs: 1}
	for _, tc := range []struct {
		name, spec string
		states     []*explain.LimitState // nil: nobody knows
		want       string
	}{
		{"without a server", limited, nil, `
  limits                         2 runs per 1h for "shop", "HighErrorRate"
                                 10 runs per 1d`},
		{"none is reached", limited, []*explain.LimitState{free, free}, `
  limits                         not reached`},
		{"one is reached", limited, []*explain.LimitState{{Runs: 2, Reached: true, Free: &until}, free}, `
  limits                         2 runs per 1h for "shop", "HighErrorRate": reached, until 10:30:00Z
                                 10 runs per 1d: 1 so far`},
		{"one that nobody knows of", limited, []*explain.LimitState{nil, free}, `
  limits                         2 runs per 1h for "shop", "HighErrorRate"
                                 10 runs per 1d: 1 so far`},
		{"an absent key", `trigger: {source: alertmanager}, limits: [{runs: 1, per: 1h, by: event.alert.labels.pod}]`, []*explain.LimitState{}, `
  limits                         1 run per 1h for event.alert.labels.pod`},
		{"the key of a window", `trigger: {source: alertmanager}, correlate: {count: 2, within: 1h, by: event.alert.labels.app}, limits: [{runs: 1, per: 1h, by: correlated.key}]`,
			nil, `
  limits                         1 run per 1h for "shop"`},
		{"the other part is not known", `correlate: {within: 1d, all: [{as: a, trigger: {source: alertmanager}}, {as: b, trigger: {type: push}}]}, limits: [{runs: 1, per: 1h, by: [correlated.a.alert.name, correlated.b.git.repo]}]`,
			nil, `
  limits                         1 run per 1h for "HighErrorRate", correlated.b.git.repo`},
		{"a group", `trigger: {source: alertmanager}, concurrency: {group: "g-${{ event.alert.labels.app }}", policy: skip}`, nil, `
  concurrency                    "g-shop", policy skip`},
		{"an alert's rule without limits", strings.Replace(`trigger: {source: alertmanager}`, "}", ", type: alert.firing}", 1), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := load(t, file("rules.yaml", ruleOf("r", tc.spec)))
			in := explain.Input{Event: alert(labels()), State: explain.Offline, Set: set, Now: clock(10, 13, 0)}
			if tc.states != nil {
				in.Limits = func(asked []gate.Limit) []*explain.LimitState {
					if len(asked) != len(tc.states) {
						t.Errorf("asked for %v", asked)
					}
					return tc.states
				}
			}
			got := render(t, explain.Build(t.Context(), in), true)
			if !strings.HasSuffix(strings.TrimRight(got, "\n"), tc.want) || tc.want == "" && strings.Contains(got, "limits") {
				t.Errorf("got\n%s\nwant it to end with%s", got, tc.want)
			}
		})
	}
}
