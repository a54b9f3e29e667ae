package eventlog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

func TestAStoreThatStoppedAnsweringIsRestarted(t *testing.T) {
	b := openBroker(t, t.TempDir())
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l := openLog(t, b, eventlog.Options{})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	add(t, l, record("a", nil))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	following, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.Follow(ctx, event.Pos{}, func([]event.Entry) error { close(following); return nil })
	}()
	<-following
	b.Conn().Close() // from here on nothing is answered
	if err := <-ended; !errors.Is(err, event.ErrLogUnavailable) {
		t.Errorf("follow ends with %v", err)
	}
	for { // the first write finds it out; senders repeat
		_, err := l.Append(ctx, []event.Record{record("b", nil)})
		if err == nil {
			break
		}
		if !errors.Is(err, event.ErrLogUnavailable) || ctx.Err() != nil {
			t.Fatalf("append: %v", err)
		}
	}
	if got := collect(t, l, event.Pos{}, 2); got[0].Record.Event.Subject != "a" || got[1].Record.Event.Subject != "b" {
		t.Errorf("%s, %s", got[0].Record.Event.Subject, got[1].Record.Event.Subject)
	}
}
