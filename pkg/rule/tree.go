package rule

import (
	"maps"
	"slices"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// node is a set of rules, split by constraints, each rule by the one that the fewest share. What an event can't make true or
// absent is not reached with it; what is reached may still be false.
type node struct {
	always   []int32 // rules that no constraint splits further
	branches []branch
}

// branch holds the rules that ask for one field in one way: by the values that they want, and all of them once more for
// events in which the field is absent, or of a kind that makes the question fail.
type branch struct {
	branchKey
	equal     map[valueKey]*node
	longest   int // text in equal
	begin     map[string]*node
	lengths   []int // of the texts in begin, ascending
	globs     globs
	undecided *node
}

type branchKey struct {
	field int32
	op    expression.Op
	asks  bool
}

// collect appends the rules that may be true or absent; some may come twice.
func (n *node) collect(r *reading, out []int32) []int32 {
	if n == nil {
		return out
	}
	out = append(out, n.always...)
	for i := range n.branches {
		out = n.branches[i].collect(r, out)
	}
	return out
}

func (b *branch) collect(r *reading, out []int32) []int32 {
	if b.op == expression.Changed {
		git := r.event.Git
		if git == nil || !git.PathsComplete {
			return b.undecided.collect(r, out)
		}
		return b.globs.collect(r, out, git.Paths)
	}
	v, ok := r.value(b.field)
	if !ok && !b.asks {
		return b.undecided.collect(r, out)
	}
	text, isText := v.(string)
	switch {
	case b.op == expression.StartsWith && isText:
		return b.beginning(r, out, text)
	case b.op == expression.StartsWith && v == nil:
		return out
	case b.op == expression.StartsWith:
		return b.undecided.collect(r, out)
	case len(text) > b.longest: // hash no megabytes
		return out
	}
	if k, ok := scalarKey(v); ok {
		return b.equal[k].collect(r, out)
	}
	return out
}

func (b *branch) beginning(r *reading, out []int32, text string) []int32 {
	for _, n := range b.lengths {
		if n > len(text) {
			break
		}
		out = b.begin[text[:n]].collect(r, out)
	}
	return out
}

// indexed is a rule with what its index knows of it.
type indexed struct {
	rule   int32 // its place in the set
	checks []check
}

// check is a constraint of a rule, and the number of its field.
type check struct {
	field int32
	*expression.Constraint
}

// refuted reports whether a constraint of the rule is false. It costs a fraction of evaluating the condition.
func (x *indexed) refuted(r *reading) bool {
	for i := range x.checks {
		c := &x.checks[i]
		if c.Op == expression.Changed {
			continue
		}
		if v, ok := r.value(c.field); c.Verdict(v, ok) == expression.False {
			return true
		}
	}
	return false
}

const (
	// leaf is how many rules are not worth splitting.
	leaf = 3
	// places bounds in how many places of a tree a rule stands, apart from the values of its first constraint: each constraint
	// that splits it again shares out what is left to its values and to the place for undecided events.
	places = 64
	// maxChecks is how many constraints of a rule are looked at.
	maxChecks = 64
)

// item is a rule on its way into a tree.
type item struct {
	*indexed
	used   uint64 // constraints that split it already
	by     int    // the last of them
	places int
}

func buildTree(rules []*indexed) *node {
	items := make([]item, len(rules))
	for i, x := range rules {
		items[i] = item{indexed: x, places: places}
	}
	return build(items)
}

func build(items []item) *node {
	n := &node{}
	if len(items) <= leaf {
		n.always = numbers(items)
		return n
	}
	shared := count(items)
	chosen := map[branchKey][]item{}
	var rest []item
	for _, it := range items {
		best, ok := it.choose(shared)
		if !ok {
			rest = append(rest, it)
			continue
		}
		key := it.checks[best].branch()
		it.used |= 1 << best
		it.by = best
		chosen[key] = append(chosen[key], it)
	}
	n.always = numbers(rest)
	for _, key := range slices.SortedFunc(maps.Keys(chosen), branchKey.compare) {
		n.branches = append(n.branches, buildBranch(key, chosen[key]))
	}
	return n
}

func numbers(items []item) []int32 {
	out := make([]int32, len(items))
	for i, it := range items {
		out[i] = it.rule
	}
	return out
}

func (c *check) branch() branchKey { return branchKey{c.field, c.Op, c.Asks} }

func (k branchKey) compare(other branchKey) int {
	switch {
	case k.field != other.field:
		return int(k.field) - int(other.field)
	case k.op != other.op:
		return int(k.op) - int(other.op)
	case k.asks == other.asks:
		return 0
	case k.asks:
		return 1
	}
	return -1
}

// keys returns what a constraint's rules have in common: values, beginnings, or the directories of globs.
func (c *check) keys() []valueKey {
	keys := make([]valueKey, 0, len(c.Values))
	for _, v := range c.Values {
		if glob, ok := v.(string); ok && c.Op == expression.Changed {
			v = directoryOf(glob)
		}
		if k, ok := scalarKey(v); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// count says how many rules want the same of the same field.
func count(items []item) map[branchKey]map[valueKey]int {
	out := map[branchKey]map[valueKey]int{}
	for _, it := range items {
		for i := range it.checks {
			c := &it.checks[i]
			if it.used&(1<<i) != 0 {
				continue
			}
			values := out[c.branch()]
			if values == nil {
				values = map[valueKey]int{}
				out[c.branch()] = values
			}
			for _, k := range c.keys() {
				values[k]++
			}
		}
	}
	return out
}

// choose returns the constraint that leaves a rule with the fewest others.
func (it *item) choose(shared map[branchKey]map[valueKey]int) (best int, ok bool) {
	least := 0
	for i := range it.checks {
		c := &it.checks[i]
		if it.used&(1<<i) != 0 || it.used != 0 && it.share(i) == 0 {
			continue
		}
		company := 0
		for _, k := range c.keys() {
			company += shared[c.branch()][k]
		}
		if !ok || company < least {
			best, least, ok = i, company, true
		}
	}
	return best, ok
}

// share is how many places are left to each part where a constraint splits the rule.
func (it *item) share(i int) int { return it.places / (len(it.checks[i].Values) + 1) }

// buildBranch splits rules by the constraint that each was sent here for.
func buildBranch(key branchKey, items []item) branch {
	b := branch{branchKey: key}
	wanted := map[valueKey][]item{}
	var undecided []item
	for _, it := range items {
		c := &it.checks[it.by]
		it.places = it.share(it.by)
		for _, v := range c.Values {
			k, ok := scalarKey(v)
			same := wanted[k]
			if ok && (len(same) == 0 || same[len(same)-1].indexed != it.indexed) {
				wanted[k] = append(same, it)
			}
		}
		undecided = append(undecided, it)
	}
	b.add(wanted)
	if key.op != expression.Equals || !key.asks {
		b.undecided = build(undecided)
	}
	return b
}

func (b *branch) add(wanted map[valueKey][]item) {
	switch b.op {
	case expression.Equals:
		b.equal = make(map[valueKey]*node, len(wanted))
	case expression.StartsWith:
		b.begin = make(map[string]*node, len(wanted))
	case expression.Changed:
		b.globs = globs{}
	}
	for k, items := range wanted {
		n := build(items)
		switch b.op {
		case expression.Equals:
			b.equal[k] = n
			b.longest = max(b.longest, len(k.s))
		case expression.StartsWith:
			b.begin[k.s] = n
			b.lengths = append(b.lengths, len(k.s))
		case expression.Changed:
			b.globs.add(k.s, n)
		}
	}
	slices.Sort(b.lengths)
	b.lengths = slices.Compact(b.lengths)
}
