package receive

import (
	"log/slog"
	"net/http"
	"time"
)

// MaxConns is how many connections the hooks listener should hold open at once; more can wait to be accepted.
const MaxConns = 8192

// NewServer returns a server for the hooks listener, with time-outs and bounds against senders that are slow on purpose.
// A Receiver moves the time-outs on for a large body that keeps coming. Serve it on a listener that is bounded by
// MaxConns; its Shutdown waits for unfinished requests.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like anything else that is no hook
		ReadHeaderTimeout:            5 * time.Second,
		WriteTimeout:                 40 * time.Second, // above the defaults of a Receiver's Grace and AppendTimeout together
		IdleTimeout:                  90 * time.Second,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
