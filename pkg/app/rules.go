package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/receive"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/runstore"
	"github.com/riposte-dev/riposte/pkg/schedule"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/watch"
)

// Registries are the senders and the actions that rules can name.
type Registries struct {
	Sources source.Registry
	Actions action.Registry
}

// rules makes sets of rules active, and knows the one that this replica receives with.
type rules struct {
	registries Registries
	secrets    *secrets
	events     *eventlog.Log
	audit      audit.Writer
	log        *slog.Logger
	dev        bool
	grants     grant.List
	sync       ruleSync
	pauses     *runstore.Pauses
	origin     string                  // the repository they come from, for people; empty for directories
	activated  chan *rule.Set          // the newest that a partition decides with
	watches    func(*event.Event) bool // the events that may be about the rules' own repository
	watched    func(*event.Event)
	changed    func()                    // told when other rules are received with; it may not wait
	problem    func(source string) error // why nothing comes of a source that is watched

	// activating is held while this replica activates a set, so that follow does not show it before it is said to be active.
	activating sync.Mutex

	// restoring is held while a set is loaded from the store, so that partitions that want the same one at once share it. Files
	// that are loaded for the first time may take long, and nobody waits for them.
	restoring sync.Mutex

	mu        sync.Mutex
	set       *rule.Set
	endpoints map[string]*receive.Endpoint
	// checked is the last set that was loaded with every check, latest the last with or without: what has not changed since is
	// not compiled again.
	checked, latest *rule.Set
}

// ruleSync brings rules from where they are written.
type ruleSync interface {
	Run(ctx context.Context) error
	Status() rulesync.Status
}

func newRules(r Registries, s *secrets, events *eventlog.Log, a audit.Writer, log *slog.Logger, dev bool) *rules {
	return &rules{registries: r, secrets: s, events: events, audit: a, log: log, dev: dev, set: &rule.Set{}, activated: make(chan *rule.Set, 1), changed: func() {}}
}

func (r *rules) options() rule.Options {
	return rule.Options{
		Sources: r.registries.Sources, Actions: r.registries.Actions, Dev: r.dev,
		Secret: r.secrets.source, CheckSecret: r.secrets.check, Now: time.Now, Grants: r.grants.Of,
	}
}

// load builds a set from files, with every check.
func (r *rules) load(ctx context.Context, files []rule.File, revision string) (*rule.Set, error) {
	o := r.options()
	o.Revision = revision
	o.Before, _ = r.before()
	o.Stop = func() error { return context.Cause(ctx) }
	set, err := rule.Load(files, o)
	if err == nil {
		r.mu.Lock()
		r.checked, r.latest = set, set
		r.mu.Unlock()
	}
	return set, err
}

// before returns the sets that others can follow.
func (r *rules) before() (checked, latest *rule.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checked, r.latest
}

// loadProposal builds a set from files that anybody may have written: with every check, and without what could reach the
// value of a secret.
func (r *rules) loadProposal(ctx context.Context, files []rule.File, revision string) (*rule.Set, error) {
	o := r.options()
	o.Revision, o.Secret = revision, nil
	o.Stop = func() error { return context.Cause(ctx) }
	return rule.Load(files, o)
}

// revision builds the set of a revision from the store. It was checked when it was activated; a secret that was removed
// since fails where it is used, and what is not granted any more is refused there.
func (r *rules) revision(ctx context.Context, name string) (*rule.Set, error) {
	r.restoring.Lock()
	defer r.restoring.Unlock()
	if set := r.loaded(ctx, name); set != nil {
		return set, nil
	}
	text, err := r.events.Revision(ctx, name)
	if err != nil {
		return nil, err
	}
	var files []rule.File
	if err := json.Unmarshal(text, &files); err != nil {
		return nil, fmt.Errorf("read rule revision %.12s: %w", name, err)
	}
	o := r.options()
	o.Revision, o.CheckSecret, o.WasActive = name, nil, true
	_, o.Before = r.before()
	set, err := rule.Load(files, o)
	if err == nil {
		r.mu.Lock()
		r.latest = set
		r.mu.Unlock()
	}
	return set, err
}

// loaded returns the set that was loaded last, if it is the active one and has the name: each partition asks for it once it
// has read the activation. It returns nil otherwise, and where the store can't be asked.
func (r *rules) loaded(ctx context.Context, name string) *rule.Set {
	_, set := r.before()
	if set == nil || set.Revision != name {
		return nil
	}
	active, err := r.events.Active(ctx)
	if err != nil || active != (eventlog.Active{Revision: name, Digest: set.Digest}) {
		return nil
	}
	return set
}

// activation returns what activates a set that is read from now on, unless others are activated meanwhile.
func (r *rules) activation(ctx context.Context) (func(context.Context, *rule.Set) error, error) {
	now, err := r.events.Active(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the active rules: %w", err)
	}
	return func(ctx context.Context, set *rule.Set) error {
		err := r.activateAfter(ctx, set, &now)
		if errors.Is(err, eventlog.ErrOvertaken) {
			err = fmt.Errorf("%w: %w", rulesync.ErrOvertaken, err)
		}
		return err
	}, nil
}

// activate is activateAfter for rules that are what their directory holds now.
func (r *rules) activate(ctx context.Context, set *rule.Set) error {
	return r.activateAfter(ctx, set, nil)
}

// activateAfter stores a set and puts its activation into the log, unless it is the active one; events that follow it there
// are decided with it, on every replica. after is the set that must have been active until then; nil is whichever is.
func (r *rules) activateAfter(ctx context.Context, set *rule.Set, after *eventlog.Active) error {
	r.activating.Lock()
	defer r.activating.Unlock()
	want := eventlog.Active{Revision: set.Revision, Digest: set.Digest}
	active, err := r.events.Active(ctx)
	if err != nil {
		return fmt.Errorf("ask for the active rules: %w", err)
	}
	if active != want {
		text, err := json.Marshal(set.Files)
		if err != nil {
			return fmt.Errorf("store the rules: %w", err)
		}
		if err := r.events.PutRevision(ctx, set.Revision, text); err != nil {
			return fmt.Errorf("store the rules: %w", err)
		}
	}
	if after == nil {
		after = &active
	}
	if err := r.events.Activate(ctx, want, *after); err != nil {
		return fmt.Errorf("activate the rules: %w", err)
	}
	if active != want {
		r.record(ctx, active, want)
	}
	r.use(set)
	return nil
}

// record puts an activation into the audit log. The rules are active whether or not that works.
func (r *rules) record(ctx context.Context, before, now eventlog.Active) {
	e := audit.Entry{Who: audit.Server, Action: audit.RulesActivated, Target: now.Revision, Result: audit.OK, Detail: map[string]string{"digest": now.Digest}}
	if before.Revision != "" {
		e.Detail["before"] = before.Revision
	}
	if r.origin != "" {
		e.Detail["origin"] = r.origin
	}
	if err := r.audit.Audit(ctx, e); err != nil {
		r.log.Error("an activation of rules is missing in the audit log", "revision", now.Revision, "error", err)
	}
}

// resume goes on receiving with the set that was active last.
func (r *rules) resume(ctx context.Context) error {
	active, err := r.events.Active(ctx)
	if err != nil {
		return err
	}
	if active.Revision == "" {
		return errNoRules
	}
	set, err := r.revision(ctx, active.Revision)
	if err != nil {
		return err
	}
	r.use(set)
	return nil
}

var errNoRules = errors.New("no rules are loaded yet")

// note takes a set that a partition begins to decide with, for follow. It never waits.
func (r *rules) note(set *rule.Set) {
	for {
		select {
		case r.activated <- set:
			return
		default:
		}
		select {
		case <-r.activated:
		default:
		}
	}
}

// follow makes this replica receive with the set that any replica activated. A partition that reads old records names old
// sets too, so that the store is asked.
func (r *rules) follow(ctx context.Context, log *slog.Logger) error {
	for {
		var set *rule.Set
		select {
		case <-ctx.Done():
			return nil
		case set = <-r.activated:
		}
		if err := r.useIfActive(ctx, set); err != nil && ctx.Err() == nil {
			log.Warn("which rules are active could not be asked; sources are taken from the last ones known", "error", err)
		}
	}
}

func (r *rules) useIfActive(ctx context.Context, set *rule.Set) error {
	r.activating.Lock()
	defer r.activating.Unlock()
	active, err := r.events.Active(ctx)
	if err == nil && active == (eventlog.Active{Revision: set.Revision, Digest: set.Digest}) {
		r.use(set)
	}
	return err
}

// use receives with a set from now on.
func (r *rules) use(set *rule.Set) {
	if now := r.current(); now.Revision == set.Revision && now.Digest == set.Digest {
		return
	}
	endpoints := make(map[string]*receive.Endpoint, len(set.Sources))
	for name, s := range set.Sources {
		if !sentTo(s.Source) {
			continue
		}
		endpoints[name] = &receive.Endpoint{Name: name, Type: s.Type, Source: s.Source, MaxBody: s.MaxBodyBytes, Rate: receive.Rate(s.Rate), Batch: s.Type.Batch, Usable: func() error { return r.secrets.problemOf(s) }}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set, r.endpoints = set, endpoints
	r.changed()
}

func (r *rules) current() *rule.Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set
}

func (r *rules) endpoint(name string) (*receive.Endpoint, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.endpoints[name]
	return e, ok
}

// normalise fills an event's views, for the API.
func (r *rules) normalise(e *event.Event) { normalise(r.current(), e) }

func (r *rules) view() api.RuleSet {
	set, status := r.current(), r.sync.Status()
	view := api.RuleSet{Revision: set.Revision, Origin: r.origin, LoadedAt: status.LastSuccess}
	if status.Err != nil {
		view.Error = status.Err.Error()
	}
	view.Paused = r.viewPauses(set)
	for _, rl := range set.Rules {
		item := api.Rule{Name: rl.Name, File: rl.File, Line: rl.Line, Labels: rl.Labels, Mode: rl.Mode, Revision: set.Revision}
		_, item.Paused = r.pausedBy(rl)
		for _, s := range rl.Plan.Steps {
			item.Steps = append(item.Steps, s.Uses)
		}
		view.Items = append(view.Items, item)
	}
	return view
}

func (r *rules) sources() []api.Source {
	var out []api.Source
	for name, s := range r.current().Sources {
		item := api.Source{Name: name, Type: s.Type.Name, Path: "/hooks/" + name}
		if !sentTo(s.Source) {
			item.Path = ""
		}
		if at, scheduled := s.Source.(source.Scheduled); scheduled {
			if next := at.Next(time.Now()); !next.IsZero() {
				item.Next = &next
			}
		}
		if err := errors.Join(r.secrets.problemOf(s), r.problem(name)); err != nil {
			item.Problem = err.Error()
		}
		out = append(out, item)
	}
	return out
}

// sentTo reports whether somebody sends to a source: the events of some come of the time, or of a cluster that is watched.
func sentTo(s source.Source) bool {
	_, scheduled := s.(source.Scheduled)
	_, watched := s.(source.Watched)
	return !scheduled && !watched
}

// watchedSources are the active ones whose objects are watched; ok is false while no rules are loaded.
func (r *rules) watchedSources() (out map[string]watch.Source, ok bool) {
	set := r.current()
	out = map[string]watch.Source{}
	for name, s := range set.Sources {
		if w, watched := s.Source.(source.Watched); watched && s.Denied == nil {
			out[name] = watch.Source{Type: s.Type.Name, Source: w, Account: s.Account}
		}
	}
	return out, set.Revision != ""
}

// schedules are the active sources that nobody sends to; ok is false while no rules are loaded.
func (r *rules) schedules() (out map[string]schedule.Source, ok bool) {
	set := r.current()
	out = map[string]schedule.Source{}
	for name, s := range set.Sources {
		if at, scheduled := s.Source.(source.Scheduled); scheduled && s.Denied == nil {
			out[name] = schedule.Source{Type: s.Type.Name, Source: at}
		}
	}
	return out, set.Revision != ""
}

// ready never fails for a bad change of the rules: the last good set works on, and the failure shows elsewhere.
func (r *rules) ready() error {
	if r.current().Revision != "" {
		return nil
	}
	if err := r.sync.Status().Err; err != nil {
		return fmt.Errorf("%w: %w", errNoRules, err)
	}
	return errNoRules
}
