package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

func newRun() *cobra.Command {
	var r remote
	var inputs []string
	var on string
	var wait bool
	cmd := &cobra.Command{
		Use: "run RULE|workflow/NAME", Short: "Run a rule or a workflow by hand", Args: arguments("RULE"), ValidArgsFunction: r.names("rules", "name"),
		Long: `Run starts a rule, which is not asked for its trigger and its condition, or a workflow, and prints the id of the run. All else
that holds for runs holds for it: mode, limits, concurrency, grants, quiet times.

A workflow checks its inputs; the steps of a rule read them as event.data.inputs.NAME. With --event the rule answers a recorded
event instead. With --wait the command ends with the run, and fails where the run does not succeed.`,
		Example: "  riposte run workflow/release --input version='\"1.10\"' --input canary=true --wait\n  riposte run restart-shop --event 5ENG7J6GWJ2C0VDEAHNV9B4Y0M",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := api.StartRequest{Event: on, Inputs: map[string]json.RawMessage{}}
			for _, text := range inputs {
				name, value, ok := strings.Cut(text, "=")
				if _, twice := body.Inputs[name]; !ok || name == "" || twice {
					return usage(cmd, "--input %q must be NAME=VALUE, each name once", text)
				}
				body.Inputs[name] = inputOf(value)
			}
			c, err := r.client(cmd)
			if err != nil {
				return err
			}
			path := "rules/" + url.PathEscape(args[0])
			if name, is := strings.CutPrefix(args[0], "workflow/"); is {
				path = "workflows/" + url.PathEscape(name)
			}
			var started api.Started
			if err := c.Order(cmd.Context(), path+"/run", body, &started); err != nil {
				return err
			}
			if !wait {
				return r.show(cmd.OutOrStdout(), started, func(w io.Writer) { fmt.Fprintln(w, started.ID) })
			}
			return r.follow(cmd, c, started)
		},
	}
	r.bind(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&inputs, "input", nil, "NAME=VALUE; VALUE is JSON, or else a text; repeated for several")
	f.StringVar(&on, "event", "", "let the rule answer this recorded event; the id can be shortened")
	f.BoolVar(&wait, "wait", false, "wait for the run's end, and fail unless it succeeds")
	return cmd
}

// inputOf reads a value as JSON, or takes it as a text.
func inputOf(value string) json.RawMessage {
	if event.Validate([]byte(value)) == nil {
		return json.RawMessage(value)
	}
	text, _ := json.Marshal(value) // it always can
	return text
}

// follow waits for the end of a run and shows it.
func (r *remote) follow(cmd *cobra.Command, c *client.Client, started api.Started) error {
	got, err := ended(cmd.Context(), c, started)
	if err != nil {
		return err
	}
	if err := r.show(cmd.OutOrStdout(), got, func(w io.Writer) { printRun(w, got) }); err != nil {
		return err
	}
	if got.State != run.Succeeded && got.State != run.Observed {
		return &failure{code: exitFailed} // which is shown
	}
	return nil
}

// lookEvery is how often a run that is waited for is looked at.
const lookEvery = 250 * time.Millisecond

// ended asks for a run until it has ended. One that is refused where it is decided never comes to be.
func ended(ctx context.Context, c *client.Client, started api.Started) (api.Run, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var got api.Run
		err := c.Get(ctx, "runs/"+url.PathEscape(started.ID), nil, &got)
		var told *client.Error
		switch {
		case err == nil && got.State.Ended():
			return got, nil
		case errors.As(err, &told) && told.Status == http.StatusNotFound:
			if err := refused(ctx, c, started); err != nil {
				return got, err
			}
		case err != nil:
			return got, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return got, &failure{code: exitFailed, err: fmt.Errorf("run %s goes on", started.ID), hint: "riposte runs show " + started.ID}
		}
	}
}

// refused says why an order started no run, if that is decided.
func refused(ctx context.Context, c *client.Client, started api.Started) error {
	var e api.Event
	if err := c.Get(ctx, "events/"+url.PathEscape(started.Event), nil, &e); err != nil {
		return err
	}
	if e.Decision != nil && len(e.Decision.Runs) == 0 {
		return fmt.Errorf("it started no run: %s", e.Decision.Why)
	}
	return nil
}
