package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
)

func newServe(version string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "serve", Short: "Receive, decide, run", Args: cobra.NoArgs,
		Long: "Serve receives webhooks and runs what the rules say. Each flag is also a variable RIPOSTE_… and, but for --dev, a key of the configuration file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd, file)
			if err != nil {
				return exitError{exitFailed, err}
			}
			return serve(cmd, c, version)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (RIPOSTE_CONFIG)")
	bindConfig(cmd.Flags())
	return cmd
}

// bindConfig makes a flag of each setting. The values that flags parse are thrown away: what was given is handed to
// config.Load, which knows the order of precedence.
func bindConfig(flags *pflag.FlagSet) {
	for _, f := range config.Default().Fields() {
		flag := flags.VarPF(f.Value, f.Flag, "", f.Doc)
		if f.Value.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

func loadConfig(cmd *cobra.Command, file string) (*config.Config, error) {
	given := map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	return config.Load(config.Sources{File: file, Env: os.LookupEnv, Flags: given})
}

func serve(cmd *cobra.Command, c *config.Config, version string) error {
	server, err := app.New(cmd.Context(), app.Options{
		Config: c, Version: version, LogOutput: cmd.ErrOrStderr(),
		Started: func(l client.Listen) {
			if c.Dev {
				welcome(cmd.OutOrStdout(), c, l)
			}
		},
	})
	if err != nil {
		return err
	}
	return server.Run(cmd.Context())
}

// welcome says what a newcomer can try.
func welcome(w io.Writer, c *config.Config, l client.Listen) {
	self, data := os.Args[0], ""
	if filepath.Clean(c.Data) != "data" {
		data = " --data " + c.Data
	}
	fmt.Fprintf(w, `
Riposte is ready.
  webhooks  http://%s/hooks/SOURCE   (secret in %s)
  admin     http://%s
  health    http://%s

Try it from another terminal:
  %s send github --event push -f examples/hello/push.json%s
  %s runs list%s

`, l.Hooks, filepath.Join(c.Data, app.DevSecretFile), l.Admin, l.Health, self, data, self, data)
}

// logger makes the logger that a configuration asks for.
func logger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // config has validated it
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}

func newBackup() *cobra.Command {
	var r remote
	var file string
	cmd := &cobra.Command{
		Use: "backup -f FILE", Short: "Copy the embedded store of a running server", Args: cobra.NoArgs,
		Long: "Backup asks the running server for a consistent copy: all that was accepted before the command began is in it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			if file == "-" {
				return c.Backup(cmd.Context(), cmd.OutOrStdout())
			}
			if err := writeWhole(file, func(w io.Writer) error { return c.Backup(cmd.Context(), w) }); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "backup written to", file)
			return nil
		},
	}
	r.bind(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "where to write it; - for standard output")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that does not exist
	return cmd
}

// writeWhole writes a file that appears under its name only once it is complete and on the disk.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func newRestore() *cobra.Command {
	var file, data string
	cmd := &cobra.Command{
		Use: "restore -f FILE --data DIR", Short: "Make a store from a backup, in an empty directory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := cmd.InOrStdin()
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			if err := app.Restore(cmd.Context(), in, data, logger(cmd.ErrOrStderr(), "warn")); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "restored into", data+"; start it with", os.Args[0], "serve --data", data)
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "backup to read; - for standard input")
	cmd.Flags().StringVar(&data, "data", envOr("RIPOSTE_DATA", "data"), "data directory to make (RIPOSTE_DATA)")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that does not exist
	return cmd
}
