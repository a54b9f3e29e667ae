package gate

import "fmt"

// storm is the storm brake: the newest times at which healing runs asked, one more than may in Storm.Per.
type storm struct {
	asks []int64
	on   bool
	told bool // the first refusal has gone out
}

// askStorm counts a healing run that asks.
func (g *Gate) askStorm() {
	o, s := g.opt.Storm, &g.storm
	if o.Runs < 0 {
		return
	}
	s.asks = append(s.asks, g.clock)
	s.asks = s.asks[max(0, len(s.asks)-o.Runs-1):]
	if !s.on && len(s.asks) > o.Runs && later(s.asks[0], int64(o.Per)) > g.clock {
		s.on, s.told = true, false
		g.notice(StormBegan, "", g.clock)
	}
}

// stormEnds returns when fewer than Storm.Runs will have asked within Storm.Per, if nobody asks until then.
func (g *Gate) stormEnds() (int64, bool) {
	o, s := g.opt.Storm, &g.storm
	switch {
	case !s.on:
		return 0, false
	case o.Runs < 0 || len(s.asks) < o.Runs: // turned off, or set higher, since it began
		return g.clock, true
	}
	return later(s.asks[len(s.asks)-o.Runs], int64(o.Per)), true
}

func (g *Gate) endStorm(at int64) {
	g.storm.on, g.storm.told = false, false
	g.notice(StormEnded, "", at)
}

func (g *Gate) stormy() *refusal {
	if !g.storm.on {
		return nil
	}
	first := !g.storm.told
	g.storm.told = true
	return &refusal{reason: ReasonStormBrake, first: first, message: fmt.Sprintf(
		"more than %d healing runs asked within %s: all healing stops until fewer ask", g.opt.Storm.Runs, span(int64(g.opt.Storm.Per)))}
}

func (g *Gate) notice(kind NoticeKind, rule string, at int64) {
	g.notices = append(g.notices, Notice{Kind: kind, Rule: rule, At: timeOf(at)})
}
