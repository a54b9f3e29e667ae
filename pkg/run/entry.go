package run

import (
	"fmt"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// EntryKind says what a journal entry records.
type EntryKind string

// Kinds of entries. Each names the fields of Entry that it uses, beside At and Kind.
const (
	// Claimed: Owner took the partition. It is an owner's first write, and fences the one before it.
	Claimed EntryKind = "claimed"
	// Deciding: Event is about to be decided, after a crash that may have been its doing.
	Deciding EntryKind = "deciding"
	// Decided: Event at Pos was decided by Revision; Runs were created, or none, and Why says why. Changed is what a diff
	// found, if one was made.
	Decided EntryKind = "decided"
	// Deferred: Event at Pos waits to be decided by Revision until a diff in Repository has told its changed paths; its
	// Decided comes later, with the same Pos. Runs are those of windows that were complete at Pos. Written again, without
	// Runs, it says that the event still waits and that no attempt at the diff is under way.
	Deferred EntryKind = "deferred"
	// Fired: at Pos windows of correlating rules were complete or ended, and Runs were created. With More it holds the first of
	// the runs that are created at Pos, or of Event, and another entry the rest.
	Fired EntryKind = "fired"
	// Commanded: the command at Pos, which is the order Event, was heard by Run; Command is what it ordered, Consent who did,
	// and Why what came of it. Without Run it was refused, for Why; Reason is ReasonNotEntitled where that is who gave it.
	Commanded EntryKind = "commanded"
	// Waits: Run waits for another run or a target; Why says for which.
	Waits EntryKind = "waits"
	// Admitted: Run may begin.
	Admitted EntryKind = "admitted"
	// Locked: Run has Target to itself until it has ended.
	Locked EntryKind = "locked"
	// Requested: Run waits for consent to Approval.
	Requested EntryKind = "requested"
	// Heard: an alert with Fingerprint, the one that started Run or one in its place, fires (Firing) or is resolved, as the
	// event at Seen says.
	Heard EntryKind = "heard"
	// Looked: the look at NotBefore at whether the problem is gone came to Verdict, with Outputs, and Error why.
	Looked EntryKind = "looked"
	// Repeated: Run was not verified, for Reason and Error, and makes its steps again at NotBefore.
	Repeated EntryKind = "repeated"
	// Started: attempt Attempt of Step in Run begins. Of a group of steps, Items or Inputs are what it goes on with.
	Started EntryKind = "started"
	// Finished: attempt Attempt of Step in Run came to StepState, with Outputs or Error; a further attempt is due at
	// NotBefore where StepState is waiting. State and Reason are set where the step settles the whole run (refused, superseded).
	Finished EntryKind = "finished"
	// Settled: how a part of Run ends is decided, and its Ended will say the same; what Run holds is given back meanwhile.
	Settled EntryKind = "settled"
	// Ended: a part of Run came to its end. The run goes on with Phase, or is over when Phase is empty; State, Reason and
	// Error are what the run came to.
	Ended EntryKind = "ended"
	// Released: Owner gave the partition up in good order; whoever finds Claimed last knows of a crash.
	Released EntryKind = "released"
	// Carried: the whole Record of an unfinished run, written again so that older entries can be purged.
	Carried EntryKind = "carried"
)

// Entry is one fact in a partition's journal. Entries are immutable once written; fields are only ever added.
type Entry struct {
	At   time.Time `json:"at"`
	Kind EntryKind `json:"kind"`

	Owner string `json:"owner,omitempty"`

	Event    string     `json:"event,omitempty"`
	Pos      *event.Pos `json:"pos,omitempty"`
	Revision string     `json:"revision,omitempty"`
	Runs     []Created  `json:"runs,omitempty"`
	More     bool       `json:"more,omitempty"` // Pos is not answered before an entry without it
	Why      string     `json:"why,omitempty"`

	Repository string `json:"repository,omitempty"`
	Changed    *Paths `json:"changed,omitempty"`

	Run       string    `json:"run,omitempty"`
	Command   string    `json:"command,omitempty"`
	Phase     Phase     `json:"phase,omitempty"`
	Step      string    `json:"step,omitempty"`
	Uses      string    `json:"uses,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	StepState StepState `json:"stepState,omitempty"`
	Outputs   Values    `json:"outputs,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	State     State     `json:"state,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Error     string    `json:"error,omitempty"`

	// Interrupted says that the attempt was cut off by a crash or a stop.
	Interrupted bool `json:"interrupted,omitempty"`

	// Group and Changes are those of a step that starts.
	Group   bool   `json:"group,omitempty"`
	Items   List   `json:"items,omitempty"`
	Inputs  Values `json:"inputs,omitempty"`
	Changes bool   `json:"changes,omitempty"`

	Target      string    `json:"target,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Firing      bool      `json:"firing,omitempty"`
	Seen        event.Pos `json:"seen,omitzero"` // place of the event that Heard is about
	Verdict     Verdict   `json:"verdict,omitempty"`
	Broken      bool      `json:"broken,omitempty"` // of a look: the one before it was too long ago
	Paused      bool      `json:"paused,omitempty"` // of a step: it asked to go on at NotBefore
	Approval    *Approval `json:"approval,omitempty"`
	Consent     *Consent  `json:"consent,omitempty"`

	Record *Run `json:"record,omitempty"`
}

// Created names a run that a decision created.
type Created struct {
	ID   string `json:"id"`
	Rule string `json:"rule"`
	// State is pending, or refused or observed where the run ends at once; Reason then says why.
	State   State  `json:"state,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`

	// AsksChanged says that its steps ask which paths changed, and what the decision knows of that is to be kept for them.
	AsksChanged bool `json:"asksChanged,omitempty"`

	// Of a correlating rule: the group, the event on whose account it ran, and all that took part; Rest counts those that
	// are not listed.
	Key    string     `json:"key,omitempty"`
	Event  string     `json:"event,omitempty"`
	Events []EventRef `json:"events,omitempty"`
	Rest   int        `json:"rest,omitempty"`
	// Gated says that it needs admission; Alert is the alert that starts it; Depth and CausedBy are its place in a chain.
	Gated    bool   `json:"gated,omitempty"`
	Alert    *Alert `json:"alert,omitempty"`
	Depth    int    `json:"depth,omitempty"`
	CausedBy string `json:"causedBy,omitempty"`
}

// KeepQuiet ends the run at once, since a quiet time holds.
func (c *Created) KeepQuiet(name string, until time.Time) {
	c.State, c.Reason = Refused, ReasonQuietTime
	c.Message = fmt.Sprintf("it is quiet time %s until %s", name, until.Format(time.RFC3339))
}

// EventRef refers to an event that took part in a correlation, as the part of the rule that it matched.
type EventRef struct {
	Part string    `json:"part,omitempty"`
	ID   string    `json:"id"`
	Pos  event.Pos `json:"pos"`
}

// Paths are the paths that an event changed, as a diff found them.
type Paths struct {
	List []string `json:"list"`
	More int      `json:"more,omitempty"` // how many are left out
}

// NewPaths keeps as many paths as take no more than so many bytes.
func NewPaths(paths []string, bytes int) *Paths {
	n := 0
	for n < len(paths) && bytes >= len(paths[n]) {
		bytes -= len(paths[n]) + 4 // and its quotes
		n++
	}
	return &Paths{List: slices.Clone(paths[:n]), More: len(paths) - n}
}

// Phase is the part of a run that a step belongs to.
type Phase string

// Phases, in the order they run.
const (
	Main         Phase = ""
	Verification Phase = "verify"
	OnFailure    Phase = "onFailure"
	Finally      Phase = "finally"
)

// CleansUp reports whether the part tells or tidies up after the run's steps: newer work waits for it, and does not cut it off.
func (p Phase) CleansUp() bool { return p == OnFailure || p == Finally }

// Position returns the place in the event log that the entry answers, or the zero Pos.
func (e *Entry) Position() event.Pos {
	if e.Pos == nil {
		return event.Pos{}
	}
	return *e.Pos
}

// RunIDs returns the ids of the runs that the entry is about.
func (e *Entry) RunIDs() []string {
	if e.Run != "" {
		return []string{e.Run}
	}
	ids := make([]string, len(e.Runs))
	for i, c := range e.Runs {
		ids[i] = c.ID
	}
	return ids
}
