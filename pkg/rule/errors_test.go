package rule_test

import (
	"strings"
	"testing"
)

// TestOneErrorHidesNoOther proves that all that is wrong is told at once, and nothing that only follows from it.
func TestOneErrorHidesNoOther(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		want      []string // the beginnings of what is told, in order
	}{
		{"a duration", ruleDoc(`  trigger: {source: githb}
  when: event.git.brnch == "main"
  steps:
    - {uses: do, timeout: 5 minutes, with: {n: many, to: onkall}}
    - {uses: doo}
  onFailure:
    - {uses: do, retry: {attempts: some}, if: evnt}
`), []string{
			`steps[0].timeout: "5 minutes" is no duration`, `onFailure[0].retry.attempts must be a whole number`,
			`trigger: there is no Source "githb"`, "when: unknown field brnch", "do: n must be a whole number", `there is no action "doo"`, "if: unknown name evnt",
		}},
		{"steps that are no list", ruleDoc("  trigger: {source: githb}\n  steps: all\n"), []string{"steps must be a list", `trigger: there is no Source "githb"`}},
		{"steps that are no maps", ruleDoc("  trigger: {source: githb}\n  steps: [do, {uses: doo}]\n"), []string{
			"steps[0] must be a map", `trigger: there is no Source "githb"`, `there is no action "doo"`,
		}},
		{"a step without an action", ruleDoc("  trigger: {source: github}\n  steps: [{with: {n: 1}}, {uses: 3}, {uses: \"\"}]\n"), []string{
			"steps[0].uses is missing", "steps[1].uses must be a text", `there is no action ""`,
		}},
		{"no attempts", ruleDoc("  trigger: {source: github}\n  steps: [{uses: do, retry: {backoff: 1s}}, {uses: do, retry: {attempts: 101}}]\n"), []string{
			"steps[0].retry.attempts is missing", "retry.attempts is 101",
		}},
		{"a label", strings.Replace(ruleDoc("  trigger: {source: githb}\n  steps: [{uses: do}]\n"), "{name: r}", "{name: r, labels: {n: 1}}", 1), []string{
			"metadata.labels.n must be a text", `trigger: there is no Source "githb"`,
		}},
		{"a name", strings.Replace(ruleDoc("  trigger: {source: githb}\n  steps: [{uses: do}]\n"), "{name: r}", "{name: R}", 1), []string{
			`name "R" is not lower-case`, `trigger: there is no Source "githb"`,
		}},
		{"a tag", ruleDoc("  trigger: {source: githb}\n  when: !event.git.forced\n  steps: [{uses: doo}]\n") + "---\n" + strings.TrimPrefix(ruleDoc("  trigger: {source: nowhere}\n  steps: !list [{uses: do, timeout: !x 5s}]\n"), githubDoc), []string{
			"YAML tag !event.git.forced", "YAML tag !list", "YAML tag !x", "Rule r is there already", `trigger: there is no Source "githb"`, `there is no action "doo"`,
		}},
		{"a source's fields", githubDoc + "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: other}\nspec: {type: github, rate: 3, secretss: []}\n", []string{
			"rate must be a map", "unknown field secretss", "secrets is missing",
		}},
		{"a target's fields", githubDoc + "apiVersion: riposte.dev/v1\nkind: Target\nmetadata: {name: other}\nspec: {type: log, rate: 3, fallback: nobody}\n", []string{
			"rate must be a map", `fallback: there is no Target "nobody"`,
		}},
		{"correlate that is no map", ruleDoc("  trigger: {source: githb}\n  correlate: 3\n  steps: [{uses: do}]\n"), []string{"correlate must be a map", `trigger: there is no Source "githb"`}},
		{"a window", ruleDoc("  trigger: {source: githb}\n  correlate: {count: 3, within: soon, by: evnt}\n  steps: [{uses: do}]\n"), []string{
			`correlate.within: "soon" is no duration`, `trigger: there is no Source "githb"`, "by: unknown name evnt",
		}},
		{"parts", ruleDoc("  correlate:\n    within: 1h\n    sequence: [{as: a, when: evnt}, {trigger: {source: githb}}, !x y, 3]\n  steps: [{uses: do, with: {any: \"${{ correlated.a.git.brnch }}\"}}]\n"), []string{
			"correlate.sequence[0].trigger is missing", "correlate.sequence[1].as is missing", "YAML tag !x", "correlate.sequence[3] must be a map",
			"when: unknown name evnt", `trigger: there is no Source "githb"`, "with.any: unknown field brnch",
		}},
		{"a step's template", ruleDoc("  trigger: {source: github}\n  steps: [{uses: do, with: {any: \"a ${{ event.git.brnch }}\"}}]\n"), []string{"with.any: unknown field brnch"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := load(t, tc.doc)
			var got []string
			for _, p := range problems {
				got = append(got, p.Msg)
			}
			for _, want := range tc.want {
				found := false
				for i, msg := range got {
					if strings.HasPrefix(msg, want) {
						got, found = append(got[:i], got[i+1:]...), true
						break
					}
				}
				if !found {
					t.Errorf("%q is not told", want)
				}
			}
			if len(got) > 0 {
				t.Errorf("told besides: %q", got)
			}
		})
	}
}

func TestAnExpressionInQuotesIsPlacedInsideThem(t *testing.T) {
	_, problems := load(t, ruleDoc("  trigger: {source: github}\n  when: \"event.git.brnch == 'a'\"\n  steps: [{uses: do}]\n"))
	if len(problems) != 1 || problems[0].Column != 20 {
		t.Errorf("got %+v", problems)
	}
}
