//go:build e2e

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// repository makes a bare repository with one file below a new root, and returns the root and the commit.
func repository(t *testing.T, text string) (root, commit string) {
	t.Helper()
	need(t, "git", "apt-get install git")
	root = t.TempDir()
	work := filepath.Join(t.TempDir(), "work")
	run := func(dir string, args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "user.name=e2e", "-c", "user.email=e2e@example.com"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run(root, "init", "--quiet", "-b", "main", work)
	if err := os.WriteFile(filepath.Join(work, "file"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(work, "add", ".")
	run(work, "commit", "--quiet", "-m", "first")
	run(root, "clone", "--quiet", "--bare", work, "infra.git")
	return root, run(work, "rev-parse", "HEAD")
}

// guarded serves repositories to who knows the password alone, and counts those that did not.
func guarded(t *testing.T, root, username, password string) (url string, denied *atomic.Int64) {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	}
	denied = &atomic.Int64{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != username || p != password {
			denied.Add(1)
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, denied
}

// pullRule pulls what the event names, and reads a file of it.
const pullRule = `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: pull}
spec:
  trigger: {source: github, type: push}
  steps:
    - id: src
      uses: git.pull
      with: {url: "${{ event.git.cloneURL }}", ref: "${{ event.git.branch }}"}
    - id: file
      uses: exec.run
      with: {command: [cat, file], dir: "${{ steps.src.outputs.dir }}"}
`

// pull lets the rule run on a repository's push, and returns the run once it is over.
func (s *server) pull(url, commit string) runRecord {
	s.t.Helper()
	body := fmt.Sprintf(`{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","after":%q,
"repository":{"full_name":"acme/infra","clone_url":%q},"pusher":{"name":"ana"},"commits":[]}`, commit, url)
	return s.ended(s.push(body) + "-pull")
}

// configure writes a configuration file.
func configure(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "riposte.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func eachBackend(t *testing.T, test func(t *testing.T, backend string)) {
	for _, backend := range []string{"go-git", "git"} {
		t.Run(backend, func(t *testing.T) { test(t, backend) })
	}
}

// TestE2EPullHTTP pulls from a server that wants a password, which goes to the URLs below its prefix and nowhere else.
func TestE2EPullHTTP(t *testing.T) {
	root, commit := repository(t, "over http")
	url, _ := guarded(t, root, "ci", "git-token-0123456789")
	other, otherDenied := guarded(t, root, "nobody", "knows this")
	t.Setenv("E2E_GIT_TOKEN", "git-token-0123456789")
	eachBackend(t, func(t *testing.T, backend string) {
		config := configure(t, "secrets: {git-token: {env: E2E_GIT_TOKEN}}\ncredentials:\n  - {url: \""+url+"/\", username: ci, token: git-token}\n")
		s := serve(t, t.TempDir(), githubSource+pullRule, "--config", config, "--git-backend", backend)
		r := s.pull(url+"/infra.git", commit)
		if r.State != "succeeded" || r.step("src").Outputs["commit"] != commit || !strings.Contains(fmt.Sprint(r.step("file").Outputs), "over http") {
			t.Errorf("the run is %+v", r)
		}
		before := otherDenied.Load()
		r = s.pull(other+"/infra.git", commit)
		if r.State != "failed" || r.step("src").State != "failed" || otherDenied.Load() == before {
			t.Errorf("without a credential the run is %+v", r)
		}
		if all := fmt.Sprint(r) + s.output.String(); strings.Contains(all, "git-token-0123456789") {
			t.Error("the token shows")
		}
	})
}

// TestE2EPullSSH pulls over ssh from a real sshd, whose host key must be the known one.
func TestE2EPullSSH(t *testing.T) {
	root, commit := repository(t, "over ssh")
	sshd := startSSHD(t)
	url := "ssh://" + sshd.user + "@" + sshd.address + root + "/infra.git"
	eachBackend(t, func(t *testing.T, backend string) {
		for known, want := range map[string]string{sshd.known: "succeeded", sshd.wrong: "failed"} {
			config := configure(t, fmt.Sprintf("secrets: {key: {file: %q}}\ncredentials:\n  - {url: \"ssh://%s@%s/\", sshKey: key, knownHosts: %q}\n",
				sshd.key, sshd.user, sshd.address, known))
			s := serve(t, t.TempDir(), githubSource+pullRule, "--config", config, "--git-backend", backend)
			r := s.pull(url, commit)
			if r.State != want || want == "succeeded" && !strings.Contains(fmt.Sprint(r.step("file").Outputs), "over ssh") {
				t.Errorf("the run is %+v, want %s", r, want)
			}
		}
	})
}

type sshServer struct{ address, user, key, known, wrong string }

func startSSHD(t *testing.T) sshServer {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if path, err := exec.LookPath("sshd"); err == nil {
		sshd = path
	}
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("sshd is not installed: apt-get install openssh-server")
	}
	keygen := need(t, "ssh-keygen", "apt-get install openssh-client")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // sshd wants it, and only root can make it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("sshd's directory can't be made: %v", err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"host", "key", "stranger"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	s := sshServer{address: freeAddress(t), user: me.Username, key: filepath.Join(dir, "key")}
	host, port, _ := net.SplitHostPort(s.address)
	knownHosts := func(name string) string {
		public, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "known-"+name)
		if err := os.WriteFile(file, fmt.Appendf(nil, "[%s]:%s %s", host, port, public), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	s.known, s.wrong = knownHosts("host"), knownHosts("stranger")
	conf := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf("Port %s\nListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"+
		"UsePAM no\nPidFile none\nStrictModes no\nPermitRootLogin prohibit-password\n", port, host, filepath.Join(dir, "host"), filepath.Join(dir, "key.pub"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	var out lockedBuffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Skipf("sshd does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(tail(out.String(), 2000))
		}
	})
	waitFor(t, 30*time.Second, "sshd to listen", func() bool { return strings.Contains(out.String(), "Server listening") })
	return s
}

// hostile is a Git server that misbehaves in one way.
func hostile(t *testing.T, serve func(w http.ResponseWriter, r *http.Request)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(serve))
	t.Cleanup(srv.Close)
	return srv.URL + "/infra.git"
}

// TestE2EPullHostile: a remote that hangs, one that sends without end, and one at a private address cost their own run, not
// those of other repositories.
func TestE2EPullHostile(t *testing.T) {
	root, commit := repository(t, "well-behaved")
	good := serveGit(t, root) + "/infra.git"
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	hangs := hostile(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	var sent atomic.Int64
	floods := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000")
		line, name := commit+" refs/heads/main\x00ofs-delta agent=git/2\n", strings.Repeat("x", 1000)
		for i := 0; ; i++ {
			n, err := fmt.Fprintf(w, "%04x%s", len(line)+4, line)
			if sent.Add(int64(n)); err != nil || r.Context().Err() != nil {
				return
			}
			line = fmt.Sprintf("%s refs/heads/%s-%d\n", commit, name, i)
		}
	})
	eachBackend(t, func(t *testing.T, backend string) {
		s := serve(t, t.TempDir(), githubSource+pullRule, "--git-backend", backend, "--git-timeout", "5s", "--git-max-bytes", "4MiB")
		for what, url := range map[string]string{"took too long": hangs, "more than": floods} {
			sent.Store(0)
			r := s.pull(url, commit)
			if r.State != "failed" || r.step("src").State != "failed" || !strings.Contains(r.step("src").Error, what) {
				t.Errorf("the run is %.1500s, want it failed because the remote %s", fmt.Sprint(r), what)
			}
			if n := sent.Load(); n > 64<<20 { // what the sockets' buffers hold is sent too
				t.Errorf("the remote could send %d bytes", n)
			}
		}
		if r := s.pull(good, commit); r.State != "succeeded" {
			t.Errorf("of the next repository the run is %+v", r)
		}
	})
	eachBackend(t, func(t *testing.T, backend string) {
		dialled := atomic.Int64{}
		private := hostile(t, func(w http.ResponseWriter, _ *http.Request) { dialled.Add(1); w.WriteHeader(http.StatusNotFound) })
		s := serve(t, t.TempDir(), githubSource+pullRule, "--git-backend", backend, "--git-allow-private", "192.0.2.0/24")
		if r := s.pull(private, commit); r.State != "failed" || !strings.Contains(r.step("src").Error, "git.allowPrivate") || dialled.Load() != 0 {
			t.Errorf("of a private address the run is %+v, and it was asked %d times", r, dialled.Load())
		}
	})
}
