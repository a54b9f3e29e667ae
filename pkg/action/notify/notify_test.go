package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// buffer is a log that may be written and read at once.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// inbox keeps what a webhook got.
type inbox struct {
	mu   sync.Mutex
	got  []map[string]any
	code int
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var m map[string]any
	if json.Unmarshal(body, &m) != nil {
		m = map[string]any{"raw": string(body)}
	}
	b.got = append(b.got, m)
	if b.code != 0 {
		w.WriteHeader(b.code)
	}
	_, _ = w.Write([]byte("{}")) // ntfy answers with JSON
}

func (b *inbox) last() map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.got) == 0 {
		return nil
	}
	return b.got[len(b.got)-1]
}

func listen(t *testing.T, code int) (*inbox, string) {
	b := &inbox{code: code}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return b, s.URL
}

func sender(t *testing.T, log *buffer) *Sender {
	s := New(Options{
		Client: outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}),
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func target(typ, fallback string) action.Target {
	return action.Target{Type: typ, URL: action.SecretRef{Secret: typ}, Fallback: fallback}
}

func TestSend(t *testing.T) {
	good, goodURL := listen(t, 0)
	_, brokenURL := listen(t, 503)
	_, refusingURL := listen(t, 403)
	ntfy, ntfyURL := listen(t, 0)
	const key = "/p4th-s3cr3t?k=q-s3cr3t"
	secrets := map[string]string{
		"webhook": goodURL + key, "slack": goodURL + key, "discord": goodURL + key, "broken": brokenURL + key, "refusing": refusingURL + key,
		"dead": "http://127.0.0.1:1" + key, "private": "http://127.0.0.2:1" + key, "smtp": "smtp://u:q-s3cr3t@169.254.1.1:25/?from=a@b.c&to=d@e.f",
		"ntfy": strings.Replace(ntfyURL, "http://", "ntfy://", 1) + "/topic?scheme=http", "garbled": "nosuch://q-s3cr3t@127.0.0.1",
	}
	targets := map[string]action.Target{
		"log": {Type: "log"}, "webhook": target("webhook", ""), "slack": target("slack", ""), "discord": target("discord", ""), "smtp": target("smtp", ""), "ntfy": target("ntfy", ""),
	}
	for name, fallback := range map[string]string{"broken": "webhook", "dead": "loop", "private": "", "refusing": "", "garbled": ""} {
		targets[name] = action.Target{Type: "webhook", URL: action.SecretRef{Secret: name}, Fallback: fallback}
	}
	targets["loop"] = action.Target{Type: "webhook", URL: action.SecretRef{Secret: "dead"}, Fallback: "dead"}
	targets["matrix"] = action.Target{Type: "matrix", URL: action.SecretRef{Secret: "garbled"}}
	targets["garbled"] = action.Target{Type: "pagerduty", URL: action.SecretRef{Secret: "garbled"}}
	quiet := func(t *testing.T, _ action.Outputs, log string, err error) {
		if strings.Contains(err.Error()+log, "s3cr3t") {
			t.Errorf("error or log holds the address: %v, %s", err, log)
		}
	}
	text := func(key, want string) func(*testing.T, action.Outputs, string, error) {
		return func(t *testing.T, _ action.Outputs, _ string, _ error) {
			if got := good.last()[key]; got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
	}
	var log buffer
	cases := []actiontest.Case{
		{Name: "log", Params: &Params{To: "log", Title: "Disk", Text: "is full"}, Outputs: action.Outputs{"target": "log", "fallback": false, "digested": false},
			Check: func(t *testing.T, _ action.Outputs, runLog string, _ error) {
				if strings.Contains(runLog, "is full") || strings.Count(log.String(), "level=WARN msg=\"is full\"") != 1 {
					t.Errorf("logs are %q and %q", runLog, log.String())
				}
			}},
		{Name: "webhook", Params: &Params{To: "webhook", Text: "<@here>", Title: "a\nb", Severity: "error", DedupKey: "k"}, Event: &action.EventInfo{ID: "e1"},
			Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
				got, _ := json.Marshal(good.last())
				want := `{"dedupKey":"k","event":"e1","rule":"conformance","run":"01KAR7Q3TEST","severity":"error","text":"\u003c@here\u003e","title":"a b"}`
				if string(got) != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}},
		{Name: "slack", Params: &Params{To: "slack", Text: "<!channel> & @here"}, Check: text("text", "&lt;!channel&gt; &amp; @\u200bhere")},
		{Name: "discord", Params: &Params{To: "discord", Text: "<@&1> @everyone"}, Check: text("content", "\\<@&1\\> @\u200beveryone")},
		{Name: "service with our client", Params: &Params{To: "ntfy", Text: "hello"},
			Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
				if got := ntfy.last()["raw"]; got != "hello" {
					t.Errorf("message is %v", got)
				}
			}},
		{Name: "fallback", Params: &Params{To: "broken", Text: "x"}, Outputs: action.Outputs{"target": "webhook", "fallback": true},
			Check: text("text", "x\n(for target broken, which could not be reached)")},
		{Name: "loop", Params: &Params{To: "dead", Text: "x"}, Want: actiontest.Fails, ErrorHas: []string{"target dead", "target loop"}, Check: quiet},
		{Name: "403", Params: &Params{To: "refusing", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"403"}, Check: quiet},
		{Name: "forbidden", Params: &Params{To: "private", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}, Check: quiet},
		{Name: "forbidden service", Params: &Params{To: "smtp", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}, Check: quiet},
		{Name: "another type's address", Params: &Params{To: "garbled", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"pagerduty://"}, Check: quiet},
		{Name: "service that dials by itself", Params: &Params{To: "matrix", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"none of log, webhook"}, Check: quiet},
		{Name: "unknown target", Params: &Params{To: "nobody", Text: "x"}, Want: actiontest.Permanent},
		{Name: "no text", Params: &Params{To: "log"}, Want: actiontest.Permanent},
	}
	for i := range cases {
		cases[i].Secrets, cases[i].Targets = secrets, targets
	}
	actiontest.Run(t, sender(t, &log).Definitions()[0], cases)
}

// TestDigest runs on a fake clock: above the rate messages wait, and come as one.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		limited := action.Target{Type: "log", Rate: action.Rate{Messages: 2, Per: time.Minute}}
		send := func(text string) bool {
			t.Helper()
			call, _ := actiontest.Call(t, actiontest.Case{Params: &Params{To: "ops", Text: text}, Targets: map[string]action.Target{"ops": limited}})
			out, err := s.Definitions()[0].Run(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			return out["digested"].(bool)
		}
		for i, text := range []string{"one", "two", "three", "four"} {
			if got, want := send(text), i >= 2; got != want {
				t.Errorf("%s: digested is %v", text, got)
			}
		}
		if strings.Contains(log.String(), "three") {
			t.Error("a message above the rate was sent")
		}
		time.Sleep(time.Minute) // of the fake clock
		synctest.Wait()
		if want := `msg="three\nfour"`; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "2 more messages") {
			t.Errorf("no digest %s in %s", want, log.String())
		}
		send("five")
		for range maxLines + 3 {
			send("more")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "53 more messages") || !strings.Contains(log.String(), "and 3 that are not shown") {
			t.Errorf("Close sent no bounded digest: %s", log.String())
		}
		if send("late") {
			t.Error("a message after Close waits for a digest")
		}
	})
}
