package gate

import (
	"cmp"
	"slices"
)

// hopeless returns the reason why a run that has just joined a queue could never be served, or nothing.
//
// Nobody waits in a circle before it joins, so it can only have closed one itself; and only if somebody waits for it.
func (g *Gate) hopeless(t *ticket) string {
	switch {
	case !g.hasFollowers(t) || !g.stuck(t, true):
		return ""
	case g.stuck(t, false):
		return ReasonDeadlock
	}
	return ReasonBlastRadius
}

// hasFollowers reports whether somebody may wait for the run. It may say yes where nobody does.
func (g *Gate) hasFollowers(t *ticket) bool {
	if len(t.locks.waits) > 1 {
		return true
	}
	return slices.ContainsFunc(t.locks.targets, func(x *target) bool {
		return len(x.waiting) > 0 || slices.ContainsFunc(x.radii, func(r *radius) bool { return r.waits > 0 })
	})
}

// stuck reports whether the run can't come to an end whatever others do. It lets all runs end that can: first those that
// wait for nothing, then those for whom these make room, until nothing changes. A run can have a target once its holder
// and all that wait for it earlier can end. In a blast radius those that can't end keep their places, and so do the run's
// own; and since turns are taken in order there, all others that are earlier must be able to end.
func (g *Gate) stuck(t *ticket, radii bool) bool {
	waits := g.waits()
	ends := map[*ticket]bool{}
	for {
		bad := g.badWaits(waits, ends, radii)
		changed := false
		for _, w := range waits {
			if !bad[w.run] && !ends[w.run] {
				ends[w.run], changed = true, true
			}
		}
		if ends[t] || !changed {
			return !ends[t]
		}
	}
}

// waits returns all waits, the longest first.
func (g *Gate) waits() []*wait {
	var all []*wait
	for _, x := range g.locks.targets {
		all = append(all, x.waiting...)
	}
	slices.SortFunc(all, func(a, b *wait) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// badWaits returns the runs with a wait that does not end when those in ends do.
func (g *Gate) badWaits(waits []*wait, ends map[*ticket]bool, radii bool) map[*ticket]bool {
	bad := map[*ticket]bool{}
	stays := func(t *ticket) bool { return t != nil && len(t.locks.waits) > 0 && !ends[t] }
	for _, x := range g.locks.targets {
		blocked := stays(x.holder)
		for _, w := range x.waiting {
			if blocked {
				bad[w.run] = true
			}
			blocked = blocked || stays(w.run)
		}
	}
	for _, r := range g.locks.radii {
		if radii && r.waits > 0 {
			g.badInRadius(r, waits, stays, bad)
		}
	}
	return bad
}

func (g *Gate) badInRadius(r *radius, waits []*wait, stays func(*ticket) bool, bad map[*ticket]bool) {
	kept := 0
	for _, x := range g.locks.targets {
		if slices.Contains(x.radii, r) && stays(x.holder) {
			kept++
		}
	}
	own := map[*ticket]int{} // places that the earlier waits of those who stay will take
	for _, w := range waits {
		if !slices.Contains(w.target.radii, r) {
			continue
		}
		mine := own[w.run]
		others := len(own)
		if mine > 0 {
			others--
		}
		if others > 0 || kept+mine >= r.most {
			bad[w.run] = true
		}
		if stays(w.run) {
			own[w.run]++
		}
	}
}
