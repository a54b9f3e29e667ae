package ruletest

import (
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// Coverage says what the cases made the rules say.
type Coverage struct {
	Rules []RuleCoverage `json:"rules"`
	// Ran counts the rules that made a run, Clauses those of all rules, and Seen those that said both true and false; of a
	// value such as `by`, that it was there.
	Ran     int `json:"ran"`
	Clauses int `json:"clauses"`
	Seen    int `json:"seen"`
}

// RuleCoverage is what one rule said.
type RuleCoverage struct {
	Name      string           `json:"name"`
	File      string           `json:"file"`
	Line      int              `json:"line"`
	Triggered int              `json:"triggered"` // events that a trigger of the rule selected
	Runs      int              `json:"runs"`
	Clauses   []ClauseCoverage `json:"clauses,omitempty"`
}

// ClauseCoverage is how often a clause said what.
type ClauseCoverage struct {
	Place  string `json:"place"` // as rule.Place has them
	Text   string `json:"text"`
	True   int    `json:"true"`
	False  int    `json:"false"`
	Absent int    `json:"absent"`
	value  bool
}

func (c *ClauseCoverage) complete() bool { return c.True > 0 && (c.False > 0 || c.value) }

// sightings counts what the rules of a set say.
type sightings struct {
	rules   []RuleCoverage
	byRule  map[*rule.Rule]int
	clauses map[clauseID]int // index among the rule's clauses
}

type clauseID struct {
	rule        *rule.Rule
	place, text string
}

func newSightings(set *rule.Set) *sightings {
	s := &sightings{byRule: map[*rule.Rule]int{}, clauses: map[clauseID]int{}}
	for i, r := range set.Rules {
		rc := RuleCoverage{Name: r.Name, File: r.File, Line: r.Line}
		for _, p := range r.Places() {
			for _, text := range p.Clauses {
				id := clauseID{r, p.Name, text}
				if _, twice := s.clauses[id]; twice {
					continue
				}
				s.clauses[id] = len(rc.Clauses)
				rc.Clauses = append(rc.Clauses, ClauseCoverage{Place: p.Name, Text: text, value: p.Values})
			}
		}
		s.byRule[r] = i
		s.rules = append(s.rules, rc)
	}
	return s
}

func (s *sightings) ran(r *rule.Rule) { s.rules[s.byRule[r]].Runs++ }

func (s *sightings) asked(r *rule.Rule, a rule.Asked) {
	rc := &s.rules[s.byRule[r]]
	if a.Trigger && a.Truth == expression.True {
		rc.Triggered++
	}
	for _, c := range a.Clauses {
		i, ok := s.clauses[clauseID{r, a.Place, c.Text}]
		if !ok {
			continue
		}
		switch c.Truth {
		case expression.True:
			rc.Clauses[i].True++
		case expression.False:
			rc.Clauses[i].False++
		default:
			rc.Clauses[i].Absent++
		}
	}
}

func (s *sightings) coverage() Coverage {
	c := Coverage{Rules: s.rules}
	if c.Rules == nil {
		c.Rules = []RuleCoverage{}
	}
	for i := range c.Rules {
		if c.Rules[i].Runs > 0 {
			c.Ran++
		}
		for k := range c.Rules[i].Clauses {
			c.Clauses++
			if c.Rules[i].Clauses[k].complete() {
				c.Seen++
			}
		}
	}
	return c
}
