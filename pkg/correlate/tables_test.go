package correlate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

// body is an event of a table.
type body map[string]any

// at returns the value at a dotted path, or nil.
func (b body) at(path string) any {
	var v any = map[string]any(b)
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// part is the condition of a part, and its key: the texts of what stands at the paths.
type part struct {
	when func(body) bool
	by   []string
}

func (p part) match(b body) (key string, ok bool) {
	if p.when != nil && !p.when(b) {
		return "", false
	}
	for _, path := range p.by {
		v := b.at(path)
		if v == nil {
			return "", false
		}
		key += fmt.Sprintf("%v\n", v)
	}
	return key, true
}

func is(path string, want any) func(body) bool {
	return func(b body) bool { return b.at(path) != nil && fmt.Sprint(b.at(path)) == fmt.Sprint(want) }
}

func defined(path string) func(body) bool { return func(b body) bool { return b.at(path) != nil } }

func either(path string, values ...any) func(body) bool {
	return func(b body) bool {
		for _, v := range values {
			if is(path, v)(b) {
				return true
			}
		}
		return false
	}
}

// ruled is one rule as Riposte would have it.
type ruled struct {
	spec  correlate.Spec
	parts []part
}

func counted(n int, within time.Duration, p part) ruled {
	return ruled{correlate.Spec{Kind: correlate.Count, Count: n, Within: within}, []part{p}}
}

func collected(within time.Duration, p part) ruled {
	return ruled{correlate.Spec{Kind: correlate.Collect, Within: within}, []part{p}}
}

func together(within time.Duration, parts ...part) ruled {
	s := correlate.Spec{Kind: correlate.All, Within: within}
	for i := range parts {
		s.Parts = append(s.Parts, fmt.Sprint("m", i))
	}
	return ruled{s, parts}
}

func missing(within time.Duration, after, not part) ruled {
	return ruled{correlate.Spec{Kind: correlate.Absence, Within: within, Parts: []string{"after", "not"}}, []part{after, not}}
}

// single is a condition on one event, which stands in the tables beside the others.
func single(p part) ruled { return counted(1, time.Second, p) }

const forgotten = 2 * time.Hour // what the peers do without a time-out

func expressed() map[string][]ruled {
	i := func(n int) part { return part{when: is("i", n)} }
	cases := map[string][]ruled{
		"AdditionTest.testAdditionOnDifferentEvents":      {together(forgotten, i(1), i(3), i(4))},
		"AutoEvictTest.testAutomaticEvictEventsOnFiring":  {together(forgotten, part{is("i", 2), []string{"i"}}, part{by: []string{"j"}})},
		"BetaEqualsTest.testExecuteRulesWithExplicitJoin": {together(forgotten, part{by: []string{"custom.expected_index"}}, part{by: []string{"i"}})},
		"ProcessEventTest.isDefinedIsNotDefinedInAllExpression": {together(forgotten, part{when: defined("meta")},
			part{when: func(b body) bool { return b.at("meta.headers.token") == nil }})},
		"MultipleRuleMatchTest.retainPartialMatchesWithMatchMultipleRulesWithMultiplePeers": {
			zeros("i"), zeros("i", "j"), zeros("i", "j", "k"), zeros("i", "j", "l")},
		"test_18_multiple_sources_all": {together(forgotten, i(1), part{when: is("range2.i", 1)})},
		"test_26_print_events":         {together(forgotten, i(1), i(2))},
		"test_54_time_window":          {together(10*time.Second, part{when: is("alert.code", 1001)}, part{when: is("alert.code", 1002)})},
		"test_57_once_after_multiple":  {onceAfter("r1", 15*time.Second), onceAfter("r2", 30*time.Second), onceAfter("r3", 45*time.Second)},
	}
	accumulations(cases)
	timeOuts(cases)
	alternatives(cases)
	return cases
}

// zeros waits for a zero in each field.
func zeros(names ...string) ruled {
	var parts []part
	for _, n := range names {
		parts = append(parts, part{when: is(n, 0)})
	}
	if len(parts) == 1 {
		return single(parts[0])
	}
	return together(forgotten, parts...)
}

func onceAfter(rule string, within time.Duration) ruled {
	return collected(within, part{when: either(rule+".level", "warning", "error")})
}

func accumulations(cases map[string][]ruled) {
	alert, host, level := is("sensu.process.type", "alert"), "sensu.host", []string{"meta.hosts", "alert.level"}
	errorsOfH1 := func(b body) bool { return is("alert.level", "error")(b) && is("meta.hosts", "h1")(b) }
	cases["AccumulateWithinTest.testAccumulateWithinThresholdMet"] = []ruled{counted(3, 10*time.Minute, part{alert, []string{host, "sensu.process.type"}})}
	cases["AccumulateWithinTest.testAccumulateWithinThresholdOne"] = []ruled{counted(1, 10*time.Second, part{alert, []string{host}})}
	cases["AccumulateWithinTest.testAccumulateWithinWithAnd"] = []ruled{counted(2, 10*time.Second, part{errorsOfH1, level})}
	cases["AccumulateWithinTest.testAccumulateWithinWithOr"] = []ruled{counted(2, 10*time.Second, part{either("alert.level", "error", "warning"), level})}
}

func timeOuts(cases map[string][]ruled) {
	nearlyFull := func(b body) bool { n, _ := b.at("sensu.storage.percent").(float64); return n > 95 }
	window := together(10*time.Second, part{when: is("ping.timeout", true)}, part{when: is("sensu.process.status", "stopped")}, part{when: nearlyFull})
	cases["TimeWindowTest.testTimeWindowInCondition"] = []ruled{window}
	cases["TimeWindowTest.testTimeWindowInRule"] = []ruled{window}
	i, j := part{when: defined("i")}, part{when: defined("j")}
	cases["TimedOutTest.testSimpleTimedOut"] = []ruled{missing(10*time.Second, i, j), missing(10*time.Second, j, i)}
}

func alternatives(cases map[string][]ruled) {
	both := func(sensu, j int) ruled {
		return together(forgotten, part{when: is("sensu.data.i", sensu)}, part{when: is("j", j)})
	}
	rules := []ruled{single(part{when: is("sensu.data.i", 1)}), both(3, 2), both(3, 2), both(4, 3)}
	cases["LogicalOperatorsTest.testProcessRules"] = rules
	cases["SimpleLogicalOperatorsTest.testProcessRules"] = rules
}

// onPurpose are the cases that ours differs in; docs/semantics.md says why.
func onPurpose() []string {
	return []string{
		"test_53_once_within_multiple_hosts", "OnceWithinTest.testOnceWithinWithOr", "test_37_hosts_facts",
		"AssignmentTest.testAssignmentReferenceItemInListExpressionLHS", "AssignmentTest.testAssignmentReferenceListContainsItemExpressionLHS",
		"AssignmentTest.testAssignmentReferenceListContainsItemExpressionRHS", "ListContainsTest.testListContainsWithJoinCondition",
		"SelectTest.testSelectWithJoinCondition",
	}
}

// row is a case of either table.
type row struct {
	ID      string
	Group   string
	Ruleset struct {
		Rules []struct {
			Condition any
			Throttle  any
			Timeout   string
		}
	}
	Steps []struct {
		Op      string
		Data    body
		T       float64
		Matches *int `json:"expect_matches"`
	}
	Events []struct {
		T     float64
		Event body
	}
	Horizon  float64 `json:"horizon_seconds"`
	Expected struct {
		Fired      []any
		FiredCount int `json:"fired_count"`
	}
}

// temporal reports whether the case is about several events or about time.
func (r *row) temporal() bool {
	for _, rule := range r.Ruleset.Rules {
		c, _ := rule.Condition.(map[string]any)
		all, _ := c["all"].([]any)
		if rule.Throttle != nil || rule.Timeout != "" || c["timeout"] != nil || c["not_all"] != nil || len(all) > 1 {
			return r.Group != "operators-e2e" // those are about expressions
		}
	}
	return false
}

func table(t *testing.T, name string) []row {
	t.Helper()
	dir := os.Getenv("RIPOSTE_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "corpus", "dev")
	}
	text, err := os.ReadFile(filepath.Join(dir, "tables", name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the tables of other engines' cases are not here; set RIPOSTE_CORPUS to the corpus's folder dev")
	}
	var table struct{ Rows []row }
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	return table.Rows
}

func TestCasesOfOtherEngines(t *testing.T) {
	page, err := os.ReadFile("../../docs/semantics.md")
	if err != nil {
		t.Fatal(err)
	}
	differs := map[string]bool{}
	for _, id := range onPurpose() {
		differs[id] = true
		if !strings.Contains(string(page), "`"+id+"`") {
			t.Errorf("docs/semantics.md does not say why %s differs", id)
		}
	}
	rules := expressed()
	for _, name := range []string{"drools-ansible.json", "ansible-rulebook.json"} {
		for _, r := range table(t, name) {
			switch ours := rules[r.ID]; {
			case !r.temporal() || differs[r.ID]:
			case ours == nil:
				t.Errorf("%s is neither expressed nor explained", r.ID)
			default:
				t.Run(r.ID, func(t *testing.T) { playRow(t, &r, ours) })
				delete(rules, r.ID)
			}
		}
	}
	for id := range rules {
		t.Errorf("%s is expressed, but no case", id)
	}
}

// player feeds a case to the machines of its rules.
type player struct {
	rules    []ruled
	machines []*correlate.Machine
	seq      uint64
}

func playRow(t *testing.T, r *row, rules []ruled) {
	t.Helper()
	p := player{rules: rules}
	for _, rule := range rules {
		p.machines = append(p.machines, newMachine(t, rule.spec))
	}
	for i, s := range r.Steps {
		if got := p.step(s.Op, s.Data, s.T); s.Matches != nil && got != *s.Matches {
			t.Errorf("step %d (%s %v at %gs): %d firings, want %d", i+1, s.Op, s.Data, s.T, got, *s.Matches)
		}
	}
	if r.Steps != nil {
		return
	}
	got := 0
	for _, e := range r.Events {
		got += p.step("event", e.Event, e.T)
	}
	got += p.step("advance", nil, r.Horizon)
	if want := max(len(r.Expected.Fired), r.Expected.FiredCount); got != want {
		t.Errorf("%d firings, want %d", got, want)
	}
}

func (p *player) step(op string, data body, seconds float64) (firings int) {
	at := start.Add(time.Duration(seconds * float64(time.Second)))
	if op == "advance" {
		for _, m := range p.machines {
			firings += len(m.Advance(at))
		}
		return firings
	}
	list := []any{map[string]any(data)}
	if several, ok := data["facts"].([]any); ok {
		list = several
	}
	for _, one := range list {
		p.seq++
		b, _ := one.(map[string]any)
		for i, m := range p.machines {
			firings += len(m.Add(p.rules[i].matches(b, p.seq, at)...))
		}
	}
	return firings
}

func (r ruled) matches(b body, seq uint64, at time.Time) (list []correlate.Match) {
	for i, part := range r.parts {
		if key, ok := part.match(b); ok {
			list = append(list, correlate.Match{Part: i, Key: key, ID: fmt.Sprint("e", seq), Pos: event.Pos{Seq: seq}, At: at})
		}
	}
	return list
}
