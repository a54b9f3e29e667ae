package outbound

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		allow []netip.Prefix
		ok    bool
	}{
		{"1.1.1.1", nil, true},
		{"140.82.121.4", nil, true},
		{"2606:4700:4700::1111", nil, true},
		{"::ffff:1.1.1.1", nil, true},
		{"2002:101:101::1", nil, true},
		{"64:ff9b::1.1.1.1", nil, true},

		{"127.0.0.1", nil, false},
		{"127.8.8.8", nil, false},
		{"::1", nil, false},
		{"0.0.0.0", nil, false},
		{"0.1.2.3", nil, false},
		{"::", nil, false},
		{"10.0.0.1", nil, false},
		{"172.16.0.1", nil, false},
		{"192.168.1.1", nil, false},
		{"169.254.169.254", nil, false},
		{"fe80::1%eth0", nil, false},
		{"100.64.0.1", nil, false},
		{"100.100.100.200", nil, false},
		{"fd00:ec2::254", nil, false},
		{"fc00::1", nil, false},
		{"fec0::1", nil, false},
		{"224.0.0.1", nil, false},
		{"ff02::1", nil, false},
		{"255.255.255.255", nil, false},
		{"240.0.0.1", nil, false},
		{"192.0.2.1", nil, false},
		{"198.18.0.1", nil, false},
		{"2001:db8::1", nil, false},
		{"2001::1", nil, false},
		{"4000::1", nil, false},
		{"::127.0.0.1", nil, false},
		{"::ffff:127.0.0.1", nil, false},
		{"::ffff:0:127.0.0.1", nil, false},
		{"64:ff9b::127.0.0.1", nil, false},
		{"64:ff9b::10.0.0.1", nil, false},
		{"64:ff9b:1::10.0.0.1", nil, false},
		{"2002:7f00:1::", nil, false},
		{"2002:a9fe:a9fe::1", nil, false},

		{"10.1.2.3", prefixes("10.1.0.0/16"), true},
		{"10.2.2.3", prefixes("10.1.0.0/16"), false},
		{"::ffff:10.1.2.3", prefixes("10.1.0.0/16"), true},
		{"10.1.2.3", prefixes("::ffff:10.1.0.0/112"), true},
		{"64:ff9b::10.1.2.3", prefixes("10.1.0.0/16"), true},
		{"fe80::1%eth0", prefixes("fe80::/10"), true},
		{"::1", prefixes("::1/128"), true},
		{"127.0.0.1", prefixes("::/0"), false},
	} {
		err := New(Options{AllowPrivate: tt.allow}).Check(netip.MustParseAddr(tt.addr))
		if (err == nil) != tt.ok {
			t.Errorf("%s with %v: %v", tt.addr, tt.allow, err)
		}
		if err != nil && (!errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "outbound.allowPrivate")) {
			t.Errorf("%s: the error says neither that it is forbidden nor how to allow it: %v", tt.addr, err)
		}
	}
	if err := New(Options{}).Check(netip.Addr{}); err == nil {
		t.Error("no address at all is allowed")
	}
	err := New(Options{Setting: "git.allowPrivate"}).Check(netip.MustParseAddr("10.0.0.1"))
	if err == nil || !strings.Contains(err.Error(), "10.0.0.1") || !strings.Contains(err.Error(), "git.allowPrivate") {
		t.Errorf("error is %v", err)
	}
}

func local(t *testing.T, o Options) *Client {
	t.Helper()
	o.AllowPrivate = append(o.AllowPrivate, prefixes("127.0.0.1/32")...)
	c := New(o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(t *testing.T, c *Client, address string, header ...string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestPrivateServerIsRefused(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	if _, err := get(t, New(Options{}), s.URL); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error is %v", err)
	}
	if _, err := get(t, New(Options{}), strings.Replace(s.URL, "127.0.0.1", "localhost", 1)); !errors.Is(err, ErrForbidden) {
		t.Errorf("by name: %v", err)
	}
	if _, err := New(Options{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String()); !errors.Is(err, ErrForbidden) {
		t.Errorf("DialContext: %v", err)
	}
}

func TestOnlyTCPIsDialled(t *testing.T) {
	c := New(Options{AllowPrivate: prefixes("0.0.0.0/0", "::/0")})
	for network, address := range map[string]string{"udp": "127.0.0.1:53", "unix": "/var/run/docker.sock"} {
		if conn, err := c.DialContext(t.Context(), network, address); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v, %v", network, conn, err)
		}
	}
	for _, address := range []string{"file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1/"} {
		if _, err := get(t, c, address); err == nil {
			t.Errorf("%s was fetched", address)
		}
	}
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	_, err := get(t, local(t, Options{}), "http://169.254.169.254/latest/meta-data")
	if !errors.Is(err, ErrForbidden) {
		t.Errorf("error is %v", err)
	}
}

// A name that was public when somebody looked is private when it is dialled.
func TestRebinding(t *testing.T) {
	reached := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") })
	answers := &nameserver{}
	resolver := answers.start(t)
	found, err := resolver.LookupNetIP(t.Context(), "ip4", "rebind.example.com")
	if err != nil || len(found) != 1 {
		t.Fatalf("the name server does not answer: %v, %v", found, err)
	}
	c := New(Options{Resolver: resolver})
	if err := c.Check(found[0]); err != nil {
		t.Fatal(err)
	}
	answers.rebound.Store(true)
	u, err := url.Parse(reached.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, "http://rebind.example.com:"+u.Port()); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error is %v", err)
	}
	if answers.asked.Load() == 0 {
		t.Error("the name was not asked for")
	}
}

// nameserver says of every name that its address is 1.1.1.1, and later that it is 127.0.0.1.
type nameserver struct {
	rebound atomic.Bool
	asked   atomic.Int64
}

func (n *nameserver) start(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func (n *nameserver) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		n.asked.Add(1)
		addr := [4]byte{1, 1, 1, 1}
		if n.rebound.Load() {
			addr = [4]byte{127, 0, 0, 1}
		}
		q := m.Questions[0]
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
		if q.Type == dnsmessage.TypeA {
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: addr},
			}}
		}
		if text, err := answer.Pack(); err == nil {
			_, _ = conn.WriteTo(text, from)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Run("to a private address", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.2:1/secret", http.StatusFound)
		})
		if _, err := get(t, local(t, Options{}), s.URL); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "127.0.0.2") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("at most five", func(t *testing.T) {
		var asked atomic.Int64
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			http.Redirect(w, r, "/again", http.StatusFound)
		})
		if _, err := get(t, local(t, Options{}), s.URL); err == nil || asked.Load() != 6 {
			t.Errorf("%d requests, error %v", asked.Load(), err)
		}
	})
	t.Run("from https to http", func(t *testing.T) {
		plain := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the plain server was reached") })
		s := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
		t.Cleanup(s.Close)
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		if _, err := get(t, local(t, Options{RootCAs: roots}), s.URL); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "https to http") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("to another scheme", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		})
		if body, err := get(t, local(t, Options{}), s.URL); err == nil {
			t.Errorf("it was followed: %q", body)
		}
	})
}

// Beyond the first host no header goes that may be a credential, also not on the second request to the same other host.
func TestCredentialsStayWithTheFirstHost(t *testing.T) {
	var seen []http.Header
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Clone())
		if r.URL.Path == "/once" {
			http.Redirect(w, r, "/twice", http.StatusFound)
		}
	})
	var again http.Header
	first := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			http.Redirect(w, r, "/here", http.StatusFound)
		default:
			again = r.Header.Clone()
			http.Redirect(w, r, other.URL+"/once", http.StatusFound)
		}
	})
	if _, err := get(t, local(t, Options{}), first.URL+"/", "Authorization", "Bearer x", "X-Api-Key", "x", "Accept", "text/plain"); err != nil {
		t.Fatal(err)
	}
	if again.Get("X-Api-Key") != "x" {
		t.Error("a redirect to the same host lost a header")
	}
	if len(seen) != 2 {
		t.Fatalf("the other host got %d requests, want 2", len(seen))
	}
	for i, h := range seen {
		if h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" || h.Get("Accept") != "text/plain" {
			t.Errorf("request %d to the other host: %v", i+1, h)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", map[string]int{"/fits": 100, "/large": 101}[r.URL.Path]))
	})
	c := local(t, Options{MaxResponse: 100})
	if body, err := get(t, c, s.URL+"/fits"); err != nil || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if body, err := get(t, c, s.URL+"/large"); !errors.Is(err, ErrTooLarge) || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestUserAgent(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.UserAgent()) })
	c := local(t, Options{UserAgent: "riposte/1.2"})
	if body, err := get(t, c, s.URL); body != "riposte/1.2" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if body, err := get(t, c, s.URL, "User-Agent", "mine"); body != "mine" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func FuzzCheck(f *testing.F) {
	for _, a := range []string{"10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "1.1.1.1", "fe80::1%x"} {
		f.Add(a)
	}
	c := New(Options{})
	f.Fuzz(func(t *testing.T, text string) {
		a, err := netip.ParseAddr(text)
		if err != nil || c.Check(a) != nil {
			return
		}
		a = a.Unmap()
		if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			t.Errorf("%s is allowed", a)
		}
	})
}
