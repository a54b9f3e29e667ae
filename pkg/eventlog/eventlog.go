// Package eventlog is the durable, totally ordered log of accepted events and of what must be ordered with them.
//
// Delivery: Append returns once its records are on the disk (embedded) or on a quorum's disks (cluster), and Follow hands
// out every record after a position, in order, to every replica. Records that wait while one write is under way share the
// next one, a segment of at most 512 KiB; one record alone goes at once. Ids: the first record of an id in the log's order
// is the event, later ones are marked as duplicates when they are read, on every replica alike; ids outlive bodies.
// History: records are purged by age and size, and never beyond what Needed reported; a log full of needed records
// refuses new ones. A Log is safe for concurrent use; one Follow at a time.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

const (
	maxSegment = 512 << 10
	// answerTimeout bounds each write: JetStream answers nothing at all when its disk fails.
	answerTimeout = 2 * time.Second
)

// Options configure a Log.
type Options struct {
	MaxBytes  int64         // of segments, large bodies, ids and sets of rules together; default 3 GiB, at least 8 MiB
	MaxAge    time.Duration // age at which records are purged; 0: only MaxBytes bounds the history
	IDWindow  time.Duration // how long ids are kept; default 7 days
	MaxIDs    int           // how many ids are kept, as far as an eighth of MaxBytes holds 128 bytes of each; default 1,000,000
	LargeBody int           // bytes above which a body is stored apart; default half a segment
	// Refuse says why no new work can be taken for want of room elsewhere, or nil; optional. Then, and while less than a sixteenth of
	// the segments' room is free, events are refused but for Riposte's own.
	Refuse     func() error
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

func (o *Options) withDefaults() error {
	if o.MaxBytes == 0 {
		o.MaxBytes = 3 << 30
	}
	if o.IDWindow == 0 {
		o.IDWindow = 7 * 24 * time.Hour
	}
	if o.MaxIDs == 0 {
		o.MaxIDs = 1_000_000
	}
	if o.LargeBody == 0 {
		o.LargeBody = maxSegment / 2
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.MaxBytes < 8<<20:
		return fmt.Errorf("eventlog: option MaxBytes is %d: use at least 8 MiB", o.MaxBytes)
	case o.MaxAge < 0 || o.IDWindow < 0 || o.MaxIDs < 0:
		return errors.New("eventlog: options MaxAge, IDWindow and MaxIDs must not be negative")
	case o.LargeBody > maxSegment/2:
		return fmt.Errorf("eventlog: option LargeBody is %d: use at most %d", o.LargeBody, maxSegment/2)
	case o.Logger == nil:
		return errors.New("eventlog: option Logger is required")
	case o.Registerer == nil:
		return errors.New("eventlog: option Registerer is required")
	}
	return nil
}

// Log is the open event log.
type Log struct {
	opts    Options
	shares  shares
	broker  *broker.Broker
	ids     *ids
	metrics *metrics

	wake    chan struct{}
	save    chan struct{} // many ids wait to be stored
	closing chan struct{}
	done    sync.WaitGroup

	room          broker.Room
	segments      segments
	buffers       buffers
	reading       sync.Mutex // held while the index is brought up to date
	segmentBuffer []byte     // the writer's

	mu       sync.Mutex
	queue    []*pending
	inflight map[string]*pending
	closed   bool

	closeOnce sync.Once
	keeper    keeper
}

// pending is a record on its way into the log.
type pending struct {
	id   string // empty for records that are no events
	data []byte
	time time.Time
	done chan struct{}
	err  error
}

// Open makes the log's streams on first use, and reads the ids that it holds.
func Open(ctx context.Context, b *broker.Broker, o Options) (*Log, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	parts := divide(o.MaxBytes, o.MaxIDs)
	if n := parts.maxIDs(o.MaxIDs); n < o.MaxIDs {
		o.Logger.Warn("fewer ids are kept than are configured: an eighth of the log's size has no room for more", "ids", n, "configured", o.MaxIDs)
		o.MaxIDs = n
	}
	l := &Log{
		opts: o, shares: parts, broker: b, ids: newIDs(o.IDWindow, o.MaxIDs), metrics: newMetrics(o.Registerer),
		wake: make(chan struct{}, 1), save: make(chan struct{}, 1), closing: make(chan struct{}), inflight: map[string]*pending{},
		keeper: keeper{grace: bodyGrace, now: broker.NewSlowClock(o.Now), saved: o.Now(), revisions: true},
	}
	l.room.Max = parts.segments
	if err := l.makeStreams(ctx); err != nil {
		return nil, err
	}
	if err := l.loadIDs(ctx); err != nil {
		return nil, fmt.Errorf("read the ids of stored events: %w", err)
	}
	if err := l.readRoom(ctx); err != nil {
		return nil, err
	}
	l.done.Go(l.commit)
	l.done.Go(l.saver)
	return l, nil
}

func (l *Log) makeStreams(ctx context.Context) error {
	js, replicas := l.broker.JetStream(), l.broker.Replicas()
	direct := replicas == 1 // of several servers one that lags behind would say that there is no such message
	for _, cfg := range []jetstream.StreamConfig{
		{
			Name: broker.EventStream, Subjects: []string{broker.EventSubject}, MaxBytes: l.shares.segments,
			Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: replicas, Duplicates: time.Minute, AllowDirect: direct,
		},
		{
			Name: broker.IDStream, Subjects: []string{broker.IDSubject}, MaxBytes: l.shares.ids,
			Storage: jetstream.FileStorage, Replicas: replicas, Duplicates: time.Minute, AllowDirect: direct,
		},
	} {
		if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("open stream %s: %w", cfg.Name, err)
		}
	}
	for _, cfg := range []jetstream.ObjectStoreConfig{
		{Bucket: broker.BodyBucket, Storage: jetstream.FileStorage, Replicas: replicas, MaxBytes: l.shares.bodies},
		{Bucket: broker.RuleBucket, Storage: jetstream.FileStorage, Replicas: replicas},
	} {
		if err := broker.OpenObjects(ctx, js, cfg); err != nil {
			return err
		}
	}
	for _, bucket := range []string{broker.ActiveBucket, broker.MarkBucket} {
		if _, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, Storage: jetstream.FileStorage, Replicas: replicas}); err != nil {
			return fmt.Errorf("open bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// Append makes the records durable, and says of each whether its id was known. A record is not read any more once Append
// has returned. An error wraps event.ErrLogFull when none or, of more than fit into one segment, only the first were
// written, or event.ErrLogUnavailable when that is not known: the same records can be appended again, since ids tell what was.
func (l *Log) Append(ctx context.Context, records []event.Record) ([]event.Appended, error) {
	if err := l.broker.Writable(); err != nil {
		return nil, err
	}
	defer l.poke() // what was queued is written, even when a later record fails
	out := make([]event.Appended, len(records))
	waits := make([]*pending, 0, len(records))
	for i := range records {
		out[i].ID = records[i].Event.ID
		p, duplicate, err := l.enter(ctx, &records[i])
		if err != nil {
			return nil, err
		}
		out[i].Duplicate = duplicate
		if p != nil {
			waits = append(waits, p)
		}
	}
	l.poke()
	for _, p := range waits {
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, context.Cause(ctx))
		}
		if p.err != nil {
			return nil, p.err
		}
	}
	return out, nil
}

// enter queues a record. It returns what to wait for, nil where the id is stored already.
func (l *Log) enter(ctx context.Context, r *event.Record) (p *pending, duplicate bool, err error) {
	id := ""
	if r.Kind == event.KindEvent {
		id = r.Event.ID
		if p, known := l.known(id); known {
			return p, true, nil
		}
		if err := l.roomFor(r); err != nil {
			return nil, false, err
		}
	}
	data, err := l.encode(ctx, r)
	if err != nil {
		return nil, false, err
	}
	p = &pending{id: id, data: data, time: r.Event.ReceivedAt, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, false, fmt.Errorf("%w: the log is closed", event.ErrLogUnavailable)
	}
	if id != "" {
		if other := l.inflight[id]; other != nil { // it came while this one was encoded
			return other, true, nil
		}
		l.inflight[id] = p
	}
	l.queue = append(l.queue, p)
	return p, false, nil
}

// roomFor says why an event can't be taken. What the engine says of the work it has, and Riposte's own events, may use the
// last of the room: otherwise a log that is full of work that waits could never be told to go on. What rules emit is work.
func (l *Log) roomFor(r *event.Record) error {
	if r.SourceType == event.OwnSource && !strings.HasPrefix(r.Event.Type, event.EmittedPrefix) {
		return nil
	}
	if l.room.Tight() {
		l.sweepSoon()
		return fmt.Errorf("%w: what is left of its room is for the work that it holds: wait until that ends, or raise eventLog.maxBytes", event.ErrLogFull)
	}
	if l.opts.Refuse != nil {
		return l.opts.Refuse()
	}
	return nil
}

// known looks an id up among those stored and those under way.
func (l *Log) known(id string) (*pending, bool) {
	l.mu.Lock()
	p := l.inflight[id]
	l.mu.Unlock()
	if p != nil {
		return p, true
	}
	_, ok := l.ids.find(id)
	return nil, ok
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// commit is the one writer: whatever has come while a segment was being written goes into the next.
func (l *Log) commit() {
	for {
		select {
		case <-l.wake:
		case <-l.closing:
			l.mu.Lock()
			l.closed = true
			rest := l.queue
			l.queue = nil
			l.mu.Unlock()
			l.write(rest)
			return
		}
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		l.write(batch)
	}
}

// write stores the records in as few segments as they fit in.
func (l *Log) write(batch []*pending) {
	for len(batch) > 0 {
		n, size := 0, segmentOverhead
		for n < len(batch) && n < maxRecords && (n == 0 || size+len(batch[n].data) <= maxSegment) {
			size += len(batch[n].data)
			n++
		}
		l.writeSegment(batch[:n], size)
		batch = batch[n:]
	}
}

func (l *Log) writeSegment(records []*pending, size int) {
	began := time.Now()
	l.segmentBuffer = sealSegment(slices.Grow(l.segmentBuffer[:0], size), records)
	seq, err := l.publish(l.segmentBuffer) // which copies it
	l.metrics.latency.Observe(time.Since(began).Seconds())
	if err == nil {
		l.metrics.segment.Observe(float64(len(records)))
	}
	l.mu.Lock()
	for i, p := range records {
		if p.id == "" {
			continue
		}
		if err == nil {
			l.ids.add(p.id, event.Pos{Seq: seq, Index: i}, p.time)
		}
		delete(l.inflight, p.id)
	}
	l.mu.Unlock()
	for _, p := range records {
		l.buffers.put(p.data)
		p.data, p.err = nil, err
		close(p.done)
	}
	l.keeper.written(size, l.sweepSoon)
}

func (l *Log) publish(segment []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	ack, err := l.broker.JetStream().PublishMsg(ctx, &nats.Msg{Subject: broker.EventSubject, Data: segment}, jetstream.WithRetryAttempts(0))
	if err == nil {
		l.room.Wrote(len(segment))
		return ack.Sequence, nil
	}
	if broker.Full(err) {
		l.sweepSoon()
		return 0, fmt.Errorf("%w: %w", event.ErrLogFull, err)
	}
	l.broker.Suspect()
	return 0, fmt.Errorf("%w: whether the event was stored is not known: %w", event.ErrLogUnavailable, err)
}

// sweepSoon has the saver sweep.
func (l *Log) sweepSoon() {
	select {
	case l.save <- struct{}{}:
	default:
	}
}

// Last returns the position of the newest record that this replica knows of.
func (l *Log) Last(ctx context.Context) (event.Pos, error) {
	s, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return event.Pos{}, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	return event.Pos{Seq: s.CachedInfo().State.LastSeq, Index: maxRecords}, nil
}

// Ready says why nothing can be appended now, or nil.
func (l *Log) Ready() error { return l.broker.Writable() }

// Close writes what waits, and stops. Appends after it fail. It can be called more than once, and at once.
func (l *Log) Close(ctx context.Context) error {
	l.closeOnce.Do(func() { close(l.closing) })
	stopped := make(chan struct{})
	go func() {
		l.done.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the event log: %w", ctx.Err())
	}
}

type metrics struct {
	segment, latency prometheus.Histogram // of segment the sum is how many records were appended
	bytes, needed    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		segment: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "riposte_eventlog_segment_records", Help: "Records that shared one write; the sum is how many this replica appended.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "riposte_eventlog_write_seconds", Help: "How long a write took until it was durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
		bytes:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_eventlog_bytes", Help: "Size of the stored segments."}),
		needed: prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_eventlog_oldest_needed", Help: "Sequence of the oldest segment that is still needed."}),
	}
	r.MustRegister(m.segment, m.latency, m.bytes, m.needed)
	return m
}
