package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// What bounds runs across partitions is asked of one gate, which belongs to the partition gateHome. Requests and answers
// are records of the log, so the gate's state is a function of the log, as the windows' is. A run asks again after its
// owner changed, and whoever no longer wants an answer gives back what it grants; so nothing is granted for ever to nobody.
const gateHome = 0

// request is the body of a record that asks the gate.
type request struct {
	Admit   *gate.Admission `json:"admit,omitempty"`
	Lock    *gate.Lock      `json:"lock,omitempty"`
	Release *gate.Release   `json:"release,omitempty"`
	Tell    *gate.Tell      `json:"tell,omitempty"`
}

// gating is what a run has asked of the gate since this replica owns it.
type gating struct {
	asked    bool               // for admission
	wants    map[string]stepKey // targets, and the steps that want them
	tell     tellState
	released bool
	freeing  bool
	refused  bool // it holds nothing
}

type tellState int

const (
	tellUnknown tellState = iota
	tellAsked
	tellYes
	tellNo
)

func (p *partition) ask(r request, runID string, done func()) {
	body, err := json.Marshal(r)
	if err != nil {
		p.log.Error("a request to the gate can't be written", "run", runID, "error", err)
		return
	}
	p.effects = append(p.effects, func() {
		p.e.mail.send(event.Record{Kind: event.KindAsk, Event: &event.Event{
			ID: event.RandomID(), Subject: runID, Body: body, ReceivedAt: p.e.Now(),
		}}, done)
	})
}

// askAdmission asks whether a run may begin.
func (p *partition) askAdmission(ctx context.Context, a *active) {
	if a.gate.asked || !p.fetch(ctx, a) {
		return
	}
	in, reason, err := a.rule.AdmissionFor(ctx, a.run, p.scope(a, ""))
	if err != nil {
		a.gate.refused = true
		p.end(ctx, a, run.Refuse(a.run, &a.rule.Plan, p.e.Now(), run.Refused, reason, clip(p.e.Redact(err.Error()))))
		return
	}
	a.gate.asked = true
	p.ask(request{Admit: &in}, a.run.ID, nil)
	p.park(a, time.Time{})
}

// locked reports whether the run has to itself what a step would change; otherwise it asks for it.
func (p *partition) locked(ctx context.Context, a *active, sp run.StepPlan) bool {
	if !sp.Changes {
		return true
	}
	target := ""
	if def := a.rule.Action(a.run.Phase, sp.ID); def.Target != nil {
		params, _, err := a.rule.Prepare(ctx, a.run.Phase, sp.ID, p.scope(a, sp.ID))
		if err != nil {
			return true // the step will say so, and do nothing
		}
		at := attempt{run: *a.run, plan: sp}
		if p.guarded(&at, func() error {
			target = def.Target(p.callOf(a.run, a.rule, a.event, a.run.Phase, sp.ID, params))
			return nil
		}) != nil {
			return true // as it will in its worker
		}
	}
	lock, asks := a.rule.LockFor(a.run, target)
	if !asks || slices.Contains(a.run.Targets, lock.Target) {
		return true
	}
	if _, asked := a.gate.wants[lock.Target]; !asked {
		if a.gate.wants == nil {
			a.gate.wants = map[string]stepKey{}
		}
		a.gate.wants[lock.Target] = stepKey{a.run.Phase, sp.ID}
		p.ask(request{Lock: &lock}, a.run.ID, nil)
	}
	return false
}

// end records the end of a run's part; what the run holds is given back first.
func (p *partition) end(ctx context.Context, a *active, en run.Entry) {
	if !p.mayEnd(ctx, a, &en) {
		return
	}
	p.record(a, en)
	if a.run.State.Ended() {
		p.over(a)
		return
	}
	p.advance(ctx, a)
}

// mayEnd reports whether a part of a run can end as the entry says, which it may change. Where the gate must be asked or
// told first, the run is asked for its next move again when that has happened.
func (p *partition) mayEnd(ctx context.Context, a *active, en *run.Entry) bool {
	if en.Kind != run.Ended {
		return true
	}
	if en.Phase == run.OnFailure && a.run.Gated {
		switch a.gate.tell {
		case tellNo:
			*en = run.Silent(a.run, &a.rule.Plan, *en)
		case tellUnknown:
			p.askToTell(ctx, a)
			return false
		case tellAsked:
			return false
		}
	}
	holds := len(a.run.Targets)+len(a.gate.wants) > 0 || a.run.Gated && !a.gate.refused
	if en.Phase != run.Main || a.gate.released || !holds {
		return true
	}
	if !a.gate.freeing {
		a.gate.freeing = true
		id := a.run.ID
		if a.run.Settled == nil { // a new owner must not come to another end: what the run holds may be another's by then
			p.record(a, run.Entry{At: p.e.Now(), Kind: run.Settled, Run: id, Phase: en.Phase, State: en.State, Reason: en.Reason, Error: en.Error})
		}
		p.ask(request{Release: &gate.Release{Run: rule.GateRun(a.run), Attempt: rule.GateAttempt(a.run), Outcome: rule.GateOutcome(en.State)}}, id, func() { p.acknowledge(id) })
		p.park(a, time.Time{})
	}
	return false
}

// askToTell asks whether a failure was told already.
func (p *partition) askToTell(ctx context.Context, a *active) {
	if a.event == nil && !p.fetch(ctx, a) {
		return
	}
	a.gate.tell = tellAsked
	tell := a.rule.TellFor(ctx, a.run, p.scope(a, ""))
	p.ask(request{Tell: &tell}, a.run.ID, nil)
	p.park(a, time.Time{}) // the answer comes through the log, which is not read while too much is held
}

// acknowledge notes that what a run holds is given back. Safe for concurrent use.
func (p *partition) acknowledge(runID string) {
	p.ackMu.Lock()
	p.acks = append(p.acks, runID)
	p.ackMu.Unlock()
	p.poke()
}

// takeAcks moves the runs on whose holdings are given back.
func (p *partition) takeAcks(ctx context.Context) {
	p.ackMu.Lock()
	acks := p.acks
	p.acks = nil
	p.ackMu.Unlock()
	for _, id := range acks {
		if a := p.runs[id]; a != nil {
			a.gate.released, a.gate.freeing = true, false
			p.advance(ctx, a)
		}
	}
}

// answered hears what the gate says of a run.
func (p *partition) answered(ctx context.Context, en event.Entry) {
	var ans gate.Answer
	if err := json.Unmarshal(en.Record.Event.Body, &ans); err != nil {
		p.log.Error("an answer of the gate can't be read", "error", err)
		return
	}
	a := p.runs[rule.RunOf(ans.Run)]
	if a == nil || a.rule == nil || rule.GateAttempt(a.run) != ans.Attempt {
		if ans.Verdict == gate.Admitted || ans.Verdict == gate.Locked {
			p.ask(request{Release: &gate.Release{Run: ans.Run, Attempt: ans.Attempt, Outcome: gate.Other}}, ans.Run, nil)
		}
		return
	}
	p.heard(ctx, a, &ans)
}

func (p *partition) heard(ctx context.Context, a *active, ans *gate.Answer) {
	now := p.e.Now()
	key, wanted := a.gate.wants[ans.Target]
	waits := !a.run.Admitted && a.run.Gated && a.run.Phase == run.Main && a.run.Outcome == ""
	switch ans.Verdict {
	case gate.Admitted:
		if !waits {
			return
		}
		p.record(a, run.Entry{At: now, Kind: run.Admitted, Run: a.run.ID})
	case gate.Queued, gate.LockWaits:
		if ans.Verdict == gate.Queued && waits || wanted && a.run.Message != ans.Message {
			p.record(a, run.Entry{At: now, Kind: run.Waits, Run: a.run.ID, Why: clip(ans.Message)})
		}
		return
	case gate.Locked:
		if slices.Contains(a.run.Targets, ans.Target) {
			return
		}
		p.record(a, run.Entry{At: now, Kind: run.Locked, Run: a.run.ID, Target: ans.Target})
	case gate.Refused, gate.Superseded:
		if ans.Target != "" {
			p.refuseStep(ctx, a, key, ans, wanted)
			return
		}
		if !waits {
			return
		}
		a.gate.refused = true
		if a.gate.tell = tellNo; ans.First {
			a.gate.tell = tellYes
		}
		state := run.Refused
		if ans.Verdict == gate.Superseded {
			state = run.Superseded
		}
		p.end(ctx, a, run.Refuse(a.run, &a.rule.Plan, now, state, ans.Reason, ans.Message))
		return
	case gate.Stop:
		p.record(a, run.Entry{At: now, Kind: run.Commanded, Run: a.run.ID, Command: run.CommandSupersede, Why: clip(ans.Message)})
		if !a.run.Phase.CleansUp() {
			p.cancel(a, errCancelled)
		}
	case gate.Told, gate.Silent:
		if a.gate.tell = tellNo; ans.Verdict == gate.Told {
			a.gate.tell = tellYes
		}
	}
	p.advance(ctx, a)
}

// refuseStep fails a step that may not have its target.
func (p *partition) refuseStep(ctx context.Context, a *active, key stepKey, ans *gate.Answer, wanted bool) {
	if !wanted || a.run.Phase != key.phase {
		return
	}
	delete(a.gate.wants, ans.Target)
	sp, ok := a.rule.Plan.Find(key.phase, key.id)
	if s := a.run.Step(key.phase, key.id); !ok || s != nil && s.State.Ended() {
		return
	}
	if a.gate.tell = tellNo; ans.First {
		a.gate.tell = tellYes
	}
	p.record(a, run.Entry{At: p.e.Now(), Kind: run.Started, Run: a.run.ID, Phase: key.phase, Step: sp.ID, Uses: sp.Uses, Attempt: p.nextAttempt(a, key)})
	p.attempted(a, sp, a.run.Step(key.phase, key.id).Attempt, nil, action.Refused(ans.Reason, errors.New(ans.Message)))
	p.advance(ctx, a)
}

func (p *partition) nextAttempt(a *active, key stepKey) int {
	if s := a.run.Step(key.phase, key.id); s != nil {
		return s.Attempt + 1
	}
	return 1
}

func (p *partition) cancel(a *active, cause error) {
	for _, cancel := range a.cancel {
		cancel(cause)
	}
}

// openGate makes the gate, in the partition that has it, from what was stored.
func (p *partition) openGate() error {
	if p.id != gateHome {
		return nil
	}
	var err error
	if was, there := p.windows.stored[gateState]; there {
		p.gate, err = gate.Restore(bytes.NewReader(was.data), p.e.Gate)
		if err != nil {
			return fmt.Errorf("read the state of the gate: %w", err)
		}
		return nil
	}
	p.gate, err = gate.New(p.e.Gate)
	return err
}

// gateState is the name that the gate's state has among those of the rules' windows; no rule has it.
const gateState = ""

// gateHears lets the gate answer a request; fresh says that nobody was given its answers yet.
func (p *partition) gateHears(r *record, fresh bool) {
	p.gateDirty = true
	var in request
	if err := json.Unmarshal(r.Record.Event.Body, &in); err != nil {
		p.log.Error("a request to the gate can't be read", "error", err)
		return
	}
	at := p.windows.log
	var out []gate.Answer
	switch {
	case in.Admit != nil:
		out = p.gate.Admit(at, *in.Admit)
	case in.Lock != nil:
		out = p.gate.Lock(at, *in.Lock)
	case in.Release != nil:
		out = p.gate.Release(at, *in.Release)
	case in.Tell != nil:
		out = p.gate.Tell(at, *in.Tell)
	}
	p.gateSays(out, fresh)
}

// gateMoves lets the gate know that time has passed.
func (p *partition) gateMoves(fresh bool) {
	if p.gate == nil {
		return
	}
	if next, ok := p.gate.Next(); ok && !next.After(p.windows.log) {
		p.gateDirty = true
		p.gate.MoveTo(p.windows.log)
		p.gateSays(nil, fresh)
	}
}

// gateSays keeps the gate's answers, which go into the log before the journal moves on from what they answer.
func (p *partition) gateSays(answers []gate.Answer, fresh bool) {
	notices := p.gate.Notices()
	if !fresh {
		return
	}
	for i := range answers {
		body, _ := json.Marshal(&answers[i])
		p.letters = append(p.letters, event.Record{Kind: event.KindAnswer, Event: &event.Event{
			ID: event.RandomID(), Subject: answers[i].Run, Body: body, ReceivedAt: p.e.Now(),
		}})
	}
	for _, n := range notices {
		p.notice(n)
	}
}

// notice tells of the gate itself: once, as an event that rules can answer.
func (p *partition) notice(n gate.Notice) {
	typ := rule.NoticeType(n.Kind)
	p.log.Warn("bounds of healing: "+string(n.Kind), "rule", n.Rule)
	p.e.metrics.notices.WithLabelValues(typ).Inc()
	body, _ := json.Marshal(map[string]string{"rule": n.Rule})
	p.letters = append(p.letters, event.Record{Kind: event.KindEvent, SourceType: event.OwnSource, Event: &event.Event{
		ID: event.ID(event.OwnSource, fmt.Sprintf("%s %s %d", n.Kind, n.Rule, n.At.UnixNano())), Source: event.OwnSource, Type: typ, Subject: n.Rule,
		Body: body, Time: n.At, ReceivedAt: p.e.Now(),
	}})
}

// deliver puts letters into the log. It returns false when the partition is lost meanwhile.
func (p *partition) deliver(ctx context.Context) bool {
	for wait := 50 * time.Millisecond; len(p.letters) > 0; wait = min(2*wait, 2*time.Second) {
		_, err := p.e.Log.Append(ctx, p.letters)
		if err == nil {
			p.letters = nil
			break
		}
		if ctx.Err() != nil {
			return false
		}
		p.log.Error("answers of the gate can't be written to the log; it is tried again", "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
