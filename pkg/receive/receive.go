// Package receive is the stage that turns a webhook request into records of the log: limit, verify, split, append, 202.
//
// Guarantees: 202 is written only after the log has every event of the request; nothing of a body is looked at before
// the preset has verified it; what can't be taken now is answered so that the sender tries again, and no answer repeats
// a secret or the body. Memory is bounded: the bodies of all unfinished requests share one budget, of which large ones
// leave a part to small ones, and the table of remote addresses has a fixed size. Requests are independent of each
// other and in no order; a Receiver is safe for concurrent use, starts no goroutines and holds nothing to close.
package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Prefix is the path below which sources are posted to.
const Prefix = "/hooks/"

// maxEvents is the most events that one request may hold.
const maxEvents = 50_000

// Endpoint is one source that can be posted to. It is immutable; a reload makes new ones.
type Endpoint struct {
	Name   string
	Type   source.Type
	Source source.Source
	// MaxBody is the largest body in bytes; 0 is Options.MaxBody.
	MaxBody int64
	// Rate bounds verified requests; zero is no bound.
	Rate Rate
	// Batch says that a request may hold several events, so that it is answered with ids even if it holds one.
	Batch bool
	// Usable says why no request can be verified now, a secret that does not resolve; nil is always.
	Usable func() error
}

// unverified is the answer to a request that proved nothing. Where it could not have, that is the server's fault.
func (ep *Endpoint) unverified(err error) error {
	if ep.Usable == nil || !errors.Is(err, source.ErrUnauthenticated) {
		return err
	}
	if problem := ep.Usable(); problem != nil {
		return problem
	}
	return err
}

// Rate is so many requests per time; Burst of them may come at once (0: as many as Requests). Zero Requests is no bound.
type Rate struct {
	Requests int
	Per      time.Duration
	Burst    int
}

// Log takes events durably.
type Log interface {
	// Append returns once all records are durable, with what became of each, in their order. Without an error it no
	// longer reads the records' bodies when it returns. Errors that wrap event.ErrLogFull and event.ErrLogUnavailable
	// say why nothing or only a part was taken.
	Append(ctx context.Context, records []event.Record) ([]event.Appended, error)
}

// Options configure a Receiver.
type Options struct {
	// Sources finds a source by its name among the active ones; needed.
	Sources func(name string) (*Endpoint, bool)
	// Log takes the events; needed.
	Log Log
	// Revive adds an attempt to the failed runs of events that were deliberately sent again, and returns those runs. An
	// error says that this could not be recorded. Nil revives nothing.
	Revive func(ctx context.Context, eventIDs []string) (runs []string, err error)
	// MaxBody is the largest body in bytes where an Endpoint has no own bound; 0 is 25 MB.
	MaxBody int64
	// Budget is the memory in bytes for the bodies of all unfinished requests; 0 is 64 MiB. Bodies above 64 KiB may use
	// three quarters of it.
	Budget int64
	// PerAddress bounds the requests of one address (of IPv6, one /64) that do not prove where they come from; those that
	// do cost nothing. Zero is no bound.
	PerAddress Rate
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Grace is how long a request's body may take, beside the time that its bytes take at MinRate; 0 is 10 s.
	Grace time.Duration
	// MinRate is how fast a body must come, in bytes a second; 0 is 64 KiB.
	MinRate int64
	// AppendTimeout bounds a call of Log or Revive; 0 is 10 s.
	AppendTimeout time.Duration
	Logger        *slog.Logger          // nil discards
	Registerer    prometheus.Registerer // nil registers nowhere
	Now           func() time.Time      // nil is time.Now
}

func (o *Options) defaults() {
	o.MaxBody = orElse(o.MaxBody, 25e6)
	o.Budget = orElse(o.Budget, 64<<20)
	o.Grace = orElse(o.Grace, 10*time.Second)
	o.MinRate = orElse(o.MinRate, 64<<10)
	o.AppendTimeout = orElse(o.AppendTimeout, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (o *Options) validate() error {
	switch {
	case o.Sources == nil:
		return errors.New("receive: Options.Sources is missing")
	case o.Log == nil:
		return errors.New("receive: Options.Log is missing")
	case o.MaxBody < 0, o.Grace < 0, o.MinRate < 0, o.AppendTimeout < 0:
		return errors.New("receive: Options.MaxBody, Grace, MinRate and AppendTimeout must not be negative")
	case o.Budget < o.MaxBody:
		return fmt.Errorf("receive: Options.Budget (%d) is less than MaxBody (%d)", o.Budget, o.MaxBody)
	case o.PerAddress.Requests < 0 || o.PerAddress.Requests > 0 && o.PerAddress.Per <= 0:
		return errors.New("receive: Options.PerAddress needs Requests and Per above 0")
	}
	return nil
}

// Receiver is the hooks listener's handler.
type Receiver struct {
	Options
	budget    *budget
	buffers   buffers
	addresses *addresses
	metrics   *metrics
	unknown   *state   // of requests for no source
	jsonType  []string // read-only, so that answers share it

	mu     sync.RWMutex
	states map[string]*state // by source; it outlives reloads
}

// New returns a Receiver.
func New(o Options) (*Receiver, error) {
	o.defaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	rc := &Receiver{
		Options:   o,
		budget:    newBudget(o.Budget),
		addresses: newAddresses(o.PerAddress, maxAddresses),
		jsonType:  []string{"application/json"},
		states:    map[string]*state{},
	}
	var err error
	if rc.metrics, err = newMetrics(o.Registerer, rc.budget); err != nil {
		return nil, fmt.Errorf("receive: registering metrics: %w", err)
	}
	rc.unknown = rc.metrics.source("")
	return rc, nil
}

// ServeHTTP answers one request.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	name, isHook := strings.CutPrefix(r.URL.Path, Prefix)
	st, ep := rc.unknown, (*Endpoint)(nil)
	if isHook {
		if found, ok := rc.Sources(name); ok {
			ep, st = found, rc.state(found)
		}
	}
	res, err := rc.receive(w, r, ep, st)
	if err != nil {
		no := refusalOf(err)
		rc.note(r, st, ep, no)
		rc.refuse(w, no)
		st.count(no.status)
	} else {
		st.count(rc.accept(w, res))
	}
	rc.metrics.duration.Observe(time.Since(started).Seconds())
}

// result is what an accepted request came to.
type result struct {
	appended []event.Appended // empty for a handshake
	batch    bool
	retried  []string
	allowed  bool // CloudEvents' handshake before any delivery
}

// receive does all of it but answering. A panic of a preset, or of what it is given, costs only this request.
func (rc *Receiver) receive(w http.ResponseWriter, r *http.Request, ep *Endpoint, st *state) (res result, err error) {
	addr, now := rc.clientAddr(r), rc.Now()
	if wait := rc.addresses.wait(addr, now); wait > 0 {
		return res, overLimit(ep, "too many requests from this address", wait)
	}
	p := newPace(rc, w)
	p.allow(0) // also bounds what the server still reads of a body that is refused unread
	verified := false
	defer func() {
		if cause := recover(); cause != nil {
			rc.Logger.Error("receiving a request panicked", "source", st.name, "panic", cause, "stack", string(debug.Stack()))
			err = errPanic
		}
		if err != nil && !verified && refusalOf(err).status != http.StatusServiceUnavailable {
			rc.addresses.charge(addr, now)
		}
	}()
	if isHook := strings.HasPrefix(r.URL.Path, Prefix); isHook && r.Method != http.MethodPost {
		return rc.other(r, addr, now) // before ep is looked at: whether there is a source shows only to who posts to it
	}
	if ep == nil {
		return res, errNoSource
	}
	b, err := rc.read(r, ep, p)
	if err != nil {
		return res, err
	}
	taken := false
	defer func() { rc.release(b, taken) }()

	req := source.Request{Method: r.Method, Header: r.Header, Query: r.URL.RawQuery, Body: b.bytes, ReceivedAt: now.UTC()}
	if err := ep.Source.Verify(&req); err != nil {
		return res, ep.unverified(err)
	}
	verified = true
	if wait := st.take(ep.Rate, now); wait > 0 {
		return res, overLimit(ep, "too many requests for this source", wait)
	}
	deliveries, err := ep.Source.Split(&req)
	if err != nil {
		return res, err
	}
	res, err = rc.store(r.Context(), ep, st, deliveries, req.ReceivedAt)
	taken = err == nil
	return res, err
}

// other answers what is no delivery. A CloudEvents sender asks before its first one whether it may send at all (CloudEvents,
// HTTP 1.1 Web Hooks, section 4): it may, as anyone may, and each delivery has to prove where it comes from.
func (rc *Receiver) other(r *http.Request, addr netip.Addr, now time.Time) (result, error) {
	if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") == "" {
		return result{}, errMethod
	}
	rc.addresses.charge(addr, now)
	return result{allowed: true}, nil
}

// store appends the deliveries to the log. It goes on when the sender hangs up: many senders never send again.
func (rc *Receiver) store(ctx context.Context, ep *Endpoint, st *state, deliveries []source.Delivery, at time.Time) (result, error) {
	if len(deliveries) == 0 {
		return result{}, nil
	}
	if len(deliveries) > maxEvents {
		return result{}, errTooMany
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rc.AppendTimeout)
	defer cancel()
	records := make([]event.Record, len(deliveries))
	for i := range deliveries {
		records[i] = record(ep, &deliveries[i], at)
	}
	appended, err := rc.Log.Append(ctx, records)
	if err != nil {
		return result{}, fmt.Errorf("appending to the log: %w", err)
	}
	if len(appended) != len(records) {
		return result{}, fmt.Errorf("appending to the log: %d answers for %d records", len(appended), len(records))
	}
	res := result{appended: appended, batch: ep.Batch || len(appended) > 1}
	again := duplicates(appended)
	st.countEvents(appended)
	if len(again) > 0 && ep.Type.Redelivers && rc.Revive != nil {
		if res.retried, err = rc.Revive(ctx, again); err != nil {
			return result{}, fmt.Errorf("reviving runs: %w", err)
		}
	}
	return res, nil
}

// record makes the log's record of a delivery.
func record(ep *Endpoint, d *source.Delivery, at time.Time) event.Record {
	e := &event.Event{
		Source: ep.Name, Type: text(d.Type), Subject: text(d.Subject), Time: d.Time, ReceivedAt: at,
		DeliveryID: text(d.DeliveryID), Headers: d.Headers, Body: d.Body,
	}
	if d.Key == "" {
		e.ID = event.RandomID()
	} else {
		e.ID = event.ID(ep.Name, d.Key)
	}
	if e.Time.IsZero() {
		e.Time = at
	}
	for name, value := range e.Headers {
		if !utf8.ValidString(value) {
			e.Headers[name] = text(value)
		}
	}
	return event.Record{Kind: event.KindEvent, SourceType: ep.Type.Name, Event: e}
}

// text returns s as UTF-8: headers may hold any bytes, and JSON only text.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// duplicates returns the ids that the log held before this request, each once.
func duplicates(appended []event.Appended) []string {
	if !slices.ContainsFunc(appended, func(a event.Appended) bool { return a.Duplicate }) {
		return nil
	}
	var ids []string
	seen := map[string]bool{}
	for _, a := range appended {
		if a.Duplicate && !seen[a.ID] {
			ids = append(ids, a.ID)
		}
		seen[a.ID] = true
	}
	return ids
}

// note tells the operator of a refusal. Refusals that anyone can cause are told a few at a time.
func (rc *Receiver) note(r *http.Request, st *state, ep *Endpoint, no *refusal) {
	level, cause := slog.LevelWarn, no.cause
	if no.status == http.StatusServiceUnavailable && cause != nil {
		level = slog.LevelError
	}
	unsaid, ok := st.mayLog(rc.Now())
	if !ok {
		return
	}
	attrs := []any{"source", st.name, "status", no.status, "from", rc.clientAddr(r).String(), "error", no.msg}
	if cause != nil {
		attrs = append(attrs, "cause", cause)
	}
	if unsaid > 0 {
		attrs = append(attrs, "unsaid", unsaid)
	}
	if ep == nil {
		level = slog.LevelDebug
	}
	rc.Logger.Log(r.Context(), level, "request refused", attrs...)
}

func (rc *Receiver) state(ep *Endpoint) *state {
	rc.mu.RLock()
	st := rc.states[ep.Name]
	rc.mu.RUnlock()
	if st != nil {
		return st
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if st = rc.states[ep.Name]; st == nil {
		st = rc.metrics.source(ep.Name)
		rc.states[ep.Name] = st
	}
	return st
}
