package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// dirs gives each run a directory of its own. Making and removing one costs ten times as much as renaming one where many
// do it at once (ext4), so the empty ones of runs that ended are kept for the next. Safe for concurrent use.
type dirs struct {
	root string

	mu     sync.Mutex
	opened bool
	spare  []string
	made   int
}

const (
	maxSpare    = 256
	sparePrefix = ".spare-" // no run's id begins so
)

func (d *dirs) path(id string) string { return filepath.Join(d.root, id) }

// ensure makes the run's directory unless it is there.
func (d *dirs) ensure(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return err
	}
	if _, err := os.Lstat(d.path(id)); err == nil {
		return nil
	}
	if n := len(d.spare); n > 0 {
		spare := d.spare[n-1]
		d.spare = d.spare[:n-1]
		if os.Rename(spare, d.path(id)) == nil {
			return nil
		}
	}
	return os.Mkdir(d.path(id), 0o700)
}

// open makes the root, and removes what an earlier process kept.
func (d *dirs) open() error {
	if d.opened {
		return nil
	}
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(d.root, sparePrefix+"*"))
	if err != nil {
		return fmt.Errorf("data directory %s can't be searched: %w", d.root, err)
	}
	for _, name := range left {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	d.opened = true
	return nil
}

// remove removes the run's directory with all that is in it.
func (d *dirs) remove(id string) error {
	name := d.path(id)
	if !reusable(name) {
		return os.RemoveAll(name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.spare) >= maxSpare {
		return os.RemoveAll(name)
	}
	d.made++
	spare := filepath.Join(d.root, fmt.Sprint(sparePrefix, d.made))
	if err := os.Rename(name, spare); err != nil {
		return os.RemoveAll(name)
	}
	d.spare = append(d.spare, spare)
	return nil
}

// reusable reports whether a directory is as it was made: whatever a run did to it must not reach the next one.
func reusable(name string) bool {
	info, err := os.Lstat(name)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
