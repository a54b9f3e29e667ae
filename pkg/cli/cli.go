// Package cli is the riposte command: it turns arguments into options for pkg/app and requests through pkg/client, and
// prints what comes back. Human text goes to a terminal, JSON with -o json; errors say what to try next.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/client"
)

// Exit codes, the same for all commands.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitWarnings = 3 // check --lint-fatal
)

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, version string) int {
	root := newRoot(version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(stderr, exit.err)
		}
		return exit.code
	}
	fmt.Fprintln(stderr, "riposte:", err)
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// exitError ends the program with a code; its text, if any, is printed as it is.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// isUsage recognises cobra's own complaints, which have no type.
func isUsage(err error) bool {
	for _, p := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires ", "required flag", "invalid argument", "flag needs"} {
		if strings.HasPrefix(err.Error(), p) {
			return true
		}
	}
	return false
}

func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:           "riposte",
		Short:         "Event-driven automation with its rules in Git",
		Long:          "Riposte receives webhooks, decides with rules kept in Git, runs workflows, and records all of it.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("riposte {{.Version}}\n")
	root.AddCommand(
		newServe(version), newCheck(), newSend(), newEvents(), newRuns(), newRules(), newSources(),
		newBackup(), newRestore(), newSchema(), newVersion(version),
	)
	return root
}

func newVersion(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "riposte", version) },
	}
}

// remote holds the flags of the commands that talk to a server.
type remote struct {
	server, token, data, output string
}

func (r *remote) bind(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&r.server, "server", os.Getenv("RIPOSTE_SERVER"), "address of the server's admin listener (RIPOSTE_SERVER); default: the server that uses --data")
	f.StringVar(&r.token, "token", "", "bearer token (RIPOSTE_TOKEN)")
	f.StringVar(&r.data, "data", envOr("RIPOSTE_DATA", "data"), "data directory of a server on this machine (RIPOSTE_DATA)")
	f.StringVarP(&r.output, "output", "o", "text", "text or json")
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func (r *remote) client() (*client.Client, error) {
	if r.output != "text" && r.output != "json" {
		return nil, exitError{exitUsage, fmt.Errorf("riposte: --output %q is neither text nor json", r.output)}
	}
	token := r.token
	if token == "" {
		token = os.Getenv("RIPOSTE_TOKEN")
	}
	if r.server != "" {
		return client.New(r.server, token)
	}
	l, err := client.ReadListen(r.data)
	if err != nil {
		return nil, err
	}
	return client.New("http://"+l.Admin, token)
}

// show prints the value as JSON, or has text print it.
func (r *remote) show(w io.Writer, v any, text func(io.Writer)) error {
	if r.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text(w)
	return nil
}

// table prints rows under a header, columns aligned.
func table(w io.Writer, header string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // the terminal went away: nobody to tell
}

// when prints a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// took prints how long something lasted, or has lasted.
func took(from, to time.Time) string {
	switch {
	case from.IsZero():
		return "-"
	case to.IsZero():
		return time.Since(from).Round(time.Second).String() + "…"
	}
	return to.Sub(from).Round(time.Millisecond).String()
}
