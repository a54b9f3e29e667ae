package run_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// world plays the engine: it writes entries to a journal that survives, and crashes before or after a write at random.
type world struct {
	rng     *rand.Rand
	plan    run.Plan
	journal []run.Entry
	done    map[string]int // by phase and step: how often an attempt was recorded as succeeded
	now     time.Time
}

var errCrash = errors.New("crash")

func (w *world) write(t *testing.T, e run.Entry) error {
	t.Helper()
	if w.rng.IntN(12) == 0 {
		return errCrash
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back run.Entry
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	w.journal = append(w.journal, back)
	w.forget(back)
	if w.rng.IntN(12) == 0 {
		return errCrash
	}
	return nil
}

// forget drops what may be done again: all that was not verified, and the steps of a group that is made again.
func (w *world) forget(e run.Entry) {
	group := fmt.Sprint(e.Phase, "/", e.Step)
	for key := range w.done {
		if e.Kind == run.Repeated || e.Kind == run.Started && e.Group && (strings.HasPrefix(key, group+"/") || strings.HasPrefix(key, group+"[")) {
			delete(w.done, key)
		}
	}
}

// rebuild makes the run's record from the journal alone, as a new owner does.
func (w *world) rebuild(t *testing.T) *run.Run {
	t.Helper()
	var r *run.Run
	for _, e := range w.journal {
		if e.Kind == run.Decided {
			r = run.New(e.Runs[0], e)
			continue
		}
		if r.State.Ended() {
			t.Fatalf("entry %s after the run had ended", e.Kind)
		}
		run.Apply(r, e)
	}
	return r
}

// live plays one life of the process, until the run ends or the process crashes.
func (w *world) live(t *testing.T, r *run.Run) error {
	t.Helper()
	for i := range r.Steps {
		if s := r.Steps[i]; s.State == run.StepRunning && !s.Group {
			e := run.Interrupt(r, &s, w.stepPlan(s.Phase, s.ID), w.now)
			if err := w.write(t, e); err != nil {
				return err
			}
			run.Apply(r, e)
		}
	}
	for n := 0; !r.State.Ended(); n++ {
		if n > 5000 {
			t.Fatalf("run never ends: %+v", r)
		}
		if err := w.move(t, r, run.Next(r, &w.plan, w.now)); err != nil {
			return err
		}
	}
	return nil
}

// move makes one of the moves that are possible, or lets time pass.
func (w *world) move(t *testing.T, r *run.Run, m run.Moves) error {
	t.Helper()
	switch {
	case m.End != nil:
		return w.record(t, r, *m.End)
	case m.Admit:
		return w.admit(t, r)
	case m.Approve != nil:
		a := run.Approval{Step: m.Approve.ID, Digest: "d", RequestedAt: w.now, ExpiresAt: w.now.Add(time.Hour), Needed: 1 + w.rng.IntN(2)}
		return w.record(t, r, run.Entry{At: w.now, Kind: run.Requested, Run: r.ID, Approval: &a})
	case len(m.Close) > 0 && w.rng.IntN(2) == 0 || len(m.Close) > 0 && len(m.Start) == 0:
		return w.closeGroup(t, r, m.Close[w.rng.IntN(len(m.Close))])
	case len(m.Start) > 0:
		sp := m.Start[w.rng.IntN(len(m.Start))]
		if sp.Changes && w.plan.Approve && r.Phase == run.Main && !r.Approval.Granted {
			t.Fatalf("step %s starts without consent", sp.ID)
		}
		if sp.Group() {
			return w.open(t, r, sp)
		}
		return w.step(t, r, sp)
	case m.Look:
		verdict := []run.Verdict{run.Holds, run.Holds, run.DoesNotHold, run.Unknown}[w.rng.IntN(4)]
		began := w.now
		w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * time.Second)
		return w.record(t, r, run.Look(r, &w.plan, began, w.now, verdict, "note", nil))
	case w.consents(r) && w.rng.IntN(3) > 0:
		return w.consent(t, r)
	case !m.Wake.IsZero():
		if !m.Wake.After(w.now) {
			t.Fatalf("woken for %s at %s, with nothing to start", m.Wake, w.now)
		}
		w.now = m.Wake
		return nil
	}
	t.Fatalf("run is %s and nothing can happen: %+v", r.State, r.Steps)
	return nil
}

// consent has a person say yes or no, if that can be heard.
func (w *world) consent(t *testing.T, r *run.Run) (err error) {
	t.Helper()
	order := run.Entry{At: w.now, Kind: run.Commanded, Run: r.ID, Command: run.CommandApprove, Consent: &run.Consent{Who: fmt.Sprint(w.rng.IntN(3)), At: w.now}}
	if w.rng.IntN(6) == 0 {
		order.Command = run.CommandReject
	}
	if r.Consents(*order.Consent, "d") == nil {
		err = w.record(t, r, order)
	}
	return err
}

func (w *world) consents(r *run.Run) bool {
	return r.Approval != nil && !r.Approval.Granted && r.Outcome == ""
}

func (w *world) record(t *testing.T, r *run.Run, e run.Entry) error {
	t.Helper()
	if err := w.write(t, e); err != nil {
		return err
	}
	run.Apply(r, e)
	return nil
}

func (w *world) admit(t *testing.T, r *run.Run) error {
	t.Helper()
	e := run.Entry{At: w.now, Run: r.ID}
	switch w.rng.IntN(8) {
	case 0:
		e = run.Refuse(r, &w.plan, w.now, run.Refused, "LimitReached", "three an hour")
	case 1:
		e = run.Silent(r, &w.plan, run.Refuse(r, &w.plan, w.now, run.Refused, "Silent", "three an hour, and that was told"))
	case 2, 3:
		e.Kind, e.Why = run.Waits, "waits for another"
	default:
		e.Kind = run.Admitted
	}
	return w.record(t, r, e)
}

// open begins a group of steps.
func (w *world) open(t *testing.T, r *run.Run, sp run.StepPlan) error {
	t.Helper()
	n := 1
	if s := r.Step(r.Phase, sp.ID); s != nil {
		n = s.Attempt + 1
	}
	e := run.Entry{At: w.now, Kind: run.Started, Run: r.ID, Phase: r.Phase, Step: sp.ID, Attempt: n, Group: true}
	if sp.Parallel > 0 {
		for i := range w.rng.IntN(4) {
			e.Items = append(e.Items, fmt.Sprint(i))
		}
	} else {
		e.Inputs = run.Values{"x": "y"}
	}
	return w.record(t, r, e)
}

func (w *world) closeGroup(t *testing.T, r *run.Run, c run.Closing) error {
	t.Helper()
	s := r.Step(r.Phase, c.Plan.ID)
	for _, other := range r.Steps {
		if other.Phase == r.Phase && strings.HasPrefix(other.ID, c.Plan.ID+"/") && other.State == run.StepRunning && !other.Group {
			t.Fatalf("group %s closes while %s runs", c.Plan.ID, other.ID)
		}
	}
	e := run.Attempted{Plan: c.Plan, Attempt: s.Attempt, Err: c.Err, Now: w.now, Random: w.rng.Float64}.Entry()
	e.At, e.Kind, e.Run, e.Phase, e.Step, e.Attempt = w.now, run.Finished, r.ID, r.Phase, c.Plan.ID, s.Attempt
	return w.record(t, r, e)
}

func (w *world) stepPlan(phase run.Phase, id string) run.StepPlan {
	sp, ok := w.plan.Find(phase, id)
	if !ok {
		panic("no step " + id)
	}
	return sp
}

// step makes one attempt with a random outcome.
func (w *world) step(t *testing.T, r *run.Run, sp run.StepPlan) error {
	t.Helper()
	n := 1
	if s := r.Step(r.Phase, sp.ID); s != nil {
		n = s.Attempt + 1
	}
	for _, need := range sp.Needs {
		if s := r.Step(r.Phase, need); s == nil || !s.State.Ended() {
			t.Fatalf("step %s starts before %s has ended", sp.ID, need)
		}
	}
	base := run.Entry{At: w.now, Run: r.ID, Phase: r.Phase, Step: sp.ID, Uses: sp.Uses, Attempt: n}
	started := base
	started.Kind = run.Started
	if err := w.write(t, started); err != nil {
		return err
	}
	run.Apply(r, started)

	key := fmt.Sprint(r.Phase, "/", sp.ID)
	if w.done[key] > 0 {
		t.Fatalf("step %s runs again after it had succeeded", key)
	}
	w.now = w.now.Add(time.Duration(w.rng.IntN(5)) * time.Second)
	finished := w.finish(base, sp, n)
	before := len(w.journal)
	err := w.write(t, finished)
	if len(w.journal) > before && finished.StepState == run.StepSucceeded {
		w.done[key]++
	}
	if err != nil {
		return err
	}
	run.Apply(r, finished)
	return nil
}

func (w *world) finish(e run.Entry, sp run.StepPlan, n int) run.Entry {
	e.Kind, e.At = run.Finished, w.now
	switch k := w.rng.IntN(30); {
	case k == 20:
		e.StepState, e.NotBefore, e.Paused = run.StepWaiting, w.now.Add(time.Hour), true
	case k < 22:
		e.StepState, e.Outputs = run.StepSucceeded, run.Values{"n": int64(1)<<60 + 1}
	case k == 23:
		e.StepState, e.State, e.Reason = run.StepFailed, run.Refused, "ForkedCommit"
	case k == 24:
		e.StepState, e.State, e.Reason = run.StepCancelled, run.Superseded, run.ReasonSuperseded
	case sp.Retry.Again(n, run.OutcomeFailed):
		e.StepState, e.NotBefore = run.StepWaiting, w.now.Add(sp.Retry.Wait(n, w.rng.Float64()))
	default:
		e.StepState, e.Error = run.StepFailed, "exit status 1"
	}
	return e
}

func randomPlan(rng *rand.Rand) run.Plan {
	var steps func(prefix string, n, depth int) []run.StepPlan
	steps = func(prefix string, n, depth int) []run.StepPlan {
		var out []run.StepPlan
		for i := range n {
			sp := run.StepPlan{ID: fmt.Sprint(prefix, i), Uses: "exec.run", ContinueOnError: rng.IntN(4) == 0, RetryInterrupted: rng.IntN(2) == 0}
			if i > 0 && rng.IntN(4) > 0 {
				sp.Needs = []string{fmt.Sprint(prefix, rng.IntN(i))}
			}
			sp.Changes = rng.IntN(2) == 0
			if depth > 0 && rng.IntN(3) == 0 {
				sp.Workflow, sp.Steps, sp.Changes = true, steps("w", 1+rng.IntN(3), depth-1), false
				sp.Timeout = time.Duration(rng.IntN(2)*3000) * time.Second
			}
			if depth > 0 && rng.IntN(4) == 0 {
				sp.Parallel = 1 + rng.IntN(2)
			}
			if rng.IntN(2) == 0 {
				sp.Retry = run.Retry{Attempts: 1 + rng.IntN(4), Backoff: time.Second, Jitter: 0.5}
			}
			out = append(out, sp)
		}
		return out
	}
	p := run.Plan{Steps: steps("s", 1+rng.IntN(4), 2), OnFailure: steps("f", rng.IntN(3), 1), Finally: steps("z", rng.IntN(2), 0), Approve: rng.IntN(3) == 0}
	if rng.IntN(3) == 0 {
		p.Verify = &run.Verify{
			Probe: run.StepPlan{ID: "probe"}, Every: 30 * time.Second, For: time.Duration(rng.IntN(3)) * time.Minute,
			Within: 5 * time.Minute, Attempts: rng.IntN(3), Backoff: time.Minute,
		}
	}
	return p
}

// TestEveryRunEndsWhateverCrashes checks the state machine against its promise: with a crash possible before and after
// each write, a run rebuilt from its journal always goes on to an end, and no step runs again once it succeeded.
func TestEveryRunEndsWhateverCrashes(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := &world{rng: rng, plan: randomPlan(rng), done: map[string]int{}, now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
		pos := event.Pos{Seq: 1}
		w.journal = []run.Entry{{At: w.now, Kind: run.Decided, Event: "E", Pos: &pos, Revision: "r", Runs: []run.Created{{ID: "E-a", Rule: "a", Gated: rng.IntN(2) == 0}}}}
		for lives := 0; ; lives++ {
			r := w.rebuild(t)
			if r.State.Ended() {
				checkEnd(t, seed, w, r)
				break
			}
			if lives > 500 {
				t.Fatalf("seed %d: not ended after %d lives: %+v", seed, lives, r)
			}
			if err := w.live(t, r); err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
		}
	}
}

func checkEnd(t *testing.T, seed uint64, w *world, r *run.Run) {
	t.Helper()
	if r.EndedAt.IsZero() || r.Busy() {
		t.Fatalf("seed %d: ended at %v with busy=%v", seed, r.EndedAt, r.Busy())
	}
	for _, sp := range w.plan.Steps {
		s := r.Step(run.Main, sp.ID)
		ok := s != nil && (s.State == run.StepSucceeded || s.State == run.StepSkipped || s.State == run.StepFailed && sp.ContinueOnError)
		if r.State == run.Succeeded && !ok {
			t.Fatalf("seed %d: run succeeded although step %s did not: %+v", seed, sp.ID, s)
		}
	}
	if r.State == run.Succeeded && w.plan.Verify != nil && (r.Verified == nil || r.Verified.Verdict != run.Holds || r.Verified.LookedAt.Sub(r.Verified.HeldSince) < w.plan.Verify.For) {
		t.Fatalf("seed %d: run succeeded unverified: %+v", seed, r.Verified)
	}
	failed := (r.State == run.Failed || r.State == run.Refused) && r.Reason != "Silent"
	for _, sp := range w.plan.OnFailure {
		s := r.Step(run.OnFailure, sp.ID)
		if ran := s != nil && s.State.Ended(); ran != failed {
			t.Fatalf("seed %d: run %s, onFailure step ended: %v", seed, r.State, ran)
		}
	}
}

func TestRetryStartsAtTheUnfinishedStep(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	plan := run.Plan{Steps: []run.StepPlan{{ID: "pull"}, {ID: "apply", Needs: []string{"pull"}}}, OnFailure: []run.StepPlan{{ID: "tell"}}}
	r := run.New(run.Created{ID: "E-a", Rule: "a"}, run.Entry{At: now, Event: "E"})
	for _, e := range []run.Entry{
		{Kind: run.Started, Step: "pull", Attempt: 1},
		{Kind: run.Finished, Step: "pull", Attempt: 1, StepState: run.StepSucceeded},
		{Kind: run.Started, Step: "apply", Attempt: 1},
		{Kind: run.Finished, Step: "apply", Attempt: 1, StepState: run.StepFailed, Error: "boom"},
		{Kind: run.Ended, Phase: run.OnFailure, State: run.Failed, Reason: run.ReasonStepFailed},
		{Kind: run.Started, Phase: run.OnFailure, Step: "tell", Attempt: 1},
		{Kind: run.Finished, Phase: run.OnFailure, Step: "tell", Attempt: 1, StepState: run.StepSucceeded},
		{Kind: run.Ended, State: run.Failed, Reason: run.ReasonStepFailed},
		{Kind: run.Commanded, Command: run.CommandRetry},
	} {
		run.Apply(r, e)
	}
	if r.State != run.Pending || r.Attempt != 2 || r.Reason != "" || !r.EndedAt.IsZero() {
		t.Fatalf("after a retry: %+v", r)
	}
	m := run.Next(r, &plan, now)
	if len(m.Start) != 1 || m.Start[0].ID != "apply" {
		t.Fatalf("a retry starts %+v, want apply alone", m.Start)
	}
}

func TestInterruptedStepsFollowTheirPolicy(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name          string
		retry         bool
		interruptions int
		want          run.StepState
	}{
		{"retried", true, 0, run.StepWaiting},
		{"failed where a second run could do harm", false, 0, run.StepFailed},
		{"failed when it keeps bringing the process down", true, run.MaxInterruptions, run.StepFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &run.Run{ID: "E-a", State: run.Running, Steps: []run.Step{{ID: "s", State: run.StepRunning, Attempt: 1, Interruptions: tc.interruptions}}}
			e := run.Interrupt(r, &r.Steps[0], run.StepPlan{ID: "s", RetryInterrupted: tc.retry}, now)
			if e.StepState != tc.want {
				t.Fatalf("step becomes %s, want %s", e.StepState, tc.want)
			}
			run.Apply(r, e)
			if r.Steps[0].Interruptions != tc.interruptions+1 {
				t.Fatalf("interruptions %d", r.Steps[0].Interruptions)
			}
		})
	}
}

func TestWaitGrowsToItsCeiling(t *testing.T) {
	r := run.Retry{Attempts: 9, Backoff: time.Second, Factor: 2, MaxBackoff: 5 * time.Second}
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 1000: 5 * time.Second} {
		if got := r.Wait(attempt, 0.9); got != want {
			t.Errorf("wait after attempt %d is %s, want %s", attempt, got, want)
		}
	}
	r.Jitter = 0.5
	if got := r.Wait(1, 1); got != time.Second/2 {
		t.Errorf("full jitter of a half leaves %s", got)
	}
}

func TestOutputsKeepIntegers(t *testing.T) {
	text, err := json.Marshal(run.Entry{Kind: run.Finished, Outputs: run.Values{"n": int64(1)<<53 + 1, "f": 1.5}})
	if err != nil {
		t.Fatal(err)
	}
	var back run.Entry
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Outputs["n"] != int64(1)<<53+1 || back.Outputs["f"] != 1.5 {
		t.Fatalf("read back %#v", back.Outputs)
	}
}
