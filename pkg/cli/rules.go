package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/document"
)

func newRules() *cobra.Command {
	var r remote
	cmd := group(&cobra.Command{Use: "rules", Short: "List and show the rules that a server runs"},
		&cobra.Command{
			Use: "list", Short: "List the active rules, and why newer ones are not active", Args: arguments(),
			RunE: func(cmd *cobra.Command, _ []string) error {
				set, err := r.rules(cmd)
				if err != nil {
					return err
				}
				return r.show(cmd.OutOrStdout(), set, func(w io.Writer) { printRules(w, set) })
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show an active rule", Args: arguments("NAME"), ValidArgsFunction: r.names("rules", "name"),
			RunE: func(cmd *cobra.Command, args []string) error {
				set, err := r.rules(cmd)
				if err != nil {
					return err
				}
				rl, err := find(set, args[0])
				if err != nil {
					return err
				}
				return r.show(cmd.OutOrStdout(), rl, func(w io.Writer) { printRule(w, rl) })
			},
		},
	)
	r.bind(cmd)
	return cmd
}

func (r *remote) rules(cmd *cobra.Command) (api.RuleSet, error) {
	var set api.RuleSet
	c, err := r.client(cmd)
	if err != nil {
		return set, err
	}
	return set, c.Get(cmd.Context(), "rules", nil, &set)
}

func find(set api.RuleSet, name string) (api.Rule, error) {
	var names []string
	for _, rl := range set.Items {
		if rl.Name == name {
			return rl, nil
		}
		names = append(names, rl.Name)
	}
	return api.Rule{}, &client.Error{Msg: fmt.Sprintf("no active rule is called %q", name), Hint: nearest(name, names, "riposte rules list shows those there are")}
}

// nearest asks whether a similar name was meant.
func nearest(name string, names []string, otherwise string) string {
	if best := document.Nearest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	return otherwise
}

func printRule(w io.Writer, rl api.Rule) {
	fmt.Fprintf(w, "%s  %s  %s:%d\n", rl.Name, rl.Mode, rl.File, rl.Line)
	if len(rl.Labels) > 0 {
		fmt.Fprint(w, "labels")
		for _, name := range slices.Sorted(maps.Keys(rl.Labels)) {
			fmt.Fprintf(w, " %s=%s", name, rl.Labels[name])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "steps %s\nrevision %s\n", strings.Join(rl.Steps, ", "), rl.Revision)
}

func printRules(w io.Writer, set api.RuleSet) {
	var rows [][]string
	for _, rl := range set.Items {
		mode := rl.Mode
		if rl.Paused {
			mode = "paused"
		}
		rows = append(rows, []string{rl.Name, mode, fmt.Sprintf("%s:%d", rl.File, rl.Line), strings.Join(rl.Steps, ",")})
	}
	table(w, "RULE MODE FILE STEPS", "no rules", rows)
	if len(set.Paused) > 0 {
		fmt.Fprintln(w)
		printPauses(w, set.Paused)
	}
	if set.Revision != "" {
		fmt.Fprintf(w, "\nrevision %.12s, loaded %s\n", set.Revision, when(set.LoadedAt))
	}
	if set.Origin != "" {
		fmt.Fprintf(w, "from %s\n", set.Origin)
	}
	if set.Error != "" {
		fmt.Fprintf(w, "\na newer state of the rules is not active:\n%s\n", set.Error)
	}
}

func newSources() *cobra.Command {
	var r remote
	cmd := group(&cobra.Command{Use: "sources", Short: "List the sources that a server receives from"}, &cobra.Command{
		Use: "list", Short: "List the sources, their paths, and what keeps one from receiving", Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := r.sources(cmd)
			if err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, s := range page.Items {
					if s.Next != nil {
						s.Path = "next at " + when(*s.Next)
					}
					rows = append(rows, []string{s.Name, s.Type, s.Path, s.Problem})
				}
				table(w, "SOURCE TYPE PATH PROBLEM", "no sources", rows)
			})
		},
	})
	r.bind(cmd)
	return cmd
}

func (r *remote) sources(cmd *cobra.Command) (api.List[api.Source], error) {
	var page api.List[api.Source]
	c, err := r.client(cmd)
	if err != nil {
		return page, err
	}
	return page, c.Get(cmd.Context(), "sources", nil, &page)
}
