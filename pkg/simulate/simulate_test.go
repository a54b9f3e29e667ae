package simulate_test

import (
	"errors"
	"fmt"
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
