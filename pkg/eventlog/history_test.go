package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

// late is a clock two hours ahead: with a MaxAge of an hour everything is too old.
func late() time.Time { return time.Now().Add(2 * time.Hour) }

func first(t *testing.T, l *eventlog.Log) event.Pos {
	t.Helper()
	return collect(t, l, event.Pos{}, 1)[0].Pos
}

func TestAgeDoesNotPurgeWhatIsNeeded(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{MaxAge: time.Hour, Now: late})
	for i := range 10 {
		add(t, l, record(fmt.Sprint(i), nil))
	}
	all := collect(t, l, event.Pos{}, 10)
	for _, needed := range []int{0, 4, 4, 9} {
		l.Needed(all[needed].Pos)
		if err := l.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := first(t, l); got != all[needed].Pos {
			t.Errorf("needed %s, and the log begins at %s", all[needed].Pos, got)
		}
	}
}

func bodies(t *testing.T, b *broker.Broker) uint64 {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), broker.ObjectStream(broker.BodyBucket))
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestLargeBodiesGoWithTheirRecords(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{MaxBytes: 16 << 20, MaxAge: time.Hour, Now: late})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	l.SetBodyGrace(0)
	body := bytes.Repeat([]byte("x"), 600<<10)
	n := 0
	for ; ; n++ { // until the bucket of bodies is full: even then it must be possible to purge it
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := l.Append(ctx, []event.Record{record(fmt.Sprint(n), body)})
		cancel()
		if errors.Is(err, event.ErrLogFull) {
			break
		}
		if err != nil || n > 20 {
			t.Fatalf("after %d bodies: %v", n, err)
		}
	}
	out := add(t, l, record("small", nil))
	if got := len(collect(t, l, event.Pos{}, n+1)); got != n+1 {
		t.Fatalf("%d records of %d", got, n+1)
	}
	en, err := l.Get(t.Context(), out[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	l.Needed(en.Pos)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := bodies(t, b); left != 0 {
		t.Errorf("%d messages of bodies are left", left)
	}
	add(t, l, record("again", body))
	if en, err = l.Get(t.Context(), event.ID("s", "again")); err != nil || !bytes.Equal(en.Record.Event.Body, body) {
		t.Errorf("a body after the purge: %v", err)
	}
}

func TestARepeatWithAnotherLargeBodyLeavesTheFirst(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	one, two := openLog(t, b, eventlog.Options{}), openLog(t, b, eventlog.Options{})
	t.Cleanup(func() { _ = errors.Join(one.Close(context.Background()), two.Close(context.Background())) })
	body := []byte(strings.Repeat("first ", 100<<10))
	add(t, one, record("a", body))
	add(t, two, record("a", []byte(strings.Repeat("other ", 100<<10))))
	got := collect(t, one, event.Pos{}, 2)
	if got[0].Duplicate || !bytes.Equal(got[0].Record.Event.Body, body) || !got[1].Duplicate {
		t.Errorf("duplicates %v, %v; the first body is right: %v", got[0].Duplicate, got[1].Duplicate, bytes.Equal(got[0].Record.Event.Body, body))
	}
}

func TestAnAmbiguousBeginning(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	a, b := record("a", nil), record("b", nil)
	b.Event.ID = a.Event.ID[:20] + b.Event.ID[20:]
	add(t, l, a, b)
	_, err := l.Get(t.Context(), a.Event.ID[:8])
	if !errors.Is(err, event.ErrNotFound) || !strings.Contains(err.Error(), "several") {
		t.Errorf("a beginning of two ids gives %v", err)
	}
	if en, err := l.Get(t.Context(), a.Event.ID); err != nil || en.Record.Event.Subject != "a" {
		t.Errorf("the whole id: %v", err)
	}
}

func TestListSince(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	at := time.Now().Add(-time.Hour)
	for i := range 6 {
		r := record(fmt.Sprint(i), nil)
		r.Event.ReceivedAt = at.Add(time.Duration(i) * time.Minute)
		add(t, l, r)
	}
	page, next, err := l.List(t.Context(), eventlog.Query{Since: at.Add(4 * time.Minute)})
	if err != nil || next != "" || len(page) != 2 || page[0].Record.Event.Subject != "5" || page[1].Record.Event.Subject != "4" {
		t.Errorf("%d events, cursor %q, %v", len(page), next, err)
	}
	if page, _, err = l.List(t.Context(), eventlog.Query{Source: "other"}); err != nil || len(page) != 0 {
		t.Errorf("%d events of another source, %v", len(page), err)
	}
}

func TestPositionsOfManyWritersRise(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	done := make(chan error)
	for w := range 32 {
		go func() {
			var records []event.Record
			for i := range 10 {
				records = append(records, record(fmt.Sprint(w, "-", i), nil))
			}
			_, err := l.Append(context.Background(), records)
			done <- err
		}()
	}
	for range 32 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var last event.Pos
	seen := map[string]bool{}
	for _, en := range collect(t, l, event.Pos{}, 320) {
		if en.Pos.Compare(last) <= 0 && last != (event.Pos{}) {
			t.Fatalf("%s comes after %s", en.Pos, last)
		}
		last, seen[en.Record.Event.ID] = en.Pos, true
	}
	if len(seen) != 320 {
		t.Errorf("%d events of 320", len(seen))
	}
}

func TestADamagedSegmentIsPassedOver(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	add(t, l, record("a", nil))
	if _, err := b.JetStream().Publish(t.Context(), broker.EventSubject, []byte("\x01 no segment"), jetstream.WithMsgID("x")); err != nil {
		t.Fatal(err)
	}
	add(t, l, record("b", nil))
	if got := collect(t, l, event.Pos{}, 2); got[1].Record.Event.Subject != "b" {
		t.Errorf("then comes %s", got[1].Record.Event.Subject)
	}
	if page, _, err := l.List(t.Context(), eventlog.Query{}); err != nil || len(page) != 2 {
		t.Errorf("%d listed, %v", len(page), err)
	}
}

func TestClosingTwiceAtOnce(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{})
	done := make(chan error)
	for range 4 {
		go func() { done <- l.Close(context.Background()) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What the log keeps has one bound, however the work is made up: small records, large bodies, many ids, sets of rules.
// Full of what is needed it refuses more, and loses nothing.
func TestOneBoundForAll(t *testing.T) {
	const bound = 8 << 20
	dir := t.TempDir()
	b := openBroker(t, dir)
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{MaxBytes: bound, MaxIDs: 10_000_000})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	n := 0
	fill := func(size int) {
		body := bytes.Repeat([]byte("x"), size)
		for {
			_, err := l.Append(t.Context(), []event.Record{record(fmt.Sprint(n), body)})
			if errors.Is(err, event.ErrLogFull) {
				return
			}
			if err != nil || n > 1000 {
				t.Fatalf("after %d records: %v", n, err)
			}
			n++
		}
	}
	fill(600 << 10)
	fill(200 << 10)
	for i := range 30 {
		if err := l.PutRevision(t.Context(), fmt.Sprint("r", i), bytes.Repeat([]byte("rules "), 5<<10)); err != nil {
			t.Fatal(err)
		}
	}
	all := collect(t, l, event.Pos{}, n)
	l.Needed(all[0].Pos)
	if err := errors.Join(l.SaveIDs(t.Context()), l.Sweep(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, l, event.Pos{}, n); len(got) != n || got[0].Pos != all[0].Pos || len(got[0].Record.Event.Body) != 600<<10 {
		t.Errorf("%d of %d needed records are left", len(got), n)
	}
	bounds, stored := int64(0), uint64(0)
	for _, name := range []string{broker.EventStream, broker.IDStream, broker.ObjectStream(broker.BodyBucket)} {
		s, err := b.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		bounds += s.CachedInfo().Config.MaxBytes
		stored += s.CachedInfo().State.Bytes
	}
	if bounds <= 0 || bounds >= bound {
		t.Errorf("the bounds of the parts are %d of %d together", bounds, bound)
	}
	revisions, err := b.JetStream().Stream(t.Context(), broker.ObjectStream(broker.RuleBucket))
	if err != nil {
		t.Fatal(err)
	}
	if stored += revisions.CachedInfo().State.Bytes; stored > bound {
		t.Errorf("%d bytes are stored, more than %d", stored, bound)
	}
	if _, err := l.Append(t.Context(), []event.Record{record("huge", make([]byte, 2<<20))}); !errors.Is(err, event.ErrLogFull) || !strings.Contains(err.Error(), "raise eventLog.maxBytes") {
		t.Errorf("a body that can't ever fit: %v", err)
	}
}

// The bound is that of the whole store for whoever lowers it, too: what is needed is kept beyond it, and more is refused.
func TestALowerBound(t *testing.T) {
	dir := t.TempDir()
	l, closeAll := open(t, dir, eventlog.Options{MaxBytes: 16 << 20})
	body := bytes.Repeat([]byte("x"), 200<<10)
	const n = 40
	for i := range n {
		add(t, l, record(fmt.Sprint(i), body))
	}
	closeAll()
	l, _ = open(t, dir, eventlog.Options{MaxBytes: 8 << 20})
	if got := collect(t, l, event.Pos{}, n); len(got) != n {
		t.Errorf("%d of %d records are left", len(got), n)
	}
	if _, err := l.Append(t.Context(), []event.Record{record("more", body)}); !errors.Is(err, event.ErrLogFull) {
		t.Errorf("a log that is over its bound says %v", err)
	}
}

// TestAFullLogHearsOfTheWorkThatItHolds: what senders send is refused before the room is gone that runs need to end.
func TestAFullLogHearsOfTheWorkThatItHolds(t *testing.T) {
	dir := t.TempDir()
	o := eventlog.Options{MaxBytes: 16 << 20}
	l, closeAll := open(t, dir, o)
	body := bytes.Repeat([]byte("x"), 50<<10)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = l.Append(t.Context(), []event.Record{record(fmt.Sprint(n), body)})
	}
	if !errors.Is(err, event.ErrLogFull) {
		t.Fatalf("after %d events: %v", n, err)
	}
	for range 2 { // a restart knows it too
		for i := range 100 {
			ask := event.Record{Kind: event.KindAsk, Event: &event.Event{ID: event.RandomID(), Subject: "run", Body: []byte(`{"admit":{}}`), ReceivedAt: time.Now()}}
			own := record(fmt.Sprint("own", i), nil)
			emitted := record(fmt.Sprint("emitted", i), nil)
			emitted.SourceType, emitted.Event.Type, emitted.Event.ID = event.OwnSource, event.EmittedPrefix+"x", event.RandomID()
			if _, err := l.Append(t.Context(), []event.Record{emitted}); !errors.Is(err, event.ErrLogFull) {
				t.Fatalf("what a rule emits: %v", err)
			}
			own.SourceType = event.OwnSource
			own.Event.ID = event.RandomID()
			if _, err := l.Append(t.Context(), []event.Record{ask, own}); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		if _, err := l.Append(t.Context(), []event.Record{record("one more", nil)}); !errors.Is(err, event.ErrLogFull) {
			t.Fatalf("one more event: %v", err)
		}
		if out := add(t, l, record("1", body)); !out[0].Duplicate {
			t.Error("an event that is there already was not known")
		}
		closeAll()
		l, closeAll = open(t, dir, o)
	}
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Needed(last)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(t, l, record("one more", nil))
}

func TestEventsAreRefusedForWantOfRoomElsewhere(t *testing.T) {
	full := fmt.Errorf("%w: journals", event.ErrLogFull)
	l, _ := open(t, t.TempDir(), eventlog.Options{Refuse: func() error { return full }})
	own := record("own", nil)
	own.SourceType = event.OwnSource
	add(t, l, own)
	if _, err := l.Append(t.Context(), []event.Record{record("1", nil)}); !errors.Is(err, full) {
		t.Errorf("it says %v", err)
	}
}
