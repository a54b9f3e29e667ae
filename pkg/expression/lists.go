package expression

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

var numberFunctions = map[string]function{
	"abs":     {1, 1, kindAny, false, abs},
	"ceil":    {1, 1, kindNumber, false, rounded(math.Ceil)},
	"floor":   {1, 1, kindNumber, false, rounded(math.Floor)},
	"round":   {1, 1, kindNumber, false, rounded(math.Round)},
	"int":     {1, 1, kindNumber, false, toInt},
	"float":   {1, 1, kindNumber, false, toFloatValue},
	"min":     {1, variadic, kindAny, false, extreme("min", -1)},
	"max":     {1, variadic, kindAny, false, extreme("max", 1)},
	"mean":    {1, variadic, kindNumber, false, mean},
	"median":  {1, variadic, kindNumber, false, median},
	"bitand":  table("bitand", "ii", kindNumber, nil),
	"bitor":   table("bitor", "ii", kindNumber, nil),
	"bitxor":  table("bitxor", "ii", kindNumber, nil),
	"bitnand": table("bitnand", "ii", kindNumber, nil),
	"bitnot":  table("bitnot", "i", kindNumber, nil),
	"bitshl":  table("bitshl", "ii", kindNumber, nil),
	"bitshr":  table("bitshr", "ii", kindNumber, nil),
	"bitushr": table("bitushr", "ii", kindNumber, nil),
}

var listFunctions = map[string]function{
	"first":     {1, 1, kindAny, false, func(_ *evaluation, args []any) (any, error) { return end(args[0], false) }},
	"last":      {1, 1, kindAny, false, func(_ *evaluation, args []any) (any, error) { return end(args[0], true) }},
	"take":      {2, 2, kindList, false, take},
	"keys":      {1, 1, kindList, true, ofMap(func(name string, _ any) any { return name })},
	"values":    {1, 1, kindList, true, ofMap(func(_ string, v any) any { return v })},
	"toPairs":   {1, 1, kindList, true, ofMap(func(name string, v any) any { return []any{name, v} })},
	"fromPairs": {1, 1, kindMap, true, fromPairs},
	"reverse":   {1, 1, kindList, true, reverse},
	"uniq":      {1, 1, kindList, true, uniq},
	"concat":    {1, variadic, kindList, true, concat},
	"flatten":   {1, 1, kindList, true, flatten},
	"sort":      {1, 2, kindList, true, sortList},
}

func abs(_ *evaluation, args []any) (any, error) {
	v := plain(args[0])
	zero := any(int64(0))
	if _, ok := v.(time.Duration); ok {
		zero = time.Duration(0)
	}
	if c, _, err := compare(v, zero); err != nil || c >= 0 {
		return v, err
	}
	return negate(v)
}

// rounded leaves integers as they are, so that they keep their value.
func rounded(by func(float64) float64) func(*evaluation, []any) (any, error) {
	return func(_ *evaluation, args []any) (any, error) {
		switch v := plain(args[0]).(type) {
		case int64, event.Integer:
			return v, nil
		case float64:
			return by(v), nil
		}
		return nil, fmt.Errorf("%s can't be rounded", describe(args[0]))
	}
}

func toInt(_ *evaluation, args []any) (any, error) {
	switch v := plain(args[0]).(type) {
	case int64, event.Integer:
		return v, nil
	case float64:
		if math.IsNaN(v) || v >= 1<<63 || v < -1<<63 {
			return nil, errOverflow
		}
		return int64(v), nil
	case time.Duration:
		return int64(v), nil
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n, nil
		}
		if isDecimal(v) {
			return event.Integer(v), nil
		}
		return nil, fmt.Errorf("%q is not a whole number", clip(v, 40))
	}
	return nil, fmt.Errorf("%s can't become a whole number", describe(args[0]))
}

func toFloatValue(_ *evaluation, args []any) (any, error) {
	switch v := plain(args[0]).(type) {
	case int64:
		return float64(v), nil
	case float64:
		return v, nil
	case event.Integer:
		return parseFloat(string(v))
	case string:
		return parseFloat(v)
	}
	return nil, fmt.Errorf("%s can't become a number", describe(args[0]))
}

func parseFloat(s string) (any, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number", clip(s, 40))
	}
	return f, nil
}

// numbers calls visit with each number of the arguments, also those in lists within lists.
func (e *evaluation) numbers(name string, args []any, depth int, visit func(any) error) error {
	if depth > maxDepth {
		return e.halt(ErrBudget, "value is nested too deeply")
	}
	for _, a := range args {
		if err := e.tick(); err != nil {
			return err
		}
		l, isList := asList(a)
		switch {
		case isList:
			for i := range l.len() {
				if err := e.numbers(name, []any{l.at(i)}, depth+1, visit); err != nil {
					return err
				}
			}
		case isNumber(a):
			if err := visit(plain(a)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s needs numbers, it is given %s", name, describe(a))
		}
	}
	return nil
}

// extreme is min and max; of nothing it is nil.
func extreme(name string, sign int) func(*evaluation, []any) (any, error) {
	return func(e *evaluation, args []any) (any, error) {
		var best any
		err := e.numbers(name, args, 0, func(v any) error {
			if c, _ := compareNumbers(v, best); best == nil || c == sign {
				best = v
			}
			return nil
		})
		return best, err
	}
}

func mean(e *evaluation, args []any) (any, error) {
	sum, n := 0.0, 0
	err := e.numbers("mean", args, 0, func(v any) error {
		f, err := toFloat(v)
		sum, n = sum+f, n+1
		return err
	})
	if err != nil || n == 0 {
		return 0.0, err
	}
	return sum / float64(n), nil
}

func median(e *evaluation, args []any) (any, error) {
	var values []float64
	err := e.numbers("median", args, 0, func(v any) error {
		if err := e.chargeList(1); err != nil {
			return err
		}
		f, err := toFloat(v)
		values = append(values, f)
		return err
	})
	if err != nil || len(values) == 0 {
		return 0.0, err
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2, nil
	}
	return values[len(values)/2], nil
}

// end is the first or last element, or nil.
func end(v any, last bool) (any, error) {
	l, ok := asList(v)
	if !ok && v != nil {
		return nil, wrongKind("the argument", "a list", v)
	}
	switch {
	case l.len() == 0:
		return nil, nil
	case last:
		return l.at(l.len() - 1), nil
	}
	return l.at(0), nil
}

func take(_ *evaluation, args []any) (any, error) {
	l, ok := asList(args[0])
	if !ok {
		return nil, wrongKind("what take takes from", "a list", args[0])
	}
	n, err := whole(args[1])
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errors.New("take can't take fewer than 0 elements")
	}
	return l.slice(0, min(n, l.len())), nil
}

// ofMap lists something of each field, in the order of their names.
func ofMap(of func(name string, v any) any) func(*evaluation, []any) (any, error) {
	return func(e *evaluation, args []any) (any, error) {
		if err := e.chargeList(3 * size(args[0])); err != nil {
			return nil, err
		}
		names, ok := fields(args[0])
		if !ok {
			return nil, wrongKind("the argument", "a map", args[0])
		}
		out := make([]any, len(names))
		for i, name := range names {
			v, _ := member(args[0], name)
			out[i] = of(name, v)
		}
		return out, nil
	}
}

func fromPairs(e *evaluation, args []any) (any, error) {
	l, ok := asList(args[0])
	if !ok {
		return nil, wrongKind("the argument", "a list of pairs", args[0])
	}
	if err := e.chargeList(3 * l.len()); err != nil {
		return nil, err
	}
	out := make(map[string]any, l.len())
	for i := range l.len() {
		pair, ok := asList(l.at(i))
		if !ok || pair.len() != 2 {
			return nil, fmt.Errorf("element %d is not a pair", i)
		}
		name, ok := key(pair.at(0))
		if !ok {
			return nil, wrongKind("a map's key", "text", pair.at(0))
		}
		out[name] = pair.at(1)
	}
	return out, nil
}

func reverse(e *evaluation, args []any) (any, error) {
	out, err := e.copied(args[0])
	slices.Reverse(out)
	return out, err
}

// copied returns the elements of a list in a new one.
func (e *evaluation) copied(v any) ([]any, error) {
	l, ok := asList(v)
	if !ok {
		return nil, wrongKind("the argument", "a list", v)
	}
	if err := e.chargeList(l.len()); err != nil {
		return nil, err
	}
	out := make([]any, l.len())
	for i := range out {
		out[i] = l.at(i)
	}
	return out, nil
}

func uniq(e *evaluation, args []any) (any, error) {
	in, err := e.copied(args[0])
	if err != nil {
		return nil, err
	}
	out, texts := in[:0], map[string]bool{}
	for _, item := range in {
		if s, ok := item.(string); ok {
			if !texts[s] {
				texts[s] = true
				out = append(out, item)
			}
			continue
		}
		known, err := e.contains(out, item)
		if err != nil {
			return nil, err
		}
		if !known {
			out = append(out, item)
		}
	}
	return out, nil
}

func concat(e *evaluation, args []any) (any, error) {
	total := 0
	for _, a := range args {
		l, ok := asList(a)
		if !ok {
			return nil, wrongKind("what is concatenated", "a list", a)
		}
		total += l.len()
	}
	if err := e.chargeList(total); err != nil {
		return nil, err
	}
	out := make([]any, 0, total)
	for _, a := range args {
		l, _ := asList(a)
		for i := range l.len() {
			out = append(out, l.at(i))
		}
	}
	return out, nil
}

func flatten(e *evaluation, args []any) (any, error) {
	l, ok := asList(args[0])
	if !ok {
		return nil, wrongKind("the argument", "a list", args[0])
	}
	out := []any{}
	err := e.flatten(l, 0, &out)
	return out, err
}

func (e *evaluation) flatten(l list, depth int, out *[]any) error {
	if depth > maxDepth {
		return e.halt(ErrBudget, "value is nested too deeply")
	}
	for i := range l.len() {
		if err := e.tick(); err != nil {
			return err
		}
		item := l.at(i)
		if inner, ok := asList(item); ok {
			if err := e.flatten(inner, depth+1, out); err != nil {
				return err
			}
			continue
		}
		if err := e.chargeList(1); err != nil {
			return err
		}
		*out = append(*out, item)
	}
	return nil
}

func sortList(e *evaluation, args []any) (any, error) {
	descending := false
	if len(args) == 2 {
		var err error
		if descending, err = isDescending(args[1]); err != nil {
			return nil, err
		}
	}
	out, err := e.copied(args[0])
	if err != nil {
		return nil, err
	}
	return out, sorted(e, out, descending, func(v any) any { return v })
}
