package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
)

func newRules() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "rules", Short: "List and show the rules that a server runs"}
	r.bind(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the active rules, and why newer ones are not active", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				set, err := r.rules(cmd)
				if err != nil {
					return err
				}
				return r.show(cmd.OutOrStdout(), set, func(w io.Writer) { printRules(w, set) })
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show an active rule", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				set, err := r.rules(cmd)
				if err != nil {
					return err
				}
				for _, rl := range set.Items {
					if rl.Name == args[0] {
						return r.show(cmd.OutOrStdout(), rl, func(w io.Writer) {
							fmt.Fprintf(w, "%s  %s:%d  %s\nsteps: %s\nrevision %s\n", rl.Name, rl.File, rl.Line, rl.Mode, strings.Join(rl.Steps, ", "), rl.Revision)
						})
					}
				}
				return fmt.Errorf("no active rule is called %q; riposte rules list shows them", args[0])
			},
		},
	)
	return cmd
}

func (r *remote) rules(cmd *cobra.Command) (api.RuleSet, error) {
	var set api.RuleSet
	c, err := r.client()
	if err != nil {
		return set, err
	}
	return set, c.Get(cmd.Context(), "rules", nil, &set)
}

func printRules(w io.Writer, set api.RuleSet) {
	var rows [][]string
	for _, rl := range set.Items {
		rows = append(rows, []string{rl.Name, rl.Mode, fmt.Sprintf("%s:%d", rl.File, rl.Line), strings.Join(rl.Steps, ",")})
	}
	table(w, "RULE MODE FILE STEPS", rows)
	fmt.Fprintf(w, "revision %.12s, loaded %s\n", set.Revision, when(set.LoadedAt))
	if set.Error != "" {
		fmt.Fprintf(w, "\na newer state of the rules is not active:\n%s\n", set.Error)
	}
}

func newSources() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "sources", Short: "List the sources that a server receives from"}
	r.bind(cmd)
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the sources, their paths, and what keeps one from receiving", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := r.sources(cmd)
			if err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, s := range page.Items {
					rows = append(rows, []string{s.Name, s.Type, s.Path, s.Problem})
				}
				table(w, "SOURCE TYPE PATH PROBLEM", rows)
			})
		},
	})
	return cmd
}

type sourcePage struct {
	Items []api.Source `json:"items"`
}

func (r *remote) sources(cmd *cobra.Command) (sourcePage, error) {
	var page sourcePage
	c, err := r.client()
	if err != nil {
		return page, err
	}
	return page, c.Get(cmd.Context(), "sources", nil, &page)
}
