package git

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// history walks over the commits that a mirror holds.
type history struct {
	ctx  context.Context
	repo *repository
	cut  map[plumbing.Hash]bool // commits whose parents are missing
	read int
}

// errCutOff says that the answer lies in a part of the history that the mirror does not hold.
var errCutOff = errors.New("the history is cut off")

func (r *repository) history(ctx context.Context) (*history, error) {
	shallows, err := r.Shallow()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	h := &history{ctx: ctx, repo: r, cut: map[plumbing.Hash]bool{}}
	for _, s := range shallows {
		h.cut[s] = true
	}
	return h, nil
}

func (h *history) commit(id plumbing.Hash) (*object.Commit, error) {
	if h.read++; h.read > maxHistory {
		return nil, fmt.Errorf("%w: over %d commits since the histories left each other", errTooLarge, maxHistory)
	}
	if h.ctx.Err() != nil {
		return nil, context.Cause(h.ctx)
	}
	c, err := object.GetCommit(h.repo, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	return c, nil
}

// Whose history a commit was found in; stale is the history of a commit that was found in both.
const (
	ours byte = 1 << iota
	theirs
	stale
	both = ours | theirs
)

// visit is a commit on the way, newest first.
type visit struct {
	commit *object.Commit
	paint  byte
	queued bool
}

type visits []*visit

func (v visits) Len() int { return len(v) }
func (v visits) Less(i, j int) bool {
	return v[i].commit.Committer.When.After(v[j].commit.Committer.When)
}
func (v visits) Swap(i, j int) { v[i], v[j] = v[j], v[i] }
func (v *visits) Push(x any)   { *v = append(*v, x.(*visit)) }
func (v *visits) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}

// meeting is the search for the newest commit of two histories.
type meeting struct {
	*history
	seen  map[plumbing.Hash]*visit
	queue visits
	fresh int // in the queue, and not stale
}

// mergeBase returns the newest commit that both histories hold, or zero where they have none. It fails with errCutOff where
// a part that is missing could hold a newer one: then a commit that only one of them is known to hold has no parents here.
func (h *history) mergeBase(a, b plumbing.Hash) (plumbing.Hash, error) {
	m := &meeting{history: h, seen: map[plumbing.Hash]*visit{}}
	if err := errors.Join(m.paint(a, ours), m.paint(b, theirs)); err != nil {
		return plumbing.ZeroHash, err
	}
	var base plumbing.Hash
	for m.fresh > 0 {
		v := heap.Pop(&m.queue).(*visit)
		v.queued = false
		if v.paint&stale == 0 {
			m.fresh--
		}
		if v.paint == both && base.IsZero() {
			base = v.commit.Hash
		}
		paint := v.paint
		if paint&both == both {
			paint |= stale
		}
		if h.cut[v.commit.Hash] {
			if paint&stale == 0 {
				return plumbing.ZeroHash, errCutOff
			}
			continue
		}
		for _, p := range v.commit.ParentHashes {
			if err := m.paint(p, paint); err != nil {
				return plumbing.ZeroHash, err
			}
		}
	}
	return base, nil
}

// paint says of a commit whose history holds it, and queues it where that is news.
func (m *meeting) paint(id plumbing.Hash, paint byte) error {
	v := m.seen[id]
	if v == nil {
		c, err := m.commit(id)
		if err != nil {
			return err
		}
		v = &visit{commit: c}
		m.seen[id] = v
	}
	if v.paint&paint == paint {
		return nil
	}
	if v.queued && v.paint&stale == 0 {
		m.fresh--
	}
	v.paint |= paint
	if v.paint&stale == 0 {
		m.fresh++
	}
	if !v.queued {
		v.queued = true
		heap.Push(&m.queue, v)
	}
	return nil
}

// clockSkew is how far the clocks of those who commit may be apart.
const clockSkew = 24 * time.Hour

// mergedInto looks in the line of first parents for the merge that brought a commit into a branch, and returns what the
// branch was before.
func (h *history) mergedInto(commit, branch plumbing.Hash) (before plumbing.Hash, ok bool, err error) {
	wanted, err := h.commit(commit)
	if err != nil {
		return before, false, err
	}
	for at := branch; at != commit; {
		c, err := h.commit(at)
		switch {
		case err != nil:
			return before, false, err
		case c.Committer.When.Before(wanted.Committer.When.Add(-clockSkew)):
			return before, false, nil
		case h.cut[at]:
			return before, false, errCutOff
		case len(c.ParentHashes) == 0:
			return before, false, nil
		case slices.Contains(c.ParentHashes[1:], commit):
			return c.ParentHashes[0], true, nil
		}
		at = c.ParentHashes[0]
	}
	return before, false, nil
}
