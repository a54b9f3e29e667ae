package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

func options(dir string) broker.Options {
	return broker.Options{Dir: dir, ReserveBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
}

func open(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestADirectoryHasOneServer(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	_, err := broker.Open(t.Context(), options(dir))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatalf("the second open says %v", err)
	}
}

func TestWhatCannotBeOpenedIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(dir string) (string, error)
		want    string
	}{
		"a newer format": {func(dir string) (string, error) {
			return dir, os.WriteFile(filepath.Join(dir, "format.json"), []byte(`{"format":99}`), 0o600)
		}, "format 99"},
		"a damaged format": {func(dir string) (string, error) {
			return dir, os.WriteFile(filepath.Join(dir, "format.json"), []byte(`{`), 0o600)
		}, "damaged"},
		"a file in the place of the directory": {func(dir string) (string, error) {
			name := filepath.Join(dir, "file")
			return name, os.WriteFile(name, nil, 0o600)
		}, "data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := tc.prepare(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := broker.Open(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v, want something about %q", err, tc.want)
			}
		})
	}
}

func TestNothingIsWrittenBelowTheReserve(t *testing.T) {
	var free atomic.Uint64
	free.Store(10 << 20)
	o := options(t.TempDir())
	o.ReserveBytes = 5 << 20
	o.FreeSpace = func(string) (uint64, uint64, error) { return free.Load(), 100 << 20, nil }
	b := open(t, o)
	until := func(full bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for errors.Is(b.Writable(), event.ErrLogFull) != full {
			select {
			case <-deadline:
				t.Fatalf("writable says %v", b.Writable())
			case <-time.After(10 * time.Millisecond): // the disk is asked now and then only
			}
		}
	}
	until(false)
	free.Store(1 << 20)
	until(true)
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "reserve") {
		t.Errorf("ready says %v", err)
	}
	free.Store(10 << 20)
	until(false)
}

func stream(t *testing.T, b *broker.Broker, name string) jetstream.Stream {
	t.Helper()
	s, err := b.JetStream().CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestABackupHoldsWhatWasAcknowledgedBeforeIt(t *testing.T) {
	b := open(t, options(t.TempDir()))
	stream(t, b, "RUNS")
	stream(t, b, broker.EventStream)
	body := bytes.Repeat([]byte("x"), 100<<10)
	put := func(n int) {
		for _, subject := range []string{"runs", "events"} {
			if _, err := b.JetStream().Publish(t.Context(), subject, append(fmt.Appendf(nil, "%d ", n), body...)); err != nil {
				t.Error(err)
			}
		}
	}
	for n := range 60 {
		put(n)
	}
	writing := make(chan struct{})
	go func() { // goes on while the copy is made
		defer close(writing)
		for n := range 20 {
			put(60 + n)
		}
	}()
	var backup bytes.Buffer
	if err := b.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	<-writing

	dir := filepath.Join(t.TempDir(), "restored")
	if err := broker.Restore(t.Context(), bytes.NewReader(backup.Bytes()), dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	restored := open(t, options(dir))
	for _, name := range []string{"RUNS", broker.EventStream} {
		s, err := restored.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.CachedInfo().State.Msgs; n < 60 {
			t.Errorf("stream %s has %d messages of 60", name, n)
		}
		msg, err := s.GetMsg(t.Context(), 60)
		if err != nil || !bytes.HasPrefix(msg.Data, []byte("59 ")) || len(msg.Data) < len(body) {
			t.Errorf("stream %s: the last message from before is not there: %v", name, err)
		}
	}

	t.Run("not over what is there", func(t *testing.T) {
		if err := broker.Restore(t.Context(), bytes.NewReader(backup.Bytes()), dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("it says %v", err)
		}
	})
	for name, bad := range map[string][]byte{
		"cut off":    backup.Bytes()[:backup.Len()/2],
		"damaged":    flip(backup.Bytes()),
		"of another": []byte(strings.Repeat("no backup ", 100)),
		"empty":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "bad")
			if err := broker.Restore(t.Context(), bytes.NewReader(bad), dir, slog.New(slog.DiscardHandler)); err == nil {
				t.Error("it was restored")
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%d files are left", len(left))
			}
		})
	}
}

// flip changes a byte in the middle of a part.
func flip(data []byte) []byte {
	c := append([]byte(nil), data...)
	c[len(c)/2] ^= 1
	return c
}

// writerFunc is a writer that is a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The parts of a backup are copied one after the other, and the first ones say what the last ones must still hold.
func TestNothingIsPurgedWhileABackupIsMade(t *testing.T) {
	b := open(t, options(t.TempDir()))
	stream(t, b, broker.EventStream)
	purged := 0
	purge := func() {
		if err := b.Purge(func() error { purged++; return nil }); err != nil {
			t.Error(err)
		}
	}
	purge()
	writes := 0
	if err := b.Backup(t.Context(), writerFunc(func(p []byte) (int, error) {
		writes++
		purge()
		return len(p), nil
	})); err != nil {
		t.Fatal(err)
	}
	purge()
	if purged != 2 || writes == 0 {
		t.Errorf("purged %d times with %d writes of a backup; want once before and once after", purged, writes)
	}
}

// TestReadGoesOnWhenItsReaderIsLost: a server that is gone takes its readers along, whatever they have read.
func TestReadGoesOnWhenItsReaderIsLost(t *testing.T) {
	b := open(t, options(t.TempDir()))
	s := stream(t, b, "RUNS")
	publish := func(n int) {
		if _, err := b.JetStream().Publish(t.Context(), "runs", fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	lose := func() {
		for name := range s.ConsumerNames(t.Context()).Name() {
			if err := s.DeleteConsumer(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
	}
	const all = 200
	for n := range all / 2 {
		publish(n + 1)
	}
	stop := errors.New("enough")
	want := uint64(3)
	err := broker.Read(t.Context(), b.JetStream(), broker.From{Stream: "RUNS", Subject: "runs", Seq: want}, func(m broker.Message) error {
		if m.Seq != want || string(m.Data) != fmt.Sprint(want) || m.Subject != "runs" {
			t.Errorf("message %d of %s says %q, want %d", m.Seq, m.Subject, m.Data, want)
		}
		want++
		switch {
		case m.Seq == all:
			return stop
		case m.Seq%20 == 0:
			lose()
		case m.Seq == all/2+1:
			for n := m.Seq + 1; n <= all; n++ {
				publish(int(n))
			}
		}
		if m.Seq == all/2 {
			publish(all/2 + 1)
		}
		return nil
	})
	if !errors.Is(err, stop) || want != all+1 {
		t.Errorf("it read up to %d and says %v", want-1, err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err = broker.Read(short, b.JetStream(), broker.From{Stream: "RUNS", Seq: all}, func(broker.Message) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("with little time it says %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	err = broker.Read(ended, b.JetStream(), broker.From{Stream: "RUNS", Seq: all}, func(broker.Message) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("told to end, it says %v", err)
	}
	if err := broker.Read(t.Context(), b.JetStream(), broker.From{Stream: "NONE"}, nil); err == nil {
		t.Error("a stream that is not there is read")
	}
}

// TestObjectsAreReadAsTheClientStoresThem: what nats.go's object store has written is read, and nothing else is taken for it.
func TestObjectsAreReadAsTheClientStoresThem(t *testing.T) {
	b := open(t, options(t.TempDir()))
	js := b.JetStream()
	if err := broker.OpenObjects(t.Context(), js, jetstream.ObjectStoreConfig{Bucket: "THINGS", Storage: jetstream.FileStorage, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	store, err := js.ObjectStore(t.Context(), "THINGS")
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"empty": 0, "one byte": 1, "a chunk": 128 << 10, "a chunk and a byte": 128<<10 + 1, "many.chunks/é": 3 << 20} {
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		if _, err := store.PutBytes(t.Context(), name, want); err != nil {
			t.Fatal(err)
		}
		if got, err := broker.ReadObject(t.Context(), js, "THINGS", name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	if _, err := store.PutBytes(t.Context(), "one byte", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := broker.ReadObject(t.Context(), js, "THINGS", "one byte"); err != nil || string(got) != "new" {
		t.Errorf("after it was replaced: %q, %v", got, err)
	}
	if err := store.Delete(t.Context(), "a chunk"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a chunk", "none"} {
		if _, err := broker.ReadObject(t.Context(), js, "THINGS", name); !errors.Is(err, jetstream.ErrObjectNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := store.GetInfo(t.Context(), "empty")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), broker.ObjectStream("THINGS"))
	if err != nil {
		t.Fatal(err)
	}
	_, description := broker.ObjectSubjects("THINGS", "empty", info.NUID)
	last, err := stream.GetLastMsgForSubject(t.Context(), description)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), description, bytes.Replace(last.Data, []byte("47DEQpj8HBSa"), []byte("AAAAAAAAAAAA"), 1)); err != nil { // of SHA-256 of nothing
		t.Fatal(err)
	}
	if _, err := broker.ReadObject(t.Context(), js, "THINGS", "empty"); !errors.Is(err, jetstream.ErrDigestMismatch) {
		t.Errorf("what was changed is read: %v", err)
	}
}
