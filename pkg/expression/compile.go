package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// compiled is a compiled node and what is known of it before it is evaluated.
type compiled struct {
	eval     node
	kind     kind
	constant bool
	value    any   // of a constant
	path     *path // what it reads, where it is nothing but a path
}

// compiler turns one expression's tree into closures.
type compiler struct {
	source *source
	tokens tokens
	schema *Schema
	// memo holds what was compiled, because the parser lets nodes have two parents (a < b < c, a ?: b): without it,
	// nesting those would double the work each time.
	memo    map[ast.Node]*compiled
	scopes  []variable
	closure int  // closures around the node
	reduce  bool // the innermost closure has #acc
	lists   []*path
	nesting int
	slots   int
	builds  bool
	changed bool
	refs    [][]string
	clauses []string
}

// variable is a let name that is in scope.
type variable struct {
	name  string
	slot  int
	path  *path // what it stands for, where that is nothing but a path
	inner bool  // declared inside a closure, so that it may stand for an element
}

func compile(whole string, start, end int, schema *Schema) (p *Program, err error) {
	src, root, toks, err := parse(whole, start, end)
	if err != nil {
		return nil, err
	}
	c := &compiler{source: src, tokens: toks, schema: schema, memo: map[ast.Node]*compiled{}}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *CompileError:
			p, err = nil, r
		default:
			panic(r)
		}
	}()
	all := toks.strip(span{0, len(src.runes)})
	top := c.condition(root, all)
	defer src.compiled()
	return &Program{
		source: src, root: top.eval, result: top.kind, slots: c.slots, builds: c.builds, changed: c.changed, refs: c.refs,
		conjuncts: c.conjuncts(root, all), constraints: c.constraintsOf(root, all), clauses: c.clauses,
	}, nil
}

// fail ends the compilation: it unwinds to compile, which returns the error.
func (c *compiler) fail(loc file.Location, msg, hint string) {
	panic(c.source.err(loc, msg, hint))
}

// node compiles one node, once.
func (c *compiler) node(n ast.Node) *compiled {
	if done := c.memo[n]; done != nil {
		return done
	}
	done := c.compile(n)
	c.memo[n] = done
	return done
}

// nested is node, one level deeper.
func (c *compiler) nested(n ast.Node) *compiled {
	if c.nesting++; c.nesting > maxNesting {
		c.fail(n.Location(), "expression is nested too deeply", "")
	}
	defer func() { c.nesting-- }()
	return c.node(n)
}

func (c *compiler) compile(n ast.Node) *compiled {
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(nil)
	case *ast.BoolNode:
		return constant(n.Value)
	case *ast.IntegerNode:
		return constant(int64(n.Value))
	case *ast.FloatNode:
		return constant(n.Value)
	case *ast.StringNode:
		return constant(n.Value)
	case *ast.BytesNode:
		return constant(n.Value)
	case *ast.IdentifierNode, *ast.PointerNode, *ast.MemberNode, *ast.ChainNode:
		return c.reading(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.SliceNode:
		return c.slice(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		return c.builtin(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n, c.nested)
	case *ast.SequenceNode:
		return c.sequence(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.MapNode:
		return c.mapping(n)
	}
	c.fail(n.Location(), "this form is not supported", "")
	return nil
}

func constant(v any) *compiled {
	return &compiled{
		eval: func(*evaluation) (any, error) { return v, nil },
		kind: kindOf(v), constant: true, value: v,
	}
}

func (c *compiler) unary(n *ast.UnaryNode) *compiled {
	switch n.Operator {
	case "!", "not":
		return c.not(c.nested(n.Node), n.Location().From, n.Node)
	case "+":
		return c.nested(n.Node)
	}
	operand, at := c.nested(n.Node), n.Location().From
	if operand.constant {
		if v, err := negate(operand.value); err == nil {
			return constant(v)
		}
	}
	return &compiled{kind: operand.kind, eval: func(e *evaluation) (any, error) {
		v, err := operand.eval(e)
		if err != nil {
			return nil, err
		}
		v, err = negate(v)
		if err != nil {
			return nil, e.failure(at, err)
		}
		return v, nil
	}}
}

func (c *compiler) conditional(n *ast.ConditionalNode) *compiled {
	cond, yes, no := c.nested(n.Cond), c.nested(n.Exp1), c.nested(n.Exp2)
	test := c.operand(cond, n.Cond)
	k := kindAny
	if yes.kind == no.kind {
		k = yes.kind
	}
	return &compiled{kind: k, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		b, err := test(e)
		if err != nil {
			return nil, err
		}
		if b {
			return yes.eval(e)
		}
		return no.eval(e)
	}}
}

// let compiles a declaration; body compiles what may use it.
func (c *compiler) let(n *ast.VariableDeclaratorNode, body func(ast.Node) *compiled) *compiled {
	if slices.ContainsFunc(c.scopes, func(v variable) bool { return v.name == n.Name }) {
		c.fail(n.Location(), "variable "+n.Name+" is declared twice", "")
	}
	if _, known := c.schema.root(n.Name); known && c.schema != nil && c.schema.Fields != nil {
		c.fail(n.Location(), n.Name+" can't be declared: it is a name of the scope", "choose another name")
	}
	value := c.nested(n.Value)
	slot := c.slots
	c.slots++
	c.scopes = append(c.scopes, variable{n.Name, slot, value.path, c.closure > 0})
	rest := body(n.Expr)
	c.scopes = c.scopes[:len(c.scopes)-1]
	return &compiled{kind: rest.kind, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		v, err := value.eval(e)
		if err != nil && absent(err) == nil {
			return nil, err
		}
		e.vars[slot] = binding{v, err}
		return rest.eval(e)
	}}
}

func (c *compiler) sequence(n *ast.SequenceNode) *compiled {
	nodes := make([]*compiled, len(n.Nodes))
	for i, child := range n.Nodes {
		nodes[i] = c.nested(child)
	}
	last := nodes[len(nodes)-1]
	return &compiled{kind: last.kind, eval: func(e *evaluation) (any, error) {
		for _, child := range nodes[:len(nodes)-1] {
			if _, err := child.eval(e); err != nil {
				return nil, err
			}
		}
		return last.eval(e)
	}}
}

func (c *compiler) array(n *ast.ArrayNode) *compiled {
	nodes := make([]*compiled, len(n.Nodes))
	values := make([]any, len(n.Nodes))
	constants := true
	for i, child := range n.Nodes {
		nodes[i] = c.nested(child)
		constants = constants && nodes[i].constant
		values[i] = nodes[i].value
	}
	if constants {
		return constant(values)
	}
	c.builds = true
	return &compiled{kind: kindList, eval: func(e *evaluation) (any, error) {
		if err := e.chargeList(len(nodes)); err != nil {
			return nil, err
		}
		out := make([]any, len(nodes))
		for i, child := range nodes {
			v, err := child.eval(e)
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	}}
}

func (c *compiler) mapping(n *ast.MapNode) *compiled {
	c.builds = true
	keys, values := make([]*compiled, len(n.Pairs)), make([]*compiled, len(n.Pairs))
	at := n.Location().From
	for i, p := range n.Pairs {
		pair := p.(*ast.PairNode)
		keys[i], values[i] = c.nested(pair.Key), c.nested(pair.Value)
		if !keys[i].kind.maybe(kindString) {
			c.fail(pair.Key.Location(), "a map's key must be text, it is "+keys[i].kind.String(), "")
		}
	}
	return &compiled{kind: kindMap, eval: func(e *evaluation) (any, error) {
		if err := e.chargeList(3 * len(keys)); err != nil {
			return nil, err
		}
		out := make(map[string]any, len(keys))
		for i := range keys {
			k, err := keys[i].eval(e)
			if err != nil {
				return nil, err
			}
			name, ok := k.(string)
			if !ok {
				return nil, e.failure(at, wrongKind("a map's key", "text", k))
			}
			if out[name], err = values[i].eval(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	}}
}

func (c *compiler) slice(n *ast.SliceNode) *compiled {
	base, at := c.nested(n.Node), n.Location().From
	bound := func(n ast.Node) *compiled {
		if n == nil {
			return nil
		}
		return c.nested(n)
	}
	from, to := bound(n.From), bound(n.To)
	return &compiled{kind: base.kind, eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		v, err := base.eval(e)
		if err != nil {
			return nil, err
		}
		l, isList := asList(v)
		s, isText := v.(string)
		if !isList && !isText {
			return nil, e.failure(at, wrongKind("what is sliced", "a list or text", v))
		}
		length := l.len() + len(s)
		a, err := e.bound(from, 0, length, at)
		if err != nil {
			return nil, err
		}
		b, err := e.bound(to, length, length, at)
		if err != nil {
			return nil, err
		}
		a = min(a, b)
		if isText {
			return s[a:b], nil
		}
		return l.slice(a, b), nil
	}}
}

// bound evaluates one end of a slice; a negative one counts from the end.
func (e *evaluation) bound(n *compiled, missing, length, at int) (int, error) {
	if n == nil {
		return missing, nil
	}
	v, err := n.eval(e)
	if err != nil {
		return 0, err
	}
	i, err := whole(v)
	if err != nil {
		return 0, e.failure(at, err)
	}
	if i < 0 {
		i += length
	}
	return min(max(i, 0), length), nil
}

// addRef notes a path that the expression reads.
func (c *compiler) addRef(ref []string) {
	if !slices.ContainsFunc(c.refs, func(r []string) bool { return slices.Equal(r, ref) }) {
		c.refs = append(c.refs, ref)
	}
}

// unknownRoot explains a name that is none.
func (c *compiler) unknownRoot(loc file.Location, name string) {
	if msg, hint := c.schema.unknown(name); msg != "" {
		c.fail(loc, msg, hint)
	}
	switch {
	case name == "$env":
		c.fail(loc, "$env is not available", "name the fields that are read")
	case len(c.schema.Fields) == 0:
		c.fail(loc, "unknown name "+name, "")
	}
	for _, root := range c.schema.names() {
		if below := c.schema.Fields[root]; below != nil {
			if _, known := below.Fields[name]; known {
				c.fail(loc, "unknown name "+name, "did you mean "+root+"."+name+"?")
			}
		}
	}
	hint := didYouMean("", name, c.schema.names())
	if strings.HasPrefix(hint, "known") && len(c.schema.Fields) > 1 {
		hint += `; text stands in quotes`
	}
	c.fail(loc, "unknown name "+name, hint)
}
