package lint

import (
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/expression"
)

func loop() Check {
	return Check{
		ID:  "loop",
		Doc: "a rule whose own action makes an event that it matches",
		Why: "A push by a rule for pushes comes back as an event, and starts the rule again. Exclude what the rule itself does: by its account (`event.git.pusher != \"riposte\"`) or by its branch.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, outer := range r.steps {
					for _, s := range p.within(outer) {
						p.loops(r, s)
					}
				}
			}
		},
	}
}

func (p *pass) loops(r *ruleDoc, s step) {
	if observes(r) {
		return
	}
	for _, cause := range s.def.Causes {
		for _, t := range r.triggers {
			at := slices.IndexFunc(t.events, func(e pair) bool { return causes(cause, s, t, e) })
			if at < 0 {
				continue
			}
			e := t.events[at]
			hint := "exclude what it does itself"
			if len(cause.Tells) > 0 {
				hint += " by " + strings.Join(cause.Tells, " or ")
			}
			p.warn(r.Document, s.at, hint, "%s makes a %s event of %s, which starts this rule again", s.name(), e.kind, e.sender.doc.Name)
			return
		}
	}
}

// causes says whether a step makes an event that the rule may match.
func causes(c action.Cause, s step, t *trigger, e pair) bool {
	if !slices.Contains(c.Sources, e.sender.preset.Name) || !slices.Contains(c.Types, e.kind) {
		return false
	}
	for _, read := range readings(t.when, true) {
		if slices.Contains(c.Tells, written(read.Reading)) {
			return false // the author thought of it
		}
	}
	facts := e.facts()
	for path, param := range c.Fields {
		if v, ok := s.with[param].Any().(string); ok && !expression.HasExpression(v) {
			facts = append(facts, fact{strings.Split(path, "."), []any{v}, "the step's " + param})
		}
	}
	return impossible(t.logic, facts...) == nil
}

// observes says that a rule does nothing.
func observes(r *ruleDoc) bool { return r.Spec.Get("mode").Any() == "observe" }
