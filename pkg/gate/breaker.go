package gate

import "fmt"

// breaker is what is known of a rule's healing runs.
type breaker struct {
	ends  []result // while it is closed: the newest, in order
	open  bool
	until int64   // while it is open: when a trial may begin
	trial *ticket // that is under way
	told  bool    // the first refusal since it opened has gone out
}

type result struct {
	at int64
	ok bool
}

// circuit says whether the rule's breaker refuses a run.
func (g *Gate) circuit(rule string) *refusal {
	b := g.breaker[rule]
	if b == nil || !b.open || g.opt.Breaker.Runs < 0 || b.until <= g.clock && b.trial == nil {
		return nil
	}
	no := &refusal{reason: ReasonCircuitOpen, first: !b.told}
	b.told = true
	no.message = fmt.Sprintf("too few runs of rule %s succeed: the next may begin at %s", rule, stamp(b.until))
	if b.trial != nil {
		no.message = fmt.Sprintf("too few runs of rule %s succeed: run %s tries whether they do again", rule, b.trial.run)
	}
	return no
}

// try makes an admitted run the trial of an open breaker.
func (g *Gate) try(t *ticket) {
	if b := g.breaker[t.rule.Value()]; t.heals && b != nil && b.open {
		b.trial, t.trial = t, true
	}
}

// learn takes in how a run ended.
func (g *Gate) learn(t *ticket, o Outcome) {
	rule := t.rule.Value()
	b := g.breaker[rule]
	if t.trial {
		g.tried(b, rule, o)
		return
	}
	if !t.heals || g.opt.Breaker.Runs < 0 || o != Succeeded && o != Failed || b != nil && b.open {
		return
	}
	if b == nil {
		b = &breaker{}
		g.breaker[rule] = b
	}
	b.ends = append(b.ends, result{g.clock, o == Succeeded})
	g.trimBreaker(b)
	if g.fails(b) {
		g.open(b, rule)
	}
}

func (g *Gate) tried(b *breaker, rule string, o Outcome) {
	b.trial = nil
	switch o {
	case Succeeded:
		delete(g.breaker, rule)
		g.notice(BreakerClosed, rule, g.clock)
	case Failed:
		g.open(b, rule)
	}
}

func (g *Gate) open(b *breaker, rule string) {
	*b = breaker{open: true, until: later(g.clock, int64(g.opt.Breaker.Open))}
	g.notice(BreakerOpened, rule, g.clock)
}

func (g *Gate) trimBreaker(b *breaker) {
	n := max(0, len(b.ends)-max(0, g.opt.Breaker.Runs))
	for n < len(b.ends) && later(b.ends[n].at, int64(g.opt.Breaker.Within)) <= g.clock {
		n++
	}
	b.ends = b.ends[n:]
}

func (g *Gate) fails(b *breaker) bool {
	ok := 0
	for _, r := range b.ends {
		if r.ok {
			ok++
		}
	}
	return len(b.ends) >= g.opt.Breaker.Runs && float64(ok) < g.opt.Breaker.Success*float64(len(b.ends))
}

// sweepBreakers forgets, now and then, the rules of which nothing is known any more.
func (g *Gate) sweepBreakers() {
	if g.clock < later(g.swept, int64(g.opt.Breaker.Within)) {
		return
	}
	g.swept = g.clock
	for rule, b := range g.breaker {
		if g.trimBreaker(b); len(b.ends) == 0 && !b.open {
			delete(g.breaker, rule)
		}
	}
}
