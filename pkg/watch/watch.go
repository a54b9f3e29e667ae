// Package watch makes the events of those sources whose objects are watched in a cluster.
//
// One replica watches at a time. How far the changes of a source are dealt with is kept in the store once they are in the
// log, so that nothing is passed over by a crash, a restart or a handover; what is seen twice has the same id, and the log
// knows it. Where the cluster has forgotten what came after that place, the objects are listed anew: what changed since is
// told in its last state, and what was deleted meanwhile is not. A source that fails is tried again, and says so.
package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Source is one whose objects are watched.
type Source struct {
	Type    string // the preset's name
	Source  source.Watched
	Account string // as whom, NAMESPACE/NAME or NAME; empty for the server's own
}

// ErrExpired says that the cluster does not know any more what came after a version.
var ErrExpired = errors.New("the version is too old")

// Request names what to list or watch: the objects of a selection in one namespace, or in all where it is empty.
type Request struct {
	Account   string
	Selection source.Selection
	Namespace string
}

// Options configure a Driver; all but Logger are needed.
type Options struct {
	// Sources returns the active ones by name; ok is false while it is not known which they are.
	Sources func() (sources map[string]Source, ok bool)
	// List hands over the objects that there are, and returns the version of the whole.
	List func(ctx context.Context, r Request, take func(object map[string]any) error) (version string, err error)
	// Watch hands over what happens after a version, and each version up to which nothing more happened, with no object. It
	// returns nil when the cluster ends it, and an error that wraps ErrExpired where it must be listed anew.
	Watch func(ctx context.Context, r Request, version string, take func(c source.Change, version string) error) error
	// Append writes to the event log.
	Append func(context.Context, []event.Record) ([]event.Appended, error)
	// Mine reports whether it is this replica that watches.
	Mine func() bool
	// Place returns what SetPlace kept by a key, or nil.
	Place    func(ctx context.Context, key string) ([]byte, error)
	SetPlace func(ctx context.Context, key string, place []byte) error
	Now      func() time.Time
	Logger   *slog.Logger // nil discards
}

const (
	look     = 2 * time.Second // how often it is asked whose turn it is
	saveWait = 2 * time.Second // between two places that are kept
	minPause = time.Second     // before a source that failed is tried again
	maxPause = time.Minute
	// overlap is by how much clocks and the last place kept may differ when objects are listed anew.
	overlap = 2 * time.Minute
)

// Driver watches. Run it once; Wake and Problem are safe for concurrent use.
type Driver struct {
	Options
	woken   chan struct{}
	watches map[string]*watched // by key

	mu       sync.Mutex
	problems map[string]problem // by key of a watch
}

// watched is one watch under way.
type watched struct {
	*Driver
	key     string // of its place
	name    string // of its source
	source  Source
	request Request
	cancel  context.CancelFunc
	done    chan struct{}
	kept    place
	saved   time.Time
}

// place is how far the changes of a selection are dealt with.
type place struct {
	Selection string    `json:"selection"` // its digest: another one begins anew
	Version   string    `json:"version"`
	At        time.Time `json:"at"`
}

// New makes a Driver.
func New(o Options) (*Driver, error) {
	if o.Sources == nil || o.List == nil || o.Watch == nil || o.Append == nil || o.Mine == nil || o.Place == nil || o.SetPlace == nil || o.Now == nil {
		return nil, errors.New("watch: an option is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{Options: o, woken: make(chan struct{}, 1), watches: map[string]*watched{}, problems: map[string]problem{}}, nil
}

// Wake has the driver look at its sources anew: others are active now. It never waits.
func (d *Driver) Wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// Problem says why the objects of a source can't be watched, or nil.
func (d *Driver) Problem(source string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(d.problems)) {
		if p := d.problems[key]; p.source == source {
			errs = append(errs, p.error)
		}
	}
	return errors.Join(errs...)
}

// problem is why a watch fails.
type problem struct {
	error
	source string
}

// Run watches until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	defer d.keep(ctx, nil)
	for {
		if sources, ok := d.Sources(); ok {
			d.keep(ctx, d.wanted(sources))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.woken:
		case <-tick.C:
		}
	}
}

// wanted lists the watches that there should be.
func (d *Driver) wanted(sources map[string]Source) map[string]*watched {
	out := map[string]*watched{}
	if !d.Mine() {
		return out
	}
	for name, s := range sources {
		selection := s.Source.Selection()
		for _, namespace := range orAll(selection.Namespaces) {
			w := &watched{Driver: d, key: name + "." + namespace, name: name, source: s, request: Request{s.Account, selection, namespace}}
			if namespace == "" {
				w.key = name
			}
			out[w.key] = w
		}
	}
	return out
}

func orAll(namespaces []string) []string {
	if len(namespaces) == 0 {
		return []string{""}
	}
	return namespaces
}

// keep ends the watches that are not wanted any more, and begins those that are.
func (d *Driver) keep(ctx context.Context, wanted map[string]*watched) {
	var ending []*watched
	for key, w := range d.watches {
		if next := wanted[key]; next == nil || !next.same(w) {
			w.cancel()
			ending = append(ending, w)
			delete(d.watches, key)
		}
	}
	for _, w := range ending { // all at once: where the store is gone each takes its time
		<-w.done
	}
	d.forget(wanted)
	for key, w := range wanted {
		if d.watches[key] == nil {
			watching, cancel := context.WithCancel(ctx)
			w.cancel, w.done = cancel, make(chan struct{})
			d.watches[key] = w
			go w.run(watching)
		}
	}
}

// same reports whether a watch tells the same: the preset of a reloaded rule set is another value.
func (w *watched) same(o *watched) bool {
	return w.request.Account == o.request.Account && w.digest() == o.digest() && w.source.Type == o.source.Type && sameEvents(w.source.Source, o.source.Source)
}

// sameEvents compares what two sources make of the kinds of changes there are.
func sameEvents(a, b source.Watched) bool {
	for _, kind := range []string{"ADDED", "MODIFIED", "DELETED"} {
		c := source.Change{Type: kind, Object: map[string]any{"metadata": map[string]any{"uid": "u", "name": "n"}}}
		one, _, in := a.Change(c)
		other, _, also := b.Change(c)
		if in != also || one.Type != other.Type {
			return false
		}
	}
	return true
}

// forget drops the problems of what is watched here no more.
func (d *Driver) forget(wanted map[string]*watched) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.problems, func(key string, _ problem) bool { return wanted[key] == nil })
}

func (w *watched) digest() string {
	s := w.request.Selection
	s.Namespaces = nil // each has its own
	text, _ := json.Marshal(s)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// run watches until ctx ends, and tries again what fails.
func (w *watched) run(ctx context.Context) {
	defer close(w.done)
	pause := minPause
	for ctx.Err() == nil {
		began := w.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil && w.Now().Sub(began) >= minPause { // a watch is ended by the cluster every few minutes
			pause = minPause
			continue
		}
		if w.Now().Sub(began) >= maxPause { // it worked: something on the way cuts long connections
			pause = minPause
		}
		w.report(err, pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
	// What is dealt with is kept although ctx has ended: the next one need not begin so far back.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := w.save(last); err != nil {
		w.Logger.Warn("how far a source is dealt with could not be kept; some changes are looked at again", "source", w.name, "error", err)
	}
}

func (w *watched) report(err error, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.problems, w.key)
		return
	}
	if was, there := w.problems[w.key]; !there || was.Error() != err.Error() {
		w.Logger.Error("objects can't be watched; it is tried again", "source", w.name, "namespace", w.request.Namespace, "in", pause, "error", err)
	}
	w.problems[w.key] = problem{err, w.name}
}

// follow takes what happened since the place that is kept, and then what happens.
func (w *watched) follow(ctx context.Context) error {
	text, err := w.Place(ctx, w.key)
	if err != nil {
		return fmt.Errorf("ask how far its changes are dealt with: %w", err)
	}
	var from place
	_ = json.Unmarshal(text, &from) // what can't be read begins anew
	if from.Selection != w.digest() || from.Version == "" {
		if from, err = w.begin(ctx, time.Time{}); err != nil {
			return err
		}
	}
	w.kept = from
	err = w.Watch(ctx, w.request, from.Version, func(c source.Change, version string) error { return w.take(ctx, c, version) })
	if errors.Is(err, ErrExpired) {
		w.Logger.Warn("the cluster has forgotten what changed: the objects are listed anew, and what was deleted meanwhile is not known", "source", w.name, "since", from.At)
		w.kept, err = w.begin(ctx, from.At)
	}
	if err != nil {
		return err
	}
	return w.save(ctx)
}

// begin lists the objects, takes those that changed since a time, none where it is zero, and returns the place after that.
func (w *watched) begin(ctx context.Context, since time.Time) (place, error) {
	now := w.Now()
	var changed []map[string]any
	version, err := w.List(ctx, w.request, func(o map[string]any) error {
		if !since.IsZero() {
			changed = append(changed, o)
		}
		return nil
	})
	if err != nil {
		return place{}, err
	}
	for _, o := range changed {
		d, causedBy, ok := w.source.Source.Change(source.Change{Type: listed(o, since), Object: o})
		if ok && !d.Time.Before(since.Add(-overlap)) {
			if err := w.append(ctx, d, causedBy); err != nil {
				return place{}, err
			}
		}
	}
	p := place{w.digest(), version, now}
	w.kept, w.saved = p, time.Time{}
	return p, w.save(ctx)
}

// listed says what became of an object that is there, and may not have been there at a time.
func listed(object map[string]any, since time.Time) string {
	metadata, _ := object["metadata"].(map[string]any)
	text, _ := metadata["creationTimestamp"].(string)
	if created, err := time.Parse(time.RFC3339, text); err == nil && created.After(since) {
		return "ADDED"
	}
	return "MODIFIED"
}

// take deals with a change, or with a version up to which there was none.
func (w *watched) take(ctx context.Context, c source.Change, version string) error {
	w.report(nil, 0)
	if c.Object != nil {
		if d, causedBy, ok := w.source.Source.Change(c); ok {
			if err := w.append(ctx, d, causedBy); err != nil {
				return err
			}
		}
	}
	w.kept.Version, w.kept.At = version, w.Now()
	if w.Now().Sub(w.saved) < saveWait {
		return nil
	}
	return w.save(ctx)
}

func (w *watched) append(ctx context.Context, d source.Delivery, causedBy string) error {
	now := w.Now()
	e := &event.Event{
		ID: event.ID(w.name, d.Key), Source: w.name, Type: d.Type, Subject: d.Subject, Time: d.Time, ReceivedAt: now, Body: d.Body, CausedBy: causedBy,
	}
	if e.Time.IsZero() {
		e.Time = now
	}
	_, err := w.Append(ctx, []event.Record{{Kind: event.KindEvent, SourceType: w.source.Type, Event: e}})
	if err != nil {
		return fmt.Errorf("append to the log: %w", err)
	}
	return nil
}

func (w *watched) save(ctx context.Context) error {
	if w.kept.Version == "" {
		return nil
	}
	text, err := json.Marshal(w.kept)
	if err == nil {
		err = w.SetPlace(ctx, w.key, text)
	}
	if err != nil {
		return fmt.Errorf("keep how far its changes are dealt with: %w", err)
	}
	w.saved = w.Now()
	return nil
}
