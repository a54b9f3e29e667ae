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

// bubble runs a test on a clock of its own, with a world whose only rule has the steps.
func bubble(t *testing.T, partitions int, steps string, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, partitions, loadRules(t, oneRule(steps)))
		w.on["block"] = block
		f(t, w)
	})
}

// kinds lists the kinds of a partition's entries, in order.
func (w *world) kinds(p *part) (kinds []run.EntryKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range p.entries() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

const blocking = "  - {id: s, uses: do, with: {do: block}}\n"

func TestAStopGivesStepsTheirTimeAndThenInterruptsThem(t *testing.T) {
	bubble(t, 1, blocking, func(t *testing.T, w *world) {
		var cause error
		w.on["block"] = func(ctx context.Context, c *action.Call) (action.Outputs, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, ctx.Err()
		}
		r := w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != 25*time.Second || !errors.Is(cause, errStopping) {
			t.Errorf("the step was ended after %s with %v", took, cause)
		}
		s := w.run(id).Step(run.Main, "s")
		if s.State != run.StepWaiting || s.Interruptions != 1 || !strings.Contains(s.Error, "interrupted") {
			t.Errorf("on record is %+v", s)
		}
		if kinds := w.kinds(w.parts[0]); kinds[len(kinds)-1] != run.Released {
			t.Errorf("the last entry is %s", kinds[len(kinds)-1])
		}
	})
}

func TestADrainStartsNothingAndTheNextOwnerGoesOn(t *testing.T) {
	bubble(t, 1, "  - {id: a, uses: harm, with: {do: slow}}\n  - {id: b, uses: harm}\n", func(t *testing.T, w *world) {
		w.on["slow"] = func(context.Context, *action.Call) (action.Outputs, error) {
			time.Sleep(20 * time.Second)
			return nil, nil
		}
		r := w.boot("a").grantAll()
		first := w.send(1)
		w.began(first, "a", 1)
		r.end()
		synctest.Wait()
		second := w.send(2)
		<-r.done
		if got := w.run(first); got.Step(run.Main, "a").State != run.StepSucceeded || got.Step(run.Main, "b") != nil {
			t.Errorf("after the drain: %+v", got)
		}
		if w.run(second).ID != "" {
			t.Error("an event was decided during the drain")
		}
		w.boot("b").grantAll()
		w.ended(first)
		if got := w.ended(second); got.State != run.Succeeded || w.acts[first+"/a"] != 1 || w.acts[first+"/b"] != 1 {
			t.Errorf("the next owner made of it %v and %+v", w.acts, got)
		}
	})
}

func TestARevisionThatCannotBeLoadedStopsDecisionsAloneAndHealsByItself(t *testing.T) {
	bubble(t, 1, "  - {id: a, uses: do}\n  - {id: b, uses: do}\n", func(t *testing.T, w *world) {
		r := w.boot("a").grantAll()
		before := w.send(1)
		w.began(before, "a", 1)
		w.update(func() { w.broken = errors.New("the disk is gone") })
		w.activate(loadRules(t, oneRule("  - {id: c, uses: do}\n")))
		after := w.send(2)
		if got := w.ended(before); got.State != run.Succeeded {
			t.Errorf("what ran before ended as %+v", got)
		}
		time.Sleep(20 * time.Second)
		if err := r.engine.Ready(); err == nil || !strings.Contains(err.Error(), "the disk is gone") || w.run(after).ID != "" {
			t.Errorf("ready: %v; run: %+v", err, w.run(after))
		}
		w.update(func() { w.broken = nil })
		if got := w.ended(after); got.Step(run.Main, "c") == nil || r.engine.Ready() != nil {
			t.Errorf("healed: %v, %+v", r.engine.Ready(), got)
		}
	})
}

func TestAStopWhileARevisionCannotBeLoadedIsInGoodOrder(t *testing.T) {
	bubble(t, 1, blocking, func(t *testing.T, w *world) {
		r := w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		w.update(func() { w.broken = errors.New("the disk is gone") })
		w.activate(loadRules(t, oneRule("  - {id: c, uses: do}\n")))
		time.Sleep(time.Second)
		r.stop()
		if kinds := w.kinds(w.parts[0]); kinds[len(kinds)-1] != run.Released || w.run(id).Step(run.Main, "s").Interruptions != 1 {
			t.Errorf("entries %v, run %+v", kinds, w.run(id))
		}
	})
}

func TestAnOwnerThatCannotLoadItsRevisionIsUnreadyUntilItCan(t *testing.T) {
	bubble(t, 1, blocking, func(t *testing.T, w *world) {
		w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		w.update(func() { w.broken = errors.New("the disk is gone") })
		r := w.boot("b")
		lease := r.grant(0)
		time.Sleep(10 * time.Second)
		if err := r.engine.Ready(); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
			t.Errorf("ready: %v", err)
		}
		w.update(func() { w.broken = nil })
		w.began(id, "s", 2)
		if err := r.engine.Ready(); err != nil {
			t.Errorf("not ready when it works: %v", err)
		}
		lease.lose(nil)
		<-lease.done
		w.update(func() { w.broken = errors.New("again") })
		clear(r.engine.sets)
		lease = r.grant(0)
		time.Sleep(time.Second)
		lease.lose(nil)
		<-lease.done
		time.Sleep(untaken)
		if err := r.engine.Ready(); err != nil {
			t.Errorf("unready for a partition that is not its own any more: %v", err)
		}
	})
}

func TestAnEventThatPanicsIsAnErrorOfThatEventAlone(t *testing.T) {
	bubble(t, 1, "  - {uses: do}\n", func(t *testing.T, w *world) {
		w.boot("a").grantAll()
		bomb := eventOf("go", 1)
		bomb.Event.Subject = "bomb"
		w.append(bomb, eventOf("go", 2))
		if got := w.ended(event.ID("go", "2") + "-r"); got.State != run.Succeeded {
			t.Errorf("the other event's run is %+v", got)
		}
		if why := w.decided[bomb.Event.ID].Why; !strings.Contains(why, "panicked: no preset should") || len(w.decided[bomb.Event.ID].Runs) > 0 {
			t.Errorf("why: %q", why)
		}
	})
}

// TestAnEventThatEndsTheProcessIsQuarantined counts how many processes an event takes with it: the first, which nobody
// blames on it, and the two that noted what they were about to do.
func TestAnEventThatEndsTheProcessIsQuarantined(t *testing.T) {
	for _, tc := range []struct {
		name  string
		quiet time.Duration // that a process lives before the event reaches it, with checkpoints
	}{{"at once", 0}, {"after checkpoints", 12 * time.Second}} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, 1, "  - {uses: do}\n", func(t *testing.T, w *world) {
				id, sent := eventOf("go", 1).Event.ID+"-r", false // sent is w.mu's
				kills := 0
				for ; ; kills++ {
					r := w.boot("a")
					began, p := time.Now(), w.parts[0]
					r.fault = func(op string) fault {
						entries := p.entries()
						switch {
						case op == "follow" && time.Since(began) < tc.quiet:
							return failBefore
						case op == "append" && sent && (kills == 0 || entries[len(entries)-1].Kind == run.Deciding) && kills < 6:
							return crashBefore
						}
						return none
					}
					r.grantAll()
					time.Sleep(tc.quiet)
					if kills == 0 {
						w.update(func() { sent = true })
						w.send(1)
					}
					w.await("a crash or a decision", func() bool { return r.dead || len(w.decided) > 0 })
					if !r.dead {
						break
					}
					<-r.done
				}
				d := w.decided[EventOf(id)]
				if kills > 3 || !Quarantined(d) || len(d.Runs) > 0 {
					t.Errorf("after %d kills: %+v", kills, d)
				}
			})
		})
	}
}

func TestAHandoverHoldsUpNobodyAndRepeatsNothing(t *testing.T) {
	bubble(t, 2, "  - {id: a, uses: harm, with: {do: long}}\n  - {id: b, uses: harm}\n", func(t *testing.T, w *world) {
		finish, id := make(chan struct{}), w.send(1)
		w.on["long"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			if c.RunID == id {
				<-finish
			}
			return nil, nil
		}
		r := w.boot("a")
		part := PartitionOf(EventOf(id), 2)
		lease := r.grant(part)
		r.grant(1 - part)
		w.began(id, "a", 1)
		close(lease.handover)
		synctest.Wait()
		others := []string{}
		for n := range 20 { // more segments than a partition keeps unread
			others = append(others, w.send(n+2))
		}
		for _, other := range others {
			if PartitionOf(EventOf(other), 2) != part {
				w.ended(other)
			} else if w.run(other).ID != "" {
				t.Error("a partition that is to be handed over decided an event")
			}
		}
		close(finish)
		<-lease.done
		w.boot("b").grant(part)
		w.await("an end of all", w.settled)
		if w.acts[id+"/a"] != 1 || w.run(id).State != run.Succeeded {
			t.Errorf("acts %v, run %+v", w.acts, w.run(id))
		}
		if kinds := fmt.Sprint(w.kinds(w.parts[part])); strings.Count(kinds, string(run.Released)) != 1 || strings.Contains(kinds, string(run.Deciding)) {
			t.Errorf("not in good order: %s", kinds)
		}
	})
}

func TestAPausedOwnerIsFenced(t *testing.T) {
	bubble(t, 1, "  - {id: a, uses: do, with: {do: note}}\n  - {id: b, uses: do}\n", func(t *testing.T, w *world) {
		causes := make(chan error, 4)
		finish := make(chan struct{})
		w.on["note"] = func(ctx context.Context, c *action.Call) (action.Outputs, error) {
			select {
			case <-ctx.Done():
				causes <- context.Cause(ctx)
				return nil, ctx.Err()
			case <-finish:
				return nil, nil
			}
		}
		old := w.boot("a")
		lease := old.grant(0)
		first := w.send(1)
		w.began(first, "a", 1)
		w.update(func() { old.gate = make(chan struct{}) })
		second := w.send(2) // its decision stops at the gate
		synctest.Wait()
		w.boot("b").grantAll()
		w.began(first, "a", 2)
		w.began(second, "a", 1)
		w.update(old.open)
		if cause := <-causes; !errors.Is(cause, errLost) {
			t.Errorf("the stale owner's step was ended with %v", cause)
		}
		lease.lose(nil)
		close(finish)
		w.ended(second)
		if got := w.ended(first); got.State != run.Succeeded || w.acts[first+"/b"] != 1 || w.acts[second+"/a"] != 1 {
			t.Errorf("acts %v, run %+v", w.acts, got)
		}
	})
}

// TestALostLeaseRecordsNothing: what a step says that was ended because the lease was lost is no outcome of the step.
func TestALostLeaseRecordsNothing(t *testing.T) {
	bubble(t, 1, "  - {id: s, uses: harm, with: {do: block}, retry: {attempts: 3}}\n", func(t *testing.T, w *world) {
		r := w.boot("a")
		lease := r.grant(0)
		id := w.send(1)
		w.began(id, "s", 1)
		lease.lose(errors.New("it could not be renewed"))
		<-lease.done
		if s := w.run(id).Step(run.Main, "s"); s.State != run.StepRunning {
			t.Errorf("on record is %+v", s)
		}
		r.grant(0)
		if got := w.ended(id); got.Reason != run.ReasonInterrupted || w.acts[id+"/s"] != 1 {
			t.Errorf("the next owner made of it %+v", got)
		}
	})
}

func TestAPartitionThatHoldsMuchStopsReadingAndGoesOn(t *testing.T) {
	for _, tc := range []struct {
		name               string
		segments, each, kb int
		most               int // segments that may be decided while no run ends
	}{{"bytes", 14, 1, 1 << 10, 9}, {"runs", 6, maxRuns / 5, 0, 5}} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, 1, "  - {id: s, uses: do, with: {do: gate}}\n", func(t *testing.T, w *world) {
				gate := make(chan struct{})
				w.on["gate"] = func(context.Context, *action.Call) (action.Outputs, error) { <-gate; return nil, nil }
				w.boot("a", func(o *Options) { o.Workers = 1 }).grantAll()
				for s := range tc.segments {
					records := make([]event.Record, tc.each)
					for i := range records {
						records[i] = eventOf("go", s*tc.each+i)
						records[i].Event.Body = []byte(`"` + strings.Repeat("x", tc.kb<<10) + `"`)
					}
					w.append(records...)
				}
				synctest.Wait()
				if n := len(w.decided); n == 0 || n > tc.most*tc.each {
					t.Errorf("%d events are decided while the worker is busy, want at most %d", n, tc.most*tc.each)
				}
				close(gate)
				w.await("a decision of all", func() bool { return len(w.decided) == tc.segments*tc.each })
			})
		})
	}
}

func TestAJournalThatDoesNotAnswerLosesNothing(t *testing.T) {
	for name, kind := range map[string]fault{"nothing was written": failBefore, "all was written": failAfter} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, "  - {id: a, uses: harm}\n  - {id: b, uses: harm}\n", func(t *testing.T, w *world) {
				r := w.boot("a")
				var from time.Time
				w.update(func() {
					r.fault = func(op string) fault {
						if !from.IsZero() && time.Since(from) < 30*time.Second && op != "follow" {
							return kind
						}
						return none
					}
				})
				r.grantAll()
				first := w.send(1)
				w.began(first, "a", 1)
				w.update(func() { from = time.Now() })
				second := w.send(2)
				time.Sleep(20 * time.Second)
				if err := r.engine.Ready(); err == nil || !strings.Contains(err.Error(), "journal can't be written") {
					t.Errorf("ready: %v", err)
				}
				if w.acts[second+"/a"] != 0 {
					t.Error("a step began that the store has not acknowledged")
				}
				w.ended(first)
				if got := w.ended(second); got.State != run.Succeeded || fmt.Sprint(w.acts) != fmt.Sprint(map[string]int{first + "/a": 1, first + "/b": 1, second + "/a": 1, second + "/b": 1}) {
					t.Errorf("acts %v, run %+v", w.acts, got)
				}
				if err := r.engine.Ready(); err != nil {
					t.Errorf("not ready afterwards: %v", err)
				}
			})
		})
	}
}

func TestOrdersThatCannotBeFollowedAreRefusedOnRecord(t *testing.T) {
	bubble(t, 1, "  - {id: s, uses: do, with: {do: gate}}\n", func(t *testing.T, w *world) {
		gate := make(chan struct{})
		w.on["gate"] = func(context.Context, *action.Call) (action.Outputs, error) { <-gate; return nil, nil }
		w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		unknown := event.ID("go", "2") + "-r"
		refuse := func(order, runID, why string) {
			t.Helper()
			before, n := fmt.Sprint(w.run(id)), len(w.heard)
			w.order(order, runID)
			w.await("an answer", func() bool { return len(w.heard) > n })
			e := w.heard[event.Pos{Seq: uint64(len(w.segments))}]
			if e.Run != "" || !strings.Contains(e.Why, why) || fmt.Sprint(w.run(id)) != before {
				t.Errorf("%s of %s: %+v", order, runID, e)
			}
		}
		refuse(run.CommandRetry, id, "has not ended")
		refuse(run.CommandCancel, unknown, "it has ended")
		refuse(run.CommandRetry, unknown, "not found")
		close(gate)
		w.ended(id)
		refuse(run.CommandCancel, id, "it has ended")
		refuse(run.CommandRevive, id, "it is succeeded")
		refuse("dance", id, "dance")
	})
}

func TestRedeliveriesReviveAFailedRunSoOften(t *testing.T) {
	bubble(t, 1, "  - {id: a, uses: do}\n  - {id: s, uses: do, with: {do: fail}}\n", func(t *testing.T, w *world) {
		w.boot("a").grantAll()
		id := w.send(1)
		for n := range run.MaxRevivals + 3 {
			w.ended(id)
			w.order(run.CommandRevive, id)
			w.await("an answer", func() bool { return len(w.heard) == n+1 })
		}
		if got := w.ended(id); got.Attempt != 1+run.MaxRevivals || w.acts[id+"/s"] != 1+run.MaxRevivals || w.acts[id+"/a"] != 1 {
			t.Errorf("attempt %d, acts %v", got.Attempt, w.acts)
		}
	})
}

func TestACancelledRunStopsItsStepAndRunsNoFurther(t *testing.T) {
	bubble(t, 1, blocking+"  - {id: b, uses: do}\n", func(t *testing.T, w *world) {
		w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		w.order(run.CommandCancel, id)
		if got := w.ended(id); got.State != run.Cancelled || got.Step(run.Main, "s").State != run.StepCancelled || w.acts[id+"/b"] != 0 {
			t.Errorf("the run is %+v", got)
		}
	})
}

// TestWhatAnActionComesTo has one step of each kind; none of them is in another one's way.
func TestWhatAnActionComesTo(t *testing.T) {
	for _, tc := range []struct {
		name, attrs string
		do          func(context.Context, *action.Call) (action.Outputs, error)
		state       run.StepState
		want        string // in the step's error
		acts        int
	}{
		{"outputs too large", "", func(context.Context, *action.Call) (action.Outputs, error) {
			return action.Outputs{"s": strings.Repeat("x", maxOutputs)}, nil
		}, run.StepFailed, "more than the 262144 that are kept", 1},
		{"outputs that are no JSON", "", func(context.Context, *action.Call) (action.Outputs, error) {
			return action.Outputs{"s": make(chan int)}, nil
		}, run.StepFailed, "outputs are not JSON", 1},
		{"panic", "", func(context.Context, *action.Call) (action.Outputs, error) { panic("hunter2 at the gate") }, run.StepFailed, "do panicked: *** at the gate", 1},
		{"timeout", ", timeout: 7s", block, run.StepFailed, "timed out after 7s", 3},
		{"a secret in an error", "", func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, errors.New("password hunter2 is wrong")
		}, run.StepFailed, "password *** is wrong", 3},
		{"an error without end", "", func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, errors.New("cause: " + strings.Repeat("é", 2<<20))
		}, run.StepFailed, "cause: é", 3},
		{"permanent", "", func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, action.Permanent(errors.New("never"))
		}, run.StepFailed, "never", 1},
		{"secrets in outputs", "", func(_ context.Context, c *action.Call) (action.Outputs, error) {
			return action.Outputs{"s": map[string]any{"k hunter2": []any{"hunter2", int64(7)}}}, nil
		}, run.StepSucceeded, "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, 1, "  - {id: s, uses: do, with: {do: it}, retry: {attempts: 3}"+tc.attrs+"}\n", func(t *testing.T, w *world) {
				w.on["it"] = func(ctx context.Context, c *action.Call) (action.Outputs, error) {
					if EventOf(c.RunID) == event.ID("go", "1") {
						return tc.do(ctx, c)
					}
					return nil, nil
				}
				w.boot("a").grantAll()
				id, other := w.send(1), w.send(2)
				got, s := w.ended(id), w.ended(other)
				if s.State != run.Succeeded {
					t.Errorf("the other run is %+v", s)
				}
				step := got.Step(run.Main, "s")
				if step.State != tc.state || !strings.Contains(step.Error, tc.want) || w.acts[id+"/s"] != tc.acts {
					t.Errorf("%d times: %s, %.300s", w.acts[id+"/s"], step.State, step.Error)
				}
				if all := w.dump(); strings.Contains(all, "hunter2") || tc.state == run.StepSucceeded && !strings.Contains(all, `{"k ***":["***",7]}`) {
					t.Errorf("on record is %.2000s", all)
				}
			})
		})
	}
}

// TestLocalOutputsAreMadeAgainElsewhere: the other machine has no directory of the run. What the action says this time is
// kept as carefully as what it said the first time, also when the whole record is written again.
func TestLocalOutputsAreMadeAgainElsewhere(t *testing.T) {
	steps := "  - {id: d, uses: local, with: {do: checkout}}\n  - {id: s, uses: do, with: {do: block, dir: \"${{ steps.d.outputs.dir }}\"}, retry: {attempts: 3, backoff: 1m}}\n"
	bubble(t, 1, steps, func(t *testing.T, w *world) {
		w.on["checkout"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			return action.Outputs{"dir": c.Dir, "s": "hunter2"}, nil
		}
		a := w.boot("a").grantAll()
		id := w.send(1)
		w.began(id, "s", 1)
		a.kill()
		w.on["block"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			if c.Attempt < 3 {
				return nil, errors.New("not yet")
			}
			return nil, nil
		}
		w.boot("b").grantAll()
		w.began(id, "s", 2)
		w.update(func() { w.seq += 2 * carryAfter }) // as if much had happened in other partitions
		w.send(2)
		if got := w.ended(id); got.State != run.Succeeded || w.acts[id+"/d"] != 2 || w.acts[id+"/s"] != 3 {
			t.Errorf("acts %v, run %+v", w.acts, got)
		}
		if all := w.dump(); strings.Contains(all, "hunter2") || !strings.Contains(all, `"kind":"carried"`) {
			t.Errorf("on record is %s", all)
		}
	})
}

// TestARunWithMuchOutputCanBeCarried: its record must fit into one entry, whatever its steps return.
func TestARunWithMuchOutputCanBeCarried(t *testing.T) {
	steps := ""
	for i := range 6 {
		steps += fmt.Sprintf("  - {id: s%d, uses: do, with: {do: much}}\n", i)
	}
	bubble(t, 1, steps, func(t *testing.T, w *world) {
		w.on["much"] = func(context.Context, *action.Call) (action.Outputs, error) {
			return action.Outputs{"s": strings.Repeat("x", 250<<10)}, nil
		}
		w.boot("a").grantAll()
		id := w.send(1)
		if got := w.ended(id); got.State != run.Failed || !strings.Contains(got.Message, "outputs") {
			t.Errorf("the run is %s: %.200s", got.State, got.Message)
		}
		w.order(run.CommandRetry, id)
		w.await("an answer", func() bool { return len(w.heard) == 1 && w.runs[id].State.Ended() })
	})
}

// What is done with must not be kept for as long as the partition is held: that can be months.
func TestTheContextOfAStepEndsWithIt(t *testing.T) {
	bubble(t, 1, "  - {id: a, uses: do, with: {do: watch}}\n  - {id: b, uses: do, with: {do: watch}}\n", func(t *testing.T, w *world) {
		ended := make(chan struct{}, 2)
		w.on["watch"] = func(ctx context.Context, _ *action.Call) (action.Outputs, error) {
			context.AfterFunc(ctx, func() { ended <- struct{}{} })
			return nil, nil
		}
		w.boot("a").grantAll()
		w.ended(w.send(1))
		synctest.Wait()
		if len(ended) != 2 {
			t.Errorf("the contexts of %d steps have ended", len(ended))
		}
	})
}

func TestAClockThatJumpsBackHoldsUpNoRetry(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			bubble(t, 1, "  - {id: s, uses: do, with: {do: flaky}, retry: {attempts: 2, backoff: 1m}}\n", func(t *testing.T, w *world) {
				r := w.boot("a").grantAll()
				id := w.send(1)
				w.await("a wait", func() bool {
					return w.runs[id] != nil && len(w.runs[id].Steps) > 0 && w.runs[id].Steps[0].State == run.StepWaiting
				})
				began := time.Now()
				w.update(func() { w.skew = -3 * time.Hour })
				if restart {
					r.kill()
					w.boot("a").grantAll()
				}
				if got := w.ended(id); got.State != run.Succeeded || time.Since(began) > 2*time.Minute || w.acts[id+"/s"] != 2 {
					t.Errorf("after %s and %d attempts: %+v", time.Since(began), w.acts[id+"/s"], got)
				}
			})
		})
	}
}

func TestAStepThatKeepsEndingTheProcessFails(t *testing.T) {
	bubble(t, 1, blocking, func(t *testing.T, w *world) {
		id := w.send(1)
		lives := 0
		for ; !w.run(id).State.Ended() && lives < 10; lives++ {
			r := w.boot("a").grantAll()
			w.await("a start or an end", func() bool {
				return w.acts[id+"/s"] > lives || w.runs[id] != nil && w.runs[id].State.Ended()
			})
			r.kill()
		}
		if got := w.run(id); got.Reason != run.ReasonInterrupted || w.acts[id+"/s"] != 1+run.MaxInterruptions {
			t.Errorf("after %d lives, acts %v: %+v", lives, w.acts, got)
		}
	})
}

// One name for two contents: a commit that is read at another path. Whoever held the first must decide with the second.
func TestAnActivationNamesContentToo(t *testing.T) {
	first, second := loadRules(t, oneRule("  - {id: a, uses: do}\n")), loadRules(t, strings.Replace(oneRule("  - {id: a, uses: do}\n"), "{name: r}", "{name: other}", 1))
	first.Revision, second.Revision = "commit", "commit"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, first)
		r := w.boot("a").grantAll()
		w.ended(w.send(1))
		w.update(func() { w.sets["commit"] = second })
		w.append(event.Record{Kind: event.KindActivate, Event: &event.Event{ID: event.RandomID(), Subject: "commit", DeliveryID: second.Digest}})
		next := eventOf("go", 2)
		w.append(next)
		if got := w.ended(next.Event.ID + "-other"); got.State != run.Succeeded {
			t.Errorf("%+v", got)
		}
		r.stop()
	})
}

// TestWhoWatchesIsToldAgainAfterACrash of the last events, and of none after a stop in good order.
func TestWhoWatchesIsToldAgainAfterACrash(t *testing.T) {
	bubble(t, 1, "  - {uses: do}\n", func(t *testing.T, w *world) {
		var told []string // w.mu's
		watching := func(o *Options) {
			o.Watches = func(e *event.Event) bool { return e.Type == "go" }
			o.Watched = func(e *event.Event) { w.update(func() { told = append(told, e.ID) }) }
		}
		id := EventOf(w.send(1))
		want := func(times int) {
			t.Helper()
			w.ended(id + "-r")
			time.Sleep(time.Second)
			w.update(func() {
				if len(told) != times || told[0] != id {
					t.Errorf("told of %v, want %d times %s", told, times, id)
				}
			})
		}
		r := w.boot("a", watching).grantAll()
		want(1)
		r.kill()
		r = w.boot("a", watching).grantAll()
		want(2)
		r.stop()
		r = w.boot("a", watching).grantAll()
		want(2)
		r.stop()
	})
}
