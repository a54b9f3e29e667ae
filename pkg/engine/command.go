package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// command hears an order to a run, once: the order's place in the log is part of what is written.
func (p *partition) command(ctx context.Context, en event.Entry) {
	order, id := en.Record.Event.Type, en.Record.Event.Subject
	pos := en.Pos
	heard := run.Entry{At: p.e.Now(), Kind: run.Commanded, Run: id, Event: en.Record.Event.ID, Pos: &pos, Revision: p.revision, Command: order}
	if a := p.runs[id]; a != nil {
		p.commandActive(ctx, a, heard, en.Record.Event)
		return
	}
	a, err := p.reopen(ctx, id, order)
	var record *run.Run
	if err == nil {
		record, err = carried(a.run)
	}
	if err != nil {
		p.log.Warn("order to a run is refused", "run", id, "order", order, "error", err)
		heard.Run, heard.Why = "", fmt.Sprintf("%s of run %s refused: %v", order, id, err)
		p.entries = append(p.entries, heard)
		return
	}
	heard.Record, *a.run = record, snapshot(record)
	p.runs[id] = a
	p.alerts.add(a)
	p.entries = append(p.entries, heard)
	p.touched = append(p.touched, a)
	p.advance(ctx, a)
}

func (p *partition) commandActive(ctx context.Context, a *active, heard run.Entry, e *event.Event) {
	switch heard.Command {
	case run.CommandApprove, run.CommandReject:
		p.consent(ctx, a, heard, e)
		return
	case run.CommandCancel:
	default:
		heard.Run, heard.Why = "", fmt.Sprintf("%s of run %s refused: it has not ended", heard.Command, a.run.ID)
		p.entries = append(p.entries, heard)
		return
	}
	p.record(a, heard)
	p.cancel(a, errCancelled)
	p.advance(ctx, a)
}

// reopen makes a run that ended active again, from its record in the journals.
func (p *partition) reopen(ctx context.Context, id, order string) (*active, error) {
	if order != run.CommandRetry && order != run.CommandRevive {
		return nil, errors.New("it has ended")
	}
	r, err := p.ended(ctx, id)
	if err != nil {
		return nil, err
	}
	if order == run.CommandRevive && (r.State != run.Failed || r.Revivals >= run.MaxRevivals) {
		return nil, fmt.Errorf("it is %s, and %d redeliveries made it go on before", r.State, r.Revivals)
	}
	set, err := p.e.set(ctx, r.RuleRevision)
	if err != nil {
		return nil, err
	}
	rl, ok := set.ByHand(r.Rule)
	if !ok {
		return nil, fmt.Errorf("revision %.12s has no rule %s", r.RuleRevision, r.Rule)
	}
	if message, paused := p.e.paused(rl); paused {
		return nil, errors.New(message)
	}
	r.Again()
	if order == run.CommandRevive {
		r.Revivals++
	}
	return &active{run: &r, rule: rl, dir: true}, nil
}

// ended reads a run's record, with all that this partition has written. Journals that can't be read are tried again for
// some seconds.
func (p *partition) ended(ctx context.Context, id string) (run.Run, error) {
	if !p.commit(ctx) {
		return run.Run{}, run.ErrFenced
	}
	var r run.Run
	err := patiently(ctx, func() (err error) {
		r, err = p.e.Store.Run(ctx, id)
		return err
	})
	switch {
	case err != nil:
		return r, err
	case r.ID != id || !r.State.Ended():
		return r, fmt.Errorf("it is %s", r.State)
	}
	return r, nil
}

// Orders puts orders to runs into the log, where the run's owner finds them whichever replica that is. Safe for concurrent use.
type Orders struct {
	// Append writes to the event log.
	Append func(context.Context, []event.Record) ([]event.Appended, error)
	// Failed returns the runs that an event started and that failed, with attempts left for redeliveries.
	Failed func(eventID string) []run.Run
	Now    func() time.Time
}

// Cancel orders a run to stop.
func (o *Orders) Cancel(ctx context.Context, runID string) error {
	return o.order(ctx, run.CommandCancel, runID)
}

// Retry orders a run that ended to go on from the steps that did not succeed.
func (o *Orders) Retry(ctx context.Context, runID string) error {
	return o.order(ctx, run.CommandRetry, runID)
}

// Consent gives a person's yes (run.CommandApprove) or no (run.CommandReject) to a run, and returns the order's id, by which
// what came of it can be found in the journals.
func (o *Orders) Consent(ctx context.Context, order, runID string, by Order) (orderID string, err error) {
	body, err := json.Marshal(by)
	if err != nil {
		return "", fmt.Errorf("order %s to run %s: %w", order, runID, err)
	}
	return o.append(ctx, order, runID, body)
}

// Revive adds an attempt to the failed runs of redelivered events, and returns their ids.
func (o *Orders) Revive(ctx context.Context, eventIDs []string) ([]string, error) {
	var revived []string
	for _, id := range eventIDs {
		for _, r := range o.Failed(id) {
			if r.State != run.Failed || r.Revivals >= run.MaxRevivals {
				continue
			}
			if err := o.order(ctx, run.CommandRevive, r.ID); err != nil {
				return revived, err
			}
			revived = append(revived, r.ID)
		}
	}
	return revived, nil
}

func (o *Orders) order(ctx context.Context, order, runID string) error {
	_, err := o.append(ctx, order, runID, nil)
	return err
}

func (o *Orders) append(ctx context.Context, order, runID string, body []byte) (id string, err error) {
	id = event.RandomID()
	_, err = o.Append(ctx, []event.Record{{
		Kind:  event.KindCommand,
		Event: &event.Event{ID: id, Type: order, Subject: runID, Body: body, ReceivedAt: o.Now()},
	}})
	if err != nil {
		return "", fmt.Errorf("order %s to run %s: %w", order, runID, err)
	}
	return id, nil
}
