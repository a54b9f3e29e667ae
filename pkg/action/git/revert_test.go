package git

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

func TestRevert(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		o.commit("main", "services.yaml", "a: 1\nb: 1\nc: 1\nd: 1\n")
		bad := o.commit("main", "services.yaml", "a: 2\nb: 1\nc: 1\nd: 1\n")
		o.history(80) // deeper than the first fetch
		tip := o.commit("main", "services.yaml", "a: 2\nb: 1\nc: 1\nd: 2\n")
		s := serve(t, o)
		r := newRuns(t, opts)
		params := &RevertParams{URL: s.repo(), Commit: bad, Branch: "main", Push: true}

		trial := *params
		trial.Push = false
		if out := r.do("git.revert", &trial); out["changed"] != true || o.git(o.bare, "rev-parse", "main") != tip {
			t.Errorf("a trial: %v", out)
		}
		out := r.do("git.revert", params)
		made := o.git(o.bare, "rev-parse", "main")
		want := action.Outputs{"commit": made, "branch": "main", "url": s.repo(), "reverted": bad, "changed": true, "previous": tip, "files": []any{"services.yaml"}}
		if !reflect.DeepEqual(out, want) {
			t.Errorf("%v, want %v", out, want)
		}
		if got := o.git(o.bare, "show", "main:services.yaml"); got != "a: 1\nb: 1\nc: 1\nd: 2" {
			t.Errorf("the file holds %q", got)
		}
		message := o.git(o.bare, "log", "-1", "--format=%B", "main")
		if want := "Revert \"change services.yaml\"\n\nThis reverts commit " + bad + ".\n\nRiposte-Run: RUN1\nRiposte-Rule: heal"; message != want || event.CommitRun(message) != "RUN1" {
			t.Errorf("message %q, want %q", message, want)
		}
		o.git(o.bare, "fsck", "--strict")

		// The step made again, and another run.
		want["previous"], want["files"] = "", []any{}
		if out := r.do("git.revert", params); !reflect.DeepEqual(out, want) {
			t.Errorf("again: %v, want %v", out, want)
		}
		want["changed"] = false
		if out := r.again("RUN2").do("git.revert", params); !reflect.DeepEqual(out, want) {
			t.Errorf("by another run: %v, want %v", out, want)
		}
		if o.git(o.bare, "rev-parse", "main") != made {
			t.Error("main moved")
		}

		// People brought it back; then it is reverted once more.
		o.git(o.work, "pull", "--quiet", o.bare, "main")
		o.git(o.work, "revert", "--no-edit", "HEAD")
		o.git(o.work, "push", "--quiet", o.bare, "HEAD:main")
		if out := r.again("RUN3").do("git.revert", params); out["changed"] != true || o.git(o.bare, "show", "main:services.yaml") != "a: 1\nb: 1\nc: 1\nd: 2" {
			t.Errorf("once more: %v", out)
		}
	})
}

func TestRevertOfWhatCannotBe(t *testing.T) {
	o := newOrigin(t)
	root := o.commit("main", "a", "one\n")
	bad := o.commit("main", "a", "two\n")
	elsewhere := o.commit("topic", "t", "x")
	o.git(o.work, "reset", "--quiet", "--hard", bad)
	o.commit("main", "a", "three\n")
	undone := o.commit("main", "b", "x")
	must(t, os.Remove(filepath.Join(o.work, "b")))
	tip := o.commit("main", "c", "of its own")
	s := serve(t, o)
	r := newRuns(t, testOptions(t))
	on := func(commit string) *RevertParams {
		return &RevertParams{URL: s.repo(), Commit: commit, Branch: "main", Push: true}
	}
	r.refused("same places: a; revert those", "git.revert", on(bad))
	r.refused("not in the history", "git.revert", on(elsewhere))
	r.refused("not in the history", "git.revert", on(strings.Repeat("1", 40)))
	r.refused("same places: a", "git.revert", on(root))
	r.refused("commit is empty", "git.revert", on(""))
	r.refused("40 digits", "git.revert", on("main"))
	r.refused("cut short", "git.revert", on(bad[:7]))
	r.refused(`branch "none"`, "git.revert", &RevertParams{URL: s.repo(), Commit: bad, Branch: "none"})
	r.refused("refs/heads", "git.revert", &RevertParams{URL: s.repo(), Commit: bad, Branch: "refs/heads/main"})
	r.refused("mainline is 2", "git.revert", &RevertParams{URL: s.repo(), Commit: tip, Branch: "main", Mainline: 2})
	r.refused("url:", "git.revert", &RevertParams{URL: "ext::sh -c id # ext", Commit: bad, Branch: "main"})
	if out := r.do("git.revert", on(undone)); out["changed"] != false || out["commit"] != tip {
		t.Errorf("undone by hand: %v", out)
	}
	if got := o.git(o.bare, "rev-parse", "main"); got != tip {
		t.Errorf("main is at %s", got)
	}
}

func TestRevertOfMergesAndRoots(t *testing.T) {
	o := newOrigin(t)
	root := o.commit("main", "a", "one\n")
	o.git(o.work, "checkout", "--quiet", "-b", "topic")
	o.commit("topic", "t", "x")
	o.git(o.work, "checkout", "--quiet", "-b", "fix", root)
	o.commit("fix", "f", "x")
	o.git(o.work, "checkout", "--quiet", "topic")
	o.git(o.work, "merge", "--quiet", "--no-ff", "-m", "merge fix", "fix")
	inner := o.git(o.work, "rev-parse", "HEAD")
	o.git(o.work, "checkout", "--quiet", "main")
	o.commit("main", "m", "x")
	o.git(o.work, "merge", "--quiet", "--no-ff", "-m", "merge topic", "topic")
	o.git(o.work, "push", "--quiet", o.bare, "main")
	merge := o.git(o.work, "rev-parse", "HEAD")
	s := serve(t, o)
	r := newRuns(t, testOptions(t))
	r.refused("give mainline", "git.revert", &RevertParams{URL: s.repo(), Commit: inner, Branch: "main", Push: true})
	r.do("git.revert", &RevertParams{URL: s.repo(), Commit: inner, Branch: "main", Mainline: 1, Push: true})
	if got := o.git(o.bare, "ls-tree", "--name-only", "main"); got != "a\nm\nt" {
		t.Errorf("main holds %q", got)
	}
	r.do("git.revert", &RevertParams{URL: s.repo(), Commit: merge, Branch: "main", Push: true})
	if got := o.git(o.bare, "ls-tree", "--name-only", "main"); got != "a\nm" {
		t.Errorf("main holds %q", got)
	}
	if got := o.git(o.bare, "log", "-1", "--format=%B", "main"); !strings.Contains(got, "This reverts commit "+merge+", reversing\nchanges made to ") {
		t.Errorf("message %q", got)
	}
	r.do("git.revert", &RevertParams{URL: s.repo(), Commit: root, Branch: "main", Push: true, Message: "away with it"})
	if got := o.git(o.bare, "ls-tree", "--name-only", "main"); got != "m" {
		t.Errorf("main holds %q", got)
	}
	o.git(o.bare, "fsck", "--strict")
}

// TestRevertAsGit reverts random commits of random histories, and compares with git. Where git reverts the result must be
// the same; where git finds a conflict, so must this. git follows renamed files, which are conflicts here.
func TestRevertAsGit(t *testing.T) {
	gitPath(t)
	same, conflicts, careful, empty := 0, 0, 0, 0
	for seed := range uint64(8) {
		o := newOrigin(t)
		r := rand.New(rand.NewPCG(seed, 3))
		commits := randomHistory(o, r, 12)
		for _, id := range commits {
			o.git(o.work, "reset", "--quiet", "--hard", commits[len(commits)-1])
			repo := openRepository(filepath.Join(o.work, ".git"))
			tree, clash := revertedTree(t, repo, id, commits[len(commits)-1])
			cmd := exec.Command("git", "-c", "merge.directoryRenames=false", "-c", "user.name=a", "-c", "user.email=a@example.org", "revert", "--no-edit", id)
			cmd.Dir = o.work
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1"}
			said, err := cmd.CombinedOutput()
			switch {
			case err == nil && len(clash) > 0:
				careful++
			case err == nil:
				same++
				if want := o.git(o.work, "rev-parse", "HEAD^{tree}"); tree.String() != want {
					t.Errorf("seed %d, %s: another tree\n%s", seed, id, o.git(o.work, "diff", "--stat", tree.String(), want))
				}
			case strings.Contains(string(said), "nothing to commit") || strings.Contains(string(said), "is now empty") || strings.Contains(string(said), "working tree clean"):
				empty++
				if want := o.git(o.work, "rev-parse", "HEAD^{tree}"); tree.String() != want && len(clash) == 0 {
					t.Errorf("seed %d, %s: git finds nothing to undo", seed, id)
				}
			default:
				conflicts++
				if len(clash) == 0 {
					t.Errorf("seed %d, %s: git finds a conflict: %s", seed, id, said)
				}
				o.git(o.work, "reset", "--quiet", "--hard")
			}
		}
	}
	t.Logf("%d reverted alike, %d conflicts, %d that git reverts, %d with nothing to undo", same, conflicts, careful, empty)
	if same == 0 || conflicts == 0 {
		t.Error("the histories show nothing")
	}
}

func revertedTree(t *testing.T, repo *repository, id, head string) (plumbing.Hash, []string) {
	t.Helper()
	treeOf := func(h plumbing.Hash) *object.Commit {
		c, err := object.GetCommit(repo, h)
		must(t, err)
		return c
	}
	c := treeOf(plumbing.NewHash(id))
	before := plumbing.ZeroHash
	if len(c.ParentHashes) > 0 {
		before = treeOf(c.ParentHashes[0]).TreeHash
	}
	objects := newOverlay(repo)
	m := &merger{ctx: context.Background(), objects: objects}
	tree, err := m.merge(c.TreeHash, treeOf(plumbing.NewHash(head)).TreeHash, before)
	must(t, err)
	for _, h := range objects.order { // for git to compare
		_, err := repo.SetEncodedObject(objects.made[h])
		must(t, err)
	}
	return tree, m.conflicts
}

// randomHistory changes, adds, deletes, renames and links files, and turns files into directories and back.
func randomHistory(o *origin, r *rand.Rand, length int) []string {
	var commits []string
	names := []string{"a", "b", "d/a", "d/b", "d/e/f", "x", "x/y", "bin"}
	line := func() string { return fmt.Sprintf("line %d\n", r.IntN(40)) }
	for range length {
		for range 1 + r.IntN(3) {
			alter(o, r, names[r.IntN(len(names))], line)
		}
		o.git(o.work, "add", "--all")
		o.git(o.work, "commit", "--quiet", "--allow-empty", "--message", "change")
		commits = append(commits, o.git(o.work, "rev-parse", "HEAD"))
	}
	return commits
}

func alter(o *origin, r *rand.Rand, name string, line func() string) {
	path := filepath.Join(o.work, name)
	text, err := os.ReadFile(path)
	known := err == nil
	switch kind := r.IntN(10); {
	case known && kind < 6:
		lines := strings.SplitAfter(string(text), "\n")
		must(o.t, os.WriteFile(path, []byte(strings.Join(edited(r, lines, line), "")), 0o644))
	case known && kind == 6:
		must(o.t, os.Chmod(path, 0o755))
	case kind == 7:
		_ = os.RemoveAll(path) // a file may stand where its directory would
	default:
		_ = os.RemoveAll(path)
		if dir := filepath.Dir(path); dir != o.work {
			if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
				must(o.t, os.Remove(dir))
			}
			must(o.t, os.MkdirAll(dir, 0o755))
		}
		switch kind {
		case 8:
			must(o.t, os.Symlink(line(), path))
		case 9:
			must(o.t, os.WriteFile(path, []byte("\x00"+line()), 0o644))
		default:
			var out strings.Builder
			for range 8 + r.IntN(8) {
				out.WriteString(line())
			}
			must(o.t, os.WriteFile(path, []byte(out.String()), 0o644))
		}
	}
}

func TestRevertOfWhatWasRenamedSince(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "a", "one\n")
	text := strings.Repeat("some line\n", 20)
	bad := o.commit("main", "new", text)
	o.git(o.work, "mv", "new", "elsewhere")
	head := o.commit("main", "elsewhere", text+"more\n")
	repo := openRepository(filepath.Join(o.work, ".git"))
	if _, clash := revertedTree(t, repo, bad, head); listed(clash) != "new (now elsewhere)" {
		t.Errorf("conflicts in %v", clash)
	}
	must(t, os.Remove(filepath.Join(o.work, "elsewhere")))
	head = o.commit("main", "unlike", "nothing of it\n")
	if tree, clash := revertedTree(t, repo, bad, head); len(clash) > 0 || tree.String() != o.git(o.work, "rev-parse", "HEAD^{tree}") {
		t.Errorf("conflicts in %v", clash)
	}
}

// TestMergeHonoursAttributes leaves to people what is not merged line by line.
func TestMergeHonoursAttributes(t *testing.T) {
	o := newOrigin(t)
	o.write(".gitattributes", "# comment\n*.lock -merge\n\"q u.txt\" binary\n/top merge=ours\n\"\"\n\"open\n")
	o.write("d/.gitattributes", "yes.lock merge\n")
	files := []string{"a.lock", "q u.txt", "top", "d/top", "d/a.lock", "d/yes.lock", "plain"}
	all := func(text string) string {
		for _, f := range files {
			o.write(f, text)
		}
		return o.commit("main", "z", text)
	}
	all("1\n2\n3\n4\n5\n")
	bad := all("one\n2\n3\n4\n5\n")
	head := all("one\n2\n3\n4\nfive\n")
	_, clash := revertedTree(t, openRepository(filepath.Join(o.work, ".git")), bad, head)
	if got := listed(clash); got != "a.lock, d/a.lock, q u.txt, top" {
		t.Errorf("conflicts in %s", got)
	}
}

// TestMergeOfWhatIsTooLarge keeps within its bounds.
func TestMergeOfWhatIsTooLarge(t *testing.T) {
	s := newOverlay(memory.NewStorage())
	text := strings.Repeat("0123456789abcde\n", maxMerged/16)
	big := func(name string, texts ...string) plumbing.Hash {
		var entries []object.TreeEntry
		for i, text := range texts {
			obj := &plumbing.MemoryObject{}
			obj.SetType(plumbing.BlobObject)
			_, _ = obj.Write([]byte(text))
			h, err := s.SetEncodedObject(obj)
			must(t, err)
			if len(texts) > 1 {
				name = fmt.Sprint("f", i)
			}
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: h})
		}
		h, err := storeTree(s, entries)
		must(t, err)
		return h
	}
	m := &merger{ctx: t.Context(), objects: s}
	_, err := m.merge(big("f", "a\n"+text, manyLines(0)), big("f", "b\n"+text, manyLines(1)), big("f", "a\n"+text+"c\n", manyLines(2)))
	if err != nil || listed(m.conflicts) != "f0, f1" {
		t.Errorf("conflicts in %v, %v", m.conflicts, err)
	}
	for _, name := range []string{".git", "a/b", "..", "GIT~1"} {
		_, err := (&merger{ctx: t.Context(), objects: s}).merge(big("f", "1"), big("f", "2"), big(name, "3"))
		if !errors.Is(err, errTree) {
			t.Errorf("a tree with %q: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the run was cancelled")
	cancel(why)
	if _, err := (&merger{ctx: ctx, objects: s}).merge(big("f", "1"), big("f", "2"), big("f", "3")); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

func manyLines(kind int) string {
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, "%d %d\n", kind, i)
	}
	return b.String()
}
