package lint

import (
	"encoding/json"
	"slices"
)

func duplicateAction() Check {
	return Check{
		ID:  "duplicate-action",
		Doc: "two rules that do the same for the same event",
		Why: "An event that both match has the same done twice, with the same parameters. Join the rules, let their conditions exclude each other, or have them share a concurrency group.",
		run: func(p *pass) {
			before := map[string][]deed{}
			for _, d := range p.deeds() {
				key := d.rule.key(d.step, 0)
				alike := before[key]
				p.duplicates(d, alike[max(0, len(alike)-maxAlike):])
				before[key] = append(alike, d)
			}
		},
	}
}

// maxAlike is with how many of those before it a step is compared: in a set of thousands that all do the same, the nearest.
const maxAlike = 32

// deeds lists the steps that change something for an event.
func (p *pass) deeds() []deed {
	var out []deed
	for _, r := range p.rules {
		if len(r.triggers) != 1 || r.Spec.Get("correlate") != nil || observes(r) {
			continue
		}
		for _, s := range r.steps {
			if s.main && slices.ContainsFunc(p.within(s), func(in step) bool { return in.def.Changes }) {
				out = append(out, deed{r, s})
			}
		}
	}
	return out
}

// deed is a step that changes something outside.
type deed struct {
	rule *ruleDoc
	step step
}

func (p *pass) duplicates(d deed, before []deed) {
	at := slices.IndexFunc(before, func(o deed) bool { return o.rule != d.rule && o.overlaps(d) })
	if at < 0 {
		return
	}
	o := before[at]
	p.warn(d.rule.Document, d.step.item.Get("uses"), "join the rules, or let their conditions exclude each other",
		"rule %s does the same, %s with the same parameters, for the same events (%s:%d)", o.rule.Name, d.step.uses, o.rule.File, o.step.item.Line)
}

// key is the same for steps that do the same: what they use, and their parameters as written. Of another step's outputs
// it is that step that counts, not its name.
func (r *ruleDoc) key(s step, depth int) string {
	with, err := json.Marshal(s.item.Get("with").Any())
	if err != nil || depth > len(r.steps) {
		return s.uses
	}
	key := s.uses + " " + string(with)
	for _, read := range readings(s.item.Get("with"), false) {
		if len(read.Reading) < 2 || read.Reading[0].Name != "steps" {
			continue
		}
		for _, other := range r.steps {
			if other.main && other.item != s.item && other.item.Get("id").Any() == read.Reading[1].Name {
				key += "\n" + r.key(other, depth+1)
			}
		}
	}
	return key
}

// overlaps says whether an event may start both.
func (d deed) overlaps(o deed) bool {
	if g := group(d.rule); g != nil && g == group(o.rule) {
		return false // somebody thought of both
	}
	a, b := d.rule.triggers[0], o.rule.triggers[0]
	if !slices.ContainsFunc(a.events, func(e pair) bool { return slices.Contains(b.events, e) }) {
		return false
	}
	both := a.logic.and(b.logic)
	for _, s := range []step{d.step, o.step} {
		if s.item.Get("if") != nil {
			both = both.and(conditionOf(s.item.Get("if")))
		}
	}
	return impossible(both) == nil
}

// group is the text of a rule's concurrency group; nil where there is none.
func group(r *ruleDoc) any { return r.Spec.Get("concurrency").Get("group").Any() }
