// Package simulate plays events to a set of rules on a clock of its own: decisions, windows, what bounds runs, and runs with
// made-up outcomes, through the same machines, gate and transitions as the engine. It is the core of riposte test and
// backtest. Bounds that are settings of a server (storm brake, circuit breaker) have their defaults; there is no blast radius.
//
// The package is pure, and what comes of it is a function of the calls alone: the same events in the same order give the
// same runs, at the same times. A Simulation belongs to one goroutine.
package simulate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Options configure a Simulation.
type Options struct {
	Set   *rule.Set
	Start time.Time
	// Act says what an attempt at a step, or a look at whether the problem is gone, comes to. Without it a run that is
	// admitted has ended well as soon as it begins, and no more is kept of the events than limits and groups read.
	Act func(*Call) Outcome
	// Quiet says which quiet time holds for a rule with the labels, and until when; nil is never.
	Quiet func(labels map[string]string, at time.Time) (name string, until time.Time, ok bool)
	// Started is called with each run that a decision or a window creates, before its first step; without Act, when it is
	// known whether the run is admitted: one that is not is refused. Optional.
	Started func(*Run)
	// Asked is called with what each place of a rule said of an event or a run's step; optional, and it takes time.
	Asked func(*rule.Rule, *event.Event, rule.Asked)
}

// Call is an attempt at a step that is about to begin.
type Call struct {
	Run     *Run
	Phase   run.Phase
	Step    run.StepPlan
	Attempt int
	Params  any            // the action's struct
	With    map[string]any // the parameters as they were evaluated
}

// Outcome is what an attempt comes to, and when.
type Outcome struct {
	Outputs run.Values
	Err     error // as package action has them
	Took    time.Duration
	Wait    time.Duration // the step asks to go on after so long, and holds nothing until then
}

// Run is a run and what started it.
type Run struct {
	run.Run
	Of    *rule.Rule
	Event *event.Event    // the one on whose account it runs; nil where events are not kept
	At    time.Time       // when it was created
	Took  []correlate.Ref // events of a correlating rule's run, as its parts

	joined map[string]any
	with   map[stepID]map[string]any

	going   map[stepID]*attempt // steps that run
	looks   int                 // that began
	looking bool
	wakes   time.Time // when it is asked for its next move; zero if nothing waits for the clock
	gating  gating
}

type stepID struct {
	phase run.Phase
	id    string
}

// With returns the parameters of the last attempt at a step, as they were evaluated; nil where there was none.
func (r *Run) With(phase run.Phase, id string) map[string]any { return r.with[stepID{phase, id}] }

// Simulation is a set of rules with its windows and runs.
type Simulation struct {
	o        Options
	now      time.Time // of the clock that runs see
	log      time.Time // log time
	seq      uint64
	machines []*machine
	byRule   map[*rule.Rule]*machine
	due      time.Time // when the next window ends whose end fires; zero if none does
	gate     *gate.Gate
	runs     []*Run
	byID     map[string]*Run
	alerts   []*Run // those that have not ended and answer an alert
	events   map[string]*event.Event
	held     []*event.Event // those of events that are forgotten again, oldest first
	reach    time.Duration  // after which they are
	// heldBytes are the bodies of held.
	heldBytes int
	pending   queue
	pushed    int
	// finishing says that the timeline is over: runs go on, and nothing arrives.
	finishing bool
}

type machine struct {
	*correlate.Machine
	rule *rule.Rule
}

// New makes a simulation in which nothing has happened.
func New(o Options) (*Simulation, error) {
	g, err := gate.New(gate.Options{})
	if err != nil {
		return nil, err
	}
	s := &Simulation{
		o: o, now: o.Start, log: o.Start, byRule: map[*rule.Rule]*machine{}, events: map[string]*event.Event{}, gate: g, byID: map[string]*Run{},
	}
	for _, r := range o.Set.Correlating() {
		m, err := correlate.New(r.Correlation().Spec)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		s.machines = append(s.machines, &machine{m, r})
		s.byRule[r] = s.machines[len(s.machines)-1]
		if r.Bounded() || r.Heals() {
			s.reach = max(s.reach, 2*r.Correlation().Spec.Within) // a window may end so long after its events
		}
	}
	return s, nil
}

// Runs lists the runs in the order in which they were created; only those of a simulation that acts are kept.
func (s *Simulation) Runs() []*Run { return s.runs }

// Decision is what a set says of an event, apart from its windows.
type Decision struct {
	verdicts []rule.Verdict
	joins    []rule.Join
}

// Decide asks a set about an event whose views are made. It is a function of the two alone, and safe for concurrent use.
func Decide(ctx context.Context, set *rule.Set, e *event.Event) Decision {
	return DecidePaths(ctx, set, e, e.ListedPaths())
}

// DecidePaths is Decide of an event that changed the paths.
func DecidePaths(ctx context.Context, set *rule.Set, e *event.Event, paths event.Paths) Decision {
	if !set.Selects(e) {
		return Decision{}
	}
	return Decision{set.MatchPaths(ctx, e, paths, e.ReceivedAt).Verdicts, set.Joins(ctx, e, e.ReceivedAt).List}
}

// Event decides an event whose views are made, at its ReceivedAt; time never goes back.
func (s *Simulation) Event(ctx context.Context, e *event.Event) {
	s.Decided(ctx, e, Decide(ctx, s.o.Set, e))
}

// Decided is Event for a decision that Decide made of the simulation's set.
func (s *Simulation) Decided(ctx context.Context, e *event.Event, d Decision) {
	s.MoveTo(ctx, e.ReceivedAt)
	s.seq++
	pos := event.Pos{Seq: s.seq}
	s.keep(e, d.joins)
	s.hearAlert(ctx, e, pos)
	s.trace(ctx, e)
	var created []*Run
	for i := range d.verdicts {
		if v := &d.verdicts[i]; v.Truth == expression.True {
			created = append(created, s.create(v.Rule, e, pos))
		}
	}
	s.begin(ctx, append(created, s.correlate(e, d.joins, pos)...))
	s.settle(s.now)
}

// maxHeld bounds the bodies of events that a simulation that does not act keeps. A run whose events are gone is admitted
// without being counted.
const maxHeld = 64 << 20

// keep holds on to an event for the runs that may come of it.
func (s *Simulation) keep(e *event.Event, joins []rule.Join) {
	if s.o.Act == nil {
		if !slices.ContainsFunc(joins, func(j rule.Join) bool { return len(j.Matches) > 0 && (j.Rule.Bounded() || j.Rule.Heals()) }) {
			return
		}
		s.held = append(s.held, e)
		s.heldBytes += len(e.Body)
		for s.held[0].ReceivedAt.Add(s.reach).Before(s.log) || s.heldBytes > maxHeld {
			s.heldBytes -= len(s.held[0].Body)
			delete(s.events, s.held[0].ID)
			s.held = s.held[1:]
			if len(s.held) == 0 {
				return
			}
		}
	}
	s.events[e.ID] = e
}

// trace tells Asked what every rule says of an event.
func (s *Simulation) trace(ctx context.Context, e *event.Event) {
	if s.o.Asked == nil {
		return
	}
	for _, r := range s.o.Set.Rules {
		for _, a := range r.Trace(ctx, e, e.ReceivedAt) {
			s.o.Asked(r, e, a)
		}
	}
}

// MoveTo moves the clock, and log time with it: windows end, and steps that were to end by then have ended.
func (s *Simulation) MoveTo(ctx context.Context, to time.Time) {
	for !s.due.IsZero() && !s.due.After(to) {
		at := s.due
		s.settle(at)
		s.endWindows(ctx, at)
	}
	s.settle(to)
	if to.After(s.log) {
		s.log = to
	}
}

// Finish lets runs go on to their end. Log time stands still, so that no window ends and none begins, and a run that waits
// for a person's consent goes on waiting.
func (s *Simulation) Finish() {
	s.finishing = true
	for len(s.pending) > 0 {
		s.settle(s.pending[0].at)
	}
}

// Redeliver adds an attempt to the failed runs of an event, as a deliberate redelivery does at the time of the clock.
func (s *Simulation) Redeliver(ctx context.Context, id string) {
	for _, r := range s.runs {
		if r.Run.Event != id || r.State != run.Failed || r.Revivals >= run.MaxRevivals {
			continue
		}
		run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Commanded, Run: r.ID, Command: run.CommandRevive})
		r.gating = gating{}
		s.watch(r)
		s.advance(ctx, r)
	}
	s.settle(s.now)
}
