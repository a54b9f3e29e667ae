package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/run"
)

// asks reports whether a run waits for somebody's consent.
func asks(r api.Run) bool { return r.Approval != nil && !r.Approval.Granted && !r.State.Ended() }

// reasonOf says in a list why a run is as it is.
func reasonOf(r api.Run) string {
	switch {
	case asks(r):
		return fmt.Sprintf("consent to step %s, %d of %d, until %s", r.Approval.Step, len(r.Approval.By), r.Approval.Needed, when(r.Approval.ExpiresAt))
	case r.State == run.Waiting:
		return harmless(oneLine(r.Message), false)
	}
	return r.Reason
}

// howToAnswer follows a list in which runs wait for consent.
func howToAnswer(w io.Writer, runs []api.Run) {
	if slices.ContainsFunc(runs, asks) {
		fmt.Fprintln(w, "\nriposte runs approve ID or riposte runs reject ID answers those that wait for consent")
	}
}

// printApproval prints what a run waits for somebody to agree to, or waited for.
func printApproval(w io.Writer, r api.Run) {
	a := r.Approval
	if a == nil {
		return
	}
	fmt.Fprintf(w, "\nconsent to step %s (%s), asked for at %s\n", a.Step, a.Uses, when(a.RequestedAt))
	for _, name := range slices.Sorted(maps.Keys(a.Shown)) {
		value, text := a.Shown[name].(string)
		if !text {
			plain, _ := json.Marshal(a.Shown[name]) // it was JSON
			value = string(plain)
		}
		for i, line := range strings.Split(strings.TrimRight(value, "\n"), "\n") {
			label := name + ": "
			if i > 0 {
				label = "  "
			}
			fmt.Fprintf(w, "  %s%s\n", label, harmless(line, false))
		}
	}
	for _, by := range a.By {
		line := fmt.Sprintf("%s agreed at %s", by.Who, when(by.At))
		if by.Via != "" {
			line += " by " + by.Via
		}
		if by.Comment != "" {
			line += ": " + oneLine(by.Comment)
		}
		fmt.Fprintf(w, "  %s\n", harmless(line, false))
	}
	if !asks(r) {
		return
	}
	fmt.Fprintf(w, "it waits until %s, and has the consent of %d of %d persons\n", when(a.ExpiresAt), len(a.By), a.Needed)
}

func newRunsConsent(r *remote, order, short string) *cobra.Command {
	var comment string
	var yes bool
	cmd := &cobra.Command{
		Use: order + " ID", Short: short, Args: arguments("ID"), ValidArgsFunction: r.names("runs", "id"),
		Long: short + ". What it waits for is shown first, with the step's parameters and who has agreed; the answer holds for what was shown, and for nothing that came in its place meanwhile.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			path := "runs/" + url.PathEscape(args[0])
			var got api.Run
			if err := c.Get(cmd.Context(), path, nil, &got); err != nil {
				return err
			}
			if asks(got) && !yes {
				if err := confirm(cmd, got, order); err != nil {
					return err
				}
			}
			body := api.ConsentRequest{Comment: comment}
			if got.Approval != nil {
				body.Digest = got.Approval.Digest
			}
			var answer api.ConsentAnswer
			if err := c.Order(cmd.Context(), "runs/"+url.PathEscape(got.ID)+"/"+order, body, &answer); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), answer, func(w io.Writer) { printConsent(w, order, answer) })
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "why, for the record")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask; needed where there is no terminal")
	return cmd
}

// confirm shows what a run waits for, and asks on the terminal.
func confirm(cmd *cobra.Command, got api.Run, order string) error {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "%s\nrule %s at %.12s, event %s, attempt %d\n", got.ID, got.Rule, got.RuleRevision, got.Event, got.Attempt)
	printApproval(w, got)
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return &client.Error{Msg: "nobody can be asked: there is no terminal", Hint: "look at it as above, and add --yes"}
	}
	fmt.Fprintf(w, "\n%s it? [y/N] ", order)
	line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // no line is no
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &client.Error{Msg: "nothing was ordered"}
	}
	return nil
}

func printConsent(w io.Writer, order string, a api.ConsentAnswer) {
	switch {
	case !a.Heard:
		fmt.Fprintf(w, "%s ordered for %s; it was not heard of yet: riposte runs show %s\n", order, a.ID, a.ID)
	case order == run.CommandReject:
		fmt.Fprintf(w, "%s is rejected\n", a.ID)
	case a.Approval != nil && !a.Approval.Granted:
		fmt.Fprintf(w, "%s has the consent of %d of %d persons\n", a.ID, len(a.Approval.By), a.Approval.Needed)
	default:
		fmt.Fprintf(w, "%s is approved and goes on\n", a.ID)
	}
}
