package rulesync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// Bounds of what is read.
const (
	maxFiles = 10_000
	maxBytes = 32 << 20
)

// Options configure a Dir.
type Options struct {
	Dirs []string // may be empty: then the set is empty
	// Load builds a set; OnChange makes one active.
	Load       Load
	OnChange   func(context.Context, *rule.Set) error
	Settle     time.Duration // quiet time after a change before files are read; default 200ms
	Poll       time.Duration // how often files are read without any notice; default 10s
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Dir follows directories.
type Dir struct {
	opts Options
	*state
	// Load's, which is called by one goroutine at a time:
	rest   rest   // from building files that are wrong
	loaded string // fingerprint of the files of the set that is active
}

// New makes a Dir; nothing is read yet.
func New(o Options) (*Dir, error) {
	switch {
	case o.Load == nil || o.OnChange == nil:
		return nil, errors.New("rulesync: options Load and OnChange are required")
	case o.Logger == nil || o.Registerer == nil:
		return nil, errors.New("rulesync: options Logger and Registerer are required")
	}
	if o.Settle == 0 {
		o.Settle = 200 * time.Millisecond
	}
	if o.Poll == 0 {
		o.Poll = 10 * time.Second
	}
	return &Dir{opts: o, state: newState(o.Logger, o.Registerer, false)}, nil
}

// Load reads the directories, builds the set and activates it. An error leaves everything as it was.
func (d *Dir) Load(ctx context.Context) error {
	files, err := Read(d.opts.Dirs)
	if err != nil {
		return d.fail("", err)
	}
	what, began := fingerprint(files), time.Now()
	if err := d.rest.of(what); err != nil {
		return d.fail(what, err)
	}
	status := d.Status()
	if what == d.loaded && status.Err == nil {
		return nil // to build the same set again each time would keep a quiet server busy
	}
	set, err := d.opts.Load(ctx, files, "")
	if err != nil {
		if ctx.Err() == nil {
			d.rest.failed(what, began, err)
		}
		return d.fail(what, err)
	}
	if set.Revision != status.Revision {
		if err := d.opts.OnChange(ctx, set); err != nil {
			return d.fail("", err)
		}
	}
	if set.Revision != status.Revision || status.Err != nil {
		d.succeed(set)
	}
	d.loaded = what
	return nil
}

// fingerprint tells two states of files apart.
func fingerprint(files []rule.File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d\n", f.Path, len(f.Data))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Run follows the directories until ctx ends.
func (d *Dir) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		d.opts.Logger.Warn("changes of the rules are noticed late", "poll", d.opts.Poll, "error", err)
		w = &fsnotify.Watcher{}
	} else {
		defer w.Close()
	}
	d.watch(w)
	poll := time.NewTicker(d.opts.Poll)
	defer poll.Stop()
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			settle.Reset(d.opts.Settle)
			continue
		case err := <-w.Errors:
			d.opts.Logger.Warn("a change of the rules may be noticed late", "error", err)
			continue
		case <-settle.C:
		case <-poll.C:
		}
		_ = d.Load(ctx) // fail has reported it
		d.watch(w)
	}
}

// watch watches every directory there is now; what is watched already stays so.
func (d *Dir) watch(w *fsnotify.Watcher) {
	for _, root := range d.opts.Dirs {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error { // what can't be watched is polled
			if err == nil && e.IsDir() {
				_ = w.Add(path)
			}
			return nil
		})
	}
}

// Read reads the YAML files below directories, hidden ones left out. Links are followed to files below the same directory, so
// that a ConfigMap's layout of links can be read: what counts is where the link is. A file is named by its directory as given and its path
// below it, which alone is its path in the repository.
func Read(dirs []string) ([]rule.File, error) {
	r := &reader{}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("read the rules: %s is no directory: name the one that it is in", dir)
		}
		if err := r.dir(dir, ""); err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
	}
	slices.SortFunc(r.files, func(a, b rule.File) int { return strings.Compare(a.Path, b.Path) })
	return r.files, nil
}

type reader struct {
	files []rule.File
	bytes int64
}

func (r *reader) dir(root, below string) error {
	entries, err := os.ReadDir(filepath.Join(root, below))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(below, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() {
			if err := r.dir(root, name); err != nil {
				return err
			}
			continue
		}
		if IsRuleFile(filepath.ToSlash(name)) {
			if err := r.file(root, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) file(root, below string) error {
	name := filepath.Join(root, below)
	if err := staysIn(root, name); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	if r.bytes += info.Size(); r.bytes > maxBytes || len(r.files) >= maxFiles {
		return fmt.Errorf("more than %d MiB or %d files", maxBytes>>20, maxFiles)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	r.files = append(r.files, rule.File{Path: filepath.ToSlash(name), Within: filepath.ToSlash(below), Data: data})
	return nil
}

// staysIn refuses a link to a file that is not below the root: whoever may write rules could have it read what they may not
// read themselves. The links of a ConfigMap's volume stay inside.
func staysIn(root, name string) error {
	info, err := os.Lstat(name)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		return err
	}
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(base, target); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s is a link to a file outside of %s: copy it, or name its directory as one of the rules", name, root)
	}
	return nil
}
