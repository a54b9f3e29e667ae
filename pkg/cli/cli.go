// Package cli is the riposte command: it turns arguments into options for pkg/app and requests through pkg/client, and
// prints what comes back. Human text goes to a terminal, JSON with -o json; errors say what to try next.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/client"
)

// Main runs the command line and returns the exit code. An empty version is the one that Go wrote into the program.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, version string) int {
	if version == "" {
		version = builtVersion(debug.ReadBuildInfo())
	}
	root := newRoot(version)
	root.SetArgs(goStyle(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return tell(stderr, err)
	}
	return exitOK
}

// builtVersion is the version of the module that was built: a tag, or one made of the commit; "dev" where Go knew none.
func builtVersion(info *debug.BuildInfo, ok bool) string {
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}

// goStyle lets the test command take -run as go test does, besides --run.
func goStyle(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range args {
		if i > 0 && args[0] == "test" && (arg == "-run" || strings.HasPrefix(arg, "-run=")) {
			out[i] = "-" + arg
		}
	}
	return out
}

func newRoot(version string) *cobra.Command {
	root := group(
		&cobra.Command{
			Use:           "riposte",
			Short:         "Event-driven automation with its rules in Git",
			Long:          "Riposte receives webhooks, decides with rules kept in Git, runs workflows, and records all of it.",
			Version:       version,
			SilenceUsage:  true,
			SilenceErrors: true,
		},
		newServe(version), newCheck(), newTest(), newExplain(), newSend(), newRun(), newEvents(), newRuns(), newRules(), newPause(), newResume(), newHealth(), newSources(), newBacktest(), newAudit(),
		newBackup(), newRestore(), newSchema(), newVersion(version),
	)
	root.SetVersionTemplate("riposte {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			group(cmd)
		}
	}
	return root
}

func newVersion(version string) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(cmd, r.output); err != nil {
				return err
			}
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return r.show(cmd.OutOrStdout(), v, func(w io.Writer) { fmt.Fprintln(w, "riposte", version) })
		},
	}
	r.bindOutput(cmd)
	return cmd
}

// remote holds the flags of the commands that talk to a server.
type remote struct {
	server, token, data, caFile, output string
}

func (r *remote) bind(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&r.server, "server", os.Getenv("RIPOSTE_SERVER"), "address of the server's admin listener (RIPOSTE_SERVER); default: the server that uses --data")
	f.StringVar(&r.token, "token", "", "bearer token (RIPOSTE_TOKEN)")
	f.StringVar(&r.data, "data", envOr("RIPOSTE_DATA", "data"), "data directory of a server on this machine (RIPOSTE_DATA)")
	f.StringVar(&r.caFile, "ca-file", os.Getenv("RIPOSTE_CA_FILE"), "PEM file of the authorities to trust a server with, instead of the system's (RIPOSTE_CA_FILE)")
	r.bindOutput(cmd)
}

func (r *remote) bindOutput(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&r.output, "output", "o", "text", "text or json")
	complete(cmd, "output", outputs()...)
}

// complete lets shells complete a flag's value.
func complete(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func (r *remote) client(cmd *cobra.Command) (*client.Client, error) {
	if err := checkOutput(cmd, r.output); err != nil {
		return nil, err
	}
	token := r.token
	if token == "" {
		token = os.Getenv("RIPOSTE_TOKEN")
	}
	server, err := r.endpoint()
	if err != nil {
		return nil, err
	}
	return client.New(server, token)
}

// endpoint is the admin listener that the flags name.
func (r *remote) endpoint() (client.Endpoint, error) {
	if r.server != "" {
		return client.Endpoint{URL: r.server, CAFile: r.caFile}, nil
	}
	l, err := client.ReadListen(r.data)
	server := l.AdminEndpoint()
	server.CAFile = r.caFile
	return server, err
}

// names lets shells complete a first argument from a list of the server's.
func (r *remote) names(path, field string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var page struct {
			Items []map[string]any `json:"items"`
		}
		c, err := r.client(cmd)
		if err != nil || len(args) > 0 || c.Get(cmd.Context(), path, nil, &page) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, item := range page.Items {
			names = append(names, fmt.Sprint(item[field]))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// show prints the value as JSON, or has text print it.
func (r *remote) show(w io.Writer, v any, text func(io.Writer)) error {
	if r.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text(w)
	return nil
}

// table prints rows under a header, columns aligned; a list without any is told in words.
func table(w io.Writer, header, none string, rows [][]string) {
	if len(rows) == 0 {
		fmt.Fprintln(w, none)
		return
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, oneLine(strings.Join(row, "\t")))
	}
	_ = t.Flush() // to memory
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// oneLine keeps an error of several lines in its row.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", " / ") }

// when prints a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// took prints how long something lasted, or has lasted.
func took(from, to *time.Time) string {
	switch {
	case from == nil:
		return "-"
	case to == nil:
		return time.Since(*from).Round(time.Second).String() + "…"
	}
	return to.Sub(*from).Round(time.Millisecond).String()
}
