package engine

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	// A partition stops reading the log while this much waits for a worker; the log keeps the rest.
	maxRuns  = 5000
	maxBytes = 8 << 20

	// What a crash may have been the doing of: no more events than this can be undecided and in the hands of the engine.
	suspects = 64
	// An event whose deciding ended the process this often is set aside.
	maxKills = 2

	checkpointEvery = 5 * time.Second
	// A run whose first entry lies this far back is written again, so that the journal behind it can be purged.
	carryAfter = 20_000
	// spareEntries is for how many entries memory is kept between two writes.
	spareEntries = 1024
	// A run that waits longer than this gives its event back, and reads it again when it goes on.
	parkAfter = 5 * time.Second
)

// partition is the state of one partition while this replica owns it. Only its loop touches it, but for inbox, results, woken,
// asks and gone, and for fed, which is the feed's.
type partition struct {
	e       *Engine
	id      int
	journal Journal
	log     *slog.Logger

	fed      event.Pos
	inbox    chan batch
	rest     batch            // read, and waiting for a rule revision that can't be loaded
	stuck    error            // why it waits, or nil
	again    <-chan time.Time // when to try again
	wait     time.Duration
	results  chan result
	woken    chan struct{}
	asks     chan func() // questions of others, answered by the loop
	gone     chan struct{}
	handover <-chan struct{}

	set      *rule.Set
	revision string
	at       event.Pos // how far the log is read
	decided  event.Pos // how far the journal answers it; ahead of at while what was not stored is made again
	windows  windows
	careful  int                           // so many further events are decided one by one, behind a durable note
	lately   []string                      // the last events that the owner before this one decided
	noted    map[string]int                // by event: notes that no decision followed
	begun    map[event.Pos]map[string]bool // runs that were created at places of the log which a crash left half answered
	setAside map[string]bool               // events that are quarantined

	deferred map[string]*deferred   // events that wait for a diff
	ready    map[string][]*deferred // of those, by repository, the ones whose turn it is
	diffing  int
	diffed   chan found

	gate      *gate.Gate // of the partition that has it
	gateDirty bool
	letters   []event.Record // answers of the gate that are to be in the log before the journal moves on
	alerts    watched
	ackMu     sync.Mutex
	acks      []string // runs whose holdings are given back

	runs     map[string]*active
	bytes    int // of bodies held for runs
	queue    []*active
	timers   timers
	starting int // steps that have a worker and wait for their start record to be durable
	running  int
	leaving  bool // nothing new starts

	entries []run.Entry
	effects []func()
	touched []*active   // runs that have their first entry in entries
	aside   []*deferred // deferred events that have theirs
	saved   run.Checkpoint
}

// active is a run that has not ended.
type active struct {
	run    *run.Run
	rule   *rule.Rule
	event  *event.Event   // nil until it is needed, after a restart
	joined map[string]any // what expressions read as `correlated`; nil until it is needed
	bytes  int            // of bodies held for it
	first  uint64         // journal sequence of its oldest entry; 0 while that is being written
	queued bool
	dir    bool // it may have a directory here
	size   int  // about what its record takes, in bytes of JSON; 0 while that is not known
	cancel map[stepKey]context.CancelCauseFunc

	wakes   time.Time // the hour it is woken at, or zero
	looking bool      // a look at whether the problem is gone is under way
	gate    gating
}

type stepKey struct {
	phase run.Phase
	id    string
}

func (p *partition) poke() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// home returns the partition that a record belongs to, or -1 where all must hear of it.
func (e *Engine) home(en event.Entry) int {
	switch en.Record.Kind {
	case event.KindEvent:
		return PartitionOf(en.Record.Event.ID, e.Partitions)
	case event.KindCommand, event.KindAnswer:
		return PartitionOf(EventOf(en.Record.Event.Subject), e.Partitions)
	case event.KindAsk:
		return gateHome
	}
	return -1
}

// take becomes the partition's owner and rebuilds its state.
func (e *Engine) take(ctx context.Context, id int, log *slog.Logger) (*partition, error) {
	p := &partition{
		e: e, id: id, log: log,
		inbox: make(chan batch, 4), results: make(chan result, e.Workers), woken: make(chan struct{}, 1), asks: make(chan func()), gone: make(chan struct{}),
		noted: map[string]int{}, begun: map[event.Pos]map[string]bool{}, setAside: map[string]bool{}, runs: map[string]*active{}, alerts: watched{},
		deferred: map[string]*deferred{}, ready: map[string][]*deferred{}, diffed: make(chan found, maxDiffs),
	}
	var last run.EntryKind // of an owner: how the one before us came or went
	journal, from, err := e.Store.Take(ctx, id, e.Owner, func(seq uint64, en run.Entry) error {
		if en.Kind == run.Claimed || en.Kind == run.Released {
			last = en.Kind
		}
		p.replay(seq, en)
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.journal, p.saved = journal, from
	if from.Decided.Compare(p.decided) > 0 {
		p.decided = from.Decided
	}
	p.at, p.revision, p.windows.log = from.Decided, from.Revision, from.LogTime
	if last == run.Claimed || last == "" && from.Replay > 0 { // a checkpoint covers a claim, but never what part releases
		p.careful = suspects
	}
	p.fed = p.at
	if err := p.loadWindows(ctx, from.States); err != nil {
		return nil, err
	}
	if err := p.openGate(); err != nil {
		return nil, err
	}
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	return p, p.useMachines(p.set)
}

// replay folds one entry of the journal into the state.
func (p *partition) replay(seq uint64, en run.Entry) {
	if pos := en.Position(); !en.More && pos.Compare(p.decided) > 0 {
		p.decided = pos
	}
	switch en.Kind {
	case run.Deciding:
		if d := p.deferred[en.Event]; d != nil {
			d.kills++
			break
		}
		p.noted[en.Event]++
	case run.Decided, run.Deferred, run.Fired:
		p.replayCreated(seq, en)
	default:
		p.replayRun(seq, en)
	}
}

// replayCreated folds what answers a place of the log, or begins to.
func (p *partition) replayCreated(seq uint64, en run.Entry) {
	pos := en.Position()
	switch again := en.Kind == run.Deferred && p.deferred[en.Event] != nil; {
	case en.More:
		if p.begun[pos] == nil {
			p.begun[pos] = map[string]bool{}
		}
		for _, c := range en.Runs {
			p.begun[pos][c.ID] = true
		}
	case !again: // else the event still waits, and its answer may have begun
		delete(p.begun, pos)
	}
	if !en.More {
		if en.Kind == run.Decided && !Quarantined(en) {
			p.lately = append(p.lately[max(0, len(p.lately)-suspects+1):], en.Event)
		}
		delete(p.noted, en.Event)
		p.replayDeferred(seq, en)
	}
	for _, c := range en.Runs {
		if r := run.New(c, en); !r.State.Ended() {
			p.runs[c.ID] = &active{run: r, first: seq, dir: true}
		}
	}
}

func (p *partition) replayRun(seq uint64, en run.Entry) {
	if en.Run == "" {
		return
	}
	a := p.runs[en.Run]
	if en.Record != nil {
		a = &active{run: &run.Run{}, first: seq, dir: true}
		p.runs[en.Run] = a
	}
	if a == nil {
		return // it ended before what was read
	}
	run.Apply(a.run, en)
	if a.run.State.Ended() {
		delete(p.runs, en.Run)
	}
}

// load finds the rule sets that the partition's revision and runs need. It fails while one can't be read, and then the
// partition decides nothing.
func (p *partition) load(ctx context.Context) error {
	set, err := p.e.set(ctx, p.revision)
	if err != nil {
		return err
	}
	p.set = set
	for _, d := range p.deferred {
		if d.set, err = p.e.set(ctx, d.revision); err != nil {
			return err
		}
	}
	for _, a := range p.runs {
		set, err := p.e.set(ctx, a.run.RuleRevision)
		if err != nil {
			return err
		}
		a.rule, _ = set.ByHand(a.run.Rule)
		p.alerts.add(a)
	}
	return nil
}

// loop is the partition's one goroutine.
func (p *partition) loop(ctx context.Context) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	p.watchAgain(ctx)
	p.resume(ctx)
	p.resumeDeferred()
	p.startQueued(ctx)
	p.startDiffs(ctx)
	draining, handover := p.e.draining, p.handover
	var grace <-chan time.Time
	for p.commit(ctx) {
		if p.leaving && p.running+p.diffing == 0 {
			p.part(ctx)
			return
		}
		timer.Reset(p.untilTimer())
		inbox := p.inbox
		if !p.leaving && (p.stuck != nil || len(p.queue)+p.running+p.starting >= maxRuns || len(p.deferred) >= maxDeferred || p.bytes >= maxBytes && len(p.queue) > 0) {
			inbox = nil
		}
		select {
		case b := <-inbox:
			if !p.leaving { // what is left is for the next owner, and the feed must not wait for us
				p.read(ctx, b)
			}
		case <-p.again:
			if !p.leaving {
				rest := p.rest
				p.rest = batch{}
				p.read(ctx, rest)
			}
		case r := <-p.results:
			p.finished(ctx, r)
		case f := <-p.diffed:
			p.found(ctx, f)
		case <-p.woken:
			p.takeAcks(ctx)
		case answer := <-p.asks:
			answer()
		case <-timer.C:
			p.wake(ctx)
		case <-tick.C:
			p.checkpoint(ctx)
		case <-draining:
			draining, p.leaving = nil, true
			p.cancelDiffs(errStopping)
			stop := time.NewTimer(p.e.StopTimeout)
			defer stop.Stop()
			grace = stop.C
		case <-handover:
			handover, p.leaving = nil, true
			p.cancelDiffs(errStopping)
		case <-grace:
			p.cancelAll(errStopping)
		case <-ctx.Done():
		}
		p.more(ctx)
		p.startQueued(ctx)
		p.startDiffs(ctx)
	}
	p.abandon()
}

// more takes what else is there without waiting, so that it shares the next write.
func (p *partition) more(ctx context.Context) {
	for len(p.entries) < 256 {
		select {
		case r := <-p.results:
			p.finished(ctx, r)
		default:
			return
		}
	}
}

// commit makes the entries durable and then does what waits for that. It returns false when the partition is lost.
func (p *partition) commit(ctx context.Context) bool {
	if !p.deliver(ctx) {
		return false
	}
	wait := 50 * time.Millisecond
	before := p.journal.Seq()                    // of all tries: one that failed may have written the first of several messages
	for len(p.entries) > 0 && ctx.Err() == nil { // a step that the loss of the lease cut off has not failed
		err := p.journal.Append(ctx, p.entries)
		if err == nil {
			p.e.setProblem(p.id, p.stuck)
			p.settle(before + 1)
			break
		}
		if errors.Is(err, run.ErrFenced) || ctx.Err() != nil {
			p.log.Warn("partition is lost; its steps are stopped", "error", err)
			return false
		}
		p.e.setProblem(p.id, fmt.Errorf("journal can't be written: %w", err))
		p.log.Error("journal can't be written; it is tried again", "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
		wait = min(2*wait, 2*time.Second)
	}
	if len(p.entries) == 0 { // what waits for nothing to be durable
		p.settle(before + 1)
	}
	return ctx.Err() == nil
}

// settle does what waited for a write; first is no later than the sequence of the write's first message.
func (p *partition) settle(first uint64) {
	for _, a := range p.touched {
		a.first = first
	}
	for _, d := range p.aside {
		d.first = first
	}
	effects := p.effects
	clear(p.entries) // they hold whole records
	if p.entries, p.touched = p.entries[:0], p.touched[:0]; cap(p.entries) > spareEntries {
		p.entries, p.touched = nil, nil
	}
	p.effects, p.aside = nil, p.aside[:0]
	for _, effect := range effects {
		effect()
	}
}

// record folds an entry into a run and puts it among those to be written.
func (p *partition) record(a *active, en run.Entry) {
	run.Apply(a.run, en)
	p.entries = append(p.entries, en)
}

// resume goes on with the runs of before, whose running steps were cut off.
func (p *partition) resume(ctx context.Context) {
	now := p.e.Now()
	unfinished := slices.SortedFunc(maps.Values(p.runs), func(a, b *active) int {
		return cmp.Or(a.run.EventPos.Compare(b.run.EventPos), strings.Compare(a.run.ID, b.run.ID))
	})
	for _, a := range unfinished {
		if a.rule == nil {
			a.rule = &rule.Rule{Name: a.run.Rule}
			p.end(ctx, a, run.Entry{At: now, Kind: run.Ended, Run: a.run.ID, State: run.Failed, Reason: run.ReasonRuleInvalid,
				Error: fmt.Sprintf("revision %.12s has no rule %s any more", a.run.RuleRevision, a.run.Rule)})
			continue
		}
		for i := range a.run.Steps {
			if s := &a.run.Steps[i]; s.State == run.StepRunning && !s.Group {
				p.record(a, run.Interrupt(a.run, s, stepPlan(a.rule, s), now))
			}
		}
		p.advance(ctx, a)
	}
}

func stepPlan(r *rule.Rule, s *run.Step) run.StepPlan {
	if sp, ok := r.Plan.Find(s.Phase, s.ID); ok {
		return sp
	}
	return run.StepPlan{ID: s.ID, Uses: s.Uses}
}

// advance makes a run's next moves until it waits for something. A run that waits for a worker is queued.
func (p *partition) advance(ctx context.Context, a *active) {
	if !p.move(ctx, a) && !a.queued {
		a.queued = true
		p.queue = append(p.queue, a)
	}
}

// startQueued starts what waits for a worker, oldest first, as far as there are workers.
func (p *partition) startQueued(ctx context.Context) {
	for len(p.queue) > 0 && !p.leaving && ctx.Err() == nil {
		a := p.queue[0]
		if p.runs[a.run.ID] == a && !p.move(ctx, a) {
			return
		}
		a.queued = false
		p.queue[0] = nil
		p.queue = p.queue[1:]
	}
}

// move returns false when a worker is needed and none is free. A panic in it is the run's end and no one else's.
func (p *partition) move(ctx context.Context, a *active) (moved bool) {
	defer func() {
		if v := recover(); v != nil {
			p.breakOff(a, v)
			moved = true
		}
	}()
	return p.moveOn(ctx, a)
}

// breakOff ends the part of a run that Riposte can't go on with, so that onFailure tells of it.
func (p *partition) breakOff(a *active, v any) {
	p.log.Error("going on with a run panicked", "run", a.run.ID, "panic", v, "stack", string(debug.Stack()))
	if a.run.Settled != nil && a.run.Settled.Next == run.Main {
		panic(v) // not even ending it works
	}
	p.record(a, run.BreakOff(a.run, &a.rule.Plan, p.e.Now(), clip(p.e.Redact(fmt.Sprintf("going on with the run panicked: %v: a defect of Riposte, whose log has the details", v)))))
	p.cancel(a, errCancelled)
	p.askAgain(a, time.Time{}, 0)
}

func (p *partition) moveOn(ctx context.Context, a *active) bool {
	for !p.leaving {
		m := run.Next(a.run, &a.rule.Plan, p.e.Now())
		p.stopOverdue(a, m.Stop)
		switch {
		case m.End != nil && !p.mayEnd(ctx, a, m.End):
			return true
		case m.End != nil:
			p.record(a, *m.End)
			if a.run.State.Ended() {
				p.over(a)
				return true
			}
		case m.Admit:
			p.askAdmission(ctx, a)
			return true
		case p.needsEvent(&m) && a.event == nil && p.bytes >= maxBytes && !p.e.slots.some(p):
			return false // after a restart more runs may be due than events fit into memory
		case p.needsEvent(&m) && !p.fetch(ctx, a):
			return true
		case len(m.Close) > 0:
			p.closeGroups(ctx, a, m.Close)
		case m.Approve != nil:
			p.askConsent(ctx, a, m.Approve)
		case len(m.Start) > 0:
			started, free := p.startAll(ctx, a, m.Start)
			switch {
			case !free:
				return false
			case !started: // each of them waits for its target
				p.park(a, m.Wake)
				return true
			}
		case m.Look && !a.looking:
			return p.look(ctx, a)
		default:
			p.park(a, m.Wake)
			return true
		}
	}
	return true
}

func (p *partition) needsEvent(m *run.Moves) bool {
	return len(m.Start) > 0 || len(m.Close) > 0 || m.Approve != nil || m.Look
}

// park leaves a run alone until something happens. One that waits long keeps nothing in memory but its record.
func (p *partition) park(a *active, wake time.Time) {
	wait := time.Hour
	if !wake.IsZero() {
		wait = wake.Sub(p.e.Now())
		p.askAgain(a, wake, wait)
	}
	if wait > parkAfter && !a.run.Busy() && !a.looking {
		p.bytes -= a.bytes
		a.event, a.joined, a.bytes, a.cancel = nil, nil, 0, nil
	}
}

// over forgets a run that has ended, once that is durable.
func (p *partition) over(a *active) {
	p.bytes -= a.bytes
	delete(p.runs, a.run.ID)
	p.alerts.remove(a)
	p.effects = append(p.effects, func() {
		p.e.metrics.runs.WithLabelValues(a.run.Rule, string(a.run.State)).Inc()
		level := slog.LevelInfo
		if a.run.State == run.Failed || a.run.State == run.Refused {
			level = slog.LevelWarn
		}
		p.log.Log(context.Background(), level, "run ended", "run", a.run.ID, "rule", a.run.Rule, "state", a.run.State, "reason", a.run.Reason, "message", a.run.Message)
		if a.dir {
			if err := p.e.dirs.remove(a.run.ID); err != nil {
				p.log.Warn("run's directory could not be removed", "run", a.run.ID, "error", err)
			}
		}
	})
}

func (p *partition) untilTimer() time.Duration {
	wait := time.Hour
	if len(p.timers) > 0 {
		wait = max(0, time.Until(p.timers[0].at))
	}
	if w, ok := p.untilTick(p.e.Now()); ok && !p.leaving {
		wait = min(wait, w)
	}
	return wait
}

// askAgain has a run asked for its next move after the wait, whatever the wall clock does meanwhile. It is asked for once
// for each hour that is named.
func (p *partition) askAgain(a *active, hour time.Time, wait time.Duration) {
	if !hour.IsZero() && a.wakes.Equal(hour) {
		return
	}
	a.wakes = hour
	heap.Push(&p.timers, timer{time.Now().Add(wait), a.run.ID})
}

func (p *partition) wake(ctx context.Context) {
	if w, ok := p.untilTick(p.e.Now()); ok && w == 0 && !p.leaving {
		p.windows.asked = p.e.Now()
		p.e.tick()
	}
	now := time.Now()
	for len(p.timers) > 0 && !p.timers[0].at.After(now) {
		t := heap.Pop(&p.timers).(timer)
		if a := p.runs[t.of]; a != nil {
			a.wakes = time.Time{}
			p.advance(ctx, a)
		}
		if d := p.deferred[t.of]; d != nil {
			p.enqueue(d)
		}
	}
}

func (p *partition) cancelAll(cause error) {
	for _, a := range p.runs {
		p.cancel(a, cause)
	}
}

// abandon leaves a partition that has another owner: its steps are killed, and nothing is written.
func (p *partition) abandon() {
	p.cancelAll(errLost)
	p.cancelDiffs(errLost)
	for range p.starting {
		p.e.slots.release()
	}
	for p.running > 0 {
		<-p.results
		p.running--
	}
	for p.diffing > 0 {
		<-p.diffed
		p.diffing--
	}
}

// part leaves the partition in good order.
func (p *partition) part(ctx context.Context) {
	p.checkpoint(ctx) // before the release, so that the next owner reads it
	p.entries = append(p.entries, run.Entry{At: p.e.Now(), Kind: run.Released, Owner: p.e.Owner})
	p.commit(ctx)
}

// checkpoint writes what a new owner and the purge need to know. It is a fact about what is durable, so nothing may
// wait to be written when it is called.
func (p *partition) checkpoint(ctx context.Context) {
	if !p.commit(ctx) || len(p.noted)+len(p.begun) > 0 || p.at.Compare(p.decided) < 0 { // the notes, what is half answered and what is not yet made again must be read by the next owner
		return
	}
	c := run.Checkpoint{Decided: p.decided, Revision: p.revision, LogTime: p.windows.log, Replay: p.journal.Seq() + 1, EventsFrom: p.windows.oldestWaiting(p.decided)}
	for _, a := range p.runs {
		if p.journal.Seq()-a.first > carryAfter {
			p.carry(a)
		}
	}
	p.carryDeferred()
	if !p.commit(ctx) {
		return
	}
	for _, d := range p.deferred {
		c.Replay = min(c.Replay, d.first)
		if d.pos.Compare(c.EventsFrom) < 0 {
			c.EventsFrom = d.pos
		}
	}
	for _, a := range p.runs {
		c.Replay = min(c.Replay, a.first)
		if a.run.EventPos.Compare(c.EventsFrom) < 0 {
			c.EventsFrom = a.run.EventPos
		}
	}
	var err error
	if c.States, err = p.saveWindows(ctx); err == nil && c.Equal(p.saved) {
		return
	}
	if err == nil {
		err = p.journal.Checkpoint(ctx, c)
	}
	if err != nil {
		p.log.Warn("checkpoint could not be written; it is tried again", "in", checkpointEvery, "error", err)
		return
	}
	if !slices.Equal(c.States, p.saved.States) {
		if err := p.e.States.Keep(ctx, p.id, c.States); err != nil {
			p.log.Warn("old windows could not be removed; it is tried again", "error", err)
		}
	}
	p.saved = c
}

// carry writes a run again. One whose record is too large keeps its entries from being purged until it ends.
func (p *partition) carry(a *active) {
	record, err := carried(a.run)
	if err != nil {
		p.log.Warn("run can't be written again, so that the journal keeps all since it began", "run", a.run.ID, "error", err)
		return
	}
	*a.run = snapshot(record) // as whoever reads the entry has it
	p.entries = append(p.entries, run.Entry{At: p.e.Now(), Kind: run.Carried, Run: a.run.ID, Record: record})
	p.touched = append(p.touched, a)
}

type timer struct {
	at time.Time
	of string // a run, or an event that waits for a diff
}

type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
