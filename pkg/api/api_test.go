package api_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// store is an event log and journals with one event and one run in them.
type store struct {
	orders []string
	err    error
	state  run.State      // of the run; failed by default
	events api.EventQuery // the last one asked
	runs   api.RunQuery
	pauses []run.Pause
	asks   bool      // the run waits for consent
	heard  run.Entry // what a consent comes to; the zero one is not heard of in time

	started api.Start

	audited    []audit.Entry
	auditQuery api.AuditQuery
	more       chan string // what steps say while they are followed
	logErr     error
	stopping   chan struct{}
}

func (s *store) event() *event.Event {
	return &event.Event{
		ID: "5ENG7J6GWJ2C0VDEAHNV9B4Y0M", Source: "github", Type: "push", ReceivedAt: time.Unix(0, 0).UTC(), Body: []byte(`{"n":9007199254740993}`),
		Git: &event.Git{Repo: "acme/shop"}, PullRequest: &event.PullRequest{Number: 1}, Alert: &event.Alert{Name: "Down", StartsAt: time.Unix(1, 0)},
	}
}

func (s *store) run() run.Run {
	r := run.Run{
		ID: s.event().ID + "-hello", Rule: "hello", Event: s.event().ID, State: cmp.Or(s.state, run.Failed), CreatedAt: time.Unix(2, 0).UTC(),
		Steps: []run.Step{{ID: "src", Uses: "git.pull", State: run.StepFailed, StartedAt: time.Unix(3, 0).UTC(), Error: "no such branch"}, {ID: "tell", State: run.StepPending}},
	}
	if s.asks {
		r.Approval = &run.Approval{Step: "src", Digest: "d1", Needed: 2, Shown: run.Values{"n": 1}, By: []run.Consent{{Who: "ana", At: time.Unix(4, 0)}}}
	}
	return r
}

type pauses struct{ of *store }

func (p pauses) List(time.Time) []run.Pause { return p.of.pauses }

func (p pauses) Put(_ context.Context, one run.Pause) error {
	p.of.pauses = append(p.of.pauses, one)
	return p.of.err
}

func (p pauses) Remove(_ context.Context, rule string) error {
	p.of.pauses = slices.DeleteFunc(p.of.pauses, func(one run.Pause) bool { return one.Rule == rule })
	return p.of.err
}

func (s *store) Consent(_ context.Context, order, id string, c api.Consent) (run.Entry, bool, error) {
	s.orders = append(s.orders, fmt.Sprintf("%s %s by %s %v %s %q %q", order, id, c.Who, c.Groups, c.Via, c.Digest, c.Comment))
	return s.heard, s.heard.Kind != "", s.err
}

type eventReader struct{ *store }

func (e eventReader) List(_ context.Context, q api.EventQuery) ([]*event.Event, string, error) {
	e.events = q
	if q.Cursor == "bad" {
		return nil, "", fmt.Errorf("cursor: %w", event.ErrNotFound)
	}
	if q.Source != "" && q.Source != "github" {
		return nil, "", e.err
	}
	return []*event.Event{e.event()}, "next", e.err
}

func (e eventReader) Get(_ context.Context, id string) (*event.Event, error) {
	if id != e.event().ID {
		return nil, fmt.Errorf("event %s: %w", id, event.ErrNotFound)
	}
	return e.event(), nil
}

func (e eventReader) Replay(_ context.Context, id string) (string, error) {
	e.orders = append(e.orders, "replay "+id)
	return "NEW", nil
}

type runReader struct{ *store }

func (r runReader) List(_ context.Context, q api.RunQuery) ([]run.Run, string, error) {
	r.runs = q
	if q.Cursor == "bad" {
		return nil, "", errors.New("no such place")
	}
	return []run.Run{r.run()}, "", r.err
}

func (r runReader) Get(_ context.Context, id string) (run.Run, error) {
	if !strings.HasPrefix(r.run().ID, id) {
		return run.Run{}, fmt.Errorf("run %s: %w", id, event.ErrNotFound)
	}
	return r.run(), nil
}

func (r runReader) Decision(string) (run.Entry, bool) {
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

// Audit keeps entries and lists them.
func (s *store) Audit(_ context.Context, e audit.Entry) error {
	s.audited = append(s.audited, e)
	return s.err
}

type auditLog struct{ *store }

func (a auditLog) List(_ context.Context, q api.AuditQuery) ([]audit.Entry, string, error) {
	a.auditQuery = q
	if q.Cursor == "bad" {
		return nil, "", event.ErrNotFound
	}
	return append([]audit.Entry{{Who: "ana", Action: "cancelRun", Target: "R", Result: audit.OK}}, a.audited...), "", a.err
}

// logReader has two parts, and what comes on more.
type logReader struct {
	*store
	chunks []api.LogChunk
}

func (s *store) Reader(_ context.Context, runID string, follow bool) api.LogReader {
	return &logReader{s, []api.LogChunk{{Step: "src", Attempt: 1, Text: "of " + runID + "\n"}, {Step: "tell", Attempt: 2, Omitted: 7, Text: "<b> & more\n"}}}
}

func (l *logReader) Next(context.Context) (api.LogChunk, bool, error) {
	if len(l.chunks) == 0 {
		select {
		case text, ok := <-l.more:
			return api.LogChunk{Step: "src", Text: text}, ok, l.logErr
		default:
			return api.LogChunk{}, false, l.logErr
		}
	}
	chunk := l.chunks[0]
	l.chunks = l.chunks[1:]
	return chunk, true, nil
}

func (l *logReader) Close() {}

func handler(s *store, tokens ...api.Token) http.Handler {
	return api.New(api.Options{
		Events: eventReader{s}, Runs: runReader{s}, Orders: s, Consent: s.Consent, Pauses: pauses{s}, Logs: s, Audit: auditLog{s}, Stopping: s.stopping, Explain: s.Explain, Start: s.Start, Tokens: tokens, Version: "test",
		Rules: func() api.RuleSet { return api.RuleSet{Revision: "abc"} }, Sources: func() []api.Source { return []api.Source{{Name: "zed"}, {Name: "abc", Problem: "its secret is empty"}} },
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
	retry := "/api/v1/runs/5ENG7J/retry" // of a run that failed
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
		{"another site reads", "GET", "/api/v1/runs", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, 403},
		{"a sibling site reads", "GET", "/api/v1/runs", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"no Host", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "" }, 403},
		{"an address beyond loopback", "GET", "/api/v1/runs", func(r *http.Request) { r.Host = "192.0.2.1:8081" }, 403},
		{"the OpenAPI document by a rebound name", "GET", "/api/v1/openapi.json", func(r *http.Request) { r.Host = "evil.example.com" }, 403},
		{"a path there is not by a rebound name", "GET", "/nothing", func(r *http.Request) { r.Host = "evil.example.com" }, 403},
		{"JSON with a character set", "POST", retry, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 202},
		{"a text that claims to be JSON", "POST", retry, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain, application/json") }, 415},
		{"a method that writes, without a type", "PUT", "/api/v1/runs", func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
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
		{"viewer-token", "POST", "/api/v1/runs/5ENG7J/retry", 403},
		{"viewer-token", "POST", "/api/v1/events/5ENG7J/replay", 403},
		{"viewer-token", "PUT", "/api/v1/runs", 405},
		{"wrong", "PUT", "/api/v1/runs", 401},
		{"operator-token", "POST", "/api/v1/runs/5ENG7J/retry", 202},
		{"operator-token", "POST", "/api/v1/events/5ENG7J/replay", 202},
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
			if challenge := w.Header().Get("WWW-Authenticate"); (challenge == "Bearer") != (tc.want == 401) {
				t.Errorf("WWW-Authenticate: %q", challenge)
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
		{"/api/v1/events?limit=500&since=2026-11-23T10:00:00Z", 200, `"next":"next"`},
		{"/api/v1/events?limit=0", 400, "limit"},
		{"/api/v1/events?limit=-1", 400, "limit"},
		{"/api/v1/events?limit=501", 400, "from 1 to 500"},
		{"/api/v1/runs?limit=501", 400, "from 1 to 500"},
		{"/api/v1/events?since=-1h", 400, "since"},
		{"/api/v1/events?cursor=bad", 400, `cursor \"bad\" is not one that a list of events returned`},
		{"/api/v1/runs?cursor=bad", 400, `cursor \"bad\" is not one that a list of runs returned`},
		{"/api/v1/runs?state=done", 400, "pending, running, waiting"},
		{"/api/v1/runs?stat=failed", 400, "rule, event, state, limit, cursor"},
		{"/api/v1/rules?name=x", 400, "there are none"},
		{"/api/v1/events?limit=many", 400, "limit"},
		{"/api/v1/events?since=yesterday", 400, "since"},
		{"/api/v1/events/" + id, 200, "9007199254740993"},
		{"/api/v1/events/" + id, 200, `"why":"hello: event.git.branch is absent"`},
		{"/api/v1/events/NONE", 404, "event not found"},
		{"/api/v1/runs/5ENG7J", 200, `"state":"failed"`},
		{"/api/v1/runs/NONE", 404, `{"error":"there is no run \"NONE\"","hint":"`},
		{"/api/v1/rules", 200, `"items":[]`},
		{"/api/v1/sources", 200, `{"items":[{"name":"abc","type":"","path":"","problem":"its secret is empty"},{"name":"zed",`},
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
	for order, state := range map[string]run.State{"cancel": run.Running, "retry": run.Failed} {
		s.state, s.orders = state, nil
		if w := ask(h, "POST", "/api/v1/runs/5ENG7J/"+order, nil); w.Code != http.StatusAccepted {
			t.Fatalf("%s: %d %s", order, w.Code, w.Body)
		}
		if got := fmt.Sprint(s.orders); got != "["+order+" 5ENG7J6GWJ2C0VDEAHNV9B4Y0M-hello]" {
			t.Fatalf("orders %s", got)
		}
	}
	s.err, s.state = event.ErrLogFull, run.Failed
	if w := ask(h, "POST", "/api/v1/runs/5ENG7J/retry", nil); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("with a full log: %d", w.Code)
	}
}

func TestOrdersThatTheRunsStateRulesOutAreRefused(t *testing.T) {
	for _, tc := range []struct {
		order string
		state run.State
		want  int
	}{
		{"cancel", run.Pending, 202}, {"cancel", run.Waiting, 202}, {"cancel", run.Succeeded, 409}, {"cancel", run.Cancelled, 409},
		{"retry", run.Cancelled, 202}, {"retry", run.Refused, 202}, {"retry", run.Running, 409}, {"retry", run.Succeeded, 409}, {"retry", run.Observed, 409},
	} {
		s := &store{state: tc.state}
		w := ask(handler(s), "POST", "/api/v1/runs/5ENG7J/"+tc.order, nil)
		if w.Code != tc.want || tc.want == 409 && (len(s.orders) > 0 || !strings.Contains(w.Body.String(), string(tc.state)) || !strings.Contains(w.Body.String(), "hint")) {
			t.Errorf("%s of a run that is %s: %d %s, orders %v", tc.order, tc.state, w.Code, w.Body, s.orders)
		}
	}
}

// TestListsAskForWhatTheRequestSays follows the filters, the bounds and the cursor to the stores.
func TestListsAskForWhatTheRequestSays(t *testing.T) {
	s := &store{}
	h := handler(s)
	ask(h, "GET", "/api/v1/events?source=github&type=push&since=2026-11-23T10:00:00Z&limit=7&cursor=1.2", nil)
	want := api.EventQuery{Source: "github", Type: "push", Since: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Limit: 7, Cursor: "1.2"}
	if s.events != want {
		t.Errorf("asked for %+v, want %+v", s.events, want)
	}
	ask(h, "GET", "/api/v1/runs?rule=hello&event=E&state=failed&limit=500&cursor=1.2.3", nil)
	if want := (api.RunQuery{Rule: "hello", Event: "E", State: run.Failed, Limit: 500, Cursor: "1.2.3"}); s.runs != want {
		t.Errorf("asked for %+v, want %+v", s.runs, want)
	}
	ask(h, "GET", "/api/v1/events", nil)
	if s.events != (api.EventQuery{Limit: 50}) {
		t.Errorf("without parameters: %+v", s.events)
	}
	for since, ago := range map[string]time.Duration{"90s": 90 * time.Second, "1d": 24 * time.Hour, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute} {
		before := time.Now().Add(-ago)
		ask(h, "GET", "/api/v1/events?since="+since, nil)
		if s.events.Since.Before(before) || s.events.Since.After(time.Now().Add(-ago)) {
			t.Errorf("since %s asks for %s", since, s.events.Since)
		}
	}
}

// TestAnotherMethodIsToldWhichThereIs: a path that exists answers 405 with Allow, and in the shape of every failure.
func TestAnotherMethodIsToldWhichThereIs(t *testing.T) {
	for _, tc := range []struct{ method, path, allow string }{
		{"POST", "/", "GET, HEAD"},
		{"POST", "/api/v1/events", "GET, HEAD"},
		{"DELETE", "/api/v1/runs/5ENG7J", "GET, HEAD"},
		{"GET", "/api/v1/runs/5ENG7J/cancel", "POST"},
		{"PUT", "/api/v1/backup", "POST"},
	} {
		w := ask(handler(&store{}), tc.method, tc.path, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") })
		var failure api.Failure
		if err := json.Unmarshal(w.Body.Bytes(), &failure); err != nil || failure.Error == "" || failure.Hint == "" {
			t.Errorf("%s %s answers %s", tc.method, tc.path, w.Body)
		}
		if w.Code != 405 || w.Header().Get("Allow") != tc.allow || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d, headers %v; want Allow: %s", tc.method, tc.path, w.Code, w.Header(), tc.allow)
		}
	}
	if w := ask(handler(&store{}), "HEAD", "/api/v1/events", nil); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

// TestEventsAndRunsHaveTheFieldsOfTheContract names every field: one more or less must be meant.
func TestEventsAndRunsHaveTheFieldsOfTheContract(t *testing.T) {
	h := handler(&store{})
	const id = "5ENG7J6GWJ2C0VDEAHNV9B4Y0M"
	for path, want := range map[string]string{
		"events/" + id: "alert data decision deliveryID git id pullRequest receivedAt source subject time type",
		"runs/" + id:   "attempt createdAt endedAt event id rule ruleRevision startedAt state steps",
	} {
		var got map[string]any
		if err := json.Unmarshal(ask(h, "GET", "/api/v1/"+path, nil).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != want {
			t.Errorf("%s has %s, want %s", path, names, want)
		}
	}
	want := `"startedAt":null,"endedAt":null,"steps":[` +
		`{"id":"src","uses":"git.pull","state":"failed","attempt":0,"startedAt":"1970-01-01T00:00:03Z","endedAt":null,"outputs":{},"error":"no such branch"},` +
		`{"id":"tell","uses":"","state":"pending","attempt":0,"startedAt":null,"endedAt":null,"outputs":{}}]}`
	if w := ask(h, "GET", "/api/v1/runs/"+id, nil); !strings.Contains(w.Body.String(), want) {
		t.Errorf("run %s, want %s", w.Body, want)
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

func TestReadyzSaysWhatIsNotReady(t *testing.T) {
	var broken error
	h := api.Health(map[string]api.Check{"store": func() error { return nil }, "secrets": func() error { return broken }}, func() []string { return []string{"2 rules are paused"} }, http.NotFoundHandler())
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, http.NoBody))
		return w
	}
	if w := get("/readyz"); w.Code != http.StatusOK || !strings.HasSuffix(w.Body.String(), "[!] 2 rules are paused\n") {
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

func (s *store) Start(_ context.Context, start api.Start) (api.Started, error) {
	s.started = start
	return api.Started{ID: "E-" + start.Rule, Event: "E"}, s.err
}

func TestRulesAndWorkflowsAreStarted(t *testing.T) {
	for _, tc := range []struct {
		path, body string
		want       int
		text       string
		start      api.Start
	}{
		{"rules/heal", "", 202, `{"id":"E-heal","event":"E"}`, api.Start{Rule: "heal", Inputs: map[string]any{}}},
		{"workflows/heal", `{"inputs":{"n":9007199254740993,"all":true,"to":["a"]}}`, 202, `"id":"E-workflow/heal"`,
			api.Start{Rule: "workflow/heal", Inputs: map[string]any{"n": int64(9007199254740993), "all": true, "to": []any{"a"}}}},
		{"rules/heal", `{"event":"5ENG"}`, 202, "", api.Start{Rule: "heal", Inputs: map[string]any{}, Event: "5ENG"}},
		{"rules/heal", `{"input":{}}`, 400, "input", api.Start{}},
		{"rules/heal", `{"inputs":[]}`, 400, "hint", api.Start{}},
	} {
		s := &store{}
		w := ask(handler(s), "POST", "/api/v1/"+tc.path+"/run", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(tc.body)) })
		if tc.start.Rule != "" {
			tc.start.Who = "loopback"
		}
		if w.Code != tc.want || !strings.Contains(w.Body.String(), tc.text) || !reflect.DeepEqual(s.started, tc.start) {
			t.Errorf("%s %s: %d %s, started %+v", tc.path, tc.body, w.Code, w.Body, s.started)
		}
		if tc.want == 202 && (len(s.audited) != 1 || s.audited[0].Target != tc.start.Rule || s.audited[0].Detail["run"] == "") {
			t.Errorf("%s: the audit log has %+v", tc.path, s.audited)
		}
	}
}
