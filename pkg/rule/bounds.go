package rule

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
)

type limitSpec struct {
	Runs int64          `yaml:"runs" required:"true" doc:"so many runs"`
	Per  time.Duration  `yaml:"per" required:"true" doc:"in any span of this length"`
	By   *document.Item `yaml:"by,omitempty" doc:"expression, or a list of them, for what is counted apart; default: all runs of the rule together"`
}

type concurrencySpec struct {
	Group  string `yaml:"group" required:"true" doc:"name of the group, with expressions; runs of one group never overlap, cluster-wide"`
	Policy string `yaml:"policy,omitempty" default:"queue" enum:"queue,skip,cancel,coalesce" doc:"what a run does that finds another under way: queue waits its turn; skip ends as superseded; cancel stops the one under way; coalesce waits, and only the newest does"`
}

type verifySpec struct {
	Resolved bool           `yaml:"resolved,omitempty" doc:"the alert that started the run must be resolved"`
	Uses     string         `yaml:"uses,omitempty" doc:"otherwise: an action that changes nothing and is asked"`
	With     *document.Item `yaml:"with,omitempty" doc:"its parameters"`
	Expect   *document.Item `yaml:"expect,omitempty" doc:"condition over probe.outputs; absent is inconclusive, which is not verified"`
	Every    time.Duration  `yaml:"every,omitempty" default:"30s" doc:"time between two looks"`
	For      time.Duration  `yaml:"for,omitempty" default:"0s" doc:"it must hold so long without a break"`
	Within   time.Duration  `yaml:"within,omitempty" default:"15m" doc:"time from the end of the steps; after it the run is not verified"`
	Attempts int64          `yaml:"attempts,omitempty" default:"1" doc:"how often the steps are made in all"`
	Backoff  time.Duration  `yaml:"backoff,omitempty" default:"1m" doc:"time before they are made again"`
	Timeout  time.Duration  `yaml:"timeout,omitempty" default:"1m" doc:"of one look"`
}

// limit is one of a rule's limits.
type limit struct {
	runs int
	per  time.Duration
	by   []*expression.Program
}

// Limit is one of a rule's limits with the key that a run counts for: rule, limit and the values of its `by`.
type Limit struct {
	Key  string
	Runs int
	Per  time.Duration
}

// Admission is what a run must be admitted for before it begins.
type Admission struct {
	Group  string // empty for none
	Policy string
	Limits []Limit
}

// Bounded reports whether the rule has limits or a group.
func (r *Rule) Bounded() bool { return len(r.limits) > 0 || r.group != nil }

// Limited reports whether the rule has limits of its own.
func (r *Rule) Limited() bool { return len(r.limits) > 0 }

// Heals reports whether the rule's steps change something, beyond telling people.
func (r *Rule) Heals() bool { return r.heals }

// AlertKind is the same for rules whose AlertKey of any alert is the same.
func (r *Rule) AlertKind() string { return strings.Join(r.replaces, ",") }

// AlertKey names an alert and all that would take its place after the rule's steps have replaced what it is about.
func (r *Rule) AlertKey(e *event.Event) string {
	if e.Alert == nil {
		return ""
	}
	var parts []string
	for name, value := range e.Alert.Labels {
		if !slices.Contains(r.replaces, name) {
			parts = append(parts, name+"="+value)
		}
	}
	slices.Sort(parts)
	return e.Source + " " + e.Alert.Name + " " + strings.Join(parts, ",")
}

// Admission evaluates group and limits. An error that wraps *expression.AbsentError says which field was absent.
func (r *Rule) Admission(ctx context.Context, scope *expression.Scope) (Admission, error) {
	a := Admission{Policy: r.policy}
	if r.group != nil {
		v, err := r.group.eval(ctx, scope, false)
		if err == nil {
			a.Group, err = textOf(plain(v))
		}
		if err != nil {
			return a, fmt.Errorf("concurrency.group: %w", err)
		}
	}
	for i, l := range r.limits {
		key, err := r.limitKey(ctx, i, scope)
		if err != nil {
			return a, fmt.Errorf("limits[%d].by: %w", i, err)
		}
		a.Limits = append(a.Limits, Limit{key, l.runs, l.per})
	}
	return a, nil
}

// limitKey is what runs count for together: rule, limit and the values of its `by`.
func (r *Rule) limitKey(ctx context.Context, n int, scope *expression.Scope) (string, error) {
	key, err := groupKey(ctx, r.limits[n].by, scope)
	if err != nil {
		return "", err
	}
	text, _ := json.Marshal([]any{r.Name, n, key}) // texts and a number
	return string(text), nil
}

// Expect says what a look found: the outputs of the probe against what the rule expects. note says why it does not hold.
func (r *Rule) Expect(ctx context.Context, scope *expression.Scope, probe run.Values) (verdict run.Verdict, note string) {
	scope.Vars["probe"] = map[string]any{"outputs": map[string]any(probe)}
	if r.expect == nil {
		return run.Holds, ""
	}
	truth, clauses := r.expect.Explain(ctx, scope)
	for _, c := range clauses {
		switch {
		case truth == expression.Absent && c.Absent != "":
			return run.Unknown, c.Absent + " is absent"
		case truth == expression.Absent && c.Err != nil:
			return run.Unknown, c.Err.Error()
		case truth == expression.False && c.Truth == expression.False:
			return run.DoesNotHold, c.Text + " is false"
		}
	}
	switch truth {
	case expression.True:
		return run.Holds, ""
	case expression.False:
		return run.DoesNotHold, r.expect.Source() + " is false"
	}
	return run.Unknown, r.expect.Source() + " is absent"
}

// bounds compiles limits and concurrency.
func (l *loader) bounds(c *stepCompiler, spec *ruleSpec) {
	d, r := c.doc, c.noted
	roots := &expression.Schema{Closed: true, Fields: c.roots}
	for i, s := range spec.Limits {
		item := d.Spec.Get("limits").Elements[i]
		if s.Runs < 1 && item.Get("runs") != nil {
			l.problem(d.file, item.Get("runs"), "mode: observe lets a rule do nothing", "limits[%d].runs is %d, and must be at least 1", i, s.Runs)
		}
		if s.Per <= 0 && item.Get("per") != nil {
			l.problem(d.file, item.Get("per"), "", "limits[%d].per must be longer than nothing", i)
		}
		r.limits = append(r.limits, limit{int(s.Runs), s.Per, l.keys(c, s.By, roots)})
	}
	if spec.Concurrency == nil {
		return
	}
	group := d.Spec.Get("concurrency").Get("group")
	if spec.Concurrency.Group == "" {
		if group != nil && group.Any() == "" {
			l.problem(d.file, group, "", "concurrency.group is empty")
		}
		return
	}
	r.policy = spec.Concurrency.Policy
	reads := &step{}
	r.group, _ = c.value(reads, group, "concurrency.group", roots)
	r.groupText = spec.Concurrency.Group
	if len(reads.reads) > 0 {
		l.problem(d.file, group, "", "concurrency.group is asked before the first step, and can't read steps")
	}
}

// keys compiles an expression or a list of them.
func (l *loader) keys(c *stepCompiler, item *document.Item, schema *expression.Schema) []*expression.Program {
	if item == nil {
		return nil
	}
	list := item.Elements
	if item.Kind != document.List {
		list = []*document.Item{item}
	}
	var out []*expression.Program
	for _, i := range list {
		if p := c.expressionIn(i, "by", schema); p != nil {
			c.noted.noteReads(p.Refs())
			out = append(out, p)
		}
	}
	return out
}

// verify compiles how it is found out that the problem is gone.
func (c *stepCompiler) verify(spec *verifySpec, item *document.Item) *run.Verify {
	if spec == nil {
		return nil
	}
	v := &run.Verify{
		Resolved: spec.Resolved, Every: orDefault(spec.Every, 30*time.Second), For: spec.For, Within: orDefault(spec.Within, 15*time.Minute),
		Attempts: int(max(1, spec.Attempts)), Backoff: orDefault(spec.Backoff, time.Minute),
	}
	at := func(name string) *document.Item { return orItem(item.Get(name), item) }
	if spec.Attempts < 0 || spec.Attempts > 20 {
		c.problem(c.doc.file, at("attempts"), "", "verify.attempts is %d, and must be 1 to 20", spec.Attempts)
	}
	if v.For > v.Within {
		c.problem(c.doc.file, at("for"), "", "verify.for is %s, longer than within, which is %s: it could never be verified", v.For, v.Within)
	}
	if looks := v.Within / v.Every; looks > maxLooks {
		c.problem(c.doc.file, at("every"), "", "verify.every is %s, and makes %d looks in the %s of within: at most %d are possible", v.Every, looks, v.Within, maxLooks)
	}
	switch {
	case spec.Resolved && (spec.Uses != "" || spec.With != nil || spec.Expect != nil):
		c.problem(c.doc.file, item, "write one of them", "verify has resolved and a probe")
	case spec.Resolved:
	case spec.Uses == "":
		c.problem(c.doc.file, item, "write resolved: true, or uses, with and expect", "verify says nothing that could be found out")
	default:
		c.probe(v, spec, item)
	}
	return v
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

const (
	probeID  = "probe"
	maxLooks = 100_000 // of one verification
)

func (c *stepCompiler) probe(v *run.Verify, spec *verifySpec, item *document.Item) {
	plan := run.StepPlan{ID: probeID, Uses: spec.Uses, Timeout: orDefault(spec.Timeout, time.Minute)}
	s := &step{grant: c.grants[c.doc.file]}
	c.grantUses(item, spec.Uses)
	with := spec.With
	if with == nil {
		with = &document.Item{Kind: document.Map, Line: item.Line, Column: item.Column}
	}
	if with.Kind != document.Map {
		c.problem(c.doc.file, with, "", "verify.with must be a map of parameters")
		return
	}
	if strings.HasPrefix(spec.Uses, "workflow/") {
		c.problem(c.doc.file, item.Get("uses"), "", "verify.uses must be an action")
		return
	}
	if !c.useAction(s, stepSpec{Uses: spec.Uses}, item, with, c.schema(), &plan) {
		return
	}
	if s.def().Changes {
		c.problem(c.doc.file, item.Get("uses"), "", "verify.uses: %s changes something, and is asked again and again", spec.Uses)
	}
	c.into[stepKey{run.Verification, probeID}] = s
	v.Probe = plan
	schema := c.schema()
	schema.Fields["probe"] = &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{"outputs": outputSchema(s.def()).Fields["outputs"]}}
	if spec.Expect == nil {
		c.problem(c.doc.file, item, "write expect: a condition over probe.outputs", "verify does not say what to expect")
		return
	}
	if p := c.condition(c.doc.file, spec.Expect, "expect", schema); p != nil {
		c.note(s, p.Refs(), p.CallsChanged())
		c.noted.expect = p
	}
}
