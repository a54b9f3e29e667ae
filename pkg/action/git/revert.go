package git

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// RevertParams are the parameters of git.revert.
type RevertParams struct {
	URL        string            `yaml:"url" required:"true" doc:"repository, as of git.pull"`
	Commit     string            `yaml:"commit" required:"true" doc:"full id of the commit to undo; it must be in the branch's history"`
	Branch     string            `yaml:"branch" required:"true" doc:"branch to revert it on; its short name"`
	Push       bool              `yaml:"push" default:"true" doc:"push the revert; false only finds out whether it can be made"`
	Mainline   int64             `yaml:"mainline" doc:"of a merge commit, the number of the parent to go back to, from 1; by default 1 for a merge into the branch itself"`
	Message    string            `yaml:"message" doc:"message of the revert, before the line that names the commit; default: Revert and the commit's first line"`
	SigningKey *action.SecretRef `yaml:"signingKey,omitempty" doc:"secret that holds the private key to sign with, as of git.commit"`
}

// RevertOutputs are the outputs of git.revert.
type RevertOutputs struct {
	Commit   string `yaml:"commit" doc:"full id of the revert; of an earlier one where the commit was reverted already; of the branch where nothing was left to undo"`
	Branch   string `yaml:"branch" doc:"branch that it is on"`
	URL      string `yaml:"url" doc:"repository, without credentials"`
	Reverted string `yaml:"reverted" doc:"full id of the commit that is undone"`
	Changed  bool   `yaml:"changed" doc:"the run made the revert; false where the commit was undone before"`
	Previous string `yaml:"previous" doc:"commit that the branch was at; empty where nothing was made"`
	Files    []any  `yaml:"files" doc:"paths that the revert changed, at most 1000"`
}

func (p *puller) revertDefinition(invalid error) action.Definition {
	return action.Definition{
		Name: "git.revert",
		Doc: "Undoes a commit on a branch with a new commit, as git revert does, and pushes it. What later commits changed stays; " +
			"where they changed the same lines, or renamed the file, it fails and names the files. A commit that is reverted already is a success.",
		Params:           &RevertParams{},
		Outputs:          RevertOutputs{},
		Changes:          true,
		Target:           branchTarget(func(c *action.Call) (url, branch string) { p := c.Params.(*RevertParams); return p.URL, p.Branch }),
		RetryInterrupted: true,
		Causes:           pushCauses(),
		Fenced:           pushFence,
		Check:            func(params any) error { return p.checkRevert(params.(*RevertParams)) },
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			out, err := p.runRevert(ctx, call, call.Params.(*RevertParams))
			if err != nil {
				return nil, err
			}
			return action.Outputs{
				"commit": out.Commit, "branch": out.Branch, "url": out.URL, "reverted": out.Reverted,
				"changed": out.Changed, "previous": out.Previous, "files": out.Files,
			}, nil
		},
	}
}

// checkRevert validates literal parameters; templated ones are empty here.
func (p *puller) checkRevert(params *RevertParams) error {
	var errs []error
	if params.URL != "" {
		if _, err := p.parse(params.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if params.Branch != "" {
		errs = append(errs, checkBranch(params.Branch))
	}
	if params.Commit != "" && !shortID.MatchString(params.Commit) {
		errs = append(errs, fmt.Errorf("commit: %q is no commit id of 40 digits", params.Commit))
	}
	if params.Message != "" {
		errs = append(errs, checkMessage(params.Message))
	}
	if params.Mainline < 0 {
		errs = append(errs, errors.New("mainline is negative; parents are counted from 1"))
	}
	return errors.Join(errs...)
}

var (
	// errConflict says that later commits changed what would be undone.
	errConflict = errors.New("later commits changed the same places")
	errNoParent = errors.New("which parent to go back to is not known")
)

// maxPushes is how often a revert is made anew because the branch moved meanwhile.
const maxPushes = 3

func (p *puller) runRevert(ctx context.Context, call *action.Call, params *RevertParams) (RevertOutputs, error) {
	if err := noFork(call); err != nil {
		return RevertOutputs{}, err
	}
	err := errors.Join(p.checkRevert(params), checkBranch(params.Branch))
	switch {
	case err != nil:
	case params.Commit == "":
		err = errors.New("commit is empty")
	case !commitID.MatchString(params.Commit): // tests of rules may write a short one
		err = fmt.Errorf("commit: %q is cut short, and a commit is undone by its id of 40 digits only", params.Commit)
	}
	if err != nil {
		return RevertOutputs{}, action.Permanent(fmt.Errorf("git.revert: %w", err))
	}
	addr, err := p.parse(params.URL)
	if err != nil {
		return RevertOutputs{}, action.Permanent(fmt.Errorf("git.revert: url: %w", err))
	}
	r := p.remote("git.revert", addr)
	defer r.close()
	j := &revertJob{p: p, call: call, params: params, r: r, commit: plumbing.NewHash(params.Commit)}
	for range maxPushes {
		var out RevertOutputs
		if out, err = j.once(ctx); err == nil {
			return out, nil
		}
		if !errors.Is(err, errMoved) {
			break
		}
		fmt.Fprintf(call.Log, "%v; the revert is made anew\n", err)
	}
	return RevertOutputs{}, r.explain(ctx, err)
}

// revertJob is one call of git.revert.
type revertJob struct {
	p      *puller
	call   *action.Call
	params *RevertParams
	r      *remote
	commit plumbing.Hash
}

func (j *revertJob) once(ctx context.Context) (out RevertOutputs, err error) {
	err = j.p.mirrored(ctx, j.r, j.call.Log, func(l *lease, repo *repository) (err error) {
		out, err = j.revert(ctx, l, repo)
		return err
	})
	return out, err
}

func (j *revertJob) revert(ctx context.Context, l *lease, repo *repository) (RevertOutputs, error) {
	out := RevertOutputs{Branch: j.params.Branch, URL: j.r.addr.String(), Reverted: j.params.Commit, Files: []any{}}
	var tip plumbing.Hash
	var t *trace
	err := j.p.timed(ctx, func(ctx context.Context) (err error) {
		tip, t, err = j.bring(ctx, repo)
		return err
	})
	if err != nil {
		return out, err
	}
	l.fetched() // others may fetch while this merges and pushes
	if by := t.revertedBy(j.commit); by != nil {
		fmt.Fprintf(j.call.Log, "%s is reverted already, by %s\n", j.commit, by.Hash)
		out.Commit, out.Changed = by.Hash.String(), event.CommitRun(by.Message) == j.call.RunID
		return out, nil
	}
	made, files, err := j.make(ctx, repo, tip, t)
	if err != nil {
		return out, err
	}
	if made.commit.IsZero() {
		fmt.Fprintf(j.call.Log, "nothing of %s is left on %s to undo\n", j.commit, j.params.Branch)
		out.Commit = tip.String()
		return out, nil
	}
	if j.params.Push {
		u := update{branch: plumbing.NewBranchReferenceName(j.params.Branch), old: tip, new: made.commit, pack: made.pack}
		err := j.p.timed(ctx, func(ctx context.Context) error { return j.r.push(ctx, u) })
		if err != nil {
			return out, err
		}
		fmt.Fprintf(j.call.Log, "branch %s of %s is at %s now, which reverts %s\n", j.params.Branch, j.r.addr, made.commit, j.commit)
	}
	out.Commit, out.Changed, out.Previous, out.Files = made.commit.String(), true, tip.String(), fileNames(files)
	return out, nil
}

// bring fetches the branch as deep as the commit lies in it, and returns its tip.
func (j *revertJob) bring(ctx context.Context, repo *repository) (tip plumbing.Hash, t *trace, err error) {
	refs, err := j.r.advertise(ctx)
	if err != nil {
		return tip, nil, fmt.Errorf("ask for its references: %w", err)
	}
	tip, ok := refs.References["refs/heads/"+j.params.Branch]
	if !ok {
		return tip, nil, fmt.Errorf("%w: branch %q", errUnknownRef, j.params.Branch)
	}
	f := j.p.fetcher(j.r)
	for _, depth := range deeper() {
		if err := j.p.ensure(ctx, f, repo, refs, tip, depth); err != nil {
			return tip, nil, err
		}
		h, err := repo.history(ctx)
		if err != nil {
			return tip, nil, err
		}
		if t, err = h.trace(tip, j.commit); !errors.Is(err, errCutOff) {
			return tip, t, err
		}
	}
	return tip, nil, fmt.Errorf("commit %s: %w", j.commit, errCutOff)
}

// trace is what a branch says of a commit in its history.
type trace struct {
	commit *object.Commit
	// line says that the commit was made on the branch itself, not on one that was merged into it.
	line bool
	// claims are the commits that say that they revert another, newest first.
	claims map[plumbing.Hash][]*object.Commit
}

// trace looks at what came after a commit. It fails with errCutOff where that is not all here.
func (h *history) trace(tip, wanted plumbing.Hash) (*trace, error) {
	t := &trace{claims: map[plumbing.Hash][]*object.Commit{}}
	seen := map[plumbing.Hash]bool{}
	var queue visits
	add := func(id plumbing.Hash) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		c, err := h.commit(id)
		if err == nil {
			heap.Push(&queue, &visit{commit: c})
		}
		return err
	}
	if err := add(tip); err != nil {
		return nil, err
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(*visit).commit
		if t.commit != nil && c.Committer.When.Before(t.commit.Committer.When.Add(-clockSkew)) {
			break
		}
		if h.cut[c.Hash] {
			return nil, errCutOff
		}
		if c.Hash == wanted {
			t.commit = c
		}
		if m := reverts.FindAllStringSubmatch(c.Message, -1); m != nil { // the last is what git wrote
			id := plumbing.NewHash(m[len(m)-1][1])
			t.claims[id] = append(t.claims[id], c)
		}
		for _, p := range c.ParentHashes {
			if err := add(p); err != nil {
				return nil, err
			}
		}
	}
	if t.commit == nil {
		return nil, fmt.Errorf("%w: commit %s is not in the history of the branch", errUnknownRef, wanted)
	}
	var err error
	t.line, err = h.onLine(tip, t.commit)
	return t, err
}

// onLine reports whether a commit is in the line of first parents.
func (h *history) onLine(tip plumbing.Hash, wanted *object.Commit) (bool, error) {
	for at := tip; at != wanted.Hash; {
		c, err := h.commit(at)
		switch {
		case err != nil:
			return false, err
		case c.Committer.When.Before(wanted.Committer.When.Add(-clockSkew)), len(c.ParentHashes) == 0:
			return false, nil
		case h.cut[at]:
			return false, errCutOff
		}
		at = c.ParentHashes[0]
	}
	return true, nil
}

// revertedBy returns the newest commit that reverts another and is not reverted itself, or nil.
func (t *trace) revertedBy(id plumbing.Hash) *object.Commit {
	for _, c := range t.claims[id] {
		if t.revertedBy(c.Hash) == nil {
			return c
		}
	}
	return nil
}

// reversion is a revert that was made in memory.
type reversion struct {
	commit plumbing.Hash // zero where there is nothing to undo
	pack   pack
}

func (j *revertJob) make(ctx context.Context, repo *repository, tip plumbing.Hash, t *trace) (reversion, []string, error) {
	parent, err := j.parent(t)
	if err != nil {
		return reversion{}, nil, err
	}
	head, err := object.GetCommit(repo, tip)
	if err != nil {
		return reversion{}, nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	objects := newOverlay(repo)
	before := plumbing.ZeroHash
	if !parent.IsZero() {
		c, err := object.GetCommit(repo, parent)
		if err != nil {
			return reversion{}, nil, fmt.Errorf("%w: %w", errMirror, err)
		}
		before = c.TreeHash
	}
	m := &merger{ctx: ctx, objects: objects}
	tree, err := m.merge(t.commit.TreeHash, head.TreeHash, before)
	switch {
	case err != nil:
		return reversion{}, nil, err
	case len(m.conflicts) > 0:
		return reversion{}, nil, fmt.Errorf("%w: %s", errConflict, listed(m.conflicts))
	case tree == head.TreeHash:
		return reversion{}, nil, nil
	}
	id, err := j.p.store(j.call, objects, draft{tree: tree, parents: []plumbing.Hash{tip}, message: j.message(t.commit, parent), key: j.params.SigningKey})
	if err != nil {
		return reversion{}, nil, err
	}
	return reversion{id, pack{objects, objects.order}}, m.changed, nil
}

// parent is the commit to go back to; zero is before the first.
func (j *revertJob) parent(t *trace) (plumbing.Hash, error) {
	parents := t.commit.ParentHashes
	n := int(j.params.Mainline)
	switch {
	case n > max(1, len(parents)):
		return plumbing.ZeroHash, fmt.Errorf("%w: commit %s has %d parents, and mainline is %d", errNoParent, j.commit, len(parents), n)
	case len(parents) == 0:
		return plumbing.ZeroHash, nil
	case n > 0:
		return parents[n-1], nil
	case len(parents) > 1 && !t.line:
		return plumbing.ZeroHash, fmt.Errorf("%w: commit %s is a merge that was not made on the branch itself", errNoParent, j.commit)
	}
	return parents[0], nil
}

// message is what git would write.
func (j *revertJob) message(c *object.Commit, parent plumbing.Hash) string {
	subject, _, _ := strings.Cut(c.Message, "\n")
	head := j.params.Message
	if head == "" {
		head = `Revert "` + strings.ToValidUTF8(subject, "?") + `"`
	}
	what := "This reverts commit " + c.Hash.String()
	if len(c.ParentHashes) > 1 {
		what += ", reversing\nchanges made to " + parent.String()
	}
	return strings.TrimRight(head, "\n") + "\n\n" + what + ".\n"
}

// maxListed bounds the names in an error.
const maxListed = 20

func listed(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	more := ""
	if n := len(names) - maxListed; n > 0 {
		names, more = names[:maxListed], fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ") + more
}
