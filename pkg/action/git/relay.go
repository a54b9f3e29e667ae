package git

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// relay is how the git program reaches its remote: a listener on loopback that connects to that one host only, so that
// addresses are checked when dialled and bytes are counted as for go-git. It is an HTTP proxy, or bare for SSH.
// Its goroutines end with Close.
type relay struct {
	remote *remote
	ctx    context.Context
	cancel context.CancelFunc
	listen net.Listener
	server *http.Server // nil for SSH
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error // the first that stopped a connection
}

func startRelay(ctx context.Context, r *remote) (*relay, error) {
	listen, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	y := &relay{remote: r, ctx: ctx, cancel: cancel, listen: listen}
	if r.addr.scheme == "ssh" {
		y.wg.Go(y.accept)
		return y, nil
	}
	y.server = &http.Server{Handler: y.proxy(), ReadHeaderTimeout: time.Minute, ErrorLog: silent()}
	y.wg.Go(func() { _ = y.server.Serve(listen) })
	return y, nil
}

// silent is for servers whose errors are told in another way.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

func (y *relay) addr() *net.TCPAddr { return y.listen.Addr().(*net.TCPAddr) }

// Close ends every connection, waits for them and returns the first error that was more than an end.
func (y *relay) Close() error {
	y.cancel()
	_ = y.listen.Close()
	if y.server != nil {
		_ = y.server.Close()
	}
	y.wg.Wait()
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.err
}

func (y *relay) fail(err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.err == nil && y.ctx.Err() == nil && !errors.Is(err, context.Canceled) { // git hanging up is git's to explain
		y.err = err
	}
}

func (y *relay) accept() {
	for {
		conn, err := y.listen.Accept()
		if err != nil {
			return
		}
		y.wg.Go(func() {
			defer conn.Close()
			out, err := y.dial()
			if err != nil {
				y.fail(err)
				return
			}
			y.join(conn, out)
		})
	}
}

func (y *relay) dial() (net.Conn, error) {
	return y.remote.dialHTTP(y.ctx, "tcp", y.remote.addr.hostport())
}

// proxy answers CONNECT for https and forwards requests for http, to the remote's own host and port only.
func (y *relay) proxy() http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {},
		Transport: roundTripper{&http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return y.dial() },
			DisableKeepAlives: true,
		}, y.remote.meter},
		FlushInterval: -1,
		ErrorLog:      silent(),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			y.fail(err)
			w.WriteHeader(http.StatusBadGateway)
		},
		ModifyResponse: func(res *http.Response) error {
			res.Body = &watchedBody{res.Body, y}
			return nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case !y.meant(req):
			http.Error(w, "another host", http.StatusForbidden)
		case req.Method == http.MethodConnect:
			y.connect(w)
		default:
			forward.ServeHTTP(w, req)
		}
	})
}

// watchedBody remembers why a body was cut off: the proxy itself can only cut it.
type watchedBody struct {
	io.ReadCloser
	y *relay
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.y.fail(err)
	}
	return n, err
}

func (y *relay) meant(req *http.Request) bool {
	u := url.URL{Host: req.Host}
	if req.Method != http.MethodConnect {
		u = *req.URL
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	return u.Hostname() == y.remote.addr.host && port == y.remote.addr.port
}

func (y *relay) connect(w http.ResponseWriter) {
	out, err := y.dial()
	if err != nil {
		y.fail(err)
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		y.fail(err)
		_ = out.Close()
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		_ = out.Close()
		return
	}
	// The server no longer waits for a connection that was taken from it.
	y.wg.Add(1)
	defer y.wg.Done()
	y.join(conn, out)
}

// join copies both ways until either side ends or the relay is closed.
func (y *relay) join(in, out net.Conn) {
	stop := context.AfterFunc(y.ctx, func() {
		_ = in.Close()
		_ = out.Close()
	})
	defer stop()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	if _, err := io.Copy(in, y.remote.meter.reader(out)); err != nil && !errors.Is(err, net.ErrClosed) {
		y.fail(err)
	}
	_ = in.Close()
	up.Wait()
}
