package expression_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/expr-lang/expr"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// parity are expressions whose value must be what expr-lang's own machine makes of them.
var parity = []string{
	// literals
	`1`, `-1`, `+1`, `1_000`, `0x1f`, `0b101`, `0o17`, `1.5`, `.5`, `1e3`, `true`, `false`, `nil`, `"a"`, `'a'`, "`a\\b`", `"a\n\u00e9"`,
	`[]`, `[1, "a", nil, true]`, `[1, 2, 3,]`, `{}`, `{a: 1, "b": 2, (s + "c"): 3}`, `[[1], [2, [3]]]`, `b"ab" == b"ab"`,
	// arithmetic
	`1 + 2`, `1 - 2`, `2 * 3`, `7 / 2`, `6 / 2`, `7 % 3`, `-7 % 3`, `2 ** 3`, `2 ^ 10`, `2 ** -1`, `1 + 2 * 3`, `(1 + 2) * 3`, `-2 ** 2`,
	`1 + 1.5`, `2.5 * 2`, `1.0 / 4`, `i + 1`, `f - 1`, `i * f`, `-i`, `-f`, `i8 + u8`, `"a" + "b"`, `s + "x" + s`,
	// comparison
	`1 == 1`, `1 == 1.0`, `1 != 2`, `1 == "1"`, `"a" == 'a'`, `true == false`, `nil == nil`, `s == nil`, `nil != s`, `null == nil`,
	`1 < 2`, `2 <= 2`, `3 > 2`, `2 >= 3`, `1 < 1.5`, `"a" < "b"`, `"b" <= "a"`, `1 < 2 < 3`, `3 > 2 > 2`, `1 <= i <= 100`,
	`[1, 2] == [1, 2]`, `[1, 2] == [2, 1]`, `{a: 1} == {a: 1}`, `{a: 1} == {a: 2}`, `xs == [1, 2, 3, 4]`, `i == f`, `i8 == 3`, `u8 > i8`,
	// logic
	`true && false`, `true and true`, `false || true`, `false or false`, `not true`, `!false`, `!(1 == 2)`, `true && (false || true)`,
	`1 == 1 && 2 == 2 && 3 == 3`, `false || false || true`, `not (true and false) or false`, `!!true`,
	// conditionals
	`true ? 1 : 2`, `false ? 1 : 2`, `i > 1 ? "big" : "small"`, `false ? 1 : true ? 2 : 3`, `if i > 1 { "a" } else { "b" }`,
	`if false { 1 } else if true { 2 } else { 3 }`, `null ?? 1`, `1 ?? 2`, `null ?? null ?? 3`, `(null ?? 1) + 1`, `true ?: false`,
	// variables and pipes
	`let x = 1; x + 1`, `let x = 1; let y = x + 1; x * y`, `let m = {a: 1}; m.a`, `s | upper()`, `s | upper() | len()`, `xs | filter(# > 1) | map(# * 2)`,
	`1; 2`, `let x = xs | sum(); x`, `[1, 2, 3] | take(2)`,
	// members
	`m.a`, `m["a"]`, `m.n.x`, `m["n"]["x"]`, `m.list[0]`, `m.list[-1]`, `xs[0]`, `xs[-1]`, `xs[1]`, `names[0]`, `m.n?.x`, `null?.x`, `null?.x.y`, `m?.n?.x`,
	`m?.["a"]`, `sm.k`, `get(m, "a")`, `get(m, "zz")`, `get(xs, 1)`, `get(xs, 99)`, `get(null, "a")`, `m.list[i - 41]`, `m[s2]`,
	// slices
	`xs[1:3]`, `xs[:2]`, `xs[2:]`, `xs[:]`, `xs[-2:]`, `xs[:-1]`, `xs[3:1]`, `xs[0:100]`, `s[1:3]`, `s[:2]`, `s[-2:]`, `names[1:]`, `s[:]`,
	// text operators
	`s contains "ell"`, `s startsWith "he"`, `s endsWith "lo"`, `s not contains "x"`, `s matches "^h.*o$"`, `s matches "x"`, `s not matches "x"`,
	`s matches ("^" + "h")`, `null contains "a"`, `"a" matches null`, `s startsWith null`,
	// in
	`1 in [1, 2]`, `5 in [1, 2]`, `"a" in ["a", "b"]`, `"a" in m`, `"zz" in m`, `1 not in [1, 2]`, `"b" in names`, `i in xs`, `3 in 1..5`, `1.0 in [1]`, `"k" in sm`, `"a" in null`,
	// ranges
	`1..3`, `3..1`, `1..1`, `-1..1`, `len(1..100)`, `sum(1..10)`, `(1..5)[2]`,
	// predicates
	`all(xs, # > 0)`, `all(xs, # > 1)`, `all([], false)`, `any(xs, # == 3)`, `any([], true)`, `none(xs, # > 9)`, `none(xs, # == 1)`, `one(xs, # == 1)`, `one(xs, # > 1)`,
	`filter(xs, # % 2 == 0)`, `filter(xs, {# > 2})`, `map(xs, # * #)`, `map(xs, #index)`, `map(names, upper(#))`, `count(xs, # > 2)`, `count([true, false, true])`,
	`sum(xs)`, `sum(xs, # * 2)`, `sum([])`, `sum([1.5, 2])`, `find(xs, # > 2)`, `find(xs, # > 9)`, `findIndex(xs, # > 2)`, `findIndex(xs, # > 9)`,
	`findLast(xs, # < 4)`, `findLastIndex(xs, # < 4)`, `groupBy(users, .role)`, `sortBy(users, .age)`, `sortBy(users, .age, "desc")`, `sortBy(users, -.age) | map(.name)`,
	`reduce(xs, #acc + #)`, `reduce(xs, #acc + #, 100)`, `reduce(xs, #acc + #index, 0)`, `reduce(names, #acc + #)`, `reduce([], #acc, 7)`,
	`filter(users, .age > 20)`, `map(users, .name)`, `any(users, .role == "dev" && .age > 30)`, `users | filter(.age > 20) | map(.name) | join(",")`,
	`all(users, any(xs, # > 0))`, `map(users, let u = #; count(xs, # < u.age))`, `map(xs, let y = # * 2; y + 1)`, `all(users, len(.name) > 1)`,
	`filter(users, .name in ["ann", "bob"]) | len()`, `map(1..3, map(1..#, # * 2))`, `map(filter(xs, # > 1), #index)`, `any(users, {.tags contains "x"})`,
	`len(filter(users, .age > 20)) > 1`, `filter(xs, # > 2)[0]`, `first(filter(xs, # > 2))`, `map(users, {{name: .name, old: .age > 30}})`,
	// builtins on texts
	`len(s)`, `len("héé")`, `len(xs)`, `len(m)`, `upper(s)`, `lower("ABC")`, `trim("  a ")`, `trim("__a__", "_")`, `trimPrefix("aab", "a")`, `trimSuffix("baa", "a")`,
	`split("a,b,c", ",")`, `split("a,b,c", ",", 2)`, `split("abc", "")`, `splitAfter("a,b", ",")`, `splitAfter("a,b,c", ",", 2)`, `replace("aaa", "a", "b")`, `replace("aaa", "a", "b", 2)`, `replace("ab", "", "-")`,
	`repeat("ab", 3)`, `repeat("", 5)`, `join(["a", "b"], "-")`, `join(names)`, `join([])`, `indexOf("abc", "c")`, `lastIndexOf("abcabc", "c")`, `hasPrefix(s, "he")`, `hasSuffix(s, "lo")`,
	`toBase64("hello")`, `fromBase64("aGVsbG8=")`, `toJSON({a: [1, "x", nil, true], b: {}})`, `toJSON([])`, `toJSON("q\"")`, `toJSON(1.5)`, `fromJSON("{\"a\": \"b\"}").a`, `fromJSON("[true, null]")`,
	`string(1)`, `string(1.5)`, `string(true)`, `string("a")`, `type(1)`, `type(1.5)`, `type("a")`, `type(nil)`, `type([])`, `type({})`, `type(true)`, `type(now())`, `type(duration("1s"))`,
	// builtins on numbers
	`abs(-1)`, `abs(1.5)`, `abs(-1.5)`, `ceil(1.2)`, `floor(1.8)`, `round(1.5)`, `round(-1.5)`, `int(1.9)`, `int("42")`, `int(-1.9)`, `float(1)`, `float("1.5")`,
	`min(1, 2)`, `max(1, 2, 3)`, `min(xs)`, `max(xs, 9)`, `max([1, [2, [7]]])`, `min([])`, `mean(xs)`, `mean([])`, `mean(1, 2)`, `median(xs)`, `median([3, 1, 2])`, `median([])`, `max(1, 1.5)`,
	`bitand(6, 3)`, `bitor(6, 3)`, `bitxor(6, 3)`, `bitnand(6, 3)`, `bitnot(6)`, `bitshl(1, 4)`, `bitshr(16, 2)`, `bitushr(-1, 60)`,
	// builtins on lists and maps
	`first(xs)`, `last(xs)`, `first([])`, `last([])`, `take(xs, 2)`, `take(xs, 99)`, `keys(sm)`, `values(sm)`, `toPairs(sm)`, `fromPairs([["a", 1]])`, `reverse(xs)`, `uniq([1, 1, "a", "a", nil])`, `uniq(xs)`,
	`concat([1], [2, 3])`, `concat(xs)`, `concat(names, ["z"])`, `flatten([1, [2, [3, []]]])`, `sort([3, 1, 2])`, `sort([3, 1, 2], "desc")`, `sort(names)`, `sort([1.5, 1])`,
	// times
	`duration("1h30m")`, `duration("1h") > duration("59m")`, `duration("1h") == duration("60m")`, `date("2023-08-14")`, `date("2023-08-14T10:00:00Z")`, `date("14/08/2023", "02/01/2006")`,
	`date("2023-08-14") < date("2023-08-15")`, `date("2023-08-15") - date("2023-08-14")`, `date("2023-08-14") + duration("24h") == date("2023-08-15")`, `date("2023-08-15") - duration("24h")`,
	`(date("2023-08-15") - date("2023-08-14")).Hours()`, `date("2023-08-14").Year()`, `date("2023-08-14").Day()`, `date("2023-08-14").Weekday().String()`, `date("2023-08-14").Format("02.01.")`,
	`duration("90s").Minutes()`, `duration("90s").String()`, `now() - duration("1h") < now()`, `date("2023-08-14 00:00:00", "2006-01-02 15:04:05", "Europe/Zurich").Unix()`, `duration("1h") + duration("1m")`,
	// comments
	"1 + /* one */ 1", "1 + 1 // two",
}

func parityEnv() map[string]any {
	return map[string]any{
		"i": 42, "f": 1.5, "i8": int8(3), "u8": uint8(200), "s": "hello", "s2": "a", "null": nil,
		"xs":    []any{1, 2, 3, 4},
		"names": []string{"a", "b", "c"},
		"m":     map[string]any{"a": 1, "n": map[string]any{"x": 2}, "list": []any{"p", "q"}},
		"sm":    map[string]string{"k": "v"},
		"users": []any{
			map[string]any{"name": "ann", "age": 31, "role": "dev", "tags": "x"},
			map[string]any{"name": "bob", "age": 17, "role": "ops", "tags": "y"},
			map[string]any{"name": "cid", "age": 45, "role": "dev", "tags": ""},
		},
	}
}

func TestSameAsExpr(t *testing.T) {
	env := parityEnv()
	for _, src := range parity {
		t.Run(src, func(t *testing.T) {
			want, err := expr.Eval(src, env)
			if err != nil {
				t.Fatalf("expr itself: %v", err)
			}
			p, err := expression.Compile(src, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Eval(context.Background(), &expression.Scope{Vars: env, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(plain(got), plain(want)) {
				t.Errorf("got %#v, expr says %#v", plain(got), plain(want))
			}
		})
	}
}

// plain brings the integer and list types of both engines together.
func plain(v any) any {
	r := reflect.ValueOf(v)
	switch v := v.(type) {
	case nil, string, bool, float64, time.Duration:
		return v
	case time.Time:
		return v.UTC().String()
	}
	switch r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int64(r.Uint())
	case reflect.Slice, reflect.Array:
		out := make([]any, r.Len())
		for i := range out {
			out[i] = plain(r.Index(i).Interface())
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range r.MapKeys() {
			out[fmt.Sprint(k.Interface())] = plain(r.MapIndex(k).Interface())
		}
		return out
	}
	return v
}
