package correlate

// pattern is what one kind of correlation does with the matches of a group.
type pattern interface {
	// begins reports whether a match of the part makes a group where there is none.
	begins(part int) bool
	// take adds a match to the group, and sets its deadline.
	take(g *group, in input) outcome
	// end returns what fires when the window ends with nothing more; nil for kinds that then merely forget.
	end(g *group) []ref
	// live returns what the group has at now towards its next firing.
	live(g *group, now int64) []ref
	// missing returns the parts that are awaited, and how many events or changes, given what is live.
	missing(live []ref) (parts []int, n int)
	// holds reports whether the group could be one of this pattern, when it is read back.
	holds(g *group) bool
}

type input struct {
	ref
	state string
	// more says that the same event matches another part with the same key, which follows.
	more bool
}

// outcome of taking a match: the events that fire, if any, and whether the group is over.
type outcome struct {
	fired []ref
	over  bool
}

func newPattern(s *Spec) pattern {
	within := int64(s.Within)
	switch s.Kind {
	case Sequence:
		return sequence{within, len(s.Parts)}
	case All:
		return conjunction{within, len(s.Parts)}
	case Absence:
		return absence{within}
	case Collect:
		return collection{within}
	case Flapping:
		return flapping{within, s.Changes}
	default:
		return counting{within, s.Count, s.Each}
	}
}

// partsOf reports whether refs are all there, each of the part that want names.
func partsOf(refs []ref, want func(i int) int) bool {
	for i := range refs {
		if refs[i].none() || int(refs[i].part) != want(i) {
			return false
		}
	}
	return true
}

func unnamed(int) int { return 0 }
