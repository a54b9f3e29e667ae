package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// start gives the order to run a rule, and returns the ids of its run and of the event that says so.
func (w *world) start(s Start) (runID, eventID string) {
	w.t.Helper()
	o := Orders{Now: time.Now, Append: func(_ context.Context, records []event.Record) ([]event.Appended, error) {
		w.append(records...)
		return nil, nil
	}}
	runID, eventID, err := o.Start(context.Background(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return runID, eventID
}

const byHandRules = `apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: release}
spec:
  inputs: {version: {type: string}, canary: {type: bool, default: true}}
  steps: [{id: a, uses: do, with: {do: see, target: "${{ inputs.version }} ${{ inputs.canary }}"}}]
---
`

func TestARuleRunsByHand(t *testing.T) {
	text := byHandRules +
		ruleOf("never", "  trigger: {type: go}\n  when: \"false\"\n  steps: [{id: a, uses: do, with: {do: see, target: \"${{ event.data.inputs.to }}\"}}]\n") +
		ruleOf("greedy", "  trigger: {source: \"*\", type: \"*\"}\n  steps: [{id: a, uses: do}]\n") +
		ruleOf("counts", "  trigger: {source: \"*\", type: \"*\"}\n  correlate: {count: 1, within: 1h}\n  steps: [{id: a, uses: do}]\n") +
		ruleOf("observes", "  mode: observe\n  trigger: {type: x}\n  steps: [{uses: do}]\n") +
		ruleOf("bounded", "  trigger: {type: x}\n  limits: [{runs: 1, per: 1h}]\n  steps: [{id: a, uses: do}]\n")
	rules(t, 2, text, func(t *testing.T, w *world) {
		var saw []string
		w.on["see"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			p := c.Params.(*params)
			w.mu.Lock()
			defer w.mu.Unlock()
			saw = append(saw, p.Target)
			return nil, nil
		}
		id, e := w.start(Start{Rule: "never", Inputs: map[string]any{"to": "prod"}, Who: "ana"})
		if r := w.ended(id); r.State != run.Succeeded || r.Event != e || r.Rule != "never" {
			t.Errorf("%+v", r)
		}
		if d := w.decision(e); len(d.Runs) != 1 {
			t.Errorf("more than the rule that was named ran: %+v", d.Runs)
		}
		w.start(Start{Rule: "workflow/release", Inputs: map[string]any{"version": "1.2", "canary": false}})
		id, _ = w.start(Start{Rule: "workflow/release", Inputs: map[string]any{"version": "1.2"}})
		if r := w.ended(id); r.State != run.Succeeded || strings.Contains(r.ID, "/") {
			t.Errorf("%s is %s %s", r.ID, r.State, r.Message)
		}
		id, _ = w.start(Start{Rule: "never"}) // and reads an input that is not given
		if r := w.ended(id); r.State != run.Refused || r.Reason != run.ReasonAbsentField {
			t.Errorf("%s %s", r.State, r.Reason)
		}
		id, _ = w.start(Start{Rule: "observes"})
		if r := w.ended(id); r.State != run.Observed {
			t.Errorf("a rule that observes: %s", r.State)
		}
		states := map[run.State]int{}
		for range 3 {
			id, _ = w.start(Start{Rule: "bounded"})
			states[w.ended(id).State]++
		}
		if fmt.Sprint(states) != "map[refused:2 succeeded:1]" {
			t.Errorf("with a limit: %v", states)
		}
		for name, why := range map[string]string{"nobody": "has no rule nobody", "workflow/nobody": "has no rule workflow/nobody"} {
			_, e := w.start(Start{Rule: name})
			if d := w.decision(e); len(d.Runs) != 0 || !strings.Contains(d.Why, why) {
				t.Errorf("%s: %+v", name, d)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.Sort(saw); fmt.Sprint(saw) != "[1.2 false 1.2 true prod]" {
			t.Errorf("%q", saw)
		}
		for id := range w.runs {
			if strings.Contains(id, "greedy") || strings.Contains(id, "counts") {
				t.Errorf("%s runs, which nobody asked for", id)
			}
		}
	})
}

func TestARuleRunsByHandOnARecordedEvent(t *testing.T) {
	rules(t, 3, ruleOf("r", "  trigger: {type: push.shop}\n  when: \"false\"\n  steps: [{id: a, uses: do, with: {do: see, target: \"${{ event.git.branch }}\"}}]\n"), func(t *testing.T, w *world) {
		saw := ""
		w.on["see"] = func(_ context.Context, c *action.Call) (action.Outputs, error) {
			saw = c.Params.(*params).Target + " " + c.Event.ID
			return nil, nil
		}
		old := w.sendNow("push.shop", "", 1)
		w.decision(old)
		id, e := w.start(Start{Rule: "r", Event: old})
		r := w.ended(id)
		if r.State != run.Succeeded || r.Event != old || saw != "main "+old || EventOf(r.ID) != e {
			t.Errorf("%s %s on %s: %q", r.State, r.Message, r.Event, saw)
		}
		_, e = w.start(Start{Rule: "r", Event: "NONE"})
		if d := w.decision(e); len(d.Runs) != 0 || !strings.Contains(d.Why, "event NONE can't be read") {
			t.Errorf("%+v", d)
		}
	})
}

// TestOnlyPeopleRunRulesByHand: nothing that a sender or a rule can make is taken for a person's order.
func TestOnlyPeopleRunRulesByHand(t *testing.T) {
	for _, e := range []*event.Event{{Source: "src", Type: "run"}, {Source: event.OwnSource, Type: "emitted.run"}, {Source: event.OwnSource, Type: "storm.began"}} {
		if ByHand(e) {
			t.Errorf("%s of %s", e.Type, e.Source)
		}
	}
}

const looping = "  trigger: {type: go}\n  steps: [{id: push, uses: fix, with: {do: push, target: repo}}]\n"

// causes has an action that is answered by an event which names the run, as a push with the trailers of a commit is.
func causes(w *world, typ string) func(context.Context, *action.Call) (action.Outputs, error) {
	return func(_ context.Context, c *action.Call) (action.Outputs, error) {
		w.append(event.Record{Kind: event.KindEvent, Event: &event.Event{ID: event.ID("loop", c.RunID), Source: "src", Type: typ, CausedBy: c.RunID, ReceivedAt: time.Now()}})
		return nil, nil
	}
}

// TestAnAutomationsOwnPushDoesNotTriggerItselfForEver: each run pushes, and each push starts the rule.
func TestAnAutomationsOwnPushDoesNotTriggerItselfForEver(t *testing.T) {
	for name, spec := range map[string]string{
		"event by event": looping,
		"by a window":    strings.Replace(looping, "  steps:", "  correlate: {count: 1, within: 1h}\n  steps:", 1),
		"by time":        strings.Replace(looping, "  steps:", "  correlate: {collect: true, within: 5m}\n  steps:", 1),
	} {
		t.Run(name, func(t *testing.T) {
			rules(t, 3, ruleOf("r", spec), func(t *testing.T, w *world) {
				w.on["push"] = causes(w, "go")
				w.sendNow("go", "x", 1)
				time.Sleep(24 * time.Hour)
				w.mu.Lock()
				defer w.mu.Unlock()
				depths := map[int]string{}
				for _, r := range w.runs {
					depths[r.Depth] += string(r.State) + r.Reason
					if (r.CausedBy != "") != (r.Depth > 0) {
						t.Errorf("depth %d, caused by %q", r.Depth, r.CausedBy)
					}
					if r.State == run.Refused && strings.Count(r.Message, "r (run ") != 4 {
						t.Errorf("the message does not name the chain: %s", r.Message)
					}
				}
				if want := "map[0:succeeded 1:succeeded 2:succeeded 3:succeeded 4:refusedLoop]"; fmt.Sprint(depths) != want {
					t.Errorf("%v, want %s", depths, want)
				}
			})
		})
	}
}

func TestWhatARunCausedIsRecognised(t *testing.T) {
	rules(t, 2, ruleOf("r", onGo+"  steps: [{id: a, uses: do}]\n"), func(t *testing.T, w *world) {
		send := func(causedBy string, n int) *run.Run {
			r := eventOf("go", n)
			r.Event.CausedBy = causedBy
			w.append(r)
			return w.ended(r.Event.ID + "-r")
		}
		first := send("", 1)
		for n, c := range []struct {
			causedBy string
			depth    int
		}{
			{first.Event, 0}, // a person replayed the event
			{first.ID, 1},
			{event.ID("of", "another server") + "-r", 2},
			{first.ID[:27], 2}, // no id, but the beginning of one
		} {
			r := send(c.causedBy, 10+n)
			text, _ := json.Marshal(r)
			if r.State != run.Succeeded || r.Depth != c.depth {
				t.Errorf("caused by %s: depth %d, want %d: %s", c.causedBy, r.Depth, c.depth, text)
			}
		}
	})
}
