package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/run"
)

func newRuns() *cobra.Command {
	var r remote
	cmd := group(&cobra.Command{Use: "runs", Short: "List and show runs and their logs, cancel or retry one"},
		newRunsList(&r), newRunsShow(&r), newRunsLogs(&r),
		newRunsOrder(&r, "cancel", "Stop a run: its running steps are ended"),
		newRunsOrder(&r, "retry", "Let a run that ended go on from the steps that did not succeed"),
		newRunsConsent(&r, run.CommandApprove, "Agree to what a run waits for, once you have seen it"),
		newRunsConsent(&r, run.CommandReject, "Refuse what a run waits for, which ends it"),
	)
	r.bind(cmd)
	return cmd
}

func newRunsList(r *remote) *cobra.Command {
	var rule, event, state, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List runs, newest first", Args: arguments(),
		Example: "  riposte runs list --state failed\n  riposte runs list --rule hello --limit 5 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var page api.List[api.Run]
			q := query("rule", rule, "event", event, "state", state, "cursor", cursor, "limit", strconv.Itoa(limit))
			if err := c.Get(cmd.Context(), "runs", q, &page); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, it := range page.Items {
					rows = append(rows, []string{it.ID, stateOf(it), strconv.Itoa(it.Attempt), when(it.CreatedAt), took(it.StartedAt, it.EndedAt), reasonOf(it)})
				}
				table(w, "ID STATE ATTEMPT CREATED TOOK REASON", "no runs", rows)
				howToAnswer(w, page.Items)
				more(w, page.Next)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&rule, "rule", "", "only of this rule")
	f.StringVar(&event, "event", "", "only those that the event with this whole id started")
	f.StringVar(&state, "state", "", "only in this state: running, failed, …")
	f.StringVar(&cursor, "cursor", "", "go on where a list ended")
	f.IntVar(&limit, "limit", 50, "at most so many, up to 500")
	complete(cmd, "state", "pending", "running", "waiting", "succeeded", "failed", "cancelled", "refused", "superseded", "observed")
	return cmd
}

func stateOf(r api.Run) string {
	if r.Cancelling && !r.State.Ended() {
		return "cancelling"
	}
	return string(r.State)
}

func newRunsShow(r *remote) *cobra.Command {
	var withOutputs bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a run, its steps and their outcomes", Args: arguments("ID"), ValidArgsFunction: r.names("runs", "id"),
		Long: "Show prints a run, its steps and their outcomes; on a terminal with the time that each took, drawn to scale. The id can be shortened while it is unique.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var got api.Run
			if err := c.Get(cmd.Context(), "runs/"+url.PathEscape(args[0]), nil, &got); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), got, func(w io.Writer) {
				if width := widthOf(w); width > 0 {
					drawRun(w, got, width, time.Now(), painter(true))
				} else {
					printRun(w, got)
				}
				printApproval(w, got)
				howToAnswer(w, []api.Run{got})
				if withOutputs {
					printOutputs(w, got)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&withOutputs, "outputs", false, "print the steps' outputs too, such as what a command wrote; -o json always has them")
	return cmd
}

func printRun(w io.Writer, r api.Run) {
	printHead(w, r, stateOf(r))
	var rows [][]string
	for _, s := range r.Steps {
		state := string(s.State)
		if s.NotBefore != nil && s.State == run.StepWaiting {
			state += " until " + s.NotBefore.Local().Format("15:04:05")
		}
		rows = append(rows, []string{stepName(s), s.Uses, state, strconv.Itoa(s.Attempt), took(s.StartedAt, s.EndedAt), s.Error})
	}
	table(w, "STEP USES STATE ATTEMPT TOOK ERROR", "no step has begun", rows)
}

// printHead prints what is known of the run as a whole.
func printHead(w io.Writer, r api.Run, state string) {
	fmt.Fprintf(w, "%s  %s", r.ID, state)
	if r.Reason != "" {
		fmt.Fprintf(w, " (%s)", r.Reason)
	}
	fmt.Fprintf(w, "\nrule %s at %.12s, event %s, attempt %d\ncreated %s, took %s\n", r.Rule, r.RuleRevision, r.Event, r.Attempt, when(r.CreatedAt), took(r.StartedAt, r.EndedAt))
	if r.CausedBy != "" {
		fmt.Fprintf(w, "caused by run %s, %d below the first\n", harmless(r.CausedBy, false), r.Depth)
	}
	for line := range strings.Lines(r.Message) {
		fmt.Fprintln(w, harmless(line, false))
	}
	fmt.Fprintln(w)
}

// stepName tells steps of onFailure from those of the rule.
func stepName(s api.Step) string {
	if s.Phase != run.Main {
		return string(s.Phase) + "/" + s.ID
	}
	return s.ID
}

func printOutputs(w io.Writer, r api.Run) {
	for _, s := range r.Steps {
		if len(s.Outputs) > 0 {
			fmt.Fprintf(w, "\n%s\n", stepName(s))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Outputs)) {
			value, text := s.Outputs[name].(string)
			if !text {
				plain, _ := json.Marshal(s.Outputs[name]) // it was JSON
				value = string(plain)
			}
			fmt.Fprintf(w, "  %s: %s\n", name, value)
		}
	}
}

func newRunsOrder(r *remote, order, short string) *cobra.Command {
	return &cobra.Command{
		Use: order + " ID", Short: short, Args: arguments("ID"), ValidArgsFunction: r.names("runs", "id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var answer api.Named
			if err := c.Post(cmd.Context(), "runs/"+url.PathEscape(args[0])+"/"+order, &answer); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), answer, func(w io.Writer) { fmt.Fprintln(w, order, "ordered for", answer.ID) })
		},
	}
}
