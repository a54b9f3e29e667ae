package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/run"
)

// commentHost is a host with the part of GitHub's API that comments and statuses need.
type commentHost struct {
	*httptest.Server
	mu       sync.Mutex
	comments []map[string]any
	requests []*http.Request
	statuses []map[string]any
}

func newCommentHost(t *testing.T) *commentHost {
	h := &commentHost{}
	answer := func(w http.ResponseWriter, status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	const repo = "/api/v3/repos/acme/shop"
	mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"login": "bot"}) })
	mux.HandleFunc("GET "+repo+"/issues/7/comments", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, h.comments) })
	mux.HandleFunc("POST "+repo+"/issues/7/comments", func(w http.ResponseWriter, r *http.Request) {
		var c map[string]any
		_ = json.NewDecoder(r.Body).Decode(&c)
		c["id"], c["user"], c["html_url"] = len(h.comments)+1, map[string]any{"login": "bot"}, "https://x/1"
		h.comments = append(h.comments, c)
		answer(w, 201, c)
	})
	mux.HandleFunc("PATCH "+repo+"/issues/comments/1", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&h.comments[0])
		answer(w, 200, h.comments[0])
	})
	mux.HandleFunc("POST "+repo+"/statuses/{commit}", func(w http.ResponseWriter, r *http.Request) {
		var s map[string]any
		_ = json.NewDecoder(r.Body).Decode(&s)
		s["commit"] = r.PathValue("commit")
		h.statuses = append(h.statuses, s)
		answer(w, 201, s)
	})
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.requests = append(h.requests, r)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *commentHost) first() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.comments[0]["body"])
}

const commit = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff"

func pullRequest(cloneURL, title string) string {
	repo := fmt.Sprintf(`{"full_name":"acme/shop","clone_url":%q}`, cloneURL)
	return fmt.Sprintf(`{"action":"opened","number":7,"pull_request":{"number":7,"title":%q,"head":{"ref":"x","sha":%q,"repo":%s},"base":{"ref":"main","repo":%s}},"repository":%s}`, title, commit, repo, repo, repo)
}

// TestRulesSpeakOnTheHost: rules comment on the pull request of their event and set its status, with the credential of that
// repository and of no other.
func TestRulesSpeakOnTheHost(t *testing.T) {
	h := newCommentHost(t)
	c := testConfig(t, t.TempDir())
	c.Git.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	t.Setenv("APP_TEST_FORGE_TOKEN", "forge-token")
	c.Secrets["forge"] = config.Secret{Env: "APP_TEST_FORGE_TOKEN"}
	c.Credentials = []config.Credential{{URL: h.URL + "/acme/", Token: "forge", Forge: "github"}, {URL: "https://unknown.example/", Token: "forge"}}
	dir := t.TempDir()
	rules := githubSource + `apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: plan}
spec:
  trigger: {source: github, type: pull_request}
  steps:
    - uses: pullrequest.comment
      with: {key: plan, body: "Plan for ${{ event.data.pull_request.title }}"}
    - uses: status.set
      with: {context: riposte/plan, state: success}
`
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Rules.Dirs = []string{dir}
	s := launch(t, c)
	var last run.Run
	for _, title := range []string{"@acme/all /close forge-token", "two"} {
		if last = s.ended(s.deliver("pull_request", pullRequest(h.URL+"/acme/shop.git", title)).ID + "-plan"); last.State != run.Succeeded {
			t.Fatalf("%+v", last)
		}
		if body := h.first(); strings.Contains(body, "@acme") || strings.Contains(body, "forge-token") {
			t.Errorf("the host shows %q", body)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.comments) != 1 || !strings.HasSuffix(fmt.Sprint(h.comments[0]["body"]), "\nPlan for two") {
		t.Errorf("comments: %v", h.comments)
	}
	if len(h.statuses) != 2 || h.statuses[1]["commit"] != commit || h.statuses[1]["context"] != "riposte/plan" {
		t.Errorf("statuses: %v", h.statuses)
	}
	if r := h.requests[len(h.requests)-1]; r.UserAgent() != "riposte/test ("+last.ID+")" || r.Header.Get("Authorization") != "Bearer forge-token" {
		t.Errorf("the last request is %v", r.Header)
	}
	asked := len(h.requests)
	for clone, want := range map[string]string{
		h.URL + "/other/shop.git":         "no credential",
		"https://evil.example/acme/shop":  "no credential",
		"https://unknown.example/a/b.git": "set forge",
	} {
		r := s.ended(s.deliver("pull_request", pullRequest(clone, clone)).ID + "-plan")
		if r.State != run.Failed || !strings.Contains(r.Message, want) {
			t.Errorf("%s: %s, %s", clone, r.State, r.Message)
		}
	}
	if len(h.requests) != asked {
		t.Errorf("%d requests without a credential", len(h.requests)-asked)
	}
	if strings.Contains(s.log.String(), "forge-token") {
		t.Error("the log shows the token")
	}
}

func TestAKindOfHostThatThereIsNot(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{t.TempDir()}
	c.Secrets["forge"] = config.Secret{Env: "APP_TEST_SECRET"}
	c.Credentials = []config.Credential{{URL: "https://git.example.com/", Token: "forge", Forge: "gitbucket"}}
	_, err := app.New(t.Context(), app.Options{Config: c, LogOutput: &lockedBuffer{}})
	if err == nil || !strings.Contains(err.Error(), `credentials[0].forge: "gitbucket" is none of gitea, github, gitlab`) {
		t.Error(err)
	}
}
