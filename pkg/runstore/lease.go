package runstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultTTL   = 8 * time.Second
	defaultRenew = 2 * time.Second
	leaseVersion = 1
)

var (
	errLeaseLost    = errors.New("lease was taken by another replica")
	errLeaseExpired = errors.New("lease could not be renewed in time")
	errLeaseEnded   = errors.New("replica is stopping")
)

// LeaseOptions configure a replica's leases.
type LeaseOptions struct {
	// Owner is the replica's name, for people.
	Owner string
	// Exclusive says that no other replica can use this store, because it is embedded and locked: leases that were left
	// behind are taken at once.
	Exclusive bool
	// TTL is after how long without a sign of life a replica's leases are taken, by the clock of who takes them; default
	// 8s. A replica itself gives up a quarter of it earlier. All replicas must use the same.
	TTL time.Duration
	// Renew is how often a replica gives a sign of life; default 2s, at most a third of TTL.
	Renew time.Duration
	Now   func() time.Time // default time.Now; its readings must be monotonic
}

func (o *LeaseOptions) withDefaults() error {
	if o.TTL == 0 {
		o.TTL = defaultTTL
	}
	if o.Renew == 0 {
		o.Renew = min(defaultRenew, o.TTL/4)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Owner == "":
		return errors.New("runstore: lease option Owner is required")
	case o.Renew <= 0 || o.TTL < 3*o.Renew:
		return fmt.Errorf("runstore: lease option Renew is %s: use more than 0 and at most a third of TTL, which is %s", o.Renew, o.TTL)
	}
	return nil
}

// Leases share the partitions out among the replicas: each is held by at most one, and each replica holds its share,
// rounded up. They keep replicas out of each other's way; what keeps them from writing is the journal.
//
// A lease counts as held while the replica's heartbeat changes. No clock of another machine is read: a replica gives its
// own leases up by its monotonic clock, counted from before it sent the last heartbeat that was acknowledged, and takes
// another's only after it saw no change for longer than that.
//
// Run may be called once. The other methods are safe for concurrent use.
type Leases struct {
	store   *Store
	opts    LeaseOptions
	log     *slog.Logger
	session string

	leaving atomic.Bool
	poked   chan struct{}

	mu    sync.Mutex
	table *table
	held  map[int]*holding

	// What follows is touched by Run's goroutine only.
	hold     func(ctx context.Context, partition int, handover <-chan struct{})
	returned chan int
	expiry   *time.Timer
	deadline time.Time // until when this replica's own leases count
	tried    time.Time // when a heartbeat was last sent
	beats    []beat    // acknowledged heartbeats that were not observed yet
	retry    []time.Time
	ending   bool
}

// holding is a partition that a hold function works on.
type holding struct {
	cancel   context.CancelCauseFunc
	handover chan struct{}
	leaving  bool // handover is closed
	ended    bool // its context was ended
}

type beat struct {
	revision uint64
	sent     time.Time
}

// leaseRecord is the value of a key: a replica's heartbeat, or who holds a partition. Without a session it is free.
type leaseRecord struct {
	Version int    `json:"v"`
	Owner   string `json:"owner,omitempty"`
	Session string `json:"session,omitempty"`
	Leaving bool   `json:"leaving,omitempty"`
}

// NewLeases makes a replica's leases; Run takes and keeps them.
func NewLeases(ctx context.Context, s *Store, o LeaseOptions) (*Leases, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	if _, err := s.handles(ctx); err != nil {
		return nil, fmt.Errorf("open the leases: %w", err)
	}
	session := rand.Text()
	return &Leases{
		store: s, opts: o, log: s.opts.Logger.With("owner", o.Owner), session: session,
		poked:    make(chan struct{}, 1),
		table:    newTable(session, s.partitions, o),
		held:     map[int]*holding{},
		returned: make(chan int, s.partitions),
		retry:    make([]time.Time, s.partitions),
	}, nil
}

// Drain makes the replica take no more partitions, and tells the others to count without it. Those it holds stay its
// own until their hold functions return. Call it before a stop.
func (l *Leases) Drain() {
	l.leaving.Store(true)
	l.poke()
}

func (l *Leases) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// Holding returns the partitions that this replica works on, in order.
func (l *Leases) Holding() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make([]int, 0, len(l.held))
	for p := range l.held {
		held = append(held, p)
	}
	sort.Ints(held)
	return held
}

// Owner returns the name of the replica that holds a partition, as last seen, or "" if it is free.
func (l *Leases) Owner(partition int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if partition < 0 || partition >= len(l.table.leases) {
		return ""
	}
	return l.table.leases[partition].owner
}

// Run calls hold in a goroutine of its own for each partition acquired. The context it passes ends when the lease is
// lost, could not be renewed in time, or when ctx ends; the handover channel is closed when another replica should get
// the partition once work allows. Only when hold has returned, which says that everything has stopped, is the lease
// given to others; if it returned of its own accord, this replica too may try again a little later.
//
// Run returns nil after ctx has ended, all hold functions have returned and the leases are released, so that other
// replicas can take them at once.
func (l *Leases) Run(ctx context.Context, hold func(ctx context.Context, partition int, handover <-chan struct{})) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	l.hold = hold
	l.expiry = time.AfterFunc(l.opts.TTL, l.expire)
	defer l.expiry.Stop()
	tick := time.NewTicker(l.opts.Renew / 4)
	defer tick.Stop()
	watch := l.newWatch()
	defer func() { watch.stop() }()

	done := ctx.Done()
	for {
		l.keepUp(work, watch)
		if l.ending && l.quiet() {
			l.leave(work)
			return nil
		}
		select {
		case entry, ok := <-watch.updates:
			l.observe(watch, entry, ok)
			l.drain(watch)
		case p := <-l.returned:
			l.finish(p)
		case <-tick.C:
		case <-l.poked:
		case <-done:
			done, l.ending = nil, true
			l.endAll(errLeaseEnded)
		}
	}
}

// keepUp does what is due: the watch, a heartbeat, then the partitions.
func (l *Leases) keepUp(ctx context.Context, w *watch) {
	now := l.opts.Now()
	if !w.open() || now.Sub(l.proven(w)) > 3*l.opts.Renew {
		w.restart(ctx, l.store, now)
	}
	if due := now.Sub(l.tried) >= l.opts.Renew; due || (l.suspects(now) && now.Sub(l.tried) >= l.opts.Renew/4) {
		l.beat(ctx)
	}
	if w.caughtUp {
		l.settle(ctx)
	}
}

// proven returns since when the watch has shown nothing of our own.
func (l *Leases) proven(w *watch) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table.proven.After(w.began) {
		return l.table.proven
	}
	return w.began
}

func (l *Leases) suspects(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.suspect(now)
}

// beat gives a sign of life. Its acknowledgement keeps the leases for a time counted from before it was sent.
func (l *Leases) beat(ctx context.Context) {
	sent := l.opts.Now()
	l.tried = sent
	revision, err := l.put(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		return kv.Put(ctx, replicaPrefix+l.session, l.record(l.leaving.Load() || l.ending))
	})
	if err != nil {
		l.log.Warn("sign of life could not be written; leases end unless the next ones succeed", "at", l.deadline, "error", err)
		return
	}
	l.beats = append(l.beats, beat{revision, sent})
	l.deadline = sent.Add(l.opts.TTL / 4 * 3)
	l.expiry.Reset(max(0, l.deadline.Sub(l.opts.Now())))
}

func (l *Leases) record(leaving bool) []byte {
	data, _ := json.Marshal(leaseRecord{leaseVersion, l.opts.Owner, l.session, leaving}) // strings and a bool can't fail
	return data
}

func (l *Leases) put(ctx context.Context, write func(context.Context, jetstream.KeyValue) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, min(l.store.timeout, l.opts.TTL/4))
	defer cancel()
	h, err := l.store.handles(ctx)
	if err != nil {
		return 0, err
	}
	return write(ctx, h.leases)
}

// observe folds an entry of the bucket into the table.
func (l *Leases) observe(w *watch, entry jetstream.KeyValueEntry, ok bool) {
	switch {
	case !ok:
		w.stop()
	case entry == nil:
		w.caughtUp = true
	default:
		l.observeEntry(entry)
	}
}

// drain takes what else has arrived, so that decisions are made on all that is known.
func (l *Leases) drain(w *watch) {
	for w.open() {
		select {
		case entry, ok := <-w.updates:
			l.observe(w, entry, ok)
		default:
			return
		}
	}
}

func (l *Leases) observeEntry(entry jetstream.KeyValueEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opts.Now()
	session, heartbeat := strings.CutPrefix(entry.Key(), replicaPrefix)
	if heartbeat && entry.Operation() != jetstream.KeyValuePut {
		delete(l.table.replicas, session)
		return
	}
	var record leaseRecord
	if err := json.Unmarshal(entry.Value(), &record); err != nil || record.Version != leaseVersion {
		l.log.Error("lease has a format that this version does not read; it counts as held", "key", entry.Key(), "format", record.Version, "error", err)
		record = leaseRecord{Owner: "unknown", Session: "unknown." + entry.Key()}
	}
	if heartbeat {
		l.table.observeHeartbeat(session, entry.Revision(), record.Leaving, now)
		if session == l.session {
			l.prove(entry.Revision())
		}
		return
	}
	if p := keyPartition(entry.Key()); p >= 0 {
		l.table.observeLease(p, lease{entry.Revision(), record.Owner, record.Session, now})
	}
}

// prove notes that a heartbeat of our own was observed.
func (l *Leases) prove(revision uint64) {
	for len(l.beats) > 0 && l.beats[0].revision <= revision {
		if l.beats[0].revision == revision {
			l.table.proven = l.beats[0].sent
		}
		l.beats = l.beats[1:]
	}
}

// settle brings the partitions in line with what was observed.
func (l *Leases) settle(ctx context.Context) {
	now := l.opts.Now()
	share := l.plan(now)
	for p := range l.retry {
		l.mu.Lock()
		mine, held, count := l.table.mine(p), l.held[p] != nil, l.table.count()
		takeable := l.table.takeable(p)
		l.mu.Unlock()
		waits := now.Before(l.retry[p])
		switch {
		case mine && !held && (count > share || waits):
			l.release(ctx, p)
		case mine && !held && now.Before(l.deadline):
			l.start(ctx, p)
		}
		_ = takeable
	}
	l.acquire(ctx, now, share)
	l.bury(ctx)
}

// plan ends the work on partitions that were lost, asks for the surplus to be handed over, and returns how many
// partitions this replica should hold.
func (l *Leases) plan(_ time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	share := l.table.share()
	if l.ending || l.leaving.Load() {
		share = 0
	}
	staying := 0
	for p, h := range l.held {
		if !l.table.mine(p) {
			h.end(errLeaseLost)
		}
		if !h.ended && !h.leaving {
			staying++
		}
	}
	if l.leaving.Load() {
		return 0 // whoever drains ends its work itself
	}
	for p := len(l.retry) - 1; p >= 0 && staying > share; p-- {
		if h := l.held[p]; h != nil && !h.ended && !h.leaving {
			h.leaving = true
			close(h.handover)
			staying--
		}
	}
	return share
}
