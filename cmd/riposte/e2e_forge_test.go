//go:build e2e

package main_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	forgeToken = "e2e-forge-token-0123456789"
	nobody     = "0000000000000000000000000000000000000000"
)

// exampleForge is a host of Git repositories as GitHub is one: git's own HTTP backend, an API of deployments, pull requests'
// comments and statuses, and webhooks for what happens there, whoever does it.
type exampleForge struct {
	t      *testing.T
	url    string
	root   string // of its bare repositories: acme/NAME.git
	work   string // a developer's clone of the only one
	repo   string // acme/NAME
	webURL string // its clone URL

	mu          sync.Mutex
	hooks       string // where webhooks go to; empty for nowhere
	sent        []string
	deployments []string // commits
	comments    []comment
	statuses    []string // context and state
	files       []string // of the pull request
	head        string   // of the pull request
	proposed    []proposal
}

// proposal is a pull request that was opened through the API.
type proposal struct{ head, base, title, body string }

type comment struct {
	ID   int64             `json:"id"`
	Body string            `json:"body"`
	User map[string]string `json:"user"`
}

// newForge makes a host with one repository and these files on main.
func newForge(t *testing.T, repo string, files map[string]string) *exampleForge {
	t.Helper()
	need(t, "git", "apt-get install git")
	f := &exampleForge{t: t, root: t.TempDir(), work: filepath.Join(t.TempDir(), "work"), repo: repo}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + f.root, "GIT_HTTP_EXPORT_ALL=1"},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/"+repo+".git/", func(w http.ResponseWriter, r *http.Request) {
		before := f.branches()
		backend.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
			f.pushed(before)
		}
	})
	f.api(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	f.url, f.webURL = srv.URL, srv.URL+"/"+repo+".git"
	bare := filepath.Join(f.root, repo+".git")
	f.git("", "init", "--quiet", "--bare", "-b", "main", bare)
	f.git(bare, "config", "http.receivepack", "true")
	f.git("", "clone", "--quiet", f.webURL, f.work)
	f.commit("first", files)
	f.git(f.work, "push", "--quiet", "origin", "HEAD:main")
	return f
}

func (f *exampleForge) git(dir string, args ...string) string {
	f.t.Helper()
	settings := []string{"-c", "user.name=ana", "-c", "user.email=ana@example.com", "-c", "init.defaultBranch=main"}
	cmd := exec.Command("git", append(settings, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files into the developer's clone and commits them.
func (f *exampleForge) commit(message string, files map[string]string) string {
	f.t.Helper()
	for name, text := range files {
		path := filepath.Join(f.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { // scripts are among them
			f.t.Fatal(err)
		}
	}
	f.git(f.work, "add", ".")
	f.git(f.work, "commit", "--quiet", "-m", message)
	return f.git(f.work, "rev-parse", "HEAD")
}

// push commits files onto what main is now, and pushes it.
func (f *exampleForge) push(message string, files map[string]string) string {
	f.t.Helper()
	f.git(f.work, "fetch", "--quiet", "origin", "main")
	f.git(f.work, "reset", "--quiet", "--hard", "origin/main")
	commit := f.commit(message, files)
	f.git(f.work, "push", "--quiet", "origin", "HEAD:main")
	return commit
}

// merge merges a branch into main as a person does who agrees to it.
func (f *exampleForge) merge(branch string) {
	f.t.Helper()
	f.git(f.work, "fetch", "--quiet", "origin")
	f.git(f.work, "reset", "--quiet", "--hard", "origin/main")
	f.git(f.work, "merge", "--quiet", "--no-ff", "-m", "Merge "+branch, "origin/"+branch)
	f.git(f.work, "push", "--quiet", "origin", "HEAD:main")
}

// at is where a branch is; empty if it is nowhere.
func (f *exampleForge) at(branch string) string { return f.branches()["refs/heads/"+branch] }

func (f *exampleForge) branches() map[string]string {
	out := f.ask("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/")
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[name] = id
	}
	return refs
}

// show reads a file of a branch.
func (f *exampleForge) show(branch, file string) string {
	f.t.Helper()
	return f.git(filepath.Join(f.root, f.repo+".git"), "show", branch+":"+file)
}

// listen says where webhooks go to from now on.
func (f *exampleForge) listen(hooks string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks = hooks
}

// pushed sends a webhook for each branch that is elsewhere now.
func (f *exampleForge) pushed(before map[string]string) {
	after := f.branches()
	for ref, id := range after {
		was := before[ref]
		if was == id {
			continue
		}
		if was == "" {
			was = nobody
		}
		f.send("push", map[string]any{"ref": ref, "before": was, "after": id, "created": was == nobody, "deleted": false, "forced": false,
			"pusher": map[string]any{"name": "somebody"}, "head_commit": map[string]any{"id": id, "message": f.message(id)},
			"commits": []any{map[string]any{"id": id, "message": f.message(id), "added": []any{}, "modified": f.changed(id), "removed": []any{}}}})
	}
}

func (f *exampleForge) message(id string) string { return f.ask("log", "-1", "--format=%B", id) }

func (f *exampleForge) changed(id string) []string {
	return strings.Fields(f.ask("show", "--format=", "--name-only", id))
}

// ask runs git in the bare repository, also beside the test's own goroutine; what fails says nothing.
func (f *exampleForge) ask(args ...string) string {
	out, _ := exec.Command("git", append([]string{"-C", filepath.Join(f.root, f.repo+".git")}, args...)...).Output()
	return string(out)
}

// send delivers a webhook, signed as GitHub signs, and again as long as nobody takes it.
func (f *exampleForge) send(event string, body map[string]any) {
	f.mu.Lock()
	hooks := f.hooks
	f.mu.Unlock()
	if hooks == "" {
		return
	}
	owner, name, _ := strings.Cut(f.repo, "/")
	body["repository"] = map[string]any{
		"id": 42, "name": name, "full_name": f.repo, "owner": map[string]any{"login": owner}, "clone_url": f.webURL, "default_branch": "main",
	}
	text, _ := json.Marshal(body)
	id := deliver(f.t, hooks, event, rand.Text(), text)
	f.mu.Lock()
	f.sent = append(f.sent, event+" "+id)
	f.mu.Unlock()
}

// deliver posts a webhook of GitHub's, and returns the event's id; empty where nobody took it.
func deliver(t *testing.T, hooks, event, delivery string, body []byte) string {
	req, err := http.NewRequest(http.MethodPost, "http://"+hooks+"/hooks/github", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": sign(body),
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("deliver %s: %v", event, err)
		return ""
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("deliver %s: %s", event, resp.Status)
	}
	return answer.ID
}

// events lists the ids of what was sent of a type, oldest first.
func (f *exampleForge) events(event string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for _, s := range f.sent {
		if id, ok := strings.CutPrefix(s, event+" "); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// api serves as much of GitHub's API as the examples use.
func (f *exampleForge) api(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	handle := func(pattern string, h func(w http.ResponseWriter, r *http.Request, in map[string]any)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/repos/"+f.repo+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+forgeToken {
				answer(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials"})
				return
			}
			body, _ := io.ReadAll(r.Body)
			in := map[string]any{}
			_ = json.Unmarshal(body, &in)
			f.mu.Lock()
			defer f.mu.Unlock()
			h(w, r, in)
		})
	}
	handle("POST /deployments", func(w http.ResponseWriter, _ *http.Request, in map[string]any) {
		f.deployments = append(f.deployments, fmt.Sprint(in["ref"]))
		answer(w, http.StatusCreated, map[string]any{"id": len(f.deployments)})
	})
	handle("POST /deployments/{id}/statuses", func(w http.ResponseWriter, r *http.Request, in map[string]any) {
		var n int
		if _, err := fmt.Sscan(r.PathValue("id"), &n); err != nil || n < 1 || n > len(f.deployments) {
			answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
			return
		}
		answer(w, http.StatusCreated, map[string]any{"id": 700 + n})
		commit := f.deployments[n-1]
		go f.send("deployment_status", map[string]any{"action": "created",
			"deployment_status": map[string]any{
				"id": 700 + n, "state": in["state"], "environment": in["environment"], "updated_at": time.Now().UTC().Format(time.RFC3339),
			},
			"deployment": map[string]any{"id": n, "ref": "main", "sha": commit, "environment": in["environment"]}})
	})
	handle("GET /issues/{number}/comments", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		answer(w, http.StatusOK, slices.Concat([]comment{}, f.comments))
	})
	handle("POST /issues/{number}/comments", func(w http.ResponseWriter, _ *http.Request, in map[string]any) {
		c := comment{int64(len(f.comments) + 1), fmt.Sprint(in["body"]), map[string]string{"login": "riposte"}}
		f.comments = append(f.comments, c)
		answer(w, http.StatusCreated, c)
	})
	handle("PATCH /issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, in map[string]any) {
		for i := range f.comments {
			if fmt.Sprint(f.comments[i].ID) == r.PathValue("id") {
				f.comments[i].Body = fmt.Sprint(in["body"])
				answer(w, http.StatusOK, f.comments[i])
				return
			}
		}
		answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
	})
	handle("GET /pulls/{number}", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		answer(w, http.StatusOK, map[string]any{"number": 7, "state": "open", "head": map[string]any{"sha": f.head}})
	})
	handle("GET /pulls", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		answer(w, http.StatusOK, []any{})
	})
	handle("POST /pulls", func(w http.ResponseWriter, _ *http.Request, in map[string]any) {
		p := proposal{fmt.Sprint(in["head"]), fmt.Sprint(in["base"]), fmt.Sprint(in["title"]), fmt.Sprint(in["body"])}
		head := f.branches()["refs/heads/"+p.head]
		if head == "" {
			answer(w, http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed"})
			return
		}
		f.proposed = append(f.proposed, p)
		answer(w, http.StatusCreated, map[string]any{
			"number": len(f.proposed), "state": "open", "title": p.title, "body": p.body, "user": map[string]any{"login": "riposte"},
			"html_url": fmt.Sprintf("%s/%s/pull/%d", f.url, f.repo, len(f.proposed)), "head": map[string]any{"ref": p.head, "sha": head},
		})
	})
	handle("POST /statuses/{commit}", func(w http.ResponseWriter, _ *http.Request, in map[string]any) {
		f.statuses = append(f.statuses, fmt.Sprint(in["context"], " ", in["state"]))
		answer(w, http.StatusCreated, map[string]any{"id": len(f.statuses), "context": in["context"], "state": in["state"]})
	})
}
