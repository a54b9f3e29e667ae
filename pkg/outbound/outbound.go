// Package outbound connects to addresses that rules and events name.
//
// Guarantees. Every connection of a Client is checked by the address that is really dialled, after names are resolved: one
// that is not public is refused unless a setting allows it. So a name that points to a private address, or comes to do so
// between a check and its use, leads nowhere, and neither does a redirect. Proxies of the environment are not used, since
// they would dial for us, unchecked. Answers are bounded. At most five redirects are followed, none from https to http, and
// once one has left the first host, headers that may be credentials are no longer sent.
//
// A Client is safe for concurrent use.
package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// ErrForbidden says that policy forbids the address. No retry helps.
var ErrForbidden = errors.New("address is forbidden")

// ErrTooLarge is what reading an answer's body beyond Options.MaxResponse ends with.
var ErrTooLarge = errors.New("the answer is too large")

// Defaults of Options.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultMaxResponse = 16 << 20
)

// Options configure a Client. The zero value allows public addresses only.
type Options struct {
	// AllowPrivate lists the networks that are allowed although they are not public.
	AllowPrivate []netip.Prefix
	// Setting is the name of the setting that holds AllowPrivate, for errors; default "outbound.allowPrivate".
	Setting string
	// Timeout is that of a whole request, with its redirects and its body.
	Timeout time.Duration
	// MaxResponse is the largest body of an answer in bytes, after decompression.
	MaxResponse int64
	// UserAgent is sent where a request has none.
	UserAgent string
	// RootCAs are the authorities that servers must be signed by; nil means the system's.
	RootCAs *x509.CertPool
	// Resolver resolves names; nil means the system's.
	Resolver *net.Resolver
}

func (o Options) withDefaults() Options {
	o.Setting = cmp.Or(o.Setting, "outbound.allowPrivate")
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MaxResponse = cmp.Or(o.MaxResponse, DefaultMaxResponse)
	o.UserAgent = cmp.Or(o.UserAgent, "riposte")
	return o
}

// Client makes connections and requests.
type Client struct {
	opts      Options
	networks  networks
	dialer    *net.Dialer
	transport *http.Transport
	http      *http.Client
}

// New makes a client.
func New(o Options) *Client {
	o = o.withDefaults()
	c := &Client{opts: o, networks: newNetworks(o.AllowPrivate)}
	c.dialer = &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Resolver: o.Resolver, ControlContext: c.control}
	c.transport = &http.Transport{
		DialContext: c.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: c.TLSConfig(""),
		MaxIdleConns:    64, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 256 << 10,
	}
	c.http = &http.Client{Timeout: o.Timeout, Transport: bounded{c.transport, o}, CheckRedirect: CheckRedirect}
	return c
}

// HTTPClient returns the client for requests. Who changes a copy of it (its timeout, what it thinks of redirects) still has
// every connection checked.
func (c *Client) HTTPClient() *http.Client { return c.http }

// CloseIdleConnections closes the connections that are kept for later requests.
func (c *Client) CloseIdleConnections() { c.transport.CloseIdleConnections() }

// DialContext connects as net.Dialer does, by TCP and to allowed addresses only.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dialer.DialContext(ctx, network, address)
}

// TLSConfig returns what a TLS connection with the named server should be made with, over a connection of DialContext.
func (c *Client) TLSConfig(serverName string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.opts.RootCAs, ServerName: serverName}
}

// control is called with each address that is about to be dialled.
func (c *Client) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s is no TCP address", ErrForbidden, address)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrForbidden, address, err)
	}
	return c.Check(ap.Addr())
}

// Check returns an error that wraps ErrForbidden unless the address is public or allowed. Checking a name's addresses
// before they are dialled proves nothing; dialling with the client checks them.
func (c *Client) Check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	if c.networks.ok(addr) {
		return nil
	}
	return fmt.Errorf("%w: %s is not a public address; if it may be connected to, add its network to %s in the server's configuration", ErrForbidden, addr, c.opts.Setting)
}

const maxRedirects = 5

// CheckRedirect is the client's policy for redirects.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: a redirect from https to %s", ErrForbidden, req.URL.Scheme)
	}
	// net/http copies the first request's headers to each further one, so each has to be looked at, and against the first.
	for _, r := range append(via[1:len(via):len(via)], req) {
		if r.URL.Host != via[0].URL.Host {
			dropCredentials(req.Header)
			break
		}
	}
	return nil
}

// dropCredentials leaves only what is certain to be none: net/http drops Authorization and cookies itself, and knows no
// other header that an API may take a key from.
func dropCredentials(h http.Header) {
	for name := range h {
		switch name {
		case "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Length", "User-Agent", "Referer":
		default:
			h.Del(name)
		}
	}
}

// bounded sets what every request has, and bounds every answer.
type bounded struct {
	next *http.Transport
	opts Options
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := req.Header["User-Agent"]; !ok {
		req = req.Clone(req.Context()) // a RoundTripper must not change the caller's request
		req.Header.Set("User-Agent", b.opts.UserAgent)
	}
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &body{resp.Body, b.opts.MaxResponse}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport.
func (b bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// body is an answer's body that ends with an error where it is too large.
type body struct {
	io.ReadCloser
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more byte than may be: then there is more
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
