// Package github speaks with GitHub's API, on github.com and GitHub Enterprise Server.
package github

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/riposte-dev/riposte/pkg/forge"
)

const (
	maxDescription = 140 // characters of a status' description; more is answered with 422
	perPage        = 100
)

// Type describes GitHub.
func Type() forge.Type {
	return forge.Type{Name: "github", Hosts: []string{"github.com"}, New: New}
}

type host struct {
	client *forge.Client
	gh     *github.Client
}

var _ forge.Deliveries = (*host)(nil)

// New makes the API of one GitHub.
func New(o forge.Options) (forge.Forge, error) {
	api := o.API
	switch web := strings.TrimRight(o.Web, "/"); {
	case api != "":
	case web == "https://github.com":
		api = "https://api.github.com"
	default: // docs.github.com, "REST API" of Enterprise Server
		api = web + "/api/v3"
	}
	client, err := forge.NewClient(o, api, func(token string) string { return "Bearer " + token })
	if err != nil {
		return nil, err
	}
	gh := github.NewClient(client.HTTP())
	gh.BaseURL = client.API()
	return &host{client, gh}, nil
}

// Limits implements forge.Forge. GitHub counts characters of a body, 65,536; bytes are on the safe side.
func (h *host) Limits() forge.Limits { return forge.Limits{Title: 256, Body: 65_000} }

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return err
	}
	_, resp, err := h.gh.Repositories.CreateStatus(ctx, owner, name, commit, &github.RepoStatus{
		State: github.String(string(s.State)), Context: github.String(s.Context), TargetURL: optional(s.TargetURL),
		Description: github.String(forge.Clip(s.Description, maxDescription)),
	})
	return h.failed(resp, err, http.StatusCreated, "set commit statuses of the repository")
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// failed turns the library's error into ours, which has no token in it. An answer that is not the wanted one is an error too.
func (h *host) failed(resp *github.Response, err error, want int, right string) error {
	var refused *github.ErrorResponse
	var limited *github.RateLimitError
	var abused *github.AbuseRateLimitError
	switch {
	case err == nil && resp.StatusCode != want:
		return &forge.Error{Status: resp.StatusCode}
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Response != nil:
		text := refused.Message
		for _, e := range refused.Errors {
			text += "; " + cmp.Or(e.Message, e.Field+" "+e.Code)
		}
		return h.client.Refusal(refused.Response, text, right)
	case errors.As(err, &limited): // also where the library knows it without asking
		e := h.client.Refusal(limited.Response, limited.Message, right)
		e.Limited, e.Again = true, "at "+limited.Rate.Reset.UTC().Format(time.RFC3339)
		return e
	case errors.As(err, &abused):
		e := h.client.Refusal(abused.Response, abused.Message, right)
		e.Limited = true
		return e
	}
	return h.client.Hidden(err)
}

// Self implements forge.Forge. An app's installation may not ask; its account is `account` in the configuration: "NAME[bot]".
func (h *host) Self(ctx context.Context) (string, error) {
	return h.client.Self(ctx, func(ctx context.Context) (string, error) {
		u, resp, err := h.gh.Users.Get(ctx, "")
		return u.GetLogin(), h.failed(resp, err, http.StatusOK, "read its own account")
	})
}

// Rights implements forge.Forge.
func (h *host) Rights(ctx context.Context, repo, account string) (forge.Rights, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.None, err
	}
	if _, _, err := forge.OwnerName(owner + "/" + strings.TrimSuffix(account, "[bot]")); err != nil {
		return forge.None, errors.New("that is no name of an account")
	}
	level, resp, err := h.gh.Repositories.GetPermissionLevel(ctx, owner, name, account)
	if resp != nil && resp.StatusCode == http.StatusNotFound {
		return forge.None, nil
	}
	if err := h.failed(resp, err, http.StatusOK, "read who works on the repository (metadata, and push access)"); err != nil {
		return forge.None, err
	}
	switch level.GetPermission() { // triage counts as read, maintain as write
	case "admin":
		return forge.Admin, nil
	case "write":
		return forge.Write, nil
	case "read":
		return forge.Read, nil
	}
	return forge.None, nil
}

const (
	onComments = "read and write comments (issues and pull requests) of the repository"
	onIssues   = "read and write issues of the repository"
	onPulls    = "read and write pull requests of the repository"
)

// Comments implements forge.Forge. To GitHub, pull requests are issues too.
func (h *host) Comments(ctx context.Context, on forge.Thread, page int) ([]forge.Comment, bool, error) {
	owner, name, err := forge.OwnerName(on.Repo)
	if err != nil {
		return nil, false, err
	}
	found, resp, err := h.gh.Issues.ListComments(ctx, owner, name, int(on.Number), &github.IssueListCommentsOptions{
		ListOptions: github.ListOptions{Page: page, PerPage: perPage},
	})
	if err := h.failed(resp, err, http.StatusOK, onComments); err != nil {
		return nil, false, err
	}
	list := make([]forge.Comment, len(found))
	for i, c := range found {
		list[i] = comment(c)
	}
	return list, resp.NextPage != 0, nil
}

func comment(c *github.IssueComment) forge.Comment {
	return forge.Comment{ID: c.GetID(), Author: c.GetUser().GetLogin(), Body: c.GetBody(), URL: c.GetHTMLURL()}
}

// AddComment implements forge.Forge.
func (h *host) AddComment(ctx context.Context, on forge.Thread, body string) (forge.Comment, error) {
	owner, name, err := forge.OwnerName(on.Repo)
	if err != nil {
		return forge.Comment{}, err
	}
	c, resp, err := h.gh.Issues.CreateComment(ctx, owner, name, int(on.Number), &github.IssueComment{Body: &body})
	return comment(c), h.failed(resp, err, http.StatusCreated, onComments)
}

// EditComment implements forge.Forge.
func (h *host) EditComment(ctx context.Context, on forge.Thread, id int64, body string) (forge.Comment, error) {
	owner, name, err := forge.OwnerName(on.Repo)
	if err != nil {
		return forge.Comment{}, err
	}
	c, resp, err := h.gh.Issues.EditComment(ctx, owner, name, id, &github.IssueComment{Body: &body})
	return comment(c), h.failed(resp, err, http.StatusOK, onComments)
}

// OpenIssues implements forge.Forge.
func (h *host) OpenIssues(ctx context.Context, repo, author string, page int) ([]forge.Issue, bool, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return nil, false, err
	}
	found, resp, err := h.gh.Issues.ListByRepo(ctx, owner, name, &github.IssueListByRepoOptions{
		State: "open", Creator: author, Sort: "created", Direction: "asc", ListOptions: github.ListOptions{Page: page, PerPage: perPage},
	})
	if err := h.failed(resp, err, http.StatusOK, onIssues); err != nil {
		return nil, false, err
	}
	var list []forge.Issue
	for _, i := range found {
		if !i.IsPullRequest() {
			list = append(list, issue(i))
		}
	}
	return list, resp.NextPage != 0, nil
}

func issue(i *github.Issue) forge.Issue {
	return forge.Issue{Number: int64(i.GetNumber()), Author: i.GetUser().GetLogin(), Title: i.GetTitle(), Body: i.GetBody(), URL: i.GetHTMLURL()}
}

// AddIssue implements forge.Forge.
func (h *host) AddIssue(ctx context.Context, repo, title, body string) (forge.Issue, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.Issue{}, err
	}
	i, resp, err := h.gh.Issues.Create(ctx, owner, name, &github.IssueRequest{Title: &title, Body: &body})
	return issue(i), h.failed(resp, err, http.StatusCreated, onIssues)
}

// CloseIssue implements forge.Forge.
func (h *host) CloseIssue(ctx context.Context, repo string, number int64) (forge.Issue, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.Issue{}, err
	}
	i, resp, err := h.gh.Issues.Edit(ctx, owner, name, int(number), &github.IssueRequest{State: github.String("closed")})
	return issue(i), h.failed(resp, err, http.StatusOK, onIssues)
}

// Pull implements forge.Forge.
func (h *host) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.Pull{}, err
	}
	p, resp, err := h.gh.PullRequests.Get(ctx, owner, name, int(number))
	return pull(p), h.failed(resp, err, http.StatusOK, onPulls)
}

func pull(p *github.PullRequest) forge.Pull {
	from := p.GetHead().GetRepo().GetFullName()
	out := forge.Pull{
		Number: int64(p.GetNumber()), Author: p.GetUser().GetLogin(), Title: p.GetTitle(), Body: p.GetBody(), URL: p.GetHTMLURL(),
		Base: p.GetBase().GetRef(), Head: p.GetHead().GetRef(), Commit: p.GetHead().GetSHA(),
		Fork: from == "" || from != p.GetBase().GetRepo().GetFullName(), Draft: p.GetDraft(), Open: p.GetState() == "open",
		Merged: p.GetMerged() || p != nil && p.MergedAt != nil,
	}
	if out.Merged { // before, it is that of a trial
		out.MergeCommit = p.GetMergeCommitSHA()
	}
	return out
}

// OpenPulls implements forge.Forge.
func (h *host) OpenPulls(ctx context.Context, repo, head, base string, page int) ([]forge.Pull, bool, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return nil, false, err
	}
	found, resp, err := h.gh.PullRequests.List(ctx, owner, name, &github.PullRequestListOptions{
		State: "open", Head: owner + ":" + head, Base: base, ListOptions: github.ListOptions{Page: page, PerPage: perPage},
	})
	if err := h.failed(resp, err, http.StatusOK, onPulls); err != nil {
		return nil, false, err
	}
	list := make([]forge.Pull, len(found))
	for i, p := range found {
		list[i] = pull(p)
	}
	return list, resp.NextPage != 0, nil
}

// AddPull implements forge.Forge.
func (h *host) AddPull(ctx context.Context, repo string, p forge.NewPull) (forge.Pull, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.Pull{}, err
	}
	made, resp, err := h.gh.PullRequests.Create(ctx, owner, name, &github.NewPullRequest{
		Title: &p.Title, Body: &p.Body, Head: &p.Head, Base: &p.Base, Draft: &p.Draft,
	})
	return pull(made), h.failed(resp, err, http.StatusCreated, onPulls)
}

// EditPull implements forge.Forge.
func (h *host) EditPull(ctx context.Context, repo string, p forge.Pull) (forge.Pull, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return forge.Pull{}, err
	}
	edited, resp, err := h.gh.PullRequests.Edit(ctx, owner, name, int(p.Number), &github.PullRequest{Title: &p.Title, Body: &p.Body})
	return pull(edited), h.failed(resp, err, http.StatusOK, onPulls)
}

// MergePull implements forge.Forge.
func (h *host) MergePull(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	owner, name, err := forge.OwnerName(repo)
	if err != nil {
		return "", err
	}
	done, resp, err := h.gh.PullRequests.Merge(ctx, owner, name, int(number), m.Message, &github.PullRequestOptions{
		CommitTitle: m.Title, SHA: m.Commit, MergeMethod: m.Method,
	})
	return done.GetSHA(), h.failed(resp, err, http.StatusOK, "merge pull requests of the repository (write contents)")
}
