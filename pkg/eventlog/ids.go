package eventlog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// generations is how many parts the index of ids has; the oldest is forgotten whole.
const generations = 8

// ids knows where the first record of each id is, for a window of log time and a bounded number. An id takes about 40 bytes.
type ids struct {
	window time.Duration
	max    int

	mu      sync.Mutex
	parts   []idPart // oldest first
	covered uint64   // every record up to this segment is in the index
	unsaved []savedID
}

type idPart struct {
	since time.Time
	first map[key]uint64 // packed position
}

// key is an id's 128 bits.
type key [16]byte

// savedID is an id as it is stored; order is that of the log.
type savedID struct {
	key  key
	pos  uint64
	time time.Time
}

func newIDs(window time.Duration, maxIDs int) *ids { return &ids{window: window, max: maxIDs} }

func keyOf(id string) (k key) {
	if b, ok := event.ParseID(id); ok {
		return b
	}
	sum := sha256.Sum256([]byte(id))
	copy(k[:], sum[:])
	return k
}

func (k key) String() string { return event.FormatID(k) }

func pack(p event.Pos) uint64   { return p.Seq<<16 | uint64(p.Index) }
func unpack(n uint64) event.Pos { return event.Pos{Seq: n >> 16, Index: int(n & 0xffff)} }

func (s *ids) find(id string) (event.Pos, bool) {
	k := keyOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.parts) - 1; i >= 0; i-- {
		if p, ok := s.parts[i].first[k]; ok {
			return unpack(p), true
		}
	}
	return event.Pos{}, false
}

// add notes a record of an id; of several the first in the log counts.
func (s *ids) add(id string, pos event.Pos, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(savedID{keyOf(id), pack(pos), at})
}

func (s *ids) put(id savedID) {
	for i := range s.parts {
		if p, ok := s.parts[i].first[id.key]; ok {
			s.parts[i].first[id.key] = min(p, id.pos)
			return
		}
	}
	s.rotate(id.time)
	s.parts[len(s.parts)-1].first[id.key] = id.pos
}

// rotate begins a new part when the newest is full, and forgets the oldest.
func (s *ids) rotate(at time.Time) {
	if n := len(s.parts); n > 0 {
		newest := s.parts[n-1]
		if len(newest.first) < s.max/generations && at.Sub(newest.since) < s.window/(generations-1) {
			return
		}
	}
	s.parts = append(s.parts, idPart{since: at, first: map[key]uint64{}})
	if len(s.parts) > generations {
		s.parts = append(s.parts[:0:0], s.parts[1:]...)
	}
}

// prefixed returns the ids that begin with the text, at most two: enough to know whether it is unique.
func (s *ids) prefixed(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for _, part := range s.parts {
		for k := range part.first {
			if id := k.String(); strings.HasPrefix(id, prefix) {
				if found = append(found, id); len(found) == 2 {
					return found
				}
			}
		}
	}
	return found
}

// cover takes in a segment that was read in the log's order. It reports whether many ids wait to be saved.
func (s *ids) cover(seq uint64, records []savedID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq <= s.covered {
		return false
	}
	s.covered = seq
	for _, r := range records {
		s.put(r)
		s.unsaved = append(s.unsaved, r)
	}
	return len(s.unsaved) >= savedPerMessage
}

// oldest is when the oldest ids that are known came, to the second, as it is stored; ok says that older ones were forgotten.
func (s *ids) oldest() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.parts) < generations {
		return time.Time{}, false
	}
	at = s.parts[0].since
	for _, p := range s.parts {
		if p.since.Before(at) { // the clock was set back
			at = p.since
		}
	}
	return at.Truncate(time.Second), true
}

func (s *ids) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unsaved)
}

func (s *ids) coveredTo() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.covered
}

// Stored ids: a version byte, the last segment they cover, and of each id its bits, packed position and time in Unix seconds.
const (
	idVersion       = 1
	savedSize       = 16 + 8 + 8
	savedPerMessage = 16 << 10
	// idBytes is more than what an id takes on the disk when it has a message of its own.
	idBytes = 128
)

func encodeIDs(covered uint64, list []savedID) []byte {
	out := make([]byte, 0, 9+len(list)*savedSize)
	out = append(out, idVersion)
	out = binary.LittleEndian.AppendUint64(out, covered)
	for _, s := range list {
		out = append(out, s.key[:]...)
		out = binary.LittleEndian.AppendUint64(out, s.pos)
		out = binary.LittleEndian.AppendUint64(out, uint64(s.time.Unix()))
	}
	return out
}

func decodeIDs(data []byte) (covered uint64, list []savedID, err error) {
	if len(data) < 9 || (len(data)-9)%savedSize != 0 {
		return 0, nil, fmt.Errorf("stored ids: %w", errDamaged)
	}
	if data[0] > idVersion {
		return 0, nil, fmt.Errorf("stored ids have version %d, and this version of riposte reads up to %d: use the newer one", data[0], idVersion)
	}
	covered = binary.LittleEndian.Uint64(data[1:])
	for rest := data[9:]; len(rest) > 0; rest = rest[savedSize:] {
		s := savedID{pos: binary.LittleEndian.Uint64(rest[16:]), time: time.Unix(int64(binary.LittleEndian.Uint64(rest[24:])), 0)}
		copy(s.key[:], rest)
		list = append(list, s)
	}
	return covered, list, nil
}

// loadIDs reads the stored ids, and then the part of the log that they do not cover yet.
func (l *Log) loadIDs(ctx context.Context) error {
	_, err := l.scan(ctx, broker.IDStream, 1, func(_ uint64, data []byte) error {
		covered, list, err := decodeIDs(data)
		if err != nil {
			return err
		}
		for _, s := range list {
			l.ids.put(s)
		}
		l.ids.covered = max(l.ids.covered, covered)
		return nil
	})
	if err != nil {
		return err
	}
	return l.coverLog(ctx)
}

// coverLog reads what the log holds beyond the index when it is opened.
func (l *Log) coverLog(ctx context.Context) error {
	last, err := l.coverTo(ctx)
	l.ids.covered = min(l.ids.covered, last) // it is beyond the log that was restored from an earlier backup
	return err
}

// coverTo reads what the log holds beyond the index, and returns the log's last segment.
func (l *Log) coverTo(ctx context.Context) (last uint64, err error) {
	return l.scan(ctx, broker.EventStream, l.ids.coveredTo()+1, func(seq uint64, data []byte) error {
		if raws, err := openSegment(data); err == nil { // a damaged one is reported where it is followed
			l.coverSegment(seq, openAll(raws))
		}
		return nil
	})
}

// scan calls fn with what a stream holds now from a sequence on, and returns its last sequence. It reads ahead: a request
// for each message would make the start of a server slow.
func (l *Log) scan(ctx context.Context, name string, from uint64, fn func(seq uint64, data []byte) error) (last uint64, err error) {
	js := l.broker.JetStream()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 || from > state.LastSeq {
		return state.LastSeq, nil
	}
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(scanIdle, func() {
		cancel(fmt.Errorf("%w: stream %s gives nothing for %s", event.ErrLogUnavailable, name, scanIdle))
	})
	defer idle.Stop()
	err = broker.Read(reading, js, broker.From{Stream: name, Seq: from}, func(m broker.Message) error {
		idle.Reset(scanIdle)
		if err := fn(m.Seq, m.Data); err != nil {
			return err
		}
		if m.Seq >= state.LastSeq { // a server that lags behind has nothing more for now before that
			return errStop
		}
		return nil
	})
	switch {
	case errors.Is(err, errStop):
		return state.LastSeq, nil
	case reading.Err() != nil:
		return 0, context.Cause(reading)
	}
	return 0, err
}

// scanIdle is how long a scan waits for a message: what is to come may have been purged meanwhile.
const scanIdle = 30 * time.Second

// errStop ends a read in good order.
var errStop = errors.New("read far enough")

// coverSegment takes the ids of a segment into the index.
func (l *Log) coverSegment(seq uint64, records []opened) {
	if seq <= l.ids.coveredTo() {
		return
	}
	list := make([]savedID, 0, len(records))
	for i, o := range records {
		if o.err == nil && o.header.Kind == event.KindEvent {
			list = append(list, savedID{keyOf(o.header.ID), pack(event.Pos{Seq: seq, Index: i}), o.header.ReceivedAt})
		}
	}
	if l.ids.cover(seq, list) {
		l.sweepSoon()
	}
}

// saveIDs stores the ids that wait for it.
func (l *Log) saveIDs(ctx context.Context) error {
	for {
		l.ids.mu.Lock()
		n := min(len(l.ids.unsaved), savedPerMessage)
		list, covered := append([]savedID(nil), l.ids.unsaved[:n]...), l.ids.covered
		l.ids.mu.Unlock()
		if n == 0 {
			return nil
		}
		if n == savedPerMessage { // a segment may go on in the next message
			covered = list[n-1].pos>>16 - 1
		}
		if err := l.storeIDs(ctx, covered, list); err != nil {
			return fmt.Errorf("store ids: %w", err)
		}
		l.ids.mu.Lock()
		l.ids.unsaved = append(l.ids.unsaved[:0:0], l.ids.unsaved[n:]...)
		l.ids.mu.Unlock()
	}
}

// storeIDs writes a message with the ids of the segments up to covered, but for those that another replica has stored. A
// message stands for every segment between the one before it and its own: so when another replica was first, what
// is left is written after it, and never dropped.
func (l *Log) storeIDs(ctx context.Context, covered uint64, list []savedID) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		last, to, err := l.storedTo(ctx)
		if err != nil || to >= covered {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(list), func(s savedID) bool { return s.pos>>16 <= to })
		_, err = l.broker.JetStream().PublishMsg(ctx, &nats.Msg{Subject: broker.IDSubject, Data: encodeIDs(covered, rest)},
			jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
		if !broker.Refused(err) {
			return err
		}
	}
}

// storedTo returns the sequence of the newest message of stored ids, and the last segment that it covers.
func (l *Log) storedTo(ctx context.Context) (last, to uint64, err error) {
	stream, err := l.broker.JetStream().Stream(ctx, broker.IDStream)
	if err != nil {
		return 0, 0, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, broker.IDSubject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stream.CachedInfo().State.LastSeq, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	to, _, err = decodeIDs(msg.Data)
	return msg.Sequence, to, err
}

// purgeIDs removes the stored ids that the index has forgotten. The stream has no age of its own: a clock that leaps would
// make JetStream remove everything at once, and the index forgets by what comes after.
func (l *Log) purgeIDs(ctx context.Context) error {
	oldest, ok := l.ids.oldest()
	if !ok {
		return nil
	}
	stream, err := l.broker.JetStream().Stream(ctx, broker.IDStream)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	keep := state.FirstSeq
	for ; keep < state.LastSeq; keep++ { // the last one says what is covered, and stays
		msg, err := stream.GetMsg(ctx, keep)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		_, list, err := decodeIDs(msg.Data)
		if err != nil || slices.ContainsFunc(list, func(s savedID) bool { return !s.time.Before(oldest) }) {
			break
		}
	}
	if keep == state.FirstSeq {
		return nil
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(keep))
}
