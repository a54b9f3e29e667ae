// Package gitlab speaks with GitLab's API (docs.gitlab.com: Commits, Users, Members, Notes, Issues and Merge requests API).
// docs/adr says why the official client is used in the tests alone.
package gitlab

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
	maxDescription = 255 // characters of a status' description
	maxTitle       = 255
	perPage        = "100"
)

// Type describes GitLab.
func Type() forge.Type {
	return forge.Type{Name: "gitlab", Hosts: []string{"gitlab.com"}, New: New}
}

type host struct {
	client *forge.Client
	web    string
}

// New makes the API of one GitLab.
func New(o forge.Options) (forge.Forge, error) {
	web := strings.TrimRight(o.Web, "/")
	api := o.API
	if api == "" {
		api = web + "/api/v4"
	}
	// Unlike Private-Token, no HTTP client repeats Authorization to another host.
	client, err := forge.NewClient(o, api, func(token string) string { return "Bearer " + token })
	if err != nil {
		return nil, err
	}
	return &host{client, web}, nil
}

// Limits implements forge.Forge. GitLab takes a million characters of a text, which nobody reads.
func (h *host) Limits() forge.Limits { return forge.Limits{Title: maxTitle, Body: 250_000} }

// project is the address of a repository, whose path stands in it as one segment.
func project(repo string) (string, error) {
	if repo == "" || strings.HasPrefix(repo, "/") || !strings.Contains(repo, "/") {
		return "", errors.New("a repository of GitLab is called GROUP/NAME")
	}
	return "projects/" + url.PathEscape(repo), nil
}

type status struct {
	State       string `json:"state"`
	Name        string `json:"name"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url,omitempty"`
	Ref         string `json:"ref,omitempty"`
}

func stateOf(s forge.State) string {
	if s == forge.Failure {
		return "failed"
	}
	return string(s)
}

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	at, err := project(repo)
	if err != nil {
		return err
	}
	in := status{State: stateOf(s.State), Name: s.Context, Description: forge.Clip(s.Description, maxDescription), TargetURL: s.TargetURL}
	set := func() error {
		_, err := h.client.Do(ctx, forge.Request{
			Method: http.MethodPost, Path: at + "/statuses/" + url.PathEscape(commit), Want: http.StatusCreated,
			In: in, Right: "set commit statuses of the repository",
		})
		return err
	}
	err = set()
	var refused *forge.Error
	// Of a commit in a branch GitLab finds the pipeline itself, which a reference of ours would keep it from.
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound && strings.Contains(refused.Message, "References for commit") && s.Ref != "" {
		in.Ref = s.Ref
		err = set()
	}
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest && strings.Contains(refused.Message, "Cannot transition status") {
		return nil // it is in that state already
	}
	return err
}

type user struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	State    string `json:"state"`
}

// Self implements forge.Forge.
func (h *host) Self(ctx context.Context) (string, error) {
	return h.client.Self(ctx, func(ctx context.Context) (string, error) {
		var u user
		_, err := h.client.Do(ctx, forge.Request{Method: http.MethodGet, Path: "user", Out: &u, Right: "read its own account (read_user or api)"})
		return u.Username, err
	})
}

// Levels of access (docs.gitlab.com, "Members API").
const (
	guest      = 10
	developer  = 30
	maintainer = 40
)

// Rights implements forge.Forge. What groups give counts too.
func (h *host) Rights(ctx context.Context, repo, account string) (forge.Rights, error) {
	at, err := project(repo)
	if err != nil {
		return forge.None, err
	}
	const right = "read the members of the repository"
	var found []user
	_, err = h.client.Do(ctx, forge.Request{Method: http.MethodGet, Path: "users", Query: url.Values{"username": {account}}, Out: &found, Right: right})
	if err != nil || len(found) != 1 || found[0].State != "active" || !strings.EqualFold(found[0].Username, account) {
		return forge.None, err
	}
	var member struct {
		State  string `json:"state"`
		Access int    `json:"access_level"`
	}
	_, err = h.client.Do(ctx, forge.Request{
		Method: http.MethodGet, Path: at + "/members/all/" + strconv.FormatInt(found[0].ID, 10), Out: &member, Right: right,
	})
	var refused *forge.Error
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return forge.None, nil
	case err != nil || member.State != "active":
		return forge.None, err
	case member.Access >= maintainer:
		return forge.Admin, nil
	case member.Access >= developer:
		return forge.Write, nil
	case member.Access >= guest:
		return forge.Read, nil
	}
	return forge.None, nil
}

type note struct {
	ID     int64  `json:"id"`
	Body   string `json:"body"`
	Author user   `json:"author"`
	System bool   `json:"system"`
}

// parts are how the addresses of the two kinds of threads differ.
var parts = map[forge.Kind]string{forge.KindPull: "merge_requests", forge.KindIssue: "issues"}

const (
	onNotes  = "read and write comments of the repository (api)"
	onIssues = "read and write issues of the repository (api)"
	onPulls  = "read and write merge requests of the repository (api)"
)

func (h *host) notes(on forge.Thread) (string, error) {
	at, err := project(on.Repo)
	return fmt.Sprintf("%s/%s/%d/notes", at, parts[on.Kind], on.Number), err
}

// comment has the address that GitLab's pages give a note, which its API leaves out.
func (h *host) comment(on forge.Thread, n note) forge.Comment {
	return forge.Comment{
		ID: n.ID, Author: n.Author.Username, Body: n.Body,
		URL: fmt.Sprintf("%s/%s/-/%s/%d#note_%d", h.web, on.Repo, parts[on.Kind], on.Number, n.ID),
	}
}

// Comments implements forge.Forge.
func (h *host) Comments(ctx context.Context, on forge.Thread, page int) ([]forge.Comment, bool, error) {
	at, err := h.notes(on)
	if err != nil {
		return nil, false, err
	}
	var found []note
	header, err := h.client.Do(ctx, forge.Request{
		Method: http.MethodGet, Path: at, Out: &found, Right: onNotes,
		Query: url.Values{"sort": {"asc"}, "order_by": {"created_at"}, "page": {strconv.Itoa(page)}, "per_page": {perPage}},
	})
	if err != nil {
		return nil, false, err
	}
	var list []forge.Comment
	for _, n := range found {
		if !n.System {
			list = append(list, h.comment(on, n))
		}
	}
	return list, forge.More(header), nil
}

type noteBody struct {
	Body string `json:"body"`
}

// AddComment implements forge.Forge.
func (h *host) AddComment(ctx context.Context, on forge.Thread, body string) (forge.Comment, error) {
	return h.write(ctx, on, http.MethodPost, "", http.StatusCreated, body)
}

// EditComment implements forge.Forge.
func (h *host) EditComment(ctx context.Context, on forge.Thread, id int64, body string) (forge.Comment, error) {
	return h.write(ctx, on, http.MethodPut, "/"+strconv.FormatInt(id, 10), http.StatusOK, body)
}

func (h *host) write(ctx context.Context, on forge.Thread, method, id string, want int, body string) (forge.Comment, error) {
	at, err := h.notes(on)
	if err != nil {
		return forge.Comment{}, err
	}
	var n note
	_, err = h.client.Do(ctx, forge.Request{Method: method, Path: at + id, In: noteBody{body}, Out: &n, Want: want, Right: onNotes})
	return h.comment(on, n), err
}

type issue struct {
	IID         int64  `json:"iid"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Author      user   `json:"author"`
	WebURL      string `json:"web_url"`
}

func (i issue) forge() forge.Issue {
	return forge.Issue{Number: i.IID, Author: i.Author.Username, Title: i.Title, Body: i.Description, URL: i.WebURL}
}

// OpenIssues implements forge.Forge.
func (h *host) OpenIssues(ctx context.Context, repo, author string, page int) ([]forge.Issue, bool, error) {
	at, err := project(repo)
	if err != nil {
		return nil, false, err
	}
	var found []issue
	header, err := h.client.Do(ctx, forge.Request{
		Method: http.MethodGet, Path: at + "/issues", Out: &found, Right: onIssues,
		Query: url.Values{
			"state": {"opened"}, "scope": {"all"}, "author_username": {author}, "order_by": {"created_at"}, "sort": {"asc"},
			"page": {strconv.Itoa(page)}, "per_page": {perPage},
		},
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
	Title       string `json:"title"`
	Description string `json:"description"`
}

type changeOfState struct {
	StateEvent string `json:"state_event"`
}

// AddIssue implements forge.Forge.
func (h *host) AddIssue(ctx context.Context, repo, title, body string) (forge.Issue, error) {
	at, err := project(repo)
	if err != nil {
		return forge.Issue{}, err
	}
	var i issue
	_, err = h.client.Do(ctx, forge.Request{
		Method: http.MethodPost, Path: at + "/issues", In: newIssue{title, body}, Out: &i, Want: http.StatusCreated, Right: onIssues,
	})
	return i.forge(), err
}

// CloseIssue implements forge.Forge.
func (h *host) CloseIssue(ctx context.Context, repo string, number int64) (forge.Issue, error) {
	at, err := project(repo)
	if err != nil {
		return forge.Issue{}, err
	}
	var i issue
	_, err = h.client.Do(ctx, forge.Request{
		Method: http.MethodPut, Path: fmt.Sprintf("%s/issues/%d", at, number), In: changeOfState{"close"}, Out: &i, Right: onIssues,
	})
	return i.forge(), err
}

type mergeRequest struct {
	IID             int64  `json:"iid"`
	Title           string `json:"title"`
	Description     string `json:"description"`
	Author          user   `json:"author"`
	WebURL          string `json:"web_url"`
	State           string `json:"state"`
	SourceBranch    string `json:"source_branch"`
	TargetBranch    string `json:"target_branch"`
	SourceProjectID int64  `json:"source_project_id"` // null once the fork is gone
	TargetProjectID int64  `json:"target_project_id"`
	SHA             string `json:"sha"`
	MergeCommitSHA  string `json:"merge_commit_sha"`
	SquashCommitSHA string `json:"squash_commit_sha"`
}

func (m mergeRequest) forge() forge.Pull {
	title, isDraft := strings.CutPrefix(m.Title, draft)
	p := forge.Pull{
		Number: m.IID, Author: m.Author.Username, Title: title, Draft: isDraft, Body: m.Description, URL: m.WebURL, Base: m.TargetBranch,
		Head: m.SourceBranch, Commit: m.SHA, Fork: m.SourceProjectID != m.TargetProjectID, Open: m.State == "opened", Merged: m.State == "merged",
	}
	if p.Merged {
		for _, made := range []string{m.MergeCommitSHA, m.SquashCommitSHA, m.SHA} { // the last one after a fast-forward
			if p.MergeCommit == "" {
				p.MergeCommit = made
			}
		}
	}
	return p
}

func (h *host) mergeRequest(ctx context.Context, repo string, q forge.Request) (forge.Pull, error) {
	at, err := project(repo)
	if err != nil {
		return forge.Pull{}, err
	}
	var m mergeRequest
	q.Path, q.Out = at+"/merge_requests"+q.Path, &m
	_, err = h.client.Do(ctx, q)
	return m.forge(), err
}

// Pull implements forge.Forge.
func (h *host) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	return h.mergeRequest(ctx, repo, forge.Request{Method: http.MethodGet, Path: fmt.Sprintf("/%d", number), Right: onPulls})
}

// OpenPulls implements forge.Forge.
func (h *host) OpenPulls(ctx context.Context, repo, head, base string, page int) ([]forge.Pull, bool, error) {
	at, err := project(repo)
	if err != nil {
		return nil, false, err
	}
	var found []mergeRequest
	header, err := h.client.Do(ctx, forge.Request{
		Method: http.MethodGet, Path: at + "/merge_requests", Out: &found, Right: onPulls,
		Query: url.Values{
			"state": {"opened"}, "scope": {"all"}, "source_branch": {head}, "target_branch": {base}, "page": {strconv.Itoa(page)}, "per_page": {perPage},
		},
	})
	if err != nil {
		return nil, false, err
	}
	list := make([]forge.Pull, len(found))
	for i, m := range found {
		list[i] = m.forge()
	}
	return list, forge.More(header), nil
}

type newMergeRequest struct {
	SourceBranch string `json:"source_branch"`
	TargetBranch string `json:"target_branch"`
	Title        string `json:"title"`
	Description  string `json:"description"`
}

// draft in front of a title makes a draft of a merge request.
const draft = "Draft: "

func titled(title string, isDraft bool) string {
	if isDraft {
		return forge.Clip(draft+title, maxTitle)
	}
	return title
}

// AddPull implements forge.Forge.
func (h *host) AddPull(ctx context.Context, repo string, p forge.NewPull) (forge.Pull, error) {
	return h.mergeRequest(ctx, repo, forge.Request{
		Method: http.MethodPost, In: newMergeRequest{p.Head, p.Base, titled(p.Title, p.Draft), p.Body}, Want: http.StatusCreated, Right: onPulls,
	})
}

// EditPull implements forge.Forge.
func (h *host) EditPull(ctx context.Context, repo string, p forge.Pull) (forge.Pull, error) {
	return h.mergeRequest(ctx, repo, forge.Request{
		Method: http.MethodPut, Path: fmt.Sprintf("/%d", p.Number), In: newIssue{titled(p.Title, p.Draft), p.Body}, Right: onPulls,
	})
}

type accept struct {
	SHA                 string `json:"sha"`
	Squash              bool   `json:"squash,omitempty"`
	MergeCommitMessage  string `json:"merge_commit_message,omitempty"`
	SquashCommitMessage string `json:"squash_commit_message,omitempty"`
}

// MergePull implements forge.Forge. Whether a merge makes a commit of its own or rebases is a setting of the project.
func (h *host) MergePull(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	a := accept{SHA: m.Commit}
	text := strings.TrimSpace(m.Title + "\n\n" + m.Message)
	switch m.Method {
	case "", "merge":
		a.MergeCommitMessage = text
	case "squash":
		a.Squash, a.SquashCommitMessage = true, text
	default:
		return "", fmt.Errorf("GitLab merges as the project's settings say: method %s can't be chosen, merge and squash can", m.Method)
	}
	p, err := h.mergeRequest(ctx, repo, forge.Request{
		Method: http.MethodPut, Path: fmt.Sprintf("/%d/merge", number), In: a, Right: "merge merge requests of the repository (api)",
	})
	return p.MergeCommit, err
}
