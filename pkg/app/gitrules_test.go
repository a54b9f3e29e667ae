package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/run"
)

// forgeHost is a host with one repository, acme/rules, and the API of Gitea for commit statuses.
type forgeHost struct {
	*httptest.Server
	t    *testing.T
	work string
	bare string

	looks atomic.Int64
	gone  atomic.Bool

	mu       sync.Mutex
	statuses map[string]map[string]string // by commit, the last one
	said     []string                     // all: commit context state
	tokens   []string
}

func newForge(t *testing.T) *forgeHost {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not on PATH: install git")
	}
	root := t.TempDir()
	f := &forgeHost{t: t, work: filepath.Join(t.TempDir(), "work"), bare: filepath.Join(root, "acme", "rules.git"), statuses: map[string]map[string]string{}}
	f.git(root, "init", "--quiet", "--bare", "--initial-branch=main", f.bare)
	f.git(root, "init", "--quiet", "--initial-branch=main", f.work)
	backend := &cgi.Handler{
		Path: program, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + root},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case f.gone.Load():
			http.NotFound(w, r)
		case strings.HasPrefix(r.URL.Path, "/api/v1/repos/acme/rules/statuses/"):
			f.takeStatus(w, r)
		default:
			if strings.HasSuffix(r.URL.Path, "/info/refs") {
				f.looks.Add(1)
			}
			backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *forgeHost) takeStatus(w http.ResponseWriter, r *http.Request) {
	var s map[string]string
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	commit := filepath.Base(r.URL.Path)
	f.statuses[commit] = s
	f.statuses[commit+" "+s["context"]] = s
	f.said = append(f.said, commit+" "+s["context"]+" "+s["state"])
	f.tokens = append(f.tokens, r.Header.Get("Authorization"))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "{}")
}

func (f *forgeHost) status(commit string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[commit]
}

func (f *forgeHost) git(dir string, args ...string) string {
	f.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + f.t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *forgeHost) write(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.work, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// push commits the work tree, with more arguments to git, and returns the commit.
func (f *forgeHost) push(config ...string) string {
	f.t.Helper()
	f.git(f.work, "add", "--all")
	f.git(f.work, append(config, "commit", "--quiet", "--allow-empty", "--message", "change")...)
	f.git(f.work, "push", "--quiet", "--force", f.bare, "HEAD:refs/heads/main")
	return f.git(f.work, "rev-parse", "HEAD")
}

// commit pushes rules.
func (f *forgeHost) commit(rules string) string {
	f.t.Helper()
	f.write("rules/a.yaml", rules)
	return f.push()
}

// config is that of a server that follows the repository.
func (f *forgeHost) config(data string) *config.Config {
	f.t.Helper()
	c := testConfig(f.t, data)
	c.PublicURL = "https://riposte.example"
	c.Git.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	f.t.Setenv("APP_TEST_FORGE_TOKEN", "forge-token")
	c.Secrets["forge"] = config.Secret{Env: "APP_TEST_FORGE_TOKEN"}
	c.Credentials = []config.Credential{{URL: f.URL + "/acme/", Token: "forge"}}
	c.Rules.Git = config.RulesGit{URL: f.URL + "/acme/rules.git", Ref: "main", Path: "/rules", Interval: 50 * time.Millisecond, Forge: "gitea"}
	return c
}

func okRule(name string) string {
	return githubSource + ruleDoc(name, "  steps: [{uses: ok}]\n")
}

func okAction() action.Definition {
	return probe("ok", true, func(context.Context, *action.Call) error { return nil })
}

type ruleView struct {
	Items            []struct{ Name string }
	Revision, Origin string
	Error            string
}

func (s *server) view() (v ruleView) {
	s.t.Helper()
	s.get("rules", &v)
	return v
}

func (s *server) active(commit string) {
	s.t.Helper()
	s.wait("commit "+commit, func() bool { v := s.view(); return v.Revision == commit && v.Error == "" })
}

// pushed tells of a push to a repository, as GitHub does.
func (s *server) pushed(repo, ref string, n int) answer {
	s.t.Helper()
	return s.push(fmt.Sprintf(`{"n":%d,"ref":%q,"repository":{"full_name":%q,"clone_url":"https://git.example/%s.git"}}`, n, ref, repo, repo))
}

func TestRulesComeFromGit(t *testing.T) {
	f := newForge(t)
	first := f.commit(okRule("one"))
	c := f.config(t.TempDir())
	c.Rules.Git.Interval = time.Hour
	s := launch(t, c, okAction())
	s.active(first)
	if v := s.view(); v.Origin != f.URL+"/acme/rules.git main rules" {
		t.Errorf("origin %q", v.Origin)
	}
	if r := s.ended(s.push(`{"n":1}`).ID + "-one"); r.State != run.Succeeded || r.RuleRevision != first {
		t.Errorf("the run is of %s: %+v", r.RuleRevision, r)
	}
	s.wait("the status", func() bool { return f.status(first) != nil })
	want := map[string]string{"context": "riposte/rules", "state": "success", "description": "active: 1 rules, 1 sources"}
	if got := f.status(first); fmt.Sprint(got) != fmt.Sprint(want) || f.tokens[0] != "token forge-token" {
		t.Errorf("status %v, %v", got, f.tokens)
	}

	// Pushes elsewhere cause no look at the repository; one to the branch does, at once.
	looks := f.looks.Load()
	second := f.commit(okRule("two"))
	for i, where := range [][2]string{{"acme/other", "refs/heads/main"}, {"acme/rules", "refs/heads/feature"}, {"evil/rules", "refs/heads/main"}} {
		s.ended(s.pushed(where[0], where[1], i).ID + "-one")
	}
	if n := f.looks.Load() - looks; n != 0 {
		t.Errorf("%d looks at the repository", n)
	}
	s.pushed("Acme/Rules", "refs/heads/main", 10)
	s.active(second)
	if r := s.ended(s.push(`{"n":2}`).ID + "-two"); r.RuleRevision != second {
		t.Errorf("the run is of %s", r.RuleRevision)
	}

	// A rewritten history is followed, and said.
	f.git(f.work, "reset", "--quiet", "--hard", first)
	third := f.commit(okRule("three"))
	s.pushed("acme/rules", "refs/heads/main", 11)
	s.active(third)
	if !strings.Contains(s.log.String(), "history was rewritten") {
		t.Error("a rewritten history is not in the log")
	}
	if strings.Contains(s.log.String(), "forge-token") {
		t.Error("the log shows the token")
	}
	// What was an older commit can become the newest again.
	f.git(f.work, "push", "--quiet", "--force", f.bare, first+":refs/heads/main")
	s.pushed("acme/rules", "refs/heads/main", 12)
	s.active(first)
	if r := s.ended(s.push(`{"n":3}`).ID + "-one"); r.RuleRevision != first {
		t.Errorf("the run is of %s", r.RuleRevision)
	}
}

func TestBadRulesInGitChangeNothing(t *testing.T) {
	f := newForge(t)
	good := f.commit(okRule("one"))
	c := f.config(t.TempDir())
	s := launch(t, c, okAction())
	s.active(good)
	n := 0
	for _, tt := range []struct {
		name   string
		breaks func() (commit string)
		want   string // in the API's error
		status string // begins the commit status; empty for none
	}{
		{"a broken rule", func() string {
			return f.commit(githubSource + ruleDoc("one", "  when: event.git.brunch == 'x'\n  steps: [{uses: ok}, {uses: nothing}]\n"))
		}, "rules/a.yaml:", "rules/a.yaml:"},
		{"no rules", func() string {
			f.git(f.work, "rm", "--quiet", "-r", "rules")
			f.write("rules/README", "none")
			return f.push()
		}, "there are no rules", "there are no rules"},
		{"no directory", func() string {
			f.git(f.work, "rm", "--quiet", "-r", "rules")
			return f.push()
		}, `no such directory: "rules"`, "there is no such directory"},
		{"a link out of the tree", func() string {
			f.write("rules/a.yaml", okRule("evil"))
			if err := os.Symlink("/etc/passwd", filepath.Join(f.work, "rules", "link.yaml")); err != nil {
				t.Fatal(err)
			}
			return f.push()
		}, `points out of the repository: "rules/link.yaml"`, "a symbolic link points out"},
		{"a huge file", func() string { return f.commit("#" + strings.Repeat("x", 1<<20)) }, "is 1048577 bytes long", "too much is there: \"rules/a.yaml\""},
		{"a bomb of aliases", func() string {
			return f.commit("a: &a [x,x,x,x,x,x,x,x]\nb: &b [" + strings.Repeat("*a,", 200) + "]\nc: [" + strings.Repeat("*b,", 200) + "]\n")
		}, "aliases", "rules/a.yaml:"},
		{"no branch", func() string {
			f.git(f.work, "push", "--quiet", "--force", f.bare, "HEAD:refs/heads/other")
			f.git(f.bare, "update-ref", "-d", "refs/heads/main")
			return ""
		}, `"main" is neither a branch nor a tag`, ""},
		{"no repository", func() string { f.gone.Store(true); return "" }, "not found", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			commit := tt.breaks()
			s.wait("the failure to show", func() bool { return strings.Contains(s.view().Error, tt.want) })
			if tt.status != "" {
				s.wait("the commit status", func() bool { return f.status(commit) != nil })
				if got := f.status(commit); got["state"] != "failure" || !strings.HasPrefix(got["description"], tt.status) {
					t.Errorf("status %v", got)
				}
			}
			if v := s.view(); v.Revision != good || len(v.Items) != 1 || v.Items[0].Name != "one" {
				t.Errorf("active: %+v", v)
			}
			if status, text := s.ready(); status != http.StatusOK {
				t.Errorf("unready: %s", text)
			}
			n++
			if r := s.ended(s.push(fmt.Sprintf(`{"n":%d}`, n)).ID + "-one"); r.State != run.Succeeded || r.RuleRevision != good {
				t.Errorf("the last good set does not decide: %+v", r)
			}
			// Then all is well again.
			f.gone.Store(false)
			f.git(f.work, "checkout", "--quiet", good, "--", ".")
			_ = os.Remove(filepath.Join(f.work, "rules", "link.yaml"))
			good = f.push()
			s.active(good)
		})
	}
}

func TestAServerWithoutRulesIsUnreadyAndSaysWhy(t *testing.T) {
	f := newForge(t)
	c := f.config(t.TempDir())
	s := launch(t, c, okAction())
	s.wait("the reason", func() bool {
		status, text := s.ready()
		return status == http.StatusServiceUnavailable && strings.Contains(text, "no rules are loaded yet") && strings.Contains(text, "push a first commit")
	})
	first := f.commit(okRule("one"))
	s.active(first)
	if status, text := s.ready(); status != http.StatusOK {
		t.Errorf("still unready: %s", text)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	// The repository is away when the server starts again: what was active is so from the beginning.
	f.gone.Store(true)
	again := launch(t, c, okAction())
	again.wait("to be ready", func() bool { status, _ := again.ready(); return status == http.StatusOK })
	if r := again.ended(again.push(`{"n":1}`).ID + "-one"); r.RuleRevision != first {
		t.Errorf("the run is of %s", r.RuleRevision)
	}
	again.wait("the failure to show", func() bool { return strings.Contains(again.view().Error, "not found") })
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	// Another path of the same commit is another set.
	f.gone.Store(false)
	f.write("elsewhere/b.yaml", okRule("elsewhere"))
	second := f.push()
	both := launch(t, c, okAction())
	both.active(second)
	if err := both.stop(); err != nil {
		t.Fatal(err)
	}
	c.Rules.Git.Path = "elsewhere"
	other := launch(t, c, okAction())
	other.wait("the rules elsewhere", func() bool { v := other.view(); return len(v.Items) == 1 && v.Items[0].Name == "elsewhere" })
	if r := other.ended(other.push(`{"n":2}`).ID + "-elsewhere"); r.RuleRevision != second {
		t.Errorf("the run is of %s", r.RuleRevision)
	}
}

func TestOnlySignedRulesCount(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not on PATH")
	}
	f := newForge(t)
	keys := t.TempDir()
	by := func(name string) []string {
		file := filepath.Join(keys, name)
		if _, err := os.Stat(file); err != nil {
			if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file).CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
		}
		return []string{"-c", "gpg.format=ssh", "-c", "commit.gpgSign=true", "-c", "user.signingKey=" + file + ".pub"}
	}
	f.write("rules/a.yaml", okRule("one"))
	signed := f.push(by("ana")...)
	public, err := os.ReadFile(filepath.Join(keys, "ana.pub"))
	if err != nil {
		t.Fatal(err)
	}
	c := f.config(t.TempDir())
	c.Rules.Git.AllowedSigners = filepath.Join(keys, "allowed")
	list := func(text string) {
		if err := os.WriteFile(c.Rules.Git.AllowedSigners, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list("ana@example.org " + string(public))
	s := launch(t, c, okAction())
	s.active(signed)

	f.write("rules/a.yaml", okRule("two"))
	unsigned := f.push()
	s.wait("the unsigned commit to be refused", func() bool { return strings.Contains(s.view().Error, "is not signed") })
	s.wait("the commit status", func() bool { return f.status(unsigned)["description"] == "the commit is not signed" })
	stranger := f.push(by("eve")...)
	s.wait("the stranger's to be refused", func() bool { return strings.Contains(s.view().Error, "none of the allowed signers") })
	if v := s.view(); v.Revision != signed {
		t.Errorf("active is %s", v.Revision)
	}
	// A list that can't be read lets nothing through, and a changed one counts at once.
	list("nonsense")
	s.wait("the list to be refused", func() bool { return strings.Contains(s.view().Error, "allowedSigners") })
	other, err := os.ReadFile(filepath.Join(keys, "eve.pub"))
	if err != nil {
		t.Fatal(err)
	}
	list("ana@example.org " + string(public) + "eve@example.org " + string(other))
	s.active(stranger)
	c = f.config(t.TempDir())
	c.Rules.Git.AllowedGPGKeys = c.Data + "/nothing"
	if _, err := app.New(t.Context(), app.Options{Config: c, LogOutput: io.Discard}); err == nil || !strings.Contains(err.Error(), "allowedGPGKeys") {
		t.Errorf("without the list of keys: %v", err)
	}
}

// TestReloadsUnderLoadLoseAndDoubleNothing sends events while commits come: each event is decided once, by one commit.
func TestReloadsUnderLoadLoseAndDoubleNothing(t *testing.T) {
	f := newForge(t)
	commits := []string{f.commit(okRule("one"))}
	c := f.config(t.TempDir())
	c.Rules.Git.Interval, c.Rules.Git.Forge = 20*time.Millisecond, ""
	var ran sync.Map
	var doubled atomic.Int64
	s := launch(t, c, probe("ok", true, func(_ context.Context, call *action.Call) error {
		if _, twice := ran.LoadOrStore(call.RunID, true); twice {
			doubled.Add(1)
		}
		return nil
	}))
	s.active(commits[0])
	var ids sync.Map
	var sent atomic.Int64
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for w := range 4 {
		senders.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				a := s.push(fmt.Sprintf(`{"w":%d,"n":%d}`, w, n))
				if a.Status != http.StatusAccepted {
					t.Errorf("answer %+v", a)
					return
				}
				ids.Store(a.ID, true)
				sent.Add(1)
			}
		})
	}
	for i := range 6 {
		before := sent.Load()
		rules := okRule("one") + strings.TrimPrefix(okRule(fmt.Sprint("extra", i)), githubSource)
		if i%2 == 1 { // broken in between
			rules = "kind: ["
		}
		commit := f.commit(rules)
		if i%2 == 0 {
			commits = append(commits, commit)
			s.active(commit)
		} else {
			s.wait("the failure to show", func() bool { return strings.Contains(s.view().Error, commit[:12]) })
		}
		s.wait("more events", func() bool { return sent.Load() > before+20 })
	}
	close(stop)
	senders.Wait()
	seen := map[string]int{}
	ids.Range(func(id, _ any) bool {
		r := s.ended(id.(string) + "-one")
		seen[r.RuleRevision]++
		if r.State != run.Succeeded || r.Attempt != 1 || !slices.Contains(commits, r.RuleRevision) {
			t.Errorf("run %+v", r)
		}
		return !t.Failed()
	})
	if doubled.Load() != 0 || len(seen) != len(commits) {
		t.Errorf("%d steps ran twice; of %d commits %d decided", doubled.Load(), len(commits), len(seen))
	}
}

func TestReplicasActivateACommitOnce(t *testing.T) {
	nats, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	f := newForge(t)
	commits := []string{f.commit(okRule("one"))}
	var replicas []*server
	for i := range 3 {
		c := f.config(t.TempDir())
		c.NATSURL = nats.ClientURL()
		if i == 2 {
			c.Rules.Git.Interval = time.Hour // it learns of commits from the log
		}
		replicas = append(replicas, launch(t, c, okAction()))
	}
	for i := range 3 {
		for _, s := range replicas {
			s.wait("commit "+commits[i], func() bool { return s.view().Revision == commits[i] })
		}
		if r := replicas[2].ended(replicas[2].push(fmt.Sprintf(`{"n":%d}`, i)).ID + "-one"); r.RuleRevision != commits[i] {
			t.Errorf("run of %s", r.RuleRevision)
		}
		commits = append(commits, f.commit(okRule("one")+fmt.Sprintf("# %d\n", i)))
	}
	for _, s := range replicas {
		s.wait("the last commit", func() bool { return s.view().Revision == commits[3] })
	}
	if got := activated(t, nats.ClientURL()); !slices.Equal(got, commits) {
		t.Errorf("activated %q, want %q", got, commits)
	}
}

// activated reads the activations from the log.
func activated(t *testing.T, url string) []string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := broker.Open(t.Context(), broker.Options{Dir: t.TempDir(), URL: url, Logger: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	l, err := eventlog.Open(t.Context(), b, eventlog.Options{Logger: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close(context.Background()) }()
	mark := event.RandomID()
	if _, err := l.Append(t.Context(), []event.Record{{Kind: event.KindCommand, Event: &event.Event{ID: mark, Subject: mark, ReceivedAt: time.Now()}}}); err != nil {
		t.Fatal(err)
	}
	errDone := errors.New("done")
	var out []string
	err = l.Follow(t.Context(), event.Pos{}, func(entries []event.Entry) error {
		for _, en := range entries {
			switch {
			case en.Record.Kind == event.KindActivate:
				out = append(out, en.Record.Event.Subject)
			case en.Record.Event.ID == mark || en.Record.Event.Subject == mark:
				return errDone
			}
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	return out
}
