// Package catchup asks senders for what was missed while no replica was there to receive it.
//
// What it finds goes into the log as if it had been received, with the ids that it would have had, so that asking twice
// does no harm. One replica asks at a time, when it begins and then every so often, and how far each sender was asked for
// is kept in the store: an error leaves that as it is, so that nothing is passed over. Askers bound what they bring.
package catchup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Asker asks one sender for what it could not deliver since a time, and hands over the records that come of it. An error of
// take ends it and is returned.
type Asker func(ctx context.Context, since time.Time, take func([]event.Record) error) error

// Options configure a Driver; all but Logger are needed.
type Options struct {
	// Askers by the name of their source.
	Askers map[string]Asker
	// Append writes to the event log.
	Append func(context.Context, []event.Record) ([]event.Appended, error)
	// Mine reports whether it is this replica that asks.
	Mine func() bool
	// Mark returns up to when a source was asked for; zero where it never was. SetMark keeps it.
	Mark     func(ctx context.Context, source string) (time.Time, error)
	SetMark  func(ctx context.Context, source string, t time.Time) error
	Interval time.Duration
	Now      func() time.Time
	Logger   *slog.Logger // nil discards
}

const (
	look    = 2 * time.Second // how often it is asked whose turn it is
	timeout = 5 * time.Minute // of one asker
	// farthest is how far back is asked for: hosts keep what they could not deliver for some days.
	farthest = 72 * time.Hour
	// overlap is by how much further back than the last time is asked for: clocks differ, and an attempt that hung while it was
	// asked is listed only after it failed, with the time at which it began.
	overlap = 2 * time.Minute
)

// Driver asks. Run it once.
type Driver struct {
	Options
	next map[string]time.Time // by source: when it is asked again
}

// New makes a Driver.
func New(o Options) (*Driver, error) {
	if o.Append == nil || o.Mine == nil || o.Mark == nil || o.SetMark == nil || o.Now == nil || o.Interval <= 0 {
		return nil, errors.New("catchup: an option is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{Options: o, next: map[string]time.Time{}}, nil
}

// Run asks until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	if len(d.Askers) == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if !d.Mine() {
			clear(d.next) // whoever begins asks at once
		} else {
			d.round(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round asks those whose time has come, at once: one that does not answer holds up no other.
func (d *Driver) round(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	for name, ask := range d.Askers {
		now := d.Now()
		if now.Before(d.next[name]) || ctx.Err() != nil {
			continue
		}
		d.next[name] = now.Add(d.Interval)
		asked.Go(func() { d.askOne(ctx, name, ask, now) })
	}
}

func (d *Driver) askOne(ctx context.Context, name string, ask Asker, now time.Time) {
	n, err := d.ask(ctx, name, ask, now)
	switch {
	case err != nil && ctx.Err() == nil:
		d.Logger.Warn("a sender could not be asked for what was missed; it is tried again", "source", name, "in", d.Interval, "error", err)
	case n > 0:
		d.Logger.Info("events that were missed are taken", "source", name, "events", n)
	}
}

// ask asks one sender and returns how many events are new.
func (d *Driver) ask(ctx context.Context, name string, ask Asker, now time.Time) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	since, err := d.Mark(ctx, name)
	if err != nil {
		return 0, err
	}
	if since.IsZero() { // what was before the first start was not missed
		since = now
	} else {
		since = since.Add(-overlap)
	}
	if oldest := now.Add(-farthest); since.Before(oldest) {
		since = oldest
	}
	err = ask(ctx, since, func(records []event.Record) error {
		done, err := d.Append(ctx, records)
		if err != nil {
			return fmt.Errorf("append to the log: %w", err)
		}
		for _, a := range done {
			if !a.Duplicate {
				n++
			}
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, d.SetMark(ctx, name, now)
}

// Records makes of deliveries what the receiver would have made of them.
func Records(name, preset string, deliveries []source.Delivery, at time.Time) []event.Record {
	out := make([]event.Record, len(deliveries))
	for i, d := range deliveries {
		e := &event.Event{
			ID: event.RandomID(), Source: name, Type: d.Type, Subject: d.Subject, Time: d.Time, ReceivedAt: at, DeliveryID: d.DeliveryID, Headers: d.Headers, Body: d.Body,
		}
		if d.Key != "" {
			e.ID = event.ID(name, d.Key)
		}
		if e.Time.IsZero() {
			e.Time = at
		}
		out[i] = event.Record{Kind: event.KindEvent, SourceType: preset, Event: e}
	}
	return out
}
