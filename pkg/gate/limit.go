package gate

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"slices"
	"time"
	"unique"
)

// limit is a Limit within bounds.
type limit struct {
	key  unique.Handle[string]
	runs int32
	per  int64
}

func newLimits(list []Limit) []limit {
	if len(list) == 0 {
		return nil
	}
	out := make([]limit, min(len(list), MaxLimits))
	for i := range out {
		out[i] = newLimit(list[i])
	}
	return out
}

func newLimit(l Limit) limit {
	return limit{key: unique.Make(bounded(l.Key)), runs: int32(min(max(l.Runs, 0), MaxRuns)), per: int64(max(l.Per, 1))}
}

// window is what is known under one key: when runs were admitted, and when it was last told that one failed.
type window struct {
	key     string
	times   []int64 // the newest ones, in order
	most    int32   // of them that any limit of the key counts
	keep    int64   // longest time that any limit of the key counts in
	told    bool
	toldAt  int64
	toldRun string
	toldTry int32 // its attempt

	index int // in expiring
}

// limits are all windows. One is forgotten once nothing in it can matter.
type limits struct {
	keys     map[string]*window
	expiring expiring
	times    int  // in all windows
	crowded  bool // a run was refused since there was last room for a key
}

func (w *window) last() int64 {
	last := int64(math.MinInt64)
	if len(w.times) > 0 {
		last = w.times[len(w.times)-1]
	}
	if w.told {
		last = max(last, w.toldAt)
	}
	return last
}

func (w *window) ends() int64 { return later(w.last(), w.keep) }

// full says which limit has no room for one more run.
func (g *Gate) full(t *ticket, list []limit) *refusal {
	fresh := 0
	for i, l := range list {
		w := g.limits.keys[l.key.Value()]
		if free, ok := w.room(l, g.clock); !ok {
			return g.reached(t, l, free)
		}
		if w == nil && !slices.ContainsFunc(list[:i], func(o limit) bool { return o.key == l.key }) {
			fresh++
		}
	}
	if len(g.limits.keys)+fresh <= g.opt.MaxKeys && g.limits.times+len(list) <= g.opt.MaxCounts || len(list) == 0 {
		return nil
	}
	first := !g.limits.crowded
	g.limits.crowded = true
	return &refusal{reason: ReasonLimitReached, key: list[0].key.Value(), first: first, message: fmt.Sprintf(
		"limits are kept for %d keys with %d runs, and no more can be (at most %d and %d): their `by` has too many values",
		len(g.limits.keys), g.limits.times, g.opt.MaxKeys, g.opt.MaxCounts)}
}

func (g *Gate) reached(t *ticket, l limit, free int64) *refusal {
	no := &refusal{reason: ReasonLimitReached, key: l.key.Value(), first: g.tell(t.run, t.attempt, []limit{l})}
	no.message = fmt.Sprintf("%d runs per %s have begun for %s", l.runs, span(l.per), no.key)
	if l.runs == 0 {
		no.message = fmt.Sprintf("no run may begin for %s", no.key)
	} else if free < math.MaxInt64 {
		no.message += "; the next may at " + stamp(free)
	}
	return no
}

// room reports whether the limit lets one more begin, and when it does otherwise.
func (w *window) room(l limit, now int64) (int64, bool) {
	switch {
	case l.runs == 0:
		return math.MaxInt64, false
	case w == nil || len(w.times) < int(l.runs):
		return now, true
	}
	free := later(w.times[len(w.times)-int(l.runs)], l.per)
	return free, free <= now
}

// count adds a run to all its limits: once to each key.
func (g *Gate) count(list []limit) {
	for i, l := range list {
		w := g.window(l)
		before := len(w.times)
		if !slices.ContainsFunc(list[:i], func(o limit) bool { return o.key == l.key }) {
			w.times = append(w.times, g.clock)
		}
		w.trim(g.clock)
		g.limits.times += len(w.times) - before
		heap.Fix(&g.limits.expiring, w.index)
	}
}

// trim drops what no limit of the key counts any more.
func (w *window) trim(now int64) {
	n := max(0, len(w.times)-int(w.most))
	for n < len(w.times) && later(w.times[n], w.keep) <= now {
		n++
	}
	w.times = w.times[n:]
}

// window returns that of the key, and widens what it remembers to what the limit counts.
func (g *Gate) window(l limit) *window {
	key := l.key.Value()
	w := g.limits.keys[key]
	if w == nil {
		w = &window{key: key}
		g.limits.keys[key] = w
		heap.Push(&g.limits.expiring, w)
	}
	w.most, w.keep = max(w.most, l.runs), max(w.keep, l.per)
	return w
}

func (s *limits) expire(now int64) {
	for len(s.expiring) > 0 && s.expiring[0].ends() <= now {
		w := heap.Pop(&s.expiring).(*window)
		s.times -= len(w.times)
		delete(s.keys, w.key)
		s.crowded = false
	}
}

// expiring is a heap of windows, the first to end on top; keys make the order one.
type expiring []*window

func (h expiring) Len() int { return len(h) }
func (h expiring) Less(i, k int) bool {
	return cmp.Or(cmp.Compare(h[i].ends(), h[k].ends()), cmp.Compare(h[i].key, h[k].key)) < 0
}
func (h expiring) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}

// Push is for container/heap.
func (h *expiring) Push(x any) {
	w := x.(*window)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop is for container/heap.
func (h *expiring) Pop() any {
	n := len(*h) - 1
	w := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return w
}

// Tell answers whether the onFailure of a failed run may run, with Told or Silent.
func (g *Gate) Tell(at time.Time, t Tell) []Answer {
	g.advance(nanos(at))
	run, attempt := bounded(t.Run), int32(t.Attempt)
	memory := g.tellMemory(run, attempt)
	if *memory == notAsked {
		*memory = toldNo
		if g.tell(run, attempt, newLimits(t.Keys)) {
			*memory = toldYes
		}
	}
	a := Answer{Run: run, Attempt: t.Attempt, Verdict: Told}
	if *memory == toldNo {
		a.Verdict, a.Message = Silent, "another run of this limit has told it already"
	}
	g.out = append(g.out, a)
	return g.answers()
}

// tellMemory is where the answer for a run is kept.
func (g *Gate) tellMemory(run string, attempt int32) *verdict {
	if t := g.runs[run]; t != nil {
		if t.attempt == attempt {
			return &t.told
		}
		return new(verdict)
	}
	m := g.past.byRun[run]
	switch {
	case m == nil:
		m = g.remember(&ticket{run: run, attempt: attempt}, endedAnswer(run, attempt))
	case m.answer.Attempt != int(attempt):
		return new(verdict)
	}
	return &m.told
}

// tell reports whether nothing was told for any of the keys within its time, or this run told it, and takes it down. Where
// there is no room to take it down, it is told: to repeat a failure is better than to hide it.
func (g *Gate) tell(run string, attempt int32, list []limit) bool {
	for _, l := range list {
		w := g.limits.keys[l.key.Value()]
		if w != nil && w.told && later(w.toldAt, l.per) > g.clock && (w.toldRun != run || w.toldTry != attempt) {
			return false
		}
	}
	for _, l := range list {
		w := g.limits.keys[l.key.Value()]
		if w == nil && len(g.limits.keys) >= g.opt.MaxKeys {
			continue
		}
		if w = g.window(l); !w.told || later(w.toldAt, l.per) <= g.clock {
			w.told, w.toldAt, w.toldRun, w.toldTry = true, g.clock, run, attempt
		}
		heap.Fix(&g.limits.expiring, w.index)
	}
	return true
}

// Reach is how far a limit is reached.
type Reach struct {
	Runs int       // that count now
	Free time.Time // when the next run may begin; zero where one may
}

// Reach says how far a limit is reached at a time. It changes nothing.
func (g *Gate) Reach(at time.Time, asked Limit) Reach {
	l, now := newLimit(asked), max(g.clock, nanos(at))
	w := g.limits.keys[l.key.Value()]
	var out Reach
	if w != nil {
		for _, t := range w.times {
			if later(t, l.per) > now {
				out.Runs++
			}
		}
	}
	if free, ok := w.room(l, now); !ok {
		out.Free = timeOf(free)
	}
	return out
}
