package forge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

const (
	// maxPages bounds what is searched for a key, at most 100 each: GitHub allows 2,500 comments of a thread.
	maxPages = 30
	opening  = "<!-- riposte:"
	ending   = " -->"
)

// ErrMoved says that a pull request is no longer what was looked at: its branch has a newer commit, or it was closed.
var ErrMoved = errors.New("the pull request has changed")

// Key names a text among those of one rule. Run and Step say who writes it now.
type Key struct {
	Rule string
	Name string // empty: only a repetition of the same step of the same run finds it
	Run  string
	Step string
}

// marker is what stands in front of a text. It is no proof: who may write as our account could set it anywhere. The hash
// keeps it one word, whatever a key holds.
func (k Key) marker() string {
	parts := []string{"key", k.Rule, k.Name}
	if k.Name == "" {
		parts = []string{"step", k.Rule, k.Run, k.Step}
	}
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return opening + hex.EncodeToString(h.Sum(nil)[:16])
}

// by is the run and step that a marker names behind its key. A dash becomes a tilde, since two would end the comment.
func (k Key) by() string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-':
			return '~'
		case r < 0x80 && (alphanumeric(byte(r)) || r == '.' || r == '_'):
			return r
		}
		return '_'
	}, k.Run+"."+k.Step)
}

// RunOf returns the run that wrote a text, by what stands in front of it, so that a webhook about the text can be known for
// our own doing. It is worth something only where the text's author is the account of the server's token.
func RunOf(body string) (run string, ok bool) {
	line, _, _ := strings.Cut(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
	line, ok = strings.CutPrefix(line, opening)
	by, closed := strings.CutSuffix(strings.TrimRight(line, " "), ending)
	_, by, named := strings.Cut(by, " ")
	dot := strings.LastIndexByte(by, '.')
	if !ok || !closed || !named || dot <= 0 {
		return "", false
	}
	return strings.ReplaceAll(by[:dot], "~", "-"), true
}

func (k Key) line() string { return k.marker() + " " + k.by() + ending }

// split finds the key in front of a text; by is the run and step that wrote it.
func (k Key) split(body string) (by, rest string, ok bool) {
	line, rest, _ := strings.Cut(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
	by, ok = strings.CutPrefix(line, k.marker()+" ")
	if !ok {
		return "", "", false
	}
	by, ok = strings.CutSuffix(strings.TrimRight(by, " "), ending)
	return by, rest, ok
}

// same says that an edit would change nothing that people see.
func (k Key) same(old, body string) bool {
	_, a, ok := k.split(old)
	_, b, _ := k.split(body)
	return ok && strings.TrimSpace(a) == strings.TrimSpace(b)
}

// Writer writes as one account.
type Writer struct {
	Forge  Forge
	Redact func(string) string // masks secrets; required
}

// Written is what became of a text.
type Written struct {
	Number int64 // of the issue or pull request
	ID     int64 // of the comment; 0 where there is none
	URL    string
	// New says that something was made, not edited or found.
	New bool
}

// Comment writes the comment of a key into a thread, or edits it there.
func (w Writer) Comment(ctx context.Context, on Thread, k Key, t Text) (Written, error) {
	self, err := w.Forge.Self(ctx)
	if err != nil {
		return Written{}, err
	}
	body := w.body(k.line(), t)
	old, err := w.find(ctx, on, k, self)
	if err != nil {
		return Written{}, err
	}
	var c Comment
	switch {
	case old == nil:
		c, err = w.Forge.AddComment(ctx, on, body)
	case k.same(old.Body, body):
		c = *old
	default:
		c, err = w.Forge.EditComment(ctx, on, old.ID, body)
	}
	return Written{on.Number, c.ID, c.URL, old == nil}, err
}

// find returns the first comment of the key. Two can be there where two runs wrote at the same moment.
func (w Writer) find(ctx context.Context, on Thread, k Key, self string) (found *Comment, err error) {
	err = pages("comments", func(page int) (bool, error) {
		list, more, err := w.Forge.Comments(ctx, on, page)
		for _, c := range list {
			if _, _, ok := k.split(c.Body); ok && same(c.Author, self) {
				found = &c
				return false, nil
			}
		}
		return more, err
	})
	return found, err
}

// pages calls for one page after the other until there are no more.
func pages(what string, read func(page int) (more bool, err error)) error {
	for page := 1; page <= maxPages; page++ {
		if more, err := read(page); err != nil || !more {
			return err
		}
	}
	return fmt.Errorf("there are more than %d pages of %s: the one with this key was not found among them, and nothing was written", maxPages, what)
}

// same compares names of accounts, in which no host minds the case.
func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

// OpenIssue opens the issue of a key. Where one is open, that gets the text as a comment instead.
func (w Writer) OpenIssue(ctx context.Context, repo string, k Key, t Text) (Written, error) {
	open, err := w.FindIssue(ctx, repo, k)
	if err != nil {
		return Written{}, err
	}
	if open == nil {
		i, err := w.Forge.AddIssue(ctx, repo, w.title(t.Title), w.body(k.line(), t))
		return Written{Number: i.Number, URL: i.URL, New: true}, err
	}
	if by, _, _ := k.split(open.Body); by == k.by() { // this very step made it, and was cut off before it could say so
		return Written{Number: open.Number, URL: open.URL, New: true}, nil
	}
	k.Name = "" // each run that finds the issue says so once
	out, err := w.Comment(ctx, Thread{repo, KindIssue, open.Number}, k, t)
	out.New = false
	return out, err
}

// FindIssue returns the open issue of a key, or nil.
func (w Writer) FindIssue(ctx context.Context, repo string, k Key) (found *Issue, err error) {
	self, err := w.Forge.Self(ctx)
	if err != nil {
		return nil, err
	}
	err = pages("open issues", func(page int) (bool, error) {
		list, more, err := w.Forge.OpenIssues(ctx, repo, self, page)
		for _, i := range list {
			if _, _, ok := k.split(i.Body); ok && same(i.Author, self) {
				found = &i
				return false, nil
			}
		}
		return more, err
	})
	return found, err
}

// OpenPull opens a pull request from one branch to another, of which hosts allow one at a time: where there is one, it is
// edited if it is ours, and left as it is if somebody else wrote it.
func (w Writer) OpenPull(ctx context.Context, repo string, k Key, p NewPull, t Text) (Pull, bool, error) {
	self, err := w.Forge.Self(ctx)
	if err != nil {
		return Pull{}, false, err
	}
	k.Name = "pull " + p.Head + " " + p.Base
	p.Title, p.Body = w.title(t.Title), w.body(k.line(), t)
	open, err := w.findPull(ctx, repo, p)
	if err != nil {
		return Pull{}, false, err
	}
	if open == nil {
		made, err := w.Forge.AddPull(ctx, repo, p)
		var refused *Error
		if !errors.As(err, &refused) || refused.Status != http.StatusConflict && refused.Status != http.StatusUnprocessableEntity {
			return made, err == nil, err
		}
		if open, _ = w.findPull(ctx, repo, p); open == nil { // or somebody opened it meanwhile
			return Pull{}, false, err
		}
	}
	_, _, ours := k.split(open.Body)
	if !ours || !same(open.Author, self) || k.same(open.Body, p.Body) && open.Title == p.Title {
		return *open, false, nil
	}
	open.Title, open.Body = p.Title, p.Body // still a draft, or no longer: people decide that
	edited, err := w.Forge.EditPull(ctx, repo, *open)
	return edited, false, err
}

func (w Writer) findPull(ctx context.Context, repo string, p NewPull) (found *Pull, err error) {
	err = pages("open pull requests", func(page int) (bool, error) {
		list, more, err := w.Forge.OpenPulls(ctx, repo, p.Head, p.Base, page)
		for _, o := range list {
			if o.Open && !o.Fork && o.Head == p.Head && o.Base == p.Base {
				found = &o
				return false, nil
			}
		}
		return more, err
	})
	return found, err
}

// Merged merges a pull request if its branch is still at the commit that was looked at; otherwise the error wraps ErrMoved.
// One that was merged at that commit counts as merged by us, since an answer can be lost. Title and message are masked and
// close nothing.
func (w Writer) Merged(ctx context.Context, repo string, number int64, m Merge) (Pull, error) {
	p, err := w.Forge.Pull(ctx, repo, number)
	if err != nil {
		return Pull{}, err
	}
	if done, err := settled(p, m); done || err != nil {
		return p, err
	}
	if m.Title != "" {
		m.Title = w.title(m.Title)
	}
	m.Message = cut(inert(w.masked(m.Message)), w.Forge.Limits().Body)
	commit, err := w.Forge.MergePull(ctx, repo, number, m)
	if err == nil && commit != "" {
		p.Merged, p.Open, p.MergeCommit = true, false, commit
		return p, nil
	}
	now, again := w.Forge.Pull(ctx, repo, number) // an answer may have been lost, and not every host says what it made
	if again != nil {
		return Pull{}, errors.Join(err, again)
	}
	if done, moved := settled(now, m); done || moved != nil {
		return now, moved
	}
	if err == nil {
		err = errors.New("the host says that it merged the pull request, and that it is open")
	}
	return Pull{}, err
}

// settled says that nothing is left to merge: it was done, or must not be.
func settled(p Pull, m Merge) (done bool, err error) {
	switch {
	case !strings.EqualFold(p.Commit, m.Commit):
		return false, fmt.Errorf("%w: it is at %s by now, not at %s", ErrMoved, Clip(p.Commit, 64), Clip(m.Commit, 64))
	case p.Merged:
		return true, nil
	case !p.Open:
		return false, fmt.Errorf("%w: it was closed without being merged", ErrMoved)
	}
	return false, nil
}
