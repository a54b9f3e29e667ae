package lint

import (
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
)

func unknownEventType() Check {
	return Check{
		ID:  "unknown-event-type",
		Doc: "a trigger's type that none of its sources sends",
		Why: "No event of that type ever comes, so that the rule never matches by it. Types are the sender's own words: `push`, `pull_request`, `merge_request`, `alert.firing`.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, t := range r.triggers {
					p.unknownTypes(r, t)
				}
			}
		},
	}
}

func (p *pass) unknownTypes(r *ruleDoc, t *trigger) {
	var known, presets []string
	for _, s := range p.senders {
		if !rule.Selected(values(t.sources), s.doc.Name) {
			continue
		}
		if s.open() {
			return
		}
		known = append(known, s.typeNames()...)
		if !slices.Contains(presets, s.preset.Name) {
			presets = append(presets, s.preset.Name)
		}
	}
	for _, kind := range t.types {
		if len(known) == 0 || own(t, kind.value) || slices.ContainsFunc(known, func(k string) bool { return rule.Selected([]string{kind.value}, k) }) {
			continue
		}
		p.warn(r.Document, kind.at, typeHint(kind.value, known), "%s sends no events of the type %q", strings.Join(presets, ", "), kind.value)
	}
}

// own reports whether a trigger asks for a type of what Riposte itself sends.
func own(t *trigger, kind string) bool {
	class, _, _ := strings.Cut(kind, ".")
	return rule.Selected(values(t.sources), event.OwnSource) && slices.Contains([]string{"emitted", "storm", "breaker", "approval"}, class)
}

// typeHint knows that people write an action behind the type.
func typeHint(kind string, known []string) string {
	if class, action, ok := strings.Cut(kind, "."); ok && slices.Contains(known, class) {
		return "write " + class + `, and event.data.action == "` + action + `" in when`
	}
	return didYouMean(kind, known, "")
}
