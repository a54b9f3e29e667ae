package ruletest

import (
	"fmt"

	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

// slot is one run that is expected; an expectation with a count has several.
type slot struct {
	expect *rule.ExpectedRun
	run    int // index of the run that is it, or -1
}

// compareRuns finds which run is which expectation, so that as many as can be are met, and tells of the others.
func (c *played) compareRuns() []Failure {
	runs := c.sim.Runs()
	var slots []slot
	fits := make([][]bool, len(c.spec.Expect))
	of := []int{} // index of the expectation, by slot
	for i := range c.spec.Expect {
		e := &c.spec.Expect[i]
		fits[i] = make([]bool, len(runs))
		for k, r := range runs {
			fits[i][k] = r.Rule == e.Rule && len(c.diff(e, r)) == 0
		}
		for range e.Count {
			slots, of = append(slots, slot{e, -1}), append(of, i)
		}
	}
	taken := make([]int, len(runs)) // slot of each run, or -1
	for k := range taken {
		taken[k] = -1
	}
	for i := range slots {
		assign(i, slots, of, fits, taken, make([]bool, len(runs)))
	}
	return c.unmet(slots, taken)
}

// assign finds a run for a slot, moving slots that have one to other runs where that makes room.
func assign(i int, slots []slot, of []int, fits [][]bool, taken []int, tried []bool) bool {
	for k := range taken {
		if !fits[of[i]][k] || tried[k] {
			continue
		}
		tried[k] = true
		if taken[k] < 0 || assign(taken[k], slots, of, fits, taken, tried) {
			taken[k], slots[i].run = i, k
			return true
		}
	}
	return false
}

func (c *played) diff(e *rule.ExpectedRun, r *simulate.Run) []string {
	d := &differ{start: c.test.Start}
	d.run(e, r)
	return d.lines
}

// unmet tells what is left: expected runs beside the run of their rule that is most like them, or missing, and runs that
// nobody expected.
func (c *played) unmet(slots []slot, taken []int) []Failure {
	runs := c.sim.Runs()
	var out []Failure
	missing := map[*rule.ExpectedRun]int{}
	for i := range slots {
		if slots[i].run >= 0 {
			continue
		}
		e := slots[i].expect
		best, lines := -1, []string(nil)
		for k, r := range runs {
			if taken[k] >= 0 || r.Rule != e.Rule {
				continue
			}
			if diff := c.diff(e, r); best < 0 || len(diff) < len(lines) {
				best, lines = k, diff
			}
		}
		if best < 0 {
			missing[e]++
			continue
		}
		taken[best] = i
		out = append(out, Failure{Line: e.Line, What: "the run of " + c.name(runs[best]) + ", is another", Diff: lines})
	}
	for i := range c.spec.Expect {
		if e := &c.spec.Expect[i]; missing[e] > 0 {
			out = append(out, Failure{Line: e.Line, What: c.noRun(e, missing[e]), Diff: c.whyNot(e.Rule)})
		}
	}
	for k, r := range runs {
		if taken[k] < 0 {
			out = append(out, Failure{Line: c.spec.Line, What: "an unexpected run of " + c.name(r), Diff: c.steps(r)})
		}
	}
	return out
}

func (c *played) noRun(e *rule.ExpectedRun, n int) string {
	switch {
	case e.Count == 1:
		return "there is no run of " + e.Rule
	case int64(n) == e.Count:
		return fmt.Sprintf("there is no run of %s, and %d are expected", e.Rule, n)
	}
	return fmt.Sprintf("%d of the %d runs of %s are missing", n, e.Count, e.Rule)
}

// name says which run it is.
func (c *played) name(r *simulate.Run) string {
	text := r.Rule
	if r.Key != "" {
		text += fmt.Sprintf(" for %q", r.Key)
	}
	return text + ", started at " + c.since(startOf(r))
}

// steps says what a run did.
func (c *played) steps(r *simulate.Run) []string {
	lines := []string{"+ state: " + stateOf(r)}
	for i := range r.Steps {
		s := &r.Steps[i]
		at := "steps."
		if s.Phase != run.Main {
			at = string(s.Phase) + "."
		}
		lines = append(lines, fmt.Sprintf("+ %s%s: %s %s", at, s.ID, s.Uses, stepState(s)))
	}
	return lines
}

// maxWhy bounds the events of which it is said why a rule did not run.
const maxWhy = 10

// whyNot says what the rule said of each event that a trigger of it selected: what was not true first.
func (c *played) whyNot(name string) []string {
	var lines []string
	for _, a := range c.asked {
		if a.rule.Name != name || a.Trigger || a.Truth == expression.True && !c.partial(a) {
			continue
		}
		if len(lines) == maxWhy {
			return append(lines, "…")
		}
		lines = append(lines, fmt.Sprintf("%s at %s: %s", a.event.Type, c.since(a.event.ReceivedAt), verdict(a.Asked)))
	}
	if len(lines) == 0 {
		lines = []string{"none of its triggers selected an event"}
	}
	return lines
}

// partial reports whether what is true is the part of a correlating rule, for which more has to come.
func (c *played) partial(a asked) bool { return a.rule.Correlation() != nil && a.Key != "" }

// verdict says what a place of a rule said, and which clause decided it.
func verdict(a rule.Asked) string {
	if a.Truth == expression.True {
		return fmt.Sprintf("%s is %q", a.Place, a.Key)
	}
	for i := range a.Clauses {
		if cl := &a.Clauses[i]; cl.Truth == a.Truth {
			return a.Place + ": " + clause(cl)
		}
	}
	return a.Place + " is " + a.Truth.String()
}

func clause(cl *expression.Clause) string {
	text := fmt.Sprintf("%s is %s", cl.Text, cl.Truth)
	switch {
	case cl.Absent == cl.Text:
	case cl.Absent != "":
		text += ": there is no " + cl.Absent
	case cl.Err != nil:
		text += ": " + cl.Err.Error()
	default:
		for i, s := range cl.Seen {
			text += []string{"; ", ", "}[min(i, 1)] + s.Path + " is " + show(s.Value)
		}
	}
	return text
}

// compareVerdicts tells which clauses did not say what they should have.
func (c *played) compareVerdicts() []Failure {
	var out []Failure
	for i := range c.spec.Explain {
		v := &c.spec.Explain[i]
		if got, met := c.said(v); !met {
			want := "- " + fmt.Sprint(v.Verdict)
			if v.Field != "" {
				want += ": " + v.Field
			}
			out = append(out, Failure{Line: v.Line, What: v.Clause + " of " + v.Rule + " says something else", Diff: append([]string{want}, got...)})
		}
	}
	return out
}

// said lists what the clause said of the events, and whether it is what is expected.
func (c *played) said(v *rule.ExpectedVerdict) (got []string, met bool) {
	for _, a := range c.asked {
		if a.rule.Name != v.Rule || v.At != nil && a.event.ReceivedAt.Sub(c.test.Start) != *v.At {
			continue
		}
		for _, truth := range about(a.Asked, v.Clause) {
			if truth.verdict == v.Verdict && (v.Field == "" || v.Field == truth.field) {
				return nil, true
			}
			line := fmt.Sprintf("+ %s", truth.verdict)
			if truth.field != "" {
				line += ": " + truth.field
			}
			got = append(got, fmt.Sprintf("%s (%s at %s)", line, a.event.Type, c.since(a.event.ReceivedAt)))
		}
	}
	if len(got) == 0 {
		got = []string{"+ it was never asked"}
	}
	return got, false
}

// said is a verdict, and the field that was absent.
type said struct{ verdict, field string }

// about returns what was said of a place or of one of its clauses. A place that is absent is so for each field that is.
func about(a rule.Asked, clause string) []said {
	var out []said
	for _, cl := range a.Clauses {
		if rule.SameText(cl.Text, clause) {
			return []said{{cl.Truth.String(), cl.Absent}}
		}
		if a.Place == clause && a.Truth == expression.Absent && cl.Truth == expression.Absent {
			out = append(out, said{cl.Truth.String(), cl.Absent})
		}
	}
	if a.Place == clause && len(out) == 0 {
		out = []said{{a.Truth.String(), ""}}
	}
	return out
}
