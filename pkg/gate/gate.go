// Package gate bounds runs across the whole cluster: groups of which one run at a time is under way, limits per key and
// time, the storm brake, a circuit breaker for each rule, locks on targets, and the blast radius. The package is pure: no
// I/O, no clock, no goroutines. A Gate belongs to one goroutine.
//
// # Guarantees
//
// Answers are a function of the requests and their order, and of nothing else. So an owner that restores a Snapshot and
// is given the requests after it answers what the one before it answered. Time is log time and never runs backwards: a
// request that is late counts as of the log time that it finds. Where a window is meant it is half open: what was counted
// at t counts until t+Per, and no longer at that instant.
//
// A run is known by its id and attempt. The same request again gets the same answer and counts once:
//
//	Admit    admitted stays admitted, queued stays queued (or says what became of it), refused stays refused
//	Lock     locked stays locked; one that was refused is judged anew, since a step may try again
//	Release  of what is not known, or has ended, does nothing
//	Tell     the same answer
//
// A higher attempt ends the lower one as if it had been released with Other; requests of a lower one are answered with
// reason Ended and change nothing. Refused, superseded and ended runs are remembered for an hour, and the last 50,000 of
// either kind at most, so a request that is repeated later than that may be taken for a new one.
//
// # What a run goes through
//
//	Admit ──┬─ storm, circuit ──────────────────────────▶ refused
//	        ├─ group is free ─── limits have room ──────▶ admitted ── Lock ─┬─▶ locked ──────┐
//	        │                 └─ one has none ──────────▶ refused           ├─▶ lockWaits ─▶ locked
//	        └─ a run of the group is under way                              └─▶ refused
//	             queue, coalesce, cancel ─▶ queued ─ its turn ─▶ admitted or refused
//	             skip ────────────────────▶ superseded           every run, at its end: Release
//
// Groups. A queue is first in, first out, and bounded by MaxQueue: beyond it runs are refused. With skip a run that finds
// another under way is superseded; with coalesce and cancel only the newest waits, and the older one that waits is
// superseded; with cancel the one under way is ordered to stop, and the newest begins once that one is released. Rules may
// share a group with different policies: only runs whose own policy is coalesce or cancel are ever superseded by others.
//
// Limits count runs when they are admitted. All of a run's limits must have room, and where one refuses none is counted.
// A bound that still holds is never forgotten: where MaxKeys keys or MaxCounts times are held, further ones are refused.
//
// The storm brake counts the healing runs that ask, also those that are refused. Above Storm.Runs in Storm.Per all healing
// runs are refused until fewer than Storm.Runs asked in the last Storm.Per. The breaker of a rule opens when, of its last
// Breaker.Runs healing runs that succeeded or failed Within, too small a share succeeded. After Breaker.Open one run is
// admitted as a trial: success closes the breaker and forgets the past, failure opens it again.
//
// Locks. A target is held by one run until that run's Release, and waited for first in, first out. At most Max targets of a
// BlastRadius are held at once; one that is free but would be one too many is waited for in the order of the requests (a
// target of several blast radii may be overtaken by others while one of its own is full). A lock that could never be had,
// since runs wait for each other in a circle or a run alone fills a blast radius, is refused to the one that asks last, so
// that all others can come to an end. Of runs that wait for several targets at once a few more are refused than must be.
//
// # How the engine uses it
//
// One owner passes on all requests in log order with log time, acts on the answers, which may concern other runs than the
// one that asked, and drains Notices after each call. MoveTo tells it of time alone; see there. Runs Admit first: a Lock of a
// run that the gate does not know is served as if that run had been admitted without group and limits. Every run that asked
// for anything, and was not refused its admission, is released at its end; nothing else gives back what it holds.
package gate

import "time"

// Admission is a run that wants to begin.
type Admission struct {
	Run     string // its id
	Attempt int
	Rule    string
	// Group is the rule's `concurrency.group`; empty for none.
	Group  string
	Policy Policy
	// Limits must all have room.
	Limits []Limit
	// Heals says that the run answers an alert: it counts for the storm brake and the rule's circuit breaker.
	Heals bool
}

// Policy is what happens where another run of the group is under way. Anything else than these is Queue.
type Policy string

// Policies of groups.
const (
	Queue    Policy = "queue"    // waits for its turn; the default
	Skip     Policy = "skip"     // is superseded
	Cancel   Policy = "cancel"   // the one under way stops, the newest that waits is next
	Coalesce Policy = "coalesce" // only the newest waits
)

// Limit says that at most Runs runs begin in any span of Per. Key names rule, limit and the values of its `by`.
type Limit struct {
	Key string
	// Runs counts up to MaxRuns; more is MaxRuns, and less than one lets no run begin.
	Runs int
	Per  time.Duration
}

// Lock asks for a target that a changing step is about to change.
type Lock struct {
	Run     string
	Attempt int
	Rule    string // for messages
	Target  string
	// Limit is counted when the target is had; nil for none.
	Limit *Limit
}

// Release says that a run has ended: all that it holds and waits for is free again.
type Release struct {
	Run     string
	Attempt int
	Outcome Outcome
}

// Outcome is how a run ended, as the circuit breaker sees it.
type Outcome string

// Outcomes. Cancelled, superseded and refused runs, and those of which nobody knows, say nothing of a rule's success.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Other     Outcome = "other"
)

// Tell asks whether the `onFailure` of a failed run may run: once for each limit key and window. Keys are the limits of
// the run; without any the answer is always yes. Of refused runs Answer.First has said it already.
type Tell struct {
	Run     string
	Attempt int
	Keys    []Limit
}

// Verdict says what an answer is.
type Verdict string

// Verdicts.
const (
	Admitted   Verdict = "admitted"
	Queued     Verdict = "queued" // waits for its turn in the group
	Refused    Verdict = "refused"
	Superseded Verdict = "superseded"
	Stop       Verdict = "stop"      // policy cancel: the run is under way and must stop
	Locked     Verdict = "locked"    // holds the target
	LockWaits  Verdict = "lockWaits" // waits for the target
	Told       Verdict = "tell"
	Silent     Verdict = "silent"
)

// Reasons of Refused and Superseded.
const (
	ReasonLimitReached = "LimitReached"
	ReasonStormBrake   = "StormBrake"
	ReasonCircuitOpen  = "CircuitOpen"
	ReasonQueueFull    = "QueueFull"
	ReasonBlastRadius  = "BlastRadius" // the run alone, or runs that wait for it, fill the blast radius
	ReasonDeadlock     = "Deadlock"
	ReasonGroupBusy    = "GroupBusy"   // policy skip
	ReasonSuperseded   = "Superseded"  // a newer run of the group waits in its place
	ReasonNotAdmitted  = "NotAdmitted" // a lock for a run that waits for its turn
	ReasonEnded        = "Ended"       // the run, or this attempt of it, is over
)

// Answer is what a request comes to, for the run that asked or for another one.
type Answer struct {
	Run     string
	Attempt int
	Verdict Verdict
	Target  string // of a lock
	Reason  string // of Refused and Superseded: one CamelCase word
	Message string // for people
	// Key is the limit that refused.
	Key string
	// First says that onFailure should run for this refusal: nothing was told for this limit key in its window, or for
	// this storm, this opening of the breaker, or since the queue was last not full.
	First bool
	// Behind is the run that must end first: the one just before it in a queue, or the one under way.
	Behind string
}

// Notice is an event about the gate itself.
type Notice struct {
	Kind NoticeKind
	Rule string // of a breaker
	At   time.Time
}

// NoticeKind says what a notice is about.
type NoticeKind string

// Kinds of notices.
const (
	StormBegan    NoticeKind = "storm began"
	StormEnded    NoticeKind = "storm ended"
	BreakerOpened NoticeKind = "breaker opened"
	BreakerClosed NoticeKind = "breaker closed"
)

// Stats are figures for metrics.
type Stats struct {
	Runs     int // that are under way or wait
	Groups   int
	Targets  int // that are held or waited for
	Keys     int // of limits
	Storm    bool
	Breakers int // that are open, or wait for their trial
}
