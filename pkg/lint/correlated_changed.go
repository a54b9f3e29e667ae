package lint

import "github.com/riposte-dev/riposte/pkg/document"

func correlatedChanged() Check {
	return Check{
		ID:  "correlated-changed",
		Doc: "`changed()` in a rule with `correlate`",
		Why: "Windows run on the time of the log and can't wait for a remote, so that such a rule knows only the paths that the event lists. Where the list is missing or cut short (pull requests, new branches, forced and long pushes) and no listed path matches, `changed` is absent and the event takes no part. That holds for its steps as well. Where that matters, ask `changed` in a rule without `correlate`. Where your sender always lists all paths, silence this.",
		run: func(p *pass) {
			for _, r := range p.rules {
				correlate := r.Spec.Get("correlate")
				if correlate == nil {
					continue
				}
				for _, t := range r.triggers {
					p.correlatedChanged(r, t.when)
					p.correlatedChanged(r, t.by)
				}
				p.correlatedChanged(r, correlate.Get("by"))
				p.correlatedChanged(r, correlate.Get("state"))
				if p.set.Rule(r.Name).StepsAsk() {
					p.warn(r.Document, r.Spec.Get("steps"), "", listedOnly)
				}
			}
		},
	}
}

const listedOnly = "with correlate, changed() knows only the paths that the event lists: where its list is cut short it is absent"

func (p *pass) correlatedChanged(r *ruleDoc, at *document.Item) {
	for _, i := range elements(at) {
		if program := compile(i); program != nil && program.CallsChanged() {
			p.warn(r.Document, i, "", listedOnly)
		}
	}
}
