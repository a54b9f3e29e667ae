// Package run is the state machine of a run: its states, the journal entries that are its whole history, and one pure
// transition function. The package does no I/O and reads no clock; who owns a run applies entries only after they are
// durable, so a crash at any instant leaves a run that can be rebuilt from its entries and resumed.
package run

import (
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
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
	ID        string         `json:"id"`
	Uses      string         `json:"uses"`
	Phase     Phase          `json:"phase,omitempty"`
	State     StepState      `json:"state"`
	Attempt   int            `json:"attempt"`
	StartedAt time.Time      `json:"startedAt,omitzero"`
	EndedAt   time.Time      `json:"endedAt,omitzero"`
	Outputs   map[string]any `json:"outputs,omitempty"`
	Error     string         `json:"error,omitempty"`
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
}
