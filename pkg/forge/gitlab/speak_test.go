package gitlab_test

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

	client "gitlab.com/gitlab-org/api/client-go"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/gitlab"
)

// speaker answers as GitLab does for a world. Answers are the official client's types, written as JSON, and requests are
// read into its options, which must know every field.
type speaker struct {
	t *testing.T
	w *forgetest.World
}

func open(t *testing.T, w *forgetest.World) forge.Forge {
	s := speaker{t, w}
	mux := http.NewServeMux()
	routes := map[string]func(*http.Request) (any, int, error){
		"GET /api/v4/user":                                          func(*http.Request) (any, int, error) { return client.User{ID: 1, Username: w.Account}, 200, nil },
		"GET /api/v4/users":                                         s.users,
		"GET /api/v4/projects/{repo}/members/all/{id}":              s.member,
		"GET /api/v4/projects/{repo}/issues":                        s.issues,
		"POST /api/v4/projects/{repo}/issues":                       s.addIssue,
		"PUT /api/v4/projects/{repo}/issues/{number}":               s.editIssue,
		"GET /api/v4/projects/{repo}/merge_requests":                s.pulls,
		"POST /api/v4/projects/{repo}/merge_requests":               s.addPull,
		"GET /api/v4/projects/{repo}/merge_requests/{number}":       s.pull,
		"PUT /api/v4/projects/{repo}/merge_requests/{number}":       s.editPull,
		"PUT /api/v4/projects/{repo}/merge_requests/{number}/merge": s.merge,
	}
	for _, kind := range []string{"issues", "merge_requests"} {
		at := "/api/v4/projects/{repo}/" + kind + "/{number}/notes"
		routes["GET "+at], routes["POST "+at], routes["PUT "+at+"/{note}"] = s.notes, s.addNote, s.editNote
	}
	for pattern, h := range routes {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			v, status, err := h(r)
			var refused *forge.Error
			if errors.As(err, &refused) {
				v, status = map[string]string{"message": fmt.Sprintf("%d %s", refused.Status, refused.Message)}, refused.Status
			}
			if l, ok := v.(listed); ok {
				if v = l.list; l.more {
					rw.Header().Set("Link", `<https://gitlab.example.com/next>; rel="next", <https://gitlab.example.com/first>; rel="first"`)
				}
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(status)
			_ = json.NewEncoder(rw).Encode(v)
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return forgetest.Open(t, gitlab.Type(), srv.URL)
}

type listed struct {
	list any
	more bool
}

func (s speaker) read(r *http.Request, into any) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func number(r *http.Request, name string) int64 {
	n, _ := strconv.ParseInt(r.PathValue(name), 10, 64)
	return n
}

func page(r *http.Request) int { n, _ := strconv.Atoi(r.FormValue("page")); return n }

func thread(r *http.Request) forge.Thread {
	kind := forge.KindIssue
	if strings.Contains(r.URL.Path, "/merge_requests/") {
		kind = forge.KindPull
	}
	return forge.Thread{Repo: r.PathValue("repo"), Kind: kind, Number: number(r, "number")}
}

var accounts = []string{"ann", "will", "rita", "nobody", "gone"}

func (s speaker) users(r *http.Request) (any, int, error) {
	list := []client.User{}
	for i, a := range accounts {
		if a == r.FormValue("username") {
			list = append(list, client.User{ID: int64(i + 1), Username: a, State: "active"})
		}
	}
	return list, 200, nil
}

func (s speaker) member(r *http.Request) (any, int, error) {
	has, _ := s.w.Rights(r.Context(), "", accounts[number(r, "id")-1])
	level, ok := map[forge.Rights]client.AccessLevelValue{forge.Admin: client.OwnerPermissions, forge.Write: client.DeveloperPermissions, forge.Read: client.ReporterPermissions}[has]
	if !ok {
		return nil, 0, &forge.Error{Status: 404, Message: "Not found"}
	}
	return client.ProjectMember{ID: number(r, "id"), State: "active", AccessLevel: level}, 200, nil
}

func note(c forge.Comment) client.Note {
	at := time.Unix(c.ID, 0)
	return client.Note{ID: c.ID, Body: c.Body, Author: client.NoteAuthor{Username: c.Author}, CreatedAt: &at}
}

func (s speaker) notes(r *http.Request) (any, int, error) {
	if r.FormValue("sort") != "asc" || r.FormValue("order_by") != "created_at" {
		s.t.Errorf("notes come in the order %v", r.Form)
	}
	found, more, _ := s.w.Comments(r.Context(), thread(r), page(r))
	list := []client.Note{{ID: 900, Body: "changed the description", System: true, Author: client.NoteAuthor{Username: s.w.Account}}}
	for _, c := range found {
		list = append(list, note(c))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addNote(r *http.Request) (any, int, error) {
	var o client.CreateMergeRequestNoteOptions
	s.read(r, &o)
	c, err := s.w.AddComment(r.Context(), thread(r), *o.Body)
	return note(c), 201, err
}

func (s speaker) editNote(r *http.Request) (any, int, error) {
	var o client.UpdateMergeRequestNoteOptions
	s.read(r, &o)
	c, err := s.w.EditComment(r.Context(), thread(r), number(r, "note"), *o.Body)
	return note(c), 200, err
}

func issue(i forge.Issue) client.Issue {
	return client.Issue{ID: i.Number + 5000, IID: i.Number, Title: i.Title, Description: i.Body, WebURL: i.URL, Author: &client.IssueAuthor{Username: i.Author}, State: "opened"}
}

func (s speaker) issues(r *http.Request) (any, int, error) {
	if r.FormValue("state") != "opened" || r.FormValue("scope") != "all" {
		s.t.Errorf("issues of %v", r.Form)
	}
	found, more, _ := s.w.OpenIssues(r.Context(), r.PathValue("repo"), r.FormValue("author_username"), page(r))
	list := []client.Issue{}
	for _, i := range found {
		list = append(list, issue(i))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addIssue(r *http.Request) (any, int, error) {
	var o client.CreateIssueOptions
	s.read(r, &o)
	i, err := s.w.AddIssue(r.Context(), r.PathValue("repo"), *o.Title, *o.Description)
	return issue(i), 201, err
}

func (s speaker) editIssue(r *http.Request) (any, int, error) {
	var o client.UpdateIssueOptions
	s.read(r, &o)
	if *o.StateEvent != "close" {
		s.t.Error(*o.StateEvent)
	}
	i, err := s.w.CloseIssue(r.Context(), r.PathValue("repo"), number(r, "number"))
	return issue(i), 200, err
}

func request(p forge.Pull) client.MergeRequest {
	b := client.BasicMergeRequest{
		ID: p.Number + 5000, IID: p.Number, Title: p.Title, Description: p.Body, WebURL: p.URL, Author: &client.BasicUser{Username: p.Author},
		SourceBranch: p.Head, TargetBranch: p.Base, SHA: p.Commit, SourceProjectID: 7, TargetProjectID: 7, State: "closed", MergeCommitSHA: p.MergeCommit,
	}
	switch {
	case p.Merged:
		b.State = "merged"
	case p.Open:
		b.State = "opened"
	}
	if p.Fork {
		b.SourceProjectID = 8
	}
	if p.Draft {
		b.Title, b.Draft = "Draft: "+p.Title, true
	}
	return client.MergeRequest{BasicMergeRequest: b}
}

func (s speaker) pull(r *http.Request) (any, int, error) {
	p, err := s.w.Pull(r.Context(), r.PathValue("repo"), number(r, "number"))
	return request(p), 200, err
}

func (s speaker) pulls(r *http.Request) (any, int, error) {
	found, more, _ := s.w.OpenPulls(r.Context(), r.PathValue("repo"), r.FormValue("source_branch"), r.FormValue("target_branch"), page(r))
	list := []client.BasicMergeRequest{}
	for _, p := range found {
		list = append(list, request(p).BasicMergeRequest)
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addPull(r *http.Request) (any, int, error) {
	var o client.CreateMergeRequestOptions
	s.read(r, &o)
	title, draft := strings.CutPrefix(*o.Title, "Draft: ")
	p, err := s.w.AddPull(r.Context(), r.PathValue("repo"), forge.NewPull{Head: *o.SourceBranch, Base: *o.TargetBranch, Title: title, Draft: draft, Body: *o.Description})
	return request(p), 201, err
}

func (s speaker) editPull(r *http.Request) (any, int, error) {
	var o client.UpdateMergeRequestOptions
	s.read(r, &o)
	title, draft := strings.CutPrefix(*o.Title, "Draft: ")
	p, err := s.w.EditPull(r.Context(), r.PathValue("repo"), forge.Pull{Number: number(r, "number"), Title: title, Draft: draft, Body: *o.Description})
	return request(p), 200, err
}

func (s speaker) merge(r *http.Request) (any, int, error) {
	var o client.AcceptMergeRequestOptions
	s.read(r, &o)
	if _, err := s.w.MergePull(r.Context(), r.PathValue("repo"), number(r, "number"), forge.Merge{Commit: *o.SHA}); err != nil {
		return nil, 0, err
	}
	p, err := s.w.Pull(r.Context(), r.PathValue("repo"), number(r, "number"))
	return request(p), 200, err
}

func TestWriting(t *testing.T)  { forgetest.Writing(t, open) }
func TestSpeaking(t *testing.T) { forgetest.Speaking(t, gitlab.Type()) }

func TestMergeMethods(t *testing.T) {
	w := forgetest.NewWorld()
	f := open(t, w)
	p := w.Propose("acme/shop", forge.Pull{Head: "x", Base: "main", Commit: "c"})
	if _, err := f.MergePull(t.Context(), "acme/shop", p.Number, forge.Merge{Commit: "c", Method: "rebase"}); err == nil || !strings.Contains(err.Error(), "project's settings") {
		t.Error(err)
	}
	if _, err := f.MergePull(t.Context(), "acme/shop", p.Number, forge.Merge{Commit: "c", Method: "squash", Title: "a", Message: "b"}); err != nil {
		t.Error(err)
	}
}
