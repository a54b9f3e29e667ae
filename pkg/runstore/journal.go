package runstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// claimTries bounds how often a claim is tried while others write to the partition or the store does not answer.
const claimTries = 5

// Journal is a partition's journal in the hands of its owner. It belongs to one goroutine at a time.
type Journal struct {
	store     *Store
	partition int
	claim     uint64 // sequence of this owner's claim: the higher one owns the partition
	owner     string
	last      uint64 // sequence of the partition's newest message
	fenced    bool

	unfinished [][]byte    // lines of an Append that failed
	queue      []*outgoing // what of them is not known to be written

	saved    run.Checkpoint
	revision uint64 // of the checkpoint in its bucket
}

// Take makes owner the partition's owner. From its claim on, earlier owners are fenced; then it calls replay with every
// entry that the partition's checkpoint does not cover, in order and up to the claim, and with the sequence of the
// message that holds the entry. It returns the checkpoint that the replay began with.
//
// The claim comes before the replay so that what is replayed is all there is: nobody can add to it, and nobody can move
// the checkpoint, and with it the purge, past it.
func (s *Store) Take(ctx context.Context, partition int, owner string, replay func(seq uint64, e run.Entry) error) (*Journal, run.Checkpoint, error) {
	if err := s.checkPartition(partition); err != nil {
		return nil, run.Checkpoint{}, err
	}
	j := &Journal{store: s, partition: partition, owner: owner}
	before, err := j.take(ctx)
	if err != nil {
		return nil, run.Checkpoint{}, fmt.Errorf("claim partition %d: %w", partition, err)
	}
	if err := j.adoptCheckpoint(ctx); err != nil {
		return nil, run.Checkpoint{}, fmt.Errorf("claim the checkpoint of partition %d: %w", partition, err)
	}
	if before >= max(j.saved.Replay, 1) {
		if err := s.replay(ctx, partition, j.saved.Replay, before, replay); err != nil {
			return nil, run.Checkpoint{}, fmt.Errorf("replay the journal of partition %d from %d: %w", partition, j.saved.Replay, err)
		}
	}
	return j, j.saved, nil
}

// take writes the claim and returns the sequence of the message before it, or 0.
func (j *Journal) take(ctx context.Context) (before uint64, err error) {
	var claim *outgoing
	for range claimTries {
		if claim == nil {
			if before, err = j.store.lastSeq(ctx, j.partition); err != nil {
				return 0, err
			}
			lines, err := encode([]run.Entry{{At: j.store.opts.Now(), Kind: run.Claimed, Owner: j.owner}})
			if err != nil {
				return 0, err
			}
			j.last, j.fenced, claim = before, false, pack(lines)[0]
		}
		err = j.write(ctx, claim)
		switch {
		case err == nil:
			j.claim = j.last
			return before, nil
		case ctx.Err() != nil:
			return 0, err
		case errors.Is(err, run.ErrFenced): // somebody wrote in between
			claim = nil
		case errors.Is(err, ErrFull):
			if err := j.store.Sweep(ctx); err != nil {
				return 0, err
			}
		}
	}
	return 0, err
}

func (s *Store) lastSeq(ctx context.Context, partition int) (uint64, error) {
	msg, err := s.last(ctx, partition)
	if err != nil || msg == nil {
		return 0, err
	}
	return msg.Sequence, nil
}

// Seq returns the sequence of the last message written. Sequences grow by any amount, since all partitions share them.
// Entries that one Append wrote may stand in several messages; all have sequences above what Seq was before.
func (j *Journal) Seq() uint64 { return j.last }

// Append writes entries durably and in order, packed into as few messages as fit. It fails with run.ErrFenced when
// another owner has claimed the partition: nothing more will be written, now or later. With ErrUnavailable some or all
// may have been written, with ErrFull some: in both cases the journal takes only the same entries again, more may follow
// them, and writes what is missing, so that none is lost or doubled. With ErrTooLarge nothing was written.
func (j *Journal) Append(ctx context.Context, entries []run.Entry) error {
	if j.fenced {
		return j.fencedError()
	}
	lines, err := encode(entries)
	if err != nil {
		return fmt.Errorf("write to the journal of partition %d: %w", j.partition, err)
	}
	if !startsWith(lines, j.unfinished) {
		return fmt.Errorf("write to the journal of partition %d: the last write is unfinished, and these are other entries", j.partition)
	}
	j.queue = append(j.queue, pack(lines[len(j.unfinished):])...)
	j.unfinished = lines
	if err := j.flush(ctx); err != nil {
		return fmt.Errorf("write to the journal of partition %d: %w", j.partition, err)
	}
	j.unfinished, j.queue = nil, nil
	return nil
}

func startsWith(lines, prefix [][]byte) bool {
	if len(lines) < len(prefix) {
		return false
	}
	for i, line := range prefix {
		if !bytes.Equal(lines[i], line) {
			return false
		}
	}
	return true
}

// flush writes the queue. A full journal is swept once, since much of it may be old history.
func (j *Journal) flush(ctx context.Context) error {
	swept := false
	for len(j.queue) > 0 {
		err := j.write(ctx, j.queue[0])
		if errors.Is(err, ErrFull) && !swept {
			swept = true
			if err := j.store.Sweep(ctx); err != nil {
				return fmt.Errorf("%w, and what is old could not be purged: %w", ErrFull, err)
			}
			continue
		}
		if err != nil {
			return err
		}
		j.queue = j.queue[1:]
	}
	return nil
}

// write writes one message. A message whose outcome is unknown is looked for before it is sent again; since both would
// name the same predecessor, no more than one of them can be accepted.
func (j *Journal) write(ctx context.Context, m *outgoing) error {
	began := time.Now()
	err := j.try(ctx, m)
	switch {
	case err == nil:
		j.store.metrics.append.Observe(time.Since(began).Seconds())
		j.store.metrics.entries.Add(float64(m.n))
	case errors.Is(err, run.ErrFenced):
		j.store.metrics.errors.WithLabelValues("fenced").Inc()
	case errors.Is(err, ErrFull):
		j.store.metrics.errors.WithLabelValues("full").Inc()
	default:
		j.store.metrics.errors.WithLabelValues("unavailable").Inc()
	}
	return err
}

func (j *Journal) try(ctx context.Context, m *outgoing) error {
	if m.sent {
		if written, err := j.find(ctx, m); written || err != nil {
			return err
		}
	}
	sending, cancel := context.WithTimeout(ctx, j.store.timeout)
	defer cancel()
	seq, err := j.store.publish(sending, &nats.Msg{Subject: broker.RunSubject(j.partition), Data: m.data}, j.last)
	switch {
	case err == nil:
		j.last = seq
		j.store.room.Wrote(len(m.data))
		return nil
	case broker.Full(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case broker.Refused(err):
		written, findErr := j.find(ctx, m)
		if written || findErr != nil {
			return findErr
		}
		// The newest message is still the one we named: a write of ours is on its way (replicated streams refuse a
		// second one meanwhile).
	}
	m.sent = true
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// find looks whether the message was written, by the newest message of the partition: if that is not the one written
// before, it is either this message or another owner's.
func (j *Journal) find(ctx context.Context, m *outgoing) (written bool, err error) {
	newest, err := j.store.last(ctx, j.partition)
	if err != nil {
		return false, err
	}
	if newest == nil {
		if j.last == 0 {
			return false, nil
		}
		return false, fmt.Errorf("%w: its entries are gone", ErrUnavailable)
	}
	if newest.Sequence == j.last {
		return false, nil
	}
	if id, _, err := header(newest.Data); err == nil && id == m.id {
		j.last = newest.Sequence
		return true, nil
	}
	j.fenced = true
	return false, j.fencedError()
}

func (j *Journal) fencedError() error {
	return fmt.Errorf("partition %d is no longer %s's: %w", j.partition, j.owner, run.ErrFenced)
}
