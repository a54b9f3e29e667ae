// Package explain says why an event started a run, or none: what each rule's trigger, clauses and keys made of it, with the
// values they saw, and what waits in the windows of those that correlate.
//
// The package is pure: Build makes the explanation from an event, a set of rules and what the caller knows of runs and
// windows; Render writes it for people, with the times and the zone that it is given, in ASCII. Both are bounded: values are
// shortened, and of groups and events only some are listed. An Explanation shares nothing with what it was made of.
package explain

import (
	"encoding/json"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// Explanation is what the rules say of one event.
type Explanation struct {
	Event    Head   `json:"event"`
	State    State  `json:"state"`
	Note     string `json:"note,omitempty"` // what to know of it: why nothing was evaluated, or that other rules decided
	Revision string `json:"ruleRevision,omitempty"`
	Loaded   int    `json:"loaded"`
	// NotCandidates counts the rules whose trigger does not select the event.
	NotCandidates int `json:"notCandidates"`
	// Rules are those whose trigger selects the event or that ran, in the order of the set; all of them where that was asked.
	Rules []Verdict `json:"rules"`
}

// State says how an explanation stands to what the engine decided.
type State string

// States of an explanation.
const (
	Decided     State = "decided"     // by the engine, with the revision that is named
	Undecided   State = "undecided"   // not yet, and nothing is evaluated before
	Quarantined State = "quarantined" // reading the event can end the process: nothing is evaluated
	Forgotten   State = "forgotten"   // what decided it is not kept any more; the active rules are asked
	Offline     State = "offline"     // no server has seen it
)

// States lists the states of an explanation.
func States() []State { return []State{Decided, Undecided, Quarantined, Forgotten, Offline} }

// Head is what every event has.
type Head struct {
	ID         string    `json:"id"`
	Source     string    `json:"source"`
	Type       string    `json:"type"`
	Subject    string    `json:"subject,omitempty"`
	Time       time.Time `json:"time"`
	ReceivedAt time.Time `json:"receivedAt"`
}

// Verdict is what one rule says of the event.
type Verdict struct {
	Rule   string `json:"rule"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Mode   string `json:"mode,omitempty"`
	Result Result `json:"result"`
	Why    string `json:"why,omitempty"` // in a line; where there are runs, they say it
	Runs   []Ran  `json:"runs,omitempty"`
	// Parts are those of `correlate`; any other rule has one without a name.
	Parts     []Asked     `json:"parts,omitempty"`
	Correlate *Correlated `json:"correlate,omitempty"`
	// Limits and Concurrency bound the runs of the rule for this event.
	Limits      []Limit      `json:"limits,omitempty"`
	Concurrency *Concurrency `json:"concurrency,omitempty"`
}

// Limit is one that a run for the event counts for.
type Limit struct {
	Runs int     `json:"runs"`
	Per  string  `json:"per"`
	By   []Value `json:"by,omitempty"`
	// Default says that it is the bound of an alert's rule without limits: for each target that its steps change.
	Default bool `json:"default,omitempty"`
	// State is how far it is reached now; absent where nobody knows.
	State *LimitState `json:"state,omitempty"`
}

// LimitState is how far a limit is reached.
type LimitState struct {
	Runs    int  `json:"runs"` // that count now
	Reached bool `json:"reached"`
	// Free is when the next run may begin, of one that is reached.
	Free *time.Time `json:"free,omitempty"`
}

// Concurrency is the group that a run for the event is one of.
type Concurrency struct {
	Group  Value  `json:"group"`
	Policy string `json:"policy"`
}

// Result is a verdict in a word or two.
type Result string

// Results.
const (
	Run      Result = "run"       // it ran on the event's account
	Match    Result = "match"     // it matches, and no run is known
	Waits    Result = "waits"     // the event takes part in a window that is open
	TookPart Result = "took part" // it took part in a correlation, and does not wait in a window now
	NoMatch  Result = "no match"  // it does not
)

// Results lists the results.
func Results() []Result { return []Result{Run, Match, Waits, TookPart, NoMatch} }

// Ran is a run that the event started.
type Ran struct {
	ID        string     `json:"id"`
	State     run.State  `json:"state"`
	Reason    string     `json:"reason,omitempty"`
	StartedAt *time.Time `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt"`
}

// Asked is what one part of a rule was asked.
type Asked struct {
	Part    string   `json:"part,omitempty"`
	Trigger Trigger  `json:"trigger"`
	Verdict string   `json:"verdict"`             // of the part as a whole: true, false or absent
	Cond    string   `json:"condition,omitempty"` // of the clauses together, where it was asked
	When    []Clause `json:"when,omitempty"`
	By      []Value  `json:"by,omitempty"`
	State   *Value   `json:"state,omitempty"`
	Key     string   `json:"key,omitempty"` // the group, where the verdict is true
}

// Trigger is what a trigger asks for.
type Trigger struct {
	Selects bool     `json:"selects"`
	Source  []string `json:"source,omitempty"`
	Type    []string `json:"type,omitempty"`
	Why     string   `json:"why,omitempty"` // it does not select the event
}

// Clause is one operand of a condition.
type Clause struct {
	Text    string `json:"text"`
	Verdict string `json:"verdict"` // true, false or absent
	Seen    []Seen `json:"seen,omitempty"`

	Absent string   `json:"absent,omitempty"` // path of the field that is
	Hint   []string `json:"hint,omitempty"`   // what is there instead, and what may be meant
	Error  string   `json:"error,omitempty"`  // it failed for another reason
}

// Seen is a field that was read.
type Seen struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"` // a text with the beginning of it, where it is long
	Long  bool            `json:"long,omitempty"`
}

// Value is what an expression of a key came to.
type Value struct {
	Text  string          `json:"text"`
	Value json.RawMessage `json:"value,omitempty"` // a text with the beginning of it, where it is long

	Absent string   `json:"absent,omitempty"` // path of the field that is
	Hint   []string `json:"hint,omitempty"`   // what is there instead, and what may be meant
	Error  string   `json:"error,omitempty"`  // it failed for another reason
}

// Correlated is what a rule waits for, and what waits.
type Correlated struct {
	Kind    string   `json:"kind"`
	Within  string   `json:"within"`
	Count   int      `json:"count,omitempty"` // events, or changes of state, that it needs
	Parts   []string `json:"parts,omitempty"`
	Windows *Windows `json:"windows,omitempty"` // where there is a server that knows
}

// Windows is what waits now, which is not what waited when the event came.
type Windows struct {
	Keys   []string `json:"keys,omitempty"` // of the event's own groups; none: all groups are meant
	Groups []Group  `json:"groups"`         // those that were matched last first
	More   int      `json:"more,omitempty"` // up to so many are not listed
	// Elsewhere are partitions that this replica knows nothing of.
	Elsewhere []Elsewhere `json:"elsewhere,omitempty"`
	Behind    bool        `json:"behind,omitempty"`  // they have not come to the event yet
	Changed   bool        `json:"changed,omitempty"` // the active rules have no rule that waits for the same
}

// Group is what waits under one key.
type Group struct {
	Key     string    `json:"key"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Events  []Took    `json:"events"`            // that count, the newest last
	Rest    int       `json:"rest,omitempty"`    // events that are not listed
	Missing []string  `json:"missing,omitempty"` // parts that are to come; of absence the one that must not
	Need    int       `json:"need,omitempty"`    // events or changes that are to come
	State   string    `json:"state,omitempty"`   // of flapping: the last one
	Quiet   bool      `json:"quiet,omitempty"`   // of flapping: it has fired, and has not come to rest
}

// Took is an event that took part.
type Took struct {
	Part string    `json:"part,omitempty"`
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
}

// Elsewhere is a partition that did not answer.
type Elsewhere struct {
	Partition int    `json:"partition"`
	Owner     string `json:"owner,omitempty"` // the replica that has it, where that is known
	Busy      bool   `json:"busy,omitempty"`  // this replica has it, and it had no time
}
