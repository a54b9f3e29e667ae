package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/config"
)

// propose commits the work tree on a branch of its own that begins at a commit, and gives the host what it keeps of a pull
// request, as of a fork: the commit is part of no branch.
func (f *forgeHost) propose(base, ref string, arguments ...string) string {
	f.t.Helper()
	f.git(f.work, "checkout", "--quiet", "--detach", base)
	f.git(f.work, "add", "--all")
	f.git(f.work, append(arguments, "commit", "--quiet", "--allow-empty", "--message", "propose")...)
	commit := f.git(f.work, "rev-parse", "HEAD")
	f.git(f.work, "push", "--quiet", "--force", f.bare, "HEAD:"+ref)
	f.git(f.work, "checkout", "--quiet", "main")
	return commit
}

// proposed is propose of rules.
func (f *forgeHost) proposed(base, ref, rules string) string {
	f.t.Helper()
	f.git(f.work, "checkout", "--quiet", "--detach", base)
	f.write("rules/a.yaml", rules)
	return f.propose(base, ref)
}

func (f *forgeHost) statusOf(commit, name string) map[string]string {
	return f.status(commit + " " + name)
}

// told lists the states that were set for a commit, in order.
func (f *forgeHost) told(commit string) (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.said {
		if rest, ok := strings.CutPrefix(line, commit+" "); ok {
			out = append(out, rest)
		}
	}
	return out
}

// judging is the configuration of a server that judges proposals.
func (f *forgeHost) judging(data string, failOn ...string) *config.Config {
	c := f.config(data)
	c.Rules.Git.Backtest = config.RulesBacktest{Since: 24 * time.Hour, FailOn: failOn}
	return c
}

func (s *server) judged(f *forgeHost, commit string) map[string]string {
	s.t.Helper()
	s.wait("the backtest of "+commit, func() bool {
		state := f.statusOf(commit, "riposte/backtest")["state"]
		return state == "success" || state == "failure"
	})
	return f.statusOf(commit, "riposte/backtest")
}

// remembered waits until a commit would not be judged again after a stop.
func (s *server) remembered(commit string) {
	s.t.Helper()
	s.wait("the judgement to be remembered", func() bool {
		text, err := os.ReadFile(filepath.Join(s.data, "rules-git-proposals.json"))
		return err == nil && strings.Contains(string(text), fmt.Sprintf(`{"commit":%q,"tries":1,"done":true}`, commit))
	})
}

func branchRule(name, branch string) string {
	return ruleDoc(name, fmt.Sprintf("  when: event.git.branch == %q\n  steps: [{uses: ok}]\n", branch))
}

func onBranch(n int, branch string) string {
	return fmt.Sprintf(`{"n":%d,"ref":"refs/heads/%s","repository":{"full_name":"acme/shop","clone_url":"https://git.example/acme/shop.git"}}`, n, branch)
}

func TestWhatIsProposedIsJudgedAndNothingOfItBecomesActive(t *testing.T) {
	f := newForge(t)
	first := f.commit(githubSource + branchRule("deploy", "main"))
	c := f.judging(t.TempDir(), "disappear")
	s := launch(t, c, okAction())
	s.active(first)
	for n := range 3 {
		s.ended(s.push(onBranch(n, "main")).ID + "-deploy")
	}
	s.decided(s.push(onBranch(10, "other")).ID)

	more := f.proposed(first, "refs/pull/7/head", githubSource+branchRule("deploy", "main")+branchRule("other", "other"))
	status := s.judged(f, more)
	if status["state"] != "success" || status["description"] != "1 appear, 0 disappear, 0 change, 3 are the same (4 events): other +1" {
		t.Errorf("status %v", status)
	}
	want := []string{"riposte/rules success", "riposte/backtest pending", "riposte/backtest success"}
	if got := f.told(more); !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
	if got := f.statusOf(more, "riposte/rules")["description"]; got != "can be activated: 2 rules, 1 sources" {
		t.Errorf("rules: %s", got)
	}
	if v := s.view(); v.Revision != first || len(v.Items) != 1 {
		t.Errorf("active: %+v", v)
	}

	// What the limits do not let pass is a failure; GitLab's references count too.
	less := f.proposed(first, "refs/merge-requests/8/head", githubSource+branchRule("deploy", "master"))
	status = s.judged(f, less)
	if status["state"] != "failure" || status["description"] != "disappear: 3, and at most 0 are let pass; 0 appear, 3 disappear, 0 change, 0 are the same (4 events): deploy -3" {
		t.Errorf("status %v", status)
	}

	// One that can't be loaded says where, and is not played.
	broken := f.proposed(first, "refs/pull/9/head", githubSource+ruleDoc("deploy", "  when: event.git.brunch == 'x'\n  steps: [{uses: ok}]\n"))
	s.wait("the failure", func() bool { return f.statusOf(broken, "riposte/rules")["state"] == "failure" })
	if got := f.statusOf(broken, "riposte/rules")["description"]; !strings.HasPrefix(got, "rules/a.yaml:11: ") {
		t.Errorf("rules: %s", got)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(f.work, "rules", "link.yaml")); err != nil {
		t.Fatal(err)
	}
	linked := f.propose(first, "refs/pull/10/head")
	s.wait("the refusal", func() bool { return f.statusOf(linked, "riposte/rules")["state"] == "failure" })
	if got := f.statusOf(linked, "riposte/rules")["description"]; !strings.Contains(got, `points out of the repository: "rules/link.yaml"`) {
		t.Errorf("rules: %s", got)
	}

	// The next commit of a pull request is judged, and none twice, whatever looks there are and also after a restart.
	next := f.proposed(first, "refs/pull/7/head", githubSource+branchRule("deploy", "main")+"# the same\n")
	if status := s.judged(f, next); status["description"] != "no run differs, 3 are the same (4 events)" {
		t.Errorf("status %v", status)
	}
	s.remembered(next)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	again := launch(t, c, okAction())
	again.active(first)
	last := f.proposed(first, "refs/pull/11/head", githubSource+branchRule("deploy", "main")+"# also the same\n")
	again.judged(f, last)
	for commit, n := range map[string]int{more: 3, less: 3, broken: 1, linked: 1, next: 3, last: 3} {
		if got := f.told(commit); len(got) != n {
			t.Errorf("told %q", got)
		}
	}
	if v := again.view(); v.Revision != first || strings.Contains(again.log.String(), "forge-token") {
		t.Errorf("active: %+v", v)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Data, "backtest-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestABacktestKnowsTheChangedPathsThatADiffFound has a push that lists nothing.
func TestABacktestKnowsTheChangedPathsThatADiffFound(t *testing.T) {
	f := newForge(t)
	touched := func(glob string) string {
		return githubSource + ruleDoc("touched", fmt.Sprintf("  when: changed(%q)\n  steps: [{uses: ok}]\n", glob))
	}
	first := f.commit(touched("none/**"))
	second := f.commit(touched("rules/**"))
	s := launch(t, f.judging(t.TempDir()), okAction())
	s.active(second)
	e := s.push(fmt.Sprintf(`{"ref":"refs/heads/main","before":%q,"after":%q,"forced":true,"commits":[],"repository":{"full_name":"acme/rules","clone_url":%q}}`, first, second, f.URL+"/acme/rules.git"))
	s.ended(e.ID + "-touched")
	status := s.judged(f, f.proposed(second, "refs/pull/1/head", touched("docs/**")))
	if status["description"] != "0 appear, 1 disappear, 0 change, 0 are the same (1 events): touched -1" {
		t.Errorf("status %v", status)
	}
}

func TestAPullRequestsWebhookIsAnsweredByALook(t *testing.T) {
	f := newForge(t)
	first := f.commit(okRule("one"))
	c := f.judging(t.TempDir())
	s := launch(t, c, okAction())
	s.active(first)
	known := f.proposed(first, "refs/pull/1/head", okRule("one")+"# 1\n")
	s.judged(f, known)
	s.remembered(known)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	c.Rules.Git.Interval = time.Hour
	s = launch(t, c, okAction())
	s.wait("to be ready", func() bool { status, _ := s.ready(); return status == http.StatusOK })
	next := f.proposed(first, "refs/pull/2/head", okRule("one")+"# 2\n")
	a := s.deliver("pull_request", `{"action":"opened","number":2,"pull_request":{"number":2,"base":{"ref":"main","repo":{"full_name":"acme/rules"}},"head":{"ref":"x","repo":{"full_name":"eve/rules"}}},"repository":{"full_name":"acme/rules"}}`)
	if a.Status != http.StatusAccepted {
		t.Fatalf("answer %+v", a)
	}
	s.judged(f, next)
	if got := f.told(known); len(got) != 3 {
		t.Errorf("told %q", got)
	}
}

func TestWhatIsMergedOrOldIsNotJudged(t *testing.T) {
	f := newForge(t)
	first := f.commit(okRule("one"))
	f.git(f.work, "push", "--quiet", f.bare, "HEAD:refs/pull/1/head")
	second := f.commit(okRule("two"))
	f.write("rules/b.yaml", ruleDoc("old", "  steps: [{uses: ok}]\n"))
	f.git(f.work, "checkout", "--quiet", "--detach", first)
	f.git(f.work, "add", "--all")
	old := f.dated(first)
	f.git(f.work, "push", "--quiet", f.bare, old+":refs/pull/3/head")
	f.git(f.work, "checkout", "--quiet", "--force", "main")
	s := launch(t, f.judging(t.TempDir()), okAction())
	s.active(second)
	s.judged(f, f.proposed(second, "refs/pull/2/head", okRule("two")+"# 1\n"))
	s.judged(f, f.proposed(second, "refs/pull/4/head", okRule("two")+"# 2\n")) // by now the others were looked at
	if got := append(f.told(first), f.told(old)...); len(got) > 0 {
		t.Errorf("told %q", got)
	}
}

// dated makes a commit of what is staged that is years old.
func (f *forgeHost) dated(parent string) string {
	f.t.Helper()
	const who = " a <a@example.org> 1577836800 +0000\n"
	text := "tree " + f.git(f.work, "write-tree") + "\nparent " + parent + "\nauthor" + who + "committer" + who + "\nold\n"
	file := filepath.Join(f.t.TempDir(), "commit")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return f.git(f.work, "hash-object", "-t", "commit", "-w", file)
}

func TestUnsignedProposalsAreNotReadWhereRulesAreSigned(t *testing.T) {
	f := newForge(t)
	first := f.commit(okRule("one"))
	c := f.judging(t.TempDir())
	c.Rules.Git.AllowedSigners = filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(c.Rules.Git.AllowedSigners, []byte("a@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0BF3FJJmCrOKRq3ZuNLBPqRZE9bJE0n0a9ZLJvY9kR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := launch(t, c, okAction())
	commit := f.proposed(first, "refs/pull/1/head", "kind: [")
	s.wait("the refusal", func() bool { return f.statusOf(commit, "riposte/rules") != nil })
	if got := f.statusOf(commit, "riposte/rules"); got["state"] != "failure" || got["description"] != "the commit is not signed" {
		t.Errorf("status %v", got)
	}
}

func TestWhatIsProposedForARepositoryWithoutRules(t *testing.T) {
	f := newForge(t)
	first := f.commit("kind: [")
	s := launch(t, f.judging(t.TempDir()), okAction())
	fixed := f.proposed(first, "refs/pull/1/head", okRule("one"))
	if status := s.judged(f, fixed); status["state"] != "success" || status["description"] != "no run differs, 0 are the same (0 events)" {
		t.Errorf("status %v", status)
	}
}

func TestJudgingNeedsCommitStatuses(t *testing.T) {
	f := newForge(t)
	c := f.judging(t.TempDir())
	c.Rules.Git.Forge = ""
	if _, err := app.New(t.Context(), app.Options{Config: c, LogOutput: &lockedBuffer{}}); err == nil || !strings.Contains(err.Error(), "rules.git: backtest: it is told by commit statuses") {
		t.Error(err)
	}
}
