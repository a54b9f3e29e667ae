package api_test

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/run"
)

const logsPath = "/api/v1/runs/5ENG7J/logs"

func TestLogsAreLinesOfJSON(t *testing.T) {
	w := ask(handler(&store{}), "GET", logsPath, nil)
	want := `{"time":"0001-01-01T00:00:00Z","step":"src","attempt":1,"text":"of 5ENG7J6GWJ2C0VDEAHNV9B4Y0M-hello\n"}
{"time":"0001-01-01T00:00:00Z","step":"tell","attempt":2,"omitted":7,"text":"<b> & more\n"}
`
	if got := w.Body.String(); got != want || w.Header().Get("Content-Type") != "application/x-ndjson" || w.Result().Trailer.Get("Riposte-Logs") != "complete" {
		t.Errorf("%s %v %v", got, w.Header(), w.Result().Trailer)
	}
	if got := ask(handler(&store{}), "GET", logsPath+"?step=tell", nil).Body.String(); strings.Contains(got, "src") || !strings.Contains(got, "tell") {
		t.Errorf("of one step: %s", got)
	}
	for path, want := range map[string]int{logsPath + "?follow=maybe": 400, "/api/v1/runs/NONE/logs": 404, logsPath + "?follow=false": 200} {
		if w := ask(handler(&store{}), "GET", path, nil); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestALogThatCantBeReadToItsEndSaysSo(t *testing.T) {
	w := ask(handler(&store{logErr: errors.New("no answer\nat all")}), "GET", logsPath, nil)
	if got := w.Result().Trailer.Get("Riposte-Logs"); got != "cut off: no answer at all" {
		t.Errorf("%d, trailer %q", w.Code, got)
	}
}

// followed asks a real server, and returns the lines and what ends them.
func followed(t *testing.T, s *store) (lines *bufio.Scanner, trailer func() string) {
	t.Helper()
	server := httptest.NewServer(handler(s))
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+logsPath+"?follow=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines = bufio.NewScanner(resp.Body)
	for range 2 {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
	}
	return lines, func() string { return resp.Trailer.Get("Riposte-Logs") }
}

func TestFollowingShowsWhatComes(t *testing.T) {
	s := &store{state: run.Running, more: make(chan string), stopping: make(chan struct{})}
	lines, trailer := followed(t, s)
	for _, text := range []string{"one", "two"} {
		s.more <- text
		if !lines.Scan() || !strings.Contains(lines.Text(), text) {
			t.Fatal(lines.Text(), lines.Err())
		}
	}
	close(s.stopping)
	if lines.Scan() || trailer() != "cut off: the server stops" {
		t.Errorf("after a stop: %q, %q", lines.Text(), trailer())
	}
}

func TestFollowingEndsWithTheRun(t *testing.T) {
	lines, trailer := followed(t, &store{state: run.Failed}) // it ended long ago
	if lines.Scan() || lines.Err() != nil || trailer() != "complete" {
		t.Errorf("%v, %q", lines.Err(), trailer())
	}
}

func TestWhatPeopleOrderIsOnRecord(t *testing.T) {
	tokens := []api.Token{
		{Name: "vi", SHA256: sha256.Sum256([]byte("viewer-token")), Role: api.Viewer},
		{Name: "ad", SHA256: sha256.Sum256([]byte("admin-token")), Role: api.Admin},
	}
	id := "5ENG7J6GWJ2C0VDEAHNV9B4Y0M"
	for _, tc := range []struct {
		token, method, path string
		state               run.State
		err                 error
		want                audit.Entry // without At; no Action: nothing is written
	}{
		{"admin-token", "POST", "/api/v1/runs/5ENG7J/retry", run.Failed, nil, audit.Entry{Who: "ad", Action: "retryRun", Target: id + "-hello", Result: "ok"}},
		{"admin-token", "POST", "/api/v1/runs/5ENG7J/cancel", run.Failed, nil, audit.Entry{Who: "ad", Action: "cancelRun", Target: "5ENG7J", Result: "refused", Reason: "run " + id + "-hello has ended: it is failed"}},
		{"admin-token", "POST", "/api/v1/runs/5ENG7J/retry", run.Failed, errors.New("boom"), audit.Entry{Who: "ad", Action: "retryRun", Target: id + "-hello", Result: "failed", Reason: "boom"}},
		{"admin-token", "POST", "/api/v1/backup", "", errors.New("boom"), audit.Entry{Who: "ad", Action: "backup", Result: "failed", Reason: "boom"}},
		{"admin-token", "POST", "/api/v1/events/" + id + "/replay", "", nil, audit.Entry{Who: "ad", Action: "replayEvent", Target: id, Result: "ok", Detail: map[string]string{"as": "NEW"}}},
		{"viewer-token", "POST", "/api/v1/runs/5ENG7J/retry", run.Failed, nil, audit.Entry{Who: "vi", Action: "retryRun", Target: "5ENG7J", Result: "refused", Reason: "token vi has the role viewer, and this needs operator"}},
		{"viewer-token", "GET", "/api/v1/runs", "", nil, audit.Entry{}},
		{"viewer-token", "PUT", "/api/v1/runs", "", nil, audit.Entry{}},
		{"wrong", "POST", "/api/v1/runs/5ENG7J/retry", run.Failed, nil, audit.Entry{}},
	} {
		s := &store{state: tc.state, err: tc.err}
		ask(handler(s, tokens...), tc.method, tc.path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tc.token) })
		if tc.want.Action == "" {
			if len(s.audited) > 0 {
				t.Errorf("%s %s by %s: %+v", tc.method, tc.path, tc.token, s.audited)
			}
			continue
		}
		if len(s.audited) != 1 {
			t.Errorf("%s %s: %+v", tc.method, tc.path, s.audited)
			continue
		}
		got := s.audited[0]
		if got.At.IsZero() || got.From == "" || got.Who != tc.want.Who || got.Action != tc.want.Action || got.Target != tc.want.Target ||
			got.Result != tc.want.Result || got.Reason != tc.want.Reason || len(got.Detail) != len(tc.want.Detail) || got.Detail["as"] != tc.want.Detail["as"] {
			t.Errorf("%s %s: %+v", tc.method, tc.path, got)
		}
	}
}

func TestTheAuditLogIsForAdmins(t *testing.T) {
	tokens := []api.Token{{Name: "op", SHA256: sha256.Sum256([]byte("operator-token")), Role: api.Operator}}
	if w := ask(handler(&store{}, tokens...), "GET", "/api/v1/audit", func(r *http.Request) { r.Header.Set("Authorization", "Bearer operator-token") }); w.Code != http.StatusForbidden {
		t.Errorf("for an operator: %d", w.Code)
	}
	s := &store{}
	if w := ask(handler(s), "GET", "/api/v1/audit?since=2026-11-23T10:00:00Z&limit=7&cursor=1.2.3", nil); w.Code != 200 || !strings.Contains(w.Body.String(), `"action":"cancelRun"`) ||
		s.auditQuery.Limit != 7 || s.auditQuery.Cursor != "1.2.3" || s.auditQuery.Since.Hour() != 10 {
		t.Errorf("%d %s, asked %+v", w.Code, w.Body, s.auditQuery)
	}
	if w := ask(handler(&store{}), "GET", "/api/v1/audit?cursor=bad", nil); w.Code != 400 || !strings.Contains(w.Body.String(), "the audit log") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
