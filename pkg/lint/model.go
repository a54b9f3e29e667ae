package lint

import (
	"fmt"
	"maps"
	"slices"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
)

// sender is a Source document, and what its preset says of its events.
type sender struct {
	doc    rule.Document
	preset source.Type
	types  map[string]source.EventFields // empty where they are anyone's
}

func newSender(d rule.Document, presets source.Registry, tables map[string]map[string]source.EventFields) (*sender, error) {
	name, _ := d.Spec.Get("type").Any().(string)
	if tables[name] == nil {
		table, err := source.ParseFields(presets[name].Fields)
		if err != nil {
			return nil, fmt.Errorf("fields of the source type %s: %w", name, err)
		}
		tables[name] = table
	}
	return &sender{d, presets[name], tables[name]}, nil
}

// open says that events of types that nobody listed may come.
func (s *sender) open() bool {
	_, any := s.types["*"]
	return any || len(s.types) == 0
}

// typeNames lists the types of events that the sender is known to send. "unknown" is what presets call an event that names none.
func (s *sender) typeNames() []string {
	names := slices.Sorted(maps.Keys(s.types))
	return append(slices.DeleteFunc(names, func(n string) bool { return n == "*" }), "unknown")
}

// text is a text of a document with its place.
type text struct {
	value string
	at    *document.Item
}

// texts reads a list of texts, or one alone.
func texts(i *document.Item) []text {
	switch {
	case i == nil:
		return nil
	case i.Kind == document.List:
		var out []text
		for _, e := range i.Elements {
			out = append(out, texts(e)...)
		}
		return out
	}
	if s, ok := i.Value.(string); ok {
		return []text{{s, i}}
	}
	return nil
}

func values(list []text) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = t.value
	}
	return out
}

// trigger is what selects events of a rule, or of a part of its correlation, and the condition beside it.
type trigger struct {
	at             *document.Item // nil where there is none: all events
	sources, types []text
	when           *document.Item
	as             string         // of a part
	by             *document.Item // likewise
	logic          logic          // of when
	selected       []pair         // by source and type
	events         []pair         // those of them that the condition may match
}

// pair is a source and a type of its events.
type pair struct {
	sender *sender
	kind   string // "*" for any
}

// fields is what is known of such an event; ok is false where nothing is.
func (p pair) fields() (source.EventFields, bool) {
	f, ok := p.sender.types[p.kind]
	return f, ok
}

// step is a step of a rule or a workflow.
type step struct {
	item *document.Item
	at   *document.Item // where the rule uses it
	uses string
	in   string // what the rule uses, of a step in a workflow
	def  action.Definition
	with map[string]*document.Item // parameters, as far as they are known
	main bool                      // not one of onFailure or finally
}

// ruleDoc is a Rule document as the checks look at it. It is read from the document itself, so that a part of the language
// that the engine learns is looked at without a change here.
type ruleDoc struct {
	rule.Document
	triggers []*trigger
	steps    []step
}

func newRuleDoc(p *pass, d rule.Document) *ruleDoc {
	r := &ruleDoc{Document: d}
	if t := d.Spec.Get("trigger"); t != nil {
		r.triggers = append(r.triggers, newTrigger(p, t, d.Spec.Get("when")))
	}
	for _, part := range parts(d.Spec) {
		if at := part.Get("trigger"); at != nil {
			t := newTrigger(p, at, part.Get("when"))
			t.as, _ = part.Get("as").Any().(string)
			t.by = part.Get("by")
			r.triggers = append(r.triggers, t)
		}
	}
	for _, name := range []string{"steps", "onFailure", "finally"} {
		for _, item := range elements(d.Spec.Get(name)) {
			r.steps = append(r.steps, newStep(p, item, name == "steps"))
		}
	}
	return r
}

// parts lists what a rule correlates that has triggers of its own.
func parts(spec *document.Item) []*document.Item {
	var out []*document.Item
	for _, kind := range []string{"sequence", "all", "absence"} {
		out = append(out, elements(spec.Get("correlate").Get(kind))...)
	}
	return out
}

// elements returns those of a list, or a map alone.
func elements(i *document.Item) []*document.Item {
	switch {
	case i == nil:
		return nil
	case i.Kind == document.List:
		return i.Elements
	}
	return []*document.Item{i}
}

func newTrigger(p *pass, at, when *document.Item) *trigger {
	t := &trigger{at: at, sources: texts(at.Get("source")), types: texts(at.Get("type")), when: when}
	t.logic = conditionOf(when)
	for _, s := range p.senders {
		if rule.Selected(values(t.sources), s.doc.Name) {
			t.selected = append(t.selected, t.from(s)...)
		}
	}
	t.events = t.matching()
	return t
}

// from returns the events of a sender that the trigger selects.
func (t *trigger) from(s *sender) []pair {
	var out []pair
	for _, kind := range s.typeNames() {
		if _, described := s.types[kind]; described && rule.Selected(values(t.types), kind) {
			out = append(out, pair{s, kind})
		}
	}
	if s.open() {
		out = append(out, pair{s, "*"})
	}
	return out
}

// matching leaves out the events that the condition excludes by their source or type, so that what else it asks is held
// against the others.
func (t *trigger) matching() []pair {
	var out []pair
	for _, e := range t.selected {
		if facts := e.facts(); !t.logic.asks(facts) || impossible(t.logic, facts...) == nil {
			out = append(out, e)
		}
	}
	return out
}

// conditionOf is the logic of a condition of a document, which may be missing.
func conditionOf(i *document.Item) logic {
	program := compile(i)
	if program == nil {
		return logicOf(nil, false)
	}
	return logicOf(program.Condition(), false)
}

// compile compiles a condition that was compiled before; nil where there is none.
func compile(i *document.Item) *expression.Program {
	if i == nil {
		return nil
	}
	p, err := expression.Compile(fmt.Sprint(i.Value), nil)
	if err != nil {
		return nil
	}
	return p
}

// reading is a path that an expression of a document reads.
type reading struct {
	expression.Reading
	in   *document.Item
	text string
}

// readings returns what the expressions of an item read: of one that is an expression as a whole, or of all texts below.
func readings(i *document.Item, whole bool) []reading {
	var out []reading
	switch {
	case i == nil:
	case i.Kind == document.Map:
		for _, m := range i.Members {
			out = append(out, readings(m.Item, false)...)
		}
	case i.Kind == document.List:
		for _, e := range i.Elements {
			out = append(out, readings(e, whole)...)
		}
	case whole:
		if program := compile(i); program != nil {
			out = wrap(i, program.Readings())
		}
	default:
		if s, ok := i.Value.(string); ok && expression.HasExpression(s) {
			if t, err := expression.CompileText(s, nil); err == nil {
				out = wrap(i, t.Readings())
			}
		}
	}
	return out
}

func wrap(i *document.Item, list []expression.Reading) []reading {
	out := make([]reading, len(list))
	for k, r := range list {
		out[k] = reading{r, i, fmt.Sprint(i.Value)}
	}
	return out
}

// problem places a part of an expression in its file.
func (p *pass) problem(d rule.Document, in *document.Item, at expression.Place, hint, format string, args ...any) document.Problem {
	where := expression.CompileError{Source: fmt.Sprint(in.Value), Line: at.Line, Column: at.Column, Length: at.Length}
	out := document.Problem{File: d.File, Msg: fmt.Sprintf(format, args...), Hint: hint, Snippet: where.Snippet()}
	out.Line, out.Column = p.set.Position(d.File, in, at.Line, at.Column)
	return out
}
