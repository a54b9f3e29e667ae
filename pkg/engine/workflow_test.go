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
		var got []string
		going, most := 0, 0
		var mu sync.Mutex
		w.on["note"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			mu.Lock()
			going++
			most = max(most, going)
			got = append(got, c.Params.(*params).Target)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			going--
			mu.Unlock()
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
		w.forgetful = true // it may wait for longer than ids are kept
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

// TestARequestIsToldOnce: as an event that a rule can answer, also where the process ends right after it; a rule that waits
// itself to tell of it tells of nothing.
func TestARequestIsToldOnce(t *testing.T) {
	told := "  trigger: {source: riposte, type: approval.requested}\n"
	rules(t, 1, ruleOf("r", onGo+asking)+ruleOf("tell", told+"  steps: [{id: say, uses: do, with: {dir: \"${{ run.approveURLs.ana }}\", do: urls}}]\n")+ruleOf("slow", told+asking), func(t *testing.T, w *world) {
		id := w.send(1)
		a := w.waits(id, run.Waiting).Approval
		eventID := event.ID(event.OwnSource, fmt.Sprintf("approval.requested %s 1 %s", id, a.Digest))
		got := w.ended(eventID + "-tell")
		if got.State != run.Refused || got.Reason != run.ReasonAbsentField { // nobody has links here
			t.Errorf("%s %s %s", got.State, got.Reason, got.Message)
		}
		w.waits(eventID+"-slow", run.Waiting)
		var bodies []string
		w.mu.Lock()
		for _, records := range w.segments {
			for _, r := range records {
				if r.Kind == event.KindEvent && r.Event.Type == event.ApprovalRequested {
					bodies = append(bodies, string(r.Event.Body))
				}
			}
		}
		w.mu.Unlock()
		if len(bodies) != 1 {
			t.Fatalf("told %d times: %q", len(bodies), bodies)
		}
		for _, want := range []string{`"run":"` + id + `"`, `"attempt":1`, `"rule":"r"`, `"step":"fix"`, `"uses":"fix"`, `"shown":{"target":1152921504606846977}`, `"needed":1`, `"expires":"` + a.ExpiresAt.Format(time.RFC3339)} {
			if !strings.Contains(bodies[0], want) {
				t.Errorf("%s is not in %s", want, bodies[0])
			}
		}
		w.consent(run.CommandReject, id, Order{Who: "bob", Digest: a.Digest})
		w.consent(run.CommandReject, eventID+"-slow", Order{Who: "bob", Digest: w.run(eventID + "-slow").Approval.Digest})
		w.ended(id)
		w.ended(eventID + "-slow")
	})
}

// TestWhatLinksAreAbout: a run's own links are about itself, those of a run that tells of another about that.
func TestWhatLinksAreAbout(t *testing.T) {
	r := &run.Run{ID: "E-tell", Attempt: 2}
	own := Asked{Run: "E-tell", Attempt: 2}
	request := func(source, typ, body string) *event.Event {
		return &event.Event{Source: source, Type: typ, Body: []byte(body)}
	}
	for name, tc := range map[string]struct {
		e    *event.Event
		want Asked
	}{
		"no event":      {nil, own},
		"another event": {request("github", "push", `{"run":"X"}`), own},
		"a stranger's":  {request("github", event.ApprovalRequested, `{"run":"X"}`), own},
		"not readable":  {request(event.OwnSource, event.ApprovalRequested, `{`), own},
		"a request":     {request(event.OwnSource, event.ApprovalRequested, `{"run":"X","attempt":1,"digest":"d","rule":"x"}`), Asked{"X", 1, "d"}},
	} {
		if got := askedBy(r, tc.e); got != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
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

// TestRetryOfAForEachIsEachItems: an item that fails is tried again, and the others are not.
func TestRetryOfAForEachIsEachItems(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  steps: [{id: each, uses: do, forEach: '["a", "b"]', retry: {attempts: 3, backoff: 1s}, with: {do: count, target: "${{ run.item }}"}}]
`), func(t *testing.T, w *world) {
		tried := map[string]int{}
		w.on["count"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			item := c.Params.(*params).Target
			if tried[item]++; item == "b" {
				return nil, errors.New("not b")
			}
			return nil, nil
		}
		r := w.ended(w.send(1))
		each := r.Step(run.Main, "each")
		if r.State != run.Failed || tried["a"] != 1 || tried["b"] != 3 || each.Attempt != 1 || each.Error != "step [1]: not b" {
			t.Errorf("%s: %v, attempt %d, %q", r.State, tried, each.Attempt, each.Error)
		}
	})
}

// TestAForEachOfTooManySteps: what a run would hold is bounded, however its lists multiply.
func TestAForEachOfTooManySteps(t *testing.T) {
	rules(t, 1, `apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: w}
spec:
  steps: [{uses: do}, {uses: do}, {uses: do}, {uses: do}]
---
`+ruleOf("r", onGo+`
  steps: [{id: each, uses: workflow/w, forEach: "1..401"}]
`), func(t *testing.T, w *world) {
		r := w.ended(w.send(1))
		if r.State != run.Failed || !strings.Contains(r.Message, "a run has at most 2000") || len(r.Steps) > 2000 {
			t.Errorf("%s with %d steps: %s", r.State, len(r.Steps), r.Message)
		}
	})
}

// A run that was made several times holds what became of each of its steps then, and all errors of the last time.
func TestALargeRunCanBeRetriedAndCarried(t *testing.T) {
	rules(t, 1, `apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: w}
spec:
  steps: [{uses: do, with: {do: ok}}, {uses: do, with: {do: ok}}, {uses: do, with: {do: ok}}]
---
`+ruleOf("r", onGo+`
  steps:
  - {id: before, uses: workflow/w, forEach: "1..490"}
  - {id: last, uses: do, with: {do: fail}}
`), func(t *testing.T, w *world) {
		w.on["fail"] = func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, errors.New(strings.Repeat("no ", 2000))
		}
		w.on["ok"] = func(context.Context, *action.Call) (action.Outputs, error) { return nil, nil }
		id := w.send(1)
		for n := 1; n <= 6; n++ {
			w.await("the end", func() bool { r := w.runs[id]; return r != nil && r.Attempt == n && r.State.Ended() })
			w.order(run.CommandRetry, id)
			w.await("the order", func() bool { return len(w.heard) == n })
		}
		if r := w.run(id); r.Attempt != 7 || len(r.Steps) < 1900 || len(r.Tried) != 5 || len(r.Tried[0].Steps) > 0 {
			t.Errorf("attempt %d has %d steps, and %d were before", r.Attempt, len(r.Steps), len(r.Tried))
		}
	})
}

// A run whose record does not fit into the journal must not hold up all others: its entries stay as they are.
func TestARunTooLargeToBeCarriedHoldsNobodyUp(t *testing.T) {
	rules(t, 1, `apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: w}
spec:
  steps: [{uses: do, with: {do: fail}, continueOnError: true}]
---
`+ruleOf("r", onGo+`
  steps:
  - {id: each, uses: workflow/w, forEach: "1..200"}
  - {id: hold, uses: do, with: {do: hold}}
`), func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.on["fail"] = func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, errors.New(strings.Repeat("no ", 2600))
		}
		w.on["hold"] = func(context.Context, *action.Call) (action.Outputs, error) { <-release; return nil, nil }
		id := w.send(1)
		w.await("the last step", func() bool { r := w.runs[id]; return r != nil && r.Step(run.Main, "hold") != nil })
		w.update(func() { w.seq += 2 * carryAfter }) // as if much had happened in other partitions
		other := w.send(2)
		time.Sleep(time.Minute)
		w.await("another run", func() bool { r := w.runs[other]; return r != nil && r.Step(run.Main, "hold") != nil })
		close(release)
		w.ended(id)
		w.ended(other)
	})
}

// TestARuleThatOnlyTellsWaitsForTheAlert: whoever waits to see whether people solve it must hear that they did.
func TestARuleThatOnlyTellsWaitsForTheAlert(t *testing.T) {
	rules(t, 1, ruleOf("r", `
  trigger: {type: alert.firing}
  steps: [{id: tell, uses: do}]
  verify: {resolved: true, within: 1h}
  onFailure: [{id: page, uses: do}]
`), func(t *testing.T, w *world) {
		id := alertEvent(w, "firing", "pod-1", 1) + "-r"
		w.waits(id, run.Verifying)
		time.Sleep(time.Minute)
		alertEvent(w, "resolved", "pod-1", 2)
		if r := w.ended(id); r.State != run.Succeeded {
			t.Errorf("%s %s %s", r.State, r.Reason, r.Message)
		}
	})
}

// TestWithoutConsentNothingChangesAfterwardsEither: whoever says no does not start what the rule does on failure.
func TestWithoutConsentNothingChangesAfterwardsEither(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  mode: approve
  steps: [{id: fix, uses: fix, with: {target: shop}}]
  onFailure: [{id: tell, uses: do}, {id: undo, uses: fix, with: {target: shop}}]
`), func(t *testing.T, w *world) {
		id := w.send(1)
		a := w.waits(id, run.Waiting).Approval
		w.consent(run.CommandReject, id, Order{Who: "bob", Digest: a.Digest})
		r := w.ended(id)
		if got := steps(r); got != "onFailure.tell succeeded, onFailure.undo skipped" || w.acts[id+"/undo"] != 0 {
			t.Errorf("%s: %s", r.State, got)
		}
	})
}

// TestConsentIsToOneAttempt: steps that are made again because the run was not verified need it again.
func TestConsentIsToOneAttempt(t *testing.T) {
	rules(t, 1, ruleOf("r", onGo+`
  mode: approve
  steps: [{id: slow, uses: do, needs: [], with: {do: slow}}, {id: fix, uses: fix, needs: [], with: {target: shop}}]
  verify: {uses: do, expect: probe.outputs.n == 1, every: 30s, within: 1m, attempts: 2, backoff: 1m}
`), func(t *testing.T, w *world) {
		w.on["slow"] = func(context.Context, *action.Call) (action.Outputs, error) {
			time.Sleep(time.Minute)
			return action.Outputs{"s": "found"}, nil
		}
		id := w.send(1)
		for n := 1; n <= 2; n++ {
			w.await("a question", func() bool {
				r := w.runs[id]
				return r != nil && r.Attempt == n && r.Approval != nil && !r.Approval.Granted
			})
			if r := w.run(id); r.Step(run.Main, "slow") == nil || r.Step(run.Main, "slow").State != run.StepSucceeded {
				t.Fatalf("people are asked before all is known: %s", steps(r))
			}
			w.consent(run.CommandApprove, id, Order{Who: "ana", Digest: w.run(id).Approval.Digest})
		}
		if r := w.ended(id); r.Reason != run.ReasonUnverified || w.acts[id+"/fix"] != 2 {
			t.Errorf("%s %s, fixed %d times", r.State, r.Reason, w.acts[id+"/fix"])
		}
	})
}

// TestARefusedRunMayCleanUp: what its onFailure changes it gets to itself, and gives back.
func TestARefusedRunMayCleanUp(t *testing.T) {
	rules(t, 2, ruleOf("r", onGo+`
  limits: [{runs: 1, per: 1h}]
  steps: [{id: a, uses: do}]
  onFailure: [{id: undo, uses: fix, with: {target: shop}}]
`)+ruleOf("other", "  trigger: {type: other}\n  steps: [{id: fix, uses: fix, with: {target: shop}}]\n"), func(t *testing.T, w *world) {
		w.ended(w.sendNow("go", "", 1) + "-r")
		r := w.ended(w.sendNow("go", "", 2) + "-r")
		if r.Reason != "LimitReached" || steps(r) != "onFailure.undo succeeded" {
			t.Errorf("%s: %s", r.Reason, steps(r))
		}
		if o := w.ended(w.sendNow("other", "", 1) + "-other"); o.State != run.Succeeded {
			t.Errorf("who comes after it: %s %s", o.State, o.Message)
		}
	})
}

// TestARecordHoldsWhatFitsIntoOneEntry: the step whose outputs are too much for it fails, as does a look, and what is made
// again takes the place of what was there.
func TestARecordHoldsWhatFitsIntoOneEntry(t *testing.T) {
	const large = 200 << 10
	rules(t, 1, ruleOf("r", onGo+`
  steps: [{id: a, uses: do, with: {do: large}}, {id: b, uses: do, with: {do: large}}, {id: c, uses: do, with: {do: large}}, {id: d, uses: do, with: {do: large}}, {id: e, uses: do}]
`)+ruleOf("looks", onGo+`
  steps: [{id: a, uses: do, with: {do: large}}, {id: b, uses: do, with: {do: large}}]
  verify: {uses: do, with: {do: large}, expect: probe.outputs.n == 9, every: 1m, within: 30m}
`), func(t *testing.T, w *world) {
		n := 0
		w.on["large"] = func(context.Context, *action.Call) (action.Outputs, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			n++
			return action.Outputs{"dir": strings.Repeat("x", large), "n": int64(n)}, nil
		}
		id := w.sendNow("go", "x", 1)
		got := w.ended(id + "-r")
		if d := got.Step(run.Main, "d"); d == nil || d.State != run.StepFailed || !strings.Contains(d.Error, "kept of a run") || got.Step(run.Main, "c").State != run.StepSucceeded {
			t.Errorf("%s %s: %+v", got.State, got.Message, d)
		}
		if got := w.ended(id + "-looks"); got.State != run.Succeeded || got.Verified.Looks < 2 {
			t.Errorf("%s %s after %d looks", got.State, got.Message, got.Verified.Looks)
		}
	})
}
