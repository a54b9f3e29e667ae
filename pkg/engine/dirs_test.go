package engine

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestRunsGetCleanDirectories(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leave  func(t *testing.T, dir string)
		reused bool
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"a file", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "left")) }, false},
		{"another mode", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, false},
		{"a link in its place", func(t *testing.T, dir string) {
			elsewhere := t.TempDir()
			write(t, filepath.Join(elsewhere, "kept"))
			must(t, os.Remove(dir))
			must(t, os.Symlink(elsewhere, dir))
			t.Cleanup(func() {
				if _, err := os.Stat(filepath.Join(elsewhere, "kept")); err != nil {
					t.Errorf("what the link pointed to was removed: %v", err)
				}
			})
		}, false},
		{"no directory", func(t *testing.T, dir string) { must(t, os.Remove(dir)) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &dirs{root: filepath.Join(t.TempDir(), "runs")}
			must(t, d.ensure("a"))
			tt.leave(t, d.path("a"))
			must(t, d.remove("a"))
			if _, err := os.Lstat(d.path("a")); err == nil {
				t.Error("the run's directory is still there")
			}
			if reused := len(d.spare) == 1; reused != tt.reused {
				t.Errorf("kept for the next run: %t, want %t", reused, tt.reused)
			}
			must(t, d.ensure("b"))
			if left, err := os.ReadDir(d.path("b")); err != nil || len(left) != 0 {
				t.Errorf("the next run finds %v, %v", left, err)
			}
			if info, err := os.Lstat(d.path("b")); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the next run's directory is %v, %v", info, err)
			}
		})
	}
}

func TestARunKeepsItsDirectory(t *testing.T) {
	d := &dirs{root: t.TempDir()}
	must(t, d.ensure("a"))
	must(t, d.remove("a"))
	must(t, d.ensure("b"))
	write(t, filepath.Join(d.path("b"), "work"))
	must(t, d.ensure("b"))
	if _, err := os.Stat(filepath.Join(d.path("b"), "work")); err != nil {
		t.Error(err)
	}
}

func TestDirectoriesOfManyRunsAtOnce(t *testing.T) {
	d := &dirs{root: t.TempDir()}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				id := string(rune('a'+i)) + string(rune('a'+j))
				if err := d.ensure(id); err != nil {
					t.Error(err)
				}
				if err := os.Mkdir(filepath.Join(d.path(id), "mine"), 0o700); err != nil {
					t.Errorf("another run's work is in the way: %v", err)
				}
				must(t, os.Remove(filepath.Join(d.path(id), "mine")))
				if err := d.remove(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestWhatAnEarlierProcessKeptIsRemoved(t *testing.T) {
	root := t.TempDir()
	first := &dirs{root: root}
	must(t, first.ensure("a"))
	must(t, first.remove("a"))
	write(t, filepath.Join(first.spare[0], "late"))
	must(t, (&dirs{root: root}).ensure("b"))
	if left, _ := filepath.Glob(filepath.Join(root, sparePrefix+"*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func write(t *testing.T, name string) {
	t.Helper()
	must(t, os.WriteFile(name, nil, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
