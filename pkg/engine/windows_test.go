package engine

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

const windowRules = `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: src}
spec: {type: fake}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: thrice}
spec:
  trigger: {type: error}
  correlate: {count: 3, within: 10m, by: event.subject}
  steps: [{id: a, uses: do}, {id: b, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: rollback}
spec:
  correlate:
    within: 15m
    by: event.subject
    sequence:
    - {as: deploy, trigger: {type: deploy}}
    - {as: alert, trigger: {type: error}}
  steps: [{id: a, uses: do, if: correlated.deploy.type == "deploy" && correlated.alert.subject == correlated.key}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: silent}
spec:
  correlate:
    within: 5m
    by: event.subject
    absence:
    - {as: deploy, trigger: {type: deploy}}
    - {as: done, trigger: {type: done}}
  steps: [{id: a, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: digest}
spec:
  trigger: {type: error}
  correlate: {collect: true, within: 2m}
  steps: [{id: a, uses: do, if: len(correlated.events) == 5 && correlated.rest == 0}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: plain}
spec:
  trigger: {type: deploy}
  steps: [{id: a, uses: do}]
`

// occurs is an event about a service, so long after the beginning.
func occurs(at time.Duration, kind, service string) event.Record {
	r := eventOf(kind, int(at.Seconds()))
	r.Event.Subject, r.Event.ReceivedAt = service, time.Now().Add(at)
	return r
}

// incident is the events of a bad quarter of an hour.
func (w *world) incident() {
	w.append(occurs(1*time.Second, "deploy", "shop"), occurs(2*time.Second, "deploy", "cart"))
	w.append(occurs(10*time.Second, "error", "shop"), occurs(11*time.Second, "error", "cart"), occurs(12*time.Second, "done", "cart"))
	w.append(occurs(13*time.Second, "error", "shop"))
	w.append(occurs(13*time.Second, "error", "shop"), occurs(14*time.Second, "error", "shop")) // the first is a duplicate
	w.append(occurs(15*time.Second, "error", "cart"))
}

// wantRuns are the runs of an incident: three errors of the shop; two deploys that are followed by one; the deploy of the
// shop that is never done; one digest of all; and the two of the rule that looks at single events.
var wantRuns = map[string]int{"thrice": 1, "rollback": 2, "silent": 1, "digest": 1, "plain": 2}

func (w *world) byRule() map[string]int {
	got := map[string]int{}
	for _, r := range w.runs {
		if r.State.Ended() {
			got[r.Rule]++
		}
	}
	return got
}

func (w *world) handled() bool { return w.settled() && fmt.Sprint(w.byRule()) == fmt.Sprint(wantRuns) }

// checkIncident checks the runs of an incident, whatever crashed; it waits for more of them, which must not come.
func (w *world) checkIncident() {
	time.Sleep(time.Hour) // of the bubble's clock
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.byRule(); fmt.Sprint(got) != fmt.Sprint(wantRuns) {
		w.t.Errorf("runs %v, want %v", got, wantRuns)
	}
	for id, r := range w.runs {
		if r.State != run.Succeeded {
			w.t.Errorf("run %s is %s (%s: %s)", id, r.State, r.Reason, r.Message)
		}
		for _, s := range r.Steps {
			if s.State != run.StepSucceeded {
				w.t.Errorf("run %s, step %s is %s: %s", id, s.ID, s.State, s.Error)
			}
		}
	}
}

func TestWindowsFireOnceWhateverCrashes(t *testing.T) {
	set := loadRules(t, windowRules)
	for _, kind := range []fault{crashBefore, crashAfter} {
		t.Run(map[fault]string{crashBefore: "before", crashAfter: "after"}[kind]+" the write", func(t *testing.T) {
			for n, reached := 0, true; reached && !t.Failed(); n++ {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 3, set)
					w.purge, w.forgetful = true, true
					w.incident()
					reached = false
					r := w.boot("a")
					r.fault = crashes(n, kind, &reached)
					r.grantAll()
					w.await("the end of the incident", func() bool { return r.dead || w.handled() })
					w.mu.Lock()
					crashed := r.dead
					w.mu.Unlock()
					if crashed {
						r = w.boot("b").grantAll()
						w.await("the end of the incident", w.handled)
					}
					w.checkIncident()
					r.kill()
					reached = reached && crashed
				})
				if t.Failed() {
					t.Logf("the crash was at operation %d", n)
				}
			}
		})
	}
}

func TestWindowsThatEndedMeanwhileFireOnceAtTheStart(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, set)
		w.incident()
		r := w.boot("a").grantAll()
		w.await("what single events decide", func() bool { return w.byRule()["rollback"] == 2 && w.settled() })
		time.Sleep(20 * time.Second) // so that checkpoints are written
		r.stop()
		time.Sleep(24 * time.Hour)
		heir := w.boot("b").grantAll()
		w.await("the end of the incident", w.handled)
		w.checkIncident()
		heir.stop()
	})
}

// Their runs are more than fit into one entry of the journal, and a crash can come between two.
func TestThousandsOfWindowsEndTogetherAndFireOnce(t *testing.T) {
	const services = 1200
	set := loadRules(t, windowRules)
	for _, kind := range []fault{none, crashBefore, crashWithin, crashAfter} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			for i := range services {
				w.append(occurs(time.Duration(i)*time.Microsecond, "deploy", fmt.Sprintf("%d %s", i, strings.Repeat("s", 1000))))
				w.segments[len(w.segments)-1][0].Event.ID = event.ID("deploy", fmt.Sprint(i))
			}
			r := w.boot("a").grantAll()
			w.await("the deploys", func() bool { return w.settled() && w.byRule()["plain"] == services })
			time.Sleep(20 * time.Second) // so that checkpoints are written
			met := false
			w.update(func() {
				r.fault = func(op string) fault {
					if op != "append" || met {
						return none
					}
					met = true
					return kind
				}
			})
			if kind != none {
				w.await("the crash", func() bool { return r.dead })
				r = w.boot("b").grantAll()
			}
			w.await("what none of them was followed by", func() bool { return w.settled() && w.byRule()["silent"] == services })
			r.stop()
		})
	}
}

func TestSeveralReplicasFireOnce(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, set)
		one, two := w.boot("one"), w.boot("two")
		one.grant(0)
		one.grant(1)
		two.grant(2)
		w.incident()
		w.await("some of it", func() bool { return w.byRule()["rollback"] > 0 })
		one.kill()
		two.grant(0)
		two.grant(1)
		w.await("the end of the incident", w.handled)
		w.checkIncident()
		two.stop()
	})
}

// A rule whose correlate did not change keeps what it waits for when the rules are loaded anew; a changed one starts anew.
func TestWindowsSurviveAReloadOfTheRules(t *testing.T) {
	set := loadRules(t, windowRules)
	next := loadRules(t, strings.Replace(strings.Replace(windowRules,
		"{id: a, uses: do}, {id: b, uses: do}]", "{id: a, uses: do}]", 1), // thrice does something else
		"{collect: true, within: 2m}", "{collect: true, within: 3m}", 1)) // digest waits for something else
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, set)
			r := w.boot("a").grantAll()
			w.append(occurs(1*time.Second, "error", "shop"), occurs(2*time.Second, "error", "shop"))
			w.await("both", w.settled)
			if restart {
				time.Sleep(20 * time.Second)
				r.stop()
				r = w.boot("b").grantAll()
			}
			w.activate(next)
			w.append(occurs(30*time.Second, "error", "shop"))
			w.await("the third", func() bool { return w.byRule()["thrice"] == 1 })
			time.Sleep(time.Hour)
			w.mu.Lock()
			for _, run := range w.runs {
				switch {
				case run.Rule == "thrice" && (len(run.Steps) != 1 || len(run.Events) != 3 || run.Key != "shop"):
					t.Errorf("%+v", run)
				case run.Rule == "digest" && len(run.Events) != 1:
					t.Errorf("the digest goes on with what another one gathered: %+v", run.Events)
				}
			}
			w.mu.Unlock()
			r.stop()
		})
	}
}

// Other bounds hold from the reload on, also for the groups that wait already.
func TestAReloadChangesHowManyGroupsWait(t *testing.T) {
	set := loadRules(t, windowRules)
	next := loadRules(t, strings.Replace(windowRules, "{count: 3, within: 10m, by: event.subject}", "{count: 3, within: 10m, by: event.subject, maxGroups: 2}", 1))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		r := w.boot("a").grantAll()
		for i := range 5 {
			w.append(occurs(time.Duration(2*i)*time.Second, "error", fmt.Sprint("s", i)), occurs(time.Duration(2*i+1)*time.Second, "error", fmt.Sprint("s", i)))
		}
		w.await("all", w.settled)
		w.activate(next)
		w.append(occurs(20*time.Second, "error", "s1"), occurs(21*time.Second, "error", "s4"))
		w.await("the third of one that was kept", func() bool { return w.settled() && w.byRule()["thrice"] == 1 })
		w.mu.Lock()
		for _, run := range w.runs {
			if run.Rule == "thrice" && run.Key != "s4" {
				t.Errorf("a group that was dropped fires: %+v", run)
			}
		}
		w.mu.Unlock()
		r.stop()
	})
}

func TestWhatAnEventTookPartInIsSaid(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, set)
		r := w.boot("a").grantAll()
		e, lost := occurs(time.Second, "error", "shop"), occurs(2*time.Second, "error", "")
		w.append(e, lost)
		w.await("both", w.settled)
		for id, want := range map[string][]string{
			e.Event.ID:    {`thrice: takes part, by "shop"`, `rollback.alert: takes part, by "shop"`, "digest: takes part"},
			lost.Event.ID: {"thrice: event.subject is absent", "digest: takes part"},
		} {
			for _, reason := range want {
				if why := w.decided[id].Why; !strings.Contains(why, reason) {
					t.Errorf("why is %q, want %q in it", why, reason)
				}
			}
		}
		r.stop()
	})
}

// The events that a window holds are kept in the log although they were decided long ago.
func TestTheLogKeepsWhatWindowsHold(t *testing.T) {
	set := loadRules(t, strings.Replace(windowRules, "within: 15m", "within: 6h", 1))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		w.purge, w.forgetful = true, true
		r := w.boot("a").grantAll()
		w.append(occurs(time.Second, "deploy", "shop"), occurs(2*time.Second, "done", "shop"))
		for i := range 10 {
			time.Sleep(10 * time.Minute)
			w.append(occurs(0, "other", fmt.Sprint(i)))
		}
		w.await("an end", w.settled)
		alert := occurs(time.Second, "error", "shop")
		w.append(alert)
		w.await("the rollback", func() bool { return w.byRule()["rollback"] == 1 })
		w.mu.Lock()
		i := slices.IndexFunc(slices.Collect(func(yield func(*run.Run) bool) {
			for _, r := range w.runs {
				yield(r)
			}
		}), func(r *run.Run) bool { return r.Rule == "rollback" && r.Reason == run.ReasonEventGone })
		w.mu.Unlock()
		if i >= 0 {
			t.Error("the deploy was purged")
		}
		r.stop()
	})
}

func TestAStoreThatFailsWhileWindowsAreStoredLosesNothing(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, set)
		r := w.boot("a")
		r.fault = func(op string) fault {
			if (op == "save" || op == "keep" || op == "tick") && w.seq%2 == 0 {
				return failAfter
			}
			return none
		}
		r.grantAll()
		w.incident()
		w.await("the end of the incident", w.handled)
		r.stop()
		heir := w.boot("b").grantAll()
		w.checkIncident()
		heir.stop()
	})
}

// A clock that leaps ends windows early, once; while it is back, log time stands still, so that late events count as of
// then, in whichever order they come, and a restart finds the same.
func TestWindowsWhenTheClockJumpsAndEventsAreLate(t *testing.T) {
	set := loadRules(t, windowRules)
	const year = 365 * 24 * time.Hour
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, set)
			r := w.boot("a").grantAll()
			w.append(occurs(time.Second, "deploy", "shop"), occurs(2*time.Second, "error", "cart"))
			w.append(occurs(year, "other", "leap"))
			w.await("what ended", func() bool { return w.settled() && w.byRule()["silent"] == 1 && w.byRule()["digest"] == 1 })
			if restart {
				time.Sleep(20 * time.Second) // so that checkpoints are written
				r.stop()
				r = w.boot("b").grantAll()
			}
			// Far from each other by their own times, and backwards; in the log they are together.
			w.append(occurs(5*time.Hour, "error", "shop"), occurs(3*time.Hour, "error", "shop"), occurs(4*time.Hour, "error", "shop"))
			w.await("three late ones", func() bool { return w.settled() && w.byRule()["thrice"] == 1 })
			w.append(occurs(year+time.Hour, "other", "on"))
			w.await("the second digest", func() bool { return w.settled() && w.byRule()["digest"] == 2 })
			time.Sleep(time.Hour)
			w.mu.Lock()
			if got := w.byRule(); got["silent"] != 1 || got["digest"] != 2 || got["thrice"] != 1 {
				t.Errorf("runs %v", got)
			}
			w.mu.Unlock()
			r.stop()
		})
	}
}

// Windows that are lost start anew, and a counter says so; what is decided goes on.
func TestLostWindowsAreCounted(t *testing.T) {
	set := loadRules(t, windowRules)
	for name, tt := range map[string]struct {
		lose func(states map[string][]byte)
		want map[string]float64
	}{
		"gone": {func(states map[string][]byte) { clear(states) }, map[string]float64{"partition": 1}},
		"damaged": {func(states map[string][]byte) {
			for name, data := range states {
				data = bytes.Clone(data)
				data[bytes.Index(data, []byte("rcorr"))+12] ^= 1 // in the state of the first rule
				states[name] = data
			}
		}, map[string]float64{"rule": 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			r := w.boot("a").grantAll()
			w.append(occurs(time.Second, "error", "shop"), occurs(2*time.Second, "error", "shop"))
			w.await("both", w.settled)
			time.Sleep(20 * time.Second) // so that checkpoints are written
			r.stop()
			w.update(func() { tt.lose(w.states) })
			metrics := prometheus.NewRegistry()
			heir := w.boot("b", func(o *Options) { o.Registerer = metrics }).grantAll()
			for i := range 3 {
				w.append(occurs(time.Duration(30+i)*time.Second, "error", "shop"))
			}
			w.await("a count from zero", func() bool { return w.byRule()["thrice"] == 1 })
			if got := counts(t, metrics, "riposte_correlate_lost_total"); !maps.Equal(got, tt.want) {
				t.Errorf("%s: counted %v, want %v", name, got, tt.want)
			}
			heir.stop()
		})
	}
}

func FuzzReadStates(f *testing.F) {
	m, err := (&partition{}).newMachine(loadRules(f, windowRules).Rule("thrice"), false)
	if err != nil {
		f.Fatal(err)
	}
	var out stateWriter
	if err := out.add(m, true); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte{1, 0, 0, 0, 9})
	f.Fuzz(func(_ *testing.T, data []byte) { _ = readStates(data, map[string]stored{}) })
}
