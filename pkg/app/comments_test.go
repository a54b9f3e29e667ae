package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/run"
)

// TestACommentOnThePullRequestAnswers: of somebody whom the configuration names and the forge lets write, and of nobody else.
func TestACommentOnThePullRequestAnswers(t *testing.T) {
	rights := map[string]string{"octocat": "write", "reader": "read"}
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, ours := strings.CutPrefix(r.URL.Path, "/api/v3/repos/acme/shop/collaborators/")
		if account = strings.TrimSuffix(account, "/permission"); !ours || rights[account] == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"permission": rights[account]})
	}))
	defer host.Close()
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(githubSource + strings.Replace(ruleDoc("r", "  mode: approve\n  steps: [{id: fix, uses: change}]\n"), "type: push", "type: pull_request", 1))
	c := testConfig(t, t.TempDir())
	c.Git.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	t.Setenv("APP_TEST_FORGE_TOKEN", "forge-token")
	c.Secrets["forge"] = config.Secret{Env: "APP_TEST_FORGE_TOKEN"}
	c.Credentials = []config.Credential{{URL: host.URL + "/acme/", Token: "forge", Forge: "github"}}
	c.Rules.Dirs = []string{dir}
	c.Approvals = consent.Spec{
		Policies: []consent.Policy{{Groups: []string{"sre"}}}, Comments: []string{"github"},
		People: []consent.Person{
			{Name: "ana", Groups: []string{"sre"}, Accounts: map[string]string{"github": "Octocat"}},
			{Name: "bob", Groups: []string{"sre"}, Accounts: map[string]string{"github": "reader"}},
			{Name: "cy", Groups: []string{"sre"}, Accounts: map[string]string{"github": "gone"}},
		},
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := launch(t, c, change("change"))
	clone := host.URL + "/acme/shop.git"
	id := s.deliver("pull_request", pullRequest(clone, "one")).ID + "-r"
	var r api.Run
	s.wait("the run to ask", func() bool { return s.get("runs/"+id, &r) && r.Approval != nil })
	comment := func(account, text string, number int, at time.Time) {
		t.Helper()
		body := fmt.Sprintf(`{"action":"created","sender":{"login":%q},"comment":{"user":{"login":%q},"body":%q,"created_at":%q},"issue":{"number":%d,"pull_request":{}},"repository":{"full_name":"acme/shop","clone_url":%q}}`,
			account, account, text, at.UTC().Format(time.RFC3339), number, clone)
		if a := s.deliver("issue_comment", body); a.Status != http.StatusAccepted {
			t.Fatalf("%+v", a)
		}
	}
	refused := func(why string) {
		t.Helper()
		s.wait("this in the audit log: "+why, func() bool {
			var page api.List[api.AuditEntry]
			s.get("audit?limit=500", &page)
			for _, e := range page.Items {
				if e.Action == "approveRun" && e.Result == "refused" && strings.Contains(e.Reason, why) && e.Detail["via"] == "comment" {
					return true
				}
			}
			return false
		})
	}
	now := time.Now()
	comment("stranger", "/riposte approve", 7, now)
	refused("github:stranger is the account of nobody")
	comment("reader", "/riposte approve", 7, now)
	refused("reader has the right read in acme/shop, and needs write")
	comment("gone", "/riposte approve", 7, now)
	refused("gone has the right none")
	comment("octocat", "/riposte approve", 8, now)
	refused("no run of pull request 8 in acme/shop waits")
	comment("octocat", "/riposte approve "+id, 7, r.Approval.RequestedAt.Add(-time.Minute))
	refused("the comment is older than what it would answer")
	comment("octocat", "/riposte approve NONE", 7, now)
	refused("event not found")
	comment("octocat", "/riposte approve "+id+" 0123456789abcdef", 7, now.Add(time.Second))
	refused("what the comment answers is not what the run waits for now")
	if s.get("runs/"+id, &r); len(r.Approval.By) > 0 {
		t.Fatalf("one of them counted: %+v", r.Approval)
	}
	comment("octocat", "/riposte approve\nlooks good", 7, now.Add(time.Second))
	if got := s.ended(id); got.State != run.Succeeded {
		t.Errorf("%+v", got)
	}
	s.get("runs/"+id, &r)
	if by := r.Approval.By; len(by) != 1 || by[0].Who != "ana" || by[0].Via != "comment of github:octocat" || by[0].Comment != "looks good" {
		t.Errorf("%+v", by)
	}
}
