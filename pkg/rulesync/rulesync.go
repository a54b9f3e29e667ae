// Package rulesync reads rules from directories and follows their changes. A state of the files takes effect whole or not
// at all: the set is built first, then activated, and while that fails the last good one stays and the failure shows in
// Status, the log and the metrics. A Dir is safe for concurrent use; Run is called once.
package rulesync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	Load       func([]rule.File) (*rule.Set, error)
	OnChange   func(context.Context, *rule.Set) error
	Settle     time.Duration // quiet time after a change before files are read; default 200ms
	Poll       time.Duration // how often files are read without any notice; default 10s
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Status is what is active and what keeps a newer state from being so.
type Status struct {
	Revision    string
	LastSuccess time.Time
	Err         error // of the newest state of the files; nil when that is active
}

// Dir follows directories.
type Dir struct {
	opts    Options
	success prometheus.Gauge
	stamp   prometheus.Gauge
	info    *prometheus.GaugeVec

	mu     sync.Mutex
	status Status
	failed string // revision of the state that failed, so that it is reported once
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
	d := &Dir{
		opts:    o,
		success: prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_rules_reload_success", Help: "Whether the newest state of the rules is active."}),
		stamp:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_rules_reload_success_timestamp_seconds", Help: "When rules were last activated."}),
		info:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "riposte_rules_info", Help: "The active revision of the rules."}, []string{"revision"}),
	}
	o.Registerer.MustRegister(d.success, d.stamp, d.info)
	return d, nil
}

// Status returns the state of the rules.
func (d *Dir) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// Load reads the directories, builds the set and activates it. An error leaves everything as it was.
func (d *Dir) Load(ctx context.Context) error {
	files, err := Read(d.opts.Dirs)
	if err != nil {
		return d.fail("", err)
	}
	set, err := d.opts.Load(files)
	if err != nil {
		return d.fail(fingerprint(files), err)
	}
	d.mu.Lock()
	same := set.Revision == d.status.Revision && d.status.Err == nil
	d.mu.Unlock()
	if same {
		return nil
	}
	if set.Revision != d.Status().Revision {
		if err := d.opts.OnChange(ctx, set); err != nil {
			return d.fail("", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status, d.failed = Status{Revision: set.Revision, LastSuccess: time.Now()}, ""
	d.success.Set(1)
	d.stamp.SetToCurrentTime()
	d.info.Reset()
	d.info.WithLabelValues(set.Revision).Set(1)
	d.opts.Logger.Info("rules are active", "revision", set.Revision, "rules", len(set.Rules), "sources", len(set.Sources))
	return nil
}

func (d *Dir) fail(state string, err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	repeated := state != "" && state == d.failed
	d.status.Err, d.failed = err, state
	d.success.Set(0)
	if !repeated && d.status.Revision != "" {
		d.opts.Logger.Error("the rules were not changed: their new state can't be used", "active", d.status.Revision, "error", err)
	}
	return err
}

// fingerprint tells two states of broken files apart.
func fingerprint(files []rule.File) string {
	var b strings.Builder
	for _, f := range files {
		b.WriteString(f.Path + "\x00" + string(f.Data) + "\x00")
	}
	return b.String()
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

// Read reads the YAML files below directories, hidden ones left out. Links are followed to files, so that a ConfigMap's
// layout of links can be read. A file is named by its directory as given and its path below it.
func Read(dirs []string) ([]rule.File, error) {
	r := &reader{}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("read the rules: %s is no directory", dir)
		}
		if err := r.dir(dir); err != nil {
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

func (r *reader) dir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() {
			if err := r.dir(name); err != nil {
				return err
			}
			continue
		}
		if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
			if err := r.file(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) file(name string) error {
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
	r.files = append(r.files, rule.File{Path: filepath.ToSlash(filepath.Clean(name)), Data: data})
	return nil
}
