package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// crashes makes the n-th operation of a process the last one.
func crashes(n int, kind fault, reached *bool) func(string) fault {
	return func(string) fault {
		if n--; n == -1 {
			*reached = true
			return kind
		}
		return none
	}
}

// live lets a process work until all is done, and stops it, or until it crashes.
func (w *world) live(name string, f func(string) fault) (crashed bool) {
	r := w.boot(name)
	r.fault = f
	r.grantAll()
	w.await("an end of all runs", func() bool { return r.dead || w.settled() })
	r.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	return r.dead
}

// crashAt runs the events through processes that crash at the given operations, one after another, and then through one
// that does not. It reports whether the last crash came to pass.
func crashAt(t *testing.T, set *rule.Set, kind fault, ops ...int) (reached bool) {
	w := newWorld(t, 2, set)
	w.purge = true
	w.append(eventOf("odd", 1), eventOf("none", 1), eventOf("even", 1))
	w.append(eventOf("odd", 1), eventOf("even", 2)) // the first is a duplicate
	for _, n := range ops {
		reached = false
		w.live("a", crashes(n, kind, &reached))
	}
	w.live("a", nil)
	w.checkEnds()
	acts := fmt.Sprint(w.acts)
	heir := w.boot("b").grantAll()
	time.Sleep(time.Minute) // of the bubble's clock
	heir.stop()
	if now := fmt.Sprint(w.acts); now != acts {
		t.Errorf("an owner who came when all was done did\n%s\nafter\n%s", now, acts)
	}
	return reached
}

// checkEnds checks what came of the events, whatever crashed.
func (w *world) checkEnds() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, e := range w.decided {
		if e.Why == "" && len(e.Runs) == 0 || e.Why != "" && len(e.Runs) > 0 {
			w.t.Errorf("event %s: %d runs and why is %q", id, len(e.Runs), e.Why)
		}
	}
	for id, r := range w.runs {
		want := map[string][]run.State{"steady": {run.Succeeded, run.Failed}, "broken": {run.Failed}, "refused": {run.Refused, run.Failed}, "superseded": {run.Superseded, run.Failed}, "watched": {run.Observed}}[r.Rule]
		ok := false
		for _, s := range want {
			ok = ok || r.State == s && (s != run.Failed || r.Rule == "broken" || r.Reason == run.ReasonInterrupted)
		}
		if !ok {
			w.t.Errorf("run %s is %s (%s: %s)", id, r.State, r.Reason, r.Message)
		}
		tell := r.Step(run.OnFailure, "tell")
		if failed := r.State == run.Failed || r.State == run.Refused; failed != (tell != nil) && r.Rule != "superseded" {
			w.t.Errorf("run %s is %s, and onFailure: %+v", id, r.State, tell)
		}
	}
}

func TestACrashAtAnyWriteRepeatsNothingAndLosesNothing(t *testing.T) {
	set := loadRules(t, rulesText)
	for _, tc := range []struct {
		name string
		lead []int
	}{{"at work", nil}, {"while recovering", []int{9}}} {
		for _, kind := range []fault{crashBefore, crashAfter} {
			t.Run(fmt.Sprintf("%s, %s the write", tc.name, map[fault]string{crashBefore: "before", crashAfter: "after"}[kind]), func(t *testing.T) {
				for n, reached := 0, true; reached && !t.Failed(); n++ {
					synctest.Test(t, func(t *testing.T) { reached = crashAt(t, set, kind, append(tc.lead, n)...) })
					if t.Failed() {
						t.Logf("the crash was at operation %d", n)
					}
					if n > 500 {
						t.Fatal("operations never end")
					}
				}
			})
		}
	}
}
