package correlate_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

// occurrence is one event of the model: all its matches, under one key.
type occurrence struct {
	seq   uint64
	at    int // seconds of log time
	parts map[int]bool
	state string
}

// history keeps all events of a key, as a machine need not, and says from the definitions alone what fires.
type history struct {
	spec   correlate.Spec
	within int
	events []occurrence
	end    int // log time at the end
}

// firing in the model's form: what must be equal.
type firing struct {
	key    string
	window uint64
	at     int
	events []uint64
}

func (h history) firings() []firing {
	switch h.spec.Kind {
	case correlate.Count:
		return h.counts()
	case correlate.Sequence, correlate.All:
		return h.conjunctions()
	case correlate.Absence:
		return h.absences()
	case correlate.Collect:
		return h.collections()
	default:
		return h.flappings()
	}
}

// counts looks back from every event over those that no firing has used.
func (h history) counts() (out []firing) {
	used := -1
	for i, e := range h.events {
		var in []uint64
		for k := i; k > used && e.at-h.events[k].at < h.within; k-- {
			in = append(in, h.events[k].seq)
		}
		if len(in) < h.spec.Count {
			continue
		}
		in = in[:h.spec.Count]
		slices.Reverse(in)
		out = append(out, firing{window: e.seq, at: e.at, events: in})
		if !h.spec.Each {
			used = i
		}
	}
	return out
}

// conjunctions tries, for every event as the last, all combinations of the earlier ones, newest first.
func (h history) conjunctions() (out []firing) {
	used := -1
	for i, e := range h.events {
		var chosen []int
		if h.spec.Kind == correlate.Sequence {
			chosen = h.chain(i, len(h.spec.Parts)-1, used, e.at)
		} else {
			chosen = h.newest(i, used)
		}
		if chosen == nil {
			continue
		}
		f := firing{window: e.seq, at: e.at}
		for _, k := range chosen {
			f.events = append(f.events, h.events[k].seq)
		}
		out = append(out, f)
		used = i
	}
	return out
}

// chain returns the newest chain of parts 0 to part that ends with event i, begun after used and in a window open at now.
func (h history) chain(i, part, used, now int) []int {
	e := h.events[i]
	if !e.parts[part] || part == 0 && now-e.at >= h.within {
		return nil
	}
	if part == 0 {
		return []int{i}
	}
	for k := i - 1; k > used; k-- {
		if c := h.chain(k, part-1, used, now); c != nil {
			return append(c, i)
		}
	}
	return nil
}

func (h history) newest(i, used int) []int {
	var all []int
	last := false
	for part := range h.spec.Parts {
		found := -1
		for k := i; k > used && found < 0 && h.events[i].at-h.events[k].at < h.within; k-- {
			if h.events[k].parts[part] {
				found = k
			}
		}
		if found < 0 {
			return nil
		}
		last = last || found == i
		all = append(all, found)
	}
	if !last {
		return nil
	}
	slices.Sort(all)
	return all
}

// absences looks from every event that can open a window for what ends it.
func (h history) absences() (out []firing) {
	for i := 0; i < len(h.events); {
		if !h.events[i].parts[0] {
			i++
			continue
		}
		until := h.events[i].at + h.within
		next := i + 1
		for next < len(h.events) && h.events[next].at < until && !h.events[next].parts[1] {
			next++
		}
		if (next == len(h.events) || h.events[next].at >= until) && h.end >= until {
			out = append(out, firing{window: h.events[i].seq, at: until, events: []uint64{h.events[i].seq}})
		}
		i = next
	}
	return out
}

func (h history) collections() (out []firing) {
	for i := 0; i < len(h.events); {
		f := firing{window: h.events[i].seq, at: h.events[i].at + h.within}
		for ; i < len(h.events) && h.events[i].at < f.at; i++ {
			f.events = append(f.events, h.events[i].seq)
		}
		if f.at <= h.end {
			out = append(out, f)
		}
	}
	return out
}

// flappings finds the changes first, and then looks at every change whether a quiet holds, and what lies before.
func (h history) flappings() (out []firing) {
	var changes []occurrence
	for i := 1; i < len(h.events); i++ {
		if a, b := h.events[i-1], h.events[i]; a.state != b.state && b.at-a.at < h.within {
			changes = append(changes, b)
		}
	}
	quiet, from := false, 0
	for i, c := range changes {
		if quiet && c.at-changes[i-1].at < h.within {
			continue
		}
		if quiet {
			quiet, from = false, i
		}
		in := slices.DeleteFunc(slices.Clone(changes[from:i+1]), func(o occurrence) bool { return c.at-o.at >= h.within })
		if len(in) == h.spec.Changes {
			f := firing{window: c.seq, at: c.at}
			for _, o := range in {
				f.events = append(f.events, o.seq)
			}
			out = append(out, f)
			quiet = true
		}
	}
	return out
}

// call is one call of a machine.
type call struct {
	at      int
	matches []correlate.Match // none: Advance
}

func specs() []correlate.Spec {
	within := 10 * time.Second
	return []correlate.Spec{
		{Kind: correlate.Count, Count: 1, Within: within},
		{Kind: correlate.Count, Count: 3, Within: within},
		{Kind: correlate.Count, Count: 3, Each: true, Within: within},
		{Kind: correlate.Sequence, Parts: []string{"a", "b"}, Within: within},
		{Kind: correlate.Sequence, Parts: []string{"a", "b", "c"}, Within: within},
		{Kind: correlate.Sequence, Parts: []string{"a", "b", "c", "d"}, Within: within},
		{Kind: correlate.All, Parts: []string{"a", "b", "c"}, Within: within},
		{Kind: correlate.Absence, Parts: []string{"a", "b"}, Within: within},
		{Kind: correlate.Collect, Within: within},
		{Kind: correlate.Flapping, Changes: 2, Within: within},
		{Kind: correlate.Flapping, Changes: 4, Within: within},
	}
}

func eachSpec(t *testing.T, test func(t *testing.T, s correlate.Spec)) {
	for i, s := range specs() {
		t.Run(fmt.Sprintf("%d-%s", i, s.Kind), func(t *testing.T) { test(t, s) })
	}
}

// calls makes random ones. Some events are late, some times stand still, and some jump.
func calls(rng *rand.Rand, s correlate.Spec, n, keys int) []call {
	var list []call
	now, seq := 0, uint64(0)
	for range n {
		now += []int{0, 0, 0, 1, 1, 1, 2, 3, 4, 9, 10, 11, 40}[rng.IntN(13)]
		c := call{at: now - max(0, rng.IntN(12)-8)}
		if rng.IntN(5) > 0 {
			seq++
			c.matches = randomMatches(rng, s, keys, c.at, seq)
		} else {
			c.at = now
		}
		list = append(list, c)
	}
	return append(list, call{at: now + 1000})
}

func randomMatches(rng *rand.Rand, s correlate.Spec, keys, at int, seq uint64) (list []correlate.Match) {
	x := correlate.Match{Pos: event.Pos{Seq: seq, Index: int(seq % 3)}, ID: fmt.Sprint("e", seq), At: second(at), State: string('x' + rune(rng.IntN(3)))}
	for part := range max(1, len(s.Parts)) {
		if len(list) == 0 || rng.IntN(4) == 0 {
			x.Part, x.Key = part, fmt.Sprint("k", rng.IntN(keys))
			if len(s.Parts) > 0 && rng.IntN(2) == 0 {
				x.Part = rng.IntN(len(s.Parts))
			}
			list = append(list, x)
		}
	}
	return list
}

func second(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }

func do(m *correlate.Machine, c call) []correlate.Firing {
	if c.matches == nil {
		return m.Advance(second(c.at))
	}
	return m.Add(c.matches...)
}

func TestMachineAgreesWithTheDefinitions(t *testing.T) {
	eachSpec(t, func(t *testing.T, s correlate.Spec) {
		total := 0
		for seed := range uint64(60) {
			list := calls(rand.New(rand.NewPCG(seed, 1)), s, 150, 2)
			neverBehindAdvance(list)
			want := modelFirings(s, list)
			got := machineFirings(newMachine(t, s), list)
			total += len(want)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d\ngot  %v\nwant %v", seed, got, want)
			}
		}
		if total < 20 {
			t.Errorf("only %d firings were compared", total)
		}
	})
}

// neverBehindAdvance makes late only what is late in the log, as events are where Advance is given log time.
func neverBehindAdvance(list []call) {
	floor := 0
	for i, c := range list {
		if c.matches == nil {
			floor = max(floor, c.at)
		}
		list[i].at = max(c.at, floor)
		for k := range c.matches {
			c.matches[k].At = second(list[i].at)
		}
	}
}

func modelFirings(s correlate.Spec, list []call) (out []firing) {
	histories := map[string]*history{}
	clock := 0
	for _, c := range list {
		for _, x := range c.matches {
			if histories[x.Key] == nil {
				histories[x.Key] = &history{spec: s, within: int(s.Within / time.Second)}
			}
		}
		clock = max(clock, c.at)
		seen := map[string]*occurrence{}
		for _, x := range c.matches {
			if seen[x.Key] == nil {
				seen[x.Key] = &occurrence{seq: x.Pos.Seq, at: clock, parts: map[int]bool{}, state: x.State}
			}
			seen[x.Key].parts[x.Part] = true
		}
		for key, o := range seen {
			histories[key].events = append(histories[key].events, *o)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(histories)) {
		h := histories[key]
		h.end = clock
		for _, f := range h.firings() {
			f.key = key
			out = append(out, f)
		}
	}
	sortFirings(out)
	return out
}

func machineFirings(m *correlate.Machine, list []call) (out []firing) {
	for _, c := range list {
		for _, f := range do(m, c) {
			out = append(out, simple(f))
		}
	}
	sortFirings(out)
	return out
}

func simple(f correlate.Firing) firing {
	s := firing{key: f.Key, at: int(f.At.Sub(start) / time.Second)}
	fmt.Sscanf(f.Window, "%d.", &s.window)
	for _, r := range f.Events {
		s.events = append(s.events, r.Pos.Seq)
	}
	return s
}

func sortFirings(list []firing) {
	slices.SortFunc(list, func(a, b firing) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.window, b.window), cmp.Compare(a.key, b.key))
	})
}
