package gate

import "fmt"

// group has one run under way, and those that wait for it. Whoever waits has a run before it.
type group struct {
	name    string
	holder  *ticket
	waiting queue[*ticket]
	newest  *ticket // the one that waits and may be superseded
	full    bool    // a run was refused since the queue was last not full
}

func (g *Gate) askGroup(t *ticket, name string) {
	x := g.groups[name]
	if x == nil {
		x = &group{name: name}
		g.groups[name] = x
	}
	t.group = x
	switch {
	case x.holder == nil:
		g.enter(t)
		g.forgetGroup(x)
	case t.policy == skips:
		g.refused(t, Answer{Verdict: Superseded, Reason: ReasonGroupBusy, Behind: x.holder.run,
			Message: fmt.Sprintf("run %s of group %q is under way, and the policy is to skip", x.holder.run, name)})
	case len(x.waiting) >= g.opt.MaxQueue && (t.policy == queues || x.newest == nil):
		first := !x.full
		x.full = true
		g.refuse(t, &refusal{reason: ReasonQueueFull, first: first,
			message: fmt.Sprintf("%d runs wait in group %q already, and no more may", len(x.waiting), name)})
	default:
		g.wait(t, x)
	}
}

func (g *Gate) wait(t *ticket, x *group) {
	if t.policy != queues {
		g.supersede(x, t)
		x.newest = t
	}
	x.waiting.push(t)
	g.runs[t.run] = t
	if t.policy == cancels && !x.holder.stopping {
		x.holder.stopping = true
		g.stop(x.holder, t)
	}
	g.queued(t)
}

func (g *Gate) supersede(x *group, by *ticket) {
	old := x.newest
	if old == nil {
		return
	}
	x.waiting.remove(old)
	delete(g.runs, old.run)
	g.refused(old, Answer{Verdict: Superseded, Reason: ReasonSuperseded, Behind: by.run,
		Message: fmt.Sprintf("run %s of group %q is newer and waits in its place", by.run, x.name)})
}

func (g *Gate) stop(holder, by *ticket) {
	g.answer(holder, Answer{Verdict: Stop, Behind: by.run, Message: fmt.Sprintf("run %s of group %q takes its place", by.run, by.group.name)})
}

func (g *Gate) queued(t *ticket) {
	x, before := t.group, t.group.holder
	if i, _ := x.waiting.find(t.seq); i > 0 {
		before = x.waiting[i-1]
	}
	g.answer(t, Answer{Verdict: Queued, Behind: before.run, Message: fmt.Sprintf("waits for run %s of group %q", before.run, x.name)})
}

// repeat gives the answer to a run that is known again.
func (g *Gate) repeat(t *ticket) {
	if t.admitted {
		g.answer(t, Answer{Verdict: Admitted})
		return
	}
	if holder := t.group.holder; t.policy == cancels && holder.stopping {
		g.stop(holder, t)
	}
	g.queued(t)
}

// leave takes a run out of its group, and lets the next one begin.
func (g *Gate) leave(t *ticket) {
	x := t.group
	if x == nil {
		return
	}
	if x.holder == t {
		x.holder = nil
	} else {
		g.unqueue(x, t)
	}
	for x.holder == nil && len(x.waiting) > 0 {
		next := x.waiting[0]
		g.unqueue(x, next)
		g.enter(next)
	}
	g.forgetGroup(x)
}

func (g *Gate) unqueue(x *group, t *ticket) {
	x.waiting.remove(t)
	if x.newest == t {
		x.newest = nil
	}
	if len(x.waiting) < g.opt.MaxQueue {
		x.full = false
	}
}

func (g *Gate) forgetGroup(x *group) {
	if x.holder == nil {
		delete(g.groups, x.name)
	}
}
