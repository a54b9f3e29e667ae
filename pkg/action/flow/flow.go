// Package flow holds the actions that steer runs and touch nothing outside: wait, fail, and event.emit, which sends an
// event of ours that rules can answer.
//
// Guarantees. A wait holds no goroutine, and ends at its hour however often the server restarts meanwhile. A step emits
// its event once, however often it is tried: the event's id is made of the run and the step, or of the rule and a key. What
// is emitted names the run that caused it, so that a chain of rules that answer one another ends.
package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

const (
	maxWait = 31 * 24 * time.Hour // a run that waits keeps its event, and what came after it, from being purged
	maxData = 256 << 10
	maxText = 256
)

// Options configure the actions.
type Options struct {
	// Append writes to the event log, as eventlog.Log.Append does.
	Append func(context.Context, []event.Record) ([]event.Appended, error)
	Now    func() time.Time
}

// WaitParams are the parameters of wait.
type WaitParams struct {
	For   time.Duration `yaml:"for,omitempty" doc:"how long, from the step's first attempt on; up to 31d"`
	Until string        `yaml:"until,omitempty" doc:"up to when, as RFC 3339: 2026-11-23T10:00:00Z; an hour that is past waits for nothing"`
}

// FailParams are the parameters of fail.
type FailParams struct {
	Message string `yaml:"message" required:"true" doc:"what people are told"`
}

// EmitParams are the parameters of event.emit.
type EmitParams struct {
	Type    string         `yaml:"type" required:"true" doc:"letters, digits, dots, - and _; the event's type is emitted. and this"`
	Subject string         `yaml:"subject,omitempty" doc:"event.subject: what it is about"`
	Data    map[string]any `yaml:"data,omitempty" doc:"event.data"`
	Key     string         `yaml:"key,omitempty" doc:"what makes two emissions of the rule one event; default: the run and the step"`
}

// EmitOutputs are the outputs of event.emit.
type EmitOutputs struct {
	Event     string `yaml:"event" doc:"id of the event"`
	Duplicate bool   `yaml:"duplicate" doc:"it was there before: an earlier attempt, or one with the same key, emitted it"`
}

type none struct{}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	f := &flow{o}
	return []action.Definition{{
		Name:             "wait",
		NoDir:            true,
		Doc:              "Lets the run go on later. Meanwhile it takes neither a worker nor memory, and a restart does not make it longer. A timeout of the step does not count here: it bounds an attempt, and a wait makes none.",
		Params:           &WaitParams{},
		Outputs:          none{},
		RetryInterrupted: true,
		Check:            func(p any) error { return checkWait(p.(*WaitParams)) },
		Run:              f.wait,
	}, {
		Name:             "fail",
		NoDir:            true,
		Doc:              "Fails the step with a message, behind an `if` that says when; `retry` does not repeat it.",
		Params:           &FailParams{},
		Outputs:          none{},
		RetryInterrupted: true,
		Run: func(_ context.Context, c *action.Call) (action.Outputs, error) {
			return nil, action.Permanent(errors.New(c.Params.(*FailParams).Message))
		},
	}, {
		Name:             "event.emit",
		NoDir:            true,
		Doc:              "Sends an event of the source `riposte`, which rules answer with `trigger: {source: riposte, type: emitted.TYPE}`. A step sends it once. A chain of rules that answer one another ends at the server's `loops.maxDepth`.",
		Params:           &EmitParams{},
		Outputs:          EmitOutputs{},
		RetryInterrupted: true,
		Check:            func(p any) error { return checkEmit(p.(*EmitParams)) },
		Fenced:           "The id of the event is made of run and step, or of rule and key, and the log takes an id once.",
		Run:              f.emit,
	}}
}

type flow struct{ Options }

func checkWait(p *WaitParams) error {
	switch {
	case p.For < 0:
		return errors.New("for is negative")
	case p.For > maxWait:
		return fmt.Errorf("for is longer than %d days", maxWait/(24*time.Hour))
	case p.For != 0 && p.Until != "":
		return errors.New("for and until are both given: write one of them")
	case p.Until != "":
		_, err := until(p.Until)
		return err
	}
	return nil
}

func until(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("until: %q is not a time as 2006-01-02T15:04:05Z", clip(text))
	}
	return t, nil
}

func (f *flow) wait(_ context.Context, c *action.Call) (action.Outputs, error) {
	p := c.Params.(*WaitParams)
	err := checkWait(p)
	end := c.StartedAt.Add(p.For)
	if err == nil && p.Until != "" {
		end, err = until(p.Until)
	}
	switch {
	case err != nil:
		return nil, action.Permanent(err)
	case p.For == 0 && p.Until == "":
		return nil, action.Permanent(errors.New("neither for nor until is given"))
	case end.Sub(c.StartedAt) > maxWait:
		return nil, action.Permanent(fmt.Errorf("until %s is more than %d days away", end.Format(time.RFC3339), maxWait/(24*time.Hour)))
	case f.Now().Before(end):
		return nil, action.Wait(end)
	}
	return action.Outputs{}, nil
}

var typeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// checkEmit looks at what is written; what an expression gives is empty here.
func checkEmit(p *EmitParams) error {
	switch {
	case p.Type == "":
	case strings.HasPrefix(p.Type, event.EmittedPrefix):
		return fmt.Errorf("type: leave %s out, which is put in front of it", event.EmittedPrefix)
	case !typeForm.MatchString(p.Type) || len(p.Type) > maxText:
		return fmt.Errorf("type: %q is not up to %d letters, digits, dots, - and _", clip(p.Type), maxText)
	}
	if len(p.Subject) > maxText || len(p.Key) > maxText {
		return fmt.Errorf("subject and key have at most %d bytes", maxText)
	}
	return nil
}

func (f *flow) emit(ctx context.Context, c *action.Call) (action.Outputs, error) {
	p := c.Params.(*EmitParams)
	if err := checkEmit(p); err != nil {
		return nil, action.Permanent(err)
	}
	if p.Type == "" {
		return nil, action.Permanent(errors.New("type is empty"))
	}
	body, err := json.Marshal(p.Data)
	switch {
	case err != nil:
		return nil, action.Permanent(fmt.Errorf("data is not JSON: %w", err))
	case len(body) > maxData:
		return nil, action.Permanent(fmt.Errorf("data is %d bytes of JSON, and at most %d are sent", len(body), maxData))
	case p.Data == nil:
		body = []byte("{}")
	}
	key := []string{"step", c.RunID, c.StepID}
	if p.Key != "" {
		key = []string{"key", c.Rule, p.Type, p.Key}
	}
	text, err := json.Marshal(key) // texts alone
	if err != nil {
		return nil, action.Permanent(err)
	}
	now := f.Now()
	e := &event.Event{
		ID: event.ID(event.OwnSource, string(text)), Source: event.OwnSource, Type: event.EmittedPrefix + p.Type, Subject: p.Subject,
		Time: now, ReceivedAt: now, Body: body, CausedBy: c.RunID,
	}
	done, err := f.Append(ctx, []event.Record{{Kind: event.KindEvent, SourceType: event.OwnSource, Event: e}})
	if err != nil {
		return nil, fmt.Errorf("emit the event: %w", err)
	}
	out := action.Outputs{"event": e.ID, "duplicate": len(done) > 0 && done[0].Duplicate}
	fmt.Fprintf(c.Log, "event %s of type %s\n", e.ID, e.Type)
	return out, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
