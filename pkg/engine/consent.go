package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Consents says whose consent a run in mode approve needs.
type Consents struct {
	Needed  int           // persons
	Expires time.Duration // after which a run that waits is refused
	// May says why a person, in these groups, may not consent; nil lets everybody.
	May func(who string, groups []string) error
}

// maxShown bounds what people are shown of a step before they consent, in bytes of JSON.
const maxShown = 64 << 10

// askConsent has the run wait until people have agreed to a step, with the parameters that it would have. Nobody is asked about
// a step whose condition is not true.
func (p *partition) askConsent(ctx context.Context, a *active, sp *run.StepPlan) {
	if p.skipped(ctx, a, *sp) {
		return
	}
	_, with, err := a.rule.Prepare(ctx, run.Main, sp.ID, p.scope(a, sp.ID))
	if err != nil { // the step would fail before it did anything
		p.record(a, run.Entry{At: p.e.Now(), Kind: run.Started, Run: a.run.ID, Step: sp.ID, Uses: sp.Uses, Attempt: 1})
		p.attempted(a, *sp, 1, nil, err)
		return
	}
	policy := p.consents(a.rule)
	now := p.e.Now()
	p.record(a, run.Entry{At: now, Kind: run.Requested, Run: a.run.ID, Approval: &run.Approval{
		Step: sp.ID, Uses: sp.Uses, Digest: p.digest(a.run, sp.ID, with), Shown: p.shown(with),
		RequestedAt: now, ExpiresAt: now.Add(policy.Expires), Needed: max(1, policy.Needed),
	}})
	p.tellRequest(a)
}

// Asked names what people are asked about: what an attempt at a run waits for.
type Asked struct {
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
	Digest  string `json:"digest,omitempty"`
}

// requested is the body of the event that tells that a run waits. It holds nothing that lets whoever reads it answer.
type requested struct {
	Asked
	Rule    string     `json:"rule"`
	Event   string     `json:"event"`
	Step    string     `json:"step"`
	Uses    string     `json:"uses"`
	Shown   run.Values `json:"shown,omitempty"`
	Needed  int        `json:"needed"`
	Expires time.Time  `json:"expires"`
	URL     string     `json:"url,omitempty"`
}

// tellRequest puts an event into the log that says what a run waits for, once for each request: its id is made of it, and it
// is in the log before the journal says that the run waits. Runs that such an event started tell nobody, or one that waits
// itself would make the next.
func (p *partition) tellRequest(a *active) {
	if isRequest(a.event) {
		return
	}
	r, ask := a.run, a.run.Approval
	told := requested{
		Asked: Asked{Run: r.ID, Attempt: r.Attempt, Digest: ask.Digest}, Rule: r.Rule, Event: r.Event, Step: ask.Step, Uses: ask.Uses,
		Shown: ask.Shown, Needed: ask.Needed, Expires: ask.ExpiresAt,
	}
	if p.e.RunURL != nil {
		told.URL = p.e.RunURL(r.ID)
	}
	body, err := json.Marshal(told)
	if err != nil {
		p.log.Error("that a run waits for consent can't be told", "run", r.ID, "error", err)
		return
	}
	p.letters = append(p.letters, event.Record{Kind: event.KindEvent, SourceType: event.OwnSource, Event: &event.Event{
		ID: event.ID(event.OwnSource, fmt.Sprintf("%s %s %d %s", event.ApprovalRequested, r.ID, r.Attempt, ask.Digest)), Source: event.OwnSource, Type: event.ApprovalRequested,
		Subject: r.ID, Body: body, Time: ask.RequestedAt, ReceivedAt: ask.RequestedAt, CausedBy: r.Event,
	}})
}

func isRequest(e *event.Event) bool {
	return e != nil && e.Source == event.OwnSource && e.Type == event.ApprovalRequested
}

// askedBy is what a run's texts can ask people about: itself, or the run whose request started it.
func askedBy(r *run.Run, e *event.Event) Asked {
	if isRequest(e) {
		var told Asked
		if json.Unmarshal(e.Body, &told) == nil && told.Run != "" {
			return told
		}
	}
	return Asked{Run: r.ID, Attempt: r.Attempt}
}

func (p *partition) consents(r *rule.Rule) Consents {
	if p.e.Consents == nil {
		return Consents{Needed: 1, Expires: 24 * time.Hour}
	}
	return p.e.Consents(r)
}

func (p *partition) shown(with map[string]any) run.Values {
	shown, _ := p.redact(with).(map[string]any)
	if text, err := json.Marshal(shown); err != nil || len(text) > maxShown {
		return run.Values{"omitted": fmt.Sprintf("the parameters are more than %d bytes", maxShown)}
	}
	return shown
}

// digest names what people agree to: a step of a run with its parameters, and all that the steps before it found.
func (p *partition) digest(r *run.Run, step string, with map[string]any) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %q\n", r.ID, r.Attempt, step)
	text, _ := json.Marshal(p.redact(with))
	h.Write(text)
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Phase == run.Main && s.State == run.StepSucceeded {
			outputs, _ := json.Marshal(s.Outputs)
			fmt.Fprintf(h, "\n%q %s", s.ID, outputs)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// stale says that what a step would do is not what people agreed to: a step before it was made again on this machine, and
// found something else.
func (p *partition) stale(ctx context.Context, at *attempt) error {
	a := at.run.Approval
	if a == nil || a.Step != at.plan.ID || at.phase != run.Main {
		return nil
	}
	_, with, err := at.rule.Prepare(ctx, at.phase, at.plan.ID, p.moment(at.rule, &at.run, at.event, at.joined).ScopeOf(at.phase, at.plan.ID))
	if err != nil {
		return err
	}
	if p.digest(&at.run, at.plan.ID, with) != a.Digest {
		return action.Refused("ApprovalStale", fmt.Errorf("what step %s would do now is not what was agreed to: retry the run to be asked again", at.plan.ID))
	}
	return nil
}

// Order is the body of a command: who gives it, and to what.
type Order struct {
	Who     string   `json:"who,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	Via     string   `json:"via,omitempty"`
	Comment string   `json:"comment,omitempty"`
	// Digest names what was shown to whoever consents.
	Digest string `json:"digest,omitempty"`
}

// consent hears a person's yes or no to what a run waits for.
func (p *partition) consent(ctx context.Context, a *active, heard run.Entry, e *event.Event) {
	var o Order
	err := json.Unmarshal(e.Body, &o)
	c := run.Consent{Who: o.Who, Via: o.Via, Comment: o.Comment, At: heard.At}
	if err == nil {
		err = a.run.Consents(c, o.Digest)
	}
	if may := p.consents(a.rule).May; err == nil && may != nil {
		if err = may(o.Who, o.Groups); err != nil {
			heard.Reason = run.ReasonNotEntitled
		}
	}
	if err != nil {
		heard.Run, heard.Why = "", fmt.Sprintf("%s of run %s by %s refused: %v", heard.Command, a.run.ID, o.Who, err)
		p.entries = append(p.entries, heard)
		return
	}
	heard.Consent = &c
	p.record(a, heard)
	p.advance(ctx, a)
}
