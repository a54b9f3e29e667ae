package app_test

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

// repository is a bare repository, a work tree beside it, and a host that serves it while it is up.
type repository struct {
	t          *testing.T
	root, work string
	host       *httptest.Server
	down       atomic.Bool
	asked      atomic.Int64
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not on PATH: install git")
	}
	r := &repository{t: t, root: t.TempDir(), work: t.TempDir()}
	r.git("init", "--quiet", "--bare", "--initial-branch=main", r.bare())
	r.git("init", "--quiet", "--initial-branch=main", r.work)
	backend := &cgi.Handler{Path: program, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + r.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + r.root}}
	r.host = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		if r.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(r.host.Close)
	return r
}

func (r *repository) bare() string { return filepath.Join(r.root, "acme.git") }

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.root, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit changes a file on a branch, and pushes it.
func (r *repository) commit(branch, name string) string {
	r.t.Helper()
	path := filepath.Join(r.work, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message", name)
	r.git("push", "--quiet", r.bare(), "HEAD:refs/heads/"+branch)
	return r.git("rev-parse", "HEAD")
}

func (r *repository) fields(url string) string {
	return fmt.Sprintf(`"repository":{"full_name":"acme/shop","clone_url":%q}`, url)
}

const changedRules = githubSource + `apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: docs}
spec:
  trigger: {source: github, type: [push, pull_request]}
  when: changed("docs/**")
  steps:
    - {id: all, if: changed("src/**"), uses: exec.run, with: {command: [echo, "src too"]}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: plain}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "plain"
  steps: [{uses: exec.run, with: {command: [echo]}}]
---
`

type decided struct {
	Git      struct{ Paths []string }
	Decision *struct {
		Why     string
		Runs    []string
		Changed *struct{ Paths []string }
	}
}

func (s *server) decided(id string) decided {
	s.t.Helper()
	var e decided
	s.wait("a decision of "+id, func() bool { return s.get("events/"+id, &e) && e.Decision != nil })
	return e
}

func (s *server) wantsChanged(name, id string, runs int, paths ...string) {
	s.t.Helper()
	d := s.decided(id)
	if d.Decision.Changed == nil || !slices.Equal(d.Decision.Changed.Paths, paths) || len(d.Decision.Runs) != runs {
		s.t.Errorf("%s: decided %+v, changed %+v", name, *d.Decision, d.Decision.Changed)
	}
}

// TestChangedPathsComeFromADiff sends what a host sends that lists too little, or nothing, while the repository's host is
// down at first.
func TestChangedPathsComeFromADiff(t *testing.T) {
	r := newRepository(t)
	one := r.commit("main", "README")
	r.commit("main", "docs/a")
	two := r.commit("main", "src/b")
	r.git("checkout", "--quiet", "-b", "feature")
	three := r.commit("feature", "docs/c")
	c := testConfig(t, t.TempDir())
	c.Git.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	c.Rules.Dirs = []string{t.TempDir()}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(changedRules)
	s := launch(t, c)
	repo := r.fields(r.host.URL + "/acme.git")

	r.down.Store(true)
	push := fmt.Sprintf(`{"ref":"refs/heads/main","before":%q,"after":%q,"size":30,"commits":[{"modified":["src/b"]}],%s}`, one, two, repo)
	first := s.push(push)
	s.wait("a try", func() bool { return r.asked.Load() > 0 })
	plain := s.push(fmt.Sprintf(`{"ref":"refs/heads/plain","before":%q,"after":%q,"commits":[{"modified":["docs/a"]}],%s}`, one, two, repo))
	if d := s.decided(plain.ID); len(d.Decision.Runs) != 2 || d.Decision.Changed != nil {
		t.Errorf("what lists all of its paths is decided %+v", *d.Decision)
	}
	var waits decided
	if !s.get("events/"+first.ID, &waits) || waits.Decision != nil {
		t.Errorf("what needs a diff is decided %+v", waits.Decision)
	}
	r.down.Store(false)
	s.wantsChanged("after the host came back", first.ID, 1, "docs/a", "src/b")
	if e := s.decided(first.ID); !slices.Equal(e.Git.Paths, []string{"src/b"}) {
		t.Errorf("event.git.paths is %q", e.Git.Paths)
	}
	done := s.ended(first.ID + "-docs")
	if done.State != run.Succeeded || len(done.Steps) != 1 || done.Steps[0].State != run.StepSucceeded {
		t.Errorf("%+v", done)
	}
	var why struct {
		Rules []struct {
			Rule   string
			Result string
		}
	}
	if !s.get("events/"+first.ID+"/explain", &why) || len(why.Rules) == 0 || why.Rules[0].Rule != "docs" || why.Rules[0].Result != "run" {
		t.Errorf("explained %+v", why)
	}

	branch := s.push(fmt.Sprintf(`{"ref":"refs/heads/feature","before":"%040d","after":%q,"created":true,"commits":[],%s}`, 0, three, repo))
	s.wantsChanged("new branch", branch.ID, 1, "docs/c")
	request := s.deliver("pull_request", fmt.Sprintf(`{"action":"opened","pull_request":{"number":7,"base":{"ref":"main","repo":{"full_name":"acme/shop"}},"head":{"ref":"feature","sha":%q,"repo":null}},%s}`, three, repo))
	s.wantsChanged("pull request of a fork", request.ID, 1, "docs/c")
	gone := s.push(fmt.Sprintf(`{"ref":"refs/heads/feature","before":%q,"after":"%040d","deleted":true,"commits":[],%s}`, three, 0, repo))
	if d := s.decided(gone.ID); len(d.Decision.Runs) != 0 || d.Decision.Changed != nil || !strings.Contains(d.Decision.Why, "does not list all changed paths") {
		t.Errorf("a branch that is gone is decided %+v", *d.Decision)
	}
	var all struct{ Items []decided }
	if !s.get("events", &all) || len(all.Items) != 5 {
		t.Fatalf("events %+v", all)
	}
	for i, want := range []int{0, 1, 1, 0, 2} { // a list has what only a diff could tell, newest first
		if d := all.Items[i].Decision; (d != nil) != (want > 0) || d != nil && len(d.Changed.Paths) != want {
			t.Errorf("event %d of the list is decided %+v, want %d paths", i, d, want)
		}
	}
	if n := strings.Count(s.log.String(), "it is tried again"); n == 0 {
		t.Error("the log does not tell of the tries")
	}
}

// TestADiffOutlivesTheServer stops the server while an event waits.
func TestADiffOutlivesTheServer(t *testing.T) {
	r := newRepository(t)
	one := r.commit("main", "README")
	two := r.commit("main", "docs/a")
	data := t.TempDir()
	c := testConfig(t, data)
	c.Dev = true
	c.Rules.Dirs = []string{t.TempDir()}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(changedRules)
	s := launch(t, c)
	push := s.push(fmt.Sprintf(`{"ref":"refs/heads/main","before":%q,"after":%q,"forced":true,"commits":[],%s}`, one, two, r.fields("file://"+filepath.Join(r.root, "moved.git"))))
	s.wait("a try", func() bool { return strings.Contains(s.log.String(), "it is tried again") })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.bare(), filepath.Join(r.root, "moved.git")); err != nil {
		t.Fatal(err)
	}
	again := testConfig(t, data)
	again.Dev, again.Rules.Dirs = true, c.Rules.Dirs
	s = launch(t, again)
	s.wantsChanged("after a restart", push.ID, 1, "docs/a")
	if done := s.ended(push.ID + "-docs"); done.State != run.Succeeded || done.Steps[0].State != run.StepSkipped {
		t.Errorf("%+v", done)
	}
}
