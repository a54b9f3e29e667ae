package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// gating is what a run has asked of the gate since it was created or revived.
type gating struct {
	asked   bool              // for admission
	wants   map[string]stepID // targets, and the steps that want them
	refused bool              // it holds nothing
	told    tellState
	traced  map[stepID]bool // steps of which it was told what their condition says
}

// tellState says whether onFailure runs.
type tellState int

const (
	tellUnknown tellState = iota
	tellYes
	tellNo
)

func tellOnce(first bool) tellState {
	if first {
		return tellYes
	}
	return tellNo
}

// hear has answers of the gate heard in their turn: they may be about any run.
func (s *Simulation) hear(ctx context.Context, answers []gate.Answer) {
	for i := range answers {
		s.push(s.now, func() { s.answered(ctx, &answers[i]) })
	}
	for _, n := range s.gate.Notices() {
		s.notice(ctx, n)
	}
	if next, ok := s.gate.Next(); ok {
		s.push(next, func() {
			s.gate.MoveTo(s.now)
			for _, n := range s.gate.Notices() {
				s.notice(ctx, n)
			}
		})
	}
}

// notice tells rules of the gate itself, as the engine does.
func (s *Simulation) notice(ctx context.Context, n gate.Notice) {
	if s.finishing {
		return
	}
	typ := rule.NoticeType(n.Kind)
	body, _ := json.Marshal(map[string]string{"rule": n.Rule}) // texts
	e := &event.Event{
		ID: event.ID(event.OwnSource, fmt.Sprintf("%s %s %d", n.Kind, n.Rule, n.At.UnixNano())), Source: event.OwnSource, Type: typ, Subject: n.Rule,
		Body: body, Time: n.At, ReceivedAt: s.now,
	}
	s.push(s.now, func() { s.Event(ctx, e) })
}

// askAdmission asks whether a run may begin.
func (s *Simulation) askAdmission(ctx context.Context, r *Run) {
	if r.gating.asked {
		return
	}
	r.gating.asked = true
	scope := s.scope(r, "")
	if s.o.Asked != nil {
		for _, a := range r.Of.TraceAdmission(ctx, scope) {
			s.o.Asked(r.Of, r.Event, a)
		}
	}
	in, reason, err := r.Of.AdmissionFor(ctx, &r.Run, scope)
	if err != nil {
		r.gating.refused = true
		s.end(ctx, r, run.Refuse(&r.Run, &r.Of.Plan, s.now, run.Refused, reason, err.Error()))
		s.push(s.now, func() { s.advance(ctx, r) })
		return
	}
	s.hear(ctx, s.gate.Admit(s.now, in))
}

// locked reports whether the run has to itself what a step would change; otherwise it asks for it.
func (s *Simulation) locked(ctx context.Context, r *Run, sp run.StepPlan) bool {
	if !sp.Changes {
		return true
	}
	target, err := s.target(ctx, r, sp.ID)
	if err != nil {
		return true // the step will say so, and do nothing
	}
	lock, ok := r.Of.LockFor(&r.Run, target)
	if !ok || slices.Contains(r.Targets, lock.Target) {
		return true
	}
	if _, asked := r.gating.wants[lock.Target]; !asked {
		if r.gating.wants == nil {
			r.gating.wants = map[string]stepID{}
		}
		r.gating.wants[lock.Target] = stepID{r.Phase, sp.ID}
		s.hear(ctx, s.gate.Lock(s.now, lock))
	}
	return false
}

// target is what a step says that it would change.
func (s *Simulation) target(ctx context.Context, r *Run, step string) (string, error) {
	def := r.Of.Action(r.Phase, step)
	if def.Target == nil {
		return "", nil
	}
	params, _, err := r.Of.Prepare(ctx, r.Phase, step, s.scope(r, step))
	if err != nil {
		return "", err
	}
	return def.Target(&action.Call{
		RunID: r.ID, Rule: r.Rule, StepID: step, StartedAt: s.now, Params: params, Event: rule.EventInfo(r.Event), Target: r.Of.Target,
		Secret: func(action.SecretRef) (string, error) { return "", errors.New("nothing real is asked in a simulation") },
	}), nil
}

// tell leaves onFailure out where the failure was told already.
func (s *Simulation) tell(ctx context.Context, r *Run, en *run.Entry) {
	if en.Phase != run.OnFailure || !r.Gated {
		return
	}
	if r.gating.told == tellUnknown {
		for _, a := range s.gate.Tell(s.now, r.Of.TellFor(ctx, &r.Run, s.scope(r, ""))) {
			if a.Run == r.ID {
				r.gating.told = tellOnce(a.Verdict == gate.Told)
			}
		}
	}
	if r.gating.told == tellNo {
		*en = run.Silent(&r.Run, &r.Of.Plan, *en)
	}
}

// release gives back what a run that is over holds.
func (s *Simulation) release(ctx context.Context, r *Run, en *run.Entry) {
	if en.Phase != run.Main || r.gating.refused || !r.Gated && len(r.Targets) == 0 && len(r.gating.wants) == 0 {
		return
	}
	s.hear(ctx, s.gate.Release(s.now, gate.Release{Run: rule.GateRun(&r.Run), Attempt: rule.GateAttempt(&r.Run), Outcome: rule.GateOutcome(en.State)}))
}

// answered hears what the gate says of a run.
func (s *Simulation) answered(ctx context.Context, ans *gate.Answer) {
	r := s.byID[rule.RunOf(ans.Run)]
	if r == nil || r.State.Ended() || rule.GateAttempt(&r.Run) != ans.Attempt {
		return
	}
	waits := !r.Admitted && r.Gated && r.Phase == run.Main && r.Outcome == ""
	_, wanted := r.gating.wants[ans.Target]
	en := run.Entry{At: s.now, Run: r.ID}
	switch ans.Verdict {
	case gate.Admitted:
		if en.Kind = run.Admitted; !waits {
			return
		}
	case gate.Queued, gate.LockWaits:
		if ans.Verdict == gate.Queued && waits || wanted {
			en.Kind, en.Why = run.Waits, ans.Message
			run.Apply(&r.Run, en)
		}
		return
	case gate.Locked:
		if en.Kind, en.Target = run.Locked, ans.Target; slices.Contains(r.Targets, ans.Target) {
			return
		}
	case gate.Refused, gate.Superseded:
		s.refused(ctx, r, ans, waits)
		return
	case gate.Stop:
		en.Kind, en.Command, en.Why = run.Commanded, run.CommandSupersede, ans.Message
	}
	run.Apply(&r.Run, en)
	if ans.Verdict == gate.Stop && !r.Phase.CleansUp() {
		s.cancel(r)
	}
	s.advance(ctx, r)
}

// refused ends a run that may not begin, or fails a step that may not have its target.
func (s *Simulation) refused(ctx context.Context, r *Run, ans *gate.Answer, waits bool) {
	switch {
	case ans.Target != "":
		s.refuseStep(r, ans)
	case waits:
		state := run.Refused
		if ans.Verdict == gate.Superseded {
			state = run.Superseded
		}
		r.gating.refused, r.gating.told = true, tellOnce(ans.First)
		s.end(ctx, r, run.Refuse(&r.Run, &r.Of.Plan, s.now, state, ans.Reason, ans.Message))
	default:
		return
	}
	s.advance(ctx, r)
}

func (s *Simulation) refuseStep(r *Run, ans *gate.Answer) {
	id, wanted := r.gating.wants[ans.Target]
	sp, ok := r.Of.Plan.Find(id.phase, id.id)
	if st := r.Step(id.phase, id.id); !wanted || !ok || r.Phase != id.phase || st != nil && st.State.Ended() {
		return
	}
	delete(r.gating.wants, ans.Target)
	r.gating.told = tellOnce(ans.First)
	n := nextAttempt(r, id.phase, sp.ID)
	run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Started, Run: r.ID, Phase: id.phase, Step: sp.ID, Uses: sp.Uses, Attempt: n})
	s.attempted(r, id.phase, sp, n, nil, action.Refused(ans.Reason, errors.New(ans.Message)))
}

// atOnce admits a run of a simulation that does not act, or refuses it. One that is admitted has ended well in the same
// instant, so no run waits for another, and limits and the storm brake decide.
func (s *Simulation) atOnce(ctx context.Context, r *Run) {
	if !r.Gated || r.Event == nil || r.State.Ended() {
		return
	}
	defer s.gate.Notices()
	in, reason, err := r.Of.AdmissionFor(ctx, &r.Run, s.scope(r, ""))
	if err != nil {
		run.Apply(&r.Run, run.Refuse(&r.Run, &r.Of.Plan, s.now, run.Refused, reason, err.Error()))
		return
	}
	if !s.allows(r, s.gate.Admit(s.now, in)) {
		return
	}
	if lock, ok := r.Of.LockFor(&r.Run, s.firstTarget(ctx, r)); ok {
		s.allows(r, s.gate.Lock(s.now, lock))
	}
	outcome := gate.Succeeded
	if r.State.Ended() {
		outcome = gate.Other
	}
	s.gate.Release(s.now, gate.Release{Run: rule.GateRun(&r.Run), Attempt: rule.GateAttempt(&r.Run), Outcome: outcome})
}

// allows refuses the run where an answer does.
func (s *Simulation) allows(r *Run, answers []gate.Answer) bool {
	for i := range answers {
		if a := &answers[i]; a.Run == r.ID && (a.Verdict == gate.Refused || a.Verdict == gate.Superseded) {
			state := run.Refused
			if a.Verdict == gate.Superseded {
				state = run.Superseded
			}
			r.State, r.Reason, r.Message, r.EndedAt = state, a.Reason, a.Message, s.now
			return false
		}
	}
	return true
}

// firstTarget is what the first changing step of a run would change, where that is known without outputs of other steps.
func (s *Simulation) firstTarget(ctx context.Context, r *Run) string {
	for _, sp := range r.Of.Plan.Steps {
		if sp.Changes && !sp.Group() {
			target, _ := s.target(ctx, r, sp.ID)
			return target
		}
	}
	return ""
}
