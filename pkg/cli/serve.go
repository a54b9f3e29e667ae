package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
)

// gcPercent spends memory on time: what lives is little, and each request leaves several copies of its body behind.
const gcPercent = 300

func newServe(version string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "serve", Short: "Receive, decide, run", Args: arguments(),
		Example: "  riposte serve --dev --rules rules\n  riposte serve --config /etc/riposte/riposte.yaml --rules /etc/riposte/rules --data /var/lib/riposte",
		Long:    "Serve receives webhooks and runs what the rules say. Each flag is also a variable RIPOSTE_… and, but for --dev, a key of the configuration file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd, file)
			if err != nil {
				return configError(err)
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

// configError prints the problems of a configuration below each other.
func configError(err error) error {
	var all *config.Error
	if errors.As(err, &all) {
		return fmt.Errorf("the configuration is wrong:\n%w", err)
	}
	return &failure{code: exitUsage, err: err}
}

func serve(cmd *cobra.Command, c *config.Config, version string) error {
	if len(c.Rules.Dirs) == 0 && c.Rules.Git.URL == "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "riposte: no rules are given, so nothing can be received; --rules names their directory")
	}
	data := c.Data // as it was given, before it is made absolute
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	server, err := app.New(cmd.Context(), app.Options{
		Config: c, Version: version, LogOutput: cmd.ErrOrStderr(),
		Started: func(l client.Listen) {
			if c.Dev {
				welcome(cmd.OutOrStdout(), data, l)
			}
		},
	})
	if err != nil {
		return err
	}
	return server.Run(cmd.Context())
}

// welcome says what a newcomer can try.
func welcome(w io.Writer, data string, l client.Listen) {
	self, secret, flag := os.Args[0], filepath.Join(data, app.DevSecretFile), ""
	if filepath.Clean(data) != "data" {
		flag = " --data " + data
	}
	fmt.Fprintf(w, `
Riposte is ready.
  webhooks  %s/hooks/SOURCE   (secret in %s)
  admin     %s
  health    http://%s

Try it from another terminal:
  %s send github --event push -f examples/hello/push.json%s
  %s runs list%s

`, l.HooksEndpoint(), secret, l.AdminEndpoint(), l.Health, self, flag, self, flag)
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
		Use: "backup -f FILE", Short: "Copy the embedded store of a running server", Args: arguments(),
		Example: "  riposte backup -f riposte.backup\n  riposte backup -f - | age -r age1… > riposte.backup.age",
		Long:    "Backup asks the running server for a consistent copy: all that was accepted before the command began is in it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fileGiven(cmd, file); err != nil {
				return err
			}
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			if file == "-" {
				return c.Backup(cmd.Context(), cmd.OutOrStdout())
			}
			size, err := writeWhole(file, func(w io.Writer) error { return c.Backup(cmd.Context(), w) })
			if err != nil {
				return err
			}
			written := map[string]any{"file": file, "bytes": size}
			return r.show(cmd.OutOrStdout(), written, func(w io.Writer) { fmt.Fprintf(w, "backup of %d bytes written to %s\n", size, file) })
		},
	}
	r.bind(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "where to write it; - for standard output")
	return cmd
}

// writeWhole writes a file that appears under its name only once it is complete and on the disk, and returns its size.
func writeWhole(name string, write func(io.Writer) error) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("write %s: %w", name, err)
	}
	return info.Size(), os.Rename(f.Name(), name)
}

func newRestore() *cobra.Command {
	var file, data string
	cmd := &cobra.Command{
		Use: "restore -f FILE --data DIR", Short: "Make a store from a backup, in an empty directory", Args: arguments(),
		Example: "  riposte restore -f riposte.backup --data /var/lib/riposte-new",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fileGiven(cmd, file); err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return fmt.Errorf("read the backup: %w", err)
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
	return cmd
}
