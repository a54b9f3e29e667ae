package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/engine"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// starter runs rules and workflows that people ask for.
type starter struct {
	orders *engine.Orders
	log    *eventlog.Log
	rules  *rules
}

// Start tells people at once what is wrong with what they ask for, as far as the rules that this replica knows can say so;
// those that are active where the order stands in the log have the last word.
func (s starter) Start(ctx context.Context, want api.Start) (api.Started, error) {
	err := s.rules.current().CheckInputs(want.Rule, want.Inputs)
	var unknown *rule.UnknownError
	switch {
	case errors.As(err, &unknown):
		hint := unknown.Hint
		if hint == "" {
			hint = "riposte rules list shows the rules there are"
		}
		return api.Started{}, &api.Error{Status: http.StatusNotFound, Msg: err.Error(), Hint: hint}
	case err != nil:
		return api.Started{}, &api.Error{
			Status: http.StatusBadRequest, Msg: err.Error(),
			Hint: `values are JSON, and else texts: --input 'version="1.10"' is a text where version=1.10 is a number`,
		}
	}
	if want.Event != "" {
		en, err := s.log.Get(ctx, want.Event)
		if err != nil {
			return api.Started{}, err
		}
		if engine.ByHand(en.Record.Event) {
			return api.Started{}, &api.Error{Status: http.StatusBadRequest, Msg: fmt.Sprintf("event %s is itself an order to run a rule", en.Record.Event.ID), Hint: "riposte events replay gives it again"}
		}
		want.Event = en.Record.Event.ID
	}
	run, e, err := s.orders.Start(ctx, engine.Start(want))
	return api.Started{ID: run, Event: e}, err
}

// byHandNote says of an order to run a rule what its explanation can't.
func byHandNote(e *event.Event) string {
	return "it is an order to run " + e.Subject + ", which is not asked for trigger and when; no other rule is"
}
