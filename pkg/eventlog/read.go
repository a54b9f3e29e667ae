package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Follow calls fn with the records after the position, a segment at a time, then with new ones as they come, until ctx ends
// or fn fails. Records that were purged are passed over. It returns nil when ctx ended.
func (l *Log) Follow(ctx context.Context, after event.Pos, fn func([]event.Entry) error) error {
	// Reading begins where the index of ids ends, if that is earlier, so that duplicates are known by their place.
	from := min(max(after.Seq, 1), l.ids.coveredTo()+1)
	var failed error
	err := broker.Read(ctx, l.broker.JetStream(), broker.From{Stream: broker.EventStream, Subject: broker.EventSubject, Seq: from}, func(m broker.Message) error {
		failed = l.deliver(ctx, m.Seq, m.Data, after, fn)
		return failed
	})
	if failed == nil {
		err = fmt.Errorf("%w: follow the log: %w", event.ErrLogUnavailable, err)
	}
	return l.unlessDone(ctx, err)
}

// unlessDone returns the error, unless it came of the end of ctx, which is no failure.
func (l *Log) unlessDone(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (l *Log) deliver(ctx context.Context, seq uint64, data []byte, after event.Pos, fn func([]event.Entry) error) error {
	raws, err := openSegment(data)
	if errors.Is(err, errDamaged) {
		l.opts.Logger.Error("a segment of the event log is damaged and is passed over; restore from a backup what it held", "seq", seq)
		return nil
	}
	if err != nil {
		return err
	}
	records := openAll(raws)
	l.coverSegment(seq, records)
	entries := make([]event.Entry, 0, len(records))
	for i, r := range records {
		pos := event.Pos{Seq: seq, Index: i}
		if pos.Compare(after) <= 0 {
			continue
		}
		en, err := l.entry(ctx, pos, r)
		if errors.Is(err, event.ErrNotFound) || errors.Is(err, errDamaged) {
			l.opts.Logger.Error("a record of the event log can't be read and is passed over", "pos", pos.String(), "error", err)
			continue
		}
		if err != nil {
			return err
		}
		entries = append(entries, en)
	}
	if len(entries) == 0 {
		return nil
	}
	return fn(entries)
}

// minPrefix is the shortest beginning of an id that is looked up.
const minPrefix = 4

// Get reads an event by its id, or by a beginning of it that no other event shares. Errors wrap event.ErrNotFound.
func (l *Log) Get(ctx context.Context, id string) (event.Entry, error) {
	pos, err := l.find(id)
	if errors.Is(err, event.ErrNotFound) {
		if err := l.readOn(ctx); err != nil {
			return event.Entry{}, fmt.Errorf("event %s: %w: %w", id, event.ErrLogUnavailable, err)
		}
		pos, err = l.find(id)
	}
	if err != nil {
		return event.Entry{}, err
	}
	return l.at(ctx, id, pos)
}

// Read is Get for an event whose place is known, by its whole id. The index of ids may have forgotten it, since it is bounded
// by time and number whatever is needed, while the log has it.
func (l *Log) Read(ctx context.Context, id string, place event.Pos) (event.Entry, error) {
	if place == (event.Pos{}) {
		return l.Get(ctx, id)
	}
	en, err := l.at(ctx, id, place)
	if err == nil && en.Record.Event.ID != id || errors.Is(err, errDamaged) {
		return l.Get(ctx, id)
	}
	return en, err
}

// at reads the event at a place.
func (l *Log) at(ctx context.Context, id string, pos event.Pos) (event.Entry, error) {
	raws, err := l.segment(ctx, pos.Seq)
	if err != nil {
		return event.Entry{}, fmt.Errorf("event %s: %w", id, err)
	}
	if pos.Index >= len(raws) {
		return event.Entry{}, fmt.Errorf("event %s: %w", id, errDamaged)
	}
	en, err := l.entry(ctx, pos, openAll(raws[pos.Index : pos.Index+1])[0])
	if err == nil {
		en.Record.Event.Body = bytes.Clone(en.Record.Event.Body) // who keeps one event must not keep its whole segment
	}
	return en, err
}

// find looks up where an event is, as far as this replica has read the log.
func (l *Log) find(id string) (event.Pos, error) {
	pos, ok := l.ids.find(id)
	if !ok && len(id) < event.IDLen {
		full, err := l.expand(strings.ToUpper(id))
		if err != nil {
			return pos, err
		}
		pos, ok = l.ids.find(full)
	}
	if !ok {
		return pos, fmt.Errorf("event %s: %w", id, event.ErrNotFound)
	}
	return pos, nil
}

// readOn takes into the index what other replicas have added to the log and Follow has not come to yet: who takes their work
// over asks for events of theirs at once.
func (l *Log) readOn(ctx context.Context) error {
	l.reading.Lock()
	defer l.reading.Unlock()
	_, err := l.coverTo(ctx)
	return err
}

func (l *Log) expand(prefix string) (string, error) {
	if len(prefix) < minPrefix {
		return "", fmt.Errorf("event %s: %w: give at least %d characters of the id", prefix, event.ErrNotFound, minPrefix)
	}
	switch found := l.ids.prefixed(prefix); len(found) {
	case 0:
		return "", fmt.Errorf("event %s: %w", prefix, event.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("event %s: %w: several ids begin like this, give more of it", prefix, event.ErrNotFound)
}

// segment returns one segment's records, which are not to be changed.
func (l *Log) segment(ctx context.Context, seq uint64) ([]raw, error) {
	if raws := l.segments.find(seq); raws != nil {
		return raws, nil
	}
	raws, err := l.readSegment(ctx, seq)
	if err == nil {
		l.segments.keep(seq, raws)
	}
	return raws, err
}

// segments are those that were read of late, for as long as the garbage collector leaves them: after a restart thousands of
// runs ask for their events, of which many stand in one segment. Safe for concurrent use.
type segments struct {
	mu   sync.Mutex
	kept map[uint64]weak.Pointer[[]raw]
}

// maxSegments is how many segments are known at once.
const maxSegments = 32

func (s *segments) find(seq uint64) []raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	if raws := s.kept[seq].Value(); raws != nil {
		return *raws
	}
	return nil
}

func (s *segments) keep(seq uint64, raws []raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= maxSegments {
		s.kept = map[uint64]weak.Pointer[[]raw]{}
	}
	s.kept[seq] = weak.Make(&raws)
}

func (l *Log) readSegment(ctx context.Context, seq uint64) ([]raw, error) {
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	msg, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		if last := stream.CachedInfo().State.LastSeq; seq > last {
			return nil, fmt.Errorf("%w: segment %d is stored, and the server has only come to %d", event.ErrLogUnavailable, seq, last)
		}
		return nil, fmt.Errorf("%w: its body was purged", event.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	return openSegment(msg.Data)
}

// Query selects events; zero fields select all.
type Query struct {
	Source, Type string
	Since        time.Time
	Limit        int    // at most so many; default 50
	Cursor       string // as List returned it
}

const (
	// maxScan bounds the segments that one page reads.
	maxScan = 512
	// maxPage bounds the bodies that a page holds, by what they take before its last event.
	maxPage = 32 << 20
)

// List returns events, newest first, and a cursor if there may be more. A page can be short of the limit, even empty, and
// still have a cursor, because the work for each page is bounded.
func (l *Log) List(ctx context.Context, q Query) ([]event.Entry, string, error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	state := stream.CachedInfo().State
	before, err := parseCursor(q.Cursor, state.LastSeq)
	if err != nil {
		return nil, "", err
	}
	var out []event.Entry
	scanned, size := 0, 0
	for seq := before.Seq; seq >= max(state.FirstSeq, 1) && state.Msgs > 0; seq-- {
		if scanned++; scanned > maxScan {
			return out, event.Pos{Seq: seq, Index: maxRecords}.String(), nil
		}
		raws, err := l.segment(ctx, seq)
		if errors.Is(err, event.ErrNotFound) || errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		for i := min(len(raws), before.Index) - 1; i >= 0; i-- {
			en, older, err := l.selected(ctx, event.Pos{Seq: seq, Index: i}, openAll(raws[i : i+1])[0], q)
			if err != nil {
				return nil, "", err
			}
			if older {
				return out, "", nil
			}
			if en == nil {
				continue
			}
			size += len(en.Record.Event.Body)
			if out = append(out, *en); len(out) == q.Limit || size >= maxPage {
				return out, en.Pos.String(), nil
			}
		}
		before.Index = maxRecords
	}
	return out, "", nil
}

// selected returns the record if the query wants it; older says that it and all before it are too old.
func (l *Log) selected(ctx context.Context, pos event.Pos, r opened, q Query) (en *event.Entry, older bool, err error) {
	h := r.header
	switch {
	case r.err != nil:
		return nil, false, nil //nolint:nilerr // a damaged record is no event
	case !q.Since.IsZero() && h.ReceivedAt.Before(q.Since):
		return nil, true, nil
	case h.Kind != event.KindEvent, q.Source != "" && h.Source != q.Source, q.Type != "" && h.Type != q.Type:
		return nil, false, nil
	}
	got, err := l.entry(ctx, pos, r)
	if errors.Is(err, event.ErrNotFound) || errors.Is(err, errDamaged) || got.Duplicate {
		return nil, false, nil
	}
	return &got, false, err
}

func parseCursor(text string, last uint64) (event.Pos, error) {
	if text == "" {
		return event.Pos{Seq: last, Index: maxRecords}, nil
	}
	a, b, _ := strings.Cut(text, ".")
	seq, err := strconv.ParseUint(a, 10, 48)
	index, err2 := strconv.ParseUint(b, 10, 16)
	if err != nil || err2 != nil {
		return event.Pos{}, fmt.Errorf("cursor %q: %w: use the cursor of a list as it is", text, event.ErrNotFound)
	}
	return event.Pos{Seq: min(seq, last), Index: int(index)}, nil
}

// PutRevision stores a set of rules under its digest.
func (l *Log) PutRevision(ctx context.Context, digest string, data []byte) error {
	store, err := l.broker.JetStream().ObjectStore(ctx, broker.RuleBucket)
	if err != nil {
		return fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	_, err = store.PutBytes(ctx, digest, data)
	l.keeper.mu.Lock()
	l.keeper.revisions = true
	l.keeper.mu.Unlock()
	return err
}

// Revision reads a set of rules by its digest.
func (l *Log) Revision(ctx context.Context, digest string) ([]byte, error) {
	data, err := broker.ReadObject(ctx, l.broker.JetStream(), broker.RuleBucket, digest)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("revision %.12s: %w", digest, event.ErrNotFound)
	}
	return data, err
}
