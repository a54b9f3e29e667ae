package eventlog

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// A segment is a version byte, records, and the CRC-32C of all before it. A record is two lengths as uvarints, its header
// as JSON, and its body as it came.
const (
	segmentVersion  = 1
	segmentOverhead = 1 + crc32.Size
	// maxRecords bounds the records of a segment, so that an index fits into 16 bits.
	maxRecords = 1<<16 - 1
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by the library

// encode writes a record; a large body goes to the object store first.
func (l *Log) encode(ctx context.Context, r *event.Record) ([]byte, error) {
	e := r.Event
	h := header{
		Kind: r.Kind, ID: e.ID, Source: e.Source, SourceType: r.SourceType, Type: e.Type, Subject: e.Subject, DeliveryID: e.DeliveryID,
		Time: e.Time, ReceivedAt: e.ReceivedAt, Headers: e.Headers, CausedBy: e.CausedBy,
	}
	body := e.Body
	if len(body) > l.opts.LargeBody {
		if int64(len(body)) > l.shares.bodies/2 {
			return nil, fmt.Errorf("%w: a body of %d bytes is more than half of the %d that are kept for large ones: raise eventLog.maxBytes, or lower limits.maxBodyBytes", event.ErrLogFull, len(body), l.shares.bodies)
		}
		sum := sha256.Sum256(body)
		h.Digest, h.Length = hex.EncodeToString(sum[:]), len(body)
		h.Object = e.ID + "." + rand.Text()
		if err := l.putBody(ctx, h.Object, body); err != nil {
			return nil, err
		}
		body = nil
	}
	text := h.appendTo(make([]byte, 0, 512)) // stays on the stack where it fits
	if len(text) > maxSegment/2 {
		return nil, fmt.Errorf("event %s: its headers and names take %d bytes, more than the %d that fit", e.ID, len(text), maxSegment/2)
	}
	out := l.buffers.get(2*binary.MaxVarintLen32 + len(text) + len(body))
	out = binary.AppendUvarint(out, uint64(len(text)))
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(append(out, text...), body...), nil
}

// buffers keeps the memory of records that were written for those to come.
type buffers struct{ pool sync.Pool }

// maxBuffer is the largest buffer that is kept.
const maxBuffer = 32 << 10

// get returns an empty buffer with room for n bytes.
func (b *buffers) get(n int) []byte {
	if n > maxBuffer {
		return make([]byte, 0, n)
	}
	if kept, ok := b.pool.Get().(*[]byte); ok && cap(*kept) >= n {
		return (*kept)[:0]
	}
	return make([]byte, 0, max(n, 4<<10))
}

func (b *buffers) put(buf []byte) {
	if cap(buf) <= maxBuffer {
		b.pool.Put(&buf)
	}
}

// sealSegment appends a segment of the records to out.
func sealSegment(out []byte, records []*pending) []byte {
	out = append(out, segmentVersion)
	for _, p := range records {
		out = append(out, p.data...)
	}
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli()))
}

// errDamaged says that a segment is not what was written.
var errDamaged = errors.New("segment is damaged")

// raw is a record of a segment, its parts not yet read.
type raw struct{ header, body []byte }

// openSegment splits a segment into its records. The parts share its memory.
func openSegment(data []byte) ([]raw, error) {
	if len(data) < segmentOverhead {
		return nil, errDamaged
	}
	end := len(data) - crc32.Size // in every version
	if crc32.Checksum(data[:end], castagnoli()) != binary.LittleEndian.Uint32(data[end:]) {
		return nil, errDamaged
	}
	if data[0] > segmentVersion {
		return nil, fmt.Errorf("segment has version %d, and this version of riposte reads up to %d: use the newer one", data[0], segmentVersion)
	}
	var out []raw
	for rest := data[1:end]; len(rest) > 0; {
		h, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, errDamaged
		}
		rest = rest[n:]
		b, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, errDamaged
		}
		rest = rest[n:]
		if h > uint64(len(rest)) || b > uint64(len(rest))-h {
			return nil, errDamaged
		}
		out = append(out, raw{rest[:h:h], rest[h : h+b : h+b]})
		rest = rest[h+b:]
	}
	return out, nil
}

func (r raw) open() (header, event.Record, error) {
	h, err := parseHeader(r.header)
	if err != nil {
		return h, event.Record{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	e := &event.Event{
		ID: h.ID, Source: h.Source, Type: h.Type, Subject: h.Subject, DeliveryID: h.DeliveryID, Time: h.Time, ReceivedAt: h.ReceivedAt,
		Headers: h.Headers, CausedBy: h.CausedBy,
	}
	if len(r.body) > 0 {
		e.Body = r.body
	}
	return h, event.Record{Kind: h.Kind, SourceType: h.SourceType, Event: e}, nil
}

// opened is a record of a segment whose header was read, or could not be.
type opened struct {
	header header
	record event.Record
	err    error
}

func openAll(raws []raw) []opened {
	out := make([]opened, len(raws))
	for i, r := range raws {
		out[i].header, out[i].record, out[i].err = r.open()
	}
	return out
}

// entry reads a record whole, its body from the object store where that has it.
func (l *Log) entry(ctx context.Context, pos event.Pos, o opened) (event.Entry, error) {
	h, record := o.header, o.record
	if o.err != nil {
		return event.Entry{}, fmt.Errorf("record %s: %w", pos, o.err)
	}
	first, ok := l.ids.find(h.ID)
	duplicate := h.Kind == event.KindEvent && ok && first.Compare(pos) < 0
	if h.Digest != "" && !duplicate { // a repeat is never decided, and its body can go with that of the first
		var err error
		if record.Event.Body, err = l.getBody(ctx, h); err != nil {
			return event.Entry{}, err
		}
	}
	return event.Entry{Pos: pos, Record: record, Duplicate: duplicate}, nil
}

// bodyName is where a record's body is. Each record has one of its own: while a repeat replaced an object, who read it for
// the first record would find it damaged.
func bodyName(h header) string {
	if h.Object == "" { // as it was written at first
		return h.ID + "." + h.Digest
	}
	return h.Object
}

func (l *Log) putBody(ctx context.Context, name string, body []byte) error {
	store, err := l.broker.JetStream().ObjectStore(ctx, broker.BodyBucket)
	if err == nil {
		_, err = store.Put(ctx, jetstream.ObjectMeta{Name: name}, bytes.NewReader(body))
	}
	switch {
	case err == nil:
		return nil
	case broker.Full(err):
		l.sweepSoon()
		return fmt.Errorf("%w: store the body: %w", event.ErrLogFull, err)
	}
	return fmt.Errorf("%w: store the body: %w", event.ErrLogUnavailable, err)
}

func (l *Log) getBody(ctx context.Context, h header) ([]byte, error) {
	body, err := broker.ReadObject(ctx, l.broker.JetStream(), broker.BodyBucket, bodyName(h))
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, fmt.Errorf("body of event %s: %w", h.ID, event.ErrNotFound)
	case errors.Is(err, jetstream.ErrDigestMismatch):
		return nil, fmt.Errorf("body of event %s: %w", h.ID, errDamaged)
	case err != nil:
		return nil, fmt.Errorf("%w: read the body of event %s: %w", event.ErrLogUnavailable, h.ID, err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != h.Digest {
		return nil, fmt.Errorf("body of event %s: %w", h.ID, errDamaged)
	}
	return body, nil
}
