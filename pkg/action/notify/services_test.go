package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

const (
	guid  = "11111111-4444-4444-8444-cccccccccccc"
	hex32 = "33333301222222222233333333333344"
)

// addressesOfAllTypes holds an address of each form of each type, whose hosts are real or made up.
func addressesOfAllTypes() map[string][]string {
	return map[string][]string{
		"webhook":    {"https://hook.example.com/x", "generic+https://hook.example.com/x"},
		"slack":      {"https://hooks.slack.com/services/T/B/X", "slack://hook:AAAAAAAAA-BBBBBBBBB-123456789123456789123456@webhook", "slack://xoxb:123456789012-1234567890123-4mt0t4l1YL3g1T5L4cK70k3N@C001CH4NN3L"},
		"discord":    {"https://discord.com/api/webhooks/1/t0ken", "discord://t0ken@1?thread_id=2"},
		"teams":      {"https://prod.example.com/workflows/x", "teams://" + guid + "@" + guid + "/" + hex32 + "/" + guid + "/V2abc?host=org.webhook.office.com"},
		"telegram":   {"telegram://123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@telegram?chats=@channel,-100123"},
		"googlechat": {"https://chat.googleapis.com/v1/spaces/S/messages?key=k&token=t", "googlechat://chat.googleapis.com/v1/spaces/S/messages?key=k&token=t"},
		"pagerduty":  {hex32, "pagerduty:///" + hex32, "pagerduty://events.eu.pagerduty.com/" + hex32},
		"smtp":       {"smtp://user:passw0rd@mail.example.com:587/?from=a@example.com&to=b@example.com", "smtp://user:passw0rd@mail.example.com:465/?from=a@example.com&to=b@example.com"},
		"gotify":     {"gotify://gotify.example.com/AzyoeNS.D4iJLVa/"},
		"mattermost": {"mattermost://mm.example.com/t0ken", "https://mm.example.com/hooks/t0ken"},
		"ntfy":       {"ntfy://ntfy.example.com/topic"},
		"pushover":   {"pushover://shoutrrr:t0ken@user"},
		"rocketchat": {"rocketchat://rc.example.com/t0kenA/t0kenB/channel", "https://rc.example.com/hooks/a/b"},
	}
}

// No type connects by itself: all ask the resolver of our client, which answers nothing.
func TestAllTypesSendThroughOurClient(t *testing.T) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("our resolver was asked")
	}}
	var log buffer
	s := New(Options{Client: outbound.New(outbound.Options{Resolver: resolver}), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	forms := addressesOfAllTypes()
	for _, typ := range Types() {
		if len(forms[typ]) == 0 && typ != typeLog {
			t.Errorf("type %s has no address here", typ)
		}
		for _, address := range forms[typ] {
			d := destination{action.Target{Name: typ, Type: typ, URL: action.SecretRef{Secret: "x"}}, address}
			err := s.send(t.Context(), d, message{title: "title", text: "text"})
			if err == nil || !strings.Contains(err.Error(), "our resolver was asked") || action.IsPermanent(err) {
				t.Errorf("%s as %s: %v", typ, address, err)
			}
			if err != nil && (strings.Contains(err.Error(), "t0ken") || strings.Contains(err.Error(), "passw0rd") || strings.Contains(err.Error(), hex32)) {
				t.Errorf("%s: the error holds the secret: %v", typ, err)
			}
		}
	}
}

func TestAddressesThatDoNotFit(t *testing.T) {
	s := New(Options{Client: outbound.New(outbound.Options{}), Logger: slog.New(slog.DiscardHandler)})
	for _, typ := range Types() {
		for _, address := range []string{"", "s3cr3t", "://s3cr3t", typ + "://s3cr3t", typ + "://", "nosuch://s3cr3t@x/y", "https:///s3cr3t", "http://[s3cr3t", "\x00s3cr3t", typ + "://s3cr3t@\n"} {
			if typ == typeLog || address == "ntfy://s3cr3t" || address == "gotify://s3cr3t" {
				continue
			}
			d := destination{action.Target{Name: typ, Type: typ, URL: action.SecretRef{Secret: "x"}}, address}
			err := s.send(t.Context(), d, message{text: "text"})
			if typ == "googlechat" && address == "googlechat://s3cr3t" {
				continue // a host, which is not there
			}
			if !action.IsPermanent(err) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%s with %q: %v", typ, address, err)
			}
		}
	}
}

func TestCheckTarget(t *testing.T) {
	ref := action.SecretRef{Secret: "x"}
	for _, tt := range []struct {
		target action.Target
		want   string
	}{
		{action.Target{Type: "log"}, ""},
		{action.Target{Type: "slack", URL: ref}, ""},
		{action.Target{Type: "ntfy", URL: action.SecretRef{Env: "X"}}, ""},
		{action.Target{Type: "slack"}, "url is missing"},
		{action.Target{Type: "log", URL: ref}, "no url"},
		{action.Target{Type: "matrix", URL: ref}, `type "matrix" is none of log, webhook`},
		{action.Target{}, `type ""`},
		{action.Target{Type: "slack", URL: ref, Options: map[string]any{"channel": "x"}}, "unknown field channel"},
		{action.Target{Type: "slack", Options: map[string]any{"b": 1, "a": 1}}, "url is missing: type slack needs a secret with " + form("slack") + "\nunknown field a\nunknown field b"},
		{action.Target{Type: "log", Rate: action.Rate{Messages: 10, Per: time.Minute}}, ""},
		{action.Target{Type: "log", Rate: action.Rate{Per: time.Minute}}, "rate lets nothing pass"},
		{action.Target{Type: "log", Rate: action.Rate{Messages: -1}}, "rate lets nothing pass"},
	} {
		err := CheckTarget(tt.target)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.target, err, tt.want)
		}
	}
}

func TestCheckTargetSaysWhichField(t *testing.T) {
	for field, target := range map[string]action.Target{
		"type": {Type: "slak", URL: action.SecretRef{Secret: "x"}},
		"url":  {Type: "slack"},
		"ulr":  {Type: "log", Options: map[string]any{"ulr": "x"}},
	} {
		var fe *action.FieldError
		if err := CheckTarget(target); !errors.As(err, &fe) || fe.Field != field || fe.Hint == "" {
			t.Errorf("%+v: %#v, want an error of field %s with a hint", target, fe, field)
		}
	}
}

// trusting has a client that may connect to loopback and trusts the server's certificate.
func trusting(t *testing.T, server *httptest.Server) *Sender {
	t.Helper()
	roots := x509.NewCertPool()
	if c := server.Certificate(); c != nil {
		roots.AddCert(c)
	}
	s := New(Options{
		Client: outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RootCAs: roots}),
		Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(s.opts.Client.CloseIdleConnections)
	return s
}

func TestPagerDuty(t *testing.T) {
	box := &inbox{code: http.StatusAccepted}
	server := httptest.NewTLSServer(box)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	cases := []actiontest.Case{
		{Name: "all", Params: &Params{To: "oncall", Title: "Disk", Text: "full", Severity: "critical", DedupKey: "disk-a"},
			Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
				want := `{"dedup_key":"disk-a","event_action":"trigger","payload":{"severity":"critical","source":"riposte/conformance","summary":"Disk\nfull"},"routing_key":"` + hex32 + `"}`
				if got, _ := json.Marshal(box.last()); string(got) != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}},
		{Name: "severity that it does not know", Params: &Params{To: "oncall", Text: strings.Repeat("x", 3000), Severity: "page"},
			Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
				payload, _ := box.last()["payload"].(map[string]any)
				if summary, _ := payload["summary"].(string); payload["severity"] != "error" || len(summary) > 1024 {
					t.Errorf("got %v", payload)
				}
			}},
	}
	for i := range cases {
		cases[i].Secrets = map[string]string{"pd": "pagerduty://" + host + "/" + hex32}
		cases[i].Targets = map[string]action.Target{"oncall": {Type: "pagerduty", URL: action.SecretRef{Secret: "pd"}}}
	}
	actiontest.Run(t, trusting(t, server).Definitions()[0], cases)
}

// What shoutrrr's services send arrives; what a server refuses is told by the status, and a cancelled step ends.
func TestServices(t *testing.T) {
	var mu sync.Mutex
	var got string
	status := http.StatusOK
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = r.Header.Get("Title") + string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"id": 1}`)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	s := trusting(t, server)
	for typ, address := range map[string]string{
		"gotify":     "gotify://" + host + "/AzyoeNS.D4iJLVa/",
		"mattermost": "mattermost://" + host + "/t0ken",
		"ntfy":       "ntfy://" + host + "/topic",
		"rocketchat": "rocketchat://" + host + "/t0kenA/t0kenB",
		"teams":      server.URL + "/t0ken", "googlechat": server.URL + "/t0ken", "webhook": server.URL + "/t0ken",
	} {
		t.Run(typ, func(t *testing.T) {
			d := destination{action.Target{Name: typ, Type: typ, URL: action.SecretRef{Secret: "x"}}, address}
			for code, want := range map[int]actiontest.Outcome{200: actiontest.Succeeds, 403: actiontest.Permanent, 302: actiontest.Permanent, 503: actiontest.Fails, 429: actiontest.Fails} {
				mu.Lock()
				got, status = "", code
				mu.Unlock()
				err := s.send(t.Context(), d, message{title: "the title", text: "the text"})
				if (err == nil) != (want == actiontest.Succeeds) || action.IsPermanent(err) != (want == actiontest.Permanent) {
					t.Errorf("%d: %v, want %s", code, err, want)
				}
				if err != nil && (!strings.Contains(err.Error(), fmt.Sprint(code)) || strings.Contains(err.Error(), "t0ken")) {
					t.Errorf("%d: %v", code, err)
				}
				mu.Lock()
				if !strings.Contains(got, "the title") || !strings.Contains(got, "the text") {
					t.Errorf("%d: the server got %q", code, got)
				}
				mu.Unlock()
			}
		})
	}
}

func TestCancelledStepStopsSending(t *testing.T) {
	reached := make(chan struct{}, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reached <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	def := trusting(t, server).Definitions()[0]
	for typ, address := range map[string]string{"webhook": server.URL, "mattermost": "mattermost://" + host + "/t0ken", "smtp": "smtp://" + silent(t, reached) + "/?from=a@b.c&to=d@e.f"} {
		cancel := make(chan struct{})
		go func() {
			<-reached
			close(cancel)
		}()
		actiontest.Run(t, def, []actiontest.Case{{
			Name: typ, Params: &Params{To: "x", Text: "text"}, Cancel: cancel, Secrets: map[string]string{"x": address},
			Targets: map[string]action.Target{"x": {Type: typ, URL: action.SecretRef{Secret: "x"}}},
		}})
	}
}

// silent is a server that says nothing.
func silent(t *testing.T, reached chan<- struct{}) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reached <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// mailServer takes mail without TLS, and keeps what it was told.
type mailServer struct {
	refuse string // a command that it answers with 550
	mu     sync.Mutex
	told   []string
	text   []byte
}

func (m *mailServer) start(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.serve(conn)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

func (m *mailServer) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewReader(conn)
	fmt.Fprint(conn, "220 ready\r\n")
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		m.mu.Lock()
		m.told = append(m.told, line)
		m.mu.Unlock()
		switch verb, _, _ := strings.Cut(line, " "); {
		case m.refuse != "" && strings.HasPrefix(line, m.refuse):
			fmt.Fprint(conn, "550 no such user s3cr3t\r\n")
		case verb == "DATA":
			fmt.Fprint(conn, "354 go on\r\n")
			m.take(lines)
			fmt.Fprint(conn, "250 taken\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 fine\r\n")
		}
	}
}

func (m *mailServer) take(lines *bufio.Reader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text = nil
	for {
		line, err := lines.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return
		}
		m.text = append(m.text, strings.TrimPrefix(line, ".")...)
	}
}

func TestMail(t *testing.T) {
	server := &mailServer{}
	address := server.start(t)
	refusing := &mailServer{refuse: "RCPT"}
	var log buffer
	def := sender(t, &log).Definitions()[0]
	secrets := map[string]string{
		"open":     "smtp://" + address + "/?from=riposte@example.com&fromname=Ops&to=a@example.com,b@example.com",
		"password": "smtp://user:s3cr3t@" + address + "/?from=riposte@example.com&to=a@example.com",
		"tls":      "smtp://" + address + "/?from=riposte@example.com&to=a@example.com&requirestarttls=yes",
		"refusing": "smtp://" + refusing.start(t) + "/?from=riposte@example.com&to=a@example.com",
		"insecure": "smtp://" + address + "/?from=riposte@example.com&to=a@example.com&skiptlsverify=yes",
	}
	targets := map[string]action.Target{}
	for name := range secrets {
		targets[name] = action.Target{Type: "smtp", URL: action.SecretRef{Secret: name}}
	}
	hostile := "Disk\r\nBcc: victim@example.com\r\n\r\nbody"
	noSecret := func(t *testing.T, _ action.Outputs, _ string, err error) {
		if err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("error is %v", err)
		}
	}
	cases := []actiontest.Case{
		{Name: "message", Params: &Params{To: "open", Title: hostile, Text: "über .\r\n.\r\nQUIT\nend"}, Check: func(t *testing.T, _ action.Outputs, _ string, _ error) {
			server.mu.Lock()
			defer server.mu.Unlock()
			m, err := mail.ReadMessage(bytes.NewReader(server.text))
			if err != nil {
				t.Fatal(err)
			}
			subject, err := (&mime.WordDecoder{}).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || subject != "Disk Bcc: victim@example.com body" || m.Header.Get("Bcc") != "" {
				t.Errorf("subject %q, Bcc %q, %v", subject, m.Header.Get("Bcc"), err)
			}
			if m.Header.Get("From") != `"Ops" <riposte@example.com>` || m.Header.Get("To") != "<a@example.com>, <b@example.com>" {
				t.Errorf("headers are %v", m.Header)
			}
			body, _ := io.ReadAll(m.Body)
			if want := "=C3=BCber .\r\n.\r\nQUIT\r\nend\r\n"; string(body) != want {
				t.Errorf("body is %q, want %q", body, want)
			}
		}},
		{Name: "password without TLS", Params: &Params{To: "password", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"STARTTLS"}, Check: noSecret},
		{Name: "TLS that is not there", Params: &Params{To: "tls", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"STARTTLS"}, Check: noSecret},
		{Name: "refused", Params: &Params{To: "refusing", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"answered 550"}, Check: noSecret},
		{Name: "unverified TLS", Params: &Params{To: "insecure", Text: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"skiptlsverify"}, Check: noSecret},
	}
	for i := range cases {
		cases[i].Secrets, cases[i].Targets = secrets, targets
	}
	actiontest.Run(t, def, cases)
	for _, line := range server.told {
		if strings.HasPrefix(line, "AUTH") {
			t.Errorf("a password went over an open line: %s", line)
		}
	}
}

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ typ, text, want string }{
		{"slack", "<!channel> <https://evil|good> & @here", "&lt;!channel&gt; &lt;https://evil|good&gt; &amp; @\u200bhere"},
		{"discord", "**b** [x](https://e.com/a_b*c) `c` <@1> #h", "\\*\\*b\\*\\* \\[x\\](https://e.com/a_b\\*c) \\`c\\` \\<@\u200b1\\> \\#h"},
		{"mattermost", "@all https://e.com/a_b", "@\u200ball https://e.com/a_b"},
		{"googlechat", "<users/all>", "<\u200busers/all>"},
		{"telegram", "@channel *b*", "@\u200bchannel *b*"},
		{"webhook", "<@here> *b*", "<@here> *b*"},
		{"teams", "[x](https://e.com)", "[x](https://e.com)"}, // runs of text hold no markup
	} {
		if got := escape(tt.typ, tt.text); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.typ, got, tt.want)
		}
	}
	if got := clean("a\x1b[31m\u202eb\r\nc\x00\xff"); got != "a[31mb\nc\uFFFD" {
		t.Errorf("clean: %q", got)
	}
}

func FuzzMail(f *testing.F) {
	f.Add("title\r\nBcc: x", "text\r\n.\r\n")
	from, to := &mail.Address{Address: "a@example.com"}, []*mail.Address{{Address: "b@example.com"}}
	f.Fuzz(func(t *testing.T, title, text string) {
		m, err := mail.ReadMessage(bytes.NewReader(compose(from, to, message{title: oneLine(clean(title)), text: clean(text)})))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Header) != 9 {
			t.Errorf("headers are %v", m.Header)
		}
	})
}
