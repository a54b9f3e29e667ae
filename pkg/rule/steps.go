package rule

import (
	"context"
	"errors"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Moment is a run at a point of its way, as the expressions of its steps see it.
type Moment struct {
	Run   *run.Run
	Event *event.Event
	// Correlated is what Correlated made, of a run of a correlating rule.
	Correlated map[string]any
	// URL is the address of the run's page, or "".
	URL string
	Now time.Time
}

// Scope is what a step's expressions can read.
func (m Moment) Scope() *expression.Scope {
	paths := m.Event.ListedPaths()
	if c := m.Run.Changed; c != nil {
		paths = event.Paths{List: c.List, Complete: c.More == 0}
	}
	s := PathsScope(m.Event, paths, m.Now)
	steps := map[string]any{}
	for i := range m.Run.Steps {
		st := &m.Run.Steps[i]
		fields := map[string]any{"state": string(st.State), "outputs": map[string]any(st.Outputs)}
		if st.Outputs == nil {
			fields["outputs"] = map[string]any{}
		}
		if st.Error != "" {
			fields["error"] = st.Error
		}
		steps[st.ID] = fields
	}
	s.Vars["steps"], s.Vars["run"] = steps, m.runVars()
	if m.Correlated != nil {
		s.Vars["correlated"] = m.Correlated
	}
	return s
}

func (m Moment) runVars() map[string]any {
	r := m.Run
	v := map[string]any{"id": r.ID, "rule": r.Rule, "attempt": int64(r.Attempt)}
	if r.Outcome != "" {
		v["state"], v["reason"], v["message"] = string(r.Outcome), r.Reason, r.Message
	}
	if m.URL != "" {
		v["url"] = m.URL
	}
	return v
}

// Participant is an event that took part in a correlation, as the part of the rule that it matched.
type Participant struct {
	Part  string
	Event *event.Event
}

// Correlated is what expressions read as `correlated`; rest counts the events that are not among those that took part.
func Correlated(key string, rest int, took []Participant) map[string]any {
	out := map[string]any{"key": key, "rest": int64(rest)}
	events := make([]any, len(took))
	for i, p := range took {
		events[i] = p.Event
		if p.Part != "" {
			out[p.Part] = p.Event
		}
	}
	out["events"] = events
	return out
}

// Prepare is With for a step that is about to begin, and asks whether the step may use what it is about to use. Its error is
// the step's outcome: refused where a field is absent or something is not granted, and permanent otherwise.
func (r *Rule) Prepare(ctx context.Context, phase run.Phase, id string, scope *expression.Scope) (params any, shown map[string]any, err error) {
	params, shown, err = r.With(ctx, phase, id, scope)
	var absent *expression.AbsentError
	switch {
	case errors.As(err, &absent):
		err = action.Refused(run.ReasonAbsentField, err)
	case err != nil:
		err = action.Permanent(err)
	default:
		err = r.granted(phase, id, params)
	}
	return params, shown, err
}

// Observes reports whether the rule's runs are only recorded, and what is said of them then.
func (r *Rule) Observes() (message string, observes bool) {
	if r.overMode != nil {
		return "nothing was done: " + r.overMode.Error(), true
	}
	return "the rule's mode is observe: nothing was done", r.Mode == "observe"
}
