package correlate

// collection (`collect`) gathers all events from the first until the window that it opened ends, and fires then, once,
// with all of them. The window does not slide: a stream of events that never ends can't put it off. Of more than
// MaxCollected events the first ones and the last are listed, the others counted.
type collection struct{ within int64 }

func (collection) begins(int) bool { return true }

func (c collection) take(g *group, in input) outcome {
	switch {
	case len(g.refs) == 0:
		g.deadline = later(in.at, c.within)
		g.refs = append(g.refs, in.ref)
	case len(g.refs) < MaxCollected:
		g.refs = append(g.refs, in.ref)
	default:
		g.refs[len(g.refs)-1] = in.ref
		g.rest++
	}
	return outcome{}
}

func (collection) end(g *group) []ref { return g.refs }

func (collection) live(g *group, _ int64) []ref { return g.refs }

func (collection) missing([]ref) ([]int, int) { return nil, 0 }

func (collection) holds(g *group) bool {
	return len(g.refs) > 0 && len(g.refs) <= MaxCollected && partsOf(g.refs, unnamed)
}
