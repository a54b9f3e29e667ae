package git

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestProposals(t *testing.T) {
	eachBackend(t, func(t *testing.T, o Options) {
		origin := newOrigin(t)
		merged := origin.commit("main", "a.yaml", "a")
		push := func(ref, commit string) {
			origin.git(origin.work, "push", "--quiet", "--force", origin.bare, commit+":"+ref)
		}
		server := serve(t, origin)
		f := newFiles(t, o)
		list := func() string {
			t.Helper()
			found, err := f.Proposals(t.Context(), server.repo(), "main")
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, p := range found {
				out = append(out, fmt.Sprint(p.Number, " ", p.Ref, " ", p.Commit))
			}
			return strings.Join(out, ", ")
		}
		if got := list(); got != "" || server.packs.Load() != 0 {
			t.Errorf("of none: %s; %d packs", got, server.packs.Load())
		}
		push("refs/pull/1/head", merged)
		origin.commit("main", "a.yaml", "aa")
		ahead := origin.commit("feature", "a.yaml", "aaa")
		for _, ref := range []string{"refs/pull/2/head", "refs/pull/10/head", "refs/merge-requests/3/head", "refs/pull/2/merge", "refs/pull/02/head", "refs/pull/x/head", "refs/pull/12345678901/head"} {
			push(ref, ahead)
		}
		want := fmt.Sprintf("10 refs/pull/10/head %s, 3 refs/merge-requests/3/head %[1]s, 2 refs/pull/2/head %[1]s", ahead)
		if got := list(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		// They are read as any reference is, and once merged they are gone.
		if s, err := f.Read(t.Context(), FilesQuery{URL: server.repo(), Ref: "refs/pull/10/head", Want: yamlOnly}); err != nil || s.Commit != ahead || names(s) != "a.yaml=aaa" || s.Time.IsZero() {
			t.Errorf("%+v, %v", s, err)
		}
		push("refs/heads/main", ahead)
		if got := list(); got != "" {
			t.Errorf("after the merge: %s", got)
		}
	})
	if _, err := newFiles(t, testOptions(t)).Proposals(t.Context(), "http://127.0.0.1:1/acme/x.git", ""); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

func TestACommitIsToBlameOnlyForWhatItHolds(t *testing.T) {
	origin := newOrigin(t)
	commit := origin.commit("main", "a.yaml", strings.Repeat("x", 100))
	o := testOptions(t)
	server := serve(t, origin)
	_, err := newFiles(t, o).Read(t.Context(), FilesQuery{URL: server.repo(), Ref: "main", Want: yamlOnly, MaxFileBytes: 10})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Commit != commit || !strings.Contains(string(refused.Object), "change a.yaml") || !strings.Contains(err.Error(), server.URL) {
		t.Fatal(err)
	}
	if got := refused.Error(); got != `too much is there: "a.yaml" is 100 bytes long, and 10 is the most; narrow the path, or move files elsewhere` {
		t.Error(got)
	}
	for _, q := range []FilesQuery{{URL: server.repo(), Ref: "elsewhere"}, {URL: server.URL + "/acme/nothing.git"}} {
		q.Want = yamlOnly
		if _, err := newFiles(t, o).Read(t.Context(), q); err == nil || errors.As(err, &refused) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
