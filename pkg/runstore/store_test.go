package runstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// testServer is a real embedded NATS server without a port.
type testServer struct {
	t   testing.TB
	dir string
	srv *server.Server
}

func startServer(t testing.TB) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: t.TempDir()}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: s.dir, NoSigs: true, NoLog: true})
	if err != nil {
		s.t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		s.t.Fatal("nats-server is not ready")
	}
	s.srv = srv
}

func (s *testServer) stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// testBroker is one replica's connection.
type testBroker struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

func (s *testServer) broker() *testBroker {
	s.t.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(s.srv))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return &testBroker{conn, js}
}

func (b *testBroker) JetStream() jetstream.JetStream { return b.js }
func (b *testBroker) Replicas() int                  { return 1 }

func openStore(t testing.TB, b Broker, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func partitions(n int) func(*Options) { return func(o *Options) { o.Partitions = n } }
func maxBytes(n int64) func(*Options) { return func(o *Options) { o.MaxBytes = n } }
func at(t time.Time) func(*Options) {
	return func(o *Options) { o.Now = func() time.Time { return t } }
}
func ignore(uint64, run.Entry) error { return nil }
func noon() time.Time                { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }
func started(id string, n int) run.Entry {
	return run.Entry{At: noon(), Kind: run.Started, Run: id, Step: "s", Uses: "exec.run", Attempt: n}
}

func big(id string, size int) run.Entry {
	return run.Entry{At: noon(), Kind: run.Finished, Run: id, Step: "s", StepState: run.StepSucceeded, Outputs: run.Values{"text": strings.Repeat("x", size)}}
}

func take(t testing.TB, s *Store, partition int, owner string) (*Journal, []run.Entry, run.Checkpoint) {
	t.Helper()
	var got []run.Entry
	j, c, err := s.Take(t.Context(), partition, owner, func(_ uint64, e run.Entry) error {
		got = append(got, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j, got, c
}

func mustAppend(t testing.TB, j *Journal, entries ...run.Entry) {
	t.Helper()
	if err := j.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// entriesOf reads a whole partition but for its claims.
func entriesOf(t testing.TB, s *Store, partition int) []run.Entry {
	t.Helper()
	last, err := s.lastSeq(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	var got []run.Entry
	if last == 0 {
		return nil
	}
	err = s.replay(t.Context(), partition, 1, last, func(_ uint64, e run.Entry) error {
		if e.Kind != run.Claimed {
			got = append(got, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func withoutClaims(entries []run.Entry) []run.Entry {
	var rest []run.Entry
	for _, e := range entries {
		if e.Kind != run.Claimed {
			rest = append(rest, e)
		}
	}
	return rest
}

func TestReplayIsWhatWasAppended(t *testing.T) {
	srv := startServer(t)
	s := openStore(t, srv.broker())
	j, got, _ := take(t, s, 3, "a")
	if len(got) != 0 {
		t.Fatalf("a new partition replays %v", got)
	}
	pos := event.Pos{Seq: 7, Index: 2}
	want := []run.Entry{
		{At: noon(), Kind: run.Decided, Event: "E1", Pos: &pos, Revision: "r1", Runs: []run.Created{{ID: "E1-1", Rule: "deploy", State: run.Pending}}, Why: "matched"},
		started("E1-1", 1),
		{At: noon(), Kind: run.Finished, Run: "E1-1", Step: "s", StepState: run.StepSucceeded, Outputs: run.Values{"n": int64(9007199254740993), "list": []any{"a", true, nil}}},
		{At: noon(), Kind: run.Ended, Run: "E1-1", State: run.Succeeded},
	}
	mustAppend(t, j, want[0])
	before := j.Seq()
	mustAppend(t, j, want[1:]...)
	if j.Seq() <= before {
		t.Errorf("Seq is %d after %d", j.Seq(), before)
	}
	mustAppend(t, j) // nothing

	srv.stop()
	srv.start()
	_, got, _ = take(t, openStore(t, srv.broker()), 3, "b")
	if got[0].Kind != run.Claimed || got[0].Owner != "a" {
		t.Errorf("the first entry is %+v, not a's claim", got[0])
	}
	if got := withoutClaims(got); !reflect.DeepEqual(got, want) {
		t.Errorf("replayed\n%+v\nwant\n%+v", got, want)
	}
}

func TestReplayBeginsAtTheCheckpoint(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, started("old", 1))
	c := run.Checkpoint{Decided: event.Pos{Seq: 4}, Revision: "r", Replay: j.Seq() + 1, EventsFrom: event.Pos{Seq: 3}}
	if err := j.Checkpoint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	k, got, from := take(t, s, 0, "b")
	if len(got) != 0 || !from.Equal(c) {
		t.Errorf("replayed %v from %+v, want nothing from %+v", got, from, c)
	}
	mustAppend(t, k, started("new", 1))
	_, got, _ = take(t, s, 0, "c")
	if len(got) != 2 || got[0].Owner != "b" || got[1].Run != "new" {
		t.Errorf("replayed %+v, want b's claim and the new entry", got)
	}
}

func TestOneOwner(t *testing.T) {
	srv := startServer(t)
	one, two := openStore(t, srv.broker()), openStore(t, srv.broker())
	a, _, _ := take(t, one, 0, "a")
	mustAppend(t, a, started("r", 1))
	b, got, _ := take(t, two, 0, "b")
	if got := withoutClaims(got); len(got) != 1 {
		t.Errorf("b replayed %v", got)
	}
	for range 2 {
		if err := a.Append(t.Context(), []run.Entry{started("r", 2)}); !errors.Is(err, run.ErrFenced) {
			t.Fatalf("the stale owner's write gives %v, want ErrFenced", err)
		}
	}
	if err := a.Checkpoint(t.Context(), run.Checkpoint{Replay: 1}); !errors.Is(err, run.ErrFenced) {
		t.Errorf("the stale owner's checkpoint gives %v, want ErrFenced", err)
	}
	mustAppend(t, b, started("r", 3))
	if got := entriesOf(t, one, 0); len(got) != 2 || got[1].Attempt != 3 {
		t.Errorf("the journal holds %+v", got)
	}
	other, _, _ := take(t, one, 1, "a")
	mustAppend(t, other, started("q", 1)) // other partitions are not touched
}

func TestTakeFailsWithItsReplay(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, started("r", 1))
	broken := errors.New("broken")
	if _, _, err := s.Take(t.Context(), 0, "b", func(uint64, run.Entry) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Take gives %v", err)
	}
	if _, _, err := s.Take(t.Context(), 99, "b", ignore); err == nil {
		t.Error("a partition that does not exist can be taken")
	}
}

func TestNewerFormatsAreRefusedInWords(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	take(t, s, 0, "a")
	if _, err := s.broker.JetStream().Publish(t.Context(), broker.RunSubject(0), []byte("riposte-journal 2 X\nnew things\n")); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Take(t.Context(), 0, "b", ignore)
	if err == nil || !strings.Contains(err.Error(), "a newer version wrote it") {
		t.Errorf("Take gives %v", err)
	}
	h, _ := s.handles(t.Context())
	if _, err := h.checkpoints.Put(t.Context(), broker.PartitionKey(1), []byte(`{"v":2}`)); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Take(t.Context(), 1, "b", ignore)
	if err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("Take gives %v", err)
	}
}

func TestOpen(t *testing.T) {
	srv := startServer(t)
	s := openStore(t, srv.broker(), partitions(3))
	if s.Partitions() != 3 {
		t.Errorf("partitions: %d", s.Partitions())
	}
	if again := openStore(t, srv.broker(), maxBytes(8<<20)); again.Partitions() != 3 {
		t.Errorf("partitions when opened again: %d", again.Partitions())
	}
	if info, _ := s.broker.JetStream().Stream(t.Context(), broker.RunStream); info.CachedInfo().Config.MaxBytes != 8<<20 {
		t.Error("the limit is not adopted")
	}
	base := Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for field, change := range map[string]func(*Options){
		"partitions": partitions(4), "MaxBytes": maxBytes(1), "Partitions": partitions(-1),
		"History": func(o *Options) { o.History = -1 }, "Logger": func(o *Options) { o.Logger = nil },
		"Registerer": func(o *Options) { o.Registerer = nil },
	} {
		o := base
		o.Registerer = prometheus.NewRegistry()
		change(&o)
		if _, err := Open(t.Context(), srv.broker(), o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: Open gives %v", field, err)
		}
	}
}

func TestOpenRefusesAnotherLayout(t *testing.T) {
	srv := startServer(t)
	b := srv.broker()
	cfg := jetstream.StreamConfig{Name: broker.RunStream, Subjects: []string{broker.RunSubjects}, Metadata: map[string]string{layoutKey: "9"}}
	if _, err := b.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), b, Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err == nil || !strings.Contains(err.Error(), `layout "9"`) {
		t.Errorf("Open gives %v", err)
	}
}

func TestNeeded(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(2))
	a, _, _ := take(t, s, 0, "a")
	b, _, _ := take(t, s, 1, "a")
	if err := a.Checkpoint(t.Context(), run.Checkpoint{Replay: 1, EventsFrom: event.Pos{Seq: 9}}); err != nil {
		t.Fatal(err)
	}
	if pos, ok := s.Needed(t.Context()); ok {
		t.Errorf("needed is %v although a partition has no checkpoint", pos)
	}
	if err := b.Checkpoint(t.Context(), run.Checkpoint{Replay: 1, EventsFrom: event.Pos{Seq: 8, Index: 3}}); err != nil {
		t.Fatal(err)
	}
	if pos, ok := s.Needed(t.Context()); !ok || pos != (event.Pos{Seq: 8, Index: 3}) {
		t.Errorf("needed: %v, %v", pos, ok)
	}
}

func TestCheckpointStatesFacts(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, started("r", 1))
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq() + 2}); err == nil {
		t.Error("a checkpoint may lie beyond the journal's end")
	}
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq()}); err != nil {
		t.Fatal(err)
	}
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq() - 1}); err == nil {
		t.Error("a checkpoint may go back")
	}
	// A write of our own whose outcome was not heard of must not stand in the way.
	j.revision--
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq() + 1}); err != nil {
		t.Error(err)
	}
}

func TestCheckpointOfAStaleOwnerIsRefused(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	a, _, _ := take(t, s, 0, "a")
	b, _, _ := take(t, s, 0, "b")
	if err := b.Checkpoint(t.Context(), run.Checkpoint{Replay: b.Seq() + 1}); err != nil {
		t.Fatal(err)
	}
	if err := a.Checkpoint(t.Context(), run.Checkpoint{Replay: 1}); !errors.Is(err, run.ErrFenced) {
		t.Errorf("the stale owner's checkpoint gives %v", err)
	}
	if c, _, err := s.checkpoint(t.Context(), 0); err != nil || c.Replay != b.Seq()+1 {
		t.Errorf("the checkpoint is %+v, %v", c, err)
	}
}

func openBroker(t testing.TB, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(t.Context(), broker.Options{
		Dir: dir, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil },
	})
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

func TestOnTheEmbeddedBroker(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir)
	j, _, _ := take(t, openStore(t, b), 0, "a")
	mustAppend(t, j, started("r", 1))
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), []run.Entry{started("r", 2)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write to a closed store gives %v, want ErrUnavailable", err)
	}
	_, got, _ := take(t, openStore(t, openBroker(t, dir)), 0, "b")
	if got := withoutClaims(got); len(got) != 1 {
		t.Errorf("replayed %+v", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := openStore(b, openBroker(b, b.TempDir()), maxBytes(8<<30)) // every write is synced
			j, _, _ := take(b, s, 0, "a")
			entries := make([]run.Entry, n)
			for i := range entries {
				entries[i] = started(event.RandomID()+"-deploy", 1)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := j.Append(context.Background(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
