package rule

import (
	"context"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// Account is all that a rule says of an event, for people: it asks more than a decision needs.
type Account struct {
	Rule *Rule
	// Parts are those of `correlate`, in order; any other rule has one without a name.
	Parts []PartAccount
	// Limits and Group bound a run for the event; asked where the trigger selects it. Of a correlating rule only what this
	// event alone tells is there.
	Limits []LimitAccount
	Group  *GroupAccount
}

// PartAccount is what one part of a rule says of an event.
type PartAccount struct {
	Part string
	// Selected says that the trigger, which asks for Sources and Types, selects the event; only then is more asked.
	Selected       bool
	Sources, Types []string
	OtherSource    bool                // the event is of none of Sources,
	OtherType      bool                // or of none of Types
	NotGranted     error               // or of a source that the rule may not read
	Truth          expression.Truth    // of the part as a whole
	When           expression.Truth    // of the condition; true where there is none
	Clauses        []expression.Clause // all of it, in order
	// By are the expressions of `by`, and State is what flapping compares; asked where the condition is true.
	By    []Value
	State *Value
	Key   string // what By comes to, where Truth is true
}

// Value is what an expression came to.
type Value struct {
	Text  string
	Value any
	Err   error // why there is none: an *expression.AbsentError, or an *expression.EvalError
}

// Candidate says that a trigger of the rule selects the event.
func (a *Account) Candidate() bool {
	return slices.ContainsFunc(a.Parts, func(p PartAccount) bool { return p.Selected })
}

// Accounts asks every rule of the set, in its order, for all that it says of an event that changed the paths. As in
// MatchPaths, now is the clock of the expressions; rules that correlate know the listed paths only.
func (s *Set) Accounts(ctx context.Context, e *event.Event, paths event.Paths, now time.Time) []Account {
	scope, listed := PathsScope(e, paths, now), EventScope(e, now)
	out := make([]Account, len(s.Rules))
	for i, r := range s.Rules {
		asked := scope
		if r.correlation != nil {
			asked = listed
		}
		if out[i] = r.account(ctx, e, asked); out[i].Candidate() {
			r.bounded(ctx, &out[i], e, asked)
		}
	}
	return out
}

func (r *Rule) account(ctx context.Context, e *event.Event, scope *expression.Scope) Account {
	a := Account{Rule: r}
	if r.correlation == nil {
		p := part{trigger: r.trigger, when: r.when}
		a.Parts = []PartAccount{p.account(ctx, e, scope, nil)}
		return a
	}
	for i := range r.correlation.parts {
		a.Parts = append(a.Parts, r.correlation.parts[i].account(ctx, e, scope, r.correlation.state))
	}
	return a
}

func (p *part) account(ctx context.Context, e *event.Event, scope *expression.Scope, state *expression.Program) PartAccount {
	a := PartAccount{Part: p.name, Sources: p.trigger.sources, Types: p.trigger.types, Truth: expression.False}
	a.OtherSource, a.OtherType = !oneOf(a.Sources, e.Source), !oneOf(a.Types, e.Type)
	if !a.OtherSource {
		a.NotGranted = p.trigger.mayRead(e.Source)
	}
	a.Selected = !a.OtherSource && !a.OtherType && a.NotGranted == nil
	if !a.Selected {
		return a
	}
	a.Truth, a.When = expression.True, expression.True
	if p.when != nil {
		a.When, a.Clauses = p.when.Explain(ctx, scope)
		a.Truth = a.When
	}
	if a.Truth != expression.True {
		return a
	}
	for _, by := range p.by {
		a.By = append(a.By, a.value(ctx, by, scope))
	}
	if state != nil {
		v := a.value(ctx, state, scope)
		a.State = &v
	}
	if a.Truth == expression.True {
		a.Key, _ = keyText(a.values()) // each of it is there
	}
	return a
}

// values are what the expressions of `by` came to.
func (a *PartAccount) values() []any {
	out := make([]any, len(a.By))
	for i := range a.By {
		out[i] = a.By[i].Value
	}
	return out
}

// value evaluates an expression that must be there for the part to take the event.
func (a *PartAccount) value(ctx context.Context, p *expression.Program, scope *expression.Scope) Value {
	v := Value{Text: p.Source()}
	if v.Value, v.Err = p.Eval(ctx, scope); v.Err != nil {
		a.Truth = expression.Absent
	}
	return v
}
