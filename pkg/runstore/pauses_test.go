package runstore

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// TestPausesHoldForAllReplicasAndAfterARestart: what one replica is told, another knows, and a new one at its start.
func TestPausesHoldForAllReplicasAndAfterARestart(t *testing.T) {
	srv := startServer(t)
	a, b := openStore(t, srv.broker()), openStore(t, srv.broker())
	here, there := must(OpenPauses(t.Context(), a))(t), must(OpenPauses(t.Context(), b))(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- there.Follow(ctx) }()
	await := func(what string, done func() bool) {
		t.Helper()
		tick, limit := time.NewTicker(time.Millisecond), time.After(20*time.Second)
		defer tick.Stop()
		for !done() {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatal("waited for " + what)
			}
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	one := run.Pause{Rule: "hello", By: "ana", Reason: "why", Since: now, Until: now.Add(time.Hour)}
	for _, p := range []run.Pause{one, {By: "bob", Since: now}} {
		if err := here.Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if p, ok := here.Of("hello", now); !ok || p != one {
		t.Errorf("at once, here: %+v %t", p, ok)
	}
	await("the other replica", func() bool { return len(there.List(now)) == 2 })
	if p, ok := there.Of("hello", now); !ok || p != one {
		t.Errorf("its own pause comes first: %+v", p)
	}
	if p, ok := there.Of("bye", now); !ok || p.By != "bob" {
		t.Errorf("all are paused: %+v %t", p, ok)
	}
	if err := here.Remove(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	await("the end of one", func() bool { return len(there.List(now)) == 1 })
	if _, ok := there.Of("hello", now.Add(time.Hour)); ok || len(there.List(now.Add(time.Hour))) > 0 {
		t.Error("it holds when its time is over")
	}
	if err := here.Remove(t.Context(), "never"); err != nil {
		t.Errorf("what is not paused: %v", err)
	}
	kv, err := srv.broker().js.KeyValue(t.Context(), broker.PauseBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), broker.PauseKey("odd"), []byte("{")); err != nil {
		t.Fatal(err)
	}
	await("what can't be read", func() bool { _, ok := there.Of("odd", now); return ok })
	if err := there.Ready(); err != nil {
		t.Error(err)
	}
	again := must(OpenPauses(t.Context(), openStore(t, srv.broker())))(t)
	if p, ok := again.Of("hello", now); !ok || p != one {
		t.Errorf("after a restart: %+v %t", p, ok)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestOneKeyForAllReplicas: who comes later gets the key that is there.
func TestOneKeyForAllReplicas(t *testing.T) {
	srv := startServer(t)
	first := must(openStore(t, srv.broker()).LinkKey(t.Context()))(t)
	second := must(openStore(t, srv.broker()).LinkKey(t.Context()))(t)
	if len(first) != keyBytes || !bytes.Equal(first, second) || bytes.Equal(first, make([]byte, keyBytes)) {
		t.Errorf("%x %x", first, second)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
