package lint

import (
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

func unusedSource() Check {
	return Check{
		ID:  "unused-source",
		Doc: "a Source whose events no rule selects",
		Why: "Its events are accepted and kept, and nothing is ever done. A rule may be missing, or may name another source.",
		run: func(p *pass) {
			for _, s := range p.senders {
				if !p.listens(s) {
					p.warn(s.doc, s.doc.Item, "", "no rule selects events of Source %s", s.doc.Name)
				}
			}
		},
	}
}

func (p *pass) listens(s *sender) bool {
	for _, r := range p.rules {
		for _, t := range r.triggers {
			if rule.Selected(values(t.sources), s.doc.Name) {
				return true
			}
		}
	}
	return false
}

func unusedTarget() Check {
	return Check{
		ID:  "unused-target",
		Doc: "a Target that nothing is sent to",
		Why: "No rule names it, and no target in use falls back to it. Nothing is said where a rule finds out its target by an expression.",
		run: func(p *pass) {
			used, ok := p.usedTargets()
			for _, d := range p.docs {
				if d.Kind == "Target" && ok && !used[d.Name] {
					p.warn(d, d.Item, "", "nothing is sent to Target %s", d.Name)
				}
			}
		},
	}
}

// usedTargets lists the targets that steps name, and their fallbacks; ok is false where one is known only when it is sent.
func (p *pass) usedTargets() (used map[string]bool, ok bool) {
	used = map[string]bool{}
	for _, s := range p.allSteps() {
		if s.def.Params == nil {
			continue
		}
		for _, param := range document.Tagged(s.def.Params, "ref", "target") {
			name, _ := s.with[param].Any().(string)
			if expression.HasExpression(name) {
				return nil, false
			}
			p.use(name, used)
		}
	}
	return used, true
}

// allSteps lists the steps of rules, also by way of workflows, and of workflows that nobody uses.
func (p *pass) allSteps() []step {
	var out []step
	used := map[*workflow]bool{}
	for _, r := range p.rules {
		for _, s := range r.steps {
			out = append(out, p.within(s)...)
			p.uses(s, used)
		}
	}
	for _, w := range p.workflows {
		if !used[w] {
			out = append(out, w.steps...)
		}
	}
	return out
}

// use notes a target and what it falls back to.
func (p *pass) use(name string, used map[string]bool) {
	for name != "" && !used[name] {
		used[name] = true
		name = p.set.Targets[name].Fallback
	}
}
