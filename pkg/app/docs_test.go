package app_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/lint"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/ruletest"
)

func options() rule.Options {
	r := app.Describe()
	return rule.Options{Sources: r.Sources, Actions: r.Actions}
}

// TestDocumentedYAMLIsRight checks every YAML block of the pages there are: what is titled as values of a chart as these,
// documents as rules, all others as the server's configuration. Only what a block leaves out may be missing.
func TestDocumentedYAMLIsRight(t *testing.T) {
	pages := []string{"../../README.md"}
	for _, dir := range []string{"docs", "rules", "examples"} {
		err := filepath.WalkDir("../../"+dir, func(name string, _ fs.DirEntry, err error) error {
			if filepath.Ext(name) == ".md" {
				pages = append(pages, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	documents, configurations := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```ya?ml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(m[1], "# ") {
				checkTitled(t, page, m[1])
				continue
			}
			if strings.Contains(m[1], "apiVersion: riposte.dev/v1") {
				documents++
				checkDocuments(t, page, m[1])
				continue
			}
			configurations++
			checkConfiguration(t, page, m[1])
		}
	}
	if documents < 4 || configurations < 1 {
		t.Errorf("only %d blocks of documents and %d of configuration were found", documents, configurations)
	}
}

func checkDocuments(t *testing.T, page, block string) {
	t.Helper()
	set, err := rule.Load([]rule.File{{Path: filepath.Base(page), Data: []byte(block)}}, options())
	if err == nil {
		runTests(t, set)
	}
	fitsSchema(t, options(), page, []byte(block))
	var problems document.Problems
	if err != nil && !errors.As(err, &problems) {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !strings.Contains(p.Msg, "there is no Source") && !strings.Contains(p.Msg, "there is no Target") {
			t.Errorf("%s: %s\nin\n%s", page, p, block)
		}
	}
}

func checkConfiguration(t *testing.T, page, block string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "riposte.yaml")
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Sources{File: file}); err != nil {
		t.Errorf("%s: %v\nin\n%s", page, err, block)
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
	found, err := lint.Run(set, lint.Options{Sources: options().Sources, Actions: options().Actions})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// TestTheRepositorysOwnTestsPass runs the tests of rules/ and examples/, which must make each rule run.
func TestTheRepositorysOwnTestsPass(t *testing.T) {
	files, err := rulesync.Read([]string{"../../rules", "../../examples"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := rule.Load(files, options())
	if err != nil {
		t.Fatal(err)
	}
	report := runTests(t, set)
	var b strings.Builder
	report.Coverage.Print(&b)
	if report.Coverage.Ran != len(set.Rules) || report.Coverage.Seen != report.Coverage.Clauses {
		t.Errorf("a rule or clause has no test:\n%s", b.String())
	}
}

func runTests(t *testing.T, set *rule.Set) *ruletest.Report {
	t.Helper()
	report, err := ruletest.Run(t.Context(), ruletest.Options{Set: set, ReadFile: func(doc, file string) ([]byte, error) {
		return os.ReadFile(filepath.Join(filepath.Dir(doc), file))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed > 0 {
		var b strings.Builder
		report.Print(&b)
		t.Error(b.String())
	}
	return report
}

// TestReferencePagesAreUpToDate fails when make generate has to be run.
func TestReferencePagesAreUpToDate(t *testing.T) {
	r := app.Describe()
	pages := rule.Reference(r.Sources, r.Actions)
	pages["check.md"], pages["configuration.md"] = lint.Reference(), config.Reference()
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("../../docs/reference", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/reference/%s is not what the code says: run make generate (%v)", name, err)
		}
	}
}

// TestRightsAreGenerated: the chart grants what the actions say that they need.
func TestRightsAreGenerated(t *testing.T) {
	const file = "../../charts/riposte/files/rights.yaml"
	want := rule.Rights(app.Describe().Actions)
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says: run make generate (%v)", file, err)
	}
	var read map[string][]struct {
		APIGroups []string `json:"apiGroups"`
		Resources []string `json:"resources"`
		Verbs     []string `json:"verbs"`
		Cluster   bool     `json:"cluster"`
	}
	if err := yaml.UnmarshalStrict([]byte(want), &read); err != nil {
		t.Fatal(err)
	}
	for name, d := range app.Describe().Actions {
		if len(d.Rights) != len(read[name]) {
			t.Errorf("%s has %d rights in the file, and %d in the code", name, len(read[name]), len(d.Rights))
		}
		for i, r := range read[name] {
			want := d.Rights[i]
			if !slices.Equal(r.APIGroups, []string{want.APIGroup}) || !slices.Equal(r.Resources, want.Resources) || !slices.Equal(r.Verbs, want.Verbs) || r.Cluster != want.Cluster {
				t.Errorf("%s has the right %+v in the file, and %+v in the code", name, r, want)
			}
		}
	}
}
