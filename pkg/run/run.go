// Package run is the state machine of a run: its states, the journal entries that are its whole history, and one pure
// transition function. The package does no I/O and reads no clock; who owns a run applies entries only after they are
// durable, so a crash at any instant leaves a run that can be rebuilt from its entries and resumed.
package run

import (
	"errors"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

var (
	// ErrFenced says that another replica owns the partition now: nothing was written, and its children must be killed.
	ErrFenced = errors.New("partition is owned by another replica")
	// ErrAmbiguous says that several runs have an id that begins so.
	ErrAmbiguous = errors.New("more than one run has an id that begins so")
	// ErrUnavailable says that the store does not answer. Of a write the outcome is unknown.
	ErrUnavailable = errors.New("run store is unavailable")
)

// State is the state of a run.
type State string

// States of a run. Waiting is for another run, a target, a person or an hour; Message then says for what.
const (
	Pending    State = "pending"
	Running    State = "running"
	Waiting    State = "waiting"
	Verifying  State = "verifying"
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Refused    State = "refused"
	Superseded State = "superseded"
	Observed   State = "observed"
)

// Ended reports whether nothing more will happen in this state, short of a retry by a person or a redelivery.
func (s State) Ended() bool {
	switch s {
	case Succeeded, Failed, Cancelled, Refused, Superseded, Observed:
		return true
	}
	return false
}

// StepState is the state of a step.
type StepState string

// States of a step.
const (
	StepPending   StepState = "pending"
	StepRunning   StepState = "running"
	StepWaiting   StepState = "waiting" // for its next attempt
	StepSucceeded StepState = "succeeded"
	StepFailed    StepState = "failed"
	StepSkipped   StepState = "skipped"
	StepCancelled StepState = "cancelled"
)

// Ended reports whether the step is over.
func (s StepState) Ended() bool {
	return s == StepSucceeded || s == StepFailed || s == StepSkipped || s == StepCancelled
}

// Step is what happened to one step of a run, as the API shows it.
type Step struct {
	ID        string    `json:"id"`
	Uses      string    `json:"uses"`
	Phase     Phase     `json:"phase,omitempty"`
	State     StepState `json:"state"`
	Attempt   int       `json:"attempt"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	Outputs   Values    `json:"outputs,omitempty"`
	Error     string    `json:"error,omitempty"`
	// NotBefore is when the next attempt is due, of a step that waits for one.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Interruptions counts the attempts that a crash or a stop cut off.
	Interruptions int `json:"interruptions,omitempty"`
	// Pause is how long it waits before its next attempt.
	Pause time.Duration `json:"pause,omitempty"`
	// BeganAt is when the last attempt began.
	BeganAt time.Time `json:"beganAt,omitzero"`
	// Group says that the step consists of others: Items are what a forEach goes over, Inputs what a workflow was given.
	Group  bool   `json:"group,omitempty"`
	Items  List   `json:"items,omitempty"`
	Inputs Values `json:"inputs,omitempty"`
}

// Run is a run's record, as the API shows it.
type Run struct {
	ID           string    `json:"id"`
	Rule         string    `json:"rule"`
	RuleRevision string    `json:"ruleRevision"`
	Event        string    `json:"event"` // id of the event that started it
	EventPos     event.Pos `json:"eventPos"`
	State        State     `json:"state"`
	Reason       string    `json:"reason,omitempty"` // one CamelCase word: StepFailed, AbsentField, Timeout, …
	Message      string    `json:"message,omitempty"`
	Attempt      int       `json:"attempt"`
	CreatedAt    time.Time `json:"createdAt"`
	StartedAt    time.Time `json:"startedAt,omitzero"`
	EndedAt      time.Time `json:"endedAt,omitzero"`
	// BeganAt is when the first step of the last attempt began.
	BeganAt time.Time `json:"beganAt,omitzero"`
	Steps   []Step    `json:"steps"`
	// Key is the group of a correlating rule, Events what took part, oldest first, and Rest how many are not listed.
	Key    string     `json:"key,omitempty"`
	Events []EventRef `json:"events,omitempty"`
	Rest   int        `json:"rest,omitempty"`
	// Changed are the paths that a diff found, where the steps ask for them.
	Changed *Paths `json:"changed,omitempty"`
	// Phase is the part that runs now, and Outcome what the main part came to once a later one does.
	Phase   Phase `json:"phase,omitempty"`
	Outcome State `json:"outcome,omitempty"`
	// Settled is how the current part ends, while what the run holds is given back.
	Settled *Settlement `json:"settled,omitempty"`
	// Cancelling says that the run was ordered to stop and its running steps have not ended yet.
	Cancelling bool `json:"cancelling,omitempty"`
	// Revivals is how often a redelivery made the run go on after it had failed.
	Revivals int `json:"revivals,omitempty"`

	// Gated says that the run needs admission before its first step, and Admitted that it has it.
	Gated    bool `json:"gated,omitempty"`
	Admitted bool `json:"admitted,omitempty"`
	// Targets are what the run holds: no other run changes them until it has ended.
	Targets []string `json:"targets,omitempty"`
	// Acted says that a step that changes something has begun.
	Acted bool `json:"acted,omitempty"`
	// Alert is what is known of the alert that started the run.
	Alert *Alert `json:"alert,omitempty"`
	// Approval is what a person is, or was, asked to agree to.
	Approval *Approval `json:"approval,omitempty"`
	// Verified is what was found out since the steps ended.
	Verified *Verified `json:"verified,omitempty"`
	// NotBefore is when the steps are made again, of a run that was not verified.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Tried are the attempts before this one, the last ones where there were many.
	Tried []Tried `json:"tried,omitempty"`
	// Tries is how often the steps were made since the run was created or retried, and not verified.
	Tries int `json:"tries,omitempty"`
	// Depth is how many runs stand in the chain of causes above this one, and CausedBy the last of them.
	Depth    int    `json:"depth,omitempty"`
	CausedBy string `json:"causedBy,omitempty"`
}

// PlaceOf is where an event that the run needs stands in the log; zero where the record does not say it.
func (r *Run) PlaceOf(eventID string) event.Pos {
	for _, ref := range r.Events {
		if ref.ID == eventID {
			return ref.Pos
		}
	}
	if len(r.Events) == 0 && eventID == r.Event {
		return r.EventPos
	}
	return event.Pos{}
}

// Settlement is how a part of a run ends, before it has.
type Settlement struct {
	Next    Phase  `json:"next,omitempty"`
	State   State  `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Alert is what is known of an alert and those that take its place: what a repair replaces has other labels afterwards.
type Alert struct {
	// Key is the same for all of them.
	Key string `json:"key"`
	// Firing are the fingerprints of those that fire.
	Firing []string `json:"firing,omitempty"`
	// More says that there were more than are told apart: none can be known to be the last.
	More       bool      `json:"more,omitempty"`
	ResolvedAt time.Time `json:"resolvedAt,omitzero"` // since when none does
	Seen       event.Pos `json:"seen,omitzero"`       // of the last event about them
}

// Approval is what a person is asked to agree to: a step with its parameters.
type Approval struct {
	Step        string    `json:"step"`
	Uses        string    `json:"uses"`
	Digest      string    `json:"digest"` // of the step and its parameters
	Shown       Values    `json:"shown,omitempty"`
	RequestedAt time.Time `json:"requestedAt"`
	ExpiresAt   time.Time `json:"expiresAt"`
	Needed      int       `json:"needed"`
	By          []Consent `json:"by,omitempty"`
	Granted     bool      `json:"granted,omitempty"`
}

// Consent is what one person said.
type Consent struct {
	Who     string    `json:"who"`
	Via     string    `json:"via,omitempty"` // api, link, comment
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

// Verified is what was found out about whether the problem is gone.
type Verified struct {
	Since     time.Time `json:"since"`              // the steps had ended
	HeldSince time.Time `json:"heldSince,omitzero"` // it holds without a break since then; zero while it does not
	LookedAt  time.Time `json:"lookedAt,omitzero"`  // the last look began
	Looks     int       `json:"looks,omitempty"`
	Verdict   Verdict   `json:"verdict,omitempty"` // of the last look
	Note      string    `json:"note,omitempty"`    // why
	Outputs   Values    `json:"outputs,omitempty"` // of the last look
}

// Verdict is what a look at the world says.
type Verdict string

// Verdicts. Unknown is a look that failed, or an expectation that reads an absent field.
const (
	Holds       Verdict = "holds"
	DoesNotHold Verdict = "doesNotHold"
	Unknown     Verdict = "unknown"
)

// Tried is an attempt at a run that was not the last.
type Tried struct {
	Attempt int       `json:"attempt"`
	EndedAt time.Time `json:"endedAt"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Steps   []Step    `json:"steps,omitempty"` // without their outputs
}

// Step returns the step with the id in the phase, or nil.
func (r *Run) Step(phase Phase, id string) *Step {
	for i := range r.Steps {
		if r.Steps[i].ID == id && r.Steps[i].Phase == phase {
			return &r.Steps[i]
		}
	}
	return nil
}

// Busy reports whether a step of the run is running.
func (r *Run) Busy() bool {
	for i := range r.Steps {
		if r.Steps[i].State == StepRunning && !r.Steps[i].Group {
			return true
		}
	}
	return false
}

// Values are a step's outputs: JSON values by name. Read back from the journal, integers keep their value.
type Values map[string]any

// UnmarshalJSON reads an object with event.Decode's exact numbers.
func (v *Values) UnmarshalJSON(data []byte) error {
	decoded, err := event.Decode(data)
	if err != nil {
		return err
	}
	*v, _ = decoded.(map[string]any)
	return nil
}

// List is a list of JSON values. Read back from the journal, integers keep their value.
type List []any

// UnmarshalJSON reads a list with event.Decode's exact numbers.
func (l *List) UnmarshalJSON(data []byte) error {
	decoded, err := event.Decode(data)
	if err != nil {
		return err
	}
	*l, _ = decoded.([]any)
	return nil
}

// Checkpoint is a fact about a partition: what its journal had settled at a sequence, so that an owner need not read
// from the beginning and what is older can be purged.
type Checkpoint struct {
	// Decided is the last log position that the partition has dealt with.
	Decided event.Pos `json:"decided"`
	// Revision is the rule revision that was active at Decided.
	Revision string `json:"revision,omitempty"`
	// Replay is the first journal sequence that a new owner must read.
	Replay uint64 `json:"replay"`
	// EventsFrom is the oldest log position that an undecided event, an unfinished run or a waiting window needs.
	EventsFrom event.Pos `json:"eventsFrom"`
	// LogTime is the time of the log at Decided, and States name the parts that the windows' state at Decided consists of.
	LogTime time.Time `json:"logTime,omitzero"`
	States  []string  `json:"states,omitempty"`
}

// Equal reports whether both state the same facts.
func (c Checkpoint) Equal(d Checkpoint) bool {
	return c.Decided == d.Decided && c.Revision == d.Revision && c.Replay == d.Replay && c.EventsFrom == d.EventsFrom &&
		c.LogTime.Equal(d.LogTime) && slices.Equal(c.States, d.States)
}
