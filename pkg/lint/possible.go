package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// fact is what is known of a path beside a condition: its value is one of several.
type fact struct {
	path   []string
	values []any
	why    string // for people: "the trigger's type"
}

// facts are what the source and the type of an event say.
func (p pair) facts() []fact {
	out := []fact{{[]string{"event", "source"}, []any{p.sender.doc.Name}, "the trigger"}}
	if p.kind == "*" {
		return out
	}
	out = append(out, fact{[]string{"event", "type"}, []any{p.kind}, "the trigger"})
	if status, ok := strings.CutPrefix(p.kind, "alert."); ok { // the view's status is the type's
		out = append(out, fact{[]string{"event", "alert", "status"}, []any{status}, "the event's type " + p.kind})
	}
	return out
}

// clause is a clause that must be true, or false where it is negated.
type clause struct {
	*expression.Condition
	negated bool
	program *expression.Program // nil where nothing can be tried
	why     string              // where it is a fact
}

// logic is a condition as the ways in which it can be true: all clauses of one of them. It is nil where there are too many
// ways to look at.
type logic [][]clause

func (c clause) String() string {
	switch {
	case c.why != "":
		return c.why
	case c.negated:
		return "not (" + c.Text + ")"
	}
	return c.Text
}

// conflict says why a condition can't be true: a clause, and another that excludes it or nothing where it is false alone.
type conflict struct {
	clause clause
	other  *clause
}

func (c *conflict) String() string {
	if c.other == nil {
		return fmt.Sprintf("%s is never true", c.clause)
	}
	return fmt.Sprintf("%s and %s exclude each other", *c.other, c.clause)
}

// impossible looks for proof that a condition can't be true together with the facts; nil says that there is none. The proof
// is made by evaluating: where a clause leaves a path only certain values, each of them is tried on the clauses that ask
// that path alone.
func impossible(l logic, facts ...fact) *conflict {
	var first *conflict
	for _, way := range l {
		found := contradiction(append(given(facts), way...))
		if found == nil {
			return nil
		}
		if first == nil {
			first = found
		}
	}
	return first
}

func given(facts []fact) []clause {
	var out []clause
	for _, f := range facts {
		out = append(out, clause{Condition: &expression.Condition{Path: f.path, Compare: "==", Values: f.values}, why: f.why})
	}
	return out
}

// asks says whether the condition asks one of the paths.
func (l logic) asks(facts []fact) bool {
	return slices.ContainsFunc(l, func(way []clause) bool {
		return slices.ContainsFunc(way, func(c clause) bool {
			return slices.ContainsFunc(facts, func(f fact) bool { return slices.Equal(f.path, c.Path) })
		})
	})
}

// maxWays bounds the alternatives that are looked at; beyond it nothing is proved.
const maxWays = 256

// logicOf turns a condition into the ways in which it is true, or false where it is negated.
func logicOf(c *expression.Condition, negated bool) logic {
	switch {
	case c == nil:
		return logic{nil}
	case c.Op == "":
		return logic{{newClause(c, negated)}}
	case c.Op == "not":
		return logicOf(c.Operands[0], !negated)
	}
	all := (c.Op == "&&") != negated
	out := logic{}
	if all {
		out = logic{nil}
	}
	for _, o := range c.Operands {
		more := logicOf(o, negated)
		switch {
		case all:
			out = out.and(more)
		case more == nil || len(out)+len(more) > maxWays:
			return nil
		default:
			out = append(out, more...)
		}
	}
	return out
}

func newClause(c *expression.Condition, negated bool) clause {
	out := clause{Condition: c, negated: negated}
	if c.Path != nil {
		out.program, _ = expression.CompileCondition(c.Text, nil) // it was compiled as a part of the whole
	}
	return out
}

// and is the logic of two conditions that must both be true.
func (l logic) and(o logic) logic {
	if l == nil || o == nil || len(l)*len(o) > maxWays {
		return nil
	}
	var out logic
	for _, x := range l {
		for _, y := range o {
			out = append(out, slices.Concat(x, y))
		}
	}
	return out
}

// contradiction looks for clauses of which no value of a path makes all true.
func contradiction(clauses []clause) *conflict {
	for i, c := range clauses {
		if c.Path == nil {
			continue
		}
		if len(c.Path) == 0 && !c.allows(nil, nil) {
			return &conflict{clause: c}
		}
		same := func(o clause) bool { return o.Path != nil && slices.Equal(o.Path, c.Path) }
		if slices.ContainsFunc(clauses[:i], same) || len(c.Path) == 0 {
			continue // the path was looked at
		}
		var asking []clause
		for _, o := range clauses {
			if same(o) {
				asking = append(asking, o)
			}
		}
		if found := excluded(asking); found != nil {
			return found
		}
	}
	return apart(clauses)
}

// excluded says which clauses on one path exclude each other.
func excluded(clauses []clause) *conflict {
	for i, c := range clauses {
		if c.Compare != "==" || c.negated {
			continue
		}
		if len(c.Values) == 0 {
			return &conflict{clause: c}
		}
		if at := slices.IndexFunc(clauses, func(o clause) bool { return !o.allowsAny(c.Values) }); at >= 0 {
			if at == i {
				return &conflict{clause: c}
			}
			return ordered(clauses, i, at)
		}
		if !allow(clauses, c.Values) {
			return ordered(clauses, i, len(clauses)-1)
		}
	}
	for _, ops := range [][]string{{"<", "<=", ">", ">="}, {"startsWith"}} {
		if found := bounded(clauses, ops); found != nil {
			return found
		}
	}
	return nil
}

// ordered names two clauses as they stand; what is in the condition is named last, because the caret is put below it.
func ordered(clauses []clause, a, b int) *conflict {
	if a > b || clauses[b].why != "" {
		a, b = b, a
	}
	return &conflict{clause: clauses[b], other: &clauses[a]}
}

// bounded looks at the clauses that compare with the operators, which leave no list of values: at all values that matter
// to them.
func bounded(clauses []clause, ops []string) *conflict {
	var found []clause
	var candidates []any
	for _, c := range clauses {
		if slices.Contains(ops, c.Compare) && !c.negated {
			found = append(found, c)
			candidates = append(candidates, around(c.Values[0])...)
		}
	}
	if len(found) < 2 || allow(found, append(candidates, between(candidates)...)) {
		return nil
	}
	return &conflict{clause: found[len(found)-1], other: &found[0]}
}

// around returns a value, and for a number one on either side.
func around(v any) []any {
	switch n := v.(type) {
	case int64:
		return []any{n, float64(n) - 1, float64(n) + 1}
	case float64:
		return []any{n, n - 1, n + 1}
	}
	return []any{v}
}

// between returns the middles of all pairs of numbers.
func between(values []any) []any {
	var out []any
	for _, a := range values {
		for _, b := range values {
			x, ok := number(a)
			y, also := number(b)
			if ok && also && x < y {
				out = append(out, (x+y)/2)
			}
		}
	}
	return out
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// allow says whether one of the values suits all clauses.
func allow(clauses []clause, values []any) bool {
	return slices.ContainsFunc(values, func(v any) bool {
		return !slices.ContainsFunc(clauses, func(c clause) bool { return !c.allows(c.Path, v) })
	})
}

func (c clause) allowsAny(values []any) bool { return allow([]clause{c}, values) }

// allows evaluates the clause with a value in its path.
func (c clause) allows(path []string, v any) bool {
	if c.why != "" {
		return slices.Contains(c.Values, v)
	}
	if c.program == nil {
		return true
	}
	want := expression.True
	if c.negated {
		want = expression.False
	}
	return c.evaluate(nested(path, v)) == want
}

func (c clause) evaluate(vars map[string]any) expression.Truth {
	if c.program == nil {
		return expression.True // no proof of anything
	}
	return c.program.Test(context.Background(), &expression.Scope{Vars: vars, Now: time.Unix(0, 0)})
}

// nested is a scope in which a path has a value.
func nested(path []string, v any) map[string]any {
	vars := map[string]any{}
	at := vars
	for i, name := range path {
		if i == len(path)-1 {
			at[name] = v
			break
		}
		below := map[string]any{}
		at[name] = below
		at = below
	}
	return vars
}

// apart knows paths of views that are never there together: a ref is a branch or a tag.
func apart(clauses []clause) *conflict {
	needs := func(path ...string) int {
		return slices.IndexFunc(clauses, func(c clause) bool {
			return c.why == "" && slices.Equal(c.Path, path) && c.evaluate(map[string]any{"event": map[string]any{"git": map[string]any{}}}) == expression.Absent
		})
	}
	branch, tag := needs("event", "git", "branch"), needs("event", "git", "tag")
	if branch < 0 || tag < 0 {
		return nil
	}
	return ordered(clauses, min(branch, tag), max(branch, tag))
}
