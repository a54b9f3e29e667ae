package lint

import (
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
)

func noSource() Check {
	return Check{
		ID:  "no-source",
		Doc: "a trigger that selects none of the sources",
		Why: "No event can come from what is not there. A name without a Source is an error; a glob may be meant for later.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, t := range r.triggers {
					p.noSource(r, t)
				}
			}
		},
	}
}

func (p *pass) noSource(r *ruleDoc, t *trigger) {
	if len(t.sources) == 0 && len(p.senders) == 0 {
		p.warn(r.Document, t.at, "write a document of the kind Source", "there is no Source: no event can come")
	}
	for _, name := range t.sources {
		selects := rule.Selected([]string{name.value}, event.OwnSource)
		for _, s := range p.senders {
			selects = selects || rule.Selected([]string{name.value}, s.doc.Name)
		}
		if !selects {
			p.warn(r.Document, name.at, "", "no Source is named like %q", name.value)
		}
	}
}
