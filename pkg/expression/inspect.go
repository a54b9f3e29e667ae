package expression

import (
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// Place is where something stands in the whole text that was compiled.
type Place struct {
	Line, Column, Length int // 1-based, in characters
}

// Step is one part of a path that is read.
type Step struct {
	// Name of a field. It is empty for an element of a list, and for what only evaluation can know.
	Name string
	// Element says that the step takes an element of a list.
	Element bool
	Place
}

// Reading is a path that an expression reads, from its root on. Elements that a closure sees belong to the path of what it
// iterates: of any(event.data.commits, .id == "a") it is event, data, commits, an element, id.
type Reading []Step

// Condition is how a condition is put together: of what must be true together or one by one, down to its clauses.
type Condition struct {
	// Op is "&&", "||" or "not", which join Operands; it is empty for a clause.
	Op       string
	Operands []*Condition

	// Text of a clause, and where it stands.
	Text string
	Place
	// Path is what the clause asks alone, names from the root on. It is nil where the clause asks several paths, elements of
	// lists, the clock or changed(), and empty where it asks nothing.
	Path []string
	// Op of a clause that compares the path with what is written out: "==", "<", "<=", ">", ">=" or "startsWith"; `in` a list
	// is "==" with several values.
	Compare string
	Values  []any // nil, bool, int64, float64 or string
}

// Readings returns what the expression reads, in the order of the text. Unlike Refs it goes on below elements, says where
// each step stands, and is worked out anew by each call.
func (p *Program) Readings() []Reading {
	i := p.inspector()
	i.walk(i.root)
	slices.SortStableFunc(i.found, func(a, b Reading) int {
		x, y := a[len(a)-1].Place, b[len(b)-1].Place
		if x.Line != y.Line {
			return x.Line - y.Line
		}
		return x.Column - y.Column
	})
	return i.found
}

// Readings returns what the expressions of the text read.
func (t *Template) Readings() []Reading {
	var out []Reading
	for _, p := range t.parts {
		if p.program != nil {
			out = append(out, p.program.Readings()...)
		}
	}
	return out
}

// Condition returns how the expression is put together as a condition.
func (p *Program) Condition() *Condition {
	i := p.inspector()
	return i.structure(i.root, i.tokens.strip(span{0, len(i.source.chars())}), 0)
}

// inspector looks at a tree that was compiled before. Nothing of it is kept in the Program: only tools ask.
type inspector struct {
	*compiler // its source and tokens, and how it splits conditions
	root      ast.Node
	names     map[string]known // variables in scope
	iterated  []known          // what the closures around iterate
	seen      map[ast.Node]bool
	found     []Reading
	other     bool // it asks what is no path: the clock, changed(), a variable
}

// known is the path that a variable or a list stands for; ok is false where it is none.
type known struct {
	path Reading
	ok   bool
}

func (p *Program) inspector() *inspector {
	src, root, toks, err := parse(p.source.whole, p.source.start, p.source.end)
	if err != nil { // it was parsed before
		src, root = p.source, &ast.NilNode{}
	}
	return &inspector{compiler: &compiler{source: src, tokens: toks}, root: root, names: map[string]known{}, seen: map[ast.Node]bool{}}
}

func (i *inspector) place(loc file.Location) Place {
	line, column := i.source.position(loc.From)
	return Place{line, column, max(1, loc.To-loc.From)}
}

// resolve returns the path that a node is; ok is false for all others.
func (i *inspector) resolve(n ast.Node) (Reading, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if v, ok := i.names[n.Value]; ok {
			i.other = true
			return v.path, v.ok
		}
		return Reading{{Name: n.Value, Place: i.place(n.Location())}}, true
	case *ast.ChainNode:
		return i.resolve(n.Node)
	case *ast.SliceNode:
		return i.resolve(n.Node)
	case *ast.PointerNode:
		if n.Name != "" || len(i.iterated) == 0 {
			return nil, false
		}
		list := i.iterated[len(i.iterated)-1]
		return extended(list.path, Step{Element: true, Place: i.place(n.Location())}), list.ok
	case *ast.MemberNode:
		return i.below(n.Node, n.Property)
	case *ast.BuiltinNode:
		return i.builtinPath(n)
	}
	return nil, false
}

func extended(path Reading, s Step) Reading { return append(slices.Clip(path), s) }

func (i *inspector) below(base, property ast.Node) (Reading, bool) {
	path, ok := i.resolve(base)
	if !ok {
		return nil, false
	}
	step := Step{Place: i.place(property.Location())}
	switch property := property.(type) {
	case *ast.StringNode:
		step.Name = property.Value
	case *ast.IntegerNode:
		step.Element = true
	case *ast.UnaryNode: // a negative number
		_, step.Element = property.Node.(*ast.IntegerNode)
	}
	return extended(path, step), true
}

// builtinPath resolves builtins that return what they were given, or an element of it.
func (i *inspector) builtinPath(n *ast.BuiltinNode) (Reading, bool) {
	if len(n.Arguments) == 0 {
		return nil, false
	}
	switch n.Name {
	case "get":
		if len(n.Arguments) == 2 {
			return i.below(n.Arguments[0], n.Arguments[1])
		}
	case "filter", "sort", "sortBy", "reverse", "uniq", "take":
		return i.resolve(n.Arguments[0])
	case "find", "findLast", "first", "last":
		path, ok := i.resolve(n.Arguments[0])
		return extended(path, Step{Element: true, Place: i.place(n.Location())}), ok
	}
	return nil, false
}

// walk notes the paths in a tree. The parser lets nodes have two parents, of which one is enough.
func (i *inspector) walk(n ast.Node) {
	if n == nil || i.seen[n] {
		return
	}
	i.seen[n] = true
	if path, ok := i.resolve(n); ok && len(path) > 0 {
		i.found = append(i.found, path)
		i.within(n)
		return
	}
	i.children(n)
}

// within walks what stands inside of a path: computed keys, and the arguments of builtins.
func (i *inspector) within(n ast.Node) {
	switch n := n.(type) {
	case *ast.ChainNode:
		i.within(n.Node)
	case *ast.SliceNode:
		i.within(n.Node)
		i.walk(n.From)
		i.walk(n.To)
	case *ast.MemberNode:
		i.within(n.Node)
		i.walk(n.Property)
	case *ast.BuiltinNode:
		i.within(n.Arguments[0])
		i.rest(n)
	}
}

func (i *inspector) children(n ast.Node) {
	switch n := n.(type) {
	case *ast.ChainNode:
		i.walk(n.Node)
	case *ast.MemberNode:
		i.walk(n.Node)
		i.walk(n.Property)
	case *ast.SliceNode:
		i.walk(n.Node)
		i.walk(n.From)
		i.walk(n.To)
	case *ast.UnaryNode:
		i.walk(n.Node)
	case *ast.BinaryNode:
		i.walk(n.Left)
		i.walk(n.Right)
	case *ast.ConditionalNode:
		i.each(n.Cond, n.Exp1, n.Exp2)
	case *ast.CallNode:
		i.other = true
		if member, ok := n.Callee.(*ast.MemberNode); ok { // a method of what is read
			i.walk(member.Node)
		}
		i.each(n.Arguments...)
	case *ast.BuiltinNode:
		i.other = i.other || n.Name == "now"
		if len(n.Arguments) > 0 {
			i.walk(n.Arguments[0])
		}
		i.rest(n)
	case *ast.VariableDeclaratorNode:
		i.declared(n)
	case *ast.SequenceNode:
		i.each(n.Nodes...)
	case *ast.ArrayNode:
		i.each(n.Nodes...)
	case *ast.MapNode:
		i.each(n.Pairs...)
	case *ast.PairNode:
		i.each(n.Key, n.Value)
	}
}

func (i *inspector) each(nodes ...ast.Node) {
	for _, n := range nodes {
		i.walk(n)
	}
}

// rest walks the arguments behind the first, with what that stands for as the list of closures.
func (i *inspector) rest(n *ast.BuiltinNode) {
	if len(n.Arguments) < 2 {
		return
	}
	path, ok := i.resolve(n.Arguments[0])
	i.iterated = append(i.iterated, known{path, ok})
	for _, a := range n.Arguments[1:] {
		if closure, is := a.(*ast.PredicateNode); is {
			a = closure.Node
		}
		i.walk(a)
	}
	i.iterated = i.iterated[:len(i.iterated)-1]
}

func (i *inspector) declared(n *ast.VariableDeclaratorNode) {
	i.walk(n.Value)
	path, ok := i.resolve(n.Value)
	i.names[n.Name] = known{path, ok}
	i.walk(n.Expr)
	delete(i.names, n.Name)
}

// structure splits a condition as the compiler does.
func (i *inspector) structure(n ast.Node, r span, depth int) *Condition {
	if depth > maxNesting {
		return &Condition{Text: i.tokens.text(i.source, r), Place: i.place(file.Location{From: r.from, To: r.to})}
	}
	if op := i.logical(n); op != "" {
		c := &Condition{Op: op}
		nodes, texts := i.operands(op, n, r)
		for k := range nodes {
			c.Operands = append(c.Operands, i.structure(nodes[k], texts[k], depth+1))
		}
		return c
	}
	if child, ok := isNot(n); ok && i.logical(child) != "" {
		inner := i.tokens.strip(span{n.Location().To, r.to})
		return &Condition{Op: "not", Operands: []*Condition{i.structure(child, inner, depth+1)}}
	}
	return i.clauseOf(n, r)
}

// clauseOf describes a clause. What it asks is found by an inspector of its own.
func (i *inspector) clauseOf(n ast.Node, r span) *Condition {
	c := &Condition{Text: i.tokens.text(i.source, r), Place: i.place(file.Location{From: r.from, To: r.to})}
	own := &inspector{compiler: i.compiler, names: map[string]known{}, seen: map[ast.Node]bool{}}
	own.walk(n)
	if own.other {
		return c
	}
	c.Path = []string{}
	for _, reading := range own.found {
		names, fixed := reading.names()
		if !fixed || len(c.Path) > 0 && !slices.Equal(c.Path, names) {
			c.Path = nil
			return c
		}
		c.Path = names
	}
	if b, ok := n.(*ast.BinaryNode); ok {
		own.compare(c, b)
	}
	return c
}

// names returns a path of nothing but names.
func (r Reading) names() ([]string, bool) {
	out := make([]string, len(r))
	for k, s := range r {
		if out[k] = s.Name; s.Name == "" {
			return nil, false
		}
	}
	return out, true
}

// compare notes what a path is compared with.
func (i *inspector) compare(c *Condition, n *ast.BinaryNode) {
	left, right, op := n.Left, n.Right, n.Operator
	if _, ok := i.resolve(left); !ok {
		left, right, op = right, left, mirrored(op)
	}
	if _, ok := i.resolve(left); !ok {
		return
	}
	values, ok := constants(right)
	_, list := right.(*ast.ArrayNode)
	switch {
	case !ok || list != (op == "in"):
	case op == "in":
		c.Compare, c.Values = "==", values
	case slices.Contains([]string{"==", "<", "<=", ">", ">=", "startsWith"}, op):
		c.Compare, c.Values = op, values
	}
}

// mirrored is the operator that says the same of b and a.
func mirrored(op string) string {
	switch op {
	case "<":
		return ">"
	case "<=":
		return ">="
	case ">":
		return "<"
	case ">=":
		return "<="
	case "==":
		return op
	}
	return ""
}

// constants returns the values that are written out in a node: one, or those of a list.
func constants(n ast.Node) ([]any, bool) {
	switch n := n.(type) {
	case *ast.NilNode:
		return []any{nil}, true
	case *ast.BoolNode:
		return []any{n.Value}, true
	case *ast.IntegerNode:
		return []any{int64(n.Value)}, true
	case *ast.FloatNode:
		return []any{n.Value}, true
	case *ast.StringNode:
		return []any{n.Value}, true
	case *ast.UnaryNode:
		return negative(n)
	case *ast.ArrayNode:
		out := []any{}
		for _, e := range n.Nodes {
			v, ok := constants(e)
			if _, nested := e.(*ast.ArrayNode); !ok || nested {
				return nil, false
			}
			out = append(out, v...)
		}
		return out, true
	}
	return nil, false
}

func negative(n *ast.UnaryNode) ([]any, bool) {
	switch operand := n.Node.(type) {
	case *ast.IntegerNode:
		return []any{-int64(operand.Value)}, n.Operator == "-"
	case *ast.FloatNode:
		return []any{-operand.Value}, n.Operator == "-"
	}
	return nil, false
}
