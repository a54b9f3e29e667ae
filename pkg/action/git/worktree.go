package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/riposte-dev/riposte/pkg/action"
)

// maxIgnore bounds a .gitignore file.
const maxIgnore = 1 << 20

// flatten lists what a tree holds by its paths, directories apart.
func flatten(ctx context.Context, s storer.EncodedObjectStorer, tree plumbing.Hash) (map[string]slot, error) {
	out := map[string]slot{}
	entries := 0
	var walk func(dir string, h plumbing.Hash) error
	walk = func(dir string, h plumbing.Hash) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t, err := readTree(s, dir, h)
		if err != nil {
			return err
		}
		if entries += len(t.Entries); entries > maxEntries {
			return fmt.Errorf("%w: more than %d entries", errTooLarge, maxEntries)
		}
		for _, e := range t.Entries {
			name := path.Join(dir, e.Name)
			if !validName(e.Name) || len(name) > maxPath {
				return fmt.Errorf("%w: entry %q", errTree, name)
			}
			if e.Mode != filemode.Dir {
				out[name] = slot{e.Mode, e.Hash}
			} else if err := walk(name, e.Hash); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk("", tree)
}

// unflatten stores the trees that hold what is listed, and returns the root.
func unflatten(s objectSetter, files map[string]slot) (plumbing.Hash, error) {
	dirs := map[string][]object.TreeEntry{".": nil}
	for name, f := range files {
		dir := path.Dir(name)
		dirs[dir] = append(dirs[dir], object.TreeEntry{Name: path.Base(name), Mode: f.mode, Hash: f.hash})
		for dir != "." { // a directory may hold directories alone
			dir = path.Dir(dir)
			if _, ok := dirs[dir]; !ok {
				dirs[dir] = nil
			}
		}
	}
	depth := func(dir string) int { return strings.Count(dir, "/") }
	names := slices.SortedFunc(maps.Keys(dirs), func(a, b string) int { return depth(b) - depth(a) })
	names = slices.DeleteFunc(names, func(dir string) bool { return dir == "." })
	for _, dir := range names { // the deepest first
		h, err := storeTree(s, dirs[dir])
		if err != nil {
			return plumbing.ZeroHash, err
		}
		parent := path.Dir(dir)
		dirs[parent] = append(dirs[parent], object.TreeEntry{Name: path.Base(dir), Mode: filemode.Dir, Hash: h})
	}
	return storeTree(s, dirs["."])
}

// differences are the paths in which two lists differ, sorted.
func differences(a, b map[string]slot) []string {
	var out []string
	for name, f := range a {
		if b[name] != f {
			out = append(out, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// worktree compares a checkout's files with a commit's. It reads through an os.Root, follows no symbolic link and enters no
// repository inside of it.
type worktree struct {
	ctx     context.Context
	root    *os.Root
	objects interface {
		storer.EncodedObjectStorer
		objectSetter
	}
	log   io.Writer
	globs []string // what to look at; all where there are none

	tracked map[string]slot
	parents map[string]bool // directories that hold tracked files
	next    map[string]slot
	seen    map[string]bool
	entries int
	left    int64 // bytes
}

// scan returns the files as they are now, of those that the globs choose, and stores what is new.
func (w *worktree) scan() (map[string]slot, error) {
	w.parents, w.seen, w.next = map[string]bool{}, map[string]bool{}, maps.Clone(w.tracked)
	for name := range w.tracked {
		for dir := path.Dir(name); dir != "." && !w.parents[dir]; dir = path.Dir(dir) {
			w.parents[dir] = true
		}
	}
	if err := w.dir(".", nil, false); err != nil {
		return nil, err
	}
	for name, f := range w.tracked {
		if w.seen[name] || !w.chosen(name) || f.mode == filemode.Submodule {
			continue
		}
		left, err := w.leftOut(name, f)
		if err != nil {
			return nil, err
		}
		if !left {
			delete(w.next, name)
		}
	}
	for name := range w.next {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, both := w.next[dir]; both {
				return nil, action.Permanent(fmt.Errorf("paths choose %q, but not that the file %q makes room for it", name, dir))
			}
		}
	}
	return w.next, nil
}

// leftOut finds the symbolic links that a checkout does not make; that they are missing is no change.
func (w *worktree) leftOut(name string, f slot) (bool, error) {
	if f.mode != filemode.Symlink {
		return false, nil
	}
	if _, err := w.root.Lstat(name); err == nil {
		return false, nil // something else took its place
	}
	blob, err := object.GetBlob(w.objects, f.hash)
	if err != nil {
		return false, fmt.Errorf("read the link %q: %w", name, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return false, fmt.Errorf("read the link %q: %w", name, err)
	}
	defer r.Close()
	to, err := io.ReadAll(io.LimitReader(r, maxPath+1))
	if err != nil {
		return false, fmt.Errorf("read the link %q: %w", name, err)
	}
	return !staysInside(path.Dir(name), string(to)), nil
}

// chosen reports whether a path is one of the globs, or below one.
func (w *worktree) chosen(name string) bool {
	if len(w.globs) == 0 {
		return true
	}
	for _, g := range w.globs {
		for at := name; at != "."; at = path.Dir(at) {
			if ok, _ := doublestar.Match(g, at); ok {
				return true
			}
		}
	}
	return false
}

func (w *worktree) dir(dir string, ignores []gitignore.Pattern, ignored bool) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	f, err := w.root.Open(dir)
	if err != nil {
		return fmt.Errorf("read the checkout: %w", err)
	}
	entries, err := f.ReadDir(-1)
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("read the checkout: %w", err)
	}
	if w.entries += len(entries); w.entries > maxEntries {
		return fmt.Errorf("%w: the checkout holds more than %d entries", errTooLarge, maxEntries)
	}
	if ignores, err = w.ignores(dir, ignores); err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if dir == "." && e.Name() == ".git" {
			continue
		}
		name := path.Join(dir, e.Name())
		out := ignored || gitignore.NewMatcher(ignores).Match(strings.Split(name, "/"), e.IsDir())
		if err := w.entry(name, e, ignores, out); err != nil {
			return err
		}
	}
	return nil
}

// ignores adds the patterns of a directory's own .gitignore. Files that are tracked are never ignored.
func (w *worktree) ignores(dir string, above []gitignore.Pattern) ([]gitignore.Pattern, error) {
	name := path.Join(dir, ".gitignore")
	info, err := w.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxIgnore) {
		return above, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkout: %w", err)
	}
	text, err := w.root.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the checkout: %w", err)
	}
	var domain []string
	if dir != "." {
		domain = strings.Split(dir, "/")
	}
	patterns := slices.Clone(above)
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, domain))
		}
	}
	return patterns, nil
}

func (w *worktree) entry(name string, e fs.DirEntry, ignores []gitignore.Pattern, ignored bool) error {
	was, tracked := w.tracked[name]
	if !tracked && ignored && !w.parents[name] {
		return nil
	}
	if e.IsDir() {
		return w.subdir(name, was, ignores, ignored)
	}
	if !w.chosen(name) {
		return nil
	}
	if !validName(e.Name()) || len(name) > maxPath {
		return action.Permanent(fmt.Errorf("%q can't be committed: git would take it for its own directory; remove it or give paths", name))
	}
	w.seen[name] = true
	now, err := w.slot(name, e.Type(), was)
	if err != nil {
		return err
	}
	if now == (slot{}) {
		fmt.Fprintf(w.log, "%q is left out: it is neither a file nor a symbolic link\n", name)
		return nil
	}
	w.next[name] = now
	return nil
}

func (w *worktree) subdir(name string, was slot, ignores []gitignore.Pattern, ignored bool) error {
	if was.mode == filemode.Submodule {
		return nil // of another repository
	}
	if _, err := w.root.Lstat(path.Join(name, ".git")); err == nil && !w.parents[name] {
		if w.chosen(name) {
			fmt.Fprintf(w.log, "%q is left out: it is a repository of its own\n", name)
		}
		return nil
	}
	return w.dir(name, ignores, ignored)
}

// slot says what Git would keep of a file.
func (w *worktree) slot(name string, kind fs.FileMode, was slot) (slot, error) {
	if kind&fs.ModeSymlink != 0 {
		to, err := w.root.Readlink(name)
		if err != nil {
			return slot{}, fmt.Errorf("read the checkout: %w", err)
		}
		return w.keep(filemode.Symlink, []byte(filepath.ToSlash(to)))
	}
	if !kind.IsRegular() {
		return slot{}, nil
	}
	f, err := w.root.Open(name)
	if err != nil {
		return slot{}, fmt.Errorf("read the checkout: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return slot{}, fmt.Errorf("read the checkout: %w", err)
	}
	mode := filemode.Regular
	if info.Mode().Perm()&0o100 != 0 {
		mode = filemode.Executable
	}
	if was.regular() {
		h, err := hashFile(f, info.Size())
		if err != nil {
			return slot{}, fmt.Errorf("read the checkout: %w", err)
		}
		if h == was.hash {
			if mode == filemode.Regular && was.mode == filemode.Deprecated {
				mode = was.mode
			}
			return slot{mode, h}, nil
		}
	}
	return w.take(name, f, mode)
}

func hashFile(f *os.File, size int64) (plumbing.Hash, error) {
	h := plumbing.NewHasher(plumbing.BlobObject, size)
	if _, err := io.Copy(h, f); err != nil {
		return plumbing.ZeroHash, err
	}
	_, err := f.Seek(0, io.SeekStart)
	return h.Sum(), err
}

func (w *worktree) take(name string, f io.Reader, mode filemode.FileMode) (slot, error) {
	text, err := io.ReadAll(io.LimitReader(f, w.left+1))
	if err != nil {
		return slot{}, fmt.Errorf("read the checkout: %w", err)
	}
	if int64(len(text)) > w.left {
		return slot{}, action.Permanent(fmt.Errorf("%w: with %q, what changed takes more than %d bytes; give paths, or ignore it", errPushTooBig, name, maxPush))
	}
	return w.keep(mode, text)
}

func (w *worktree) keep(mode filemode.FileMode, text []byte) (slot, error) {
	w.left -= int64(len(text))
	obj := &plumbing.MemoryObject{}
	obj.SetType(plumbing.BlobObject)
	_, _ = io.Copy(obj, bytes.NewReader(text)) // into memory
	h, err := w.objects.SetEncodedObject(obj)
	if err != nil {
		return slot{}, fmt.Errorf("store a file: %w", err)
	}
	return slot{mode, h}, nil
}

// checkoutDir finds the checkout that a parameter names: below the run's directory, since only there it is the run's own.
func checkoutDir(runDir, dir string) (string, error) {
	if runDir == "" || dir == "" {
		return "", action.Permanent(errors.New("dir is empty: give the output dir of git.pull"))
	}
	run, err := filepath.Abs(runDir)
	if err != nil {
		return "", fmt.Errorf("find the run's directory: %w", err)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(run, dir)
	}
	below, err := filepath.Rel(run, filepath.Clean(dir))
	if err != nil || !filepath.IsLocal(below) {
		return "", action.Permanent(fmt.Errorf("dir %s is not in the run's own directory: give the output dir of git.pull", dir))
	}
	info, err := os.Lstat(filepath.Join(dir, ".git"))
	if err != nil || !info.IsDir() {
		return "", action.Permanent(fmt.Errorf("dir %s is no checkout: give the output dir of git.pull; what is below it is chosen by paths", dir))
	}
	return dir, nil
}
