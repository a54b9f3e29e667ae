package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// world is all that outlives a process: the log, the journals, the clock, and what the actions did. Every write is held
// against the promises of the engine at the moment it is made.
type world struct {
	t     testing.TB
	dir   string
	purge bool // events are forgotten as early as the checkpoints allow
	// forgetful is a log that finds no event by its id alone.
	forgetful bool
	// on says what an action with the parameter `do` does.
	on map[string]func(context.Context, *action.Call) (action.Outputs, error)

	// diff says what a diff finds, asked with the process that makes it; nil: there are none.
	diff func(context.Context, *replica, event.Comparison) ([]string, error)

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	skew     time.Duration // of the wall clock
	broken   error         // what loading a rule revision comes to
	seq      uint64
	segments [][]event.Record // at index Seq-1
	parts    []*part
	runs     map[string]*run.Run // folded from what is durable
	decided  map[string]run.Entry
	deferred map[string]run.Entry
	heard    map[event.Pos]run.Entry
	noted    int
	acts     map[string]int // by run and step: executions that began in a living process
	states   map[string][]byte
	sets     map[string]*rule.Set
	holders  map[string]string // by group or target: the run that began last
	passed   map[string]bool   // runs that another one has taken the place of
}

// part is a partition's journal and checkpoint in the store.
type part struct {
	id          int
	messages    []message
	last, claim uint64
	owner       *replica
	checkpoint  run.Checkpoint
	pos         event.Pos         // the last one that an entry answers
	first       map[string]uint64 // by unfinished run, or event that waits: the sequence from which it can be rebuilt
}

type message struct {
	seq   uint64
	lines [][]byte
}

// entries are all that the journal ever held.
func (p *part) entries() (all []run.Entry) {
	for _, m := range p.messages {
		for _, line := range m.lines {
			var e run.Entry
			_ = json.Unmarshal(line, &e) // the audit has read it
			all = append(all, e)
		}
	}
	return all
}

const rulesText = `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: src}
spec: {type: fake}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: steady}
spec:
  trigger: {type: [odd, even]}
  steps:
  - {id: a, uses: do, with: {do: flaky}, retry: {attempts: 6, backoff: 10s}}
  - {id: b, uses: do, if: event.type == "odd"}
  - {id: c, uses: harm, with: {do: fail}, continueOnError: true}
  - {id: d, uses: local}
  - {id: e, uses: harm, with: {dir: "${{ steps.d.outputs.dir }}"}, onInterrupt: retry}
  onFailure: [{id: tell, uses: do}, {id: tellAgain, uses: harm}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: broken}
spec:
  trigger: {type: odd}
  steps: [{id: a, uses: do, onInterrupt: fail}, {id: b, uses: harm, with: {do: fail}}, {id: c, uses: do}]
  onFailure: [{id: tell, uses: do, with: {do: fail}}, {id: tellAgain, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: refused}
spec:
  trigger: {type: even}
  steps: [{id: a, uses: do, with: {do: refuse}}]
  onFailure: [{id: tell, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: superseded}
spec:
  trigger: {type: even}
  steps: [{id: a, uses: do, with: {do: supersede}}, {id: b, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: watched}
spec:
  mode: observe
  trigger: {type: even}
  steps: [{uses: do}]
`

// oneRule is a rule repository with one rule, for events of type go, with these steps.
func oneRule(steps string) string {
	return "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n" +
		"apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n  trigger: {type: go}\n  steps:\n" + steps
}

type params struct {
	Do     string `yaml:"do,omitempty"`
	Dir    string `yaml:"dir,omitempty"`
	Target string `yaml:"target,omitempty"`
}

type outputs struct {
	Dir string `yaml:"dir"`
	N   int64  `yaml:"n"`
	S   any    `yaml:"s"`
}

// sender is a preset that panics on an event of type bomb, as no preset should.
type sender struct{}

func (sender) Verify(*source.Request) error                     { return nil }
func (sender) Split(*source.Request) ([]source.Delivery, error) { return nil, nil }
func (sender) Normalise(e *event.Event) {
	if e.Subject == "bomb" {
		panic("no preset should")
	}
	if status, ok := strings.CutPrefix(e.Type, "alert."); ok {
		e.Alert = &event.Alert{Name: "Broken", Status: status, Fingerprint: e.Subject, Labels: map[string]string{"app": "shop", "pod": e.Subject}}
	}
	if repository, ok := strings.CutPrefix(e.Type, "push."); ok {
		e.Git = &event.Git{CloneURL: repository, Commit: e.ID, Before: "before", Ref: "refs/heads/main", Branch: "main", Paths: []string{"listed"}}
	}
}

// loadRules compiles a repository whose actions are those that the tests know: do and harm differ in what becomes
// of them when they are cut off, the outputs of local are worth nothing on another machine, fix changes a target, and frail
// has a defect that shows before it begins.
func loadRules(t testing.TB, text string) *rule.Set {
	t.Helper()
	def := action.Definition{Name: "do", Params: &params{}, Outputs: outputs{}, RetryInterrupted: true, Run: perform}
	harm, local := def, def
	harm.Name, harm.RetryInterrupted = "harm", false
	local.Name, local.LocalOutputs = "local", true
	fix := def
	fix.Name, fix.Changes, fix.Replaces = "fix", true, []string{"pod"}
	fix.Target = func(c *action.Call) string { return c.Params.(*params).Target }
	frail := fix
	frail.Name, frail.Quote = "frail", map[string]func(string, string) (string, error){"do": func(string, string) (string, error) { panic("no quote should") }}
	set, err := rule.Load([]rule.File{{Path: "r.yaml", Data: []byte(text)}}, rule.Options{
		Sources: source.NewRegistry(source.Type{Name: "fake", Spec: &struct{}{}, New: func(func(any) error, source.Env) (source.Source, error) { return sender{}, nil }}),
		Actions: action.NewRegistry([]action.Definition{def, harm, local, fix, frail}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// newWorld makes a store with a log that begins with the activation of the rules.
func newWorld(t testing.TB, partitions int, set *rule.Set) *world {
	w := &world{
		t: t, dir: t.TempDir(), changed: make(chan struct{}), runs: map[string]*run.Run{}, decided: map[string]run.Entry{}, deferred: map[string]run.Entry{}, heard: map[event.Pos]run.Entry{},
		acts: map[string]int{}, states: map[string][]byte{}, sets: map[string]*rule.Set{}, holders: map[string]string{}, passed: map[string]bool{}, on: map[string]func(context.Context, *action.Call) (action.Outputs, error){},
	}
	for i := range partitions {
		w.parts = append(w.parts, &part{id: i, first: map[string]uint64{}})
	}
	w.activate(set)
	return w
}

// update changes the world and lets those know who wait for a change.
func (w *world) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// await returns once the condition holds; the clock of the bubble bounds it.
func (w *world) await(what string, holds func() bool) {
	w.t.Helper()
	limit := time.After(72 * time.Hour)
	for {
		w.mu.Lock()
		ok, changed := holds(), w.changed
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			w.t.Fatalf("for hours nothing led to this: %s\n%s", what, w.dump())
		}
	}
}

func (w *world) dump() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, p := range w.parts {
		for _, m := range p.messages {
			fmt.Fprintf(&b, "partition %d, %d: %s\n", p.id, m.seq, m.lines)
		}
	}
	return b.String()
}

func (w *world) append(records ...event.Record) {
	w.update(func() { w.segments = append(w.segments, records) })
}

func (w *world) activate(set *rule.Set) {
	w.update(func() { w.sets[set.Revision] = set })
	w.append(event.Record{Kind: event.KindActivate, Event: &event.Event{ID: event.RandomID(), Subject: set.Revision}})
}

// eventOf is the n-th event of a type. Its id depends on nothing else.
func eventOf(typ string, n int) event.Record {
	return event.Record{Kind: event.KindEvent, Event: &event.Event{ID: event.ID(typ, fmt.Sprint(n)), Source: "src", Type: typ}}
}

func (w *world) order(order, runID string) {
	w.append(event.Record{Kind: event.KindCommand, Event: &event.Event{ID: event.RandomID(), Type: order, Subject: runID}})
}

// send puts an event of type go into the log and returns the id of the run that oneRule makes of it.
func (w *world) send(n int) string {
	r := eventOf("go", n)
	w.append(r)
	return r.Event.ID + "-r"
}

func (w *world) run(id string) *run.Run {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs[id] == nil {
		return &run.Run{}
	}
	r := snapshot(w.runs[id])
	return &r
}

// ended waits for a run's end.
func (w *world) ended(id string) *run.Run {
	w.t.Helper()
	w.await("the end of run "+id, func() bool { return w.runs[id] != nil && w.runs[id].State.Ended() })
	return w.run(id)
}

// began waits until an action has begun so many times.
func (w *world) began(runID, step string, times int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d times the action of step %s", times, step), func() bool { return w.acts[runID+"/"+step] >= times })
}

// settled reports whether every record of the log has been answered and every run has ended. w.mu is held.
func (w *world) settled() bool {
	for s, records := range w.segments {
		for i, r := range records {
			_, heard := w.heard[event.Pos{Seq: uint64(s + 1), Index: i}]
			_, decided := w.decided[r.Event.ID]
			if r.Kind == event.KindEvent && !decided || r.Kind == event.KindCommand && !heard {
				return false
			}
		}
	}
	for _, r := range w.runs {
		if !r.State.Ended() {
			return false
		}
	}
	return true
}

// needed is the oldest position that the checkpoints keep from being purged. w.mu is held.
func (w *world) needed() event.Pos {
	oldest := w.parts[0].checkpoint.EventsFrom
	for _, p := range w.parts {
		if !w.purge || p.checkpoint.Replay == 0 {
			return event.Pos{}
		}
		if p.checkpoint.EventsFrom.Compare(oldest) < 0 {
			oldest = p.checkpoint.EventsFrom
		}
	}
	return oldest
}

// write makes entries durable in one message, and audits each.
func (w *world) write(p *part, lines [][]byte) {
	if len(lines) == 0 {
		return
	}
	w.seq++
	p.last = w.seq
	p.messages = append(p.messages, message{w.seq, lines})
	for _, line := range lines {
		var e run.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			w.t.Errorf("entry can't be read back: %v", err)
		}
		w.audit(p, e)
	}
}

func (w *world) wrong(e run.Entry, format string, args ...any) {
	line, _ := json.Marshal(e)
	w.t.Errorf("%s\n\tin %s", fmt.Sprintf(format, args...), line)
}

func (w *world) audit(p *part, e run.Entry) {
	pos := e.Position()
	before, waits := w.deferred[e.Event]
	switch {
	case e.Pos == nil, e.More:
	case waits:
		if before.Position() != pos || before.Revision != e.Revision {
			w.wrong(e, "the event was put aside as %+v", before)
		}
	case pos.Compare(p.pos) <= 0:
		w.wrong(e, "position %s is answered after %s", pos, p.pos)
	default:
		p.pos = pos
	}
	switch e.Kind {
	case run.Deciding:
		w.noted++
	case run.Commanded:
		w.heard[e.Position()] = e
	case run.Decided:
		if _, twice := w.decided[e.Event]; twice {
			w.wrong(e, "the event was decided before")
		}
		w.decided[e.Event] = e
		delete(p.first, e.Event)
		w.create(p, e)
		return
	case run.Deferred:
		if _, over := w.decided[e.Event]; over || waits && len(e.Runs) > 0 {
			w.wrong(e, "the event was decided before, or its windows answered")
		}
		w.deferred[e.Event] = e
		p.first[e.Event] = w.seq
		w.create(p, e)
		return
	case run.Fired:
		w.create(p, e)
		return
	}
	r := w.runs[e.Run]
	if r == nil {
		return
	}
	w.auditRun(r, e)
	run.Apply(r, e)
	if e.Record != nil {
		p.first[e.Run] = w.seq
	}
	if e.Kind == run.Commanded && e.Record != nil {
		for what := range w.holders { // it asks anew
			delete(w.passed, what+e.Run)
		}
	}
	if r.State.Ended() {
		delete(p.first, e.Run)
	}
}

func (w *world) create(p *part, e run.Entry) {
	for _, c := range e.Runs {
		if w.runs[c.ID] != nil {
			w.wrong(e, "run %s is created a second time", c.ID)
		}
		if home := PartitionOf(EventOf(c.ID), len(w.parts)); home != p.id {
			w.wrong(e, "run %s belongs to partition %d", c.ID, home)
		}
		if w.runs[c.ID] = run.New(c, e); !c.State.Ended() {
			p.first[c.ID] = w.seq
		}
	}
}

// auditRun holds an entry against the run that it continues.
func (w *world) auditRun(r *run.Run, e run.Entry) {
	again := e.Kind == run.Commanded && e.Record != nil
	if r.State.Ended() != again {
		w.wrong(e, "the run is %s", r.State)
	}
	if end := (run.Settlement{Next: e.Phase, State: e.State, Reason: e.Reason, Message: e.Error}); e.Kind == run.Ended && r.Settled != nil && *r.Settled != end {
		w.wrong(e, "what the run holds was given back for another end: %+v", *r.Settled)
	}
	s := r.Step(e.Phase, e.Step)
	switch {
	case e.Kind == run.Started:
		w.auditStart(r, s, e)
		w.auditAlone(r, e)
	case e.Kind == run.Finished && e.StepState == run.StepSkipped:
		if s != nil && s.State != run.StepPending {
			w.wrong(e, "the step that is skipped was %s", s.State)
		}
	case e.Kind == run.Finished:
		if s == nil || s.State != run.StepRunning || s.Attempt != e.Attempt {
			w.wrong(e, "an attempt finishes that does not run: %+v", s)
			return
		}
		plan := stepPlan(w.rule(r), s)
		if again := plan.RetryInterrupted && s.Interruptions < run.MaxInterruptions; e.Interrupted && again != (e.StepState == run.StepWaiting) {
			w.wrong(e, "cut off %d times before, with retry %v", s.Interruptions, plan.RetryInterrupted)
		}
	case e.Kind == run.Ended && r.Busy():
		w.wrong(e, "a step still runs")
	case e.Kind == run.Carried && essence(e.Record) != essence(r):
		w.wrong(e, "carried is not what was: %+v", r)
	}
}

// essence is a record without its local outputs, which each machine makes for itself.
func essence(r *run.Run) string {
	c := snapshot(r)
	for i := range c.Steps {
		if c.Steps[i].Uses == "local" {
			c.Steps[i].Outputs = nil
		}
		if text := c.Steps[i].Error; len(text) > shortText { // a record that is too large has the most of it no more
			c.Steps[i].Error = text[:shortText] + " …"
		}
	}
	text, _ := json.Marshal(c)
	return string(text)
}

func (w *world) rule(r *run.Run) *rule.Rule {
	of, _ := w.sets[r.RuleRevision].ByHand(r.Rule)
	return of
}

// auditAlone holds against each other the runs of a group, and those that change a target: where one begins, no other one
// does anything any more.
func (w *world) auditAlone(r *run.Run, e run.Entry) {
	var held []string
	if group := map[string]string{"queued": "g", "replaced": "g", "coalesced": "h"}[r.Rule]; group != "" {
		held = append(held, "group "+group)
	}
	if e.Changes {
		if len(r.Targets) == 0 {
			w.wrong(e, "it changes what the run does not hold")
		}
		for _, t := range r.Targets {
			held = append(held, "target "+t)
		}
	}
	for _, what := range held {
		before := w.runs[w.holders[what]]
		w.holders[what] = r.ID
		if before == nil || before.ID == r.ID {
			continue
		}
		if before.Busy() {
			w.wrong(e, "%s: run %s is under way", what, before.ID)
		}
		w.passed[what+before.ID] = true
		if w.passed[what+r.ID] {
			w.wrong(e, "%s: the run goes on after %s had taken its place", what, before.ID)
		}
	}
}

func (w *world) auditStart(r *run.Run, s *run.Step, e run.Entry) {
	before := 0
	if s != nil {
		before = s.Attempt
		if s.State == run.StepRunning || s.State.Ended() {
			w.wrong(e, "the step is %s", s.State)
		}
	}
	if e.Attempt != before+1 {
		w.wrong(e, "attempt %d follows %d", e.Attempt, before)
	}
	plan := stepPlan(w.rule(r), &run.Step{ID: e.Step, Phase: e.Phase})
	for _, need := range plan.Needs {
		if n := r.Step(e.Phase, need); n == nil || !n.State.Ended() {
			w.wrong(e, "it starts before %s has ended", need)
		}
	}
}

// begin counts an action, which may begin only behind a durable start. It returns false in a process that crashed: what
// happens there after the crash did not happen.
func (w *world) begin(r *replica, c *action.Call) bool {
	alive := true
	w.update(func() {
		if alive = !r.dead; !alive {
			return
		}
		w.acts[c.RunID+"/"+c.StepID]++
		if w.parts[PartitionOf(EventOf(c.RunID), len(w.parts))].owner != r {
			return // it lost the partition a moment ago, and will hear of it
		}
		if c.StepID == "probe" && w.runs[c.RunID].State == run.Verifying { // looks need no start on record
			return
		}
		for _, s := range w.runs[c.RunID].Steps {
			if s.ID == c.StepID && (s.State == run.StepRunning && s.Attempt == c.Attempt || s.State == run.StepSucceeded && s.Uses == "local") {
				return
			}
		}
		w.t.Errorf("attempt %d at %s/%s begins without a start on record: %+v", c.Attempt, c.RunID, c.StepID, w.runs[c.RunID].Steps)
	})
	return alive
}

// perform is what all actions do: a second of work, and then what their parameter says.
func perform(ctx context.Context, c *action.Call) (action.Outputs, error) {
	r, p := ctx.Value(replicaKey{}).(*replica), c.Params.(*params)
	if !r.w.begin(r, c) {
		return nil, errCrashed
	}
	if p.Dir != "" && p.Dir != c.Dir {
		r.w.t.Errorf("%s/%s is given the directory %s of another machine, here is %s", c.RunID, c.StepID, p.Dir, c.Dir)
	}
	if own := r.w.on[p.Do]; own != nil {
		return own(ctx, c)
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case p.Do == "fail", p.Do == "flaky" && c.Attempt < 2:
		return nil, errors.New("it failed")
	case p.Do == "refuse":
		return nil, action.Refused("Forbidden", errors.New("not here"))
	case p.Do == "supersede":
		return nil, action.Superseded(errors.New("there is a newer one"))
	}
	return action.Outputs{"dir": c.Dir, "n": int64(1)<<60 + 1}, nil
}

// block is an action that goes on until its context ends.
func block(ctx context.Context, _ *action.Call) (action.Outputs, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// fault is what becomes of an operation of the store.
type fault int

const (
	none        fault = iota
	crashBefore       // the process ends, and nothing was written
	crashAfter        // it was written, but the process ended before it heard of it
	failBefore        // the store does not answer, and wrote nothing
	failAfter         // the store does not answer, and did write
	crashWithin       // the first entries were written, and the process ended
)

var (
	errCrashed     = fmt.Errorf("the process has ended: %w", run.ErrFenced)
	errUnavailable = errors.New("the store does not answer")
)

type replicaKey struct{}

// replica is one process: an engine, and its view of the world. It is the engine's Log, Store and Leases.
type replica struct {
	w      *world
	name   string
	engine *Engine
	fault  func(op string) fault // asked at each operation, under w.mu; nil is none
	gate   chan struct{}         // while it is open, writes wait
	dead   bool
	ended  bool // it takes no more leases

	crashed, done, up chan struct{}
	end               context.CancelFunc // a stop in good order
	base              context.Context
	lose              context.CancelCauseFunc
	hold              func(context.Context, int, <-chan struct{})
	holds             sync.WaitGroup
}

// boot starts a process. It works on the partitions that it is granted.
func (w *world) boot(name string, with ...func(*Options)) *replica {
	r := &replica{w: w, name: name, crashed: make(chan struct{}), done: make(chan struct{}), up: make(chan struct{})}
	r.base, r.lose = context.WithCancelCause(context.WithValue(context.Background(), replicaKey{}, r))
	o := Options{
		Log: r, Store: store{r}, States: states{r}, Leases: r, Owner: name, Partitions: len(w.parts), Dir: filepath.Join(w.dir, name),
		Revision: func(_ context.Context, digest string) (*rule.Set, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.sets[digest], w.broken
		},
		Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
		Secret: func(action.SecretRef) (string, error) { return "hunter2", nil },
		// The wall clock alone: a monotonic reading does not survive the journal either.
		Now:    func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.skew).Round(0).UTC() },
		Random: func() float64 { return 0.5 }, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	if w.diff != nil {
		o.Diff = func(ctx context.Context, c event.Comparison) ([]string, error) { return w.diff(ctx, r, c) }
	}
	for _, change := range with {
		change(&o)
	}
	e, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	r.engine = e
	ctx, end := context.WithCancel(context.Background())
	r.end = end
	go func() {
		defer close(r.done)
		if err := e.Run(ctx); err != nil {
			w.t.Errorf("engine: %v", err)
		}
	}()
	<-r.up
	w.t.Cleanup(r.kill)
	return r
}

// stop ends the process in good order.
func (r *replica) stop() {
	r.end()
	<-r.done
}

// crash ends the process at once: from here on it writes nothing, and none of its actions counts. w.mu is held.
func (r *replica) crash() error {
	if !r.dead {
		r.dead = true
		r.open()
		close(r.crashed)
		close(r.w.changed)
		r.w.changed = make(chan struct{})
	}
	return errCrashed
}

// open lets writes pass that wait at the gate. w.mu is held.
func (r *replica) open() {
	if r.gate != nil {
		close(r.gate)
		r.gate = nil
	}
}

// kill crashes the process and waits until nothing of it is left.
func (r *replica) kill() {
	r.w.mu.Lock()
	_ = r.crash()
	r.w.mu.Unlock()
	<-r.done
}

// meet waits at the gate, then says what is to become of an operation. w.mu is held when it returns.
func (r *replica) meet(op string) fault {
	r.w.mu.Lock()
	if gate := r.gate; gate != nil {
		r.w.mu.Unlock()
		<-gate
		r.w.mu.Lock()
	}
	if r.fault == nil {
		return none
	}
	return r.fault(op)
}

// Run makes replica the Leases of its engine.
func (r *replica) Run(ctx context.Context, hold func(context.Context, int, <-chan struct{})) error {
	r.hold = hold
	close(r.up)
	select {
	case <-ctx.Done():
	case <-r.crashed:
	}
	r.w.update(func() { r.ended = true })
	r.lose(errors.New("lease has ended"))
	r.holds.Wait()
	return nil
}

// grant is a lease in the hands of the test.
type grant struct {
	to        *replica
	partition int
	lose      context.CancelCauseFunc
	handover  chan struct{}
	done      chan struct{} // closed when the work on it has stopped
}

// grant leases a partition to the process, which tries again where it gives up.
func (r *replica) grant(partition int) *grant {
	ctx, lose := context.WithCancelCause(r.base)
	g := &grant{r, partition, lose, make(chan struct{}), make(chan struct{})}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.ended {
		close(g.done)
		return g
	}
	r.holds.Go(func() {
		defer close(g.done)
		for ctx.Err() == nil {
			r.hold(ctx, partition, g.handover)
			select {
			case <-g.handover:
				return
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	return g
}

func (r *replica) grantAll() *replica {
	for i := range r.w.parts {
		r.grant(i)
	}
	return r
}

// Take is the Store's.
func (r *replica) Take(_ context.Context, partition int, owner string, replay func(uint64, run.Entry) error) (Journal, run.Checkpoint, error) {
	f := r.meet("take")
	defer r.w.mu.Unlock()
	p := r.w.parts[partition]
	switch {
	case r.dead, f == crashBefore:
		return nil, run.Checkpoint{}, r.crash()
	case f == failBefore:
		return nil, run.Checkpoint{}, errUnavailable
	}
	before := len(p.messages)
	line, _ := json.Marshal(run.Entry{Kind: run.Claimed, Owner: owner})
	r.w.write(p, [][]byte{line})
	p.claim, p.owner = p.last, r
	switch f {
	case crashAfter:
		return nil, run.Checkpoint{}, r.crash()
	case failAfter:
		return nil, run.Checkpoint{}, errUnavailable
	}
	for _, m := range p.messages[:before] {
		for _, line := range m.lines {
			var e run.Entry
			_ = json.Unmarshal(line, &e) // the audit has read it
			if m.seq < p.checkpoint.Replay {
				continue
			}
			if err := replay(m.seq, e); err != nil {
				return nil, run.Checkpoint{}, err
			}
		}
	}
	return &journal{r: r, p: p, last: p.last, claim: p.claim}, p.checkpoint, nil
}

// Append is the Log's.
func (r *replica) Append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	f := r.meet("tick")
	defer r.w.mu.Unlock()
	switch {
	case r.dead, f == crashBefore:
		return nil, r.crash()
	case f == failBefore:
		return nil, errUnavailable
	}
	r.w.segments = append(r.w.segments, records)
	close(r.w.changed)
	r.w.changed = make(chan struct{})
	switch f {
	case crashAfter:
		return nil, r.crash()
	case failAfter:
		return nil, errUnavailable
	}
	return nil, nil
}

// states is the States of a replica.
type states struct{ *replica }

func (s states) Save(_ context.Context, partition int, data []byte) (string, error) {
	f := s.meet("save")
	defer s.w.mu.Unlock()
	name := fmt.Sprintf("%d.%d", partition, len(s.w.states))
	switch {
	case s.dead, f == crashBefore:
		return "", s.crash()
	case f == failBefore:
		return "", errUnavailable
	}
	s.w.states[name] = data
	switch f {
	case crashAfter:
		return "", s.crash()
	case failAfter:
		return "", errUnavailable
	}
	return name, nil
}

func (s states) Load(_ context.Context, name string) ([]byte, error) {
	f := s.meet("load")
	defer s.w.mu.Unlock()
	switch {
	case s.dead, f == crashBefore, f == crashAfter:
		return nil, s.crash()
	case f != none:
		return nil, errUnavailable
	case s.w.states[name] == nil:
		return nil, fmt.Errorf("state %s: %w", name, event.ErrNotFound)
	}
	return s.w.states[name], nil
}

// Keep forgets for good: what a checkpoint still names must not be among it.
func (s states) Keep(_ context.Context, partition int, names []string) error {
	f := s.meet("keep")
	defer s.w.mu.Unlock()
	switch {
	case s.dead, f == crashBefore:
		return s.crash()
	case f == failBefore:
		return errUnavailable
	}
	for name := range s.w.states {
		if strings.HasPrefix(name, fmt.Sprint(partition, ".")) && !slices.Contains(names, name) {
			s.w.states[name] = nil
		}
	}
	for _, name := range s.w.parts[partition].checkpoint.States {
		if s.w.states[name] == nil {
			s.w.t.Errorf("the part %s that the checkpoint needs was removed", name)
		}
	}
	return nil
}

// store is the Store of a replica, whose own Run is that of Leases.
type store struct{ *replica }

func (s store) Run(_ context.Context, id string) (run.Run, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.runs[id] == nil {
		return run.Run{}, fmt.Errorf("run %s: %w", id, event.ErrNotFound)
	}
	return snapshot(s.w.runs[id]), nil
}

// journal behaves as runstore's: expected sequences, and after a write with an unknown outcome the same entries again.
type journal struct {
	r           *replica
	p           *part
	last, claim uint64
	unfinished  [][]byte // lines of a write that failed
	written     int      // of these
}

func (j *journal) Seq() uint64 { return j.last }

func (j *journal) Append(ctx context.Context, entries []run.Entry) error {
	lines := make([][]byte, len(entries))
	for i := range entries {
		var err error
		if lines[i], err = json.Marshal(&entries[i]); err != nil || len(lines[i]) > maxEntry {
			j.r.w.t.Errorf("a %s entry of %d bytes can't be written: %v", entries[i].Kind, len(lines[i]), err)
		}
	}
	f := j.r.meet("append")
	w := j.r.w
	defer w.mu.Unlock()
	if ctx.Err() != nil && f == none {
		f = failAfter // the worst that a write with an ended context can do
	}
	switch {
	case j.r.dead, f == crashBefore:
		return j.r.crash()
	case j.p.last != j.last:
		return fmt.Errorf("partition %d: %w", j.p.id, run.ErrFenced)
	case len(lines) < len(j.unfinished) || !reflect.DeepEqual(lines[:len(j.unfinished)], append([][]byte{}, j.unfinished...)):
		w.t.Errorf("after a write that failed come other entries:\n%s\n%s", j.unfinished, lines)
	case f == crashWithin:
		rest := lines[j.written:]
		w.write(j.p, rest[:min(2, len(rest)/2)])
		return j.r.crash()
	case f == failBefore:
		j.unfinished = lines
		return errUnavailable
	}
	w.write(j.p, lines[j.written:])
	j.last = j.p.last
	close(w.changed)
	w.changed = make(chan struct{})
	switch f {
	case crashAfter:
		return j.r.crash()
	case failAfter:
		j.unfinished, j.written = lines, len(lines)
		return errUnavailable
	}
	j.unfinished, j.written = nil, 0
	return nil
}

// maxEntry is runstore.MaxEntryBytes, which a stage may not import.
const maxEntry = 1<<20 - 8<<10

func (j *journal) Checkpoint(_ context.Context, c run.Checkpoint) error {
	f := j.r.meet("checkpoint")
	w := j.r.w
	defer w.mu.Unlock()
	switch {
	case j.r.dead, f == crashBefore:
		return j.r.crash()
	case j.p.claim != j.claim:
		return run.ErrFenced
	case f == failBefore:
		return errUnavailable
	case len(j.unfinished) > 0 || c.Replay < j.p.checkpoint.Replay || c.Replay > j.last+1:
		w.t.Errorf("checkpoint %+v after %+v, where the journal ends at %d", c, j.p.checkpoint, j.last)
	}
	for id, first := range j.p.first {
		waits := w.deferred[id]
		needs := waits.Position()
		if r := w.runs[id]; r != nil {
			needs = r.EventPos
		}
		if first < c.Replay || needs.Compare(c.EventsFrom) < 0 {
			w.t.Errorf("checkpoint %+v forgets %s, which needs %d and event %s", c, id, first, needs)
		}
	}
	j.p.checkpoint = c
	switch f {
	case crashAfter:
		return j.r.crash()
	case failAfter:
		return errUnavailable
	}
	return nil
}

// Follow makes replica the Log of its engine.
func (r *replica) Follow(ctx context.Context, after event.Pos, fn func([]event.Entry) error) error {
	f := r.meet("follow")
	if f == crashBefore || f == crashAfter {
		_ = r.crash()
	}
	r.w.mu.Unlock()
	if f != none {
		return errUnavailable
	}
	seen := map[string]bool{}
	for s := 0; ctx.Err() == nil; {
		r.w.mu.Lock()
		segments, changed, from := r.w.segments, r.w.changed, r.w.needed()
		r.w.mu.Unlock()
		for ; s < len(segments); s++ {
			var entries []event.Entry
			for i, record := range segments[s] {
				pos := event.Pos{Seq: uint64(s + 1), Index: i}
				if pos.Compare(after) > 0 && pos.Compare(from) >= 0 {
					entries = append(entries, event.Entry{Pos: pos, Record: fresh(record), Duplicate: seen[record.Event.ID]})
				}
				seen[record.Event.ID] = true
			}
			if len(entries) == 0 {
				continue
			}
			if err := fn(entries); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// fresh is the record as one reader gets it: views are made in place.
func fresh(r event.Record) event.Record {
	e := r.Event
	r.Event = &event.Event{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, DeliveryID: e.DeliveryID, Body: e.Body, ReceivedAt: e.ReceivedAt, CausedBy: e.CausedBy}
	return r
}

func (r *replica) Read(_ context.Context, id string, place event.Pos) (event.Entry, error) {
	f := r.meet("get")
	defer r.w.mu.Unlock()
	switch {
	case r.dead, f == crashBefore, f == crashAfter:
		return event.Entry{}, r.crash()
	case f != none:
		return event.Entry{}, errUnavailable
	}
	for s, records := range r.w.segments {
		for i, record := range records {
			pos := event.Pos{Seq: uint64(s + 1), Index: i}
			if record.Event.ID == id && (pos == place || !r.w.forgetful) && pos.Compare(r.w.needed()) >= 0 {
				return event.Entry{Pos: pos, Record: fresh(record)}, nil
			}
		}
	}
	return event.Entry{}, event.ErrNotFound
}
