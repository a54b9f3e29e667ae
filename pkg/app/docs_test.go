package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
)

func options() rule.Options {
	r := app.Describe()
	return rule.Options{Sources: r.Sources, Actions: r.Actions}
}

// TestDocumentedYAMLIsRight checks every YAML block of the README and docs; only what a block leaves out may be missing.
func TestDocumentedYAMLIsRight(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "apiVersion: riposte.dev/v1") {
				continue
			}
			blocks++
			_, err := rule.Load([]rule.File{{Path: filepath.Base(page), Data: []byte(m[1])}}, options())
			var problems document.Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatal(err)
			}
			for _, p := range problems {
				if !strings.Contains(p.Msg, "there is no Source") && !strings.Contains(p.Msg, "there is no Target") {
					t.Errorf("%s: %s\nin\n%s", page, p, m[1])
				}
			}
		}
	}
	if blocks < 3 {
		t.Errorf("only %d blocks were found", blocks)
	}
}

func TestTheRepositorysOwnRulesAreRight(t *testing.T) {
	files, err := rulesync.Read([]string{"../../rules", "../../examples"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := rule.Load(files, options())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Rules) < 2 {
		t.Errorf("%d rules", len(set.Rules))
	}
}

// TestReferencePagesAreUpToDate fails when make generate has to be run.
func TestReferencePagesAreUpToDate(t *testing.T) {
	r := app.Describe()
	for name, want := range rule.Reference(r.Sources, r.Actions) {
		got, err := os.ReadFile(filepath.Join("../../docs/reference", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/reference/%s is not what the code says: run make generate (%v)", name, err)
		}
	}
}
