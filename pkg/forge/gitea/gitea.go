// Package gitea speaks with the API of Gitea and Forgejo (docs.gitea.com, "API"; a host's own description is at
// /api/swagger). docs/adr says why the official client is used in the tests alone.
package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/forge"
)

const (
	maxDescription = 255 // keeps a status' description readable; Gitea itself sets no bound
	maxTitle       = 255
	perPage        = "50" // what hosts give at most, if nothing else is configured
)

// Type describes Gitea.
func Type() forge.Type {
	return forge.Type{Name: "gitea", Hosts: []string{"gitea.com", "codeberg.org"}, New: New}
}

type host struct{ client *forge.Client }

// New makes the API of one Gitea or Forgejo.
func New(o forge.Options) (forge.Forge, error) {
	api := o.API
	if api == "" {
		api = strings.TrimRight(o.Web, "/") + "/api/v1"
	}
	client, err := forge.NewClient(o, api, func(token string) string { return "token " + token })
	if err != nil {
		return nil, err
	}
	return &host{client}, nil
}

// Limits implements forge.Forge. Gitea sets no bound for a text; nobody reads more.
func (h *host) Limits() forge.Limits { return forge.Limits{Title: maxTitle, Body: 250_000} }

// do sends a request about a repository; the path is below it.
func (h *host) do(ctx context.Context, repo string, q forge.Request) (http.Header, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return nil, err
	}
	q.Path = "repos/" + owner + "/" + name + q.Path
	return h.client.Do(ctx, q)
}

type status struct {
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url,omitempty"`
}

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPost, Path: "/statuses/" + url.PathEscape(commit), Want: http.StatusCreated,
		In:    status{string(s.State), s.Context, forge.Clip(s.Description, maxDescription), s.TargetURL},
		Right: "set commit statuses of the repository",
	})
	return err
}

type user struct {
	Login string `json:"login"`
}

// Self implements forge.Forge.
func (h *host) Self(ctx context.Context) (string, error) {
	return h.client.Self(ctx, func(ctx context.Context) (string, error) {
		var u user
		_, err := h.client.Do(ctx, forge.Request{Method: http.MethodGet, Path: "user", Out: &u, Right: "read its own account (read:user)"})
		return u.Login, err
	})
}

// Rights implements forge.Forge.
func (h *host) Rights(ctx context.Context, repo, account string) (forge.Rights, error) {
	var has struct {
		Permission string `json:"permission"`
	}
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodGet, Path: "/collaborators/" + url.PathEscape(account) + "/permission", Out: &has,
		Right: "read who works on the repository, of which its account must be an administrator",
	})
	var refused *forge.Error
	switch {
	case account == "." || account == "..":
		return forge.None, errors.New("that is no name of an account")
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return forge.None, nil
	case err != nil:
		return forge.None, err
	}
	switch has.Permission {
	case "owner", "admin":
		return forge.Admin, nil
	case "write":
		return forge.Write, nil
	case "read":
		return forge.Read, nil
	}
	return forge.None, nil
}

type comment struct {
	ID      int64  `json:"id"`
	Body    string `json:"body"`
	User    user   `json:"user"`
	HTMLURL string `json:"html_url"`
}

func (c comment) forge() forge.Comment {
	return forge.Comment{ID: c.ID, Author: c.User.Login, Body: c.Body, URL: c.HTMLURL}
}

const (
	onComments = "read and write comments of the repository (write:issue)"
	onIssues   = "read and write issues of the repository (write:issue)"
	onPulls    = "read and write pull requests of the repository (write:repository)"
)

// Comments implements forge.Forge. To Gitea, pull requests are issues too, and all comments come on one page.
func (h *host) Comments(ctx context.Context, on forge.Thread, _ int) ([]forge.Comment, bool, error) {
	var found []comment
	_, err := h.do(ctx, on.Repo, forge.Request{
		Method: http.MethodGet, Path: fmt.Sprintf("/issues/%d/comments", on.Number), Out: &found, Right: onComments,
	})
	if err != nil {
		return nil, false, err
	}
	list := make([]forge.Comment, len(found))
	for i, c := range found {
		list[i] = c.forge()
	}
	return list, false, nil
}

type commentBody struct {
	Body string `json:"body"`
}

// AddComment implements forge.Forge.
func (h *host) AddComment(ctx context.Context, on forge.Thread, body string) (forge.Comment, error) {
	var c comment
	_, err := h.do(ctx, on.Repo, forge.Request{
		Method: http.MethodPost, Path: fmt.Sprintf("/issues/%d/comments", on.Number), In: commentBody{body}, Out: &c, Want: http.StatusCreated, Right: onComments,
	})
	return c.forge(), err
}

// EditComment implements forge.Forge.
func (h *host) EditComment(ctx context.Context, on forge.Thread, id int64, body string) (forge.Comment, error) {
	var c comment
	_, err := h.do(ctx, on.Repo, forge.Request{
		Method: http.MethodPatch, Path: fmt.Sprintf("/issues/comments/%d", id), In: commentBody{body}, Out: &c, Right: onComments,
	})
	return c.forge(), err
}

type issue struct {
	Number  int64  `json:"number"`
	User    user   `json:"user"`
	Title   string `json:"title"`
	Body    string `json:"body"`
	HTMLURL string `json:"html_url"`
}

func (i issue) forge() forge.Issue {
	return forge.Issue{Number: i.Number, Author: i.User.Login, Title: i.Title, Body: i.Body, URL: i.HTMLURL}
}

// OpenIssues implements forge.Forge. Gitea lists the newest first, and takes no other order.
func (h *host) OpenIssues(ctx context.Context, repo, author string, page int) ([]forge.Issue, bool, error) {
	var found []issue
	header, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodGet, Path: "/issues", Out: &found, Right: onIssues,
		Query: url.Values{"state": {"open"}, "type": {"issues"}, "created_by": {author}, "page": {strconv.Itoa(page)}, "limit": {perPage}},
	})
	if err != nil {
		return nil, false, err
	}
	list := make([]forge.Issue, len(found))
	for i, f := range found {
		list[i] = f.forge()
	}
	return list, forge.More(header), nil
}

type newIssue struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

type changeOfState struct {
	State string `json:"state"`
}

// AddIssue implements forge.Forge.
func (h *host) AddIssue(ctx context.Context, repo, title, body string) (forge.Issue, error) {
	var i issue
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPost, Path: "/issues", In: newIssue{title, body}, Out: &i, Want: http.StatusCreated, Right: onIssues,
	})
	return i.forge(), err
}

// CloseIssue implements forge.Forge.
func (h *host) CloseIssue(ctx context.Context, repo string, number int64) (forge.Issue, error) {
	var i issue
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPatch, Path: fmt.Sprintf("/issues/%d", number), In: changeOfState{"closed"}, Out: &i, Want: http.StatusCreated, Right: onIssues,
	})
	return i.forge(), err
}

type branch struct {
	Ref  string `json:"ref"`
	SHA  string `json:"sha"`
	Repo *struct {
		FullName string `json:"full_name"`
	} `json:"repo"` // null once the fork is gone
}

func (b branch) repo() string {
	if b.Repo == nil {
		return ""
	}
	return b.Repo.FullName
}

type pull struct {
	Number         int64  `json:"number"`
	User           user   `json:"user"`
	Title          string `json:"title"`
	Body           string `json:"body"`
	HTMLURL        string `json:"html_url"`
	State          string `json:"state"`
	Merged         bool   `json:"merged"`
	MergeCommitSHA string `json:"merge_commit_sha"`
	Base           branch `json:"base"`
	Head           branch `json:"head"`
}

func (p pull) forge() forge.Pull {
	title, isDraft := strings.CutPrefix(p.Title, draft)
	return forge.Pull{
		Number: p.Number, Author: p.User.Login, Title: title, Draft: isDraft, Body: p.Body, URL: p.HTMLURL, Base: p.Base.Ref, Head: p.Head.Ref, Commit: p.Head.SHA,
		Fork: p.Head.repo() == "" || p.Head.repo() != p.Base.repo(), Open: p.State == "open", Merged: p.Merged, MergeCommit: p.MergeCommitSHA,
	}
}

// Pull implements forge.Forge.
func (h *host) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	var p pull
	_, err := h.do(ctx, repo, forge.Request{Method: http.MethodGet, Path: fmt.Sprintf("/pulls/%d", number), Out: &p, Right: onPulls})
	return p.forge(), err
}

// OpenPulls implements forge.Forge. Gitea lists those of all branches.
func (h *host) OpenPulls(ctx context.Context, repo, _, _ string, page int) ([]forge.Pull, bool, error) {
	var found []pull
	header, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodGet, Path: "/pulls", Out: &found, Right: onPulls,
		Query: url.Values{"state": {"open"}, "sort": {"oldest"}, "page": {strconv.Itoa(page)}, "limit": {perPage}},
	})
	if err != nil {
		return nil, false, err
	}
	list := make([]forge.Pull, len(found))
	for i, p := range found {
		list[i] = p.forge()
	}
	return list, forge.More(header), nil
}

type newPull struct {
	Head  string `json:"head"`
	Base  string `json:"base"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

// draft in front of a title makes a draft of a pull request, where the host's settings are the usual ones.
const draft = "WIP: "

func titled(title string, isDraft bool) string {
	if isDraft {
		return forge.Clip(draft+title, maxTitle)
	}
	return title
}

// AddPull implements forge.Forge.
func (h *host) AddPull(ctx context.Context, repo string, n forge.NewPull) (forge.Pull, error) {
	var p pull
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPost, Path: "/pulls", In: newPull{n.Head, n.Base, titled(n.Title, n.Draft), n.Body}, Out: &p, Want: http.StatusCreated, Right: onPulls,
	})
	return p.forge(), err
}

// EditPull implements forge.Forge.
func (h *host) EditPull(ctx context.Context, repo string, edit forge.Pull) (forge.Pull, error) {
	var p pull
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPatch, Path: fmt.Sprintf("/pulls/%d", edit.Number), In: newIssue{titled(edit.Title, edit.Draft), edit.Body}, Out: &p, Want: http.StatusCreated, Right: onPulls,
	})
	return p.forge(), err
}

type merge struct {
	Do                string `json:"Do"`
	HeadCommitID      string `json:"head_commit_id"`
	MergeTitleField   string `json:"MergeTitleField,omitempty"`
	MergeMessageField string `json:"MergeMessageField,omitempty"`
}

// MergePull implements forge.Forge. Gitea does not say which commit it made.
func (h *host) MergePull(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	if m.Method == "" {
		m.Method = "merge"
	}
	_, err := h.do(ctx, repo, forge.Request{
		Method: http.MethodPost, Path: fmt.Sprintf("/pulls/%d/merge", number),
		In: merge{m.Method, m.Commit, m.Title, m.Message}, Right: "merge pull requests of the repository (write:repository)",
	})
	return "", err
}
