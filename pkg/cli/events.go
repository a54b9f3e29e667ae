package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// eventView is the part of an event that the command line prints.
type eventView struct {
	ID         string          `json:"id"`
	Source     string          `json:"source"`
	Type       string          `json:"type"`
	Subject    string          `json:"subject"`
	ReceivedAt time.Time       `json:"receivedAt"`
	DeliveryID string          `json:"deliveryID"`
	CausedBy   string          `json:"causedBy"`
	Data       json.RawMessage `json:"data"`
	Decision   *struct {
		Runs []string `json:"runs"`
		Why  string   `json:"why"`
	} `json:"decision"`
}

func newEvents() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "events", Short: "List, show and replay accepted events"}
	r.bind(cmd)
	cmd.AddCommand(newEventsList(&r), newEventsShow(&r), newEventsReplay(&r))
	return cmd
}

func newEventsList(r *remote) *cobra.Command {
	var source, typ, since, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var page struct {
				Items []json.RawMessage `json:"items"`
				Next  string            `json:"next,omitempty"`
			}
			q := query("source", source, "type", typ, "since", since, "cursor", cursor, "limit", strconv.Itoa(limit))
			if err := c.Get(cmd.Context(), "events", q, &page); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), page, func(w io.Writer) {
				var rows [][]string
				for _, item := range page.Items {
					var e eventView
					if json.Unmarshal(item, &e) == nil {
						rows = append(rows, []string{e.ID, e.Source, e.Type, when(e.ReceivedAt), e.Subject})
					}
				}
				table(w, "ID SOURCE TYPE RECEIVED SUBJECT", rows)
				more(w, page.Next)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&source, "source", "", "only of this source")
	f.StringVar(&typ, "type", "", "only of this type")
	f.StringVar(&since, "since", "", "only since this time, or for this long: 1h")
	f.StringVar(&cursor, "cursor", "", "go on where a list ended")
	f.IntVar(&limit, "limit", 50, "at most so many, up to 500")
	return cmd
}

func newEventsShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an event and what was decided about it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), "events/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			var e eventView
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), raw, func(w io.Writer) { printEvent(w, e, raw) })
		},
	}
}

func printEvent(w io.Writer, e eventView, raw json.RawMessage) {
	fmt.Fprintf(w, "%s  %s  %s  received %s\n", e.ID, e.Source, e.Type, when(e.ReceivedAt))
	switch {
	case e.Decision == nil:
		fmt.Fprintln(w, "not decided yet")
	case len(e.Decision.Runs) == 0:
		fmt.Fprintln(w, "no run:", e.Decision.Why)
	default:
		for _, id := range e.Decision.Runs {
			fmt.Fprintln(w, "run", id)
		}
	}
	var all any
	if json.Unmarshal(raw, &all) == nil {
		text, _ := json.MarshalIndent(all, "", "  ") // it was JSON a line ago
		fmt.Fprintf(w, "%s\n", text)
	}
}

func newEventsReplay(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "replay ID", Short: "Append an event again under a new id, so that today's rules decide it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			var answer struct {
				ID string `json:"id"`
			}
			if err := c.Post(cmd.Context(), "events/"+url.PathEscape(args[0])+"/replay", &answer); err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), answer, func(w io.Writer) { fmt.Fprintln(w, answer.ID) })
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
