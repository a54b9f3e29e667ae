package forge

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func visible(text string) string { return strings.ReplaceAll(text, breaker, "") }

func TestTextsDoNothing(t *testing.T) {
	for text, want := range map[string]string{
		"@acme/sre look":                   "@|acme/sre look",
		"(@ana) @@bob @\\_x":               "(@|ana) @|@|bob @|\\_x",
		"mail ana@example.com":             "mail ana@example.com",
		"&#64;ana &commat;ana a & b":       "&|#64;ana &|commat;ana a & b",
		"fixes #1, Closed: acme/shop#12":   "f|ixes #1, C|losed: acme/shop#12",
		"fix fix\n#1":                      "f|ix f|ix\n#1",
		"closing !3":                       "c|losing !3",
		"Resolves SHOP-12":                 "R|esolves SHOP-12",
		"fixes https://x.example/issues/1": "f|ixes https://x.example/issues/1",
		"it fixes nothing, prefixes":       "it fixes nothing, prefixes",
		"prefixes #1":                      "prefixes #1",
		"ok\n/close\n  /merge\na/b /x":     "ok\n|/close\n  |/merge\na/b /x",
		"a <!-- b":                         "a <|!-- b",
		"<style>x <details>y <?z":          "<|style>x <details>y <|?z",
		"# Plan\n* **2** to `add`":         "# Plan\n* **2** to `add`",
	} {
		if got := inert(text); strings.ReplaceAll(got, breaker, "|") != want {
			t.Errorf("%q is %q, want %q", text, strings.ReplaceAll(got, breaker, "|"), want)
		}
	}
	if got := clean("a\r\nb\x1b[1;31mc\x00\u202e\xff"); got != "a\nbc\uFFFD" {
		t.Errorf("%q", got)
	}
}

type bounds struct{ Forge }

func (bounds) Limits() Limits { return Limits{Title: 20, Body: 2000} }

func TestKeysAreTheirOwn(t *testing.T) {
	seen := map[string]Key{}
	for _, k := range []Key{
		{Rule: "a", Name: "b"}, {Rule: "ab", Name: ""}, {Rule: "a", Name: "b "}, {Rule: "", Name: "ab"}, {Rule: "a", Run: "b"}, {Rule: "a", Run: "b", Step: "c"},
		{Rule: "a", Name: "b-->"},
	} {
		m := k.marker()
		if other, twice := seen[m]; twice {
			t.Errorf("%+v and %+v are one", other, k)
		}
		seen[m] = k
		if !regexp.MustCompile(`^<!-- riposte:[0-9a-f]{32} [A-Za-z0-9._~]+ -->$`).MatchString(k.line()) {
			t.Errorf("%+v is written %q", k, k.line())
		}
	}
	if (Key{Rule: "a", Name: "b", Run: "1"}).marker() != (Key{Rule: "a", Name: "b", Run: "2", Step: "x"}).marker() {
		t.Error("a key changes with the run")
	}
}

func TestATextSaysWhichRunWroteIt(t *testing.T) {
	w := Writer{bounds{}, func(s string) string { return s }}
	body := w.body(Key{Rule: "r", Name: "k", Run: "0a1b--plan-network", Step: "say_1"}.line(), Text{Body: "x"})
	if run, ok := RunOf(strings.ReplaceAll(body, "\n", "\r\n")); !ok || run != "0a1b--plan-network" || strings.Count(body, "--") != 2 {
		t.Errorf("%q, %t of %q", run, ok, body)
	}
	for _, text := range []string{"", "hello", "> " + body, "\n" + body, "<!-- riposte:x -->", "<!-- riposte:x .y -->", "<!-- riposte:x a.b"} {
		if run, ok := RunOf(text); ok {
			t.Errorf("%q is of run %s", text, run)
		}
	}
}

// FuzzBody: whatever a text holds, it stays within its bounds, masked, behind its key, and does nothing.
func FuzzBody(f *testing.F) {
	f.Add("@all fixes #1\n/close <!-- ", "```\n@x")
	f.Add("&#64;x \u202e@x", "`````")
	f.Add(strings.Repeat("@ä/", 900), strings.Repeat("`", 2000))
	f.Add("hunter2", "hun\x00ter2")
	w := Writer{bounds{}, func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }}
	k := Key{Rule: "r", Name: "k", Run: "1"}
	f.Fuzz(func(t *testing.T, text, code string) {
		body := w.body(k.line(), Text{Body: text, Code: code})
		by, rest, ok := k.split(body)
		if !ok || by != k.by() || !k.same(body, body) {
			t.Fatalf("the key is lost: %q", body)
		}
		if len(body) > 2000 || !utf8.ValidString(body) {
			t.Errorf("%d bytes: %q", len(body), body)
		}
		if strings.Contains(rest, "<!--") && code == "" || strings.Contains(body, "hunter2") && strings.Contains(text+code, "hunter2") {
			t.Errorf("%q", body)
		}
		if code == "" {
			if m := regexp.MustCompile(`(^|[^0-9A-Za-z])@[^` + breaker + `]|(?m)^[ \t]*/[A-Za-z]`).FindString(rest); m != "" {
				t.Errorf("%q in %q", m, rest)
			}
			if plain := w.masked(text); len(plain) < 1000 && !strings.Contains(plain, breaker) && visible(rest) != plain {
				t.Errorf("%q reads as %q", plain, visible(rest))
			}
		}
		title := w.title(text)
		if utf8.RuneCountInString(title) > 20 || strings.ContainsAny(title, "\n\r") {
			t.Errorf("title %q", title)
		}
	})
}

func TestASearchEnds(t *testing.T) {
	asked := 0
	err := pages("comments", func(int) (bool, error) { asked++; return true, nil })
	if err == nil || asked != maxPages {
		t.Errorf("%d pages, %v", asked, err)
	}
	if agentOf(WithAgent(context.Background(), "x")) != "x" {
		t.Error("the agent is lost")
	}
}
