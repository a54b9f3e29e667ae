package correlate

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// A stored state is a sequence of sections: a snapshot, and any number of deltas, each following the one before.
//
//	section = "rcorr" version kind frame… end
//	frame   = uvarint(length) crc32c payload      the checksum goes on from that of the frame before
//	end     = a frame of length 0
//
// The first frame is the head (see head), the others hold records: a group, or the key of one that is gone.
const (
	magic         = "rcorr"
	formatVersion = 1
	kindSnapshot  = 'S'
	kindDelta     = 'D'

	recordGroup   = 1
	recordRemoved = 2

	frameBytes = 32 << 10 // a frame is closed once it is longer
	// and is never longer than sealed.MaxFrame: one record more, at MaxCount events

	// minWhole is a size below which Checkpoint does not care how often it writes everything.
	minWhole = 64 << 10
)

// journal is what a machine knows of its stored state.
type journal struct {
	generation uint32 // counts snapshots and deltas; what changed in this one is not stored yet
	removed    []string
	sum        uint32 // the last section's checksum, which the next delta names
	stored     bool   // there was a snapshot
	whole      int64  // bytes of the last snapshot,
	since      int64  // and of the deltas after it
}

// Snapshot writes the whole state.
func (m *Machine) Snapshot(w io.Writer) error {
	s := m.section(w, kindSnapshot)
	for i := m.groups.recent.head; i != none; i = m.groups.at(i).recent.next {
		s.group(m, m.groups.at(i))
	}
	if err := s.end(); err != nil {
		return err
	}
	m.whole, m.since, m.stored = s.written, 0, true
	m.settle(s.sum)
	return nil
}

// Delta writes what has changed since the last Snapshot or Delta. There must have been a Snapshot, or a Restore.
func (m *Machine) Delta(w io.Writer) error {
	s := m.section(w, kindDelta)
	for _, key := range m.removed {
		s.buf = append(s.buf, recordRemoved)
		s.text(key)
		s.closeFrame()
	}
	// Whatever was matched is at the recent end.
	first := none
	for i := m.groups.recent.tail; i != none && m.groups.at(i).changed == m.generation; i = m.groups.at(i).recent.prev {
		first = i
	}
	for i := first; i != none; i = m.groups.at(i).recent.next {
		s.group(m, m.groups.at(i))
	}
	if err := s.end(); err != nil {
		return err
	}
	m.since += s.written
	m.settle(s.sum)
	return nil
}

// Checkpoint writes a Delta, or a Snapshot where there was none or the deltas since are longer than it was. It reports
// whether what it wrote is whole, and so takes the place of all before it.
func (m *Machine) Checkpoint(w io.Writer) (whole bool, err error) {
	if !m.stored || m.since > max(m.whole, minWhole) {
		return true, m.Snapshot(w)
	}
	return false, m.Delta(w)
}

func (m *Machine) settle(sum uint32) {
	m.sum = sum
	m.generation++
	m.removed = nil
}

// section begins one and writes its head.
func (m *Machine) section(w io.Writer, kind byte) *sealer {
	s := &sealer{w: w, table: crc32.MakeTable(crc32.Castagnoli), clock: m.clock, seq: m.last.Seq}
	s.write(append([]byte(magic), formatVersion, kind))
	s.buf = binary.LittleEndian.AppendUint32(s.buf, m.sum)
	s.text(m.spec.meaning())
	s.int(m.clock)
	s.uint(m.last.Seq)
	s.uint(uint64(m.last.Index))
	s.uint(m.evicted)
	s.uint(uint64(len(m.groups.byKey)))
	s.flush()
	return s
}

// sealer writes frames.
type sealer struct {
	w       io.Writer
	buf     []byte // payload of the frame that is being filled
	sum     uint32
	table   *crc32.Table
	written int64
	err     error
	// Times and positions are near these, so that their differences are short.
	clock int64
	seq   uint64
}

func (s *sealer) group(m *Machine, g *group) {
	s.buf = append(s.buf, recordGroup)
	s.text(g.key)
	s.int(s.clock - g.deadline)
	if m.spec.Kind == Flapping {
		s.text(g.state)
		s.bool(g.quiet)
	}
	s.uint(uint64(g.rest))
	s.uint(uint64(len(g.refs)))
	for i := range g.refs {
		s.ref(&g.refs[i])
	}
	s.closeFrame()
}

func (s *sealer) ref(r *ref) {
	s.buf = append(s.buf, r.form)
	if r.none() {
		return
	}
	n := idBytes
	if r.form != formPacked {
		n = int(r.form - formText)
	}
	s.buf = append(s.buf, r.id[:n]...)
	s.buf = append(s.buf, r.part)
	s.int(int64(s.seq - r.seq))
	s.uint(uint64(r.index))
	s.int(s.clock - r.at)
}

func (s *sealer) uint(n uint64) { s.buf = binary.AppendUvarint(s.buf, n) }
func (s *sealer) int(n int64)   { s.buf = binary.AppendVarint(s.buf, n) }

func (s *sealer) bool(b bool) {
	if b {
		s.uint(1)
	} else {
		s.uint(0)
	}
}

func (s *sealer) text(t string) {
	s.uint(uint64(len(t)))
	s.buf = append(s.buf, t...)
}

func (s *sealer) closeFrame() {
	if len(s.buf) > frameBytes {
		s.flush()
	}
}

func (s *sealer) flush() {
	s.sum = crc32.Update(s.sum, s.table, s.buf)
	var head [binary.MaxVarintLen64 + 4]byte
	h := binary.AppendUvarint(head[:0], uint64(len(s.buf)))
	s.write(binary.LittleEndian.AppendUint32(h, s.sum))
	s.write(s.buf)
	s.buf = s.buf[:0]
}

func (s *sealer) end() error {
	if len(s.buf) > 0 {
		s.flush()
	}
	s.flush()
	return s.err
}

func (s *sealer) write(data []byte) {
	if s.err != nil {
		return
	}
	n, err := s.w.Write(data)
	s.written += int64(n)
	s.err = err
}
