package expression_test

import (
	"context"
	"encoding/json"
	"math"
	"math/big"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

func evalWith(t *testing.T, src string, vars map[string]any) any {
	t.Helper()
	v, err := compile(t, src).Eval(context.Background(), &expression.Scope{Vars: vars, Now: noon})
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return v
}

// Numbers of every form compare by exact value.
func TestNumbersCompareExactly(t *testing.T) {
	values := []any{
		int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), int64(1<<53 + 1), 0.0, -0.5, 0.5, -1.5, float64(1 << 53), 9.3e18, -9.3e18,
		float64(1 << 63), -float64(1 << 63), 1e300, -1e300, math.Inf(1), math.Inf(-1), event.Integer("9223372036854775808"),
		event.Integer("-9223372036854775809"), event.Integer("9223372036854775809"), event.Integer("100000000000000000000000000000000"),
	}
	exact := func(v any) *big.Float {
		f := new(big.Float).SetPrec(2000)
		switch v := v.(type) {
		case int64:
			return f.SetInt64(v)
		case float64:
			return f.SetFloat64(v)
		}
		f.SetString(string(v.(event.Integer)))
		return f
	}
	less, same := compile(t, `a < b`), compile(t, `a == b`)
	for _, a := range values {
		for _, b := range values {
			s := &expression.Scope{Vars: map[string]any{"a": a, "b": b}}
			want := exact(a).Cmp(exact(b))
			if got, _ := less.Eval(context.Background(), s); got != (want < 0) {
				t.Errorf("%v < %v is %v", a, b, got)
			}
			if got, _ := same.Eval(context.Background(), s); got != (want == 0) {
				t.Errorf("%v == %v is %v", a, b, got)
			}
		}
		s := &expression.Scope{Vars: map[string]any{"a": a, "b": math.NaN()}}
		if got, _ := compile(t, `a < b || a > b || a == b`).Eval(context.Background(), s); got != false {
			t.Errorf("%v is ordered with NaN", a)
		}
	}
}

// Integer arithmetic gives the exact result or fails.
func TestIntegerArithmeticNeverWraps(t *testing.T) {
	values := []int64{0, 1, -1, 2, -2, 3, 1 << 31, 1 << 32, -(1 << 32), 1 << 62, -(1 << 62), math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1}
	for op, exact := range map[string]func(z, x, y *big.Int) *big.Int{"+": (*big.Int).Add, "-": (*big.Int).Sub, "*": (*big.Int).Mul} {
		p := compile(t, "a "+op+" b")
		for _, a := range values {
			for _, b := range values {
				want := exact(new(big.Int), big.NewInt(a), big.NewInt(b))
				got, err := p.Eval(context.Background(), &expression.Scope{Vars: map[string]any{"a": a, "b": b}})
				if want.IsInt64() && got != any(want.Int64()) || !want.IsInt64() && err == nil {
					t.Errorf("%d %s %d is %v, %v", a, op, b, got, err)
				}
			}
		}
	}
}

func TestScopeValues(t *testing.T) {
	vars := map[string]any{
		"u": uint64(math.MaxUint64), "i16": int16(-3), "f32": float32(1.5), "n": json.Number("12"), "nf": json.Number("1.5"),
		"nb": json.Number("92233720368547758070"), "ints": []int{1, 2}, "maps": []map[string]any{{"a": 1}}, "labels": []map[string]string{{"a": "x"}},
		"m": map[string]any{"1": "one", "true": "yes", "1.5": "f"},
	}
	for src, want := range map[string]any{
		`u`: event.Integer("18446744073709551615"), `u < 18446744073709551616.0`: true, `i16 + 1`: int64(-2), `f32`: 1.5, `n + 1`: int64(13), `nf`: 1.5,
		`nb`: event.Integer("92233720368547758070"), `sum(ints)`: int64(3), `maps[0].a`: int64(1), `any(labels, .a == "x")`: true,
		`m[1]`: "one", `m[1 == 1]`: "yes", `m[1.5]`: "f", `1 in m`: true, `[1, 2, 3][1.0]`: int64(2), `"abc"[1]`: int64('b'),
		`[1, 2][now().Weekday()]`: int64(2), `int("9223372036854775808") == 9223372036854775808.0`: true, `-u`: event.Integer("-18446744073709551615"),
		`abs(duration("1s") - duration("3s")) == duration("2s")`: true, `now().Month().String()`: "November", `duration("1s") * 1.5 == duration("1500ms")`: true,
		`sum([duration("1s"), duration("2s")]) == duration("3s")`: true, `sort([2, 1], "asc")[0]`: int64(1), `float(u) > 1e19`: true, `ceil(u) == u`: true,
	} {
		if got := evalWith(t, src, vars); got != want {
			t.Errorf("%s is %#v, want %#v", src, got, want)
		}
	}
}

// What texts and toJSON write is read back as the same value.
func TestJSONIsReadBack(t *testing.T) {
	in := map[string]any{
		"text": "a\"\\\n\r\t\x00\x1f<&>\u2028é\U0001f600", "bad": "a\xffb", "int": int64(math.MinInt64), "float": 1e-7, "big": event.Integer("12345678901234567890123"),
		"list": []any{nil, true, "x", []any{}, map[string]any{}}, "names": []string{"a"}, "labels": map[string]string{"k": "v"},
	}
	for _, src := range []string{`toJSON(v)`, `string(v)`} {
		text := evalWith(t, src, map[string]any{"v": in}).(string)
		out, err := event.Decode([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v in %s", src, err, text)
		}
		want := map[string]any{"v": in, "w": out}
		in["bad"] = "a\ufffdb"
		if same := evalWith(t, `v == w`, want); same != true {
			t.Errorf("%s became %v", src, out)
		}
		in["bad"] = "a\xffb"
	}
}

func TestSource(t *testing.T) {
	if got := compile(t, ` ${{ a == 1 }} `).Source(); got != "a == 1" {
		t.Errorf("source is %q", got)
	}
}
