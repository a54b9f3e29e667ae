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
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
)

const (
	defaultTTL   = 8 * time.Second
	defaultRenew = 2 * time.Second
	leaseVersion = 1
	// markerTTL is how long the mark of a removed key stays.
	markerTTL = time.Hour
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
	told     bool      // it said that the replica is leaving
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

// Drain makes the replica take no more partitions, asks its hold functions to hand over those that it has, and tells the
// other replicas to count without it. What it holds stays its own until the hold functions return. Call it before a stop.
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
	watch := &watch{}
	defer watch.stop()

	done := ctx.Done()
	for {
		l.keepUp(work, watch)
		if l.ending && len(l.held) == 0 {
			l.leave(work)
			return nil
		}
		select {
		case entry, ok := <-watch.updates:
			l.observe(watch, entry, ok)
			l.observeRest(watch)
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

// keepUp does what is due: the watch, a sign of life, then the partitions.
func (l *Leases) keepUp(ctx context.Context, w *watch) {
	now := l.opts.Now()
	soon := l.opts.Renew / 4
	if now.Sub(w.began) >= soon && (w.updates == nil || now.Sub(l.shownSince(w)) > 3*l.opts.Renew) {
		if err := w.restart(ctx, l.store, now); err != nil {
			l.log.Warn("leases can't be watched; it is tried again", "in", soon, "error", err)
		}
	}
	wait := l.opts.Renew
	if l.suspects(now) {
		wait = soon // a sign of life of our own is what proves that another one's is missing
	}
	if now.Sub(l.tried) >= wait || l.told != l.departing() {
		l.beat(ctx)
	}
	if w.caughtUp {
		l.settle(ctx)
	}
}

// shownSince returns when the watch last proved that it works, or began.
func (l *Leases) shownSince(w *watch) time.Time {
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
	l.tried, l.told = sent, l.departing()
	revision, err := l.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		return kv.Put(ctx, broker.ReplicaKey(l.session), l.record(l.told))
	})
	if err != nil {
		l.log.Warn("sign of life could not be written; the leases end unless a further one succeeds", "at", l.deadline, "error", err)
		return
	}
	l.beats = append(l.beats[max(0, len(l.beats)-15):], beat{revision, sent})
	l.deadline = sent.Add(l.opts.TTL / 4 * 3)
	l.expiry.Reset(max(0, l.deadline.Sub(l.opts.Now())))
}

func (l *Leases) departing() bool { return l.ending || l.leaving.Load() }

func (l *Leases) record(leaving bool) []byte {
	data, _ := json.Marshal(leaseRecord{leaseVersion, l.opts.Owner, l.session, leaving}) // strings and a bool can't fail
	return data
}

func (l *Leases) write(ctx context.Context, put func(context.Context, jetstream.KeyValue) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, min(l.store.timeout, l.opts.TTL/4))
	defer cancel()
	h, err := l.store.handles(ctx)
	if err != nil {
		return 0, err
	}
	return put(ctx, h.leases)
}

// observe folds an entry of the bucket into the table.
func (l *Leases) observe(w *watch, entry jetstream.KeyValueEntry, ok bool) {
	switch {
	case !ok:
		w.stop()
	case entry == nil:
		w.caughtUp = true
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.observeEntry(entry, l.opts.Now())
	}
}

// observeRest takes what else has arrived, so that decisions rest on all that is known.
func (l *Leases) observeRest(w *watch) {
	for {
		select {
		case entry, ok := <-w.updates:
			l.observe(w, entry, ok)
		default:
			return
		}
	}
}

func (l *Leases) observeEntry(entry jetstream.KeyValueEntry, now time.Time) {
	var record leaseRecord
	session, isReplica := broker.KeyReplica(entry.Key())
	if entry.Operation() != jetstream.KeyValuePut {
		if isReplica {
			delete(l.table.replicas, session)
		}
		return
	}
	if err := json.Unmarshal(entry.Value(), &record); err != nil || record.Version != leaseVersion {
		l.log.Error("lease is written in a format that this version does not read, and counts as held", "key", entry.Key(), "format", record.Version, "error", err)
		record = leaseRecord{Owner: unreadable, Session: unreadable}
	}
	if isReplica {
		l.table.observeHeartbeat(session, heartbeat{entry.Revision(), record.Leaving, now})
		if session == l.session {
			l.prove(entry.Revision())
		}
		return
	}
	if p := broker.KeyPartition(entry.Key()); p >= 0 {
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
	l.mu.Lock()
	p := l.plan(l.opts.Now())
	l.mu.Unlock()
	for _, partition := range p.release {
		if err := l.release(ctx, partition); err != nil {
			return
		}
	}
	for _, partition := range p.start {
		l.start(ctx, partition)
	}
	for _, partition := range p.acquire {
		if err := l.acquire(ctx, partition); err != nil {
			return
		}
	}
	for session, revision := range p.bury {
		l.bury(ctx, session, revision)
	}
}

// plan is what is to be done about partitions and dead replicas.
type plan struct {
	release, start, acquire []int
	bury                    map[string]uint64
}

// plan ends the work on partitions that were lost, asks for the surplus to be handed over, and returns what else is due.
// l.mu is held.
func (l *Leases) plan(now time.Time) plan {
	var do plan
	share := l.table.share()
	if l.departing() {
		share = 0
	}
	staying := l.review()
	for p := len(l.retry) - 1; p >= 0 && staying > share; p-- {
		if h := l.held[p]; h != nil && h.stays() {
			h.leaving = true
			close(h.handover)
			staying--
		}
	}
	if !now.Before(l.deadline) {
		return do // our own leases are in doubt
	}
	for p := range l.retry {
		if !l.table.mine(p) || l.held[p] != nil {
			continue
		}
		if staying >= share || now.Before(l.retry[p]) {
			do.release = append(do.release, p)
			continue
		}
		do.start = append(do.start, p)
		staying++
	}
	first := l.firstChoice()
	for i := range l.retry {
		p := (first + i) % len(l.retry)
		if staying < share && l.held[p] == nil && l.table.takeable(p) && !now.Before(l.retry[p]) {
			do.acquire = append(do.acquire, p)
			staying++
		}
	}
	do.bury = l.table.buried()
	return do
}

// review ends the work on partitions that are another's now, and returns how many stay.
func (l *Leases) review() int {
	n := 0
	for p, h := range l.held {
		if !l.table.mine(p) {
			h.end(errLeaseLost)
		}
		if h.stays() {
			n++
		}
	}
	return n
}

// firstChoice spreads the replicas, so that they do not all try the same partition first.
func (l *Leases) firstChoice() int {
	h := fnv.New32a()
	h.Write([]byte(l.session))
	return int(h.Sum32() % uint32(len(l.retry)))
}

func (l *Leases) acquire(ctx context.Context, partition int) error {
	if err := l.claim(ctx, partition, l.record(false), l.session); err != nil {
		if broker.Refused(err) {
			return nil // another one was faster; the watch will tell
		}
		l.log.Warn("lease could not be taken; it is tried again", "partition", partition, "error", err)
		return err
	}
	l.start(ctx, partition)
	return nil
}

func (l *Leases) release(ctx context.Context, partition int) error {
	free, _ := json.Marshal(leaseRecord{Version: leaseVersion}) // can't fail
	err := l.claim(ctx, partition, free, "")
	if err != nil && !broker.Refused(err) {
		l.log.Warn("lease could not be released; it is tried again", "partition", partition, "error", err)
		return err
	}
	return nil
}

// claim writes a partition's key if it is as last observed.
func (l *Leases) claim(ctx context.Context, partition int, value []byte, session string) error {
	l.mu.Lock()
	before := l.table.leases[partition].revision
	l.mu.Unlock()
	revision, err := l.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		return kv.Update(ctx, broker.PartitionKey(partition), value, before)
	})
	if err != nil {
		return err
	}
	owner := ""
	if session != "" {
		owner = l.opts.Owner
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table.observeLease(partition, lease{revision, owner, session, l.opts.Now()})
	return nil
}

func (l *Leases) start(ctx context.Context, partition int) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &holding{cancel: cancel, handover: make(chan struct{})}
	l.mu.Lock()
	l.held[partition] = h
	l.store.metrics.held.Set(float64(len(l.held)))
	l.mu.Unlock()
	if !l.opts.Now().Before(l.deadline) {
		l.expire() // it passed while the lease was written
	}
	l.log.Debug("partition is held", "partition", partition)
	go func() {
		l.hold(ctx, partition, h.handover)
		l.returned <- partition
	}()
}

// finish notes that a hold function has returned. Where that was its own decision, others get a chance first.
func (l *Leases) finish(partition int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[partition]
	h.cancel(nil)
	delete(l.held, partition)
	l.store.metrics.held.Set(float64(len(l.held)))
	if !h.ended {
		l.retry[partition] = l.opts.Now().Add(l.opts.Renew)
	}
	l.log.Info("partition is given up", "partition", partition)
}

// expire ends all work because the leases could not be renewed. It also runs on the timer's goroutine. Of an exclusive store
// nobody else can take them: work goes on while its disk is full, and is recorded once there is space.
func (l *Leases) expire() {
	if !l.opts.Exclusive {
		l.endAll(errLeaseExpired)
	}
}

func (l *Leases) endAll(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		h.end(cause)
	}
}

// end ends the context of the work; the first cause stands.
func (h *holding) end(cause error) {
	h.ended = true
	h.cancel(cause)
}

// stays reports whether the work goes on.
func (h *holding) stays() bool { return !h.ended && !h.leaving }

// bury removes what a dead replica left behind. It may fail: the next replica to start does it.
func (l *Leases) bury(ctx context.Context, session string, revision uint64) {
	l.mu.Lock()
	delete(l.table.replicas, session)
	l.mu.Unlock()
	_, err := l.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		return 0, kv.Purge(ctx, broker.ReplicaKey(session), jetstream.LastRevision(revision), jetstream.PurgeTTL(markerTTL))
	})
	if err != nil {
		l.log.Debug("traces of a dead replica stay", "session", session, "error", err)
	}
}

// leave releases what is still ours and takes back the sign of life, so that others need not wait for it to age.
func (l *Leases) leave(ctx context.Context) {
	for p := range l.retry {
		l.mu.Lock()
		mine := l.table.mine(p)
		l.mu.Unlock()
		if !mine {
			continue
		}
		if err := l.release(ctx, p); err != nil {
			return // it is not reachable: the leases age
		}
	}
	_, err := l.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		return 0, kv.Purge(ctx, broker.ReplicaKey(l.session), jetstream.PurgeTTL(markerTTL))
	})
	if err != nil {
		l.log.Debug("sign of life stays", "error", err)
	}
}

// watch is the view of the leases' bucket. It delivers in the order of the writes. Run's goroutine owns it.
type watch struct {
	watcher  jetstream.KeyWatcher
	updates  <-chan jetstream.KeyValueEntry // nil while there is none
	cancel   context.CancelFunc
	began    time.Time
	caughtUp bool // all that there was has been delivered
}

// restart begins again with all that there is.
func (w *watch) restart(ctx context.Context, s *Store, now time.Time) error {
	w.stop()
	w.began = now
	opening, cancelOpening := context.WithTimeout(ctx, s.timeout)
	defer cancelOpening()
	h, err := s.handles(opening)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	watcher, err := h.leases.WatchAll(ctx)
	if err != nil {
		cancel()
		return err
	}
	w.watcher, w.updates, w.cancel = watcher, watcher.Updates(), cancel
	return nil
}

func (w *watch) stop() {
	if w.updates == nil {
		return
	}
	_ = w.watcher.Stop() // it fails only when it has ended
	w.cancel()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for open := true; open; { // an update that nobody takes would keep its sender
		select {
		case _, open = <-w.updates:
		case <-limit.C:
			open = false
		}
	}
	w.updates, w.caughtUp = nil, false
}
