package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Lister asks remotes for their branches, with the credentials and within the bounds of git.pull, and keeps nothing. It is
// safe for concurrent use.
type Lister struct{ p *puller }

// Branch is a branch and the commit it is at.
type Branch struct{ Name, Commit string }

// NewLister makes a lister; nothing is asked yet.
func NewLister(o Options) (*Lister, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Lister{newPuller(o.withDefaults())}, nil
}

// Branches lists the branches that a repository has now, by name; none of an empty one. An error names the repository and
// what to do, and no secret; it is permanent (action.IsPermanent) where asking again would not help.
func (l *Lister) Branches(ctx context.Context, url string) ([]Branch, error) {
	addr, err := l.p.parse(url)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	r := l.p.remote("list the branches of", addr)
	defer r.close()
	var out []Branch
	err = l.p.timed(ctx, func(ctx context.Context) error {
		refs, err := r.advertise(ctx)
		if errors.Is(err, transport.ErrEmptyRemoteRepository) {
			return nil
		}
		if err != nil {
			return err
		}
		for name, h := range refs.References {
			if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
				out = append(out, Branch{branch, h.String()})
			}
		}
		return nil
	})
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	slices.SortFunc(out, func(a, b Branch) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
