package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// errTree marks a tree that no honest Git would make.
var errTree = errors.New("the commit's tree is malformed")

// target is what to check out.
type target struct {
	commit plumbing.Hash
	branch string // "" leaves HEAD detached
	url    string // canonical
}

// checkout writes one commit's files below a directory, through an os.Root, which no path and no link can leave. go-git's
// own work tree would write symbolic links wherever they point, and knows no bound.
type checkout struct {
	ctx     context.Context
	repo    *repository
	root    *os.Root
	log     io.Writer
	left    int64 // bytes
	limit   int64
	entries int
	index   index.Index
	links   []link
}

type link struct{ name, target string }

// writeCheckout makes dir a work tree of t. dir must not exist.
func writeCheckout(ctx context.Context, repo *repository, dir string, t target, limit int64, log io.Writer) error {
	commit, err := object.GetCommit(repo, t.commit)
	if err != nil {
		return fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return fmt.Errorf("make the checkout's directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the checkout's directory: %w", err)
	}
	defer root.Close()
	c := &checkout{ctx: ctx, repo: repo, root: root, log: log, left: limit, limit: limit, index: index.Index{Version: 2}}
	if err := c.tree(commit.TreeHash, ""); err != nil {
		return err
	}
	// Links come last, so that nothing was ever written through one.
	for _, l := range c.links {
		if err := c.link(l); err != nil {
			return err
		}
	}
	return c.gitDir(filepath.Join(dir, ".git"), t)
}

func (c *checkout) tree(hash plumbing.Hash, dir string) error {
	tree, err := object.GetTree(c.repo, hash)
	if err != nil {
		return fmt.Errorf("%w: tree of %q: %w", errMirror, dir, err)
	}
	for _, e := range tree.Entries {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		if err := c.entry(e, dir); err != nil {
			return err
		}
	}
	return nil
}

func (c *checkout) entry(e object.TreeEntry, dir string) error {
	name := path.Join(dir, e.Name)
	if !validName(e.Name) {
		return fmt.Errorf("%w: entry %q", errTree, name)
	}
	if c.entries++; c.entries > maxEntries || len(name) > maxPath {
		return fmt.Errorf("%w: more than %d entries, or a path of more than %d bytes", errTooLarge, maxEntries, maxPath)
	}
	switch e.Mode {
	case filemode.Dir:
		if err := c.mkdir(name); err != nil {
			return err
		}
		return c.tree(e.Hash, name)
	case filemode.Regular, filemode.Deprecated:
		return c.file(name, e, 0o644)
	case filemode.Executable:
		return c.file(name, e, 0o755)
	case filemode.Symlink:
		return c.note(name, e)
	case filemode.Submodule:
		fmt.Fprintf(c.log, "submodule %q is left empty\n", name)
		c.record(name, e, 0)
		return c.mkdir(name)
	}
	return fmt.Errorf("%w: %q has mode %s", errTree, name, e.Mode)
}

func (c *checkout) mkdir(name string) error {
	if err := c.root.Mkdir(name, 0o755); err != nil {
		return placing(err)
	}
	return nil
}

// placing tells two entries of one name from a disk that refuses.
func placing(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", errTree, err)
	}
	return fmt.Errorf("write the checkout: %w", err)
}

func (c *checkout) file(name string, e object.TreeEntry, mode fs.FileMode) error {
	r, size, err := c.blob(name, e.Hash)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return placing(err)
	}
	defer f.Close()
	if err := copyBlob(f, r, name, size); err != nil {
		return err
	}
	// Mkdir and OpenFile are subject to the umask, and what Git calls executable must be.
	if err := f.Chmod(mode); err != nil {
		return placing(err)
	}
	if err := f.Close(); err != nil {
		return placing(err)
	}
	c.record(name, e, size)
	return nil
}

// copyBlob tells a mirror that cannot be read from a disk that cannot be written.
func copyBlob(w io.Writer, r io.Reader, name string, size int64) error {
	reader := &faulty{r: r}
	n, err := io.Copy(w, io.LimitReader(reader, size+1))
	if reader.err != nil || err == nil && n != size {
		return fmt.Errorf("%w: file %q: %w", errMirror, name, errors.Join(reader.err, errors.New("size differs")))
	}
	if err != nil {
		return placing(err)
	}
	return nil
}

// faulty remembers that reading, not writing, went wrong.
type faulty struct {
	r   io.Reader
	err error
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// blob opens a file's content after its size was found to fit.
func (c *checkout) blob(name string, hash plumbing.Hash) (io.ReadCloser, int64, error) {
	size, err := c.repo.EncodedObjectSize(hash)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	if c.left -= size; c.left < 0 {
		return nil, 0, fmt.Errorf("%w: the files take more than %d bytes", errTooLarge, c.limit)
	}
	blob, err := object.GetBlob(c.repo, hash)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	return r, size, nil
}

// note remembers a symbolic link, or says why it is left out.
func (c *checkout) note(name string, e object.TreeEntry) error {
	r, size, err := c.blob(name, e.Hash)
	if err != nil {
		return err
	}
	defer r.Close()
	if size > maxPath {
		return fmt.Errorf("%w: the link %q is %d bytes long", errTree, name, size)
	}
	var to strings.Builder
	if err := copyBlob(&to, r, name, size); err != nil {
		return err
	}
	c.record(name, e, size)
	if !staysInside(path.Dir(name), to.String()) {
		fmt.Fprintf(c.log, "symbolic link %q is left out: it may point outside the checkout\n", name)
		return nil
	}
	c.links = append(c.links, link{name, to.String()})
	return nil
}

func (c *checkout) link(l link) error {
	if err := c.root.Symlink(l.target, l.name); err != nil {
		return placing(err)
	}
	return nil
}

// staysInside reports whether a link in dir cannot leave the checkout. Its target must be relative, begin with no more
// `..` than dir is deep, and have none after a name: a name may be another link, and `..` of that is anywhere. dir itself
// holds no link, as the tree that made it says, so by induction the whole chain stays inside. Nor may it enter .git.
func staysInside(dir, to string) bool {
	if to == "" || path.IsAbs(to) || strings.ContainsRune(to, 0) {
		return false
	}
	depth := 0
	if dir != "." {
		depth = strings.Count(dir, "/") + 1
	}
	names := false
	for part := range strings.SplitSeq(to, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; names || depth < 0 {
				return false
			}
		default:
			if isDotGit(part) {
				return false
			}
			names = true
		}
	}
	return true
}

// validName refuses what would be another place than the tree says, or Git's own directory, on any file system.
func validName(name string) bool {
	switch name {
	case "", ".", "..":
		return false
	}
	return !strings.ContainsAny(name, "/\x00") && !isDotGit(name)
}

// isDotGit finds .git as file systems fold it: in any case, as its short name on NTFS, with the trailing dots, spaces
// and streams that NTFS drops, and with the code points that HFS+ ignores (is_hfs_dotgit and is_ntfs_dotgit in git's
// utf8.c and path.c).
func isDotGit(name string) bool {
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(name, "\\")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)
	name = strings.ToLower(strings.TrimRight(name, ". "))
	return name == ".git" || name == "git~1"
}

func (c *checkout) record(name string, e object.TreeEntry, size int64) {
	c.index.Entries = append(c.index.Entries, &index.Entry{Name: name, Hash: e.Hash, Mode: e.Mode, Size: uint32(size)})
}

// gitDir makes the checkout a repository that stands alone: the mirror's packs are linked, so that they outlive it.
func (c *checkout) gitDir(dir string, t target) error {
	head := t.commit.String() + "\n"
	files := map[string]string{
		"config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[remote \"origin\"]\n\turl = " + t.url + "\n",
		"HEAD":   head,
	}
	if t.branch != "" {
		files["HEAD"] = "ref: refs/heads/" + t.branch + "\n"
		files["refs/heads/"+t.branch] = head
		files[trackingRef(t.branch).String()] = head // what git.push may replace
	}
	if shallow, err := os.ReadFile(filepath.Join(c.repo.path, "shallow")); err == nil {
		files["shallow"] = string(shallow)
	}
	if err := writeRepository(dir, files); err != nil {
		return placing(err)
	}
	if err := linkPacks(c.repo.path, dir); err != nil {
		return fmt.Errorf("%w: link its packs: %w", errMirror, err)
	}
	f, err := os.Create(filepath.Join(dir, "index"))
	if err != nil {
		return placing(err)
	}
	defer f.Close()
	if err := index.NewEncoder(f).Encode(&c.index); err != nil {
		return placing(err)
	}
	return f.Close()
}

// trackingRef names what a branch of the remote was when it was pulled.
func trackingRef(branch string) plumbing.ReferenceName {
	return plumbing.NewRemoteReferenceName("origin", branch)
}

func linkPacks(from, to string) error {
	const packs = "objects/pack"
	entries, err := os.ReadDir(filepath.Join(from, packs))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".pack" && ext != ".idx" {
			continue
		}
		source, dest := filepath.Join(from, packs, e.Name()), filepath.Join(to, packs, e.Name())
		if err := os.Link(source, dest); err == nil {
			continue
		}
		if err := copyFile(source, dest); err != nil { // another file system
			return err
		}
	}
	return nil
}

func copyFile(source, dest string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
