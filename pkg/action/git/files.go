package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/riposte-dev/riposte/pkg/action"
)

// FilesQuery says which files of a repository to read. Bounds of zero are the defaults.
type FilesQuery struct {
	URL  string
	Ref  string // as of git.pull
	Path string // directory with slashes; all of the repository when empty
	// Known is the commit that was read last: its files are not read again, unless Reread is set.
	Known  string
	Reread bool
	// Want chooses files by their path; hidden ones, and those in hidden directories, are never read.
	Want func(name string) bool

	MaxEntries   int   // files and directories that are looked at; default 100,000
	MaxFiles     int   // default 10,000
	MaxFileBytes int64 // of one file; default 1 MiB
	MaxBytes     int64 // of all files; default 64 MiB
}

func (q FilesQuery) withDefaults() FilesQuery {
	for _, d := range []struct {
		bound *int
		value int
	}{{&q.MaxEntries, 100_000}, {&q.MaxFiles, 10_000}} {
		if *d.bound == 0 {
			*d.bound = d.value
		}
	}
	for _, d := range []struct {
		bound *int64
		value int64
	}{{&q.MaxFileBytes, 1 << 20}, {&q.MaxBytes, 64 << 20}} {
		if *d.bound == 0 {
			*d.bound = d.value
		}
	}
	q.Path = strings.Trim(q.Path, "/")
	return q
}

// Snapshot is what a reference stands for.
type Snapshot struct {
	Commit string
	// Object is the commit as Git stores it, which is what its signature covers.
	Object []byte
	Time   time.Time // by the clock of who made it
	// Rewritten says that the known commit is not among the newest commits that led to this one: the history was
	// rewritten, or many commits came at once.
	Rewritten bool
	// Files are those wanted, in the order of the tree; nil where the commit is the known one.
	Files []File
}

// File is a file of a commit; Path is its path in the repository.
type File struct {
	Path string
	Data []byte
}

// Files reads files of commits, without a checkout. It keeps mirrors as git.pull does, in a directory of its own, and
// gives the same guarantees. It is safe for concurrent use.
type Files struct{ puller *puller }

// NewFiles makes a reader; nothing is fetched yet.
func NewFiles(o Options) (*Files, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Files{newPuller(o.withDefaults())}, nil
}

// Check says what is wrong with a URL, without asking the remote.
func (f *Files) Check(url string) error {
	_, err := f.puller.parse(url)
	return err
}

// historyDepth is how many commits are fetched, so that a rewritten history can be told from one that went on.
const historyDepth = 64

// RefusedError is an error that the commit itself is to blame for: another try finds the same.
type RefusedError struct {
	Commit string
	Object []byte // as of Snapshot; nil where it is what can't be read
	Err    error  // without the repository's name
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// Read brings what the reference stands for now. An error names the repository and what to do, and no secret; it wraps a
// *RefusedError where the commit was fetched, and its files can't be read as they are.
func (f *Files) Read(ctx context.Context, q FilesQuery) (s Snapshot, err error) {
	err = f.talk(ctx, q.URL, func(r *remote, l *lease, repo *repository) (err error) {
		s, err = f.read(ctx, q.withDefaults(), r, l, repo)
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

// talk calls use with a repository and its mirror, and explains its error.
func (f *Files) talk(ctx context.Context, url string, use func(*remote, *lease, *repository) error) error {
	addr, err := f.puller.parse(url)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	r := f.puller.remote("fetch", addr)
	defer r.close()
	err = f.puller.mirrored(ctx, r, io.Discard, func(l *lease, repo *repository) error { return use(r, l, repo) })
	if err == nil {
		return nil
	}
	said := r.explain(ctx, err)
	var refused *RefusedError
	if errors.As(err, &refused) {
		hint, _ := r.hint(err)
		refused.Err = &pullError{text: r.redact(refused.Err.Error()) + hint, err: refused.Err}
	}
	return said
}

func (f *Files) read(ctx context.Context, q FilesQuery, r *remote, l *lease, repo *repository) (Snapshot, error) {
	call := &action.Call{Params: &PullParams{URL: q.URL, Ref: q.Ref, Depth: historyDepth}, Log: io.Discard}
	_, commit, err := f.puller.fetch(ctx, call, r, repo)
	if err != nil {
		return Snapshot{}, err
	}
	l.fetched()
	s := Snapshot{Commit: commit.String()}
	if s.Commit == q.Known && !q.Reread {
		return s, nil
	}
	if s.Object, err = repo.commitObject(commit); err != nil {
		return Snapshot{}, s.refused(ctx, err)
	}
	if commitID.MatchString(q.Known) {
		if s.Rewritten, err = repo.lacks(commit, plumbing.NewHash(q.Known)); err != nil {
			return Snapshot{}, err
		}
	}
	w := &fileWalk{ctx: ctx, repo: repo, q: q}
	if c, err := object.GetCommit(repo, commit); err == nil {
		s.Time = c.Committer.When
	}
	if err := w.begin(commit); err != nil {
		return Snapshot{}, s.refused(ctx, err)
	}
	s.Files = w.files
	return s, nil
}

// refused blames the commit for an error, unless the mirror or the end of ctx is the cause.
func (s *Snapshot) refused(ctx context.Context, err error) error {
	if errors.Is(err, errMirror) || ctx.Err() != nil {
		return err
	}
	return &RefusedError{s.Commit, s.Object, err}
}

// maxCommit bounds a commit object, which is its message but for a few lines.
const maxCommit = 1 << 20

func (r *repository) commitObject(h plumbing.Hash) ([]byte, error) {
	obj, err := r.EncodedObject(plumbing.CommitObject, h)
	if err != nil {
		return nil, fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	if obj.Size() > maxCommit {
		return nil, fmt.Errorf("%w: a commit of %d bytes", errTooLarge, obj.Size())
	}
	in, err := obj.Reader()
	if err != nil {
		return nil, fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	return data, nil
}

// maxAncestors bounds how many commits are asked for their parents.
const maxAncestors = 10_000

// lacks reports whether known is not in the history of tip, as far as it is here.
func (r *repository) lacks(tip, known plumbing.Hash) (bool, error) {
	found, err := r.ancestor(tip, map[plumbing.Hash]bool{}, func(h plumbing.Hash) bool { return h == known })
	return err == nil && !found, err
}

var (
	errTooManyFiles = errors.New("too much is there")
	errOutside      = errors.New("a symbolic link points out of the repository")
	errNoPath       = errors.New("there is no such directory")
)

// maxTree bounds one directory's list, which is read whole.
const maxTree = 16 << 20

// fileWalk collects the files below a directory of a commit.
type fileWalk struct {
	ctx     context.Context
	repo    *repository
	q       FilesQuery
	entries int
	bytes   int64
	files   []File
}

func (w *fileWalk) begin(commit plumbing.Hash) error {
	c, err := object.GetCommit(w.repo, commit)
	if err != nil {
		return fmt.Errorf("%w: commit: %w", errMirror, err)
	}
	hash, at := c.TreeHash, ""
	for part := range strings.SplitSeq(w.q.Path, "/") {
		if part == "" {
			continue
		}
		if hash, err = w.enter(hash, at, part); err != nil {
			return err
		}
		at = path.Join(at, part)
	}
	return w.tree(hash, at)
}

// enter finds a directory in a tree.
func (w *fileWalk) enter(hash plumbing.Hash, at, name string) (plumbing.Hash, error) {
	tree, err := w.read(hash, at)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	for _, e := range tree.Entries {
		if e.Name == name && e.Mode == filemode.Dir {
			return e.Hash, nil
		}
	}
	return plumbing.ZeroHash, fmt.Errorf("%w: %q", errNoPath, path.Join(at, name))
}

func (w *fileWalk) read(hash plumbing.Hash, dir string) (*object.Tree, error) {
	if w.ctx.Err() != nil {
		return nil, context.Cause(w.ctx)
	}
	size, err := w.repo.EncodedObjectSize(hash)
	if err == nil && size > maxTree {
		return nil, fmt.Errorf("%w: the list of files in %q takes %d bytes", errTooManyFiles, dir, size)
	}
	tree, err := object.GetTree(w.repo, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: tree of %q: %w", errMirror, dir, err)
	}
	return tree, nil
}

func (w *fileWalk) tree(hash plumbing.Hash, dir string) error {
	tree, err := w.read(hash, dir)
	if err != nil {
		return err
	}
	for _, e := range tree.Entries {
		if err := w.entry(e, dir); err != nil {
			return err
		}
	}
	return nil
}

func (w *fileWalk) entry(e object.TreeEntry, dir string) error {
	name := path.Join(dir, e.Name)
	if w.entries++; w.entries > w.q.MaxEntries || len(name) > maxPath {
		return fmt.Errorf("%w: more than %d files and directories, or a path of more than %d bytes", errTooManyFiles, w.q.MaxEntries, maxPath)
	}
	if !validName(e.Name) {
		return fmt.Errorf("%w: entry %q", errTree, name)
	}
	if strings.HasPrefix(e.Name, ".") {
		return nil
	}
	switch e.Mode {
	case filemode.Dir:
		return w.tree(e.Hash, name)
	case filemode.Symlink:
		return w.link(name, e.Hash)
	case filemode.Regular, filemode.Deprecated, filemode.Executable:
		if w.q.Want(name) {
			return w.file(name, e.Hash)
		}
	}
	return nil // a submodule holds nothing of this repository
}

func (w *fileWalk) file(name string, hash plumbing.Hash) error {
	if len(w.files) >= w.q.MaxFiles {
		return fmt.Errorf("%w: more than %d files", errTooManyFiles, w.q.MaxFiles)
	}
	data, err := w.blob(name, hash, w.q.MaxFileBytes)
	if err != nil {
		return err
	}
	if w.bytes += int64(len(data)); w.bytes > w.q.MaxBytes {
		return fmt.Errorf("%w: the files take more than %d bytes", errTooManyFiles, w.q.MaxBytes)
	}
	w.files = append(w.files, File{Path: name, Data: data})
	return nil
}

func (w *fileWalk) blob(name string, hash plumbing.Hash, limit int64) ([]byte, error) {
	size, err := w.repo.EncodedObjectSize(hash)
	if err != nil {
		return nil, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	if size > limit {
		return nil, fmt.Errorf("%w: %q is %d bytes long, and %d is the most", errTooManyFiles, name, size, limit)
	}
	blob, err := object.GetBlob(w.repo, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	in, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("%w: file %q: %w", errMirror, name, err)
	}
	defer in.Close()
	var out strings.Builder
	if err := copyBlob(&out, in, name, size); err != nil {
		return nil, err
	}
	return []byte(out.String()), nil
}

// link follows no symbolic link: what it points to inside is read under its own name, and what points outside was meant
// to be read and can't be.
func (w *fileWalk) link(name string, hash plumbing.Hash) error {
	target, err := w.blob(name, hash, maxPath)
	if err != nil {
		return err
	}
	if !staysInside(path.Dir(name), string(target)) {
		return fmt.Errorf("%w: %q", errOutside, name)
	}
	return nil
}

// Credential returns the credential that a URL is fetched with, or nil.
func (o Options) Credential(url string) *Credential {
	a, err := parseURL(url)
	if err != nil {
		return nil
	}
	return credentialFor(o.Credentials, a)
}

// Place is where people and APIs find the repository of a URL.
type Place struct {
	Web  string // https://host[:port]; http for a repository that is fetched so; empty for one of this machine
	Path string // group/name, without a leading slash and .git
}

// PlaceOf reads a repository's URL.
func PlaceOf(url string) (Place, error) {
	a, err := parseURL(url)
	if err != nil {
		return Place{}, err
	}
	p := Place{Path: strings.Join(a.segments(), "/")}
	switch a.scheme {
	case "file":
	case "ssh": // its port says nothing about the web's
		p.Web = strings.TrimSuffix(address{scheme: "https", host: a.host, port: defaultPorts["https"]}.String(), "/")
	default:
		a.path = ""
		p.Web = a.String()
	}
	return p, nil
}
