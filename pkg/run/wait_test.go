package run_test

import (
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// TestWaitStaysInItsBounds: a wait is never longer than without jitter, never shorter than the jitter's share allows, and
// never beyond the ceiling, at any attempt.
func TestWaitStaysInItsBounds(t *testing.T) {
	for _, r := range []run.Retry{
		{Backoff: 10 * time.Second, Jitter: 0.2},
		{Backoff: time.Second, Factor: 3, MaxBackoff: time.Minute, Jitter: 1},
		{Backoff: 2 * time.Hour, Jitter: 0.5}, // the ceiling of an hour stands also for the first wait
		{},
	} {
		full := r
		full.Jitter = 0
		ceiling := r.MaxBackoff
		if ceiling == 0 {
			ceiling = time.Hour
		}
		for _, attempt := range []int{1, 2, 7, 100, 1 << 20} {
			longest := full.Wait(attempt, 0)
			if longest > ceiling || longest < full.Wait(max(1, attempt-1), 0) {
				t.Errorf("%+v after attempt %d: %s", r, attempt, longest)
			}
			for _, random := range []float64{0, 0.3, 0.999999} {
				got := r.Wait(attempt, random)
				if got > longest || float64(got) < float64(longest)*(1-r.Jitter) {
					t.Errorf("%+v after attempt %d with %g: %s, where %s is the whole", r, attempt, random, got, longest)
				}
			}
		}
	}
}

// TestNextAndTheClock asks for the moves of a run whose step waits for its second attempt.
func TestNextAndTheClock(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	plan := run.Plan{Steps: []run.StepPlan{{ID: "s", Retry: run.Retry{Attempts: 3, Backoff: time.Minute}}}}
	r := &run.Run{ID: "E-a", State: run.Running, Steps: []run.Step{{ID: "s", State: run.StepWaiting, Attempt: 1, NotBefore: now.Add(time.Minute)}}}
	for _, tc := range []struct {
		name  string
		at    time.Duration
		start bool
	}{
		{"it waits", 0, false},
		{"a moment before", time.Minute - 1, false},
		{"on time", time.Minute, true},
		{"late", 24 * time.Hour, true},
		{"the clock went back: the wait would be longer than any", -time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := run.Next(r, &plan, now.Add(tc.at))
			if started := len(m.Start) == 1; started != tc.start || m.Wake.IsZero() != tc.start || m.End != nil {
				t.Errorf("moves: %+v", m)
			}
		})
	}
}

// TestNextEndsWhatIsSettled asks for the end of runs of two steps.
func TestNextEndsWhatIsSettled(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	step := func(id string, state run.StepState) run.Step { return run.Step{ID: id, State: state, Attempt: 1} }
	for _, tc := range []struct {
		name   string
		run    run.Run
		state  run.State // "" is no end yet
		reason string
		phase  run.Phase
	}{
		{"both succeeded", run.Run{Steps: []run.Step{step("a", run.StepSucceeded), step("b", run.StepSucceeded)}}, run.Succeeded, "", run.Finally},
		{"skipped counts as met", run.Run{Steps: []run.Step{step("a", run.StepSucceeded), step("b", run.StepSkipped)}}, run.Succeeded, "", run.Finally},
		{"one failed", run.Run{Steps: []run.Step{step("b", run.StepFailed)}}, run.Failed, run.ReasonStepFailed, run.OnFailure},
		{"one failed that may", run.Run{Steps: []run.Step{step("a", run.StepFailed), step("b", run.StepSucceeded)}}, run.Succeeded, "", run.Finally},
		{"failed while another one runs", run.Run{Steps: []run.Step{step("a", run.StepRunning), step("b", run.StepFailed)}}, "", "", run.Main},
		{"cut off where that is final", run.Run{Steps: []run.Step{{ID: "b", State: run.StepFailed, Interruptions: 1}}}, run.Failed, run.ReasonInterrupted, run.OnFailure},
		{"cancelled while it waits", run.Run{Cancelling: true, Steps: []run.Step{step("a", run.StepWaiting)}}, run.Cancelled, run.ReasonCancelled, run.Finally},
		{"cancelled while it runs", run.Run{Cancelling: true, Steps: []run.Step{step("a", run.StepRunning)}}, "", "", run.Main},
		{"refused, and the order to cancel came later", run.Run{Cancelling: true, Outcome: run.Refused, Reason: "X"}, run.Refused, "X", run.OnFailure},
		{"over its time", run.Run{BeganAt: now.Add(-time.Hour), Steps: []run.Step{step("a", run.StepWaiting)}}, run.Failed, run.ReasonTimeout, run.OnFailure},
		{"after onFailure comes finally", run.Run{Phase: run.OnFailure, Outcome: run.Failed, Steps: []run.Step{step("a", run.StepFailed), {ID: "tell", Phase: run.OnFailure, State: run.StepFailed}}}, run.Failed, "", run.Finally},
		{"over", run.Run{State: run.Succeeded}, "", "", run.Main},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := run.Plan{
				Timeout: time.Hour, Steps: []run.StepPlan{{ID: "a", ContinueOnError: true}, {ID: "b", Needs: []string{"a"}}},
				OnFailure: []run.StepPlan{{ID: "tell"}}, Finally: []run.StepPlan{{ID: "clean"}},
			}
			r := tc.run
			if r.State == "" {
				r.State = run.Running
			}
			m := run.Next(&r, &plan, now)
			switch {
			case tc.state == "" && (m.End != nil || len(m.Start) > 0):
				t.Errorf("moves: %+v", m)
			case tc.state != "" && (m.End == nil || m.End.State != tc.state || m.End.Reason != tc.reason || m.End.Phase != tc.phase):
				t.Errorf("end: %+v", m.End)
			}
		})
	}
}

// TestApplyTrustsTheFirstVerdict: what settles the main part stands, and nothing is left of an attempt that begins anew.
func TestApplyTrustsTheFirstVerdict(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	r := run.New(run.Created{ID: "E-a", Rule: "a"}, run.Entry{At: now, Event: "E"})
	for _, e := range []run.Entry{
		{Kind: run.Started, Step: "a", Attempt: 1},
		{Kind: run.Finished, Step: "a", Attempt: 1, StepState: run.StepWaiting, Error: "boom", NotBefore: now.Add(time.Minute)},
		{Kind: run.Started, Step: "a", Attempt: 2},
	} {
		run.Apply(r, e)
	}
	if s := r.Step(run.Main, "a"); s.Error != "" || !s.NotBefore.IsZero() || s.Attempt != 2 || s.State != run.StepRunning {
		t.Errorf("a second attempt begins as %+v", s)
	}
	for _, state := range []run.State{run.Superseded, run.Refused} {
		run.Apply(r, run.Entry{Kind: run.Finished, Step: "a", Attempt: 2, StepState: run.StepFailed, State: state, Reason: string(state)})
	}
	if r.Outcome != run.Superseded || r.Reason != string(run.Superseded) {
		t.Errorf("the run is %s for %s", r.Outcome, r.Reason)
	}
	run.Apply(r, run.Entry{Kind: run.Ended, State: run.Superseded})
	before := *r
	run.Apply(r, run.Entry{Kind: run.Commanded, Command: run.CommandCancel})
	if r.Cancelling || r.State != before.State {
		t.Errorf("an order to cancel what has ended makes it %+v", r)
	}
}
