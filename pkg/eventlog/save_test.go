package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

// The saver sweeps when much was written, and the janitor at its intervals: both at once must not store ids twice or lose some.
func TestSweepsAtOnce(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	for round := range 20 {
		for i := range 10 {
			add(t, l, record(fmt.Sprint(round, "-", i), nil))
		}
		collect(t, l, event.Pos{}, 10*(round+1))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := errors.Join(l.SaveIDs(context.Background()), l.Sweep(context.Background())); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// Each message of stored ids is read at the next start, so a quiet log must not write one for each sweep.
func TestFewIDsAreStoredTogether(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	for i := range 30 {
		add(t, l, record(fmt.Sprint(i), nil))
		collect(t, l, event.Pos{}, i+1)
		if err := l.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.JetStream().Stream(t.Context(), broker.IDStream)
	if err != nil || s.CachedInfo().State.Msgs > 1 {
		t.Errorf("%d messages for 30 ids, %v", s.CachedInfo().State.Msgs, err)
	}
}

// Large bodies have a bucket of their own. Full, it must make the log give up its oldest records, which are tiny.
func TestTheBucketOfLargeBodiesIsBoundedToo(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{MaxBytes: 16 << 20})
	l.SetBodyGrace(0)
	body := bytes.Repeat([]byte("x"), 600<<10)
	n := 0
	for ; ; n++ {
		if _, err := l.Append(t.Context(), []event.Record{record(fmt.Sprint(n), body)}); errors.Is(err, event.ErrLogFull) {
			break
		} else if err != nil || n > 20 {
			t.Fatalf("after %d bodies: %v", n, err)
		}
	}
	all := collect(t, l, event.Pos{}, n)
	l.Needed(all[n-1].Pos)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), []event.Record{record("more", body)}); err != nil {
		t.Errorf("after a sweep: %v", err)
	}
	left := collect(t, l, event.Pos{}, 2)
	for _, en := range left {
		if !bytes.Equal(en.Record.Event.Body, body) {
			t.Errorf("record %s is there and its body is not", en.Pos)
		}
	}
	if left[0].Pos == all[0].Pos {
		t.Error("nothing was purged")
	}
}

// While a repeat of an event stores its body, who reads the first one's must find it whole.
func TestARepeatDoesNotTouchTheFirstBody(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	one, two := openLog(t, b, eventlog.Options{}), openLog(t, b, eventlog.Options{})
	t.Cleanup(func() { _ = errors.Join(one.Close(context.Background()), two.Close(context.Background())) })
	body := []byte(strings.Repeat("body ", 100<<10))
	add(t, one, record("a", body))
	store, err := b.JetStream().ObjectStore(t.Context(), broker.BodyBucket)
	if err != nil {
		t.Fatal(err)
	}
	before, err := store.List(t.Context())
	if err != nil || len(before) != 1 {
		t.Fatalf("%d bodies, %v", len(before), err)
	}
	add(t, two, record("a", body))
	after, err := store.GetInfo(t.Context(), before[0].Name)
	if err != nil || after.NUID != before[0].NUID {
		t.Errorf("the first body was stored again: %v", err)
	}
}

func TestRulesThatNothingNeedsArePurged(t *testing.T) {
	l, _ := open(t, t.TempDir(), eventlog.Options{})
	put := func(from, to int) {
		for n := from; n < to; n++ {
			if err := l.PutRevision(t.Context(), fmt.Sprint("r", n), []byte("rules")); err != nil {
				t.Fatal(err)
			}
		}
	}
	there := func(n int) bool {
		_, err := l.Revision(t.Context(), fmt.Sprint("r", n))
		if err != nil && !errors.Is(err, event.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	put(0, 20)
	add(t, l, record("first", nil))
	put(20, 230)
	if err := l.Activate(t.Context(), eventlog.Active{Revision: "r0"}, eventlog.Active{}); err != nil {
		t.Fatal(err)
	}
	last := add(t, l, record("last", nil))
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{0: true /* active */, 1: false, 9: false, 10: true /* the first event may need it */, 19: true, 229: true} {
		if there(n) != want {
			t.Errorf("with the first event in the log revision %d is there: %v", n, !want)
		}
	}
	en, err := l.Get(t.Context(), last[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	l.PurgeBefore(t, en.Pos)
	put(230, 231)
	if err := l.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{0: true, 10: false, 19: false, 40: true, 230: true} {
		if there(n) != want {
			t.Errorf("without the first event revision %d is there: %v", n, !want)
		}
	}
}

// A clock that is set a day ahead, or an hour back, must purge nothing in the next sweeps, and no id may be forgotten.
func TestAClockThatLeaps(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var leap time.Duration
	set := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		leap = d
	}
	o := eventlog.Options{MaxAge: 12 * time.Hour, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(leap)
	}}
	l, closeAll := open(t, dir, o)
	n := 0
	for _, d := range []time.Duration{0, -time.Hour, 24 * time.Hour, 0} {
		set(d)
		r := record(fmt.Sprint(n), nil)
		r.Event.ReceivedAt = o.Now()
		add(t, l, r)
		n++
		all := collect(t, l, event.Pos{}, n)
		l.Needed(all[n-1].Pos)
		for range 5 {
			if err := l.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := collect(t, l, event.Pos{}, n); len(got) != n || got[0].Pos != all[0].Pos {
			t.Fatalf("with the clock off by %s the log begins at %s", d, got[0].Pos)
		}
	}
	check := func(when string) {
		t.Helper()
		for i := range n {
			if out := add(t, l, record(fmt.Sprint(i), nil)); !out[0].Duplicate {
				t.Errorf("%s id %d is forgotten", when, i)
			}
		}
	}
	check("while it runs,")
	closeAll()
	l, _ = open(t, dir, o)
	check("after a restart,")
}
