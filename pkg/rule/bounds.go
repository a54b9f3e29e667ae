package rule

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	By   *document.Item `yaml:"by,omitempty" doc:"expression, or a list of them, for what is counted apart; default: all runs of the rule together. Where a field of it is absent, the run is refused"`
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
	Group  string // "" where the rule has none
	Policy string
	Limits []Limit
}

// Bounded reports whether the rule has limits or a group.
func (r *Rule) Bounded() bool { return len(r.limits) > 0 || r.group != nil }

// Limited reports whether the rule has limits of its own.
func (r *Rule) Limited() bool { return len(r.limits) > 0 }

// Heals reports whether the rule's steps change something, beyond telling people.
func (r *Rule) Heals() bool { return r.heals }

// AwaitsResolved reports whether the rule's runs have succeeded only when the alert that started them is resolved.
func (r *Rule) AwaitsResolved() bool { return r.Plan.Verify != nil && r.Plan.Verify.Resolved }

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
			a.Group = cmp.Or(bounded(a.Group), `""`) // an empty text is a group too
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

// bounded returns texts of up to 256 bytes as they are, and of a longer one its beginning and its hash: a key is part of
// requests and of what is kept for a long time.
func bounded(text string) string {
	if len(text) <= 256 {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return strings.ToValidUTF8(text[:96], "") + "…sha256:" + hex.EncodeToString(sum[:])
}

// limitKey is what runs count for together: rule, limit and the values of its `by`.
func (r *Rule) limitKey(ctx context.Context, n int, scope *expression.Scope) (string, error) {
	key, err := groupKey(ctx, r.limits[n].by, scope)
	if err != nil {
		return "", err
	}
	text, _ := json.Marshal([]any{r.Name, n, bounded(key)}) // texts and a number
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

// maxLimits is how many limits a rule can have: each is asked for by every run.
const maxLimits = 20

// bounds compiles limits and concurrency, which are asked before the first step.
func (l *loader) bounds(c *stepCompiler, spec *ruleSpec) {
	l.limits(c, spec.Limits, c.doc.Spec.Get("limits"))
	if spec.Concurrency == nil {
		return
	}
	group := c.doc.Spec.Get("concurrency").Get("group")
	if spec.Concurrency.Group == "" {
		if group != nil && group.Any() == "" {
			l.problem(c.doc.file, group, "", "concurrency.group is empty")
		}
		return
	}
	c.noted.policy = spec.Concurrency.Policy
	c.noted.groupText = spec.Concurrency.Group
	c.noted.group, _ = c.value(&step{}, group, "concurrency.group", l.eventSchema(c.roots))
}

func (l *loader) limits(c *stepCompiler, specs []limitSpec, at *document.Item) {
	if len(specs) > maxLimits {
		l.problem(c.doc.file, at, "", "%d limits, and a rule has at most %d", len(specs), maxLimits)
		return
	}
	for i, s := range specs {
		item, name := at.Elements[i], fmt.Sprintf("limits[%d]", i)
		if runs := item.Get("runs"); isWhole(runs) && s.Runs < 1 {
			l.problem(c.doc.file, runs, "mode: observe lets a rule do nothing", "%s.runs is %d, and must be at least 1", name, s.Runs)
		}
		if per := item.Get("per"); isNothing(per) {
			l.problem(c.doc.file, per, "", "%s.per must be longer than nothing", name)
		}
		c.noted.limits = append(c.noted.limits, limit{int(s.Runs), s.Per, l.keys(c, s.By, name+".by")})
	}
}

// keys compiles an expression or a list of them.
func (l *loader) keys(c *stepCompiler, item *document.Item, field string) []*expression.Program {
	if item == nil {
		return nil
	}
	if item.Kind == document.List && len(item.Elements) == 0 {
		l.problem(c.doc.file, item, "leave it out to count all runs of the rule together", "%s is empty", field)
	}
	list := item.Elements
	if item.Kind != document.List {
		list = []*document.Item{item}
	}
	var out []*expression.Program
	for _, i := range list {
		if p := l.expressionIn(c.doc.file, i, field, l.eventSchema(c.roots)); p != nil {
			c.noted.noteReads(p.Refs())
			c.noted.stepsAsk = c.noted.stepsAsk || p.CallsChanged()
			out = append(out, p)
		}
	}
	return out
}

const (
	shortestEvery = time.Second // between two looks
	mostAttempts  = 20          // at the steps of a rule that verifies
)

// verify compiles how it is found out that the problem is gone.
func (c *stepCompiler) verify(spec *verifySpec, item *document.Item) *run.Verify {
	if spec == nil {
		return nil
	}
	v := &run.Verify{
		Resolved: spec.Resolved, Every: orDefault(spec.Every, 30*time.Second), For: spec.For, Within: orDefault(spec.Within, 15*time.Minute),
		Attempts: int(max(1, spec.Attempts)), Backoff: spec.Backoff,
	}
	if item.Get("backoff") == nil {
		v.Backoff = time.Minute
	}
	for _, name := range []string{"within", "timeout"} {
		c.longer(c.doc.file, item, name)
	}
	if spec.Every > 0 && spec.Every < shortestEvery || spec.Every == 0 && isNothing(item.Get("every")) {
		c.problem(c.doc.file, item.Get("every"), "", "verify.every is %s, and must be at least %s", spec.Every, shortestEvery)
	}
	if i := item.Get("attempts"); isWhole(i) && (spec.Attempts < 1 || spec.Attempts > mostAttempts) {
		c.problem(c.doc.file, i, "", "verify.attempts is %d, and must be 1 to %d", spec.Attempts, mostAttempts)
	}
	if v.For > v.Within {
		c.problem(c.doc.file, orItem(item.Get("for"), item), "", "verify.for is %s, longer than within, which is %s: it could never be verified", v.For, v.Within)
	}
	if looks := v.Within / v.Every; looks > maxLooks {
		c.problem(c.doc.file, orItem(item.Get("every"), item), "", "verify.every is %s, and makes %d looks in the %s of within: at most %d are possible", v.Every, looks, v.Within, maxLooks)
	}
	switch {
	case spec.Resolved && (spec.Uses != "" || spec.With != nil || spec.Expect != nil):
		c.problem(c.doc.file, item, "write one of them", "verify has resolved and a probe")
	case spec.Resolved:
		c.resolved(item)
	case spec.Uses != "":
		c.probe(v, spec, item)
	case item.Get("uses").Any() == nil && (item.Get("resolved").Any() == nil || item.Get("resolved").Any() == false):
		c.problem(c.doc.file, item, "write resolved: true, or uses, with and expect", "verify says nothing that could be found out")
	}
	return v
}

// resolved looks whether there is an alert that could be resolved: the one event that starts the run.
func (c *stepCompiler) resolved(item *document.Item) {
	if c.noted.correlation != nil {
		c.problem(c.doc.file, item.Get("resolved"), "verify with a probe: uses, with and expect", "verify.resolved knows the alert that alone starts a run, and this rule correlates")
	}
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
	if strings.HasPrefix(spec.Uses, "workflow/") {
		c.problem(c.doc.file, item.Get("uses"), "use the action that the workflow asks with", "verify.uses must be an action, and not a workflow")
		return
	}
	outputs := &expression.Schema{} // of a probe that is wrong, anything can be expected
	if with := c.withOf(spec.With, item, "verify.with"); with != nil && c.useAction(s, stepSpec{Uses: spec.Uses}, item, with, c.schema(), &plan) {
		if s.def().Changes {
			c.problem(c.doc.file, item.Get("uses"), "", "verify.uses: %s changes something, and is asked again and again", spec.Uses)
		}
		c.into[stepKey{run.Verification, probeID}] = s
		v.Probe = plan
		outputs = outputSchema(s.def()).Fields["outputs"]
	}
	schema := c.schema()
	schema.Fields["probe"] = &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{"outputs": outputs}}
	if spec.Expect == nil {
		if item.Get("expect") == nil {
			c.problem(c.doc.file, item, "write expect: a condition over probe.outputs", "verify does not say what to expect")
		}
		return
	}
	if p := c.condition(c.doc.file, spec.Expect, "expect", schema); p != nil {
		c.note(s, spec.Expect, p.Refs(), p.CallsChanged())
		c.noted.expect = p
	}
}
