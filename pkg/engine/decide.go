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

// read deals with the records that the feed brought. Up to where the journal answers the log it only makes the windows
// again, which the journal does not hold.
func (p *partition) read(ctx context.Context, b batch) {
	for i := range b.records {
		r := &b.records[i]
		if r.Pos.Compare(p.at) <= 0 {
			continue
		}
		if !p.hear(ctx, r, r.Pos.Compare(p.decided) > 0) {
			p.rest = batch{b.last, b.records[i:]}
			return
		}
		if ctx.Err() != nil {
			return
		}
		p.moved(r.Pos)
	}
	p.moved(b.last)
}

func (p *partition) moved(to event.Pos) {
	if p.at.Compare(to) < 0 {
		p.at = to
	}
	if p.decided.Compare(to) < 0 {
		p.decided = to
	}
}

// hear deals with one record; fresh says that the journal has no answer to it yet. It returns false where the record must
// wait for a rule revision that can't be loaded.
func (p *partition) hear(ctx context.Context, r *record, fresh bool) bool {
	switch {
	case r.Record.Kind == event.KindActivate:
		return p.activate(ctx, r.Entry)
	case r.Record.Kind == event.KindTick:
		if all := p.windows.moveTo(r.Record.Event.ReceivedAt); fresh {
			p.fire(r.Pos, all)
		}
	case r.Record.Kind == event.KindCommand && r.home == p.id && fresh:
		p.command(ctx, r.Entry)
	case r.Record.Kind == event.KindEvent && !r.Duplicate:
		p.event(ctx, r, fresh)
	}
	return true
}

func (p *partition) event(ctx context.Context, r *record, fresh bool) {
	switch {
	case r.home == p.id && fresh:
		p.decideCarefully(ctx, r)
	case fresh:
		p.fire(r.Pos, p.correlate(ctx, r))
	case !p.setAside[r.Record.Event.ID]:
		p.correlate(ctx, r) // what fires is in the journal
	}
}

// activate makes a rule revision the one that decides from here on. While it can't be loaded, it returns false and is to
// be called again: nothing is read meanwhile, but the runs go on.
func (p *partition) activate(ctx context.Context, en event.Entry) bool {
	revision := en.Record.Event.Subject
	set, err := p.e.set(ctx, revision)
	if err == nil {
		err = p.useMachines(set)
	}
	if err == nil {
		p.set, p.revision, p.stuck, p.wait = set, revision, nil, 0
		p.e.setProblem(p.id, nil)
		p.e.Activated(set)
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
func (p *partition) decideCarefully(ctx context.Context, r *record) {
	id := r.Record.Event.ID
	if p.noted[id] >= maxKills {
		p.quarantine(r.Entry)
		return
	}
	if p.careful > 0 {
		p.careful--
		p.entries = append(p.entries, run.Entry{At: p.e.Now(), Kind: run.Deciding, Event: id})
		if !p.commit(ctx) {
			return
		}
	}
	p.decide(ctx, r)
	if p.careful > 0 {
		p.commit(ctx)
	}
}

func (p *partition) quarantine(en event.Entry) {
	p.log.Error("event is quarantined: deciding it ended the process before; see it with riposte events show", "event", en.Record.Event.ID)
	p.e.metrics.decisions.WithLabelValues("quarantined").Inc()
	p.decision(en, nil, quarantinedWhy+fmt.Sprint(maxKills)+" times")
	p.setAside[en.Record.Event.ID] = true
}

const quarantinedWhy = "quarantined: deciding it ended the process "

// Quarantined reports whether a decision set its event aside: reading such an event can end the process.
func Quarantined(decision run.Entry) bool { return strings.HasPrefix(decision.Why, quarantinedWhy) }

// decide evaluates the rules and records the decision together with the runs it creates, those of windows that the event
// completes among them.
func (p *partition) decide(ctx context.Context, r *record) {
	en := r.Entry
	all := p.correlate(ctx, r)
	joins := p.joins(ctx, r)
	p.countJoins(joins)
	matches, err := p.match(ctx, r)
	if err != nil {
		p.log.Error("event could not be decided", "event", en.Record.Event.ID, "error", err)
	}
	var created []run.Created
	for _, v := range matches.Verdicts {
		if v.Truth == expression.True {
			created = append(created, p.create(en.Record.Event.ID, v.Rule))
		}
		p.count(v)
	}
	for _, f := range all {
		created = append(created, p.createFired(f))
	}
	result, reason := "run", unanswered(matches)
	switch {
	case err != nil:
		result, reason = "error", err.Error()
	case len(created) == 0:
		result, reason = "none", why(matches, joinReasons(joins))
	}
	p.e.metrics.decisions.WithLabelValues(result).Inc()
	p.decision(en, created, reason)
	for _, c := range created {
		p.begin(c, en.Record.Event)
	}
}

func (p *partition) create(eventID string, r *rule.Rule) run.Created {
	c := run.Created{ID: eventID + "-" + r.Name, Rule: r.Name}
	p.hold(&c, r)
	return c
}

// hold ends a run at once that must not do anything, and says why.
func (p *partition) hold(c *run.Created, r *rule.Rule) {
	if message, observes := r.Observes(); observes {
		c.State, c.Message = run.Observed, message
		return
	}
	if p.e.Quiet == nil {
		return
	}
	if name, until, ok := p.e.Quiet(r.Labels, p.windows.log); ok {
		c.State, c.Reason = run.Refused, run.ReasonQuietTime
		c.Message = fmt.Sprintf("it is quiet time %s until %s", name, until.Format(time.RFC3339))
	}
}

// match makes the event's views and asks the rules. What an event makes panic is an error of that event alone.
func (p *partition) match(ctx context.Context, r *record) (m rule.Matches, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("deciding the event panicked: %v", v)
		}
	}()
	e := r.Record.Event
	if p.e.Watches(e) {
		p.views(r)
		p.e.Watched(e)
	}
	if !p.set.Selects(e) {
		return m, nil
	}
	p.views(r)
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

// begin starts a run that the last entry created; e is the event that was read, or nil.
func (p *partition) begin(c run.Created, e *event.Event) {
	r := run.New(c, p.entries[len(p.entries)-1])
	if r.State.Ended() {
		p.e.metrics.runs.WithLabelValues(r.Rule, string(r.State)).Inc()
		return
	}
	a := &active{run: r, rule: p.set.Rule(c.Rule)}
	if e != nil && e.ID == r.Event {
		p.keep(a, e)
		a.event = e
	}
	p.runs[r.ID] = a
	p.touched = append(p.touched, a)
	p.queue = append(p.queue, a)
	a.queued = true
}

// keep counts an event's body among what is kept in memory for a run.
func (p *partition) keep(a *active, e *event.Event) {
	a.bytes += len(e.Body)
	p.bytes += len(e.Body)
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

// why says in a line why nothing was started: first what could not be decided, because that may be a mistake; more are
// reasons of rules that correlate.
func why(m rule.Matches, more []string) string {
	if m.Triggered+len(more) == 0 {
		return "no rule's trigger matches"
	}
	var l line
	l.undecided(m)
	for _, reason := range more {
		if !l.full() {
			l.add(reason)
		}
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

// unanswered says in a line which rules could not be asked while others matched: those that read an absent field or failed.
func unanswered(m rule.Matches) string {
	var l line
	l.undecided(m)
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

// undecided adds the rules that are absent.
func (l *line) undecided(m rule.Matches) {
	for i, v := range m.Verdicts {
		if l.full() {
			l.add(fmt.Sprintf("%d more could not be decided", len(m.Verdicts)-i))
			return
		}
		if v.Truth == expression.Absent {
			l.add(v.Rule.Name + ": " + verdictReason(v))
		}
	}
}

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
