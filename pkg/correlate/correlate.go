// Package correlate holds the state machines of correlation over time: what a rule waits for when one event alone does
// not decide. The package is pure: no I/O of its own, no clock, no goroutines. A Machine belongs to one goroutine.
//
// # Guarantees
//
// A Machine's state and firings are a function of the calls of Add and Advance, and of nothing else: no clock, no map
// order, no counter that a restart resets. So a machine that is restored and given the rest of the log fires what the
// one that never stopped fires, with the same Window, and hash(rule, group, Window) names a firing for good. Add drops
// events at or before the last position it has seen, so replaying too much does no harm.
//
// Time is log time. It never runs backwards: an event that is late counts as of the log time that it finds. A window is
// half open, [start, start+Within): an event exactly at its end is outside. A window that ended fires at most once, with
// its end as the time, however late Advance is called and however far time jumped.
//
// Memory is bounded by MaxGroups, MaxEvents and MaxKeyBytes of the Spec; beyond them the group that was matched least
// recently goes, and Stats counts it. SetBounds changes them, and is a call as Add is. A key longer than 1 KiB is cut and hashed.
//
// # How the engine uses it
//
// The owner of a partition keeps one Machine for each rule, and passes every event that matches, in log order:
//
//	firings := m.Add(matches...)    // all parts that one event matches, in one call
//	firings := m.Advance(logTime)   // whenever the log moved; free while nothing is due
//
// Log time is the greatest ReceivedAt of the records up to a position, so every owner finds the same. While the log is
// idle the owner sleeps until Next and passes the clock to Advance; that call is not in the log, so what it returns is
// written to the partition's journal, with its time, before it is acted on, and a new owner makes the same call at the
// same place. An Advance that ends no window changes nothing and need not be recorded.
//
// A stored state is what Snapshot wrote, followed by what each Delta wrote since, beside the log position that it holds
// (Position). A Delta holds only the groups that changed, so its cost follows the events and not the groups. Checkpoint
// chooses: it writes a whole snapshot once the deltas have outgrown the last one, so at most about twice the size of
// what changed is ever written. An owner starts with Restore and reads the log after Position. If a Delta was written
// but could not be stored, Snapshot starts anew; Restore refuses a Delta that does not follow what is before it.
package correlate

import (
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Match says that an event matched a part of the rule.
type Match struct {
	// Part is the index of the part in Spec.Parts; 0 for the kinds with one unnamed part.
	Part int
	// Key is the text of the rule's `by`; each key is a group of its own.
	Key string
	// ID and Pos refer to the event. IDs as pkg/event makes them are kept whole, others up to 15 bytes. Positions are
	// never zero, and rise from call to call.
	ID  string
	Pos event.Pos
	// At is when the event was accepted: its ReceivedAt.
	At time.Time
	// State is what flapping compares; other kinds ignore it.
	State string
}

// Ref refers to an event that takes part in a correlation.
type Ref struct {
	Part string // name of the part it matched; empty for the kinds with one unnamed part
	ID   string
	Pos  event.Pos
	At   time.Time // log time
}

// Firing says that what a rule waits for is complete in a group.
type Firing struct {
	Key string
	// Window names the window among those of its rule and group: the position of the event that opened it for absence
	// and collect, of the one that completed it for all others.
	Window string
	// At is the log time: that of the event that completed it, or the window's end.
	At time.Time
	// Events are those that it consists of, in log order. One that matched several parts of an `all` is there for each.
	Events []Ref
	// Rest counts the events of a collect that are not listed: those between the last but one and the last of Events.
	Rest int
}

// Event returns the last event, on whose account it fires.
func (f *Firing) Event() Ref { return f.Events[len(f.Events)-1] }

// Part returns the event that matched the part, the last one where there are several.
func (f *Firing) Part(name string) (Ref, bool) {
	for i := len(f.Events) - 1; i >= 0; i-- {
		if f.Events[i].Part == name {
			return f.Events[i], true
		}
	}
	return Ref{}, false
}

// Stats are figures for metrics.
type Stats struct {
	Groups   int // that wait
	Events   int // that they refer to, or have room for
	KeyBytes int // of their keys, with the states of flapping
	// Evicted counts the groups that went because they were beyond a bound, since the machine began; a restart keeps it.
	Evicted uint64
}
