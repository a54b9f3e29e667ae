// Package ruletest runs the RuleTest documents of a set: it plays their timelines to the set's rules on a pseudo-clock,
// with the outcomes of actions that they give, and compares what comes of it with what they expect.
//
// The package is pure: nothing real ever runs, no clock is read, and equal documents give equal reports.
package ruletest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

// Options configure a run of all tests of a set.
type Options struct {
	Set *rule.Set
	// ReadFile reads a body that a test names by a path from its document.
	ReadFile func(document, file string) ([]byte, error)
	// Only chooses cases by "NAME OF THE TEST/NAME OF THE CASE"; nil is all.
	Only *regexp.Regexp
	// Quiet says which quiet time holds for a rule with the labels, and until when; nil is never.
	Quiet func(labels map[string]string, at time.Time) (name string, until time.Time, ok bool)
}

// Report is what came of the tests.
type Report struct {
	Tests  []TestReport `json:"tests"`
	Passed int          `json:"passed"` // cases
	Failed int          `json:"failed"`
	// Coverage is what all cases together made the rules of the set say.
	Coverage Coverage `json:"coverage"`
}

// TestReport is what came of one document.
type TestReport struct {
	Name  string       `json:"name"`
	File  string       `json:"file"`
	Line  int          `json:"line"`
	Cases []CaseReport `json:"cases"`
}

// CaseReport is what came of one case.
type CaseReport struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Passed bool   `json:"passed"`
	// Failures say what differs, each at the line of the document that it is about.
	Failures []Failure `json:"failures,omitempty"`
	// Notes say what happened on the way that may not have been meant.
	Notes []string `json:"notes,omitempty"`
}

// Failure is one thing that is not as expected.
type Failure struct {
	Line int    `json:"line"`
	What string `json:"what"`
	// Diff has lines that begin with "- " for what was expected, with "+ " for what there is, and others that explain.
	Diff []string `json:"diff,omitempty"`
}

// Run runs the tests. The error is document.Problems where what they are made of can't be used: a file is missing, a body
// can't be read by its Source.
func Run(ctx context.Context, o Options) (*Report, error) {
	var problems document.Problems
	var planned [][]played
	for _, t := range o.Set.Tests {
		var cases []played
		for i := range t.Cases {
			if o.Only != nil && !o.Only.MatchString(t.Name+"/"+t.Cases[i].Name) {
				continue
			}
			arrivals, wrong := (&builder{set: o.Set, read: o.ReadFile, test: t, number: i}).arrivals()
			problems = append(problems, wrong...)
			cases = append(cases, played{test: t, spec: &t.Cases[i], arrivals: arrivals})
		}
		planned = append(planned, cases)
	}
	if len(problems) > 0 {
		problems.Sort()
		return nil, problems
	}
	return play(ctx, &o, planned)
}

func play(ctx context.Context, o *Options, planned [][]played) (*Report, error) {
	report, seen := &Report{Tests: []TestReport{}}, newSightings(o.Set)
	for i, t := range o.Set.Tests {
		tr := TestReport{Name: t.Name, File: t.File, Line: t.Line}
		for k := range planned[i] {
			c := &planned[i][k]
			c.seen = seen
			if err := c.play(ctx, o); err != nil {
				return nil, err
			}
			cr := c.report()
			if cr.Passed {
				report.Passed++
			} else {
				report.Failed++
			}
			tr.Cases = append(tr.Cases, cr)
		}
		if len(tr.Cases) > 0 {
			report.Tests = append(report.Tests, tr)
		}
	}
	report.Coverage = seen.coverage()
	return report, nil
}

// played is a case and what was seen of it.
type played struct {
	test     *rule.Test
	spec     *rule.TestCase
	arrivals []arrival

	sim     *simulate.Simulation
	calls   map[string]int // of each action
	missing []string       // actions without an outcome, each with who met it
	unheard []Failure      // what people said in vain
	asked   []asked
	notes   []string
	seen    *sightings
}

// asked is what a place of a rule said, and of which event.
type asked struct {
	rule  *rule.Rule
	event *event.Event
	rule.Asked
}

func (c *played) play(ctx context.Context, o *Options) error {
	var err error
	c.calls = map[string]int{}
	c.sim, err = simulate.New(simulate.Options{Set: o.Set, Start: c.test.Start, Quiet: o.Quiet, Act: c.act, Started: c.started, Asked: c.note})
	if err != nil {
		return fmt.Errorf("%s:%d: %w", c.test.File, c.spec.Line, err)
	}
	first := map[string]time.Time{}
	for _, a := range c.arrivals {
		c.sim.MoveTo(ctx, a.at)
		c.consent(ctx, a)
		if a.event == nil {
			continue
		}
		if at, repeated := first[a.event.ID]; repeated {
			c.repeated(ctx, o.Set, a, at)
			continue
		}
		first[a.event.ID] = a.at
		c.sim.Event(ctx, a.event)
	}
	c.sim.Finish()
	return nil
}

// consent has people say what the timeline says. That nobody hears them fails the case.
func (c *played) consent(ctx context.Context, a arrival) {
	for _, said := range []*rule.TestConsent{a.entry.Approve, a.entry.Reject} {
		if said == nil {
			continue
		}
		if err := c.sim.Consent(ctx, said.Rule, said.By, said.Comment, said == a.entry.Approve); err != nil {
			c.unheard = append(c.unheard, Failure{Line: a.entry.Line, What: err.Error() + " at " + c.since(a.at)})
		}
	}
}

// repeated deals with a delivery whose event was there before: it is not decided again, and may revive a run that failed.
func (c *played) repeated(ctx context.Context, set *rule.Set, a arrival, before time.Time) {
	c.notes = append(c.notes, fmt.Sprintf("the %s at %s is the event that came at %s again: it is not decided a second time", a.event.Type, c.since(a.at), c.since(before)))
	if s := set.Sources[a.event.Source]; s != nil && s.Type.Redelivers {
		c.sim.Redeliver(ctx, a.event.ID)
	}
}

func (c *played) started(r *simulate.Run) { c.seen.ran(r.Of) }

func (c *played) note(r *rule.Rule, e *event.Event, a rule.Asked) {
	c.asked = append(c.asked, asked{r, e, a})
	c.seen.asked(r, a)
}

func (c *played) since(t time.Time) string { return short(t.Sub(c.test.Start)) }

// report compares what happened with what was expected. What could not be played as it was written is said alone: all
// else follows from it.
func (c *played) report() CaseReport {
	r := CaseReport{Name: c.spec.Name, File: c.test.File, Line: c.spec.Line, Notes: c.notes}
	for _, who := range c.missing {
		r.Failures = append(r.Failures, Failure{Line: c.spec.Line, What: who})
	}
	if len(c.missing) == 0 {
		r.Failures = slices.Concat(c.unheard, c.compareRuns(), c.compareVerdicts())
	}
	r.Passed = len(r.Failures) == 0
	return r
}
