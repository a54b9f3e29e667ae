package flow

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/event"
)

// log is an event log that knows the ids it holds.
type log struct {
	events []*event.Event
	err    error
}

func (l *log) append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	if l.err != nil {
		return nil, l.err
	}
	e := records[0].Event
	for _, known := range l.events {
		if known.ID == e.ID {
			return []event.Appended{{ID: e.ID, Duplicate: true}}, nil
		}
	}
	l.events = append(l.events, e)
	return []event.Appended{{ID: e.ID}}, nil
}

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func definition(t *testing.T, name string, l *log) action.Definition {
	t.Helper()
	for _, d := range Definitions(Options{Append: l.append, Now: noon}) {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no action %s", name)
	return action.Definition{}
}

func TestWaitGivesTheHourBackUntilItHasCome(t *testing.T) {
	d := definition(t, "wait", &log{})
	begun := func(ago time.Duration) func(*testing.T, *action.Call) {
		return func(_ *testing.T, c *action.Call) { c.StartedAt = noon().Add(-ago) }
	}
	waits := func(until time.Time) func(*testing.T, action.Outputs, string, error) {
		return func(t *testing.T, _ action.Outputs, _ string, err error) {
			var wait *action.WaitError
			if !errors.As(err, &wait) || !wait.Until.Equal(until) {
				t.Errorf("%v, want a wait until %s", err, until)
			}
		}
	}
	actiontest.Run(t, d, []actiontest.Case{
		{Name: "for", Params: &WaitParams{For: time.Hour}, Prepare: begun(0), Want: actiontest.Fails, Check: waits(noon().Add(time.Hour))},
		{Name: "for, after a restart", Params: &WaitParams{For: time.Hour}, Prepare: begun(20 * time.Minute), Want: actiontest.Fails, Check: waits(noon().Add(40 * time.Minute))},
		{Name: "for, at its end", Params: &WaitParams{For: time.Hour}, Prepare: begun(time.Hour)},
		{Name: "until", Params: &WaitParams{Until: "2026-11-23T14:00:00+01:00"}, Prepare: begun(0), Want: actiontest.Fails, Check: waits(noon().Add(time.Hour))},
		{Name: "until the past", Params: &WaitParams{Until: "2026-11-23T11:00:00Z"}, Prepare: begun(0)},
		{Name: "nothing", Params: &WaitParams{}, Prepare: begun(0), Want: actiontest.Permanent, ErrorHas: []string{"neither for nor until"}},
		{Name: "both", Params: &WaitParams{For: 1, Until: "2026-11-23T11:00:00Z"}, Prepare: begun(0), Want: actiontest.Permanent, ErrorHas: []string{"write one"}},
		{Name: "no time", Params: &WaitParams{Until: "noon"}, Prepare: begun(0), Want: actiontest.Permanent, ErrorHas: []string{"noon"}},
		{Name: "too long", Params: &WaitParams{Until: "2027-11-23T11:00:00Z"}, Prepare: begun(0), Want: actiontest.Permanent, ErrorHas: []string{"31 days"}},
	})
	if err := d.Check(&WaitParams{For: 32 * 24 * time.Hour}); err == nil {
		t.Error("32 days pass the check")
	}
}

func TestFailSaysWhatItIsTold(t *testing.T) {
	actiontest.Run(t, definition(t, "fail", &log{}), []actiontest.Case{
		{Name: "message", Params: &FailParams{Message: "the stage is locked"}, Want: actiontest.Permanent, ErrorHas: []string{"the stage is locked"}},
	})
}

func TestAStepEmitsItsEventOnce(t *testing.T) {
	l := &log{}
	d := definition(t, "event.emit", l)
	data := map[string]any{"version": "1.2"}
	actiontest.Run(t, d, []actiontest.Case{
		{Name: "first", Params: &EmitParams{Type: "deployed", Subject: "shop", Data: data}, Outputs: action.Outputs{"duplicate": false}},
		{Name: "again", Params: &EmitParams{Type: "deployed", Subject: "shop", Data: data}, Outputs: action.Outputs{"duplicate": true}, Prepare: func(_ *testing.T, c *action.Call) { c.Attempt = 2 }},
		{Name: "another step", Params: &EmitParams{Type: "deployed"}, Outputs: action.Outputs{"duplicate": false}, Prepare: func(_ *testing.T, c *action.Call) { c.StepID = "b" }},
		{Name: "key", Params: &EmitParams{Type: "deployed", Key: "1.2"}, Outputs: action.Outputs{"duplicate": false}},
		{Name: "key of another run", Params: &EmitParams{Type: "deployed", Key: "1.2"}, Outputs: action.Outputs{"duplicate": true}, Prepare: func(_ *testing.T, c *action.Call) { c.RunID = "other" }},
		{Name: "key of another rule", Params: &EmitParams{Type: "deployed", Key: "1.2"}, Outputs: action.Outputs{"duplicate": false}, Prepare: func(_ *testing.T, c *action.Call) { c.Rule = "other" }},
		{Name: "prefix", Params: &EmitParams{Type: "emitted.x"}, Want: actiontest.Permanent, ErrorHas: []string{"leave emitted. out"}},
		{Name: "form", Params: &EmitParams{Type: "a b"}, Want: actiontest.Permanent, ErrorHas: []string{"letters"}},
		{Name: "empty", Params: &EmitParams{}, Want: actiontest.Permanent, ErrorHas: []string{"type is empty"}},
		{Name: "large", Params: &EmitParams{Type: "x", Data: map[string]any{"a": strings.Repeat("x", maxData)}}, Want: actiontest.Permanent, ErrorHas: []string{"at most"}},
	})
	e := l.events[0]
	if e.Source != "riposte" || e.Type != "emitted.deployed" || e.Subject != "shop" || string(e.Body) != `{"version":"1.2"}` || e.CausedBy == "" {
		t.Errorf("%+v", e)
	}
	full := definition(t, "event.emit", &log{err: event.ErrLogFull})
	actiontest.Run(t, full, []actiontest.Case{{Name: "full log", Params: &EmitParams{Type: "x"}, Want: actiontest.Fails}})
}
