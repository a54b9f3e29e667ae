package git

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// remote talks to one repository for one pull. go-git's own Remote finds transports in a global table; building on its
// sessions keeps dialling and credentials per pull.
type remote struct {
	doing string // what for, for errors
	addr  address
	cred  *Credential
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	// caFile replaces the system's authorities where it is set.
	caFile string
	meter  *meter
	// secrets are what errors must not show.
	secrets []string
	http    *http.Transport
	// session is one that has not transferred a pack yet.
	session transport.UploadPackSession
}

func (r *remote) close() {
	if r.session != nil {
		_ = r.session.Close()
		r.session = nil
	}
	if r.http != nil {
		r.http.CloseIdleConnections()
	}
}

// advertise asks what the remote has.
func (r *remote) advertise(ctx context.Context) (*packp.AdvRefs, error) {
	s, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	r.session = s
	return s.AdvertisedReferencesContext(ctx)
}

// uploadPack asks for a pack. The answer must be closed.
func (r *remote) uploadPack(ctx context.Context, req *packp.UploadPackRequest) (*uploadAnswer, error) {
	s := r.session
	r.session = nil
	if s == nil {
		var err error
		if s, err = r.open(ctx); err != nil {
			return nil, err
		}
		if _, err := s.AdvertisedReferencesContext(ctx); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	res, err := s.UploadPack(ctx, req)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return &uploadAnswer{res, s}, nil
}

type uploadAnswer struct {
	*packp.UploadPackResponse
	session io.Closer
}

func (a *uploadAnswer) Close() error {
	return errors.Join(a.UploadPackResponse.Close(), a.session.Close())
}

func (r *remote) open(ctx context.Context) (transport.UploadPackSession, error) {
	switch r.addr.scheme {
	case "https", "http":
		c, err := r.openHTTP()
		if err != nil {
			return nil, err
		}
		return c.NewUploadPackSession(c.endpoint, c.auth)
	case "ssh":
		return r.openSSH(ctx, transport.UploadPackServiceName)
	default:
		return openLocal(r.addr.path)
	}
}

// httpClient opens sessions with one repository.
type httpClient struct {
	transport.Transport
	endpoint *transport.Endpoint
	auth     transport.AuthMethod // nil where there is no credential
}

func (r *remote) openHTTP() (httpClient, error) {
	auth, err := r.basicAuth()
	if err != nil {
		return httpClient{}, err
	}
	if r.http == nil {
		roots, err := r.roots()
		if err != nil {
			return httpClient{}, err
		}
		r.http = &http.Transport{
			DialContext:           r.dialHTTP,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: 5 * time.Minute, // a server packs before it answers
			ForceAttemptHTTP2:     true,
		}
	}
	// Redirects are followed for the first request only, and credentials stay with their origin: documented at
	// go-git's http.AuthMethod and RedirectPolicy.
	c := httpClient{Transport: githttp.NewClient(&http.Client{Transport: roundTripper{r.http, r.meter}})}
	if auth != nil { // a nil pointer would be an AuthMethod
		c.auth = auth
	}
	if c.endpoint, err = transport.NewEndpoint(r.addr.String()); err != nil {
		return httpClient{}, fmt.Errorf("read URL: %w", err)
	}
	return c, nil
}

func (r *remote) roots() (*x509.CertPool, error) {
	if r.caFile == "" {
		return nil, nil // the system's
	}
	text, err := os.ReadFile(r.caFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the certificate authorities: %s holds no certificate in PEM", r.caFile)
	}
	return pool, nil
}

func (r *remote) basicAuth() (*githttp.BasicAuth, error) {
	if r.cred == nil || r.cred.Token == nil {
		return nil, nil
	}
	user, token, err := r.login()
	if err != nil {
		return nil, err
	}
	return &githttp.BasicAuth{Username: user, Password: token}, nil
}

// dialHTTP is used for plain http too, where a redirect may lead: what goes in clear must stay in the private network.
func (r *remote) dialHTTP(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := r.dial(ctx, network, addr)
	if err != nil || r.addr.scheme != "http" {
		return conn, err
	}
	if !private(conn.RemoteAddr()) {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %s is not a private address", errPlainHTTP, addr)
	}
	return conn, nil
}

var errPlainHTTP = errors.New("plain http is allowed to private addresses only")

func private(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// openLocal serves a repository of this machine in process; there is no upload-pack program to trust or to miss.
func openLocal(path string) (transport.UploadPackSession, error) {
	s, _, err := localStorage(path)
	if err != nil {
		return nil, err
	}
	return server.NewServer(loader{s}).NewUploadPackSession(&transport.Endpoint{}, nil)
}

func localStorage(path string) (s *filesystem.Storage, bare bool, err error) {
	fs, bare := osfs.New(path, osfs.WithBoundOS()), true
	if _, err := fs.Stat("HEAD"); err != nil {
		bare = false
		if fs, err = fs.Chroot(".git"); err != nil {
			return nil, false, transport.ErrRepositoryNotFound
		}
		if _, err := fs.Stat("HEAD"); err != nil {
			return nil, false, transport.ErrRepositoryNotFound
		}
	}
	return filesystem.NewStorage(fs, cache.NewObjectLRUDefault()), bare, nil
}

type loader struct{ storer.Storer }

func (l loader) Load(*transport.Endpoint) (storer.Storer, error) { return l.Storer, nil }
