package catchup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

func TestWhatWasMissedIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mine, fails atomic.Bool
		var mu sync.Mutex // guards asked
		marks, ids, asked := map[string]time.Time{}, map[string]bool{}, ""
		var d *Driver
		start := func() (stop func()) {
			var err error
			d, err = New(Options{
				Askers: map[string]Asker{"src": func(_ context.Context, since time.Time, take func([]event.Record) error) error {
					mu.Lock()
					defer mu.Unlock()
					asked += fmt.Sprintf("%s from %s; ", time.Since(began).Round(time.Minute), since.Sub(began).Round(time.Minute))
					if fails.Load() {
						return errors.New("no answer")
					}
					return take(Records("src", "fake", []source.Delivery{{Key: "a", Type: "push", Body: []byte("{}")}}, time.Now()))
				}},
				Append: func(_ context.Context, records []event.Record) ([]event.Appended, error) {
					e := records[0].Event
					defer func() { ids[e.ID] = true }()
					return []event.Appended{{ID: e.ID, Duplicate: ids[e.ID]}}, nil
				},
				Mine:     func() bool { return mine.Load() },
				Mark:     func(_ context.Context, name string) (time.Time, error) { return marks[name], nil },
				SetMark:  func(_ context.Context, name string, at time.Time) error { marks[name] = at; return nil },
				Interval: 10 * time.Minute, Now: time.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			return func() { cancel(); <-done }
		}
		want := func(text string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if asked != text {
				t.Errorf("asked %q, want %q", asked, text)
			}
			asked = ""
		}
		stop := start()
		time.Sleep(5 * time.Minute)
		want("") // another replica does
		mine.Store(true)
		time.Sleep(time.Minute)
		want("5m0s from 5m0s; ")
		time.Sleep(10 * time.Minute)
		want("15m0s from 3m0s; ") // a little of what it was asked for before
		fails.Store(true)
		time.Sleep(10 * time.Minute)
		want("25m0s from 13m0s; ")
		fails.Store(false)
		time.Sleep(10 * time.Minute)
		want("35m0s from 13m0s; ")
		stop()
		time.Sleep(4 * 24 * time.Hour)
		stop = start()
		time.Sleep(time.Minute)
		want("96h36m0s from 24h36m0s; ")
		stop()
		if len(ids) != 1 || !ids[event.ID("src", "a")] {
			t.Errorf("%v", ids)
		}
	})
}

func TestOptionsAreNeeded(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a driver without anything is made")
	}
}

// TestASenderThatDoesNotAnswerHoldsUpNoOther: both are asked in one round.
func TestASenderThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	asked := make(chan struct{})
	d, err := New(Options{
		Askers: map[string]Asker{
			"hangs": func(ctx context.Context, _ time.Time, _ func([]event.Record) error) error {
				<-ctx.Done()
				return ctx.Err()
			},
			"answers": func(context.Context, time.Time, func([]event.Record) error) error { close(asked); return nil },
		},
		Interval: time.Hour, Mine: func() bool { return true },
		Append:  func(context.Context, []event.Record) ([]event.Appended, error) { return nil, nil },
		Mark:    func(context.Context, string) (time.Time, error) { return time.Time{}, nil },
		SetMark: func(context.Context, string, time.Time) error { return nil },
		Now:     time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Error("the other one was not asked")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
