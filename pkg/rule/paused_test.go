package rule_test

import (
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/rule"
)

func TestAFileBesideTheRulesPausesThem(t *testing.T) {
	rules := rule.File{Path: "dir/r.yaml", Within: "r.yaml", Data: []byte("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: one}\nspec: {trigger: {type: x}, steps: [{uses: do}]}\n---\n" +
		"apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: two}\nspec: {trigger: {type: x}, steps: [{uses: do}]}\n")}
	for name, tc := range map[string]struct {
		path, within, text string
		one, two           string // what pauses them
		problem            string
	}{
		"all":            {"dir/PAUSED", "PAUSED", "# the cluster is\n#being moved\n", "all rules are paused by the file dir/PAUSED: the cluster is being moved", "all rules are paused by the file dir/PAUSED: the cluster is being moved", ""},
		"empty":          {"PAUSED", "", "", "all rules are paused by the file PAUSED", "all rules are paused by the file PAUSED", ""},
		"one":            {"PAUSED", "", "\n  two  \r\n", "", "rule two is paused by the file PAUSED", ""},
		"a misspelt one": {"dir/PAUSED", "PAUSED", "# why\ntow\n", "", "", "dir/PAUSED:2:1: no rule is called tow"},
		"no text":        {"PAUSED", "", "# \xff\xfe" + strings.Repeat("x", 1000), "all", "all", ""},
		"further below":  {"dir/sub/PAUSED", "sub/PAUSED", "kind: [", "", "", "dir/sub/PAUSED"}, // it is read as any other file
	} {
		set, err := rule.Load([]rule.File{rules, {Path: tc.path, Within: tc.within, Data: []byte(tc.text)}}, options())
		if (err != nil) != (tc.problem != "") || err != nil && !strings.Contains(err.Error(), tc.problem) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		for rl, want := range map[string]string{"one": tc.one, "two": tc.two} {
			got := ""
			if p := set.Rule(rl).Paused; p != nil {
				got = p.String()
			}
			if (got == "") != (want == "") || !strings.HasPrefix(got, want) {
				t.Errorf("%s: rule %s: %q", name, rl, got)
			}
		}
		if len(set.Documents()) != 2 {
			t.Errorf("%s: %d documents", name, len(set.Documents()))
		}
	}
}
