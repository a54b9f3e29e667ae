package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

func grouped(policy string) string {
	return ruleOf("r", onGo+"  concurrency: {group: \"g ${{ event.subject }}\", policy: "+policy+"}\n"+
		"  steps: [{id: a, uses: do, with: {do: slow}}]\n  finally: [{id: clean, uses: do}]\n")
}

// slow takes a minute, and counts how many go on at once.
func (w *world) slow(most *int) func(context.Context, *action.Call) (action.Outputs, error) {
	going := 0
	return func(ctx context.Context, _ *action.Call) (action.Outputs, error) {
		w.mu.Lock()
		going++
		*most = max(*most, going)
		w.mu.Unlock()
		defer func() { w.mu.Lock(); going--; w.mu.Unlock() }()
		select {
		case <-time.After(time.Minute):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TestRunsOfAGroupNeverOverlap sends five events for one group, whose runs belong to several partitions, and one for another.
func TestRunsOfAGroupNeverOverlap(t *testing.T) {
	for policy, want := range map[string]string{
		"queue":    "succeeded  succeeded  succeeded  succeeded  succeeded ",
		"skip":     "succeeded  superseded GroupBusy superseded GroupBusy superseded GroupBusy superseded GroupBusy",
		"coalesce": "succeeded  superseded Superseded superseded Superseded superseded Superseded succeeded ",
		"cancel":   "superseded Superseded superseded Superseded superseded Superseded superseded Superseded succeeded ",
	} {
		t.Run(policy, func(t *testing.T) {
			rules(t, 3, grouped(policy), func(t *testing.T, w *world) {
				most := 0
				w.on["slow"] = w.slow(&most)
				var ids []string
				for n := range 5 {
					ids = append(ids, w.sendNow("go", "x", n)+"-r")
					time.Sleep(time.Second)
				}
				other := w.sendNow("go", "y", 9) + "-r"
				var got []string
				for _, id := range ids {
					r := w.ended(id)
					got = append(got, string(r.State)+" "+r.Reason)
					if r.State == run.Superseded && r.StartedAt.IsZero() == (r.Step(run.Finally, "clean") != nil && r.Step(run.Main, "a") != nil) {
						t.Errorf("%s: %s", id, steps(r))
					}
				}
				if strings.Join(got, " ") != want || most > 2 {
					t.Errorf("%q, at most %d at once", got, most)
				}
				if r := w.ended(other); r.State != run.Succeeded || r.StartedAt.Sub(r.CreatedAt) > time.Second {
					t.Errorf("the run of the other group: %s, after %s", r.State, r.StartedAt.Sub(r.CreatedAt))
				}
			})
		})
	}
}

// TestTwoEventsInQuickSuccessionBothGetTheirRun, one after the other.
func TestTwoEventsInQuickSuccessionBothGetTheirRun(t *testing.T) {
	rules(t, 2, grouped("queue"), func(t *testing.T, w *world) {
		most := 0
		w.on["slow"] = w.slow(&most)
		one, two := w.sendNow("go", "x", 1), w.sendNow("go", "x", 2)
		if a, b := w.ended(one+"-r"), w.ended(two+"-r"); a.State != run.Succeeded || b.State != run.Succeeded || most != 1 {
			t.Errorf("%s and %s, at most %d at once", a.State, b.State, most)
		}
	})
}

// TestRepeatedFailureNotifiesOnce: 39 runs fail or are refused within the window of a limit, and people hear of it once.
func TestRepeatedFailureNotifiesOnce(t *testing.T) {
	rules(t, 2, ruleOf("r", onGo+`
  limits: [{runs: 3, per: 1h, by: event.subject}]
  steps: [{id: a, uses: do, with: {do: fail}}]
  onFailure: [{id: tell, uses: do}]
`), func(t *testing.T, w *world) {
		told, reasons := 0, map[string]int{}
		send := func(subject string, n int) {
			r := w.ended(w.sendNow("go", subject, n) + "-r")
			reasons[r.Reason]++
			if r.Step(run.OnFailure, "tell") != nil {
				told++
			}
		}
		for n := range 39 {
			send("x", n)
		}
		if fmt.Sprint(told, reasons) != "1 map[LimitReached:36 StepFailed:3]" {
			t.Errorf("told %d times of %v", told, reasons)
		}
		send("y", 99)
		time.Sleep(time.Hour)
		send("x", 100)
		if fmt.Sprint(told, reasons) != "3 map[LimitReached:36 StepFailed:5]" {
			t.Errorf("told %d times of %v", told, reasons)
		}
	})
}

const healing = `
  trigger: {type: alert.firing}
  steps: [{id: fix, uses: fix, with: {do: mend, target: "${{ event.alert.labels.app }}"}}]
`

func alertEvent(w *world, status, pod string, n int) string {
	return w.sendNow("alert."+status, pod, n)
}

// TestASecondAlertForOneTargetDoesNotStartASecondRepairInParallel, although each has its own partition.
func TestASecondAlertForOneTargetDoesNotStartASecondRepairInParallel(t *testing.T) {
	rules(t, 3, ruleOf("r", healing), func(t *testing.T, w *world) {
		most := 0
		w.on["mend"] = w.slow(&most)
		one := alertEvent(w, "firing", "pod-1", 1)
		time.Sleep(time.Second)
		two := alertEvent(w, "firing", "pod-2", 2)
		a, b := w.ended(one+"-r"), w.ended(two+"-r")
		if a.State != run.Succeeded || b.State != run.Succeeded || most != 1 || fmt.Sprint(a.Targets) != "[shop]" {
			t.Errorf("%s and %s, at most %d at once, targets %v", a.State, b.State, most, a.Targets)
		}
	})
}

// TestAnAlertsRuleWithoutLimitsGetsThreeAnHour for each target.
func TestAnAlertsRuleWithoutLimitsGetsThreeAnHour(t *testing.T) {
	rules(t, 2, ruleOf("r", healing+"  onFailure: [{id: tell, uses: do}]\n"), func(t *testing.T, w *world) {
		var got []string
		told := 0
		for n := range 6 {
			r := w.ended(alertEvent(w, "firing", "pod", n) + "-r")
			got = append(got, string(r.State)+" "+r.Reason)
			if r.Step(run.OnFailure, "tell") != nil {
				told++
			}
			time.Sleep(time.Minute)
		}
		want := "succeeded  succeeded  succeeded  refused LimitReached refused LimitReached refused LimitReached"
		if strings.Join(got, " ") != want || told != 1 {
			t.Errorf("%q, told %d times", got, told)
		}
	})
}

const resolving = healing + "  verify: {resolved: true, for: 2m, within: 15m}\n"

// TestARunThatSucceededWhileTheAlertStillFiresIsNotRemediated: the script exits with 0, and the problem stays.
func TestARunThatSucceededWhileTheAlertStillFiresIsNotRemediated(t *testing.T) {
	rules(t, 2, ruleOf("r", resolving), func(t *testing.T, w *world) {
		r := w.ended(alertEvent(w, "firing", "pod-1", 1) + "-r")
		if r.State != run.Failed || r.Reason != run.ReasonUnverified || r.Step(run.Main, "fix").State != run.StepSucceeded {
			t.Errorf("%s %s: %s", r.State, r.Reason, steps(r))
		}
	})
}

func TestAnAlertThatIsResolvedAfterTheRepairIsSuccess(t *testing.T) {
	rules(t, 2, ruleOf("r", resolving), func(t *testing.T, w *world) {
		id := alertEvent(w, "firing", "pod-1", 1) + "-r"
		w.waits(id, run.Verifying)
		time.Sleep(5 * time.Minute)
		alertEvent(w, "resolved", "pod-1", 2)
		r := w.ended(id)
		if took := r.EndedAt.Sub(r.Verified.Since); r.State != run.Succeeded || took != 7*time.Minute {
			t.Errorf("%s %s after %s", r.State, r.Reason, took)
		}
	})
}

// TestTheOldPodsAlertResolvingWhileTheNewPodCrashesIsNoSuccess: what the repair replaces has another name afterwards.
func TestTheOldPodsAlertResolvingWhileTheNewPodCrashesIsNoSuccess(t *testing.T) {
	rules(t, 2, ruleOf("r", resolving), func(t *testing.T, w *world) {
		id := alertEvent(w, "firing", "pod-1", 1) + "-r"
		w.waits(id, run.Verifying)
		time.Sleep(time.Minute)
		alertEvent(w, "resolved", "pod-1", 2)
		time.Sleep(time.Minute)
		alertEvent(w, "firing", "pod-2", 3)
		r := w.ended(id)
		if r.State != run.Failed || r.Reason != run.ReasonUnverified || fmt.Sprint(r.Alert.Firing) != "[pod-2]" {
			t.Errorf("%s %s: %+v", r.State, r.Reason, r.Alert)
		}
	})
}

// TestAnAlertThatIsResolvedBeforeTheRepairCancelsIt: the run waits for its turn, and is not needed any more.
func TestAnAlertThatIsResolvedBeforeTheRepairCancelsIt(t *testing.T) {
	rules(t, 2, ruleOf("r", healing), func(t *testing.T, w *world) {
		most := 0
		w.on["mend"] = w.slow(&most)
		one := alertEvent(w, "firing", "pod-1", 1)
		time.Sleep(time.Second)
		two := alertEvent(w, "firing", "pod-2", 2)
		time.Sleep(time.Second)
		alertEvent(w, "resolved", "pod-1", 3)
		alertEvent(w, "resolved", "pod-2", 4)
		a, b := w.ended(one+"-r"), w.ended(two+"-r")
		if a.State != run.Succeeded { // it had begun, and goes on to its end
			t.Errorf("the first is %s %s", a.State, a.Reason)
		}
		if b.State != run.Cancelled || b.Reason != run.ReasonResolved || w.acts[b.ID+"/fix"] != 0 {
			t.Errorf("the second is %s %s", b.State, b.Reason)
		}
	})
}

// TestARepeatOfAFiringAlertDoesNotRestartItsFailedRun: a monitoring sender repeats what it has said, and that is no redelivery.
func TestARepeatOfAFiringAlertDoesNotRestartItsFailedRun(t *testing.T) {
	rules(t, 1, ruleOf("r", healing), func(t *testing.T, w *world) {
		w.on["mend"] = func(context.Context, *action.Call) (action.Outputs, error) { return nil, errors.New("it broke") }
		id := alertEvent(w, "firing", "pod-1", 1)
		r := w.ended(id + "-r")
		alertEvent(w, "firing", "pod-1", 1) // with the same id
		time.Sleep(time.Hour)
		if again := w.run(r.ID); r.State != run.Failed || again.Attempt != 1 || w.acts[r.ID+"/fix"] != 1 {
			t.Errorf("%s, then attempt %d, fixed %d times", r.State, again.Attempt, w.acts[r.ID+"/fix"])
		}
	})
}

func TestAStormStopsAllHealingAndOneNoticeGoesOut(t *testing.T) {
	text := ruleOf("r", "  trigger: {type: alert.firing}\n  limits: [{runs: 1000, per: 1h}]\n  steps: [{id: fix, uses: fix, with: {target: \"${{ event.subject }}\"}}]\n  onFailure: [{id: tell, uses: do}]\n") +
		ruleOf("notice", "  trigger: {source: riposte, type: storm.*}\n  steps: [{id: a, uses: do}]\n")
	rules(t, 2, text, func(t *testing.T, w *world) {
		var ids []string
		for n := range 100 {
			ids = append(ids, alertEvent(w, "firing", fmt.Sprint("pod-", n), n)+"-r")
		}
		got, told := map[string]int{}, 0
		for _, id := range ids {
			r := w.ended(id)
			got[string(r.State)+r.Reason]++
			if r.Step(run.OnFailure, "tell") != nil {
				told++
			}
		}
		if fmt.Sprint(got, told) != "map[refusedStormBrake:40 succeeded:60] 1" {
			t.Errorf("%v, told %d times", got, told)
		}
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		notices := ""
		for _, segment := range w.segments {
			for _, r := range segment {
				if r.Kind == event.KindEvent && r.Event.Source == event.OwnSource {
					notices += r.Event.Type + " "
				}
			}
		}
		w.mu.Unlock()
		if notices != "storm.began storm.ended " {
			t.Errorf("notices: %q", notices)
		}
	})
}

// TestALostOwnerGivesNothingAway: owners crash and change while runs hold a group and a target, and all of them end.
func TestALostOwnerGivesNothingAway(t *testing.T) {
	text := grouped("queue") + ruleOf("h", healing)
	source := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n"
	for _, kind := range []fault{crashBefore, crashAfter} {
		for n, reached := 0, true; reached && !t.Failed(); n++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, loadRules(t, source+text))
				w.purge = true
				w.on["slow"] = func(context.Context, *action.Call) (action.Outputs, error) { time.Sleep(time.Second); return nil, nil }
				w.on["mend"] = w.on["slow"]
				for k := range 3 {
					w.sendNow("go", "x", k)
					alertEvent(w, "firing", fmt.Sprint("pod-", k), k)
				}
				reached = false
				w.live("a", crashes(n, kind, &reached))
				w.live("a", nil)
				for id, r := range w.runs {
					if r.State != run.Succeeded {
						t.Errorf("crash %v at %d: %s is %s %s %s", kind, n, id, r.State, r.Reason, r.Message)
					}
				}
			})
			if n > 300 {
				t.Fatal("operations never end")
			}
		}
	}
}

// TestAStoreThatStallsForHalfAMinute holds runs up, and nothing is lost or done twice.
func TestAStoreThatStallsForHalfAMinute(t *testing.T) {
	source := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, loadRules(t, source+grouped("queue")+ruleOf("h", healing)))
		w.on["slow"] = func(context.Context, *action.Call) (action.Outputs, error) { time.Sleep(time.Second); return nil, nil }
		w.on["mend"] = w.on["slow"]
		r := w.boot("a").grantAll()
		for k := range 3 {
			w.sendNow("go", "x", k)
			alertEvent(w, "firing", fmt.Sprint("pod-", k), k)
		}
		time.Sleep(500 * time.Millisecond)
		w.update(func() { r.gate = make(chan struct{}) })
		time.Sleep(30 * time.Second)
		w.update(r.open)
		w.await("an end of all runs", w.settled)
		for id, got := range w.runs {
			if got.State != run.Succeeded {
				t.Errorf("%s is %s %s %s", id, got.State, got.Reason, got.Message)
			}
		}
		for step, n := range w.acts {
			if n != 1 {
				t.Errorf("%s was done %d times", step, n)
			}
		}
		r.stop()
	})
}

// TestTheEndOfARunStandsThoughItsOwnerDies after what the run held was given back: its time-out is over when the next comes.
func TestTheEndOfARunStandsThoughItsOwnerDies(t *testing.T) {
	source := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, loadRules(t, source+ruleOf("r", onGo+"  concurrency: {group: g}\n  timeout: 10m\n  steps: [{id: a, uses: do}]\n")))
		r := w.boot("a")
		r.fault = func(string) fault {
			if entries := w.parts[0].entries(); len(entries) > 0 && entries[len(entries)-1].Kind == run.Settled {
				return crashBefore
			}
			return none
		}
		r.grantAll()
		id := w.sendNow("go", "x", 1) + "-r"
		<-r.done
		time.Sleep(time.Hour)
		r = w.boot("b").grantAll()
		if got := w.ended(id); got.State != run.Succeeded || w.acts[id+"/a"] != 1 {
			t.Errorf("%s %s %s", got.State, got.Reason, got.Message)
		}
		next := w.sendNow("go", "x", 2) + "-r"
		if got := w.ended(next); got.State != run.Succeeded {
			t.Errorf("the next of the group: %s %s", got.State, got.Message)
		}
		r.stop()
	})
}

// TestAPanicEndsItsRunAlone: it is told of, what the run holds is given back, and a restart does not meet it again.
func TestAPanicEndsItsRunAlone(t *testing.T) {
	rules(t, 2, ruleOf("r", onGo+`
  concurrency: {group: g}
  steps: [{id: a, uses: do}, {id: b, uses: frail, with: {do: "x ${{ event.subject }}", target: t}}]
  onFailure: [{id: tell, uses: do}, {id: frail, uses: frail, with: {do: "x ${{ event.subject }}", target: t}}]
  finally: [{id: clean, uses: do}]
`)+ruleOf("other", onGo+"  concurrency: {group: g}\n  steps: [{id: a, uses: do}]\n"), func(t *testing.T, w *world) {
		id := w.sendNow("go", "x", 1)
		got := w.ended(id + "-r")
		if got.State != run.Failed || got.Reason != run.ReasonInternalError || !strings.Contains(got.Message, "no quote should") {
			t.Errorf("%s %s %s", got.State, got.Reason, got.Message)
		}
		if w.acts[got.ID+"/tell"] != 1 || w.acts[got.ID+"/clean"] != 1 {
			t.Errorf("done were %v", w.acts)
		}
		if other := w.ended(id + "-other"); other.State != run.Succeeded {
			t.Errorf("the other run of the group: %s %s", other.State, other.Message)
		}
	})
}

// TestAWindowThatAnAlertCompletesIsBoundedAsAnAlertsRuleIs, and its run goes on though that alert is resolved: it was one of several.
func TestAWindowThatAnAlertCompletesIsBoundedAsAnAlertsRuleIs(t *testing.T) {
	rules(t, 2, ruleOf("r", `
  trigger: {type: alert.firing}
  correlate: {count: 2, within: 1h, by: event.alert.labels.app}
  steps: [{id: a, uses: fix, with: {do: mend, target: shop}}]
`), func(t *testing.T, w *world) {
		w.on["mend"] = func(context.Context, *action.Call) (action.Outputs, error) { time.Sleep(time.Second); return nil, nil }
		for n := range 8 {
			alertEvent(w, "firing", "pod", 2*n)
			alertEvent(w, "resolved", "pod", 2*n+1)
			time.Sleep(time.Minute)
		}
		w.await("four runs", func() bool { return len(w.runs) == 4 && w.settled() })
		states := map[string]int{}
		for _, r := range w.runs {
			states[string(r.State)+" "+r.Reason]++
		}
		if states["succeeded "] != 3 || states["refused LimitReached"] != 1 {
			t.Errorf("they ended as %v", states)
		}
	})
}

// TestNewerWorkDoesNotCutOffWhatCleansUp: it waits for it. A run that puts things back and then tells of it starts newer work itself.
func TestNewerWorkDoesNotCutOffWhatCleansUp(t *testing.T) {
	rules(t, 2, ruleOf("r", onGo+`
  concurrency: {group: g, policy: cancel}
  steps: [{id: a, uses: do, with: {do: fail}}]
  finally: [{id: back, uses: do, with: {do: slow}}, {id: tell, uses: do}]
`), func(t *testing.T, w *world) {
		most := 0
		w.on["slow"] = w.slow(&most)
		first := w.sendNow("go", "x", 1) + "-r"
		w.began(first, "back", 1)
		second := w.sendNow("go", "x", 2) + "-r"
		got := w.ended(first)
		for _, id := range []string{"back", "tell"} {
			if s := got.Step(run.Finally, id); s == nil || s.State != run.StepSucceeded {
				t.Errorf("%s: %+v", id, s)
			}
		}
		if got.State != run.Failed {
			t.Errorf("the first ended as %s %s", got.State, got.Reason)
		}
		if next := w.ended(second); next.StartedAt.Before(got.EndedAt) {
			t.Errorf("the second began at %s, and the first ended at %s", next.StartedAt, got.EndedAt)
		}
	})
}
