package gate

import (
	"cmp"
	"slices"
)

// hopeless returns the reason why a run that has just joined a queue could never be served, or nothing.
//
// Nobody waits in a circle before it joins, so it can only have closed one itself; and only if somebody waits for it.
func (g *Gate) hopeless(t *ticket) string {
	if !g.hasFollowers(t) {
		return ""
	}
	p := &play{gate: g, waits: g.waits()}
	if p.stuck(t) {
		return ReasonDeadlock
	}
	p.radii = g.locks.radii
	if p.stuck(t) {
		return ReasonBlastRadius
	}
	return ""
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

// play looks ahead: it lets all runs end that can, first those that wait for nothing, then those for whom these make room,
// until nothing changes. A run can have a target once its holder and all that wait for it earlier can end, and, in a blast
// radius, once those that can't end leave room. These keep what they hold there; and one of them that waits for several
// targets may get some of them, so all of these count as well, whether it would get them first or not.
type play struct {
	gate  *Gate
	waits []*wait
	radii []*radius
	ends  map[*ticket]bool
}

// stuck reports whether the run can't end.
func (p *play) stuck(t *ticket) bool {
	p.ends = map[*ticket]bool{}
	for changed := true; changed && !p.ends[t]; {
		changed = false
		bad := p.bad()
		for _, w := range p.waits {
			if !bad[w.run] && !p.ends[w.run] {
				p.ends[w.run], changed = true, true
			}
		}
	}
	return !p.ends[t]
}

func (p *play) stays(t *ticket) bool { return t != nil && len(t.locks.waits) > 0 && !p.ends[t] }

// waits returns all waits, the longest first.
func (g *Gate) waits() []*wait {
	var all []*wait
	for _, x := range g.locks.targets {
		all = append(all, x.waiting...)
	}
	slices.SortFunc(all, func(a, b *wait) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// bad returns the runs with a wait that does not end when those in ends do.
func (p *play) bad() map[*ticket]bool {
	bad := map[*ticket]bool{}
	for _, x := range p.gate.locks.targets {
		blocked := p.stays(x.holder)
		for _, w := range x.waiting {
			if blocked {
				bad[w.run] = true
			}
			blocked = blocked || p.stays(w.run)
		}
	}
	for _, r := range p.radii {
		if r.waits > 0 {
			p.badInRadius(r, bad)
		}
	}
	return bad
}

func (p *play) badInRadius(r *radius, bad map[*ticket]bool) {
	kept := 0
	for _, x := range p.gate.locks.targets {
		if slices.Contains(x.radii, r) && p.stays(x.holder) {
			kept++
		}
	}
	var waits []*wait
	for _, w := range p.waits {
		if slices.Contains(w.target.radii, r) {
			waits = append(waits, w)
			if p.stays(w.run) && len(w.run.locks.waits) > 1 {
				kept++
			}
		}
	}
	for _, w := range waits {
		left := kept
		if len(w.run.locks.waits) > 1 && p.stays(w.run) {
			left-- // the wait itself
		}
		if left >= r.most {
			bad[w.run] = true
		}
	}
}
