package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Differ finds the paths that an event changed, in the mirrors that git.pull keeps, under the same bounds and with the same
// credentials. It is safe for concurrent use.
type Differ struct {
	p       *puller
	invalid error
}

// errSettled marks what no further try would answer differently.
var errSettled = errors.New("what changed can't be told")

// Paths compares two commits, and returns the paths in which they differ; a renamed file counts under both its names. What
// the mirror lacks is fetched first. An error is permanent (action.IsPermanent) where another try would not help, and any
// other may be cured by the remote, or by whoever looks after it and the credentials.
func (d *Differ) Paths(ctx context.Context, c event.Comparison) ([]string, error) {
	if d.invalid != nil {
		return nil, action.Permanent(d.invalid)
	}
	addr, err := d.p.parse(c.CloneURL)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("git diff: url: %w", err))
	}
	for _, id := range []string{c.Commit, c.Before} {
		if id != "" && !commitID.MatchString(id) {
			return nil, action.Permanent(fmt.Errorf("git diff %s: %q is no commit id of 40 digits", addr, id))
		}
	}
	r := d.p.remote("git diff", addr)
	defer r.close()
	paths, err := d.diff(ctx, r, c)
	if err == nil {
		return paths, nil
	}
	said, _ := r.say(ctx, err)
	if ctx.Err() == nil && (errors.Is(err, errSettled) || errors.Is(err, errTooLarge) || errors.Is(err, errNotCommit) || errors.Is(err, errTree)) {
		said = action.Permanent(said)
	}
	return nil, said
}

func (d *Differ) diff(ctx context.Context, r *remote, c event.Comparison) (paths []string, err error) {
	err = d.p.mirrored(ctx, r, io.Discard, func(l *lease, repo *repository) error {
		b := &bringer{p: d.p, r: r, repo: repo, c: c}
		var from, to plumbing.Hash
		err := d.p.timed(ctx, func(ctx context.Context) (err error) {
			from, to, err = b.bring(ctx)
			return err
		})
		if err != nil {
			return err
		}
		l.fetched()
		paths, err = changedPaths(ctx, repo, from, to)
		return err
	})
	return paths, err
}

// bringer gets the two commits of a comparison into a mirror.
type bringer struct {
	p    *puller
	r    *remote
	repo *repository
	c    event.Comparison

	f    fetcher
	refs *packp.AdvRefs
}

// bring returns the two commits; from is zero where everything is new.
func (b *bringer) bring(ctx context.Context) (from, to plumbing.Hash, err error) {
	if to, err = b.commit(ctx, b.c.Commit); err != nil {
		return from, to, err
	}
	if b.c.Before != "" {
		from, err = b.commit(ctx, b.c.Before)
	} else {
		from, err = b.base(ctx, to)
	}
	return from, to, err
}

// ask asks the remote what it has, once.
func (b *bringer) ask(ctx context.Context) (err error) {
	if b.refs != nil {
		return nil
	}
	if b.refs, err = b.r.advertise(ctx); err != nil {
		return fmt.Errorf("ask for its references: %w", err)
	}
	b.f = b.p.fetcher(b.r)
	return nil
}

// commit brings one commit: by its id where the remote gives it so, else as part of the ref that held it.
func (b *bringer) commit(ctx context.Context, id string) (plumbing.Hash, error) {
	w := wanted{object: plumbing.NewHash(id)}
	held, err := b.repo.holds(w.object, 1)
	if err == nil && !held {
		err = b.ask(ctx)
	}
	switch {
	case err != nil || held:
	case w.reachable(b.refs):
		err = b.p.ensure(ctx, b.f, b.repo, b.refs, w.object, 1)
	default:
		tip, ok := b.tip()
		if !ok {
			err = fmt.Errorf("%w: commit %s", errUnknownRef, id)
			break
		}
		err = b.p.searchFrom(ctx, b.f, b.repo, b.refs, tip, w.object)
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return b.repo.peel(w.object)
}

// tip is where the event's ref is now; the commits of one that is gone may have become part of the default branch.
func (b *bringer) tip() (plumbing.Hash, bool) {
	if tip, ok := b.refs.References[b.c.Ref]; ok {
		return tip, true
	}
	if b.refs.Head != nil {
		return *b.refs.Head, true
	}
	return plumbing.ZeroHash, false
}

// base returns the commit at which the history of a commit left its base. Zero is none: the first branch, or one that has
// nothing in common with it.
func (b *bringer) base(ctx context.Context, commit plumbing.Hash) (plumbing.Hash, error) {
	if err := b.ask(ctx); err != nil {
		return plumbing.ZeroHash, err
	}
	ref := ""
	if b.c.Base != "" {
		ref = "refs/heads/" + b.c.Base
	}
	onto, err := resolve(b.refs, ref)
	if err != nil || onto.ref == b.c.Ref {
		return plumbing.ZeroHash, err
	}
	held, err := b.repo.holds(onto.object, 1)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	err = errCutOff
	var base plumbing.Hash
	if held { // what is here may do
		base, err = b.meet(ctx, commit, onto.object)
	}
	for _, depth := range deeper() {
		if !errors.Is(err, errCutOff) {
			return base, err
		}
		if err = b.deepen(ctx, onto.object, commit, depth); err == nil {
			base, err = b.meet(ctx, commit, onto.object)
		}
	}
	if errors.Is(err, errCutOff) {
		err = fmt.Errorf("%w: %w", errMirror, err)
	}
	return base, err
}

// deepen brings more of both histories.
func (b *bringer) deepen(ctx context.Context, onto, commit plumbing.Hash, depth int64) error {
	if err := b.p.ensure(ctx, b.f, b.repo, b.refs, onto, depth); err != nil {
		return err
	}
	if w := (wanted{object: commit}); !w.reachable(b.refs) {
		tip, ok := b.refs.References[b.c.Ref]
		if !ok {
			return nil // it is in the other history, if anywhere
		}
		commit = tip
	}
	return b.p.ensure(ctx, b.f, b.repo, b.refs, commit, depth)
}

// meet finds the base in what the mirror holds, or fails with errCutOff.
func (b *bringer) meet(ctx context.Context, commit, onto plumbing.Hash) (plumbing.Hash, error) {
	onto, err := b.repo.peel(onto)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	h, err := b.repo.history(ctx)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	base, err := h.mergeBase(commit, onto)
	if err != nil || base != commit {
		return base, err
	}
	// The base holds the commit by now. What the merge brought is what the branch had changed.
	before, merged, err := h.mergedInto(commit, onto)
	switch {
	case err != nil:
		return plumbing.ZeroHash, err
	case merged:
		return h.mergeBase(commit, before)
	case b.c.Base != "":
		return plumbing.ZeroHash, fmt.Errorf("%w: commit %s is part of branch %q by now, and no merge says since when", errSettled, commit, b.c.Base)
	}
	return commit, nil // a new branch without commits of its own
}

// changedPaths lists the paths in which two commits differ; zero is an empty one.
func changedPaths(ctx context.Context, repo *repository, from, to plumbing.Hash) ([]string, error) {
	d := &treeDiff{ctx: ctx, repo: repo}
	a, err := d.treeOf(from)
	if err != nil {
		return nil, err
	}
	b, err := d.treeOf(to)
	if err != nil {
		return nil, err
	}
	if err := d.compare(a, b, ""); err != nil {
		return nil, err
	}
	return d.paths, nil
}

// treeDiff compares trees by the ids of what is in them, and looks into no file.
type treeDiff struct {
	ctx   context.Context
	repo  *repository
	paths []string
	trees int
}

func (d *treeDiff) treeOf(commit plumbing.Hash) (plumbing.Hash, error) {
	if commit.IsZero() {
		return plumbing.ZeroHash, nil
	}
	c, err := object.GetCommit(d.repo, commit)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	return c.TreeHash, nil
}

func (d *treeDiff) compare(a, b plumbing.Hash, dir string) error {
	if a == b {
		return nil
	}
	if d.trees++; d.trees > maxEntries {
		return fmt.Errorf("%w: more than %d directories differ", errTooLarge, maxEntries)
	}
	if err := d.ctx.Err(); err != nil {
		return context.Cause(d.ctx)
	}
	before, err := d.entries(a, dir)
	if err != nil {
		return err
	}
	after, err := d.entries(b, dir)
	if err != nil {
		return err
	}
	was := make(map[string]object.TreeEntry, len(before))
	for _, e := range before {
		was[e.Name] = e
	}
	for _, e := range after {
		if err := d.entry(was[e.Name], e, path.Join(dir, e.Name)); err != nil {
			return err
		}
		delete(was, e.Name)
	}
	for name, e := range was {
		if err := d.entry(e, object.TreeEntry{}, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (d *treeDiff) entries(hash plumbing.Hash, dir string) ([]object.TreeEntry, error) {
	if hash.IsZero() {
		return nil, nil
	}
	tree, err := object.GetTree(d.repo, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: tree of %q: %w", errMirror, dir, err)
	}
	return tree.Entries, nil
}

// entry compares what a name stands for; an entry without one is none.
func (d *treeDiff) entry(a, b object.TreeEntry, name string) error {
	if a.Hash == b.Hash && a.Mode == b.Mode {
		return nil
	}
	var dirs [2]plumbing.Hash
	file := false
	for i, e := range []object.TreeEntry{a, b} {
		switch {
		case e.Name == "":
		case e.Mode == filemode.Dir:
			dirs[i] = e.Hash
		default:
			file = true
		}
	}
	if len(d.paths) >= maxChanges || len(name) > maxPath {
		return fmt.Errorf("%w: more than %d changed paths, or one of more than %d bytes", errTooLarge, maxChanges, maxPath)
	}
	if file {
		d.paths = append(d.paths, name)
	}
	return d.compare(dirs[0], dirs[1], name)
}
