package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/auditlog"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/engine"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/runstore"
	"github.com/riposte-dev/riposte/pkg/secret"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/steplog"
)

// secrets resolves what the configuration declares; under --dev one secret kept in the data directory stands in for each
// that is not declared, so that examples receive without any configuration.
type secrets struct {
	*secret.Resolver
	dev bool
}

// devSecret can't be the name of a declared secret.
const devSecret = "(development)"

func newSecrets(c *config.Config, redactor *secret.Redactor, log *slog.Logger) (*secrets, error) {
	refs := map[string]secret.Ref{}
	for name, s := range c.Secrets {
		refs[name] = secret.Ref{Env: s.Env, File: s.File}
	}
	if c.Dev {
		file := filepath.Join(c.Data, DevSecretFile)
		if err := makeDevSecret(file); err != nil {
			return nil, fmt.Errorf("make the development secret: %w", err)
		}
		refs[devSecret] = secret.Ref{File: file}
	}
	r, err := secret.New(secret.Options{Refs: refs, Dev: c.Dev, Redactor: redactor, Logger: log})
	if err != nil {
		return nil, err
	}
	return &secrets{r, c.Dev}, nil
}

// makeDevSecret writes a random secret, in the form that Standard Webhooks wants and that suits all others too.
func makeDevSecret(file string) error {
	key := make([]byte, 32)
	rand.Read(key) // never fails since Go 1.24
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("whsec_" + base64.StdEncoding.EncodeToString(key) + "\n")
	return errors.Join(err, f.Close())
}

func (s *secrets) name(name string) string {
	if s.dev && name != "" && s.Check(name) != nil {
		return devSecret
	}
	return name
}

func (s *secrets) source(ref source.SecretRef) ([]byte, error) {
	ref.Secret = s.name(ref.Secret)
	return s.Source(ref)
}

func (s *secrets) check(ref source.SecretRef) error {
	ref.Secret = s.name(ref.Secret)
	return s.CheckSource(ref)
}

func (s *secrets) action(ref action.SecretRef) (string, error) {
	ref.Secret = s.name(ref.Secret)
	return s.Action(ref)
}

// problemOf says which secrets of a source do not resolve, or that it may receive nothing.
func (s *secrets) problemOf(src *rule.Source) error {
	errs := []error{src.Denied}
	for _, ref := range src.Secrets {
		if _, err := s.source(ref); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ready says which secrets do not resolve; who needs them answers 503 until they do.
func (s *secrets) ready() error {
	names := s.Unresolved()
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s: no value; riposte sources list says why", strings.Join(names, ", "))
}

// journals lets the engine use the run store.
type journals struct {
	store   *runstore.Store
	history *runstore.History
}

func (j journals) Take(ctx context.Context, partition int, owner string, replay func(uint64, run.Entry) error) (engine.Journal, run.Checkpoint, error) {
	return j.store.Take(ctx, partition, owner, replay)
}

func (j journals) Run(ctx context.Context, id string) (run.Run, error) { return j.history.Run(ctx, id) }

// eventView lets the API read the event log.
type eventView struct {
	log     *eventlog.Log
	rules   *rules
	history *runstore.History
}

// decideTime is how long an event can wait for its decision before it counts as one whose decision is forgotten.
const decideTime = 10 * time.Minute

// views fills an event's views, unless reading it may end the process: it is quarantined, or not decided yet. It returns
// what was decided, as far as it is known.
func (v eventView) views(e *event.Event) (decision run.Entry, ok bool) {
	decision, known := v.history.Decision(e.ID)
	if known && engine.Quarantined(decision) || !known && time.Since(e.ReceivedAt) < decideTime {
		return decision, false
	}
	v.rules.normalise(e)
	return decision, true
}

func (v eventView) List(ctx context.Context, q api.EventQuery) ([]*event.Event, string, error) {
	entries, next, err := v.log.List(ctx, eventlog.Query{Source: q.Source, Type: q.Type, Since: q.Since, Limit: q.Limit, Cursor: q.Cursor})
	if err != nil {
		return nil, "", err
	}
	events := make([]*event.Event, len(entries))
	for i, en := range entries {
		events[i] = en.Record.Event
		v.views(events[i])
	}
	return events, next, nil
}

func (v eventView) Get(ctx context.Context, id string) (*event.Event, error) {
	en, err := v.log.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	v.views(en.Record.Event)
	return en.Record.Event, nil
}

func (v eventView) Replay(ctx context.Context, id string) (string, error) {
	en, err := v.log.Get(ctx, id)
	if err != nil {
		return "", err
	}
	old := en.Record.Event
	again := &event.Event{
		ID: event.RandomID(), Source: old.Source, Type: old.Type, Subject: old.Subject, Time: old.Time, ReceivedAt: time.Now(),
		DeliveryID: old.DeliveryID, Headers: old.Headers, Body: old.Body, CausedBy: old.ID,
	}
	_, err = v.log.Append(ctx, []event.Record{{Kind: event.KindEvent, SourceType: en.Record.SourceType, Event: again}})
	return again.ID, err
}

// runView lets the API read the journals.
type runView struct{ history *runstore.History }

func (v runView) List(_ context.Context, q api.RunQuery) ([]run.Run, string, error) {
	return v.history.Runs(runstore.Query{Rule: q.Rule, Event: q.Event, State: q.State, Limit: q.Limit, Cursor: q.Cursor})
}

func (v runView) Get(ctx context.Context, id string) (run.Run, error) { return v.history.Run(ctx, id) }

func (v runView) Decision(eventID string) (run.Entry, bool) { return v.history.Decision(eventID) }

// logView lets the API read what steps had to say.
type logView struct{ store *steplog.Store }

func (v logView) Reader(ctx context.Context, runID string, follow bool) api.LogReader {
	return logReader{v.store.Reader(ctx, runID, follow)}
}

type logReader struct{ *steplog.Reader }

func (r logReader) Next(ctx context.Context) (api.LogChunk, bool, error) {
	c, ok, err := r.Reader.Next(ctx)
	return api.LogChunk{At: c.At, Step: c.Step, Phase: c.Phase, Attempt: c.Attempt, Omitted: c.Omitted, Text: c.Text}, ok, err
}

// auditView lets the API use the audit log.
type auditView struct{ *auditlog.Log }

func (v auditView) List(ctx context.Context, q api.AuditQuery) ([]audit.Entry, string, error) {
	entries, next, err := v.Log.List(ctx, auditlog.Query{Since: q.Since, Limit: q.Limit, Cursor: q.Cursor})
	if errors.Is(err, auditlog.ErrCursor) {
		err = fmt.Errorf("%w: %w", event.ErrNotFound, err)
	}
	return entries, next, err
}

// Restore makes an embedded store in dir, which must be empty, from a backup.
func Restore(ctx context.Context, r io.Reader, dir string, log *slog.Logger) error {
	return broker.Restore(ctx, r, dir, log)
}
