package rule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Asked is what one place of a rule says: of an event, or of a run that asks it on its way.
type Asked struct {
	Place   string // see Place
	Trigger bool
	Truth   expression.Truth
	// Clauses are all of them, true or not; a trigger has none.
	Clauses []expression.Clause
	Key     string // of a `by` or `state` that is there: its value
}

// Place is a part of a rule that is asked, and the texts of its clauses: "trigger", "when", "correlate.by",
// "correlate.state"; of parts "correlate.NAME.trigger", ".when" and ".by"; "limits[N].by" and "concurrency.group"; of steps
// "steps.ID.if", "onFailure.ID.if" and "finally.ID.if", where a step inside a workflow has its path: "steps.tf/guard.if";
// "verify.expect".
type Place struct {
	Name    string
	Clauses []string
	Values  bool // the clauses are values, which are there or not
}

// Places lists the rule's places, in the order in which they are asked.
func (r *Rule) Places() []Place {
	out := []Place{}
	if r.correlation == nil {
		out = append(out, Place{Name: "trigger"})
		out = addPlace(out, "when", r.when)
	} else {
		for _, p := range r.correlation.parts {
			out = append(out, Place{Name: p.place("trigger")})
			out = addPlace(out, p.place("when"), p.when)
			out = addValues(out, p.byPlace(), p.by...)
		}
		if r.correlation.state != nil {
			out = addValues(out, "correlate.state", r.correlation.state)
		}
	}
	for i, l := range r.limits {
		out = addValues(out, limitPlace(i), l.by...)
	}
	if r.groupReads() {
		out = append(out, Place{Name: groupPlace, Clauses: []string{r.groupText}, Values: true})
	}
	out = r.addSteps(out, run.Main, "", r.Plan.Steps)
	out = addPlace(out, expectPlace, r.expect)
	out = r.addSteps(out, run.OnFailure, "", r.Plan.OnFailure)
	return r.addSteps(out, run.Finally, "", r.Plan.Finally)
}

const (
	groupPlace  = "concurrency.group"
	expectPlace = "verify.expect"
)

// groupReads reports whether the group is more than a name.
func (r *Rule) groupReads() bool { return r.group != nil && r.group.text != nil }

func limitPlace(n int) string { return fmt.Sprintf("limits[%d].by", n) }

// addSteps adds the conditions of steps, and of those inside them; prefix is the path of what they stand in.
func (r *Rule) addSteps(out []Place, phase run.Phase, prefix string, plans []run.StepPlan) []Place {
	for i := range plans {
		path := prefix + plans[i].ID
		if s := r.lookup(phase, path); s != nil {
			out = addPlace(out, ifPlace(phase, path), s.condition)
		}
		out = r.addSteps(out, phase, path+"/", plans[i].Steps)
	}
	return out
}

func addPlace(out []Place, name string, p *expression.Program) []Place {
	if p == nil {
		return out
	}
	return append(out, Place{Name: name, Clauses: p.Clauses()})
}

func addValues(out []Place, name string, values ...*expression.Program) []Place {
	if len(values) == 0 {
		return out
	}
	place := Place{Name: name, Values: true}
	for _, p := range values {
		place.Clauses = append(place.Clauses, p.Source())
	}
	return append(out, place)
}

func ifPlace(phase run.Phase, id string) string {
	if phase == run.Main {
		return "steps." + id + ".if"
	}
	return string(phase) + "." + id + ".if"
}

// place names a part of what is asked of an event; the only part of a rule with a trigger of its own has no name.
func (p *part) place(what string) string {
	if p.name == "" {
		return what
	}
	return "correlate." + p.name + "." + what
}

func (p *part) byPlace() string {
	if p.name == "" {
		return "correlate.by"
	}
	return p.place("by")
}

// Trace tells what each place of the rule says of an event. What is not asked because of what came before it is left out.
func (r *Rule) Trace(ctx context.Context, e *event.Event, now time.Time) []Asked {
	scope := EventScope(e, now)
	if r.correlation == nil {
		return traced(ctx, scope, nil, "trigger", r.trigger.matches(e), "when", r.when)
	}
	var out []Asked
	for i := range r.correlation.parts {
		p := &r.correlation.parts[i]
		out = traced(ctx, scope, out, p.place("trigger"), p.trigger.matches(e), p.place("when"), p.when)
		if out[len(out)-1].Truth != expression.True {
			continue
		}
		if len(p.by) > 0 {
			out = append(out, traceValues(ctx, scope, p.byPlace(), p.by))
		}
		if s := r.correlation.state; s != nil && out[len(out)-1].Truth == expression.True {
			out = append(out, traceValues(ctx, scope, "correlate.state", []*expression.Program{s}))
		}
	}
	return out
}

func traced(ctx context.Context, scope *expression.Scope, out []Asked, trigger string, selected bool, when string, condition *expression.Program) []Asked {
	if !selected {
		return append(out, Asked{Place: trigger, Trigger: true, Truth: expression.False})
	}
	out = append(out, Asked{Place: trigger, Trigger: true, Truth: expression.True})
	if condition != nil {
		a := Asked{Place: when}
		a.Truth, a.Clauses = condition.Explain(ctx, scope)
		out = append(out, a)
	}
	return out
}

// traceValues tells whether values are there; each is a clause.
func traceValues(ctx context.Context, scope *expression.Scope, place string, values []*expression.Program) Asked {
	a := Asked{Place: place, Truth: expression.True}
	for _, p := range values {
		_, err := p.Eval(ctx, scope)
		a = a.value(expression.Clause{Text: p.Source(), Truth: expression.True}, err)
	}
	if a.Truth == expression.True {
		a.Key, _ = groupKey(ctx, values, scope) // it was evaluated just now
	}
	return a
}

// value adds a clause that is a value, which is there or not.
func (a Asked) value(c expression.Clause, err error) Asked {
	var absent *expression.AbsentError
	switch {
	case errors.As(err, &absent):
		c.Absent, c.Hint = absent.Path, absent.Hint
	case err != nil:
		c.Err = err
	}
	if err != nil {
		c.Truth, a.Truth = expression.Absent, expression.Absent
	}
	a.Clauses = append(a.Clauses, c)
	return a
}

// TraceIf tells what a step's condition says; ok is false where none is asked: that of a forEach is asked once, of the step
// itself, unless it reads the item.
func (r *Rule) TraceIf(ctx context.Context, phase run.Phase, id string, scope *expression.Scope) (a Asked, ok bool) {
	s := r.lookup(phase, id)
	if s == nil || !s.asks(id) {
		return a, false
	}
	a.Place = ifPlace(phase, run.Template(id))
	a.Truth, a.Clauses = s.condition.Explain(ctx, scope)
	return a, true
}

// TraceAdmission tells whether what limits and the group of runs rest on is there.
func (r *Rule) TraceAdmission(ctx context.Context, scope *expression.Scope) []Asked {
	var out []Asked
	for i, l := range r.limits {
		if len(l.by) > 0 {
			out = append(out, traceValues(ctx, scope, limitPlace(i), l.by))
		}
	}
	if r.groupReads() {
		a := Asked{Place: groupPlace, Truth: expression.True}
		c := expression.Clause{Text: r.groupText, Truth: expression.True}
		v, err := r.group.eval(ctx, scope, false)
		if err == nil {
			a.Key, err = textOf(plain(v))
		}
		out = append(out, a.value(c, err))
	}
	return out
}

// TraceExpect tells what verify.expect says of a probe's outputs; ok is false where nothing is expected.
func (r *Rule) TraceExpect(ctx context.Context, scope *expression.Scope, probe run.Values) (a Asked, ok bool) {
	if r.expect == nil {
		return a, false
	}
	scope.Vars["probe"] = map[string]any{"outputs": map[string]any(probe)}
	a.Place = expectPlace
	a.Truth, a.Clauses = r.expect.Explain(ctx, scope)
	return a, true
}
