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

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/source"
)

func newCheck() *cobra.Command {
	var file, output string
	var dev bool
	cmd := &cobra.Command{
		Use: "check DIR...", Short: "Check rules without running them",
		Example: "  riposte check rules\n  riposte check --config /etc/riposte/riposte.yaml rules -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "DIR is missing")
			}
			return nil
		},
		Long: "Check reports everything that is wrong with the rules below the directories, with file, line and column. It exits with 0 when all is well, 1 when something is wrong, and 2 when it could not be called like this.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			set, err := check(args, file, dev)
			return report(cmd.OutOrStdout(), output, set, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the server's configuration: checks that the secrets that rules name are declared there")
	f.BoolVar(&dev, "dev", false, "allow {env: …}, as serve --dev does")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	complete(cmd, "output", outputs()...)
	return cmd
}

func check(dirs []string, configFile string, dev bool) (*rule.Set, error) {
	files, err := rulesync.Read(dirs)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	if len(files) == 0 { // a mistyped directory must not look right in somebody's CI
		return nil, noRules(dirs)
	}
	c := config.Default()
	o := rule.Options{Dev: dev, Secret: func(source.SecretRef) ([]byte, error) { return nil, errors.New("check resolves no secrets") }}
	if configFile != "" {
		if c, err = config.Load(config.Sources{File: configFile}); err != nil {
			return nil, configError(err)
		}
		o.CheckSecret = func(ref source.SecretRef) error {
			if _, ok := c.Secrets[ref.Secret]; ref.Secret != "" && !ok {
				return fmt.Errorf("secret %s is not declared in the server's configuration", ref.Secret)
			}
			return nil
		}
	}
	r := app.Describe()
	o.Sources, o.Actions = r.Sources, r.Actions
	return rule.Load(files, o)
}

// report prints what check found.
func report(w io.Writer, output string, set *rule.Set, err error) error {
	var problems document.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"problems": problemViews(problems)}); err != nil {
			return err
		}
	}
	switch {
	case len(problems) > 0 && output == "json":
		return &failure{code: exitFailed}
	case len(problems) > 0:
		return &failure{code: exitFailed, err: fmt.Errorf("%w\n\n%s", problems, count(len(problems), "problem")), plain: true}
	case output == "text":
		there := count(len(set.Rules), "rule") + ", " + count(len(set.Sources), "source") + ", " + count(len(set.Targets), "target")
		if len(set.Tests) > 0 {
			there += ", " + count(len(set.Tests), "test")
		}
		fmt.Fprintln(w, there+": fine")
	}
	return nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// problemView is a problem in the JSON that check prints.
type problemView struct {
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
		views[i] = problemView{p.File, p.Line, p.Column, p.Msg, p.Hint, p.Snippet}
	}
	return views
}

func newSchema() *cobra.Command {
	var dir, docs string
	cmd := &cobra.Command{
		Use: "schema [NAME]", Short: "Print JSON Schemas of the documents, for editors", Args: arguments("[NAME]"), ValidArgsFunction: completeSchemas,
		Example: "  riposte schema\n  riposte schema rule > rule.schema.json",
		Long:    "Schema prints the JSON Schema with the name, or the names there are. --dir writes all of them as files, --docs the reference pages.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r := app.Describe()
			schemas := rule.Schemas(r.Sources, r.Actions)
			if docs != "" {
				return writePages(docs, rule.Reference(r.Sources, r.Actions))
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
	return cmd
}

func completeSchemas(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	r := app.Describe()
	return slices.Sorted(maps.Keys(rule.Schemas(r.Sources, r.Actions))), cobra.ShellCompDirectiveNoFileComp
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
