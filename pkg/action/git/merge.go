package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// overlay keeps objects that are made in memory, over those of a repository that it leaves alone.
type overlay struct {
	storer.EncodedObjectStorer
	made  map[plumbing.Hash]plumbing.EncodedObject
	order []plumbing.Hash
}

func newOverlay(under storer.EncodedObjectStorer) *overlay {
	return &overlay{under, map[plumbing.Hash]plumbing.EncodedObject{}, nil}
}

func (o *overlay) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if obj, ok := o.made[h]; ok {
		return obj, nil
	}
	return o.EncodedObjectStorer.EncodedObject(t, h)
}

func (o *overlay) SetEncodedObject(obj plumbing.EncodedObject) (plumbing.Hash, error) {
	h := obj.Hash()
	if o.HasEncodedObject(h) != nil && o.made[h] == nil {
		o.made[h] = obj
		o.order = append(o.order, h)
	}
	return h, nil
}

const (
	// maxMerged bounds a file that is merged line by line.
	maxMerged = 16 << 20
	// maxAttributes bounds a .gitattributes file.
	maxAttributes = 1 << 20
)

// merger applies what leads from one tree to another to a third, path by path. A renamed file is one that is deleted and
// one that is new; a change to what was renamed can't be applied. What can't is a conflict; nothing is ever guessed.
type merger struct {
	ctx       context.Context
	objects   *overlay
	ours      plumbing.Hash // root of the tree that is changed
	reader    *object.Tree  // by which go-git reads files
	entries   int
	changed   []string // paths in which the result is not ours
	conflicts []string
}

// slot is what a tree has under a name: a directory, something else, or nothing, which is the zero value.
type slot struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

// merge returns the tree that results; where there are conflicts it is of no use.
func (m *merger) merge(base, ours, theirs plumbing.Hash) (plumbing.Hash, error) {
	m.ours = ours
	reader, err := readTree(m.objects, "", ours)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	m.reader = reader
	tree, err := m.tree("", base, ours, theirs)
	if err == nil && tree.IsZero() {
		tree, err = m.store(nil) // everything is gone
	}
	if err == nil && len(m.conflicts) == 0 {
		err = m.moved(base, ours, theirs)
	}
	return tree, err
}

const (
	// similar is from which percentage on a file counts as the same under another name; git's own is 50, measured otherwise.
	similar = 40
	// maxRenames bounds how many files are compared with each other, as merge.renameLimit does.
	maxRenames = 1000
)

// moved finds files that should go and are gone, but stand elsewhere under another name: a conflict, since what remains is
// what should be undone.
func (m *merger) moved(base, ours, theirs plumbing.Hash) error {
	var drop, lost, found map[string]slot
	for _, side := range []struct {
		out     *map[string]slot
		of, not plumbing.Hash
	}{{&drop, base, theirs}, {&lost, base, ours}, {&found, ours, base}} {
		*side.out = map[string]slot{}
		if err := m.only("", side.of, side.not, *side.out); err != nil || len(*side.out) == 0 {
			return err
		}
	}
	var changes object.Changes
	for name, f := range drop {
		if lost[name] == f {
			changes = append(changes, &object.Change{From: m.entry(name, f)})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	for name, f := range found {
		changes = append(changes, &object.Change{To: m.entry(name, f)})
	}
	changes, err := object.DetectRenames(changes, &object.DiffTreeOptions{DetectRenames: true, RenameScore: similar, RenameLimit: maxRenames})
	if err != nil {
		return fmt.Errorf("%w: look for renamed files: %w", errMirror, err)
	}
	for _, c := range changes {
		if c.From.Name != "" && c.To.Name != "" {
			m.conflict(fmt.Sprintf("%s (now %s)", c.From.Name, c.To.Name))
		}
	}
	return nil
}

func (m *merger) entry(name string, f slot) object.ChangeEntry {
	return object.ChangeEntry{Name: name, Tree: m.reader, TreeEntry: object.TreeEntry{Name: path.Base(name), Mode: f.mode, Hash: f.hash}}
}

// only lists the files that a directory has and another lacks.
func (m *merger) only(dir string, of, not plumbing.Hash, out map[string]slot) error {
	if of == not {
		return nil
	}
	here, err := m.read(dir, of)
	if err != nil {
		return err
	}
	there, err := m.read(dir, not)
	if err != nil {
		return err
	}
	for name, f := range here {
		at := path.Join(dir, name)
		if f.mode == filemode.Dir {
			err = m.only(at, f.hash, there[name].dir(), out)
		} else if f.mode != filemode.Submodule && there[name].file() == (slot{}) {
			out[at] = f
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tree merges directories; zero is one that is not there.
func (m *merger) tree(dir string, base, ours, theirs plumbing.Hash) (plumbing.Hash, error) {
	if ours == theirs || base == theirs {
		return ours, nil
	}
	var sides [3]map[string]slot
	names := map[string]bool{}
	for i, h := range []plumbing.Hash{base, ours, theirs} {
		side, err := m.read(dir, h)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		for name := range side {
			names[name] = true
		}
		sides[i] = side
	}
	var out []object.TreeEntry
	for _, name := range slices.Sorted(maps.Keys(names)) {
		got, err := m.name(path.Join(dir, name), sides[0][name], sides[1][name], sides[2][name])
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if got != (slot{}) {
			out = append(out, object.TreeEntry{Name: name, Mode: got.mode, Hash: got.hash})
		}
	}
	if len(out) == 0 {
		return plumbing.ZeroHash, nil
	}
	return m.store(out)
}

func (m *merger) read(dir string, h plumbing.Hash) (map[string]slot, error) {
	if h.IsZero() {
		return nil, nil
	}
	if m.ctx.Err() != nil {
		return nil, context.Cause(m.ctx)
	}
	tree, err := readTree(m.objects, dir, h)
	if err != nil {
		return nil, err
	}
	if m.entries += len(tree.Entries); m.entries > maxEntries {
		return nil, fmt.Errorf("%w: more than %d entries to merge", errTooLarge, maxEntries)
	}
	side := make(map[string]slot, len(tree.Entries))
	for _, e := range tree.Entries {
		name := path.Join(dir, e.Name)
		if _, twice := side[e.Name]; twice || !validName(e.Name) || len(name) > maxPath {
			return nil, fmt.Errorf("%w: entry %q", errTree, name)
		}
		side[e.Name] = slot{e.Mode, e.Hash}
	}
	return side, nil
}

// readTree reads a directory whose list is within bounds.
func readTree(s storer.EncodedObjectStorer, dir string, h plumbing.Hash) (*object.Tree, error) {
	obj, err := s.EncodedObject(plumbing.TreeObject, h)
	if err == nil && obj.Size() > maxTree {
		return nil, fmt.Errorf("%w: the list of files in %q takes %d bytes", errTooManyFiles, dir, obj.Size())
	}
	var tree *object.Tree
	if err == nil {
		tree, err = object.DecodeTree(s, obj)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: tree of %q: %w", errMirror, dir, err)
	}
	return tree, nil
}

func (m *merger) store(entries []object.TreeEntry) (plumbing.Hash, error) {
	return storeTree(m.objects, entries)
}

// objectSetter is where made objects go.
type objectSetter interface {
	SetEncodedObject(plumbing.EncodedObject) (plumbing.Hash, error)
}

func storeTree(s objectSetter, entries []object.TreeEntry) (plumbing.Hash, error) {
	slices.SortFunc(entries, func(a, b object.TreeEntry) int { return cmp.Compare(sortName(a), sortName(b)) })
	obj := &plumbing.MemoryObject{}
	if err := (&object.Tree{Entries: entries}).Encode(obj); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("make a tree: %w", err)
	}
	return s.SetEncodedObject(obj)
}

// sortName is by what Git orders a tree: a directory as if its name ended in a slash.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

// name merges what is under one path. A directory and a file of one name are two things, of which only one may remain.
func (m *merger) name(at string, base, ours, theirs slot) (slot, error) {
	dir, err := m.tree(at, base.dir(), ours.dir(), theirs.dir())
	if err != nil {
		return slot{}, err
	}
	file, err := m.file(at, base.file(), ours.file(), theirs.file())
	switch {
	case err != nil || dir.IsZero():
		return file, err
	case file == slot{}:
		return slot{filemode.Dir, dir}, nil
	}
	m.conflict(at)
	return file, nil
}

func (s slot) dir() plumbing.Hash {
	if s.mode == filemode.Dir {
		return s.hash
	}
	return plumbing.ZeroHash
}

func (s slot) file() slot {
	if s.mode == filemode.Dir {
		return slot{}
	}
	return s
}

func (s slot) regular() bool {
	return s.mode == filemode.Regular || s.mode == filemode.Executable || s.mode == filemode.Deprecated
}

func (m *merger) conflict(at string) { m.conflicts = append(m.conflicts, at) }

func (m *merger) file(at string, base, ours, theirs slot) (slot, error) {
	if ours == theirs || base == theirs {
		return ours, nil
	}
	m.changed = append(m.changed, at)
	if base == ours {
		return theirs, nil
	}
	if !base.regular() || !ours.regular() || !theirs.regular() {
		m.conflict(at)
		return ours, nil
	}
	mode, ok := pick(base.mode, ours.mode, theirs.mode)
	if hash, same := pick(base.hash, ours.hash, theirs.hash); ok && same {
		return slot{mode, hash}, nil
	}
	var hash plumbing.Hash
	var err error
	if ok {
		hash, ok, err = m.content(at, base.hash, ours.hash, theirs.hash)
	}
	if err == nil && !ok {
		m.conflict(at)
		return ours, nil
	}
	return slot{mode, hash}, err
}

// pick merges what is one value.
func pick[T comparable](base, ours, theirs T) (T, bool) {
	switch base {
	case theirs:
		return ours, true
	case ours:
		return theirs, true
	}
	return ours, ours == theirs
}

func (m *merger) content(at string, base, ours, theirs plumbing.Hash) (plumbing.Hash, bool, error) {
	var texts [3][]byte
	for i, h := range []plumbing.Hash{base, ours, theirs} {
		text, err := m.blob(at, h, maxMerged)
		if errors.Is(err, errTooLarge) || err == nil && isBinary(text) {
			return plumbing.ZeroHash, false, nil
		}
		if err != nil {
			return plumbing.ZeroHash, false, err
		}
		texts[i] = text
	}
	if byLine, err := m.mergesByLine(at); err != nil || !byLine {
		return plumbing.ZeroHash, false, err
	}
	merged, ok, err := mergeLines(texts[0], texts[1], texts[2])
	if errors.Is(err, errTooDifferent) {
		return plumbing.ZeroHash, false, nil
	}
	if err != nil || !ok {
		return plumbing.ZeroHash, false, err
	}
	obj := &plumbing.MemoryObject{}
	obj.SetType(plumbing.BlobObject)
	_, _ = obj.Write(merged) // into memory
	h, err := m.objects.SetEncodedObject(obj)
	return h, true, err
}

func (m *merger) blob(at string, h plumbing.Hash, limit int64) ([]byte, error) {
	if m.ctx.Err() != nil {
		return nil, context.Cause(m.ctx)
	}
	obj, err := m.objects.EncodedObject(plumbing.BlobObject, h)
	if err == nil && obj.Size() > limit {
		return nil, fmt.Errorf("%w: %q is %d bytes long", errTooLarge, at, obj.Size())
	}
	var r io.ReadCloser
	if err == nil {
		r, err = obj.Reader()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: file %q: %w", errMirror, at, err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: file %q: %w", errMirror, at, err)
	}
	return text, nil
}

// mergesByLine asks the branch's .gitattributes: a file that is binary, not to be merged, or merged by a program or a
// strategy of its own is left to people (gitattributes, "Performing a three-way merge").
func (m *merger) mergesByLine(at string) (bool, error) {
	parts := strings.Split(at, "/")
	tree, byLine := m.ours, true
	for i := range parts {
		side, err := m.read(path.Join(parts[:i]...), tree)
		if err != nil {
			return false, err
		}
		// Nearer files, and later lines of one, win.
		if file := side[".gitattributes"]; file.regular() {
			text, err := m.blob(".gitattributes", file.hash, maxAttributes)
			if err != nil {
				return false, err
			}
			byLine = attributed(text, parts[:i], parts, byLine)
		}
		tree = side[parts[i]].dir()
	}
	return byLine, nil
}

// attributed applies the lines of a .gitattributes file in a directory to a path below it.
func attributed(text []byte, dir, at []string, byLine bool) bool {
	for line := range strings.Lines(string(text)) {
		pattern, attributes := cutPattern(strings.TrimSpace(line))
		if pattern == "" || !attributePattern(pattern, at[len(dir):]) {
			continue
		}
		for _, a := range strings.Fields(attributes) {
			switch name, value, _ := strings.Cut(a, "="); name {
			case "binary", "-merge":
				byLine = false
			case "merge":
				byLine = value == "" || value == "text"
			case "!merge", "-binary":
				byLine = true
			}
		}
	}
	return byLine
}

// cutPattern takes a line of .gitattributes apart; comments and macros have no pattern.
func cutPattern(line string) (pattern, attributes string) {
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[attr]") {
		return "", ""
	}
	if quoted, err := strconv.QuotedPrefix(line); err == nil {
		pattern, err = strconv.Unquote(quoted)
		if err == nil {
			return pattern, line[len(quoted):]
		}
	}
	at := strings.IndexAny(line, " \t")
	if at < 0 {
		return "", ""
	}
	return line[:at], line[at:]
}

// attributePattern matches as gitignore does, but that a directory's pattern says nothing of what is below it.
func attributePattern(pattern string, at []string) bool {
	name := at[len(at)-1]
	if strings.Contains(pattern, "/") {
		name = path.Join(at...)
	}
	ok, err := doublestar.Match(strings.TrimPrefix(pattern, "/"), name)
	return err == nil && ok
}
