package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// store is an event log and journals with one event and one run in them.
type store struct {
	orders []string
	err    error
}

func (s *store) event() *event.Event {
	return &event.Event{ID: "5ENG7J6GWJ2C0VDEAHNV9B4Y0M", Source: "github", Type: "push", ReceivedAt: time.Unix(0, 0).UTC(), Body: []byte(`{"n":9007199254740993}`)}
}

func (s *store) run() run.Run {
	return run.Run{ID: s.event().ID + "-hello", Rule: "hello", Event: s.event().ID, State: run.Failed}
}

type events struct{ *store }

func (e events) List(_ context.Context, q api.EventQuery) ([]*event.Event, string, error) {
	if q.Source != "" && q.Source != "github" {
		return nil, "", e.err
	}
	return []*event.Event{e.event()}, "next", e.err
}

func (e events) Get(_ context.Context, id string) (*event.Event, error) {
	if id != e.event().ID {
		return nil, fmt.Errorf("event %s: %w", id, event.ErrNotFound)
	}
	return e.event(), nil
}

func (e events) Replay(_ context.Context, id string) (string, error) {
	e.orders = append(e.orders, "replay "+id)
	return "NEW", nil
}

type runs struct{ *store }

func (r runs) List(context.Context, api.RunQuery) ([]run.Run, string, error) {
	return []run.Run{r.run()}, "", r.err
}

func (r runs) Get(_ context.Context, id string) (run.Run, error) {
	if !strings.HasPrefix(r.run().ID, id) {
		return run.Run{}, fmt.Errorf("run %s: %w", id, event.ErrNotFound)
	}
	return r.run(), nil
}

func (r runs) Decision(string) (run.Entry, bool) {
	return run.Entry{Why: "hello: event.git.branch is absent"}, true
}

func (s *store) Cancel(_ context.Context, id string) error {
	s.orders = append(s.orders, "cancel "+id)
	return s.err
}
func (s *store) Retry(_ context.Context, id string) error {
	s.orders = append(s.orders, "retry "+id)
	return s.err
}

func handler(s *store, tokens ...api.Token) http.Handler {
	return api.New(api.Options{
		Events: events{s}, Runs: runs{s}, Orders: s, Tokens: tokens, Version: "test",
		Rules: func() api.RuleSet { return api.RuleSet{Revision: "abc"} }, Sources: func() []api.Source { return nil },
		Backup: func(_ context.Context, w io.Writer) error {
			_, _ = io.WriteString(w, "tar")
			return s.err
		},
		Logger: slog.New(slog.DiscardHandler),
	})
}

// ask sends a request as a program on this machine would; the option changes it.
func ask(h http.Handler, method, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8081"+path, http.NoBody)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLoopbackRefusesWhatABrowserCouldBeTrickedInto(t *testing.T) {
	retry := "/api/v1/runs/5ENG7J/retry"
	for _, tc := range []struct {
		name, method, path string
		change             func(*http.Request)
		want               int
	}{
		{"a program reads", "GET", "/api/v1/runs", nil, 200},
		{"localhost by name", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "localhost:8081" }, 200},
		{"IPv6 loopback", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "[::1]:8081" }, 200},
		{"the page itself", "POST", retry, func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:8081") }, 202},
		{"a name rebound to loopback", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "evil.example.com:8081" }, 403},
		{"a name that begins like loopback", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "127.0.0.1.evil.example.com" }, 403},
		{"another site writes", "POST", retry, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, 403},
		{"another port of loopback writes", "POST", retry, func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") }, 403},
		{"a sandboxed frame writes", "POST", retry, func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"another site reads without Origin", "GET", "/api/v1/runs", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"a form", "POST", retry, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		{"a write without a type", "POST", retry, func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &store{}
			w := ask(handler(s), tc.method, tc.path, tc.change)
			if w.Code != tc.want {
				t.Fatalf("answer %d %s, want %d", w.Code, w.Body, tc.want)
			}
			if tc.want >= 400 && len(s.orders) > 0 {
				t.Fatalf("the refused request was carried out: %v", s.orders)
			}
		})
	}
}

func TestTokensAndTheirRoles(t *testing.T) {
	tokens := []api.Token{
		{Name: "vi", SHA256: sha256.Sum256([]byte("viewer-token")), Role: api.Viewer},
		{Name: "op", SHA256: sha256.Sum256([]byte("operator-token")), Role: api.Operator},
		{Name: "ad", SHA256: sha256.Sum256([]byte("admin-token")), Role: api.Admin},
	}
	for _, tc := range []struct {
		token, method, path string
		want                int
	}{
		{"", "GET", "/api/v1/runs", 401},
		{"wrong", "GET", "/api/v1/runs", 401},
		{"viewer-token", "GET", "/api/v1/runs", 200},
		{"viewer-token", "POST", "/api/v1/runs/5ENG7J/cancel", 403},
		{"operator-token", "POST", "/api/v1/runs/5ENG7J/cancel", 202},
		{"operator-token", "POST", "/api/v1/backup", 403},
		{"admin-token", "POST", "/api/v1/backup", 200},
		{"admin-token", "GET", "/api/v1/nothing", 404},
		{"", "GET", "/api/v1/nothing", 401},
	} {
		t.Run(tc.token+" "+tc.path, func(t *testing.T) {
			w := ask(handler(&store{}, tokens...), tc.method, tc.path, func(r *http.Request) {
				r.Host = "riposte.example.com"
				if tc.token != "" {
					r.Header.Set("Authorization", "Bearer "+tc.token)
				}
			})
			if w.Code != tc.want {
				t.Fatalf("answer %d %s, want %d", w.Code, w.Body, tc.want)
			}
			if tc.token != "" && strings.Contains(w.Body.String(), tc.token) {
				t.Fatal("the answer repeats the token")
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	id := "5ENG7J6GWJ2C0VDEAHNV9B4Y0M"
	for _, tc := range []struct {
		path string
		want int
		text string
	}{
		{"/api/v1/events?limit=10&since=1h", 200, `"next":"next"`},
		{"/api/v1/events?source=gitlab", 200, `"items":[]`},
		{"/api/v1/events?limit=0", 400, "limit"},
		{"/api/v1/events?limit=many", 400, "limit"},
		{"/api/v1/events?since=yesterday", 400, "since"},
		{"/api/v1/events/" + id, 200, "9007199254740993"},
		{"/api/v1/events/" + id, 200, `"why":"hello: event.git.branch is absent"`},
		{"/api/v1/events/NONE", 404, "event not found"},
		{"/api/v1/runs/5ENG7J", 200, `"state":"failed"`},
		{"/api/v1/runs/NONE", 404, "hint"},
		{"/api/v1/rules", 200, `"items":[]`},
		{"/api/v1/sources", 200, `"items":[]`},
		{"/api/v1/version", 200, "test"},
		{"/elsewhere", 404, "openapi"},
	} {
		w := ask(handler(&store{}), "GET", tc.path, nil)
		if w.Code != tc.want || !strings.Contains(w.Body.String(), tc.text) {
			t.Errorf("GET %s: %d %s, want %d with %q", tc.path, w.Code, w.Body, tc.want, tc.text)
		}
	}
}

func TestOrdersReachTheRunByItsWholeID(t *testing.T) {
	s := &store{}
	h := handler(s)
	for _, order := range []string{"cancel", "retry"} {
		if w := ask(h, "POST", "/api/v1/runs/5ENG7J/"+order, nil); w.Code != http.StatusAccepted {
			t.Fatalf("%s: %d %s", order, w.Code, w.Body)
		}
	}
	want := "[cancel 5ENG7J6GWJ2C0VDEAHNV9B4Y0M-hello retry 5ENG7J6GWJ2C0VDEAHNV9B4Y0M-hello]"
	if got := fmt.Sprint(s.orders); got != want {
		t.Fatalf("orders %s, want %s", got, want)
	}
	s.err = event.ErrLogFull
	if w := ask(h, "POST", "/api/v1/runs/5ENG7J/retry", nil); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("with a full log: %d", w.Code)
	}
}

func TestABackupThatBreaksSaysSo(t *testing.T) {
	for _, err := range []error{nil, errors.New("disk broke")} {
		w := ask(handler(&store{err: err}), "POST", "/api/v1/backup", nil)
		trailer := w.Result().Trailer.Get("Riposte-Backup")
		if complete := trailer == "complete"; complete != (err == nil) {
			t.Errorf("with error %v the trailer says %q", err, trailer)
		}
	}
}

// TestOpenAPIListsWhatIsServed asks for every path of the document: none may be unknown.
func TestOpenAPIListsWhatIsServed(t *testing.T) {
	h := handler(&store{})
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(ask(h, "GET", "/api/v1/openapi.json", nil).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) < 10 {
		t.Fatalf("only %d paths", len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			got := ask(h, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "5ENG7J6GWJ2C0VDEAHNV9B4Y0M"), nil)
			if got.Code/100 != 2 {
				t.Errorf("%s %s: %d %s", method, path, got.Code, got.Body)
			}
		}
	}
}

func TestReadyzSaysWhatIsNotReady(t *testing.T) {
	var broken error
	h := api.Health(map[string]api.Check{"store": func() error { return nil }, "secrets": func() error { return broken }}, http.NotFoundHandler())
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, http.NoBody))
		return w
	}
	if w := get("/readyz"); w.Code != http.StatusOK {
		t.Fatalf("all well: %d %s", w.Code, w.Body)
	}
	broken = errors.New("secret github-webhook is empty")
	w := get("/readyz")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "[-] secrets: secret github-webhook is empty") || !strings.Contains(w.Body.String(), "[+] store") {
		t.Fatalf("a broken secret: %d\n%s", w.Code, w.Body)
	}
	if w := get("/healthz"); w.Code != http.StatusOK {
		t.Fatalf("healthz follows readiness: %d", w.Code)
	}
}
