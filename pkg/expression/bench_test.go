package expression_test

import (
	"context"
	"testing"

	"github.com/riposte-dev/riposte/pkg/expression"
)

func BenchmarkTest(b *testing.B) {
	s := scope()
	for name, src := range map[string]string{
		"two clauses": `event.git.branch == "main" && event.type == "push"`,
		"absent":      `event.data.missing.deeper == "main"`,
		"any of 2":    `any(event.data.items, .id == 2)`,
		"matches":     `event.git.branch matches "^(main|release/.*)$"`,
		"all of 800":  `all(event.data.many, # >= 0)`,
	} {
		b.Run(name, func(b *testing.B) {
			s.Vars["event"].(object)["data"].(map[string]any)["many"] = numbers(800)
			p := compile(b, src)
			b.ReportAllocs()
			for b.Loop() {
				p.Test(context.Background(), s)
			}
		})
	}
}

func BenchmarkTemplate(b *testing.B) {
	tpl, err := expression.CompileText(`${{ event.alert.name }} in ${{ event.alert.labels.namespace }}`, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := scope()
	b.ReportAllocs()
	for b.Loop() {
		tpl.Render(context.Background(), s)
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compile(b, `event.git.branch == "main" && event.type == "push"`)
	}
}
