package receive

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// refusal is an answer other than success. It is an error, so that what went wrong and what is answered stay together.
type refusal struct {
	status     int
	msg, hint  string
	retryAfter int   // seconds; 0 sends none
	hangUp     bool  // the rest of the body is not worth reading
	cause      error // for the log only
}

func (r *refusal) Error() string { return r.msg }
func (r *refusal) Unwrap() error { return r.cause }

var (
	errNoSource = &refusal{status: http.StatusNotFound, msg: "no such source", hint: "post to /hooks/NAME, NAME being the metadata.name of a Source", hangUp: true}
	errMethod   = &refusal{status: http.StatusMethodNotAllowed, msg: "only POST is answered here", hangUp: true}
	errCutOff   = &refusal{status: http.StatusBadRequest, msg: "the body ended early", hint: "send it again", hangUp: true}
	errSlow     = &refusal{status: http.StatusRequestTimeout, msg: "the body came too slowly", hint: "send it again over a faster connection", hangUp: true}
	errBudget   = &refusal{status: http.StatusServiceUnavailable, msg: "too many bodies are being received", hint: "try again later", retryAfter: 5, hangUp: true}
	errTooMany  = &refusal{status: http.StatusRequestEntityTooLarge, msg: "the request holds more than " + strconv.Itoa(maxEvents) + " events", hint: "let the sender group fewer into one request"}
	errPanic    = &refusal{status: http.StatusServiceUnavailable, msg: "the request could not be handled", hint: "the server's log says more", retryAfter: 60}
)

func tooLarge(limit int64) error {
	return &refusal{status: http.StatusRequestEntityTooLarge, msg: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes",
		hint: "limits.maxBodyBytes of the server or the source's own limit can be raised", hangUp: true}
}

// overLimit answers as the sender understands it: most give an event up on 429.
func overLimit(ep *Endpoint, msg string, wait time.Duration) error {
	status := http.StatusServiceUnavailable
	if ep != nil && ep.Type.RetriesOn429 {
		status = http.StatusTooManyRequests
	}
	return &refusal{status: status, msg: msg, hint: "try again later", retryAfter: int(math.Ceil(wait.Seconds())), hangUp: true}
}

// refusalOf is the one place where kinds of errors become answers.
func refusalOf(err error) *refusal {
	var no *refusal
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, source.ErrUnauthenticated):
		return &refusal{status: http.StatusUnauthorized, msg: brief(err), hint: "the sender and this source must hold the same secret"}
	case errors.Is(err, source.ErrUnparsable):
		return &refusal{status: http.StatusUnsupportedMediaType, msg: brief(err), hint: "see the source type's page for what it takes"}
	case errors.Is(err, source.ErrUnavailable):
		// Why is the operator's business: the text may name files and variables.
		return &refusal{status: http.StatusServiceUnavailable, msg: "the source can't verify requests now", hint: "try again later", retryAfter: 30, cause: err}
	case errors.Is(err, event.ErrLogFull):
		return &refusal{status: http.StatusServiceUnavailable, msg: "the event log is full", hint: "try again later", retryAfter: 60, cause: err}
	case errors.Is(err, event.ErrLogUnavailable):
		return &refusal{status: http.StatusServiceUnavailable, msg: "the event log can't be written now", hint: "try again later", retryAfter: 5, cause: err}
	}
	return &refusal{status: http.StatusServiceUnavailable, msg: "the request could not be handled", hint: "the server's log says more", retryAfter: 30, cause: err}
}

// brief is an error's text for the sender, cut to what a log line bears.
func brief(err error) string {
	const most = 300
	msg := text(err.Error())
	if len(msg) > most {
		msg = text(msg[:most]) + "…"
	}
	return msg
}

func (rc *Receiver) refuse(w http.ResponseWriter, no *refusal) {
	h := w.Header()
	h["Content-Type"] = rc.jsonType
	if no.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(no.retryAfter))
	}
	if no.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	if no.hangUp {
		h.Set("Connection", "close")
	}
	body, err := json.Marshal(struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{no.msg, no.hint})
	if err != nil { // strings always marshal
		body = []byte(`{"error":"the request could not be handled"}`)
	}
	w.WriteHeader(no.status)
	_, _ = w.Write(append(body, '\n')) // who hung up reads no answer
}

// accept writes the answer of a request that was taken, and returns its status. It is on the hot path, so it writes the
// JSON by hand: ids need no escapes.
func (rc *Receiver) accept(w http.ResponseWriter, res result) int {
	w.Header()["Content-Type"] = rc.jsonType
	status, body := http.StatusAccepted, make([]byte, 0, 64+32*len(res.appended))
	if res.allowed {
		w.Header().Set("Allow", http.MethodPost)
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("WebHook-Allowed-Rate", "*")
	}
	switch {
	case len(res.appended) == 0:
		status, body = http.StatusOK, append(body, `{"handshake":true}`...)
	case !res.batch:
		body = append(append(append(body, `{"id":"`...), res.appended[0].ID...), '"')
		if res.appended[0].Duplicate {
			body = append(body, `,"duplicate":true`...)
		}
		body = append(appendRetried(body, res.retried), '}')
	default:
		body = appendIDs(append(body, `{"ids":`...), len(res.appended), func(i int) string { return res.appended[i].ID })
		if again := duplicates(res.appended); len(again) > 0 {
			body = appendIDs(append(body, `,"duplicates":`...), len(again), func(i int) string { return again[i] })
		}
		body = append(appendRetried(body, res.retried), '}')
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
	return status
}

func appendRetried(b []byte, runs []string) []byte {
	if len(runs) == 0 {
		return b
	}
	return appendIDs(append(b, `,"retried":`...), len(runs), func(i int) string { return runs[i] })
}

func appendIDs(b []byte, n int, id func(int) string) []byte {
	b = append(b, '[')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), id(i)...), '"')
	}
	return append(b, ']')
}
