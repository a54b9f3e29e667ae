package git

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/commitsig"
	"github.com/riposte-dev/riposte/pkg/event"
)

// runs calls actions as one run does: in one directory, one step after another.
type runs struct {
	t    *testing.T
	dir  string
	id   string
	defs action.Registry
	// event and secrets may be nil.
	event   *action.EventInfo
	secrets map[string]string
}

func newRuns(t *testing.T, opts Options) *runs {
	t.Helper()
	return &runs{t: t, dir: t.TempDir(), id: "RUN1", defs: action.NewRegistry(Definitions(opts))}
}

// again is another run with the same settings.
func (r *runs) again(id string) *runs {
	other := *r
	other.dir, other.id = r.t.TempDir(), id
	return &other
}

func (r *runs) try(name string, params any) (action.Outputs, error) {
	r.t.Helper()
	var log lockedBuffer
	out, err := r.defs[name].Run(r.t.Context(), &action.Call{
		RunID: r.id, Rule: "heal", StepID: strings.TrimPrefix(name, "git."), Attempt: 1, Params: params, Dir: r.dir, Log: &log, Event: r.event,
		Secret: func(ref action.SecretRef) (string, error) { return r.secrets[ref.Secret], nil },
	})
	return out, err
}

func (r *runs) do(name string, params any) action.Outputs {
	r.t.Helper()
	out, err := r.try(name, params)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	return out
}

// refused wants a permanent error that holds text.
func (r *runs) refused(text, name string, params any) {
	r.t.Helper()
	out, err := r.try(name, params)
	if !action.IsPermanent(err) || !strings.Contains(err.Error(), text) {
		r.t.Errorf("%s: %v, %v; want a permanent error with %q", name, out, err, text)
	}
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testNow() time.Time { return time.Unix(1_800_000_000, 0).UTC() }

func TestCommit(t *testing.T) {
	o := newOrigin(t)
	o.write("gone", "1")
	o.write("tool.sh", "#!/bin/sh\n")
	o.write("was-file", "x")
	o.write("dir/kept", "kept")
	o.write("out/tracked", "although ignored")
	o.write(".gitignore", "*.log\n/out/\n!keep.log\n")
	must(t, os.Symlink("/etc/passwd", filepath.Join(o.work, "outside")))
	must(t, os.Symlink("dir/kept", filepath.Join(o.work, "link")))
	must(t, os.Mkdir(filepath.Join(o.work, "module"), 0o755))
	o.git(o.work, "add", "--all", "--force")
	o.git(o.work, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",module")
	base := o.commit("main", "a", "one")
	opts := testOptions(t)
	opts.AllowLocal, opts.Now, opts.Committer = true, testNow, "riposte[bot] <riposte@example.org>"
	r := newRuns(t, opts)
	dir := r.do("git.pull", &PullParams{URL: o.bare, Depth: 1})["dir"].(string)

	if out := r.do("git.commit", &CommitParams{Dir: dir, Message: "nothing"}); out["changed"] != false || out["commit"] != base {
		t.Errorf("without a change: %v", out)
	}
	must(t, os.Remove(filepath.Join(dir, "gone")))
	must(t, os.Chmod(filepath.Join(dir, "tool.sh"), 0o755))
	must(t, os.Remove(filepath.Join(dir, "was-file")))
	put(t, dir, "was-file/now", "a directory")
	must(t, os.Remove(filepath.Join(dir, "link")))
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	put(t, dir, "a", "two")
	put(t, dir, "deep/er/new", "")
	put(t, dir, "noise.log", "ignored")
	put(t, dir, "keep.log", "not ignored")
	put(t, dir, "out/untracked", "ignored")
	put(t, dir, "out/tracked", "changed")
	put(t, dir, "nested/.git/HEAD", "of another repository")
	put(t, dir, "nested/f", "x")

	// Of the paths that are chosen.
	out := r.do("git.commit", &CommitParams{Dir: dir, Message: "deep", Paths: []string{"deep", "x/**"}})
	if want := []any{"deep/er/new"}; !reflect.DeepEqual(out["files"], want) {
		t.Errorf("files = %v, want %v", out["files"], want)
	}
	r.refused("makes room", "git.commit", &CommitParams{Dir: dir, Message: "half", Paths: []string{"was-file/*"}})

	params := &CommitParams{Dir: "pull", Message: "all\n\nof it", Author: "Ana <ana@example.org>"}
	out = r.do("git.commit", params)
	want := []any{"a", "gone", "keep.log", "link", "out/tracked", "tool.sh", "was-file", "was-file/now"}
	if !reflect.DeepEqual(out["files"], want) || out["changed"] != true {
		t.Errorf("%v, want files %v", out, want)
	}
	if again := r.do("git.commit", params); !reflect.DeepEqual(again, out) {
		t.Errorf("made again after it was cut off: %v, want %v", again, out)
	}
	if got := o.git(dir, "rev-parse", "HEAD"); got != out["commit"] {
		t.Errorf("HEAD = %s, want %v", got, out["commit"])
	}
	o.git(dir, "fsck", "--strict")
	status := o.git(dir, "status", "--porcelain")
	if status != "D outside\n?? nested/" { // git's output is trimmed
		t.Errorf("status is %q", status)
	}
	if got := o.git(dir, "log", "-1", "--format=%an %ae %cn %ct"); got != "Ana ana@example.org riposte[bot] 1800000000" {
		t.Errorf("made by %q", got)
	}
	if got := o.git(dir, "log", "-1", "--format=%B"); got != "all\n\nof it\n\nRiposte-Run: RUN1\nRiposte-Rule: heal" || event.CommitRun(got) != "RUN1" {
		t.Errorf("message %q", got)
	}
	if got := o.git(dir, "ls-tree", "-r", "HEAD", "module", "tool.sh", "outside", "link"); !strings.Contains(got, "160000") || !strings.Contains(got, "100755") || strings.Count(got, "120000") != 2 {
		t.Errorf("modes: %s", got)
	}
}

func TestCommitRefusals(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "a", "one")
	opts := testOptions(t)
	opts.AllowLocal = true
	r := newRuns(t, opts)
	dir := r.do("git.pull", &PullParams{URL: o.bare, Depth: 1})["dir"].(string)
	put(t, dir, "a", "two")
	put(t, dir, "sub/b", "two")
	for text, params := range map[string]*CommitParams{
		"message is empty":     {Dir: dir, Message: " \n"},
		"zero byte":            {Dir: dir, Message: "a\x00b"},
		"bytes long":           {Dir: dir, Message: strings.Repeat("x", maxMessage+1)},
		"reverts a commit":     {Dir: dir, Message: "x\nThis reverts commit " + strings.Repeat("1", 40) + "."},
		"not in the run's own": {Dir: o.work, Message: "x"},
		"dir is empty":         {Message: "x"},
		"no checkout":          {Dir: dir + "/sub", Message: "x"},
		"author":               {Dir: dir, Message: "x", Author: "nobody"},
		"paths":                {Dir: dir, Message: "x", Paths: []string{"../x"}},
		"signing key can't be": {Dir: dir, Message: "x", SigningKey: &action.SecretRef{Secret: "none"}},
	} {
		r.refused(text, "git.commit", params)
	}
	put(t, dir, "bad/GIT~1", "x")
	r.refused("own directory", "git.commit", &CommitParams{Dir: dir, Message: "x"})
}

func TestPush(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		base := o.commit("main", "a", "one")
		s := serve(t, o)
		s.password = token
		opts.Credentials = []Credential{tokenFor(s.URL)}
		r := newRuns(t, opts)
		dir := r.do("git.pull", &PullParams{URL: s.repo(), Ref: "main", Depth: 1})["dir"].(string)
		put(t, dir, "sub/b", "two")
		made := r.do("git.commit", &CommitParams{Dir: dir, Message: "add b"})["commit"].(string)

		push := &PushParams{Dir: dir, Branch: "main", Commit: made}
		want := action.Outputs{"commit": made, "branch": "main", "url": s.repo(), "changed": true, "previous": base}
		if out := r.do("git.push", push); !reflect.DeepEqual(out, want) {
			t.Errorf("%v, want %v", out, want)
		}
		if got := o.git(o.bare, "rev-parse", "main"); got != made {
			t.Errorf("main is at %s, want %s", got, made)
		}
		o.git(o.bare, "fsck", "--strict")
		want["previous"] = ""
		if out := r.do("git.push", push); !reflect.DeepEqual(out, want) {
			t.Errorf("again: %v, want %v", out, want)
		}
		r.refused("it was lost", "git.push", &PushParams{Dir: dir, Branch: "main", Commit: base})

		// A new branch, and one that somebody moved on from ours.
		if out := r.do("git.push", &PushParams{Dir: dir, Branch: "new/one"}); out["previous"] != "" || out["changed"] != true {
			t.Errorf("new branch: %v", out)
		}
		o.git(o.work, "pull", "--quiet", o.bare, "main")
		later := o.commit("main", "a", "three")
		if out := r.do("git.push", push); out["changed"] != true || o.git(o.bare, "rev-parse", "main") != later {
			t.Errorf("the branch holds it: %v", out)
		}

		// The same commit made anew on another machine is not pushed twice.
		other := r.again("RUN1")
		dir = other.do("git.pull", &PullParams{URL: s.repo(), Ref: base, Depth: 1, AllowStale: true})["dir"].(string)
		put(t, dir, "sub/b", "two")
		if out := other.do("git.commit", &CommitParams{Dir: dir, Message: "add b", Author: "b <b@example.org>"}); out["commit"] == made {
			t.Fatal("the commit is the same")
		}
		if out := other.do("git.push", &PushParams{Dir: dir, Branch: "main"}); out["changed"] != true || o.git(o.bare, "rev-parse", "main") != later {
			t.Errorf("made anew: %v", out)
		}

		// Another run's commit on an old base is refused, forced or not, unless what may go is named.
		third := r.again("RUN3")
		dir = third.do("git.pull", &PullParams{URL: s.repo(), Ref: base, Depth: 1, AllowStale: true})["dir"].(string)
		put(t, dir, "c", "x")
		c := third.do("git.commit", &CommitParams{Dir: dir, Message: "add c"})["commit"].(string)
		third.refused("has moved on", "git.push", &PushParams{Dir: dir, Branch: "main"})
		third.refused("this rule did not make", "git.push", &PushParams{Dir: dir, Branch: "main", Force: true})
		third.refused("not at "+made, "git.push", &PushParams{Dir: dir, Branch: "main", Force: true, Expect: made})
		if out := third.do("git.push", &PushParams{Dir: dir, Branch: "new/one", Force: true}); out["previous"] != made {
			t.Errorf("a branch of the rule's own is replaced: %v", out)
		}
		if out := third.do("git.push", &PushParams{Dir: dir, Branch: "main", Force: true, Expect: later}); out["previous"] != later || o.git(o.bare, "rev-parse", "main") != c {
			t.Errorf("forced: %v", out)
		}
	})
}

func TestPushOfACommitThatTheRemoteHas(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		old := o.commit("main", "a", "one")
		o.history(70) // more than one fetch of it
		tip := o.commit("main", "a", "two")
		o.git(o.bare, "branch", "prod", old)
		s := serve(t, o)
		r := newRuns(t, opts)
		push := &PushParams{URL: s.repo(), Commit: tip, Branch: "prod"}
		if out := r.do("git.push", push); out["previous"] != old || o.git(o.bare, "rev-parse", "prod") != tip {
			t.Errorf("%v", out)
		}
		if out := r.do("git.push", push); out["changed"] != false {
			t.Errorf("again: %v", out)
		}
		// Back to an earlier commit only from the one that is named; made again, it is done.
		for _, force := range []*PushParams{{Force: true}, {Expect: tip}, {Force: true, Expect: old}} {
			force.URL, force.Commit, force.Branch = s.repo(), old, "prod"
			if out := r.do("git.push", force); out["changed"] != false || o.git(o.bare, "rev-parse", "prod") != tip {
				t.Errorf("%+v: %v", force, out)
			}
		}
		back := &PushParams{URL: s.repo(), Commit: old, Branch: "prod", Force: true, Expect: tip}
		if out := r.do("git.push", back); out["changed"] != true || out["previous"] != tip || o.git(o.bare, "rev-parse", "prod") != old {
			t.Errorf("back: %v", out)
		}
		if out := r.do("git.push", back); out["changed"] != false {
			t.Errorf("back again: %v", out)
		}
		if out := r.do("git.push", &PushParams{URL: s.repo(), Commit: old, Branch: "release"}); out["changed"] != true {
			t.Errorf("a new branch: %v", out)
		}
		if out := r.do("git.push", &PushParams{URL: s.repo(), Commit: o.git(o.bare, "rev-parse", "main~3"), Branch: "main"}); out["changed"] != false {
			t.Errorf("an ancestor: %v", out)
		}
		r.refused("give dir, or url and commit", "git.push", &PushParams{Branch: "main"})
		r.refused("check ref", "git.push", &PushParams{URL: s.repo(), Commit: strings.Repeat("1", 40), Branch: "main"})
	})
}

func TestPushAfterTheEventsBranchMovedOn(t *testing.T) {
	o := newOrigin(t)
	base := o.commit("main", "a", "one")
	s := serve(t, o)
	r := newRuns(t, testOptions(t))
	r.event = &action.EventInfo{Branch: "main", Commit: base}
	dir := r.do("git.pull", &PullParams{URL: s.repo(), Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "b", "formatted")
	r.do("git.commit", &CommitParams{Dir: dir, Message: "format"})
	newer := o.commit("main", "a", "two")
	if _, err := r.try("git.push", &PushParams{Dir: dir, Branch: "main"}); !action.IsSuperseded(err) {
		t.Errorf("err = %v, want superseded", err)
	}
	if got := o.git(o.bare, "rev-parse", "main"); got != newer {
		t.Errorf("main is at %s", got)
	}
	r.event.Fork = true
	for name, params := range map[string]any{"git.push": &PushParams{Dir: dir, Branch: "x"}, "git.revert": &RevertParams{URL: s.repo(), Commit: base, Branch: "main", Push: true}} {
		if _, err := r.try(name, params); err == nil || !strings.Contains(err.Error(), "ForkedCommit") {
			t.Errorf("%s of a fork: %v", name, err)
		}
	}
}

// history makes commits on top of the work tree's, fast.
func (o *origin) history(n int) {
	o.t.Helper()
	var in strings.Builder
	for i := range n {
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter a <a@example.org> %d +0000\ndata 5\nother\n", time.Now().Unix())
		if i == 0 {
			fmt.Fprintf(&in, "from %s\n", o.git(o.work, "rev-parse", "HEAD"))
		}
		fmt.Fprintf(&in, "M 644 inline other\ndata %d\n%d\n", len(fmt.Sprint(i)), i)
	}
	cmd := exec.Command("git", "fast-import", "--quiet", "--force")
	cmd.Dir, cmd.Stdin = o.work, strings.NewReader(in.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("git fast-import: %v: %s", err, out)
	}
	o.git(o.work, "reset", "--quiet", "--hard", "main")
}

func hook(t *testing.T, o *origin, name, script string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(o.bare, "hooks", name), []byte("#!/bin/sh\n"+script), 0o755))
}

func TestPushToAProtectedBranch(t *testing.T) {
	o := newOrigin(t)
	base := o.commit("main", "a", "one")
	o.commit("main", "a", "two")
	hook(t, o, "pre-receive", "echo 'GH006: Protected branch update failed for refs/heads/main.' >&2\nexit 1\n")
	s := serve(t, o)
	r := newRuns(t, testOptions(t))
	r.refused("GH006: Protected branch", "git.revert", &RevertParams{URL: s.repo(), Commit: o.git(o.bare, "rev-parse", "main"), Branch: "main", Push: true})
	dir := r.do("git.pull", &PullParams{URL: s.repo(), Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "b", "x")
	r.do("git.commit", &CommitParams{Dir: dir, Message: "b"})
	r.refused("pull request", "git.push", &PushParams{Dir: dir, Branch: "main"})
	_ = base
}

// TestRemoteMovesInTheMiddle moves the branch after it was read, and before the push arrives.
func TestRemoteMovesInTheMiddle(t *testing.T) {
	o := newOrigin(t)
	o.commit("main", "a", "one")
	bad := o.commit("main", "b", "bad")
	s := serve(t, o)
	var once sync.Once
	var newer string
	moves := 0
	inner := s.Config.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/git-receive-pack") {
			once.Do(func() { moves++; newer = o.commit("main", "c", strings.Repeat("x", moves)) })
		}
		inner.ServeHTTP(w, req)
	}))
	defer front.Close()
	r := newRuns(t, testOptions(t))
	url := front.URL + "/acme/infra.git"
	out := r.do("git.revert", &RevertParams{URL: url, Commit: bad, Branch: "main", Push: true})
	if newer == "" || out["previous"] != newer {
		t.Errorf("%v, want it on top of %s", out, newer)
	}
	if got := o.git(o.bare, "ls-tree", "--name-only", "main"); got != "a\nc" {
		t.Errorf("main holds %q", got)
	}

	// A push of a checkout can't be made anew, but it can be tried again to learn that.
	dir := r.do("git.pull", &PullParams{URL: url, Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "d", "x")
	r.do("git.commit", &CommitParams{Dir: dir, Message: "d"})
	o.git(o.work, "pull", "--quiet", "--rebase", o.bare, "main")
	once = sync.Once{}
	if _, err := r.try("git.push", &PushParams{Dir: dir, Branch: "main"}); err == nil || action.IsPermanent(err) || !strings.Contains(err.Error(), "moved meanwhile") {
		t.Errorf("err = %v", err)
	}
	r.refused("has moved on", "git.push", &PushParams{Dir: dir, Branch: "main"})
}

func TestWriteToALocalRepository(t *testing.T) {
	o := newOrigin(t)
	base := o.commit("main", "a", "one")
	bad := o.commit("main", "b", "bad")
	opts := testOptions(t)
	opts.AllowLocal = true
	r := newRuns(t, opts)
	dir := r.do("git.pull", &PullParams{URL: o.bare, Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "c", "x")
	made := r.do("git.commit", &CommitParams{Dir: dir, Message: "c"})["commit"]
	if out := r.do("git.push", &PushParams{Dir: dir, Branch: "main"}); out["previous"] != bad {
		t.Errorf("%v", out)
	}
	if out := r.do("git.revert", &RevertParams{URL: o.bare, Commit: bad, Branch: "main", Push: true}); out["previous"] != made {
		t.Errorf("%v", out)
	}
	o.git(o.bare, "fsck", "--strict")
	if got := o.git(o.bare, "ls-tree", "--name-only", "main"); got != "a\nc" {
		t.Errorf("main holds %q", got)
	}
	if out := r.do("git.push", &PushParams{URL: o.bare, Commit: base, Branch: "old"}); out["changed"] != true {
		t.Errorf("%v", out)
	}
	// A work tree would no longer fit its branch.
	o.git(o.work, "branch", "ahead")
	o.git(o.work, "reset", "--quiet", "--hard", base)
	r.refused("checked out", "git.push", &PushParams{URL: o.work, Commit: bad, Branch: "main"})
}

func TestWriteOverSSH(t *testing.T) {
	server := startSSH(t)
	o := newOrigin(t)
	o.commit("main", "a", "one")
	bad := o.commit("main", "b", "bad")
	opts := testOptions(t)
	opts.Credentials = []Credential{{URLPrefix: server.url("/"), KnownHosts: server.known, SSHKey: func() ([]byte, error) { return server.key, nil }}}
	r := newRuns(t, opts)
	url := server.url(o.bare)
	dir := r.do("git.pull", &PullParams{URL: url, Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "c", "x")
	made := r.do("git.commit", &CommitParams{Dir: dir, Message: "c"})["commit"]
	if out := r.do("git.push", &PushParams{Dir: dir, Branch: "main"}); out["previous"] != bad || out["commit"] != made {
		t.Errorf("%v", out)
	}
	if out := r.do("git.revert", &RevertParams{URL: url, Commit: bad, Branch: "main", Push: true}); out["previous"] != made {
		t.Errorf("%v", out)
	}
	hook(t, o, "update", "echo 'only on weekdays' >&2\nexit 1\n")
	r.refused("only on weekdays", "git.revert", &RevertParams{URL: url, Commit: made.(string), Branch: "main", Push: true})
	r.refused("", "git.push", &PushParams{URL: server.url(o.bare + "-missing"), Commit: bad, Branch: "main"})
}

func TestSignedCommits(t *testing.T) {
	key, public := newKey(t)
	o := newOrigin(t)
	o.commit("main", "a", "one")
	bad := o.commit("main", "a", "bad")
	s := serve(t, o)
	r := newRuns(t, testOptions(t))
	r.secrets = map[string]string{"key": string(key), "broken": "hunter2"}
	ref := &action.SecretRef{Secret: "key"}
	dir := r.do("git.pull", &PullParams{URL: s.repo(), Ref: "main", Depth: 1})["dir"].(string)
	put(t, dir, "b", "x")
	one := r.do("git.commit", &CommitParams{Dir: dir, Message: "b\n\nmore", SigningKey: ref})["commit"].(string)
	r.do("git.push", &PushParams{Dir: dir, Branch: "main"})
	two := r.do("git.revert", &RevertParams{URL: s.repo(), Commit: bad, Branch: "main", Push: true, SigningKey: ref})["commit"].(string)
	list := "riposte@localhost " + string(ssh.MarshalAuthorizedKey(public))
	signers := &commitsig.Signers{}
	must(t, signers.AddSSHSigners([]byte(list)))
	for _, id := range []string{one, two} {
		cmd := exec.Command("git", "cat-file", "commit", id)
		cmd.Dir = o.bare
		object, err := cmd.Output()
		must(t, err)
		if who, err := signers.Verify(object, time.Now()); err != nil || who != "riposte@localhost" {
			t.Errorf("%q, %v", who, err)
		}
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not on PATH: install openssh-client")
	}
	allowed := filepath.Join(t.TempDir(), "signers")
	must(t, os.WriteFile(allowed, []byte(list), 0o600))
	o.git(o.bare, "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", one, two)
	o.git(o.bare, "fsck", "--strict")
	put(t, dir, "b", "y")
	r.refused("signing key can't be used", "git.commit", &CommitParams{Dir: dir, Message: "b", SigningKey: &action.SecretRef{Secret: "broken"}})
}

func TestBranches(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		s := serve(t, o)
		s.password = token
		opts.Credentials = []Credential{tokenFor(s.URL)}
		l, err := NewLister(opts)
		must(t, err)
		if got, err := l.Branches(t.Context(), s.repo()); len(got) != 0 || err != nil {
			t.Errorf("of an empty repository: %v, %v", got, err)
		}
		one := o.commit("main", "a", "one")
		two := o.commit("b/two", "a", "two")
		o.git(o.bare, "tag", "v1", one)
		got, err := l.Branches(t.Context(), s.repo())
		if want := []Branch{{"b/two", two}, {"main", one}}; !reflect.DeepEqual(got, want) || err != nil {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if _, err := l.Branches(t.Context(), s.URL+"/acme/none.git"); !action.IsPermanent(err) || strings.Contains(err.Error(), token) {
			t.Errorf("no repository: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Branches(ctx, s.repo()); err == nil {
			t.Error("cancelled: no error")
		}
	})
}
