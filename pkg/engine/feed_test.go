package engine

import (
	"context"
	"log/slog"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
)

// twoSegments is a log whose reader goes on for one segment after it was told to stop, as a real one can.
type twoSegments struct {
	first, second []event.Entry
	between       func()
}

func (l *twoSegments) Read(context.Context, string, event.Pos) (event.Entry, error) {
	return event.Entry{}, event.ErrNotFound
}

func (l *twoSegments) Append(context.Context, []event.Record) ([]event.Appended, error) {
	return nil, nil
}

func (l *twoSegments) Follow(ctx context.Context, after event.Pos, fn func([]event.Entry) error) error {
	for _, segment := range [][]event.Entry{l.first, l.second} {
		if segment[0].Pos.Compare(after) <= 0 {
			continue
		}
		if err := fn(segment); err != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		if between := l.between; between != nil {
			l.between = nil
			between()
		}
	}
	<-ctx.Done()
	return nil
}

// TestAJoinerGetsWhatCameBefore: a partition that joins while a segment is on its way gets the segments before it first.
func TestAJoinerGetsWhatCameBefore(t *testing.T) {
	entry := func(seq uint64) []event.Entry {
		return []event.Entry{{Pos: event.Pos{Seq: seq}, Record: event.Record{Kind: event.KindActivate, Event: &event.Event{}}}}
	}
	e := &Engine{Options: Options{Partitions: 1}}
	member := func() *partition { return &partition{e: e, inbox: make(chan batch, 4), gone: make(chan struct{})} }
	early, late := member(), member()
	log := &twoSegments{first: entry(1), second: entry(2)}
	f := newFeed(log, slog.New(slog.DiscardHandler), func(event.Entry) int { return -1 })
	log.between = func() { f.join(late) }
	f.join(early)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx)
	}()
	for _, want := range []uint64{1, 2} {
		if got := <-late.inbox; got.last.Seq != want {
			t.Fatalf("the late one got segment %d, want %d", got.last.Seq, want)
		}
		if got := <-early.inbox; got.last.Seq != want {
			t.Fatalf("the early one got segment %d, want %d", got.last.Seq, want)
		}
	}
	cancel()
	<-done
}
