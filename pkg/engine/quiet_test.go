package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// What a rule would start in a quiet time is on record as refused, does nothing, tells nobody, and can be retried after it.
func TestQuietTimesAreOnRecord(t *testing.T) {
	text := strings.Replace(oneRule("  - {id: a, uses: do}\n  onFailure: [{id: tell, uses: do}]\n"), "{name: r}", "{name: r, labels: {team: shop}}", 1)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, loadRules(t, text))
		end := time.Now().Add(time.Hour)
		r := w.boot("a", func(o *Options) {
			o.Quiet = func(labels map[string]string, at time.Time) (string, time.Time, bool) {
				return "release", end, labels["team"] == "shop" && at.Before(end)
			}
		}).grantAll()
		early, late := eventOf("go", 1), eventOf("go", 2)
		early.Event.ReceivedAt, late.Event.ReceivedAt = time.Now(), end
		w.append(early)
		got := w.ended(early.Event.ID + "-r")
		if got.State != run.Refused || got.Reason != run.ReasonQuietTime || !strings.Contains(got.Message, "release until "+end.Format(time.RFC3339)) || len(got.Steps) > 0 {
			t.Errorf("in the quiet time: %+v", got)
		}
		w.append(late)
		if got := w.ended(late.Event.ID + "-r"); got.State != run.Succeeded {
			t.Errorf("after it: %+v", got)
		}
		w.order(run.CommandRetry, got.ID)
		w.await("the retry", func() bool { return w.runs[got.ID].State == run.Succeeded })
		r.stop()
	})
}
