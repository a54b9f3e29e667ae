package runstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
)

// Sweep purges history that is older than Options.History, and the oldest history while more than three quarters of
// MaxBytes are used, but nothing that a checkpoint says is needed. Call it every few minutes, on any replica; calls at
// the same time wait for each other.
func (s *Store) Sweep(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	sweep := func() error { return s.sweep(ctx) }
	var err error
	if p, ok := s.broker.(purger); ok {
		err = p.Purge(sweep)
	} else {
		err = sweep()
	}
	if err != nil {
		return fmt.Errorf("sweep the run journals: %w", err)
	}
	return nil
}

// CarryBefore returns the sequence before which entries of unfinished runs keep the last Sweep from making room, or 0.
// Owners should write such runs again (run.Carried) and move their checkpoint on.
func (s *Store) CarryBefore() uint64 { return s.carry.Load() }

// Tight reports whether the journals have room only for the runs that there are, so that no new ones should come. Unfinished
// runs fill them where many wait for long.
func (s *Store) Tight() bool { return s.room.Tight() }

func (s *Store) sweep(ctx context.Context) error {
	h, err := s.handles(ctx)
	if err != nil {
		return err
	}
	limits, err := s.purgeLimits(ctx)
	if err != nil {
		return err
	}
	info, err := s.info(ctx, h)
	if err != nil {
		return err
	}
	young, err := s.keepForAge(ctx, h, info.State)
	if err != nil {
		return err
	}
	for range 3 { // sizes of messages differ, so the first cut may fall short
		room := s.keepForSize(info.State)
		s.carry.Store(0)
		if least(limits) < room {
			s.carry.Store(room)
		}
		n, err := s.purge(ctx, h, info.State, max(young, room), limits)
		if err != nil || n == 0 {
			return err
		}
		if info, err = s.info(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// purgeLimits returns, by partition, the first sequence that must stay.
func (s *Store) purgeLimits(ctx context.Context) ([]uint64, error) {
	limits := make([]uint64, s.partitions)
	for p := range limits {
		c, _, err := s.checkpoint(ctx, p)
		if err != nil {
			return nil, err
		}
		last, err := s.lastSeq(ctx, p)
		if err != nil {
			return nil, err
		}
		limits[p] = min(c.Replay, last)
		if last == 0 {
			limits[p] = math.MaxUint64
		}
	}
	return limits, nil
}

func least(limits []uint64) uint64 {
	lowest := uint64(math.MaxUint64)
	for _, l := range limits {
		lowest = min(lowest, l)
	}
	return lowest
}

func (s *Store) info(ctx context.Context, h *handles) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := h.runs.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s.metrics.bytes.Set(float64(info.State.Bytes))
	s.room.Read(info.State.Bytes)
	return info, nil
}

// keepForSize returns the first sequence to keep so that enough of MaxBytes is free, or 0 if it is. Messages are taken
// to be of one size, and their sequences to be without gaps: only old history has any.
func (s *Store) keepForSize(state jetstream.StreamState) uint64 {
	target := uint64(s.opts.MaxBytes) / 4 * 3
	if state.Bytes <= target || state.Msgs == 0 {
		return 0
	}
	excess := float64(state.Bytes-target) / float64(state.Bytes)
	stay := uint64(float64(state.Msgs) * (1 - excess))
	return state.LastSeq + 1 - min(stay, state.Msgs)
}

// keepForAge returns the first sequence that is younger than the history to keep, or 0 if all are.
func (s *Store) keepForAge(ctx context.Context, h *handles, state jetstream.StreamState) (uint64, error) {
	oldest := s.clock.Now().Add(-s.opts.History)
	if state.Msgs == 0 || !state.FirstTime.Before(oldest) {
		return 0, nil
	}
	var failed error
	n := sort.Search(int(state.LastSeq-state.FirstSeq+1), func(i int) bool {
		if failed != nil {
			return true
		}
		var at time.Time
		at, failed = s.timeOf(ctx, h, state.FirstSeq+uint64(i))
		return !at.Before(oldest)
	})
	return state.FirstSeq + uint64(n), failed
}

// timeOf returns when the first message at or after a sequence was written; beyond the last one it is now.
func (s *Store) timeOf(ctx context.Context, h *handles, seq uint64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	msg, err := h.runs.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(broker.RunSubjects))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s.opts.Now(), nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return msg.Time, nil
}

// purge removes what is before keep as far as the limits allow, and returns how many messages that were. What all
// partitions can spare goes at once, which is cheap; then what single ones can.
func (s *Store) purge(ctx context.Context, h *handles, state jetstream.StreamState, keep uint64, limits []uint64) (uint64, error) {
	all := min(keep, least(limits))
	if all > state.FirstSeq {
		if err := h.runs.Purge(ctx, jetstream.WithPurgeSequence(all)); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	for p, limit := range limits {
		to := min(keep, limit)
		if to <= max(all, s.purged[p]) || limit == math.MaxUint64 {
			continue
		}
		if err := h.runs.Purge(ctx, jetstream.WithPurgeSubject(broker.RunSubject(p)), jetstream.WithPurgeSequence(to)); err != nil {
			return 0, fmt.Errorf("%w: partition %d: %w", ErrUnavailable, p, err)
		}
		s.purged[p] = to
	}
	after, err := s.info(ctx, h)
	if err != nil || after.State.Msgs >= state.Msgs {
		return 0, err
	}
	n := state.Msgs - after.State.Msgs // what was written meanwhile makes it less
	s.metrics.purged.Add(float64(n))
	return n, nil
}
