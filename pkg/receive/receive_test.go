package receive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

const key = "correct horse"

// preset is a small sender: an HMAC in X-Sig, the delivery id in X-Id; a body that is a JSON array holds many events.
type preset struct{ err error }

func (p preset) Verify(r *source.Request) error {
	if p.err != nil {
		return p.err
	}
	if bytes.Contains(r.Body, []byte("panic in verify")) {
		panic("preset bug")
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(r.Body)
	got, err := hex.DecodeString(r.Header.Get("X-Sig"))
	if err != nil || len(r.Header["X-Sig"]) != 1 || !hmac.Equal(got, mac.Sum(nil)) {
		return fmt.Errorf("%w: X-Sig does not match", source.ErrUnauthenticated)
	}
	return nil
}

func (preset) Split(r *source.Request) ([]source.Delivery, error) {
	switch {
	case r.Header.Get("X-Event") == "ping":
		return nil, nil
	case r.Header.Get("X-Event") == "panic":
		panic("preset bug")
	case !json.Valid(r.Body):
		return nil, fmt.Errorf("%w: no JSON", source.ErrUnparsable)
	case r.Body[0] != '[':
		return []source.Delivery{{Key: r.Header.Get("X-Id"), Type: r.Header.Get("X-Event"), Headers: map[string]string{"X-Event": r.Header.Get("X-Event")}, Body: r.Body}}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(r.Body, &items); err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnparsable, err)
	}
	all := make([]source.Delivery, len(items))
	for i, item := range items {
		all[i] = source.Delivery{Key: string(item), Type: "item", Body: item}
	}
	return all, nil
}

func (preset) Normalise(*event.Event) {}

// memory is a log in memory that knows duplicates. It copies the bodies, as a log does.
type memory struct {
	mu      sync.Mutex
	err     error
	records []event.Record
	bodies  []string
	seen    map[string]bool
}

func (m *memory) Append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	appended := make([]event.Appended, len(records))
	for i, r := range records {
		appended[i] = event.Appended{ID: r.Event.ID, Duplicate: m.seen[r.Event.ID]}
		if m.seen[r.Event.ID] {
			continue
		}
		m.seen[r.Event.ID] = true
		m.records = append(m.records, r)
		m.bodies = append(m.bodies, string(r.Event.Body))
	}
	return appended, nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

type fixture struct {
	*Receiver
	log       *memory
	logged    *bytes.Buffer
	endpoints map[string]*Endpoint
	registry  *prometheus.Registry
	clock     time.Time
}

func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{log: &memory{seen: map[string]bool{}}, logged: &bytes.Buffer{}, registry: prometheus.NewRegistry(), clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	f.endpoints = map[string]*Endpoint{
		"one":     {Name: "one", Type: source.Type{Name: "preset"}, Source: preset{}},
		"again":   {Name: "again", Type: source.Type{Name: "preset", Redelivers: true}, Source: preset{}},
		"small":   {Name: "small", Type: source.Type{Name: "preset"}, Source: preset{}, MaxBody: 100},
		"batch":   {Name: "batch", Type: source.Type{Name: "preset"}, Source: preset{}, Batch: true},
		"waits":   {Name: "waits", Type: source.Type{Name: "preset", RetriesOn429: true}, Source: preset{}, Rate: Rate{Requests: 1, Per: time.Minute}},
		"slower":  {Name: "slower", Type: source.Type{Name: "preset"}, Source: preset{}, Rate: Rate{Requests: 1, Per: time.Minute}},
		"no-key":  {Name: "no-key", Type: source.Type{Name: "preset"}, Source: preset{err: fmt.Errorf("%w: secret x is empty (file /etc/x)", source.ErrUnavailable)}},
		"strange": {Name: "strange", Type: source.Type{Name: "preset"}, Source: preset{err: errors.New("bug: " + key)}},
	}
	o := Options{
		Sources:    func(name string) (*Endpoint, bool) { ep, ok := f.endpoints[name]; return ep, ok },
		Log:        f.log,
		Logger:     slog.New(slog.NewTextHandler(f.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: f.registry,
		Now:        func() time.Time { return f.clock },
	}
	if change != nil {
		change(&o)
	}
	rc, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Receiver = rc
	return f
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func request(name, body string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hooks/"+name, strings.NewReader(body))
	r.Header.Set("X-Sig", sign(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	id := event.ID("one", "7")
	tests := []struct {
		name   string
		r      *http.Request
		status int
		body   string // exact; for refusals a part of error
		header string // "Name: value" that must be there
		events int
	}{
		{"one event", request("one", `{"a":1}`, "X-Id", "7"), 202, `{"id":"` + id + `"}`, "Content-Type: application/json", 1},
		{"several events", request("one", `[1,2]`), 202, `{"ids":["` + event.ID("one", "1") + `","` + event.ID("one", "2") + `"]}`, "", 2},
		{"batch of one", request("batch", `[1]`), 202, `{"ids":["` + event.ID("batch", "1") + `"]}`, "", 1},
		{"same event twice in a batch", request("batch", `[1,1]`), 202, `{"ids":["` + event.ID("batch", "1") + `","` + event.ID("batch", "1") + `"]}`, "", 1},
		{"handshake", request("one", `{}`, "X-Event", "ping"), 200, `{"handshake":true}`, "", 0},
		{"any content type", request("one", `{}`, "Content-Type", "text/html", "X-Id", "7"), 202, `{"id":"` + id + `"}`, "", 1},
		{"depth 10,000", request("one", deep, "X-Id", "7"), 202, `{"id":"` + id + `"}`, "", 1},
		{"wrong signature", request("one", `{}`, "X-Sig", sign("else")), 401, "not authenticated", "", 0},
		{"no signature", request("one", `{}`, "X-Sig", ""), 401, "not authenticated", "", 0},
		{"not JSON", request("one", `{"a":`), 415, "no JSON", "", 0},
		{"empty body", request("one", ``), 415, "no JSON", "", 0},
		{"unknown source", request("nobody", `{}`), 404, "no such source", "Connection: close", 0},
		{"path below a source", request("one/two", `{}`), 404, "no such source", "", 0},
		{"no name", request("", `{}`), 404, "no such source", "", 0},
		{"other path", httptest.NewRequest(http.MethodPost, "/", nil), 404, "no such source", "", 0},
		{"GET", httptest.NewRequest(http.MethodGet, "/hooks/one", nil), 405, "only POST", "Allow: POST", 0},
		{"GET of no source", httptest.NewRequest(http.MethodGet, "/hooks/nobody", nil), 405, "only POST", "Allow: POST", 0},
		{"OPTIONS", httptest.NewRequest(http.MethodOptions, "/hooks/one", nil), 405, "only POST", "Allow: POST", 0},
		{"GET elsewhere", httptest.NewRequest(http.MethodGet, "/", nil), 404, "no such source", "", 0},
		{"OPTIONS elsewhere", handshake("/"), 404, "no such source", "", 0},
		{"handshake of CloudEvents", handshake("/hooks/one"), 200, `{"handshake":true}`, "WebHook-Allowed-Origin: *", 0},
		{"its rate", handshake("/hooks/one"), 200, `{"handshake":true}`, "WebHook-Allowed-Rate: *", 0},
		{"its method", handshake("/hooks/one"), 200, `{"handshake":true}`, "Allow: POST", 0},
		{"the same for no source", handshake("/hooks/nobody"), 200, `{"handshake":true}`, "WebHook-Allowed-Origin: *", 0},
		{"announced too large", request("small", strings.Repeat(" ", 101)), 413, "larger than 100 bytes", "", 0},
		{"too large without announcement", chunked(request("small", strings.Repeat(" ", 101))), 413, "larger than 100 bytes", "", 0},
		{"just small enough", chunked(request("small", `"`+strings.Repeat("x", 98)+`"`, "X-Id", "7")), 202, `{"id":"` + event.ID("small", "7") + `"}`, "", 1},
		{"too many events", request("one", "["+strings.Repeat("1,", maxEvents)+"1]"), 413, "more than 50000 events", "", 0},
		{"secret missing", request("no-key", `{}`), 503, "can't verify requests now", "Retry-After: 30", 0},
		{"unknown error of a preset", request("strange", `{}`), 503, "could not be handled", "Retry-After: 30", 0},
		{"panic in Verify", request("one", `"panic in verify"`), 503, "could not be handled", "Retry-After: 60", 0},
		{"panic in Split", request("one", `{}`, "X-Event", "panic"), 503, "could not be handled", "Retry-After: 60", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			w := f.do(tt.r)
			if w.Code != tt.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			if tt.status < 300 {
				if got := strings.TrimSpace(w.Body.String()); got != tt.body {
					t.Errorf("answer %s, want %s", got, tt.body)
				}
			} else {
				checkRefusal(t, w, tt.body)
			}
			if name, value, ok := strings.Cut(tt.header, ": "); ok && w.Header().Get(name) != value {
				t.Errorf("header %s is %q, want %q", name, w.Header().Get(name), value)
			}
			if f.log.count() != tt.events {
				t.Errorf("%d events in the log, want %d", f.log.count(), tt.events)
			}
			if used := f.budget.used.Load(); used != 0 {
				t.Errorf("%d bytes of the budget are still taken", used)
			}
		})
	}
}

// handshake asks as CloudEvents senders do before their first delivery.
func handshake(path string) *http.Request {
	r := httptest.NewRequest(http.MethodOptions, path, nil)
	r.Header.Set("WebHook-Request-Origin", "events.example.com")
	r.Header.Set("WebHook-Request-Rate", "120")
	return r
}

func chunked(r *http.Request) *http.Request {
	r.ContentLength = -1
	return r
}

// checkRefusal checks that an answer is {"error", "hint"} with part in its error, and gives nothing away.
func checkRefusal(t *testing.T, w *httptest.ResponseRecorder, part string) {
	t.Helper()
	var no struct{ Error, Hint string }
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&no); err != nil {
		t.Fatalf("answer %q is no refusal: %v", w.Body, err)
	}
	if !strings.Contains(no.Error, part) {
		t.Errorf("error %q, want one with %q", no.Error, part)
	}
	if strings.Contains(w.Body.String(), key) || strings.Contains(w.Body.String(), "/etc/") {
		t.Errorf("answer gives away too much: %s", w.Body)
	}
	if (w.Code == 503 || w.Code == 429) && w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestUnknownSourcesLookAlike(t *testing.T) {
	f := newFixture(t, nil)
	a, b := f.do(request("nobody", `{}`)), f.do(request("no-such-name-at-all", `{"a":1}`, "X-Sig", ""))
	if a.Body.String() != b.Body.String() || fmt.Sprint(a.Header()) != fmt.Sprint(b.Header()) {
		t.Errorf("answers differ:\n%v %s\n%v %s", a.Header(), a.Body, b.Header(), b.Body)
	}
}

func TestRecord(t *testing.T) {
	f := newFixture(t, nil)
	f.do(request("one", `{"a":1}`, "X-Id", "7", "X-Event", "p\xffush"))
	if f.log.count() != 1 {
		t.Fatal("no event")
	}
	r := f.log.records[0]
	if r.Kind != event.KindEvent || r.SourceType != "preset" || r.Event.Source != "one" || f.log.bodies[0] != `{"a":1}` {
		t.Errorf("record %+v", r)
	}
	if r.Event.Type != "p\uFFFDush" || r.Event.Headers["X-Event"] != "p\uFFFDush" {
		t.Errorf("type %q and header %q are not made UTF-8", r.Event.Type, r.Event.Headers["X-Event"])
	}
	if !r.Event.ReceivedAt.Equal(f.clock) || !r.Event.Time.Equal(f.clock) {
		t.Errorf("times %v, %v", r.Event.ReceivedAt, r.Event.Time)
	}
	f.do(request("one", `{}`))
	f.do(request("one", `{}`))
	if f.log.count() != 3 {
		t.Errorf("two deliveries without a key made %d events", f.log.count()-1)
	}
}

func TestDuplicates(t *testing.T) {
	var asked [][]string
	revive := func(_ context.Context, ids []string) ([]string, error) {
		asked = append(asked, ids)
		return []string{"run-1"}, nil
	}
	f := newFixture(t, func(o *Options) { o.Revive = revive })
	one, again, one1 := event.ID("one", "7"), event.ID("again", "7"), event.ID("one", "1")
	f.do(request("one", `{}`, "X-Id", "7"))
	f.do(request("again", `{}`, "X-Id", "7"))
	f.do(request("one", `[1]`))
	for _, tt := range []struct{ name, body, want string }{
		{"one", `{}`, `{"id":"` + one + `","duplicate":true}`},
		{"again", `{}`, `{"id":"` + again + `","duplicate":true,"retried":["run-1"]}`},
		{"one", `[1,2,1]`, `{"ids":["` + one1 + `","` + event.ID("one", "2") + `","` + one1 + `"],"duplicates":["` + one1 + `"]}`},
	} {
		w := f.do(request(tt.name, tt.body, "X-Id", "7"))
		if got := strings.TrimSpace(w.Body.String()); w.Code != 202 || got != tt.want {
			t.Errorf("%d %s, want %s", w.Code, got, tt.want)
		}
	}
	if len(asked) != 1 || len(asked[0]) != 1 || asked[0][0] != again {
		t.Errorf("revived %v, want only %s", asked, again)
	}
}

func TestReviveThatFailsIsNotAccepted(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Revive = func(context.Context, []string) ([]string, error) { return nil, event.ErrLogUnavailable }
	})
	f.do(request("again", `{}`, "X-Id", "7"))
	w := f.do(request("again", `{}`, "X-Id", "7"))
	if w.Code != 503 {
		t.Fatalf("status %d", w.Code)
	}
	checkRefusal(t, w, "can't be written")
}

func TestLogThatFails(t *testing.T) {
	for _, tt := range []struct {
		err         error
		part, after string
	}{
		{fmt.Errorf("disk: %w", event.ErrLogFull), "full", "60"},
		{event.ErrLogUnavailable, "can't be written", "5"},
		{context.DeadlineExceeded, "could not be handled", "30"},
	} {
		for _, name := range []string{"one", "waits"} { // also where the sender knows 429: a full log is 503
			f := newFixture(t, nil)
			f.log.err = tt.err
			w := f.do(request(name, `{}`))
			if w.Code != 503 || w.Header().Get("Retry-After") != tt.after {
				t.Errorf("%s, %v: %d, Retry-After %q", name, tt.err, w.Code, w.Header().Get("Retry-After"))
			}
			checkRefusal(t, w, tt.part)
		}
	}
}

func TestSourceLimitCountsVerifiedRequests(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
	}{{"waits", 429}, {"slower", 503}} {
		f := newFixture(t, nil)
		for range 3 {
			if w := f.do(request(tt.name, `{}`, "X-Sig", "00")); w.Code != 401 {
				t.Fatalf("status %d", w.Code)
			}
		}
		if w := f.do(request(tt.name, `{}`)); w.Code != 202 {
			t.Fatalf("first verified request: %d", w.Code)
		}
		w := f.do(request(tt.name, `{}`))
		if w.Code != tt.status || w.Header().Get("Retry-After") != "60" {
			t.Errorf("%s: %d, Retry-After %q", tt.name, w.Code, w.Header().Get("Retry-After"))
		}
		checkRefusal(t, w, "too many")
		f.clock = f.clock.Add(time.Minute)
		if w := f.do(request(tt.name, `{}`)); w.Code != 202 {
			t.Errorf("a minute later: %d", w.Code)
		}
	}
}

func TestAddressLimitSparesWhoProvesItself(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.PerAddress = Rate{Requests: 1, Per: time.Second, Burst: 2} })
	for range 10 {
		if w := f.do(request("one", `{}`)); w.Code != 202 {
			t.Fatalf("verified request: %d", w.Code)
		}
	}
	f.do(request("nobody", `{}`))
	f.do(request("one", `{}`, "X-Sig", "00"))
	for _, name := range []string{"one", "nobody"} {
		w := f.do(request(name, `{}`))
		if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %d, Retry-After %q", name, w.Code, w.Header().Get("Retry-After"))
		}
	}
	if w := f.do(request("waits", `{}`)); w.Code != 429 {
		t.Errorf("a sender that knows 429 got %d", w.Code)
	}
	other := request("one", `{}`)
	other.RemoteAddr = "198.51.100.7:1000"
	if w := f.do(other); w.Code != 202 {
		t.Errorf("another address: %d", w.Code)
	}
	f.clock = f.clock.Add(time.Second)
	if w := f.do(request("one", `{}`)); w.Code != 202 {
		t.Errorf("a second later: %d", w.Code)
	}
}

func TestClockThatJumps(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.PerAddress = Rate{Requests: 1, Per: time.Second, Burst: 1} })
	f.clock = f.clock.Add(24 * time.Hour)
	f.do(request("nobody", `{}`))
	f.clock = f.clock.Add(-24 * time.Hour)
	if w := f.do(request("one", `{}`)); w.Code != 503 {
		t.Fatalf("status %d", w.Code)
	}
	f.clock = f.clock.Add(time.Second)
	if w := f.do(request("one", `{}`)); w.Code != 202 {
		t.Errorf("a second after the jump: %d", w.Code)
	}
}

func TestAddressesAreBounded(t *testing.T) {
	a := newAddresses(Rate{Requests: 1, Per: time.Hour, Burst: 1}, 3)
	now := time.Unix(1e9, 0)
	for i := range 5 {
		a.charge(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), now)
	}
	if len(a.byKey) != 3 || a.order.Len() != 3 {
		t.Errorf("%d addresses, want 3", len(a.byKey))
	}
	if a.wait(netip.MustParseAddr("10.0.0.4"), now) == 0 || a.wait(netip.MustParseAddr("10.0.0.0"), now) != 0 {
		t.Error("not the oldest was forgotten")
	}
	a.charge(netip.MustParseAddr("2001:db8::1"), now)
	if a.wait(netip.MustParseAddr("2001:db8::ffff:2"), now) == 0 {
		t.Error("two addresses of one /64 count apart")
	}
	if a.wait(netip.MustParseAddr("2001:db8:0:1::1"), now) != 0 {
		t.Error("two /64 count as one")
	}
}

func TestClientAddr(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	})
	for _, tt := range []struct {
		peer    string
		forward []string
		want    string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"1.1.1.1"}, "192.0.2.1"},
		{"10.0.0.1:5", nil, "10.0.0.1"},
		{"10.0.0.1:5", []string{"1.1.1.1"}, "1.1.1.1"},
		{"[::ffff:10.0.0.1]:5", []string{"1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1:5", []string{"6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"},
		{"10.0.0.1:5", []string{"6.6.6.6", "1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1:5", []string{"1.1.1.1:4711"}, "1.1.1.1"},
		{"10.0.0.1:5", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"10.0.0.1:5", []string{"1.1.1.1, unknown"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"1.1.1.1, unknown, 10.0.0.9"}, "10.0.0.9"},
		{"10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"@", []string{"1.1.1.1"}, "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = tt.peer
		r.Header["X-Forwarded-For"] = tt.forward
		if got := f.clientAddr(r).String(); got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.peer, tt.forward, got, tt.want)
		}
	}
}

func TestFiveThousandEvents(t *testing.T) {
	f := newFixture(t, nil)
	items := make([]string, 5000)
	for i := range items {
		items[i] = fmt.Sprintf(`{"alert":%d}`, i)
	}
	w := f.do(request("batch", "["+strings.Join(items, ",")+"]"))
	var got struct{ IDs []string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 202 {
		t.Fatal(w.Code, err)
	}
	if len(got.IDs) != 5000 || f.log.count() != 5000 || got.IDs[4999] != event.ID("batch", items[4999]) {
		t.Errorf("%d ids, %d events", len(got.IDs), f.log.count())
	}
}

// listen serves f over a real connection.
func listen(t *testing.T, f *fixture) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// begin opens a connection and sends the beginning of a request that announces size bytes.
func begin(t *testing.T, s *httptest.Server, size int, sent string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "POST /hooks/one HTTP/1.1\r\nHost: x\r\nX-Sig: 00\r\nContent-Length: %d\r\n\r\n%s", size, sent); err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(t *testing.T, c net.Conn) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestBodyCutOff(t *testing.T) {
	f := newFixture(t, nil)
	s := listen(t, f)
	for _, sent := range []string{"", "x", strings.Repeat("x", 40<<10)} {
		c := begin(t, s, 50<<10, sent)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if status, body := answer(t, c); status != 400 || !strings.Contains(body, "ended early") {
			t.Errorf("after %d bytes: %d %s", len(sent), status, body)
		}
	}
	if f.log.count() != 0 {
		t.Error("a part of a body became an event")
	}
}

func TestSlowBody(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Grace = time.Millisecond })
	s := listen(t, f)
	c := begin(t, s, 100, "x") // and never more
	if status, body := answer(t, c); status != 408 || !strings.Contains(body, "slow") {
		t.Errorf("%d %s", status, body)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("connection stays open, read %d", n)
	}
}

func TestManySlowLargeBodies(t *testing.T) {
	f := newFixture(t, nil)
	s := listen(t, f)
	var conns []net.Conn
	for range 50 { // 1.25 GB announced
		conns = append(conns, begin(t, s, 25_000_000, strings.Repeat("x", 50<<10)))
	}
	body := `{"a":"` + strings.Repeat("b", 8000) + `"}`
	for range 20 {
		req, _ := http.NewRequest(http.MethodPost, s.URL+"/hooks/one", strings.NewReader(body))
		req.Header.Set("X-Sig", sign(body))
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Errorf("a small body among slow ones: %d", resp.StatusCode)
		}
	}
	for _, c := range conns {
		c.Close()
	}
	s.Close() // waits for the handlers
	if used := f.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are still taken", used)
	}
}

// TestBudget holds three large bodies that fill their part of the budget: a fourth is refused, a small one is not.
func TestBudget(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxBody, o.Budget = 1<<20, 4<<20 })
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	var held []*io.PipeWriter
	var done []chan int
	for range 3 {
		pr, pw := io.Pipe()
		r := request("one", "", "X-Sig", sign(large))
		r.Body, r.ContentLength = pr, int64(len(large))
		status := make(chan int, 1)
		go func() { status <- f.do(r).Code }()
		if _, err := io.WriteString(pw, large[:len(large)-1]); err != nil {
			t.Fatal(err)
		}
		held, done = append(held, pw), append(done, status)
	}
	if w := f.do(request("one", large)); w.Code != 503 {
		t.Errorf("a large body beyond the budget: %d", w.Code)
	} else {
		checkRefusal(t, w, "too many bodies")
	}
	if w := f.do(request("one", `{}`)); w.Code != 202 {
		t.Errorf("a small body: %d", w.Code)
	}
	for i, pw := range held {
		if _, err := io.WriteString(pw, `"`); err != nil {
			t.Fatal(err)
		}
		if status := <-done[i]; status != 202 {
			t.Errorf("held body: %d", status)
		}
	}
	if used := f.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are still taken", used)
	}
}

func TestBodiesOfAllSizesArriveWhole(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxBody, o.Budget = 1<<20, 4<<20 })
	for _, n := range []int{2, tiny - 1, tiny, tiny + 1, small - 1, small, small + 1, 4 * small, 4*small + 1, 1<<20 - 1, 1 << 20} {
		for _, announced := range []bool{true, false} {
			body := `"` + strings.Repeat("x", n-2) + `"`
			r := request("one", body)
			if !announced {
				chunked(r)
			}
			if w := f.do(r); w.Code != 202 {
				t.Errorf("%d bytes, announced %v: %d", n, announced, w.Code)
			} else if got := f.log.bodies[f.log.count()-1]; got != body {
				t.Errorf("%d bytes, announced %v: %d bytes in the log", n, announced, len(got))
			}
		}
	}
}

// TestConcurrentBodiesStayApart would fail if a buffer served two requests at once.
func TestConcurrentBodiesStayApart(t *testing.T) {
	f := newFixture(t, nil)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				body := fmt.Sprintf(`{"n":"%d-%d","pad":%q}`, i, j, strings.Repeat(string(rune('a'+i)), 100*i))
				if w := f.do(request("one", body, "X-Id", body)); w.Code != 202 {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	for i, r := range f.log.records {
		if r.Event.ID != event.ID("one", f.log.bodies[i]) {
			t.Fatalf("event %s holds another's body %.40s", r.Event.ID, f.log.bodies[i])
		}
	}
}

func TestMetricsNameOnlyKnownSources(t *testing.T) {
	f := newFixture(t, nil)
	f.do(request("one", `{}`, "X-Id", "7"))
	f.do(request("one", `{}`, "X-Id", "7"))
	f.do(request("one", `{}`, "X-Sig", ""))
	f.do(request("evil-1", `{}`))
	f.do(request("evil-2", `{}`))
	got := map[string]float64{}
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += "," + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"riposte_receive_requests_total,202,one": 2, "riposte_receive_requests_total,401,one": 1, "riposte_receive_requests_total,404,": 2,
		"riposte_receive_events_total,one": 1, "riposte_receive_duplicates_total,one": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for name := range got {
		if strings.Contains(name, "evil") {
			t.Errorf("metric %s is named by a stranger", name)
		}
	}
}

func TestLogTellsTheCauseAndStaysQuiet(t *testing.T) {
	f := newFixture(t, nil)
	f.do(request("no-key", `{}`))
	if !strings.Contains(f.logged.String(), "secret x is empty") {
		t.Errorf("log lacks the cause: %s", f.logged)
	}
	f.logged.Reset()
	for range 100 {
		f.do(request("one", `{}`, "X-Sig", ""))
	}
	if n := strings.Count(f.logged.String(), "request refused"); n != 5 {
		t.Errorf("%d lines for 100 refusals at one instant, want 5", n)
	}
	f.clock = f.clock.Add(time.Second)
	f.logged.Reset()
	f.do(request("one", `{}`, "X-Sig", ""))
	if !strings.Contains(f.logged.String(), "unsaid=95") {
		t.Errorf("log: %s", f.logged)
	}
}

func TestStoreGoesOnWhenTheSenderHangsUp(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w := f.do(request("one", `{}`).WithContext(ctx)); w.Code != 202 {
		t.Errorf("status %d", w.Code)
	}
}

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{Sources: func(string) (*Endpoint, bool) { return nil, false }, Log: &memory{}}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Options){
		"Sources":    func(o *Options) { o.Sources = nil },
		"Log":        func(o *Options) { o.Log = nil },
		"Budget":     func(o *Options) { o.Budget = 1 },
		"MaxBody":    func(o *Options) { o.MaxBody = -1 },
		"PerAddress": func(o *Options) { o.PerAddress.Requests = 1 },
	} {
		o := good()
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func FuzzServe(f *testing.F) {
	f.Add("one", []byte(`{"a":1}`), "7", true)
	f.Add("batch", []byte(`[1,2]`), "", true)
	f.Add("nobody", []byte(`x`), "", false)
	f.Add("one", []byte("\xff\x00"), "\xff", true)
	fix := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, name string, body []byte, id string, signed bool) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.URL.Path = "/hooks/" + name
		r.Header["X-Id"] = []string{id}
		if signed {
			r.Header.Set("X-Sig", sign(string(body)))
		}
		w := fix.do(r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("answer is no JSON: %q", w.Body)
		}
		if w.Code == 202 && !signed {
			t.Error("an unsigned request was accepted")
		}
		if fix.budget.used.Load() != 0 {
			t.Error("memory was not given back")
		}
	})
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:1", "1.1.1.1, 10.0.0.2")
	f.Add("", ",,[::1%eth0]:1")
	fix := newFixture(f, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{forwarded}
		got := fix.clientAddr(r)
		if p := parseAddr(peer); !fix.trusted(p) && got != p {
			t.Errorf("%q believed %q: %s", peer, forwarded, got)
		}
	})
}

// nowhere is a log that takes everything.
type nowhere struct{}

func (nowhere) Append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	appended := make([]event.Appended, len(records))
	for i, r := range records {
		appended[i].ID = r.Event.ID
	}
	return appended, nil
}

type blank struct{ header http.Header }

func (b blank) Header() http.Header         { return b.header }
func (b blank) Write(p []byte) (int, error) { return len(p), nil }
func (b blank) WriteHeader(int)             {}

// BenchmarkServe takes one signed body of 7.7 KB.
func BenchmarkServe(b *testing.B) {
	f := newFixture(b, func(o *Options) {
		o.Log = nowhere{}
		o.PerAddress = Rate{Requests: 100, Per: time.Second}
		o.Now = time.Now
	})
	body := `{"pad":"` + strings.Repeat("x", 7700) + `"}`
	r := request("one", body, "X-Id", "7")
	reader := strings.NewReader(body)
	r.Body = io.NopCloser(reader)
	w := blank{http.Header{}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		f.ServeHTTP(w, r)
	}
}
