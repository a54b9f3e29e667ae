package gate_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/gate"
)

// model does what the package comment says, with lists that are searched from end to end. Times are in seconds.
type model struct {
	opt     gate.Options
	now     int
	runs    []*modelRun // under way or waiting, in order of arrival
	over    []*modelRun // refused, superseded or ended
	counts  []stamped
	tells   map[string]*told // the last one of each key
	asks    []int
	storm   bool
	stormed bool // one was refused as the first
	rules   map[string]*modelRule
	locks   modelLocks

	out     []string
	notices []string
}

type modelRun struct {
	id, rule, group string
	attempt         int
	policy          gate.Policy
	limits          []gate.Limit
	heals           bool
	admitted        bool
	stopping        bool
	trial           bool
	told            string
	answer          string // once it is over
	overAt          int
}

type stamped struct {
	key string
	at  int
}

type told struct {
	at      int
	run     string
	attempt int
}

type modelRule struct {
	ends    []bool
	at      []int
	open    bool
	until   int
	refused bool
}

type modelWait struct {
	target string
	run    *modelRun
	limit  *gate.Limit
}

type modelLocks struct {
	held  map[string]*modelRun
	waits []modelWait
}

func newModel(o gate.Options) *model {
	return &model{opt: o, tells: map[string]*told{}, rules: map[string]*modelRule{}, locks: modelLocks{held: map[string]*modelRun{}}, now: -1 << 40}
}

func seconds(d time.Duration) int { return int(d / time.Second) }

func (m *model) say(r *modelRun, verdict gate.Verdict, target, reason, key string, first bool, behind string) string {
	line := fmt.Sprintf("%s#%d %s target=%s reason=%s key=%s first=%t behind=%s", r.id, r.attempt, verdict, target, reason, key, first, behind)
	m.out = append(m.out, line)
	return line
}

func simple(a gate.Answer) string {
	return fmt.Sprintf("%s#%d %s target=%s reason=%s key=%s first=%t behind=%s", a.Run, a.Attempt, a.Verdict, a.Target, a.Reason, a.Key, a.First, a.Behind)
}

func (m *model) finish(r *modelRun, answer string) {
	m.runs = slices.DeleteFunc(m.runs, func(o *modelRun) bool { return o == r })
	m.forget(r.id)
	r.answer, r.overAt = answer, m.now
	m.over = append(m.over, r)
}

func (m *model) forget(id string) {
	m.over = slices.DeleteFunc(m.over, func(o *modelRun) bool { return o.id == id })
}

func (m *model) refuse(r *modelRun, reason, key string, first bool) {
	m.finish(r, m.say(r, gate.Refused, "", reason, key, first, ""))
}

func find(list []*modelRun, id string) *modelRun {
	if i := slices.IndexFunc(list, func(r *modelRun) bool { return r.id == id }); i >= 0 {
		return list[i]
	}
	return nil
}

// state finds a run as the request means it: live, or over with an answer; it ends lower attempts.
func (m *model) state(id string, attempt int) (live, over *modelRun) {
	if r := find(m.runs, id); r != nil {
		if r.attempt == attempt {
			return r, nil
		}
		if r.attempt > attempt {
			return nil, m.ended(id, attempt)
		}
		m.release(r, gate.Other)
	}
	r := find(m.over, id)
	switch {
	case r == nil:
	case r.attempt == attempt:
		return nil, r
	case r.attempt > attempt:
		return nil, m.ended(id, attempt)
	default:
		m.forget(id)
	}
	return nil, nil
}

func (m *model) ended(id string, attempt int) *modelRun {
	r := &modelRun{id: id, attempt: attempt}
	r.answer = m.say(r, gate.Superseded, "", gate.ReasonEnded, "", false, "")
	m.out = m.out[:len(m.out)-1]
	return r
}

func (m *model) advance(at int) {
	m.now = max(m.now, at)
	m.over = slices.DeleteFunc(m.over, func(r *modelRun) bool { return r.overAt+3600 <= m.now })
	if m.storm && m.asked() < m.opt.Storm.Runs {
		m.storm = false
		m.notices = append(m.notices, "storm ended ")
	}
}

func (m *model) asked() int {
	n := 0
	for _, at := range m.asks {
		if at+seconds(m.opt.Storm.Per) > m.now {
			n++
		}
	}
	return n
}

func (m *model) moveTo(at int) {
	if m.storm {
		if due := m.asks[len(m.asks)-m.opt.Storm.Runs] + seconds(m.opt.Storm.Per); due <= at {
			m.advance(due)
		}
	}
}

func (m *model) admit(a gate.Admission) {
	live, over := m.state(a.Run, a.Attempt)
	if over != nil {
		m.out = append(m.out, over.answer)
		return
	}
	if live != nil {
		m.repeat(live)
		return
	}
	r := &modelRun{id: a.Run, attempt: a.Attempt, rule: a.Rule, group: a.Group, policy: a.Policy, limits: a.Limits, heals: a.Heals}
	if a.Heals {
		m.asks = append(m.asks, m.now)
		if !m.storm && m.asked() > m.opt.Storm.Runs {
			m.storm, m.stormed = true, false
			m.notices = append(m.notices, "storm began ")
		}
	}
	if m.braked(r) {
		return
	}
	holder, waiting := m.inGroup(a.Group)
	if holder == nil {
		m.begin(r)
		return
	}
	newest := slices.IndexFunc(waiting, func(o *modelRun) bool { return o.policy == gate.Coalesce || o.policy == gate.Cancel })
	switch {
	case a.Policy == gate.Skip:
		m.finish(r, m.say(r, gate.Superseded, "", gate.ReasonGroupBusy, "", false, holder.id))
		return
	case a.Policy != gate.Queue && newest >= 0:
		old := waiting[newest]
		m.finish(old, m.say(old, gate.Superseded, "", gate.ReasonSuperseded, "", false, r.id))
	}
	m.runs = append(m.runs, r)
	if a.Policy == gate.Cancel {
		m.stop(holder, r, !holder.stopping)
	}
	m.queued(r)
}

func (m *model) stop(holder, by *modelRun, now bool) {
	if now {
		m.say(holder, gate.Stop, "", "", "", false, by.id)
		holder.stopping = true
	}
}

func (m *model) inGroup(group string) (holder *modelRun, waiting []*modelRun) {
	for _, r := range m.runs {
		if group != "" && r.group == group && r.admitted {
			holder = r
		} else if r.group == group && !r.admitted {
			waiting = append(waiting, r)
		}
	}
	return holder, waiting
}

func (m *model) queued(r *modelRun) {
	holder, waiting := m.inGroup(r.group)
	if i := slices.Index(waiting, r); i > 0 {
		holder = waiting[i-1]
	}
	m.say(r, gate.Queued, "", "", "", false, holder.id)
}

func (m *model) repeat(r *modelRun) {
	if r.admitted {
		m.say(r, gate.Admitted, "", "", "", false, "")
		return
	}
	if holder, _ := m.inGroup(r.group); r.policy == gate.Cancel {
		m.stop(holder, r, holder.stopping)
	}
	m.queued(r)
}

// braked refuses a healing run because of all healing, or all of its rule.
func (m *model) braked(r *modelRun) bool {
	x := m.rules[r.rule]
	switch {
	case !r.heals:
		return false
	case m.storm:
		first := !m.stormed
		m.stormed = true
		m.refuse(r, gate.ReasonStormBrake, "", first)
		return true
	case x == nil || !x.open:
		return false
	}
	trial := slices.ContainsFunc(m.runs, func(o *modelRun) bool { return o.rule == r.rule && o.trial })
	if x.until <= m.now && !trial {
		return false
	}
	first := !x.refused
	x.refused = true
	m.refuse(r, gate.ReasonCircuitOpen, "", first)
	return true
}

func (m *model) counted(l gate.Limit) bool {
	n := 0
	for _, c := range m.counts {
		if c.key == l.Key && c.at+seconds(l.Per) > m.now {
			n++
		}
	}
	return n < l.Runs
}

func (m *model) begin(r *modelRun) bool {
	if m.braked(r) {
		return false
	}
	for _, l := range r.limits {
		if !m.counted(l) {
			m.refuse(r, gate.ReasonLimitReached, l.Key, m.tell(r.id, r.attempt, []gate.Limit{l}))
			return false
		}
	}
	for _, l := range r.limits {
		m.counts = append(m.counts, stamped{l.Key, m.now})
	}
	r.admitted = true
	if x := m.rules[r.rule]; r.heals && x != nil && x.open {
		r.trial = true
	}
	if !slices.Contains(m.runs, r) {
		m.runs = append(m.runs, r)
	}
	m.say(r, gate.Admitted, "", "", "", false, "")
	return true
}

func (m *model) tell(id string, attempt int, limits []gate.Limit) bool {
	holds := func(l gate.Limit) bool {
		x := m.tells[l.Key]
		return x != nil && x.at+seconds(l.Per) > m.now
	}
	for _, l := range limits {
		if x := m.tells[l.Key]; holds(l) && (x.run != id || x.attempt != attempt) {
			return false
		}
	}
	for _, l := range limits {
		if !holds(l) {
			m.tells[l.Key] = &told{m.now, id, attempt}
		}
	}
	return true
}

func (m *model) askTell(t gate.Tell) {
	r := cmp.Or(find(m.runs, t.Run), find(m.over, t.Run))
	if r == nil {
		r = &modelRun{id: t.Run, attempt: t.Attempt}
		m.finish(r, m.ended(t.Run, t.Attempt).answer)
	} else if r.attempt != t.Attempt {
		r = &modelRun{id: t.Run, attempt: t.Attempt}
	}
	if r.told == "" {
		r.told = string(gate.Silent)
		if m.tell(t.Run, t.Attempt, t.Keys) {
			r.told = string(gate.Told)
		}
	}
	m.say(r, gate.Verdict(r.told), "", "", "", false, "")
}

func (m *model) release(r *modelRun, o gate.Outcome) {
	m.finish(r, m.ended(r.id, r.attempt).answer)
	if r.admitted && r.heals && o != gate.Other {
		m.learn(r, o == gate.Succeeded)
	}
	if r.admitted && r.group != "" {
		_, waiting := m.inGroup(r.group)
		for _, next := range waiting {
			if m.begin(next) {
				break
			}
		}
	}
	for target, holder := range m.locks.held {
		if holder == r {
			delete(m.locks.held, target)
		}
	}
	m.locks.waits = slices.DeleteFunc(m.locks.waits, func(w modelWait) bool { return w.run == r })
	m.settle()
}

func (m *model) learn(r *modelRun, ok bool) {
	x := m.rules[r.rule]
	if x == nil {
		x = &modelRule{}
		m.rules[r.rule] = x
	}
	switch {
	case r.trial && ok:
		delete(m.rules, r.rule)
		m.notices = append(m.notices, "breaker closed "+r.rule)
		return
	case r.trial:
		m.open(r.rule)
		return
	case x.open:
		return
	}
	x.ends, x.at = append(x.ends, ok), append(x.at, m.now)
	known, good := 0, 0
	for i := len(x.ends) - 1; i >= 0 && known < m.opt.Breaker.Runs && x.at[i]+seconds(m.opt.Breaker.Within) > m.now; i-- {
		if known++; x.ends[i] {
			good++
		}
	}
	if known == m.opt.Breaker.Runs && float64(good)/float64(known) < m.opt.Breaker.Success {
		m.open(r.rule)
	}
}

func (m *model) open(rule string) {
	m.rules[rule] = &modelRule{open: true, until: m.now + seconds(m.opt.Breaker.Open)}
	m.notices = append(m.notices, "breaker opened "+rule)
}

func (m *model) lock(l gate.Lock) {
	r, over := m.state(l.Run, l.Attempt)
	switch {
	case over != nil:
		m.say(&modelRun{id: l.Run, attempt: l.Attempt}, gate.Refused, l.Target, gate.ReasonEnded, "", false, "")
		return
	case r == nil:
		r = &modelRun{id: l.Run, attempt: l.Attempt, rule: l.Rule, admitted: true}
		m.runs = append(m.runs, r)
	case !r.admitted:
		m.say(r, gate.Refused, l.Target, gate.ReasonNotAdmitted, "", true, "")
		return
	}
	if m.locks.held[l.Target] == r {
		m.say(r, gate.Locked, l.Target, "", "", false, "")
		return
	}
	if m.waitsFor(r, l.Target) {
		m.lockWaits(r, l.Target)
		return
	}
	before := len(m.out)
	m.locks.waits = append(m.locks.waits, modelWait{l.Target, r, l.Limit})
	if m.settle(); len(m.out) > before {
		return
	}
	if !m.locks.canEnd(r, m.opt.BlastRadius) {
		reason := gate.ReasonDeadlock
		if m.locks.canEnd(r, nil) {
			reason = gate.ReasonBlastRadius
		}
		m.locks.waits = m.locks.waits[:len(m.locks.waits)-1]
		behind := ""
		if h := m.locks.held[l.Target]; h != nil {
			behind = h.id
		}
		m.say(r, gate.Refused, l.Target, reason, "", true, behind)
		return
	}
	m.lockWaits(r, l.Target)
}

func (m *model) waitsFor(r *modelRun, target string) bool {
	return slices.ContainsFunc(m.locks.waits, func(w modelWait) bool { return w.run == r && w.target == target })
}

func (m *model) waiting(r *modelRun) bool {
	return slices.ContainsFunc(m.locks.waits, func(w modelWait) bool { return w.run == r })
}

func (m *model) lockWaits(r *modelRun, target string) {
	behind := ""
	if h := m.locks.held[target]; h != nil {
		behind = h.id
	}
	for _, w := range m.locks.waits {
		if w.run == r && w.target == target {
			break
		}
		if w.target == target {
			behind = w.run.id
		}
	}
	m.say(r, gate.LockWaits, target, "", "", false, behind)
}

func (m *model) settle() {
	for {
		i := m.locks.next(m.opt.BlastRadius)
		if i < 0 {
			return
		}
		w := m.locks.waits[i]
		m.locks.waits = slices.Delete(m.locks.waits, i, i+1)
		if w.limit != nil && !m.counted(*w.limit) {
			m.say(w.run, gate.Refused, w.target, gate.ReasonLimitReached, w.limit.Key, m.tell(w.run.id, w.run.attempt, []gate.Limit{*w.limit}), "")
			continue
		}
		if w.limit != nil {
			m.counts = append(m.counts, stamped{w.limit.Key, m.now})
		}
		m.locks.held[w.target] = w.run
		m.say(w.run, gate.Locked, w.target, "", "", false, "")
	}
}

// in reports whether a target belongs to a radius. The model's globs end with a star.
func in(b gate.BlastRadius, target string) bool {
	return slices.ContainsFunc(b.Targets, func(glob string) bool { return strings.HasPrefix(target, strings.TrimSuffix(glob, "*")) })
}

// next returns the wait that is served next, or -1.
func (l *modelLocks) next(radii []gate.BlastRadius) int {
	seen := map[string]bool{}
	for i, w := range l.waits {
		if l.held[w.target] != nil || seen[w.target] {
			continue
		}
		seen[w.target] = true
		ok := true
		for _, b := range radii {
			held := 0
			for target := range l.held {
				if in(b, target) {
					held++
				}
			}
			ok = ok && (!in(b, w.target) || held < b.Max)
		}
		if ok {
			return i
		}
	}
	return -1
}

// canEnd plays on without new requests: whoever waits for nothing ends, and others have what it held.
func (l *modelLocks) canEnd(r *modelRun, radii []gate.BlastRadius) bool {
	c := modelLocks{held: map[string]*modelRun{}, waits: slices.Clone(l.waits)}
	for target, holder := range l.held {
		c.held[target] = holder
	}
	waits := func(r *modelRun) bool {
		return slices.ContainsFunc(c.waits, func(w modelWait) bool { return w.run == r })
	}
	for changed := true; changed; {
		changed = false
		for i := c.next(radii); i >= 0; i = c.next(radii) {
			c.held[c.waits[i].target] = c.waits[i].run
			c.waits = slices.Delete(c.waits, i, i+1)
		}
		for target, holder := range c.held {
			if !waits(holder) {
				delete(c.held, target)
				changed = true
			}
		}
	}
	return !waits(r)
}

// request is one of the four, or MoveTo.
type request struct {
	at int
	of any
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func second(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }

func do(g *gate.Gate, r request) []gate.Answer {
	switch x := r.of.(type) {
	case gate.Admission:
		return g.Admit(second(r.at), x)
	case gate.Lock:
		return g.Lock(second(r.at), x)
	case gate.Release:
		return g.Release(second(r.at), x)
	case gate.Tell:
		return g.Tell(second(r.at), x)
	}
	g.MoveTo(second(r.at))
	return nil
}

func (m *model) do(r request) []string {
	m.out = nil
	if r.of == nil {
		m.moveTo(r.at)
		return nil
	}
	m.advance(r.at)
	switch x := r.of.(type) {
	case gate.Admission:
		m.admit(x)
	case gate.Lock:
		m.lock(x)
	case gate.Release:
		if live := find(m.runs, x.Run); live != nil && live.attempt == x.Attempt {
			m.release(live, x.Outcome)
		}
	case gate.Tell:
		m.askTell(x)
	}
	return m.out
}

// small are options that random requests come up against.
func small() gate.Options {
	return gate.Options{
		Storm:   gate.Storm{Runs: 6, Per: 40 * time.Second},
		Breaker: gate.Breaker{Runs: 3, Within: 300 * time.Second, Success: 0.5, Open: 30 * time.Second},
		BlastRadius: []gate.BlastRadius{
			{Targets: []string{"a*"}, Max: 2}, {Targets: []string{"ab*", "b*"}, Max: 2}, {Targets: []string{"c*"}, Max: 1},
		},
	}
}

type generator struct {
	rng      *rand.Rand
	now      int
	attempts map[string]int
	// parallel lets a run that waits ask for another target.
	parallel bool
}

func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 7)), attempts: map[string]int{}}
}

func (n *generator) pick(list ...string) string { return list[n.rng.IntN(len(list))] }

func (n *generator) limit(key string) gate.Limit {
	return gate.Limit{Key: key, Runs: 1 + len(key)%3, Per: time.Duration(5+len(key)%4*10) * time.Second}
}

func (n *generator) next(waiting func(run string) bool) request {
	n.now += []int{0, 0, 0, 0, 1, 1, 2, 3, 5, 9, 20}[n.rng.IntN(11)]
	if n.rng.IntN(200) == 0 {
		n.now += 2000
	}
	run := fmt.Sprint("r", n.rng.IntN(14))
	if n.rng.IntN(4) == 0 {
		n.attempts[run]++
	}
	attempt := n.attempts[run]
	if n.rng.IntN(20) == 0 {
		attempt--
	}
	at := n.now - max(0, n.rng.IntN(10)-7)
	switch n.rng.IntN(12) {
	case 0, 1, 2:
		return request{at, n.admission(run, attempt)}
	case 3, 4, 5, 6:
		if !n.parallel && waiting(run) {
			return request{at, nil}
		}
		target := n.pick("a1", "a2", "a3", "ab1", "ab2", "b1", "b2", "b3", "c1", "c2", "d1", "d2", "d3")
		l := gate.Lock{Run: run, Attempt: attempt, Rule: "rule", Target: target}
		if n.rng.IntN(8) == 0 {
			limit := n.limit("lock/" + target)
			l.Limit = &limit
		}
		return request{at, l}
	case 7, 8, 9:
		return request{at, gate.Release{Run: run, Attempt: attempt, Outcome: gate.Outcome(n.pick("succeeded", "failed", "failed", "other"))}}
	case 10:
		t := gate.Tell{Run: run, Attempt: attempt}
		for range n.rng.IntN(3) {
			t.Keys = append(t.Keys, n.limit(n.pick("k", "kk", "kkk")))
		}
		return request{at, t}
	}
	return request{n.now, nil}
}

func (n *generator) admission(run string, attempt int) gate.Admission {
	a := gate.Admission{Run: run, Attempt: attempt, Rule: n.pick("x", "y"), Policy: gate.Queue, Heals: n.rng.IntN(2) == 0}
	if n.rng.IntN(4) > 0 {
		a.Group = n.pick("g", "h")
		a.Policy = gate.Policy(n.pick("queue", "queue", "skip", "cancel", "coalesce"))
	}
	for _, key := range []string{"k", "kk", "kkk"} {
		if n.rng.IntN(5) == 0 {
			a.Limits = append(a.Limits, n.limit(key))
		}
	}
	return a
}

func newGate(t testing.TB, o gate.Options) *gate.Gate {
	t.Helper()
	g, err := gate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func lines(list []gate.Answer) []string {
	var out []string
	for _, a := range list {
		out = append(out, simple(a))
	}
	slices.Sort(out)
	return out
}

func TestGateAgreesWithTheModel(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(150) {
		o := small()
		if seed%3 == 0 {
			o.Storm.Runs = 2
		}
		n, m, g := newGenerator(seed), newModel(o), newGate(t, o)
		for i := range 400 {
			r := n.next(func(run string) bool {
				live := find(m.runs, run)
				return live != nil && m.waiting(live)
			})
			answers := do(g, r)
			want, got := m.do(r), lines(answers)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, request %d at %d: %+v\ngot  %q\nwant %q\nlocks %v", seed, i, m.now, r, got, want, &m.locks)
			}
			for _, a := range answers {
				seen[string(a.Verdict)+" "+a.Reason]++
			}
			var notices []string
			for _, x := range g.Notices() {
				notices = append(notices, string(x.Kind)+" "+x.Rule)
			}
			if !slices.Equal(notices, m.notices) {
				t.Fatalf("seed %d, request %d: notices %q, want %q", seed, i, notices, m.notices)
			}
			m.notices = nil
		}
	}
	for _, want := range []string{
		"admitted ", "queued ", "refused LimitReached", "refused StormBrake", "refused CircuitOpen", "refused BlastRadius", "refused Deadlock",
		"superseded GroupBusy", "superseded Superseded", "superseded Ended", "refused Ended", "refused NotAdmitted", "stop ", "locked ",
		"lockWaits ", "tell ", "silent ",
	} {
		if seen[want] < 10 {
			t.Errorf("%q was compared %d times only", want, seen[want])
		}
	}
}

func (l *modelLocks) String() string {
	var b strings.Builder
	for target, r := range l.held {
		fmt.Fprintf(&b, "%s held by %s; ", target, r.id)
	}
	for _, w := range l.waits {
		fmt.Fprintf(&b, "%s waits for %s; ", w.run.id, w.target)
	}
	return b.String()
}
