package expression

import (
	"slices"

	"github.com/expr-lang/expr/ast"
)

// Op is how a constraint compares.
type Op int

// The comparisons.
const (
	Equals     Op = iota + 1 // the field is one of Values: ==, or `in` a list that is written out
	StartsWith               // the field is text that begins with the one of Values, which is text
	Changed                  // changed() of the globs in Values, which are texts; there is no path
)

// Constraint is a conjunct that compares a field with what stands in the expression: where it is not met, the whole is
// not true. What is met, not met or absent is for Equals and StartsWith as Verdict says; that of Changed is Scope.Changed's.
type Constraint struct {
	Path []string // from its root: ["event", "git", "branch"]
	Op   Op
	// Values are nil, bool, int64, float64 or string.
	Values []any
	// Asks says that an absent field is nil: the last step of the path is a ?., or nil is what the field is compared with.
	Asks bool
}

// Verdict says what the conjunct comes to with a value of its field; ok is false where the field is absent. It is always
// what evaluating the conjunct gives, within the limits.
func (c *Constraint) Verdict(value any, ok bool) Truth {
	if !ok && !c.Asks {
		return Absent
	}
	if c.Op == Equals {
		return verdict(slices.ContainsFunc(c.Values, func(want any) bool { return same(value, want) }))
	}
	return c.begins(value)
}

func (c *Constraint) begins(value any) Truth {
	if value == nil {
		return False
	}
	text, isText := value.(string)
	if !isText {
		return Absent
	}
	prefix, _ := c.Values[0].(string)
	return verdict(len(text) >= len(prefix) && text[:len(prefix)] == prefix)
}

func verdict(b bool) Truth {
	if b {
		return True
	}
	return False
}

// same compares a value with a scalar as the operator == does.
func same(value, scalar any) bool {
	if isNumber(scalar) {
		c, ordered := compareNumbers(value, scalar)
		return ordered && c == 0
	}
	switch scalar.(type) {
	case nil, bool, string:
		return kindOf(value) == kindOf(scalar) && value == scalar
	}
	return false
}

// Constraints returns those of the conjuncts that compare a field with constants, in their order. The others, and what
// depends on let, are not among them.
func (p *Program) Constraints() []Constraint { return p.constraints }

// constraintsOf finds the constraints among the operands of the && at the top, which are compiled already.
func (c *compiler) constraintsOf(n ast.Node, r span) []Constraint {
	nodes, _ := c.operands("&&", n, r)
	var out []Constraint
	for _, n := range nodes {
		if found, ok := c.constraint(n); ok {
			out = append(out, found)
		}
	}
	return out
}

func (c *compiler) constraint(n ast.Node) (Constraint, bool) {
	switch n := n.(type) {
	case *ast.BinaryNode:
		return c.comparison(n)
	case *ast.CallNode:
		return c.changedConstraint(n)
	}
	return Constraint{}, false
}

// comparison is the constraint of a comparison between a path and a constant.
func (c *compiler) comparison(n *ast.BinaryNode) (Constraint, bool) {
	left, right := c.done(n.Left), c.done(n.Right)
	if left == nil || right == nil {
		return Constraint{}, false
	}
	if n.Operator == "==" && left.constant {
		left, right = right, left
	}
	path, asks, ok := left.path.fixed()
	if !ok || !right.constant {
		return Constraint{}, false
	}
	out := Constraint{Path: path, Asks: asks}
	switch n.Operator {
	case "==":
		out.Op, out.Values = Equals, []any{right.value}
		out.Asks = asks || right.value == nil
	case "in":
		out.Op = Equals
		out.Values, ok = right.value.([]any)
	case "startsWith":
		out.Op, out.Values = StartsWith, []any{right.value}
		_, ok = right.value.(string)
	default:
		ok = false
	}
	return out, ok && !slices.ContainsFunc(out.Values, func(v any) bool { return !isScalar(v) })
}

// done returns what a node was compiled to; a written nil is not compiled by itself.
func (c *compiler) done(n ast.Node) *compiled {
	if _, ok := n.(*ast.NilNode); ok {
		return constant(nil)
	}
	return c.memo[n]
}

func isScalar(v any) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string:
		return true
	}
	return false
}

// changedConstraint is the constraint of changed() with globs that are written out.
func (c *compiler) changedConstraint(n *ast.CallNode) (Constraint, bool) {
	if callee, ok := n.Callee.(*ast.IdentifierNode); !ok || callee.Value != "changed" {
		return Constraint{}, false
	}
	out := Constraint{Op: Changed}
	for _, a := range n.Arguments {
		arg := c.memo[a]
		if arg == nil || !arg.constant {
			return Constraint{}, false
		}
		globs, isList := arg.value.([]any)
		if !isList {
			globs = []any{arg.value}
		}
		out.Values = append(out.Values, globs...)
	}
	return out, !slices.ContainsFunc(out.Values, func(v any) bool { _, text := v.(string); return !text })
}

// fixed returns a path whose steps are all written out, from a root of the scope. asks says that its last step alone
// asks for a field that may be absent; one that asks before is not fixed, because what follows can still be absent.
func (p *path) fixed() (names []string, asks, ok bool) {
	if p == nil || !p.open || p.alias != nil || len(p.steps) == 0 || len(p.ref) != len(p.steps)+1 {
		return nil, false, false
	}
	last := len(p.steps) - 1
	return p.ref, p.optional == last, p.optional < 0 || p.optional == last
}
