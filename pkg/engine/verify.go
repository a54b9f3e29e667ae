package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// defaultLook bounds a look where the rule does not.
const defaultLook = time.Minute

// look is a look at whether the problem is gone, and what it came to.
type look struct {
	began   time.Time
	verdict run.Verdict
	note    string
}

// look has a worker look at whether the problem is gone. It returns false when there is none.
func (p *partition) look(ctx context.Context, a *active) bool {
	if !p.e.slots.acquire(p) {
		return false
	}
	probe := a.rule.Plan.Verify.Probe
	a.looking = true
	a.dir = a.dir || !a.rule.Action(run.Verification, probe.ID).NoDir
	at := attempt{
		run: snapshot(a.run), rule: a.rule, event: a.event, joined: a.joined, plan: probe, phase: run.Verification,
		n: a.run.Verified.Looks + 1, now: p.e.Now(),
	}
	lookCtx, done := p.stoppable(ctx, a, stepKey{run.Verification, probe.ID})
	p.inBackground(func() { defer done(nil); p.lookNow(lookCtx, at) })
	return true
}

// lookNow makes one look, in its own goroutine.
func (p *partition) lookNow(ctx context.Context, at attempt) {
	r := result{run: at.run.ID, plan: at.plan, phase: at.phase, attempt: at.n, look: &look{began: at.now}}
	limit := at.plan.Timeout
	if limit == 0 {
		limit = defaultLook
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.err = p.guarded(&at, func() (err error) {
		if err := p.ensureDir(&at); err != nil {
			return err
		}
		r.outputs, err = p.call(limited, &at, at.phase, at.plan.ID)
		return err
	})
	r.cause = context.Cause(ctx)
	var outputs run.Values
	if r.err == nil {
		outputs, _, r.err = p.keepable(r.outputs)
	}
	if r.err == nil {
		r.err = p.guarded(&at, func() error {
			scope := p.moment(at.rule, &at.run, at.event, at.joined).ScopeOf(at.phase, at.plan.ID)
			r.look.verdict, r.look.note = at.rule.Expect(limited, scope, outputs)
			return nil
		})
	}
	if r.err != nil {
		r.look.verdict, r.look.note = run.Unknown, r.err.Error()
	}
	r.outputs = action.Outputs(outputs)
	p.e.slots.release()
	p.results <- r
}

// looked records what a look came to. One that was cut off says nothing: it is made again.
func (p *partition) looked(ctx context.Context, a *active, r result) {
	a.looking = false
	delete(a.cancel, stepKey{r.phase, r.plan.ID})
	if a.run.Phase == run.Verification && !a.run.State.Ended() && r.cause == nil {
		if text, err := json.Marshal(r.outputs); err == nil && !a.fits(len(text)) {
			r.outputs, r.look.verdict = nil, run.Unknown
			r.look.note = fmt.Sprintf("the probe's outputs are %d bytes of JSON, and with the rest of the run more than the %d that are kept", len(text), maxRecord)
		}
		note := clip(p.e.Redact(r.look.note))
		p.record(a, run.Look(a.run, &a.rule.Plan, r.look.began, p.e.Now(), r.look.verdict, note, run.Values(r.outputs)))
	}
	p.advance(ctx, a)
}

// watched are the runs that answer alerts, by what names alerts for their rules alike: an alert is heard at the same cost
// however many rules and runs there are.
type watched map[string]*alike

// alike are the runs of rules that name an alert alike, by that name.
type alike struct {
	of    *rule.Rule // one of the rules
	byKey map[string]map[*active]struct{}
}

func (w watched) add(a *active) {
	if a.run.Alert == nil || a.rule == nil || a.rule.Correlation() != nil { // of those windows the last alert is not all that is amiss
		return
	}
	kind := a.rule.AlertKind()
	if w[kind] == nil {
		w[kind] = &alike{a.rule, map[string]map[*active]struct{}{}}
	}
	byKey := w[kind].byKey
	if byKey[a.run.Alert.Key] == nil {
		byKey[a.run.Alert.Key] = map[*active]struct{}{}
	}
	byKey[a.run.Alert.Key][a] = struct{}{}
}

func (w watched) remove(a *active) {
	if a.run.Alert == nil {
		return
	}
	kind := a.rule.AlertKind()
	if w[kind] == nil {
		return
	}
	byKey := w[kind].byKey
	if delete(byKey[a.run.Alert.Key], a); len(byKey[a.run.Alert.Key]) == 0 {
		delete(byKey, a.run.Alert.Key)
	}
	if len(byKey) == 0 {
		delete(w, kind)
	}
}

// hearAlert tells the runs that answer an alert what becomes of it, or of one in its place.
func (p *partition) hearAlert(ctx context.Context, r *record) {
	e := r.Record.Event
	if len(p.alerts) == 0 || p.views(r) != nil || e.Alert == nil {
		return
	}
	for _, group := range p.alerts {
		for a := range group.byKey[group.of.AlertKey(e)] {
			if a.run.Settled == nil && r.Pos.Compare(a.run.Alert.Seen) > 0 && r.Pos.Compare(a.run.EventPos) > 0 {
				p.record(a, run.Entry{
					At: p.e.Now(), Kind: run.Heard, Run: a.run.ID, Fingerprint: e.Alert.Fingerprint, Firing: e.Alert.Status == "firing", Seen: r.Pos,
				})
				p.advance(ctx, a)
			}
		}
	}
}
