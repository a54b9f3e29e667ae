package expression

import (
	"fmt"
	"maps"
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
)

// function is a builtin without a closure. It gets as many arguments as it allows, and returns values that are normal.
type function struct {
	min, max int
	result   kind
	builds   bool
	call     func(e *evaluation, args []any) (any, error)
}

// variadic is the max of a function that takes any number of arguments.
const variadic = 1 << 20

// functions are all builtins without a closure but get and changed. Where expr's own do what is needed, within bounds
// and on the types that we use, they are called (table).
var functions = merge(textFunctions, numberFunctions, listFunctions, timeFunctions)

func merge(tables ...map[string]function) map[string]function {
	all := map[string]function{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// functionNames lists all that can be called, for suggestions.
func functionNames() []string {
	names := slices.Collect(maps.Keys(functions))
	for name := range loops {
		names = append(names, name)
	}
	return append(names, "get", "changed")
}

func (c *compiler) builtin(n *ast.BuiltinNode) *compiled {
	if out, ok := c.loop(n); ok {
		return out
	}
	if n.Name == "get" {
		return c.get(n)
	}
	f, ok := functions[n.Name]
	if !ok {
		c.fail(n.Location(), "function "+n.Name+" is not available", didYouMean("", n.Name, functionNames()))
	}
	if len(n.Arguments) < f.min || len(n.Arguments) > f.max {
		c.fail(n.Location(), fmt.Sprintf("%s takes %s, not %d", n.Name, argumentCount(f), len(n.Arguments)), "")
	}
	c.builds = c.builds || f.builds
	return &compiled{kind: f.result, eval: calling(f.call, c.arguments(n.Arguments), n.Location().From)}
}

func argumentCount(f function) string {
	switch {
	case f.min == f.max && f.min == 1:
		return "1 argument"
	case f.min == f.max:
		return fmt.Sprintf("%d arguments", f.min)
	case f.max == variadic:
		return fmt.Sprintf("at least %d arguments", f.min)
	}
	return fmt.Sprintf("%d to %d arguments", f.min, f.max)
}

func (c *compiler) arguments(nodes []ast.Node) []*compiled {
	out := make([]*compiled, len(nodes))
	for i, n := range nodes {
		out[i] = c.nested(n)
	}
	return out
}

// calling evaluates the arguments and calls f with them.
func calling(f func(*evaluation, []any) (any, error), args []*compiled, at int) node {
	return func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		values := make([]any, len(args))
		for i, a := range args {
			v, err := a.eval(e)
			if err != nil {
				return nil, err
			}
			values[i] = v
		}
		v, err := f(e, values)
		if err != nil {
			return nil, e.failure(at, err)
		}
		return v, nil
	}
}

// get compiles get(x, key), which answers nil for what is not there. With a key that is written out it is x?.key.
func (c *compiler) get(n *ast.BuiltinNode) *compiled {
	if len(n.Arguments) != 2 {
		c.fail(n.Location(), fmt.Sprintf("get takes 2 arguments, not %d", len(n.Arguments)), "")
	}
	if name, ok := n.Arguments[1].(*ast.StringNode); ok {
		return c.reading(&ast.MemberNode{Node: n.Arguments[0], Property: name, Optional: true})
	}
	from, k, at := c.nested(n.Arguments[0]), c.nested(n.Arguments[1]), n.Location().From
	return &compiled{eval: func(e *evaluation) (any, error) {
		if err := e.tick(); err != nil {
			return nil, err
		}
		v, err := from.eval(e)
		if err = present(err); err != nil || v == nil {
			return nil, err
		}
		name, err := k.eval(e)
		if err != nil {
			return nil, err
		}
		item, ok, err := e.index(v, name)
		if err != nil {
			return nil, e.failure(at, err)
		}
		if !ok {
			return nil, nil
		}
		return item, nil
	}}
}

// call compiles changed(), methods of times, and reports every other call.
func (c *compiler) call(n *ast.CallNode) *compiled {
	switch callee := n.Callee.(type) {
	case *ast.MemberNode:
		return c.method(n, callee)
	case *ast.IdentifierNode:
		if callee.Value == "changed" {
			return c.changedCall(n)
		}
		c.fail(callee.Location(), "unknown function "+callee.Value, closestFunction(callee.Value))
	}
	c.fail(n.Location(), "this can't be called", "")
	return nil
}

func closestFunction(name string) string {
	if s := closest(name, functionNames()); s != "" {
		return "did you mean " + s + "()?"
	}
	return ""
}

func (c *compiler) changedCall(n *ast.CallNode) *compiled {
	c.changed = true
	if len(n.Arguments) == 0 {
		c.fail(n.Location(), "changed needs at least one glob", `changed("network/**")`)
	}
	return &compiled{kind: kindBool, eval: calling((*evaluation).changed, c.arguments(n.Arguments), n.Location().From)}
}

func (e *evaluation) changed(args []any) (any, error) {
	var globs []string
	for _, a := range args {
		l, isList := asList(a)
		if !isList {
			l = list{anys: []any{a}}
		}
		for i := range l.len() {
			if err := e.tick(); err != nil {
				return nil, err
			}
			glob, ok := l.at(i).(string)
			if !ok {
				return nil, wrongKind("a glob", "text", l.at(i))
			}
			globs = append(globs, glob)
		}
	}
	if e.scope.Changed == nil {
		return nil, fmt.Errorf("changed() can't be answered here: nothing knows the changed paths")
	}
	changed, err := e.scope.Changed(globs)
	if err != nil {
		return nil, fmt.Errorf("changed(): %w", err)
	}
	return changed, nil
}

// table is a builtin of expr, called with arguments of the given kinds: s text, i integer, a any, and after | those that
// may be left out. cost returns the bytes that it will allocate; nil means none to speak of.
func table(name, signature string, result kind, cost func(args []any) int) function {
	f := builtin.Builtins[builtin.Index[name]]
	kinds, required := parseSignature(signature)
	return function{min: required, max: len(kinds), result: result, call: func(e *evaluation, args []any) (any, error) {
		if err := checkKinds(name, kinds, args); err != nil {
			return nil, err
		}
		n := 0
		if cost != nil {
			n = cost(args)
		}
		if err := e.charge(n); err != nil {
			return nil, err
		}
		v, err := guarded(f, args)
		return normalise(v), err
	}}
}

func parseSignature(s string) (kinds []byte, required int) {
	required = -1
	for _, k := range []byte(s) {
		if k == '|' {
			required = len(kinds)
			continue
		}
		kinds = append(kinds, k)
	}
	if required < 0 {
		required = len(kinds)
	}
	return kinds, required
}

func checkKinds(name string, kinds []byte, args []any) error {
	for i, a := range args {
		_, text := a.(string)
		_, integer := a.(int64)
		switch {
		case kinds[i] == 's' && !text:
			return fmt.Errorf("%s needs text as argument %d, it is %s", name, i+1, describe(a))
		case kinds[i] == 'i' && !integer:
			return fmt.Errorf("%s needs a whole number as argument %d, it is %s", name, i+1, describe(a))
		}
	}
	return nil
}

// guarded calls a builtin of expr, which reports some mistakes by panicking.
func guarded(f *builtin.Function, args []any) (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("%s: %v", f.Name, r)
		}
	}()
	switch {
	case f.Fast != nil:
		return f.Fast(args[0]), nil
	case f.Safe != nil:
		v, _, err = f.Safe(args...)
		return v, err
	}
	return f.Func(args...)
}
