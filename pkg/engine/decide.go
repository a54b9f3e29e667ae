package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
			p.fire(ctx, r, all)
		}
		p.gateMoves(fresh)
	case r.Record.Kind == event.KindCommand && r.home == p.id && fresh:
		p.command(ctx, r.Entry)
	case r.Record.Kind == event.KindAnswer && r.home == p.id && fresh:
		p.answered(ctx, r.Entry)
	case r.Record.Kind == event.KindAsk && r.home == p.id:
		if all := p.windows.moveTo(r.Record.Event.ReceivedAt); fresh {
			p.fire(ctx, r, all)
		}
		p.gateHears(r, fresh)
	case r.Record.Kind == event.KindEvent && !r.Duplicate:
		p.event(ctx, r, fresh)
	}
	return true
}

func (p *partition) event(ctx context.Context, r *record, fresh bool) {
	if fresh {
		p.hearAlert(ctx, r)
	}
	switch {
	case r.home == p.id && fresh:
		p.decideCarefully(ctx, r)
	case fresh:
		p.fire(ctx, r, p.correlate(ctx, r))
	case !p.setAside[r.Record.Event.ID]:
		p.correlate(ctx, r) // what fires is in the journal
	}
}

// activate makes a rule revision the one that decides from here on. While it can't be loaded, it returns false and is to
// be called again: nothing is read meanwhile, but the runs go on.
func (p *partition) activate(ctx context.Context, en event.Entry) bool {
	revision := en.Record.Event.Subject
	set, err := p.e.activated(ctx, en.Record.Event)
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
		p.quarantine(p.question(r))
		p.setAside[id] = true
		return
	}
	if p.careful == 0 {
		p.decide(ctx, r)
		return
	}
	p.careful--
	if !p.note(ctx, id) {
		return
	}
	p.decide(ctx, r)
	if d := p.deferred[id]; d != nil {
		d.suspect = true
	}
	p.commit(ctx)
}

// note makes durable that an event is about to be decided.
func (p *partition) note(ctx context.Context, id string) bool {
	p.entries = append(p.entries, run.Entry{At: p.e.Now(), Kind: run.Deciding, Event: id})
	return p.commit(ctx)
}

func (p *partition) quarantine(q question) {
	p.log.Error("event is quarantined: deciding it ended the process before; see it with riposte events show", "event", q.id)
	p.e.metrics.decisions.WithLabelValues("quarantined").Inc()
	p.decision(q, nil, quarantinedWhy+fmt.Sprint(maxKills)+" times")
}

const quarantinedWhy = "quarantined: deciding it ended the process "

// Quarantined reports whether a decision set its event aside: reading such an event can end the process.
func Quarantined(decision run.Entry) bool { return strings.HasPrefix(decision.Why, quarantinedWhy) }

// question is an event that is to be decided, with all that the decision rests on.
type question struct {
	id       string
	pos      event.Pos
	event    *event.Event
	set      *rule.Set
	revision string
	joins    rule.Joins
	fired    []fired     // windows that the event completes
	paths    event.Paths // that it changed
	aside    bool        // it waited for a diff
	diffed   bool        // paths are what a diff found
	undiffed error       // why no diff found them, where one was needed
}

func (p *partition) question(r *record) question {
	e := r.Record.Event
	return question{id: e.ID, pos: r.Pos, event: e, set: p.set, revision: p.revision}
}

// decide evaluates the rules and records the decision together with the runs it creates, those of windows that the event
// completes among them. An event that needs a diff is put aside instead.
func (p *partition) decide(ctx context.Context, r *record) {
	q := p.question(r)
	q.fired = p.correlate(ctx, r)
	if ByHand(r.Record.Event) {
		p.answerByHand(ctx, q)
		return
	}
	q.joins = p.joins(ctx, r)
	p.countJoins(q.joins)
	p.watch(r)
	if repository, ok := p.needsDiff(ctx, r); ok {
		p.putAside(ctx, q, repository)
		return
	}
	p.answer(ctx, q, func() error { return p.views(r) })
}

// watch tells of an event those who want to know.
func (p *partition) watch(r *record) {
	if e := r.Record.Event; p.e.Watches(e) && p.views(r) == nil {
		p.e.Watched(e)
	}
}

// watchAgain tells once more of the events that were decided just before a crash: who was told may not have got to them.
func (p *partition) watchAgain(ctx context.Context) {
	ids := p.lately
	p.lately = nil
	if p.careful == 0 {
		return // the owner before left in good order
	}
	for _, id := range ids {
		en, err := p.e.Log.Read(ctx, id, event.Pos{})
		if err != nil || !p.e.Watches(en.Record.Event) {
			continue
		}
		if normalise(p.set, en.Record.Event) == nil {
			p.e.Watched(en.Record.Event)
		}
	}
}

// answer asks the rules; views makes the event's views.
func (p *partition) answer(ctx context.Context, q question, views func() error) {
	matches, err := q.match(ctx, views)
	if err != nil {
		p.log.Error("event could not be decided", "event", q.id, "error", err)
	}
	var created []run.Created
	var by *cause
	for _, v := range matches.Verdicts {
		if v.Truth == expression.True {
			c := p.create(q, v.Rule)
			if by == nil {
				found := p.causeOf(ctx, q.event)
				by = &found
			}
			by.place(&c)
			c.AsksChanged = q.diffed && v.Rule.StepsAsk()
			created = append(created, c)
		}
		p.count(v)
	}
	for _, f := range q.fired {
		created = append(created, p.createFired(ctx, f, q.event))
	}
	result, reason := "run", unanswered(q, matches)
	switch {
	case err != nil:
		result, reason = "error", err.Error()
	case len(created) == 0:
		result, reason = "none", why(q, matches)
	}
	p.e.metrics.decisions.WithLabelValues(result).Inc()
	for _, c := range p.decision(q, created, reason) {
		p.begin(c, q.event, q.set)
	}
}

func (p *partition) create(q question, r *rule.Rule) run.Created {
	c := run.Created{ID: runOf(q.id, r.Name), Rule: r.Name, Alert: r.AlertOf(q.event)}
	c.Gated = r.Gated(c.Alert)
	if p.hold(&c, r, p.windows.log); c.State == "" && q.aside {
		p.hold(&c, r, q.event.ReceivedAt) // the quiet time it came in, too
	}
	return c
}

// hold ends a run at once that must not do anything at a time, and says why.
func (p *partition) hold(c *run.Created, r *rule.Rule, at time.Time) {
	if message, paused := p.e.paused(r); paused {
		c.State, c.Reason, c.Message = run.Refused, run.ReasonPaused, message
		return
	}
	if message, observes := r.Observes(); observes {
		c.State, c.Message = run.Observed, message
		return
	}
	if p.e.Quiet == nil {
		return
	}
	if name, until, ok := p.e.Quiet(r.Labels, at); ok {
		c.KeepQuiet(name, until)
	}
}

// paused says whether a rule may start no runs, and why.
func (e *Engine) paused(r *rule.Rule) (message string, paused bool) {
	if e.Paused == nil {
		return "", false
	}
	return e.Paused(r)
}

// match makes the event's views and asks the rules. What an event makes panic is an error of that event alone.
func (q *question) match(ctx context.Context, views func() error) (m rule.Matches, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("deciding the event panicked: %v", v)
		}
	}()
	if !q.set.Selects(q.event) {
		return m, nil
	}
	if err := views(); err != nil {
		return m, err
	}
	if !q.diffed {
		q.paths = q.event.ListedPaths()
	}
	return q.set.MatchPaths(ctx, q.event, q.paths, q.event.ReceivedAt), nil
}

// normalise makes an event's views. What the event makes panic is its own fault.
func normalise(set *rule.Set, e *event.Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reading the event panicked: %v", v)
		}
	}()
	if s := set.Sources[e.Source]; s != nil && s.Source != nil {
		s.Source.Normalise(e)
	}
	if e.Time.IsZero() {
		e.Time = e.ReceivedAt
	}
	return nil
}

// decision records what was decided about an event, and returns the runs to begin.
func (p *partition) decision(q question, created []run.Created, why string) []run.Created {
	delete(p.noted, q.id)
	return p.enter(run.Entry{
		At: p.e.Now(), Kind: run.Decided, Event: q.id, Pos: &q.pos, Revision: q.revision, Runs: created,
		Why: clip(p.e.Redact(why)), Changed: p.changed(q, created),
	})
}

// maxCreated bounds the runs that one entry creates, in bytes of JSON: it must fit into a message of the journal.
const maxCreated = 256 << 10

// enter records an entry that creates runs, and returns those to begin. Windows can end by the thousands at once: what does
// not fit stands in entries before it. They may be all that a crash leaves, so that the next owner answers the same place of
// the log again: what they created is not created twice.
func (p *partition) enter(en run.Entry) []run.Created {
	begun := p.begun[en.Position()]
	delete(p.begun, en.Position())
	created := slices.DeleteFunc(en.Runs, func(c run.Created) bool { return begun[c.ID] })
	en.Runs = created
	for n := fitting(en.Runs); n < len(en.Runs); n = fitting(en.Runs) {
		p.entries = append(p.entries, run.Entry{
			At: en.At, Kind: run.Fired, Event: en.Event, Pos: en.Pos, Revision: en.Revision, Changed: en.Changed, Runs: en.Runs[:n:n], More: true,
		})
		en.Runs = en.Runs[n:]
	}
	p.entries = append(p.entries, en)
	return created
}

// fitting is how many of the runs fit into one entry: one at least, which is bounded otherwise.
func fitting(runs []run.Created) int {
	if len(runs) <= 1 {
		return len(runs)
	}
	size := 0
	for i := range runs {
		text, _ := json.Marshal(&runs[i])
		if size += len(text) + 1; size > maxCreated && i > 0 {
			return i
		}
	}
	return len(runs)
}

// begin starts a run that the last entry created; e is the event that was read, or nil.
func (p *partition) begin(c run.Created, e *event.Event, set *rule.Set) {
	r := run.New(c, p.entries[len(p.entries)-1])
	if r.State.Ended() {
		p.e.metrics.runs.WithLabelValues(r.Rule, string(r.State)).Inc()
		return
	}
	a := &active{run: r}
	a.rule, _ = set.ByHand(c.Rule)
	p.alerts.add(a)
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

// why says in a line why nothing was started: first what could not be decided, because that may be a mistake.
func why(q question, m rule.Matches) string {
	more := joinReasons(q.joins)
	if m.Triggered+len(more) == 0 {
		return "no rule's trigger matches"
	}
	var l line
	l.undiffed(q)
	l.undecided(m)
	for i, reason := range more {
		if l.full() {
			l.rest("%d more correlate", len(more)-i)
			break
		}
		l.add(reason)
	}
	untrue := m.Triggered - len(m.Verdicts)
	if untrue > maxFalse || untrue > 0 && l.full() {
		l.rest("%d whose when is not true", untrue)
		untrue = 0
	}
	for _, r := range m.False(untrue) {
		l.add(r.Name + ": when is not true")
	}
	return l.text(q.id)
}

// unanswered says in a line which rules could not be asked while others matched: those that read an absent field or failed.
func unanswered(q question, m rule.Matches) string {
	var l line
	l.undiffed(q)
	l.undecided(m)
	return l.text(q.id)
}

// line is a text in parts of which the first few are enough.
type line struct {
	parts []string
	bytes int
	short bool // some are only counted
}

func (l *line) add(part string) {
	l.parts = append(l.parts, part)
	l.bytes += len(part)
}

// rest counts what is not written out.
func (l *line) rest(format string, n int) {
	l.add(fmt.Sprintf(format, n))
	l.short = true
}

func (l *line) full() bool { return l.bytes > maxWhy }

// undiffed adds why the changed paths are not known.
func (l *line) undiffed(q question) {
	if q.undiffed != nil {
		l.add("the changed paths could not be found: " + q.undiffed.Error())
	}
}

func (l *line) text(eventID string) string {
	if l.short {
		l.add("riposte explain " + eventID + " says it of each")
	}
	return strings.Join(l.parts, "; ")
}

// undecided adds the rules that are absent.
func (l *line) undecided(m rule.Matches) {
	for i, v := range m.Verdicts {
		if l.full() {
			l.rest("%d more could not be decided", len(m.Verdicts)-i)
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
