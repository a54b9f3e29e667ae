package gate

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// A stored state is
//
//	"rgate" version frame… end
//	frame = uvarint(length) crc32c payload      the checksum goes on from that of the frame before
//	end   = a frame of length 0
//
// The first frame is the head, the others hold records. Times are nanoseconds since 1970.
const (
	magic         = "rgate"
	formatVersion = 1

	recordTicket  = 1
	recordWindow  = 2
	recordMemory  = 3
	recordBreaker = 4
	recordFull    = 5 // the name of a group whose queue is full

	frameBytes = 32 << 10 // a frame is closed once it is longer
	// and is never longer than sealed.MaxFrame: one record more

	maxMessage = 4 << 10
)

// Flags of a ticket.
const (
	flagHeals = 1 << iota
	flagAdmitted
	flagTrial
	flagStopping
)

// Snapshot writes the whole state, in frames of some 32 KiB. The same state is always written as the same bytes.
func (g *Gate) Snapshot(w io.Writer) error {
	s := &sealer{w: w, table: crc32.MakeTable(crc32.Castagnoli)}
	s.write(append([]byte(magic), formatVersion))
	s.head(g)
	for _, t := range slices.SortedFunc(maps.Values(g.runs), func(a, b *ticket) int { return cmp.Compare(a.seq, b.seq) }) {
		s.ticket(t)
	}
	for _, key := range slices.Sorted(maps.Keys(g.limits.keys)) {
		s.window(g.limits.keys[key])
	}
	for _, m := range slices.Concat(g.past.refused, g.past.ended) {
		s.memory(m)
	}
	for _, rule := range slices.Sorted(maps.Keys(g.breaker)) {
		s.breaker(rule, g.breaker[rule])
	}
	for _, name := range slices.Sorted(maps.Keys(g.groups)) {
		if g.groups[name].full {
			s.buf = append(s.buf, recordFull)
			s.text(name)
			s.close()
		}
	}
	if len(s.buf) > 0 {
		s.flush()
	}
	s.flush() // an empty frame is the end
	return s.err
}

// sealer writes frames.
type sealer struct {
	w     io.Writer
	buf   []byte // payload of the frame that is being filled
	sum   uint32
	table *crc32.Table
	err   error
}

func (s *sealer) head(g *Gate) {
	s.int(g.clock)
	s.uint(g.seq)
	s.int(g.swept)
	s.bool(g.limits.crowded)
	s.bool(g.storm.on)
	s.bool(g.storm.told)
	s.times(g.storm.asks)
	s.flush()
}

func (s *sealer) ticket(t *ticket) {
	s.buf = append(s.buf, recordTicket)
	s.text(t.run)
	s.int(int64(t.attempt))
	s.uint(t.seq)
	s.text(t.rule.Value())
	s.bool(t.group != nil)
	if t.group != nil {
		s.text(t.group.name)
	}
	flags := flag(t.heals, flagHeals) | flag(t.admitted, flagAdmitted) | flag(t.trial, flagTrial) | flag(t.stopping, flagStopping)
	s.buf = append(s.buf, byte(t.policy), byte(t.told), flags)
	s.uint(uint64(len(t.limits)))
	for i := range t.limits {
		s.limit(&t.limits[i])
	}
	s.locks(t.locks)
	s.close()
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func (s *sealer) locks(l *held) {
	if l == nil {
		l = &held{}
	}
	s.uint(uint64(len(l.targets)))
	for _, x := range l.targets {
		s.text(x.name)
	}
	s.uint(uint64(len(l.waits)))
	for _, w := range l.waits {
		s.text(w.target.name)
		s.uint(w.seq)
		s.bool(w.limit != nil)
		if w.limit != nil {
			s.limit(w.limit)
		}
	}
}

func (s *sealer) limit(l *limit) {
	s.text(l.key.Value())
	s.uint(uint64(l.runs))
	s.int(l.per)
}

func (s *sealer) window(w *window) {
	s.buf = append(s.buf, recordWindow)
	s.text(w.key)
	s.times(w.times)
	s.uint(uint64(w.most))
	s.int(w.keep)
	s.bool(w.told)
	if w.told {
		s.int(w.toldAt)
		s.text(w.toldRun)
		s.int(int64(w.toldTry))
	}
	s.close()
}

func (s *sealer) memory(m *memory) {
	a := &m.answer
	s.buf = append(s.buf, recordMemory)
	s.text(a.Run)
	s.int(int64(a.Attempt))
	s.uint(m.seq)
	s.int(m.at)
	s.buf = append(s.buf, byte(m.told))
	s.bool(m.ended())
	if !m.ended() {
		s.text(string(a.Verdict))
		s.text(a.Reason)
		s.text(a.Message)
		s.text(a.Key)
		s.bool(a.First)
		s.text(a.Behind)
	}
	s.close()
}

func (s *sealer) breaker(rule string, b *breaker) {
	s.buf = append(s.buf, recordBreaker)
	s.text(rule)
	s.bool(b.open)
	s.bool(b.told)
	s.int(b.until)
	s.uint(uint64(len(b.ends)))
	for _, r := range b.ends {
		s.int(r.at)
		s.bool(r.ok)
	}
	s.close()
}

func (s *sealer) uint(n uint64) { s.buf = binary.AppendUvarint(s.buf, n) }
func (s *sealer) int(n int64)   { s.buf = binary.AppendVarint(s.buf, n) }

func (s *sealer) text(t string) {
	s.uint(uint64(len(t)))
	s.buf = append(s.buf, t...)
}

func (s *sealer) bool(b bool) {
	s.buf = append(s.buf, flag(b, 1))
}

// times writes each as the distance from the one before, the first from zero.
func (s *sealer) times(list []int64) {
	s.uint(uint64(len(list)))
	before := int64(0)
	for _, t := range list {
		s.int(t - before)
		before = t
	}
}

// close ends a record.
func (s *sealer) close() {
	if len(s.buf) > frameBytes {
		s.flush()
	}
}

func (s *sealer) flush() {
	s.sum = crc32.Update(s.sum, s.table, s.buf)
	s.write(binary.AppendUvarint(nil, uint64(len(s.buf))), binary.LittleEndian.AppendUint32(nil, s.sum), s.buf)
	s.buf = s.buf[:0]
}

func (s *sealer) write(parts ...[]byte) {
	for _, p := range parts {
		if s.err == nil && len(p) > 0 {
			_, s.err = s.w.Write(p)
		}
	}
}
