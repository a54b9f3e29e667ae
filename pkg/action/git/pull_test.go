package git

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
)

const token = "s3cret-token"

func tokenFor(prefix string) Credential {
	return Credential{URLPrefix: prefix, Token: func() (string, error) { return token, nil }}
}

func TestReferences(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		first := o.commit("main", "f", "one")
		o.git(o.work, "tag", "light")
		o.git(o.work, "tag", "--annotate", "--message", "x", "v1")
		second := o.commit("feature/x", "f", "two")
		o.git(o.work, "push", "--quiet", o.bare, "--tags")
		s := serve(t, o)
		d := Definitions(opts)[0]
		tests := []struct{ ref, commit, fullRef, branch string }{
			{"", first, "refs/heads/main", "main"},
			{"HEAD", first, "refs/heads/main", "main"},
			{"feature/x", second, "refs/heads/feature/x", "feature/x"},
			{"refs/heads/feature/x", second, "refs/heads/feature/x", "feature/x"},
			{"light", first, "refs/tags/light", ""},
			{"v1", first, "refs/tags/v1", ""},
			{"refs/tags/v1", first, "refs/tags/v1", ""},
			{second, second, second, ""},
		}
		for _, c := range tests {
			out, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: c.ref, Depth: 1}, nil)
			if err != nil {
				t.Errorf("%q: %v", c.ref, err)
				continue
			}
			if out["commit"] != c.commit || out["ref"] != c.fullRef || out["branch"] != c.branch {
				t.Errorf("%q: %v", c.ref, out)
			}
		}
		packs := s.packs.Load()
		for range 2 { // the first deepens, the second finds it done
			if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: "v1", Depth: 2}, nil); err != nil {
				t.Error(err)
			}
		}
		if n := s.packs.Load() - packs; opts.Backend == BackendGoGit && n > 1 {
			t.Errorf("%d fetches of a tag, want one", n)
		}
		for _, ref := range []string{"nope", "refs/heads/nope", strings.Repeat("a", 40)} {
			if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: ref, Depth: 1}, nil); !action.IsPermanent(err) {
				t.Errorf("%q: err = %v, want a permanent one", ref, err)
			}
		}
	})
}

// A server that gives only tips (git's default for protocol 0) has older commits found in the branch's history.
func TestOlderCommit(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		old := o.commit("main", "f", "one")
		for i := range 3 {
			o.commit("main", "f", fmt.Sprint(i))
		}
		s := serve(t, o)
		out, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Ref: old, Depth: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out["commit"] != old || read(t, out["dir"].(string), "f") != "one" {
			t.Errorf("%v", out)
		}
	})
}

func TestSuperseded(t *testing.T) {
	o := newOrigin(t)
	old := o.commit("main", "f", "one")
	s := serve(t, o)
	d := Definitions(testOptions(t))[0]
	event := func(e action.EventInfo) func(*action.Call) { return func(c *action.Call) { c.Event = &e } }
	of := event(action.EventInfo{Branch: "main", Commit: old})

	if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: old, Depth: 1}, of); err != nil {
		t.Fatalf("the tip: %v", err)
	}
	tip := o.commit("main", "f", "two")
	_, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: old, Depth: 1}, of)
	if !action.IsSuperseded(err) || !strings.Contains(err.Error(), tip) {
		t.Errorf("no longer the tip: %v", err)
	}
	if out, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: old, Depth: 1, AllowStale: true}, of); err != nil || out["commit"] != old {
		t.Errorf("allowStale: %v, %v", out, err)
	}
	if out, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: "main", Depth: 1}, of); err != nil || out["commit"] != tip {
		t.Errorf("the branch itself: %v, %v", out, err)
	}
	gone := event(action.EventInfo{Branch: "gone", Commit: old})
	if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: old, Depth: 1}, gone); !action.IsSuperseded(err) {
		t.Errorf("a branch that is gone: %v", err)
	}
}

func TestForks(t *testing.T) {
	o := newOrigin(t)
	commit := o.commit("main", "f", "one")
	o.git(o.bare, "update-ref", "refs/pull/7/head", commit)
	s := serve(t, o)
	d := Definitions(testOptions(t))[0]
	fork := func(c *action.Call) { c.Event = &action.EventInfo{Fork: true, Branch: "patch-1", Commit: commit} }
	_, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Ref: commit, Depth: 1}, fork)
	var refused *action.RefusedError
	if !errors.As(err, &refused) || refused.Reason != "ForkedCommit" {
		t.Fatalf("err = %v", err)
	}
	if s.adverts.Load() != 0 {
		t.Error("the remote was asked before the refusal")
	}
	if _, _, err = pullWith(t, d, &PullParams{URL: s.repo(), Ref: commit, Depth: 1, AllowForks: true}, fork); err != nil {
		t.Errorf("allowForks: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		o.commit("main", "f", "one")
		s := serve(t, o)
		s.password = token
		try := func(c ...Credential) (string, error) {
			opts.Credentials = c
			opts.Dir = t.TempDir()
			out, log, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Depth: 1}, nil)
			return fmt.Sprint(out, log), err
		}
		said, err := try(tokenFor(s.URL + "/acme"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, token) {
			t.Errorf("the token is shown: %s", said)
		}
		_, err = try()
		if !action.IsPermanent(err) || !strings.Contains(err.Error(), "no credential's URL prefix") {
			t.Errorf("without one: %v", err)
		}
		s.mu.Lock()
		s.seen = nil
		s.mu.Unlock()
		if _, err = try(tokenFor(s.URL + "/acme-evil")); !action.IsPermanent(err) {
			t.Errorf("with another prefix: %v", err)
		}
		if strings.Join(s.seen, "") != "" {
			t.Errorf("a credential of another prefix was sent: %q", s.seen)
		}
		s.password = "another"
		_, err = try(tokenFor(s.URL + "/acme"))
		if !action.IsPermanent(err) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "eC1hY2Nlc3M") {
			t.Errorf("refused, by a server that sends it back: %v", err)
		}
		_, err = try(Credential{URLPrefix: s.URL, Token: func() (string, error) { return "", errors.New("no such file") }})
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("a token that does not resolve: %v", err)
		}
	})
}

func TestPullOverHTTPS(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		commit := o.commit("main", "f", "one")
		s := serveWith(t, o, httptest.NewTLSServer)
		s.password = token
		opts.Credentials = []Credential{tokenFor(s.URL + "/acme/")}
		if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Depth: 1}, nil); err == nil {
			t.Error("a certificate of an unknown authority is taken")
		}
		opts.CAFile = filepath.Join(t.TempDir(), "ca.pem")
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		if err := os.WriteFile(opts.CAFile, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		out, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Depth: 1}, nil)
		if err != nil || out["commit"] != commit {
			t.Errorf("%v, %v", out, err)
		}
	})
}

// The git program sees the credential in its environment only, where other users of the machine cannot.
func TestGitProgramHasNoCredentialInItsArguments(t *testing.T) {
	real := gitPath(t)
	bin, record := t.TempDir(), filepath.Join(t.TempDir(), "args")
	script := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$@\" \"$HOME\" \"${SECRET_OF_OURS-}\" >> %s\nexec %s \"$@\"\n", record, real)
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	s.password = token
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("SECRET_OF_OURS", "ours")
	opts := testOptions(t)
	opts.Backend, opts.Runner, opts.Credentials = BackendGit, newRunner(t), []Credential{tokenFor(s.URL)}
	if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Depth: 1}, nil); err != nil {
		t.Fatal(err)
	}
	got := read(t, record)
	if !strings.Contains(got, "fetch") || strings.Contains(got, token) || strings.Contains(got, "ours") || strings.Contains(got, "eC1hY2Nlc3M") {
		t.Errorf("git was called with %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(opts.Dir, "fetch-*")); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

func TestRedirectTakesNoCredential(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	elsewhere := serve(t, o)
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != token {
			t.Errorf("the first host was not shown the token")
		}
		// 127.0.0.1 and localhost are two hosts, and the port differs anyway.
		http.Redirect(w, r, elsewhere.URL+r.URL.RequestURI(), http.StatusFound)
	}))
	defer redirect.Close()
	opts := testOptions(t)
	opts.Credentials = []Credential{tokenFor(redirect.URL)}
	if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: redirect.URL + "/acme/infra.git", Depth: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(elsewhere.seen, ""); got != "" {
		t.Errorf("the other host was sent %q", got)
	}
}

func TestPlainHTTPIsPrivateOnly(t *testing.T) {
	public := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	closed := make(chan struct{})
	opts := testOptions(t)
	opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b); close(closed) }()
		return addressed{a, public}, nil
	}
	_, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: "http://example.org/acme/infra", Depth: 1}, nil)
	if !action.IsPermanent(err) || !errors.Is(err, errPlainHTTP) {
		t.Errorf("err = %v", err)
	}
	<-closed
}

type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

func TestUnknownHost(t *testing.T) {
	opts := testOptions(t)
	opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}}
	}
	if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: "https://nowhere.example/a/b", Depth: 1}, nil); !action.IsPermanent(err) {
		t.Errorf("err = %v, want a permanent one", err)
	}
	opts.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: "https://nowhere.example/a/b", Depth: 1}, nil); err == nil || action.IsPermanent(err) {
		t.Errorf("err = %v, want one that a retry may cure", err)
	}
}

func TestLocalRepository(t *testing.T) {
	o := newOrigin(t)
	commit := o.commit("main", "f", "one")
	opts := testOptions(t)
	for _, raw := range []string{o.bare, o.work, "file://" + o.bare} {
		if _, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: raw, Depth: 1}, nil); !action.IsPermanent(err) {
			t.Errorf("%s: err = %v, want a permanent one", raw, err)
		}
	}
	opts.AllowLocal = true
	d := Definitions(opts)[0]
	for _, raw := range []string{o.bare, o.work, "file://" + o.bare} {
		out, _, err := pullWith(t, d, &PullParams{URL: raw, Depth: 1}, nil)
		if err != nil || out["commit"] != commit || out["branch"] != "main" {
			t.Errorf("%s: %v, %v", raw, out, err)
		}
	}
	next := o.commit("main", "f", "two")
	if out, _, err := pullWith(t, d, &PullParams{URL: o.bare, Depth: 1}, nil); err != nil || out["commit"] != next {
		t.Errorf("after a change: %v, %v", out, err)
	}
	if _, _, err := pullWith(t, d, &PullParams{URL: t.TempDir(), Depth: 1}, nil); !action.IsPermanent(err) {
		t.Errorf("no repository: %v", err)
	}
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	s.gate, s.arrived = make(chan struct{}), make(chan struct{}, 8)
	d := Definitions(testOptions(t))[0]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	s.gate <- struct{}{} // one fetch; a second would wait here for ever
	wg.Wait()
	if n := s.packs.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestWaitingForAnotherPullHonoursContext(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	s.gate, s.arrived = make(chan struct{}), make(chan struct{}, 8)
	opts := testOptions(t)
	p := newPuller(opts.withDefaults())
	first := make(chan error, 1)
	go func() {
		_, err := p.run(t.Context(), &action.Call{StepID: "a", Dir: t.TempDir(), Log: io.Discard, Params: &PullParams{URL: s.repo(), Depth: 1}})
		first <- err
	}()
	<-s.arrived // the first holds the turn now
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("cancelled")
	cancel(why)
	_, err := p.run(ctx, &action.Call{StepID: "b", Dir: t.TempDir(), Log: io.Discard, Params: &PullParams{URL: s.repo(), Depth: 1}})
	if !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	close(s.gate)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestCorruptMirrorIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, mirror string){
		"pack cut off": func(t *testing.T, mirror string) {
			packs, _ := filepath.Glob(filepath.Join(mirror, "objects/pack/*.pack"))
			for _, p := range packs {
				_ = os.Chmod(p, 0o600)
				if err := os.Truncate(p, 20); err != nil {
					t.Fatal(err)
				}
			}
		},
		"pack garbled": func(t *testing.T, mirror string) {
			packs, _ := filepath.Glob(filepath.Join(mirror, "objects/pack/*.pack"))
			for _, p := range packs {
				_ = os.Chmod(p, 0o600)
				info, _ := os.Stat(p)
				if err := os.WriteFile(p, make([]byte, info.Size()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"index garbled": func(t *testing.T, mirror string) {
			found, _ := filepath.Glob(filepath.Join(mirror, "objects/pack/*.idx"))
			for _, p := range found {
				_ = os.Chmod(p, 0o600)
				if err := os.WriteFile(p, []byte("garbage"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"shallow file garbled": func(t *testing.T, mirror string) {
			if err := os.WriteFile(filepath.Join(mirror, "shallow"), []byte("zz\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"directory gone": func(t *testing.T, mirror string) {
			if err := os.RemoveAll(mirror); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			o.commit("main", "f", "one")
			o.commit("main", "f", "two")
			s := serve(t, o)
			opts := testOptions(t)
			d := Definitions(opts)[0]
			if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil); err != nil {
				t.Fatal(err)
			}
			damage(t, onlyMirror(t, opts.Dir))
			out, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil)
			if err != nil || read(t, out["dir"].(string), "f") != "two" {
				t.Fatalf("%v, %v", out, err)
			}
			onlyMirror(t, opts.Dir)
		})
	}
}

func onlyMirror(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d mirrors, %v; want one", len(entries), err)
	}
	return filepath.Join(dir, entries[0].Name())
}

func TestMirrorsAreBounded(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	for _, name := range []string{"b", "c"} {
		o.git(o.root, "clone", "--quiet", "--bare", o.bare, filepath.Join(o.root, name+".git"))
	}
	clock := time.Unix(1000, 0)
	opts := testOptions(t)
	opts.Now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	d := Definitions(opts)[0]
	pull := func(name string) {
		t.Helper()
		if _, _, err := pullWith(t, d, &PullParams{URL: s.URL + "/" + name + ".git", Depth: 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	pull("acme/infra")
	size := diskSize(onlyMirror(t, opts.Dir))

	opts.Dir, opts.CacheBytes = filepath.Join(t.TempDir(), "m"), 2*size+size/2
	d = Definitions(opts)[0]
	pull("acme/infra")
	pull("b")
	pull("acme/infra")
	pull("c") // b is the least recently used one now
	entries, err := os.ReadDir(opts.Dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d mirrors, %v", len(entries), err)
	}
	packs := s.packs.Load()
	pull("acme/infra")
	pull("c")
	if s.packs.Load() != packs {
		t.Error("the wrong mirror was removed")
	}
	// A new process counts what it finds.
	opts.CacheBytes = size / 2
	d = Definitions(opts)[0]
	pull("acme/infra")
	if entries, _ := os.ReadDir(opts.Dir); len(entries) != 0 {
		t.Errorf("%d mirrors are left", len(entries))
	}
}

func TestRetryBeginsWithAnEmptyDirectory(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	d := Definitions(testOptions(t))[0]
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "src", "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, func(c *action.Call) { c.Dir = dir })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out["dir"].(string), "left")); err == nil {
		t.Error("what an earlier attempt left is there")
	}
	for _, id := range []string{"", "..", "."} {
		if _, _, err := pullWith(t, d, &PullParams{URL: s.repo()}, func(c *action.Call) { c.StepID = id }); err == nil {
			t.Errorf("step id %q is taken", id)
		}
	}
}

func TestManyFetchesBeginAnew(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "f", "one")
	s := serve(t, o)
	opts := testOptions(t)
	d := Definitions(opts)[0]
	if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil); err != nil {
		t.Fatal(err)
	}
	before := onlyMirror(t, opts.Dir)
	for i := range maxPacks {
		name := filepath.Join(before, "objects/pack", fmt.Sprintf("pack-%040d.pack", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := pullWith(t, d, &PullParams{URL: s.repo(), Depth: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if after := onlyMirror(t, opts.Dir); after == before {
		t.Error("the mirror was kept")
	}
}

func TestValidate(t *testing.T) {
	err := Options{Backend: "svn", Credentials: []Credential{{URLPrefix: "https://u:p@h/x"}}, Timeout: -1}.Validate()
	for _, field := range []string{"Dir", "Dial", "Backend", "Timeout", "Credentials[0]"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if (Options{Dir: "x", Dial: dial, Backend: BackendGit}).Validate() == nil {
		t.Error("the git backend needs a Runner")
	}
	d := Definitions(Options{})[0]
	if _, err := d.Run(t.Context(), &action.Call{Params: &PullParams{}}); !action.IsPermanent(err) {
		t.Errorf("err = %v", err)
	}
}
