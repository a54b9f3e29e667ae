package receive

import (
	"math"
	"net/http"
)

// Limited bounds requests for another public handler as those for sources are: an address whose requests it refuses must
// wait, and then waits here and there.
func (rc *Receiver) Limited(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, now := rc.clientAddr(r), rc.Now()
		if wait := rc.addresses.wait(addr, now); wait > 0 {
			rc.refuse(w, &refusal{
				status: http.StatusTooManyRequests, msg: "too many requests from this address", hint: "try again later",
				retryAfter: int(math.Ceil(wait.Seconds())), hangUp: true,
			})
			return
		}
		newPace(rc, w).allow(0)
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(seen, r)
		if seen.status >= http.StatusBadRequest && seen.status < http.StatusInternalServerError {
			rc.addresses.charge(addr, now)
		}
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what it needs.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
