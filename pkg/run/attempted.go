package run

import (
	"errors"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
)

// Attempted is an attempt at a step that came to an end of its own: nobody cut it off.
type Attempted struct {
	Plan    StepPlan
	Attempt int
	Outputs Values
	Err     error // as package action has them; nil is success
	Now     time.Time
	Random  func() float64 // in [0, 1), for the pause before the next attempt
}

// Entry returns what records the attempt: the kinds of errors become states of the step and of the run here alone. The
// items of a forEach have attempts of their own, and the forEach has one.
func (a Attempted) Entry() Entry {
	var refused *action.RefusedError
	var wait *action.WaitError
	switch {
	case a.Err == nil:
		return Entry{StepState: StepSucceeded, Outputs: a.Outputs}
	case errors.As(a.Err, &wait):
		return Entry{StepState: StepWaiting, NotBefore: wait.Until, Paused: true}
	case action.IsSuperseded(a.Err):
		return Entry{StepState: StepCancelled, Error: a.Err.Error(), State: Superseded, Reason: ReasonSuperseded}
	case errors.As(a.Err, &refused):
		return Entry{StepState: StepFailed, Error: refused.Err.Error(), State: Refused, Reason: refused.Reason}
	case !action.IsPermanent(a.Err) && a.Plan.Parallel == 0 && a.Plan.Retry.Again(a.Attempt, outcomeOf(a.Err)):
		wait := a.Plan.Retry.Wait(a.Attempt, a.Random())
		return Entry{StepState: StepWaiting, Error: a.Err.Error(), NotBefore: a.Now.Add(wait)}
	}
	return Entry{StepState: StepFailed, Error: a.Err.Error()}
}

func outcomeOf(err error) Outcome {
	var late *timeoutError
	if errors.As(err, &late) {
		return OutcomeTimeout
	}
	return OutcomeFailed
}

type timeoutError struct{ error }

func (e *timeoutError) Unwrap() error { return e.error }

// TimedOut is the error of an attempt that its own timeout ended.
func (sp StepPlan) TimedOut(err error) error {
	return &timeoutError{fmt.Errorf("timed out after %s: %w", sp.Timeout, err)}
}
