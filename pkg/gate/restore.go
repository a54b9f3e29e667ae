package gate

import (
	"bufio"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unique"

	"github.com/riposte-dev/riposte/pkg/sealed"
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
	in := bufio.NewReaderSize(r, 64<<10)
	u := unsealer{sealed.NewReader(in, ErrDamaged)}
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
	u       unsealer
	g       *Gate
	waits   []*wait
	trials  []*ticket
	lastRun uint64 // seq of the last ticket
}

func (s *restorer) head() {
	u, g := s.u, s.g
	g.clock, g.seq, g.swept = u.Int(), u.Uint(), u.Int()
	s.must(g.swept <= g.clock)
	g.limits.crowded, g.storm.on, g.storm.told = u.Bool(), u.Bool(), u.Bool()
	g.storm.asks = u.times(MaxRuns+1, g.clock)
}

func (s *restorer) record() {
	switch s.u.Byte() {
	case recordTicket:
		s.ticket()
	case recordWindow:
		s.window()
	case recordMemory:
		s.memory()
	case recordBreaker:
		s.breaker()
	case recordFull:
		x := s.g.groups[s.u.Text(maxText)]
		s.must(x != nil)
		if x != nil {
			x.full = true
		}
	default:
		s.must(false)
	}
}

func (s *restorer) must(ok bool) { s.u.Must(ok) }

func (s *restorer) ticket() {
	u, g := s.u, s.g
	t := &ticket{run: u.Text(maxText), attempt: u.attempt(), seq: u.Uint(), rule: unique.Make(u.Text(maxText))}
	grouped := u.Bool()
	group := ""
	if grouped {
		group = u.Text(maxText)
	}
	t.policy, t.told = policy(u.Byte()), verdict(u.Byte())
	flags := u.Byte()
	t.heals, t.admitted, t.trial, t.stopping = flags&flagHeals != 0, flags&flagAdmitted != 0, flags&flagTrial != 0, flags&flagStopping != 0
	t.limits = u.limits()
	s.must(int(t.policy) < len(policies) && t.told <= toldNo && (t.admitted || grouped && !t.trial) && g.runs[t.run] == nil)
	s.must(t.seq > s.lastRun && t.seq <= g.seq)
	s.lastRun = t.seq
	if u.Bad() {
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
	n := u.Count(MaxTargets)
	for range n {
		name := u.Text(maxText)
		if s.must(t.admitted); u.Bad() {
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
	for range u.Count(MaxTargets - n) {
		w := &wait{run: t}
		name := u.Text(maxText)
		w.seq = u.Uint()
		if u.Bool() {
			l := u.limit()
			w.limit = &l
		}
		if s.must(t.admitted && w.seq <= s.g.seq); u.Bad() {
			return
		}
		w.target = s.g.locks.target(name)
		t.lock().waits = append(t.lock().waits, w)
		s.waits = append(s.waits, w)
	}
}

func (s *restorer) window() {
	u, g := s.u, s.g
	w := &window{key: u.Text(maxText), times: u.times(MaxRuns, g.clock)}
	most := u.Uint()
	w.most, w.keep = int32(min(most, MaxRuns)), u.Int()
	if w.told = u.Bool(); w.told {
		w.toldAt, w.toldRun, w.toldTry = u.Int(), u.Text(maxText), u.attempt()
	}
	s.must(most <= MaxRuns && w.keep > 0 && (!w.told || w.toldAt <= g.clock) && g.limits.keys[w.key] == nil)
	if u.Bad() {
		return
	}
	g.limits.keys[w.key] = w
	g.limits.times += len(w.times)
	heap.Push(&g.limits.expiring, w)
}

func (s *restorer) memory() {
	u, g := s.u, s.g
	run, attempt := u.Text(maxText), u.attempt()
	m := &memory{answer: endedAnswer(run, attempt), seq: u.Uint(), at: u.Int(), told: verdict(u.Byte())}
	ended := u.Bool()
	if !ended {
		m.answer = Answer{Run: run, Attempt: int(attempt), Verdict: Verdict(u.Text(maxText)), Reason: u.Text(maxText), Message: u.Text(maxMessage),
			Key: u.Text(maxText), First: u.Bool(), Behind: u.Text(maxText)}
		s.must(m.answer.Verdict == Refused || m.answer.Verdict == Superseded)
	}
	q := g.past.queue(m)
	s.must(m.ended() == ended && m.told <= toldNo && m.seq <= g.seq && m.at <= g.clock && g.past.byRun[run] == nil && g.runs[run] == nil)
	s.must(len(*q) == 0 || (*q)[len(*q)-1].seq < m.seq)
	if !u.Bad() {
		g.past.add(m)
	}
}

func (s *restorer) breaker() {
	u, g := s.u, s.g
	rule := u.Text(maxText)
	b := &breaker{open: u.Bool(), told: u.Bool(), until: u.Int()}
	for range u.Count(MaxRuns) {
		b.ends = append(b.ends, result{u.Int(), u.Bool()})
		if u.Bad() {
			return
		}
	}
	s.must(g.breaker[rule] == nil)
	if !u.Bad() {
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

// unsealer reads what a sealer wrote.
type unsealer struct{ *sealed.Reader }

func (u unsealer) preamble() error {
	var p [len(magic) + 1]byte
	if err := u.Plain(p[:]); errors.Is(err, io.EOF) {
		return damaged("it is cut off")
	} else if err != nil {
		return err
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
func (u unsealer) frames(head, record func()) error {
	if more, err := u.Frame(); err != nil || !more {
		return cmp.Or(err, damaged("it has no head"))
	}
	if head(); u.Bad() || u.Left() > 0 {
		return damaged("its head makes no sense")
	}
	for {
		more, err := u.Frame()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		for u.Left() > 0 && !u.Bad() {
			record()
		}
		if u.Bad() {
			return damaged("a record makes no sense")
		}
	}
	return u.End()
}

func (u unsealer) attempt() int32 {
	n := u.Int()
	u.Must(n >= math.MinInt32 && n <= math.MaxInt32)
	return int32(n)
}

// times reads times that do not run backwards, up to the clock.
func (u unsealer) times(limit int, clock int64) []int64 {
	n := u.Count(limit)
	if n == 0 {
		return nil
	}
	list := make([]int64, n)
	at := int64(0)
	for i := range list {
		before := at
		at += u.Int()
		u.Must((i == 0 || at >= before) && at <= clock)
		list[i] = at
	}
	return list
}

func (u unsealer) limit() limit {
	l := limit{key: unique.Make(u.Text(maxText))}
	runs := u.Uint()
	l.runs, l.per = int32(min(runs, MaxRuns)), u.Int()
	u.Must(runs <= MaxRuns && l.per >= 1)
	return l
}

func (u unsealer) limits() []limit {
	var list []limit
	for range u.Count(MaxLimits) {
		list = append(list, u.limit())
	}
	return list
}
