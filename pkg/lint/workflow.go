package lint

import (
	"regexp"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// workflow is a Workflow document.
type workflow struct {
	rule.Document
	steps []step
}

func newWorkflow(p *pass, d rule.Document) *workflow {
	w := &workflow{Document: d}
	for _, item := range elements(d.Spec.Get("steps")) {
		w.steps = append(w.steps, newStep(p, item, true))
	}
	return w
}

func newStep(p *pass, item *document.Item, main bool) step {
	uses, _ := item.Get("uses").Any().(string)
	s := step{item: item, at: item.Get("uses"), uses: uses, def: p.actions[uses], main: main, with: map[string]*document.Item{}}
	for _, m := range members(item.Get("with")) {
		s.with[m.Name] = m.Item
	}
	return s
}

func members(i *document.Item) []document.Member {
	if i == nil {
		return nil
	}
	return i.Members
}

// workflow returns the workflow that a step uses, or nil.
func (p *pass) workflow(s step) *workflow {
	name, is := strings.CutPrefix(s.uses, "workflow/")
	if !is {
		return nil
	}
	return p.workflows[name]
}

// within returns a step, or those of the workflow that it uses, and so on, with what the workflow is given in the place of
// its inputs. Each is placed where the rule uses it.
func (p *pass) within(s step) []step { return p.inside(s, nil) }

func (p *pass) inside(s step, above []*workflow) []step {
	w := p.workflow(s)
	if w == nil || slices.Contains(above, w) {
		return []step{s}
	}
	var out []step
	for _, inner := range w.steps {
		name := s.uses
		inner.at, inner.main = s.at, s.main
		inner.with = w.given(s, inner.with)
		for _, deep := range p.inside(inner, append(slices.Clip(above), w)) {
			if deep.in == "" {
				deep.in = name
			}
			out = append(out, deep)
		}
	}
	return out
}

var wholeInput = regexp.MustCompile(`^\s*\$\{\{\s*inputs\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}\s*$`)

// given puts what a step gives to its workflow, or the default, in the place of values that are an input and nothing else.
func (w *workflow) given(s step, with map[string]*document.Item) map[string]*document.Item {
	out := map[string]*document.Item{}
	for name, item := range with {
		out[name] = item
		text, _ := item.Any().(string)
		m := wholeInput.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		if outer := s.with[m[1]]; outer != nil {
			out[name] = outer
		} else if otherwise := w.Spec.Get("inputs").Get(m[1]).Get("default"); otherwise != nil {
			out[name] = otherwise
		}
	}
	return out
}

// name is what a step does, and by way of what.
func (s step) name() string {
	if s.in == "" {
		return s.uses
	}
	return s.uses + " in " + s.in
}

func unusedWorkflow() Check {
	return Check{
		ID:  "unused-workflow",
		Doc: "a Workflow that no rule uses",
		Why: "Nothing starts it but `riposte run workflow/NAME`, by hand. A rule may be missing, or may name another one.",
		run: func(p *pass) {
			used := map[*workflow]bool{}
			for _, r := range p.rules {
				for _, s := range r.steps {
					p.uses(s, used)
				}
			}
			for _, w := range p.workflows {
				if !used[w] {
					p.warn(w.Document, w.Item, "", "no rule uses Workflow %s", w.Name)
				}
			}
		},
	}
}

func (p *pass) uses(s step, used map[*workflow]bool) {
	w := p.workflow(s)
	if w == nil || used[w] {
		return
	}
	used[w] = true
	for _, inner := range w.steps {
		p.uses(inner, used)
	}
}

func unusedInput() Check {
	return Check{
		ID:  "unused-input",
		Doc: "an input that its workflow does not read",
		Why: "What rules give has no effect. The step that should read it may say something else, or the input may be left over.",
		run: func(p *pass) {
			for _, w := range p.workflows {
				p.unusedInputs(w)
			}
		},
	}
}

func (p *pass) unusedInputs(w *workflow) {
	read := map[string]bool{}
	for _, r := range w.readings() {
		if r.Reading[0].Name != "inputs" {
			continue
		}
		if len(r.Reading) < 2 || r.Reading[1].Name == "" {
			return // any of them
		}
		read[r.Reading[1].Name] = true
	}
	for _, m := range members(w.Spec.Get("inputs")) {
		if !read[m.Name] {
			p.warn(w.Document, &document.Item{Line: m.Line, Column: m.Column}, "", "workflow %s does not read its input %s", w.Name, m.Name)
		}
	}
}

// readings returns all that the expressions of a workflow read.
func (w *workflow) readings() []reading {
	var out []reading
	for _, s := range w.steps {
		out = append(out, s.readings()...)
	}
	for _, m := range members(w.Spec.Get("outputs")) {
		out = append(out, readings(m.Item.Get("value"), false)...)
	}
	return out
}

// readings returns all that the expressions of a step read.
func (s step) readings() []reading {
	out := append(readings(s.item.Get("if"), true), readings(s.item.Get("with"), false)...)
	each := s.item.Get("forEach")
	switch {
	case each == nil:
	case each.Kind == document.Map && each.Get("in") != nil && each.Get("in").Kind != document.List:
		out = append(out, readings(each.Get("in"), true)...)
	case each.Kind == document.Scalar:
		out = append(out, readings(each, true)...)
	default: // a list of values
		out = append(out, readings(each, false)...)
	}
	return out
}
