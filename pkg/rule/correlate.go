package rule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

type correlateSpec struct {
	Count    int64          `yaml:"count,omitempty" doc:"fires at the n-th event of the window, then starts at zero"`
	Each     bool           `yaml:"each,omitempty" doc:"with count: fires at every further event too"`
	Sequence []partSpec     `yaml:"sequence,omitempty" doc:"parts that must come in this order; in a rule without trigger"`
	All      []partSpec     `yaml:"all,omitempty" doc:"parts that must all come, in any order; in a rule without trigger"`
	Absence  []partSpec     `yaml:"absence,omitempty" doc:"fires when the first part came and the second did not follow; in a rule without trigger"`
	Collect  bool           `yaml:"collect,omitempty" doc:"gathers from the first event until the window ends"`
	Flapping int64          `yaml:"flapping,omitempty" doc:"fires at the n-th change of state, then is quiet until a whole window was stable"`
	State    *document.Item `yaml:"state,omitempty" doc:"with flapping: expression for the state; default: event.alert.status"`
	Within   time.Duration  `yaml:"within" required:"true" doc:"length of the window"`
	By       *document.Item `yaml:"by,omitempty" doc:"expression, or a list of them, for what is correlated with itself only; parts can have their own"`

	MaxGroups int64 `yaml:"maxGroups,omitempty" doc:"groups that wait at once in one partition; beyond it, or where the keys of all are longer than 256 bytes times as many, the one that was matched least recently is dropped"`
}

type partSpec struct {
	As      string         `yaml:"as" required:"true" doc:"name for correlated.NAME"`
	Trigger *triggerSpec   `yaml:"trigger" required:"true" doc:"which events are asked at all"`
	When    *document.Item `yaml:"when,omitempty" doc:"condition over event"`
	By      *document.Item `yaml:"by,omitempty" doc:"expression, or a list of them; default: that of correlate"`
}

// Correlation is a rule's `correlate`: what it waits for, and which events take part.
type Correlation struct {
	Spec correlate.Spec
	// Identity names all that gives a stored state its meaning: a rule that is loaded again with the same one keeps it.
	Identity string
	parts    []part
	state    *expression.Program
	reads    []string // members of `correlated` that the rule's steps read
}

type part struct {
	name    string
	trigger trigger
	when    *expression.Program
	by      []*expression.Program
}

// Reads reports whether the rule's steps read the member of `correlated` with the name.
func (c *Correlation) Reads(name string) bool { return slices.Contains(c.reads, name) }

// Correlation returns the rule's `correlate`, or nil where one event alone decides.
func (r *Rule) Correlation() *Correlation { return r.correlation }

// Join says how one event takes part in a correlating rule.
type Join struct {
	Rule *Rule
	// Matches has a Match for each part that the event matches: part, key and state, without the reference to the event.
	Matches []correlate.Match
	// Verdicts tells of each part that is true or absent, in the order of the parts.
	Verdicts []PartVerdict
}

// PartVerdict is what one part says of an event.
type PartVerdict struct {
	Part    string
	Truth   expression.Truth
	Failed  bool                // of an absent verdict: an evaluation that failed is the reason, and not an absent field
	Clauses []expression.Clause // of `when` where that is absent, for the first few verdicts only
	By      error               // why the key is absent
	Key     string
}

// Joins is what the correlating rules of a set say of one event.
type Joins struct {
	// List has the rules with a part that is true or absent, in the order of the set.
	List []Join
	// Triggered is how many parts have a trigger that selects the event.
	Triggered int

	set    *Set
	groups []*group
	listed []int32 // parts that List tells of, ascending
}

// Correlating lists the rules that correlate.
func (s *Set) Correlating() []*Rule { return s.correlating }

// partIndex finds the parts of correlating rules as an index finds rules.
type partIndex struct {
	*index
	parts []partOf
}

// partOf is the n-th part of a rule.
type partOf struct {
	rule *Rule
	n    int
}

func (p partOf) part() *part { return &p.rule.correlation.parts[p.n] }

func newPartIndex(rules []*Rule) partIndex {
	var x partIndex
	var entries []entry
	for _, r := range rules {
		for n := range r.correlation.parts {
			p := &r.correlation.parts[n]
			x.parts = append(x.parts, partOf{r, n})
			entries = append(entries, entry{&p.trigger, p.when, p.when != nil && p.when.CallsChanged()})
		}
	}
	x.index = newIndex(entries)
	return x
}

// Joins asks those parts of the correlating rules that the index can't rule out.
func (s *Set) Joins(ctx context.Context, e *event.Event, now time.Time) Joins {
	j := Joins{set: s, groups: s.parts.triggered(nil, e)}
	for _, g := range j.groups {
		j.Triggered += len(g.rules)
	}
	var scope *expression.Scope
	explained := 0
	s.parts.candidates(j.groups, e, e.ListedPaths(), func(n int32, _ *reading) bool {
		if scope == nil {
			scope = EventScope(e, now)
		}
		p := s.parts.parts[n]
		v, state := p.ask(ctx, scope)
		if v.Truth == expression.False {
			return true
		}
		if v.Truth == expression.Absent && v.By == nil && explained < maxExplained {
			explained++
			_, v.Clauses = p.part().when.Explain(ctx, scope)
		}
		j.listed = append(j.listed, n)
		j.add(p.rule, v, correlate.Match{Part: p.n, Key: v.Key, State: state, At: e.ReceivedAt})
		return true
	})
	return j
}

// add notes what a part says; those of one rule come one after the other.
func (j *Joins) add(r *Rule, v PartVerdict, m correlate.Match) {
	if n := len(j.List); n == 0 || j.List[n-1].Rule != r {
		j.List = append(j.List, Join{Rule: r})
	}
	last := &j.List[len(j.List)-1]
	last.Verdicts = append(last.Verdicts, v)
	if v.Truth == expression.True {
		last.Matches = append(last.Matches, m)
	}
}

// Untrue is how many parts have a trigger that selects the event and a condition that is false.
func (j *Joins) Untrue() int { return j.Triggered - len(j.listed) }

// False names up to n of those, as RULE or RULE.PART.
func (j *Joins) False(n int) []string {
	var out []string
	for _, g := range j.groups {
		for _, x := range g.rules {
			if len(out) == n {
				return out
			}
			if _, listed := slices.BinarySearch(j.listed, x.rule); !listed {
				out = append(out, j.set.parts.parts[x.rule].name())
			}
		}
	}
	return out
}

// name is how a part is told from others.
func (p partOf) name() string {
	if part := p.part().name; part != "" {
		return p.rule.Name + "." + part
	}
	return p.rule.Name
}

func (c *Correlation) selects(e *event.Event) bool {
	return slices.ContainsFunc(c.parts, func(p part) bool { return p.trigger.matches(e) })
}

// ask asks one part: its condition, its key, and the state that flapping compares.
func (p partOf) ask(ctx context.Context, scope *expression.Scope) (v PartVerdict, state string) {
	asked := p.part()
	v = PartVerdict{Part: asked.name, Truth: expression.True}
	if asked.when != nil {
		if v.Truth, v.Failed = asked.when.Decide(ctx, scope); v.Truth != expression.True {
			return v, ""
		}
	}
	if v.Key, v.By = groupKey(ctx, asked.by, scope); v.By == nil {
		state, v.By = p.rule.correlation.stateOf(ctx, scope)
	}
	if v.By != nil {
		v.Truth, v.Failed = expression.Absent, v.Absent() == ""
	}
	return v, state
}

// groupKey evaluates `by`.
func groupKey(ctx context.Context, by []*expression.Program, scope *expression.Scope) (string, error) {
	values := make([]any, len(by))
	for i, p := range by {
		v, err := p.Eval(ctx, scope)
		if err != nil {
			return "", err
		}
		values[i] = v
	}
	return keyText(values)
}

// keyText is the key of values. Several, and values that are no text, are written as JSON.
func keyText(values []any) (string, error) {
	for i, v := range values {
		values[i] = plain(v)
	}
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return textOf(values[0])
	}
	return textOf(values)
}

func textOf(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("the value is no key: %w", err)
	}
	return string(text), nil
}

func (c *Correlation) stateOf(ctx context.Context, scope *expression.Scope) (string, error) {
	if c.state == nil {
		return "", nil
	}
	v, err := c.state.Eval(ctx, scope)
	if err != nil {
		return "", err
	}
	return textOf(plain(v))
}

// correlation compiles a rule's `correlate`.
func (l *loader) correlation(d doc, r *Rule, spec *ruleSpec) {
	c, item := spec.Correlate, d.Spec.Get("correlate")
	if c == nil {
		return
	}
	out := &Correlation{Spec: correlate.Spec{Within: c.Within, Each: c.Each, Count: int(c.Count), Changes: int(c.Flapping), MaxGroups: int(c.MaxGroups)}}
	r.correlation = out
	parts, at := l.kind(d, out, c, item)
	if parts == nil {
		out.parts = []part{{trigger: r.trigger, when: r.when, by: l.by(d.file, c.By)}}
	} else if spec.Trigger != nil || spec.When != nil {
		l.problem(d.file, d.Spec.Get("trigger"), "move trigger and when into the parts", "%s has parts with triggers of their own, so the rule has none", out.Spec.Kind)
	}
	for i := range parts {
		out.parts = append(out.parts, l.part(d, &parts[i], at.Elements[i], c.By))
		out.Spec.Parts = append(out.Spec.Parts, parts[i].As)
	}
	l.flapping(d, out, c, item)
	if len(document.Decode(d.file, item, &correlateSpec{})) == 0 { // otherwise what does not fit is told
		for _, err := range out.Spec.Validate() {
			l.problem(d.file, item, "", "correlate.%v", err)
		}
	}
	out.Identity = identity(out)
	l.set.correlating = append(l.set.correlating, r)
}

// kind finds what the rule waits for, and its parts where it has some.
func (l *loader) kind(d doc, out *Correlation, c *correlateSpec, item *document.Item) (parts []partSpec, at *document.Item) {
	named := 0
	for _, k := range []struct {
		kind  correlate.Kind
		there bool
		parts []partSpec
	}{
		{correlate.Count, item.Get("count") != nil, nil}, {correlate.Collect, c.Collect, nil}, {correlate.Flapping, item.Get("flapping") != nil, nil},
		{correlate.Sequence, item.Get("sequence") != nil, c.Sequence}, {correlate.All, item.Get("all") != nil, c.All}, {correlate.Absence, item.Get("absence") != nil, c.Absence},
	} {
		if k.there {
			named++
			out.Spec.Kind, parts, at = k.kind, k.parts, item.Get(string(k.kind))
		}
	}
	if named != 1 && item.Kind == document.Map {
		l.problem(d.file, item, "", "correlate has %d of count, sequence, all, absence, collect and flapping, and needs one", named)
	}
	return parts, at
}

func (l *loader) part(d doc, spec *partSpec, item *document.Item, by *document.Item) part {
	p := part{name: spec.As, trigger: l.triggerOf(d.file, spec.Trigger, item.Get("trigger"))}
	if as, ok := item.Get("as").Any().(string); ok && !isStepID(as) || spec.As == "events" || spec.As == "key" {
		l.problem(d.file, item.Get("as"), "", "as: %q is not letters, digits and _, or it is events or key, which correlated has already", spec.As)
	}
	if spec.When != nil {
		p.when = l.condition(d.file, spec.When, "when", l.eventSchema(nil))
	}
	if spec.By != nil {
		by = spec.By
	}
	p.by = l.by(d.file, by)
	return p
}

// by compiles an expression or a list of them.
func (l *loader) by(file string, item *document.Item) []*expression.Program {
	if item == nil {
		return nil
	}
	list := item.Elements
	if item.Kind != document.List {
		list = []*document.Item{item}
	}
	var out []*expression.Program
	for _, i := range list {
		if p := l.expression(file, i, "by"); p != nil {
			out = append(out, p)
		}
	}
	return out
}

func (l *loader) expression(file string, i *document.Item, field string) *expression.Program {
	return l.expressionIn(file, i, field, l.eventSchema(nil))
}

func (l *loader) flapping(d doc, out *Correlation, c *correlateSpec, item *document.Item) {
	switch {
	case out.Spec.Kind != correlate.Flapping && c.State != nil:
		l.problem(d.file, item.Get("state"), "", "correlate.state belongs to flapping")
	case out.Spec.Kind == correlate.Flapping && c.State != nil:
		out.state = l.expression(d.file, c.State, "state")
	case out.Spec.Kind == correlate.Flapping:
		out.state, _ = expression.Compile("event.alert.status", nil) // it is right
	}
}

// identity hashes what the state depends on: what is waited for, and which events take part under which key.
func identity(c *Correlation) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %d %d %t\n", c.Spec.Kind, c.Spec.Within, c.Spec.Count, c.Spec.Changes, c.Spec.Each)
	source := func(p *expression.Program) string {
		if p == nil {
			return ""
		}
		return p.Source()
	}
	for _, p := range c.parts {
		fmt.Fprintf(h, "%q %q %q %q\n", p.name, p.trigger.sources, p.trigger.types, source(p.when))
		for _, b := range p.by {
			fmt.Fprintf(h, " by %q\n", source(b))
		}
	}
	fmt.Fprintf(h, "%q", source(c.state))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// correlatedSchema says what a correlating rule's steps may read below `correlated`; nil where the rule does not correlate.
func (r *Rule) correlatedSchema(event *expression.Schema) *expression.Schema {
	if r.correlation == nil {
		return nil
	}
	s := &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{"key": nil, "events": nil, "rest": nil}}
	for _, p := range r.correlation.parts {
		if p.name != "" {
			s.Fields[p.name] = event
		}
	}
	return s
}

// noteReads remembers what steps read below `correlated`, so that no more of it need be fetched for them.
func (r *Rule) noteReads(refs [][]string) {
	if r.correlation == nil {
		return
	}
	for _, path := range refs {
		switch {
		case path[0] != "correlated":
		case len(path) == 1: // the whole of it
			r.correlation.reads = append(r.correlation.reads, "events")
			for _, p := range r.correlation.parts {
				r.correlation.reads = append(r.correlation.reads, p.name)
			}
		default:
			r.correlation.reads = append(r.correlation.reads, path[1])
		}
	}
}

// Absent returns the path of the field that made a part's key absent, or "".
func (v *PartVerdict) Absent() string {
	var absent *expression.AbsentError
	if errors.As(v.By, &absent) {
		return absent.Path
	}
	return ""
}
