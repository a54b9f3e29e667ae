package expression

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// kind is what is known of a value's type before it is evaluated.
type kind int

const (
	kindAny kind = iota
	kindNil
	kindBool
	kindNumber
	kindString
	kindList
	kindMap
	kindTime
	kindDuration
)

var kindNames = [...]string{"a value", "nil", "true or false", "a number", "text", "a list", "a map", "a time", "a duration"}

func (k kind) String() string { return kindNames[k] }

// maybe says whether a value of kind k can be a want.
func (k kind) maybe(want kind) bool { return k == kindAny || k == want }

// kindOf returns the kind of a value, and kindAny for what expressions can't use.
func kindOf(v any) kind {
	switch v.(type) {
	case nil:
		return kindNil
	case bool:
		return kindBool
	case int64, float64, event.Integer, time.Weekday, time.Month:
		return kindNumber
	case string, []byte:
		return kindString
	case []any, []string:
		return kindList
	case map[string]any, map[string]string, Object:
		return kindMap
	case time.Time:
		return kindTime
	case time.Duration:
		return kindDuration
	}
	return kindAny
}

// describe says what a value is, for messages.
func describe(v any) string {
	if k := kindOf(v); k != kindAny {
		return k.String()
	}
	return fmt.Sprintf("a value of type %T", v)
}

// normalise returns v in the few types that operators know. It looks at v itself only, not at what v holds.
func normalise(v any) any {
	switch v := v.(type) {
	case nil, string, bool, int64, float64, map[string]any, []any:
		return v
	case int:
		return int64(v)
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint:
		return unsigned(uint64(v))
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		return unsigned(v)
	case float32:
		return float64(v)
	case json.Number:
		return jsonNumber(v)
	case []int:
		return anys(v)
	case []map[string]any:
		return anys(v)
	case []map[string]string:
		return anys(v)
	}
	return v
}

func unsigned(v uint64) any {
	if v > math.MaxInt64 {
		return event.Integer(strconv.FormatUint(v, 10))
	}
	return int64(v)
}

func jsonNumber(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	if isDecimal(string(n)) {
		return event.Integer(n)
	}
	f, err := n.Float64()
	if err != nil {
		return string(n)
	}
	return f
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// list is a view of the types that hold lists.
type list struct {
	anys    []any
	strings []string
}

func asList(v any) (list, bool) {
	switch v := v.(type) {
	case []any:
		return list{anys: v}, true
	case []string:
		return list{strings: v}, true
	}
	return list{}, false
}

func (l list) len() int { return len(l.anys) + len(l.strings) }

func (l list) at(i int) any {
	if l.strings != nil {
		return l.strings[i]
	}
	return normalise(l.anys[i])
}

// slice returns the list from a up to b, sharing its elements.
func (l list) slice(a, b int) any {
	if l.strings != nil {
		return l.strings[a:b]
	}
	return l.anys[a:b]
}

// member reads a field of a map or Object; ok is false where it is absent, or v has no fields.
func member(v any, name string) (field any, ok bool) {
	switch v := v.(type) {
	case map[string]any:
		field, ok = v[name]
	case Object:
		field, ok = v.Field(name)
	case map[string]string:
		var s string
		if s, ok = v[name]; ok {
			field = s
		}
	}
	return normalise(field), ok
}

// fields returns the names that a map or Object has, sorted; ok is false for any other value.
func fields(v any) (names []string, ok bool) {
	switch v := v.(type) {
	case map[string]any:
		names = make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
	case map[string]string:
		names = make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
	case Object:
		names = slices.Clone(v.Fields())
	default:
		return nil, false
	}
	slices.Sort(names)
	return names, true
}

// size is the number of fields of a map or Object.
func size(v any) int {
	switch v := v.(type) {
	case map[string]any:
		return len(v)
	case map[string]string:
		return len(v)
	case Object:
		return len(v.Fields())
	}
	return 0
}

// key is the field name that an index stands for.
func key(index any) (string, bool) {
	switch k := index.(type) {
	case string:
		return k, true
	case int64:
		return strconv.FormatInt(k, 10), true
	case event.Integer:
		return string(k), true
	case bool:
		return strconv.FormatBool(k), true
	case float64:
		return strconv.FormatFloat(k, 'f', -1, 64), true
	}
	return "", false
}

// whole returns v as an int, where it is a number without a fraction that fits.
func whole(v any) (int, error) {
	switch v := v.(type) {
	case int64:
		return int(v), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int(v), nil
		}
		return 0, fmt.Errorf("%v is not a whole number", v)
	case time.Weekday:
		return int(v), nil
	case time.Month:
		return int(v), nil
	case event.Integer:
		return 0, fmt.Errorf("%s is too large", clip(string(v), 40))
	}
	return 0, fmt.Errorf("%s where a whole number is needed", describe(v))
}

// equal compares two values: numbers by value, lists and maps by what they hold, and different kinds as unequal.
func (e *evaluation) equal(a, b any, depth int) (bool, error) {
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		y, ok := b.(string)
		return ok && x == y, nil
	case bool:
		y, ok := b.(bool)
		return ok && x == y, nil
	case []byte:
		y, ok := b.([]byte)
		return ok && string(x) == string(y), nil
	case time.Time:
		y, ok := b.(time.Time)
		return ok && x.Equal(y), nil
	case time.Duration:
		y, ok := b.(time.Duration)
		return ok && x == y, nil
	}
	if isNumber(a) {
		c, ordered := compareNumbers(a, b)
		return ordered && c == 0, nil
	}
	if depth > maxDepth {
		return false, e.halt(ErrBudget, "value is nested too deeply")
	}
	if x, ok := asList(a); ok {
		y, ok := asList(b)
		return e.equalLists(x, y, ok, depth)
	}
	return e.equalMaps(a, b, depth)
}

func (e *evaluation) equalLists(x, y list, ok bool, depth int) (bool, error) {
	if !ok || x.len() != y.len() {
		return false, nil
	}
	for i := range x.len() {
		if err := e.tick(); err != nil {
			return false, err
		}
		if same, err := e.equal(x.at(i), y.at(i), depth+1); !same {
			return false, err
		}
	}
	return true, nil
}

func (e *evaluation) equalMaps(a, b any, depth int) (bool, error) {
	if kindOf(a) != kindMap || kindOf(b) != kindMap || size(a) != size(b) {
		return false, nil
	}
	names, _ := fields(a)
	for _, name := range names {
		if err := e.tick(); err != nil {
			return false, err
		}
		x, _ := member(a, name)
		y, ok := member(b, name)
		if !ok {
			return false, nil
		}
		if same, err := e.equal(x, y, depth+1); !same {
			return false, err
		}
	}
	return true, nil
}

// compare orders two numbers, texts, times or durations.
func compare(a, b any) (c int, ordered bool, err error) {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return cmpStrings(x, y), true, nil
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y), true, nil
		}
	case time.Duration:
		if y, ok := b.(time.Duration); ok {
			return cmpInts(int64(x), int64(y)), true, nil
		}
	}
	if isNumber(a) && isNumber(b) {
		c, ordered = compareNumbers(a, b)
		return c, ordered, nil
	}
	return 0, false, fmt.Errorf("%s can't be compared with %s", describe(a), describe(b))
}

func cmpStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func cmpInts(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
