package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/bmatcuk/doublestar/v4"
)

// target is one that is held or waited for.
type target struct {
	name    string
	holder  *ticket
	waiting queue[*wait]
	radii   []*radius
	blocked bool // it is in the queues of its radii
}

// order is that of the first that waits.
func (x *target) order() uint64 { return x.waiting[0].seq }

// wait is a run's wait for a target. A run whose steps run in parallel may have several.
type wait struct {
	run    *ticket
	target *target
	seq    uint64
	limit  *limit
}

func (w *wait) order() uint64 { return w.seq }

// held is what a run holds and waits for.
type held struct {
	targets []*target
	waits   []*wait
}

func (t *ticket) lock() *held {
	if t.locks == nil {
		t.locks = &held{}
	}
	return t.locks
}

// radius is a BlastRadius at work.
type radius struct {
	globs   []string
	most    int
	held    int
	waits   int            // for its targets
	blocked queue[*target] // of its targets: those that are free and waited for
}

// locks are all targets. One that is free and waited for is blocked: a radius of it has no room. Blocked ones get their turn
// in the order of the requests that wait for them; one of several radii may be overtaken by others while one of them is full.
type locks struct {
	targets map[string]*target
	radii   []*radius
	// pending are free and waited for since a restart, maybe with other options.
	pending []*target
}

func newLocks(list []BlastRadius) locks {
	s := locks{targets: map[string]*target{}}
	for i := range list {
		s.radii = append(s.radii, &radius{globs: slices.Clone(list[i].Targets), most: list[i].most()})
	}
	return s
}

func (s *locks) target(name string) *target {
	x := s.targets[name]
	if x == nil {
		x = &target{name: name}
		for _, r := range s.radii {
			if slices.ContainsFunc(r.globs, func(glob string) bool { return doublestar.MatchUnvalidated(glob, name) }) {
				x.radii = append(x.radii, r)
			}
		}
		s.targets[name] = x
	}
	return x
}

// room reports whether a free target may be had by one that comes now, and otherwise which radius has no room.
func (x *target) room() (*radius, bool) {
	for _, r := range x.radii {
		if r.held >= r.most {
			return r, false
		}
	}
	return nil, true
}

// Lock asks for a target. Release is what gives it back.
func (g *Gate) Lock(at time.Time, l Lock) []Answer {
	g.advance(nanos(at))
	run, name, attempt := bounded(l.Run), bounded(l.Target), int32(l.Attempt)
	t, over := g.known(run, attempt)
	switch {
	case over != nil:
		g.out = append(g.out, Answer{Run: run, Attempt: l.Attempt, Verdict: Refused, Target: name, Reason: ReasonEnded, Message: over.Message})
		return g.answers()
	case t == nil:
		g.seq++
		t = &ticket{run: run, rule: unique.Make(bounded(l.Rule)), seq: g.seq, attempt: attempt, admitted: true}
		g.runs[run] = t
	case !t.admitted:
		g.answer(t, Answer{Verdict: Refused, Target: name, Reason: ReasonNotAdmitted, First: true,
			Message: "the run waits for its turn in its group, and may change nothing until then"})
		return g.answers()
	}
	g.lock(t, g.locks.target(name), l.Limit)
	return g.answers()
}

func (g *Gate) lock(t *ticket, x *target, l *Limit) {
	if x.holder == t {
		g.answer(t, Answer{Verdict: Locked, Target: x.name})
		return
	}
	if i := slices.IndexFunc(t.lock().waits, func(w *wait) bool { return w.target == x }); i >= 0 {
		g.lockWaits(t.locks.waits[i])
		return
	}
	if len(t.locks.targets)+len(t.locks.waits) >= MaxTargets {
		g.answer(t, Answer{Verdict: Refused, Target: x.name, Reason: ReasonBlastRadius, First: true,
			Message: fmt.Sprintf("one run may change %d targets at most", MaxTargets)})
		g.forgetTarget(x)
		return
	}
	g.seq++
	w := &wait{run: t, target: x, seq: g.seq}
	if l != nil {
		bound := newLimit(*l)
		w.limit = &bound
	}
	_, room := x.room()
	free := room && x.holder == nil && len(x.waiting) == 0
	reason := ""
	// Even what is free may be too much for a run that waits for another target, since it takes room away.
	if waits := len(t.locks.waits) > 0; !free || waits {
		g.join(w)
		reason = g.hopeless(t)
		if !free && reason == "" {
			g.lockWaits(w)
			return
		}
		g.drop(w)
	}
	if reason != "" {
		g.refuseLock(w, reason)
	} else {
		g.grant(w)
	}
	g.forgetTarget(x)
}

func (g *Gate) refuseLock(w *wait, reason string) {
	a := Answer{Verdict: Refused, Target: w.target.name, Reason: reason, First: true}
	if holder := w.target.holder; holder != nil {
		a.Behind = holder.run
	}
	a.Message = fmt.Sprintf("%s is held by run %s, which waits for this run in its turn", w.target.name, a.Behind)
	if reason == ReasonBlastRadius {
		a.Message = fmt.Sprintf("to change %s would be more than its blast radius allows while this run, and those that wait for it, go on", w.target.name)
	} else if a.Behind == "" {
		a.Message = fmt.Sprintf("runs that wait for %s before it wait for this run in their turn", w.target.name)
	}
	g.answer(w.run, a)
}

func (g *Gate) lockWaits(w *wait) {
	x, a := w.target, Answer{Verdict: LockWaits, Target: w.target.name}
	if i, _ := x.waiting.find(w.seq); i > 0 {
		a.Behind = x.waiting[i-1].run.run
	} else if x.holder != nil {
		a.Behind = x.holder.run
	}
	a.Message = fmt.Sprintf("waits until run %s has ended, which holds %s or is before it", a.Behind, x.name)
	if r, _ := x.room(); a.Behind == "" && r != nil {
		a.Message = fmt.Sprintf("waits until fewer than %d of the targets %s are being changed", r.most, strings.Join(r.globs, ", "))
	}
	g.answer(w.run, a)
}

// grant gives a run its target, unless the limit refuses it.
func (g *Gate) grant(w *wait) {
	if w.limit != nil {
		bound := []limit{*w.limit}
		if no := g.full(w.run, bound); no != nil {
			g.answer(w.run, Answer{Verdict: Refused, Target: w.target.name, Reason: no.reason, Message: no.message, Key: no.key, First: no.first})
			return
		}
		g.count(bound)
	}
	w.target.holder = w.run
	w.run.locks.targets = append(w.run.locks.targets, w.target)
	for _, r := range w.target.radii {
		r.held++
	}
	g.answer(w.run, Answer{Verdict: Locked, Target: w.target.name})
}

// join puts a wait into its queue.
func (g *Gate) join(w *wait) {
	x := w.target
	x.waiting.push(w)
	w.run.locks.waits = append(w.run.locks.waits, w)
	for _, r := range x.radii {
		r.waits++
	}
	block(x)
}

// drop takes a wait out of its queue.
func (g *Gate) drop(w *wait) {
	x := w.target
	unblock(x)
	x.waiting.remove(w)
	w.run.locks.waits = slices.DeleteFunc(w.run.locks.waits, func(o *wait) bool { return o == w })
	for _, r := range x.radii {
		r.waits--
	}
	block(x)
}

// block makes a target that is free and waited for a blocked one.
func block(x *target) {
	if x.holder != nil || len(x.waiting) == 0 || x.blocked {
		return
	}
	x.blocked = true
	for _, r := range x.radii {
		r.blocked.insert(x)
	}
}

func unblock(x *target) {
	if !x.blocked {
		return
	}
	x.blocked = false
	for _, r := range x.radii {
		r.blocked.remove(x)
	}
}

// unlock frees what a run holds and waits for, and lets others have it.
func (g *Gate) unlock(t *ticket) {
	if t.locks == nil {
		return
	}
	for _, w := range slices.Clone(t.locks.waits) {
		g.drop(w)
		g.forgetTarget(w.target)
	}
	for _, x := range t.locks.targets {
		x.holder = nil
		for _, r := range x.radii {
			r.held--
		}
		g.offer(x)
	}
	t.locks = nil
	g.settle()
}

// offer lets the next run have a target that is free again.
func (g *Gate) offer(x *target) {
	for len(x.radii) == 0 && x.holder == nil && len(x.waiting) > 0 {
		g.grantNext(x)
	}
	block(x)
	g.forgetTarget(x)
}

func (g *Gate) grantNext(x *target) {
	w := x.waiting[0]
	g.drop(w)
	unblock(x)
	g.grant(w)
	block(x)
	g.forgetTarget(x)
}

// settle grants blocked targets for which there is room now, the longest wait first.
func (g *Gate) settle() {
	at := make([]int, len(g.locks.radii)) // what is before it in a radius has no room in another one
	for x := g.locks.next(at); x != nil; x = g.locks.next(at) {
		g.grantNext(x)
	}
}

func (s *locks) next(at []int) *target {
	var first *target
	for i, r := range s.radii {
		for r.held < r.most && at[i] < len(r.blocked) {
			x := r.blocked[at[i]]
			if _, ok := x.room(); ok {
				if first == nil || x.order() < first.order() {
					first = x
				}
				break
			}
			at[i]++
		}
	}
	return first
}

func (g *Gate) forgetTarget(x *target) {
	if x.holder == nil && len(x.waiting) == 0 {
		delete(g.locks.targets, x.name)
	}
}

// resume settles what a restart with other options may have made possible.
func (g *Gate) resume() {
	if g.locks.pending == nil {
		return
	}
	for _, x := range g.locks.pending {
		g.offer(x)
	}
	g.locks.pending = nil
	g.settle()
}
