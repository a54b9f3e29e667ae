package explain

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// View is how an explanation is shown.
type View struct {
	Now  time.Time      // for how long what has not ended has lasted
	Zone *time.Location // of all times; nil is UTC
	// All shows all there is: also the rules that ran, and those whose trigger does not select the event.
	All bool
}

// Columns of the details; clauses that are longer make room for themselves, up to a bound.
const (
	placeColumn   = 33
	verdictColumn = 46
	verdictWidth  = 9
	widestClause  = 90

	shownGroups = 5 // of one row
)

// Render writes the explanation for people, in ASCII.
func Render(w io.Writer, x *Explanation, v View) error {
	if v.Zone == nil {
		v.Zone = time.UTC
	}
	p := &printer{View: v, x: x, day: x.Event.ReceivedAt, column: verdictColumn}
	p.head()
	p.table()
	for i := range x.Rules {
		if r := &x.Rules[i]; p.shows(r) {
			p.widen(r)
		}
	}
	for i := range x.Rules {
		if r := &x.Rules[i]; p.shows(r) {
			p.rule(r)
		}
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

type printer struct {
	View
	x      *Explanation
	b      strings.Builder
	day    time.Time // times of another day are shown with their date
	column int
}

// line writes one line; what people or senders wrote is made plain on the way.
func (p *printer) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(plain(fmt.Sprintf(format, args...)), " "))
	p.b.WriteByte('\n')
}

// plain makes text harmless to a terminal: ASCII, in one line.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r) // as JSON does
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func (p *printer) head() {
	e := &p.x.Event
	parts := []string{e.ID, e.Source, e.Type, e.Time.In(p.Zone).Format(time.RFC3339)}
	if e.Subject != "" {
		parts = append(parts, clip(e.Subject, maxText))
	}
	accepted := "accepted"
	if p.x.State == Offline {
		accepted = "read"
	}
	p.day = e.Time
	parts = append(parts, fmt.Sprintf("(%s %s)", accepted, p.clock(e.ReceivedAt, "15:04:05.000Z07:00")))
	p.day = e.ReceivedAt
	p.line("%s", strings.Join(parts, "  "))
	if p.x.Note != "" {
		p.line("%s", p.x.Note)
	}
	if p.x.State == Undecided || p.x.State == Quarantined {
		return
	}
	text := fmt.Sprintf("rules at %.7s, %d loaded", cmp.Or(p.x.Revision, "none"), p.x.Loaded)
	if n := p.x.NotCandidates; n > 0 {
		text += fmt.Sprintf(", %d not %s (trigger)", n, plural(n, "candidate"))
		if !p.All {
			text += "; --all shows " + map[bool]string{true: "it", false: "them"}[n == 1]
		}
	}
	p.line("%s", text)
}

func plural(n int, what string) string {
	if n == 1 {
		return "a " + what
	}
	return what + "s"
}

// clock writes a time of day, with its date where that is another day than the event's.
func (p *printer) clock(t time.Time, layout string) string {
	t = t.In(p.Zone)
	if t.Format(time.DateOnly) != p.day.In(p.Zone).Format(time.DateOnly) {
		layout = time.DateOnly + "T" + layout
	}
	return t.Format(layout)
}

func (p *printer) at(t time.Time) string { return p.clock(t, "15:04:05Z07:00") }

// table writes a line for each rule, and for each further run of it.
func (p *printer) table() {
	if len(p.x.Rules) == 0 {
		return
	}
	rows := [][3]string{{"RULE", "RESULT", "WHY"}}
	for i := range p.x.Rules {
		r := &p.x.Rules[i]
		if len(r.Runs) == 0 {
			rows = append(rows, [3]string{r.Rule, string(r.Result), r.Why})
		}
		for _, run := range r.Runs {
			rows = append(rows, [3]string{r.Rule, string(r.Result), run.ID + "  " + p.state(run)})
		}
	}
	names, results := 0, 0
	for _, row := range rows {
		names, results = max(names, len(row[0])), max(results, len(row[1]))
	}
	p.line("")
	for _, row := range rows {
		p.line("%-*s  %-*s   %s", names, row[0], results, row[1], row[2])
	}
}

// state writes what a run came to, and how long it took or has lasted.
func (p *printer) state(r Ran) string {
	text := string(r.State)
	switch {
	case r.StartedAt == nil:
	case r.EndedAt == nil:
		text += " for " + lasted(p.Now.Sub(*r.StartedAt))
	default:
		text += " in " + lasted(r.EndedAt.Sub(*r.StartedAt))
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

func lasted(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// shows says whether a rule's details are shown: where it ran or matched, the table has said it all.
func (p *printer) shows(r *Verdict) bool {
	return len(r.Parts) > 0 && (p.All || r.Correlate != nil && r.Result != Run || r.Result == NoMatch)
}

// widen makes room for the clauses of a rule, so that all rules have the same columns.
func (p *printer) widen(r *Verdict) {
	for _, part := range r.Parts {
		for _, c := range part.When {
			p.room(c.Text)
		}
		for _, v := range part.By {
			p.room(v.Text)
		}
	}
}

func (p *printer) room(text string) {
	if n := len(plain(text)); n <= widestClause {
		p.column = max(p.column, len("    ")+n+1)
	}
}

func (p *printer) rule(r *Verdict) {
	p.line("")
	p.line("%s  %s:%d", r.Rule, r.File, r.Line)
	if len(r.Parts) == 1 || !p.All {
		p.trigger(r)
	}
	for i := range r.Parts {
		p.part(r, &r.Parts[i])
	}
	if r.Correlate != nil && r.Correlate.Windows != nil {
		p.windows(r.Correlate)
	}
	if r.Correlate != nil || r.Result != NoMatch || p.All {
		p.bounds(r)
	}
}

// trigger writes whether the rule is asked at all. Of a rule that one event decides that goes without saying.
func (p *printer) trigger(r *Verdict) {
	selects := slices.ContainsFunc(r.Parts, func(a Asked) bool { return a.Trigger.Selects })
	if !selects || r.Correlate != nil || p.All {
		why := ""
		if len(r.Parts) == 1 {
			why = r.Parts[0].Trigger.Why
		}
		p.place("trigger", selects, why)
	}
}

func (p *printer) place(name string, verdict bool, why string) {
	p.line("  %-*s%-*t%s", placeColumn-2, name, verdictWidth, verdict, why)
}

func (p *printer) part(r *Verdict, a *Asked) {
	prefix := ""
	if a.Part != "" {
		prefix = a.Part + "."
	}
	if p.All && len(r.Parts) > 1 {
		p.place(prefix+"trigger", a.Trigger.Selects, a.Trigger.Why)
	}
	if !a.Trigger.Selects {
		return
	}
	if len(a.When) > 0 {
		p.line("  %swhen", prefix)
	}
	for i := range a.When {
		c := &a.When[i]
		p.row(c.Text, c.Verdict, c.details())
	}
	if len(a.By) > 0 {
		p.line("  %sby", prefix)
	}
	for i := range a.By {
		p.row(a.By[i].Text, a.By[i].verdict(), a.By[i].details())
	}
	if a.State != nil {
		p.line("  state")
		p.row(a.State.Text, a.State.verdict(), a.State.details())
	}
}

// row writes a clause, its verdict, and what there is to say of it, a line for each.
func (p *printer) row(text, verdict string, details []string) {
	text = "    " + plain(text)
	if len(text) >= p.column {
		p.line("%s", text)
		text = ""
	}
	if len(details) == 0 {
		details = []string{""}
	}
	p.line("%-*s%-*s%s", p.column, text, verdictWidth, verdict, details[0])
	for _, more := range details[1:] {
		p.line("%*s%s", p.column+verdictWidth, "", more)
	}
}

func (c *Clause) details() []string {
	var out []string
	for _, s := range c.Seen {
		out = append(out, s.Path+" = "+string(s.Value))
	}
	return append(out, missing(c.Text, c.Absent, c.Hint, c.Error)...)
}

func (v *Value) verdict() string {
	if v.Value == nil {
		return "absent"
	}
	return "present"
}

func (v *Value) details() []string {
	if v.Value != nil {
		return []string{v.Text + " = " + string(v.Value)}
	}
	return missing(v.Text, v.Absent, v.Hint, v.Error)
}

// missing names what is absent, unless the clause is just that.
func missing(text, absent string, hint []string, failed string) []string {
	var out []string
	if absent != "" && absent != text {
		out = append(out, absent+" is absent")
	}
	if out = append(out, hint...); failed != "" {
		out = append(out, failed)
	}
	return out
}

func (p *printer) windows(c *Correlated) {
	w := c.Windows
	p.line("  %s, within %s", c.Kind, c.Within)
	for _, row := range p.rows(c) {
		p.line("    %-*s%s", verdictColumn-4, row[0], row[1])
	}
	silent := len(w.Groups) == 0 && len(w.Elsewhere) == 0 && w.More == 0
	switch {
	case w.Changed:
		p.line("    the active rules do not wait for this any more")
	case silent && len(w.Keys) > 0 && w.Keys[0] != "":
		p.line("    nothing waits for %s now", strings.Join(names(w.Keys), ", "))
	case silent:
		p.line("    nothing waits now")
	}
	if w.Behind {
		p.line("    its windows have not come to this event yet: ask again in a moment")
	}
	if w.More > 0 {
		p.line("    up to %d more wait", w.More)
	}
	for _, e := range w.Elsewhere {
		p.line("    %s", e.text())
	}
}

func (e *Elsewhere) text() string {
	switch {
	case e.Busy:
		return fmt.Sprintf("partition %d has no time to answer: ask again in a moment", e.Partition)
	case e.Owner == "":
		return fmt.Sprintf("partition %d waits on another replica", e.Partition)
	}
	return fmt.Sprintf("partition %d waits on another replica, %s", e.Partition, e.Owner)
}

// rows puts groups that have come equally far into one row.
func (p *printer) rows(c *Correlated) [][2]string {
	var order []string
	by := map[string][]string{}
	for i := range c.Windows.Groups {
		g := &c.Windows.Groups[i]
		label := c.label(g)
		if by[label] == nil {
			order = append(order, label)
		}
		by[label] = append(by[label], p.group(c, g))
	}
	var out [][2]string
	for _, label := range order {
		groups, n := by[label], len(by[label])
		if n > shownGroups {
			groups = append(groups[:shownGroups:shownGroups], fmt.Sprintf("and %d more", n-shownGroups))
		}
		out = append(out, [2]string{label, fmt.Sprintf("%d waiting: %s", n, strings.Join(groups, ", "))})
	}
	return out
}

// label says how far a group has come.
func (c *Correlated) label(g *Group) string {
	switch c.Kind {
	case "count":
		return fmt.Sprintf("%d of %d", c.Count-g.Need, c.Count)
	case "collect":
		return fmt.Sprintf("%d so far", len(g.Events)+g.Rest)
	case "flapping":
		if g.Quiet {
			return "quiet until it is stable"
		}
		return fmt.Sprintf("%d of %d changes", c.Count-g.Need, c.Count)
	case "all":
		var parts []string
		for _, e := range g.Events {
			parts = append(parts, e.Part)
		}
		return strings.Join(parts, ", ")
	}
	if len(g.Events) == 0 {
		return ""
	}
	return g.Events[len(g.Events)-1].Part
}

func (p *printer) group(c *Correlated, g *Group) string {
	text := fmt.Sprintf("since %s, until %s", p.at(g.Since), p.at(g.Until))
	if len(c.Parts) > 2 && len(g.Missing) > 0 {
		text += ", missing " + strings.Join(g.Missing, ", ")
	}
	if g.State != "" {
		text += ", state " + name(g.State)
	}
	if g.Key == "" {
		return text
	}
	return name(g.Key) + " (" + text + ")"
}

func names(keys []string) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = name(key)
	}
	return out
}

// name writes a key bare where it can't be mistaken.
func name(s string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._/:@-", r)
	}
	if len(s) <= 64 && !strings.ContainsFunc(s, odd) {
		return s
	}
	return strconv.QuoteToASCII(clip(s, 64))
}
