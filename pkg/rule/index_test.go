package rule_test

import (
	"fmt"
	"math/rand/v2"
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

func (m maker) rule(i int) string {
	text := fmt.Sprintf("---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r%d}\nspec:\n", i)
	text += "  trigger: " + m.one("{source: github}", "{type: push}", "{type: [push, tag, push]}", `{source: "git*", type: "p*"}`, `{source: [github, "x*"]}`,
		"{source: github, type: tag}", `{type: "alert.*"}`, "{source: [github], type: [push]}") + "\n"
	clauses := make([]string, m.IntN(5))
	for k := range clauses {
		clauses[k] = m.clause()
	}
	if len(clauses) > 0 {
		text += "  when: '" + strings.Join(clauses, " && ") + "'\n"
	}
	return text + "  steps: [{uses: do}]\n"
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
		for range m.IntN(4) {
			e.Git.Paths = append(e.Git.Paths, m.one("a", "a/b.go", "a/b/c.go", "b/c", "b/x/c", "x.go", "a//b", "/a/b", "", "a/", "é/x"))
		}
	}
	if m.IntN(4) == 0 {
		e.Alert = &event.Alert{Name: m.one("a", "b"), Labels: map[string]string{"app": m.one("a", "1")}}
	}
	return e
}

// compareAll holds what the index finds against asking every rule.
func compareAll(t *testing.T, set *rule.Set, e *event.Event) {
	t.Helper()
	now := time.Unix(0, 0)
	m := set.Match(t.Context(), e, now)
	var want, got []string
	triggered := 0
	for _, v := range set.Explain(t.Context(), e, now) {
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
	if fmt.Sprint(got) != fmt.Sprint(want) || m.Triggered != triggered || set.Selects(e) != (triggered > 0) {
		body, _ := e.MarshalJSON()
		t.Fatalf("of %d triggered, the index finds %v\n   of %d every rule gives %v\nevent %s %q", m.Triggered, got, triggered, want, body, e.Body)
	}
	if untrue := m.False(triggered + 1); len(untrue)+len(got) != triggered {
		t.Fatalf("%d rules are false, of %d that are triggered and %d that are not false", len(untrue), triggered, len(got))
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
			compareAll(t, set, m.event())
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
			compareAll(t, set, e)
		}
	})
}
