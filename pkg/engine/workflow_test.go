package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// rules runs a test on a clock of its own, with one replica and a source.
func rules(t *testing.T, partitions int, text string, f func(t *testing.T, w *world)) {
	t.Helper()
	source := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, partitions, loadRules(t, source+text))
		w.on["block"] = block
		r := w.boot("a").grantAll()
		f(t, w)
		r.stop()
	})
}

// rule is a document of a rule with the name, for events of type go.
func ruleOf(name, spec string) string {
	return "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: " + name + "}\nspec:\n" + spec + "---\n"
}

const onGo = "  trigger: {type: go}\n"

// steps tells the states of a run's steps in one line.
func steps(r *run.Run) string {
	var out []string
	for _, s := range r.Steps {
		name := s.ID
		if s.Phase != run.Main {
			name = string(s.Phase) + "." + name
		}
		out = append(out, name+" "+string(s.State))
	}
	return strings.Join(out, ", ")
}

// sendNow puts an event into the log that is received now, and returns its id.
func (w *world) sendNow(typ, subject string, n int) string {
	r := eventOf(typ, n)
	r.Event.Subject, r.Event.ReceivedAt = subject, time.Now()
	w.append(r)
	return r.Event.ID
}

func TestForEach(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  steps:
  - {id: each, uses: do, forEach: {in: '["a", "b", "c", "d"]', parallel: 2}, if: run.item != "c", with: {do: note, target: "${{ run.item }}${{ run.index }}"}}
  - {id: last, uses: do, with: {target: "${{ len(steps.each.outputs.items) }}"}}
`), func(t *testing.T, w *world) {
		var mu sync.Mutex // two items do run at once
		var got []string
		going, most := 0, 0
		w.on["note"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			mu.Lock()
			going++
			most = max(most, going)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			going--
			got = append(got, c.Params.(*params).Target)
			return action.Outputs{"s": c.StepID}, nil
		}
		r := w.ended(w.send(1))
		slices.Sort(got)
		if fmt.Sprint(got, most) != "[a0 b1 d3] 2" || r.State != run.Succeeded {
			t.Errorf("%v at most %d at once: %s %s (%s)", got, most, r.State, steps(r), r.Message)
		}
		items, _ := r.Step(run.Main, "each").Outputs["items"].([]any)
		if len(items) != 4 || items[2] != nil || items[3].(map[string]any)["s"] != "each[3]" {
			t.Errorf("outputs %v", items)
		}
	})
}

func TestAForEachThatCannotBe(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  steps: [{id: each, uses: do, forEach: event.data.list}]
  onFailure: [{id: tell, uses: do}]
`), func(t *testing.T, w *world) {
		for n, body := range []string{`{}`, `{"list": 1}`, `{"list": []}`} {
			e := eventOf("go", n)
			e.Event.Body = []byte(body)
			w.append(e)
			r := w.ended(e.Event.ID + "-r")
			want := []string{"refused AbsentField", "failed StepFailed", "succeeded "}[n]
			if got := string(r.State) + " " + r.Reason; got != want {
				t.Errorf("%s: %s %s", body, got, r.Message)
			}
		}
	})
}

const shipping = `apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: ship}
spec:
  inputs:
    what: {type: string}
    times: {type: int, default: 2}
  steps:
  - {id: pack, uses: do, with: {do: pack, target: "${{ inputs.what }} ${{ inputs.times }}"}}
  - {id: send, uses: do, if: inputs.times > 1, with: {target: "${{ steps.pack.outputs.s }}"}}
  outputs:
    parcel: {type: string, value: "${{ steps.pack.outputs.s }}"}
---
`

func TestAWorkflowIsAStep(t *testing.T) {
	rules(t, 1, shipping+ruleOf("r", onGo+`
  steps:
  - {id: one, uses: workflow/ship, with: {what: "a ${{ event.type }}"}, retry: {attempts: 3, backoff: 5s}}
  - {id: many, uses: workflow/ship, forEach: '["x", "y"]', with: {what: "${{ run.item }}", times: 1}}
  - {id: last, uses: do, with: {do: note, target: "${{ steps.one.outputs.parcel }}, ${{ steps.many.outputs.items[1].parcel }}"}}
`), func(t *testing.T, w *world) {
		tries, last := 0, ""
		w.on["pack"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			if tries++; tries == 1 {
				return nil, errors.New("no tape")
			}
			return action.Outputs{"s": "parcel of " + c.Params.(*params).Target}, nil
		}
		w.on["note"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			last = c.Params.(*params).Target
			return nil, nil
		}
		r := w.ended(w.send(1))
		want := "one succeeded, one/pack succeeded, one/send succeeded, many succeeded, many[0] succeeded, many[0]/pack succeeded, many[0]/send skipped, " +
			"many[1] succeeded, many[1]/pack succeeded, many[1]/send skipped, last succeeded"
		if r.State != run.Succeeded || steps(r) != want {
			t.Errorf("%s: %s\n%s", r.State, r.Message, steps(r))
		}
		if one := r.Step(run.Main, "one"); one.Attempt != 2 || tries != 4 || last != "parcel of a go 2, parcel of y 1" {
			t.Errorf("attempt %d, %d tries, %q", one.Attempt, tries, last)
		}
	})
}

func TestParallelBranchesAndFinally(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  steps:
  - {id: a, uses: do, needs: []}
  - {id: b, uses: do, needs: [], with: {do: fail}, continueOnError: true}
  - {id: c, uses: do, needs: [], with: {target: "${{ steps.a.state }}"}}
  - {id: d, uses: do, needs: [b, c], with: {do: fail}}
  onFailure: [{id: tell, uses: do}]
  finally: [{id: clean, uses: do}]
`), func(t *testing.T, w *world) {
		began := time.Now()
		r := w.ended(w.send(1))
		if want := "a succeeded, b failed, c succeeded, d failed, onFailure.tell succeeded, finally.clean succeeded"; steps(r) != want || r.State != run.Failed {
			t.Errorf("%s %s", r.State, steps(r))
		}
		if took := time.Since(began); took != 5*time.Second { // a and b together, then c, d, tell and clean
			t.Errorf("it took %s", took)
		}
	})
}

func TestAStepThatWaitsHoldsNothing(t *testing.T) {
	bubble(t, 1, "  - {id: wait, uses: do, with: {do: wait}}\n  - {id: b, uses: do}\n", func(t *testing.T, w *world) {
		w.on["wait"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			if until := c.StartedAt.Add(3 * time.Hour); time.Now().Before(until) {
				return nil, action.Wait(until)
			}
			return nil, nil
		}
		first := w.boot("a").grantAll()
		id := w.send(1)
		w.await("the wait", func() bool {
			return w.runs[id] != nil && w.runs[id].Step(run.Main, "wait") != nil && w.runs[id].Step(run.Main, "wait").State == run.StepWaiting
		})
		first.stop()
		w.boot("b").grantAll()
		r := w.ended(id)
		if s := r.Step(run.Main, "wait"); r.State != run.Succeeded || s.Attempt != 1 || s.EndedAt.Sub(s.StartedAt) != 3*time.Hour {
			t.Errorf("%s (%s: %s): %+v", r.State, r.Reason, r.Message, s)
		}
	})
}

const verifying = `
  steps: [{id: fix, uses: fix, with: {target: shop}}]
  verify: {uses: do, with: {do: probe}, expect: probe.outputs.n == 1, every: 30s, for: 1m, within: 5m, attempts: 2, backoff: 2m}
  onFailure: [{id: tell, uses: do}]
`

func TestOnlyWhatIsVerifiedHasSucceeded(t *testing.T) {
	for _, tc := range []struct {
		name  string
		probe func(since time.Duration) (action.Outputs, error)
		state run.State
		why   string
		after time.Duration
		fixes int
	}{
		{"it holds at once", func(time.Duration) (action.Outputs, error) { return action.Outputs{"n": int64(1)}, nil }, run.Succeeded, "", time.Minute, 1},
		{"it holds after a while", func(d time.Duration) (action.Outputs, error) {
			return action.Outputs{"n": int64(d / (90 * time.Second) * 1)}, nil
		}, run.Succeeded, "", 150 * time.Second, 1},
		{"it never does", func(time.Duration) (action.Outputs, error) { return action.Outputs{"n": int64(2)}, nil }, run.Failed, "Unverified", 12*time.Minute + time.Second, 2},
		{"nobody knows", func(time.Duration) (action.Outputs, error) { return nil, errors.New("no answer") }, run.Failed, "Inconclusive", 12*time.Minute + time.Second, 2},
		{"what is expected is absent", func(time.Duration) (action.Outputs, error) { return action.Outputs{"s": "x"}, nil }, run.Failed, "Inconclusive", 12*time.Minute + time.Second, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules(t, 1, ruleOf("r", onGo+verifying), func(t *testing.T, w *world) {
				var fixed time.Time
				w.on["probe"] = func(context.Context, *action.Call) (action.Outputs, error) {
					if fixed.IsZero() {
						fixed = time.Now()
					}
					return tc.probe(time.Since(fixed))
				}
				r := w.ended(w.send(1))
				if r.State != tc.state || r.Reason != tc.why || w.acts[r.ID+"/fix"] != tc.fixes {
					t.Errorf("%s for %q (%s), fixed %d times", r.State, r.Reason, r.Message, w.acts[r.ID+"/fix"])
				}
				end := r.EndedAt
				if tell := r.Step(run.OnFailure, "tell"); tell != nil {
					end = tell.StartedAt
				}
				if took := end.Sub(fixed); took != tc.after {
					t.Errorf("it took %s", took)
				}
				if len(r.Tried) != tc.fixes-1 {
					t.Errorf("tried %+v", r.Tried)
				}
			})
		})
	}
}

// TestInconclusiveVerificationBacksOff: a probe that can't be answered is asked every 30 seconds, and not in a flood.
func TestInconclusiveVerificationBacksOff(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+verifying), func(t *testing.T, w *world) {
		asked := 0
		w.on["probe"] = func(context.Context, *action.Call) (action.Outputs, error) {
			asked++
			return nil, errors.New("no answer")
		}
		r := w.ended(w.send(1))
		if r.Reason != run.ReasonInconclusive || asked != 22 { // 11 in each of two times of 5 minutes
			t.Errorf("%s, asked %d times", r.Reason, asked)
		}
	})
}

func (w *world) consent(order, runID string, o Order) {
	body, _ := json.Marshal(o)
	w.append(event.Record{Kind: event.KindCommand, Event: &event.Event{ID: event.RandomID(), Type: order, Subject: runID, Body: body, ReceivedAt: time.Now()}})
}

func (w *world) waits(id string, state run.State) *run.Run {
	w.t.Helper()
	w.await("run "+id+" to be "+string(state), func() bool { return w.runs[id] != nil && w.runs[id].State == state })
	return w.run(id)
}

const asking = `
  mode: approve
  steps: [{id: look, uses: do}, {id: fix, uses: fix, with: {target: "${{ steps.look.outputs.n }}"}}, {id: after, uses: fix}]
  onFailure: [{id: tell, uses: do}]
`

func TestConsent(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+asking), func(t *testing.T, w *world) {
		id := w.send(1)
		r := w.waits(id, run.Waiting)
		a := r.Approval
		if steps(r) != "look succeeded" || a == nil || a.Step != "fix" || fmt.Sprint(a.Shown["target"]) != "1152921504606846977" {
			t.Fatalf("it waits as %s: %+v", steps(r), a)
		}
		w.consent(run.CommandApprove, id, Order{Who: "eve", Digest: "what she would like"})
		w.consent(run.CommandApprove, id, Order{Who: "ana", Digest: a.Digest, Via: "api"})
		w.consent(run.CommandApprove, id, Order{Who: "ana", Digest: a.Digest, Via: "api"}) // a replay
		r = w.ended(id)
		if r.State != run.Succeeded || len(r.Approval.By) != 1 || r.Approval.By[0].Who != "ana" || w.acts[id+"/fix"] != 1 || w.acts[id+"/after"] != 1 {
			t.Errorf("%s %s: %+v", r.State, steps(r), r.Approval)
		}

		id = w.send(2)
		a = w.waits(id, run.Waiting).Approval
		w.consent(run.CommandReject, id, Order{Who: "bob", Digest: a.Digest, Comment: "not on Friday"})
		if r = w.ended(id); r.State != run.Refused || r.Reason != run.ReasonRejected || r.Message != "rejected by bob: not on Friday" || r.Step(run.OnFailure, "tell") == nil {
			t.Errorf("%s %s %s", r.State, r.Reason, r.Message)
		}

		id = w.send(3)
		w.waits(id, run.Waiting)
		if r = w.ended(id); r.State != run.Refused || r.Reason != run.ReasonApprovalExpired || w.acts[id+"/fix"] != 0 {
			t.Errorf("%s %s", r.State, r.Reason)
		}
	})
}

// TestConsentNeedsThoseWhoMay: two persons of a group must agree.
func TestConsentNeedsThoseWhoMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: src}\nspec: {type: fake}\n---\n"
		w := newWorld(t, 1, loadRules(t, source+ruleOf("r", onGo+asking)))
		r := w.boot("a", func(o *Options) {
			o.Consents = func(_ *rule.Rule) Consents {
				return Consents{Needed: 2, Expires: time.Hour, May: func(_ string, groups []string) error {
					if !slices.Contains(groups, "sre") {
						return errors.New("only sre may")
					}
					return nil
				}}
			}
		}).grantAll()
		id := w.send(1)
		a := w.waits(id, run.Waiting).Approval
		for _, o := range []Order{{Who: "eve"}, {Who: "ana", Groups: []string{"sre"}}, {Who: "ana", Groups: []string{"sre"}}} {
			o.Digest = a.Digest
			w.consent(run.CommandApprove, id, o)
		}
		time.Sleep(time.Minute)
		if got := w.run(id); got.State != run.Waiting || len(got.Approval.By) != 1 {
			t.Fatalf("%s: %+v", got.State, got.Approval)
		}
		w.consent(run.CommandApprove, id, Order{Who: "bob", Groups: []string{"sre"}, Digest: a.Digest})
		if got := w.ended(id); got.State != run.Succeeded {
			t.Errorf("%s", got.State)
		}
		r.stop()
	})
}
