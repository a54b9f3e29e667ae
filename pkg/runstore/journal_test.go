package runstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/run"
)

// flaky stands between a journal and the server: each write meets the next fault of its script, then none.
type flaky struct {
	script []fault
	real   func(ctx context.Context, msg *nats.Msg, after uint64) (uint64, error)
	late   []func() // writes that are still on their way
}

type fault int

const (
	fine     fault = iota
	lost           // the write is lost on its way there
	unheard        // the write takes place, its acknowledgement is lost
	delayed        // the write takes place later, when the next one has been sent
	arriving       // as fine, but what was delayed arrives before it
	busy           // a replicated stream refuses it because another write to the subject is under way
)

func (f *flaky) publish(ctx context.Context, msg *nats.Msg, after uint64) (uint64, error) {
	next := fine
	if len(f.script) > 0 {
		next, f.script = f.script[0], f.script[1:]
	}
	switch next {
	case lost:
		return 0, nats.ErrTimeout
	case unheard:
		if _, err := f.real(ctx, msg, after); err != nil {
			return 0, err
		}
		return 0, nats.ErrTimeout
	case delayed:
		f.late = append(f.late, func() { _, _ = f.real(context.WithoutCancel(ctx), msg, after) })
		return 0, nats.ErrTimeout
	case arriving:
		f.arrive()
	case busy:
		return 0, &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant}
	}
	return f.real(ctx, msg, after)
}

func (f *flaky) arrive() {
	for _, write := range f.late {
		write()
	}
	f.late = nil
}

func makeFlaky(s *Store, script ...fault) *flaky {
	f := &flaky{script: script, real: s.publishMsg}
	s.publish = f.publish
	return f
}

func TestUnknownOutcome(t *testing.T) {
	small := []run.Entry{started("r", 1), started("r", 2)}
	long := []run.Entry{big("r", packBytes/2), big("r", packBytes/2+1), big("r", packBytes/2+2), started("r", 4)}
	for name, c := range map[string]struct {
		entries []run.Entry
		script  []fault
		fails   int // Appends that fail before one succeeds
	}{
		"lost":                   {small, []fault{lost}, 1},
		"unheard":                {small, []fault{unheard}, 1},
		"delayed until after":    {small, []fault{delayed, fine}, 1},
		"delayed until between":  {small, []fault{delayed, arriving}, 1},
		"busy at once":           {small, []fault{busy}, 1},
		"delayed, then busy":     {small, []fault{delayed, busy, arriving}, 2},
		"twice delayed":          {small, []fault{delayed, delayed, arriving}, 2},
		"lost then unheard":      {small, []fault{lost, unheard}, 2},
		"second message lost":    {long, []fault{fine, lost}, 1},
		"second message unheard": {long, []fault{fine, unheard, unheard}, 2},
		"last message delayed":   {long, []fault{fine, fine, delayed, arriving}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, startServer(t).broker())
			j, _, _ := take(t, s, 0, "a")
			f := makeFlaky(s, c.script...)
			for range c.fails {
				if err := j.Append(t.Context(), c.entries); !errors.Is(err, ErrUnavailable) {
					t.Fatalf("Append gives %v, want ErrUnavailable", err)
				}
			}
			mustAppend(t, j, c.entries...)
			f.arrive()
			mustAppend(t, j, started("next", 1))
			want := append(slices.Clone(c.entries), started("next", 1))
			if got := entriesOf(t, s, 0); !reflect.DeepEqual(got, want) {
				t.Errorf("the journal has %d entries, want %d: %.300v", len(got), len(want), got)
			}
		})
	}
}

func TestUnfinishedWriteTakesOnlyItsEntries(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	makeFlaky(s, unheard)
	first := []run.Entry{started("r", 1)}
	if err := j.Append(t.Context(), first); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), []run.Entry{started("r", 2)}); err == nil {
		t.Error("other entries are taken")
	}
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: 1}); err == nil {
		t.Error("a checkpoint is taken")
	}
	mustAppend(t, j, append(first, started("r", 2))...)
	if got := entriesOf(t, s, 0); len(got) != 2 {
		t.Errorf("the journal holds %+v", got)
	}
}

func TestCancelledWriteIsUnknown(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Append(ctx, []run.Entry{started("r", 1)}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("Append gives %v", err)
	}
	mustAppend(t, j, started("r", 1))
	if got := entriesOf(t, s, 0); len(got) != 1 {
		t.Errorf("the journal holds %+v", got)
	}
}

func TestWriteThatArrivesAfterAClaimIsRefused(t *testing.T) {
	srv := startServer(t)
	s := openStore(t, srv.broker())
	a, _, _ := take(t, s, 0, "a")
	f := makeFlaky(s, delayed)
	if err := a.Append(t.Context(), []run.Entry{started("r", 1)}); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	other := openStore(t, srv.broker())
	b, _, _ := take(t, other, 0, "b")
	f.arrive()
	if err := a.Append(t.Context(), []run.Entry{started("r", 1)}); !errors.Is(err, run.ErrFenced) {
		t.Errorf("Append gives %v, want ErrFenced", err)
	}
	mustAppend(t, b, started("r", 2))
	if got := entriesOf(t, other, 0); len(got) != 1 || got[0].Attempt != 2 {
		t.Errorf("the journal holds %+v", got)
	}
}

func TestClaimWithUnknownOutcome(t *testing.T) {
	for name, script := range map[string][]fault{"lost": {lost}, "unheard": {unheard}, "delayed": {delayed, arriving}, "many": {lost, unheard}} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, startServer(t).broker())
			f := makeFlaky(s, script...)
			j, _, _ := take(t, s, 0, "a")
			f.arrive()
			mustAppend(t, j, started("r", 1))
			_, got, _ := take(t, s, 0, "b")
			if len(got) != 2 {
				t.Errorf("replayed %+v, want one claim and one entry", got)
			}
		})
	}
}

func TestEntryTooLarge(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	if err := j.Append(t.Context(), []run.Entry{started("r", 1), big("r", MaxEntryBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("Append gives %v", err)
	}
	mustAppend(t, j, big("r", MaxEntryBytes-500))
	if got := entriesOf(t, s, 0); len(got) != 1 {
		t.Errorf("the journal has %d entries", len(got))
	}
}

// TestCompetingOwners lets owners take a partition from each other at random, with faults, and checks that what is read
// back is one history: every entry is that of the last claimer, and each owner's entries that were acknowledged are
// there once and in order.
func TestCompetingOwners(t *testing.T) {
	srv := startServer(t)
	const owners, rounds = 4, 15
	acknowledged := make([][]string, owners)
	var wg sync.WaitGroup
	for o := range owners {
		s := openStore(t, srv.broker())
		random := rand.New(rand.NewPCG(uint64(o), 42))
		wg.Go(func() {
			for round := range rounds {
				owner := fmt.Sprintf("%d.%d", o, round)
				j, _, err := s.Take(t.Context(), 0, owner, ignore)
				if errors.Is(err, run.ErrFenced) {
					continue
				}
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				makeFlaky(s, fault(random.IntN(3)), fault(random.IntN(3)), fault(random.IntN(3)))
				acknowledged[o] = append(acknowledged[o], work(t, j, owner, random.IntN(12))...)
				s.publish = s.publishMsg
			}
		})
	}
	wg.Wait()
	checkHistory(t, openStore(t, srv.broker()), acknowledged)
}

// work appends entries until it is fenced or has written n, and returns those that were acknowledged.
func work(t *testing.T, j *Journal, owner string, n int) (done []string) {
	for i := range n {
		e := started(fmt.Sprintf("%s.%d", owner, i), 1)
		e.Owner = owner
		err := ErrUnavailable
		for errors.Is(err, ErrUnavailable) {
			err = j.Append(t.Context(), []run.Entry{e})
		}
		if errors.Is(err, run.ErrFenced) {
			return done
		}
		if err != nil {
			t.Errorf("append: %v", err)
			return done
		}
		done = append(done, e.Run)
	}
	return done
}

func checkHistory(t *testing.T, s *Store, acknowledged [][]string) {
	last, err := s.lastSeq(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	claimer, count, place := "", map[string]int{}, map[string]int{}
	n := 0
	err = s.replay(t.Context(), 0, 1, last, func(_ uint64, e run.Entry) error {
		if e.Kind == run.Claimed {
			claimer = e.Owner
			return nil
		}
		if e.Owner != claimer {
			t.Errorf("entry %s was written after %s had claimed the partition", e.Run, claimer)
		}
		n++
		count[e.Run]++
		place[e.Run] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range count {
		if c != 1 {
			t.Errorf("entry %s is there %d times", id, c)
		}
	}
	for _, ids := range acknowledged {
		if !slices.IsSortedFunc(ids, func(a, b string) int { return place[a] - place[b] }) {
			t.Errorf("entries are out of order: %v", ids)
		}
		for _, id := range ids {
			if count[id] == 0 {
				t.Errorf("entry %s was acknowledged and is missing", id)
			}
		}
	}
}
