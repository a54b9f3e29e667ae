// Package api is the report stage: the JSON API of the admin listener, and the health listener's answers. It reads what
// the log and the journals hold and puts people's orders into the log; it decides nothing itself.
//
// Requests are authenticated with bearer tokens of which only hashes are kept. Without any token the API serves only
// loopback addresses, and then refuses requests that a browser was tricked into: a Host that is no loopback name, an
// Origin of elsewhere, a write that is not application/json.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/run"
)

// EventQuery selects events, newest first. Zero fields select all.
type EventQuery struct {
	Source, Type string
	Since        time.Time
	Limit        int
	Cursor       string
}

// RunQuery selects runs, newest first. Zero fields select all.
type RunQuery struct {
	Rule, Event string
	State       run.State
	Limit       int
	Cursor      string
}

// Events reads the event log. Errors wrap event.ErrNotFound where no event has the id, or the cursor is not the log's own.
type Events interface {
	List(ctx context.Context, q EventQuery) (events []*event.Event, next string, err error)
	Get(ctx context.Context, id string) (*event.Event, error)
	// Replay appends the event again under a new id, and returns that.
	Replay(ctx context.Context, id string) (string, error)
}

// Runs reads the journals. Errors wrap event.ErrNotFound where no run has the id.
type Runs interface {
	// List returns runs without their steps. It fails only for a cursor that it did not return.
	List(ctx context.Context, q RunQuery) (runs []run.Run, next string, err error)
	Get(ctx context.Context, id string) (run.Run, error)
	// Decision returns what was decided about an event, if that is known.
	Decision(eventID string) (run.Entry, bool)
}

// Logs reads what the steps of runs had to say.
type Logs interface {
	// Reader reads a run's logs from their beginning. One that follows sees soon what is added.
	Reader(ctx context.Context, runID string, follow bool) LogReader
}

// LogReader reads one run's logs.
type LogReader interface {
	// Next returns the next part, or false where there is none now.
	Next(ctx context.Context) (LogChunk, bool, error)
	Close()
}

// AuditQuery selects entries of the audit log, oldest first.
type AuditQuery struct {
	Since  time.Time
	Limit  int
	Cursor string
}

// AuditLog keeps who ordered what. Errors of List wrap event.ErrNotFound where the cursor is not the log's own.
type AuditLog interface {
	audit.Writer
	List(ctx context.Context, q AuditQuery) (entries []audit.Entry, next string, err error)
}

// Orders puts orders to runs into the log.
type Orders interface {
	Cancel(ctx context.Context, runID string) error
	Retry(ctx context.Context, runID string) error
}

// Options configure the API.
type Options struct {
	Events Events
	Runs   Runs
	Orders Orders
	// Consent has a run hear a person's yes (run.CommandApprove) or no (run.CommandReject), and returns the entry that says what
	// came of it: without a run it was refused. ok is false where the run did not hear of it within some seconds.
	Consent func(ctx context.Context, order, runID string, c Consent) (heard run.Entry, ok bool, err error)
	Logs    Logs
	Audit   AuditLog
	// Stopping is closed when the server is about to stop, so that nobody follows a log for ever; nil never is.
	Stopping <-chan struct{}
	// Start runs a rule or a workflow that a person asks for. Errors are as those of Events.Get, or *Error.
	Start func(ctx context.Context, s Start) (Started, error)
	// Explain says what each rule made of an event; all lists also those whose trigger does not select it. Errors are as
	// those of Events.Get.
	Explain func(ctx context.Context, id string, all bool) (*explain.Explanation, error)
	Rules   func() RuleSet
	Sources func() []Source
	Pauses  Pauses
	// Backup writes a consistent copy of the store; nil where the store is not ours to copy.
	Backup  func(ctx context.Context, w io.Writer) error
	Tokens  []Token
	Version string
	Logger  *slog.Logger
}

// New returns the admin listener's handler.
func New(o Options) http.Handler {
	a := &api{o}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", a.guard(Viewer, "", a.index))
	methods := map[string][]string{"/{$}": {http.MethodGet}}
	for _, op := range a.operations() {
		mux.Handle(op.method+" "+op.path, a.guard(op.role, op.audited(), op.strict()))
		methods[op.path] = append(methods[op.path], op.method)
	}
	for path, allowed := range methods {
		mux.Handle(path, a.guard(Viewer, "", methodNotAllowed(allowed)))
	}
	mux.Handle("/", a.guard(Viewer, "", func(http.ResponseWriter, *http.Request) error {
		return &Error{Status: http.StatusNotFound, Msg: "no such path", Hint: "see /api/v1/openapi.json for those there are"}
	}))
	return mux
}

type api struct{ Options }

// handler answers a request or returns why it can't.
type handler func(w http.ResponseWriter, r *http.Request) error

// methodNotAllowed answers requests for a path by another method than those it has.
func methodNotAllowed(allowed []string) handler {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return &Error{Status: http.StatusMethodNotAllowed, Msg: r.Method + " is not answered here", Hint: "use " + strings.Join(allowed, " or ")}
	}
}

// strict refuses parameters that the operation does not have: a misspelt filter would select everything.
func (op operation) strict() handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		for name := range r.URL.Query() {
			if slices.Contains(op.query, name) {
				continue
			}
			hint := "there are none"
			if len(op.query) > 0 {
				hint = "there are " + strings.Join(op.query, ", ")
			}
			return &Error{http.StatusBadRequest, fmt.Sprintf("parameter %q is not known here", name), hint}
		}
		return op.handle(w, r)
	}
}

// Error is an answer other than success.
type Error struct {
	Status int
	Msg    string
	Hint   string
}

func (e *Error) Error() string { return e.Msg }

// statusOf is the one place where kinds of errors become HTTP status.
func statusOf(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, event.ErrNotFound):
		return &Error{http.StatusNotFound, err.Error(), "riposte events list shows those there are; an id can be shortened while it is unique, and old history is purged"}
	case errors.Is(err, run.ErrAmbiguous):
		return &Error{http.StatusBadRequest, err.Error(), "riposte runs list shows whole ids"}
	case errors.Is(err, event.ErrLogFull), errors.Is(err, event.ErrLogUnavailable), errors.Is(err, run.ErrUnavailable):
		return &Error{http.StatusServiceUnavailable, err.Error(), "see /readyz on the health listener"}
	}
	return &Error{http.StatusInternalServerError, err.Error(), ""}
}

func writeError(w http.ResponseWriter, err error) {
	e := statusOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(Failure{e.Msg, e.Hint}) // the client went away: nobody to tell
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // nosniff is set, and a body should look as it was sent
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client went away: nobody to tell
	return nil
}

func writeList[T any](w http.ResponseWriter, items []T, next string) error {
	if items == nil {
		items = []T{}
	}
	return writeJSON(w, http.StatusOK, List[T]{items, next})
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, &Error{http.StatusBadRequest, fmt.Sprintf("limit %q is not a number from 1 to %d", text, maxLimit), ""}
	}
	return n, nil
}

// sinceOf reads an instant, or a duration before now such as 1h.
func sinceOf(r *http.Request) (time.Time, error) {
	text := r.URL.Query().Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, parse := range []func(string) (time.Duration, error){document.ParseDuration, time.ParseDuration} {
		if d, err := parse(text); err == nil && d >= 0 {
			return time.Now().Add(-d), nil
		}
	}
	return time.Time{}, &Error{http.StatusBadRequest, fmt.Sprintf("since %q is neither a time as 2006-01-02T15:04:05Z nor a duration as 1h or 7d", text), ""}
}

// stateOf reads a run's state.
func stateOf(r *http.Request) (run.State, error) {
	state := run.State(r.URL.Query().Get("state"))
	if state == "" || slices.Contains(states(), state) {
		return state, nil
	}
	var known []string
	for _, s := range states() {
		known = append(known, string(s))
	}
	return "", &Error{http.StatusBadRequest, fmt.Sprintf("state %q is not one that runs have", state), "they are " + strings.Join(known, ", ")}
}

// badCursor says what a list can't find: nothing but the place where it is to go on.
func badCursor(of, cursor string) error {
	return &Error{http.StatusBadRequest, fmt.Sprintf("cursor %q is not one that a list of %s returned", cursor, of), "hand on next of the page before as it is, or leave cursor out"}
}

func (a *api) index(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Riposte %s\n\nAPI: /api/v1/openapi.json\nRuns: riposte runs list, or /api/v1/runs\n", a.Version)
	return nil
}

func (a *api) version(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, Version{a.Version})
}

func (a *api) listEvents(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	since, err := sinceOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	events, next, err := a.Events.List(r.Context(), EventQuery{Source: q.Get("source"), Type: q.Get("type"), Since: since, Limit: limit, Cursor: q.Get("cursor")})
	if errors.Is(err, event.ErrNotFound) {
		return badCursor("events", q.Get("cursor"))
	}
	if err != nil {
		return err
	}
	items := make([]Event, len(events))
	for i, e := range events {
		items[i] = viewEvent(e)
		if e.Git == nil || e.Git.PathsComplete {
			continue
		}
		if d := a.decision(e.ID); d != nil && d.Changed != nil { // which a backtest can't find out
			items[i].Decision = d
		}
	}
	return writeList(w, items, next)
}

func (a *api) getEvent(w http.ResponseWriter, r *http.Request) error {
	e, err := a.Events.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	v := viewEvent(e)
	v.Decision = a.decision(e.ID)
	return writeJSON(w, http.StatusOK, v)
}

// decision is nil where it is not made or no longer known.
func (a *api) decision(eventID string) *Decision {
	en, ok := a.Runs.Decision(eventID)
	if !ok {
		return nil
	}
	return &Decision{At: en.At, Revision: en.Revision, Runs: append([]string{}, en.RunIDs()...), Why: en.Why, Changed: viewChanged(en.Changed)}
}

func (a *api) replay(w http.ResponseWriter, r *http.Request) error {
	id, err := a.Events.Replay(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	note(r, r.PathValue("id"), "as", id)
	return writeJSON(w, http.StatusAccepted, Named{id})
}

func (a *api) listRuns(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	state, err := stateOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	runs, next, err := a.Runs.List(r.Context(), RunQuery{Rule: q.Get("rule"), Event: q.Get("event"), State: state, Limit: limit, Cursor: q.Get("cursor")})
	if err != nil {
		return badCursor("runs", q.Get("cursor"))
	}
	items := make([]Run, len(runs))
	for i := range runs {
		items[i] = viewRun(&runs[i])
	}
	return writeList(w, items, next)
}

// run reads the run that the request names.
func (a *api) run(r *http.Request) (run.Run, error) {
	got, err := a.Runs.Get(r.Context(), r.PathValue("id"))
	if errors.Is(err, event.ErrNotFound) {
		return got, &Error{http.StatusNotFound, fmt.Sprintf("there is no run %q", r.PathValue("id")), "riposte runs list shows those there are; old history is purged"}
	}
	return got, err
}

func (a *api) getRun(w http.ResponseWriter, r *http.Request) error {
	got, err := a.run(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewRun(&got))
}

func (a *api) cancel(w http.ResponseWriter, r *http.Request) error {
	got, err := a.run(r)
	if err != nil {
		return err
	}
	if got.State.Ended() {
		return &Error{http.StatusConflict, fmt.Sprintf("run %s has ended: it is %s", got.ID, got.State), "there is nothing left to stop"}
	}
	return a.order(w, r, got.ID, a.Orders.Cancel)
}

func (a *api) retry(w http.ResponseWriter, r *http.Request) error {
	got, err := a.run(r)
	switch {
	case err != nil:
		return err
	case !got.State.Ended():
		return &Error{http.StatusConflict, fmt.Sprintf("run %s has not ended: it is %s", got.ID, got.State), "wait for its end, or stop it with riposte runs cancel"}
	case a.paused(got.Rule):
		return &Error{http.StatusConflict, "rule " + got.Rule + " is paused", "riposte rules list says why, and riposte resume takes it back"}
	case got.State == run.Succeeded || got.State == run.Observed:
		return &Error{http.StatusConflict, fmt.Sprintf("run %s is %s: no step is left to be done", got.ID, got.State), "riposte events replay " + got.Event + " decides its event again, and makes a new run"}
	}
	return a.order(w, r, got.ID, a.Orders.Retry)
}

func (a *api) order(w http.ResponseWriter, r *http.Request, id string, give func(ctx context.Context, id string) error) error {
	note(r, id)
	if err := give(r.Context(), id); err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, Named{id})
}

func (a *api) listRules(w http.ResponseWriter, _ *http.Request) error {
	set := a.Rules()
	set.Items = append([]Rule{}, set.Items...)
	return writeJSON(w, http.StatusOK, set)
}

func (a *api) listSources(w http.ResponseWriter, _ *http.Request) error {
	sources := a.Sources()
	slices.SortFunc(sources, func(x, y Source) int { return strings.Compare(x.Name, y.Name) })
	return writeList(w, sources, "")
}

func (a *api) backup(w http.ResponseWriter, r *http.Request) error {
	if a.Backup == nil {
		return &Error{http.StatusConflict, "this server keeps its data in a NATS cluster", "back the cluster up with nats account backup"}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Trailer", "Riposte-Backup")
	if err := a.Backup(r.Context(), w); err != nil {
		a.Logger.Error("backup failed", "error", err)
		noteFailure(r, err)
		w.Header().Set("Riposte-Backup", "failed: "+strings.ReplaceAll(err.Error(), "\n", " "))
		return nil // part of the answer may be sent: the trailer tells
	}
	w.Header().Set("Riposte-Backup", "complete")
	return nil
}
