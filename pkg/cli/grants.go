package cli

import (
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// bindGrants adds the flag that names a configuration for the sake of its grants.
func bindGrants(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "the server's configuration, whose grants and quiet times then hold for the rules; without it everything is allowed")
}

// configured reads the server's configuration; without a file it is that of a server that is told nothing.
func configured(file string) (*config.Config, error) {
	if file == "" {
		return config.Default(), nil
	}
	c, err := config.Load(config.Sources{File: file})
	if err != nil {
		return nil, configError(err)
	}
	return c, nil
}

// granted makes the grants of a configuration hold for files: their directory stands for that of rules.git.path.
func granted(o *rule.Options, files []rule.File, c *config.Config) {
	o.Grants = c.Grants.Of
	if c.Rules.Git.URL == "" {
		return
	}
	for i, f := range files {
		files[i].Within = path.Join(strings.Trim(c.Rules.Git.Path, "/"), f.Within)
	}
}
