// Package schedule makes the events of those sources that time alone makes.
//
// Every replica runs a Driver, and each makes every event: the log takes an id once, so that one replica that lives is
// enough, and none has to know of the others. How far the hours are dealt with is kept in the store, so that what was
// missed while no replica ran is known; the sources say what becomes of that. An event is durable before its hour counts
// as dealt with: a crash in between makes it again, and the log knows it.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Source is one that time makes events of.
type Source struct {
	Type   string // the preset's name
	Source source.Scheduled
}

// Options configure a Driver; all but Logger are needed.
type Options struct {
	// Sources returns the active ones by name; ok is false while it is not known which they are.
	Sources func() (sources map[string]Source, ok bool)
	// Append writes to the event log.
	Append func(context.Context, []event.Record) ([]event.Appended, error)
	// Mark returns up to when a source's hours were dealt with; zero where they never were. SetMark keeps it.
	Mark    func(ctx context.Context, source string) (time.Time, error)
	SetMark func(ctx context.Context, source string, at time.Time) error
	Now     func() time.Time
	Logger  *slog.Logger // nil discards
}

const (
	// every is how often it is noted at least how far the hours are dealt with.
	every = 15 * time.Second
	// again is when something is tried again that the store refused.
	again = 2 * time.Second
)

// Driver makes events at their hours. Run it once; Wake is safe for concurrent use.
type Driver struct {
	Options
	woken chan struct{}
	upTo  map[string]time.Time // by source: the hours up to then are dealt with; nil before the first look
}

// New makes a Driver.
func New(o Options) (*Driver, error) {
	if o.Sources == nil || o.Append == nil || o.Mark == nil || o.SetMark == nil || o.Now == nil {
		return nil, errors.New("schedule: an option is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{Options: o, woken: make(chan struct{}, 1)}, nil
}

// Wake has the driver look at its sources anew: others are active now. It never waits.
func (d *Driver) Wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// Run makes events until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.woken:
		case <-timer.C:
		}
		timer.Reset(d.look(ctx))
	}
}

// look makes what is due, and returns when to look again.
func (d *Driver) look(ctx context.Context) time.Duration {
	sources, ok := d.Sources()
	if !ok {
		return every
	}
	if err := d.begin(ctx, sources); err != nil {
		d.complain(ctx, err)
		return again
	}
	now, failed := d.Now(), false
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if err := d.due(ctx, name, sources[name], now); err != nil {
			d.complain(ctx, fmt.Errorf("events of source %s: %w", name, err))
			failed = true
		}
	}
	if failed {
		return again
	}
	wait := every
	for _, s := range sources {
		if next := s.Source.Next(now); !next.IsZero() {
			wait = min(wait, next.Sub(d.Now()))
		}
	}
	return max(0, wait)
}

func (d *Driver) complain(ctx context.Context, err error) {
	if ctx.Err() == nil {
		d.Logger.Warn("schedules are behind; it is tried again", "in", again, "error", err)
	}
}

// begin settles from when on the hours of each source count: those of sources that are there when the server begins from
// where the last one stopped with them, those of others from now on.
func (d *Driver) begin(ctx context.Context, sources map[string]Source) error {
	now := d.Now()
	if d.upTo == nil {
		upTo := map[string]time.Time{}
		for name := range sources {
			mark, err := d.Mark(ctx, name)
			if err != nil {
				return fmt.Errorf("ask how far the hours of source %s were dealt with: %w", name, err)
			}
			if !mark.IsZero() && mark.Before(now) {
				upTo[name] = mark
			}
		}
		d.upTo = upTo
	}
	for name := range sources {
		if _, known := d.upTo[name]; !known {
			d.upTo[name] = now
		}
	}
	maps.DeleteFunc(d.upTo, func(name string, _ time.Time) bool { _, there := sources[name]; return !there })
	return nil
}

// due makes the events of one source.
func (d *Driver) due(ctx context.Context, name string, s Source, now time.Time) error {
	deliveries, dropped := s.Source.Due(d.upTo[name], now)
	if dropped > 0 {
		d.Logger.Warn("hours of a schedule were missed", "source", name, "since", d.upTo[name], "events", len(deliveries), "dropped", dropped)
	}
	if len(deliveries) > 0 {
		records := make([]event.Record, len(deliveries))
		for i, v := range deliveries {
			records[i] = event.Record{Kind: event.KindEvent, SourceType: s.Type, Event: &event.Event{
				ID: event.ID(name, v.Key), Source: name, Type: v.Type, Subject: v.Subject, Time: v.Time, ReceivedAt: now, Body: v.Body,
			}}
		}
		if _, err := d.Append(ctx, records); err != nil {
			return err
		}
	}
	if now.After(d.upTo[name]) {
		d.upTo[name] = now
	}
	return d.SetMark(ctx, name, now)
}
