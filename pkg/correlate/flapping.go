package correlate

import (
	"slices"
	"strings"
)

// flapping fires at the n-th change of state within a window that slides as that of count does, and is then quiet until
// a whole window has passed without a change; changes count again from there. A change is an event whose state differs
// from the one before it. The first event of a group is a start, not a change; so is the first after a whole window
// without any event, since what was said longer ago is forgotten. A firing lists the changes.
//
// refs holds the changes that count; while quiet, only the last one.
type flapping struct {
	within int64
	n      int
}

func (flapping) begins(int) bool { return true }

func (f flapping) take(g *group, in input) outcome {
	start := g.deadline == 0
	g.deadline = later(in.at, f.within)
	if start || in.state == g.state {
		if start {
			g.state = strings.Clone(in.state)
		}
		return outcome{}
	}
	g.state = strings.Clone(in.state)
	g.refs = unended(g.refs, f.within, in.at)
	if g.quiet = g.quiet && len(g.refs) > 0; g.quiet {
		g.refs = append(g.refs[:0], in.ref)
		return outcome{}
	}
	if len(g.refs)+1 < f.n {
		g.refs = append(g.refs, in.ref)
		return outcome{}
	}
	fired := append(slices.Clip(g.refs), in.ref)
	g.refs, g.quiet = []ref{in.ref}, true
	return outcome{fired: fired}
}

func (flapping) end(*group) []ref { return nil }

func (f flapping) live(g *group, now int64) []ref { return unended(g.refs, f.within, now) }

func (f flapping) missing(live []ref) ([]int, int) { return nil, f.n - len(live) }

func (f flapping) holds(g *group) bool {
	return len(g.refs) < f.n && partsOf(g.refs, unnamed) && (!g.quiet || len(g.refs) == 1)
}
