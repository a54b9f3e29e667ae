package ruletest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/exec"
	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/action/http"
	"github.com/riposte-dev/riposte/pkg/action/notify"
	"github.com/riposte-dev/riposte/pkg/action/prometheus"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/ruletest"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/generic"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
)

// options has real presets and actions, as many as the tests need, and some that change a workload.
func options() rule.Options {
	return rule.Options{
		Sources: source.NewRegistry(alertmanager.Type(), generic.Type(), github.Type(), gitlab.Type()),
		Actions: action.NewRegistry(
			exec.Definitions(exec.Options{}), http.Definitions(http.Options{}), git.Definitions(git.Options{}), prometheus.Definitions(prometheus.Options{}),
			notify.New(notify.Options{}).Definitions(), bounded(),
		),
	}
}

// bounded are actions with a target, as those have that change a workload.
func bounded() []action.Definition {
	type on struct {
		Name string `yaml:"name" required:"true"`
	}
	return []action.Definition{
		{Name: "fake.restart", Params: &on{}, Changes: true, Replaces: []string{"pod"}, Target: func(c *action.Call) string { return c.Params.(*on).Name }},
		{Name: "fake.look", Params: &on{}, Outputs: struct {
			Ready bool `yaml:"ready"`
		}{}},
		{Name: "fake.pause", Params: &on{}},
	}
}

// TestDocuments runs each archive of testdata: rules, tests, the files that they name, and last what is to be printed.
// UPDATE_TESTDATA=1 writes what is printed now.
func TestDocuments(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d archives, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			last := &archive.Files[len(archive.Files)-1]
			got := printed(t, archive)
			if last.Name != "want" {
				t.Fatal("the last file is not want")
			}
			if os.Getenv("UPDATE_TESTDATA") != "" && got != string(last.Data) {
				last.Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(last.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, last.Data)
			}
			if again := printed(t, archive); again != got {
				t.Errorf("a second run prints\n%s", again)
			}
		})
	}
}

func printed(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	var files []rule.File
	for _, f := range archive.Files {
		if filepath.Ext(f.Name) == ".yaml" {
			files = append(files, rule.File{Path: f.Name, Data: f.Data})
		}
	}
	set, err := rule.Load(files, options())
	if err != nil {
		return err.Error() + "\n"
	}
	report, err := ruletest.Run(t.Context(), ruletest.Options{Set: set, ReadFile: func(_, file string) ([]byte, error) {
		for _, f := range archive.Files {
			if f.Name == file {
				return f.Data, nil
			}
		}
		return nil, fmt.Errorf("open %s: %w", file, os.ErrNotExist)
	}})
	if err != nil {
		return err.Error() + "\n"
	}
	var b bytes.Buffer
	report.Print(&b)
	if strings.Contains(string(archive.Comment), "coverage") {
		b.WriteString("\n")
		report.Coverage.Print(&b)
	}
	return b.String()
}
