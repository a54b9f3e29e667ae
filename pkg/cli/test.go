package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/ruletest"
	"github.com/riposte-dev/riposte/pkg/source"
)

type testFlags struct {
	run, junit, config string
	coverage           bool
	remote
}

func newTest() *cobra.Command {
	var t testFlags
	cmd := &cobra.Command{
		Use: "test [DIR...]", Short: "Run the tests of rules",
		Example: "  riposte test rules\n  riposte test rules -run 'rollback/.*minutes' --coverage\n  riposte test rules --junit report.xml",
		Long:    "Test plays the timelines of the RuleTest documents below the directories (here, where none is given) to the rules there, on a clock of its own and with the outcomes of actions that the tests give: nothing real runs. It exits with 0 when all passed, 1 when a case failed, and 2 when the documents are wrong or it could not be called like this.",
		RunE: func(cmd *cobra.Command, dirs []string) error {
			if err := checkOutput(cmd, t.output); err != nil {
				return err
			}
			if len(dirs) == 0 {
				dirs = []string{"."}
			}
			return t.test(cmd, dirs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.run, "run", "", "only cases whose TEST/CASE matches the regular expression; -run works too")
	f.StringVar(&t.junit, "junit", "", "write a report in JUnit's XML to this file")
	f.BoolVar(&t.coverage, "coverage", false, "print which rules ran, and what their clauses said")
	bindGrants(cmd, &t.config)
	t.bindOutput(cmd)
	return cmd
}

func (t *testFlags) test(cmd *cobra.Command, dirs []string) error {
	var only *regexp.Regexp
	if t.run != "" {
		var err error
		if only, err = regexp.Compile(t.run); err != nil {
			return usage(cmd, "--run: %v", err)
		}
	}
	set, err := loadTests(dirs, t.config)
	if err != nil {
		return err
	}
	o := ruletest.Options{Set: set, ReadFile: beside, Only: only}
	if t.config != "" {
		if o.Quiet, err = quietTimes(t.config); err != nil {
			return err
		}
	}
	report, err := ruletest.Run(cmd.Context(), o)
	if err != nil {
		return broken(err)
	}
	if report.Passed+report.Failed == 0 {
		return &failure{code: exitUsage, err: fmt.Errorf("no case matches --run %s", t.run)}
	}
	if t.junit != "" {
		if _, err := writeWhole(t.junit, report.JUnit); err != nil {
			return err
		}
	}
	if err := t.show(cmd.OutOrStdout(), report, func(w io.Writer) { t.print(w, report) }); err != nil {
		return err
	}
	if report.Failed > 0 {
		return &failure{code: exitFailed}
	}
	return nil
}

// quietTimes reads those of a configuration file.
func quietTimes(file string) (func(map[string]string, time.Time) (string, time.Time, bool), error) {
	c, err := config.Load(config.Sources{File: file})
	if err != nil {
		return nil, &failure{code: exitUsage, err: configError(err)}
	}
	times, err := c.Quiet()
	return times.At, err
}

func (t *testFlags) print(w io.Writer, report *ruletest.Report) {
	report.Print(w)
	if t.coverage {
		fmt.Fprintln(w)
		report.Coverage.Print(w)
	}
}

// loadTests builds the set below the directories, which must have tests: a mistyped directory must not look right in
// somebody's CI.
func loadTests(dirs []string, config string) (*rule.Set, error) {
	set, err := loadRules(dirs, config, false)
	if err != nil {
		return nil, err
	}
	if len(set.Tests) == 0 {
		return nil, &failure{code: exitUsage, err: fmt.Errorf("there are no RuleTest documents below %s", strings.Join(dirs, ", ")), hint: "docs/testing.md shows how they are written"}
	}
	return set, nil
}

// loadRules builds the set of directories for a command that runs nothing: secrets are not looked at, and grants are those of
// the configuration file, if any. A set that was active loads even if it is not granted any more what it uses.
func loadRules(dirs []string, config string, wasActive bool) (*rule.Set, error) {
	files, err := rulesync.Read(dirs)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	if len(files) == 0 {
		return nil, noRules(dirs)
	}
	return loadFiles(files, config, wasActive)
}

func noRules(dirs []string) error {
	return &failure{code: exitUsage, err: fmt.Errorf("there are no rules below %s", strings.Join(dirs, ", ")), hint: "they stand in files that end with .yaml or .yml"}
}

func loadFiles(files []rule.File, config string, wasActive bool) (*rule.Set, error) {
	c, err := configured(config)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	r := app.Describe()
	o := rule.Options{
		Sources: r.Sources, Actions: r.Actions, Dev: true, WasActive: wasActive,
		Secret: func(source.SecretRef) ([]byte, error) { return nil, errors.New("no secrets are resolved here") },
	}
	granted(&o, files, c)
	set, err := rule.Load(files, o)
	if err != nil {
		return nil, broken(err)
	}
	return set, nil
}

// broken says that documents are wrong, so that nothing could be run.
func broken(err error) error {
	var problems document.Problems
	if errors.As(err, &problems) {
		return &failure{code: exitUsage, err: fmt.Errorf("%w\n\n%s", problems, count(len(problems), "problem")), plain: true}
	}
	return err
}

// beside reads a file by its path from a document.
func beside(doc, file string) ([]byte, error) {
	return os.ReadFile(filepath.Join(filepath.Dir(doc), filepath.FromSlash(file)))
}
