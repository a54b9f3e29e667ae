package cli

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
)

// auditPage is how many entries are asked for at once.
const auditPage = 500

func newAudit() *cobra.Command {
	var r remote
	var since string
	cmd := &cobra.Command{
		Use: "audit", Short: "Print who ordered what, and what was decided", Args: arguments(),
		Long: "Audit prints what people ordered and were refused, which rules became active, and which runs began and how they ended, oldest first. " +
			"With -o json each entry is a line of its own. It needs the role admin.",
		Example: "  riposte audit --since 1d\n  riposte audit -o json > audit.jsonl",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if since != "" { // every page is asked for the same time
				at, err := moment(since, time.Now(), time.Time{})
				if err != nil {
					return usage(cmd, "--since %v", err)
				}
				since = at.UTC().Format(time.RFC3339Nano)
			}
			for cursor, first := "", true; first || cursor != ""; first = false {
				var page api.List[api.AuditEntry]
				if err := c.Get(cmd.Context(), "audit", query("since", since, "cursor", cursor, "limit", strconv.Itoa(auditPage)), &page); err != nil {
					return err
				}
				for _, e := range page.Items {
					if err := printAudit(out, e, r.output); err != nil {
						return err
					}
				}
				cursor = page.Next
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only since this time, or for this long: 1h, 7d")
	r.bind(cmd)
	return cmd
}

func printAudit(w io.Writer, e api.AuditEntry, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	words := []string{when(e.At), e.Who, e.Action, e.Target, e.Result}
	if e.From != "" {
		words[1] += " (" + e.From + ")"
	}
	if e.Reason != "" {
		words = append(words, "("+e.Reason+")")
	}
	for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
		words = append(words, key+"="+e.Detail[key])
	}
	_, err := io.WriteString(w, harmless(oneLine(strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), "  ")), false)+"\n")
	return err
}
