package eventlog

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
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
	if len(id) == event.IDLen {
		if b, err := base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding).DecodeString(id); err == nil {
			copy(k[:], b)
			return k
		}
	}
	sum := sha256.Sum256([]byte(id))
	copy(k[:], sum[:])
	return k
}

func (k key) String() string {
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding).EncodeToString(k[:])
}

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
	stream, err := l.broker.JetStream().Stream(ctx, broker.IDStream)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		covered, list, err := decodeIDs(msg.Data)
		if err != nil {
			return err
		}
		for _, s := range list {
			l.ids.put(s)
		}
		l.ids.covered = max(l.ids.covered, covered)
	}
	return l.coverLog(ctx)
}

// coverLog reads what the log holds beyond the index.
func (l *Log) coverLog(ctx context.Context) error {
	stream, err := l.broker.JetStream().Stream(ctx, broker.EventStream)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	if state.LastSeq < l.ids.covered { // restored from a backup that was taken earlier
		l.ids.covered = state.LastSeq
	}
	for seq := max(state.FirstSeq, l.ids.covered+1); seq <= state.LastSeq && state.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if raws, err := openSegment(msg.Data); err == nil { // a damaged one is reported where it is followed
			l.coverSegment(seq, openAll(raws))
		}
	}
	return nil
}

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
		l.poker()()
	}
}

// saveIDs stores the ids that wait for it. Another replica may have stored the same; then they are dropped here.
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

func (l *Log) storeIDs(ctx context.Context, covered uint64, list []savedID) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	js := l.broker.JetStream()
	stream, err := js.Stream(ctx, broker.IDStream)
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if msg, err := stream.GetLastMsgForSubject(ctx, broker.IDSubject); err == nil {
		if to, _, err := decodeIDs(msg.Data); err == nil && to >= covered {
			return nil
		}
	}
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: broker.IDSubject, Data: encodeIDs(covered, list)}, jetstream.WithExpectLastSequence(last))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil // another replica was first; what it did not cover is read again at the next start
	}
	return err
}
