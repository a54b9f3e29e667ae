package expression

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// binary compiles an operator between two expressions.
func (c *compiler) binary(n *ast.BinaryNode) *compiled {
	switch n.Operator {
	case "&&", "and", "||", "or":
		return c.junctionOf(n)
	case "==", "!=":
		return c.equality(n)
	case "??":
		return c.coalesce(n)
	case "in":
		return c.in(n)
	case "matches":
		return c.matches(n)
	case "..":
		return c.rng(n)
	case "contains":
		return c.text(n, strings.Contains)
	case "startsWith":
		return c.text(n, strings.HasPrefix)
	case "endsWith":
		return c.text(n, strings.HasSuffix)
	case "<", ">", "<=", ">=":
		return c.ordering(n)
	case "+", "-", "*", "/", "%", "**", "^":
		return c.arithmetic(n)
	}
	c.fail(n.Location(), "operator "+n.Operator+" is not supported", "")
	return nil
}

// operator is a binary operator on two values.
type operator func(e *evaluation, a, b any) (any, error)

// both compiles an operator that needs both its operands.
func (c *compiler) both(n *ast.BinaryNode, k kind, apply operator) *compiled {
	left, right, at := c.leftOf(n), c.nested(n.Right), n.Location().From
	return &compiled{kind: k, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		a, err := left.eval(e)
		if err != nil {
			return nil, err
		}
		b, err := right.eval(e)
		if err != nil {
			return nil, err
		}
		v, err := apply(e, a, b)
		if err != nil {
			return nil, e.failure(at, err)
		}
		return v, nil
	}}
}

// leftOf compiles the left operand, which may be a long chain: a + b + c … is no nesting to people.
func (c *compiler) leftOf(n *ast.BinaryNode) *compiled { return c.node(n.Left) }

func (c *compiler) equality(n *ast.BinaryNode) *compiled {
	negated := n.Operator == "!="
	_, leftNil := n.Left.(*ast.NilNode)
	_, rightNil := n.Right.(*ast.NilNode)
	switch {
	case leftNil:
		return isNil(c.nested(n.Right), negated)
	case rightNil:
		return isNil(c.nested(n.Left), negated)
	}
	if _, ok := isNot(n.Left); ok && c.tokens.at(n.Left.Location().From) == "not" {
		c.fail(n.Left.Location(), "not belongs to what is left of "+n.Operator, "write not (a "+n.Operator+" b)")
	}
	left, right := c.leftOf(n), c.nested(n.Right)
	if want, ok := right.value.(string); ok {
		return equalsText(left, want, negated)
	}
	return c.both(n, kindBool, func(e *evaluation, a, b any) (any, error) {
		same, err := e.equal(a, b, 0)
		return same != negated, err
	})
}

// equalsText is the comparison that most conditions are made of.
func equalsText(left *compiled, want string, negated bool) *compiled {
	return &compiled{kind: kindBool, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		v, err := left.eval(e)
		if err != nil {
			return nil, err
		}
		s, ok := v.(string)
		return (ok && s == want) != negated, nil
	}}
}

// isNil asks whether something is there: it takes absent for nil.
func isNil(operand *compiled, negated bool) *compiled {
	return &compiled{kind: kindBool, eval: func(e *evaluation) (any, error) {
		v, err := operand.eval(e)
		if err = present(err); err != nil {
			return nil, err
		}
		return (v == nil) != negated, nil
	}}
}

// coalesce answers with its right side where the left one is absent or nil.
func (c *compiler) coalesce(n *ast.BinaryNode) *compiled {
	left, right := c.leftOf(n), c.nested(n.Right)
	k := kindAny
	if left.kind == right.kind {
		k = left.kind
	}
	return &compiled{kind: k, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		v, err := left.eval(e)
		if err = present(err); err != nil {
			return nil, err
		}
		if v == nil {
			return right.eval(e)
		}
		return v, nil
	}}
}

// in asks a list for an element or a map for a key; an absent or nil one has none.
func (c *compiler) in(n *ast.BinaryNode) *compiled {
	left, right, at := c.leftOf(n), c.nested(n.Right), n.Location().From
	return &compiled{kind: kindBool, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		needle, err := left.eval(e)
		if err != nil {
			return nil, err
		}
		in, err := right.eval(e)
		if err = present(err); err != nil {
			return nil, err
		}
		if in == nil {
			return false, nil
		}
		found, err := e.contains(in, needle)
		if err != nil {
			return nil, e.failure(at, err)
		}
		return found, nil
	}}
}

func (e *evaluation) contains(in, needle any) (bool, error) {
	l, ok := asList(in)
	if !ok {
		if kindOf(in) != kindMap {
			return false, fmt.Errorf("in needs a list or a map on its right, it is %s", describe(in))
		}
		name, ok := key(needle)
		if !ok {
			return false, wrongKind("a map's key", "text", needle)
		}
		_, ok = member(in, name)
		return ok, nil
	}
	for i := range l.len() {
		if err := e.tick(); err != nil {
			return false, err
		}
		if same, err := e.equal(l.at(i), needle, 0); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// text compiles an operator on two texts; nil has none of them.
func (c *compiler) text(n *ast.BinaryNode, apply func(s, part string) bool) *compiled {
	return c.both(n, kindBool, func(e *evaluation, a, b any) (any, error) {
		if a == nil || b == nil {
			return false, nil
		}
		s, ok := a.(string)
		if !ok {
			return nil, wrongKind("the left side of "+n.Operator, "text", a)
		}
		part, ok := b.(string)
		if !ok {
			return nil, wrongKind("the right side of "+n.Operator, "text", b)
		}
		if err := e.spend(len(s) / 64); err != nil {
			return nil, err
		}
		return apply(s, part), nil
	})
}

func (c *compiler) ordering(n *ast.BinaryNode) *compiled {
	op := n.Operator
	return c.both(n, kindBool, func(_ *evaluation, a, b any) (any, error) {
		d, ordered, err := compare(a, b)
		if err != nil || !ordered {
			return false, err
		}
		switch op {
		case "<":
			return d < 0, nil
		case "<=":
			return d <= 0, nil
		case ">":
			return d > 0, nil
		}
		return d >= 0, nil
	})
}

func (c *compiler) arithmetic(n *ast.BinaryNode) *compiled {
	op := n.Operator
	if op == "^" {
		op = "**"
	}
	k := kindAny // of times, texts and numbers alike
	if op == "**" || op == "%" {
		k = kindNumber
	}
	return c.both(n, k, func(e *evaluation, a, b any) (any, error) {
		s, ok := a.(string)
		t, okToo := b.(string)
		if op == "+" && ok && okToo {
			if err := e.charge(len(s) + len(t)); err != nil {
				return nil, err
			}
			return s + t, nil
		}
		return arithmetic(op, a, b)
	})
}

// rng compiles a..b, the whole numbers from a to b.
func (c *compiler) rng(n *ast.BinaryNode) *compiled {
	c.builds = true
	return c.both(n, kindList, func(e *evaluation, a, b any) (any, error) {
		from, err := whole(a)
		if err != nil {
			return nil, err
		}
		to, err := whole(b)
		if err != nil {
			return nil, err
		}
		if to < from {
			return []any{}, nil
		}
		n := uint64(to) - uint64(from)
		if n >= uint64(e.limits.Memory) {
			return nil, e.chargeList(e.limits.Memory)
		}
		if err := e.chargeList(int(n) + 1); err != nil {
			return nil, err
		}
		out := make([]any, n+1)
		for i := range out {
			out[i] = int64(from + i)
		}
		return out, nil
	})
}
