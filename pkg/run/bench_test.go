package run

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkForEach plays a whole run of a forEach: an item costs the same whether there are 50 of them or 500.
func BenchmarkForEach(b *testing.B) {
	for _, n := range []int{50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				playItems(b, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/item")
		})
	}
}

func playItems(b *testing.B, n int) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	plan := &Plan{Steps: []StepPlan{{ID: "each", Uses: "do", Parallel: 10}, {ID: "after", Uses: "do"}}}
	plan.Steps[1].Needs = []string{"each"}
	r := &Run{ID: "r", State: Pending, Attempt: 1}
	for !r.State.Ended() {
		m := Next(r, plan, now)
		switch {
		case m.End != nil:
			Apply(r, *m.End)
		case len(m.Close) > 0:
			Apply(r, Entry{At: now, Kind: Finished, Run: r.ID, Step: "each", StepState: StepSucceeded, Attempt: 1})
		case len(m.Start) > 0:
			for _, sp := range m.Start {
				e := Entry{At: now, Kind: Started, Run: r.ID, Step: sp.ID, Uses: sp.Uses, Attempt: 1, Group: sp.Group()}
				if e.Group {
					e.Items = make(List, n)
				}
				Apply(r, e)
			}
		default: // one of those that run ends
			for i := range r.Steps {
				if s := &r.Steps[i]; s.State == StepRunning && !s.Group {
					Apply(r, Entry{At: now, Kind: Finished, Run: r.ID, Step: s.ID, StepState: StepSucceeded, Attempt: 1})
					break
				}
			}
		}
	}
}
