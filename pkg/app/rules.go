package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/receive"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/source"
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
	dev        bool
	sync       *rulesync.Dir

	mu        sync.Mutex
	set       *rule.Set
	endpoints map[string]*receive.Endpoint
}

func newRules(r Registries, s *secrets, events *eventlog.Log, dev bool) *rules {
	return &rules{registries: r, secrets: s, events: events, dev: dev, set: &rule.Set{}}
}

func (r *rules) options() rule.Options {
	return rule.Options{
		Sources: r.registries.Sources, Actions: r.registries.Actions, Dev: r.dev,
		Secret: r.secrets.source, CheckSecret: r.secrets.check, Now: time.Now,
	}
}

// load builds a set from files, with every check.
func (r *rules) load(files []rule.File) (*rule.Set, error) { return rule.Load(files, r.options()) }

// revision builds the set of a revision from the store. It was checked when it was activated; a secret that was removed
// since fails where it is used.
func (r *rules) revision(ctx context.Context, digest string) (*rule.Set, error) {
	text, err := r.events.Revision(ctx, digest)
	if err != nil {
		return nil, err
	}
	var files []rule.File
	if err := json.Unmarshal(text, &files); err != nil {
		return nil, fmt.Errorf("read rule revision %.12s: %w", digest, err)
	}
	o := r.options()
	o.CheckSecret = nil
	return rule.Load(files, o)
}

// activate stores a set and puts its activation into the log; events that follow it there are decided with it, on every replica.
func (r *rules) activate(ctx context.Context, set *rule.Set) error {
	text, err := json.Marshal(set.Files)
	if err != nil {
		return fmt.Errorf("store the rules: %w", err)
	}
	if err := r.events.PutRevision(ctx, set.Revision, text); err != nil {
		return fmt.Errorf("store the rules: %w", err)
	}
	_, err = r.events.Append(ctx, []event.Record{{
		Kind:  event.KindActivate,
		Event: &event.Event{ID: event.RandomID(), Subject: set.Revision, ReceivedAt: time.Now()},
	}})
	if err != nil {
		return fmt.Errorf("activate the rules: %w", err)
	}
	if err := r.events.PutRevision(ctx, broker.ActiveRule, []byte(set.Revision)); err != nil {
		return fmt.Errorf("note the active rules: %w", err)
	}
	r.use(set)
	return nil
}

// resume goes on receiving with the set that was active last.
func (r *rules) resume(ctx context.Context) error {
	digest, err := r.events.Revision(ctx, broker.ActiveRule)
	if err != nil {
		return err
	}
	set, err := r.revision(ctx, string(digest))
	if err != nil {
		return err
	}
	r.use(set)
	return nil
}

func (r *rules) use(set *rule.Set) {
	endpoints := make(map[string]*receive.Endpoint, len(set.Sources))
	for name, s := range set.Sources {
		endpoints[name] = &receive.Endpoint{Name: name, Type: s.Type, Source: s.Source, MaxBody: s.MaxBodyBytes, Rate: receive.Rate(s.Rate), Batch: s.Type.Batch}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set, r.endpoints = set, endpoints
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
	view := api.RuleSet{Revision: set.Revision, LoadedAt: status.LastSuccess}
	if status.Err != nil {
		view.Error = status.Err.Error()
	}
	for _, rl := range set.Rules {
		item := api.Rule{Name: rl.Name, File: rl.File, Line: rl.Line, Labels: rl.Labels, Mode: rl.Mode, Revision: set.Revision}
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
		if err := r.secrets.problemOf(s); err != nil {
			item.Problem = err.Error()
		}
		out = append(out, item)
	}
	return out
}

// ready never fails for a bad change of the rules: the last good set works on, and the failure shows elsewhere.
func (r *rules) ready() error {
	if r.current().Revision == "" {
		return errors.New("no rules are loaded yet")
	}
	return nil
}
