package rule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
)

func changedRule(name, spec string) string {
	return "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: " + name + "}\nspec:\n  trigger: {source: github, type: push}\n" + spec
}

func loadText(t testing.TB, text string) *rule.Set {
	t.Helper()
	set, err := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(githubDoc + text)}}, options())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestADiffIsAskedForOnlyWhereItDecides has a rule alone with an event that lists one of its paths.
func TestADiffIsAskedForOnlyWhereItDecides(t *testing.T) {
	const do = "  steps: [{uses: do}]\n"
	for _, tt := range []struct {
		when  string
		steps string
		needs bool
	}{
		{when: `changed("docs/**")`, needs: true},
		{when: `not changed("docs/**")`, needs: true},
		{when: `event.git.branch == "main" && changed("docs/**")`, needs: true},
		{when: `changed("src/**")`},                                  // listed
		{when: `not changed("src/**")`},                              // listed
		{when: `event.git.branch == "x" && changed("docs/**")`},      // another branch
		{when: `event.git.branch == "main" || changed("docs/**")`},   // true already
		{when: `event.data.typo == "x" && changed("docs/**")`},       // absent whatever was changed
		{when: `event.git.branch startsWith "ma" && changed("a/[")`}, // no glob
		{when: `event.git.branch == "main"`},
		{when: `event.git.branch == "main"`, steps: "  steps: [{uses: do, if: 'changed(\"docs/**\")'}]\n", needs: true},
		{when: `event.git.branch == "main"`, steps: "  steps: [{uses: do, with: {any: '${{ changed(\"docs/**\") }}'}}]\n", needs: true},
		{when: `event.git.branch == "x"`, steps: "  steps: [{uses: do, if: 'changed(\"docs/**\")'}]\n"},
	} {
		if tt.steps == "" {
			tt.steps = do
		}
		set := loadText(t, changedRule("r", "  when: '"+tt.when+"'\n"+tt.steps))
		e := &event.Event{ID: "1", Source: "github", Type: "push", Body: []byte("{}"), Git: &event.Git{Branch: "main", Paths: []string{"src/a.go"}}}
		if got := set.NeedsDiff(t.Context(), e, time.Unix(0, 0)); got != tt.needs {
			t.Errorf("%s: needs a diff is %t", tt.when, got)
		}
		e.Git.PathsComplete = true
		if set.NeedsDiff(t.Context(), e, time.Unix(0, 0)) {
			t.Errorf("%s: needs a diff although all paths are listed", tt.when)
		}
	}
}

// monorepo is a set of rules, each for one directory.
func monorepo(t testing.TB, rules int) *rule.Set {
	var text strings.Builder
	for i := range rules {
		text.WriteString(changedRule(fmt.Sprintf("r%d", i), fmt.Sprintf("  when: 'event.git.branch == \"main\" && changed(\"services/s%d/**\")'\n  steps: [{uses: do}]\n", i)))
	}
	return loadText(t, text.String())
}

func monorepoPush() *event.Event {
	return &event.Event{ID: "1", Source: "github", Type: "push", Body: []byte("{}"), Git: &event.Git{Branch: "main", Paths: []string{"services/s3/a.go"}}}
}

func TestAPushToAMonorepoReachesTheRulesItTouches(t *testing.T) {
	set, e := monorepo(t, 2000), monorepoPush()
	if !set.NeedsDiff(t.Context(), e, time.Unix(0, 0)) {
		t.Fatal("no diff is asked for")
	}
	m := set.MatchPaths(t.Context(), e, e.FoundPaths([]string{"README.md", "services/s7/x/y.go", "services/s1999/z"}), time.Unix(0, 0))
	var got []string
	for _, v := range m.Verdicts {
		got = append(got, v.Rule.Name+" "+v.Truth.String())
	}
	if fmt.Sprint(got) != "[r3 true r7 true r1999 true]" || m.Triggered != 2000 {
		t.Errorf("%v of %d", got, m.Triggered)
	}
}

func BenchmarkMonorepo(b *testing.B) {
	for _, rules := range []int{20, 2000} {
		set, e := monorepo(b, rules), monorepoPush()
		found := e.FoundPaths([]string{"README.md", "services/s7/x/y.go", "services/s19/z"})
		b.Run(fmt.Sprintf("ask/rules=%d", rules), func(b *testing.B) {
			for b.Loop() {
				if !set.NeedsDiff(b.Context(), e, time.Unix(0, 0)) {
					b.Fatal("no diff is asked for")
				}
			}
		})
		b.Run(fmt.Sprintf("match/rules=%d", rules), func(b *testing.B) {
			for b.Loop() {
				if m := set.MatchPaths(b.Context(), e, found, time.Unix(0, 0)); len(m.Verdicts) != 3 {
					b.Fatal(m.Verdicts)
				}
			}
		})
	}
}
