package http_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	acthttp "github.com/riposte-dev/riposte/pkg/action/http"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// serve answers /status/N with that status, /to?u=… with a redirect, /echo with what it got.
func serve(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		w.WriteHeader(n)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.FormValue("u"), http.StatusFound) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 100<<10)) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", strings.Join([]string{r.Method, r.Header.Get("Authorization"), r.Header.Get("X-Key"), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), r.UserAgent()}, "|"))
		w.Header().Set("Set-Cookie", "session=1")
		w.Write(body)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func definition(allow ...string) action.Definition {
	var private []netip.Prefix
	for _, a := range allow {
		private = append(private, netip.MustParsePrefix(a))
	}
	return acthttp.Definitions(acthttp.Options{Client: outbound.New(outbound.Options{AllowPrivate: private}), Version: "1.2"})[0]
}

func TestRequest(t *testing.T) {
	u := serve(t).URL
	token := &action.SecretRef{Secret: "token"}
	secrets := map[string]string{"token": "s3cr3t-value", "bad": "s3cr3t\nvalue"}
	header := func(want string) func(*testing.T, action.Outputs, string, error) {
		return func(t *testing.T, out action.Outputs, _ string, _ error) {
			headers, _ := out["headers"].(map[string]any)
			if headers["x-got"] != want || headers["set-cookie"] != nil {
				t.Errorf("headers are %v, want x-got %q and no cookie", headers, want)
			}
		}
	}
	quiet := func(t *testing.T, _ action.Outputs, log string, err error) {
		if err == nil || strings.Contains(err.Error()+log, "q-s3cr3t") {
			t.Errorf("error or log holds a credential of the address: %v, %s", err, log)
		}
	}
	actiontest.Run(t, definition("127.0.0.1/32"), []actiontest.Case{
		{Name: "get", Params: &acthttp.Params{URL: u + "/echo"}, Outputs: action.Outputs{"status": int64(200), "body": "", "json": nil},
			Check: header("GET|||01KAR7Q3TEST-step||riposte/1.2 (01KAR7Q3TEST)")},
		{Name: "json with secrets", Secrets: secrets,
			Params:  &acthttp.Params{URL: u + "/echo", Body: map[string]any{"a": int64(1)}, Bearer: token, SecretHeaders: map[string]action.SecretRef{"X-Key": *token}},
			Outputs: action.Outputs{"json": map[string]any{"a": int64(1)}},
			Check:   header("POST|Bearer s3cr3t-value|s3cr3t-value|01KAR7Q3TEST-step|application/json|riposte/1.2 (01KAR7Q3TEST)")},
		{Name: "text", Params: &acthttp.Params{Method: "put", URL: u + "/echo", Body: "plain"}, Outputs: action.Outputs{"body": "plain"}},
		{Name: "cap", Params: &acthttp.Params{URL: u + "/big"}, Outputs: action.Outputs{"body": strings.Repeat("x", 64<<10)}},
		{Name: "500", Params: &acthttp.Params{URL: u + "/status/500?k=q-s3cr3t"}, Want: actiontest.Fails, ErrorHas: []string{"500"}, Check: quiet},
		{Name: "429", Params: &acthttp.Params{URL: u + "/status/429"}, Want: actiontest.Fails},
		{Name: "408", Params: &acthttp.Params{URL: u + "/status/408"}, Want: actiontest.Fails},
		{Name: "404", Params: &acthttp.Params{URL: u + "/status/404?k=q-s3cr3t"}, Want: actiontest.Permanent, ErrorHas: []string{"404"}, Check: quiet},
		{Name: "expected 404", Params: &acthttp.Params{URL: u + "/status/404", ExpectStatus: []string{"404"}}, Outputs: action.Outputs{"status": int64(404)}},
		{Name: "expected class", Params: &acthttp.Params{URL: u + "/status/503", ExpectStatus: []string{"2xx", "500-503"}}, Outputs: action.Outputs{"status": int64(503)}},
		{Name: "unexpected 200", Params: &acthttp.Params{URL: u + "/echo", ExpectStatus: []string{"404"}}, Want: actiontest.Permanent},
		{Name: "redirect is not followed", Params: &acthttp.Params{URL: u + "/to?u=/echo"}, Want: actiontest.Permanent, ErrorHas: []string{"302"}},
		{Name: "redirect", Params: &acthttp.Params{URL: u + "/to?u=/echo", FollowRedirects: true}, Outputs: action.Outputs{"status": int64(200)}},
		{Name: "redirect to a forbidden address", Params: &acthttp.Params{URL: u + "/to?u=http://127.0.0.2:1/%3Fk%3Dq-s3cr3t", FollowRedirects: true},
			Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}, Check: quiet},
		{Name: "forbidden address", Params: &acthttp.Params{URL: "http://user:q-s3cr3t@169.254.169.254/?k=q-s3cr3t"}, Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}, Check: quiet},
		{Name: "nobody listens", Params: &acthttp.Params{URL: "http://127.0.0.1:1/?k=q-s3cr3t"}, Want: actiontest.Fails, Check: quiet},
		{Name: "timeout", Params: &acthttp.Params{URL: u + "/hang", Timeout: time.Millisecond}, Want: actiontest.Fails, ErrorHas: []string{"timeout"}},
		{Name: "line break in a secret", Secrets: secrets, Params: &acthttp.Params{URL: u + "/echo", Bearer: &action.SecretRef{Secret: "bad"}}, Want: actiontest.Permanent},
		{Name: "unknown secret", Params: &acthttp.Params{URL: u + "/echo", Bearer: token}, Want: actiontest.Permanent},
		{Name: "no address", Params: &acthttp.Params{URL: "ftp://q-s3cr3t"}, Want: actiontest.Permanent, Check: quiet},
	})
}

// TestCancel cancels while the server lets the client wait.
func TestCancel(t *testing.T) {
	reached := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	actiontest.Run(t, definition("127.0.0.1/32"), []actiontest.Case{
		{Name: "in the middle of the body", Params: &acthttp.Params{URL: s.URL}, Cancel: reached, Want: actiontest.Fails},
	})
}

func TestCheck(t *testing.T) {
	def := definition()
	for _, c := range []struct {
		name string
		p    acthttp.Params
		ok   bool
	}{
		{"templated", acthttp.Params{}, true},
		{"scheme", acthttp.Params{URL: "file:///etc/passwd"}, false},
		{"status", acthttp.Params{ExpectStatus: []string{"42"}}, false},
		{"timeout", acthttp.Params{Timeout: -1}, false},
		{"statuses", acthttp.Params{ExpectStatus: []string{"404", "2xx", "5XX", "300-308", ""}}, true},
		{"status class", acthttp.Params{ExpectStatus: []string{"6xx"}}, false},
		{"status range", acthttp.Params{ExpectStatus: []string{"300-200"}}, false},
		{"status text", acthttp.Params{ExpectStatus: []string{"ok"}}, false},
		{"status open range", acthttp.Params{ExpectStatus: []string{"200-"}}, false},
	} {
		if err := def.Check(&c.p); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
