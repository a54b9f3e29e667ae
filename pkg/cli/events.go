package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
)

func newEvents() *cobra.Command {
	var r remote
	cmd := group(&cobra.Command{Use: "events", Short: "List, show and replay accepted events"}, newEventsList(&r), newEventsShow(&r), newEventsReplay(&r))
	r.bind(cmd)
	return cmd
}

func newEventsList(r *remote) *cobra.Command {
	var source, typ, since, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: arguments(),
		Example: "  riposte events list --source github --type push --since 1d\n  riposte events list -o json | jq -r '.items[].id'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var page api.List[api.Event]
			q := query("source", source, "type", typ, "since", since, "cursor", cursor, "limit", strconv.Itoa(limit))
			if err := c.Get(cmd.Context(), "events", q, &page); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, e := range page.Items {
					rows = append(rows, []string{e.ID, e.Source, e.Type, when(e.ReceivedAt), e.Subject})
				}
				table(w, "ID SOURCE TYPE RECEIVED SUBJECT", "no events", rows)
				more(w, page.Next)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&source, "source", "", "only of this source")
	f.StringVar(&typ, "type", "", "only of this type")
	f.StringVar(&since, "since", "", "only since this time, or for this long: 1h, 7d")
	f.StringVar(&cursor, "cursor", "", "go on where a list ended")
	f.IntVar(&limit, "limit", 50, "at most so many, up to 500")
	return cmd
}

func newEventsShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an event and what was decided about it", Args: arguments("ID"), ValidArgsFunction: r.names("events", "id"),
		Long: "Show prints an event and what was decided about it. The id can be shortened while it is unique, to no less than four characters.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var e api.Event
			if err := c.Get(cmd.Context(), "events/"+url.PathEscape(args[0]), nil, &e); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), e, func(w io.Writer) { printEvent(w, e) })
		},
	}
}

func printEvent(w io.Writer, e api.Event) {
	fmt.Fprintln(w, oneLine(strings.Join([]string{e.ID, e.Source, e.Type, e.Subject}, "  ")))
	fmt.Fprint(w, "received ", when(e.ReceivedAt))
	if e.DeliveryID != "" {
		fmt.Fprint(w, ", delivery ", e.DeliveryID)
	}
	if e.CausedBy != "" {
		fmt.Fprint(w, ", caused by ", e.CausedBy)
	}
	fmt.Fprintln(w)
	printDecision(w, e.Decision)
	if e.Decision != nil {
		fmt.Fprintf(w, "what each rule made of it: riposte explain %s\n", e.ID)
	}
	if e.Decision != nil {
		section(w, "changed", e.Decision.Changed, e.Decision.Changed != nil)
	}
	section(w, "headers", e.Headers, len(e.Headers) > 0)
	section(w, "git", e.Git, e.Git != nil)
	section(w, "pullRequest", e.PullRequest, e.PullRequest != nil)
	section(w, "alert", e.Alert, e.Alert != nil)
	section(w, "data", e.Data, true)
}

func printDecision(w io.Writer, d *api.Decision) {
	switch {
	case d == nil:
		fmt.Fprintln(w, "not decided yet")
	case len(d.Runs) == 0:
		fmt.Fprintf(w, "no run, with rules %.12s: %s\n", d.Revision, d.Why)
	default:
		fmt.Fprintf(w, "runs, with rules %.12s: %s\n", d.Revision, strings.Join(d.Runs, ", "))
		if d.Why != "" {
			fmt.Fprintf(w, "no run: %s\n", d.Why)
		}
	}
}

// section prints a part of an event as JSON, in the order of its fields.
func section(w io.Writer, name string, v any, there bool) {
	text, err := json.Marshal(v)
	if !there || err != nil {
		return
	}
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") == nil {
		fmt.Fprintf(w, "\n%s %s\n", name, b.Bytes())
	}
}

func newEventsReplay(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "replay ID", Short: "Append an event again under a new id, so that today's rules decide it", Args: arguments("ID"), ValidArgsFunction: r.names("events", "id"),
		Long: "Replay appends an event again under a new id, so that today's rules decide it, and prints that id. The id can be shortened while it is unique.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			var answer api.Named
			if err := c.Post(cmd.Context(), "events/"+url.PathEscape(args[0])+"/replay", &answer); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), answer, func(w io.Writer) { fmt.Fprintln(w, "replayed as", answer.ID) })
		},
	}
}

// query makes parameters of names and values, leaving out what is empty.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			q.Set(pair[0], pair[1])
		}
	}
	return q
}

func more(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintln(w, "more: --cursor", next)
	}
}
