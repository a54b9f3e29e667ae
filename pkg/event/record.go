package event

import (
	"errors"
	"fmt"
)

// Pos is a record's place in the log: the sequence of the segment that holds it, and its index there. Positions are
// totally ordered and never reused; the zero Pos is before all records.
type Pos struct {
	Seq   uint64 `json:"seq"`
	Index int    `json:"index"`
}

// Compare returns -1, 0 or 1 as p is before, at or after q.
func (p Pos) Compare(q Pos) int {
	switch {
	case p.Seq < q.Seq, p.Seq == q.Seq && p.Index < q.Index:
		return -1
	case p == q:
		return 0
	}
	return 1
}

func (p Pos) String() string { return fmt.Sprintf("%d.%d", p.Seq, p.Index) }

// Kind says what a record of the log is.
type Kind string

// Kinds of records. What must be ordered with the events stands in the log beside them.
const (
	KindEvent    Kind = "event"
	KindActivate Kind = "activate" // a rule revision; Subject is the revision, DeliveryID the hash of its files
	KindCommand  Kind = "command"  // an order to a run (cancel, retry); Subject is the run, Type the order
	KindAsk      Kind = "ask"      // a request of a run to what bounds runs; Subject is the run
	KindAnswer   Kind = "answer"   // what that comes to; Subject is the run that must hear it
	KindTick     Kind = "tick"     // that time has come to ReceivedAt, where a window ends and no event says so
)

// OwnSource is the source of events that Riposte itself sends: about itself, by schedule, by hand and by event.emit.
const OwnSource = "riposte"

// TypeRun is the type of the events, of OwnSource, by which people start a rule or a workflow. They alone write it: what rules
// emit has types of its own.
const TypeRun = "run"

// ApprovalRequested is the type of the event, of OwnSource, that tells that a run waits for consent.
const ApprovalRequested = "approval.requested"

// EmittedPrefix stands before the type of what event.emit emits, so that no rule can pass its own events off as those that
// Riposte sends about itself.
const EmittedPrefix = "emitted."

// Record is one entry of the log. Of an event it holds what was received, without the views, which are made from it on reading.
type Record struct {
	Kind Kind
	// SourceType names the preset that received the event, so that it can be read after its Source document is gone.
	SourceType string
	// Event holds the record's attributes. Its ID is set for every kind, and random where the record is no event.
	Event *Event
}

// Entry is a record that was read, with its place.
type Entry struct {
	Pos    Pos
	Record Record
	// Duplicate says that an earlier record holds this event's id, so that this one is never decided.
	Duplicate bool
}

// Appended is what became of one record that was handed to the log.
type Appended struct {
	ID string
	// Duplicate says that the log held the id before: the event was accepted then, and nothing was added.
	Duplicate bool
}

var (
	// ErrLogFull says that the log is full of records that are still needed, or the disk is nearly full. Try again later.
	ErrLogFull = errors.New("event log is full")
	// ErrLogUnavailable says that the log can't be written now; whether this write took place is unknown.
	ErrLogUnavailable = errors.New("event log is unavailable")
	// ErrNotFound says that no event has the id, or that its body was purged.
	ErrNotFound = errors.New("event not found")
)
