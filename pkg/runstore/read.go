package runstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// readAhead is how many messages a reader holds in memory that it has not handled yet. A bound on their bytes would make the
// server end each request with a status message, for which the client has no room when it is behind: it drops messages then
// and begins again.
const readAhead = 64

// errStop ends a read in good order.
var errStop = errors.New("read far enough")

// read calls fn with the messages of the subjects from a sequence on, in order, until fn fails or ctx ends. It survives
// a lost connection. An fn that returns errStop ends it without an error.
func (s *Store) read(ctx context.Context, subjects string, from uint64, fn func(seq uint64, subject string, data []byte) error) error {
	consumer, err := s.broker.JetStream().OrderedConsumer(ctx, broker.RunStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjects},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    max(from, 1),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the run journal: %w", err)
		}
		if err := fn(meta.Sequence.Stream, msg.Subject(), msg.Data()); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
	}
}

// replay calls fn with the entries of a partition between two sequences, both included. A message with the second one exists.
func (s *Store) replay(ctx context.Context, partition int, from, to uint64, fn func(seq uint64, e run.Entry) error) error {
	return s.read(ctx, broker.RunSubject(partition), from, func(seq uint64, _ string, data []byte) error {
		if seq > to {
			return errStop
		}
		entries, err := decode(data)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", seq, err)
		}
		for _, e := range entries {
			if err := fn(seq, e); err != nil {
				return err
			}
		}
		if seq == to {
			return errStop
		}
		return nil
	})
}
