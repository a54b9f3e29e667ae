package correlate

import "strings"

// group is what waits under one key. What refs holds is its pattern's business.
type group struct {
	key   string
	state string // flapping: the last one
	refs  []ref
	// deadline is when the group is over if no event changes that; zero while nothing has been taken in.
	deadline int64
	recent   links // by the last match
	ending   links // by deadline
	rest     uint32
	born     uint32 // generation in which it was made,
	changed  uint32 // and that in which it was last matched
	quiet    bool   // flapping: has fired
}

// links join groups by their numbers; none is the end of a list.
type links struct{ prev, next uint32 }

const none = ^uint32(0)

// Groups live in chunks, so that adding one does not copy all others.
const (
	chunkBits = 10
	chunkSize = 1 << chunkBits
)

// groups is the set of groups, in the two orders that matter. Since time never runs backwards and all windows of a rule
// have one length, a deadline that is set is never before one that was set earlier: the second order is a queue as well.
type groups struct {
	byKey  map[string]uint32
	chunks [][]group
	used   uint32   // slots ever used
	free   []uint32 // those of them that are free
	recent list     // least recently matched first
	ending list     // first to end first
}

type list struct{ head, tail uint32 }

func newGroups(size int) groups {
	return groups{byKey: make(map[string]uint32, size), recent: list{none, none}, ending: list{none, none}}
}

func (s *groups) at(i uint32) *group { return &s.chunks[i>>chunkBits][i&(chunkSize-1)] }

func (s *groups) make(key string) uint32 {
	i := s.slot()
	g := s.at(i)
	*g = group{key: strings.Clone(key)} // the key may be part of a whole event's text
	s.byKey[g.key] = i
	s.recent.push(s, i, recently)
	s.ending.push(s, i, soon)
	return i
}

func (s *groups) slot() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	switch at := s.used >> chunkBits; {
	case s.used == 0:
		s.chunks = [][]group{make([]group, 1)}
	case at == 0 && s.used == uint32(len(s.chunks[0])): // the first one grows, since most rules have few groups
		s.chunks[0] = append(s.chunks[0], make([]group, len(s.chunks[0]))...)
	case at == uint32(len(s.chunks)):
		s.chunks = append(s.chunks, make([]group, chunkSize))
	}
	s.used++
	return s.used - 1
}

func (s *groups) remove(i uint32) {
	s.recent.cut(s, i, recently)
	s.ending.cut(s, i, soon)
	delete(s.byKey, s.at(i).key)
	*s.at(i) = group{}
	s.free = append(s.free, i)
	if len(s.byKey) == 0 && s.used > chunkSize {
		*s = newGroups(0) // maps and chunks never shrink, so a burst would be held for good
	}
}

func (s *groups) matched(i uint32) {
	s.recent.cut(s, i, recently)
	s.recent.push(s, i, recently)
}

func (s *groups) prolonged(i uint32) {
	s.ending.cut(s, i, soon)
	s.ending.push(s, i, soon)
}

func recently(g *group) *links { return &g.recent }
func soon(g *group) *links     { return &g.ending }

func (l *list) push(s *groups, i uint32, of func(*group) *links) {
	*of(s.at(i)) = links{prev: l.tail, next: none}
	if l.tail == none {
		l.head = i
	} else {
		of(s.at(l.tail)).next = i
	}
	l.tail = i
}

func (l *list) cut(s *groups, i uint32, of func(*group) *links) {
	at := *of(s.at(i))
	if at.prev == none {
		l.head = at.next
	} else {
		of(s.at(at.prev)).next = at.next
	}
	if at.next == none {
		l.tail = at.prev
	} else {
		of(s.at(at.next)).prev = at.prev
	}
}
