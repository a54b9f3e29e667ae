package expression

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/event"
)

var textFunctions = map[string]function{
	"trim":        table("trim", "s|s", kindString, nil),
	"trimPrefix":  table("trimPrefix", "s|s", kindString, nil),
	"trimSuffix":  table("trimSuffix", "s|s", kindString, nil),
	"upper":       table("upper", "s", kindString, firstLength(2)),
	"lower":       table("lower", "s", kindString, firstLength(2)),
	"indexOf":     table("indexOf", "ss", kindNumber, nil),
	"lastIndexOf": table("lastIndexOf", "ss", kindNumber, nil),
	"hasPrefix":   table("hasPrefix", "ss", kindBool, nil),
	"hasSuffix":   table("hasSuffix", "ss", kindBool, nil),
	"toBase64":    table("toBase64", "s", kindString, firstLength(2)),
	"fromBase64":  table("fromBase64", "s", kindString, firstLength(1)),
	"split":       {2, 3, kindList, true, split(strings.SplitN)},
	"splitAfter":  {2, 3, kindList, true, split(strings.SplitAfterN)},
	"replace":     {3, 4, kindString, false, replace},
	"repeat":      {2, 2, kindString, false, repeat},
	"join":        {1, 2, kindString, false, join},
	"string":      {1, 1, kindString, false, toText},
	"len":         {1, 1, kindNumber, false, length},
	"type":        {1, 1, kindString, false, typeOf},
	"toJSON":      {1, 1, kindString, false, toJSON},
	"fromJSON":    {1, 1, kindAny, true, fromJSON},
}

// firstLength is the cost of a function whose result is at most n times as long as its first argument.
func firstLength(n int) func([]any) int {
	return func(args []any) int { return n * len(args[0].(string)) }
}

func split(by func(s, sep string, n int) []string) func(*evaluation, []any) (any, error) {
	return func(e *evaluation, args []any) (any, error) {
		if err := checkKinds("split", []byte("ssa"), args); err != nil {
			return nil, err
		}
		s, sep, n := args[0].(string), args[1].(string), -1
		if len(args) == 3 {
			var err error
			if n, err = whole(args[2]); err != nil {
				return nil, err
			}
		}
		if err := e.spend(len(s) / 64); err != nil {
			return nil, err
		}
		parts := strings.Count(s, sep) + 1
		if n >= 0 {
			parts = min(parts, n)
		}
		if err := e.chargeList(parts); err != nil {
			return nil, err
		}
		out := by(s, sep, n)
		if out == nil {
			out = []string{}
		}
		return out, nil
	}
}

func replace(e *evaluation, args []any) (any, error) {
	if err := checkKinds("replace", []byte("sssa"), args); err != nil {
		return nil, err
	}
	s, old, by, n := args[0].(string), args[1].(string), args[2].(string), -1
	if len(args) == 4 {
		var err error
		if n, err = whole(args[3]); err != nil {
			return nil, err
		}
	}
	if err := e.spend(len(s) / 64); err != nil {
		return nil, err
	}
	times := strings.Count(s, old)
	if n >= 0 {
		times = min(times, n)
	}
	// Both factors are bounded by the memory of one evaluation or one event, so that the product fits into 64 bits.
	if err := e.charge(len(s) + times*max(0, len(by)-len(old))); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, by, n), nil
}

func repeat(e *evaluation, args []any) (any, error) {
	if err := checkKinds("repeat", []byte("sa"), args); err != nil {
		return nil, err
	}
	s := args[0].(string)
	n, err := whole(args[1])
	switch {
	case err != nil:
		return nil, err
	case n < 0:
		return nil, fmt.Errorf("repeat can't repeat %d times", n)
	case s == "" || n == 0:
		return "", nil
	case n > e.memory/len(s):
		return nil, e.charge(e.memory + 1)
	}
	if err := e.charge(n * len(s)); err != nil {
		return nil, err
	}
	return strings.Repeat(s, n), nil
}

func join(e *evaluation, args []any) (any, error) {
	l, ok := asList(args[0])
	if !ok {
		return nil, wrongKind("what is joined", "a list", args[0])
	}
	glue := ""
	if len(args) == 2 {
		if glue, ok = args[1].(string); !ok {
			return nil, wrongKind("what joins", "text", args[1])
		}
	}
	total := 0
	for i := range l.len() {
		if err := e.tick(); err != nil {
			return nil, err
		}
		s, ok := l.at(i).(string)
		if !ok {
			return nil, wrongKind("an element that is joined", "text", l.at(i))
		}
		if total += len(s) + len(glue); total > e.memory {
			return nil, e.charge(total)
		}
	}
	if err := e.charge(total); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.Grow(total)
	for i := range l.len() {
		if i > 0 {
			b.WriteString(glue)
		}
		b.WriteString(l.at(i).(string))
	}
	return b.String(), nil
}

func toText(e *evaluation, args []any) (any, error) { return e.text(args[0]) }

func length(e *evaluation, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		if err := e.spend(len(v) / 64); err != nil {
			return nil, err
		}
		return int64(utf8.RuneCountInString(v)), nil
	case []byte:
		return int64(len(v)), nil
	}
	if l, ok := asList(args[0]); ok {
		return int64(l.len()), nil
	}
	if kindOf(args[0]) == kindMap {
		return int64(size(args[0])), nil
	}
	return nil, fmt.Errorf("len needs text, a list or a map, it is %s", describe(args[0]))
}

func typeOf(_ *evaluation, args []any) (any, error) {
	switch args[0].(type) {
	case int64, event.Integer:
		return "int", nil
	case float64:
		return "float", nil
	case []byte:
		return "array", nil
	}
	switch kindOf(args[0]) {
	case kindNil:
		return "nil", nil
	case kindBool:
		return "bool", nil
	case kindString:
		return "string", nil
	case kindList:
		return "array", nil
	case kindMap:
		return "map", nil
	}
	return fmt.Sprintf("%T", args[0]), nil // time.Time, time.Duration
}

func toJSON(e *evaluation, args []any) (any, error) {
	return e.json(args[0], "  ")
}

func fromJSON(e *evaluation, args []any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, wrongKind("fromJSON's argument", "text", args[0])
	}
	// A list within each other takes two bytes of text and some forty of memory.
	if len(s) > e.memory/elementSize {
		return nil, e.charge(e.memory + 1)
	}
	if err := e.charge(elementSize * len(s)); err != nil {
		return nil, err
	}
	v, err := event.Decode([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("fromJSON: %w", err)
	}
	return normalise(v), nil
}
