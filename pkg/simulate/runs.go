package simulate

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// attempt is an attempt at a step that is under way.
type attempt struct {
	plan run.StepPlan
	n    int
}

// begin starts runs that were created.
func (s *Simulation) begin(ctx context.Context, created []*Run) {
	for _, r := range created {
		if s.o.Act == nil {
			s.atOnce(ctx, r)
		}
		if s.o.Started != nil {
			s.o.Started(r)
		}
		if s.o.Act == nil {
			continue
		}
		r.with, r.going = map[stepID]map[string]any{}, map[stepID]*attempt{}
		s.runs = append(s.runs, r)
		s.byID[r.ID] = r
		s.watch(r)
		s.advance(ctx, r)
	}
}

// advance makes a run's next moves until it waits for something.
func (s *Simulation) advance(ctx context.Context, r *Run) {
	if s.finishing && r.waitsForConsent() && !s.now.Before(r.Approval.ExpiresAt) {
		return // nobody will say anything, and the time to do so is not over on the timeline
	}
	for {
		m := run.Next(&r.Run, &r.Of.Plan, s.now)
		switch {
		case len(m.Stop) > 0:
			if !s.stop(r, m.Stop) {
				return
			}
		case m.End != nil:
			s.end(ctx, r, *m.End)
			if r.State.Ended() {
				return
			}
		case m.Admit:
			s.askAdmission(ctx, r)
			return
		case len(m.Close) > 0:
			s.closeGroups(ctx, r, m.Close)
		case m.Approve != nil:
			s.askConsent(ctx, r, m.Approve)
		case len(m.Start) > 0:
			if !s.startAll(ctx, r, m.Start) { // each of them waits for its target
				s.wake(ctx, r, m.Wake)
				return
			}
		case m.Look && !r.looking:
			s.look(ctx, r)
		default:
			s.wake(ctx, r, m.Wake)
			return
		}
	}
}

// wake asks a run for its next move at a time.
func (s *Simulation) wake(ctx context.Context, r *Run, at time.Time) {
	if at.IsZero() || r.wakes.Equal(at) {
		return
	}
	r.wakes = at
	s.push(at, func() {
		if r.wakes.Equal(at) {
			r.wakes = time.Time{}
		}
		s.advance(ctx, r)
	})
}

// end ends a run or its current part; what a run that is over holds is given back.
func (s *Simulation) end(ctx context.Context, r *Run, en run.Entry) {
	r.looking = false
	if en.Kind == run.Ended {
		s.tell(ctx, r, &en)
		s.release(ctx, r, &en)
	}
	run.Apply(&r.Run, en)
	if r.State.Ended() {
		s.unwatch(r)
	}
}

// startAll begins steps, or skips them, and reports whether any was.
func (s *Simulation) startAll(ctx context.Context, r *Run, steps []run.StepPlan) bool {
	started := false
	for _, sp := range steps {
		n := nextAttempt(r, r.Phase, sp.ID)
		switch {
		case n == 1 && s.skipped(ctx, r, sp):
		case sp.Group():
			s.open(ctx, r, sp, n)
		case !s.locked(ctx, r, sp):
			continue
		default:
			s.start(ctx, r, sp, n)
		}
		started = true
	}
	return started
}

func nextAttempt(r *Run, phase run.Phase, id string) int {
	if st := r.Step(phase, id); st != nil {
		return st.Attempt + 1
	}
	return 1
}

// scope is what the expressions of a step of the run's current part can read.
func (s *Simulation) scope(r *Run, step string) *expression.Scope {
	return rule.Moment{Run: &r.Run, Event: r.Event, Correlated: r.joined, Now: s.now}.ScopeOf(r.Phase, step)
}

// start begins an attempt at a step.
func (s *Simulation) start(ctx context.Context, r *Run, sp run.StepPlan, n int) {
	phase := r.Phase
	run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Started, Run: r.ID, Phase: phase, Step: sp.ID, Uses: sp.Uses, Attempt: n, Changes: sp.Changes})
	out := s.call(ctx, r, phase, sp, n)
	id, at := stepID{phase, sp.ID}, &attempt{sp, n}
	r.going[id] = at
	s.push(s.now.Add(out.Took), func() {
		if r.going[id] != at {
			return // it was stopped
		}
		if out.Wait > 0 {
			out.Err = action.Wait(s.now.Add(out.Wait))
		}
		delete(r.going, id)
		s.attempted(r, phase, sp, n, out.Outputs, out.Err)
		s.advance(ctx, r)
	})
}

// skipped evaluates a step's condition, and records the step as skipped where it is not true.
func (s *Simulation) skipped(ctx context.Context, r *Run, sp run.StepPlan) bool {
	if why := run.Withheld(&r.Run, &r.Of.Plan, sp); why != "" {
		s.finish(r, r.Phase, sp, 0, run.Entry{StepState: run.StepSkipped, Error: why})
		return true
	}
	scope := s.scope(r, sp.ID)
	id := stepID{r.Phase, sp.ID}
	if s.o.Asked != nil && !r.gating.traced[id] { // one that waits for its target is asked again
		if r.gating.traced == nil {
			r.gating.traced = map[stepID]bool{}
		}
		r.gating.traced[id] = true
		if a, ok := r.Of.TraceIf(ctx, r.Phase, sp.ID, scope); ok {
			s.o.Asked(r.Of, r.Event, a)
		}
	}
	truth, err := r.Of.If(ctx, r.Phase, sp.ID, scope)
	if truth == expression.True {
		return false
	}
	en := run.Entry{StepState: run.StepSkipped}
	if err != nil {
		en.Error = "if: " + err.Error()
	}
	s.finish(r, r.Phase, sp, 0, en)
	return true
}

// attempted records what an attempt came to.
func (s *Simulation) attempted(r *Run, phase run.Phase, sp run.StepPlan, n int, outputs run.Values, err error) {
	en := run.Attempted{Plan: sp, Attempt: n, Outputs: outputs, Err: err, Now: s.now, Random: func() float64 { return 0 }}.Entry()
	s.finish(r, phase, sp, n, en)
}

func (s *Simulation) finish(r *Run, phase run.Phase, sp run.StepPlan, n int, en run.Entry) {
	en.At, en.Kind, en.Run, en.Phase, en.Step, en.Uses, en.Attempt = s.now, run.Finished, r.ID, phase, sp.ID, sp.Uses, n
	run.Apply(&r.Run, en)
}

// call evaluates a step's parameters, has the action check them, and asks for the outcome.
func (s *Simulation) call(ctx context.Context, r *Run, phase run.Phase, sp run.StepPlan, n int) Outcome {
	params, shown, err := r.Of.Prepare(ctx, phase, sp.ID, s.scope(r, sp.ID))
	r.with[stepID{phase, sp.ID}] = shown
	if err != nil {
		return Outcome{Err: err}
	}
	if check := r.Of.Action(phase, sp.ID).Check; check != nil {
		if err := check(params); err != nil {
			return Outcome{Err: action.Permanent(err)}
		}
	}
	out := s.o.Act(&Call{Run: r, Phase: phase, Step: sp, Attempt: n, Params: params, With: shown})
	if sp.Timeout > 0 && out.Took > sp.Timeout {
		out = Outcome{Err: sp.TimedOut(context.DeadlineExceeded), Took: sp.Timeout}
	}
	return out
}

// stop ends steps whose time, or that of what they belong to, is over. It reports whether any was under way.
func (s *Simulation) stop(r *Run, steps []run.Overdue) bool {
	stopped := false
	for _, o := range steps {
		stopped = s.halt(r, o.Step, run.Entry{StepState: run.StepFailed, Error: o.Err.Error()}) || stopped
	}
	return stopped
}

// cancel ends all steps that are under way.
func (s *Simulation) cancel(r *Run) {
	for _, st := range r.Steps {
		if st.Phase == r.Phase {
			s.halt(r, st.ID, run.Entry{StepState: run.StepCancelled, Error: "the run was cancelled"})
		}
	}
}

func (s *Simulation) halt(r *Run, step string, en run.Entry) bool {
	id := stepID{r.Phase, step}
	at := r.going[id]
	if at == nil {
		return false
	}
	delete(r.going, id)
	s.finish(r, id.phase, at.plan, at.n, en)
	return true
}

// open begins a step that consists of others.
func (s *Simulation) open(ctx context.Context, r *Run, sp run.StepPlan, n int) {
	en := run.Entry{At: s.now, Kind: run.Started, Run: r.ID, Phase: r.Phase, Step: sp.ID, Uses: sp.Uses, Attempt: n, Group: true}
	var err error
	scope := s.scope(r, sp.ID)
	if sp.Parallel > 0 {
		en.Items, err = r.Of.Items(ctx, r.Phase, sp.ID, scope)
	} else if en.Inputs, err = r.Of.Inputs(ctx, r.Phase, sp.ID, scope); err == nil {
		r.with[stepID{r.Phase, sp.ID}] = en.Inputs
	}
	if err == nil {
		err = kept(&en)
	}
	if err != nil {
		en.Items, en.Inputs = nil, nil
	}
	run.Apply(&r.Run, en)
	if err != nil {
		s.attempted(r, r.Phase, sp, n, nil, err)
	}
}

// kept makes what a group goes on with what a journal would keep of it.
func kept(en *run.Entry) error {
	text, err := json.Marshal([]any{en.Items, en.Inputs})
	if err != nil {
		return action.Permanent(fmt.Errorf("the step's inputs can't be kept: %w", err))
	}
	decoded, err := event.Decode(text)
	both, _ := decoded.([]any)
	if err != nil || len(both) != 2 {
		return action.Permanent(errors.New("the step's inputs can't be kept"))
	}
	en.Items, _ = both[0].([]any)
	en.Inputs, _ = both[1].(map[string]any)
	return nil
}

// closeGroups ends groups of steps that have come to their end, with their outputs.
func (s *Simulation) closeGroups(ctx context.Context, r *Run, groups []run.Closing) {
	for _, c := range groups {
		st := r.Step(r.Phase, c.Plan.ID)
		outputs, err := run.Values(nil), c.Err
		if err == nil {
			outputs, err = s.groupOutputs(ctx, r, c.Plan, st)
		}
		s.attempted(r, r.Phase, c.Plan, st.Attempt, outputs, err)
	}
}

func (s *Simulation) groupOutputs(ctx context.Context, r *Run, sp run.StepPlan, st *run.Step) (run.Values, error) {
	if sp.Parallel == 0 {
		return r.Of.Outputs(ctx, r.Phase, sp.ID, s.scope(r, sp.ID+"/outputs"))
	}
	items := make([]any, len(st.Items))
	for i := range items {
		if c := r.Step(r.Phase, fmt.Sprintf("%s[%d]", sp.ID, i)); c != nil && c.Outputs != nil {
			items[i] = map[string]any(c.Outputs)
		}
	}
	return run.Values{"items": items}, nil
}

// due is something that happens at a time; of several at one time, the one that was planned first.
type due struct {
	at time.Time
	n  int
	do func()
}

type queue []due

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(due)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (s *Simulation) push(at time.Time, do func()) {
	s.pushed++
	heap.Push(&s.pending, due{at, s.pushed, do})
}

// settle does what is due by a time, and moves the clock there.
func (s *Simulation) settle(to time.Time) {
	for len(s.pending) > 0 && !s.pending[0].at.After(to) {
		next := heap.Pop(&s.pending).(due)
		if next.at.After(s.now) {
			s.now = next.at
		}
		next.do()
	}
	if to.After(s.now) {
		s.now = to
	}
}
