package expression

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/utils"
)

// path is a read of a field: a root and the steps from it. All of a.b[0]?.c is one path, so that what is absent can be
// told in full, and that ?. can answer for everything to its left.
type path struct {
	root     node
	name     string // of the root in messages
	closure  int    // the root is the element of this closure (1 is the outermost); 0 otherwise
	item     *path  // what that closure iterates
	alias    *path  // the root is a variable that stands for this
	element  bool   // the root may be a closure's element
	ref      []string
	open     bool    // ref goes on: no dynamic step so far
	schema   *Schema // of what the path reads
	steps    []step
	optional int // index of the last ?. step, -1 without
}

// step is one .name or [index] of a path.
type step struct {
	name     string    // of a field
	index    *compiled // where it is not known before evaluation, or a number
	optional bool
	loc      file.Location
}

// reading compiles what may be a path.
func (c *compiler) reading(n ast.Node) *compiled {
	p := c.path(n)
	if p.ref != nil {
		c.addRef(p.ref)
	}
	return c.reads(p)
}

func (c *compiler) reads(p *path) *compiled {
	if len(p.steps) == 0 {
		return &compiled{eval: p.evalRoot, path: p}
	}
	return &compiled{eval: p.eval, path: p}
}

// path flattens the member accesses below n.
func (c *compiler) path(n ast.Node) *path {
	var members []*ast.MemberNode
	for {
		if chain, ok := n.(*ast.ChainNode); ok {
			n = chain.Node
			continue
		}
		m, ok := n.(*ast.MemberNode)
		if !ok {
			break
		}
		members = append(members, m)
		n = m.Node
	}
	p := c.rootOf(n)
	for _, m := range slices.Backward(members) {
		c.extend(p, c.step(m))
	}
	return p
}

// rootOf returns a new path without steps.
func (c *compiler) rootOf(n ast.Node) *path {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.PointerNode:
		return c.pointer(n)
	}
	base := c.nested(n)
	return &path{root: base.eval, name: nameOf(n), element: c.closure > 0, optional: -1}
}

// nameOf is how messages name the root of a path that is not a name.
func nameOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.BuiltinNode:
		return n.Name + "(…)"
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return callee.Value + "(…)"
		}
	}
	return "(…)"
}

func (c *compiler) step(n *ast.MemberNode) step {
	s := step{optional: n.Optional, loc: n.Location()}
	if name, ok := n.Property.(*ast.StringNode); ok {
		s.name = name.Value
		s.loc = name.Location()
		return s
	}
	s.index = c.nested(n.Property)
	if text, ok := s.index.value.(string); ok && s.index.constant {
		s.name, s.index = text, nil
	}
	return s
}

// extend adds a step to a path, and checks it against the schema.
func (c *compiler) extend(p *path, s step) {
	p.steps = append(p.steps, s)
	if s.optional {
		p.optional = len(p.steps) - 1
	}
	if s.index != nil {
		p.open, p.schema = false, nil
		return
	}
	child, ok := p.schema.child(s.name)
	if !ok {
		if msg, hint := p.schema.unknown(s.name); msg != "" {
			c.fail(s.loc, msg, hint)
		}
		prefix := strings.Join(p.ref, ".")
		c.fail(s.loc, "unknown field "+s.name+" of "+prefix, didYouMean(prefix+".", s.name, p.schema.names()))
	}
	p.schema = child
	if p.open {
		p.ref = append(p.ref, s.name)
	}
}

func (c *compiler) identifier(n *ast.IdentifierNode) *path {
	for i := len(c.scopes) - 1; i >= 0; i-- {
		if c.scopes[i].name == n.Value {
			return c.variable(c.scopes[i])
		}
	}
	schema, known := c.schema.root(n.Value)
	if !known || n.Value == "$env" {
		c.unknownRoot(n.Location(), n.Value)
	}
	name := n.Value
	p := &path{name: name, ref: []string{name}, open: true, schema: schema, optional: -1}
	p.root = func(e *evaluation) (any, error) {
		v, ok := e.scope.Vars[name]
		if !ok {
			return nil, e.absentRoot(p)
		}
		return normalise(v), nil
	}
	return p
}

func (c *compiler) variable(v variable) *path {
	p := &path{name: v.name, alias: v.path, element: v.inner, optional: -1}
	if v.path != nil {
		p.ref, p.open, p.schema, p.element = slices.Clip(v.path.ref), v.path.open, v.path.schema, v.path.element
	}
	p.root = func(e *evaluation) (any, error) {
		b := &e.vars[v.slot]
		return b.value, b.err
	}
	return p
}

func (c *compiler) pointer(n *ast.PointerNode) *path {
	depth := c.closure - 1
	switch {
	case depth < 0:
		c.fail(n.Location(), "# stands for the element of a closure, and is used outside one", "")
	case n.Name == "" || n.Name == "index":
	case n.Name != "acc":
		c.fail(n.Location(), "unknown name #"+n.Name, "known: #, #index, #acc")
	case !c.reduce:
		c.fail(n.Location(), "#acc is known in reduce only", "")
	}
	p := &path{name: "#" + n.Name, element: true, optional: -1}
	switch n.Name {
	case "index":
		p.root = func(e *evaluation) (any, error) { return int64(e.frames[depth].index), nil }
	case "acc":
		p.root = func(e *evaluation) (any, error) { return e.frames[depth].acc, nil }
	default:
		p.closure, p.item = c.closure, c.lists[depth]
		p.root = func(e *evaluation) (any, error) { return e.frames[depth].item, nil }
	}
	return p
}

func (p *path) evalRoot(e *evaluation) (any, error) {
	if err := e.tick(); err != nil {
		return nil, err
	}
	v, err := p.root(e)
	if err == nil && e.report != nil && p.ref != nil {
		e.note(p, v)
	}
	return v, err
}

func (p *path) eval(e *evaluation) (any, error) {
	if err := e.tick(); err != nil {
		return nil, err
	}
	v, err := p.root(e)
	if err != nil {
		return p.rootFailed(e, err)
	}
	for i := range p.steps {
		s := &p.steps[i]
		if v == nil && s.optional {
			return nil, nil
		}
		next, ok, err := s.read(e, v)
		switch {
		case err != nil:
			return nil, e.failure(s.loc.From, err)
		case ok:
			v = next
		case i < p.optional:
			return nil, nil
		case i == p.optional:
			v = nil
		default:
			return nil, e.absent(p, i, v)
		}
	}
	v = value(v)
	if e.report != nil {
		e.note(p, v)
	}
	return v, nil
}

// value is v, or what it stands for: outside of a path nothing is lazy.
func value(v any) any {
	if l, ok := v.(Lazy); ok {
		return normalise(l.Value())
	}
	return v
}

// rootFailed is the value of a path whose root is absent or fails.
func (p *path) rootFailed(e *evaluation, err error) (any, error) {
	a := absent(err)
	switch {
	case a != nil && p.optional >= 0:
		return nil, nil
	case a == nil || !e.detail || p.ref == nil && p.alias == nil:
		return nil, err
	}
	return nil, &AbsentError{Path: p.text(e, len(p.steps)), Hint: a.Hint, element: a.element}
}

// read takes the step from v; ok is false where there is nothing.
func (s *step) read(e *evaluation, v any) (next any, ok bool, err error) {
	if s.index == nil {
		if l, lazy := v.(Lazy); lazy {
			next, ok = l.Lazily(s.name)
			return normalise(next), ok, nil
		}
		next, ok = member(v, s.name)
		return next, ok, nil
	}
	k, err := s.index.eval(e)
	if err != nil {
		return nil, false, err
	}
	return e.index(value(v), k)
}

// index reads v[k] of lists, maps and texts; negative numbers count from the end of a list.
func (e *evaluation) index(v, k any) (item any, ok bool, err error) {
	l, isList := asList(v)
	text, isText := v.(string)
	if !isList && !isText {
		name, valid := key(k)
		if !valid {
			return nil, false, wrongKind("an index", "text or a number", k)
		}
		item, ok = member(v, name)
		return item, ok, nil
	}
	if _, named := k.(string); named {
		return nil, false, nil
	}
	i, err := whole(k)
	if err != nil {
		return nil, false, err
	}
	if i < 0 {
		i += l.len() + len(text)
	}
	switch {
	case i < 0 || i >= l.len()+len(text):
		return nil, false, nil
	case isText:
		return int64(text[i]), true, nil
	}
	return l.at(i), true, nil
}

func (e *evaluation) absentRoot(p *path) error {
	if !e.detail {
		return errAbsent
	}
	return &AbsentError{Path: p.text(e, 0)}
}

// absent makes the error of a path whose step i found nothing in v.
func (e *evaluation) absent(p *path, i int, v any) error {
	if !e.detail {
		if p.element {
			return errAbsentElement
		}
		return errAbsent
	}
	return &AbsentError{Path: p.text(e, len(p.steps)), Hint: p.hint(e, i, v), element: p.element}
}

// hint says what v holds instead of step i.
func (p *path) hint(e *evaluation, i int, v any) string {
	base := p.text(e, i)
	if l, ok := asList(v); ok {
		return fmt.Sprintf("%s has %d elements", base, l.len())
	}
	names, ok := fields(v)
	if !ok {
		return base + " is " + describe(v)
	}
	if len(names) == 0 {
		return base + " is empty"
	}
	hint := p.last(i) + " present: " + listed(names)
	if s := closest(p.steps[i].key(e), names); s != "" {
		hint += "\ndid you mean " + base + dotted(s) + "?"
	}
	return hint
}

// last names what the path has reached before step i.
func (p *path) last(i int) string {
	if i > 0 && p.steps[i-1].index == nil {
		return p.steps[i-1].name
	}
	if i == 0 && p.alias != nil && len(p.alias.steps) > 0 {
		return p.alias.last(len(p.alias.steps))
	}
	return "fields"
}

// key returns the name of a step. Where it is computed, it is evaluated again: that has no effects, and here none on the
// budget and the report either.
func (s *step) key(e *evaluation) string {
	if s.index == nil {
		return s.name
	}
	quiet := *e
	quiet.report, quiet.detail = nil, false
	v, err := s.index.eval(&quiet)
	if err != nil {
		return "…"
	}
	if k, ok := key(v); ok {
		return k
	}
	return "…"
}

// text writes the path up to n steps, as it would be written out.
func (p *path) text(e *evaluation, n int) string {
	var b strings.Builder
	b.WriteString(p.rootText(e))
	for i := range p.steps[:n] {
		s := &p.steps[i]
		if s.index == nil {
			b.WriteString(dotted(s.name))
			continue
		}
		k := s.key(e)
		if _, err := strconv.Atoi(k); err == nil {
			b.WriteString("[" + k + "]")
			continue
		}
		b.WriteString(dotted(k))
	}
	return clip(b.String(), maxMessage)
}

func (p *path) rootText(e *evaluation) string {
	switch {
	case p.alias != nil && p.alias.closure <= len(e.frames):
		return p.alias.text(e, len(p.alias.steps))
	case p.closure > 0 && p.closure <= len(e.frames):
		list := "#"
		if p.item != nil {
			list = p.item.text(e, len(p.item.steps))
		}
		return fmt.Sprintf("%s[%d]", list, e.frames[p.closure-1].index)
	}
	return p.name
}

// dotted writes a field's name as a step of a path.
func dotted(name string) string {
	if utils.IsValidIdentifier(name) {
		return "." + name
	}
	return "[" + strconv.Quote(clip(name, maxName)) + "]"
}
