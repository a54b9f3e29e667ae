package correlate

import "slices"

// conjunction (`all`) fires when each part has come at least once, in any order, with less than the window between the
// oldest and the newest of them. Of a part that came several times the newest counts. One event may serve several parts.
// After a firing everything starts anew. refs holds the newest event of each part.
type conjunction struct {
	within int64
	parts  int
}

func (conjunction) begins(int) bool { return true }

func (c conjunction) take(g *group, in input) outcome {
	if g.refs == nil {
		g.refs = make([]ref, c.parts)
	}
	g.refs[in.part] = in.ref
	g.deadline = later(in.at, c.within)
	if in.more || len(c.live(g, in.at)) < c.parts {
		return outcome{}
	}
	return outcome{fired: c.live(g, in.at), over: true}
}

func (conjunction) end(*group) []ref { return nil }

func (c conjunction) live(g *group, now int64) []ref {
	live := make([]ref, 0, c.parts)
	for i := range g.refs {
		if g.refs[i].alive(c.within, now) {
			live = append(live, g.refs[i])
		}
	}
	slices.SortStableFunc(live, func(a, b ref) int { return a.pos().Compare(b.pos()) })
	return live
}

func (c conjunction) missing(live []ref) ([]int, int) {
	var parts []int
	for i := range c.parts {
		if !slices.ContainsFunc(live, func(r ref) bool { return int(r.part) == i }) {
			parts = append(parts, i)
		}
	}
	return parts, len(parts)
}

func (c conjunction) holds(g *group) bool {
	some := false
	for i := range g.refs {
		if !g.refs[i].none() {
			some = true
			if int(g.refs[i].part) != i {
				return false
			}
		}
	}
	return some && len(g.refs) == c.parts
}
