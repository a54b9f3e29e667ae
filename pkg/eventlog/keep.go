package eventlog

import (
	"context"
	"errors"
	"fmt"
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

// Sweep stores ids and purges what is too old or too much, as far as it is not needed. It is called at intervals.
func (l *Log) Sweep(ctx context.Context) error {
	l.keeper.sweeping.Lock()
	defer l.keeper.sweeping.Unlock()
	if err := l.saveIDs(ctx); err != nil {
		return err
	}
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	state := stream.CachedInfo().State
	l.metrics.bytes.Set(float64(state.Bytes))
	l.keeper.mu.Lock()
	needed, known := l.keeper.needed, l.keeper.known
	l.keeper.mu.Unlock()
	if !known || state.Msgs == 0 {
		return nil
	}
	keep, err := l.keepFrom(ctx, stream, state)
	if err != nil {
		return err
	}
	keep = min(keep, needed.Seq, l.ids.savedTo()+1)
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
func (l *Log) keepFrom(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState) (uint64, error) {
	keep := state.FirstSeq
	if limit := uint64(l.opts.MaxBytes) / 10 * 8; state.Bytes > limit {
		perSegment := state.Bytes/state.Msgs + 1
		keep += (state.Bytes-limit)/perSegment + 1
	}
	if l.opts.MaxAge == 0 || l.opts.Now().Sub(state.FirstTime) < l.opts.MaxAge {
		return keep, nil
	}
	byAge, err := firstSince(ctx, stream, state, l.opts.Now().Add(-l.opts.MaxAge))
	return max(keep, byAge), err
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

// bodyGrace is how long after its body a record is appended at the latest.
const bodyGrace = 10 * time.Minute

// purgeBodies removes the large bodies of purged records, and those whose record was never written.
func (l *Log) purgeBodies(ctx context.Context, stream jetstream.Stream, keep uint64) error {
	msg, err := stream.GetMsg(ctx, keep)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("purge bodies: %w", err)
	}
	store, err := l.broker.JetStream().ObjectStore(ctx, broker.BodyBucket)
	if err != nil {
		return fmt.Errorf("purge bodies: %w", err)
	}
	objects, err := store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("purge bodies: %w", err)
	}
	for _, o := range objects {
		if o.ModTime.Before(msg.Time.Add(-l.keeper.grace)) {
			if err := l.purgeBody(ctx, o); err != nil {
				return fmt.Errorf("purge bodies: %w", err)
			}
		}
	}
	return nil
}

// purgeBody removes an object's messages themselves: ObjectStore.Delete writes a marker, which takes room in the bucket and
// stays there for good. The description goes
// last, so that what is left when this fails is found again.
func (l *Log) purgeBody(ctx context.Context, o *jetstream.ObjectInfo) error {
	stream, err := l.broker.JetStream().Stream(ctx, broker.ObjectStream(broker.BodyBucket))
	if err != nil {
		return err
	}
	content, description := broker.ObjectSubjects(broker.BodyBucket, o.Name, o.NUID)
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(content)); err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(description))
}
