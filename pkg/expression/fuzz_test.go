package expression_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// FuzzCompile compiles and evaluates any text: no panic, no failure of our own making, and Explain agrees with Test.
func FuzzCompile(f *testing.F) {
	for _, src := range parity {
		f.Add(src)
	}
	for _, src := range []string{
		`event.type == "push" && event.git.branch == "main"`, `any(event.data.items, .name == "one" || .id == event.data.n)`,
		`not (event.data.missing == 1 or changed("a/**"))`, `reduce(1..30, [#acc, #acc], 0)`, `let b = event.data; b.list[7]?.x ?? b`,
		`${{ event.data[event.type] }}`, `${{ {"a": "}}"} }} && true`, `a ?: b ?: c`, `1 < 2 < 3`, `now().Weekday().String()`, `$${{ x }} ${{ event }}`,
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		s := scope()
		for k, v := range parityEnv() {
			s.Vars[k] = v
		}
		s.Limits = expression.Limits{Nodes: 20_000, Memory: 1 << 16, Time: time.Minute}
		if tpl, err := expression.CompileText(src, nil); err == nil {
			tpl.Render(context.Background(), s)
		}
		p, err := expression.Compile(src, nil)
		if err != nil {
			var e *expression.CompileError
			if !errors.As(err, &e) {
				t.Fatalf("error is a %T: %v", err, err)
			}
			e.Snippet()
			if strings.Contains(e.Msg, "can't be read") {
				t.Fatalf("the parser panics")
			}
			return
		}
		v, err := p.Eval(context.Background(), s)
		if err != nil && strings.Contains(err.Error(), "internal error") {
			t.Fatal(err)
		}
		if text, ok := v.(string); ok && len(text) > 1<<17 {
			t.Fatalf("made %d bytes", len(text))
		}
		truth := p.Test(context.Background(), s)
		if b, ok := v.(bool); ok && b != (truth == expression.True) {
			t.Fatalf("Eval is %v, Test %v", v, truth)
		}
		if explained, _ := p.Explain(context.Background(), s); explained != truth {
			t.Fatalf("Explain is %v, Test %v", explained, truth)
		}
		p.Conjuncts()
	})
}

func TestConcurrentUse(t *testing.T) {
	p := compile(t, `any(event.data.items, let o = #; o.id == event.data.n - 1) && event.git.branch matches "^m"`)
	tpl, err := expression.CompileText(`${{ event.type }} ${{ event.data.items }}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := scope()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if p.Test(context.Background(), s) != expression.True {
					t.Error("not true")
				}
				p.Explain(context.Background(), s)
				tpl.Render(context.Background(), s)
			}
		})
	}
	wg.Wait()
}
