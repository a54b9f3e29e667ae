package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// mail puts records into the log for partitions, which do not wait for it. What waits while one write is under way goes
// into the next. A record may be lost with the process: whoever needs it sends it again when it takes over. Safe for
// concurrent use.
type mail struct {
	log    Log
	logger *slog.Logger
	wake   chan struct{}

	mu    sync.Mutex
	queue []letter
}

type letter struct {
	record event.Record
	done   func() // called once the record is durable; may be nil
}

func newMail(log Log, logger *slog.Logger) *mail {
	return &mail{log: log, logger: logger, wake: make(chan struct{}, 1)}
}

func (m *mail) send(r event.Record, done func()) {
	m.mu.Lock()
	m.queue = append(m.queue, letter{r, done})
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (m *mail) run(ctx context.Context) {
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		letters := m.queue
		m.queue = nil
		m.mu.Unlock()
		if !m.deliver(ctx, letters) {
			return
		}
	}
}

func (m *mail) deliver(ctx context.Context, letters []letter) bool {
	records := make([]event.Record, len(letters))
	for i := range letters {
		records[i] = letters[i].record
	}
	for wait := 50 * time.Millisecond; len(records) > 0; wait = min(2*wait, 2*time.Second) {
		_, err := m.log.Append(ctx, records)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return false
		}
		m.logger.Error("requests of runs can't be written to the log; it is tried again", "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
	for _, l := range letters {
		if l.done != nil {
			l.done()
		}
	}
	return true
}
