// Package eventlog is the durable, totally ordered log of accepted events and of the records that must be ordered with
// them (rule activations, commands to runs).
package eventlog

import (
	"fmt"
	"time"
)

// Pos is a record's place in the log: the sequence of the segment that holds it, and its index there. Positions are
// ordered and never reused.
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

// Kind says what a record is.
type Kind string

// Kinds of records.
const (
	KindEvent    Kind = "event"
	KindActivate Kind = "activate" // Body: {"revision": digest}
	KindCommand  Kind = "command"  // Body: a command to a run
)

// Record is one entry of the log.
type Record struct {
	Kind       Kind
	ID         string // of an event: its id; of others: random
	Source     string
	SourceType string // the preset that received it, so that it can be read after the source is gone
	Type       string
	Subject    string
	DeliveryID string
	Time       time.Time // zero where the sender says nothing
	ReceivedAt time.Time
	Headers    map[string]string
	CausedBy   string
	Body       []byte
}

// Entry is a record that was read, with its place.
type Entry struct {
	Pos    Pos
	Record Record
	// Duplicate says that an earlier record holds this event's id, so that this one is not to be decided.
	Duplicate bool
}
