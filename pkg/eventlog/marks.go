package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Mark returns up to when something was dealt with, as SetMark noted it; zero where it never was. name is one of the keys of
// broker.MarkBucket.
func (l *Log) Mark(ctx context.Context, name string) (time.Time, error) {
	text, err := l.Place(ctx, name)
	if err != nil || text == nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return t, fmt.Errorf("read the mark %s: %w", name, err)
	}
	return t, nil
}

// SetMark notes up to when something is dealt with. Of several replicas the last one that writes counts.
func (l *Log) SetMark(ctx context.Context, name string, t time.Time) error {
	return l.SetPlace(ctx, name, []byte(t.UTC().Format(time.RFC3339Nano)))
}

// Place is Mark for what is dealt with up to a place that is no time, in the form of whoever notes it; nil where it never was.
func (l *Log) Place(ctx context.Context, name string) ([]byte, error) {
	kv, err := l.marks(ctx)
	if err != nil {
		return nil, err
	}
	entry, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the mark %s: %w: %w", name, event.ErrLogUnavailable, err)
	}
	return entry.Value(), nil
}

// SetPlace is SetMark for such a place.
func (l *Log) SetPlace(ctx context.Context, name string, place []byte) error {
	ctx, cancel := context.WithTimeout(ctx, activateTime)
	defer cancel()
	kv, err := l.marks(ctx)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, name, place); err != nil {
		return fmt.Errorf("write the mark %s: %w: %w", name, event.ErrLogUnavailable, err)
	}
	return nil
}

func (l *Log) marks(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := l.broker.JetStream().KeyValue(ctx, broker.MarkBucket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	return kv, nil
}
