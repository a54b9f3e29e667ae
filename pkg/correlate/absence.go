package correlate

// absence fires when its first part has come and the window that it opened ends without the second. It fires at the
// window's end, once. While it waits, further events of the first part change nothing: the wait is as long as promised
// to the first of them, and an alert that repeats every minute can't put it off for ever. After the second part, or a
// firing, the next event of the first part opens a new wait. An event that is both ends a wait and opens the next, so
// that a heartbeat can be both parts of a rule that fires when it stops.
type absence struct{ within int64 }

func (absence) begins(part int) bool { return part == 0 }

func (a absence) take(g *group, in input) outcome {
	if in.part != 0 {
		return outcome{over: true}
	}
	if len(g.refs) == 0 {
		g.refs = append(g.refs, in.ref)
		g.deadline = later(in.at, a.within)
	}
	return outcome{}
}

func (absence) end(g *group) []ref { return g.refs }

func (absence) live(g *group, _ int64) []ref { return g.refs }

func (absence) missing([]ref) ([]int, int) { return []int{1}, 1 }

func (absence) holds(g *group) bool { return len(g.refs) == 1 && partsOf(g.refs, unnamed) }
