package git

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing/filemode"
)

func newFiles(t *testing.T, o Options) *Files {
	t.Helper()
	f, err := NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func yamlOnly(name string) bool { return path.Ext(name) == ".yaml" }

func names(s Snapshot) string {
	var out []string
	for _, f := range s.Files {
		out = append(out, f.Path+"="+string(f.Data))
	}
	return strings.Join(out, " ")
}

func TestReadFiles(t *testing.T) {
	eachBackend(t, func(t *testing.T, o Options) {
		origin := newOrigin(t)
		server := serve(t, origin)
		f := newFiles(t, o)
		q := FilesQuery{URL: server.repo(), Ref: "main", Path: "/rules/", Want: yamlOnly}
		origin.write("rules/deep/b.yaml", "b")
		origin.write("rules/.hidden/c.yaml", "c")
		origin.write("rules/.d.yaml", "d")
		origin.write("rules/e.txt", "e")
		origin.write("other/f.yaml", "f")
		first := origin.commit("main", "rules/a.yaml", "a")
		s, err := f.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if s.Commit != first || names(s) != "rules/a.yaml=a rules/deep/b.yaml=b" || !strings.Contains(string(s.Object), "change rules/a.yaml") {
			t.Errorf("%s: %s\n%s", s.Commit, names(s), s.Object)
		}
		packs := server.packs.Load()
		q.Known = first
		if s, err = f.Read(t.Context(), q); err != nil || s.Commit != first || s.Files != nil || server.packs.Load() != packs {
			t.Errorf("the known commit: %+v, %v; %d packs more", s, err, server.packs.Load()-packs)
		}
		second := origin.commit("main", "rules/a.yaml", "aa")
		if s, err = f.Read(t.Context(), q); err != nil || s.Commit != second || s.Rewritten || !strings.HasPrefix(names(s), "rules/a.yaml=aa ") {
			t.Errorf("the next commit: %+v, %v", s, err)
		}
		q.Known = second
		origin.git(origin.work, "reset", "--quiet", "--hard", first)
		third := origin.commit("main", "rules/a.yaml", "aaa")
		if s, err = f.Read(t.Context(), q); err != nil || s.Commit != third || !s.Rewritten {
			t.Errorf("after a forced push: %+v, %v", s, err)
		}
	})
}

func TestReadFilesOverSSH(t *testing.T) {
	server := startSSH(t)
	eachBackend(t, func(t *testing.T, o Options) {
		origin := newOrigin(t)
		o.Credentials = []Credential{{URLPrefix: server.url("/"), KnownHosts: server.known, SSHKey: func() ([]byte, error) { return server.key, nil }}}
		f := newFiles(t, o)
		known := ""
		for n := range 3 {
			commit := origin.commit("main", "a.yaml", fmt.Sprint(n))
			s, err := f.Read(t.Context(), FilesQuery{URL: server.url(origin.bare), Ref: "main", Known: known, Want: yamlOnly})
			if err != nil || s.Commit != commit || s.Rewritten || names(s) != fmt.Sprint("a.yaml=", n) {
				t.Fatalf("%s, %v; %s", s.Commit, err, names(s))
			}
			known = commit
		}
	})
}

func TestReadFilesOfAWholeRepositoryOnThisMachine(t *testing.T) {
	origin := newOrigin(t)
	commit := origin.commit("main", "a.yaml", "a")
	o := testOptions(t)
	q := FilesQuery{URL: origin.bare, Want: yamlOnly}
	if _, err := newFiles(t, o).Read(t.Context(), q); err == nil || !strings.Contains(err.Error(), "serve --dev") {
		t.Errorf("a path without --dev: %v", err)
	}
	o.AllowLocal = true
	s, err := newFiles(t, o).Read(t.Context(), q)
	if err != nil || s.Commit != commit || names(s) != "a.yaml=a" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestReadFilesIsBounded(t *testing.T) {
	origin := newOrigin(t)
	for i := range 5 {
		origin.write(fmt.Sprintf("%d.yaml", i), "0123456789")
	}
	origin.write("text", "not counted as a file")
	origin.commit("main", "link-target", "x")
	o := testOptions(t)
	o.AllowLocal = true
	for want, change := range map[string]func(*FilesQuery){
		"more than 4 files":                   func(q *FilesQuery) { q.MaxFiles = 4 },
		"more than 6 files and directories":   func(q *FilesQuery) { q.MaxEntries = 6 },
		"10 bytes long, and 9 is the most":    func(q *FilesQuery) { q.MaxFileBytes = 9 },
		"the files take more than 49 bytes":   func(q *FilesQuery) { q.MaxBytes = 49 },
		`no such directory: "rules"`:          func(q *FilesQuery) { q.Path = "rules" },
		`no such directory: "text"`:           func(q *FilesQuery) { q.Path = "text/rules" },
		`"elsewhere" is neither a branch nor`: func(q *FilesQuery) { q.Ref = "elsewhere" },
	} {
		q := FilesQuery{URL: origin.bare, Want: yamlOnly}
		change(&q)
		if _, err := newFiles(t, o).Read(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	q := FilesQuery{URL: origin.bare, Want: yamlOnly, MaxFiles: 5, MaxEntries: 7, MaxFileBytes: 10, MaxBytes: 50}
	if s, err := newFiles(t, o).Read(t.Context(), q); err != nil || len(s.Files) != 5 {
		t.Errorf("at the bounds: %d files, %v", len(s.Files), err)
	}
}

func TestReadFilesOfAHugeRepository(t *testing.T) {
	origin := newOrigin(t)
	noise := make([]byte, 3<<20)
	_, _ = rand.Read(noise) // it can't be compressed
	origin.write("noise", string(noise))
	origin.commit("main", "a.yaml", "a")
	server := serve(t, origin)
	eachBackend(t, func(t *testing.T, o Options) {
		o.MaxBytes = 1 << 20
		_, err := newFiles(t, o).Read(t.Context(), FilesQuery{URL: server.repo(), Ref: "main", Want: yamlOnly})
		if err == nil || !strings.Contains(err.Error(), "more than is allowed") {
			t.Error(err)
		}
	})
	w := newTree(t)
	entries := make([]entry, 0, 5000)
	blob := w.blob("x")
	for i := range cap(entries) {
		entries = append(entries, entry{filemode.Regular, fmt.Sprint(strings.Repeat("x", 4000), i), blob})
	}
	walk := &fileWalk{ctx: t.Context(), repo: w.repo, q: FilesQuery{Want: yamlOnly}.withDefaults()}
	if err := walk.begin(w.commit(w.tree(entries...))); !errors.Is(err, errTooManyFiles) || !strings.Contains(err.Error(), "list of files") {
		t.Error(err)
	}
}

func TestReadFilesFollowsNoLink(t *testing.T) {
	for target, outside := range map[string]bool{
		"a.yaml": false, "../a.yaml": false, "../../etc/passwd": true, "/etc/passwd": true, "../.git/config": true,
	} {
		origin := newOrigin(t)
		origin.write("a.yaml", "a")
		if err := os.MkdirAll(filepath.Join(origin.work, "rules"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(origin.work, "rules", "link.yaml")); err != nil {
			t.Fatal(err)
		}
		origin.commit("main", "rules/b.yaml", "b")
		o := testOptions(t)
		o.AllowLocal = true
		s, err := newFiles(t, o).Read(t.Context(), FilesQuery{URL: origin.bare, Path: "rules", Want: yamlOnly})
		switch {
		case outside && (err == nil || !strings.Contains(err.Error(), `"rules/link.yaml"`)):
			t.Errorf("%s: %v", target, err)
		case !outside && (err != nil || names(s) != "rules/b.yaml=b"):
			t.Errorf("%s: %s, %v", target, names(s), err)
		}
	}
}

func TestReadFilesOfADishonestTree(t *testing.T) {
	w := newTree(t)
	root := w.tree(entry{filemode.Regular, "..", w.blob("x")})
	walk := &fileWalk{ctx: t.Context(), repo: w.repo, q: FilesQuery{Want: yamlOnly}.withDefaults()}
	if err := walk.begin(w.commit(root)); !errors.Is(err, errTree) {
		t.Error(err)
	}
}

// TestAHundredThousandFiles reads a repository that is far beyond every bound.
func TestAHundredThousandFiles(t *testing.T) {
	origin := newOrigin(t)
	var script strings.Builder
	script.WriteString("blob\nmark :1\ndata 2\nx\n\ncommit refs/heads/main\ncommitter a <a@example.org> 1 +0000\ndata 1\nx\n")
	for i := range 100_000 {
		fmt.Fprintf(&script, "M 100644 :1 %d/%d.yaml\n", i/1000, i)
	}
	cmd := exec.Command("git", "-C", origin.bare, "fast-import", "--quiet")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	server := serve(t, origin)
	_, err := newFiles(t, testOptions(t)).Read(t.Context(), FilesQuery{URL: server.repo(), Ref: "main", Want: yamlOnly})
	if err == nil || !strings.Contains(err.Error(), "more than 10000 files; narrow the path") {
		t.Error(err)
	}
}

func TestReadFilesOfAnEmptyOrMissingRepository(t *testing.T) {
	origin := newOrigin(t)
	server := serve(t, origin)
	for url, want := range map[string]string{
		server.repo():                    "push a first commit",
		server.URL + "/acme/nothing.git": "not found",
		"http://127.0.0.1:1/acme/x.git":  "connection refused",
	} {
		if _, err := newFiles(t, testOptions(t)).Read(t.Context(), FilesQuery{URL: url, Want: yamlOnly}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newFiles(t, testOptions(t)).Read(ctx, FilesQuery{URL: server.repo(), Want: yamlOnly}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPlaceOf(t *testing.T) {
	for url, want := range map[string]Place{
		"git@github.com:acme/rules.git":               {"https://github.com", "acme/rules"},
		"ssh://git@git.example.com:2222/a/b/c.git":    {"https://git.example.com", "a/b/c"},
		"https://gitlab.com/acme/platform/rules":      {"https://gitlab.com", "acme/platform/rules"},
		"https://git.example.com:8443/acme/rules.git": {"https://git.example.com:8443", "acme/rules"},
		"http://127.0.0.1:3000/acme/rules.git":        {"http://127.0.0.1:3000", "acme/rules"},
		"/srv/git/rules.git":                          {"", "srv/git/rules"},
	} {
		if got, err := PlaceOf(url); err != nil || got != want {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
	}
	if _, err := PlaceOf("ftp://x"); err == nil {
		t.Error("no error")
	}
}
