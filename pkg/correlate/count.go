package correlate

import "slices"

// counting fires at the n-th event of a window that slides: it always reaches back from the newest event. After a firing
// it starts from zero, so the events of one firing are never part of another; with each it starts nothing anew, and
// every further event fires while the window that ends with it holds n or more. A firing lists the newest n events.
//
// Of the events only the newest n-1 are kept: with those, one more decides.
type counting struct {
	within int64
	n      int
	each   bool
}

func (counting) begins(int) bool { return true }

func (c counting) take(g *group, in input) outcome {
	g.refs = unended(g.refs, c.within, in.at)
	g.deadline = later(in.at, c.within)
	if len(g.refs)+1 < c.n {
		g.refs = append(g.refs, in.ref)
		return outcome{}
	}
	fired := append(slices.Clip(g.refs), in.ref)
	if !c.each || c.n == 1 {
		return outcome{fired: fired, over: true}
	}
	g.refs = append(g.refs[1:], in.ref)
	return outcome{fired: fired}
}

func (counting) end(*group) []ref { return nil }

func (c counting) live(g *group, now int64) []ref { return unended(g.refs, c.within, now) }

func (c counting) missing(live []ref) ([]int, int) { return nil, c.n - len(live) }

func (c counting) holds(g *group) bool {
	return len(g.refs) > 0 && len(g.refs) < c.n && partsOf(g.refs, unnamed)
}
