package ruletest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

// act answers a call of an action with the outcome that is due.
func (c *played) act(call *simulate.Call) simulate.Outcome {
	name := call.Step.Uses
	list := c.spec.Outcomes[name]
	if len(list) == 0 {
		who := fmt.Sprintf("step %s of rule %s uses %s, which has no outcome below actions", call.Step.ID, call.Run.Rule, name)
		if !slices.Contains(c.missing, who) {
			c.missing = append(c.missing, who)
		}
		return simulate.Outcome{Err: action.Permanent(errors.New("it has no outcome"))}
	}
	n := min(c.calls[name], len(list)-1)
	c.calls[name]++
	o := &list[n]
	return simulate.Outcome{Outputs: maps.Clone(run.Values(o.Outputs)), Err: failure(o), Took: o.Took, Wait: o.Wait}
}

// failure is the error that an action returns for an outcome.
func failure(o *rule.Outcome) error {
	text := func(otherwise string) error {
		if o.Error != "" {
			otherwise = o.Error
		}
		return errors.New(otherwise)
	}
	switch {
	case o.Superseded:
		return action.Superseded(text("newer work makes it pointless"))
	case o.Refused != "":
		return action.Refused(o.Refused, text("policy forbids it"))
	case o.Permanent:
		return action.Permanent(text(""))
	case o.Error != "":
		return text("")
	}
	return nil
}
