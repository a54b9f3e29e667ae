package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
)

func newPause() *cobra.Command {
	var r remote
	var body api.PauseRequest
	cmd := &cobra.Command{
		Use: "pause [RULE]", Short: "Let a rule, or all, start no runs", Args: optional("RULE"), ValidArgsFunction: r.names("rules", "name"),
		Long: "Pause lets a rule, or all rules, start no runs. What would start is recorded as refused, with who paused it and why; runs under way go on. " +
			"It holds for all replicas and after a restart, until riposte resume.",
		Example: "  riposte pause --reason 'the cluster is being moved'\n  riposte pause restart-crashlooping --until 2h",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				body.Rule = args[0]
			}
			return r.pausing(cmd, "pause", body)
		},
	}
	cmd.Flags().StringVar(&body.Reason, "reason", "", "why, for whoever finds that nothing happens")
	cmd.Flags().StringVar(&body.Until, "until", "", "a time (2006-01-02T15:04:05Z) or how long (2h); default: until somebody resumes it")
	r.bind(cmd)
	return cmd
}

func newResume() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "resume [RULE]", Short: "Let a rule that was paused, or all, start runs again", Args: optional("RULE"), ValidArgsFunction: r.names("rules", "name"),
		Long: "Resume takes back riposte pause of the same rule, or that of all; rules that were paused by name stay so. What was refused meanwhile is not made up for: riposte runs retry does that.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var body api.ResumeRequest
			if len(args) > 0 {
				body.Rule = args[0]
			}
			return r.pausing(cmd, "resume", body)
		},
	}
	r.bind(cmd)
	return cmd
}

// optional allows one argument or none.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage(cmd, "%q is more than one %s", args, name)
		}
		return nil
	}
}

func (r *remote) pausing(cmd *cobra.Command, order string, body any) error {
	c, err := r.client(cmd)
	if err != nil {
		return err
	}
	var left api.List[api.Pause]
	if err := c.Order(cmd.Context(), order, body, &left); err != nil {
		return err
	}
	return r.show(cmd.OutOrStdout(), left, func(w io.Writer) {
		if len(left.Items) == 0 {
			fmt.Fprintln(w, "nothing is paused")
		}
		printPauses(w, left.Items)
	})
}

func printPauses(w io.Writer, pauses []api.Pause) {
	for _, p := range pauses {
		what := "all rules are paused"
		if p.Rule != "" {
			what = p.Rule + " is paused"
		}
		line := what + " by " + p.By
		if p.Since != nil {
			line += " since " + when(*p.Since)
		}
		if p.Until != nil {
			line += " until " + when(*p.Until)
		}
		if p.Reason != "" {
			line += ": " + p.Reason
		}
		fmt.Fprintln(w, harmless(oneLine(line), false))
	}
}
