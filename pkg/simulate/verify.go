package simulate

import (
	"context"
	"slices"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// look makes a look at whether the problem is gone.
func (s *Simulation) look(ctx context.Context, r *Run) {
	probe, began := r.Of.Plan.Verify.Probe, s.now
	r.looks++
	id := r.looks
	r.looking = true
	out := s.call(ctx, r, run.Verification, probe, r.Verified.Looks+1)
	s.push(s.now.Add(out.Took), func() {
		if !r.looking || r.looks != id {
			return // the run has ended, or looks again
		}
		r.looking = false
		verdict, note := s.verdict(ctx, r, &out)
		run.Apply(&r.Run, run.Look(&r.Run, &r.Of.Plan, began, s.now, verdict, note, out.Outputs))
		s.advance(ctx, r)
	})
}

// verdict is what a look came to.
func (s *Simulation) verdict(ctx context.Context, r *Run, out *Outcome) (run.Verdict, string) {
	switch {
	case out.Err != nil:
		return run.Unknown, out.Err.Error()
	case out.Wait > 0:
		return run.Unknown, "it asked to go on later, and a look ends"
	}
	scope := s.scope(r, r.Of.Plan.Verify.Probe.ID)
	if s.o.Asked != nil {
		if a, ok := r.Of.TraceExpect(ctx, scope, out.Outputs); ok {
			s.o.Asked(r.Of, r.Event, a)
		}
	}
	return r.Of.Expect(ctx, scope, out.Outputs)
}

// watch notes a run that answers an alert, so that it hears what becomes of it.
func (s *Simulation) watch(r *Run) {
	if r.Alert != nil && r.Of.Correlation() == nil && !r.State.Ended() {
		s.alerts = append(s.alerts, r)
	}
}

func (s *Simulation) unwatch(r *Run) {
	s.alerts = slices.DeleteFunc(s.alerts, func(o *Run) bool { return o == r })
}

// hearAlert tells the runs that answer an alert what becomes of it, or of one in its place.
func (s *Simulation) hearAlert(ctx context.Context, e *event.Event, pos event.Pos) {
	if e.Alert == nil {
		return
	}
	for _, r := range slices.Clone(s.alerts) {
		if r.Of.AlertKey(e) == r.Alert.Key {
			run.Apply(&r.Run, run.Entry{
				At: s.now, Kind: run.Heard, Run: r.ID, Fingerprint: e.Alert.Fingerprint, Firing: e.Alert.Status == "firing", Seen: pos,
			})
			s.advance(ctx, r)
		}
	}
}
