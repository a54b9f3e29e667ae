//go:build e2e

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// standardKey is the key of sources that sign as Standard Webhooks.
var standardKey = []byte("0123456789abcdef0123456789abcdef")

// allSources has one source for each way to prove a request.
const allSources = githubSource + `
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: gitlab}
spec: {type: gitlab, secrets: [{env: E2E_SECRET}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: gitlab-signing}
spec: {type: gitlab, signingSecrets: [{env: E2E_STANDARD}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: gitea}
spec: {type: gitea, secrets: [{env: E2E_SECRET}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: alertmanager}
spec: {type: alertmanager, auth: {bearer: {env: E2E_SECRET}}}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: standard}
spec: {type: standardwebhooks, secrets: [{env: E2E_STANDARD}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: generic}
spec: {type: generic, secrets: [{env: E2E_SECRET}], signature: {header: X-Signature, encoding: base64}}
`

func serveAll(t *testing.T, rules string, args ...string) *server {
	t.Helper()
	t.Setenv("E2E_STANDARD", "whsec_"+base64.StdEncoding.EncodeToString(standardKey))
	return serve(t, t.TempDir(), rules, args...)
}

// answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   string
	id     string
	ids    []string
	again  bool // known before
}

// send posts a body; headers are used as they are, several of one name too.
func (s *server) send(client *http.Client, source string, header http.Header, body string) answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+s.Hooks+"/hooks/"+source, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatalf("post to %s: %v", source, err)
	}
	return read(s.t, resp)
}

func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		ID        string
		IDs       []string
		Duplicate bool
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Errorf("the answer %d is no JSON: %q", resp.StatusCode, text)
	}
	return answer{resp.StatusCode, resp.Header, string(text), said.ID, said.IDs, said.Duplicate}
}

func mac(key, text string, encode func([]byte) string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return encode(m.Sum(nil))
}

// sender is how one kind of sender proves a body.
type sender struct {
	source, proof string
	batch         bool
	headers       func(body, delivery string) http.Header
	body          string
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func senders() []sender {
	standard := func(body, delivery string) http.Header {
		at := strconv.FormatInt(time.Now().Unix(), 10)
		return headers("Webhook-Id", delivery, "Webhook-Timestamp", at,
			"Webhook-Signature", "v1,"+mac(string(standardKey), delivery+"."+at+"."+body, base64.StdEncoding.EncodeToString))
	}
	const push = `{"object_kind":"push","ref":"refs/heads/main","repository":{"full_name":"acme/shop"}}`
	const alerts = `{"status":"firing","groupKey":"g","alerts":[{"status":"firing","labels":{"alertname":"A"},"startsAt":"2026-11-23T10:00:00Z"}]}`
	hexMAC := func(body string) string { return mac(webhookSecret, body, hex.EncodeToString) }
	return []sender{
		{"github", "X-Hub-Signature-256", false, func(b, d string) http.Header {
			return headers("X-GitHub-Event", "push", "X-GitHub-Delivery", d, "X-Hub-Signature-256", "sha256="+hexMAC(b))
		}, push},
		{"gitlab", "X-Gitlab-Token", false, func(_, d string) http.Header {
			return headers("X-Gitlab-Event", "Push Hook", "Idempotency-Key", d, "X-Gitlab-Token", webhookSecret)
		}, push},
		{"gitlab-signing", "Webhook-Signature", false, standard, push},
		{"gitea", "X-Gitea-Signature", false, func(b, d string) http.Header {
			return headers("X-Gitea-Event", "push", "X-Gitea-Delivery", d, "X-Gitea-Signature", hexMAC(b))
		}, push},
		{"gitea", "X-Forgejo-Signature", false, func(b, d string) http.Header {
			return headers("X-Forgejo-Event", "push", "X-Forgejo-Delivery", d, "X-Forgejo-Signature", hexMAC(b))
		}, push + " "},
		{"alertmanager", "Authorization", true, func(string, string) http.Header { return headers("Authorization", "Bearer "+webhookSecret) }, alerts},
		{"standard", "Webhook-Signature", false, standard, `{"type":"invoice.paid"}`},
		{"generic", "X-Signature", false, func(b, _ string) http.Header {
			return headers("X-Signature", mac(webhookSecret, b, base64.StdEncoding.EncodeToString))
		}, `{"a":1}`},
	}
}

// TestE2EReceiveProofs: of each sender only the right proof, once, is taken; nothing else leaves an event behind.
func TestE2EReceiveProofs(t *testing.T) {
	s := serveAll(t, allSources)
	wrong := map[string]func(h http.Header, name string){
		"missing":           func(h http.Header, name string) { h.Del(name) },
		"empty":             func(h http.Header, name string) { h.Set(name, "") },
		"truncated":         func(h http.Header, name string) { h.Set(name, h.Get(name)[:len(h.Get(name))-3]) },
		"doubled":           func(h http.Header, name string) { h.Add(name, h.Get(name)) },
		"wrong, then right": func(h http.Header, name string) { h[name] = []string{"x", h.Get(name)} },
		"wrong":             func(h http.Header, name string) { h.Set(name, strings.Repeat("0", len(h.Get(name)))) },
	}
	for _, from := range senders() {
		t.Run(from.source+" "+from.proof, func(t *testing.T) {
			for what, change := range wrong {
				h := from.headers(from.body, "d-1")
				change(h, http.CanonicalHeaderKey(from.proof))
				if a := s.send(http.DefaultClient, from.source, h, from.body); a.status != http.StatusUnauthorized || strings.Contains(a.body, webhookSecret) {
					t.Errorf("%s: got %d %s", what, a.status, a.body)
				}
			}
			a := s.send(http.DefaultClient, from.source, from.headers(from.body, "d-1"), from.body)
			if a.status != http.StatusAccepted || a.again || from.batch && len(a.ids) != 1 || !from.batch && a.id == "" {
				t.Errorf("the right proof: got %d %s", a.status, a.body)
			}
		})
	}
	var page struct{ Items []json.RawMessage }
	if err := s.get("events?limit=500", &page); err != nil || len(page.Items) != len(senders()) {
		t.Errorf("%d events are in the log (%v), want %d", len(page.Items), err, len(senders()))
	}
	h := headers("X-GitHub-Event", "push", "X-Hub-Signature", "sha1=0123456789012345678901234567890123456789")
	if a := s.send(http.DefaultClient, "github", h, "{}"); a.status != http.StatusUnauthorized {
		t.Errorf("SHA-1 alone: got %d", a.status)
	}
}

// TestE2EReceiveReplays: who captured a delivery can't make an event of it once more by another delivery id.
func TestE2EReceiveReplays(t *testing.T) {
	s := serveAll(t, allSources)
	for _, from := range senders() {
		first := s.send(http.DefaultClient, from.source, from.headers(from.body, "original"), from.body)
		if first.status != http.StatusAccepted {
			t.Fatalf("%s: %d %s", from.source, first.status, first.body)
		}
		switch from.source {
		case "github", "gitea": // the body alone is signed
			if a := s.send(http.DefaultClient, from.source, from.headers(from.body, "forged"), from.body); a.id != first.id || !a.again {
				t.Errorf("%s (%s): a replay is answered %d %s, and the original was %s", from.source, from.proof, a.status, a.body, first.id)
			}
		case "standard", "gitlab-signing": // the id is signed too
			h := from.headers(from.body, "original")
			h.Set("Webhook-Id", "forged")
			if a := s.send(http.DefaultClient, from.source, h, from.body); a.status != http.StatusUnauthorized {
				t.Errorf("%s: a forged id is answered %d %s", from.source, a.status, a.body)
			}
		case "alertmanager": // repeats of repeat_interval
			a := s.send(http.DefaultClient, from.source, from.headers(from.body, ""), from.body)
			if len(a.ids) != 1 || a.ids[0] != first.ids[0] || !strings.Contains(a.body, "duplicates") {
				t.Errorf("a repeat is answered %d %s", a.status, a.body)
			}
		}
	}
}

// TestE2EReceiveForms: GitHub's form is signed as it stands, and stored as the JSON in it. A ping is answered without an event.
func TestE2EReceiveForms(t *testing.T) {
	s := serveAll(t, allSources)
	form := "payload=" + url.QueryEscape(`{"ref":"refs/heads/main","n":9007199254740993,"repository":{"full_name":"acme/shop"}}`)
	h := headers("X-GitHub-Event", "push", "Content-Type", "application/x-www-form-urlencoded", "X-Hub-Signature-256", sign([]byte(form)))
	a := s.send(http.DefaultClient, "github", h, form)
	var e struct {
		Git  struct{ Branch string }
		Data struct{ N json.Number }
	}
	waitFor(t, 30*time.Second, "the event to be decided", func() bool { return s.get("events/"+a.id, &e) == nil && e.Git.Branch != "" })
	if e.Git.Branch != "main" || e.Data.N != "9007199254740993" {
		t.Errorf("the event is %+v", e)
	}
	h.Set("X-GitHub-Event", "ping")
	if a := s.send(http.DefaultClient, "github", h, form); a.status != http.StatusOK || a.id != "" {
		t.Errorf("a ping is answered %d %s", a.status, a.body)
	}
}

// TestE2EReceiveUnknown: no answer tells which names there are, however one asks.
func TestE2EReceiveUnknown(t *testing.T) {
	s := serveAll(t, allSources)
	want := answer{}
	for _, name := range []string{"nothing", "GitHub", "github/", "github/x", strings.Repeat("x", 2000), "%67ithubb", "..%2fgithub"} {
		a := s.send(http.DefaultClient, name, headers("X-Hub-Signature-256", sign([]byte("{}"))), "{}")
		a.header.Del("Date")
		if want.status == 0 {
			want = a
		}
		if a.status != http.StatusNotFound || a.body != want.body || fmt.Sprint(a.header) != fmt.Sprint(want.header) {
			t.Errorf("%.20s is answered %d %v %s, and another one %v %s", name, a.status, a.header, a.body, want.header, want.body)
		}
	}
}

// from is a client whose requests come from an address of this machine.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	if c, err := net.ListenPacket("udp", address+":0"); err != nil {
		t.Skipf("%s is no address of this machine: %v", address, err)
	} else {
		c.Close()
	}
	return &http.Client{Transport: tr}
}

func retryAfter(t *testing.T, a answer) {
	t.Helper()
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("the answer %d has Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
}

// TestE2EReceiveAddressLimit: what an address may send unproven is bounded before anything is verified, by the address of
// the connection, or by the one that a trusted proxy names.
func TestE2EReceiveAddressLimit(t *testing.T) {
	s := serveAll(t, allSources, "--trusted-proxies", "127.0.0.2/32",
		"--per-address-requests", "1", "--per-address-per", "1h", "--per-address-burst", "3")
	direct, proxy := from(t, "127.0.0.1"), from(t, "127.0.0.2")
	n := 0
	unsigned := func(c *http.Client, source, forwarded string) answer {
		n++
		return s.send(c, source, headers("X-Forwarded-For", forwarded), fmt.Sprintf(`{"n":%d}`, n))
	}
	signed := func(c *http.Client, forwarded string) answer {
		n++
		body := string(numbered(n))
		return s.send(c, "github", headers("X-GitHub-Event", "push", "X-Hub-Signature-256", sign([]byte(body)), "X-Forwarded-For", forwarded), body)
	}
	status := func(what string, a answer, want int) {
		t.Helper()
		if a.status != want {
			t.Errorf("%s: got %d %s, want %d", what, a.status, a.body, want)
		}
		if want == http.StatusServiceUnavailable || want == http.StatusTooManyRequests {
			retryAfter(t, a)
		}
	}
	for i := range 3 {
		status("unsigned, direct", unsigned(direct, "github", fmt.Sprintf("203.0.113.%d", i)), 401)
	}
	status("beyond the limit, whatever X-Forwarded-For a stranger sends", unsigned(direct, "github", "203.0.113.9"), 503)
	status("beyond the limit, signed: it is not looked at", signed(direct, ""), 503)
	status("beyond the limit, of a sender that retries 429", unsigned(direct, "standard", ""), 429)

	for range 3 {
		status("unsigned, by a proxy", unsigned(proxy, "github", "198.51.100.1"), 401)
	}
	status("beyond the limit of the address that the proxy names", unsigned(proxy, "github", "198.51.100.1"), 503)
	status("the same behind what the client wrote itself", unsigned(proxy, "github", "10.9.9.9, 198.51.100.1"), 503)
	status("another address by the same proxy", unsigned(proxy, "github", "198.51.100.2"), 401)
	for range 8 {
		status("signed requests cost nothing", signed(proxy, "198.51.100.3"), 202)
	}
}

// TestE2EReceiveSourceLimit: only verified requests count against a source's limit, and the answer is one that the sender
// does not give up on.
func TestE2EReceiveSourceLimit(t *testing.T) {
	limited := strings.ReplaceAll(allSources, "type: standardwebhooks,", "type: standardwebhooks, rate: {requests: 2, per: 1h},")
	limited = strings.Replace(limited, "  type: github\n", "  type: github\n  rate: {requests: 2, per: 1h}\n", 1)
	s := serveAll(t, limited, "--per-address-requests", "0")
	for _, from := range senders() {
		want := map[string]int{"github": http.StatusServiceUnavailable, "standard": http.StatusTooManyRequests}[from.source]
		if want == 0 {
			continue
		}
		for range 40 {
			if a := s.send(http.DefaultClient, from.source, http.Header{}, from.body); a.status != http.StatusUnauthorized {
				t.Fatalf("%s: unsigned is answered %d", from.source, a.status)
			}
		}
		for i := range 4 {
			body := from.body + strings.Repeat(" ", i)
			a := s.send(http.DefaultClient, from.source, from.headers(body, fmt.Sprint("d", i)), body)
			if i < 2 && a.status != http.StatusAccepted || i >= 2 && a.status != want {
				t.Errorf("%s: the request number %d is answered %d %s", from.source, i+1, a.status, a.body)
			}
			if i >= 2 {
				retryAfter(t, a)
			}
		}
	}
}

// TestE2EReceiveFiveThousandAlerts: each alert of one body is an event of its own, and the same one when it comes again.
func TestE2EReceiveFiveThousandAlerts(t *testing.T) {
	s := serveAll(t, allSources)
	var alerts []string
	for i := range 5000 {
		alerts = append(alerts, fmt.Sprintf(`{"status":"firing","labels":{"alertname":"Down","instance":"node-%d"},"annotations":{"n":"%d"},"startsAt":"2026-11-23T10:00:00Z"}`, i, i))
	}
	body := `{"version":"4","groupKey":"g","status":"firing","alerts":[` + strings.Join(alerts, ",") + `]}`
	h := headers("Authorization", "Bearer "+webhookSecret)
	first := s.send(http.DefaultClient, "alertmanager", h, body)
	distinct := map[string]bool{}
	for _, id := range first.ids {
		distinct[id] = true
	}
	if first.status != http.StatusAccepted || len(distinct) != 5000 || len(first.ids) != 5000 {
		t.Fatalf("answered %d with %d ids, %d of them distinct", first.status, len(first.ids), len(distinct))
	}
	again := s.send(http.DefaultClient, "alertmanager", h, body)
	if fmt.Sprint(again.ids) != fmt.Sprint(first.ids) {
		t.Error("the same alerts have other ids")
	}
	if events, known := s.metric("riposte_receive_events_total", `source="alertmanager"`), s.metric("riposte_receive_duplicates_total", `source="alertmanager"`); events != 5000 || known != 5000 {
		t.Errorf("%v events and %v duplicates are counted", events, known)
	}
	var e struct {
		Alert struct{ Labels map[string]string }
	}
	if err := s.get("events/"+first.ids[4321], &e); err != nil {
		t.Error(err)
	}
}

// metric reads the sum of a metric's series that have the labels.
func (s *server) metric(name string, labels ...string) float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.Health + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		has := true
		for _, l := range labels {
			has = has && strings.Contains(series, l)
		}
		if v, err := strconv.ParseFloat(value, 64); has && err == nil {
			sum += v
		}
	}
	return sum
}

// certificate writes a certificate of a serial number, and its key, over what was there before.
func certificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "riposte"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	replace(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	replace(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return cert, key
}

func replace(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// handshake returns the serial number of the certificate that a new connection is shown.
func handshake(t *testing.T, address string) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the serial number is what is looked at
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestE2EReceiveTLS: a certificate that is replaced while serving is shown to new connections; one that does not load
// leaves the old one in use, and is logged.
func TestE2EReceiveTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, 1)
	s := serveAll(t, allSources, "--tls-hooks-cert", cert, "--tls-hooks-key", key)
	if got := handshake(t, s.Hooks); got != 1 {
		t.Fatalf("the certificate is number %d", got)
	}
	postTLS(t, s, cert, 1, "one")
	certificate(t, dir, 2)
	waitFor(t, 30*time.Second, "the new certificate to be shown", func() bool { return handshake(t, s.Hooks) == 2 })
	postTLS(t, s, cert, 1, "two")
	replace(t, key, []byte("this is no key"))
	waitFor(t, 30*time.Second, "the broken key to be logged", func() bool {
		if got := handshake(t, s.Hooks); got != 2 {
			t.Fatalf("the certificate is number %d while the key is broken", got)
		}
		return strings.Contains(s.output.String(), "last good one stays in use")
	})
	certificate(t, dir, 3)
	waitFor(t, 30*time.Second, "the mended certificate to be shown", func() bool { return handshake(t, s.Hooks) == 3 })
}

// TestE2EReceiveHTTP2: senders that speak HTTP/2 over TLS are answered in it.
func TestE2EReceiveHTTP2(t *testing.T) {
	cert, key := certificate(t, t.TempDir(), 1)
	s := serveAll(t, allSources, "--tls-hooks-cert", cert, "--tls-hooks-key", key)
	postTLS(t, s, cert, 2, "h2")
}

// postTLS posts an event over TLS, trusting only the certificate in a file, with HTTP/1 or 2.
func postTLS(t *testing.T, s *server, cert string, version int, marker string) {
	t.Helper()
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	var p http.Protocols
	p.SetHTTP1(version == 1)
	p.SetHTTP2(version == 2)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: &p}
	defer tr.CloseIdleConnections()
	body := `{"marker":"` + marker + `"}`
	req, err := http.NewRequest(http.MethodPost, "https://"+s.Hooks+"/hooks/github", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = headers("X-GitHub-Event", "push", "X-Hub-Signature-256", sign([]byte(body)))
	resp, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != http.StatusAccepted || resp.ProtoMajor != version {
		t.Errorf("over HTTP/%d: %d %s", resp.ProtoMajor, a.status, a.body)
	}
}

// open begins a request on a connection of its own.
func (s *server) open(head string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Hooks)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, head); err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	return c
}

func request(length string, more ...string) string {
	return "POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: push\r\n" + length + "\r\n" + strings.Join(more, "\r\n") + "\r\n"
}

// status reads an answer's status; 0 where the server only hung up.
func status(c net.Conn) int {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// events fails the test where the log holds another number of events.
func (s *server) events(want float64) {
	s.t.Helper()
	if got := s.metric("riposte_receive_events_total"); got != want {
		s.t.Errorf("%v events are in the log, want %v", got, want)
	}
}

// TestE2EReceiveTooLarge: a body that is announced too large is refused before it is sent, one that turns out too large
// while it is sent.
func TestE2EReceiveTooLarge(t *testing.T) {
	s := serveAll(t, strings.Replace(allSources, "  type: github\n", "  type: github\n  maxBody: 1MB\n", 1))
	if got := status(s.open(request("Content-Length: 1000001", ""))); got != http.StatusRequestEntityTooLarge {
		t.Errorf("announced: got %d", got)
	}
	c := s.open(request("Transfer-Encoding: chunked", ""))
	go func() {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat(" ", 64<<10))
		for range 40 { // ends when the server hangs up
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}()
	if got := status(c); got != http.StatusRequestEntityTooLarge {
		t.Errorf("in chunks: got %d", got)
	}
	s.events(0)
}

// TestE2EReceiveCutOff: a body in chunks is an event, one that is cut off is none.
func TestE2EReceiveCutOff(t *testing.T) {
	s := serveAll(t, allSources)
	body := `{"marker":"chunked"}`
	c := s.open(request("Transfer-Encoding: chunked", "X-Hub-Signature-256: "+sign([]byte(body)), ""))
	fmt.Fprintf(c, "7\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", body[:7], len(body)-7, body[7:])
	if got := status(c); got != http.StatusAccepted {
		t.Errorf("in chunks: got %d", got)
	}
	body = `{"marker":"cut off"}` // whole, and rightly signed, but the sender meant to say more
	for length, begin := range map[string]string{"Content-Length: 100": "", "Transfer-Encoding: chunked": "64\r\n"} {
		c := s.open(request(length, "X-Hub-Signature-256: "+sign([]byte(body)), ""))
		_, _ = io.WriteString(c, begin+body)
		_ = c.(*net.TCPConn).CloseWrite()
		if got := status(c); got != http.StatusBadRequest && got != 0 {
			t.Errorf("cut off with %s: got %d", length, got)
		}
	}
	s.events(1)
}

// TestE2EReceiveSlowHeaders: headers that never end are not waited for.
func TestE2EReceiveSlowHeaders(t *testing.T) {
	s := serveAll(t, allSources)
	c := s.open("POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// peakMemory reads the most memory that a process had, in bytes.
func (s *server) peakMemory() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skipf("the kernel does not tell: %v", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		s.t.Skip("the kernel does not tell VmHWM")
	}
	kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10
}

// TestE2EReceiveManyLargeBodies: 40 senders each begin 25 MB. Those that the shared budget has no room for are refused,
// small requests are answered all the while, and the process takes no more memory than the budget explains.
func TestE2EReceiveManyLargeBodies(t *testing.T) {
	const senders = 40
	s := serveAll(t, allSources)
	before := s.peakMemory()
	ctx, stop := context.WithCancel(t.Context())
	answers := make(chan int, senders)
	var all sync.WaitGroup
	for range senders {
		s.begin(ctx, &all, answers)
	}
	waitFor(t, 2*time.Minute, "the budget to be spent", func() bool { return len(answers) > senders/2 })
	for i := range 20 {
		s.push(string(numbered(i)))
	}
	if used := s.metric("riposte_receive_body_bytes"); used > 64<<20 {
		t.Errorf("the bodies hold %v bytes", used)
	}
	stop()
	all.Wait()
	close(answers)
	for got := range answers {
		if got != http.StatusServiceUnavailable && got != http.StatusRequestTimeout {
			t.Errorf("a large body is answered %d", got)
		}
	}
	after := s.peakMemory()
	t.Logf("%d MiB at most, %d MiB before", after>>20, before>>20)
	// Twice the budget, because the collector runs when the heap has doubled, and as much again as the server had.
	if after > 3*before+3*(64<<20) {
		t.Errorf("the process took %d MiB, and %d MiB before", after>>20, before>>20)
	}
}

// begin sends most of a body of 25 MB and then no more, until ctx ends or the server answers.
func (s *server) begin(ctx context.Context, all *sync.WaitGroup, answers chan<- int) {
	const size, sent = 25_000_000, 20_000_000
	c := s.open(request(fmt.Sprintf("Content-Length: %d", size), ""))
	all.Go(func() {
		<-ctx.Done()
		c.Close() // also ends a write that the server does not read
	})
	all.Go(func() {
		if got := status(c); got != 0 {
			answers <- got
		}
	})
	all.Go(func() {
		block := bytes.Repeat([]byte(" "), 1<<20)
		for n := 0; n < sent; n += len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
}
