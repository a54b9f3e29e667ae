package eventlog_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

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
				if err := l.Sweep(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}
