package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// on goes to a branch, which is made where the work tree is if it is new.
func (o *origin) on(branch string, from ...string) {
	o.t.Helper()
	args := append([]string{"checkout", "--quiet", "-B", branch}, from...)
	o.git(o.work, args...)
}

// differ tells what changed, sorted, or fails the test.
func (o *origin) wants(d *Differ, name string, c event.Comparison, want ...string) {
	o.t.Helper()
	got, err := d.Paths(o.t.Context(), c)
	slices.Sort(got)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		o.t.Errorf("%s: %q, %v; want %q", name, got, err, want)
	}
}

// story is a repository with all that events tell of, and the commits they name.
type story struct {
	*origin
	root, second, branched, feature, deleted, forcedFrom, forcedTo, tag string
	merged, squashed, forked, orphan, moved                             string
}

func tell(t *testing.T) *story {
	s := &story{origin: newOrigin(t)}
	s.root = s.commit("main", "README", "one")
	s.commit("main", "src/a/b.go", "one")
	s.write("src/gone.go", "x")
	s.second = s.commit("main", "docs/a", "one")
	s.git(s.work, "rm", "--quiet", "src/gone.go")
	s.git(s.work, "mv", "docs/a", "docs/b")
	if err := os.Chmod(filepath.Join(s.work, "README"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.branched = s.commit("main", "src/a/b.go", "two")
	s.git(s.work, "tag", "--annotate", "--message", "x", "v1")
	s.git(s.work, "push", "--quiet", s.bare, "v1")
	s.tag = s.git(s.work, "rev-parse", "v1")

	s.on("feature")
	s.commit("feature", "feature/one", "1")
	s.feature = s.commit("feature", "feature/two", "2")
	s.on("forced", "main")
	s.forcedFrom = s.commit("forced", "forced/from", "1")
	s.on("forced", "main")
	s.forcedTo = s.commit("forced", "forced/to", "1")
	s.on("fork", "main")
	s.write("fork/one", "1")
	s.git(s.work, "add", "--all")
	s.git(s.work, "commit", "--quiet", "--message", "fork")
	s.forked = s.git(s.work, "rev-parse", "HEAD")
	s.git(s.work, "push", "--quiet", s.bare, "HEAD:refs/pull/7/head")
	s.on("tomerge", "main")
	s.merged = s.commit("tomerge", "merged/one", "1")

	s.on("main", "main")
	s.commit("main", "main/later", "1")
	s.git(s.work, "merge", "--quiet", "--no-ff", "--message", "merge", "tomerge")
	for i := range 5 {
		s.moved = s.commit("main", fmt.Sprint("main/", i), "1")
	}
	s.git(s.work, "checkout", "--quiet", "--orphan", "island")
	s.orphan = s.commit("island", "island", "1")
	return s
}

// shapes compares what every shape of an event names.
func (s *story) shapes(d *Differ, url string) {
	s.t.Helper()
	all := s.git(s.bare, "ls-tree", "-r", "--name-only", s.root)
	for _, tt := range []struct {
		name string
		c    event.Comparison
		want []string
	}{
		{"push", event.Comparison{Commit: s.branched, Before: s.second, Ref: "refs/heads/main"}, []string{"README", "docs/a", "docs/b", "src/a/b.go", "src/gone.go"}},
		{"push of many commits", event.Comparison{Commit: s.moved, Before: s.branched, Ref: "refs/heads/main"},
			[]string{"main/0", "main/1", "main/2", "main/3", "main/4", "main/later", "merged/one"}},
		{"nothing", event.Comparison{Commit: s.branched, Before: s.branched, Ref: "refs/heads/main"}, nil},
		{"new branch", event.Comparison{Commit: s.feature, Ref: "refs/heads/feature"}, []string{"feature/one", "feature/two"}},
		{"new branch where another one was", event.Comparison{Commit: s.branched, Ref: "refs/heads/new"}, nil},
		{"new branch that was merged since", event.Comparison{Commit: s.merged, Ref: "refs/heads/tomerge"}, []string{"merged/one"}},
		{"new branch without a common past", event.Comparison{Commit: s.orphan, Ref: "refs/heads/island"}, strings.Split(s.git(s.bare, "ls-tree", "-r", "--name-only", s.orphan), "\n")},
		{"first branch", event.Comparison{Commit: s.root, Ref: "refs/heads/main"}, strings.Split(all, "\n")},
		{"pull request", event.Comparison{Commit: s.feature, Ref: "refs/pull/1/head", Base: "main"}, []string{"feature/one", "feature/two"}},
		{"pull request of a fork", event.Comparison{Commit: s.forked, Ref: "refs/pull/7/head", Base: "main"}, []string{"fork/one"}},
		{"pull request that was merged", event.Comparison{Commit: s.merged, Ref: "refs/pull/2/head", Base: "main", Merged: true}, []string{"merged/one"}},
		{"moved tag", event.Comparison{Commit: s.branched, Before: s.second, Ref: "refs/tags/v1"}, []string{"README", "docs/a", "docs/b", "src/a/b.go", "src/gone.go"}},
		{"annotated tag", event.Comparison{Commit: s.tag, Before: s.second, Ref: "refs/tags/v1"}, []string{"README", "docs/a", "docs/b", "src/a/b.go", "src/gone.go"}},
	} {
		tt.c.CloneURL = url
		s.wants(d, tt.name, tt.c, tt.want...)
	}
}

func TestDiffOfEveryShape(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		s := tell(t)
		served := serve(t, s.origin)
		_, d := Open(opts)
		s.shapes(d, served.repo())
		s.shapes(d, served.repo()) // a fetch of one commit can cut off history that was here
		packs := served.packs.Load()
		s.shapes(d, served.repo())
		if n := served.packs.Load() - packs; n != 0 {
			t.Errorf("%d packs were fetched of what is here", n)
		}
	})
}

// TestDiffInANewMirror compares each shape on its own, so that nothing is there that another one brought.
func TestDiffInANewMirror(t *testing.T) {
	s := tell(t)
	served := serve(t, s.origin)
	for name, c := range map[string]event.Comparison{
		"pull request": {Commit: s.feature, Ref: "refs/pull/1/head", Base: "main"},
		"new branch":   {Commit: s.feature, Ref: "refs/heads/feature"},
	} {
		_, d := Open(testOptions(t))
		c.CloneURL = served.repo()
		s.wants(d, name, c, "feature/one", "feature/two")
	}
}

func TestDiffOfALocalRepository(t *testing.T) {
	s := tell(t)
	opts := testOptions(t)
	_, d := Open(opts)
	if _, err := d.Paths(t.Context(), event.Comparison{CloneURL: "file://" + s.bare, Commit: s.branched, Before: s.second}); !action.IsPermanent(err) || !strings.Contains(err.Error(), "serve --dev") {
		t.Errorf("err = %v", err)
	}
	opts.AllowLocal = true
	_, d = Open(opts)
	s.shapes(d, "file://"+s.bare)
}

// TestDiffOfAForcedPush: what was before is on no branch any more, so it comes from the remote only if that gives any commit
// by its id, or from the mirror.
func TestDiffOfAForcedPush(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		s := tell(t)
		served := serve(t, s.origin)
		c := event.Comparison{CloneURL: served.repo(), Commit: s.forcedTo, Before: s.forcedFrom, Ref: "refs/heads/forced"}
		_, d := Open(opts)
		_, err := d.Paths(t.Context(), c)
		if err == nil || action.IsPermanent(err) || !strings.Contains(err.Error(), s.forcedFrom) {
			t.Errorf("err = %v", err)
		}
		packs := served.packs.Load()
		if _, err = d.Paths(t.Context(), c); err == nil || served.packs.Load() != packs {
			t.Errorf("the second try: %v, and %d packs", err, served.packs.Load()-packs)
		}
		s.git(s.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
		s.wants(d, "forced", c, "forced/from", "forced/to")
		s.git(s.bare, "config", "uploadpack.allowAnySHA1InWant", "false")
		s.wants(d, "forced, from the mirror", c, "forced/from", "forced/to")
	})
}

// TestDiffFarFromTheBase has histories that left each other longer ago than the first look reaches.
func TestDiffFarFromTheBase(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		o.commit("main", "f", "one")
		o.on("old")
		old := o.commit("old", "old/f", "1")
		o.on("main", "main")
		for i := range 80 {
			o.write("g", fmt.Sprint(i))
			o.git(o.work, "add", "--all")
			o.git(o.work, "commit", "--quiet", "--message", "m")
		}
		o.commit("main", "h", "1")
		s := serve(t, o)
		_, d := Open(opts)
		o.wants(d, "far", event.Comparison{CloneURL: s.repo(), Commit: old, Ref: "refs/heads/old", Base: "main"}, "old/f")
	})
}

// TestDiffOfAFastForward: nothing says where a branch began that its base simply went on with.
func TestDiffOfAFastForward(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	tip := o.commit("main", "g", "two")
	s := serve(t, o)
	_, d := Open(testOptions(t))
	_, err := d.Paths(t.Context(), event.Comparison{CloneURL: s.repo(), Commit: tip, Ref: "refs/pull/1/head", Base: "main", Merged: true})
	if !action.IsPermanent(err) || !errors.Is(err, errSettled) {
		t.Errorf("err = %v", err)
	}
}

func TestDiffsThatFail(t *testing.T) {
	o := newOrigin(t)
	one := o.commit("main", "f", "one")
	two := o.commit("main", "g", strings.Repeat("two", 10))
	s := serve(t, o)
	s.password = token
	push := event.Comparison{CloneURL: s.repo(), Commit: two, Before: one, Ref: "refs/heads/main"}
	opts := testOptions(t)
	_, d := Open(opts)
	if _, err := d.Paths(t.Context(), push); err == nil || action.IsPermanent(err) || !strings.Contains(err.Error(), "no credential's URL prefix") {
		t.Errorf("without a credential: %v", err)
	}
	opts.Credentials = []Credential{tokenFor(s.URL + "/acme")}
	_, d = Open(opts)
	o.wants(d, "with one", push, "g")

	opts.MaxBytes, opts.Dir = 100, t.TempDir()
	_, d = Open(opts)
	if _, err := d.Paths(t.Context(), push); !action.IsPermanent(err) || !errors.Is(err, errTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for name, c := range map[string]event.Comparison{
		"no commit id": {CloneURL: s.repo(), Commit: "HEAD", Before: one},
		"no URL":       {CloneURL: "ext::sh", Commit: two, Before: one},
	} {
		if _, err := d.Paths(t.Context(), c); !action.IsPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, d = Open(Options{}); d == nil {
		t.Fatal("no Differ")
	} else if _, err := d.Paths(t.Context(), push); !action.IsPermanent(err) {
		t.Errorf("options that do not validate: %v", err)
	}
}

// TestDiffsOfAHangingHost asks for several repositories of a host that takes connections and answers nothing: each attempt
// ends by its time limit, and may be made again.
func TestDiffsOfAHangingHost(t *testing.T) {
	var asked sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path, true)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	opts := testOptions(t)
	opts.Timeout = 300 * time.Millisecond
	_, d := Open(opts)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			c := event.Comparison{CloneURL: fmt.Sprintf("%s/acme/r%d", s.URL, i), Commit: strings.Repeat("2", 40), Before: strings.Repeat("1", 40), Ref: "refs/heads/main"}
			if _, err := d.Paths(t.Context(), c); !errors.Is(err, errTimeout) || action.IsPermanent(err) {
				t.Errorf("repository %d: %v", i, err)
			}
			if _, ok := asked.Load(fmt.Sprintf("/acme/r%d/info/refs", i)); !ok {
				t.Errorf("repository %d was not asked for", i)
			}
		})
	}
	wg.Wait()
}

// TestConcurrentDiffsFetchOnce shares the mirror, and the turn to fetch, with git.pull.
func TestConcurrentDiffsFetchOnce(t *testing.T) {
	o := newOrigin(t)
	one := o.commit("main", "f", "one")
	two := o.commit("main", "g", "two")
	s := serve(t, o)
	defs, d := Open(testOptions(t))
	if _, _, err := pullWith(t, defs[0], &PullParams{URL: s.repo()}, nil); err != nil {
		t.Fatal(err)
	}
	packs := s.packs.Load()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			o.wants(d, "push", event.Comparison{CloneURL: s.repo(), Commit: two, Before: one, Ref: "refs/heads/main"}, "g")
		})
	}
	wg.Wait()
	if s.packs.Load() != packs {
		t.Error("what git.pull had brought was fetched again")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopping")
	cancel(why)
	if _, err := d.Paths(ctx, event.Comparison{CloneURL: s.repo(), Commit: strings.Repeat("3", 40), Before: one, Ref: "refs/heads/main"}); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDiffAfterTheMirrorBroke(t *testing.T) {
	o := newOrigin(t)
	one := o.commit("main", "f", "one")
	two := o.commit("main", "g", "two")
	s := serve(t, o)
	opts := testOptions(t)
	_, d := Open(opts)
	c := event.Comparison{CloneURL: s.repo(), Commit: two, Before: one, Ref: "refs/heads/main"}
	o.wants(d, "first", c, "g")
	packs, _ := filepath.Glob(filepath.Join(onlyMirror(t, opts.Dir), "objects/pack/*.pack"))
	for _, p := range packs {
		_ = os.Chmod(p, 0o600)
		if err := os.Truncate(p, 20); err != nil {
			t.Fatal(err)
		}
	}
	o.wants(d, "second", c, "g")
}
