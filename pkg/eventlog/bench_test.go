package eventlog_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

func BenchmarkAppend(b *testing.B) {
	for _, waiting := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			l, _ := open(b, b.TempDir(), eventlog.Options{MaxBytes: 32 << 30})
			body := bytes.Repeat([]byte("x"), 7700)
			work := make(chan int)
			var wg sync.WaitGroup
			for range waiting {
				wg.Go(func() {
					for i := range work {
						if _, err := l.Append(context.Background(), []event.Record{record(fmt.Sprint(i), body)}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := range b.N {
				work <- i
			}
			close(work)
			wg.Wait()
		})
	}
}
