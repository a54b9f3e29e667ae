package github_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/github"
)

// used are the operations that the leaf needs, as GitHub's description names them.
var used = []string{
	"GET /user",
	"GET /repos/{owner}/{repo}/collaborators/{username}/permission",
	"POST /repos/{owner}/{repo}/statuses/{sha}",
	"GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
	"POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
	"PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
	"GET /repos/{owner}/{repo}/issues",
	"POST /repos/{owner}/{repo}/issues",
	"PATCH /repos/{owner}/{repo}/issues/{issue_number}",
	"GET /repos/{owner}/{repo}/pulls",
	"POST /repos/{owner}/{repo}/pulls",
	"GET /repos/{owner}/{repo}/pulls/{pull_number}",
	"PATCH /repos/{owner}/{repo}/pulls/{pull_number}",
	"PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge",
	"GET /repos/{owner}/{repo}/hooks",
	"GET /repos/{owner}/{repo}/hooks/{hook_id}/deliveries",
	"GET /repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}",
	"GET /orgs/{org}/hooks",
	"GET /orgs/{org}/hooks/{hook_id}/deliveries",
	"GET /orgs/{org}/hooks/{hook_id}/deliveries/{delivery_id}",
}

// TestRequestsAreAsGitHubDescribesThem sends every request to the mock server Prism, which checks it against GitHub's
// official OpenAPI description and answers with that description's examples. What Prism lets pass is checked here: every
// parameter and every field of a body must be described.
func TestRequestsAreAsGitHubDescribesThem(t *testing.T) {
	prism, description := prismAndDescription(t)
	api := reduce(t, description)
	file := filepath.Join(t.TempDir(), "github.json")
	text := must(t)(json.Marshal(api))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &witness{t: t, api: api, to: startPrism(t, prism, file), seen: map[string]bool{}}
	srv := httptest.NewServer(w)
	defer srv.Close()
	f, err := github.New(forge.Options{Web: "https://github.com", API: srv.URL, HTTP: &http.Client{}, Token: func() (string, error) { return "the-token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, on := t.Context(), forge.Thread{Repo: "octocat/Hello-World", Kind: forge.KindPull, Number: 1347}
	check := func(what string, err error, ok bool) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %v, sensible: %t", what, err, ok)
		}
	}
	self, err := f.Self(ctx)
	check("Self", err, self != "")
	_, err = f.Rights(ctx, on.Repo, "octocat")
	check("Rights", err, true)
	err = f.SetStatus(ctx, on.Repo, strings.Repeat("a", 40), forge.Status{State: forge.Success, Context: "riposte/plan", Description: "2 to add", TargetURL: "https://x.example"})
	check("SetStatus", err, true)
	comments, _, err := f.Comments(ctx, on, 2)
	check("Comments", err, len(comments) > 0 && comments[0].ID != 0 && comments[0].Author != "" && comments[0].URL != "")
	c, err := f.AddComment(ctx, on, "hello")
	check("AddComment", err, c.ID != 0)
	c, err = f.EditComment(ctx, on, 1, "hello")
	check("EditComment", err, c.ID != 0)
	_, _, err = f.OpenIssues(ctx, on.Repo, "octocat", 1)
	check("OpenIssues", err, true)
	i, err := f.AddIssue(ctx, on.Repo, "title", "text")
	check("AddIssue", err, i.Number != 0 && i.Author != "")
	i, err = f.CloseIssue(ctx, on.Repo, 1347)
	check("CloseIssue", err, i.Number != 0)
	pulls, _, err := f.OpenPulls(ctx, on.Repo, "new-topic", "master", 1)
	check("OpenPulls", err, len(pulls) > 0 && pulls[0].Commit != "" && pulls[0].Head != "" && pulls[0].Base != "" && pulls[0].Open)
	p, err := f.AddPull(ctx, on.Repo, forge.NewPull{Head: "new-topic", Base: "master", Title: "title", Body: "text", Draft: true})
	check("AddPull", err, p.Number != 0)
	p, err = f.Pull(ctx, on.Repo, 1347)
	check("Pull", err, p.Number != 0 && !p.Fork)
	p, err = f.EditPull(ctx, on.Repo, forge.Pull{Number: 1347, Title: "title", Body: "text"})
	check("EditPull", err, p.Number != 0)
	commit, err := f.MergePull(ctx, on.Repo, 1347, forge.Merge{Commit: strings.Repeat("a", 40), Method: "squash", Title: "title", Message: "text"})
	check("MergePull", err, commit != "")
	for owner, hook := range map[string]string{on.Repo: "https://example.com/webhook", "github": "http://example.com"} {
		handed := 0
		err := f.(forge.Deliveries).MissedDeliveries(ctx, owner, hook, time.Time{}, func(d forge.Delivery) error {
			if handed++; d.ID == "" || d.Event == "" || len(d.Headers) == 0 || len(d.Body) == 0 {
				t.Errorf("%s: %+v", owner, d)
			}
			return nil
		})
		check("MissedDeliveries of "+owner, err, handed > 0)
	}
	for _, op := range used {
		if !w.seen[op] {
			t.Errorf("%s was never asked for", op)
		}
	}
	if len(w.seen) != len(used) {
		t.Errorf("asked for %v", slices.Sorted(maps.Keys(w.seen)))
	}
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// prismAndDescription finds both where npm put them side by side.
func prismAndDescription(t *testing.T) (prism, description string) {
	t.Helper()
	const install = "run npm install @stoplight/prism-cli @octokit/openapi and put node_modules/.bin on PATH"
	prism, err := exec.LookPath("prism")
	if err != nil {
		t.Skip("prism is not on PATH: " + install)
	}
	real, err := filepath.EvalSymlinks(prism)
	if err != nil {
		t.Fatal(err)
	}
	modules, _, ok := strings.Cut(real, "/@stoplight/")
	description = filepath.Join(modules, "@octokit", "openapi", "generated", "api.github.com.json")
	if _, err := os.Stat(description); !ok || err != nil {
		t.Skip("GitHub's description is not beside prism: " + install)
	}
	return prism, description
}

// reduce keeps the operations that are used and what they refer to: the whole description takes Prism long to read.
func reduce(t *testing.T, file string) map[string]any {
	t.Helper()
	var api map[string]any
	if err := json.Unmarshal(must(t)(os.ReadFile(file)), &api); err != nil {
		t.Fatal(err)
	}
	kept := map[string]any{}
	all := api["paths"].(map[string]any)
	for _, op := range used {
		_, path, _ := strings.Cut(op, " ")
		if kept[path] = all[path]; all[path] == nil {
			t.Fatalf("GitHub describes no %s", path)
		}
	}
	out := map[string]any{"openapi": api["openapi"], "info": api["info"], "servers": api["servers"], "paths": kept}
	refer(kept, api, out)
	return out
}

// refer copies what a value refers to, and what that refers to, from one description to another.
func refer(v any, from, to map[string]any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			refer(e, from, to)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			src, dst, parts := from, to, strings.Split(strings.TrimPrefix(ref, "#/"), "/")
			for _, part := range parts[:len(parts)-1] {
				if dst[part] == nil {
					dst[part] = map[string]any{}
				}
				src, dst = src[part].(map[string]any), dst[part].(map[string]any)
			}
			if last := parts[len(parts)-1]; dst[last] == nil {
				dst[last] = src[last]
				refer(src[last], from, to)
			}
		}
		for _, e := range v {
			refer(e, from, to)
		}
	}
}

func startPrism(t *testing.T, prism, file string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, prism, "mock", "--host", "127.0.0.1", "--port", port, file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	listening := make(chan struct{})
	reader.Go(func() {
		lines, told := bufio.NewScanner(out), false
		for lines.Scan() {
			if !told && strings.Contains(lines.Text(), "Prism is listening") {
				told = true
				close(listening)
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reader.Wait()
		_ = cmd.Wait()
	})
	select {
	case <-listening:
	case <-time.After(2 * time.Minute):
		t.Fatal("prism does not listen after two minutes")
	}
	return &url.URL{Scheme: "http", Host: address}
}

// witness passes requests on to Prism, and sees what both make of them.
type witness struct {
	t    *testing.T
	api  map[string]any
	to   *url.URL
	mu   sync.Mutex
	seen map[string]bool
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.described(r, body)
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(w.to)
			p.Out.Host = ""
			p.Out.Header.Set("Accept", "application/json") // the library asks for GitHub's own types, which the description leaves out
		},
		ModifyResponse: func(resp *http.Response) error {
			// Examples that are wrong themselves are violations too, of the response.
			if v := resp.Header.Get("sl-violations"); strings.Contains(v, `["request"`) || resp.StatusCode >= 400 {
				w.t.Errorf("%s %s: %d, %s\n%s", r.Method, r.URL, resp.StatusCode, v, body)
			}
			if !strings.HasSuffix(r.URL.Path, "/deliveries") {
				return nil
			}
			// The examples arrived, and were not missed.
			text, err := io.ReadAll(resp.Body)
			text = bytes.ReplaceAll(text, []byte(`"status_code":200`), []byte(`"status_code":502`))
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			return err
		},
	}
	proxy.ServeHTTP(rw, r)
}

// described checks that nothing is sent which the description does not know.
func (w *witness) described(r *http.Request, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range used {
		method, path, _ := strings.Cut(op, " ")
		pattern := "^" + regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(path, "[^/]+") + "$"
		if method != r.Method || !regexp.MustCompile(pattern).MatchString(r.URL.EscapedPath()) {
			continue
		}
		w.seen[op] = true
		operation := w.at(w.at(w.api["paths"], path), strings.ToLower(method))
		known := map[string]bool{}
		for _, p := range operation["parameters"].([]any) {
			if p := w.resolved(p); p["in"] == "query" {
				known[fmt.Sprint(p["name"])] = true
			}
		}
		for name := range r.URL.Query() {
			if !known[name] {
				w.t.Errorf("%s knows no parameter %s", op, name)
			}
		}
		if len(body) > 0 {
			w.fields(op, operation, body)
		}
		return
	}
	w.t.Errorf("%s %s is not among the operations that are known to be used", r.Method, r.URL)
}

func (w *witness) fields(op string, operation map[string]any, body []byte) {
	schema := w.at(w.at(w.at(operation["requestBody"], "content"), "application/json"), "schema")
	known := w.at(schema, "properties")
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		w.t.Errorf("%s: %v", op, err)
	}
	for name := range sent {
		if known[name] == nil {
			w.t.Errorf("%s knows no field %s", op, name)
		}
	}
}

func (w *witness) at(v any, key string) map[string]any { return w.resolved(w.resolved(v)[key]) }

// resolved follows references.
func (w *witness) resolved(v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	var to any = w.api
	for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		to = to.(map[string]any)[part]
	}
	return w.resolved(to)
}
