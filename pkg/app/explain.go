package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/engine"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/runstore"
	"github.com/riposte-dev/riposte/pkg/secret"
)

// explainTime bounds the evaluation of all rules: one that is slow is absent and says so.
const explainTime = 10 * time.Second

// explainer lets the API explain events.
type explainer struct {
	log      *eventlog.Log
	history  *runstore.History
	rules    *rules
	engine   *engine.Engine
	leases   *runstore.Leases
	redactor *secret.Redactor
}

// Explain asks the rules that decided an event, where they are still known, and the engine for what waits.
func (x *explainer) Explain(ctx context.Context, id string, all bool) (*explain.Explanation, error) {
	en, err := x.log.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	in := explain.Input{Event: en.Record.Event, All: all, Now: time.Now(), Redact: x.redactor.String}
	if err := x.judge(ctx, &in, en.Pos); err != nil {
		return nil, err
	}
	if in.Set == nil {
		return explain.Build(ctx, in), nil
	}
	in.Runs = x.history.RunsOf(in.Event.ID)
	in.Windows = func(queries []explain.Query) []explain.Answer { return x.windows(ctx, en.Pos, queries) }
	in.Limits = func(limits []gate.Limit) []*explain.LimitState { return x.limits(ctx, limits) }
	bounded, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	return evaluate(bounded, in), nil
}

// limits says how far limits are reached, as far as this replica knows.
func (x *explainer) limits(ctx context.Context, limits []gate.Limit) []*explain.LimitState {
	out := make([]*explain.LimitState, len(limits))
	reach, known := x.engine.Reached(ctx, limits)
	if !known {
		return out
	}
	for i, r := range reach {
		out[i] = &explain.LimitState{Runs: r.Runs, Reached: !r.Free.IsZero()}
		if out[i].Reached {
			out[i].Free = &r.Free
		}
	}
	return out
}

// judge finds out how the event stands, and which rules are to be asked: none where reading it may end the process.
func (x *explainer) judge(ctx context.Context, in *explain.Input, at event.Pos) error {
	decision, known := x.history.Decision(in.Event.ID)
	switch {
	case known && engine.Quarantined(decision):
		in.State, in.Note = explain.Quarantined, decision.Why+"; it is not read again, so nothing is evaluated"
	case known:
		in.Changed = decision.Changed
		return x.decidedWith(ctx, in, decision.Revision)
	case !x.answered(ctx, in.Event, at):
		in.State, in.Note = explain.Undecided, "it is not decided yet, and nothing is evaluated before: ask again in a moment"
	default:
		in.State, in.Set = explain.Forgotten, x.rules.current()
		in.Note = "what decided it is not on record any more: these are the active rules"
	}
	return nil
}

// answered reports whether the event has been decided although the decision is not known any more. Where another replica has
// its partition, only time can tell.
func (x *explainer) answered(ctx context.Context, e *event.Event, at event.Pos) bool {
	if time.Since(e.ReceivedAt) < decideTime {
		return false
	}
	answered, known := x.engine.Answered(ctx, e.ID, at)
	return answered || !known
}

func (x *explainer) decidedWith(ctx context.Context, in *explain.Input, revision string) error {
	set, err := x.engine.RuleSet(ctx, revision)
	switch {
	case err == nil:
		in.State, in.Set = explain.Decided, set
	case errors.Is(err, event.ErrLogUnavailable):
		return err
	case errors.Is(err, event.ErrNotFound):
		in.State, in.Set = explain.Forgotten, x.rules.current()
		in.Note = fmt.Sprintf("the rules that decided it, %.7s, are not kept any more: these are the active ones", revision)
	default:
		in.State, in.Set = explain.Forgotten, x.rules.current()
		in.Note = fmt.Sprintf("the rules that decided it can't be loaded (%v): these are the active ones", err)
	}
	return nil
}

// evaluate makes the event's views and asks the rules. What the event makes panic, the engine has said of it too.
func evaluate(ctx context.Context, in explain.Input) (x *explain.Explanation) {
	defer func() {
		if v := recover(); v != nil {
			in.Note, in.Set = fmt.Sprintf("evaluating it panicked: %v", v), nil
			x = explain.Build(ctx, in)
		}
	}()
	normalise(in.Set, in.Event)
	return explain.Build(ctx, in)
}

// normalise makes the views of an event as the set's source reads it.
func normalise(set *rule.Set, e *event.Event) {
	if s := set.Sources[e.Source]; s != nil && s.Source != nil {
		s.Source.Normalise(e)
	}
	if e.Time.IsZero() {
		e.Time = e.ReceivedAt
	}
}

func (x *explainer) windows(ctx context.Context, at event.Pos, queries []explain.Query) []explain.Answer {
	asked := make([]engine.WaitingQuery, len(queries))
	for i, q := range queries {
		asked[i] = engine.WaitingQuery(q)
	}
	out := make([]explain.Answer, len(queries))
	for i, w := range x.engine.Waiting(ctx, at, asked) {
		out[i] = explain.Answer{Groups: w.Groups, Total: w.Total, Behind: w.Behind, Changed: w.Changed}
		for _, p := range w.Elsewhere {
			out[i].Elsewhere = append(out[i].Elsewhere, x.elsewhere(p))
		}
		for _, p := range w.Busy {
			out[i].Elsewhere = append(out[i].Elsewhere, explain.Elsewhere{Partition: p, Busy: true})
		}
	}
	return out
}

// elsewhere names who has a partition. One that this replica has leased, and does not know of, it is still reading.
func (x *explainer) elsewhere(partition int) explain.Elsewhere {
	owner := x.leases.Owner(partition)
	if owner == x.engine.Owner {
		return explain.Elsewhere{Partition: partition, Busy: true}
	}
	return explain.Elsewhere{Partition: partition, Owner: owner}
}
