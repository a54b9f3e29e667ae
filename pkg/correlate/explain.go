package correlate

import "time"

// Waiting is what a group waits for, for explain.
type Waiting struct {
	Key string
	// Since is when the oldest event that counts came, Until when it no longer does: the window's end, or, of a
	// flapping group that is quiet, the end of the quiet if no change comes.
	Since, Until time.Time
	Events       []Ref // that count, in log order
	Rest         int   // of collect: events that are not listed
	// Missing names the parts that are still to come, in order (of absence the one that must not), and Need says how
	// many events or changes are.
	Missing []string
	Need    int
	// State is the last one, and Quiet whether it has fired and not yet come to rest; of flapping only.
	State string
	Quiet bool
}

// Group returns what waits under the key.
func (m *Machine) Group(key string) (Waiting, bool) {
	i, ok := m.groups.byKey[bounded(key)]
	if !ok {
		return Waiting{}, false
	}
	return m.waiting(m.groups.at(i)), true
}

// Groups returns at most limit groups, those that were matched most recently first.
func (m *Machine) Groups(limit int) []Waiting {
	list := make([]Waiting, 0, max(0, min(limit, m.Len())))
	for i := m.groups.recent.tail; i != none && len(list) < limit; i = m.groups.at(i).recent.prev {
		list = append(list, m.waiting(m.groups.at(i)))
	}
	return list
}

func (m *Machine) waiting(g *group) Waiting {
	live := m.pattern.live(g, m.clock)
	since := g.deadline - int64(m.spec.Within)
	if len(live) > 0 {
		since = live[0].at
	}
	w := Waiting{
		Key: g.key, Rest: int(g.rest), State: g.state, Quiet: g.quiet && len(live) > 0,
		Since: timeOf(since), Until: timeOf(later(since, int64(m.spec.Within))),
	}
	for i := range live {
		w.Events = append(w.Events, live[i].public(&m.spec))
	}
	parts, need := m.pattern.missing(live)
	w.Need = need
	for _, p := range parts {
		w.Missing = append(w.Missing, m.spec.Parts[p])
	}
	return w
}
