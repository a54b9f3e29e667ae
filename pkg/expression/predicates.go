package expression

import (
	"errors"
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"
)

// loop is a compiled builtin with a closure: any(list, closure).
type loop struct {
	name   string
	list   *compiled
	at     int       // of the builtin
	body   *compiled // nil where it may be left out
	bodyAt int
	third  *compiled
}

// loops are the builtins with a closure. Those with a condition take an element whose fields are missing for one that
// does not meet it; in the others an absent field makes the whole absent.
var loops = map[string]struct {
	condition bool
	result    kind
	builds    bool
	run       func(*loop, *evaluation, list) (any, error)
}{
	"all":           {true, kindBool, false, (*loop).all},
	"any":           {true, kindBool, false, (*loop).any},
	"none":          {true, kindBool, false, (*loop).none},
	"one":           {true, kindBool, false, (*loop).one},
	"count":         {true, kindNumber, false, (*loop).count},
	"filter":        {true, kindList, true, (*loop).filter},
	"find":          {true, kindAny, false, (*loop).find},
	"findIndex":     {true, kindAny, false, (*loop).findIndex},
	"findLast":      {true, kindAny, false, (*loop).findLast},
	"findLastIndex": {true, kindAny, false, (*loop).findLastIndex},
	"map":           {false, kindList, true, (*loop).mapped},
	"sum":           {false, kindAny, false, (*loop).sum},
	"groupBy":       {false, kindMap, true, (*loop).groupBy},
	"sortBy":        {false, kindList, true, (*loop).sortBy},
	"reduce":        {false, kindAny, true, (*loop).reduce},
}

// loop compiles a builtin with a closure; ok is false for any other.
func (c *compiler) loop(n *ast.BuiltinNode) (out *compiled, ok bool) {
	l, ok := loops[n.Name]
	if !ok {
		return nil, false
	}
	c.builds = c.builds || l.builds
	run := loop{name: n.Name, list: c.nested(n.Arguments[0]), at: n.Location().From}
	if len(n.Arguments) > 2 {
		run.third = c.nested(n.Arguments[2])
	}
	if len(n.Arguments) > 1 {
		run.body = c.body(n, run.list.path)
		run.bodyAt = n.Arguments[1].Location().From
		if l.condition && !run.body.kind.maybe(kindBool) {
			c.fail(n.Arguments[1].Location(), n.Name+"'s condition is "+run.body.kind.String()+", not true or false", "")
		}
	}
	return &compiled{kind: l.result, eval: func(e *evaluation) (any, error) {
		v, err := run.list.eval(e)
		if err != nil {
			return nil, err
		}
		items, ok := asList(v)
		if !ok {
			return nil, e.failure(run.at, notIterable(run.name, v))
		}
		var third any
		if run.third != nil {
			if third, err = run.third.eval(e); err != nil {
				return nil, err
			}
		}
		e.frames = append(e.frames, frame{list: run.list.path, acc: third})
		v, err = l.run(&run, e, items)
		e.frames = e.frames[:len(e.frames)-1]
		if err != nil {
			return nil, e.failure(run.at, err)
		}
		return v, nil
	}}, true
}

func notIterable(name string, v any) error {
	switch kindOf(v) {
	case kindNil:
		return fmt.Errorf("%s needs a list, it is nil: give a default with ?? []", name)
	case kindMap:
		return fmt.Errorf("%s needs a list, it is a map: use keys() or values()", name)
	}
	return fmt.Errorf("%s needs a list, it is %s", name, describe(v))
}

// body compiles a closure.
func (c *compiler) body(n *ast.BuiltinNode, items *path) *compiled {
	reduce := c.reduce
	c.closure++
	c.lists = append(c.lists, items)
	c.reduce = n.Name == "reduce"
	closure, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		c.fail(n.Arguments[1].Location(), n.Name+" needs a closure", "")
	}
	body := c.nested(closure.Node)
	c.closure--
	c.lists = c.lists[:len(c.lists)-1]
	c.reduce = reduce
	return body
}

// value evaluates the closure for element i.
func (l *loop) value(e *evaluation, items list, i int) (any, error) {
	if err := e.tick(); err != nil {
		return nil, err
	}
	f := &e.frames[len(e.frames)-1]
	f.item, f.index = items.at(i), i
	if l.body == nil {
		return f.item, nil
	}
	return l.body.eval(e)
}

// meets evaluates the closure as a condition on element i.
func (l *loop) meets(e *evaluation, items list, i int) (bool, error) {
	v, err := l.value(e, items, i)
	if err != nil {
		if a := absent(err); a != nil && a.element {
			return false, nil
		}
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, e.failure(l.bodyAt, notBoolean(v))
	}
	return b, nil
}

// first returns the index of the first element, or the last one, that meets the condition, or -1.
func (l *loop) first(e *evaluation, items list, want, backwards bool) (int, error) {
	n := items.len()
	for i := range n {
		if backwards {
			i = n - 1 - i
		}
		b, err := l.meets(e, items, i)
		if err != nil {
			return -1, err
		}
		if b == want {
			return i, nil
		}
	}
	return -1, nil
}

func (l *loop) all(e *evaluation, items list) (any, error) {
	i, err := l.first(e, items, false, false)
	return i < 0, err
}

func (l *loop) any(e *evaluation, items list) (any, error) {
	i, err := l.first(e, items, true, false)
	return i >= 0, err
}

func (l *loop) none(e *evaluation, items list) (any, error) {
	i, err := l.first(e, items, true, false)
	return i < 0, err
}

func (l *loop) one(e *evaluation, items list) (any, error) {
	n, err := l.matching(e, items, func(any) error { return nil })
	return n == 1, err
}

func (l *loop) count(e *evaluation, items list) (any, error) {
	n, err := l.matching(e, items, func(any) error { return nil })
	return int64(n), err
}

// matching counts the elements that meet the condition, and hands them to take.
func (l *loop) matching(e *evaluation, items list, take func(item any) error) (n int, err error) {
	for i := range items.len() {
		b, err := l.meets(e, items, i)
		if err != nil {
			return 0, err
		}
		if !b {
			continue
		}
		n++
		if err := take(items.at(i)); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (l *loop) filter(e *evaluation, items list) (any, error) {
	out := []any{}
	_, err := l.matching(e, items, func(item any) error {
		if err := e.chargeList(1); err != nil {
			return err
		}
		out = append(out, item)
		return nil
	})
	return out, err
}

func (l *loop) find(e *evaluation, items list) (any, error) {
	return element(items)(l.first(e, items, true, false))
}

func (l *loop) findLast(e *evaluation, items list) (any, error) {
	return element(items)(l.first(e, items, true, true))
}

func element(items list) func(i int, err error) (any, error) {
	return func(i int, err error) (any, error) {
		if i < 0 {
			return nil, err
		}
		return items.at(i), nil
	}
}

func (l *loop) findIndex(e *evaluation, items list) (any, error) {
	return indexOrNil(l.first(e, items, true, false))
}

func (l *loop) findLastIndex(e *evaluation, items list) (any, error) {
	return indexOrNil(l.first(e, items, true, true))
}

func indexOrNil(i int, err error) (any, error) {
	if i < 0 {
		return nil, err
	}
	return int64(i), nil
}

func (l *loop) mapped(e *evaluation, items list) (any, error) {
	if err := e.chargeList(items.len()); err != nil {
		return nil, err
	}
	out := make([]any, items.len())
	for i := range out {
		v, err := l.value(e, items, i)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (l *loop) sum(e *evaluation, items list) (any, error) {
	var sum any = int64(0)
	for i := range items.len() {
		v, err := l.value(e, items, i)
		if err != nil {
			return nil, err
		}
		if i == 0 && kindOf(v) == kindDuration {
			sum = v
			continue
		}
		if sum, err = arithmetic("+", sum, v); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func (l *loop) groupBy(e *evaluation, items list) (any, error) {
	out := map[string]any{}
	for i := range items.len() {
		v, err := l.value(e, items, i)
		if err != nil {
			return nil, err
		}
		name, ok := key(v)
		if !ok {
			return nil, wrongKind("what groupBy groups by", "text or a number", v)
		}
		if err := e.charge(5*elementSize + len(name)); err != nil {
			return nil, err
		}
		group, _ := out[name].([]any)
		out[name] = append(group, items.at(i))
	}
	return out, nil
}

func (l *loop) sortBy(e *evaluation, items list) (any, error) {
	descending := false
	if l.third != nil {
		var err error
		if descending, err = isDescending(e.frames[len(e.frames)-1].acc); err != nil {
			return nil, err
		}
	}
	if err := e.chargeList(3 * items.len()); err != nil {
		return nil, err
	}
	keyed := make([][2]any, items.len())
	for i := range keyed {
		v, err := l.value(e, items, i)
		if err != nil {
			return nil, err
		}
		keyed[i] = [2]any{v, items.at(i)}
	}
	if err := sorted(e, keyed, descending, func(k [2]any) any { return k[0] }); err != nil {
		return nil, err
	}
	out := make([]any, len(keyed))
	for i, k := range keyed {
		out[i] = k[1]
	}
	return out, nil
}

// isDescending reads the order that sort and sortBy take.
func isDescending(order any) (bool, error) {
	switch order {
	case "asc":
		return false, nil
	case "desc":
		return true, nil
	}
	return false, errors.New(`the order must be "asc" or "desc"`)
}

// sorted sorts in place, keeping the order of equal elements.
func sorted[T any](e *evaluation, items []T, descending bool, by func(T) any) error {
	var failed error
	slices.SortStableFunc(items, func(a, b T) int {
		if failed != nil {
			return 0
		}
		if failed = e.tick(); failed != nil {
			return 0
		}
		c, _, err := compare(by(a), by(b))
		if err != nil {
			failed = err
		}
		if descending {
			return -c
		}
		return c
	})
	return failed
}

func (l *loop) reduce(e *evaluation, items list) (any, error) {
	start := 0
	top := len(e.frames) - 1
	if l.third == nil {
		if items.len() == 0 {
			return nil, errors.New("reduce of an empty list needs a start value")
		}
		e.frames[top].acc, start = items.at(0), 1
	}
	for i := start; i < items.len(); i++ {
		v, err := l.value(e, items, i)
		if err != nil {
			return nil, err
		}
		e.frames[top].acc = v
	}
	return e.frames[top].acc, nil
}
