package runstore

import (
	"context"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// scanTimeout bounds one Scan, which can read thousands of messages.
const scanTimeout = 30 * time.Second

// Since returns the sequence of the first message of any partition that was written at the time or later.
func (s *Store) Since(ctx context.Context, t time.Time) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	h, err := s.handles(ctx)
	if err != nil {
		return 0, err
	}
	seq, err := broker.FirstSince(ctx, h.runs, broker.RunSubjects, t)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return seq, nil
}

// Scan calls fn with the entries of all partitions' messages from a sequence on, in the order they were written, until fn
// returns false, and reports whether it reached the end of what was written when it was called.
func (s *Store) Scan(ctx context.Context, from uint64, fn func(seq uint64, entries []run.Entry) bool) (end bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	h, err := s.handles(ctx)
	if err != nil {
		return false, err
	}
	info, err := s.info(ctx, h)
	if err != nil {
		return false, err
	}
	last := info.State.LastSeq
	if info.State.Msgs == 0 || from > last {
		return true, nil
	}
	err = s.read(ctx, broker.RunSubjects, from, func(seq uint64, _ string, data []byte) error {
		entries, err := decodeWith(data, decodeBrief)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", seq, err)
		}
		more := fn(seq, entries)
		end = seq >= last
		if end || !more {
			return errStop
		}
		return nil
	})
	return end, err
}
