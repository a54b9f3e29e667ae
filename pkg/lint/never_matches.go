package lint

import (
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
)

func neverMatches() Check {
	return Check{
		ID:  "never-matches",
		Doc: "a condition that can never be true",
		Why: "Its clauses exclude each other, or what the trigger selects, as `event.git.branch == \"a\" && event.git.branch == \"b\"` does, " +
			"or `in []`: the rule or the step never does anything. Join alternatives with `||` or `in`.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, t := range r.triggers {
					p.neverMatches(r, t)
				}
				p.neverRuns(r)
			}
		},
	}
}

func (p *pass) neverMatches(r *ruleDoc, t *trigger) {
	found := impossible(t.logic)
	if found == nil && len(t.selected) > 0 && len(t.events) == 0 {
		found = impossible(t.logic, t.selected[0].facts()...)
	}
	if found != nil {
		p.conflict(r.Document, t.when, found, "this never matches")
	}
}

// neverRuns looks at steps whose `if` can't be true of what the rule matches.
func (p *pass) neverRuns(r *ruleDoc) {
	when := logic{nil}
	if len(r.triggers) == 1 && r.Spec.Get("correlate") == nil && impossible(r.triggers[0].logic) == nil {
		when = r.triggers[0].logic
	}
	for _, s := range r.steps {
		if s.item.Get("if") == nil {
			continue
		}
		condition := conditionOf(s.item.Get("if"))
		found := impossible(condition)
		if found == nil {
			found = impossible(when.and(condition))
		}
		if found != nil {
			p.conflict(r.Document, s.item.Get("if"), found, "this step never runs")
		}
	}
}

func (p *pass) conflict(d rule.Document, in *document.Item, c *conflict, what string) {
	p.report(d, p.problem(d, in, c.clause.Place, "join alternatives with || or in", "%s: %s", what, c))
}
