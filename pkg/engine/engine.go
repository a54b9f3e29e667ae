// Package engine is the stage between the event log and the outside world: it decides each event once, creates the runs
// that the decision calls for, acts, and records.
//
// Events and their runs belong to partitions, by hash of the event's id. A replica works on the partitions it holds a
// lease for, each in one goroutine that alone touches the partition's state; it writes what it is about to do to the
// partition's journal, waits until that is durable, and only then does it. Everything that waits while one write is
// under way goes into the next. So:
//   - an event is decided once, whoever holds the partition, and a decision and the runs it creates are one entry;
//   - an event that needs a diff waits for it beside the log, and is decided once all the same;
//   - a step that finished never runs again, and one that was cut off follows its action's policy;
//   - an owner that lost its lease writes nothing more and kills its children.
//
// Durable state leaves and enters only through Log and Store.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Log is what the engine needs of the event log.
type Log interface {
	// Follow calls fn with the records after the position, in order, then with new ones, until ctx ends or fn fails.
	Follow(ctx context.Context, after event.Pos, fn func([]event.Entry) error) error
	// Read reads one event by id, at its place in the log; a zero place is one that is not known. An id alone may be forgotten
	// while the event is still needed.
	Read(ctx context.Context, id string, place event.Pos) (event.Entry, error)
	Append(ctx context.Context, records []event.Record) ([]event.Appended, error)
}

// Journal is a partition's journal in the hands of its owner. An error that wraps run.ErrFenced says that there is another owner.
type Journal interface {
	Append(ctx context.Context, entries []run.Entry) error
	Checkpoint(ctx context.Context, c run.Checkpoint) error
	// Seq is the sequence of the last entry written.
	Seq() uint64
}

// Store hands out journals and finished runs.
type Store interface {
	// Take makes owner the partition's owner, after replaying all that its checkpoint does not cover.
	Take(ctx context.Context, partition int, owner string, replay func(seq uint64, e run.Entry) error) (Journal, run.Checkpoint, error)
	// Run returns a run's record, also of one that ended.
	Run(ctx context.Context, id string) (run.Run, error)
}

// Leases says which partitions are this replica's.
type Leases interface {
	// Run calls hold in a goroutine of its own for each partition acquired, until ctx ends. The context it passes ends
	// when the lease is lost; the handover channel is closed when another replica should get it once work allows.
	Run(ctx context.Context, hold func(ctx context.Context, partition int, handover <-chan struct{})) error
}

// Options configure an Engine.
type Options struct {
	Log      Log
	Store    Store
	States   States
	Leases   Leases
	Owner    string // this replica's name in the journals
	Revision func(ctx context.Context, digest string) (*rule.Set, error)
	// Redact removes secrets from a text that will be stored or shown.
	Redact func(string) string
	// Secret and Target serve the actions of a rule.
	Secret func(action.SecretRef) (string, error)
	// Diff returns the paths in which two commits differ. An error that is permanent (action.IsPermanent) settles that they
	// can't be told. nil: changed() knows the paths that events list.
	Diff func(ctx context.Context, c event.Comparison) ([]string, error)
	// Activated is told each set that a partition begins to decide with. It may not wait; nil tells nobody.
	Activated func(*rule.Set)
	// Watched is told each event that is decided and that Watches wants by its source and type alone, with its views. It may
	// neither wait nor change the event; nil for both tells nobody. After a crash it is told of the last ones again.
	Watches func(*event.Event) bool
	Watched func(*event.Event)
	// Quiet says which quiet time holds for a rule with the labels, and until when; nil is never.
	Quiet func(labels map[string]string, at time.Time) (name string, until time.Time, ok bool)
	// Paused says whether a rule may start no runs now, and why; nil is never.
	Paused func(*rule.Rule) (message string, paused bool)
	// Gate are the server's own bounds of runs.
	Gate gate.Options
	// Loops bound what runs cause in a circle.
	Loops Loops
	// Consents says whose consent a rule's runs need where its mode is approve; nil: that of one person, within a day.
	Consents func(*rule.Rule) Consents
	// RunURL returns the address of a run's page, for texts; nil means none.
	RunURL func(id string) string
	// ApproveURLs returns the addresses that a rule may hand out, by person, at which what an attempt at a run waits for can be
	// answered; an empty digest is whatever that will be. nil: there are none.
	ApproveURLs func(r *rule.Rule, asked Asked) map[string]string
	// StepLog takes what an action has to say in an attempt of a step; secrets are redacted in it. nil logs to Logger.
	StepLog func(runID string, phase run.Phase, step string, attempt int) io.WriteCloser

	Partitions  int           // default 8; a store is opened with the number it was made with
	Workers     int           // steps running at once in this process; default 64
	StopTimeout time.Duration // how long running steps may go on after a stop; default 25s
	Dir         string        // runs' directories are made here
	Now         func() time.Time
	Random      func() float64 // for jitter
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

func (o *Options) withDefaults() error {
	for name, missing := range map[string]bool{
		"Log": o.Log == nil, "Store": o.Store == nil, "States": o.States == nil, "Leases": o.Leases == nil, "Owner": o.Owner == "", "Revision": o.Revision == nil,
		"Redact": o.Redact == nil, "Secret": o.Secret == nil, "Dir": o.Dir == "", "Now": o.Now == nil, "Random": o.Random == nil,
		"Logger": o.Logger == nil, "Registerer": o.Registerer == nil,
	} {
		if missing {
			return fmt.Errorf("engine: option %s is required", name)
		}
	}
	if o.Partitions == 0 {
		o.Partitions = 8
	}
	if o.Workers == 0 {
		o.Workers = 64
	}
	if o.Loops.MaxDepth == 0 {
		o.Loops.MaxDepth = 3
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 25 * time.Second
	}
	if o.Activated == nil {
		o.Activated = func(*rule.Set) {}
	}
	if o.Watches == nil || o.Watched == nil {
		o.Watches = func(*event.Event) bool { return false }
	}
	if o.StepLog == nil {
		o.StepLog = logSteps(o.Logger, o.Redact)
	}
	return nil
}

// Engine decides and acts for one replica. Its methods are safe for concurrent use.
type Engine struct {
	Options
	metrics  *metrics
	slots    *slots
	diffs    *flights
	feed     *feed
	mail     *mail
	dirs     *dirs
	draining chan struct{}
	ticks    chan struct{}
	loading  chan struct{} // holds one while a rule set is loaded

	mu       sync.Mutex
	sets     map[string]*rule.Set
	problems map[int]problem // by partition: why it stands still
}

// maxSets is how many rule revisions are kept compiled.
const maxSets = 16

// killTime is what ending children and the last writes may take beyond StopTimeout.
const killTime = 20 * time.Second

// New makes an engine; Run starts it.
func New(o Options) (*Engine, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	e := &Engine{
		Options:  o,
		metrics:  newMetrics(o.Registerer),
		slots:    newSlots(o.Workers),
		diffs:    newFlights(maxDiffs),
		dirs:     &dirs{root: o.Dir},
		draining: make(chan struct{}),
		ticks:    make(chan struct{}, 1),
		loading:  make(chan struct{}, 1),
		sets:     map[string]*rule.Set{},
		problems: map[int]problem{},
	}
	e.feed = newFeed(o.Log, o.Logger, e.home)
	e.mail = newMail(o.Log, o.Logger)
	return e, nil
}

// Run works until ctx ends, then stops in good order: nothing new starts, running steps get StopTimeout to end, are then
// killed and recorded as interrupted, and the partitions are given up. It returns once nothing of it runs any more.
func (e *Engine) Run(ctx context.Context) error {
	leasing, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	feeding, stopFeed := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeed()

	fed := make(chan struct{})
	go func() {
		defer close(fed)
		e.feed.run(feeding)
	}()
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		e.writeTicks(feeding)
	}()
	mailed := make(chan struct{})
	go func() {
		defer close(mailed)
		e.mail.run(feeding)
	}()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
			close(e.draining)
			e.slots.pokeAll()
			bounded, cancel := context.WithTimeout(leasing, e.StopTimeout+killTime) // a dead store must not hold us for ever
			defer cancel()
			e.feed.drained(bounded)
			release()
		case <-leasing.Done():
		}
	}()
	err := e.Leases.Run(leasing, e.hold)
	release()
	<-stopped
	stopFeed()
	<-fed
	<-ticked
	<-mailed
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// tick asks for a record that moves log time on. One that is asked for already serves all.
func (e *Engine) tick() {
	select {
	case e.ticks <- struct{}{}:
	default:
	}
}

// writeTicks puts the time into the log where a window has ended and no event says so, so that every replica sees the
// window end at the same place. A tick that fails is asked for again.
func (e *Engine) writeTicks(ctx context.Context) {
	for {
		select {
		case <-e.ticks:
		case <-ctx.Done():
			return
		}
		_, err := e.Log.Append(ctx, []event.Record{{Kind: event.KindTick, Event: &event.Event{ID: event.RandomID(), ReceivedAt: e.Now()}}})
		if err != nil && ctx.Err() == nil {
			e.Logger.Warn("a window's end could not be written; it is tried again", "error", err)
		}
	}
}

// hold works on one partition for as long as it is this replica's.
func (e *Engine) hold(ctx context.Context, id int, handover <-chan struct{}) {
	select {
	case <-e.draining:
		<-ctx.Done()
		return
	default:
	}
	log := e.Logger.With("partition", id)
	p, err := e.take(ctx, id, log)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, run.ErrFenced) {
			e.setProblem(id, err)
			log.Error("partition could not be taken; its lease is given up and tried again", "error", err)
		}
		e.leave(id)
		return
	}
	e.setProblem(id, nil)
	defer e.setProblem(id, nil)
	p.handover = handover
	e.feed.join(p)
	defer e.feed.leave(p)
	p.loop(ctx)
}

// Ready says why the engine does not do all its work now, or nil.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []int
	for id, p := range e.problems {
		if p.left.IsZero() || time.Since(p.left) < untaken {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	sort.Ints(ids)
	return fmt.Errorf("partitions %s stand still: %w", strings.Trim(fmt.Sprint(ids), "[]"), e.problems[ids[0]].err)
}

func (e *Engine) setProblem(partition int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		delete(e.problems, partition)
		return
	}
	e.problems[partition] = problem{err: err}
}

// leave notes that a partition's problem is this replica's only if it is soon leased again.
func (e *Engine) leave(partition int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.problems[partition]; ok {
		p.left = time.Now()
		e.problems[partition] = p
	}
}

// problem is why a partition stands still.
type problem struct {
	err  error
	left time.Time // when its lease was given up, or zero
}

// untaken is after what time a partition that was given up counts as another replica's.
const untaken = 15 * time.Second

// set returns the rule set of a revision, loading it once. An empty revision is a set without rules.
func (e *Engine) set(ctx context.Context, revision string) (*rule.Set, error) {
	if revision == "" {
		return &rule.Set{}, nil
	}
	if set := e.loaded(revision); set != nil {
		return set, nil
	}
	select {
	case e.loading <- struct{}{}:
		defer func() { <-e.loading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("load rule revision %.12s: %w", revision, context.Cause(ctx))
	}
	if set := e.loaded(revision); set != nil { // all partitions hear of a revision at once: one of them has loaded it meanwhile
		return set, nil
	}
	set, err := e.Revision(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("load rule revision %.12s: %w", revision, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sets) >= maxSets {
		clear(e.sets) // who uses one holds it
	}
	e.sets[revision] = set
	return set, nil
}

func (e *Engine) loaded(revision string) *rule.Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sets[revision]
}

// activated returns the set that an activation names. One commit can be read at another path, and is then another set of
// the same name: what is held of the name is forgotten where its files are not those of the activation.
func (e *Engine) activated(ctx context.Context, activation *event.Event) (*rule.Set, error) {
	revision, digest := activation.Subject, activation.DeliveryID
	e.mu.Lock()
	if set := e.sets[revision]; set != nil && digest != "" && set.Digest != digest {
		delete(e.sets, revision)
	}
	e.mu.Unlock()
	return e.set(ctx, revision)
}

// PartitionOf returns the partition that owns an event and the runs it starts.
func PartitionOf(eventID string, partitions int) int {
	h := uint32(2166136261) // FNV-1a
	for i := 0; i < len(eventID); i++ {
		h = (h ^ uint32(eventID[i])) * 16777619
	}
	return int(h % uint32(partitions))
}

// EventOf returns the id of the event that started the run with the id.
func EventOf(runID string) string {
	if len(runID) < event.IDLen {
		return runID
	}
	return runID[:event.IDLen]
}
