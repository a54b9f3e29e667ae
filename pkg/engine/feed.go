package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// feed reads the log once for all partitions of this replica, in order. When a partition joins that has to read from an
// older position, reading starts again there, and each partition passes over what it was fed before.
type feed struct {
	log    Log
	logger *slog.Logger
	home   func(event.Entry) int // which partition a record belongs to, -1 for all

	mu      sync.Mutex
	members map[*partition]struct{}
	restart context.CancelFunc
	changed chan struct{} // closed and replaced when members change
}

func newFeed(log Log, logger *slog.Logger, home func(event.Entry) int) *feed {
	return &feed{log: log, logger: logger, home: home, members: map[*partition]struct{}{}, changed: make(chan struct{})}
}

func (f *feed) join(p *partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[p] = struct{}{}
	if f.restart != nil {
		f.restart()
	}
	f.notify()
}

func (f *feed) leave(p *partition) {
	close(p.gone)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.members, p)
	f.notify()
}

func (f *feed) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// drained returns once no partition is left, or when ctx ends.
func (f *feed) drained(ctx context.Context) {
	for {
		f.mu.Lock()
		n, changed := len(f.members), f.changed
		f.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// run reads until ctx ends. A log that can't be read is tried again each second.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		reading, after, changed := f.begin(ctx)
		if reading == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		err := f.log.Follow(reading, after, func(entries []event.Entry) error { return f.deal(reading, entries) })
		if reading.Err() != nil || err == nil {
			continue
		}
		f.logger.Error("reading the event log failed; it is tried again in 1s", "after", after.String(), "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// begin returns a context that the next join ends, and the oldest position that a member needs.
func (f *feed) begin(ctx context.Context) (context.Context, event.Pos, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.members) == 0 {
		return nil, event.Pos{}, f.changed
	}
	var after event.Pos
	first := true
	for p := range f.members {
		if first || p.fed.Compare(after) < 0 {
			after, first = p.fed, false
		}
	}
	reading, cancel := context.WithCancel(ctx)
	f.restart = cancel
	return reading, after, nil
}

// deal gives each partition the records. It waits for a partition that is behind, which bounds what is held in memory.
func (f *feed) deal(ctx context.Context, entries []event.Entry) error {
	f.mu.Lock()
	if ctx.Err() != nil {
		// Somebody joined, perhaps with an older position than this reading began at: it must not be given what is new first.
		f.mu.Unlock()
		return ctx.Err()
	}
	members := make([]*partition, 0, len(f.members))
	for p := range f.members {
		members = append(members, p)
	}
	f.mu.Unlock()
	b := batch{last: entries[len(entries)-1].Pos, records: make([]record, len(entries))}
	for i, en := range entries {
		b.records[i] = record{Entry: en, home: f.home(en), shared: &shared{}}
	}
	for _, p := range members {
		if b.last.Compare(p.fed) <= 0 {
			continue
		}
		select {
		case p.inbox <- b:
			p.fed = b.last
		case <-p.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batch is a segment in the hands of the partitions: its records, and how far whoever has read them has come. All
// partitions get the same, since an event can take part in what any of them waits for.
type batch struct {
	last    event.Pos
	records []record
}

// record is a record of the log with what is known about it here.
type record struct {
	event.Entry
	home int // the partition that decides it, -1 for all
	*shared
}
