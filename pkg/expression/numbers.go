package expression

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

func isNumber(v any) bool {
	switch v.(type) {
	case int64, float64, event.Integer, time.Weekday, time.Month:
		return true
	}
	return false
}

// plain returns a number as int64, float64 or event.Integer.
func plain(v any) any {
	switch v := v.(type) {
	case time.Weekday:
		return int64(v)
	case time.Month:
		return int64(v)
	}
	return v
}

// compareNumbers compares by exact value; ordered is false for NaN and where one is no number.
func compareNumbers(a, b any) (c int, ordered bool) {
	a, b = plain(a), plain(b)
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return cmpInts(x, y), true
		case float64:
			return compareIntFloat(x, y)
		case event.Integer:
			return compareDecimals(strconv.FormatInt(x, 10), string(y)), true
		}
	case float64:
		switch y := b.(type) {
		case float64:
			return cmpFloats(x, y), x == x && y == y
		case int64:
			c, ordered = compareIntFloat(y, x)
			return -c, ordered
		case event.Integer:
			c, ordered = compareIntegerFloat(y, x)
			return -c, ordered
		}
	case event.Integer:
		switch y := b.(type) {
		case event.Integer:
			return compareDecimals(string(x), string(y)), true
		case int64:
			return compareDecimals(string(x), strconv.FormatInt(y, 10)), true
		case float64:
			return compareIntegerFloat(x, y)
		}
	}
	return 0, false
}

func cmpFloats(x, y float64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// compareIntFloat compares without rounding the integer, which float64 can't hold above 2^53.
func compareIntFloat(i int64, f float64) (c int, ordered bool) {
	switch {
	case math.IsNaN(f):
		return 0, false
	case f >= 1<<63:
		return -1, true
	case f < -1<<63:
		return 1, true
	}
	floor := math.Floor(f)
	if c := cmpInts(i, int64(floor)); c != 0 || f == floor {
		return c, true
	}
	return -1, true
}

func compareIntegerFloat(i event.Integer, f float64) (c int, ordered bool) {
	switch {
	case math.IsNaN(f):
		return 0, false
	case math.IsInf(f, 0):
		return -cmpFloats(f, 0), true
	}
	floor := math.Floor(f)
	text, _ := big.NewFloat(floor).Int(nil) // at most 309 digits
	if c := compareDecimals(string(i), text.String()); c != 0 || f == floor {
		return c, true
	}
	return -1, true
}

// compareDecimals compares integers of any length as text, in linear time.
func compareDecimals(a, b string) int {
	aNeg, a := unsign(a)
	bNeg, b := unsign(b)
	switch {
	case aNeg && !bNeg:
		return -1
	case bNeg && !aNeg:
		return 1
	}
	c := cmpInts(int64(len(a)), int64(len(b)))
	if c == 0 {
		c = cmpStrings(a, b)
	}
	if aNeg {
		return -c
	}
	return c
}

// unsign splits the sign and leading zeros from decimal digits; zero has no sign.
func unsign(s string) (negative bool, digits string) {
	digits, negative = strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	digits = strings.TrimLeft(digits, "0")
	return negative && digits != "", digits
}

func isDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789") == ""
}

var (
	errOverflow = errors.New("result does not fit into 64 bits")
	errDivision = errors.New("division by zero")
)

// arithmetic applies + - * / % ** to two values.
func arithmetic(op string, a, b any) (any, error) {
	a, b = plain(a), plain(b)
	if v, ok, err := timeArithmetic(op, a, b); ok || err != nil {
		return v, err
	}
	if !isNumber(a) || !isNumber(b) {
		return nil, fmt.Errorf("%s can't be calculated from %s and %s", op, describe(a), describe(b))
	}
	x, xInt := a.(int64)
	y, yInt := b.(int64)
	if xInt && yInt && op != "/" && op != "**" {
		return integerArithmetic(op, x, y)
	}
	f, err := toFloat(a)
	if err != nil {
		return nil, err
	}
	g, err := toFloat(b)
	if err != nil {
		return nil, err
	}
	return floatArithmetic(op, f, g)
}

func toFloat(v any) (float64, error) {
	switch v := v.(type) {
	case int64:
		return float64(v), nil
	case float64:
		return v, nil
	case event.Integer:
		return 0, fmt.Errorf("%s does not fit into 64 bits: it can be compared, not calculated with", clip(string(v), 40))
	}
	return 0, fmt.Errorf("%s where a number is needed", describe(v))
}

func integerArithmetic(op string, x, y int64) (any, error) {
	switch op {
	case "+":
		if sum := x + y; (sum > x) == (y > 0) {
			return sum, nil
		}
	case "-":
		if difference := x - y; (difference < x) == (y > 0) {
			return difference, nil
		}
	case "*":
		if x == 0 || y == 0 {
			return int64(0), nil
		}
		if p := x * y; p/y == x && (x != -1 || y != math.MinInt64) && (y != -1 || x != math.MinInt64) {
			return p, nil
		}
	case "%":
		switch y {
		case 0:
			return nil, errDivision
		case -1: // the processor traps on MinInt64 % -1
			return int64(0), nil
		}
		return x % y, nil
	}
	return nil, errOverflow
}

func floatArithmetic(op string, f, g float64) (any, error) {
	switch op {
	case "+":
		return f + g, nil
	case "-":
		return f - g, nil
	case "*":
		return f * g, nil
	case "**":
		return math.Pow(f, g), nil
	case "%":
		return nil, errors.New("% needs whole numbers")
	}
	if g == 0 {
		return nil, errDivision
	}
	return f / g, nil
}

// timeArithmetic knows times and durations; ok is false where neither is one.
func timeArithmetic(op string, a, b any) (v any, ok bool, err error) {
	switch x := a.(type) {
	case time.Time:
		switch y := b.(type) {
		case time.Time:
			if op == "-" {
				return x.Sub(y), true, nil
			}
		case time.Duration:
			switch op {
			case "+":
				return x.Add(y), true, nil
			case "-":
				return x.Add(-y), true, nil
			}
		}
	case time.Duration:
		return durationArithmetic(op, x, b)
	}
	if d, isDuration := b.(time.Duration); isDuration && op == "*" && isNumber(a) {
		return scale(d, a)
	}
	return nil, false, nil
}

func durationArithmetic(op string, x time.Duration, b any) (v any, ok bool, err error) {
	switch y := b.(type) {
	case time.Time:
		if op == "+" {
			return y.Add(x), true, nil
		}
	case time.Duration:
		if op == "/" {
			v, err = floatArithmetic(op, float64(x), float64(y))
			return v, err == nil, err
		}
		if op == "+" || op == "-" {
			v, err = integerArithmetic(op, int64(x), int64(y))
			return duration(v, err)
		}
	default:
		switch {
		case op == "*":
			return scale(x, b)
		case op == "/" && isNumber(b):
			f, err := toFloat(plain(b))
			if err != nil {
				return nil, false, err
			}
			if f == 0 {
				return nil, false, errDivision
			}
			return floatDuration(float64(x) / f)
		}
	}
	return nil, false, nil
}

// scale multiplies a duration by a number.
func scale(d time.Duration, by any) (v any, ok bool, err error) {
	switch n := plain(by).(type) {
	case int64:
		v, err = integerArithmetic("*", int64(d), n)
		return duration(v, err)
	case float64:
		return floatDuration(float64(d) * n)
	}
	return nil, false, nil
}

func floatDuration(f float64) (any, bool, error) {
	if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return nil, false, errOverflow
	}
	return time.Duration(f), true, nil
}

func duration(v any, err error) (any, bool, error) {
	if err != nil {
		return nil, false, err
	}
	return time.Duration(v.(int64)), true, nil
}

// negate is unary minus.
func negate(v any) (any, error) {
	switch v := plain(v).(type) {
	case int64:
		if v == math.MinInt64 {
			return nil, errOverflow
		}
		return -v, nil
	case float64:
		return -v, nil
	case time.Duration:
		return -v, nil
	case event.Integer:
		if s, negative := strings.CutPrefix(string(v), "-"); negative {
			return event.Integer(s), nil
		}
		return event.Integer("-" + string(v)), nil
	}
	return nil, fmt.Errorf("%s can't be negated", describe(v))
}
