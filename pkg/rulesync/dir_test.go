package rulesync_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
)

// Files that take long to be found wrong are left alone for a while; any change of them is looked at.
func TestSlowFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		builds := 0
		d, err := rulesync.New(rulesync.Options{
			Dirs: []string{dir},
			Load: func(_ context.Context, files []rule.File, _ string) (*rule.Set, error) {
				builds++
				if text := string(files[0].Data); text != "good" {
					time.Sleep(10 * time.Second)
					return nil, errors.New(text)
				}
				return &rule.Set{Revision: "good"}, nil
			},
			OnChange: func(context.Context, *rule.Set) error { return nil },
			Logger:   slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		write("bad")
		for range 10 {
			if err := d.Load(t.Context()); err == nil || err.Error() != "bad" || d.Status().Err == nil {
				t.Fatalf("%v, %+v", err, d.Status())
			}
			time.Sleep(10 * time.Second)
		}
		if builds != 1 {
			t.Errorf("%d builds of the same files", builds)
		}
		write("worse")
		if err := d.Load(t.Context()); err == nil || err.Error() != "worse" || builds != 2 {
			t.Errorf("other files: %v after %d builds", err, builds)
		}
		time.Sleep(time.Hour)
		if err := d.Load(t.Context()); err == nil || builds != 3 {
			t.Errorf("after an hour: %v after %d builds", err, builds)
		}
		write("good")
		if err := d.Load(t.Context()); err != nil || d.Status().Revision != "good" || d.Status().Err != nil {
			t.Errorf("repaired: %v, %+v", err, d.Status())
		}
	})
}

func TestLinksMayNotLeaveTheDirectory(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret.yaml")
	for name, text := range map[string]string{secret: "token", filepath.Join(dir, "..2026", "rules.yaml"): "inside"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..2026", "..data") // as the kubelet lays a ConfigMap out
	link("..data/rules.yaml", "rules.yaml")
	files, err := rulesync.Read([]string{dir})
	if err != nil || len(files) != 1 || string(files[0].Data) != "inside" {
		t.Errorf("links inside: %v, %v", files, err)
	}
	link(secret, "link.yaml")
	if _, err := rulesync.Read([]string{dir}); err == nil || !strings.Contains(err.Error(), "link.yaml is a link to a file outside") {
		t.Errorf("a link out of the directory: %v", err)
	}
}
