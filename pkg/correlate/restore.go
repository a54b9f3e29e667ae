package correlate

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/sealed"
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
	u := &unsealer{Reader: sealed.NewReader(in, ErrDamaged)}
	if err := u.preamble(first); err != nil {
		return u.Size(), err
	}
	want, err := m.readHead(u, first)
	if err != nil {
		return u.Size(), err
	}
	for {
		more, err := u.Frame()
		if err != nil {
			return u.Size(), err
		}
		if !more {
			break
		}
		for u.Left() > 0 && !u.Bad() {
			m.readRecord(u)
		}
		if u.Bad() {
			return u.Size(), fmt.Errorf("%w: a record makes no sense", ErrDamaged)
		}
	}
	if uint64(m.Len()) != want {
		return u.Size(), fmt.Errorf("%w: %d groups of %d are there", ErrDamaged, m.Len(), want)
	}
	m.sum = u.Sum()
	return u.Size(), nil
}

// readHead returns the number of groups that there are after the section.
func (m *Machine) readHead(u *unsealer, first bool) (groups uint64, err error) {
	if more, err := u.Frame(); err != nil || !more {
		return 0, cmp.Or(err, fmt.Errorf("%w: it has no head", ErrDamaged))
	}
	before := u.Fixed()
	if meaning := u.Text(sealed.MaxFrame); !u.Bad() && meaning != m.spec.meaning() {
		return 0, fmt.Errorf("%w: %s, and the rule says %s", ErrOtherSpec, meaning, m.spec.meaning())
	}
	m.clock = u.Int()
	m.last = event.Pos{Seq: u.Uint(), Index: int(uint32(u.Uint()))}
	m.evicted = u.Uint()
	groups = u.Uint()
	u.clock, u.seq = m.clock, m.last.Seq
	switch {
	case u.Bad() || u.Left() > 0:
		return 0, fmt.Errorf("%w: its head makes no sense", ErrDamaged)
	case !first && before != m.sum:
		return 0, fmt.Errorf("%w: a delta does not follow what is before it", ErrDamaged)
	case first:
		m.groups = newGroups(int(min(groups, uint64(m.spec.MaxGroups))))
	}
	return groups, nil
}

func (m *Machine) readRecord(u *unsealer) {
	switch kind := u.Byte(); kind {
	case recordRemoved:
		if i, ok := m.groups.byKey[string(u.Bytes(maxKey))]; ok && !u.Bad() {
			m.holds(m.groups.at(i), -1)
			m.groups.remove(i)
		} else {
			u.Must(false)
		}
	case recordGroup:
		m.readGroup(u)
	default:
		u.Must(false)
	}
}

func (m *Machine) readGroup(u *unsealer) {
	key := u.Bytes(maxKey)
	g := group{deadline: u.clock - u.Int()}
	if m.spec.Kind == Flapping {
		g.state = u.Text(maxKey)
		g.quiet = u.Uint() == 1
	}
	g.rest = uint32(u.Uint())
	n := u.Uint()
	if u.Bad() || n > uint64(max(m.spec.perGroup(), 0)) {
		u.Must(false)
		return
	}
	if n > 0 {
		g.refs = make([]ref, n)
	}
	for i := range g.refs {
		g.refs[i] = u.ref()
	}
	if u.Bad() || !m.possible(&g) {
		u.Must(false)
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

// unsealer reads a section.
type unsealer struct {
	*sealed.Reader
	clock int64
	seq   uint64
}

// preamble returns io.EOF where nothing follows.
func (u *unsealer) preamble(first bool) error {
	var p [len(magic) + 2]byte
	if err := u.Plain(p[:]); err != nil {
		return err
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

func (u *unsealer) ref() ref {
	r := ref{form: u.Byte()}
	if r.none() {
		return r
	}
	n := idBytes
	if r.form != formPacked {
		n = int(r.form - formText)
	}
	if n > idBytes || r.form != formPacked && n > maxText {
		u.Must(false)
		return ref{}
	}
	copy(r.id[:], u.Take(n))
	r.part = u.Byte()
	r.seq = u.seq - uint64(u.Int())
	r.index = uint32(u.Uint())
	r.at = u.clock - u.Int()
	return r
}
