package correlate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Machine is one rule's correlation in one partition. It belongs to one goroutine.
type Machine struct {
	spec    Spec
	pattern pattern
	groups  groups
	clock   int64     // log time
	last    event.Pos // of the last event
	events  int       // refs in all groups,
	bytes   int       // and their keys and states
	evicted uint64

	journal
}

// New returns a machine that has seen nothing yet.
func New(s Spec) (*Machine, error) {
	if problems := s.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("correlate: %w", errors.Join(problems...))
	}
	s = s.withDefaults()
	s.Parts = slices.Clone(s.Parts)
	m := &Machine{spec: s, groups: newGroups(0), clock: math.MinInt64}
	m.pattern = newPattern(&m.spec)
	m.generation = 1
	return m, nil
}

// Add takes in one event: its matches, one for each part that it matches. It returns what fires, also the windows that
// ended before it. Events come in log order; one at or before the last position does nothing.
//
// An event that matches several parts first goes on with what waits, and then starts anew: later parts come first. Where
// it completes a firing it is used up, and starts nothing in that group.
func (m *Machine) Add(matches ...Match) []Firing {
	if len(matches) == 0 || matches[0].Pos.Compare(m.last) <= 0 {
		return nil
	}
	at := max(nanos(matches[0].At), m.clock)
	fired := m.expire(at)
	m.clock, m.last = at, matches[0].Pos
	if len(matches) > 1 {
		matches = slices.Clone(matches)
		slices.SortStableFunc(matches, func(a, b Match) int { return cmp.Compare(b.Part, a.Part) })
	}
	ended := len(fired)
	for i := range matches {
		if x := &matches[i]; m.wants(x, matches[:i], fired[ended:]) {
			more := slices.ContainsFunc(matches[i+1:], func(y Match) bool { return y.Key == x.Key && y.Part >= 0 && y.Part < x.Part })
			fired = m.take(fired, x, more)
		}
	}
	return fired
}

// wants reports whether a match adds anything, given those of the same event before it and what has fired from them.
func (m *Machine) wants(x *Match, before []Match, fired []Firing) bool {
	if x.Part < 0 || x.Part >= m.spec.parts() {
		return false
	}
	twice := slices.ContainsFunc(before, func(y Match) bool { return y.Part == x.Part && y.Key == x.Key })
	return !twice && !slices.ContainsFunc(fired, func(f Firing) bool { return f.Key == bounded(x.Key) })
}

func (m *Machine) take(fired []Firing, x *Match, more bool) []Firing {
	key := bounded(x.Key)
	i, ok := m.groups.byKey[key]
	if !ok {
		if !m.pattern.begins(x.Part) {
			return fired
		}
		i = m.groups.make(key)
		m.groups.at(i).born = m.generation
		m.holds(m.groups.at(i), 1)
	}
	g := m.groups.at(i)
	deadline := g.deadline
	m.holds(g, -1)
	out := m.pattern.take(g, input{newRef(x, m.clock), bounded(x.State), more})
	m.holds(g, 1)
	g.changed = m.generation
	if out.fired != nil {
		fired = append(fired, m.firing(g, out.fired, m.clock, x.Pos))
	}
	if out.over {
		m.remove(i)
		return fired
	}
	m.groups.matched(i)
	if g.deadline != deadline {
		m.groups.prolonged(i)
	}
	m.evict(i)
	return fired
}

// holds counts what a group holds once more, or, with -1, no more.
func (m *Machine) holds(g *group, times int) {
	m.events += times * len(g.refs)
	m.bytes += times * (len(g.key) + len(g.state))
}

// SetBounds takes the bounds of a spec, which otherwise means the same. Where they are narrower than what waits, the groups
// that were matched least recently go at once; it reports whether any did.
func (m *Machine) SetBounds(s Spec) (evicted bool) {
	s = s.withDefaults()
	m.spec.MaxGroups, m.spec.MaxEvents, m.spec.MaxKeyBytes = s.MaxGroups, s.MaxEvents, s.MaxKeyBytes
	before := m.evicted
	m.evict(none)
	return m.evicted > before
}

// evict makes room, but never of the group that was just matched.
func (m *Machine) evict(keep uint32) {
	for len(m.groups.byKey) > m.spec.MaxGroups || m.events > m.spec.MaxEvents || m.bytes > m.spec.MaxKeyBytes {
		i := m.groups.recent.head
		if i == none || i == keep {
			return
		}
		m.evicted++
		m.remove(i)
	}
}

func (m *Machine) remove(i uint32) {
	g := m.groups.at(i)
	m.holds(g, -1)
	if g.born < m.generation {
		m.removed = append(m.removed, g.key)
	}
	m.groups.remove(i)
}

func (m *Machine) firing(g *group, refs []ref, at int64, window event.Pos) Firing {
	f := Firing{Key: g.key, Window: window.String(), At: timeOf(at), Events: make([]Ref, len(refs)), Rest: int(g.rest)}
	for i := range refs {
		f.Events[i] = refs[i].public(&m.spec)
	}
	return f
}

// Advance says that log time has come to now without an event, and returns what fires: the windows that have ended, in
// the order of their ends. Where none has ended it changes nothing.
func (m *Machine) Advance(now time.Time) []Firing { return m.expire(nanos(now)) }

// expire ends all windows up to now. It moves log time to the last end only, so that how often it is called, and with
// which times, makes no difference.
func (m *Machine) expire(now int64) []Firing {
	var fired []Firing
	for i := m.groups.ending.head; i != none; i = m.groups.ending.head {
		g := m.groups.at(i)
		if g.deadline > now {
			break
		}
		m.clock = max(m.clock, g.deadline)
		if refs := m.pattern.end(g); refs != nil {
			fired = append(fired, m.firing(g, refs, g.deadline, refs[0].pos()))
		}
		m.remove(i)
	}
	slices.SortFunc(fired, byEnd)
	return fired
}

func byEnd(a, b Firing) int {
	return cmp.Or(a.At.Compare(b.At), a.Events[0].Pos.Compare(b.Events[0].Pos), cmp.Compare(a.Key, b.Key))
}

// Next returns when the next window ends whose end fires something. Only absence and collect have such windows.
func (m *Machine) Next() (time.Time, bool) {
	i := m.groups.ending.head
	if i == none || m.pattern.end(m.groups.at(i)) == nil {
		return time.Time{}, false
	}
	return timeOf(m.groups.at(i).deadline), true
}

// Len returns the number of groups that wait.
func (m *Machine) Len() int { return len(m.groups.byKey) }

// Stats returns figures for metrics.
func (m *Machine) Stats() Stats {
	return Stats{Groups: m.Len(), Events: m.events, KeyBytes: m.bytes, Evicted: m.evicted}
}

// Spec returns what the machine was made for, with its defaults.
func (m *Machine) Spec() Spec { return m.spec }

// Position returns the position of the last event taken in.
func (m *Machine) Position() event.Pos { return m.last }

// Oldest returns the position of the oldest event that a group still refers to, so that the log keeps it. It looks at
// every group: ask once for each checkpoint, not for each event.
func (m *Machine) Oldest() (event.Pos, bool) {
	var oldest event.Pos
	found := false
	for i := m.groups.recent.head; i != none; i = m.groups.at(i).recent.next {
		refs := m.groups.at(i).refs
		for k := range refs {
			if p := refs[k].pos(); refs[k].alive(int64(m.spec.Within), m.clock) && (!found || p.Compare(oldest) < 0) {
				oldest, found = p, true
			}
		}
	}
	return oldest, found
}
