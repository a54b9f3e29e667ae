package simulate_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/exec"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

const rules = `
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: each}
spec:
  trigger: {type: push}
  steps:
    - {id: a, uses: exec.run, with: {command: [a]}}
    - {id: b, uses: exec.run, with: {command: [b]}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: gathered}
spec:
  trigger: {type: push}
  correlate: {collect: true, within: 5m}
  steps: [{id: c, uses: exec.run, with: {command: ["${{ len(correlated.events) }}"]}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: silent}
spec:
  correlate:
    within: 5m
    absence:
      - {as: push, trigger: {type: push}}
      - {as: done, trigger: {type: done}}
  steps: [{id: d, uses: exec.run, with: {command: [d]}}]
`

func load(t *testing.T) *rule.Set {
	t.Helper()
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(rules)}}, rule.Options{Actions: action.NewRegistry(exec.Definitions(exec.Options{}))})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func start() time.Time { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC) }

func push(n int, at time.Duration) *event.Event {
	return &event.Event{ID: event.ID("test", fmt.Sprint(n)), Source: "s", Type: "push", ReceivedAt: start().Add(at), Time: start().Add(at)}
}

// TestOrder notes each call of an action: steps and windows that overlap come in the order of their times, at one time in
// the order in which they were planned, and the same each time.
func TestOrder(t *testing.T) {
	play := func() (calls []string) {
		var sim *simulate.Simulation
		sim, err := simulate.New(simulate.Options{Set: load(t), Start: start(), Act: func(c *simulate.Call) simulate.Outcome {
			now := c.Run.StartedAt.Sub(start())
			if s := c.Run.Step(c.Phase, c.Step.ID); s != nil {
				now = s.StartedAt.Sub(start())
			}
			calls = append(calls, fmt.Sprintf("%s %s.%s %v", now, c.Run.Rule, c.Step.ID, c.With["command"]))
			return simulate.Outcome{Took: 3 * time.Minute}
		}})
		if err != nil {
			t.Fatal(err)
		}
		sim.Event(t.Context(), push(1, 0))
		sim.Event(t.Context(), push(2, time.Minute))
		sim.MoveTo(t.Context(), start().Add(5*time.Minute))
		sim.Finish()
		for _, r := range sim.Runs() {
			if r.State != run.Succeeded {
				t.Errorf("%s is %s: %s", r.ID, r.State, r.Message)
			}
		}
		return calls
	}
	want := []string{
		"0s each.a [a]", "1m0s each.a [a]", "3m0s each.b [b]", "4m0s each.b [b]", "5m0s gathered.c [2]", "5m0s silent.d [d]",
	}
	for range 3 {
		if got := play(); !slices.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	}
}

// TestOnlyStarts is a simulation without outcomes: it tells of runs, and holds nothing of them.
func TestOnlyStarts(t *testing.T) {
	var started []string
	sim, err := simulate.New(simulate.Options{Set: load(t), Start: start(), Started: func(r *simulate.Run) {
		started = append(started, fmt.Sprint(r.At.Sub(start()), " ", r.Rule))
	}})
	if err != nil {
		t.Fatal(err)
	}
	e := push(1, 0)
	sim.Decided(t.Context(), e, simulate.Decide(t.Context(), load(t), e)) // of an equal set: windows are those of the simulation's own
	sim.Event(t.Context(), push(2, time.Minute))
	sim.MoveTo(t.Context(), start().Add(time.Hour))
	if want := []string{"0s each", "1m0s each", "6m0s gathered", "6m0s silent"}; !slices.Equal(started, want) || len(sim.Runs()) > 0 {
		t.Errorf("started %q, want %q; %d runs are held", started, want, len(sim.Runs()))
	}
}

const healing = `
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: heal}
spec:
  trigger: {type: alert.firing}
  steps: [{id: heal, uses: fake.heal, with: {}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: stormy}
spec:
  trigger: {type: storm.*}
  steps: [{id: tell, uses: exec.run, with: {command: ["${{ event.type }}"]}}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: limited}
spec:
  correlate:
    within: 5m
    sequence:
      - {as: a, trigger: {type: a}}
      - {as: b, trigger: {type: b}}
  limits: [{runs: 1, per: 1h, by: "correlated.a.subject"}]
  concurrency: {group: "${{ correlated.b.subject }}", policy: skip}
  steps: [{id: do, uses: exec.run, with: {command: [do]}}]
`

func loadHealing(t *testing.T) *rule.Set {
	t.Helper()
	actions := action.NewRegistry(exec.Definitions(exec.Options{}), []action.Definition{{Name: "fake.heal", Params: &struct{}{}, Changes: true}})
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(healing)}}, rule.Options{Actions: actions})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func alert(n int, at time.Duration) *event.Event {
	e := push(n, at)
	e.Type, e.Alert = "alert.firing", &event.Alert{Name: "Down", Status: "firing", Labels: map[string]string{"host": fmt.Sprint(n)}}
	return e
}

// TestStorm has 70 alerts in a minute: all healing stops, rules hear that, and again when it is over.
func TestStorm(t *testing.T) {
	for _, acts := range []bool{true, false} {
		states := map[run.State]int{}
		var told []string
		o := simulate.Options{Set: loadHealing(t), Start: start()}
		if acts {
			o.Act = func(c *simulate.Call) simulate.Outcome {
				if c.Run.Rule == "stormy" {
					told = append(told, fmt.Sprint(c.Run.StartedAt.Sub(start()), c.With["command"]))
				}
				return simulate.Outcome{Took: time.Second}
			}
		} else {
			o.Started = func(r *simulate.Run) { states[r.State]++ }
		}
		sim, err := simulate.New(o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 70 {
			sim.Event(t.Context(), alert(i, time.Duration(i)*100*time.Millisecond))
		}
		sim.MoveTo(t.Context(), start().Add(time.Hour))
		for _, r := range sim.Runs() {
			states[r.State]++
		}
		want := map[run.State]int{run.Pending: 60, run.Refused: 10}
		if acts {
			want = map[run.State]int{run.Succeeded: 62, run.Refused: 10}
			if !slices.Equal(told, []string{"6s [storm.began]", "1m1s [storm.ended]"}) {
				t.Errorf("told %q", told)
			}
		}
		if !maps.Equal(states, want) {
			t.Errorf("acts %v: %v, want %v", acts, states, want)
		}
	}
}

// TestLimitsWithoutOutcomes is a simulation that does not act: limits decide, by the events that took part; groups are never busy.
func TestLimitsWithoutOutcomes(t *testing.T) {
	var got []string
	sim, err := simulate.New(simulate.Options{Set: loadHealing(t), Start: start(), Started: func(r *simulate.Run) {
		got = append(got, fmt.Sprint(r.At.Sub(start()), " ", r.State, " ", r.Reason))
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, subject := range []string{"x", "x", "y", "x"} {
		at := []time.Duration{0, 10 * time.Minute, 20 * time.Minute, time.Hour}[i]
		for k, typ := range []string{"a", "b"} {
			e := push(10*i+k, at)
			e.Type, e.Subject = typ, subject
			sim.Event(t.Context(), e)
		}
	}
	want := []string{"0s pending ", "10m0s refused LimitReached", "20m0s pending ", "1h0m0s pending "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestRedeliveriesAreBounded(t *testing.T) {
	sim, err := simulate.New(simulate.Options{Set: load(t), Start: start(), Act: func(*simulate.Call) simulate.Outcome {
		return simulate.Outcome{Err: action.Permanent(errors.New("no"))}
	}})
	if err != nil {
		t.Fatal(err)
	}
	sim.Event(t.Context(), push(1, 0))
	for range 2 * run.MaxRevivals {
		sim.Redeliver(t.Context(), push(1, 0).ID)
	}
	if r := sim.Runs()[0]; r.Attempt != run.MaxRevivals+1 || r.State != run.Failed {
		t.Errorf("attempt %d, %s", r.Attempt, r.State)
	}
}
