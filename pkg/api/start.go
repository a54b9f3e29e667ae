package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/riposte-dev/riposte/pkg/event"
)

// StartRequest is the body of a request to run a rule or a workflow; all fields can be missing.
type StartRequest struct {
	// Inputs are what steps read as inputs.NAME in a workflow, and as event.data.inputs.NAME in a rule.
	Inputs map[string]json.RawMessage `json:"inputs,omitempty"`
	// Event is the recorded event that the rule is to answer; its id can be shortened.
	Event string `json:"event,omitempty"`
}

// Started is the answer: the run that comes of it, and the event that says who wanted it.
type Started struct {
	ID    string `json:"id"`
	Event string `json:"event"`
}

// Start is what a person wants to run.
type Start struct {
	Rule   string // or workflow/NAME
	Inputs map[string]any
	Event  string
	Who    string
}

func (a *api) runRule(w http.ResponseWriter, r *http.Request) error {
	return a.start(w, r, r.PathValue("name"))
}

func (a *api) runWorkflow(w http.ResponseWriter, r *http.Request) error {
	return a.start(w, r, "workflow/"+r.PathValue("name"))
}

func (a *api) start(w http.ResponseWriter, r *http.Request, rule string) error {
	note(r, rule)
	var body StartRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	s := Start{Rule: rule, Inputs: map[string]any{}, Event: body.Event, Who: identityOf(r.Context()).Name}
	for _, name := range slices.Sorted(maps.Keys(body.Inputs)) {
		v, err := event.Decode(body.Inputs[name]) // integers keep their value
		if err != nil {
			return &Error{http.StatusBadRequest, fmt.Sprintf("input %s: %v", name, err), ""}
		}
		s.Inputs[name] = v
	}
	started, err := a.Start(r.Context(), s)
	if err != nil {
		return err
	}
	note(r, rule, "run", started.ID, "event", started.Event)
	return writeJSON(w, http.StatusAccepted, started)
}
