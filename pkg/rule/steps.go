package rule

import (
	"context"
	"errors"
	"strings"
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
	// ApproveURLs are the addresses at which people can answer what waits for consent, by person.
	ApproveURLs map[string]string
	Now         time.Time
}

// ScopeOf is what the expressions of the step with the path can read: of an item of a forEach also run.item and run.index,
// and in a workflow its inputs and steps, and no event.
func (m Moment) ScopeOf(phase run.Phase, path string) *expression.Scope {
	at := run.PlaceOf(path)
	s := m.Scope()
	s.Vars["steps"] = m.steps(phase, at.Parent)
	if at.Parent != "" {
		delete(s.Vars, "event")
		delete(s.Vars, "correlated")
		s.Changed = nil
		s.Vars["inputs"] = map[string]any{}
		if parent := m.Run.Step(phase, at.Parent); parent != nil && parent.Inputs != nil {
			s.Vars["inputs"] = map[string]any(parent.Inputs)
		}
	}
	if at.Each != "" {
		if each := m.Run.Step(phase, at.Each); each != nil && at.Item < len(each.Items) {
			vars := m.runVars()
			vars["item"], vars["index"] = each.Items[at.Item], int64(at.Item)
			s.Vars["run"] = vars
		}
	}
	return s
}

// Scope is what the expressions of a step outside any workflow can read.
func (m Moment) Scope() *expression.Scope {
	paths := m.Event.ListedPaths()
	if c := m.Run.Changed; c != nil {
		paths = event.Paths{List: c.List, Complete: c.More == 0}
	}
	s := PathsScope(m.Event, paths, m.Now)
	s.Vars["steps"], s.Vars["run"] = m.steps(m.Run.Phase, ""), m.runVars()
	if m.Correlated != nil {
		s.Vars["correlated"] = m.Correlated
	}
	return s
}

// steps are the steps directly below a workflow step, or those of the rule itself. Those of the main part can be read in
// the parts that follow it, where a step of the part itself hides one of the same name.
func (m Moment) steps(phase run.Phase, parent string) map[string]any {
	out := map[string]any{}
	for _, of := range []run.Phase{run.Main, phase} {
		for i := range m.Run.Steps {
			st := &m.Run.Steps[i]
			at := run.PlaceOf(st.ID)
			if st.Phase != of || at.Parent != parent || at.Each != "" || of != phase && parent != "" {
				continue
			}
			fields := map[string]any{"state": string(st.State), "outputs": map[string]any(st.Outputs)}
			if st.Outputs == nil {
				fields["outputs"] = map[string]any{}
			}
			if st.Error != "" {
				fields["error"] = st.Error
			}
			out[strings.TrimPrefix(st.ID[len(parent):], "/")] = fields
		}
	}
	return out
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
	if len(m.ApproveURLs) > 0 {
		urls := make(map[string]any, len(m.ApproveURLs))
		for who, url := range m.ApproveURLs {
			urls[who] = url
		}
		v["approveURLs"] = urls
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
