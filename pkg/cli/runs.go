package cli

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/run"
)

func newRuns() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "runs", Short: "List and show runs, cancel or retry one"}
	r.bind(cmd)
	cmd.AddCommand(
		newRunsList(&r), newRunsShow(&r),
		newRunsOrder(&r, "cancel", "Stop a run: its running steps are ended"),
		newRunsOrder(&r, "retry", "Let a run that ended go on from the steps that did not succeed"),
	)
	return cmd
}

func newRunsList(r *remote) *cobra.Command {
	var rule, event, state, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List runs, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var page struct {
				Items []run.Run `json:"items"`
				Next  string    `json:"next,omitempty"`
			}
			q := query("rule", rule, "event", event, "state", state, "cursor", cursor, "limit", strconv.Itoa(limit))
			if err := c.Get(cmd.Context(), "runs", q, &page); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, it := range page.Items {
					rows = append(rows, []string{it.ID, string(it.State), when(it.CreatedAt), took(it.StartedAt, it.EndedAt), it.Reason})
				}
				table(w, "ID STATE CREATED TOOK REASON", rows)
				more(w, page.Next)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&rule, "rule", "", "only of this rule")
	f.StringVar(&event, "event", "", "only those that this event started")
	f.StringVar(&state, "state", "", "only in this state: running, failed, …")
	f.StringVar(&cursor, "cursor", "", "go on where a list ended")
	f.IntVar(&limit, "limit", 50, "at most so many, up to 500")
	return cmd
}

func newRunsShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a run, its steps and their outcomes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var got run.Run
			if err := c.Get(cmd.Context(), "runs/"+url.PathEscape(args[0]), nil, &got); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), got, func(w io.Writer) { printRun(w, got) })
		},
	}
}

func printRun(w io.Writer, r run.Run) {
	fmt.Fprintf(w, "%s  %s", r.ID, r.State)
	if r.Reason != "" {
		fmt.Fprintf(w, " (%s)", r.Reason)
	}
	fmt.Fprintf(w, "\nrule %s at %.12s, event %s, attempt %d\ncreated %s, took %s\n", r.Rule, r.RuleRevision, r.Event, r.Attempt, when(r.CreatedAt), took(r.StartedAt, r.EndedAt))
	if r.Message != "" {
		fmt.Fprintln(w, r.Message)
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, s := range r.Steps {
		id := s.ID
		if s.Phase != run.Main {
			id = string(s.Phase) + "/" + id
		}
		rows = append(rows, []string{id, s.Uses, string(s.State), strconv.Itoa(s.Attempt), took(s.StartedAt, s.EndedAt), s.Error})
	}
	table(w, "STEP USES STATE ATTEMPT TOOK ERROR", rows)
}

func newRunsOrder(r *remote, order, short string) *cobra.Command {
	return &cobra.Command{
		Use: order + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var answer struct {
				ID string `json:"id"`
			}
			if err := c.Post(cmd.Context(), "runs/"+url.PathEscape(args[0])+"/"+order, &answer); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), answer, func(w io.Writer) { fmt.Fprintln(w, order, "ordered for", answer.ID) })
		},
	}
}
