package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// bounds says which limits and which group a run for the event would be held to.
func (b *builder) bounds(a *rule.Account, v *Verdict) {
	takes := slices.ContainsFunc(v.Parts, func(p Asked) bool { return p.Verdict == expression.True.String() })
	for i := range a.Limits {
		l := &a.Limits[i]
		out := Limit{Runs: l.Runs, Per: duration(l.Per), Default: l.Default}
		for k := range l.By {
			out.By = append(out.By, b.value(&l.By[k]))
		}
		switch {
		case !takes: // it counts for none
			out.State = &LimitState{}
		case l.Limit != nil && b.Limits != nil:
			b.limits, b.limited = append(b.limits, *l.Limit), append(b.limited, [2]int{b.n, i})
		}
		v.Limits = append(v.Limits, out)
	}
	if g := a.Group; g != nil {
		v.Concurrency = &Concurrency{Group: b.value(&g.Value), Policy: g.Policy}
	}
}

// askLimits asks how far all limits are reached at once.
func (b *builder) askLimits(rules []Verdict) {
	if len(b.limits) == 0 {
		return
	}
	for i, state := range b.Limits(b.limits) {
		of := b.limited[i]
		rules[of[0]].Limits[of[1]].State = state
	}
}

// bounds writes the limits and the group of a rule: in a word where it is known that no limit is reached.
func (p *printer) bounds(r *Verdict) {
	if r.unreached() {
		p.line("  %-*s%s", placeColumn-2, "limits", "not reached")
	} else {
		name := "limits"
		for i := range r.Limits {
			p.line("  %-*s%s", placeColumn-2, name, p.limit(&r.Limits[i]))
			name = ""
		}
	}
	if c := r.Concurrency; c != nil {
		p.line("  %-*s%s, policy %s", placeColumn-2, "concurrency", c.Group.short(), c.Policy)
	}
}

// unreached reports whether it is known of all limits that none is reached.
func (v *Verdict) unreached() bool {
	for i := range v.Limits {
		if s := v.Limits[i].State; s == nil || s.Reached {
			return false
		}
	}
	return len(v.Limits) > 0
}

// limit writes a limit, the key that it counts for, and how far it is reached.
func (p *printer) limit(l *Limit) string {
	text := fmt.Sprintf("%d %s per %s", l.Runs, map[bool]string{true: "run", false: "runs"}[l.Runs == 1], l.Per)
	switch {
	case l.Default:
		text += " for each target, since it answers an alert and writes none"
	case len(l.By) > 0:
		keys := make([]string, len(l.By))
		for i := range l.By {
			keys[i] = l.By[i].short()
		}
		text += " for " + strings.Join(keys, ", ")
	}
	switch s := l.State; {
	case s == nil:
	case !s.Reached:
		text += fmt.Sprintf(": %d so far", s.Runs)
	case s.Free == nil:
		text += ": reached"
	default:
		text += ": reached, until " + p.at(*s.Free)
	}
	return text
}

// short is the value of a key, or what it would be the value of.
func (v *Value) short() string {
	if v.Value == nil {
		return v.Text
	}
	return string(v.Value)
}
