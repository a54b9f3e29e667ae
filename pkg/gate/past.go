package gate

import (
	"fmt"
)

// memory is what is kept of a run that is over: the answer that it gets if it asks again.
type memory struct {
	answer Answer
	seq    uint64
	at     int64
	told   verdict
}

func (m *memory) order() uint64 { return m.seq }

func (m *memory) ended() bool { return m.answer.Reason == ReasonEnded }

// past is the memory of runs that are over. Ended ones are apart, so that many of them do not crowd out refused ones.
type past struct {
	byRun   map[string]*memory
	refused queue[*memory]
	ended   queue[*memory]
}

func (p *past) queue(m *memory) *queue[*memory] {
	if m.ended() {
		return &p.ended
	}
	return &p.refused
}

func endedAnswer(run string, attempt int32) Answer {
	return Answer{Run: run, Attempt: int(attempt), Verdict: Superseded, Reason: ReasonEnded,
		Message: fmt.Sprintf("attempt %d of run %s is over", attempt, run)}
}

func (g *Gate) remember(t *ticket, a Answer) *memory {
	g.seq++
	m := &memory{answer: a, seq: g.seq, at: g.clock, told: t.told}
	g.past.add(m)
	return m
}

func (p *past) add(m *memory) {
	if old := p.byRun[m.answer.Run]; old != nil {
		p.forget(old)
	}
	p.byRun[m.answer.Run] = m
	q := p.queue(m)
	if q.push(m); len(*q) > maxRemembered {
		p.forget((*q)[0])
	}
}

func (p *past) forget(m *memory) {
	p.queue(m).remove(m)
	delete(p.byRun, m.answer.Run)
}

func (p *past) expire(now int64) {
	for _, q := range []*queue[*memory]{&p.refused, &p.ended} {
		for len(*q) > 0 && later((*q)[0].at, int64(remembered)) <= now {
			p.forget((*q)[0])
		}
	}
}
