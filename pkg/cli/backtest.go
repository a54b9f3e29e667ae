package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/run"
)

type backtestFlags struct {
	rules, against  []string
	revision        string
	events          string
	config          string
	since, until    string
	failOn          []string
	remote          remote
	sinceAt, untilT time.Time
}

func newBacktest() *cobra.Command {
	var b backtestFlags
	cmd := &cobra.Command{
		Use: "backtest", Short: "Decide recorded events again with other rules, and say which runs would differ", Args: arguments(),
		Example: "  riposte backtest --rules rules --since 7d\n  riposte backtest --rules rules --revision HEAD~1 --since 24h\n  riposte backtest --rules rules --against main/rules --events events.json --fail-on disappear",
		Long: "Backtest decides the events that a server recorded, or those of a file, again with candidate rules. Nothing runs: it says which runs would appear, disappear or change, compared with those that the server started then or with a second directory. " +
			"It exits with 0, with 1 where --fail-on says so, and with 2 when the rules are wrong or it could not be called like this.",
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&b.rules, "rules", nil, "directory of the candidate; can be given several times")
	f.StringVar(&b.revision, "revision", "", "the candidate is --rules (or this directory) as of this revision of its Git repository")
	f.StringArrayVar(&b.against, "against", nil, "compare with the rules of this directory instead of the runs that the server started")
	f.StringVar(&b.events, "events", "", "read the events from this file, as riposte events list -o json prints them, instead of a server; - is the standard input")
	f.StringVar(&b.since, "since", "", "from this time on, or for this long: 1h, 7d; default 24h, and with --events all of them")
	f.StringVar(&b.until, "until", "", "up to this time, or so long ago; default now, and with --events all of them")
	f.StringArrayVar(&b.failOn, "fail-on", nil, "exit with 1 where there are differences of a kind (appear, disappear, change, any), or more than N of them: any:10")
	complete(cmd, "fail-on", backtest.Appear, backtest.Disappear, backtest.Change, "any")
	bindGrants(cmd, &b.config)
	b.remote.bind(cmd)
	return cmd
}

func (b *backtestFlags) run(cmd *cobra.Command) error {
	if err := checkOutput(cmd, b.remote.output); err != nil {
		return err
	}
	limits, err := b.check(cmd)
	if err != nil {
		return err
	}
	o := backtest.Options{Since: b.sinceAt, Until: b.untilT}
	if o.Candidate, err = b.candidate(); err != nil {
		return err
	}
	if len(b.against) > 0 {
		if o.Against, err = loadRules(b.against, b.config, true); err != nil {
			return err
		}
	}
	report, err := b.play(cmd, o)
	if err != nil {
		return err
	}
	if err := b.remote.show(cmd.OutOrStdout(), report, func(w io.Writer) { b.print(w, report) }); err != nil {
		return err
	}
	return exceeded(report, limits)
}

// check reads what the flags say.
func (b *backtestFlags) check(cmd *cobra.Command) (limits backtest.Limits, err error) {
	if len(b.rules) == 0 && b.revision == "" {
		return nil, usage(cmd, "the candidate is missing: give --rules or --revision")
	}
	if b.since == "" && b.events == "" {
		b.since = "24h"
	}
	now := time.Now()
	if b.sinceAt, err = moment(b.since, now, time.Time{}); err != nil {
		return nil, usage(cmd, "--since %v", err)
	}
	otherwise := now
	if b.events != "" {
		otherwise = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if b.untilT, err = moment(b.until, now, otherwise); err != nil {
		return nil, usage(cmd, "--until %v", err)
	}
	if !b.sinceAt.Before(b.untilT) {
		return nil, usage(cmd, "--since is not before --until")
	}
	if limits, err = backtest.ParseLimits(b.failOn); err != nil {
		return nil, usage(cmd, "--fail-on %v", err)
	}
	return limits, nil
}

// moment reads a time, or a duration before now.
func moment(text string, now, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := document.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time as 2006-01-02T15:04:05Z nor a duration as 1h or 7d", text)
	}
	return now.Add(-d), nil
}

func (b *backtestFlags) candidate() (*rule.Set, error) {
	if b.revision == "" {
		return loadRules(b.rules, b.config, false)
	}
	dirs := b.rules
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	files, err := rulesync.ReadRevision(dirs, b.revision)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err}
	}
	if len(files) == 0 {
		return nil, noRules(dirs)
	}
	return loadFiles(files, b.config, false)
}

// play gets the events into a file, and what was decided of them, and compares.
func (b *backtestFlags) play(cmd *cobra.Command, o backtest.Options) (*backtest.Report, error) {
	file, err := b.recording(cmd, &o)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	rec, err := backtest.Open(file, info.Size())
	if err != nil {
		return nil, err
	}
	if first, last, ok := rec.Range(); ok && b.events != "" { // a file is played from its first event to its last
		if b.since == "" {
			o.Since = first
		}
		if b.until == "" {
			o.Until = last.Add(time.Nanosecond)
		}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent) // an event leaves garbage behind, and little lives
	}
	return backtest.Run(cmd.Context(), rec, o)
}

// recording opens the file of events, or fetches them into one that is removed again when it is closed.
func (b *backtestFlags) recording(cmd *cobra.Command, o *backtest.Options) (*os.File, error) {
	if b.events != "" && b.events != "-" {
		return os.Open(b.events)
	}
	file, err := os.CreateTemp("", "riposte-backtest-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file.Name()) // where that is impossible while it is open, it is left to the system
	if b.events == "-" {
		_, err = io.Copy(file, cmd.InOrStdin())
	} else {
		err = b.fetch(cmd, o, file)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// fetch reads the server's events into a file, and the runs that it started.
func (b *backtestFlags) fetch(cmd *cobra.Command, o *backtest.Options, into io.Writer) error {
	c, err := b.remote.client(cmd)
	if err != nil {
		return err
	}
	since := o.Since.Add(-backtest.Reach(o.Candidate, o.Against))
	if err := fetchEvents(cmd.Context(), c, since, into); err != nil {
		return fmt.Errorf("fetch the events: %w", err)
	}
	if o.Against != nil {
		return nil
	}
	if o.Decided, err = fetchRuns(cmd.Context(), c, o.Since); err != nil {
		return fmt.Errorf("fetch the runs: %w", err)
	}
	return nil
}

// pageLimit is as many as the API gives at once.
const pageLimit = "500"

func fetchEvents(ctx context.Context, c *client.Client, since time.Time, into io.Writer) error {
	for cursor := ""; ; {
		var page api.List[json.RawMessage]
		if err := c.Get(ctx, "events", query("since", since.UTC().Format(time.RFC3339), "limit", pageLimit, "cursor", cursor), &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			if _, err := into.Write(append(item, '\n')); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

// fetchRuns lists the runs that were created since then, newest first.
func fetchRuns(ctx context.Context, c *client.Client, since time.Time) ([]backtest.Start, error) {
	var out []backtest.Start
	for cursor := ""; ; {
		var page api.List[api.Run]
		if err := c.Get(ctx, "runs", query("limit", pageLimit, "cursor", cursor), &page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			r := &page.Items[i]
			if r.CreatedAt.Before(since) {
				return out, nil
			}
			out = append(out, backtest.Start{
				Rule: r.Rule, Event: r.Event, Decided: r.ID[:min(len(r.ID), event.IDLen)], Key: r.Key, Observed: r.State == run.Observed, At: r.CreatedAt,
				Refused: backtest.Refused(r.State, r.Reason, r.StartedAt != nil),
			})
		}
		if cursor = page.Next; cursor == "" {
			return out, nil
		}
	}
}

// maxPrinted is how many differences are printed for people; -o json has more.
const maxPrinted = 50

func (b *backtestFlags) print(w io.Writer, r *backtest.Report) {
	fmt.Fprintf(w, "%s from %s to %s, against %s\n", count(r.Events, "event"), when(r.Since), when(r.Until), b.baseline())
	for _, name := range slices.Sorted(maps.Keys(r.Unreceived)) {
		fmt.Fprintf(w, "%s of %s would not be received: the candidate has no such Source\n", count(r.Unreceived[name], "event"), name)
	}
	if r.Gone > 0 {
		fmt.Fprintf(w, "%s can't be compared: the events are no longer recorded\n", count(r.Gone, "run"))
	}
	if r.ByHand > 0 {
		fmt.Fprintf(w, "%s of then began by hand: no condition decides that\n", count(r.ByHand, "run"))
	}
	var rows [][]string
	for _, rr := range r.Rules {
		if rr.Same+rr.Appear+rr.Disappear+rr.Change > 0 {
			rows = append(rows, []string{rr.Rule, strconv.Itoa(rr.Same), strconv.Itoa(rr.Appear), strconv.Itoa(rr.Disappear), strconv.Itoa(rr.Change)})
		}
	}
	fmt.Fprintln(w)
	table(w, "RULE SAME APPEAR DISAPPEAR CHANGE", "no runs, neither then nor now", rows)
	b.differences(w, r)
}

func (b *backtestFlags) baseline() string {
	switch {
	case len(b.against) > 0:
		return strings.Join(b.against, ", ")
	case b.events != "":
		return "nothing; --against names rules to compare with"
	}
	return "what was decided then"
}

func (b *backtestFlags) differences(w io.Writer, r *backtest.Report) {
	if len(r.Differences) == 0 {
		return
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, d := range r.Differences[:min(len(r.Differences), maxPrinted)] {
		rows = append(rows, []string{d.Kind, d.Rule, d.Event, d.Type, when(d.At), strings.TrimSpace(d.Key + "  " + d.What)})
	}
	table(w, "RUN RULE EVENT TYPE AT WHAT", "", rows)
	if more := r.Appear + r.Disappear + r.Change - len(rows); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

// exceeded fails where the limits of --fail-on are exceeded.
func exceeded(r *backtest.Report, limits backtest.Limits) error {
	said := limits.Exceeded(r)
	if said == "" {
		return nil
	}
	return &failure{code: exitFailed, err: errors.New("the runs differ: " + said)}
}
