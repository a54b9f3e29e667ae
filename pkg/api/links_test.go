package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// TestWhatALinkSays asks with a link of ana's for what waits with the digest d1 until an hour.
func TestWhatALinkSays(t *testing.T) {
	end := time.Unix(7200, 0)
	asks := func(change func(*run.Run)) *run.Run {
		r := &run.Run{ID: "E-r", Rule: "r", Event: "E", State: run.Waiting, Attempt: 1, Approval: &run.Approval{Step: "fix", Digest: "d1", Needed: 2, ExpiresAt: end}}
		if change != nil {
			change(r)
		}
		return r
	}
	heard := run.Entry{Kind: run.Commanded, Run: "E-r"}
	for name, tc := range map[string]struct {
		link      consent.Link
		run       *run.Run // nil is purged
		now       time.Time
		heard     run.Entry
		err       error
		get, post int
		says      string // after the POST
		ordered   int
	}{
		"it counts":         {consent.Link{}, asks(nil), end.Add(-1), heard, nil, 200, 200, "Your consent is on record", 1},
		"with its digest":   {consent.Link{Digest: "d1"}, asks(nil), end.Add(-1), heard, nil, 200, 200, "Your consent is on record", 1},
		"another digest":    {consent.Link{Digest: "d0"}, asks(nil), end.Add(-1), heard, nil, 410, 410, "for something else", 0},
		"expired":           {consent.Link{}, asks(nil), end, heard, nil, 410, 410, "This link has expired: the time to consent was over at Thu, 01 Jan 1970 02:00:00 UTC", 0},
		"nothing waits yet": {consent.Link{}, asks(func(r *run.Run) { r.Approval, r.State = nil, run.Running }), end.Add(-1), heard, nil, 200, 200, "Nothing waits yet", 0},
		"it asked nobody":   {consent.Link{}, asks(func(r *run.Run) { r.Approval, r.State = nil, run.Failed }), end.Add(-1), heard, nil, 410, 410, "asked nobody", 0},
		"used":              {consent.Link{}, asks(func(r *run.Run) { r.Approval.By = []run.Consent{{Who: "ana"}} }), end.Add(-1), heard, nil, 410, 410, "This link was used", 0},
		"used by others":    {consent.Link{}, asks(func(r *run.Run) { r.Approval.By = []run.Consent{{Who: "bob"}} }), end.Add(-1), heard, nil, 200, 200, "on record", 1},
		"decided":           {consent.Link{}, asks(func(r *run.Run) { r.Approval.Granted, r.State = true, run.Running }), end.Add(-1), heard, nil, 410, 410, "decided meanwhile", 0},
		"another attempt":   {consent.Link{Attempt: 2}, asks(nil), end.Add(-1), heard, nil, 410, 410, "earlier attempt", 0},
		"purged":            {consent.Link{}, nil, end.Add(-1), heard, nil, 404, 404, "its history is purged", 0},
		"no person":         {consent.Link{Who: "eve"}, asks(nil), end.Add(-1), heard, nil, 403, 403, "gives eve no links any more", 0},
		"not entitled":      {consent.Link{}, asks(nil), end.Add(-1), run.Entry{Kind: run.Commanded, Reason: run.ReasonNotEntitled, Why: "ana may not"}, nil, 200, 403, "Ana may not.", 1},
		"refused":           {consent.Link{}, asks(nil), end.Add(-1), run.Entry{Kind: run.Commanded, Why: "too late"}, nil, 200, 409, "Too late.", 1},
		"not heard":         {consent.Link{}, asks(nil), end.Add(-1), run.Entry{}, nil, 200, 202, "has not heard of it yet", 1},
		"no store":          {consent.Link{}, asks(nil), end.Add(-1), heard, fmt.Errorf("append: %w", event.ErrLogUnavailable), 200, 503, "The store does not answer", 1},
	} {
		t.Run(name, func(t *testing.T) {
			ordered := 0
			h := api.Links(api.LinkOptions{
				Open: func(token string) (consent.Link, error) {
					l := tc.link
					if l.Run = "E-r"; l.Attempt == 0 {
						l.Attempt = 1
					}
					if l.Who == "" {
						l.Who = "ana"
					}
					if token != "good" {
						return l, consent.ErrLink
					}
					return l, nil
				},
				Groups: func(name string) ([]string, bool) { return []string{"sre"}, name == "ana" },
				Run: func(context.Context, string) (run.Run, error) {
					if tc.run == nil {
						return run.Run{}, event.ErrNotFound
					}
					return *tc.run, nil
				},
				Event: func(context.Context, string) (*event.Event, error) { return nil, errors.New("gone") },
				Consent: func(_ context.Context, order, id string, c api.Consent) (run.Entry, bool, error) {
					if ordered++; order != run.CommandApprove || id != "E-r" || c.Who != "ana" || len(c.Groups) != 1 || c.Via != "link" || c.Digest != "d1" {
						t.Errorf("%s %s %+v", order, id, c)
					}
					return tc.heard, tc.heard.Kind != "", tc.err
				},
				Audit: auditLog{&store{}}, Now: func() time.Time { return tc.now }, Logger: slog.New(slog.DiscardHandler),
			})
			send := func(method, token, body string) *httptest.ResponseRecorder {
				r := httptest.NewRequest(method, api.LinkPath+token, strings.NewReader(body))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w
			}
			if w := send(http.MethodGet, "good", ""); w.Code != tc.get {
				t.Errorf("GET: %d %s", w.Code, w.Body)
			}
			if w := send(http.MethodPost, "bad", "decision=approve&digest=d1"); w.Code != http.StatusNotFound || ordered > 0 {
				t.Errorf("POST of a bad one: %d, ordered %d times", w.Code, ordered)
			}
			if w := send(http.MethodPost, "good", "decision=approve&digest=d1"); w.Code != tc.post || !strings.Contains(w.Body.String(), tc.says) {
				t.Errorf("POST: %d %s", w.Code, w.Body)
			}
			if ordered != tc.ordered {
				t.Errorf("ordered %d times", ordered)
			}
			if w := send(http.MethodPut, "good", ""); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("PUT: %d", w.Code)
			}
			r := httptest.NewRequest(http.MethodPost, api.LinkPath+"good", strings.NewReader(`{"decision":"approve"}`))
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
				t.Errorf("no form: %d", w.Code)
			}
		})
	}
}
