package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/webhook"
	"github.com/riposte-dev/riposte/pkg/outbound"
	"github.com/riposte-dev/riposte/pkg/source"
)

const (
	eventJSON = `{"id":"e1","source":"github","type":"push","data":{"n":9007199254740993}}`
	key1      = "whsec_Zmlyc3Qta2V5LW9mLXRoaXMtdGVzdA=="
	key2      = "c2Vjb25kLWtleS1vZi10aGlzLXRlc3Q="
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// receiver answers by path /N,N,…: with one status after the other, the last repeated. It keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string][]*source.Request
}

func receive(t *testing.T) *receiver {
	r := &receiver{seen: map[string][]*source.Request{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.seen[req.URL.Path] = append(r.seen[req.URL.Path], &source.Request{Header: req.Header, Body: body})
		n := len(r.seen[req.URL.Path])
		r.mu.Unlock()
		list := strings.Split(strings.TrimPrefix(req.URL.Path, "/"), ",")
		status := 0
		_, _ = fmt.Sscan(list[min(n, len(list))-1], &status)
		if after := req.URL.Query().Get("after"); after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.Header().Set("Location", "/200")
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got(path string) []*source.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen[path])
}

// verify checks a request as this server's own preset does.
func verify(req *source.Request, key string) error {
	env := &source.Env{Now: func() time.Time { return now }, Secret: func(source.SecretRef) ([]byte, error) { return []byte(key), nil }}
	return source.VerifyStandard(env, []source.SecretRef{{Secret: "key"}}, req)
}

// pauses collects the pauses between tries instead of making them.
type pauses struct {
	mu   sync.Mutex
	list []time.Duration
}

func (p *pauses) wait(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, d)
	return context.Cause(ctx)
}

func definition(p *pauses, allow ...string) action.Definition {
	var private []netip.Prefix
	for _, a := range allow {
		private = append(private, netip.MustParsePrefix(a))
	}
	o := webhook.Options{Client: outbound.New(outbound.Options{AllowPrivate: private}), Now: func() time.Time { return now }}
	if p != nil {
		o.Wait = p.wait
	}
	return webhook.Definitions(o)[0]
}

func to(urls ...string) []webhook.Receiver {
	var list []webhook.Receiver
	for _, u := range urls {
		list = append(list, webhook.Receiver{URL: u, Secret: action.SecretRef{Secret: "one"}})
	}
	return list
}

func TestForward(t *testing.T) {
	r := receive(t)
	event := &action.EventInfo{ID: "e1"}
	secrets := map[string]string{"one": key1, "two": key2, "empty": "whsec_", "plain": "p!ain-text"}
	with := func(secret string) []webhook.Receiver {
		return []webhook.Receiver{{URL: r.URL + "/200", Secret: action.SecretRef{Secret: secret}}}
	}
	noPath := func(t *testing.T, _ action.Outputs, log string, err error) {
		if err == nil || strings.Contains(err.Error()+log, "t0ken") {
			t.Errorf("error or log shows more than the host: %v\n%s", err, log)
		}
	}
	cases := []actiontest.Case{
		{Name: "two receivers, each with its key", Params: &webhook.Params{To: []webhook.Receiver{
			{URL: r.URL + "/200?a", Secret: action.SecretRef{Secret: "one"}}, {URL: r.URL + "/204", Secret: action.SecretRef{Secret: "two"}},
		}}, Check: func(t *testing.T, out action.Outputs, _ string, _ error) {
			first, second := r.got("/200")[0], r.got("/204")[0]
			if err := verify(first, key1); err != nil {
				t.Error(err)
			}
			if err := verify(second, key2); err != nil {
				t.Error(err)
			}
			if verify(second, key1) == nil {
				t.Error("the second is signed with the first one's key")
			}
			if string(first.Body) != eventJSON || first.Header.Get("Content-Type") != "application/json" {
				t.Errorf("sent %s as %s", first.Body, first.Header.Get("Content-Type"))
			}
			if first.Header.Get("Webhook-Id") == second.Header.Get("Webhook-Id") {
				t.Error("two receivers got the same id")
			}
			result := out["results"].([]any)[1].(map[string]any)
			if result["status"] != int64(204) || result["attempts"] != int64(1) || result["host"] != strings.TrimPrefix(r.URL, "http://") || result["id"] != second.Header.Get("Webhook-Id") {
				t.Errorf("result %v", result)
			}
		}},
		{Name: "other data", Params: &webhook.Params{To: to(r.URL + "/201"), Data: map[string]any{"a": int64(1)}}, Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
			if got := r.got("/201")[0]; string(got.Body) != `{"a":1}` || verify(got, key1) != nil {
				t.Errorf("sent %s", got.Body)
			}
		}},
		{Name: "each is tried on its own", Params: &webhook.Params{To: to(r.URL+"/503,429,200", r.URL+"/202")}, Check: func(t *testing.T, out action.Outputs, _ string, _ error) {
			tries := r.got("/503,429,200")
			if len(tries) != 3 || len(r.got("/202")) != 1 || out["results"].([]any)[0].(map[string]any)["attempts"] != int64(3) {
				t.Errorf("%d tries, %d of the other; %v", len(tries), len(r.got("/202")), out)
			}
			if tries[0].Header.Get("Webhook-Id") != tries[2].Header.Get("Webhook-Id") {
				t.Error("the tries have different ids")
			}
		}},
		{Name: "one fails", Params: &webhook.Params{To: to(r.URL+"/500?t0ken", r.URL+"/207")}, Want: actiontest.Fails, ErrorHas: []string{"1 of 2", "500"}, Check: func(t *testing.T, out action.Outputs, log string, err error) {
			noPath(t, out, log, err)
			if len(r.got("/500")) != 4 || len(r.got("/207")) != 1 {
				t.Errorf("%d and %d tries", len(r.got("/500")), len(r.got("/207")))
			}
		}},
		{Name: "attempts", Params: &webhook.Params{To: to(r.URL + "/502"), Attempts: 2}, Want: actiontest.Fails, Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
			if n := len(r.got("/502")); n != 2 {
				t.Errorf("%d tries", n)
			}
		}},
		{Name: "refused for good", Params: &webhook.Params{To: to(r.URL + "/410?t0ken")}, Want: actiontest.Permanent, ErrorHas: []string{"410"}, Check: func(t *testing.T, out action.Outputs, log string, err error) {
			noPath(t, out, log, err)
			if n := len(r.got("/410")); n != 1 {
				t.Errorf("%d tries", n)
			}
		}},
		{Name: "one for good and one not", Params: &webhook.Params{To: to(r.URL+"/410?x", r.URL+"/500?x"), Attempts: 1}, Want: actiontest.Fails, ErrorHas: []string{"2 of 2"}},
		{Name: "redirect", Params: &webhook.Params{To: to(r.URL + "/307")}, Want: actiontest.Permanent, ErrorHas: []string{"307"}},
		{Name: "nobody listens", Params: &webhook.Params{To: to("http://127.0.0.1:1/t0ken"), Attempts: 1}, Want: actiontest.Fails, ErrorHas: []string{"127.0.0.1:1"}, Check: noPath},
		{Name: "forbidden address", Params: &webhook.Params{To: to("http://169.254.169.254/t0ken")}, Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}, Check: noPath},
		{Name: "no receiver", Params: &webhook.Params{}, Want: actiontest.Permanent},
		{Name: "no address", Params: &webhook.Params{To: to("t0ken")}, Want: actiontest.Permanent, Check: noPath},
		{Name: "empty secret", Params: &webhook.Params{To: with("empty")}, Want: actiontest.Permanent, ErrorHas: []string{"whsec_"}},
		{Name: "secret of another form", Params: &webhook.Params{To: with("plain")}, Want: actiontest.Permanent, ErrorHas: []string{"whsec_"}},
		{Name: "unknown secret", Params: &webhook.Params{To: with("nope")}, Want: actiontest.Permanent, ErrorHas: []string{"to[0].secret"}},
	}
	for i := range cases {
		cases[i].Event, cases[i].EventJSON = event, eventJSON
		if cases[i].Name != "empty secret" { // the suite looks for it in errors, which say what a secret begins with
			cases[i].Secrets = map[string]string{"one": key1, "two": key2, "plain": secrets["plain"]}
		} else {
			cases[i].Prepare = func(_ *testing.T, call *action.Call) {
				call.Secret = func(ref action.SecretRef) (string, error) { return secrets[ref.Secret], nil }
			}
		}
	}
	actiontest.Run(t, definition(&pauses{}, "127.0.0.1/32"), cases)
	actiontest.Run(t, definition(&pauses{}, "127.0.0.1/32"), []actiontest.Case{
		{Name: "a run without an event", Params: &webhook.Params{To: to(r.URL + "/200")}, Secrets: secrets, Want: actiontest.Permanent, ErrorHas: []string{"data"}},
	})
}

// TestIDs: what is the same message has the same id, in whatever run or attempt; what is another has another.
func TestIDs(t *testing.T) {
	r := receive(t)
	def := definition(&pauses{}, "127.0.0.1/32")
	id := func(path, run, event string, data any) string {
		t.Helper()
		call, _ := actiontest.Call(t, actiontest.Case{
			Params: &webhook.Params{To: to(r.URL + path), Data: data}, Secrets: map[string]string{"one": key1},
			Event: &action.EventInfo{ID: event}, EventJSON: eventJSON,
		})
		call.RunID = run
		out, err := def.Run(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		return out["results"].([]any)[0].(map[string]any)["id"].(string)
	}
	base := id("/200", "run1", "e1", nil)
	if id("/200", "run2", "e1", nil) != base {
		t.Error("the same event has another id in another run")
	}
	if id("/200", "run1", "e2", nil) == base || id("/201", "run1", "e1", nil) == base {
		t.Error("another event or address has the same id")
	}
	data := id("/200", "run1", "e1", "a")
	if id("/200", "run1", "e1", "a") != data || id("/200", "run1", "e1", "b") == data || id("/200", "run2", "e1", "a") == data {
		t.Error("ids of data do not go by run and data")
	}
}

func TestPauses(t *testing.T) {
	r := receive(t)
	tries := func(path string, p *webhook.Params) []time.Duration {
		waited := &pauses{}
		p.To = to(r.URL + path)
		call, _ := actiontest.Call(t, actiontest.Case{Params: p, Secrets: map[string]string{"one": key1}, Event: &action.EventInfo{ID: "e"}, EventJSON: eventJSON})
		if _, err := definition(waited, "127.0.0.1/32").Run(t.Context(), call); err == nil {
			t.Error("it succeeded")
		}
		return waited.list
	}
	list := tries("/503", &webhook.Params{Attempts: 8})
	for i, d := range list {
		most := min(time.Second<<i, 30*time.Second)
		if d < most/2 || d > most {
			t.Errorf("pause %d is %s, not between %s and %s", i, d, most/2, most)
		}
	}
	if len(list) != 7 {
		t.Errorf("%d pauses", len(list))
	}
	if got := tries("/429?after=77", &webhook.Params{Attempts: 2}); len(got) != 1 || got[0] != 77*time.Second {
		t.Errorf("Retry-After: 77 makes pauses %v", got)
	}
	date := strings.ReplaceAll(now.Add(time.Minute).Format(http.TimeFormat), " ", "+")
	if got := tries("/429?after="+date, &webhook.Params{Attempts: 2}); len(got) != 1 || got[0] != time.Minute {
		t.Errorf("Retry-After with a date makes pauses %v", got)
	}
	if got := tries("/429?after=3600", &webhook.Params{}); len(got) != 0 {
		t.Errorf("an hour is waited for: %v", got)
	}
}

func TestCancel(t *testing.T) {
	reached := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	c := actiontest.Case{Params: &webhook.Params{To: to(s.URL)}, Secrets: map[string]string{"one": key1}, Event: &action.EventInfo{ID: "e"}, EventJSON: eventJSON}
	c.Name, c.Cancel = "while it waits for an answer", reached
	actiontest.Run(t, definition(nil, "127.0.0.1/32"), []actiontest.Case{c})

	busy := receive(t)
	paused := make(chan struct{})
	o := webhook.Options{Client: outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}), Wait: func(ctx context.Context, _ time.Duration) error {
		close(paused)
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	c.Name, c.Cancel, c.Params = "in a pause", paused, &webhook.Params{To: to(busy.URL + "/503")}
	actiontest.Run(t, webhook.Definitions(o)[0], []actiontest.Case{c})
}

func TestCheck(t *testing.T) {
	def := definition(nil)
	for name, c := range map[string]struct {
		p  webhook.Params
		ok bool
	}{
		"templated": {webhook.Params{To: to("", "")}, true},
		"scheme":    {webhook.Params{To: to("ftp://x")}, false},
		"twice":     {webhook.Params{To: to("https://a.test", "https://a.test")}, false},
		"attempts":  {webhook.Params{To: to("https://a.test"), Attempts: 11}, false},
		"timeout":   {webhook.Params{To: to("https://a.test"), Timeout: -1}, false},
		"many":      {webhook.Params{To: make([]webhook.Receiver, 51)}, false},
	} {
		if err := def.Check(&c.p); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
