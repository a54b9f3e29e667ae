package git

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/riposte-dev/riposte/pkg/action"
)

// CommitParams are the parameters of git.commit.
type CommitParams struct {
	Dir        string            `yaml:"dir" required:"true" doc:"checkout of git.pull; a relative one is below the run's own directory"`
	Message    string            `yaml:"message" required:"true" doc:"message of the commit; the trailers Riposte-Run and Riposte-Rule are added"`
	Paths      []string          `yaml:"paths" doc:"globs of the files and directories to commit, relative to dir; all changes when empty"`
	Author     string            `yaml:"author" doc:"who made the change, as Name <mail>; the server's own name when empty"`
	SigningKey *action.SecretRef `yaml:"signingKey,omitempty" doc:"secret that holds the private key to sign with: SSH in PEM or armoured OpenPGP, without a passphrase"`
}

// CommitOutputs are the outputs of git.commit.
type CommitOutputs struct {
	Commit  string `yaml:"commit" doc:"full id of the new commit; that of the checkout where nothing changed"`
	Changed bool   `yaml:"changed" doc:"there was something to commit"`
	Files   []any  `yaml:"files" doc:"paths that the commit changed, at most 1000"`
}

// maxFileNames bounds a list of paths in outputs.
const maxFileNames = 1000

func fileNames(names []string) []any {
	out := []any{}
	for _, n := range names[:min(len(names), maxFileNames)] {
		out = append(out, strings.ToValidUTF8(n, "?"))
	}
	return out
}

func (p *puller) commitDefinition(invalid error) action.Definition {
	return action.Definition{
		Name: "git.commit",
		Doc: "Commits what changed in a checkout of git.pull, also new and deleted files, but none that .gitignore names. " +
			"Without a change it succeeds and commits nothing. Hooks and filters do not run.",
		Params:           &CommitParams{},
		Outputs:          CommitOutputs{},
		RetryInterrupted: true,
		Check:            func(params any) error { return params.(*CommitParams).check() },
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			out, err := p.commit(ctx, call, call.Params.(*CommitParams))
			if err != nil {
				return nil, fmt.Errorf("git.commit: %w", err)
			}
			return action.Outputs{"commit": out.Commit, "changed": out.Changed, "files": out.Files}, nil
		},
	}
}

// check validates literal parameters; templated ones are empty here.
func (p *CommitParams) check() error {
	var errs []error
	if p.Message != "" {
		errs = append(errs, checkMessage(p.Message))
	}
	if reverts.MatchString(p.Message) { // it may hold an event's text, and git.revert believes it
		errs = append(errs, errors.New("message says that it reverts a commit: use git.revert for that"))
	}
	if p.Author != "" {
		if _, err := identity(p.Author); err != nil {
			errs = append(errs, fmt.Errorf("author: %w", err))
		}
	}
	for _, g := range p.Paths {
		if !doublestar.ValidatePattern(g) || strings.HasPrefix(g, "/") || slices.Contains(strings.Split(g, "/"), "..") {
			errs = append(errs, fmt.Errorf("paths: %q is no glob of files below dir", g))
		}
	}
	return errors.Join(errs...)
}

// work is a checkout opened to be committed to, or pushed.
type work struct {
	dir    string
	repo   *repository
	head   plumbing.ReferenceName // what a commit moves
	branch string                 // "" where HEAD is detached
	commit plumbing.Hash
}

func openWork(call *action.Call, dir string) (work, error) {
	dir, err := checkoutDir(call.Dir, dir)
	if err != nil {
		return work{}, err
	}
	w := work{dir: dir, repo: openRepository(filepath.Join(dir, ".git")), head: plumbing.HEAD}
	ref, err := w.repo.Reference(plumbing.HEAD)
	if err == nil && ref.Type() == plumbing.SymbolicReference {
		w.head, w.branch = ref.Target(), ref.Target().Short()
		ref, err = w.repo.Reference(w.head)
	}
	if err != nil {
		return work{}, action.Permanent(fmt.Errorf("read HEAD of the checkout %s: %w", dir, err))
	}
	w.commit = ref.Hash()
	return w, nil
}

func (w work) object(h plumbing.Hash) (*object.Commit, error) {
	c, err := object.GetCommit(w.repo, h)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("read commit %s of the checkout %s: %w", h, w.dir, err))
	}
	return c, nil
}

func (p *puller) commit(ctx context.Context, call *action.Call, params *CommitParams) (CommitOutputs, error) {
	if err := errors.Join(params.check(), checkMessage(params.Message)); err != nil {
		return CommitOutputs{}, action.Permanent(err)
	}
	w, err := openWork(call, params.Dir)
	if err != nil {
		return CommitOutputs{}, err
	}
	parent, err := w.object(w.commit)
	if err != nil {
		return CommitOutputs{}, err
	}
	before, err := flatten(ctx, w.repo, parent.TreeHash)
	if err != nil {
		return CommitOutputs{}, err
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return CommitOutputs{}, fmt.Errorf("open the checkout: %w", err)
	}
	defer root.Close()
	made := &writer{repository: w.repo}
	tree := &worktree{ctx: ctx, root: root, objects: made, log: call.Log, globs: params.Paths, tracked: before, left: maxPush}
	after, err := tree.scan()
	if err != nil {
		return CommitOutputs{}, err
	}
	files := differences(before, after)
	if len(files) == 0 {
		return w.unchanged(ctx, call, parent, before)
	}
	treeHash, err := unflatten(made, after)
	if err != nil {
		return CommitOutputs{}, fmt.Errorf("store the files: %w", err)
	}
	id, err := p.store(call, made, draft{tree: treeHash, parents: []plumbing.Hash{w.commit}, message: params.Message, author: params.Author, key: params.SigningKey})
	if err != nil {
		return CommitOutputs{}, err
	}
	if err := w.advance(call, id, after); err != nil {
		return CommitOutputs{}, fmt.Errorf("move HEAD of the checkout: %w", err)
	}
	fmt.Fprintf(call.Log, "%d files are committed as %s\n", len(files), id)
	return CommitOutputs{Commit: id.String(), Changed: true, Files: fileNames(files)}, nil
}

// writer stores objects in a checkout that it does not have yet.
type writer struct{ *repository }

func (w *writer) SetEncodedObject(obj plumbing.EncodedObject) (plumbing.Hash, error) {
	if h := obj.Hash(); w.HasEncodedObject(h) == nil {
		return h, nil
	}
	return w.repository.SetEncodedObject(obj)
}

// stepRef remembers which commit a step made, for when it is made again after it was cut off.
func stepRef(call *action.Call) plumbing.ReferenceName {
	return plumbing.ReferenceName("refs/riposte-steps/" + hex.EncodeToString([]byte(call.StepID)))
}

// madeBy reports whether HEAD is what an earlier attempt at the step committed.
func (w work) madeBy(call *action.Call) bool {
	made, err := w.repo.Reference(stepRef(call))
	return err == nil && made.Hash() == w.commit
}

func (w work) unchanged(ctx context.Context, call *action.Call, head *object.Commit, files map[string]slot) (CommitOutputs, error) {
	out := CommitOutputs{Commit: w.commit.String(), Files: []any{}}
	if !w.madeBy(call) || len(head.ParentHashes) != 1 {
		fmt.Fprintf(call.Log, "nothing has changed since %s\n", w.commit)
		return out, nil
	}
	parent, err := w.object(head.ParentHashes[0])
	if err != nil {
		return out, err
	}
	before, err := flatten(ctx, w.repo, parent.TreeHash)
	if err != nil {
		return out, err
	}
	fmt.Fprintf(call.Log, "%s was committed by an earlier attempt\n", w.commit)
	out.Changed, out.Files = true, fileNames(differences(before, files))
	return out, nil
}

// advance makes a commit the checkout's HEAD.
func (w work) advance(call *action.Call, id plumbing.Hash, files map[string]slot) error {
	if err := w.repo.SetReference(plumbing.NewHashReference(stepRef(call), id)); err != nil {
		return err
	}
	if err := w.repo.SetReference(plumbing.NewHashReference(w.head, id)); err != nil {
		return err
	}
	return w.writeIndex(files)
}

// writeIndex makes git see a clean checkout.
func (w work) writeIndex(files map[string]slot) error {
	old := map[string]*index.Entry{}
	if before, err := w.repo.Index(); err == nil { // a broken one is replaced
		for _, e := range before.Entries {
			old[e.Name] = e
		}
	}
	idx := &index.Index{Version: 2}
	for name, f := range files {
		e := &index.Entry{Name: name, Hash: f.hash, Mode: f.mode}
		if was := old[name]; was != nil && was.Hash == f.hash {
			e.Size = was.Size
		} else if size, err := w.repo.EncodedObjectSize(f.hash); err == nil {
			e.Size = uint32(size)
		}
		idx.Entries = append(idx.Entries, e)
	}
	slices.SortFunc(idx.Entries, func(a, b *index.Entry) int { return strings.Compare(a.Name, b.Name) })
	return w.repo.SetIndex(idx)
}
