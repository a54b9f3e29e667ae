// Package backtest decides recorded events again with a candidate set of rules, and says which runs appear, disappear or
// change: compared with what was decided then, or with a second set. Nothing runs: a run that is admitted has ended well in
// the same instant, and which runs are admitted is all that is compared. So limits, the bound of alerts' rules and the storm
// brake decide as ever, no run finds another of its group under way, and no circuit breaker opens.
//
// The package is pure: events come from a reader, windows end on the events' own clock. Equal recordings and sets give
// equal reports.
package backtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

// Start is a run that started, or that a rule in observe mode would have started.
type Start struct {
	Rule     string
	Event    string // id of the event on whose account it ran
	Decided  string // id of the event whose decision created it, where that may be another one
	Key      string // of a correlating rule
	Observed bool
	// Refused is why it was not admitted, where it was not: such a run did not start.
	Refused string
	At      time.Time
}

// Refused returns why a run was not admitted; "" where it was, or for a reason that backtests know nothing of: another run of
// its group, a circuit breaker, a quiet time. Such a run counts as one that started.
func Refused(state run.State, reason string, began bool) string {
	switch {
	case state != run.Refused:
		return ""
	case reason == gate.ReasonLimitReached, reason == gate.ReasonStormBrake, reason == run.ReasonAbsentField && !began:
		return reason
	}
	return ""
}

// Options say what is compared.
type Options struct {
	Candidate *rule.Set
	// Against is the set to compare with; without it, Decided is what the runs are compared with.
	Against *rule.Set
	Decided []Start
	// Since and Until bound the runs that count; events before Since only open windows.
	Since, Until time.Time

	// MaxRuns bounds the runs that both sides start together, which are kept until the end; 0 for no bound.
	MaxRuns int
	// Pause is called after every few events, in which nothing else goes on: a server waits in it so that others get
	// their turn. An error stops the backtest. Without it all processors are used.
	Pause func(context.Context) error
}

// ErrTooManyRuns says that the sets start more runs than Options.MaxRuns.
var ErrTooManyRuns = errors.New("the rules start too many runs to compare them")

// Reach is how far before Since events can matter: the longest window and the longest limit of the sets, one after the other.
func Reach(sets ...*rule.Set) time.Duration {
	var window, limit time.Duration
	for _, set := range sets {
		if set == nil {
			continue
		}
		for _, r := range set.Correlating() {
			window = max(window, r.Correlation().Spec.Within)
		}
		for _, r := range set.Rules {
			limit = max(limit, r.LimitReach())
		}
	}
	return window + limit
}

// Run plays a recording. It can be stopped between events.
func Run(ctx context.Context, rec *Recording, o Options) (*Report, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := newComparison(&o, stop)
	candidate, err := newSide(o.Candidate, &o, func(s Start) { c.add(s, true) })
	if err != nil {
		return nil, err
	}
	sides := []*side{candidate}
	if o.Against != nil {
		against, err := newSide(o.Against, &o, func(s Start) { c.add(s, false) })
		if err != nil {
			return nil, err
		}
		sides = append(sides, against)
	}
	prepare := func(r *Recorded) {
		for _, s := range sides {
			r.prepared = append(r.prepared, s.prepare(ctx, r))
		}
	}
	from := o.Since.Add(-Reach(o.Candidate, o.Against))
	err = rec.ahead(ctx, ahead{from, o.Until, o.Pause}, prepare, func(r *Recorded) {
		c.saw(r)
		for i, s := range sides {
			s.event(ctx, r, r.prepared[i])
		}
	})
	if err != nil {
		return nil, err
	}
	for _, s := range sides {
		s.sim.MoveTo(ctx, o.Until)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if o.Against == nil {
		c.decided(o.Decided)
	}
	return c.report(candidate.unreceived), nil
}

// side is one of the sets that are compared.
type side struct {
	set        *rule.Set
	since      time.Time
	sim        *simulate.Simulation
	unreceived map[string]int // events of sources that the set does not have
	views      views
}

func newSide(set *rule.Set, o *Options, add func(Start)) (*side, error) {
	s := &side{set: set, since: o.Since, unreceived: map[string]int{}, views: views{printed: map[[2]string]bool{}}}
	var err error
	s.sim, err = simulate.New(simulate.Options{Set: set, Start: o.Since.Add(-Reach(o.Candidate, o.Against)), Started: func(r *simulate.Run) {
		if !r.At.Before(o.Since) && r.At.Before(o.Until) {
			_, observed := r.Of.Observes()
			add(Start{Rule: r.Rule, Event: r.Run.Event, Key: r.Key, Observed: observed, Refused: Refused(r.State, r.Reason, false), At: r.At})
		}
	}})
	return s, err
}

// prepared is what a side makes of an event, apart from its windows.
type prepared struct {
	unreceived bool         // the set has no such Source
	event      *event.Event // nil where no rule's trigger selects it
	decision   simulate.Decision
}

// prepare is called from several goroutines. An event that makes it panic starts nothing, as in a server.
func (s *side) prepare(ctx context.Context, r *Recorded) (p prepared) {
	defer func() {
		if recover() != nil {
			p = prepared{}
		}
	}()
	src, own := s.set.Sources[r.Source], r.Source == event.OwnSource
	switch {
	case !own && (src == nil || src.Source == nil):
		return prepared{unreceived: true}
	case r.byHand() || !s.set.Selects(&event.Event{Source: r.Source, Type: r.Type}):
		return prepared{}
	}
	e := r.event()
	if !own { // Riposte's own have no views
		s.views.fill(src.Source, r, e)
	}
	return prepared{event: e, decision: simulate.DecidePaths(ctx, s.set, e, r.paths(e))}
}

// event takes in what was prepared.
func (s *side) event(ctx context.Context, r *Recorded, p prepared) {
	switch {
	case p.event != nil:
		s.sim.Decided(ctx, p.event, p.decision)
	case p.unreceived && !r.ReceivedAt.Before(s.since):
		s.unreceived[r.Source]++
	}
}

// actions says in one text for each rule what its runs would do, so that two sets can be compared.
func actions(set *rule.Set) map[string]string {
	docs := set.Documents()
	workflows := map[string]*document.Item{}
	for _, d := range docs {
		if d.Kind == "Workflow" {
			workflows[d.Name] = d.Spec
		}
	}
	out := map[string]string{}
	for _, d := range docs {
		if d.Kind == "Rule" {
			out[d.Name] = deeds(d.Spec, workflows, nil)
		}
	}
	return out
}

// deeds is the text of all that acts in a rule or a workflow, and in the workflows that it uses.
func deeds(spec *document.Item, workflows map[string]*document.Item, inside []string) string {
	if spec == nil {
		return ""
	}
	var out string
	for _, name := range []string{"steps", "verify", "onFailure", "finally", "inputs", "outputs"} {
		list := spec.Get(name)
		if list == nil {
			continue
		}
		text, _ := json.Marshal(list.Any()) // it was read from YAML
		out += name + string(text)
		for _, step := range list.Elements {
			uses, _ := step.Get("uses").Any().(string)
			if used, is := strings.CutPrefix(uses, "workflow/"); is && !slices.Contains(inside, used) {
				out += deeds(workflows[used], workflows, append(slices.Clip(inside), used))
			}
		}
	}
	return out
}
