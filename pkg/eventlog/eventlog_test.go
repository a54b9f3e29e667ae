package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

func openBroker(t testing.TB, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(context.Background(), broker.Options{
		Dir: dir, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openLog(t testing.TB, b *broker.Broker, o eventlog.Options) *eventlog.Log {
	t.Helper()
	o.Logger, o.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	l, err := eventlog.Open(context.Background(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// open makes a log on a directory; closing it closes the store too.
func open(t testing.TB, dir string, o eventlog.Options) (*eventlog.Log, func()) {
	t.Helper()
	b := openBroker(t, dir)
	l := openLog(t, b, o)
	var once sync.Once
	closeAll := func() {
		once.Do(func() {
			if err := errors.Join(l.Close(context.Background()), b.Close(context.Background())); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(closeAll)
	return l, closeAll
}

func record(key string, body []byte) event.Record {
	return event.Record{Kind: event.KindEvent, SourceType: "github", Event: &event.Event{
		ID: event.ID("s", key), Source: "s", Type: "push", Subject: key, DeliveryID: "d-" + key, ReceivedAt: time.Now(),
		Headers: map[string]string{"X-Github-Event": "push"}, Body: body,
	}}
}

func add(t testing.TB, l *eventlog.Log, records ...event.Record) []event.Appended {
	t.Helper()
	out, err := l.Append(context.Background(), records)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// collect follows the log until it has seen n records.
func collect(t *testing.T, l *eventlog.Log, after event.Pos, n int) []event.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []event.Entry
	err := l.Follow(ctx, after, func(entries []event.Entry) error {
		if got = append(got, entries...); len(got) >= n {
			cancel()
		}
		return nil
	})
	if err != nil || len(got) < n {
		t.Fatalf("%d records of %d, %v", len(got), n, err)
	}
	return got
}

func TestWhatIsAppendedIsFollowedInOrder(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	var want []string
	for i := range 20 {
		r := record(fmt.Sprint(i), fmt.Appendf(nil, `{"n":%d}`, i))
		want = append(want, r.Event.ID)
		add(t, l, r)
	}
	got := collect(t, l, event.Pos{}, 20)
	for i, en := range got {
		e := en.Record.Event
		if e.ID != want[i] || string(e.Body) != fmt.Sprintf(`{"n":%d}`, i) || e.Headers["X-Github-Event"] != "push" || en.Record.SourceType != "github" || en.Duplicate {
			t.Fatalf("record %d: %+v %+v", i, en, e)
		}
		if i > 0 && got[i-1].Pos.Compare(en.Pos) >= 0 {
			t.Fatalf("positions %s, %s", got[i-1].Pos, en.Pos)
		}
	}
	if rest := collect(t, l, got[9].Pos, 10); rest[0].Record.Event.ID != want[10] {
		t.Errorf("after the tenth comes %s", rest[0].Record.Event.Subject)
	}
}

func TestAnIDIsOneEvent(t *testing.T) {
	dir := t.TempDir()
	l, closeAll := open(t, dir, eventlog.Options{})
	out := add(t, l, record("a", nil), record("a", nil), record("b", nil))
	if out[0].Duplicate || !out[1].Duplicate || out[2].Duplicate || out[0].ID != out[1].ID {
		t.Fatalf("inside one call: %+v", out)
	}
	if out := add(t, l, record("a", nil)); !out[0].Duplicate {
		t.Error("a later repeat is not known")
	}
	var mu sync.Mutex
	news := 0
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			out, err := l.Append(context.Background(), []event.Record{record("race", nil)})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !out[0].Duplicate {
				news++
			}
		})
	}
	wg.Wait()
	if news != 1 {
		t.Errorf("%d of 32 repeats at once were new", news)
	}
	closeAll()
	l, _ = open(t, dir, eventlog.Options{})
	if out := add(t, l, record("a", nil), record("race", nil), record("c", nil)); !out[0].Duplicate || !out[1].Duplicate || out[2].Duplicate {
		t.Errorf("after a restart: %+v", out)
	}
}

func TestManyAtOnceAreEachThereOnce(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	const writers, each = 32, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := l.Append(context.Background(), []event.Record{record(fmt.Sprint(w, "-", i), bytes.Repeat([]byte("x"), 4000))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, en := range collect(t, l, event.Pos{}, writers*each) {
		seen[en.Record.Event.ID]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d ids of %d", len(seen), writers*each)
	}
}

func TestTheSecondReplicasRepeatIsADuplicateByItsPlace(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	one, two := openLog(t, b, eventlog.Options{}), openLog(t, b, eventlog.Options{})
	t.Cleanup(func() { _ = errors.Join(one.Close(context.Background()), two.Close(context.Background())) })
	add(t, one, record("a", nil))
	if out := add(t, two, record("a", nil)); out[0].Duplicate {
		t.Skip("the second index knew it at once: nothing to see")
	}
	for name, l := range map[string]*eventlog.Log{"one": one, "two": two} {
		got := collect(t, l, event.Pos{}, 2)
		if got[0].Duplicate || !got[1].Duplicate {
			t.Errorf("replica %s: duplicates %v, %v", name, got[0].Duplicate, got[1].Duplicate)
		}
	}
}

func TestHistoryIsBoundedAndNeededRecordsStay(t *testing.T) {
	dir := t.TempDir()
	o := eventlog.Options{MaxBytes: 16 << 20}
	l, closeAll := open(t, dir, o)
	body := bytes.Repeat([]byte("x"), 200<<10)
	n := 0
	fill := func() error {
		for {
			if _, err := l.Append(t.Context(), []event.Record{record(fmt.Sprint(n), body)}); err != nil {
				return err
			}
			n++
		}
	}
	if err := fill(); !errors.Is(err, event.ErrLogFull) {
		t.Fatalf("a log full of needed records says %v", err)
	}
	all := collect(t, l, event.Pos{}, n)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, l, event.Pos{}, n); len(got) != n {
		t.Fatalf("%d of %d records are left although nobody said that they are not needed", len(got), n)
	}
	l.Needed(all[2].Pos)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first := collect(t, l, event.Pos{}, 1)[0].Pos; first.Compare(all[2].Pos) > 0 || first.Compare(all[0].Pos) == 0 {
		t.Errorf("the log begins at %s; needed was %s", first, all[2].Pos)
	}
	l.Needed(event.Pos{Seq: all[n-1].Pos.Seq})
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), []event.Record{record("more", body)}); err != nil {
		t.Errorf("after a purge: %v", err)
	}
	if _, err := l.Get(t.Context(), event.ID("s", "0")); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("a purged event gives %v", err)
	}
	closeAll()
	l, _ = open(t, dir, o)
	if out := add(t, l, record("0", body)); !out[0].Duplicate {
		t.Error("the id of a purged event is forgotten")
	}
}

// What waits for longer than ids are kept finds its event by its place.
func TestAnEventIsReadAtItsPlace(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{MaxIDs: 16})
	first := add(t, l, record("first", []byte("1")))[0].ID
	for i := range 40 {
		add(t, l, record(fmt.Sprint(i), nil))
	}
	all := collect(t, l, event.Pos{}, 41)
	if _, err := l.Get(t.Context(), first); !errors.Is(err, event.ErrNotFound) {
		t.Fatalf("the id is not forgotten: %v", err)
	}
	if en, err := l.Read(t.Context(), first, all[0].Pos); err != nil || en.Record.Event.ID != first || string(en.Record.Event.Body) != "1" {
		t.Errorf("at its place: %v", err)
	}
	if en, err := l.Read(t.Context(), all[40].Record.Event.ID, all[3].Pos); err != nil || en.Pos != all[40].Pos {
		t.Errorf("where another one stands: %s, %v", en.Pos, err)
	}
	if _, err := l.Read(t.Context(), first, all[3].Pos); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("neither by its id nor at the place: %v", err)
	}
}

func TestALargeBodyIsStoredApart(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	body := []byte(`"` + strings.Repeat("large ", 300<<10) + `"`)
	out := add(t, l, record("large", body), record("small", []byte("1")))
	got := collect(t, l, event.Pos{}, 2)
	if !bytes.Equal(got[0].Record.Event.Body, body) || string(got[1].Record.Event.Body) != "1" {
		t.Error("bodies differ")
	}
	en, err := l.Get(t.Context(), out[0].ID)
	if err != nil || !bytes.Equal(en.Record.Event.Body, body) {
		t.Errorf("read alone: %v", err)
	}
}

func TestLookingUp(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	var ids []string
	for i := range 30 {
		r := record(fmt.Sprint(i), nil)
		if i%3 == 0 {
			r.Event.Type = "tag"
		}
		ids = append(ids, add(t, l, r)[0].ID)
	}
	en, err := l.Get(t.Context(), strings.ToLower(ids[7][:10]))
	if err != nil || en.Record.Event.ID != ids[7] {
		t.Errorf("by a beginning: %v", err)
	}
	for _, id := range []string{"Z", "0000000000", event.RandomID()} {
		if _, err := l.Get(t.Context(), id); !errors.Is(err, event.ErrNotFound) {
			t.Errorf("%s gives %v", id, err)
		}
	}
	var listed []string
	for cursor := ""; ; {
		page, next, err := l.List(t.Context(), eventlog.Query{Limit: 7, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, en := range page {
			listed = append(listed, en.Record.Event.ID)
		}
		if cursor = next; next == "" {
			break
		}
	}
	for i := range ids {
		if listed[i] != ids[len(ids)-1-i] {
			t.Fatalf("listed %v", listed)
		}
	}
	page, _, err := l.List(t.Context(), eventlog.Query{Type: "tag", Source: "s"})
	if err != nil || len(page) != 10 {
		t.Errorf("%d tags, %v", len(page), err)
	}
	page, _, err = l.List(t.Context(), eventlog.Query{Since: time.Now().Add(time.Hour)})
	if err != nil || len(page) != 0 {
		t.Errorf("%d from the future, %v", len(page), err)
	}
	if _, _, err := l.List(t.Context(), eventlog.Query{Cursor: "nonsense"}); err == nil {
		t.Error("a cursor of nonsense is taken")
	}
}

func TestRevisions(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	if err := l.PutRevision(t.Context(), "abc", []byte("rules")); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Revision(t.Context(), "abc"); err != nil || string(got) != "rules" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := l.Revision(t.Context(), "none"); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("unknown revision: %v", err)
	}
}

func TestAClosedLogTakesNothing(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{})
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := l.Append(ctx, []event.Record{record("a", nil)}); !errors.Is(err, event.ErrLogUnavailable) || ctx.Err() != nil {
		t.Errorf("append after close: %v", err)
	}
}

// TestAReplicaFindsWhatAnotherOneHasJustStored: who takes a partition over asks for events that its own Follow has not come to.
func TestAReplicaFindsWhatAnotherOneHasJustStored(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	one, other := openLog(t, b, eventlog.Options{}), openLog(t, b, eventlog.Options{})
	t.Cleanup(func() {
		if err := errors.Join(one.Close(context.Background()), other.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	first, second := record("1", []byte(`{}`)), record("2", []byte(`{"n":2}`))
	add(t, one, first)
	add(t, one, second)
	for _, id := range []string{second.Event.ID, first.Event.ID, second.Event.ID[:10]} {
		if en, err := other.Get(t.Context(), id); err != nil || !strings.HasPrefix(en.Record.Event.ID, id) {
			t.Errorf("event %s: %v", id, err)
		}
	}
	if _, err := other.Get(t.Context(), event.ID("s", "none")); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("of an event that nobody stored it says %v", err)
	}
	if got := add(t, other, second); !got[0].Duplicate {
		t.Errorf("what another replica has stored is no duplicate: %+v", got)
	}
}
