// Package runstore keeps what happens to events and runs: one journal for each partition, the checkpoints that bound how
// much of it a new owner reads, the leases that say whose each partition is, and a view of the runs for the API.
//
// Guarantees:
//   - What Append returned without error for is durable, in order, once: an outcome that stayed unknown is found out
//     before anything else is written.
//   - A journal has one writer. Every message names the one before it in its partition, so after another owner's claim
//     an earlier owner's writes are refused (run.ErrFenced), however late they arrive. Leases only keep owners from
//     fencing each other; correctness does not rest on them.
//   - Nothing is purged that a checkpoint says is needed, and nothing at all of a partition without a checkpoint. The
//     last message of a partition is always kept, because the next write must name it.
//
// A Store and a History are safe for concurrent use; a Journal belongs to one goroutine at a time.
package runstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

var (
	// ErrUnavailable says that the store does not answer. Of a write the outcome is unknown: hand the same entries to
	// Append again, which finds out first.
	ErrUnavailable = run.ErrUnavailable
	// ErrFull says that the journal is full of entries that are still needed. Nothing was written.
	ErrFull = errors.New("run journal is full")
)

const (
	defaultPartitions = 8
	maxPartitions     = 1024
	defaultMaxBytes   = 1 << 30
	minMaxBytes       = 4 << 20
	defaultHistory    = 30 * 24 * time.Hour

	// answerTimeout bounds each request to the store: JetStream answers nothing at all when its disk fails.
	answerTimeout = 2 * time.Second
)

// Broker is what the store needs of the connection to JetStream.
type Broker interface {
	// JetStream returns the context to use now; it changes when an embedded server is restarted.
	JetStream() jetstream.JetStream
	// Replicas is how many servers keep each message.
	Replicas() int
}

// purger is a Broker that says when nothing may be purged, because a backup is being made.
type purger interface {
	Purge(fn func() error) error
}

var _ purger = (*broker.Broker)(nil)

// Options configure a Store.
type Options struct {
	// Partitions is how many there are; a store keeps the number it was made with. 0 takes that, or 8 for a new store.
	Partitions int
	// MaxBytes bounds the journals of all partitions together; default 1 GiB, at least 4 MiB. Ended runs are purged,
	// oldest first, before three quarters of it are used.
	MaxBytes int64
	// History is how long ended runs are kept if there is room; default 30 days.
	History    time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

func (o *Options) withDefaults() error {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.History == 0 {
		o.History = defaultHistory
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Partitions < 0 || o.Partitions > maxPartitions:
		return fmt.Errorf("runstore: option Partitions is %d: use 1 to %d, or 0 for what the store has", o.Partitions, maxPartitions)
	case o.MaxBytes < minMaxBytes:
		return fmt.Errorf("runstore: option MaxBytes is %d: use %d or more", o.MaxBytes, minMaxBytes)
	case o.History < 0:
		return fmt.Errorf("runstore: option History is %s: use a positive duration", o.History)
	case o.Logger == nil:
		return errors.New("runstore: option Logger is required")
	case o.Registerer == nil:
		return errors.New("runstore: option Registerer is required")
	}
	return nil
}

// Store is the journals, checkpoints and leases of one installation. Its methods are safe for concurrent use.
type Store struct {
	broker     Broker
	opts       Options
	partitions int
	timeout    time.Duration
	metrics    *metrics
	// publish writes one message whose predecessor in its partition has the sequence after; tests replace it.
	publish func(ctx context.Context, msg *nats.Msg, after uint64) (uint64, error)

	sweeping sync.Mutex
	purged   []uint64 // by partition: what is older is gone; guarded by sweeping
	clock    *broker.SlowClock
	carry    atomic.Uint64
	room     broker.Room

	mu      sync.Mutex
	current *handles
}

// handles are the store's parts on one connection.
type handles struct {
	js          jetstream.JetStream
	runs        jetstream.Stream
	checkpoints jetstream.KeyValue
	leases      jetstream.KeyValue
}

// Open creates the store on its first use and checks that what is there can be used. It fails where the store was made
// with another number of partitions or by a version with another layout.
func Open(ctx context.Context, b Broker, o Options) (*Store, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	s := &Store{broker: b, opts: o, timeout: answerTimeout, metrics: newMetrics(o.Registerer), clock: broker.NewSlowClock(o.Now)}
	s.publish = s.publishMsg
	s.room.Max = o.MaxBytes
	js := b.JetStream()
	partitions, err := s.ensureStream(ctx, js)
	if err != nil {
		return nil, fmt.Errorf("open the run journal (stream %s): %w", broker.RunStream, err)
	}
	s.partitions, s.purged = partitions, make([]uint64, partitions)
	windows := jetstream.ObjectStoreConfig{Bucket: broker.WindowBucket, Storage: jetstream.FileStorage, Replicas: b.Replicas()}
	if err := broker.OpenObjects(ctx, js, windows); err != nil {
		return nil, err
	}
	for _, bucket := range []string{broker.CheckpointBucket, broker.LeaseBucket} {
		cfg := jetstream.KeyValueConfig{Bucket: bucket, Storage: jetstream.FileStorage, Replicas: b.Replicas(), LimitMarkerTTL: markerTTL}
		if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
		}
	}
	return s, nil
}

// Partitions returns how many partitions the store has.
func (s *Store) Partitions() int { return s.partitions }

const (
	layoutKey     = "riposte-layout"
	partitionsKey = "riposte-partitions"
	layout        = "1"
)

// ensureStream creates the journals' stream or adopts the one there is, and returns its number of partitions.
func (s *Store) ensureStream(ctx context.Context, js jetstream.JetStream) (int, error) {
	stream, err := js.Stream(ctx, broker.RunStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		n := s.opts.Partitions
		if n == 0 {
			n = defaultPartitions
		}
		cfg := s.streamConfig(n)
		_, err = js.CreateStream(ctx, cfg)
		if err == nil {
			return n, nil
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another replica was faster, with other options
			stream, err = js.Stream(ctx, broker.RunStream)
		}
	}
	if err != nil {
		return 0, err
	}
	return s.adoptStream(ctx, js, stream.CachedInfo().Config)
}

func (s *Store) adoptStream(ctx context.Context, js jetstream.JetStream, found jetstream.StreamConfig) (int, error) {
	if v := found.Metadata[layoutKey]; v != layout {
		return 0, fmt.Errorf("it has layout %q and this version of Riposte reads %q: run the version that made it, or start on an empty store", v, layout)
	}
	n, err := strconv.Atoi(found.Metadata[partitionsKey])
	if err != nil || n < 1 || n > maxPartitions {
		return 0, fmt.Errorf("its number of partitions is %q: the store is damaged, restore a backup", found.Metadata[partitionsKey])
	}
	if want := s.opts.Partitions; want != 0 && want != n {
		return 0, fmt.Errorf("it was made with %d partitions and %d are configured: the number can't change, set it back to %d", n, want, n)
	}
	cfg := s.streamConfig(n)
	if found.MaxBytes == cfg.MaxBytes && found.Replicas == cfg.Replicas {
		return n, nil
	}
	_, err = js.UpdateStream(ctx, cfg)
	return n, err
}

func (s *Store) streamConfig(partitions int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        broker.RunStream,
		Description: "Riposte: what happens to events and runs, a subject for each partition",
		Subjects:    []string{broker.RunSubjects},
		Storage:     jetstream.FileStorage,
		Replicas:    s.broker.Replicas(),
		MaxBytes:    s.opts.MaxBytes,
		MaxMsgSize:  maxMessage,
		Discard:     jetstream.DiscardNew, // with DiscardOld needed entries would vanish silently
		Metadata:    map[string]string{layoutKey: layout, partitionsKey: strconv.Itoa(partitions)},
	}
}

// handles returns the store's parts on the connection of now.
func (s *Store) handles(ctx context.Context) (*handles, error) {
	js := s.broker.JetStream()
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	if current != nil && current.js == js {
		return current, nil
	}
	h := &handles{js: js}
	var err error
	if h.runs, err = js.Stream(ctx, broker.RunStream); err != nil {
		return nil, fmt.Errorf("%w: stream %s: %w", ErrUnavailable, broker.RunStream, err)
	}
	if h.checkpoints, err = js.KeyValue(ctx, broker.CheckpointBucket); err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, broker.CheckpointBucket, err)
	}
	if h.leases, err = js.KeyValue(ctx, broker.LeaseBucket); err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, broker.LeaseBucket, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = h
	return h, nil
}

func (s *Store) publishMsg(ctx context.Context, msg *nats.Msg, after uint64) (uint64, error) {
	ack, err := s.broker.JetStream().PublishMsg(ctx, msg,
		jetstream.WithExpectStream(broker.RunStream), jetstream.WithExpectLastSequencePerSubject(after))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// last returns the newest message of a partition as it stands in the stream, or nil if there is none.
func (s *Store) last(ctx context.Context, partition int) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	h, err := s.handles(ctx)
	if err != nil {
		return nil, err
	}
	msg, err := h.runs.GetLastMsgForSubject(ctx, broker.RunSubject(partition))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read the last entry of partition %d: %w", ErrUnavailable, partition, err)
	}
	return msg, nil
}

func (s *Store) checkPartition(partition int) error {
	if partition < 0 || partition >= s.partitions {
		return fmt.Errorf("partition %d does not exist: there are 0 to %d", partition, s.partitions-1)
	}
	return nil
}
