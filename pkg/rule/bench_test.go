package rule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/rule"
)

func BenchmarkLoad(b *testing.B) {
	files := []rule.File{{Path: "source.yaml", Data: []byte(githubDoc)}}
	const rules = 5000
	for f := range rules / 100 {
		var text strings.Builder
		for i := range 100 {
			n := f*100 + i
			fmt.Fprintf(&text, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata:\n  name: rule-%d\n  labels: {team: team-%d}\nspec:\n", n, n%20)
			fmt.Fprintf(&text, "  trigger: {source: github, type: push}\n  when: 'event.type == \"push\" && event.data.ref == \"main\" && event.data.repository.full_name == \"acme/s-%d\" && event.data.pusher.name == \"u%d\"'\n", n, n%50)
			text.WriteString("  steps:\n    - uses: do\n      with: {any: \"${{ event.data.repository.full_name }} was pushed\"}\n")
		}
		files = append(files, rule.File{Path: fmt.Sprintf("rules-%d.yaml", f), Data: []byte(text.String())})
	}
	b.ReportAllocs()
	for b.Loop() {
		set, err := rule.Load(files, options())
		if err != nil || len(set.Rules) != rules {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/rules, "µs/rule")
}

// BenchmarkJoins asks rules that correlate, one of which the event takes part in.
func BenchmarkJoins(b *testing.B) {
	for _, rules := range []int{100, 10_000} {
		b.Run(fmt.Sprint(rules), func(b *testing.B) {
			files := []rule.File{{Path: "source.yaml", Data: []byte(githubDoc)}}
			for i := range rules {
				text := fmt.Sprintf("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: rule-%d}\nspec:\n  trigger: {source: github, type: push}\n", i)
				text += fmt.Sprintf("  when: event.data.repository.full_name == \"acme/s-%d\"\n  correlate: {count: 3, within: 1h, by: event.data.pusher.name}\n  steps: [{uses: do}]\n", i)
				files = append(files, rule.File{Path: fmt.Sprintf("r-%d.yaml", i), Data: []byte(text)})
			}
			set, err := rule.Load(files, options())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				e := occurrence("github", "push", `{"repository":{"full_name":"acme/s-7"},"pusher":{"name":"ada"}}`, nil)
				if j := set.Joins(b.Context(), e, e.ReceivedAt); len(j.List) != 1 || len(j.List[0].Matches) != 1 {
					b.Fatal(j)
				}
			}
		})
	}
}

// BenchmarkReload loads rules of which one has changed.
func BenchmarkReload(b *testing.B) {
	const rules = 10_000
	var sets [2]*rule.Set
	var files [2][]rule.File
	for v := range files {
		files[v] = []rule.File{{Path: "source.yaml", Data: []byte(githubDoc)}}
		for f := range rules / 100 {
			var text strings.Builder
			for i := range 100 {
				n := f*100 + i
				when := fmt.Sprintf(`event.data.repository.full_name == "acme/s-%d"`, n)
				if n == 4711 {
					when += fmt.Sprintf(" && event.data.n == %d", v)
				}
				fmt.Fprintf(&text, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: rule-%d}\nspec:\n", n)
				fmt.Fprintf(&text, "  trigger: {source: github, type: push}\n  when: '%s && event.data.ref == \"main\" && event.data.pusher.name == \"u%d\"'\n", when, n%50)
				text.WriteString("  steps:\n    - uses: do\n      with: {any: \"${{ event.data.repository.full_name }} was pushed\"}\n")
			}
			files[v] = append(files[v], rule.File{Path: fmt.Sprintf("rules-%d.yaml", f), Data: []byte(text.String())})
		}
	}
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("before=%t", again), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				o := options()
				if again {
					o.Before = sets[(i+1)%2]
				}
				var err error
				if sets[i%2], err = rule.Load(files[i%2], o); err != nil || len(sets[i%2].Rules) != rules {
					b.Fatal(err)
				}
			}
		})
	}
}
