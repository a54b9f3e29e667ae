package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// read deals with the records that the feed brought.
func (p *partition) read(ctx context.Context, b batch) {
	for i, en := range b.entries {
		if en.Pos.Compare(p.decided) <= 0 {
			continue
		}
		switch en.Record.Kind {
		case event.KindActivate:
			if !p.activate(ctx, en) {
				p.rest = batch{b.last, b.entries[i:]}
				return
			}
		case event.KindCommand:
			p.command(ctx, en)
		case event.KindEvent:
			p.decideCarefully(ctx, en)
		}
		if ctx.Err() != nil {
			return
		}
		p.decided = en.Pos
	}
	if p.decided.Compare(b.last) < 0 {
		p.decided = b.last
	}
}

// activate makes a rule revision the one that decides from here on. While it can't be loaded, it returns false and is to
// be called again: nothing is read meanwhile, but the runs go on.
func (p *partition) activate(ctx context.Context, en event.Entry) bool {
	revision := en.Record.Event.Subject
	set, err := p.e.set(ctx, revision)
	if err == nil {
		p.set, p.revision, p.stuck, p.wait = set, revision, nil, 0
		p.e.setProblem(p.id, nil)
		return true
	}
	p.stuck, p.wait = err, min(max(2*p.wait, 100*time.Millisecond), 5*time.Second)
	p.again = time.After(p.wait)
	p.e.setProblem(p.id, err)
	p.log.Error("rule revision can't be loaded; nothing is decided until it can", "revision", revision, "error", err)
	return false
}

// decideCarefully decides an event; after a crash the first ones behind a note that survives the next crash, so that an
// event that ends the process is found and set aside.
func (p *partition) decideCarefully(ctx context.Context, en event.Entry) {
	id := en.Record.Event.ID
	if p.noted[id] >= maxKills {
		p.quarantine(en)
		return
	}
	if p.careful > 0 {
		p.careful--
		p.entries = append(p.entries, run.Entry{At: p.e.Now(), Kind: run.Deciding, Event: id})
		if !p.commit(ctx) {
			return
		}
	}
	p.decide(ctx, en)
	if p.careful > 0 {
		p.commit(ctx)
	}
}

func (p *partition) quarantine(en event.Entry) {
	p.log.Error("event is quarantined: deciding it ended the process before; see it with riposte events show", "event", en.Record.Event.ID)
	p.e.metrics.decisions.WithLabelValues("quarantined").Inc()
	p.decision(en, nil, quarantinedWhy+fmt.Sprint(maxKills)+" times")
}

const quarantinedWhy = "quarantined: deciding it ended the process "

// Quarantined reports whether a decision set its event aside: reading such an event can end the process.
func Quarantined(decision run.Entry) bool { return strings.HasPrefix(decision.Why, quarantinedWhy) }

// decide evaluates the rules and records the decision together with the runs it creates.
func (p *partition) decide(ctx context.Context, en event.Entry) {
	matches, err := p.match(ctx, en.Record.Event)
	if err != nil {
		p.log.Error("event could not be decided", "event", en.Record.Event.ID, "error", err)
		p.e.metrics.decisions.WithLabelValues("error").Inc()
		p.decision(en, nil, err.Error())
		return
	}
	var created []run.Created
	for _, v := range matches.Verdicts {
		if v.Truth == expression.True {
			created = append(created, create(en.Record.Event.ID, v.Rule))
		}
		p.count(v)
	}
	if len(created) == 0 {
		p.e.metrics.decisions.WithLabelValues("none").Inc()
		p.decision(en, nil, why(matches))
		return
	}
	p.e.metrics.decisions.WithLabelValues("run").Inc()
	p.decision(en, created, "")
	for _, c := range created {
		p.begin(c, en)
	}
}

func create(eventID string, r *rule.Rule) run.Created {
	c := run.Created{ID: eventID + "-" + r.Name, Rule: r.Name}
	if r.Mode == "observe" {
		c.State, c.Message = run.Observed, "the rule's mode is observe: nothing was done"
	}
	return c
}

// match makes the event's views and asks the rules. What an event makes panic is an error of that event alone.
func (p *partition) match(ctx context.Context, e *event.Event) (m rule.Matches, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("deciding the event panicked: %v", v)
		}
	}()
	if !p.set.Selects(e) {
		return m, nil
	}
	p.normalise(e)
	return p.set.Match(ctx, e, e.ReceivedAt), nil
}

func (p *partition) normalise(e *event.Event) {
	if s := p.set.Sources[e.Source]; s != nil && s.Source != nil {
		s.Source.Normalise(e)
	}
	if e.Time.IsZero() {
		e.Time = e.ReceivedAt
	}
}

func (p *partition) decision(en event.Entry, created []run.Created, why string) {
	pos := en.Pos
	p.entries = append(p.entries, run.Entry{
		At: p.e.Now(), Kind: run.Decided, Event: en.Record.Event.ID, Pos: &pos, Revision: p.revision, Runs: created, Why: clip(p.e.Redact(why)),
	})
	delete(p.noted, en.Record.Event.ID)
}

// begin starts the run that the last entry created.
func (p *partition) begin(c run.Created, en event.Entry) {
	r := run.New(c, p.entries[len(p.entries)-1])
	if r.State.Ended() {
		p.e.metrics.runs.WithLabelValues(r.Rule, string(r.State)).Inc()
		return
	}
	a := &active{run: r, rule: p.set.Rule(c.Rule), event: en.Record.Event}
	p.bytes += len(a.event.Body)
	p.runs[r.ID] = a
	p.touched = append(p.touched, a)
	p.queue = append(p.queue, a)
	a.queued = true
}

// count counts a rule that could not be decided, once, whatever it was that was absent or failed.
func (p *partition) count(v rule.Verdict) {
	switch {
	case v.Truth != expression.Absent:
	case v.Failed:
		p.e.metrics.errors.WithLabelValues(v.Rule.Name).Inc()
	default:
		p.e.metrics.absent.WithLabelValues(v.Rule.Name).Inc()
	}
}

const (
	maxWhy   = 400 // bytes: what begins within them is written out
	maxFalse = 8   // rules whose condition is false are named where there are no more of them
)

// why says in a line why nothing was started: first what could not be decided, because that may be a mistake.
func why(m rule.Matches) string {
	if m.Triggered == 0 {
		return "no rule's trigger matches"
	}
	var l line
	for i, v := range m.Verdicts {
		if l.full() {
			l.add(fmt.Sprintf("%d more could not be decided", len(m.Verdicts)-i))
			break
		}
		l.add(v.Rule.Name + ": " + verdictReason(v))
	}
	untrue := m.Triggered - len(m.Verdicts)
	if untrue > maxFalse || untrue > 0 && l.full() {
		l.add(fmt.Sprintf("%d whose when is not true", untrue))
		untrue = 0
	}
	for _, r := range m.False(untrue) {
		l.add(r.Name + ": when is not true")
	}
	return strings.Join(l.parts, "; ")
}

// line is a text in parts of which the first few are enough.
type line struct {
	parts []string
	bytes int
}

func (l *line) add(part string) {
	l.parts = append(l.parts, part)
	l.bytes += len(part)
}

func (l *line) full() bool { return l.bytes > maxWhy }

func verdictReason(v rule.Verdict) string {
	for _, c := range v.Clauses {
		switch {
		case c.Truth == expression.Absent && c.Absent != "":
			return c.Absent + " is absent"
		case c.Truth == expression.Absent && c.Err != nil:
			return c.Err.Error()
		}
	}
	return "when is absent"
}
