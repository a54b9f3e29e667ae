package api_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/run"
)

func TestWhatComesOfAConsent(t *testing.T) {
	ana := api.Token{Name: "ana", SHA256: sha256.Sum256([]byte("secret-of-ana")), Groups: []string{"sre"}, Role: api.Operator}
	viewer := api.Token{Name: "eve", SHA256: sha256.Sum256([]byte("secret-of-eve")), Role: api.Viewer}
	heard := run.Entry{Kind: run.Commanded, Run: "R"}
	for name, tc := range map[string]struct {
		store  store
		token  string
		body   string
		status int
		says   string
		orders string
	}{
		"heard":          {store{asks: true, state: run.Waiting, heard: heard}, "secret-of-ana", `{"comment":"fine"}`, 200, `"heard":true`, `by ana [sre] api "d1" "fine"`},
		"of what is not": {store{asks: true, state: run.Waiting, heard: heard}, "secret-of-ana", `{"digest":"d0"}`, 200, "", `api "d0" ""`},
		"without a body": {store{asks: true, state: run.Waiting, heard: heard}, "secret-of-ana", "", 200, "", `api "d1" ""`},
		"not in time":    {store{asks: true, state: run.Waiting}, "secret-of-ana", "{}", 202, `"heard":false`, "approve"},
		"not entitled":   {store{asks: true, state: run.Waiting, heard: run.Entry{Kind: run.Commanded, Reason: run.ReasonNotEntitled, Why: "ana may not"}}, "secret-of-ana", "{}", 403, "ana may not", "approve"},
		"too late":       {store{asks: true, state: run.Waiting, heard: run.Entry{Kind: run.Commanded, Why: "the time is over"}}, "secret-of-ana", "{}", 409, "the time is over", "approve"},
		"nothing waits":  {store{state: run.Running}, "secret-of-ana", "{}", 409, "waits for nobody's consent", ""},
		"it has ended":   {store{asks: true, state: run.Refused}, "secret-of-ana", "{}", 409, "waits for nobody's consent", ""},
		"a viewer":       {store{asks: true, state: run.Waiting}, "secret-of-eve", "{}", 403, "role viewer", ""},
		"a stranger":     {store{asks: true, state: run.Waiting}, "nothing", "{}", 401, "not known", ""},
		"no JSON":        {store{asks: true, state: run.Waiting}, "secret-of-ana", "yes", 400, "the body is not", ""},
		"two bodies":     {store{asks: true, state: run.Waiting}, "secret-of-ana", "{}{}", 400, "something after", ""},
		"a long comment": {store{asks: true, state: run.Waiting}, "secret-of-ana", `{"comment":"` + strings.Repeat("x", 5000) + `"}`, 400, "longer than", ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(handler(&tc.store, ana, viewer), http.MethodPost, "/api/v1/runs/5ENG7J/approve", func(r *http.Request) {
				r.Header.Set("Authorization", "Bearer "+tc.token)
				r.Body = io.NopCloser(strings.NewReader(tc.body))
			})
			if answer.Code != tc.status || !strings.Contains(answer.Body.String(), tc.says) {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if got := fmt.Sprint(tc.store.orders); !strings.Contains(got, tc.orders) || tc.orders == "" && len(tc.store.orders) > 0 {
				t.Errorf("ordered: %s", got)
			}
		})
	}
}
