package ruletest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/ruletest"
)

// FuzzDocument demands of any document that it is refused or can be played to its end.
func FuzzDocument(f *testing.F) {
	var rules []rule.File
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			switch {
			case file.Name == "test.yaml":
				f.Add(file.Data)
			case file.Name == "rules.yaml" && filepath.Base(name) == "clock.txtar":
				rules = []rule.File{{Path: file.Name, Data: file.Data}}
			}
		}
	}
	o := options()
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := rule.Load(append(rules[:1:1], rule.File{Path: "test.yaml", Data: document}), o)
		if err != nil {
			return
		}
		read := func(string, string) ([]byte, error) { return nil, os.ErrNotExist }
		report, err := ruletest.Run(t.Context(), ruletest.Options{Set: set, ReadFile: read})
		if err == nil && report.Passed+report.Failed == 0 && len(set.Tests) > 0 {
			t.Error(errors.New("nothing was played"))
		}
	})
}
