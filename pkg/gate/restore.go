package gate

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"unique"
)

var (
	// ErrDamaged says that a stored state can't be read, or is not whole.
	ErrDamaged = errors.New("stored state of the gate is damaged")
	// ErrNewerFormat says that a newer version of Riposte wrote a stored state.
	ErrNewerFormat = errors.New("a newer version of Riposte wrote the stored state of the gate: run that one")
)

// Restore reads what Snapshot wrote, up to the end of r. Options may differ from those it was written with: bounds that are
// narrower now refuse new runs and drop none, and what a wider blast radius lets go on is in the answers to the next
// request.
func Restore(r io.Reader, o Options) (*Gate, error) {
	g, err := New(o)
	if err != nil {
		return nil, err
	}
	u := &unsealer{in: bufio.NewReaderSize(r, 64<<10), table: crc32.MakeTable(crc32.Castagnoli)}
	if err := u.preamble(); err != nil {
		return nil, err
	}
	s := &restorer{u: u, g: g}
	if err := u.frames(s.head, s.record); err != nil {
		return nil, err
	}
	if !s.finish() {
		return nil, damaged("its runs do not fit together")
	}
	return g, nil
}

func damaged(why string) error { return fmt.Errorf("%w: %s", ErrDamaged, why) }

// restorer puts the parts together. What no gate writes sets bad in the reader.
type restorer struct {
	u       *unsealer
	g       *Gate
	waits   []*wait
	trials  []*ticket
	lastRun uint64 // seq of the last ticket
}

func (s *restorer) head() {
	u, g := s.u, s.g
	g.clock, g.seq, g.swept = u.int(), u.uint(), u.int()
	s.must(g.swept <= g.clock)
	g.limits.crowded, g.storm.on, g.storm.told = u.bool(), u.bool(), u.bool()
	g.storm.asks = u.times(MaxRuns+1, g.clock)
}

func (s *restorer) record() {
	switch s.u.byte() {
	case recordTicket:
		s.ticket()
	case recordWindow:
		s.window()
	case recordMemory:
		s.memory()
	case recordBreaker:
		s.breaker()
	case recordFull:
		x := s.g.groups[s.u.text(maxText)]
		s.must(x != nil)
		if x != nil {
			x.full = true
		}
	default:
		s.must(false)
	}
}

func (s *restorer) must(ok bool) { s.u.bad = s.u.bad || !ok }

func (s *restorer) ticket() {
	u, g := s.u, s.g
	t := &ticket{run: u.text(maxText), attempt: u.attempt(), seq: u.uint(), rule: unique.Make(u.text(maxText))}
	grouped := u.bool()
	group := ""
	if grouped {
		group = u.text(maxText)
	}
	t.policy, t.told = policy(u.byte()), verdict(u.byte())
	flags := u.byte()
	t.heals, t.admitted, t.trial, t.stopping = flags&flagHeals != 0, flags&flagAdmitted != 0, flags&flagTrial != 0, flags&flagStopping != 0
	t.limits = u.limits()
	s.must(int(t.policy) < len(policies) && t.told <= toldNo && (t.admitted || grouped && !t.trial) && g.runs[t.run] == nil)
	s.must(t.seq > s.lastRun && t.seq <= g.seq)
	s.lastRun = t.seq
	if u.bad {
		return
	}
	g.runs[t.run] = t
	if t.trial {
		s.trials = append(s.trials, t)
	}
	if grouped {
		s.join(t, group)
	}
	s.locks(t)
}

func (s *restorer) join(t *ticket, name string) {
	x := s.g.groups[name]
	if x == nil {
		x = &group{name: name}
		s.g.groups[name] = x
	}
	t.group = x
	if t.admitted {
		s.must(x.holder == nil)
		x.holder = t
		return
	}
	x.waiting.push(t)
	if t.policy != queues {
		s.must(x.newest == nil)
		x.newest = t
	}
}

func (s *restorer) locks(t *ticket) {
	u := s.u
	n := u.count(MaxTargets)
	for range n {
		name := u.text(maxText)
		if s.must(t.admitted); u.bad {
			return
		}
		x := s.g.locks.target(name)
		s.must(x.holder == nil)
		x.holder = t
		t.lock().targets = append(t.lock().targets, x)
		for _, r := range x.radii {
			r.held++
		}
	}
	for range u.count(MaxTargets - n) {
		w := &wait{run: t}
		name := u.text(maxText)
		w.seq = u.uint()
		if u.bool() {
			l := u.limit()
			w.limit = &l
		}
		if s.must(t.admitted && w.seq <= s.g.seq); u.bad {
			return
		}
		w.target = s.g.locks.target(name)
		t.lock().waits = append(t.lock().waits, w)
		s.waits = append(s.waits, w)
	}
}

func (s *restorer) window() {
	u, g := s.u, s.g
	w := &window{key: u.text(maxText), times: u.times(MaxRuns, g.clock)}
	most := u.uint()
	w.most, w.keep = int32(min(most, MaxRuns)), u.int()
	if w.told = u.bool(); w.told {
		w.toldAt, w.toldRun, w.toldTry = u.int(), u.text(maxText), u.attempt()
	}
	s.must(most <= MaxRuns && w.keep > 0 && (!w.told || w.toldAt <= g.clock) && g.limits.keys[w.key] == nil)
	if u.bad {
		return
	}
	g.limits.keys[w.key] = w
	g.limits.times += len(w.times)
	heap.Push(&g.limits.expiring, w)
}

func (s *restorer) memory() {
	u, g := s.u, s.g
	run, attempt := u.text(maxText), u.attempt()
	m := &memory{answer: endedAnswer(run, attempt), seq: u.uint(), at: u.int(), told: verdict(u.byte())}
	ended := u.bool()
	if !ended {
		m.answer = Answer{Run: run, Attempt: int(attempt), Verdict: Verdict(u.text(maxText)), Reason: u.text(maxText), Message: u.text(maxMessage),
			Key: u.text(maxText), First: u.bool(), Behind: u.text(maxText)}
		s.must(m.answer.Verdict == Refused || m.answer.Verdict == Superseded)
	}
	q := g.past.queue(m)
	s.must(m.ended() == ended && m.told <= toldNo && m.seq <= g.seq && m.at <= g.clock && g.past.byRun[run] == nil && g.runs[run] == nil)
	s.must(len(*q) == 0 || (*q)[len(*q)-1].seq < m.seq)
	if !u.bad {
		g.past.add(m)
	}
}

func (s *restorer) breaker() {
	u, g := s.u, s.g
	rule := u.text(maxText)
	b := &breaker{open: u.bool(), told: u.bool(), until: u.int()}
	for range u.count(MaxRuns) {
		b.ends = append(b.ends, result{u.int(), u.bool()})
		if u.bad {
			return
		}
	}
	s.must(g.breaker[rule] == nil)
	if !u.bad {
		g.breaker[rule] = b
	}
}

// finish joins what needs all records, and reports whether it fits together.
func (s *restorer) finish() bool {
	g := s.g
	for _, t := range s.trials {
		b := g.breaker[t.rule.Value()]
		if b == nil || !b.open || b.trial != nil || !t.heals {
			return false
		}
		b.trial = t
	}
	for _, x := range g.groups {
		if x.holder == nil {
			return false
		}
	}
	slices.SortFunc(s.waits, func(a, b *wait) int { return cmp.Compare(a.seq, b.seq) })
	asked := map[wait]bool{}
	for i, w := range s.waits {
		one := wait{run: w.run, target: w.target}
		if i > 0 && s.waits[i-1].seq == w.seq || w.target.holder == w.run || asked[one] {
			return false
		}
		asked[one] = true
		w.target.waiting.push(w)
		for _, r := range w.target.radii {
			r.waits++
		}
	}
	s.block()
	return true
}

// block finds the blocked targets again: those that are free and waited for.
func (s *restorer) block() {
	l := &s.g.locks
	for _, w := range s.waits {
		x := w.target
		if x.holder != nil || x.blocked {
			continue
		}
		x.blocked = true
		for _, r := range x.radii {
			r.blocked.push(x) // by their first waits, since the waits are in order
		}
		l.pending = append(l.pending, x)
	}
}

// unsealer reads frames, and the values in them. A value that can't be read sets bad.
type unsealer struct {
	in    *bufio.Reader
	buf   []byte // rest of the frame
	frm   []byte // the frame
	sum   uint32
	table *crc32.Table
	bad   bool
}

func (u *unsealer) preamble() error {
	var p [len(magic) + 1]byte
	if _, err := io.ReadFull(u.in, p[:]); err != nil {
		return cutOff(err)
	}
	switch version := p[len(magic)]; {
	case string(p[:len(magic)]) != magic || version == 0:
		return damaged("it is no state of a gate")
	case version > formatVersion:
		return fmt.Errorf("%w (format %d)", ErrNewerFormat, version)
	}
	return nil
}

// frames reads all of them, the first with head, and each record of the others with record.
func (u *unsealer) frames(head, record func()) error {
	if more, err := u.frame(); err != nil || !more {
		return cmp.Or(err, damaged("it has no head"))
	}
	if head(); u.bad || len(u.buf) > 0 {
		return damaged("its head makes no sense")
	}
	for {
		more, err := u.frame()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		for len(u.buf) > 0 && !u.bad {
			record()
		}
		if u.bad {
			return damaged("a record makes no sense")
		}
	}
	if _, err := u.in.ReadByte(); !errors.Is(err, io.EOF) {
		return cmp.Or(err, damaged("something follows its end"))
	}
	return nil
}

// frame reads the next one and checks it; false at the end.
func (u *unsealer) frame() (bool, error) {
	size, err := binary.ReadUvarint(u.in)
	if err != nil {
		return false, cutOff(err)
	}
	if size > maxFrame {
		return false, damaged("a frame is too long")
	}
	var sum [4]byte
	if _, err := io.ReadFull(u.in, sum[:]); err != nil {
		return false, cutOff(err)
	}
	u.frm = slices.Grow(u.frm[:0], int(size))[:size]
	if _, err := io.ReadFull(u.in, u.frm); err != nil {
		return false, cutOff(err)
	}
	u.sum = crc32.Update(u.sum, u.table, u.frm)
	if u.sum != binary.LittleEndian.Uint32(sum[:]) {
		return false, damaged("a checksum differs")
	}
	u.buf = u.frm
	return size > 0, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it is cut off")
	}
	return err
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

func (u *unsealer) bool() bool {
	b := u.byte()
	u.bad = u.bad || b > 1
	return b == 1
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

func (u *unsealer) attempt() int32 {
	n := u.int()
	u.bad = u.bad || n < math.MinInt32 || n > math.MaxInt32
	return int32(n)
}

func (u *unsealer) text(limit int) string { return string(u.take(u.count(limit))) }

// count reads how many of something follow: at most the limit, and not more than the frame has bytes.
func (u *unsealer) count(limit int) int {
	n := u.uint()
	if n > uint64(limit) || n > uint64(len(u.buf)) {
		u.bad, u.buf = true, nil
		return 0
	}
	return int(n)
}

// times reads times that do not run backwards, up to the clock.
func (u *unsealer) times(limit int, clock int64) []int64 {
	n := u.count(limit)
	if n == 0 {
		return nil
	}
	list := make([]int64, n)
	at := int64(0)
	for i := range list {
		before := at
		at += u.int()
		u.bad = u.bad || i > 0 && at < before || at > clock
		list[i] = at
	}
	return list
}

func (u *unsealer) limit() limit {
	l := limit{key: unique.Make(u.text(maxText))}
	runs := u.uint()
	l.runs, l.per = int32(min(runs, MaxRuns)), u.int()
	u.bad = u.bad || runs > MaxRuns || l.per < 1
	return l
}

func (u *unsealer) limits() []limit {
	var list []limit
	for range u.count(MaxLimits) {
		list = append(list, u.limit())
	}
	return list
}
