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

// States of a run. Waiting, verifying and observed are reached by later features; the words are part of the API.
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
	Steps        []Step    `json:"steps"`
	// Key is the group of a correlating rule, Events what took part, oldest first, and Rest how many are not listed.
	Key    string     `json:"key,omitempty"`
	Events []EventRef `json:"events,omitempty"`
	Rest   int        `json:"rest,omitempty"`
	// Phase is the part that runs now, and Outcome what the main part came to once a later one does.
	Phase   Phase `json:"phase,omitempty"`
	Outcome State `json:"outcome,omitempty"`
	// Cancelling says that a person ordered the run to stop and its running steps have not ended yet.
	Cancelling bool `json:"cancelling,omitempty"`
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
		if r.Steps[i].State == StepRunning {
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
