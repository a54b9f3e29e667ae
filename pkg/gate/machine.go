package gate

import (
	"fmt"
	"math"
	"time"
	"unique"
)

// Gate is the state of all bounds. It belongs to one goroutine.
type Gate struct {
	opt   Options
	clock int64  // log time
	seq   uint64 // numbers arrivals

	runs    map[string]*ticket
	groups  map[string]*group
	limits  limits
	storm   storm
	breaker map[string]*breaker
	locks   locks
	past    past

	swept   int64 // when breakers were last looked through
	out     []Answer
	notices []Notice
}

// ticket is what the gate knows of a run that is under way or waits for its turn. There may be many that wait.
type ticket struct {
	run      string
	rule     unique.Handle[string]
	limits   []limit // while it waits for its turn
	group    *group
	locks    *held // nil without any
	seq      uint64
	attempt  int32
	policy   policy
	told     verdict // what Tell answered
	heals    bool
	admitted bool
	trial    bool // of the rule's breaker
	stopping bool // was ordered to stop
}

func (t *ticket) order() uint64 { return t.seq }

// policy and verdict are short forms of what they stand for.
type (
	policy  uint8
	verdict uint8
)

var policies = [...]Policy{Queue, Skip, Cancel, Coalesce}

const (
	queues policy = iota
	skips
	cancels
	coalesces
)

func policyOf(p Policy) policy {
	for i := range policies {
		if policies[i] == p {
			return policy(i)
		}
	}
	return queues
}

const (
	notAsked verdict = iota
	toldYes
	toldNo
)

// New returns a gate that knows of no run.
func New(o Options) (*Gate, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return &Gate{
		opt: o, clock: math.MinInt64, swept: math.MinInt64,
		runs: map[string]*ticket{}, groups: map[string]*group{}, breaker: map[string]*breaker{},
		limits: limits{keys: map[string]*window{}}, locks: newLocks(o.BlastRadius), past: past{byRun: map[string]*memory{}},
	}, nil
}

// Admit asks for a run to begin. The last answer about it tells whether it may; other answers are about runs that it
// supersedes or stops.
func (g *Gate) Admit(at time.Time, a Admission) []Answer {
	g.advance(nanos(at))
	run, attempt := bounded(a.Run), int32(a.Attempt)
	t, over := g.known(run, attempt)
	switch {
	case over != nil:
		g.out = append(g.out, *over)
	case t != nil:
		g.repeat(t)
	default:
		g.seq++
		t := &ticket{run: run, rule: unique.Make(bounded(a.Rule)), seq: g.seq, attempt: attempt, policy: policyOf(a.Policy), heals: a.Heals}
		t.limits = newLimits(a.Limits)
		g.ask(t, bounded(a.Group), len(a.Limits))
	}
	return g.answers()
}

func (g *Gate) ask(t *ticket, group string, limits int) {
	if t.heals {
		g.askStorm()
	}
	no := g.brake(t)
	if limits > MaxLimits {
		no = &refusal{reason: ReasonLimitReached, first: true, message: fmt.Sprintf("the run has %d limits, and %d at most can be kept", limits, MaxLimits)}
	}
	switch {
	case no != nil:
		g.refuse(t, no)
	case group == "":
		g.enter(t)
	default:
		g.askGroup(t, group)
	}
}

// enter lets a run begin, unless a bound refuses it.
func (g *Gate) enter(t *ticket) {
	no := g.brake(t)
	if no == nil {
		no = g.full(t, t.limits)
	}
	if no != nil {
		g.refuse(t, no)
		return
	}
	g.count(t.limits)
	t.limits, t.admitted = nil, true
	g.runs[t.run] = t
	if t.group != nil {
		t.group.holder = t
	}
	g.try(t)
	g.answer(t, Answer{Verdict: Admitted})
}

// refusal says why not.
type refusal struct {
	reason, message, key string
	first                bool
}

// brake says which bound on healing as a whole holds a run back.
func (g *Gate) brake(t *ticket) *refusal {
	if !t.heals {
		return nil
	}
	if no := g.stormy(); no != nil {
		return no
	}
	return g.circuit(t.rule.Value())
}

func (g *Gate) refuse(t *ticket, no *refusal) {
	delete(g.runs, t.run)
	g.refused(t, Answer{Verdict: Refused, Reason: no.reason, Message: no.message, Key: no.key, First: no.first})
}

// refused answers, and remembers the answer.
func (g *Gate) refused(t *ticket, a Answer) {
	a.Run, a.Attempt = t.run, int(t.attempt)
	g.out = append(g.out, a)
	g.remember(t, a)
}

// Release says that a run has ended. What waited for it goes on.
func (g *Gate) Release(at time.Time, r Release) []Answer {
	g.advance(nanos(at))
	if t := g.runs[bounded(r.Run)]; t != nil && t.attempt == int32(r.Attempt) {
		g.release(t, r.Outcome)
	}
	return g.answers()
}

func (g *Gate) release(t *ticket, o Outcome) {
	delete(g.runs, t.run)
	g.remember(t, endedAnswer(t.run, t.attempt))
	if t.admitted {
		g.learn(t, o)
	}
	g.leave(t)
	g.unlock(t)
}

// known finds the run: as the ticket of this attempt, or as the answer to an attempt that is over. It ends a lower attempt.
func (g *Gate) known(run string, attempt int32) (*ticket, *Answer) {
	if t := g.runs[run]; t != nil {
		if t.attempt == attempt {
			return t, nil
		}
		if t.attempt > attempt {
			over := endedAnswer(run, attempt)
			return nil, &over
		}
		g.release(t, Other)
	}
	m := g.past.byRun[run]
	switch {
	case m == nil:
		return nil, nil
	case m.answer.Attempt == int(attempt):
		return nil, &m.answer
	case m.answer.Attempt > int(attempt):
		over := endedAnswer(run, attempt)
		return nil, &over
	}
	g.past.forget(m)
	return nil, nil
}

// MoveTo says that log time has come to at without a request. Only the end of a storm is due by time alone (see Next);
// anything else is settled by the next request, so calling it while Next is later changes nothing. An owner that calls it
// with a clock instead of log time writes the call down like a request, since it moves log time to the storm's end.
func (g *Gate) MoveTo(at time.Time) {
	if due, ok := g.stormEnds(); ok && due <= nanos(at) {
		g.advance(due)
	}
}

// Next returns when MoveTo has something to do.
func (g *Gate) Next() (time.Time, bool) {
	due, ok := g.stormEnds()
	if !ok {
		return time.Time{}, false
	}
	return timeOf(due), true
}

// Notices returns what has happened to the gate itself since the last call. They are not part of a Snapshot.
func (g *Gate) Notices() []Notice {
	list := g.notices
	g.notices = nil
	return list
}

// Stats returns figures for metrics.
func (g *Gate) Stats() Stats {
	s := Stats{Runs: len(g.runs), Groups: len(g.groups), Targets: len(g.locks.targets), Keys: len(g.limits.keys), Storm: g.storm.on}
	for _, b := range g.breaker {
		if b.open {
			s.Breakers++
		}
	}
	return s
}

// advance moves log time, and forgets what is over.
func (g *Gate) advance(now int64) {
	g.clock = max(g.clock, now)
	if due, ok := g.stormEnds(); ok && due <= g.clock {
		g.endStorm(due)
	}
	g.limits.expire(g.clock)
	g.past.expire(g.clock)
	g.sweepBreakers()
	g.resume()
}

func (g *Gate) answer(t *ticket, a Answer) {
	a.Run, a.Attempt = t.run, int(t.attempt)
	g.out = append(g.out, a)
}

func (g *Gate) answers() []Answer {
	out := g.out
	g.out = nil
	return out
}
