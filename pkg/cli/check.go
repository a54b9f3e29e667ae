package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/lint"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/source"
)

func newCheck() *cobra.Command {
	var file, output string
	var dev, fatal bool
	cmd := &cobra.Command{
		Use: "check DIR...", Short: "Check rules without running them",
		Example: "  riposte check rules\n  riposte check --config /etc/riposte/riposte.yaml rules -o json\n  riposte check --lint-fatal rules -o github",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "DIR is missing")
			}
			return nil
		},
		Long: "Check reports everything that is wrong with the rules below the directories, with file, line and column, and warns of what is right but suspicious: a field that the sender does not have, a rule that can never match, one that starts itself. " +
			"It exits with 0 when all is well or there are warnings only, 1 when something is wrong, 2 when it could not be called like this, and 3 for warnings under --lint-fatal.\n\n" +
			"The annotation " + lint.Ignore + " of a document silences warnings by their id.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(checkOutputs(), output) {
				return usage(cmd, "--output %q is none of %s", output, strings.Join(checkOutputs(), ", "))
			}
			r, err := check(args, file, dev)
			if err != nil {
				return err
			}
			if err := r.print(cmd, output); err != nil {
				return err
			}
			return r.verdict(output, fatal)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the server's configuration: checks that the secrets that rules name are declared there, and that its grants allow what rules use")
	f.BoolVar(&dev, "dev", false, "allow {env: …}, as serve --dev does")
	f.BoolVar(&fatal, "lint-fatal", false, "exit with 3 when there are warnings")
	f.StringVarP(&output, "output", "o", "text", "text, json, sarif for code scanning, or github for annotations of a workflow")
	complete(cmd, "output", checkOutputs()...)
	return cmd
}

// checkOutputs are the forms in which check prints.
func checkOutputs() []string { return []string{"text", "json", "sarif", "github"} }

// checked is what check found.
type checked struct {
	set      *rule.Set // nil where there are problems
	problems document.Problems
	warnings []lint.Finding // looked for where there are no problems
}

// rulesBelow reads the files of rules below directories.
func rulesBelow(dirs []string) ([]rule.File, error) {
	files, err := rulesync.Read(dirs)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	if len(files) == 0 { // a mistyped directory must not look right in somebody's CI
		return nil, noRules(dirs)
	}
	return files, nil
}

func check(dirs []string, configFile string, dev bool) (*checked, error) {
	files, err := rulesBelow(dirs)
	if err != nil {
		return nil, err
	}
	c, err := configured(configFile)
	if err != nil {
		return nil, err
	}
	o := rule.Options{Dev: dev, Secret: func(source.SecretRef) ([]byte, error) { return nil, errors.New("check resolves no secrets") }}
	granted(&o, files, c)
	if configFile != "" {
		o.CheckSecret = func(ref source.SecretRef) error {
			if _, ok := c.Secrets[ref.Secret]; ref.Secret != "" && !ok {
				return fmt.Errorf("secret %s is not declared in the server's configuration", ref.Secret)
			}
			return nil
		}
	}
	r := app.Describe()
	o.Sources, o.Actions = r.Sources, r.Actions
	out := &checked{}
	if out.set, err = rule.Load(files, o); err != nil {
		if !errors.As(err, &out.problems) {
			return nil, err
		}
		return out, nil
	}
	out.warnings, err = lint.Run(out.set, lint.Options{Sources: r.Sources, Actions: r.Actions})
	return out, err
}

// print writes what was found. Of text, problems are the verdict's error.
func (r *checked) print(cmd *cobra.Command, output string) error {
	w := cmd.OutOrStdout()
	switch output {
	case "json":
		return writeJSON(w, map[string]any{"problems": problemViews(r.problems), "warnings": warningViews(r.warnings)})
	case "sarif":
		return writeJSON(w, r.sarif(cmd.Root().Version))
	case "github":
		return r.annotate(w)
	}
	if len(r.problems) > 0 {
		return nil
	}
	for _, f := range r.warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), f)
	}
	verdict := "fine"
	if n := len(r.warnings); n > 0 {
		verdict = count(n, "warning")
	}
	there := count(len(r.set.Rules), "rule") + ", " + count(len(r.set.Sources), "source") + ", " + count(len(r.set.Targets), "target")
	if len(r.set.Tests) > 0 {
		there += ", " + count(len(r.set.Tests), "test")
	}
	fmt.Fprintf(w, "%s: %s\n", there, verdict)
	return nil
}

// verdict is how the program ends.
func (r *checked) verdict(output string, fatal bool) error {
	switch {
	case len(r.problems) > 0 && output == "text":
		return &failure{code: exitFailed, err: fmt.Errorf("%w\n\n%s", r.problems, count(len(r.problems), "problem")), plain: true}
	case len(r.problems) > 0:
		return &failure{code: exitFailed}
	case len(r.warnings) > 0 && fatal:
		return &failure{code: exitWarnings}
	}
	return nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// problemView is a problem in the JSON that check prints; a warning has an id.
type problemView struct {
	ID      string `json:"id,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Snippet string `json:"snippet,omitempty"`
}

func problemViews(problems document.Problems) []problemView {
	views := make([]problemView, len(problems))
	for i, p := range problems {
		views[i] = problemView{"", p.File, p.Line, p.Column, p.Msg, p.Hint, p.Snippet}
	}
	return views
}

func warningViews(warnings []lint.Finding) []problemView {
	views := make([]problemView, len(warnings))
	for i, f := range warnings {
		views[i] = problemView{f.ID, f.File, f.Line, f.Column, f.Msg, f.Hint, f.Snippet}
	}
	return views
}

func newSchema() *cobra.Command {
	var dir, docs, rights string
	cmd := &cobra.Command{
		Use: "schema [NAME]", Short: "Print JSON Schemas of the documents, for editors", Args: arguments("[NAME]"), ValidArgsFunction: completeSchemas,
		Example: "  riposte schema\n  riposte schema rule > rule.schema.json",
		Long:    "Schema prints the JSON Schema with the name, or the names there are. --dir writes all of them as files, --docs the reference pages, and --rights what a Kubernetes cluster must allow each action.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r := app.Describe()
			schemas := allSchemas()
			if docs != "" {
				pages := rule.Reference(r.Sources, r.Actions)
				pages["check.md"], pages["configuration.md"] = lint.Reference(), config.Reference()
				return writePages(docs, pages)
			}
			if rights != "" {
				return writePages(filepath.Dir(rights), map[string]string{filepath.Base(rights): rule.Rights(r.Actions)})
			}
			if dir != "" {
				return writeSchemas(dir, schemas)
			}
			if len(args) == 0 {
				for _, name := range slices.Sorted(maps.Keys(schemas)) {
					fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				return nil
			}
			schema, ok := schemas[args[0]]
			if !ok {
				return &client.Error{Msg: fmt.Sprintf("there is no schema %q", args[0]), Hint: nearest(args[0], slices.Collect(maps.Keys(schemas)), "riposte schema lists them")}
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(schema)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write all schemas into this directory")
	cmd.Flags().StringVar(&docs, "docs", "", "write the reference pages into this directory")
	cmd.Flags().StringVar(&rights, "rights", "", "write the rights of RBAC that actions need into this file")
	return cmd
}

// allSchemas are those of the documents and of the server's configuration.
func allSchemas() map[string]map[string]any {
	r := app.Describe()
	schemas := rule.Schemas(r.Sources, r.Actions)
	schemas["configuration"] = config.Schema()
	return schemas
}

func completeSchemas(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return slices.Sorted(maps.Keys(allSchemas())), cobra.ShellCompDirectiveNoFileComp
}

func writePages(dir string, pages map[string]string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func writeSchemas(dir string, schemas map[string]map[string]any) error {
	pages := map[string]string{}
	for name, s := range schemas {
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		pages[name+".json"] = string(text) + "\n"
	}
	return writePages(dir, pages)
}
