package rule

import (
	"context"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/gate"
)

// LimitAccount is a limit that a run for an event would count for.
type LimitAccount struct {
	Runs int
	Per  time.Duration
	By   []Value
	// Default says that it is the bound of an alert's rule that writes none: for each target, which only the step knows.
	Default bool
	// Limit has the key, where all of By is there.
	Limit *gate.Limit
}

// GroupAccount is the concurrency group that a run for an event would be one of.
type GroupAccount struct {
	Value
	Policy string
}

// limitAccounts says which limits a run for the event would count for, in a scope that has what is known before it begins.
func (r *Rule) limitAccounts(ctx context.Context, e *event.Event, scope *expression.Scope) []LimitAccount {
	if len(r.limits) == 0 && r.correlation == nil && r.AlertOf(e) != nil {
		return []LimitAccount{{Runs: alertRuns, Per: alertPer, Default: true}}
	}
	var out []LimitAccount
	for i, l := range r.limits {
		a := LimitAccount{Runs: l.runs, Per: l.per}
		there := true
		for _, by := range l.by {
			v := Value{Text: by.Source()}
			if v.Value, v.Err = by.Eval(ctx, scope); v.Err != nil {
				there = false
			}
			a.By = append(a.By, v)
		}
		if key, err := r.limitKey(ctx, i, scope); there && err == nil {
			a.Limit = &gate.Limit{Key: key, Runs: l.runs, Per: l.per}
		}
		out = append(out, a)
	}
	return out
}

// groupAccount says which group a run for the event would be one of; nil where the rule has none.
func (r *Rule) groupAccount(ctx context.Context, scope *expression.Scope) *GroupAccount {
	if r.group == nil {
		return nil
	}
	a := &GroupAccount{Value: Value{Text: r.groupText}, Policy: r.policy}
	v, err := r.group.eval(ctx, scope, false)
	if a.Err = err; err == nil {
		a.Value.Value = plain(v)
	}
	return a
}

// bounded fills in the bounds of an account whose parts are asked: correlated is what of it this event alone makes.
func (r *Rule) bounded(ctx context.Context, a *Account, e *event.Event, scope *expression.Scope) {
	if r.correlation != nil {
		for i := range a.Parts {
			if p := &a.Parts[i]; p.Truth == expression.True {
				with := *scope
				with.Vars = map[string]any{"event": e, "correlated": map[string]any{"key": p.Key}}
				if p.Part != "" {
					with.Vars["correlated"] = map[string]any{"key": p.Key, p.Part: e}
				}
				scope = &with
				break
			}
		}
	}
	a.Limits, a.Group = r.limitAccounts(ctx, e, scope), r.groupAccount(ctx, scope)
}
