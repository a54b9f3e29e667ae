package correlate

import "slices"

// sequence fires when events of all parts have come in the order of the parts, each later in the log than the one
// before, the last one within the window that the first one opened. Other events may come between.
//
// It fires if, and only if, there is such a chain among the events since the last firing, and takes the newest one: the
// newest event of the last part but one that has a chain before it, and so on. When the first part comes again that is a
// new start, and a chain that is under way goes on beside it: after `deploy, deploy, alert` the firing names the deploy
// that is newest, and `deploy, tested, deploy, alert` still fires with the first, the only one that was tested. Had a new
// start taken the place of the old one, that chain would be lost; had it been ignored, a window would end too early.
// After a firing everything starts anew; the event that completed one chain does not open the next.
//
// To know all that, the newest chain of each length is enough: a chain with a newer start lives longer and can do all
// that the older one can. The chain of length k+1 lies in refs at k(k+1)/2.
type sequence struct {
	within int64
	parts  int
}

func (sequence) begins(part int) bool { return part == 0 }

func (s sequence) take(g *group, in input) outcome {
	k := int(in.part)
	if k == 0 {
		g.deadline = later(in.at, s.within) // no chain in the group has a newer start
		s.keep(g, nil, in.ref)
		return outcome{}
	}
	before := s.chain(g, k-1)
	if before == nil || !before[0].alive(s.within, in.at) {
		return outcome{}
	}
	if k == s.parts-1 {
		return outcome{fired: append(slices.Clip(before), in.ref), over: true}
	}
	s.keep(g, before, in.ref)
	return outcome{}
}

func (s sequence) chain(g *group, k int) []ref {
	if from := start(k); len(g.refs) > from {
		return g.refs[from:start(k+1)]
	}
	return nil
}

// keep makes a chain of before and last the newest of its length.
func (s sequence) keep(g *group, before []ref, last ref) {
	from, to := start(len(before)), start(len(before)+1)
	if len(g.refs) < to {
		g.refs = append(g.refs, make([]ref, to-len(g.refs))...) // before still has its events where g.refs moved away
	}
	copy(g.refs[from:to], before)
	g.refs[to-1] = last
}

func start(k int) int { return k * (k + 1) / 2 }

func (sequence) end(*group) []ref { return nil }

// live is the longest chain whose window is open.
func (s sequence) live(g *group, now int64) []ref {
	for k := s.parts - 2; k >= 0; k-- {
		if c := s.chain(g, k); c != nil && c[0].alive(s.within, now) {
			return c
		}
	}
	return nil
}

func (s sequence) missing(live []ref) ([]int, int) {
	parts := make([]int, 0, s.parts-len(live))
	for i := len(live); i < s.parts; i++ {
		parts = append(parts, i)
	}
	return parts, len(parts)
}

func (s sequence) holds(g *group) bool {
	for k := range s.parts - 1 {
		c := s.chain(g, k)
		if c == nil && k == 0 || c != nil && !partsOf(c, func(i int) int { return i }) {
			return false
		}
		if len(g.refs) == start(k+1) {
			return true
		}
		if len(g.refs) < start(k+2) {
			return false
		}
	}
	return false
}
