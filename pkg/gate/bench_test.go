package gate_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/riposte-dev/riposte/pkg/gate"
)

// BenchmarkQueue adds one run to a queue and lets one go, with so many waiting.
func BenchmarkQueue(b *testing.B) {
	for _, waiting := range []int{1, 10_000, 50_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			g := newGate(b, gate.Options{MaxQueue: 100_000})
			name := func(i int) string { return fmt.Sprintf("01JNZQ5T3S8F%014d", i) }
			n, first := 0, 0
			for ; n <= waiting; n++ {
				admit(g, 0, name(n), gate.Queue)
			}
			for b.Loop() {
				admit(g, n/1000, name(n), gate.Queue)
				release(g, n/1000, name(first))
				n++
				first++
			}
		})
	}
}

// BenchmarkLock waits for a target and lets one go, with so many waiting in a blast radius.
func BenchmarkLock(b *testing.B) {
	for _, waiting := range []int{1, 10_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			g := newGate(b, gate.Options{BlastRadius: []gate.BlastRadius{{Targets: []string{"svc/*"}, Max: 5}}})
			ask := func(i int) { lock(g, fmt.Sprint("r", i), fmt.Sprint("svc/", i%1000)) }
			n, first := 0, 0
			for ; n < waiting+5; n++ {
				ask(n)
			}
			for b.Loop() {
				ask(n)
				release(g, n/1000, fmt.Sprint("r", first))
				n++
				first++
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	g := waitingRuns(b, 100_000)
	state := snapshot(b, g)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := g.Snapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(state))/100_000, "B/run")
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			if _, err := gate.Restore(bytes.NewReader(state), gate.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
