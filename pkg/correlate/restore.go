package correlate

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/riposte-dev/riposte/pkg/event"
)

var (
	// ErrDamaged says that a stored state can't be read, or is not whole.
	ErrDamaged = errors.New("stored correlation state is damaged")
	// ErrOtherSpec says that a stored state belongs to another form of the rule: its windows start anew.
	ErrOtherSpec = errors.New("stored correlation state is of another form of the rule")
	// ErrNewerFormat says that a newer version of Riposte wrote a stored state.
	ErrNewerFormat = errors.New("a newer version of Riposte wrote the stored correlation state: run that one")
)

// Restore reads a snapshot and the deltas that follow it, up to the end of r. Limits of the spec may differ from those it
// was written with, its meaning may not.
func Restore(r io.Reader, s Spec) (*Machine, error) {
	m, err := New(s)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 0; ; n++ {
		size, err := m.readSection(in, n == 0)
		if errors.Is(err, io.EOF) && size == 0 && n > 0 {
			break
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it is cut off", ErrDamaged)
		}
		if err != nil {
			return nil, fmt.Errorf("section %d: %w", n+1, err)
		}
		if n == 0 {
			m.whole = size
		} else {
			m.since += size
		}
	}
	m.settleRestored()
	return m, nil
}

// settleRestored puts the groups into the order of their ends, and within bounds that may be narrower now.
func (m *Machine) settleRestored() {
	m.stored = true
	m.generation++
	m.groups.sortEnding()
	m.evict(none)
}

func (s *groups) sortEnding() {
	order := make([]uint32, 0, len(s.byKey))
	for i := s.recent.head; i != none; i = s.at(i).recent.next {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(s.at(a).deadline, s.at(b).deadline) })
	s.ending = list{none, none}
	for _, i := range order {
		s.ending.push(s, i, soon)
	}
}

// readSection returns the bytes it read, also beside an error.
func (m *Machine) readSection(in *bufio.Reader, first bool) (int64, error) {
	u := &unsealer{in: in, table: crc32.MakeTable(crc32.Castagnoli)}
	if err := u.preamble(first); err != nil {
		return u.read, err
	}
	want, err := m.readHead(u, first)
	if err != nil {
		return u.read, err
	}
	for {
		more, err := u.frame()
		if err != nil {
			return u.read, err
		}
		if !more {
			break
		}
		for len(u.buf) > 0 && !u.bad {
			m.readRecord(u)
		}
		if u.bad {
			return u.read, fmt.Errorf("%w: a record makes no sense", ErrDamaged)
		}
	}
	if uint64(m.Len()) != want {
		return u.read, fmt.Errorf("%w: %d groups of %d are there", ErrDamaged, m.Len(), want)
	}
	m.sum = u.sum
	return u.read, nil
}

// readHead returns the number of groups that there are after the section.
func (m *Machine) readHead(u *unsealer, first bool) (groups uint64, err error) {
	if more, err := u.frame(); err != nil || !more {
		return 0, cmp.Or(err, fmt.Errorf("%w: it has no head", ErrDamaged))
	}
	before := u.fixed()
	if meaning := u.text(maxFrame); !u.bad && meaning != m.spec.meaning() {
		return 0, fmt.Errorf("%w: %s, and the rule says %s", ErrOtherSpec, meaning, m.spec.meaning())
	}
	m.clock = u.int()
	m.last = event.Pos{Seq: u.uint(), Index: int(uint32(u.uint()))}
	m.evicted = u.uint()
	groups = u.uint()
	u.clock, u.seq = m.clock, m.last.Seq
	switch {
	case u.bad || len(u.buf) > 0:
		return 0, fmt.Errorf("%w: its head makes no sense", ErrDamaged)
	case !first && before != m.sum:
		return 0, fmt.Errorf("%w: a delta does not follow what is before it", ErrDamaged)
	case first:
		m.groups = newGroups(int(min(groups, uint64(m.spec.MaxGroups))))
	}
	return groups, nil
}

func (m *Machine) readRecord(u *unsealer) {
	switch kind := u.byte(); kind {
	case recordRemoved:
		if i, ok := m.groups.byKey[string(u.bytes(maxKey))]; ok && !u.bad {
			m.holds(m.groups.at(i), -1)
			m.groups.remove(i)
		} else {
			u.bad = true
		}
	case recordGroup:
		m.readGroup(u)
	default:
		u.bad = true
	}
}

func (m *Machine) readGroup(u *unsealer) {
	key := u.bytes(maxKey)
	g := group{deadline: u.clock - u.int()}
	if m.spec.Kind == Flapping {
		g.state = u.text(maxKey)
		g.quiet = u.uint() == 1
	}
	g.rest = uint32(u.uint())
	n := u.uint()
	if u.bad || n > uint64(max(m.spec.perGroup(), 0)) {
		u.bad = true
		return
	}
	if n > 0 {
		g.refs = make([]ref, n)
	}
	for i := range g.refs {
		g.refs[i] = u.ref()
	}
	if u.bad || !m.possible(&g) {
		u.bad = true
		return
	}
	m.put(string(key), &g)
}

// possible refuses what no machine writes, so that no state breaks what the code rests on.
func (m *Machine) possible(g *group) bool {
	for i := range g.refs {
		if int(g.refs[i].part) >= m.spec.parts() || !g.refs[i].none() && g.refs[i].at > m.clock {
			return false
		}
	}
	return m.pattern.holds(g) && g.deadline > m.clock && g.deadline <= later(m.clock, int64(m.spec.Within))
}

func (m *Machine) put(key string, g *group) {
	i, ok := m.groups.byKey[key]
	if !ok {
		i = m.groups.make(key)
	} else {
		m.groups.matched(i)
	}
	at := m.groups.at(i)
	if ok {
		m.holds(at, -1)
	}
	at.state, at.refs, at.deadline, at.rest, at.quiet = g.state, g.refs, g.deadline, g.rest, g.quiet
	m.holds(at, 1)
}

// unsealer reads frames, and the values in them. A value that can't be read sets bad.
type unsealer struct {
	in    *bufio.Reader
	buf   []byte // rest of the frame
	frm   []byte // the frame
	sum   uint32
	table *crc32.Table
	read  int64
	bad   bool
	clock int64
	seq   uint64
}

func (u *unsealer) preamble(first bool) error {
	var p [len(magic) + 2]byte
	n, err := io.ReadFull(u.in, p[:])
	u.read += int64(n)
	if err != nil {
		return unexpected(err, n)
	}
	kind := byte(kindDelta)
	if first {
		kind = kindSnapshot
	}
	switch version := p[len(magic)]; {
	case !bytes.Equal(p[:len(magic)], []byte(magic)):
		return fmt.Errorf("%w: it is no correlation state", ErrDamaged)
	case version > formatVersion:
		return fmt.Errorf("%w (format %d)", ErrNewerFormat, version)
	case version == 0 || p[len(magic)+1] != kind:
		return fmt.Errorf("%w: a section is not of kind %c", ErrDamaged, kind)
	}
	return nil
}

// unexpected leaves an end as it is only before the first byte.
func unexpected(err error, n int) error {
	if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}

// frame reads the next one and checks it; false at the section's end.
func (u *unsealer) frame() (bool, error) {
	size, err := binary.ReadUvarint(u.in)
	if err != nil {
		return false, u.cutOff(err)
	}
	if size > maxFrame {
		return false, fmt.Errorf("%w: a frame is too long", ErrDamaged)
	}
	var sum [4]byte
	if _, err := io.ReadFull(u.in, sum[:]); err != nil {
		return false, u.cutOff(err)
	}
	u.frm = slices.Grow(u.frm[:0], int(size))[:size]
	if _, err := io.ReadFull(u.in, u.frm); err != nil {
		return false, u.cutOff(err)
	}
	u.read += int64(uvarintLen(size)) + 4 + int64(size)
	u.sum = crc32.Update(u.sum, u.table, u.frm)
	if u.sum != binary.LittleEndian.Uint32(sum[:]) {
		return false, fmt.Errorf("%w: checksum differs", ErrDamaged)
	}
	u.buf = u.frm
	return size > 0, nil
}

func (u *unsealer) cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}

func uvarintLen(n uint64) int { return len(binary.AppendUvarint(nil, n)) }

func (u *unsealer) ref() ref {
	r := ref{form: u.byte()}
	if r.none() {
		return r
	}
	n := idBytes
	if r.form != formPacked {
		n = int(r.form - formText)
	}
	if n > idBytes || r.form != formPacked && n > maxText {
		u.bad = true
		return ref{}
	}
	copy(r.id[:], u.take(n))
	r.part = u.byte()
	r.seq = u.seq - uint64(u.int())
	r.index = uint32(u.uint())
	r.at = u.clock - u.int()
	return r
}

func (u *unsealer) take(n int) []byte {
	if n > len(u.buf) {
		u.bad, u.buf = true, nil
		return nil
	}
	b := u.buf[:n]
	u.buf = u.buf[n:]
	return b
}

func (u *unsealer) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (u *unsealer) fixed() uint32 {
	if b := u.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (u *unsealer) uint() uint64 {
	n, size := binary.Uvarint(u.buf)
	if size <= 0 {
		u.bad, u.buf = true, nil
		return 0
	}
	u.buf = u.buf[size:]
	return n
}

func (u *unsealer) int() int64 {
	n, size := binary.Varint(u.buf)
	if size <= 0 {
		u.bad, u.buf = true, nil
		return 0
	}
	u.buf = u.buf[size:]
	return n
}

func (u *unsealer) bytes(limit int) []byte {
	n := u.uint()
	if n > uint64(limit) {
		u.bad = true
		return nil
	}
	return u.take(int(n))
}

func (u *unsealer) text(limit int) string { return string(u.bytes(limit)) }
