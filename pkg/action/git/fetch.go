package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// infinite is the depth that undoes a shallow history: INFINITE_DEPTH of git's shallow.h.
const infinite = 0x7fffffff

// refPrefix holds one reference for each commit that was fetched, named by its id.
const refPrefix = "refs/riposte/"

// errMirror marks what is wrong with the local mirror, which a new one cures.
var errMirror = errors.New("the local mirror is of no more use")

// repository is a mirror opened for one pull.
type repository struct {
	*filesystem.Storage
	path string
}

func openRepository(path string) *repository {
	fs := osfs.New(path, osfs.WithBoundOS())
	s := filesystem.NewStorageWithOptions(fs, cache.NewObjectLRU(32*cache.MiByte), filesystem.Options{LargeObjectThreshold: 1 << 20})
	return &repository{s, path}
}

// holds reports whether a commit or tag is here with its history to the depth; 0 is all of it.
func (r *repository) holds(commit plumbing.Hash, depth int64) (bool, error) {
	if err := r.HasEncodedObject(commit); errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("%w: %w", errMirror, err)
	}
	shallows, err := r.Shallow()
	if err != nil {
		return false, fmt.Errorf("%w: %w", errMirror, err)
	}
	if depth == 1 || len(shallows) == 0 {
		return true, nil
	}
	if depth == 0 {
		return false, nil
	}
	if commit, err = r.peel(commit); err != nil {
		return false, err
	}
	return r.reaches(commit, shallows, depth)
}

// peel follows annotated tags to a commit.
func (r *repository) peel(h plumbing.Hash) (plumbing.Hash, error) {
	for range 10 {
		obj, err := object.GetObject(r, h)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("%w: %w", errMirror, err)
		}
		switch o := obj.(type) {
		case *object.Commit:
			return o.Hash, nil
		case *object.Tag:
			h = o.Target
		default:
			return plumbing.ZeroHash, fmt.Errorf("%w: %s is a %s", errNotCommit, h, obj.Type())
		}
	}
	return plumbing.ZeroHash, fmt.Errorf("%w: %s is one of a long chain of tags", errNotCommit, h)
}

// reaches walks parents to the depth and reports whether the history is cut off before it.
func (r *repository) reaches(commit plumbing.Hash, shallows []plumbing.Hash, depth int64) (bool, error) {
	cut, seen := map[plumbing.Hash]bool{}, map[plumbing.Hash]bool{}
	for _, s := range shallows {
		cut[s] = true
	}
	level := []plumbing.Hash{commit}
	for ; depth > 1 && len(level) > 0; depth-- {
		var next []plumbing.Hash
		for _, h := range level {
			if cut[h] {
				return false, nil
			}
			c, err := object.GetCommit(r, h)
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
		level = next
	}
	return true, nil
}

// fetcher brings want and its history to the depth (0 is all) into the mirror.
type fetcher interface {
	fetch(ctx context.Context, repo *repository, refs *packp.AdvRefs, want plumbing.Hash, depth int64) error
}

// goGit fetches in process.
type goGit struct {
	remote *remote
}

func (f goGit) fetch(ctx context.Context, repo *repository, refs *packp.AdvRefs, want plumbing.Hash, depth int64) error {
	req, err := f.request(repo, refs, want, depth)
	if err != nil {
		return err
	}
	res, err := f.remote.uploadPack(ctx, req)
	if errors.Is(err, transport.ErrEmptyUploadPackRequest) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = res.Close() }() // the checked pack is what counts
	// What is cut off is noted before the pack is in place and what is no longer after, so that a crash in between
	// leaves no commit whose parents are missing and not known to be.
	if err := repo.cut(res.Shallows, nil); err != nil {
		return err
	}
	if err := repo.addPack(demuxer(req.Capabilities, res, nil)); err != nil {
		return err
	}
	if err := repo.cut(nil, res.Unshallows); err != nil {
		return err
	}
	return repo.SetReference(plumbing.NewHashReference(refPrefix+plumbing.ReferenceName(want.String()), want))
}

// request asks for whole packs without acknowledgements in several rounds, which go-git cannot follow.
func (f goGit) request(repo *repository, refs *packp.AdvRefs, want plumbing.Hash, depth int64) (*packp.UploadPackRequest, error) {
	req := packp.NewUploadPackRequest()
	req.Wants = []plumbing.Hash{want}
	for _, c := range []capability.Capability{capability.OFSDelta, capability.NoProgress} {
		if refs.Capabilities.Supports(c) {
			_ = req.Capabilities.Set(c)
		}
	}
	if refs.Capabilities.Supports(capability.Sideband64k) {
		_ = req.Capabilities.Set(capability.Sideband64k)
	} else if refs.Capabilities.Supports(capability.Sideband) {
		_ = req.Capabilities.Set(capability.Sideband)
	}
	if refs.Capabilities.Supports(capability.Agent) {
		_ = req.Capabilities.Set(capability.Agent, capability.DefaultAgent())
	}
	if f.remote.addr.scheme == "file" {
		return req, nil // go-git's server knows neither shallow histories nor what it doesn't have
	}
	shallows, err := repo.Shallow()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	if refs.Capabilities.Supports(capability.Shallow) {
		if depth == 0 && len(shallows) > 0 {
			depth = infinite
		}
		if depth > 0 || len(shallows) > 0 {
			_ = req.Capabilities.Set(capability.Shallow)
		}
		req.Shallows, req.Depth = shallows, packp.DepthCommits(depth)
	}
	req.Haves, err = repo.fetchedCommits()
	return req, err
}

// fetchedCommits are the commits that earlier fetches asked for.
func (r *repository) fetchedCommits() ([]plumbing.Hash, error) {
	refs, err := r.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	var commits []plumbing.Hash
	err = refs.ForEach(func(ref *plumbing.Reference) error {
		if strings.HasPrefix(ref.Name().String(), refPrefix) && r.HasEncodedObject(ref.Hash()) == nil {
			commits = append(commits, ref.Hash())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	return commits, nil
}

// cut adds and removes commits whose parents are missing.
func (r *repository) cut(add, remove []plumbing.Hash) error {
	if len(add) == 0 && len(remove) == 0 {
		return nil
	}
	before, err := r.Shallow()
	if err != nil {
		return fmt.Errorf("%w: %w", errMirror, err)
	}
	set := map[plumbing.Hash]bool{}
	for _, h := range append(before, add...) {
		set[h] = true
	}
	for _, h := range remove {
		delete(set, h)
	}
	after := make([]plumbing.Hash, 0, len(set))
	for h := range set {
		after = append(after, h)
	}
	plumbing.HashesSort(after)
	if err := r.SetShallow(after); err != nil {
		return fmt.Errorf("write the mirror's shallow file: %w", err)
	}
	return nil
}

// demuxer takes apart what a remote sends together, where that was agreed on; progress may be nil.
func demuxer(caps *capability.List, r io.Reader, progress io.Writer) io.Reader {
	var d *sideband.Demuxer
	switch {
	case caps.Supports(capability.Sideband64k):
		d = sideband.NewDemuxer(sideband.Sideband64k, r)
	case caps.Supports(capability.Sideband):
		d = sideband.NewDemuxer(sideband.Sideband, r)
	default:
		return r
	}
	d.Progress = progress
	return d
}

// addPack stores a pack under its checksum once all of it is here, is within bounds and was checked object by object.
// go-git's own writer parses while it receives, when it is too late to refuse a size.
func (r *repository) addPack(pack io.Reader) error {
	dir := filepath.Join(r.path, "objects", "pack")
	temp, err := os.CreateTemp(dir, "tmp_pack_")
	if err != nil {
		return fmt.Errorf("store the pack: %w", err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := copyPack(temp, pack); err != nil {
		return err
	}
	count, err := checkSizes(temp)
	if err != nil || count == 0 {
		return err
	}
	index, sum, err := indexPack(temp)
	if err != nil {
		return fmt.Errorf("the remote's pack is malformed: %w", err)
	}
	if err := temp.Close(); err != nil {
		return fmt.Errorf("store the pack: %w", err)
	}
	base := filepath.Join(dir, "pack-"+sum.String())
	if err := writeIndex(base+".idx", index); err != nil {
		return fmt.Errorf("store the pack's index: %w", err)
	}
	if err := os.Rename(temp.Name(), base+".pack"); err != nil {
		return fmt.Errorf("store the pack: %w", err)
	}
	r.Reindex() // the storage reads the list of packs once
	return nil
}

func copyPack(w io.Writer, pack io.Reader) error {
	var head [4]byte
	if _, err := io.ReadFull(pack, head[:]); err != nil {
		return fmt.Errorf("receive the pack: %w", err)
	}
	if string(head[:]) != "PACK" {
		return errors.New("the remote's answer is not a git pack")
	}
	if _, err := w.Write(head[:]); err != nil {
		return fmt.Errorf("store the pack: %w", err)
	}
	if _, err := io.Copy(w, pack); err != nil {
		return fmt.Errorf("receive the pack: %w", err)
	}
	return nil
}

// checkSizes reads the sizes that the pack's objects will have in memory, and returns how many objects there are.
func checkSizes(f *os.File) (uint32, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	s := packfile.NewScanner(f)
	_, count, err := s.Header()
	if err != nil {
		return 0, fmt.Errorf("the remote's pack is malformed: %w", err)
	}
	for range count {
		h, err := s.NextObjectHeader()
		if err != nil {
			return 0, fmt.Errorf("the remote's pack is malformed: %w", err)
		}
		size := h.Length
		if h.Type.IsDelta() {
			start := &prefix{}
			if _, _, err := s.NextObject(start); err != nil {
				return 0, fmt.Errorf("the remote's pack is malformed: %w", err)
			}
			target, ok := start.deltaTarget()
			if !ok {
				return 0, errors.New("the remote's pack is malformed: a delta without a size")
			}
			size = max(size, target)
		}
		if size > maxObject {
			return 0, fmt.Errorf("%w: an object of %d bytes, and %d is the most", errTooLarge, size, maxObject)
		}
	}
	return count, nil
}

// prefix keeps the beginning of what is written to it: the two sizes that a delta begins with, each at most ten bytes.
type prefix struct {
	buf [20]byte
	n   int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.n += copy(p.buf[p.n:], b)
	return len(b), nil
}

// deltaTarget is the second of the delta's sizes (gitformat-pack, "Deltified representation").
func (p *prefix) deltaTarget() (int64, bool) {
	rest := p.buf[:p.n]
	var size uint64
	for range 2 {
		size = 0
		for shift := 0; ; shift += 7 {
			if len(rest) == 0 || shift > 56 {
				return 0, false
			}
			b := rest[0]
			rest = rest[1:]
			size |= uint64(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
	}
	return int64(size), true
}

func indexPack(f *os.File) (*idxfile.MemoryIndex, plumbing.Hash, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, plumbing.ZeroHash, err
	}
	w := new(idxfile.Writer)
	p, err := packfile.NewParser(packfile.NewScanner(f), w)
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	sum, err := p.Parse()
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	index, err := w.Index()
	return index, sum, err
}

// writeIndex gives the file its name when it is whole.
func writeIndex(path string, index *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp_idx_")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := idxfile.NewEncoder(f).Encode(index); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// packs counts the mirror's packs.
func (r *repository) packs() int {
	found, _ := filepath.Glob(filepath.Join(r.path, "objects", "pack", "*.pack"))
	return len(found)
}
