package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/document"
)

// Exit codes, the same for all commands.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitWarnings = 3 // check --lint-fatal
)

// failure is an error that ends the program in another way than others do.
type failure struct {
	code  int
	err   error  // nil where all is said
	hint  string // what to try next
	plain bool   // the error's lines begin with their own place
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// usage says that a command can't be called like this.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &failure{code: exitUsage, err: of(cmd, fmt.Errorf(format, args...)), hint: "usage: " + cmd.UseLine()}
}

// of says which command an error is about.
func of(cmd *cobra.Command, err error) error {
	if !cmd.HasParent() {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), err)
}

// tell prints an error for people, and returns the exit code that it stands for.
func tell(w io.Writer, err error) int {
	f := &failure{code: exitFailed, err: err}
	errors.As(err, &f)
	if f.err == nil {
		return f.code
	}
	if f.plain {
		fmt.Fprintln(w, f.err)
	} else {
		fmt.Fprintln(w, "riposte:", f.err)
	}
	var told *client.Error
	if f.hint == "" && errors.As(f.err, &told) {
		f.hint = told.Hint
	}
	if f.hint != "" {
		fmt.Fprintln(w, "hint:", f.hint)
	}
	return f.code
}

// flagError makes a usage error of what cobra says of flags. Of a group it is the command before them that is wrong.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0))
	}
	f := &failure{code: exitUsage, err: of(cmd, err), hint: cmd.CommandPath() + " --help lists the flags"}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if best := document.Nearest(unknown.GetSpecifiedName(), names); best != "" {
			f.hint = "did you mean --" + best + "?"
		}
	}
	return f
}

func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := cmd.CommandPath() + " has " + strings.Join(names, ", ")
	if best := document.Nearest(name, names); best != "" {
		hint = "did you mean " + cmd.CommandPath() + " " + best + "?"
	}
	return &failure{code: exitUsage, err: of(cmd, fmt.Errorf("there is no command %q", name)), hint: hint}
}

// group makes a command that only holds others: alone it explains itself.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args, cmd.DisableFlagsInUseLine = cobra.ArbitraryArgs, true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
	cmd.AddCommand(subs...)
	return cmd
}

// arguments demands exactly the named ones; [NAME] can be left out.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names) && !strings.HasPrefix(names[len(args)], "["):
			return usage(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usage(cmd, "%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// outputs are the forms in which commands print.
func outputs() []string { return []string{"text", "json"} }

func checkOutput(cmd *cobra.Command, output string) error {
	if !slices.Contains(outputs(), output) {
		return usage(cmd, "--output %q is neither text nor json", output)
	}
	return nil
}
