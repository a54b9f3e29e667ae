package runstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

const checkpointVersion = 1

// storedCheckpoint is a checkpoint in its bucket.
type storedCheckpoint struct {
	Version int    `json:"v"`
	Owner   string `json:"owner"`
	Claim   uint64 `json:"claim"` // whose it is: an owner does not write over that of a later claim
	run.Checkpoint
}

// checkpoint reads a partition's checkpoint and its revision; without one both are zero.
func (s *Store) checkpoint(ctx context.Context, partition int) (storedCheckpoint, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	h, err := s.handles(ctx)
	if err != nil {
		return storedCheckpoint{}, 0, err
	}
	entry, err := h.checkpoints.Get(ctx, broker.PartitionKey(partition))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return storedCheckpoint{}, 0, nil
	}
	if err != nil {
		return storedCheckpoint{}, 0, fmt.Errorf("%w: read the checkpoint of partition %d: %w", ErrUnavailable, partition, err)
	}
	c, err := decodeCheckpoint(entry.Value())
	if err != nil {
		return storedCheckpoint{}, 0, fmt.Errorf("checkpoint of partition %d: %w", partition, err)
	}
	return c, entry.Revision(), nil
}

func decodeCheckpoint(data []byte) (storedCheckpoint, error) {
	var c storedCheckpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return storedCheckpoint{}, err
	}
	if c.Version != checkpointVersion {
		return storedCheckpoint{}, fmt.Errorf("it has format %d, and this version of Riposte reads format %d: another version wrote it, run that one", c.Version, checkpointVersion)
	}
	return c, nil
}

// adoptCheckpoint reads the partition's checkpoint and writes it again under this owner's claim, so that a write of an
// earlier owner that is still on its way is refused.
func (j *Journal) adoptCheckpoint(ctx context.Context) error {
	var err error
	for range claimTries {
		var found storedCheckpoint
		if found, j.revision, err = j.store.checkpoint(ctx, j.partition); err != nil {
			return err
		}
		if found.Claim > j.claim {
			j.fenced = true
			return j.fencedError()
		}
		j.saved = found.Checkpoint
		if err = j.writeCheckpoint(ctx, j.saved); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// Checkpoint states a fact: what the journal has settled up to now. What is older than c.Replay may then be purged, so
// c.Replay never goes back and never lies beyond the next sequence. It fails with run.ErrFenced when another owner has
// claimed the partition, and may be repeated after ErrUnavailable.
func (j *Journal) Checkpoint(ctx context.Context, c run.Checkpoint) error {
	switch {
	case j.fenced:
		return j.fencedError()
	case len(j.queue) > 0:
		return fmt.Errorf("checkpoint of partition %d: entries wait to be written", j.partition)
	case c.Replay < j.saved.Replay:
		return fmt.Errorf("checkpoint of partition %d: it would need entries from %d on, and what is before %d may be purged", j.partition, c.Replay, j.saved.Replay)
	case c.Replay > j.last+1:
		return fmt.Errorf("checkpoint of partition %d: it covers entries up to %d, and the last one is %d", j.partition, c.Replay-1, j.last)
	}
	err := j.writeCheckpoint(ctx, c)
	if broker.Refused(err) {
		err = j.retryCheckpoint(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint of partition %d: %w", j.partition, err)
	}
	return nil
}

// retryCheckpoint writes again after another write was found: an earlier one of ours with an unknown outcome, a stale
// owner's, or that of an owner who has claimed the partition since.
func (j *Journal) retryCheckpoint(ctx context.Context, c run.Checkpoint) error {
	found, revision, err := j.store.checkpoint(ctx, j.partition)
	if err != nil {
		return err
	}
	if found.Claim > j.claim {
		j.fenced = true
		return j.fencedError()
	}
	j.revision = revision
	return j.writeCheckpoint(ctx, c)
}

func (j *Journal) writeCheckpoint(ctx context.Context, c run.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, j.store.timeout)
	defer cancel()
	h, err := j.store.handles(ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(storedCheckpoint{checkpointVersion, j.owner, j.claim, c})
	if err != nil {
		return err
	}
	revision, err := h.checkpoints.Update(ctx, broker.PartitionKey(j.partition), data, j.revision)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	j.revision, j.saved = revision, c
	return nil
}

// Needed returns the oldest log position that an undecided event or an unfinished run of any partition needs. It
// returns false while that is not known: a partition without a checkpoint needs everything.
func (s *Store) Needed(ctx context.Context) (event.Pos, bool) {
	var oldest event.Pos
	for p := range s.partitions {
		c, _, err := s.checkpoint(ctx, p)
		if err != nil || c.Replay == 0 {
			return event.Pos{}, false
		}
		if p == 0 || c.EventsFrom.Compare(oldest) < 0 {
			oldest = c.EventsFrom
		}
	}
	return oldest, true
}
