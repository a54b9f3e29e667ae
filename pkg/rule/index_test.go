package rule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// maker makes rules and events of a vocabulary so small that they often meet.
type maker struct{ *rand.Rand }

func (m maker) one(of ...string) string { return of[m.IntN(len(of))] }

func (m maker) some(n int, of func() string) string {
	parts := make([]string, m.IntN(n+1))
	for i := range parts {
		parts[i] = of()
	}
	return strings.Join(parts, ", ")
}

func (m maker) path() string {
	return m.one("event.type", "event.source", "event.subject", "event.git.branch", "event.git.repo", "event.git.tag", "event.git.forced",
		"event.data.a", "event.data.b", "event.data.c", "event.data.a.x", "event.data.a.y", "event.data.b.x.y", `event.data["k-1"]`, "event.data",
		"event.data?.b", "event.data.a?.x", "event?.subject", `event.headers["X-Kind"]`, `event.headers["x-kind"]`, "event.alert.name", "event.alert.labels.app", "event.git")
}

func (m maker) constant() string {
	return m.one(`"a"`, `"b"`, `"ab"`, `"abc"`, `""`, `"1"`, `"push"`, `"github"`, `"main"`, "1", "1.0", "0", "-0.0", "-1", "2.5", "true", "false",
		"9007199254740993", "9007199254740992.0", "1e20", "nil", `"true"`, `"é"`)
}

func (m maker) glob() string {
	return `"` + m.one("**", "a/**", "a/*", "a/b/**", "*.go", "**/*.go", "a/b.go", "{a,b}/**", "b/?", "[ab]/**", "b/**/c", "a", "/a/*", "a//b", "a/[", "") + `"`
}

func (m maker) clause() string {
	switch m.IntN(13) {
	case 0:
		return m.path() + " in [" + m.some(4, m.constant) + "]"
	case 1:
		return m.path() + " startsWith " + m.one(`"a"`, `"ab"`, `""`, `"b"`, `"refs/"`)
	case 2, 3:
		return "changed(" + m.glob() + m.one("", ", "+m.glob(), ", ["+m.glob()+"]") + ")"
	case 4:
		return m.one("not (", "!(") + m.path() + " == " + m.constant() + ")"
	case 5:
		return m.path() + m.one(" != ", " == ") + m.constant()
	case 6:
		return "(" + m.path() + " == " + m.constant() + " || " + m.path() + " == " + m.constant() + ")"
	case 7:
		return m.constant() + " == " + m.path()
	case 8:
		return m.one("event.data.list[0] == 1", "any(event.data.list, # == 1)", "event.data.a contains \"a\"", "true", "event.data.a.x > 0", "1/0 == 1")
	}
	return m.path() + " == " + m.constant()
}

func (m maker) trigger() string {
	return m.one("{source: github}", "{type: push}", "{type: [push, tag, push]}", `{source: "git*", type: "p*"}`, `{source: [github, "x*"]}`,
		"{source: github, type: tag}", `{type: "alert.*"}`, "{source: [github], type: [push]}")
}

// asking is a trigger and mostly a condition, each line behind the indent.
func (m maker) asking(indent string) string {
	text := indent + "trigger: " + m.trigger() + "\n"
	clauses := make([]string, m.IntN(5))
	for k := range clauses {
		clauses[k] = m.clause()
	}
	if len(clauses) > 0 {
		text += indent + "when: '" + strings.Join(clauses, " && ") + "'\n"
	}
	return text
}

func (m maker) rule(i int) string {
	text := fmt.Sprintf("---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r%d}\nspec:\n", i)
	switch m.IntN(6) {
	case 0:
		text += m.asking("  ") + "  correlate: {within: 1h, " + m.one("count: 2", "collect: true", "flapping: 2", "flapping: 3, state: event.data.a") + m.by() + "}\n"
	case 1:
		text += "  correlate:\n    within: 1h\n    " + m.one("sequence", "all", "absence") + ":\n"
		for _, name := range []string{"one", "two"} {
			text += "      - as: " + name + "\n" + m.asking("        ")
			if by := m.by(); by != "" {
				text += "        " + by[2:] + "\n"
			}
		}
	default:
		text += m.asking("  ")
	}
	return text + "  steps: [{uses: do}]\n"
}

func (m maker) by() string {
	return m.one("", ", by: event.data.a", ", by: [event.source, event.data.b]", ", by: event.git.repo")
}

func (m maker) set(t testing.TB) *rule.Set {
	t.Helper()
	text := githubDoc
	rules := 1 + m.IntN(60)
	for i := range rules {
		text += m.rule(i)
	}
	set, problems := rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(text)}}, options())
	if problems != nil {
		t.Fatal(problems)
	}
	return set
}

func (m maker) value(depth int) string {
	if depth > 0 && m.IntN(3) == 0 {
		return m.object(depth - 1)
	}
	return m.one(`"a"`, `"b"`, `"ab"`, `"\u0061bc"`, `""`, `"1"`, `"push"`, `"é"`, "1", "1.0", "0", "-0", "-1", "25e-1", "true", "false", "null",
		"9007199254740993", "9007199254740992", "100000000000000000000", "1e20", "1e400", "[]", `["a"]`, "[1]", "{}", `"`+strings.Repeat("a", 200)+`"`)
}

func (m maker) object(depth int) string {
	return "{" + m.some(6, func() string {
		return m.one(`"a"`, `"b"`, `"c"`, `"x"`, `"y"`, `"k-1"`, `"list"`, `"\u0061"`, `"a\\b"`) + ": " + m.value(depth)
	}) + "}"
}

func (m maker) body() []byte {
	switch m.IntN(20) {
	case 0:
		return nil
	case 1:
		return []byte(m.one(`{"a":`, `{"a":1}}`, `null`, `"a"`, `[1]`, `1`))
	case 2: // more than an outline holds
		return []byte(`{"a": ` + m.value(2) + strings.Repeat(`, "z": {}`, 5000) + `, "b": ` + m.value(2) + "}")
	}
	return []byte(m.object(3))
}

func (m maker) event() *event.Event {
	e := &event.Event{ID: "1", Source: m.one("github", "github", "xyz"), Type: m.one("push", "push", "tag", "alert.firing"),
		Subject: m.one("", "a", "ab"), Body: m.body(), Headers: map[string]string{"X-Kind": m.one("a", "b", "1")}}
	if m.IntN(4) > 0 {
		e.Git = &event.Git{Repo: m.one("a", "b"), Branch: m.one("main", "a", ""), Tag: m.one("", "a"), Forced: m.IntN(2) == 0, PathsComplete: m.IntN(3) > 0}
		e.Git.Paths = m.paths()
	}
	if m.IntN(4) == 0 {
		e.Alert = &event.Alert{Name: m.one("a", "b"), Labels: map[string]string{"app": m.one("a", "1")}}
	}
	return e
}

func (m maker) paths() []string {
	var out []string
	for range m.IntN(4) {
		out = append(out, m.one("a", "a/b.go", "a/b/c.go", "b/c", "b/x/c", "x.go", "a//b", "/a/b", "", "a/", "é/x"))
	}
	return out
}

// compareNeed holds it against what each rule says with and without the whole list: where no diff is needed, none makes
// another rule true; where it is, one of the rules that calls changed() is absent without.
func compareNeed(t *testing.T, set *rule.Set, e *event.Event, m maker) {
	t.Helper()
	now := time.Unix(0, 0)
	before, asking := set.Explain(t.Context(), e, now), false
	for _, v := range before {
		asking = asking || v.Candidate && v.Truth == expression.Absent && strings.Contains(fmt.Sprint(v.Clauses), "changed(")
	}
	needs := set.NeedsDiff(t.Context(), e, now)
	if needs && (!asking || e.Git == nil || e.Git.PathsComplete) {
		t.Fatalf("a diff is asked for, and no rule waits for one: git %+v", e.Git)
	}
	if e.Git == nil || e.Git.PathsComplete {
		return
	}
	for range 4 {
		paths := e.FoundPaths(m.paths())
		for i, v := range set.ExplainPaths(t.Context(), e, paths, now) {
			was := before[i].Truth
			if was == expression.True && v.Truth != expression.True || was == expression.False && v.Truth != expression.False {
				t.Fatalf("rule %s was %s and is %s with the paths %q", v.Rule.Name, was, v.Truth, paths.List)
			}
			if !needs && v.Truth == expression.True && was != expression.True {
				t.Fatalf("no diff is asked for, and rule %s is true with the paths %q", v.Rule.Name, paths.List)
			}
		}
	}
}

// compareAll holds what the index finds against asking every rule.
func compareAll(t *testing.T, set *rule.Set, e *event.Event, paths event.Paths) {
	t.Helper()
	now := time.Unix(0, 0)
	m := set.MatchPaths(t.Context(), e, paths, now)
	var want, got []string
	triggered := 0
	for _, v := range set.ExplainPaths(t.Context(), e, paths, now) {
		if v.Rule.Correlation() != nil {
			continue
		}
		if v.Candidate {
			triggered++
		}
		if v.Candidate && v.Truth != expression.False {
			want = append(want, v.Rule.Name+" "+v.Truth.String())
		}
	}
	for _, v := range m.Verdicts {
		got = append(got, v.Rule.Name+" "+v.Truth.String())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || m.Triggered != triggered {
		body, _ := e.MarshalJSON()
		t.Fatalf("of %d triggered, the index finds %v\n   of %d every rule gives %v\nevent %s %q", m.Triggered, got, triggered, want, body, e.Body)
	}
	if untrue := m.False(triggered + 1); len(untrue)+len(got) != triggered {
		t.Fatalf("%d rules are false, of %d that are triggered and %d that are not false", len(untrue), triggered, len(got))
	}
}

// compareJoins holds the parts that the index finds against asking every part of every rule that correlates.
func compareJoins(t *testing.T, set *rule.Set, e *event.Event) {
	t.Helper()
	now := time.Unix(0, 0)
	var want, got, untrue []string
	triggered, any := 0, false
	for _, a := range set.Accounts(t.Context(), e, e.ListedPaths(), now) {
		any = any || a.Candidate()
		for n, p := range a.Parts {
			if a.Rule.Correlation() == nil || !p.Selected {
				continue
			}
			triggered++
			switch name := strings.TrimSuffix(a.Rule.Name+"."+p.Part, "."); p.Truth {
			case expression.False:
				untrue = append(untrue, name)
			case expression.True:
				want = append(want, fmt.Sprintf("%s true %d %q", name, n, p.Key))
			default:
				want = append(want, name+" absent")
			}
		}
	}
	joins := set.Joins(t.Context(), e, now)
	for _, j := range joins.List {
		matches := j.Matches
		for _, v := range j.Verdicts {
			name := strings.TrimSuffix(j.Rule.Name+"."+v.Part, ".")
			if v.Truth != expression.True {
				got = append(got, name+" "+v.Truth.String())
				continue
			}
			got = append(got, fmt.Sprintf("%s true %d %q", name, matches[0].Part, matches[0].Key))
			matches = matches[1:]
		}
		if len(matches) > 0 {
			t.Fatalf("rule %s has matches that no verdict tells of: %v", j.Rule.Name, matches)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || joins.Triggered != triggered || joins.Untrue() != len(untrue) {
		t.Fatalf("of %d triggered, the index finds %v\n   of %d asking every part gives %v\nevent %+v %q", joins.Triggered, got, triggered, want, e, e.Body)
	}
	if named := joins.False(triggered); !slices.Equal(slices.Sorted(slices.Values(named)), slices.Sorted(slices.Values(untrue))) {
		t.Fatalf("false are %v, not %v", untrue, named)
	}
	if set.Selects(e) != any {
		t.Fatalf("selects is %t, and a trigger does so: %t", set.Selects(e), any)
	}
}

func TestTheIndexFindsWhatAskingEveryRuleFinds(t *testing.T) {
	seed := rand.Uint64()
	m := maker{rand.New(rand.NewPCG(seed, 0))}
	t.Logf("seed %d", seed)
	sets := 50
	if testing.Short() {
		sets = 10
	}
	for range sets {
		set := m.set(t)
		for range 60 {
			e := m.event()
			compareAll(t, set, e, e.ListedPaths())
			compareAll(t, set, e, e.FoundPaths(m.paths()))
			compareNeed(t, set, e, m)
			compareJoins(t, set, e)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(uint64(1), []byte(`{"a":{"x":1},"a":"ab","b":null}`))
	f.Add(uint64(2), []byte(`{"b":{"x":{"y":"a"}},"list":[1],"k-1":100000000000000000000}`))
	f.Fuzz(func(t *testing.T, seed uint64, body []byte) {
		m := maker{rand.New(rand.NewPCG(seed, 0))}
		set := m.set(t)
		for range 10 {
			e := m.event()
			e.Body = body
			compareAll(t, set, e, e.ListedPaths())
			compareAll(t, set, e, e.FoundPaths(m.paths()))
			compareNeed(t, set, e, m)
			compareJoins(t, set, e)
		}
	})
}
