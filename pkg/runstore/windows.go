package runstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// windowTimeout bounds what is done with the parts of a state, which can be many megabytes.
const windowTimeout = 30 * time.Second

// Save keeps a part of the state of a partition's windows and returns its name. A stale owner can do so too: what counts
// is which names the checkpoint has.
func (s *Store) Save(ctx context.Context, partition int, data []byte) (string, error) {
	name := broker.WindowObject(partition, rand.Text())
	err := s.windows(ctx, func(ctx context.Context, store jetstream.ObjectStore) error {
		_, err := store.PutBytes(ctx, name, data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%w: store windows of partition %d: %w", ErrUnavailable, partition, err)
	}
	return name, nil
}

// Load returns a part. The error wraps event.ErrNotFound where it is gone.
func (s *Store) Load(ctx context.Context, name string) ([]byte, error) {
	data, err := broker.ReadObject(ctx, s.broker.JetStream(), broker.WindowBucket, name)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, fmt.Errorf("windows %s: %w", name, event.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("%w: read windows %s: %w", ErrUnavailable, name, err)
	}
	return data, nil
}

// Keep removes all parts of the partition's windows but those named: what they replaced, and what a crash left.
func (s *Store) Keep(ctx context.Context, partition int, names []string) error {
	err := s.windows(ctx, func(ctx context.Context, store jetstream.ObjectStore) error {
		all, err := store.List(ctx)
		if errors.Is(err, jetstream.ErrNoObjectsFound) {
			return nil
		}
		for _, o := range all {
			if err == nil && strings.HasPrefix(o.Name, broker.WindowObjects(partition)) && !slices.Contains(names, o.Name) {
				err = broker.PurgeObject(ctx, s.broker.JetStream(), broker.WindowBucket, o)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: remove old windows of partition %d: %w", ErrUnavailable, partition, err)
	}
	return nil
}

func (s *Store) windows(ctx context.Context, use func(context.Context, jetstream.ObjectStore) error) error {
	ctx, cancel := context.WithTimeout(ctx, windowTimeout)
	defer cancel()
	store, err := s.broker.JetStream().ObjectStore(ctx, broker.WindowBucket)
	if err != nil {
		return err
	}
	return use(ctx, store)
}
