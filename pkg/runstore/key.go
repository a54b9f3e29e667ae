package runstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
)

// keyBytes is the length of a signing key.
const keyBytes = 32

// LinkKey returns the key that links are signed with: that of the whole installation, made by whoever asks first.
func (s *Store) LinkKey(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cfg := jetstream.KeyValueConfig{Bucket: broker.KeyBucket, Description: "Riposte: keys that replicas share", Storage: jetstream.FileStorage, Replicas: s.broker.Replicas()}
	kv, err := s.broker.JetStream().CreateOrUpdateKeyValue(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Bucket, err)
	}
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails since Go 1.24
	if _, err := kv.Create(ctx, broker.LinkKey, key); err == nil {
		return key, nil
	} else if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("%w: make the key of links: %w", ErrUnavailable, err)
	}
	e, err := kv.Get(ctx, broker.LinkKey)
	if err != nil {
		return nil, fmt.Errorf("%w: read the key of links: %w", ErrUnavailable, err)
	}
	if len(e.Value()) != keyBytes {
		return nil, fmt.Errorf("the key of links in bucket %s has %d bytes, not %d: delete it there, and a new one is made", broker.KeyBucket, len(e.Value()), keyBytes)
	}
	return e.Value(), nil
}
