package run

import (
	"time"
)

// MaxInterruptions is how often an attempt that was cut off is made again before the step fails: a step that brings the
// process down must not do so for ever.
const MaxInterruptions = 3

// Reasons of a run's end, in the words of run.reason.
const (
	ReasonStepFailed  = "StepFailed"
	ReasonInterrupted = "Interrupted"
	ReasonAbsentField = "AbsentField"
	ReasonTimeout     = "Timeout"
	ReasonCancelled   = "Cancelled"
	ReasonSuperseded  = "Superseded"
	ReasonNotGranted  = "NotGranted"
	ReasonRuleInvalid = "RuleInvalid"
	ReasonEventGone   = "EventGone"
	ReasonQuietTime   = "QuietTime"
)

// Orders that a command gives to a run.
const (
	CommandCancel = "cancel"
	CommandRetry  = "retry"
	// CommandRevive is a retry that a sender's deliberate redelivery asks for; at most MaxRevivals are heard.
	CommandRevive = "revive"
)

// MaxRevivals is how many attempts redeliveries can add to a failed run.
const MaxRevivals = 3

// New returns the record of a run that a Decided entry created.
func New(c Created, decided Entry) *Run {
	r := &Run{
		ID: c.ID, Rule: c.Rule, RuleRevision: decided.Revision,
		Event: decided.Event, EventPos: decided.Position(),
		State: Pending, Attempt: 1, CreatedAt: decided.At,
		Key: c.Key, Events: c.Events, Rest: c.Rest,
	}
	if c.Event != "" {
		r.Event = c.Event
	}
	if c.AsksChanged {
		r.Changed = decided.Changed
	}
	for _, ref := range c.Events { // what the run needs is kept from the oldest on
		if ref.Pos.Compare(r.EventPos) < 0 {
			r.EventPos = ref.Pos
		}
	}
	if c.State.Ended() {
		r.State, r.Reason, r.Message, r.EndedAt = c.State, c.Reason, c.Message, decided.At
	}
	return r
}

// Apply folds an entry that is about the run into its record. It trusts the entry: whether it may be written is Next's
// business. Entries about other things change nothing.
func Apply(r *Run, e Entry) {
	switch e.Kind {
	case Started:
		r.start(e)
	case Finished:
		r.finish(e)
	case Ended:
		r.end(e)
	case Commanded:
		r.command(e)
	case Carried:
		if e.Record != nil {
			*r = *e.Record
		}
	}
}

func (r *Run) start(e Entry) {
	r.State = Running
	if r.StartedAt.IsZero() {
		r.StartedAt = e.At
	}
	s := r.ensure(e)
	s.State, s.Attempt, s.Error, s.NotBefore = StepRunning, e.Attempt, "", time.Time{}
	if s.StartedAt.IsZero() {
		s.StartedAt = e.At
	}
	s.EndedAt = time.Time{}
}

func (r *Run) finish(e Entry) {
	s := r.ensure(e)
	s.State, s.Outputs, s.Error, s.NotBefore = e.StepState, e.Outputs, e.Error, e.NotBefore
	if s.StartedAt.IsZero() {
		s.StartedAt = e.At
	}
	if s.State.Ended() {
		s.EndedAt = e.At
	}
	if e.Interrupted {
		s.Interruptions++
	}
	if e.State != "" && e.Phase == Main && r.Outcome == "" { // the first verdict on the main part stands
		r.Outcome, r.Reason, r.Message = e.State, e.Reason, e.Error
	}
}

func (r *Run) end(e Entry) {
	r.Outcome, r.Reason, r.Message, r.Phase = e.State, e.Reason, e.Error, e.Phase
	if e.Phase != Main {
		return
	}
	r.State, r.EndedAt, r.Cancelling = e.State, e.At, false
}

func (r *Run) command(e Entry) {
	switch e.Command {
	case CommandCancel:
		r.Cancelling = !r.State.Ended()
	case CommandRetry, CommandRevive:
		if e.Record != nil { // the whole run, since older entries may be purged
			*r = *e.Record
			return
		}
		r.Again()
	}
}

// Again makes a run that ended start over from the steps that did not succeed.
func (r *Run) Again() {
	if !r.State.Ended() {
		return
	}
	r.State, r.Reason, r.Message, r.Outcome, r.Phase = Pending, "", "", "", Main
	r.EndedAt = time.Time{}
	r.Attempt++
	kept := r.Steps[:0:0]
	for _, s := range r.Steps {
		if s.Phase == Main && (s.State == StepSucceeded || s.State == StepSkipped) {
			kept = append(kept, s)
		}
	}
	r.Steps = kept
}

func (r *Run) ensure(e Entry) *Step {
	if s := r.Step(e.Phase, e.Step); s != nil {
		return s
	}
	r.Steps = append(r.Steps, Step{ID: e.Step, Uses: e.Uses, Phase: e.Phase, State: StepPending})
	return &r.Steps[len(r.Steps)-1]
}

// Moves is what a run needs next.
type Moves struct {
	// Start lists steps whose next attempt is due now.
	Start []StepPlan
	// Wake is when to ask again because an attempt becomes due; zero if nothing waits for the clock.
	Wake time.Time
	// End is the entry that ends the run or its current part, or nil. Apply it and ask again.
	End *Entry
}

// Next says what a run needs next, from its record, its plan and the time alone. It changes nothing. Nothing to start,
// nothing to wait for and no end means that running steps must end first, or that the run is over.
func Next(r *Run, p *Plan, now time.Time) Moves {
	if r.State.Ended() {
		return Moves{}
	}
	if r.Phase != Main {
		return nextAfter(r, p, now)
	}
	if end := settled(r, p, now); end != nil {
		if r.Busy() {
			return Moves{}
		}
		return Moves{End: end}
	}
	m := due(r, Main, p.Steps, now)
	if m.idle() && !r.Busy() {
		m.End = ended(r, p, now, Succeeded, "", "")
	}
	return m
}

func (m Moves) idle() bool { return len(m.Start) == 0 && m.Wake.IsZero() }

// settled returns the main part's end where it is decided although steps may be left: a failure, a refusal, an order.
func settled(r *Run, p *Plan, now time.Time) *Entry {
	switch {
	case r.Outcome != "":
		return ended(r, p, now, r.Outcome, r.Reason, r.Message)
	case r.Cancelling:
		return ended(r, p, now, Cancelled, ReasonCancelled, "cancelled by order")
	}
	for _, sp := range p.Steps {
		s := r.Step(Main, sp.ID)
		if s != nil && s.State == StepFailed && !sp.ContinueOnError {
			reason := ReasonStepFailed
			if s.Interruptions > 0 && !sp.RetryInterrupted || s.Interruptions > MaxInterruptions {
				reason = ReasonInterrupted
			}
			return ended(r, p, now, Failed, reason, "step "+s.ID+": "+s.Error)
		}
	}
	if p.Timeout > 0 && !r.StartedAt.IsZero() && !now.Before(r.StartedAt.Add(p.Timeout)) {
		return ended(r, p, now, Failed, ReasonTimeout, "the run's timeout of "+p.Timeout.String()+" is over")
	}
	return nil
}

// nextAfter moves on in onFailure and finally, where a failed step does not stop the ones after it.
func nextAfter(r *Run, p *Plan, now time.Time) Moves {
	steps := p.OnFailure
	if r.Phase == Finally {
		steps = p.Finally
	}
	m := due(r, r.Phase, steps, now)
	if m.idle() && !r.Busy() {
		m.End = ended(r, p, now, r.Outcome, r.Reason, r.Message)
	}
	return m
}

// due lists the steps of a phase that can start, in order; a step needs those it names to have ended.
func due(r *Run, phase Phase, steps []StepPlan, now time.Time) Moves {
	var m Moves
	for _, sp := range steps {
		s := r.Step(phase, sp.ID)
		switch {
		case s != nil && s.State != StepPending && s.State != StepWaiting:
		case s != nil && now.Before(s.NotBefore) && s.NotBefore.Sub(now) <= sp.Retry.Wait(s.Attempt, 0):
			// Were it longer than any wait before this attempt, the clock would have gone back: how much of it is over is
			// then not known, and the step is not held up.
			if m.Wake.IsZero() || s.NotBefore.Before(m.Wake) {
				m.Wake = s.NotBefore
			}
		case met(r, phase, sp.Needs):
			m.Start = append(m.Start, sp)
		}
	}
	return m
}

func met(r *Run, phase Phase, needs []string) bool {
	for _, id := range needs {
		if s := r.Step(phase, id); s == nil || !s.State.Ended() {
			return false
		}
	}
	return true
}

// ended makes the entry that ends the run's current part with the outcome, naming the part that follows.
func ended(r *Run, p *Plan, now time.Time, outcome State, reason, message string) *Entry {
	return &Entry{At: now, Kind: Ended, Run: r.ID, Phase: after(r.Phase, p, outcome), State: outcome, Reason: reason, Error: message}
}

// after returns the phase that follows, or Main when the run is over.
func after(phase Phase, p *Plan, outcome State) Phase {
	if phase == Main && len(p.OnFailure) > 0 && (outcome == Failed || outcome == Refused) {
		return OnFailure
	}
	if phase != Finally && len(p.Finally) > 0 {
		return Finally
	}
	return Main
}

// Interrupt returns the entry for a running step whose attempt was cut off: another attempt at once where the plan
// allows it, a failure otherwise.
func Interrupt(r *Run, s *Step, sp StepPlan, now time.Time) Entry {
	e := Entry{
		At: now, Kind: Finished, Run: r.ID, Phase: s.Phase, Step: s.ID, Uses: s.Uses, Attempt: s.Attempt,
		StepState: StepFailed, Interrupted: true, Error: "interrupted: the process that ran it ended; whether it took effect is not known",
	}
	if sp.RetryInterrupted && s.Interruptions < MaxInterruptions {
		e.StepState, e.NotBefore = StepWaiting, now
	}
	return e
}

// Wait returns the pause before the attempt after the given one; random is in [0, 1).
func (r Retry) Wait(attempt int, random float64) time.Duration {
	factor, ceiling := r.Factor, r.MaxBackoff
	if factor == 0 {
		factor = 2
	}
	if ceiling == 0 {
		ceiling = time.Hour
	}
	wait := float64(r.Backoff)
	for i := 1; i < attempt && wait < float64(ceiling); i++ {
		wait *= factor
	}
	wait = min(wait, float64(ceiling))
	return time.Duration(wait * (1 - r.Jitter*random))
}

// Again reports whether a step that failed at the attempt gets another.
func (r Retry) Again(attempt int) bool { return attempt < r.Attempts }
