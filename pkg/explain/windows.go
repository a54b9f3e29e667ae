package explain

import (
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// query notes what to ask of a rule's windows: the groups of the event, or all where it has none.
func (b *builder) query(a *rule.Account) {
	if b.Windows == nil || !a.Candidate() {
		return
	}
	q := Query{Rule: a.Rule}
	for _, p := range a.Parts {
		if p.Truth.String() == "true" && !slices.Contains(q.Keys, p.Key) {
			q.Keys = append(q.Keys, p.Key)
		}
	}
	b.queries, b.asked = append(b.queries, q), append(b.asked, b.n)
}

// ask asks for all windows at once, and settles what depends on them.
func (b *builder) ask(rules []Verdict) {
	if len(b.queries) == 0 {
		return
	}
	for i, answer := range b.Windows(b.queries) {
		v := &rules[b.asked[i]]
		w := b.windows(&b.queries[i], &answer)
		v.Correlate.Windows = w
		if v.Result == TookPart && slices.ContainsFunc(w.Groups, func(g Group) bool { return g.has(b.Event.ID) }) {
			v.Result = Waits
		}
	}
}

// has says whether the group holds the event, as far as it is listed.
func (g *Group) has(id string) bool {
	return slices.ContainsFunc(g.Events, func(t Took) bool { return t.ID == id })
}

func (b *builder) windows(q *Query, a *Answer) *Windows {
	w := &Windows{Groups: []Group{}, Elsewhere: a.Elsewhere, Behind: a.Behind, Changed: a.Changed}
	for _, key := range q.Keys {
		w.Keys = append(w.Keys, b.Redact(clip(key, maxText)))
	}
	kind := q.Rule.Correlation().Spec.Kind
	groups := slices.Clone(a.Groups)
	slices.SortStableFunc(groups, func(x, y correlate.Waiting) int { return newest(y).Compare(newest(x)) })
	for _, g := range groups {
		if len(w.Groups) < MaxGroups && !b.over(kind, g) {
			w.Groups = append(w.Groups, b.group(&g))
		}
	}
	if a.Total > len(a.Groups) || len(groups) > MaxGroups {
		w.More = a.Total - len(w.Groups)
	}
	return w
}

// over says of a window that nothing fires at the end of whether it has ended: it is only not yet forgotten.
func (b *builder) over(kind correlate.Kind, g correlate.Waiting) bool {
	return kind != correlate.Absence && kind != correlate.Collect && !g.Until.After(b.Now)
}

func newest(g correlate.Waiting) time.Time {
	if len(g.Events) == 0 {
		return g.Since
	}
	return g.Events[len(g.Events)-1].At
}

func (b *builder) group(g *correlate.Waiting) Group {
	out := Group{
		Key: b.Redact(clip(g.Key, maxText)), Since: g.Since.UTC(), Until: g.Until.UTC(), Events: []Took{},
		Rest: g.Rest, Missing: g.Missing, Need: max(g.Need, 0), State: b.Redact(clip(g.State, maxText)), Quiet: g.Quiet,
	}
	over := max(0, len(g.Events)-maxEvents)
	out.Rest += over
	for _, ref := range g.Events[over:] {
		out.Events = append(out.Events, Took{Part: ref.Part, ID: ref.ID, At: ref.At.UTC()})
	}
	return out
}

// duration writes a duration as rules do.
func duration(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return strings.TrimSuffix((d/24).String(), "h0m0s") + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
