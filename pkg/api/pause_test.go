package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/run"
)

func TestPauseAndResume(t *testing.T) {
	s := &store{}
	h := api.New(api.Options{
		Pauses: pauses{s}, Audit: auditLog{s}, Logger: slog.New(slog.DiscardHandler),
		Rules: func() api.RuleSet {
			return api.RuleSet{Items: []api.Rule{{Name: "hello"}, {Name: "bye"}}, Paused: []api.Pause{{Rule: "bye", By: "the file PAUSED"}}}
		},
	})
	post := func(path, body string) (int, string) {
		w := ask(h, http.MethodPost, "/api/v1/"+path, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body)) })
		return w.Code, w.Body.String()
	}
	for _, tc := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"pause", `{"rule":"helo"}`, 404, "did you mean hello?"},
		{"pause", `{"until":"yesterday"}`, 400, "neither a time to come"},
		{"pause", `{"until":"2001-01-01T00:00:00Z"}`, 400, "neither a time to come"},
		{"pause", `{"reason":"` + strings.Repeat("x", 500) + `"}`, 400, "longer than"},
		{"pause", `{"rules":"hello"}`, 400, "rules"},
		{"resume", `{}`, 409, "not all rules are paused"},
		{"resume", `{"rule":"hello"}`, 409, "rule hello is not paused"},
		{"resume", `{"rule":"bye"}`, 409, "it is paused by the file PAUSED"},
		{"pause", `{"rule":"hello","until":"2h","reason":"<why>"}`, 200, `"rule":"hello","by":"loopback","reason":"<why>"`},
		{"pause", ``, 200, `{"by":"loopback"`},
		{"resume", `{"rule":"bye"}`, 409, "it is paused by the file PAUSED"},
		{"resume", `{}`, 200, `"rule":"hello"`},
		{"resume", `{"rule":"hello"}`, 200, `{"items":[]}`},
	} {
		if status, says := post(tc.path, tc.body); status != tc.status || !strings.Contains(says, tc.says) {
			t.Errorf("%s %s: %d %s", tc.path, tc.body, status, says)
		}
	}
	s.pauses = []run.Pause{{By: "ana", Since: time.Now()}}
	if status, says := post("resume", `{"rule":"hello"}`); status != 409 || !strings.Contains(says, "all rules are paused") {
		t.Errorf("one of all: %d %s", status, says)
	}
}
