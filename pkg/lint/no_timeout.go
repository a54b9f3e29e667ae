package lint

import "github.com/riposte-dev/riposte/pkg/rule"

func noTimeout() Check {
	return Check{
		ID:  "no-timeout",
		Doc: "a step that may take for ever",
		Why: "The action has no time limit of its own, so that a command or a service that hangs keeps the run, and whatever waits for it, until somebody looks. Write `timeout:` beside `uses:`.",
		run: func(p *pass) {
			for _, r := range p.rules {
				p.noTimeout(r.Document, r.steps)
			}
			for _, w := range p.workflows {
				if w.Spec.Get("timeout") == nil {
					p.noTimeout(w.Document, w.steps)
				}
			}
		},
	}
}

func (p *pass) noTimeout(d rule.Document, steps []step) {
	for _, s := range steps {
		if s.def.Unbounded && s.item.Get("timeout") == nil {
			p.warn(d, s.at, "write timeout: 10m, or what it takes at most", "%s has no timeout", s.uses)
		}
	}
}
