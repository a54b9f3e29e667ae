package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// ByHand reports whether an event starts the one rule that it names, which is not asked for trigger and condition.
func ByHand(e *event.Event) bool { return e.Source == event.OwnSource && e.Type == event.TypeRun }

// order is the body of such an event.
type order struct {
	Inputs map[string]any `json:"inputs"`
	Who    string         `json:"who"`
	Event  string         `json:"event,omitempty"` // the recorded event that the rule is to answer; empty: this one
}

// Start is what a person wants to run.
type Start struct {
	Rule   string         // or workflow/NAME
	Inputs map[string]any // event.data.inputs
	Event  string         // whole id of the recorded event that the rule is to answer; empty for none
	Who    string
}

// Start puts a person's wish to run a rule into the log, and returns the ids of the run that comes of it and of the event
// that says so. What the active rules do not have is refused where the event is decided, on record.
func (o *Orders) Start(ctx context.Context, s Start) (runID, eventID string, err error) {
	if s.Inputs == nil {
		s.Inputs = map[string]any{}
	}
	body, err := json.Marshal(order{s.Inputs, s.Who, s.Event})
	if err != nil {
		return "", "", fmt.Errorf("start %s: %w", s.Rule, err)
	}
	now := o.Now()
	e := &event.Event{ID: event.RandomID(), Source: event.OwnSource, Type: event.TypeRun, Subject: s.Rule, Time: now, ReceivedAt: now, Body: body}
	if _, err := o.Append(ctx, []event.Record{{Kind: event.KindEvent, SourceType: event.OwnSource, Event: e}}); err != nil {
		return "", "", fmt.Errorf("start %s: %w", s.Rule, err)
	}
	return runOf(e.ID, s.Rule), e.ID, nil
}

// runOf is the id of the run that a rule, or a workflow, makes of an event.
func runOf(eventID, rule string) string { return eventID + "-" + strings.ReplaceAll(rule, "/", "-") }

// answerByHand starts the rule that the event names, or records why not.
func (p *partition) answerByHand(ctx context.Context, q question) {
	var created []run.Created
	result, reason := "run", ""
	c, e, err := p.createByHand(ctx, q)
	if err == nil {
		created = append(created, c)
	} else {
		result, reason = "refused", err.Error()
		p.log.Warn("a run by hand is refused", "event", q.id, "rule", q.event.Subject, "error", err)
	}
	for _, f := range q.fired {
		created = append(created, p.createFired(ctx, f, q.event))
	}
	p.e.metrics.decisions.WithLabelValues(result).Inc()
	for _, c := range p.decision(q, created, reason) {
		p.begin(c, e, q.set)
	}
}

// createByHand names the run, and returns the event that it is about.
func (p *partition) createByHand(ctx context.Context, q question) (run.Created, *event.Event, error) {
	r, ok := q.set.ByHand(q.event.Subject)
	if !ok {
		return run.Created{}, nil, fmt.Errorf("revision %.12s has no rule %s", q.revision, q.event.Subject)
	}
	var want order
	if err := json.Unmarshal(q.event.Body, &want); err != nil {
		return run.Created{}, nil, fmt.Errorf("the order can't be read: %w", err)
	}
	if want.Event == "" {
		return p.create(q, r), q.event, nil
	}
	var en event.Entry
	err := patiently(ctx, func() (err error) {
		en, err = p.e.Log.Read(ctx, want.Event, event.Pos{})
		return err
	})
	if err == nil {
		err = normalise(q.set, en.Record.Event)
	}
	if err != nil {
		return run.Created{}, nil, fmt.Errorf("event %s can't be read: %w", want.Event, err)
	}
	about := q
	about.event = en.Record.Event
	c := p.create(about, r)
	c.Event, c.Events = want.Event, []run.EventRef{{ID: want.Event, Pos: en.Pos}} // which keeps it from being purged
	return c, about.event, nil
}

// patiently does something that asks the store, and tries it again for some seconds where the store does not answer.
func patiently(ctx context.Context, do func() error) error {
	for wait, tries := 50*time.Millisecond, 0; ; wait, tries = 2*wait, tries+1 {
		err := do()
		if err == nil || errors.Is(err, event.ErrNotFound) || tries == 5 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
