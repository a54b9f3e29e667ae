package expression

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/expr-lang/expr/ast"
)

var timeFunctions = map[string]function{
	"now":      {0, 1, kindTime, false, now},
	"duration": table("duration", "s", kindDuration, nil),
	"date":     table("date", "a|aaa", kindTime, zoneCost),
	"timezone": table("timezone", "s", kindAny, zoneCost),
}

// zoneCost charges for reading a time zone, which Go finds in a file.
func zoneCost([]any) int { return 4096 }

// now answers with the evaluation's clock, never the machine's.
func now(e *evaluation, args []any) (any, error) {
	if len(args) == 0 {
		return e.scope.Now.UTC(), nil
	}
	zone, ok := args[0].(*time.Location)
	if !ok {
		return nil, wrongKind("now's argument", "a time zone", args[0])
	}
	return e.scope.Now.In(zone), nil
}

var errArgument = errors.New("arguments of another kind are needed")

// methods of times and durations, by name; the result is normal. ok is false where v has no such method.
var methods = map[string]func(v any, args []any) (result any, ok bool, err error){
	"Year":         ofTime(func(t time.Time) any { return int64(t.Year()) }),
	"Month":        ofTime(func(t time.Time) any { return t.Month() }),
	"Day":          ofTime(func(t time.Time) any { return int64(t.Day()) }),
	"Hour":         ofTime(func(t time.Time) any { return int64(t.Hour()) }),
	"Minute":       ofTime(func(t time.Time) any { return int64(t.Minute()) }),
	"Second":       ofTime(func(t time.Time) any { return int64(t.Second()) }),
	"Weekday":      ofTime(func(t time.Time) any { return t.Weekday() }),
	"YearDay":      ofTime(func(t time.Time) any { return int64(t.YearDay()) }),
	"Unix":         ofTime(func(t time.Time) any { return t.Unix() }),
	"UnixMilli":    ofTime(func(t time.Time) any { return t.UnixMilli() }),
	"UTC":          ofTime(func(t time.Time) any { return t.UTC() }),
	"IsZero":       ofTime(func(t time.Time) any { return t.IsZero() }),
	"Format":       ofTimeWith(func(t time.Time, layout string) any { return t.Format(clip(layout, maxName)) }),
	"In":           ofTimeWith(func(t time.Time, zone *time.Location) any { return t.In(zone) }),
	"Add":          ofTimeWith(func(t time.Time, d time.Duration) any { return t.Add(d) }),
	"Sub":          ofTimeWith(func(t, u time.Time) any { return t.Sub(u) }),
	"Before":       ofTimeWith(func(t, u time.Time) any { return t.Before(u) }),
	"After":        ofTimeWith(func(t, u time.Time) any { return t.After(u) }),
	"Equal":        ofTimeWith(func(t, u time.Time) any { return t.Equal(u) }),
	"Hours":        ofDuration(func(d time.Duration) any { return d.Hours() }),
	"Minutes":      ofDuration(func(d time.Duration) any { return d.Minutes() }),
	"Seconds":      ofDuration(func(d time.Duration) any { return d.Seconds() }),
	"Milliseconds": ofDuration(func(d time.Duration) any { return d.Milliseconds() }),
	"String":       stringOf,
}

type methodOf = func(v any, args []any) (any, bool, error)

func ofTime(f func(time.Time) any) methodOf {
	return func(v any, args []any) (any, bool, error) {
		t, ok := v.(time.Time)
		if !ok || len(args) != 0 {
			return nil, ok, errArgument
		}
		return f(t), true, nil
	}
}

func ofTimeWith[T any](f func(time.Time, T) any) methodOf {
	return func(v any, args []any) (any, bool, error) {
		t, ok := v.(time.Time)
		if !ok || len(args) != 1 {
			return nil, ok, errArgument
		}
		arg, valid := args[0].(T)
		if !valid {
			return nil, true, errArgument
		}
		return f(t, arg), true, nil
	}
}

func ofDuration(f func(time.Duration) any) methodOf {
	return func(v any, args []any) (any, bool, error) {
		d, ok := v.(time.Duration)
		if !ok || len(args) != 0 {
			return nil, ok, errArgument
		}
		return f(d), true, nil
	}
}

func stringOf(v any, args []any) (any, bool, error) {
	switch v := v.(type) {
	case time.Time, time.Duration, time.Weekday, time.Month, *time.Location:
		if len(args) != 0 {
			return nil, true, errArgument
		}
		return v.(fmt.Stringer).String(), true, nil
	}
	return nil, false, nil
}

func closestMethod(name string) string {
	if s := closest(name, slices.Collect(maps.Keys(methods))); s != "" {
		return "did you mean " + s + "()?"
	}
	return "only times and durations have methods; fields can't be called"
}

// method compiles x.Name(…); only times and durations have any.
func (c *compiler) method(n *ast.CallNode, callee *ast.MemberNode) *compiled {
	name, ok := callee.Property.(*ast.StringNode)
	if !ok {
		c.fail(n.Location(), "this can't be called", "")
	}
	apply, ok := methods[name.Value]
	if !ok {
		c.fail(name.Location(), "unknown method "+name.Value, closestMethod(name.Value))
	}
	args := append([]*compiled{c.nested(callee.Node)}, c.arguments(n.Arguments)...)
	optional, at := callee.Optional, name.Location().From
	call := calling(func(_ *evaluation, args []any) (any, error) {
		if args[0] == nil && optional {
			return nil, nil
		}
		v, ok, err := apply(args[0], args[1:])
		if !ok {
			return nil, fmt.Errorf("%s has no method %s", describe(args[0]), name.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name.Value, err)
		}
		return v, nil
	}, args, at)
	if !optional {
		return &compiled{eval: call}
	}
	return &compiled{eval: func(e *evaluation) (any, error) {
		v, err := call(e)
		return v, present(err)
	}}
}
