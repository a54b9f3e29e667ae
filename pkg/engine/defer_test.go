package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

const pushRule = `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: touched}
spec:
  trigger: {type: "push.*"}
  when: changed("docs/**")
  steps: [{id: a, uses: do}, {id: b, uses: harm, if: 'changed("docs/a")'}]
`

const pushRules = `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: src}
spec: {type: fake}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: untouched}
spec:
  trigger: {type: "push.*"}
  when: changed("other/**")
  steps: [{uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: twice}
spec:
  trigger: {type: push.a}
  correlate: {count: 2, within: 1h}
  steps: [{uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: plain}
spec:
  trigger: {type: odd}
  steps: [{uses: do}]
` + pushRule

// docs is a diff that always finds the same.
func docs(context.Context, *replica, event.Comparison) ([]string, error) {
	return []string{"docs/a", "src/b"}, nil
}

// flakyDiff fails at random, and takes its time.
func flakyDiff(seed uint64) func(context.Context, *replica, event.Comparison) ([]string, error) {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 3))
	return func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
		mu.Lock()
		wait, fails := time.Duration(rng.IntN(20))*time.Second, rng.IntN(3) > 0
		mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if fails {
			return nil, errors.New("the remote does not answer")
		}
		return docs(ctx, r, c)
	}
}

func (w *world) decision(id string) run.Entry {
	w.t.Helper()
	w.await("a decision of "+id, func() bool { _, ok := w.decided[id]; return ok })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.decided[id]
}

// TestTheLogGoesOnWhileADiffIsMade has a remote that hangs, and a rule set that is replaced meanwhile.
func TestTheLogGoesOnWhileADiffIsMade(t *testing.T) {
	set, next := loadRules(t, pushRules), loadRules(t, strings.Replace(pushRules, `changed("docs/**")`, `changed("nothing")`, 1))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		answer := make(chan struct{})
		asked := make(chan event.Comparison, 8)
		w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
			asked <- c
			<-answer
			return docs(ctx, r, c)
		}
		r := w.boot("a").grantAll()
		push, other := eventOf("push.a", 1), eventOf("odd", 1)
		w.append(push, other)
		if c := <-asked; c.CloneURL != "a" || c.Commit != push.Event.ID || c.Before != "before" {
			t.Errorf("asked for %+v", c)
		}
		w.ended(other.Event.ID + "-plain")
		w.activate(next)
		w.append(eventOf("odd", 2))
		w.ended(eventOf("odd", 2).Event.ID + "-plain")
		time.Sleep(20 * time.Second) // checkpoints are written
		if answered, known := r.engine.Answered(t.Context(), push.Event.ID, event.Pos{Seq: 2}); answered || !known {
			t.Errorf("an event that waits counts as answered: %t, %t", answered, known)
		}
		close(answer)
		d := w.decision(push.Event.ID)
		if d.Revision != set.Revision || d.Position() != (event.Pos{Seq: 2}) || len(d.Runs) != 1 || d.Runs[0].Rule != "touched" || d.Why != "" {
			t.Errorf("decided %+v", d)
		}
		if d.Changed == nil || !slices.Equal(d.Changed.List, []string{"docs/a", "listed", "src/b"}) {
			t.Errorf("the decision says that %+v changed", d.Changed)
		}
		touched := w.ended(push.Event.ID + "-touched")
		if touched.RuleRevision != set.Revision || len(touched.Steps) != 2 || touched.Steps[1].State != run.StepSucceeded {
			t.Errorf("%+v", touched)
		}
		r.stop()
	})
}

// TestStepsAskForPathsAfterARestart: a run goes on elsewhere with the paths that were found before.
func TestStepsAskForPathsAfterARestart(t *testing.T) {
	set := loadRules(t, strings.Replace(pushRules, "{id: a, uses: do}, {id: b", "{id: a, uses: do, with: {do: wait}, onInterrupt: retry}, {id: b", 1))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		w.diff = docs
		w.on["wait"] = block
		r := w.boot("a").grantAll()
		push := eventOf("push.b", 1)
		w.append(push)
		w.began(push.Event.ID+"-touched", "a", 1)
		r.kill()
		w.on["wait"] = func(context.Context, *action.Call) (action.Outputs, error) { return action.Outputs{}, nil }
		heir := w.boot("b").grantAll()
		touched := w.ended(push.Event.ID + "-touched")
		if len(touched.Steps) != 2 || touched.Steps[1].State != run.StepSucceeded {
			t.Errorf("%+v", touched)
		}
		heir.stop()
	})
}

// TestOnlyEventsThatNeedADiffWait: no rule asks, or the sender's list is enough.
func TestOnlyEventsThatNeedADiffWait(t *testing.T) {
	set := loadRules(t, strings.NewReplacer(`changed("docs/**")`, `changed("listed")`, `changed("docs/a")`, "true", `changed("other/**")`, `event.type == "push.x" && changed("other/**")`).Replace(pushRules))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, set)
		w.diff = func(context.Context, *replica, event.Comparison) ([]string, error) {
			t.Error("a diff is made")
			return nil, nil
		}
		r := w.boot("a").grantAll()
		push := eventOf("push.b", 1)
		w.append(push, eventOf("odd", 1))
		w.await("an end", w.settled)
		if d := w.decision(push.Event.ID); len(d.Runs) != 1 || d.Changed != nil {
			t.Errorf("decided %+v", d)
		}
		r.stop()
	})
}

func counts(t *testing.T, r *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return out
}

func TestADiffThatFailsIsTriedForTenMinutes(t *testing.T) {
	set := loadRules(t, pushRules)
	for _, tt := range []struct {
		name     string
		err      error
		after    time.Duration
		attempts float64
		why      string
	}{
		// 1+2+4+8+16 s, then each 30 s, and once more at the end.
		{"unreachable", errors.New("the remote does not answer hunter2"), 10 * time.Minute, 25, "the changed paths could not be found: the remote does not answer ***"},
		{"settled", action.Permanent(errors.New("nobody can tell")), 0, 1, "the changed paths could not be found: nobody can tell"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			attempts := 0.
			w.diff = func(context.Context, *replica, event.Comparison) ([]string, error) { attempts++; return nil, tt.err }
			metrics := prometheus.NewRegistry()
			r := w.boot("a", func(o *Options) { o.Registerer = metrics }).grantAll()
			push := eventOf("push.b", 1)
			began := time.Now()
			w.append(push)
			d := w.decision(push.Event.ID)
			if took := time.Since(began); took < tt.after || took > tt.after+5*time.Second {
				t.Errorf("%s: decided after %s", tt.name, took)
			}
			if len(d.Runs) != 0 || !strings.HasPrefix(d.Why, tt.why) || !strings.Contains(d.Why, "touched: changed()") || d.Changed != nil {
				t.Errorf("%s: decided %+v", tt.name, d)
			}
			got := counts(t, metrics, "riposte_changed_diffs_total")
			if attempts != tt.attempts || got["failed"] != tt.attempts-1 || got["givenUp"] != 1 {
				t.Errorf("%s: %v attempts, counted as %v", tt.name, attempts, got)
			}
			if absent := counts(t, metrics, "riposte_rule_errors_total"); absent["touched"] != 1 || absent["untouched"] != 1 {
				t.Errorf("%s: rules that could not be decided: %v", tt.name, absent)
			}
			r.stop()
		})
	}
}

// TestAHangingDiffEndsInTime bounds an attempt that never comes back by itself.
func TestAHangingDiffEndsInTime(t *testing.T) {
	set := loadRules(t, pushRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		w.diff = func(ctx context.Context, _ *replica, _ event.Comparison) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := w.boot("a").grantAll()
		began := time.Now()
		push := eventOf("push.b", 1)
		w.append(push)
		if d := w.decision(push.Event.ID); time.Since(began) > 10*time.Minute+time.Second || !strings.Contains(d.Why, "deadline exceeded") {
			t.Errorf("after %s: %+v", time.Since(began), d)
		}
		r.stop()
	})
}

// TestAHangingHostHoldsUpNobody: where a remote hangs, all events that wait for it are given up soon after their ten
// minutes, and not one after the other; another host is asked meanwhile.
func TestAHangingHostHoldsUpNobody(t *testing.T) {
	set := loadRules(t, strings.ReplaceAll(pushRules, `"push.*"`, `["push.*/*", "push.*/*/*/*", "push.*/*/*/*/*"]`))
	for name, repository := range map[string]func(i int) string{
		"one repository":   func(int) string { return "https://git.example.com/acme/shop" },
		"many of one host": func(i int) string { return fmt.Sprint("https://git.example.com/acme/s", i) },
		"some, by SSH":     func(i int) string { return fmt.Sprint("git@git.example.com:acme/s", i%10) },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3, set)
			w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
				if c.CloneURL == "https://other.example.com/x" {
					return docs(ctx, r, c)
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			r := w.boot("a").grantAll()
			began := time.Now()
			for i := range 60 {
				w.append(eventOf("push."+repository(i), i))
				time.Sleep(time.Second)
			}
			other := eventOf("push.https://other.example.com/x", 1)
			w.append(other)
			if d := w.decision(other.Event.ID); len(d.Runs) != 1 || time.Since(began) > 2*time.Minute {
				t.Errorf("%s: another host is asked after %s: %+v", name, time.Since(began), d)
			}
			for i := range 60 {
				d := w.decision(eventOf("push."+repository(i), i).Event.ID)
				if !strings.Contains(d.Why, "the changed paths could not be found") {
					t.Errorf("%s: %+v", name, d)
				}
			}
			if took := time.Since(began); took > 14*time.Minute {
				t.Errorf("%s: the last event was decided after %s", name, took)
			}
			r.stop()
		})
	}
}

// A host that answers again is asked for each event, also for one whose time is over.
func TestAHostThatAnswersAgainIsAsked(t *testing.T) {
	f := newFlights(maxDiffs)
	now := time.Now()
	late := &deferred{repository: "https://a.example.com/x", until: now.Add(-time.Minute)}
	early := &deferred{repository: late.repository, until: now.Add(time.Hour)}
	f.hung("https://a.example.com/1")
	f.hung("https://a.example.com/2")
	f.hung("https://b.example.com/3")
	if f.hangs(late) {
		t.Error("two other repositories say that the host hangs")
	}
	f.hung("https://a.example.com/3")
	if !f.hangs(late) || f.hangs(early) {
		t.Errorf("three repositories hang: late %t, early %t", f.hangs(late), f.hangs(early))
	}
	f.answers("https://a.example.com/9")
	if f.hangs(late) {
		t.Error("a host that answered hangs")
	}
	f.hung(late.repository)
	if !f.hangs(late) {
		t.Error("its own repository hangs")
	}
	for i := range 3 * maxHanging {
		f.hung(fmt.Sprint("https://c.example.com/", i))
	}
	if len(f.hanging) > maxHanging {
		t.Errorf("%d repositories are known to hang", len(f.hanging))
	}
}

// TestAServerThatWasDownTriesOnce: its ten minutes are over, but nobody has asked the remote.
func TestAServerThatWasDownTriesOnce(t *testing.T) {
	set := loadRules(t, pushRules)
	for _, works := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			w.diff = func(context.Context, *replica, event.Comparison) ([]string, error) { return nil, errors.New("not yet") }
			r := w.boot("a").grantAll()
			push := eventOf("push.b", 1)
			w.append(push)
			w.await("a deferral", func() bool { return len(w.deferred) == 1 })
			time.Sleep(20 * time.Second)
			r.kill()
			time.Sleep(5 * time.Hour)
			if works {
				w.diff = docs
			}
			heir := w.boot("b").grantAll()
			began := time.Now()
			if d := w.decision(push.Event.ID); (len(d.Runs) == 1) != works || time.Since(began) > time.Second {
				t.Errorf("after %s: %+v", time.Since(began), d)
			}
			w.await("an end", w.settled)
			heir.stop()
		})
	}
}

// crashDeferred runs events of which most need a diff through processes that crash at the given operations.
func crashDeferred(t *testing.T, set *rule.Set, kind fault, ops ...int) (reached bool) {
	w := newWorld(t, 2, set)
	w.purge = true
	tries := map[string]int{}
	w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
		w.mu.Lock()
		tries[c.Commit]++
		n := tries[c.Commit]
		w.mu.Unlock()
		time.Sleep(time.Second)
		if n%2 == 1 {
			return nil, errors.New("try again")
		}
		return docs(ctx, r, c)
	}
	w.append(eventOf("push.a", 1), eventOf("odd", 1), eventOf("push.b", 1))
	w.append(eventOf("push.a", 1), eventOf("push.a", 2)) // the first is a duplicate
	for _, n := range ops {
		reached = false
		w.live("a", crashes(n, kind, &reached))
	}
	w.live("a", nil)
	heir := w.boot("b").grantAll()
	time.Sleep(time.Minute)
	heir.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := map[string]int{}
	for id, r := range w.runs {
		got[r.Rule]++
		if r.State != run.Succeeded && (r.Rule != "touched" || r.Reason != run.ReasonInterrupted) {
			t.Errorf("run %s is %s: %s", id, r.State, r.Message)
		}
	}
	if fmt.Sprint(got) != "map[plain:1 touched:3 twice:1]" {
		t.Errorf("runs: %v", got)
	}
	for id, d := range w.decided {
		if Quarantined(d) || d.Changed == nil && len(d.Runs) > 0 && d.Runs[0].Rule == "touched" {
			t.Errorf("event %s: %+v", id, d)
		}
	}
	return reached
}

func TestACrashWhileEventsWaitForDiffs(t *testing.T) {
	set := loadRules(t, pushRules)
	for _, lead := range [][]int{nil, {7}} {
		for _, kind := range []fault{crashBefore, crashAfter} {
			t.Run(fmt.Sprintf("after %v, %s the write", lead, map[fault]string{crashBefore: "before", crashAfter: "after"}[kind]), func(t *testing.T) {
				for n, reached := 0, true; reached && !t.Failed(); n++ {
					synctest.Test(t, func(t *testing.T) { reached = crashDeferred(t, set, kind, append(slices.Clone(lead), n)...) })
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

// TestADiffUnderWayStopsWithItsOwner: on a stop, a handover and a lost lease it is cancelled, and the next owner makes it.
func TestADiffUnderWayStopsWithItsOwner(t *testing.T) {
	set := loadRules(t, pushRules)
	for name, leave := range map[string]func(*replica, *grant){
		"stop":       func(r *replica, _ *grant) { r.stop() },
		"handover":   func(_ *replica, g *grant) { close(g.handover); <-g.done },
		"lost lease": func(_ *replica, g *grant) { g.lose(errors.New("not renewed")); <-g.done },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			under := make(chan struct{}, 1)
			w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
				if r.name != "a" {
					return docs(ctx, r, c)
				}
				under <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			a, b := w.boot("a"), w.boot("b")
			g := a.grant(0)
			push := eventOf("push.b", 1)
			w.append(push)
			<-under
			began := time.Now()
			leave(a, g)
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s: it took %s to stop", name, took)
			}
			b.grant(0)
			if d := w.decision(push.Event.ID); len(d.Runs) != 1 {
				t.Errorf("%s: %+v", name, d)
			}
			w.await("an end", w.settled)
			a.stop()
			b.stop()
		})
	}
}

// TestAnEventWhoseDiffEndsTheProcessIsQuarantined counts crashes, and not the stops in between.
func TestAnEventWhoseDiffEndsTheProcessIsQuarantined(t *testing.T) {
	set := loadRules(t, pushRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		var poison string
		w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
			if c.Commit == poison {
				w.mu.Lock()
				defer w.mu.Unlock()
				return nil, r.crash()
			}
			return docs(ctx, r, c)
		}
		bad, good := eventOf("push.b", 1), eventOf("push.c", 1)
		poison = bad.Event.ID
		w.append(bad, good)
		lives := 0
		for over := false; !over; lives++ {
			r := w.boot("a").grantAll()
			w.await("a crash or an end", func() bool { return r.dead || w.settled() })
			w.mu.Lock()
			d, ok := w.decided[bad.Event.ID]
			over = ok
			w.mu.Unlock()
			if ok && !Quarantined(d) {
				t.Errorf("%+v", d)
			}
			if ok {
				w.ended(good.Event.ID + "-touched")
				r.stop()
			} else {
				r.kill()
			}
		}
		if lives != 4 { // one before it was suspected, two with a note
			t.Errorf("the process lived %d times", lives)
		}
	})
}

// TestStopsAreNoCrashes: an attempt that a stop cut off counts for nothing.
func TestStopsAreNoCrashes(t *testing.T) {
	set := loadRules(t, pushRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		under := make(chan struct{}, 1)
		hang := func(ctx context.Context, _ *replica, _ event.Comparison) ([]string, error) {
			under <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.diff = hang
		push := eventOf("push.b", 1)
		w.append(push)
		first := w.boot("a").grantAll()
		<-under
		first.kill()
		for range 4 {
			r := w.boot("a").grantAll()
			<-under
			r.stop()
			crashed := w.boot("a").grantAll() // after a release nothing is suspected
			<-under
			crashed.kill()
		}
		w.diff = docs
		r := w.boot("a").grantAll()
		if d := w.decision(push.Event.ID); len(d.Runs) != 1 {
			t.Errorf("%+v", d)
		}
		r.stop()
	})
}

// TestEventsThatWaitAreCarried lets the journal grow behind an event that waits.
func TestEventsThatWaitAreCarried(t *testing.T) {
	set := loadRules(t, pushRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, set)
		w.diff = func(context.Context, *replica, event.Comparison) ([]string, error) { return nil, errors.New("not yet") }
		r := w.boot("a").grantAll()
		push := eventOf("push.b", 1)
		w.append(push)
		w.await("a deferral", func() bool { return len(w.deferred) == 1 })
		w.update(func() { w.seq += 2 * carryAfter })
		w.append(eventOf("none", 1))
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		c := w.parts[0].checkpoint
		w.mu.Unlock()
		if c.Replay <= 2*carryAfter || c.EventsFrom != (event.Pos{Seq: 2}) {
			t.Errorf("checkpoint %+v", c)
		}
		r.kill()
		w.diff = docs
		heir := w.boot("b").grantAll()
		if d := w.decision(push.Event.ID); len(d.Runs) != 1 {
			t.Errorf("%+v", d)
		}
		heir.stop()
	})
}

// TestOneDiffAtATimeInARepository has more events than may be looked at at once.
func TestOneDiffAtATimeInARepository(t *testing.T) {
	set := loadRules(t, pushRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, set)
		var mu sync.Mutex
		busy, most, all := map[string]int{}, 0, 0
		w.diff = func(ctx context.Context, r *replica, c event.Comparison) ([]string, error) {
			mu.Lock()
			if busy[c.CloneURL]++; busy[c.CloneURL] > 1 {
				t.Errorf("%d diffs in repository %s", busy[c.CloneURL], c.CloneURL)
			}
			all++
			most = max(most, all)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			busy[c.CloneURL]--
			all--
			mu.Unlock()
			return docs(ctx, r, c)
		}
		r := w.boot("a").grantAll()
		for i := range 60 {
			w.append(eventOf(fmt.Sprintf("push.%d", i%20), i))
		}
		w.await("an end", w.settled)
		if most != maxDiffs {
			t.Errorf("%d diffs at once", most)
		}
		r.stop()
	})
}

func TestPathsAreBoundedInDecisions(t *testing.T) {
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("docs/%040d", i))
	}
	q := question{diffed: true, paths: event.Paths{List: many, Complete: true}}
	p := &partition{e: &Engine{Options: Options{Redact: strings.ToUpper}}}
	shown, asked := p.changed(q, nil), p.changed(q, []run.Created{{AsksChanged: true}})
	if !strings.HasPrefix(shown.List[0], "DOCS/") || many[0] == shown.List[0] {
		t.Errorf("%q is kept as it is", shown.List[0])
	}
	if n := len(shown.List); n == 0 || n > shownPaths/44 || n+shown.More != 5000 {
		t.Errorf("shown are %d paths and %d more", n, shown.More)
	}
	if n := len(asked.List); n < 1000 || n > askedPaths/44 || n+asked.More != 5000 {
		t.Errorf("for the steps %d paths and %d more are kept", n, asked.More)
	}
}
