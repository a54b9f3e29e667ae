package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Proposal is the head of a pull or merge request, as the repository that it would be merged into has it.
type Proposal struct {
	Number int    // as people know it
	Ref    string // the full reference
	Commit string // that it stood for
}

// proposalRef is where hosts keep the heads of what is proposed: refs/pull/7/head on GitHub, Gitea and Forgejo,
// refs/merge-requests/7/head on GitLab. They stay when it is closed.
var proposalRef = regexp.MustCompile(`^refs/(?:pull|merge-requests)/([1-9][0-9]{0,8})/head$`)

// maxProposals bounds those that are listed.
const maxProposals = 10_000

// Proposals lists what is proposed to a repository, the newest number first, at most 10,000. What the reference (as of
// git.pull) holds already, as far as its newest commits tell, is left out; whether others are still open the repository
// does not say. Nothing of a proposal is fetched.
func (f *Files) Proposals(ctx context.Context, url, ref string) (list []Proposal, err error) {
	err = f.talk(ctx, url, func(r *remote, l *lease, repo *repository) (err error) {
		list, err = f.proposals(ctx, ref, r, l, repo)
		return err
	})
	return list, err
}

func (f *Files) proposals(ctx context.Context, ref string, r *remote, l *lease, repo *repository) (list []Proposal, err error) {
	var merged map[plumbing.Hash]bool
	err = f.puller.timed(ctx, func(ctx context.Context) error {
		refs, err := r.advertise(ctx)
		if err != nil {
			return fmt.Errorf("ask for its references: %w", err)
		}
		for name, hash := range refs.References {
			if m := proposalRef.FindStringSubmatch(name); m != nil {
				n, _ := strconv.Atoi(m[1]) // nine digits
				list = append(list, Proposal{n, name, hash.String()})
			}
		}
		if len(list) == 0 {
			return nil
		}
		base, err := resolve(refs, ref)
		if err != nil {
			return err
		}
		if err := f.puller.ensure(ctx, f.puller.fetcher(r), repo, refs, base.object, historyDepth); err != nil {
			return err
		}
		merged, err = repo.holdsOf(base.object)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.fetched()
	list = slices.DeleteFunc(list, func(p Proposal) bool { return merged[plumbing.NewHash(p.Commit)] })
	slices.SortFunc(list, func(a, b Proposal) int { return cmp.Or(b.Number-a.Number, cmp.Compare(a.Ref, b.Ref)) })
	return list[:min(len(list), maxProposals)], nil
}

// holdsOf returns the commits of a reference's history that are here.
func (r *repository) holdsOf(tip plumbing.Hash) (map[plumbing.Hash]bool, error) {
	commit, err := r.peel(tip)
	if err != nil {
		return nil, err
	}
	seen := map[plumbing.Hash]bool{}
	_, err = r.ancestor(commit, seen, func(plumbing.Hash) bool { return false })
	return seen, err
}

// ancestor looks for a commit in the history of tip, as far as it is here, nearest first; seen gets the commits on the way.
func (r *repository) ancestor(tip plumbing.Hash, seen map[plumbing.Hash]bool, is func(plumbing.Hash) bool) (bool, error) {
	next := []plumbing.Hash{tip}
	seen[tip] = true
	for len(next) > 0 && len(seen) < maxAncestors {
		h := next[0]
		next = next[1:]
		if is(h) {
			return true, nil
		}
		c, err := object.GetCommit(r, h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue // beyond what was fetched
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", errMirror, err)
		}
		for _, p := range c.ParentHashes {
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	return false, nil
}
