package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// keeper knows what may be purged.
type keeper struct {
	sweeping sync.Mutex // held for a whole sweep: the saver's and the janitor's would store the same ids

	mu     sync.Mutex
	needed event.Pos
	known  bool
	fresh  int // bytes written since the last sweep
	grace  time.Duration
	// What follows is guarded by sweeping, but for revisions.
	now       *broker.SlowClock
	saved     time.Time // when ids were stored
	revisions bool      // one was added
}

// sweepBytes is how much is written before a sweep is due, whatever the time.
const sweepBytes = 64 << 20

func (k *keeper) written(n int, due func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh += n; k.fresh >= sweepBytes {
		k.fresh = 0
		due()
	}
}

// Needed says that records before the position are needed no more. Until it is called nothing is purged.
func (l *Log) Needed(pos event.Pos) {
	l.keeper.mu.Lock()
	defer l.keeper.mu.Unlock()
	l.keeper.needed, l.keeper.known = pos, true
	l.metrics.needed.Set(float64(pos.Seq))
}

// saver stores ids and sweeps when much was written.
func (l *Log) saver() {
	for {
		select {
		case <-l.closing:
			return
		case <-l.save:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := l.Sweep(ctx); err != nil {
			l.opts.Logger.Warn("event log could not be swept; it is tried again", "error", err)
		}
		cancel()
	}
}

// Sweep stores ids and purges what is too old or too much, as far as it is not needed. It is called at intervals. While a
// backup is made nothing is purged.
func (l *Log) Sweep(ctx context.Context) error {
	l.keeper.sweeping.Lock()
	defer l.keeper.sweeping.Unlock()
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	state := stream.CachedInfo().State
	l.metrics.bytes.Set(float64(state.Bytes))
	l.room.Read(state.Bytes)
	keep, err := l.spare(ctx, stream, state)
	if err != nil {
		return err
	}
	if err := l.saveDue(ctx, keep); err != nil {
		return err
	}
	if err := l.broker.Purge(func() error { return l.purge(ctx, stream, state, min(keep, l.ids.savedTo()+1)) }); err != nil {
		return err
	}
	return l.readRoom(ctx)
}

// readRoom finds out how full the log is.
func (l *Log) readRoom(ctx context.Context) error {
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	l.room.Read(stream.CachedInfo().State.Bytes)
	return nil
}

// spare returns the first segment that must stay for its age, its size or its need.
func (l *Log) spare(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState) (uint64, error) {
	now := l.keeper.now.Now()
	l.keeper.mu.Lock()
	needed, known := l.keeper.needed, l.keeper.known
	l.keeper.mu.Unlock()
	if !known || state.Msgs == 0 {
		return state.FirstSeq, nil
	}
	keep, err := l.keepFrom(ctx, stream, state, now)
	return min(keep, needed.Seq), err
}

// saveEvery is how often ids are stored when there are few: each time is a message to be read at the next start.
const saveEvery = time.Minute

// saveDue stores the ids if there are many, if it is long ago, or if what they stand for is to be purged.
func (l *Log) saveDue(ctx context.Context, keep uint64) error {
	now := l.opts.Now()
	if d := now.Sub(l.keeper.saved); d >= 0 && d < saveEvery && l.ids.waiting() < savedPerMessage && keep <= l.ids.savedTo()+1 {
		return nil
	}
	if err := l.saveIDs(ctx); err != nil {
		return err
	}
	l.keeper.saved = now
	return l.broker.Purge(func() error { return l.purgeIDs(ctx) })
}

func (l *Log) purge(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState, keep uint64) error {
	if err := l.purgeRevisions(ctx, state); err != nil {
		return err
	}
	if keep <= state.FirstSeq {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return fmt.Errorf("purge the event log: %w", err)
	}
	return l.purgeBodies(ctx, stream, keep)
}

// savedTo is the last segment whose ids are stored, so that its records can go.
func (s *ids) savedTo() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unsaved) == 0 {
		return s.covered
	}
	return s.unsaved[0].pos>>16 - 1
}

// keepFrom returns the first segment that age and size let stay.
func (l *Log) keepFrom(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState, now time.Time) (uint64, error) {
	keep := state.FirstSeq
	limit := spare(l.shares.segments)
	if state.Bytes > limit {
		perSegment := state.Bytes/state.Msgs + 1
		keep += (state.Bytes-limit)/perSegment + 1
	}
	if l.opts.MaxAge > 0 && now.Sub(state.FirstTime) >= l.opts.MaxAge {
		byAge, err := firstSince(ctx, stream, state, now.Add(-l.opts.MaxAge))
		if err != nil {
			return 0, err
		}
		keep = max(keep, byAge)
	}
	byBodies, err := l.keepForBodies(ctx)
	return max(keep, byBodies), err
}

// keepForBodies returns the first segment to keep so that the large bodies take no more than history may, or 0. They have
// a bucket of their own, which would refuse more while the log itself is nearly empty.
func (l *Log) keepForBodies(ctx context.Context) (uint64, error) {
	limit := spare(l.shares.bodies)
	stream, err := l.broker.JetStream().Stream(ctx, broker.ObjectStream(broker.BodyBucket))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	size := stream.CachedInfo().State.Bytes
	if size <= limit {
		return 0, nil
	}
	objects, err := l.objects(ctx, broker.BodyBucket)
	if err != nil {
		return 0, err
	}
	keep := uint64(0)
	for _, o := range objects {
		if size <= limit {
			break
		}
		size -= min(size, o.Size)
		if seq, ok := l.recordOf(o); ok {
			keep = max(keep, seq+1)
		}
	}
	return keep, nil
}

// recordOf returns the segment that holds the record of a large body.
func (l *Log) recordOf(o *jetstream.ObjectInfo) (uint64, bool) {
	id, _, _ := strings.Cut(o.Name, ".")
	pos, ok := l.ids.find(id)
	return pos.Seq, ok
}

// objects lists a bucket's objects, oldest first.
func (l *Log) objects(ctx context.Context, bucket string) ([]*jetstream.ObjectInfo, error) {
	store, err := l.broker.JetStream().ObjectStore(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", bucket, err)
	}
	objects, err := store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, fmt.Errorf("list bucket %s: %w", bucket, err)
	}
	slices.SortFunc(objects, func(a, b *jetstream.ObjectInfo) int { return a.ModTime.Compare(b.ModTime) })
	return objects, nil
}

// firstSince finds the first message that is not older than the time, by halving.
func firstSince(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState, at time.Time) (uint64, error) {
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		mid := low + (high-low)/2
		msg, err := stream.GetMsg(ctx, mid)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("find what is too old: %w", err)
		}
		if err != nil || msg.Time.Before(at) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}

// bodyGrace is how long after its body a record is appended at the latest; a request is bounded to seconds.
const bodyGrace = time.Minute

// purgeBodies removes the large bodies of purged records, and those whose record was never written.
func (l *Log) purgeBodies(ctx context.Context, stream jetstream.Stream, keep uint64) error {
	msg, err := stream.GetMsg(ctx, keep)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("purge bodies: %w", err)
	}
	objects, err := l.objects(ctx, broker.BodyBucket)
	if err != nil {
		return fmt.Errorf("purge bodies: %w", err)
	}
	for _, o := range objects {
		seq, known := l.recordOf(o)
		if known && seq >= keep || !known && !o.ModTime.Before(msg.Time.Add(-l.keeper.grace)) {
			continue
		}
		if err := broker.PurgeObject(ctx, l.broker.JetStream(), broker.BodyBucket, o); err != nil {
			return fmt.Errorf("purge bodies: %w", err)
		}
	}
	return nil
}

const (
	// keepRevisions is how many sets of rules are kept, whatever they are needed for, if they have room.
	keepRevisions = 200
	// olderRevisions is how many from before the log's first record stay beside those since: the last of them that was
	// activated is the one that the first records are decided with, and some may have been stored and never activated.
	olderRevisions = 10
)

// undecidedSince is when the oldest record came that an undecided event or an unfinished run needs.
func (l *Log) undecidedSince(ctx context.Context, state jetstream.StreamState) (time.Time, error) {
	l.keeper.mu.Lock()
	needed, known := l.keeper.needed, l.keeper.known
	l.keeper.mu.Unlock()
	switch {
	case !known || needed.Seq <= state.FirstSeq:
		return state.FirstTime, nil
	case needed.Seq > state.LastSeq:
		return state.LastTime, nil
	}
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return time.Time{}, err
	}
	msg, err := stream.GetMsg(ctx, needed.Seq)
	if err != nil {
		return time.Time{}, err
	}
	return msg.Time, nil
}

// purgeRevisions removes sets of rules that nothing in the log is decided with any more, and, where the sets take more than
// their share, those that only decided events stand for. An unfinished run needs the set that its event was decided with,
// and keeps that event in the log.
func (l *Log) purgeRevisions(ctx context.Context, state jetstream.StreamState) error {
	l.keeper.mu.Lock()
	due := l.keeper.revisions
	l.keeper.mu.Unlock()
	if !due || state.Msgs == 0 {
		return nil
	}
	objects, err := l.objects(ctx, broker.RuleBucket)
	if err != nil {
		return fmt.Errorf("purge old rules: %w", err)
	}
	active, err := l.Active(ctx)
	if err != nil {
		return fmt.Errorf("purge old rules: %w", err)
	}
	undecided, err := l.undecidedSince(ctx, state)
	if err != nil {
		return fmt.Errorf("purge old rules: %w", err)
	}
	kept, older, size := 0, 0, uint64(0)
	for _, o := range slices.Backward(objects) {
		kept++
		size += o.Size
		large, begin := size > spare(l.shares.revisions), state.FirstTime
		if large {
			begin = undecided
		}
		if o.ModTime.Before(begin) {
			older++
		}
		if o.Name == active.Revision || !large && kept <= keepRevisions || older <= olderRevisions {
			continue
		}
		if err := broker.PurgeObject(ctx, l.broker.JetStream(), broker.RuleBucket, o); err != nil {
			return fmt.Errorf("purge old rules: %w", err)
		}
	}
	l.keeper.mu.Lock()
	l.keeper.revisions = false
	l.keeper.mu.Unlock()
	return nil
}
