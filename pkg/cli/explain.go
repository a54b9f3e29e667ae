package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
)

// explainFlags hold what riposte explain is told.
type explainFlags struct {
	remote
	all                bool
	file, source, kind string
	rules, header      []string
	config             string
}

func newExplain() *cobra.Command {
	var x explainFlags
	cmd := &cobra.Command{
		Use: "explain [EVENT]", Short: "Say why an event started a run, or none", Args: arguments("[EVENT]"), ValidArgsFunction: x.names("events", "id"),
		Long: "Explain says what each rule made of an event: each clause of its condition with the values that it saw, absent fields with what may be meant, and what waits in the windows of rules that correlate.\n\n" +
			"Of a server's event, the rules that decided it are asked. With --file a payload is explained without a server, by the rules below directories; nothing is verified, so no secret is needed.",
		Example: "  riposte explain 5ENG7J6G\n  riposte explain -f push.json --source github --type push --rules rules\n  riposte explain -f alerts.json --source alertmanager --rules rules --all -o json",
		RunE:    func(cmd *cobra.Command, args []string) error { return x.run(cmd, args) },
	}
	x.bind(cmd)
	f := cmd.Flags()
	f.BoolVar(&x.all, "all", false, "also the rules whose trigger does not select the event, and the details of those that ran")
	f.StringVarP(&x.file, "file", "f", "", "payload to explain without a server; - for standard input")
	f.StringVar(&x.source, "source", "", "with --file: name of the Source document that would receive it")
	f.StringArrayVar(&x.rules, "rules", nil, "with --file: directory with rules; can be repeated")
	f.StringVar(&x.kind, "type", "", "with --file: type of the event, where a header would say it: push")
	bindGrants(cmd, &x.config)
	f.StringArrayVarP(&x.header, "header", "H", nil, "with --file: request header, as in 'X-GitHub-Event: push'; can be repeated")
	return cmd
}

func (x *explainFlags) run(cmd *cobra.Command, args []string) error {
	if err := errors.Join(checkOutput(cmd, x.output), x.check(cmd, args)); err != nil {
		return err
	}
	if x.file != "" {
		return x.offline(cmd)
	}
	c, err := x.client(cmd)
	if err != nil {
		return err
	}
	var answer explain.Explanation
	q := url.Values{}
	if x.all {
		q.Set("all", "true")
	}
	if err := c.Get(cmd.Context(), "events/"+url.PathEscape(args[0])+"/explain", q, &answer); err != nil {
		return err
	}
	return x.print(cmd.OutOrStdout(), answer, []*explain.Explanation{&answer})
}

// check says which of the two ways of calling the command is meant, or that it is neither.
func (x *explainFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case x.file == "" && len(args) == 0:
		return usage(cmd, "EVENT is missing, or --file")
	case x.file != "" && len(args) > 0:
		return usage(cmd, "EVENT and --file exclude each other: one is asked of a server, the other needs none")
	case x.file != "" && x.source == "":
		return usage(cmd, "--source is missing")
	case x.file != "" && len(x.rules) == 0:
		return usage(cmd, "--rules is missing")
	}
	for _, name := range []string{"source", "rules", "type", "header", "config"} {
		if x.file == "" && cmd.Flags().Changed(name) {
			return usage(cmd, "--%s belongs to --file", name)
		}
	}
	return nil
}

func (x *explainFlags) print(w io.Writer, v any, all []*explain.Explanation) error {
	var failed error
	err := x.show(w, v, func(w io.Writer) {
		for i, e := range all {
			if i > 0 {
				fmt.Fprintln(w)
			}
			failed = errors.Join(failed, explain.Render(w, e, explain.View{Now: time.Now(), Zone: time.Local, All: x.all}))
		}
	})
	return errors.Join(err, failed)
}

// offline explains each event of a payload.
func (x *explainFlags) offline(cmd *cobra.Command) error {
	set, err := readRules(x.rules, x.config)
	if err != nil {
		return err
	}
	src := set.Sources[x.source]
	if src == nil {
		names := slices.Sorted(maps.Keys(set.Sources))
		return &client.Error{Msg: fmt.Sprintf("the rules have no Source %q", x.source), Hint: nearest(x.source, names, "they have "+strings.Join(names, ", "))}
	}
	header, err := headers(cmd, x.header)
	if err != nil {
		return err
	}
	body, err := readPayload(cmd.InOrStdin(), x.file)
	if err != nil {
		return fmt.Errorf("read the payload: %w", err)
	}
	events, err := split(src, header, body, x.kind, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("read the payload: %w", err)
	}
	if x.output == "text" {
		remarks(cmd.ErrOrStderr(), events)
	}
	items := explainAll(cmd.Context(), set, events, x.all)
	return x.print(cmd.OutOrStdout(), api.List[*explain.Explanation]{Items: items}, items)
}

// remarks say what is probably not as it was meant.
func remarks(w io.Writer, events []*event.Event) {
	if len(events) == 0 {
		fmt.Fprintln(w, "the payload makes no event")
		return
	}
	if events[0].Type == "unknown" {
		fmt.Fprintln(w, "hint: the payload does not say the event's type, which its sender writes into a header: --type gives it")
	}
}

func explainAll(ctx context.Context, set *rule.Set, events []*event.Event, all bool) []*explain.Explanation {
	items := make([]*explain.Explanation, len(events))
	for i, e := range events {
		set.Sources[e.Source].Source.Normalise(e)
		items[i] = explain.Build(ctx, explain.Input{Event: e, State: explain.Offline, Set: set, Now: e.ReceivedAt, All: all})
	}
	return items
}

// readRules builds the set of rules below directories; secrets are not looked at.
func readRules(dirs []string, config string) (*rule.Set, error) {
	files, err := rulesBelow(dirs)
	if err != nil {
		return nil, err
	}
	c, err := configured(config)
	if err != nil {
		return nil, err
	}
	r := app.Describe()
	o := rule.Options{
		Sources: r.Sources, Actions: r.Actions, Dev: true,
		Secret: func(source.SecretRef) ([]byte, error) { return nil, errors.New("explain resolves no secrets") },
	}
	granted(&o, files, c)
	set, err := rule.Load(files, o)
	var problems document.Problems
	if errors.As(err, &problems) {
		return nil, &failure{code: exitFailed, err: fmt.Errorf("%w\n\n%s", problems, count(len(problems), "problem")), plain: true}
	}
	return set, err
}

// split makes the events of a payload, as the receiver does but for what proves where it comes from.
func split(src *rule.Source, header http.Header, body []byte, kind string, now time.Time) ([]*event.Event, error) {
	deliveries, err := src.Source.Split(&source.Request{Method: http.MethodPost, Header: header, Body: body, ReceivedAt: now})
	if err != nil {
		return nil, err
	}
	events := make([]*event.Event, len(deliveries))
	for i, d := range deliveries {
		e := &event.Event{
			ID: event.RandomID(), Source: src.Name, Type: d.Type, Subject: d.Subject, Time: d.Time, ReceivedAt: now,
			DeliveryID: d.DeliveryID, Headers: d.Headers, Body: d.Body,
		}
		if d.Key != "" {
			e.ID = event.ID(src.Name, d.Key)
		}
		if kind != "" {
			e.Type = kind
		}
		if e.Time.IsZero() {
			e.Time = now
		}
		events[i] = e
	}
	return events, nil
}
