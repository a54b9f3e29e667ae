package runstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// errStop ends a read in good order.
var errStop = errors.New("read far enough")

// read calls fn with the messages of the subjects from a sequence on, in order, until fn fails or ctx ends. It survives
// a lost connection. An fn that returns errStop ends it without an error.
func (s *Store) read(ctx context.Context, subjects string, from uint64, fn func(seq uint64, subject string, data []byte) error) error {
	var failed error
	err := broker.Read(ctx, s.broker.JetStream(), broker.From{Stream: broker.RunStream, Subject: subjects, Seq: from}, func(m broker.Message) error {
		failed = fn(m.Seq, m.Subject, m.Data)
		return failed
	})
	switch {
	case errors.Is(failed, errStop):
		return nil
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
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
