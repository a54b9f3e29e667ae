// Package api is the report stage: the JSON API of the admin listener, and the health listener's answers. It reads what
// the log and the journals hold and puts people's orders into the log; it decides nothing itself.
//
// Requests are authenticated with bearer tokens of which only hashes are kept. Without any token the API serves only
// loopback addresses, and then refuses requests that a browser was tricked into: a Host that is no loopback name, an
// Origin of elsewhere, a write that is not application/json.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
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

// Events reads the event log. Errors wrap event.ErrNotFound where no event has the id.
type Events interface {
	List(ctx context.Context, q EventQuery) (events []*event.Event, next string, err error)
	Get(ctx context.Context, id string) (*event.Event, error)
	// Replay appends the event again under a new id, and returns that.
	Replay(ctx context.Context, id string) (string, error)
}

// Runs reads the journals. Errors wrap event.ErrNotFound where no run has the id.
type Runs interface {
	List(ctx context.Context, q RunQuery) (runs []run.Run, next string, err error)
	Get(ctx context.Context, id string) (run.Run, error)
	// Decision returns what was decided about an event, if that is known.
	Decision(eventID string) (run.Entry, bool)
}

// Orders puts orders to runs into the log.
type Orders interface {
	Cancel(ctx context.Context, runID string) error
	Retry(ctx context.Context, runID string) error
}

// Rule is a rule as the API shows it.
type Rule struct {
	Name     string            `json:"name"`
	File     string            `json:"file"`
	Line     int               `json:"line"`
	Labels   map[string]string `json:"labels,omitempty"`
	Mode     string            `json:"mode"`
	Steps    []string          `json:"steps"`
	Revision string            `json:"revision"`
}

// Source is a source as the API shows it.
type Source struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Path    string `json:"path"`
	Problem string `json:"problem,omitempty"` // why it can't receive now
}

// RuleSet is the active rules and how they came to be.
type RuleSet struct {
	Items    []Rule    `json:"items"`
	Revision string    `json:"revision"`
	LoadedAt time.Time `json:"loadedAt,omitzero"`
	// Error is why a newer state of the rules is not active, with all its problems.
	Error string `json:"error,omitempty"`
}

// Options configure the API.
type Options struct {
	Events  Events
	Runs    Runs
	Orders  Orders
	Rules   func() RuleSet
	Sources func() []Source
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
	a.routes(func(pattern string, role Role, h handler) { mux.Handle(pattern, a.guard(role, h)) })
	mux.Handle("/", a.guard(Viewer, func(http.ResponseWriter, *http.Request) error {
		return &Error{Status: http.StatusNotFound, Msg: "no such path", Hint: "see /api/v1/openapi.json for those there are"}
	}))
	return mux
}

type api struct{ Options }

// handler answers a request or returns why it can't.
type handler func(w http.ResponseWriter, r *http.Request) error

func (a *api) routes(add func(pattern string, role Role, h handler)) {
	add("GET /{$}", Viewer, a.index)
	add("GET /api/v1/openapi.json", Viewer, a.openapi)
	add("GET /api/v1/version", Viewer, a.version)
	add("GET /api/v1/events", Viewer, a.listEvents)
	add("GET /api/v1/events/{id}", Viewer, a.getEvent)
	add("POST /api/v1/events/{id}/replay", Operator, a.replay)
	add("GET /api/v1/runs", Viewer, a.listRuns)
	add("GET /api/v1/runs/{id}", Viewer, a.getRun)
	add("POST /api/v1/runs/{id}/cancel", Operator, a.order(func(ctx context.Context, id string) error { return a.Orders.Cancel(ctx, id) }))
	add("POST /api/v1/runs/{id}/retry", Operator, a.order(func(ctx context.Context, id string) error { return a.Orders.Retry(ctx, id) }))
	add("GET /api/v1/rules", Viewer, a.listRules)
	add("GET /api/v1/sources", Viewer, a.listSources)
	add("POST /api/v1/backup", Admin, a.backup)
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
		return &Error{http.StatusNotFound, err.Error(), "ids can be shortened as long as they stay unique; old history is purged"}
	case errors.Is(err, event.ErrLogFull), errors.Is(err, event.ErrLogUnavailable):
		return &Error{http.StatusServiceUnavailable, err.Error(), "see /readyz on the health listener"}
	}
	return &Error{http.StatusInternalServerError, err.Error(), ""}
}

func writeError(w http.ResponseWriter, err error) {
	e := statusOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	body := map[string]string{"error": e.Msg}
	if e.Hint != "" {
		body["hint"] = e.Hint
	}
	_ = json.NewEncoder(w).Encode(body) // the client went away: nobody to tell
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client went away: nobody to tell
	return nil
}

type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

func writeList[T any](w http.ResponseWriter, items []T, next string) error {
	if items == nil {
		items = []T{}
	}
	return writeJSON(w, http.StatusOK, list[T]{items, next})
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
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, &Error{http.StatusBadRequest, fmt.Sprintf("since %q is neither a time as 2006-01-02T15:04:05Z nor a duration as 1h", text), ""}
}

func (a *api) index(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Riposte %s\n\nAPI: /api/v1/openapi.json\nRuns: riposte runs list, or /api/v1/runs\n", a.Version)
	return nil
}

func (a *api) version(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"version": a.Version})
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
	if err != nil {
		return err
	}
	return writeList(w, events, next)
}

// decided adds what was decided to an event's own fields.
type decided struct {
	Event    *event.Event
	Decision *Decision
}

// Decision is what was decided about an event.
type Decision struct {
	At       time.Time `json:"at"`
	Revision string    `json:"ruleRevision"`
	Runs     []string  `json:"runs"`
	Why      string    `json:"why,omitempty"`
}

func (d decided) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(d.Event)
	if err != nil || d.Decision == nil {
		return text, err
	}
	more, err := json.Marshal(d.Decision)
	if err != nil {
		return nil, err
	}
	return append(append(append(text[:len(text)-1], `,"decision":`...), more...), '}'), nil
}

func (a *api) getEvent(w http.ResponseWriter, r *http.Request) error {
	e, err := a.Events.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	d := decided{Event: e}
	if en, ok := a.Runs.Decision(e.ID); ok {
		d.Decision = &Decision{At: en.At, Revision: en.Revision, Runs: []string{}, Why: en.Why}
		d.Decision.Runs = append(d.Decision.Runs, en.RunIDs()...)
	}
	return writeJSON(w, http.StatusOK, d)
}

func (a *api) replay(w http.ResponseWriter, r *http.Request) error {
	id, err := a.Events.Replay(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	a.audit(r, "event replayed", "event", r.PathValue("id"), "as", id)
	return writeJSON(w, http.StatusAccepted, map[string]string{"id": id})
}

func (a *api) listRuns(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	runs, next, err := a.Runs.List(r.Context(), RunQuery{Rule: q.Get("rule"), Event: q.Get("event"), State: run.State(q.Get("state")), Limit: limit, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	for i := range runs {
		if runs[i].Steps == nil {
			runs[i].Steps = []run.Step{}
		}
	}
	return writeList(w, runs, next)
}

func (a *api) getRun(w http.ResponseWriter, r *http.Request) error {
	got, err := a.Runs.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if got.Steps == nil {
		got.Steps = []run.Step{}
	}
	return writeJSON(w, http.StatusOK, got)
}

func (a *api) order(give func(ctx context.Context, id string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		got, err := a.Runs.Get(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		if err := give(r.Context(), got.ID); err != nil {
			return err
		}
		a.audit(r, "run ordered", "run", got.ID, "order", r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
		return writeJSON(w, http.StatusAccepted, map[string]string{"id": got.ID})
	}
}

func (a *api) listRules(w http.ResponseWriter, _ *http.Request) error {
	set := a.Rules()
	if set.Items == nil {
		set.Items = []Rule{}
	}
	return writeJSON(w, http.StatusOK, set)
}

func (a *api) listSources(w http.ResponseWriter, _ *http.Request) error {
	return writeList(w, a.Sources(), "")
}

func (a *api) backup(w http.ResponseWriter, r *http.Request) error {
	if a.Backup == nil {
		return &Error{http.StatusConflict, "this server keeps its data in a NATS cluster", "back the cluster up with nats account backup"}
	}
	a.audit(r, "backup started")
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Trailer", "Riposte-Backup")
	if err := a.Backup(r.Context(), w); err != nil {
		a.Logger.Error("backup failed", "error", err)
		w.Header().Set("Riposte-Backup", "failed: "+strings.ReplaceAll(err.Error(), "\n", " "))
		return nil // part of the answer may be sent: the trailer tells
	}
	w.Header().Set("Riposte-Backup", "complete")
	return nil
}

func (a *api) audit(r *http.Request, msg string, args ...any) {
	a.Logger.Info(msg, append(args, "by", identityOf(r.Context()).Name, "from", r.RemoteAddr)...)
}
