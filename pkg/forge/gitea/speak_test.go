package gitea_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/gitea"
)

// speaker answers as Gitea does for a world. Answers are the official client's types, written as JSON, and requests are
// read into its options, which must know every field.
type speaker struct {
	t *testing.T
	w *forgetest.World
}

type listed struct {
	list any
	more bool
}

func open(t *testing.T, w *forgetest.World) forge.Forge {
	s := speaker{t, w}
	mux := http.NewServeMux()
	const repo = "/api/v1/repos/{owner}/{name}"
	for pattern, h := range map[string]func(*http.Request) (any, int, error){
		"GET /api/v1/user": func(*http.Request) (any, int, error) { return sdk.User{ID: 1, UserName: w.Account}, 200, nil },
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
		"POST " + repo + "/pulls/{number}/merge":              s.merge,
	} {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			v, status, err := h(r)
			var refused *forge.Error
			if errors.As(err, &refused) {
				v, status = map[string]string{"message": refused.Message, "url": "https://gitea.com/api/swagger"}, refused.Status
			}
			if l, ok := v.(listed); ok {
				if v = l.list; l.more {
					rw.Header().Set("Link", `<https://gitea.example.com/next>; rel="next",<https://gitea.example.com/last>; rel="last"`)
				}
			}
			rw.Header().Set("Content-Type", "application/json;charset=utf-8")
			rw.WriteHeader(status)
			if v != nil {
				_ = json.NewEncoder(rw).Encode(v)
			}
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return forgetest.Open(t, gitea.Type(), srv.URL)
}

func (s speaker) read(r *http.Request, into any) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func number(r *http.Request) int64 { n, _ := strconv.ParseInt(r.PathValue("number"), 10, 64); return n }
func page(r *http.Request) int     { n, _ := strconv.Atoi(r.FormValue("page")); return n }
func repo(r *http.Request) string  { return r.PathValue("owner") + "/" + r.PathValue("name") }

func user(name string) *sdk.User { return &sdk.User{UserName: name} }

func (s speaker) permission(r *http.Request) (any, int, error) {
	has, _ := s.w.Rights(r.Context(), repo(r), r.PathValue("account"))
	level := map[forge.Rights]sdk.AccessMode{forge.Admin: sdk.AccessModeOwner, forge.Write: sdk.AccessModeWrite, forge.Read: sdk.AccessModeRead, forge.None: sdk.AccessModeNone}[has]
	return sdk.CollaboratorPermissionResult{Permission: level, Role: string(level), User: user(r.PathValue("account"))}, 200, nil
}

// thread is that of the number: the threads of pull requests are those of issues.
func (s speaker) thread(r *http.Request) forge.Thread {
	on := forge.Thread{Repo: repo(r), Kind: forge.KindIssue, Number: number(r)}
	if _, err := s.w.Pull(r.Context(), on.Repo, on.Number); err == nil {
		on.Kind = forge.KindPull
	}
	return on
}

func comment(c forge.Comment) sdk.Comment {
	return sdk.Comment{ID: c.ID, Body: c.Body, Poster: user(c.Author), HTMLURL: c.URL, Created: time.Unix(c.ID, 0)}
}

// comments come all at once, whatever page is asked for.
func (s speaker) comments(r *http.Request) (any, int, error) {
	list := []sdk.Comment{}
	all, _, _ := s.w.All(s.thread(r))
	for _, c := range all {
		list = append(list, comment(c))
	}
	return list, 200, nil
}

func (s speaker) addComment(r *http.Request) (any, int, error) {
	var o sdk.CreateIssueCommentOption
	s.read(r, &o)
	c, err := s.w.AddComment(r.Context(), s.thread(r), o.Body)
	return comment(c), 201, err
}

func (s speaker) editComment(r *http.Request) (any, int, error) {
	var o sdk.EditIssueCommentOption
	s.read(r, &o)
	c, err := s.w.EditComment(r.Context(), s.w.ThreadOf(number(r)), number(r), o.Body)
	return comment(c), 200, err
}

func issue(i forge.Issue) sdk.Issue {
	return sdk.Issue{ID: i.Number + 5000, Index: i.Number, Title: i.Title, Body: i.Body, HTMLURL: i.URL, Poster: user(i.Author), State: sdk.StateOpen}
}

func (s speaker) issues(r *http.Request) (any, int, error) {
	if r.FormValue("state") != "open" || r.FormValue("type") != "issues" {
		s.t.Errorf("issues of %v", r.Form)
	}
	found, more, _ := s.w.OpenIssues(r.Context(), repo(r), r.FormValue("created_by"), page(r))
	list := []sdk.Issue{}
	for _, i := range found {
		list = append(list, issue(i))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addIssue(r *http.Request) (any, int, error) {
	var o sdk.CreateIssueOption
	s.read(r, &o)
	i, err := s.w.AddIssue(r.Context(), repo(r), o.Title, o.Body)
	return issue(i), 201, err
}

func (s speaker) editIssue(r *http.Request) (any, int, error) {
	var o sdk.EditIssueOption
	s.read(r, &o)
	if o.State == nil || *o.State != sdk.StateClosed {
		s.t.Errorf("the issue is not closed: %+v", o)
	}
	i, err := s.w.CloseIssue(r.Context(), repo(r), number(r))
	return issue(i), 201, err
}

func pull(r *http.Request, p forge.Pull) sdk.PullRequest {
	out := sdk.PullRequest{
		ID: p.Number + 5000, Index: p.Number, Title: p.Title, Body: p.Body, HTMLURL: p.URL, Poster: user(p.Author), State: sdk.StateClosed, HasMerged: p.Merged,
		Base: &sdk.PRBranchInfo{Ref: p.Base, Repository: &sdk.Repository{FullName: repo(r)}},
		Head: &sdk.PRBranchInfo{Ref: p.Head, Sha: p.Commit, Repository: &sdk.Repository{FullName: repo(r)}},
	}
	if p.Open {
		out.State = sdk.StateOpen
	}
	if p.Merged {
		out.MergedCommitID = &p.MergeCommit
	}
	if p.Fork {
		out.Head.Repository = nil
	}
	if p.Draft {
		out.Title, out.Draft = "WIP: "+p.Title, true
	}
	return out
}

func (s speaker) pull(r *http.Request) (any, int, error) {
	p, err := s.w.Pull(r.Context(), repo(r), number(r))
	return pull(r, p), 200, err
}

func (s speaker) pulls(r *http.Request) (any, int, error) {
	found, more, _ := s.w.OpenPulls(r.Context(), repo(r), "", "", page(r))
	list := []sdk.PullRequest{}
	for _, p := range found {
		list = append(list, pull(r, p))
	}
	return listed{list, more}, 200, nil
}

func (s speaker) addPull(r *http.Request) (any, int, error) {
	var o sdk.CreatePullRequestOption
	s.read(r, &o)
	title, draft := strings.CutPrefix(o.Title, "WIP: ")
	p, err := s.w.AddPull(r.Context(), repo(r), forge.NewPull{Head: o.Head, Base: o.Base, Title: title, Draft: draft, Body: o.Body})
	return pull(r, p), 201, err
}

func (s speaker) editPull(r *http.Request) (any, int, error) {
	var o sdk.EditPullRequestOption
	s.read(r, &o)
	title, draft := strings.CutPrefix(o.Title, "WIP: ")
	p, err := s.w.EditPull(r.Context(), repo(r), forge.Pull{Number: number(r), Title: title, Draft: draft, Body: *o.Body})
	return pull(r, p), 201, err
}

func (s speaker) merge(r *http.Request) (any, int, error) {
	var o sdk.MergePullRequestOption
	s.read(r, &o)
	if o.Style != sdk.MergeStyleMerge || o.ForceMerge {
		s.t.Errorf("%+v", o)
	}
	_, err := s.w.MergePull(r.Context(), repo(r), number(r), forge.Merge{Commit: o.HeadCommitId})
	return nil, 200, err
}

func TestWriting(t *testing.T)  { forgetest.Writing(t, open) }
func TestSpeaking(t *testing.T) { forgetest.Speaking(t, gitea.Type()) }
