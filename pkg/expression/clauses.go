package expression

import (
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"
)

// test is a compiled clause: an error means that it is absent.
type test func(*evaluation) (bool, error)

// logical returns what a node's operator joins, "&&" or "||"; it is "" for all that is no junction of clauses. The
// parser writes a < b < c as a junction too, which is one clause to people.
func (c *compiler) logical(n ast.Node) string {
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return ""
	}
	switch c.tokens.at(b.Location().From) {
	case "&&", "and":
		return "&&"
	case "||", "or":
		return "||"
	}
	return ""
}

// isNot returns the operand of a `not` that stands before it.
func isNot(n ast.Node) (ast.Node, bool) {
	u, ok := n.(*ast.UnaryNode)
	if !ok || u.Operator != "!" && u.Operator != "not" {
		return nil, false
	}
	return u.Node, true
}

// condition compiles what Explain splits into clauses: junctions, their negation, and let around them. r is its text.
func (c *compiler) condition(n ast.Node, r span) *compiled {
	if c.nesting++; c.nesting > maxNesting {
		c.fail(n.Location(), "expression is nested too deeply", "")
	}
	defer func() { c.nesting-- }()
	if op := c.logical(n); op != "" {
		return c.junction(op, n, r)
	}
	if child, ok := isNot(n); ok && c.logical(child) != "" {
		inner := c.tokens.strip(span{n.Location().To, r.to})
		return c.not(c.condition(child, inner), n.Location().From, child)
	}
	if declaration, ok := n.(*ast.VariableDeclaratorNode); ok {
		if body, ok := c.tokens.after(r, ";"); ok {
			return c.let(declaration, func(n ast.Node) *compiled { return c.condition(n, c.tokens.strip(body)) })
		}
	}
	return c.clause(n, r)
}

// clause compiles a condition that is not split further.
func (c *compiler) clause(n ast.Node, r span) *compiled {
	inner := *c.node(n)
	text, at, eval := c.tokens.text(c.source, r), r.from, inner.eval
	c.clauses = append(c.clauses, text)
	inner.eval = func(e *evaluation) (any, error) {
		if e.report == nil {
			return eval(e)
		}
		return e.record(text, at, eval)
	}
	return &inner
}

// operands returns the operands of a junction and their texts, without nesting those that it joins to the left.
func (c *compiler) operands(op string, n ast.Node, r span) (nodes []ast.Node, texts []span) {
	for c.logical(n) == op {
		b := n.(*ast.BinaryNode)
		nodes = append(nodes, b.Right)
		texts = append(texts, c.tokens.strip(span{b.Location().To, r.to}))
		n, r = b.Left, c.tokens.strip(span{r.from, b.Location().From})
	}
	nodes, texts = append(nodes, n), append(texts, r)
	slices.Reverse(nodes)
	slices.Reverse(texts)
	return nodes, texts
}

func (c *compiler) junction(op string, n ast.Node, r span) *compiled {
	nodes, texts := c.operands(op, n, r)
	evals, tests := make([]node, len(nodes)), make([]test, len(nodes))
	for i := range nodes {
		operand := c.condition(nodes[i], texts[i])
		evals[i], tests[i] = operand.eval, c.operand(operand, nodes[i])
	}
	return &compiled{kind: kindBool, eval: junction(tests, evals, op == "||")}
}

// conjuncts returns the texts of what must all be true.
func (c *compiler) conjuncts(n ast.Node, r span) []string {
	_, texts := c.operands("&&", n, r)
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = c.tokens.text(c.source, t)
	}
	return out
}

// junctionOf compiles && and || where Explain does not look: in closures, values and arguments.
func (c *compiler) junctionOf(n *ast.BinaryNode) *compiled {
	op := n.Operator
	switch op {
	case "and":
		op = "&&"
	case "or":
		op = "||"
	}
	var operands []ast.Node
	var left ast.Node = n
	for {
		b, ok := left.(*ast.BinaryNode)
		if !ok || b.Operator != n.Operator {
			break
		}
		operands = append(operands, b.Right)
		left = b.Left
	}
	operands = append(operands, left)
	slices.Reverse(operands)
	tests := make([]test, len(operands))
	for i, o := range operands {
		tests[i] = c.operand(c.nested(o), o)
	}
	return &compiled{kind: kindBool, eval: junction(tests, nil, op == "||")}
}

// junction is && (where decisive is false) and || (where it is true): one decisive operand decides; otherwise one that
// is absent makes the whole absent. evals are the operands for Explain, which evaluates them all.
func junction(tests []test, evals []node, decisive bool) node {
	return func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		var missing error
		for i, t := range tests {
			b, err := t(e)
			switch {
			case err != nil:
				if missing == nil {
					missing = err
				}
			case b == decisive:
				if e.report != nil && evals != nil {
					e.aside(evals[i+1:])
				}
				return decisive, nil
			}
		}
		if missing != nil {
			return nil, missing
		}
		return !decisive, nil
	}
}

// operand makes a test of an operand, which must be true or false.
func (c *compiler) operand(operand *compiled, n ast.Node) test {
	at, eval := n.Location().From, operand.eval
	if !operand.kind.maybe(kindBool) {
		c.fail(n.Location(), "this is "+operand.kind.String()+", where true or false is needed", "compare it with ==")
	}
	return func(e *evaluation) (bool, error) {
		v, err := eval(e)
		if err != nil {
			return false, err
		}
		b, ok := v.(bool)
		if !ok {
			return false, e.failure(at, notBoolean(v))
		}
		return b, nil
	}
}

func (c *compiler) not(operand *compiled, at int, n ast.Node) *compiled {
	t := c.operand(operand, n)
	return &compiled{kind: kindBool, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		b, err := t(e)
		if err != nil {
			return nil, e.failure(at, err)
		}
		return !b, nil
	}}
}

func notBoolean(v any) error {
	if v == nil {
		return fmt.Errorf("condition is nil, not true or false: compare it, or give a default with ??")
	}
	return fmt.Errorf("condition is %s, not true or false: compare it with ==", describe(v))
}

func wrongKind(what, want string, v any) error {
	return fmt.Errorf("%s must be %s, it is %s", what, want, describe(v))
}
