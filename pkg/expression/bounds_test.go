package expression_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/expression"
)

func numbers(n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func TestDeadlineHoldsInsidePredicates(t *testing.T) {
	s := &expression.Scope{Vars: map[string]any{"xs": numbers(800)}}
	s.Limits = expression.Limits{Nodes: 1 << 40, Memory: 1 << 40, Time: time.Nanosecond}
	for _, src := range []string{
		`all(xs, let a = #; all(xs, let b = #; all(xs, a + b + # >= 0)))`,
		`count(xs, any(xs, any(xs, # < 0))) == 0`,
		`sum(map(xs, sum(map(xs, sum(xs)))))`,
		`len(reduce(xs, #acc + "x", "")) > reduce(xs, count(xs, # > 1), 0)`,
		`uniq(1..100000)`,
		`sort(reverse(1..100000))`,
		`sortBy(1..100000, -#)`,
		`reduce(1..30, [#acc, #acc], 0) == reduce(1..30, [#acc, #acc], 0)`,
		`flatten(reduce(1..30, [#acc, #acc], 0))`,
		`toJSON(reduce(1..30, [#acc, #acc], 0))`,
		`reduce(1..30, [#acc, #acc], 0)`,
		`max(reduce(1..30, [#acc, #acc], 0))`,
		`repeat("a", 200000) matches "(a|b|ab)*c"`,
		`any(xs, repeat("ab", 2000) matches ("(a|b){1," + string(# + 1) + "}$x"))`,
	} {
		t.Run(src, func(t *testing.T) {
			_, err := compile(t, src).Eval(context.Background(), s)
			if !errors.Is(err, expression.ErrDeadline) {
				t.Errorf("error is %v", err)
			}
			var e *expression.EvalError
			if !errors.As(err, &e) {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

func TestNodesAreBounded(t *testing.T) {
	s := &expression.Scope{Vars: map[string]any{"xs": numbers(800)}, Limits: expression.Limits{Time: time.Hour}}
	for _, src := range []string{
		`all(xs, all(xs, all(xs, # >= 0)))`,
		`reduce(1..30, [#acc, #acc], 0) == reduce(1..30, [#acc, #acc], 0)`,
		`reduce(1..40, [#acc, #acc], 0)`,
		`max(reduce(1..40, [#acc, #acc], 0))`,
		`uniq(1..10000)`,
		`1 < (1 < ` + strings.Repeat("(1 < ", 60) + "2" + strings.Repeat(" < 3 ? 2 : 2)", 60) + " < 3 ? 2 : 2) < 3",
	} {
		t.Run(src, func(t *testing.T) {
			p := compile(t, src)
			if _, err := p.Eval(context.Background(), s); !errors.Is(err, expression.ErrBudget) {
				t.Errorf("error is %v", err)
			}
			if truth := p.Test(context.Background(), s); truth != expression.Absent {
				t.Errorf("truth is %v", truth)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := &expression.Scope{Vars: map[string]any{"xs": numbers(800), "s": strings.Repeat("x", 1<<20)}}
	s.Limits.Time = time.Hour
	for _, src := range []string{
		`reduce(1..64, #acc + #acc, "ab")`,
		`reduce(xs, #acc + #acc, "a")`,
		`1..1e9`,
		`1..1000000000000`,
		`-9007199254740991..9007199254740991`,
		`(-9223372036854775807 - 1)..9223372036854775807`,
		`0..9223372036854775807`,
		`repeat("ab", 1000000000)`,
		`repeat(s, 9007199254740991)`,
		`repeat(s, 17)`,
		`replace(s, "x", s)`,
		`replace(s, "", "` + strings.Repeat("y", 100) + `")`,
		`join(map(1..100, s))`,
		`join(map(1..100, s), s)`,
		`split(s, "") | map(split(s, ""))`,
		`splitAfter(s, "x")`,
		`map(1..2000, 1..2000)`,
		`filter(1..900000, true) | concat(1..900000)`,
		`reduce(1..64, concat(#acc, #acc), [1])`,
		`reduce(1..64, {{a: #acc, b: map(1..60000, 1)}}, 1)`,
		`flatten(map(1..1000, 1..1000))`,
		`toJSON(map(1..20, s))`,
		`map(1..20, toBase64(s))`,
		`map(1..20, upper(s))`,
		`groupBy(1..900000, #)`,
		`sortBy(1..900000, #)`,
		`fromJSON("[" + s + "]")`,
		`median(map(1..900000, 1))`,
		`string(map(1..20, s))`,
		`keys(fromPairs(map(1..300000, [string(#), #])))`,
	} {
		t.Run(src, func(t *testing.T) {
			if _, err := compile(t, src).Eval(context.Background(), s); !errors.Is(err, expression.ErrBudget) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestLongTextIsNotMatched(t *testing.T) {
	s := &expression.Scope{Vars: map[string]any{"s": strings.Repeat("x", 300<<10)}}
	_, err := compile(t, `s matches "y$"`).Eval(context.Background(), s)
	if err == nil || !strings.Contains(err.Error(), "too long to be matched") {
		t.Errorf("error is %v", err)
	}
	s.Vars["s"] = strings.Repeat("x", 200<<10) + "y"
	s.Limits.Time = time.Hour
	if got := compile(t, `s matches "^x*y$" && not (s matches "^[a-w]")`).Test(context.Background(), s); got != expression.True {
		t.Errorf("long text is %v", got)
	}
}

func TestCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := compile(t, `all(1..1000, # > 0)`).Eval(ctx, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestSourceIsBounded(t *testing.T) {
	nest := func(n int, open, middle, end string) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	for name, src := range map[string]string{
		"long":        strings.Repeat(" ", 17<<10) + "1" + strings.Repeat(" ", 17<<10) + "+" + strings.Repeat(" 1 +", 5000) + "1",
		"parentheses": nest(5000, "(", "1", ")"),
		"lists":       nest(5000, "[", "1", "]"),
		"maps":        nest(2000, "{a:", "1", "}"),
		"nots":        strings.Repeat("!", 5000) + "true",
		"minus":       strings.Repeat("-", 5000) + "1",
		"words":       strings.Repeat("not ", 4000) + "true",
		"powers":      strings.Repeat("2**", 5000) + "1",
		"ternaries":   strings.Repeat("true ? 1 : ", 1200) + "1",
		"elvis":       nest(300, "(", "true", " ?: true)"),
		"lets":        strings.Repeat("let a = 1;", 1000) + "1",
		"calls":       nest(2000, "len(", "1", ")"),
		"predicates":  nest(1000, "any([1], ", "true", ")"),
		"conditions":  strings.Repeat("if true {1} else ", 900) + "{2}",
		"unclosed":    strings.Repeat("(", 16000),
		"closed":      strings.Repeat(")", 16000),
		"indexes":     nest(2000, "a[", "1", "]"),
	} {
		t.Run(name, func(t *testing.T) {
			var e *expression.CompileError
			if _, err := expression.Compile(src, nil); !errors.As(err, &e) {
				t.Errorf("error is %v", err)
			}
		})
	}
	for name, src := range map[string]string{
		"long or":    strings.Repeat(`a == 1 || `, 1500) + "true",
		"long sum":   strings.Repeat(`1 + `, 4000) + "1",
		"members":    "a" + strings.Repeat(".b", 4000) + " == nil",
		"comparison": strings.Repeat("1 < ", 150) + "2",
		"shared":     nest(90, "(", "true", " ?: true)"),
		"shared too": nest(60, "(1 < ", "2", " < 3 ? 2 : 2)"),
		"fine":       nest(90, "(", "1", ")"),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := expression.Compile(src, nil)
			if err != nil {
				t.Fatal(err)
			}
			p.Explain(context.Background(), nil)
		})
	}
}

func TestPatternsAreBounded(t *testing.T) {
	for _, pattern := range []string{`(`, `a{1001}`, `(a{500}){500}`, `(\pL{1,100}){10}`, strings.Repeat("a", 3000), `a**`, `(?=x)`, `\1`} {
		var e *expression.CompileError
		if _, err := expression.Compile(fmt.Sprintf("x matches `%s`", pattern), nil); !errors.As(err, &e) {
			t.Errorf("%.20s: error is %v", pattern, err)
		}
	}
}

// Explaining evaluates everything, but not for longer than ten evaluations may take.
func TestExplainIsBounded(t *testing.T) {
	huge := `any(1..900, any(1..900, any(1..900, # < 0)))`
	s := &expression.Scope{Limits: expression.Limits{Nodes: 1 << 40, Time: time.Microsecond}}
	truth, clauses := compile(t, "false"+strings.Repeat(" && "+huge, 100)).Explain(context.Background(), s)
	if truth != expression.False || len(clauses) != 101 {
		t.Fatalf("%v, %d clauses", truth, len(clauses))
	}
	for _, c := range clauses[1:] {
		if !errors.Is(c.Err, expression.ErrDeadline) {
			t.Fatalf("error is %v", c.Err)
		}
	}
}
