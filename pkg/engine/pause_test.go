package engine

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// What a paused rule would start is on record as refused, and neither a retry nor a redelivery makes up for it while it is
// paused; a run under way goes on.
func TestAPausedRuleStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, loadRules(t, oneRule("  - {id: a, uses: do}\n  - {id: b, uses: do}\n")))
		paused := false // guarded by w.mu
		r := w.boot("a", func(o *Options) {
			o.Paused = func(r *rule.Rule) (string, bool) {
				w.mu.Lock()
				defer w.mu.Unlock()
				return "rule " + r.Name + " is paused by ana", paused
			}
		}).grantAll()
		before := w.send(1)
		w.began(before, "a", 1)
		w.update(func() { paused = true })
		held := w.ended(w.send(2))
		if held.State != run.Refused || held.Reason != run.ReasonPaused || held.Message != "rule r is paused by ana" || len(held.Steps) > 0 {
			t.Errorf("while it is paused: %+v", held)
		}
		if got := w.ended(before); got.State != run.Succeeded {
			t.Errorf("a run under way: %s", got.State)
		}
		w.order(run.CommandRetry, held.ID)
		w.await("the refusal", func() bool {
			for _, e := range w.heard {
				if strings.Contains(e.Why, "retry of run "+held.ID+" refused: rule r is paused") {
					return true
				}
			}
			return false
		})
		w.update(func() { paused = false })
		w.order(run.CommandRetry, held.ID)
		w.await("the retry", func() bool { return w.runs[held.ID].State == run.Succeeded })
		r.stop()
	})
}
