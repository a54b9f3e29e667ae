package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxInterruptions is how often an attempt that was cut off is made again before the step fails: a step that brings the
// process down must not do so for ever.
const MaxInterruptions = 3

// maxTried is how many earlier attempts a record keeps.
const maxTried = 5

// maxFiring is how many alerts that fire are told apart in a record; beyond it they can't be known to be resolved.
const maxFiring = 100

// Reasons of a run's end, in the words of run.reason.
const (
	ReasonStepFailed      = "StepFailed"
	ReasonInterrupted     = "Interrupted"
	ReasonAbsentField     = "AbsentField"
	ReasonTimeout         = "Timeout"
	ReasonCancelled       = "Cancelled"
	ReasonResolved        = "Resolved"
	ReasonSuperseded      = "Superseded"
	ReasonRuleInvalid     = "RuleInvalid"
	ReasonEventGone       = "EventGone"
	ReasonQuietTime       = "QuietTime"
	ReasonNotGranted      = "NotGranted"
	ReasonPaused          = "Paused"
	ReasonLoop            = "Loop"
	ReasonUnverified      = "Unverified"
	ReasonInconclusive    = "Inconclusive"
	ReasonRejected        = "Rejected"
	ReasonApprovalExpired = "ApprovalExpired"
	// ReasonInternalError is a defect of Riposte's own.
	ReasonInternalError = "InternalError"
	// ReasonNotEntitled is that of an order, by somebody who may not give it.
	ReasonNotEntitled = "NotEntitled"
)

// Orders that a command gives to a run.
const (
	CommandCancel = "cancel"
	CommandRetry  = "retry"
	// CommandRevive is a retry that a sender's deliberate redelivery asks for; at most MaxRevivals are heard.
	CommandRevive = "revive"
	// CommandSupersede is a cancel on account of newer work.
	CommandSupersede = "supersede"
	CommandApprove   = "approve"
	CommandReject    = "reject"
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
		Gated: c.Gated, Alert: c.Alert, Depth: c.Depth, CausedBy: c.CausedBy,
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
	if c.Alert != nil { // records must not share what changes
		alert := *c.Alert
		alert.Firing = slices.Clone(alert.Firing)
		r.Alert = &alert
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
	case Settled:
		r.Settled = &Settlement{e.Phase, e.State, e.Reason, e.Error}
	case Ended:
		r.end(e)
	case Commanded:
		r.command(e)
	case Waits:
		r.State = Waiting
		if r.Outcome == "" {
			r.Message = e.Why
		}
	case Admitted:
		r.State, r.Admitted, r.Message = Pending, true, ""
	case Locked:
		r.Targets = append(slices.Clip(r.Targets), e.Target)
		r.goOn()
	case Requested:
		r.State, r.Approval = Waiting, e.Approval
		r.Message = "step " + e.Approval.Step + " waits for consent"
	case Heard:
		r.hear(e)
	case Looked:
		r.look(e)
	case Repeated:
		r.repeat(e)
	case Carried:
		if e.Record != nil {
			*r = *e.Record
		}
	}
}

func (r *Run) start(e Entry) {
	r.goOn()
	if r.StartedAt.IsZero() {
		r.StartedAt = e.At
	}
	if r.BeganAt.IsZero() {
		r.BeganAt = e.At
	}
	r.Acted = r.Acted || e.Changes
	s := r.ensure(e)
	if s.Group {
		r.dropBelow(e.Phase, s.ID)
		s = r.ensure(e)
	}
	s.State, s.Attempt, s.Error, s.NotBefore, s.BeganAt = StepRunning, e.Attempt, "", time.Time{}, e.At
	s.Group, s.Items, s.Inputs = e.Group, e.Items, e.Inputs
	if s.StartedAt.IsZero() {
		s.StartedAt = e.At
	}
	s.EndedAt = time.Time{}
}

// goOn says of a run that it does not wait; the verdict on its main part stands.
func (r *Run) goOn() {
	r.State = Running
	if r.Outcome == "" {
		r.Message = ""
	}
}

// dropBelow forgets the steps of a group that is made again.
func (r *Run) dropBelow(phase Phase, path string) {
	r.Steps = slices.DeleteFunc(slices.Clone(r.Steps), func(s Step) bool { return s.Phase == phase && below(s.ID, path) })
}

// below reports whether a step belongs to the group with the path.
func below(id, path string) bool {
	return len(id) > len(path) && strings.HasPrefix(id, path) && (id[len(path)] == '/' || id[len(path)] == '[')
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
	if s.Pause = 0; s.State == StepWaiting {
		s.Pause = e.NotBefore.Sub(e.At)
	}
	if e.Paused { // it goes on later, and has not failed
		s.Attempt = e.Attempt - 1
	}
	if e.State != "" && e.Phase == Main && r.Outcome == "" { // the first verdict on the main part stands
		r.Outcome, r.Reason, r.Message = e.State, e.Reason, e.Error
	}
}

func (r *Run) end(e Entry) {
	for i := range r.Steps { // a group, or a step that waits: what runs was waited for
		if s := &r.Steps[i]; s.Phase == r.Phase && !s.State.Ended() {
			s.State, s.EndedAt, s.NotBefore = StepCancelled, e.At, time.Time{}
		}
	}
	r.Outcome, r.Reason, r.Message, r.Phase, r.Settled = e.State, e.Reason, e.Error, e.Phase, nil
	switch e.Phase {
	case Main:
		r.State, r.EndedAt, r.Cancelling = e.State, e.At, false
	case Verification:
		r.State, r.Verified = Verifying, &Verified{Since: e.At}
	default:
		r.State = Running
	}
}

func (r *Run) command(e Entry) {
	switch e.Command {
	case CommandCancel:
		r.Cancelling = !r.State.Ended()
	case CommandSupersede:
		if r.Cancelling = !r.State.Ended(); r.Cancelling && r.Phase == Main && r.Outcome == "" {
			r.Outcome, r.Reason, r.Message = Superseded, ReasonSuperseded, e.Why
		}
	case CommandApprove:
		r.consent(e)
	case CommandReject:
		if e.Consent != nil && r.Outcome == "" {
			r.Outcome, r.Reason, r.Message = Refused, ReasonRejected, "rejected by "+e.Consent.Who
			if e.Consent.Comment != "" {
				r.Message += ": " + e.Consent.Comment
			}
		}
	case CommandRetry, CommandRevive:
		if e.Record != nil { // the whole run, since older entries may be purged
			*r = *e.Record
			return
		}
		r.Again()
		if e.Command == CommandRevive {
			r.Revivals++
		}
	}
}

func (r *Run) consent(e Entry) {
	if r.Approval == nil || e.Consent == nil {
		return
	}
	a := *r.Approval
	a.By = append(slices.Clip(a.By), *e.Consent)
	a.Granted = len(a.By) >= a.Needed
	r.Approval = &a
	if a.Granted {
		r.goOn()
	}
}

// Asks reports whether the run waits for a person's consent.
func (r *Run) Asks() bool {
	return r.Approval != nil && !r.Approval.Granted && !r.State.Ended() && r.Outcome == ""
}

// Consents reports why a person's consent to what a run waits for can't be heard, or nil.
func (r *Run) Consents(c Consent, digest string) error {
	a := r.Approval
	switch {
	case a == nil || r.State.Ended() || r.Outcome != "":
		return errors.New("it waits for nobody's consent")
	case a.Granted:
		return errors.New("it has the consent it needs")
	case digest != a.Digest:
		return errors.New("what was shown is not what it waits for now: look at it again")
	case !c.At.Before(a.ExpiresAt):
		return fmt.Errorf("the time to consent was over at %s", a.ExpiresAt.Format(time.RFC3339))
	}
	for _, by := range a.By {
		if by.Who == c.Who {
			return fmt.Errorf("%s has consented already", c.Who)
		}
	}
	return nil
}

// hear notes that an alert fires or is resolved.
func (r *Run) hear(e Entry) {
	if r.Alert == nil {
		return
	}
	a := *r.Alert
	a.Seen = e.Seen
	a.Firing = slices.DeleteFunc(slices.Clone(a.Firing), func(f string) bool { return f == e.Fingerprint })
	switch {
	case e.Firing && len(a.Firing) < maxFiring:
		a.Firing = append(a.Firing, e.Fingerprint)
	case e.Firing:
		a.More = true
	}
	a.ResolvedAt = time.Time{}
	if len(a.Firing) == 0 && !a.More {
		a.ResolvedAt = e.At
	}
	r.Alert = &a
}

// look notes what a look came to. A pause in which nobody looked breaks what held before it.
func (r *Run) look(e Entry) {
	if r.Verified == nil {
		return
	}
	v := *r.Verified
	began := e.NotBefore
	if e.Broken {
		v.HeldSince = time.Time{}
	}
	v.Looks++
	v.LookedAt, v.Verdict, v.Note, v.Outputs = began, e.Verdict, e.Error, e.Outputs
	switch {
	case e.Verdict != Holds:
		v.HeldSince = time.Time{}
	case v.HeldSince.IsZero():
		v.HeldSince = began
	}
	r.Verified = &v
}

// repeat makes the steps start over after a verification that failed.
func (r *Run) repeat(e Entry) {
	r.keepTried(e)
	r.State, r.Phase, r.NotBefore = Waiting, Main, e.NotBefore
	r.Message = "not verified: " + e.Error
	r.Outcome, r.Reason = "", ""
	r.Attempt++
	r.Tries++
	r.Steps, r.Verified, r.Approval, r.BeganAt = nil, nil, nil, time.Time{} // consent was to what is made again
}

func (r *Run) keepTried(e Entry) {
	t := Tried{Attempt: r.Attempt, EndedAt: e.At, Reason: e.Reason, Message: e.Error}
	for _, s := range r.Steps {
		s.Outputs, s.Items, s.Inputs = nil, nil, nil
		t.Steps = append(t.Steps, s)
	}
	r.Tried = append(slices.Clip(r.Tried), t)
	if over := len(r.Tried) - maxTried; over > 0 {
		r.Tried = slices.Clone(r.Tried[over:])
	}
}

// Again makes a run that ended start over from the steps that did not succeed.
func (r *Run) Again() {
	if !r.State.Ended() {
		return
	}
	r.keepTried(Entry{At: r.EndedAt, Reason: r.Reason, Error: r.Message})
	unverified := r.Verified != nil // the steps had succeeded, and did not help: all are made again
	r.State, r.Reason, r.Message, r.Outcome, r.Phase = Pending, "", "", "", Main
	r.EndedAt, r.BeganAt, r.NotBefore = time.Time{}, time.Time{}, time.Time{}
	r.Admitted, r.Targets, r.Approval, r.Verified, r.Tries, r.Cancelling = false, nil, nil, nil, 0, false
	r.Attempt++
	kept := r.Steps[:0:0]
	for _, s := range r.Steps {
		if s.Phase == Main && !unverified && (s.State == StepSucceeded || s.State == StepSkipped) {
			kept = append(kept, s)
		}
	}
	r.Steps = dropOrphans(kept)
}

// dropOrphans removes the steps of groups that are made again as a whole.
func dropOrphans(steps []Step) []Step {
	there := map[string]bool{}
	for _, s := range steps {
		there[s.ID] = true
	}
	return slices.DeleteFunc(steps, func(s Step) bool {
		for at := PlaceOf(s.ID); at != (Place{}); {
			group := at.Parent
			if at.Each != "" {
				group = at.Each
			}
			if group == "" {
				return false
			}
			if !there[group] {
				return true
			}
			at = PlaceOf(group)
		}
		return false
	})
}

func (r *Run) ensure(e Entry) *Step {
	if s := r.Step(e.Phase, e.Step); s != nil {
		return s
	}
	r.Steps = append(r.Steps, Step{ID: e.Step, Uses: e.Uses, Phase: e.Phase, State: StepPending})
	return &r.Steps[len(r.Steps)-1]
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

// Again reports whether a step that failed at the attempt with the outcome gets another.
func (r Retry) Again(attempt int, o Outcome) bool {
	return attempt < r.Attempts && (len(r.On) == 0 || slices.Contains(r.On, o))
}
