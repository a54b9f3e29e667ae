package forgetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/riposte-dev/riposte/pkg/forge"
)

// World is a host in memory. It is a Forge itself, for tests of what uses one, and the model behind the servers that speak
// as a kind of host does. What others than the token's account do there, tests do with its other methods.
type World struct {
	// Account is the token's.
	Account string
	// PageSize is how long the pages of lists are.
	PageSize int
	// BeforeMerge, where set, runs before each merge, to let something happen just then.
	BeforeMerge func()

	mu       sync.Mutex
	last     int64
	comments map[forge.Thread][]forge.Comment
	issues   map[string][]forge.Issue
	pulls    map[string][]forge.Pull
	rights   map[string]forge.Rights
	statuses map[string][]forge.Status
	writes   int
}

var _ forge.Forge = (*World)(nil)

// NewWorld returns a host without anything in it.
func NewWorld() *World {
	return &World{
		Account: "riposte-bot", PageSize: 2, comments: map[forge.Thread][]forge.Comment{}, issues: map[string][]forge.Issue{}, pulls: map[string][]forge.Pull{},
		rights: map[string]forge.Rights{}, statuses: map[string][]forge.Status{},
	}
}

func (w *World) id() int64 { w.last++; return w.last }

// Say writes a comment as somebody.
func (w *World) Say(on forge.Thread, author, body string) forge.Comment {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := forge.Comment{ID: w.id(), Author: author, Body: body}
	c.URL = fmt.Sprintf("https://git.example/%s/%d#%d", on.Repo, on.Number, c.ID)
	w.comments[on] = append(w.comments[on], c)
	return c
}

// File opens an issue as somebody.
func (w *World) File(repo, author, title, body string) forge.Issue {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := forge.Issue{Number: w.id(), Author: author, Title: title, Body: body}
	i.URL = fmt.Sprintf("https://git.example/%s/%d", repo, i.Number)
	w.issues[repo] = append(w.issues[repo], i)
	return i
}

// Propose opens a pull request as its author.
func (w *World) Propose(repo string, p forge.Pull) forge.Pull {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Number, p.Open = w.id(), true
	p.URL = fmt.Sprintf("https://git.example/%s/%d", repo, p.Number)
	w.pulls[repo] = append(w.pulls[repo], p)
	return p
}

// Change changes a pull request as people or pushes do.
func (w *World) Change(repo string, number int64, change func(*forge.Pull)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.pulls[repo] {
		if w.pulls[repo][i].Number == number {
			change(&w.pulls[repo][i])
		}
	}
}

// Grant gives rights to an account.
func (w *World) Grant(account string, r forge.Rights) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rights[account] = r
}

// All returns the comments of a thread, the open issues and the pull requests of its repository.
func (w *World) All(on forge.Thread) ([]forge.Comment, []forge.Issue, []forge.Pull) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]forge.Comment{}, w.comments[on]...), append([]forge.Issue{}, w.issues[on.Repo]...), append([]forge.Pull{}, w.pulls[on.Repo]...)
}

// Statuses returns those of a commit.
func (w *World) Statuses(commit string) []forge.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.statuses[commit]
}

// Writes counts what the token's account has changed.
func (w *World) Writes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes
}

func (w *World) wrote() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
}

func absent() error { return &forge.Error{Status: http.StatusNotFound, Right: "read it"} }

// Limits implements forge.Forge.
func (w *World) Limits() forge.Limits { return forge.Limits{Title: 100, Body: 10_000} }

// SetStatus implements forge.Forge.
func (w *World) SetStatus(_ context.Context, _, commit string, s forge.Status) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	w.statuses[commit] = append(w.statuses[commit], s)
	return nil
}

// Self implements forge.Forge.
func (w *World) Self(context.Context) (string, error) { return w.Account, nil }

// Rights implements forge.Forge.
func (w *World) Rights(_ context.Context, _, account string) (forge.Rights, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rights[account], nil
}

func page[T any](w *World, list []T, n int) ([]T, bool) {
	from := min((n-1)*w.PageSize, len(list))
	to := min(from+w.PageSize, len(list))
	return append([]T{}, list[from:to]...), to < len(list)
}

// Comments implements forge.Forge.
func (w *World) Comments(_ context.Context, on forge.Thread, n int) ([]forge.Comment, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, more := page(w, w.comments[on], n)
	return list, more, nil
}

// AddComment implements forge.Forge.
func (w *World) AddComment(_ context.Context, on forge.Thread, body string) (forge.Comment, error) {
	w.wrote()
	return w.Say(on, w.Account, body), nil
}

// EditComment implements forge.Forge.
func (w *World) EditComment(_ context.Context, on forge.Thread, id int64, body string) (forge.Comment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.comments[on] {
		if c := &w.comments[on][i]; c.ID == id {
			w.writes++
			c.Body = body
			return *c, nil
		}
	}
	return forge.Comment{}, absent()
}

// ThreadOf finds the thread of a comment: some hosts name it by its number alone.
func (w *World) ThreadOf(id int64) forge.Thread {
	w.mu.Lock()
	defer w.mu.Unlock()
	for on, list := range w.comments {
		for _, c := range list {
			if c.ID == id {
				return on
			}
		}
	}
	return forge.Thread{}
}

// OpenIssues implements forge.Forge.
func (w *World) OpenIssues(_ context.Context, repo, author string, n int) ([]forge.Issue, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var of []forge.Issue
	for _, i := range w.issues[repo] {
		if i.Author == author {
			of = append(of, i)
		}
	}
	list, more := page(w, of, n)
	return list, more, nil
}

// AddIssue implements forge.Forge.
func (w *World) AddIssue(_ context.Context, repo, title, body string) (forge.Issue, error) {
	w.wrote()
	return w.File(repo, w.Account, title, body), nil
}

// CloseIssue implements forge.Forge.
func (w *World) CloseIssue(_ context.Context, repo string, number int64) (forge.Issue, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, is := range w.issues[repo] {
		if is.Number == number {
			w.writes++
			w.issues[repo] = append(w.issues[repo][:i], w.issues[repo][i+1:]...)
			return is, nil
		}
	}
	return forge.Issue{}, absent()
}

// Pull implements forge.Forge.
func (w *World) Pull(_ context.Context, repo string, number int64) (forge.Pull, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pulls[repo] {
		if p.Number == number {
			return p, nil
		}
	}
	return forge.Pull{}, absent()
}

// OpenPulls implements forge.Forge.
func (w *World) OpenPulls(_ context.Context, repo, head, base string, n int) ([]forge.Pull, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var of []forge.Pull
	for _, p := range w.pulls[repo] {
		if p.Open && (head == "" || p.Head == head) && (base == "" || p.Base == base) {
			of = append(of, p)
		}
	}
	list, more := page(w, of, n)
	return list, more, nil
}

// AddPull implements forge.Forge.
func (w *World) AddPull(ctx context.Context, repo string, n forge.NewPull) (forge.Pull, error) {
	for i := 1; ; i++ {
		list, more, _ := w.OpenPulls(ctx, repo, n.Head, n.Base, i)
		for _, p := range list {
			if !p.Fork {
				return forge.Pull{}, &forge.Error{Status: http.StatusConflict, Message: "there is one already"}
			}
		}
		if !more {
			break
		}
	}
	w.wrote()
	return w.Propose(repo, forge.Pull{Author: w.Account, Title: n.Title, Body: n.Body, Head: n.Head, Base: n.Base, Draft: n.Draft, Commit: strings.Repeat("a", 40)}), nil
}

// EditPull implements forge.Forge.
func (w *World) EditPull(ctx context.Context, repo string, p forge.Pull) (forge.Pull, error) {
	w.wrote()
	w.Change(repo, p.Number, func(old *forge.Pull) { old.Title, old.Body, old.Draft = p.Title, p.Body, p.Draft })
	return w.Pull(ctx, repo, p.Number)
}

// MergePull implements forge.Forge.
func (w *World) MergePull(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	if w.BeforeMerge != nil {
		w.BeforeMerge()
	}
	p, err := w.Pull(ctx, repo, number)
	if err != nil {
		return "", err
	}
	if p.Commit != m.Commit {
		return "", &forge.Error{Status: http.StatusConflict, Message: "the head is another one"}
	}
	if !p.Open {
		return "", &forge.Error{Status: http.StatusMethodNotAllowed, Message: "it is not open"}
	}
	if m.Commit == "" {
		return "", errors.New("forgetest: merged without saying what")
	}
	w.wrote()
	made := strings.Repeat("f", 40)
	w.Change(repo, number, func(p *forge.Pull) { p.Open, p.Merged, p.MergeCommit = false, true, made })
	return made, nil
}
