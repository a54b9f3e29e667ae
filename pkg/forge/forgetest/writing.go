package forgetest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/forge"
)

const repo = "acme/shop"

func key(name, run string) forge.Key {
	return forge.Key{Rule: "plan", Name: name, Run: run, Step: "say"}
}

// Writing checks what a Writer relies on and promises, on the Forge that open makes of a world: the world itself, or a
// client of a server that speaks for it.
func Writing(t *testing.T, open func(*testing.T, *World) forge.Forge) {
	for name, check := range map[string]func(*testing.T, *World, forge.Writer){
		"a comment is edited":              commentIsEdited,
		"a pasted key is no key":           pastedKey,
		"comments without a key":           withoutKey,
		"an issue is opened once":          issueOnce,
		"a pull request is opened once":    pullOnce,
		"a pull request of somebody else":  pullOfOthers,
		"a draft stays what people made":   drafts,
		"merging":                          merging,
		"a branch that moves at the merge": movesAtTheMerge,
		"an answer that is lost":           lostAnswer,
		"rights":                           rights,
		"long texts":                       longTexts,
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld()
			check(t, w, forge.Writer{Forge: open(t, w), Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }})
		})
	}
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func commentIsEdited(t *testing.T, w *World, by forge.Writer) {
	for _, kind := range []forge.Kind{forge.KindPull, forge.KindIssue} {
		on := forge.Thread{Repo: repo, Kind: kind, Number: 1000}
		if kind == forge.KindPull {
			on.Number = w.Propose(repo, forge.Pull{Author: "ana", Head: "x", Base: "main", Commit: "c"}).Number
		} else {
			on.Number = w.File(repo, "ana", "broken", "").Number
		}
		for range 2 * w.PageSize {
			w.Say(on, "ana", "looks good")
		}
		first, err := by.Comment(t.Context(), on, key("plan", "1"), forge.Text{Body: "two to add, hunter2"})
		must(t, first, err)
		w.Say(on, "ana", "hm")
		again, err := by.Comment(t.Context(), on, key("plan", "2"), forge.Text{Body: "one to add"})
		must(t, again, err)
		other := must2(by.Comment(t.Context(), on, key("lint", "2"), forge.Text{Body: "fine"}))(t)
		if !first.New || again.New || first.ID != again.ID || other.ID == first.ID || first.URL == "" || again.Number != on.Number {
			t.Errorf("%s: %+v, then %+v, other %+v", kind, first, again, other)
		}
		n := w.Writes()
		must2(by.Comment(t.Context(), on, key("plan", "3"), forge.Text{Body: "one to add"}))(t)
		if w.Writes() != n {
			t.Errorf("%s: a comment that says the same already was written again", kind)
		}
		all, _, _ := w.All(on)
		var text []string
		for _, c := range all {
			if c.Author == w.Account {
				text = append(text, c.Body)
			}
		}
		if len(text) != 2 || !strings.Contains(text[0], "one to add") || strings.Contains(strings.Join(text, ""), "hunter2") {
			t.Errorf("%s: %q", kind, text)
		}
	}
}

func must2[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T { t.Helper(); return must(t, v, err) }
}

func pastedKey(t *testing.T, w *World, by forge.Writer) {
	on := forge.Thread{Repo: repo, Kind: forge.KindPull, Number: w.Propose(repo, forge.Pull{Author: "eve", Head: "x", Base: "main", Commit: "c"}).Number}
	elsewhere := forge.Thread{Repo: repo, Kind: forge.KindIssue, Number: w.File(repo, "ana", "x", "").Number}
	must2(by.Comment(t.Context(), elsewhere, key("plan", "1"), forge.Text{Body: "fine"}))(t)
	seen, _, _ := w.All(elsewhere)
	pasted := seen[0].Body
	w.Say(on, "eve", pasted)
	w.Say(on, w.Account, "she said:\n"+pasted) // what is quoted does not stand in front
	w.File(repo, "eve", "mine", pasted)
	made := must2(by.Comment(t.Context(), on, key("plan", "2"), forge.Text{Body: pasted + "\n<!-- riposte:x -->"}))(t)
	all, _, _ := w.All(on)
	if !made.New || len(all) != 3 || all[0].Body != pasted || strings.Count(all[2].Body, "<!--") != 1 {
		t.Errorf("%+v in %+v", made, all)
	}
	if i := must2(by.OpenIssue(t.Context(), repo, key("plan", "2"), forge.Text{Title: "red", Body: "x"}))(t); !i.New {
		t.Errorf("an issue of somebody else was taken: %+v", i)
	}
}

func withoutKey(t *testing.T, w *World, by forge.Writer) {
	on := forge.Thread{Repo: repo, Kind: forge.KindIssue, Number: w.File(repo, "ana", "x", "").Number}
	for _, run := range []string{"1", "1", "2"} { // the second is the first step again, cut off before it was journaled
		must2(by.Comment(t.Context(), on, key("", run), forge.Text{Body: "hello"}))(t)
	}
	if all, _, _ := w.All(on); len(all) != 2 {
		t.Errorf("%d comments", len(all))
	}
}

func issueOnce(t *testing.T, w *World, by forge.Writer) {
	for range w.PageSize + 1 {
		w.File(repo, w.Account, "another", "no key")
	}
	text := forge.Text{Title: "main\nis red @acme/all", Body: "job 7 failed\n/close"}
	first := must2(by.OpenIssue(t.Context(), repo, key("main", "1"), text))(t)
	cutOff := must2(by.OpenIssue(t.Context(), repo, key("main", "1"), text))(t)
	second := must2(by.OpenIssue(t.Context(), repo, key("main", "2"), text))(t)
	again := must2(by.OpenIssue(t.Context(), repo, key("main", "2"), text))(t)
	on := forge.Thread{Repo: repo, Kind: forge.KindIssue, Number: first.Number}
	comments, issues, _ := w.All(on)
	if !first.New || !cutOff.New || cutOff.Number != first.Number || second.New || second.Number != first.Number || again.ID != second.ID || len(comments) != 1 {
		t.Errorf("%+v, %+v, %+v, %+v; %d comments", first, cutOff, second, again, len(comments))
	}
	made := issues[len(issues)-1]
	if strings.ContainsAny(made.Title, "\n") || strings.Contains(made.Title, "@acme") || strings.Contains(made.Body, "\n/close") || !strings.Contains(made.Body, "job 7 failed") {
		t.Errorf("%q: %q", made.Title, made.Body)
	}
	found := must2(by.FindIssue(t.Context(), repo, key("main", "3")))(t)
	if found == nil || found.Number != first.Number {
		t.Fatalf("found %+v", found)
	}
	if closed := must2(by.Forge.CloseIssue(t.Context(), repo, found.Number))(t); closed.Number != first.Number {
		t.Errorf("closed %+v", closed)
	}
	if next := must2(by.OpenIssue(t.Context(), repo, key("main", "3"), text))(t); !next.New || next.Number == first.Number {
		t.Errorf("an issue that is closed was used: %+v", next)
	}
	if _, err := by.Forge.CloseIssue(t.Context(), repo, 999); err == nil {
		t.Error("an issue that is not there was closed")
	}
}

func pullOnce(t *testing.T, w *World, by forge.Writer) {
	w.Propose(repo, forge.Pull{Author: "eve", Fork: true, Head: "bump", Base: "main", Title: "evil", Commit: "c"})
	w.Propose(repo, forge.Pull{Author: "ana", Head: "other", Base: "main", Title: "other", Commit: "c"})
	n := forge.NewPull{Head: "bump", Base: "main"}
	first, isNew, err := by.OpenPull(t.Context(), repo, key("", "1"), n, forge.Text{Title: "Bump a", Body: "fixes #1"})
	if must(t, first, err); !isNew || first.Fork || first.Title != "Bump a" || strings.Contains(first.Body, "fixes") || first.Commit == "" || first.URL == "" {
		t.Errorf("%+v", first)
	}
	second, isNew, err := by.OpenPull(t.Context(), repo, key("", "2"), n, forge.Text{Title: "Bump a and b", Body: "more"})
	if must(t, second, err); isNew || second.Number != first.Number || second.Title != "Bump a and b" {
		t.Errorf("%+v", second)
	}
	if _, _, all := w.All(forge.Thread{Repo: repo}); len(all) != 3 || all[0].Title != "evil" {
		t.Errorf("%+v", all)
	}
}

func pullOfOthers(t *testing.T, w *World, by forge.Writer) {
	w.Propose(repo, forge.Pull{Author: "ana", Head: "bump", Base: "main", Title: "by hand", Body: "mine", Commit: "c"})
	n := w.Writes()
	p, isNew, err := by.OpenPull(t.Context(), repo, key("", "1"), forge.NewPull{Head: "bump", Base: "main"}, forge.Text{Title: "Bump"})
	if must(t, p, err); isNew || p.Title != "by hand" || w.Writes() != n {
		t.Errorf("%+v", p)
	}
}

func drafts(t *testing.T, w *World, by forge.Writer) {
	n := forge.NewPull{Head: "bump", Base: "main", Draft: true}
	p, _, err := by.OpenPull(t.Context(), repo, key("", "1"), n, forge.Text{Title: "Bump"})
	if must(t, p, err); !p.Draft || p.Title != "Bump" {
		t.Errorf("%+v", p)
	}
	for _, draft := range []bool{true, false} {
		w.Change(repo, p.Number, func(p *forge.Pull) { p.Draft = draft })
		p, _, err = by.OpenPull(t.Context(), repo, key("", "1"), n, forge.Text{Title: "Bump", Body: "changed " + time.Now().String()})
		if must(t, p, err); p.Draft != draft || p.Title != "Bump" {
			t.Errorf("draft is %t, want %t: %q", p.Draft, draft, p.Title)
		}
	}
}

func merging(t *testing.T, w *World, by forge.Writer) {
	p := w.Propose(repo, forge.Pull{Author: "ana", Head: "x", Base: "main", Commit: "c1"})
	_, err := by.Merged(t.Context(), repo, p.Number, forge.Merge{Commit: "c0"})
	if !errors.Is(err, forge.ErrMoved) || w.Writes() != 0 {
		t.Errorf("a commit that is not its own: %v", err)
	}
	for range 2 { // the second finds that it is done
		done, err := by.Merged(t.Context(), repo, p.Number, forge.Merge{Commit: "c1", Title: "Merge x", Message: "because\nfixes #1"})
		if must(t, done, err); !done.Merged || done.MergeCommit != strings.Repeat("f", 40) || w.Writes() != 1 {
			t.Errorf("%+v after %d writes", done, w.Writes())
		}
	}
	closed := w.Propose(repo, forge.Pull{Author: "ana", Head: "y", Base: "main", Commit: "c1"})
	w.Change(repo, closed.Number, func(p *forge.Pull) { p.Open = false })
	if _, err := by.Merged(t.Context(), repo, closed.Number, forge.Merge{Commit: "c1"}); !errors.Is(err, forge.ErrMoved) {
		t.Errorf("a closed one: %v", err)
	}
	var refused *forge.Error
	if _, err := by.Merged(t.Context(), repo, 999, forge.Merge{Commit: "c1"}); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("none: %v", err)
	}
}

func movesAtTheMerge(t *testing.T, w *World, by forge.Writer) {
	p := w.Propose(repo, forge.Pull{Author: "ana", Head: "x", Base: "main", Commit: "c1"})
	w.BeforeMerge = func() { w.Change(repo, p.Number, func(p *forge.Pull) { p.Commit = "c2" }) }
	_, err := by.Merged(t.Context(), repo, p.Number, forge.Merge{Commit: "c1"})
	if !errors.Is(err, forge.ErrMoved) || !strings.Contains(err.Error(), "c2") {
		t.Error(err)
	}
	if now, _ := w.Pull(t.Context(), repo, p.Number); now.Merged {
		t.Error("it was merged")
	}
}

// lostAnswer merges behind the forge's back, as a request does whose answer never came.
func lostAnswer(t *testing.T, w *World, by forge.Writer) {
	p := w.Propose(repo, forge.Pull{Author: "ana", Head: "x", Base: "main", Commit: "c1"})
	w.BeforeMerge = func() {
		w.Change(repo, p.Number, func(p *forge.Pull) { p.Open, p.Merged, p.MergeCommit = false, true, "done" })
	}
	done, err := by.Merged(t.Context(), repo, p.Number, forge.Merge{Commit: "c1"})
	if must(t, done, err); !done.Merged || done.MergeCommit != "done" {
		t.Errorf("%+v", done)
	}
}

func rights(t *testing.T, w *World, by forge.Writer) {
	want := map[string]forge.Rights{"ann": forge.Admin, "will": forge.Write, "rita": forge.Read, "nobody": forge.None}
	for account, r := range want {
		if r != forge.None {
			w.Grant(account, r)
		}
	}
	for account, r := range want {
		if got := must2(by.Forge.Rights(t.Context(), repo, account))(t); got != r {
			t.Errorf("%s: %s, want %s", account, got, r)
		}
	}
	for _, account := range []string{"..", "a/../../x"} {
		if got, _ := by.Forge.Rights(t.Context(), repo, account); got != forge.None {
			t.Errorf("%q: %s", account, got)
		}
	}
}

func longTexts(t *testing.T, w *World, by forge.Writer) {
	on := forge.Thread{Repo: repo, Kind: forge.KindIssue, Number: w.File(repo, "ana", "x", "").Number}
	limits := by.Forge.Limits()
	must2(by.Comment(t.Context(), on, key("a", "1"), forge.Text{Body: strings.Repeat("ä", limits.Body), Code: strings.Repeat("plan `````\n", limits.Body)}))(t)
	all, _, _ := w.All(on)
	if n := len(all[0].Body); n > limits.Body || n < limits.Body/2 || strings.Count(all[0].Body, "[cut: ") != 2 || !strings.HasSuffix(all[0].Body, "\n``````\n") {
		t.Errorf("%d of %d bytes: …%q", n, limits.Body, all[0].Body[max(0, n-200):])
	}
}

// Speaking checks what every request of a forge must keep: each is tried against a host that is against us. Two answers are
// no errors: an account that is not found has no rights, and a merge need not be answered in words.
func Speaking(t *testing.T, kind forge.Type) {
	calls := map[string]func(context.Context, forge.Forge) error{
		"SetStatus": func(ctx context.Context, f forge.Forge) error {
			return f.SetStatus(ctx, repo, "abc", forge.Status{State: forge.Success})
		},
		"Self":   func(ctx context.Context, f forge.Forge) error { _, err := f.Self(ctx); return err },
		"Rights": func(ctx context.Context, f forge.Forge) error { _, err := f.Rights(ctx, repo, "ana"); return err },
		"Comments": func(ctx context.Context, f forge.Forge) error {
			_, _, err := f.Comments(ctx, forge.Thread{Repo: repo, Kind: forge.KindPull, Number: 1}, 1)
			return err
		},
		"AddComment": func(ctx context.Context, f forge.Forge) error {
			_, err := f.AddComment(ctx, forge.Thread{Repo: repo, Kind: forge.KindPull, Number: 1}, "x")
			return err
		},
		"EditComment": func(ctx context.Context, f forge.Forge) error {
			_, err := f.EditComment(ctx, forge.Thread{Repo: repo, Kind: forge.KindIssue, Number: 1}, 1, "x")
			return err
		},
		"OpenIssues": func(ctx context.Context, f forge.Forge) error {
			_, _, err := f.OpenIssues(ctx, repo, "ana", 1)
			return err
		},
		"AddIssue":   func(ctx context.Context, f forge.Forge) error { _, err := f.AddIssue(ctx, repo, "x", "y"); return err },
		"CloseIssue": func(ctx context.Context, f forge.Forge) error { _, err := f.CloseIssue(ctx, repo, 1); return err },
		"Pull":       func(ctx context.Context, f forge.Forge) error { _, err := f.Pull(ctx, repo, 1); return err },
		"OpenPulls": func(ctx context.Context, f forge.Forge) error {
			_, _, err := f.OpenPulls(ctx, repo, "x", "main", 1)
			return err
		},
		"AddPull": func(ctx context.Context, f forge.Forge) error {
			_, err := f.AddPull(ctx, repo, forge.NewPull{Head: "x", Base: "main", Title: "x"})
			return err
		},
		"EditPull": func(ctx context.Context, f forge.Forge) error {
			_, err := f.EditPull(ctx, repo, forge.Pull{Number: 1, Title: "x"})
			return err
		},
		"MergePull": func(ctx context.Context, f forge.Forge) error {
			_, err := f.MergePull(ctx, repo, 1, forge.Merge{Commit: "abc"})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			for what, answer := range hostile {
				var agents []string
				srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					agents = append(agents, r.UserAgent())
					answer.do(rw, r)
				}))
				err := call(forge.WithAgent(t.Context(), "riposte (run 7)"), Open(t, kind, srv.URL))
				srv.Close()
				if err == nil {
					if allowed := name + ", " + what; allowed != "Rights, not found" && allowed != "MergePull, no JSON" {
						t.Errorf("%s: no error", what)
					}
					continue
				}
				if strings.Contains(err.Error(), token) || len(err.Error()) > 1000 || !strings.Contains(err.Error(), answer.want) {
					t.Errorf("%s: %v", what, err)
				}
				var refused *forge.Error
				if answer.passing && (!errors.As(err, &refused) || !refused.Passing()) {
					t.Errorf("%s would not be tried again: %v", what, err)
				}
				if len(agents) != 1 || agents[0] != "riposte (run 7)" {
					t.Errorf("%s: asked by %q", what, agents)
				}
			}
		})
	}
}

type answer struct {
	do      http.HandlerFunc
	want    string
	passing bool
}

// refuse answers with a status, headers and, as hosts that want to know it do, with what it was sent.
func refuse(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "no: " + r.Header.Get("Authorization") + strings.Repeat(" or", 1000)})
	}
}

var hostile = map[string]answer{
	"unauthorized":   {refuse(401), "must be allowed to", false},
	"forbidden":      {refuse(403), "must be allowed to", false},
	"not found":      {refuse(404), "must be allowed to", false},
	"invalid":        {refuse(422), "422", false},
	"too many":       {refuse(429, "Retry-After", "61"), "61 s", true},
	"limit is spent": {refuse(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "4102444800"), "2100-01-01T00:00:00Z", true},
	"slow down":      {refuse(403, "Retry-After", "7"), "7 s", true},
	"broken":         {refuse(502), "502", true},
	"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:1/x", http.StatusTemporaryRedirect) //nolint:gosec // that is what is tested
	}, "redirects", false},
	"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "", false},
	"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", false},
}

// Open makes a forge of a kind for a server, with a token.
func Open(t *testing.T, kind forge.Type, web string) forge.Forge {
	t.Helper()
	return must2(kind.New(forge.Options{Web: web, HTTP: &http.Client{}, Token: func() (string, error) { return token, nil }}))(t)
}
