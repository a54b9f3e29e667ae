package receive

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// ServerOptions configure a Server.
type ServerOptions struct {
	// Handler answers; needed.
	Handler http.Handler
	// Certificates makes the server speak TLS.
	Certificates *Certificates
	// MaxConns bounds open connections; more wait to be accepted. 0 is 8192.
	MaxConns int
	// WriteTimeout bounds a request from its headers to the end of its answer; a Receiver moves it on for a slow body. 0
	// is 40 s, which is more than a Receiver's Grace and AppendTimeout together; negative is none, for answers that stream.
	WriteTimeout time.Duration
	Logger       *slog.Logger // nil discards
}

// Server serves HTTP with time-outs and bounds against senders that are slow on purpose.
type Server struct {
	http     *http.Server
	tls      bool
	maxConns int
}

// NewServer returns a Server.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{maxConns: orElse(o.MaxConns, 8192), tls: o.Certificates != nil, http: &http.Server{
		Handler:                      o.Handler,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second,
		WriteTimeout:                 orElse(o.WriteTimeout, 40*time.Second),
		IdleTimeout:                  90 * time.Second,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}}
	if s.tls {
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: o.Certificates.Get}
	}
	return s
}

// Serve answers l's connections until Shutdown, and then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	l = netutil.LimitListener(l, s.maxConns)
	var err error
	if s.tls {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits for unfinished requests; when ctx ends it cuts them off and says so.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}
