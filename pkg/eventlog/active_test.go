package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

// activations reads the log's activations up to a mark.
func activations(t *testing.T, l *eventlog.Log, mark string) []string {
	t.Helper()
	marked := add(t, l, record(mark, nil))[0].ID
	var out []string
	errDone := errors.New("done")
	err := l.Follow(t.Context(), event.Pos{}, func(entries []event.Entry) error {
		for _, en := range entries {
			switch {
			case en.Record.Kind == event.KindActivate:
				out = append(out, en.Record.Event.Subject)
			case en.Record.Event.ID == marked:
				return errDone
			}
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	return out
}

func TestASetIsActivatedOnceByAllReplicas(t *testing.T) {
	b := shared(t)
	var replicas []*eventlog.Log
	for range 4 {
		replicas = append(replicas, openOn(t, b))
	}
	if a, err := replicas[0].Active(t.Context()); err != nil || a != (eventlog.Active{}) {
		t.Fatalf("before any: %+v, %v", a, err)
	}
	sets := []eventlog.Active{{Revision: "one", Digest: "1"}, {Revision: "two", Digest: "2"}, {Revision: "two", Digest: "other"}, {Revision: "one", Digest: "1"}}
	var before eventlog.Active
	for _, set := range sets {
		var all sync.WaitGroup
		for _, l := range replicas {
			all.Go(func() {
				for range 3 {
					if err := l.Activate(t.Context(), set, before); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		stale := eventlog.Active{Revision: "stale"}
		if err := replicas[2].Activate(t.Context(), stale, before); !errors.Is(err, eventlog.ErrOvertaken) {
			t.Errorf("a set that was read before: %v", err)
		}
		before = set
		if a, err := replicas[1].Active(t.Context()); err != nil || a != set {
			t.Errorf("active is %+v, %v", a, err)
		}
	}
	if got := fmt.Sprint(activations(t, replicas[0], "mark")); got != "[one two two one]" {
		t.Errorf("activations: %s", got)
	}
}

func TestAnActivationThatWasCutOffIsDoneByTheNext(t *testing.T) {
	b := shared(t)
	l := openOn(t, b)
	kv, err := b.JetStream().KeyValue(t.Context(), broker.ActiveBucket)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(text string) {
		t.Helper()
		if _, err := kv.PutString(t.Context(), broker.ActiveRules, text); err != nil {
			t.Fatal(err)
		}
	}
	set := eventlog.Active{Revision: "one", Digest: "1"}
	claim(`{"revision":"one","digest":"1","state":"open"}`)
	if err := l.Activate(t.Context(), set, set); err != nil {
		t.Fatal(err)
	}
	claim(`{"revision":"one","digest":"1","state":"taken"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if err := l.Activate(ctx, set, set); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another replica is at it: %v", err)
	}
	// The other replica's claim is let go, as by age.
	ended := make(chan error)
	go func() { ended <- l.Activate(t.Context(), set, set) }()
	claim(`{"revision":"one","digest":"1","state":"open"}`)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(activations(t, l, "mark")); got != "[one one]" {
		t.Errorf("activations: %s", got)
	}
}

func TestAnActivationWithoutAStoreFails(t *testing.T) {
	b := shared(t)
	l := openOn(t, b)
	if err := b.JetStream().DeleteKeyValue(t.Context(), broker.ActiveBucket); err != nil {
		t.Fatal(err)
	}
	if err := l.Activate(t.Context(), eventlog.Active{Revision: "one"}, eventlog.Active{}); !errors.Is(err, event.ErrLogUnavailable) || !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Error(err)
	}
}

// shared opens a store that several logs are opened on.
func shared(t *testing.T) *broker.Broker {
	t.Helper()
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openOn(t *testing.T, b *broker.Broker) *eventlog.Log {
	t.Helper()
	l := openLog(t, b, eventlog.Options{})
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}
