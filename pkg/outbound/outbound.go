// Package outbound connects to addresses that rules and events name. What is dialled is checked after names are resolved,
// so a name that points to a private address, or comes to do so between check and use, is refused; so are redirects there.
// A Client is safe for concurrent use.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// ErrForbidden says that policy forbids the address.
var ErrForbidden = errors.New("address is forbidden")

// Options configure a Client.
type Options struct {
	// AllowPrivate lists the networks that are allowed although they are not public.
	AllowPrivate []netip.Prefix
	// Setting is the name of the setting that holds AllowPrivate, for errors: "outbound.allowPrivate".
	Setting string
	Timeout time.Duration // of a whole request; default 30s
}

// Client makes connections and requests.
type Client struct {
	opts   Options
	dialer *net.Dialer
	http   *http.Client
}

const maxRedirects = 5

// New makes a client. Its HTTP client uses no proxy.
func New(o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Setting == "" {
		o.Setting = "outbound.allowPrivate"
	}
	c := &Client{opts: o}
	c.dialer = &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, ControlContext: c.control}
	c.http = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			DialContext: c.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns: 64, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 1 << 20,
		},
		CheckRedirect: checkRedirect,
	}
	return c
}

// HTTPClient returns the client for requests; it follows at most five redirects, none from https to http, and drops
// credentials on the way to another host.
func (c *Client) HTTPClient() *http.Client { return c.http }

// DialContext connects as net.Dialer does, to allowed addresses only.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dialer.DialContext(ctx, network, address)
}

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

// Check returns an error that wraps ErrForbidden unless the address is public or allowed.
func (c *Client) Check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	for _, p := range c.opts.AllowPrivate {
		if p.Contains(addr) {
			return nil
		}
	}
	if inner, ok := embedded(addr); ok {
		if err := c.Check(inner); err != nil {
			return fmt.Errorf("%s holds %w", addr, err)
		}
		return nil
	}
	if !public(addr) {
		return fmt.Errorf("%w: %s is not a public address; %s in the server's configuration can allow its network", ErrForbidden, addr, c.opts.Setting)
	}
	return nil
}

func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special() {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// special lists what is not public beyond what net/netip knows (IANA special-purpose address registries).
func special() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001::/32"),
	}
}

// embedded returns the IPv4 address that NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses lead to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	last := via[len(via)-1]
	if last.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: a redirect from https to %s", ErrForbidden, req.URL.Scheme)
	}
	if last.URL.Host != req.URL.Host { // also what net/http does not know to be a credential
		for name := range req.Header {
			switch name {
			case "Accept", "Content-Type", "User-Agent", "Referer":
			default:
				req.Header.Del(name)
			}
		}
	}
	return nil
}
