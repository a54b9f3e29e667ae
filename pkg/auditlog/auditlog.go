// Package auditlog keeps the audit log: what people ordered, and what was refused them, in a stream that only grows until
// it is old; what the server decided on its own is read from the run journals, where it stands already.
//
// An entry is durable when Audit returns without an error, and redacted. The stream refuses that anything in it is deleted; what
// is older than MaxAge goes, and the oldest where MaxBytes are used. A List is in the order of time as far as clocks of
// replicas agree. A Log is safe for concurrent use.
package auditlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	defaultMaxAge   = 90 * 24 * time.Hour
	defaultMaxBytes = 256 << 20
	minMaxBytes     = 1 << 20

	answerTimeout = 2 * time.Second
	// maxText bounds each text of an entry.
	maxText = 4 << 10
	// scanned is how many messages of the journals one List reads at most.
	scanned = 5000
)

// Broker is what the log needs of the connection to JetStream.
type Broker interface {
	// JetStream returns the context to use now; it changes when an embedded server is restarted.
	JetStream() jetstream.JetStream
	// Replicas is how many servers keep each message.
	Replicas() int
}

// Journals are the run journals, in the order they were written.
type Journals interface {
	// Since returns the sequence of the first message that was written at the time or later.
	Since(ctx context.Context, t time.Time) (uint64, error)
	// Scan calls fn with the entries of messages from a sequence on until fn returns false, and reports whether that was
	// the end of what there is.
	Scan(ctx context.Context, from uint64, fn func(seq uint64, entries []run.Entry) bool) (end bool, err error)
}

// Options configure a Log.
type Options struct {
	Redact   func(string) string
	Journals Journals      // nil: only what people ordered is listed
	MaxAge   time.Duration // default 90 days
	MaxBytes int64         // default 256 MiB, at least 1 MiB
	Logger   *slog.Logger
}

func (o *Options) withDefaults() error {
	if o.MaxAge == 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	switch {
	case o.Redact == nil:
		return errors.New("auditlog: option Redact is required")
	case o.MaxAge < 0:
		return fmt.Errorf("auditlog: option MaxAge is %s: use a positive duration", o.MaxAge)
	case o.MaxBytes < minMaxBytes:
		return fmt.Errorf("auditlog: option MaxBytes is %d: use %d or more", o.MaxBytes, minMaxBytes)
	case o.Logger == nil:
		return errors.New("auditlog: option Logger is required")
	}
	return nil
}

// Log is the audit log.
type Log struct {
	broker Broker
	opts   Options
}

var _ audit.Writer = (*Log)(nil)

// Open creates the stream on its first use.
func Open(ctx context.Context, b Broker, o Options) (*Log, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	_, err := b.JetStream().CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        broker.AuditStream,
		Description: "Riposte: what people ordered and were refused; nothing in it can be deleted",
		Subjects:    []string{broker.AuditSubject},
		Storage:     jetstream.FileStorage,
		Replicas:    b.Replicas(),
		MaxAge:      o.MaxAge,
		MaxBytes:    o.MaxBytes,
		Discard:     jetstream.DiscardOld, // a full log must not keep anyone from stopping a run
		DenyDelete:  true,
		DenyPurge:   true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the audit log (stream %s): %w", broker.AuditStream, err)
	}
	return &Log{b, o}, nil
}

// record is an entry as it is stored.
type record struct {
	At     time.Time         `json:"time"`
	Who    string            `json:"who"`
	From   string            `json:"from,omitempty"`
	Action string            `json:"action"`
	Target string            `json:"target,omitempty"`
	Result string            `json:"result"`
	Reason string            `json:"reason,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Audit writes an entry, redacted; a zero At is now. An error wraps event.ErrLogUnavailable: it is not known to be written.
func (l *Log) Audit(ctx context.Context, e audit.Entry) error {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	r := record{e.At.UTC(), l.text(e.Who), l.text(e.From), l.text(e.Action), l.text(e.Target), l.text(e.Result), l.text(e.Reason), nil}
	for key, value := range e.Detail {
		if r.Detail == nil {
			r.Detail = map[string]string{}
		}
		r.Detail[l.text(key)] = l.text(value)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := l.broker.JetStream().Publish(ctx, broker.AuditSubject, data, jetstream.WithExpectStream(broker.AuditStream)); err != nil {
		return fmt.Errorf("%w: write to the audit log: %w", event.ErrLogUnavailable, err)
	}
	return nil
}

func (l *Log) text(s string) string {
	if s = l.opts.Redact(s); len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return s
}

// Query selects entries, oldest first.
type Query struct {
	Since  time.Time // zero: from the oldest on
	Limit  int
	Cursor string // what the page before returned as next; Since should be the same
}

// ErrCursor says that a cursor is not one that List returned.
var ErrCursor = errors.New("not a cursor of the audit log")

// position is where a page begins: the next messages of both streams, and how many entries of the journal's are done.
type position struct {
	orders, journal uint64
	done            int
}

// List returns a page of entries and the cursor of the next one, or "" at the end. A page can be short, even empty, and not
// be the last: most of the journals is of no interest here. Errors wrap ErrCursor or event.ErrLogUnavailable.
func (l *Log) List(ctx context.Context, q Query) (entries []audit.Entry, next string, err error) {
	at, err := l.begin(ctx, q)
	if err != nil {
		return nil, "", err
	}
	orders, err := l.orders(ctx, at, q)
	if err != nil {
		return nil, "", err
	}
	decisions := &feed{end: true, rest: at}
	if l.opts.Journals != nil {
		if decisions, err = l.decisions(ctx, at, q); err != nil {
			return nil, "", err
		}
	}
	for len(entries) < q.Limit {
		from := earlier(orders, decisions)
		if from == nil {
			break
		}
		entries = append(entries, from.items[0].Entry)
		from.items = from.items[1:]
	}
	if orders.over() && decisions.over() {
		return entries, "", nil
	}
	at.orders = orders.position().orders
	at.journal, at.done = decisions.position().journal, decisions.position().done
	return entries, fmt.Sprintf("%d.%d.%d", at.orders, at.journal, at.done), nil
}

// begin finds where a page begins.
func (l *Log) begin(ctx context.Context, q Query) (at position, err error) {
	if q.Cursor != "" {
		if _, err := fmt.Sscanf(q.Cursor, "%d.%d.%d", &at.orders, &at.journal, &at.done); err != nil {
			return at, fmt.Errorf("%q: %w", q.Cursor, ErrCursor)
		}
		return at, nil
	}
	if q.Since.IsZero() {
		return position{1, 1, 0}, nil
	}
	stream, err := l.stream(ctx)
	if err != nil {
		return at, err
	}
	if at.orders, err = broker.FirstSince(ctx, stream, broker.AuditSubject, q.Since); err == nil && l.opts.Journals != nil {
		at.journal, err = l.opts.Journals.Since(ctx, q.Since)
	}
	if err != nil {
		return at, fmt.Errorf("%w: read the audit log: %w", event.ErrLogUnavailable, err)
	}
	return at, nil
}

func (l *Log) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, err := l.broker.JetStream().Stream(ctx, broker.AuditStream)
	if err != nil {
		return nil, fmt.Errorf("%w: read the audit log: %w", event.ErrLogUnavailable, err)
	}
	return stream, nil
}

// feed is what one of the two streams adds to a page.
type feed struct {
	items []item
	end   bool      // the stream has no more than items
	until time.Time // of the last message that was read
	rest  position  // after items
}

type item struct {
	audit.Entry
	at position
}

// over reports whether the feed has nothing more, now or on a later page.
func (f *feed) over() bool { return f.end && len(f.items) == 0 }

// position is where the feed goes on.
func (f *feed) position() position {
	if len(f.items) > 0 {
		return f.items[0].at
	}
	return f.rest
}

// earlier returns the feed whose next entry comes first, or nil where that can't be told yet or there is none.
func earlier(a, b *feed) *feed {
	switch {
	case len(a.items) == 0 && len(b.items) == 0:
		return nil
	case len(a.items) == 0 && (a.end || b.items[0].At.Before(a.until)):
		return b
	case len(b.items) == 0 && (b.end || a.items[0].At.Before(b.until)):
		return a
	case len(a.items) == 0 || len(b.items) == 0:
		return nil
	case b.items[0].At.Before(a.items[0].At):
		return b
	}
	return a
}

// orders reads what people ordered.
func (l *Log) orders(ctx context.Context, at position, q Query) (*feed, error) {
	f := &feed{rest: at}
	stream, err := l.stream(ctx)
	if err != nil {
		return nil, err
	}
	for len(f.items) < q.Limit {
		msg, err := stream.GetMsg(ctx, max(f.rest.orders, 1), jetstream.WithGetMsgSubject(broker.AuditSubject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			f.end = true
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: read the audit log: %w", event.ErrLogUnavailable, err)
		}
		here := f.rest
		here.orders = msg.Sequence
		f.rest.orders, f.until = msg.Sequence+1, msg.Time
		var r record
		if err := json.Unmarshal(msg.Data, &r); err != nil {
			return nil, fmt.Errorf("read the audit log: sequence %d: %w", msg.Sequence, err)
		}
		if !r.At.Before(q.Since) {
			f.items = append(f.items, item{audit.Entry(r), here})
		}
	}
	return f, nil
}

// decisions reads what the server decided.
func (l *Log) decisions(ctx context.Context, at position, q Query) (*feed, error) {
	f := &feed{rest: at}
	messages := 0
	end, err := l.opts.Journals.Scan(ctx, at.journal, func(seq uint64, entries []run.Entry) bool {
		n := 0
		for _, e := range entries {
			f.until = e.At
			for _, d := range audit.Decisions(e) {
				n++
				if seq == at.journal && n <= at.done || d.At.Before(q.Since) {
					continue
				}
				d.Detail = maps.Clone(d.Detail)
				f.items = append(f.items, item{d, position{journal: seq, done: n - 1}})
			}
		}
		f.rest.journal, f.rest.done = seq+1, 0
		messages++
		return messages < scanned && len(f.items) < q.Limit
	})
	if err != nil {
		return nil, fmt.Errorf("read the journals for the audit log: %w", err)
	}
	f.end = end
	return f, nil
}
