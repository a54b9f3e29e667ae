// Package lint finds what is suspicious in rules that are right: they load, and may still not do what somebody meant.
//
// Run looks at a whole Set and returns what it finds in the order of files and places, the same for the same set. It is
// pure: it reads no files, resolves no secrets and calls no action. A finding can be silenced on purpose by an annotation
// of its document (see Ignore). Each check stands in a file of its own, and Checks lists them.
package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Ignore is the annotation that silences findings in its document: their ids, with commas or spaces between.
const Ignore = "riposte.dev/ignore"

// Finding is one warning.
type Finding struct {
	ID string // of the check: "unknown-field"
	document.Problem
}

// String is the warning for people: its place, what it is and its id, then the text at fault and what to try.
func (f Finding) String() string {
	p := f.Problem
	p.Msg = "warning: " + p.Msg + " [" + f.ID + "]"
	return p.String()
}

// Check looks for one kind of warning.
type Check struct {
	ID  string
	Doc string // one line: what it warns of
	Why string // a paragraph for the reference page: why that matters, and what to do
	run func(*pass)
}

// Options are what rules can refer to.
type Options struct {
	Sources source.Registry
	Actions action.Registry
}

// Checks lists all there are, by id.
func Checks() []Check {
	return []Check{
		correlatedChanged(), duplicateAction(), duplicateSecret(), loop(), neverMatches(), noSource(), noTimeout(), replacedField(), sharedSecret(),
		shortResolved(), unknownEventType(), unknownField(), unknownIgnore(), unusedInput(), unusedSource(), unusedTarget(), unusedWorkflow(),
	}
}

// Run returns what the checks find in a set. The error is that of a preset whose own table of fields is broken.
func Run(set *rule.Set, o Options) ([]Finding, error) {
	p, err := newPass(set, o)
	if err != nil {
		return nil, err
	}
	for _, c := range Checks() {
		p.check = c.ID
		c.run(p)
	}
	slices.SortStableFunc(p.findings, byPlace)
	return slices.Compact(p.findings), nil
}

func byPlace(a, b Finding) int {
	for _, c := range []int{strings.Compare(a.File, b.File), a.Line - b.Line, a.Column - b.Column, strings.Compare(a.ID, b.ID)} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// pass is one run of the checks over a set.
type pass struct {
	set       *rule.Set
	actions   action.Registry
	docs      []rule.Document
	senders   []*sender
	rules     []*ruleDoc
	workflows map[string]*workflow
	check     string // the id of the running one
	findings  []Finding
}

func newPass(set *rule.Set, o Options) (*pass, error) {
	p := &pass{set: set, actions: o.Actions, docs: set.Documents(), workflows: map[string]*workflow{}}
	tables := map[string]map[string]source.EventFields{}
	for _, d := range p.docs {
		if d.Kind != "Source" {
			continue
		}
		s, err := newSender(d, o.Sources, tables)
		if err != nil {
			return nil, err
		}
		p.senders = append(p.senders, s)
	}
	for _, d := range p.docs {
		switch d.Kind {
		case "Rule":
			p.rules = append(p.rules, newRuleDoc(p, d))
		case "Workflow":
			p.workflows[d.Name] = newWorkflow(p, d)
		}
	}
	return p, nil
}

// warn reports a finding at an item, unless its document silences it.
func (p *pass) warn(d rule.Document, at *document.Item, hint, format string, args ...any) {
	f := document.Problem{File: d.File, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if at != nil {
		f.Line, f.Column = at.Line, at.Column
	}
	p.report(d, f)
}

func (p *pass) report(d rule.Document, f document.Problem) {
	if !slices.Contains(ignored(d), p.check) {
		p.findings = append(p.findings, Finding{p.check, f})
	}
}

// ignored lists the ids that a document silences.
func ignored(d rule.Document) []string {
	return strings.FieldsFunc(d.Annotations[Ignore], func(r rune) bool { return r == ',' || r == ' ' })
}

// didYouMean is the hint for a name that is none of the known ones.
func didYouMean(name string, known []string, otherwise string) string {
	if best := document.Nearest(name, known); best != "" {
		return "did you mean " + best + "?"
	}
	return otherwise
}
