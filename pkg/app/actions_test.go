package app_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// TestWhatAnEventSaysStaysAValue lets a rule ask with an event's text, and send the event on, through a whole server.
func TestWhatAnEventSaysStaysAValue(t *testing.T) {
	key := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key of this test"))
	t.Setenv("APP_TEST_KEY", key)
	asked, forwarded := make(chan string, 10), make(chan *source.Request, 10)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/query" {
			asked <- r.FormValue("query") + " " + r.Header.Get("Authorization")
			io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		forwarded <- &source.Request{Header: r.Header, Body: body}
	}))
	t.Cleanup(fake.Close)

	dir := t.TempDir()
	rules := githubSource + ruleDoc("r", `  steps:
    - id: errors
      uses: prometheus.query
      with: {query: "errors{service='${{ event.data.service }}'}"}
    - {id: well, if: steps.errors.outputs.value < 0.01, uses: exec.run, with: {command: ["true"]}}
    - {id: ill, if: not (steps.errors.outputs.value < 0.01), uses: exec.run, with: {command: ["true"]}}
    - {id: unknown, if: steps.errors.outputs.empty, uses: exec.run, with: {command: ["true"]}}
    - id: on
      uses: webhook.forward
      with: {to: [{url: "`+fake.URL+`/hook", secret: {secret: key}}]}
`)
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{dir}
	c.Secrets["key"] = config.Secret{Env: "APP_TEST_KEY"}
	c.Prometheus = config.API{URL: fake.URL, Token: "key"}
	c.Outbound.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s := launch(t, c)

	id := s.push(`{"service": "x'} or vector(0) #"}`).ID
	r := s.ended(id + "-r")
	if r.State != run.Succeeded {
		t.Fatalf("run %+v", r)
	}
	if got, want := <-asked, `errors{service='x\'} or vector(0) #'} Bearer `+key; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	for name, want := range map[string]run.StepState{"well": run.StepSkipped, "ill": run.StepSkipped, "unknown": run.StepSucceeded} {
		if st := r.Step(run.Main, name); st == nil || st.State != want {
			t.Errorf("step %s is %+v, want %s", name, st, want)
		}
	}
	got := <-forwarded
	env := &source.Env{Secret: func(source.SecretRef) ([]byte, error) { return []byte(key), nil }}
	if err := source.VerifyStandard(env, []source.SecretRef{{Secret: "key"}}, got); err != nil {
		t.Error(err)
	}
	var event struct {
		ID, Type string
		Data     struct{ Service string }
	}
	if err := json.Unmarshal(got.Body, &event); err != nil || event.ID != id || event.Type != "push" || !strings.HasPrefix(event.Data.Service, "x'}") {
		t.Errorf("forwarded %s, %v", got.Body, err)
	}
}
