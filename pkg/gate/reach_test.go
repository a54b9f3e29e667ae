package gate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/gate"
)

// TestReach asks how far a limit is reached while runs come and their windows end.
func TestReach(t *testing.T) {
	g, err := gate.New(gate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	l := gate.Limit{Key: "k", Runs: 2, Per: time.Hour}
	for n, want := range []string{"0 0", "1 0", "2 50", "1 0", "0 0"} {
		now := at.Add([]time.Duration{0, 0, 10 * time.Minute, time.Hour, 3 * time.Hour}[n])
		if n == 1 || n == 2 {
			g.Admit(now, gate.Admission{Run: fmt.Sprint(n), Attempt: 1, Limits: []gate.Limit{l}})
		}
		r := g.Reach(now, l)
		left := time.Duration(0)
		if !r.Free.IsZero() {
			left = r.Free.Sub(now)
		}
		if got := fmt.Sprint(r.Runs, " ", int(left.Minutes())); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
