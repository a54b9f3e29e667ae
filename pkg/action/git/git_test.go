package git

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

// origin is a repository and its work tree, made with the git program.
type origin struct {
	t    *testing.T
	root string // what is served
	bare string
	work string
}

func gitPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not on PATH: install git")
	}
	return path
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	gitPath(t)
	root := t.TempDir()
	o := &origin{t: t, root: root, bare: filepath.Join(root, "acme", "infra.git"), work: filepath.Join(t.TempDir(), "work")}
	o.git(root, "init", "--quiet", "--bare", "--initial-branch=main", o.bare)
	o.git(root, "init", "--quiet", "--initial-branch=main", o.work)
	return o
}

// git runs the program away from the machine's configuration.
func (o *origin) git(dir string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + o.t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (o *origin) write(name, content string) {
	o.t.Helper()
	path := filepath.Join(o.work, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// commit writes a file, commits everything and pushes branch; it returns the commit.
func (o *origin) commit(branch, name, content string) string {
	o.t.Helper()
	o.write(name, content)
	o.git(o.work, "add", "--all")
	o.git(o.work, "commit", "--quiet", "--message", "change "+name)
	o.git(o.work, "push", "--quiet", "--force", o.bare, "HEAD:refs/heads/"+branch)
	return o.git(o.work, "rev-parse", "HEAD")
}

// gitServer serves an origin over HTTP and counts packs.
type gitServer struct {
	*httptest.Server
	packs   atomic.Int64
	adverts atomic.Int64
	// password is asked for where it is set.
	password string
	mu       sync.Mutex
	seen     []string // Authorization headers
	// gate holds back packs where it is not nil; arrived hears of each that waits there.
	gate, arrived chan struct{}
}

func serve(t *testing.T, o *origin) *gitServer {
	t.Helper()
	return serveWith(t, o, httptest.NewServer)
}

func serveWith(t *testing.T, o *origin, start func(http.Handler) *httptest.Server) *gitServer {
	t.Helper()
	s := &gitServer{}
	backend := &cgi.Handler{
		Path: gitPath(t), Args: []string{"http-backend"},
		Env:    []string{"GIT_PROJECT_ROOT=" + o.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + o.root},
		Logger: nil,
	}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, req.Header.Get("Authorization"))
		s.mu.Unlock()
		if _, password, _ := req.BasicAuth(); password != s.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "you sent "+req.Header.Get("Authorization"), http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(req.URL.Path, "/git-upload-pack") {
			s.packs.Add(1)
			if s.gate != nil {
				s.arrived <- struct{}{}
				<-s.gate
			}
		} else {
			s.adverts.Add(1)
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *gitServer) repo() string { return s.URL + "/acme/infra.git" }

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func testOptions(t *testing.T) Options {
	t.Helper()
	return Options{Dir: filepath.Join(t.TempDir(), "mirrors"), Dial: dial}
}

// pullWith runs git.pull as the engine does and returns what it logged.
func pullWith(t *testing.T, d action.Definition, params *PullParams, change func(*action.Call)) (action.Outputs, string, error) {
	t.Helper()
	var log lockedBuffer
	call := &action.Call{RunID: "run", StepID: "src", Attempt: 1, Params: params, Dir: t.TempDir(), Log: &log}
	if change != nil {
		change(call)
	}
	out, err := d.Run(t.Context(), call)
	return out, log.String(), err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eachBackend runs a test with both backends.
func eachBackend(t *testing.T, f func(t *testing.T, o Options)) {
	for _, backend := range []string{BackendGoGit, BackendGit} {
		t.Run(backend, func(t *testing.T) {
			o := testOptions(t)
			o.Backend = backend
			if backend == BackendGit {
				gitPath(t)
				o.Runner = newRunner(t)
			}
			f(t, o)
		})
	}
}

func TestPullOverHTTP(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		o.write("run.sh", "#!/bin/sh\n")
		if err := os.Chmod(filepath.Join(o.work, "run.sh"), 0o755); err != nil {
			t.Fatal(err)
		}
		first := o.commit("main", "a/b.txt", "one")
		s := serve(t, o)
		d := Definitions(opts)[0]

		out, log, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := out["dir"].(string)
		if got := read(t, dir, "a/b.txt"); got != "one" {
			t.Errorf("file holds %q", got)
		}
		if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("mode of run.sh: %v, %v", info.Mode(), err)
		}
		want := action.Outputs{"dir": dir, "commit": first, "branch": "main", "ref": "refs/heads/main", "url": s.repo()}
		for k, v := range want {
			if out[k] != v {
				t.Errorf("%s = %v, want %v", k, out[k], v)
			}
		}
		if !strings.Contains(log, first) {
			t.Errorf("log does not name the commit: %s", log)
		}
		if got := o.git(dir, "status", "--porcelain"); got != "" {
			t.Errorf("the checkout is not clean: %s", got)
		}
		if got := o.git(dir, "rev-parse", "HEAD"); got != first {
			t.Errorf("HEAD = %s", got)
		}
		o.git(dir, "fsck", "--strict")

		// A second commit comes on top of what the mirror has.
		o.commit("main", "a/c.txt", "two")
		third := o.commit("main", "a/b.txt", "three")
		out, _, err = pullWith(t, d, &PullParams{URL: s.repo(), Ref: "main", Depth: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir = out["dir"].(string)
		if got := read(t, dir, "a/b.txt") + read(t, dir, "a/c.txt"); got != "threetwo" || out["commit"] != third {
			t.Errorf("got %q at %v", got, out["commit"])
		}
		o.git(dir, "fsck", "--strict")

		// Deeper and full history.
		for _, c := range []struct {
			depth int64
			count string
		}{{2, "2"}, {0, "3"}} {
			out, _, err = pullWith(t, d, &PullParams{URL: s.repo(), Ref: "main", Depth: c.depth}, nil)
			if err != nil {
				t.Fatal(err)
			}
			dir = out["dir"].(string)
			if got := o.git(dir, "rev-list", "--count", "HEAD"); got != c.count {
				t.Errorf("depth %d: %s commits, want %s", c.depth, got, c.count)
			}
			o.git(dir, "fsck", "--strict")
		}

		// Nothing is fetched that is here.
		packs := s.packs.Load()
		if _, _, err = pullWith(t, d, &PullParams{URL: s.repo(), Ref: third, Depth: 1}, nil); err != nil {
			t.Fatal(err)
		}
		if s.packs.Load() != packs {
			t.Error("a commit that the mirror holds was fetched again")
		}
	})
}

func newRunner(t *testing.T) *command.Runner {
	t.Helper()
	r, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
