package rule

import (
	"slices"
	"strconv"
	"sync"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// index finds the rules of a set that an event may make true or absent, without asking the others; or, in an index of
// their own, the parts of rules that correlate. Those with the same trigger are a group, found by source and type; a tree
// for each group splits it by the constraints of its conditions. See docs/adr/0005.
type index struct {
	groups  map[triggerKey][]*group
	fields  *fields
	rules   []indexed
	asks    bool      // any of the rules does
	scratch sync.Pool // of *scratch
}

// triggerKey is what a group is found by: a source and a type, each empty where the trigger has globs or names none.
type triggerKey struct {
	source, typ       string
	anySource, anyTyp bool
}

// group is the rules with one trigger.
type group struct {
	trigger *trigger
	rules   []*indexed // in the order of the set
	tree    *node
}

// scratch is the memory of one match.
type scratch struct {
	reading
	rules []int32
}

// entry is what an index knows a rule by, or a part of one; without a trigger it is left out.
type entry struct {
	trigger *trigger
	when    *expression.Program
	asks    bool // changed()
}

// ruleIndex indexes the rules that one event decides, by their places in the list.
func ruleIndex(rules []*Rule) *index {
	entries := make([]entry, len(rules))
	for i, r := range rules {
		if r.correlation == nil {
			entries[i] = entry{&r.trigger, r.when, r.stepsAsk || r.when != nil && r.when.CallsChanged()}
		}
	}
	return newIndex(entries)
}

func newIndex(entries []entry) *index {
	x := &index{groups: map[triggerKey][]*group{}, fields: newFields(), rules: make([]indexed, len(entries))}
	byTrigger := map[string]*group{}
	var groups []*group
	for i, e := range entries {
		if e.trigger == nil {
			continue
		}
		name := e.trigger.name()
		g := byTrigger[name]
		if g == nil {
			g = &group{trigger: e.trigger}
			byTrigger[name] = g
			groups = append(groups, g)
		}
		x.rules[i] = indexed{rule: int32(i), checks: x.checks(e.when), asks: e.asks}
		x.asks = x.asks || x.rules[i].asks
		g.rules = append(g.rules, &x.rules[i])
	}
	for _, g := range groups {
		g.tree = buildTree(g.rules)
		for _, k := range g.trigger.keys() {
			x.groups[k] = append(x.groups[k], g)
		}
	}
	x.scratch.New = func() any { return &scratch{} }
	return x
}

// checks numbers the fields of a condition's constraints.
func (x *index) checks(when *expression.Program) []check {
	if when == nil {
		return nil
	}
	all := when.Constraints()
	out := make([]check, 0, min(len(all), maxChecks))
	for i := range all {
		c := &all[i]
		if len(out) == maxChecks || c.Op == expression.Changed && !validGlobs(c.Values) {
			continue // a glob that is none fails
		}
		field := int32(-1)
		if c.Op != expression.Changed {
			field = x.fields.add(c.Path)
		}
		out = append(out, check{field, c})
	}
	return out
}

// name tells triggers apart.
func (t *trigger) name() string {
	var b []byte
	for _, list := range [][]string{t.sources, t.types} {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
		b = append(b, 1)
	}
	if t.granted != nil {
		b = strconv.AppendInt(b, int64(t.granted.Number()), 10)
	}
	return string(b)
}

// keys returns what a group with the trigger is found by.
func (t *trigger) keys() []triggerKey {
	sources, anySource := literal(t.sources)
	types, anyType := literal(t.types)
	var keys []triggerKey
	for _, s := range sources {
		for _, typ := range types {
			if k := (triggerKey{s, typ, anySource, anyType}); !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// literal returns the names of a list, or one empty name and true where it is not names only.
func literal(list []string) (names []string, any bool) {
	if len(list) == 0 || slices.ContainsFunc(list, isGlob) {
		return []string{""}, true
	}
	return list, false
}

// triggered appends the groups whose trigger selects the event; those of an empty set are none.
func (x *index) triggered(out []*group, e *event.Event) []*group {
	if x == nil {
		return out
	}
	for _, k := range [...]triggerKey{
		{source: e.Source, typ: e.Type}, {typ: e.Type, anySource: true}, {source: e.Source, anyTyp: true}, {anySource: true, anyTyp: true},
	} {
		for _, g := range x.groups[k] {
			if g.trigger.matches(e) {
				out = append(out, g)
			}
		}
	}
	return out
}

// candidates calls visit for each rule of the groups that no constraint refutes, in the order of the set, until it returns false.
func (x *index) candidates(groups []*group, e *event.Event, paths event.Paths, visit func(rule int32, r *reading) bool) {
	if len(groups) == 0 {
		return
	}
	s := x.scratch.Get().(*scratch)
	defer x.scratch.Put(s)
	s.start(x.fields, e, paths)
	defer s.end()
	s.rules = s.rules[:0]
	for _, g := range groups {
		s.rules = g.tree.collect(&s.reading, s.rules)
	}
	slices.Sort(s.rules)
	for _, n := range slices.Compact(s.rules) {
		if !x.rules[n].refuted(&s.reading) && !visit(n, &s.reading) {
			return
		}
	}
}
