package eventlog

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// SetBodyGrace is for tests of purging; call it before the first append.
func (l *Log) SetBodyGrace(d time.Duration) { l.keeper.grace = d }

// SaveIDs stores what waits, as a sweep that is due does.
func (l *Log) SaveIDs(ctx context.Context) error {
	l.keeper.sweeping.Lock()
	defer l.keeper.sweeping.Unlock()
	return l.saveIDs(ctx)
}

// PurgeBefore makes the log begin at a position.
func (l *Log) PurgeBefore(t *testing.T, pos event.Pos) {
	t.Helper()
	s, err := l.broker.JetStream().Stream(t.Context(), broker.EventStream)
	if err == nil {
		err = s.Purge(t.Context(), jetstream.WithPurgeSequence(pos.Seq))
	}
	if err != nil {
		t.Fatal(err)
	}
}
