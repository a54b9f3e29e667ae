package explain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Bounds of what is listed.
const (
	MaxGroups = 10 // of one rule
	maxEvents = 10 // of one group
	maxRuns   = 20 // of one rule
)

// Input is what an explanation is made of.
type Input struct {
	// Event has its views. Where State forbids to evaluate it, only its head is read.
	Event *event.Event
	State State
	Note  string
	Set   *rule.Set // nil where nothing is evaluated
	Runs  []run.Run // that the event started
	// Changed is what the decision says of the changed paths, where a diff found them.
	Changed *run.Paths
	// Windows answers what waits, in the order of the queries; nil where nobody knows.
	Windows func([]Query) []Answer
	// Limits answers how far limits are reached, in their order, nil where that is not known; nil where nobody knows.
	Limits func([]gate.Limit) []*LimitState
	// Now is the time until which windows have ended.
	Now time.Time
	// All keeps the rules whose trigger does not select the event.
	All bool
	// Redact removes secrets from texts and values; nil removes nothing.
	Redact func(string) string
}

// Query asks what waits in the windows of a correlating rule: in the groups with the keys, or, without any, in all.
type Query struct {
	Rule *rule.Rule
	Keys []string
}

// Answer is what waits; see Windows.
type Answer struct {
	Groups          []correlate.Waiting
	Total           int // groups that there are, listed or not
	Elsewhere       []Elsewhere
	Behind, Changed bool
}

// Build asks the rules, and says what they said. It never fails: what can't be evaluated is absent and says why.
func Build(ctx context.Context, in Input) *Explanation {
	b := &builder{Input: in, runs: map[string][]run.Run{}}
	if b.Redact == nil {
		b.Redact = func(s string) string { return s }
	}
	e := in.Event
	x := &Explanation{
		Event: Head{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time, ReceivedAt: e.ReceivedAt},
		State: in.State, Note: b.Redact(in.Note), Rules: []Verdict{},
	}
	if x.Event.Time.IsZero() {
		x.Event.Time = e.ReceivedAt
	}
	for _, r := range in.Runs {
		b.runs[r.Rule] = append(b.runs[r.Rule], r)
	}
	if in.Set == nil {
		return x
	}
	x.Revision, x.Loaded = in.Set.Revision, len(in.Set.Rules)
	for _, a := range in.Set.Accounts(ctx, e, in.paths(), e.ReceivedAt) {
		if !a.Candidate() {
			x.NotCandidates++
		}
		if a.Candidate() || in.All || len(b.runs[a.Rule.Name]) > 0 {
			x.Rules = append(x.Rules, b.verdict(&a))
			delete(b.runs, a.Rule.Name)
		}
	}
	x.Rules = append(x.Rules, b.others()...)
	b.ask(x.Rules)
	b.askLimits(x.Rules)
	return x
}

// paths are the changed ones, as the decision knew them.
func (in *Input) paths() event.Paths {
	if c := in.Changed; c != nil {
		return event.Paths{List: c.List, Complete: c.More == 0}
	}
	return in.Event.ListedPaths()
}

type builder struct {
	Input
	runs    map[string][]run.Run // by rule
	queries []Query
	asked   []int // the rule that each query is about
	limits  []gate.Limit
	limited [][2]int // the rule that each is of, and its number
	n       int      // rules so far
}

// others are runs of rules that the set does not have: another one decided.
func (b *builder) others() []Verdict {
	var out []Verdict
	for _, r := range b.Runs {
		if runs, ok := b.runs[r.Rule]; ok {
			out = append(out, Verdict{Rule: r.Rule, Result: Run, Runs: ran(runs)})
			delete(b.runs, r.Rule)
		}
	}
	return out
}

func ran(runs []run.Run) []Ran {
	var out []Ran
	for _, r := range runs[max(0, len(runs)-maxRuns):] {
		out = append(out, Ran{ID: r.ID, State: r.State, Reason: r.Reason, StartedAt: known(r.StartedAt), EndedAt: known(r.EndedAt)})
	}
	return out
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (b *builder) verdict(a *rule.Account) Verdict {
	r := a.Rule
	v := Verdict{Rule: r.Name, File: r.File, Line: r.Line, Mode: r.Mode, Runs: ran(b.runs[r.Name])}
	for i := range a.Parts {
		v.Parts = append(v.Parts, b.part(&a.Parts[i]))
	}
	if c := r.Correlation(); c != nil {
		s := c.Spec
		v.Correlate = &Correlated{Kind: string(s.Kind), Within: duration(s.Within), Count: max(s.Count, s.Changes), Parts: s.Parts}
		b.query(a)
	}
	b.bounds(a, &v)
	v.Result, v.Why = b.result(&v)
	b.n++
	return v
}

func (b *builder) part(p *rule.PartAccount) Asked {
	a := Asked{Part: p.Part, Verdict: p.Truth.String(), Key: b.Redact(clip(p.Key, maxText))}
	a.Trigger = Trigger{Selects: p.Selected, Source: p.Sources, Type: p.Types}
	if !p.Selected {
		a.Trigger.Why = b.unselected(p)
		return a
	}
	a.Cond = p.When.String()
	for i := range p.Clauses {
		a.When = append(a.When, b.clause(&p.Clauses[i]))
	}
	for i := range p.By {
		a.By = append(a.By, b.value(&p.By[i]))
	}
	if p.State != nil {
		s := b.value(p.State)
		a.State = &s
	}
	return a
}

// unselected says which attribute a trigger does not select.
func (b *builder) unselected(p *rule.PartAccount) string {
	var out []string
	no := func(what, is string, want []string) {
		out = append(out, fmt.Sprintf("%s is %q, not %s", what, clip(is, maxText), strings.Join(want, " or ")))
	}
	if p.OtherSource {
		no("source", b.Event.Source, p.Sources)
	}
	if p.OtherType {
		no("type", b.Event.Type, p.Types)
	}
	if p.NotGranted != nil {
		out = append(out, p.NotGranted.Error())
	}
	return strings.Join(out, "; ")
}

func (b *builder) clause(c *expression.Clause) Clause {
	out := Clause{Text: clip(c.Text, maxText), Verdict: c.Truth.String(), Absent: c.Absent, Hint: lines(c.Hint)}
	if c.Err != nil {
		out.Error = b.Redact(clip(c.Err.Error(), maxText))
	}
	for _, s := range c.Seen {
		text, long := shown(s.Value, b.Redact)
		out.Seen = append(out.Seen, Seen{Path: s.Path, Value: text, Long: long})
	}
	return out
}

func (b *builder) value(v *rule.Value) Value {
	out := Value{Text: clip(v.Text, maxText)}
	var absent *expression.AbsentError
	switch {
	case errors.As(v.Err, &absent):
		out.Absent, out.Hint = absent.Path, lines(absent.Hint)
	case v.Err != nil:
		out.Error = b.Redact(clip(v.Err.Error(), maxText))
	default:
		out.Value, _ = shown(v.Value, b.Redact)
	}
	return out
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// result is the verdict in a line. What waits is not known yet: see settle.
func (b *builder) result(v *Verdict) (Result, string) {
	switch {
	case len(v.Runs) > 0:
		return Run, ""
	case slices.ContainsFunc(v.Parts, func(p Asked) bool { return p.Verdict == "true" }):
		switch {
		case v.Correlate == nil:
			return Match, b.matched(v)
		case b.State == Offline:
			return Match, took("would take part", v.Parts)
		}
		return TookPart, took("takes part", v.Parts)
	}
	return NoMatch, reason(v)
}

// matched says of a rule that matches why it has no run.
func (b *builder) matched(v *Verdict) string {
	switch {
	case b.State == Offline && v.Mode == "observe":
		return "would be observed: its mode is observe"
	case b.State == Offline:
		return "would run"
	}
	return "it matches, and no run is known: another revision decided, or its history is purged"
}

func took(takes string, parts []Asked) string {
	var out []string
	for _, p := range parts {
		if p.Verdict != "true" {
			continue
		}
		text := takes
		if p.Part != "" {
			text += " as " + p.Part
		}
		if len(p.By) > 0 {
			text += ", by " + strconv.Quote(clip(p.Key, 64))
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// reason says where a rule that does not match fails: in the first part whose trigger selects the event.
func reason(v *Verdict) string {
	for i := range v.Parts {
		if p := &v.Parts[i]; p.Trigger.Selects {
			return partReason(p, v.Correlate != nil)
		}
	}
	if len(v.Parts) == 1 {
		return "trigger: " + v.Parts[0].Trigger.Why
	}
	return "trigger: that of no part selects the event"
}

func partReason(p *Asked, correlates bool) string {
	place := ""
	if p.Part != "" {
		place = "correlate." + p.Part + "."
	}
	if p.Cond != expression.True.String() {
		return place + "when: " + clausesReason(p)
	}
	if place == "" && correlates {
		place = "correlate."
	}
	for _, by := range p.By {
		if by.Value == nil {
			return place + "by: " + cmp.Or(absent(by.Absent), by.Error)
		}
	}
	if p.State != nil && p.State.Value == nil {
		return "correlate.state: " + cmp.Or(absent(p.State.Absent), p.State.Error)
	}
	return ""
}

func absent(path string) string {
	if path == "" {
		return ""
	}
	return path + " is absent"
}

// clausesReason names the clauses that have the verdict of the whole.
func clausesReason(p *Asked) string {
	var numbers []string
	for i, c := range p.When {
		if c.Verdict != p.Cond {
			continue
		}
		if text := cmp.Or(absent(c.Absent), c.Error); text != "" {
			return text
		}
		numbers = append(numbers, strconv.Itoa(i+1))
	}
	switch n := len(numbers); n {
	case 0:
		return "it is " + p.Cond
	case 1:
		return "clause " + numbers[0] + " is " + p.Cond
	default:
		return "clauses " + strings.Join(numbers[:n-1], ", ") + " and " + numbers[n-1] + " are " + p.Cond
	}
}
