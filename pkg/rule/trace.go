package rule

import (
	"context"
	"errors"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Asked is what one place of a rule says: of an event, or `if` of a run.
type Asked struct {
	Place   string // see Place
	Trigger bool
	Truth   expression.Truth
	// Clauses are all of them, true or not; a trigger has none.
	Clauses []expression.Clause
	Key     string // of a `by` or `state` that is there: its value
}

// Place is a part of a rule that is asked, and the texts of its clauses: "trigger", "when", "correlate.by",
// "correlate.state"; of parts "correlate.NAME.trigger", ".when" and ".by"; of steps "steps.ID.if" and "onFailure.ID.if".
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
	for _, phase := range []run.Phase{run.Main, run.OnFailure} {
		for _, sp := range r.Plan.Of(phase) {
			if s := r.lookup(phase, sp.ID); s != nil {
				out = addPlace(out, ifPlace(phase, sp.ID), s.condition)
			}
		}
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
		c := expression.Clause{Text: p.Source(), Truth: expression.True}
		_, err := p.Eval(ctx, scope)
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
	}
	if a.Truth == expression.True {
		a.Key, _ = groupKey(ctx, values, scope) // it was evaluated just now
	}
	return a
}

// TraceIf tells what a step's condition says; ok is false where it has none.
func (r *Rule) TraceIf(ctx context.Context, phase run.Phase, id string, scope *expression.Scope) (a Asked, ok bool) {
	s := r.lookup(phase, id)
	if s == nil || s.condition == nil {
		return a, false
	}
	a.Place = ifPlace(phase, id)
	a.Truth, a.Clauses = s.condition.Explain(ctx, scope)
	return a, true
}
