package simulate

import (
	"container/heap"
	"context"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// begin starts runs that were created. What bounds them (limits, concurrency, a person's consent) will be asked here,
// before a run is on its way.
func (s *Simulation) begin(ctx context.Context, created []*Run) {
	for _, r := range created {
		if s.o.Started != nil {
			s.o.Started(r)
		}
		if s.o.Act == nil {
			continue
		}
		r.with = map[stepID]map[string]any{}
		s.runs = append(s.runs, r)
		s.advance(ctx, r)
	}
}

// advance makes a run's next moves until it waits for something.
func (s *Simulation) advance(ctx context.Context, r *Run) {
	for {
		m := run.Next(&r.Run, &r.Of.Plan, s.now)
		switch {
		case m.End != nil:
			run.Apply(&r.Run, *m.End)
			if r.State.Ended() {
				return
			}
		case len(m.Start) > 0:
			for _, sp := range m.Start {
				s.start(ctx, r, sp)
			}
		default:
			if !m.Wake.IsZero() {
				s.push(m.Wake, func() { s.advance(ctx, r) })
			}
			return
		}
	}
}

// start begins an attempt at a step, or skips the step where its condition is not true.
func (s *Simulation) start(ctx context.Context, r *Run, sp run.StepPlan) {
	phase, n := r.Phase, 1
	if st := r.Step(phase, sp.ID); st != nil {
		n = st.Attempt + 1
	}
	scope := rule.Moment{Run: &r.Run, Event: r.Event, Correlated: r.joined, Now: s.now}.Scope()
	if n == 1 && s.skipped(ctx, r, sp, scope) {
		return
	}
	run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Started, Run: r.ID, Phase: phase, Step: sp.ID, Uses: sp.Uses, Attempt: n})
	out := s.call(ctx, r, phase, sp, n, scope)
	if sp.Timeout > 0 && out.Took > sp.Timeout {
		out = Outcome{Err: sp.TimedOut(context.DeadlineExceeded), Took: sp.Timeout}
	}
	s.push(s.now.Add(out.Took), func() {
		en := run.Attempted{Plan: sp, Attempt: n, Outputs: out.Outputs, Err: out.Err, Now: s.now, Random: func() float64 { return 0 }}.Entry()
		s.finish(r, phase, sp, n, en)
		s.advance(ctx, r)
	})
}

// skipped evaluates a step's condition, and records the step as skipped where it is not true.
func (s *Simulation) skipped(ctx context.Context, r *Run, sp run.StepPlan, scope *expression.Scope) bool {
	if s.o.Asked != nil {
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

func (s *Simulation) finish(r *Run, phase run.Phase, sp run.StepPlan, n int, en run.Entry) {
	en.At, en.Kind, en.Run, en.Phase, en.Step, en.Uses, en.Attempt = s.now, run.Finished, r.ID, phase, sp.ID, sp.Uses, n
	run.Apply(&r.Run, en)
}

// call evaluates a step's parameters, has the action check them, and asks for the outcome.
func (s *Simulation) call(ctx context.Context, r *Run, phase run.Phase, sp run.StepPlan, n int, scope *expression.Scope) Outcome {
	params, shown, err := r.Of.Prepare(ctx, phase, sp.ID, scope)
	r.with[stepID{phase, sp.ID}] = shown
	if err != nil {
		return Outcome{Err: err}
	}
	if check := r.Of.Action(phase, sp.ID).Check; check != nil {
		if err := check(params); err != nil {
			return Outcome{Err: action.Permanent(err)}
		}
	}
	return s.o.Act(&Call{Run: r, Phase: phase, Step: sp, Attempt: n, Params: params, With: shown})
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
