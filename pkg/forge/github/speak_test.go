package github_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/google/go-github/v60/github"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/github"
)

// speaker answers as GitHub does for a world. That requests are right is checked against GitHub's own description of its
// API, in prism_test.go.
type speaker struct {
	t *testing.T
	w *forgetest.World
}

type listed struct {
	list any
	more bool
}

const api = "/api/v3"

func serve(t *testing.T, w *forgetest.World, more map[string]func(*http.Request) (any, int, error)) *httptest.Server {
	s := speaker{t, w}
	mux := http.NewServeMux()
	const repo = api + "/repos/{owner}/{name}"
	routes := map[string]func(*http.Request) (any, int, error){
		"GET " + api + "/user": func(*http.Request) (any, int, error) {
			return client.User{ID: client.Int64(1), Login: client.String(strings.ToUpper(w.Account))}, 200, nil
		},
		"GET " + repo + "/collaborators/{account}/permission": s.permission,
		"GET " + repo + "/issues/{number}/comments":           s.comments,
		"POST " + repo + "/issues/{number}/comments":          s.addComment,
		"PATCH " + repo + "/issues/comments/{number}":         s.editComment,
		"GET " + repo + "/issues":                             s.issues,
		"POST " + repo + "/issues":                            s.addIssue,
		"PATCH " + repo + "/issues/{number}":                  s.editIssue,
		"GET " + repo + "/pulls":                              s.pulls,
		"POST " + repo + "/pulls":                             s.addPull,
		"GET " + repo + "/pulls/{number}":                     s.pull,
		"PATCH " + repo + "/pulls/{number}":                   s.editPull,
		"PUT " + repo + "/pulls/{number}/merge":               s.merge,
	}
	for pattern, h := range more {
		routes[pattern] = h
	}
	for pattern, h := range routes {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			v, status, err := h(r)
			var refused *forge.Error
			if errors.As(err, &refused) {
				v, status = map[string]string{"message": refused.Message, "documentation_url": "https://docs.github.com/rest"}, refused.Status
			}
			if l, ok := v.(listed); ok {
				if v = l.list; l.more {
					rw.Header().Set("Link", fmt.Sprintf(`<https://api.github.com/x?page=%d>; rel="next", <https://api.github.com/x?page=99>; rel="last"`, page(r)+1))
				}
			}
			rw.Header().Set("Content-Type", "application/json; charset=utf-8")
			rw.WriteHeader(status)
			_ = json.NewEncoder(rw).Encode(v)
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func open(t *testing.T, w *forgetest.World) forge.Forge {
	return forgetest.Open(t, github.Type(), serve(t, w, nil).URL)
}

func (s speaker) read(r *http.Request, into any) {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func number(r *http.Request) int64 { n, _ := strconv.ParseInt(r.PathValue("number"), 10, 64); return n }
func page(r *http.Request) int     { n, _ := strconv.Atoi(r.FormValue("page")); return n }
func repo(r *http.Request) string  { return r.PathValue("owner") + "/" + r.PathValue("name") }

func user(name string) *client.User { return &client.User{Login: &name} }

func (s speaker) permission(r *http.Request) (any, int, error) {
	has, _ := s.w.Rights(r.Context(), repo(r), r.PathValue("account"))
	level := has.String()
	return client.RepositoryPermissionLevel{Permission: &level, User: user(r.PathValue("account"))}, 200, nil
}

// thread is that of the number: pull requests are issues.
func (s speaker) thread(r *http.Request) forge.Thread {
	on := forge.Thread{Repo: repo(r), Kind: forge.KindIssue, Number: number(r)}
	if _, err := s.w.Pull(r.Context(), on.Repo, on.Number); err == nil {
		on.Kind = forge.KindPull
	}
	return on
}

func comment(c forge.Comment) client.IssueComment {
	return client.IssueComment{ID: &c.ID, Body: &c.Body, User: user(c.Author), HTMLURL: &c.URL}
}

func (s speaker) comments(r *http.Request) (any, int, error) {
	found, more, _ := s.w.Comments(r.Context(), s.thread(r), page(r))
	list := []client.IssueComment{}
	for _, c := range found {
		list = append(list, comment(c))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addComment(r *http.Request) (any, int, error) {
	var o client.IssueComment
	s.read(r, &o)
	c, err := s.w.AddComment(r.Context(), s.thread(r), o.GetBody())
	return comment(c), 201, err
}

func (s speaker) editComment(r *http.Request) (any, int, error) {
	var o client.IssueComment
	s.read(r, &o)
	c, err := s.w.EditComment(r.Context(), s.w.ThreadOf(number(r)), number(r), o.GetBody())
	return comment(c), 200, err
}

func issue(i forge.Issue) client.Issue {
	n := int(i.Number)
	return client.Issue{Number: &n, Title: &i.Title, Body: &i.Body, HTMLURL: &i.URL, User: user(i.Author)}
}

// issues lists pull requests too, as GitHub does.
func (s speaker) issues(r *http.Request) (any, int, error) {
	if r.FormValue("state") != "open" {
		s.t.Errorf("issues of %v", r.Form)
	}
	found, more, _ := s.w.OpenIssues(r.Context(), repo(r), strings.ToLower(r.FormValue("creator")), page(r))
	a := issue(forge.Issue{Number: 901, Author: s.w.Account})
	a.PullRequestLinks = &client.PullRequestLinks{}
	list := []client.Issue{a}
	for _, i := range found {
		list = append(list, issue(i))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addIssue(r *http.Request) (any, int, error) {
	var o client.IssueRequest
	s.read(r, &o)
	i, err := s.w.AddIssue(r.Context(), repo(r), o.GetTitle(), o.GetBody())
	return issue(i), 201, err
}

func (s speaker) editIssue(r *http.Request) (any, int, error) {
	var o client.IssueRequest
	s.read(r, &o)
	if o.GetState() != "closed" {
		s.t.Errorf("the issue is not closed: %+v", o)
	}
	i, err := s.w.CloseIssue(r.Context(), repo(r), number(r))
	return issue(i), 200, err
}

func pull(r *http.Request, p forge.Pull) client.PullRequest {
	n, name, state := int(p.Number), repo(r), "closed"
	if p.Open {
		state = "open"
	}
	out := client.PullRequest{
		Number: &n, Title: &p.Title, Body: &p.Body, HTMLURL: &p.URL, User: user(p.Author), State: &state, Merged: &p.Merged, Draft: &p.Draft, MergeCommitSHA: &p.MergeCommit,
		Base: &client.PullRequestBranch{Ref: &p.Base, Repo: &client.Repository{FullName: &name}},
		Head: &client.PullRequestBranch{Ref: &p.Head, SHA: &p.Commit, Repo: &client.Repository{FullName: &name}},
	}
	if p.Fork {
		out.Head.Repo = nil
	}
	return out
}

func (s speaker) pull(r *http.Request) (any, int, error) {
	p, err := s.w.Pull(r.Context(), repo(r), number(r))
	return pull(r, p), 200, err
}

func (s speaker) pulls(r *http.Request) (any, int, error) {
	owner, head, _ := strings.Cut(r.FormValue("head"), ":")
	if owner != r.PathValue("owner") || r.FormValue("state") != "open" {
		s.t.Errorf("pull requests of %v", r.Form)
	}
	found, more, _ := s.w.OpenPulls(r.Context(), repo(r), head, r.FormValue("base"), page(r))
	list := []client.PullRequest{}
	for _, p := range found {
		list = append(list, pull(r, p))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addPull(r *http.Request) (any, int, error) {
	var o client.NewPullRequest
	s.read(r, &o)
	p, err := s.w.AddPull(r.Context(), repo(r), forge.NewPull{Head: o.GetHead(), Base: o.GetBase(), Title: o.GetTitle(), Draft: o.GetDraft(), Body: o.GetBody()})
	return pull(r, p), 201, err
}

func (s speaker) editPull(r *http.Request) (any, int, error) {
	var o client.PullRequest
	s.read(r, &o)
	old, _ := s.w.Pull(r.Context(), repo(r), number(r))
	p, err := s.w.EditPull(r.Context(), repo(r), forge.Pull{Number: number(r), Title: o.GetTitle(), Draft: old.Draft, Body: o.GetBody()})
	return pull(r, p), 200, err
}

func (s speaker) merge(r *http.Request) (any, int, error) {
	var o struct {
		SHA string `json:"sha"`
	}
	s.read(r, &o)
	sha, err := s.w.MergePull(r.Context(), repo(r), number(r), forge.Merge{Commit: o.SHA})
	return client.PullRequestMergeResult{SHA: &sha, Merged: client.Bool(true)}, 200, err
}

func TestWriting(t *testing.T)  { forgetest.Writing(t, open) }
func TestSpeaking(t *testing.T) { forgetest.Speaking(t, github.Type()) }

// TestMissedDeliveries: what no attempt brought is handed over once, the oldest first.
func TestMissedDeliveries(t *testing.T) {
	start := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	type attempt struct {
		id     int64
		guid   string
		minute int
		status int
	}
	// As GitHub lists them: the newest first, all attempts at one delivery with one GUID.
	all := []attempt{{9, "e", 9, 0}, {8, "b", 8, 200}, {7, "d", 7, 503}, {6, "d", 6, 502}, {5, "c", 5, 202}, {4, "b", 4, 500}, {3, "a", 3, 500}, {2, "z", -5, 500}}
	delivery := func(a attempt) client.HookDelivery {
		return client.HookDelivery{ID: &a.id, GUID: &a.guid, StatusCode: &a.status, Event: client.String("push"), DeliveredAt: &client.Timestamp{Time: start.Add(time.Duration(a.minute) * time.Minute)}}
	}
	for _, owner := range []string{"acme/shop", "acme"} {
		at := api + "/repos/{owner}/{name}/hooks"
		if owner == "acme" {
			at = api + "/orgs/{owner}/hooks"
		}
		srv := serve(t, forgetest.NewWorld(), map[string]func(*http.Request) (any, int, error){
			"GET " + at: func(r *http.Request) (any, int, error) {
				hook := client.Hook{ID: client.Int64(1), Config: &client.HookConfig{URL: client.String("https://else.example/hooks/github")}}
				if page(r) == 2 {
					hook = client.Hook{ID: client.Int64(2), Config: &client.HookConfig{URL: client.String("https://hooks.example/hooks/github")}}
				}
				return listed{[]client.Hook{hook}, page(r) < 2}, 200, nil
			},
			"GET " + at + "/2/deliveries/{number}": func(r *http.Request) (any, int, error) {
				for _, a := range all {
					if a.id == number(r) {
						d := delivery(a)
						body := json.RawMessage(`{"ref":"` + a.guid + `"}`)
						d.Request = &client.HookRequest{Headers: map[string]string{"X-GitHub-Delivery": a.guid}, RawPayload: &body}
						return d, 200, nil
					}
				}
				return nil, 0, &forge.Error{Status: 404}
			},
		})
		// The list has cursors, not pages.
		mux := srv.Config.Handler
		srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/hooks/2/deliveries") {
				mux.ServeHTTP(w, r)
				return
			}
			from, _ := strconv.Atoi(r.FormValue("cursor"))
			to := min(from+3, len(all))
			var list []client.HookDelivery
			for _, a := range all[from:to] {
				list = append(list, delivery(a))
			}
			if to < len(all) {
				w.Header().Set("Link", fmt.Sprintf(`<%s%s?per_page=3&cursor=%d>; rel="next"`, srv.URL, r.URL.Path, to))
			}
			_ = json.NewEncoder(w).Encode(list)
		})
		f := forgetest.Open(t, github.Type(), srv.URL).(forge.Deliveries)
		var got []string
		err := f.MissedDeliveries(t.Context(), owner, "https://hooks.example/hooks/github", start, func(d forge.Delivery) error {
			got = append(got, fmt.Sprintf("%s %s %s %s %s", d.ID, d.Event, d.At.Format("15:04"), d.Headers["X-GitHub-Delivery"], d.Body))
			return nil
		})
		want := `[a push 10:03 a {"ref":"a"} d push 10:06 d {"ref":"d"} e push 10:09 e {"ref":"e"}]`
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", owner, got, err)
		}
		errStop := errors.New("stop")
		n := 0
		err = f.MissedDeliveries(t.Context(), owner, "https://hooks.example/hooks/github", start, func(forge.Delivery) error { n++; return errStop })
		if !errors.Is(err, errStop) || n != 1 {
			t.Errorf("%d handed over, %v", n, err)
		}
		if err := f.MissedDeliveries(t.Context(), owner, "https://hooks.example/other", start, nil); err == nil || !strings.Contains(err.Error(), "no webhook that sends to") {
			t.Error(err)
		}
	}
	f := forgetest.Open(t, github.Type(), "http://127.0.0.1:1").(forge.Deliveries)
	for _, owner := range []string{"", "..", "a/b/c", "a/.."} {
		if err := f.MissedDeliveries(t.Context(), owner, "x", start, nil); err == nil || !strings.Contains(err.Error(), "OWNER/NAME") {
			t.Errorf("%q: %v", owner, err)
		}
	}
}
