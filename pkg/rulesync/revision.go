package rulesync

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// ReadRevision reads the YAML files that Read would find below directories, as they are in a revision of the Git repository
// that each directory belongs to: a commit, a branch, a tag, HEAD~2. Nothing is fetched or checked out.
func ReadRevision(dirs []string, revision string) ([]rule.File, error) {
	r := &reader{}
	for _, dir := range dirs {
		if err := r.revision(dir, revision); err != nil {
			return nil, fmt.Errorf("read the rules of %s in %s: %w", revision, dir, err)
		}
	}
	slices.SortFunc(r.files, func(a, b rule.File) int { return strings.Compare(a.Path, b.Path) })
	return r.files, nil
}

func (r *reader) revision(dir, revision string) error {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return err
	}
	tree, err := treeOf(repo, revision)
	if err != nil {
		return err
	}
	below, err := inside(repo, dir)
	if err != nil {
		return err
	}
	if below != "." {
		if tree, err = tree.Tree(below); err != nil {
			return err
		}
	}
	return tree.Files().ForEach(func(f *object.File) error { return r.blob(dir, f) })
}

func treeOf(repo *git.Repository, revision string) (*object.Tree, error) {
	hash, err := repo.ResolveRevision(plumbing.Revision(revision))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, fmt.Errorf("there is no revision %q", revision)
	}
	if err != nil {
		return nil, err
	}
	commit, err := repo.CommitObject(*hash)
	if err != nil {
		return nil, err
	}
	return commit.Tree()
}

// inside returns the path of a directory in its work tree, with slashes.
func inside(repo *git.Repository, dir string) (string, error) {
	work, err := repo.Worktree()
	if err != nil {
		return "", err
	}
	full, err := filepath.Abs(dir)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	root, rootErr := filepath.EvalSymlinks(work.Filesystem.Root())
	if err = errors.Join(err, rootErr); err != nil {
		return "", err
	}
	below, err := filepath.Rel(root, full)
	return filepath.ToSlash(below), err
}

// blob reads a file of a commit where Read would.
func (r *reader) blob(dir string, f *object.File) error {
	for part := range strings.SplitSeq(f.Name, "/") {
		if strings.HasPrefix(part, ".") {
			return nil
		}
	}
	if !IsRuleFile(f.Name) || !f.Mode.IsFile() || f.Mode == filemode.Symlink {
		return nil
	}
	if r.bytes += f.Size; r.bytes > maxBytes || len(r.files) >= maxFiles {
		return fmt.Errorf("more than %d MiB or %d files", maxBytes>>20, maxFiles)
	}
	in, err := f.Reader()
	if err != nil {
		return err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	r.files = append(r.files, rule.File{Path: filepath.ToSlash(filepath.Join(dir, f.Name)), Within: f.Name, Data: data})
	return err
}
