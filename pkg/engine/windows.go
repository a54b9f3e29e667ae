package engine

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	// A window's end is looked for this long after it, so that what was accepted before it is in the log.
	tickGrace = 250 * time.Millisecond
	// tickAgain is how long a tick may take to come back before it is asked for again.
	tickAgain = 2 * time.Second
	// maxRefs bounds the events that a correlated run remembers.
	maxRefs = 1000
)

// States keeps the state of correlation, which is too large for a checkpoint. Names are its own.
type States interface {
	// Save keeps a part of a partition's state, and returns the name to load it by once that is durable.
	Save(ctx context.Context, partition int, data []byte) (name string, err error)
	Load(ctx context.Context, name string) ([]byte, error)
	// Keep removes all parts of the partition but those named.
	Keep(ctx context.Context, partition int, names []string) error
}

// windows is a partition's correlation: a machine for each correlating rule, for the groups that belong to the partition.
// Its state is a function of the log up to a position, so what was not stored is made again by reading from there.
type windows struct {
	log      time.Time // log time: the greatest that a record had
	due      dueQueue  // the machines with windows whose ends fire
	asked    time.Time // when a tick was asked for last
	machines []*machine
	byRule   map[string]*machine

	parts  []string // what the stored state consists of
	whole  bool     // the next part must hold everything
	stored map[string]stored
}

type machine struct {
	*correlate.Machine
	rule    *rule.Rule
	dirty   bool
	evicted uint64
	shown   int // groups in the metric

	order int       // place in the set
	next  time.Time // when its next window ends whose end fires,
	queue int       // and its place in the queue by that, from 1; 0 without
}

// dueQueue is a heap of machines by when their next windows end.
type dueQueue []*machine

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].queue, q[j].queue = i+1, j+1
}

// Push and Pop are heap's.
func (q *dueQueue) Push(x any) {
	m := x.(*machine)
	*q = append(*q, m)
	m.queue = len(*q)
}

func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	m := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	m.queue = 0
	return m
}

// update puts a machine where it belongs.
func (q *dueQueue) update(m *machine) {
	next, ends := m.Next()
	switch {
	case !ends && m.queue > 0:
		heap.Remove(q, m.queue-1)
	case ends && m.queue == 0:
		m.next = next
		heap.Push(q, m)
	case ends && !next.Equal(m.next):
		m.next = next
		heap.Fix(q, m.queue-1)
	}
}

// first is when the next window ends; zero if none does.
func (q dueQueue) first() time.Time {
	if len(q) == 0 {
		return time.Time{}
	}
	return q[0].next
}

// stored is a machine's state as it was loaded, until the rule it belongs to is known.
type stored struct {
	identity string
	data     []byte
}

// fired is a firing of a rule.
type fired struct {
	rule *rule.Rule
	correlate.Firing
}

// groupID names a rule's group, in the form of an event's id, so that a group and its runs belong to one partition.
func groupID(rule, key string) string { return event.ID("correlate "+rule, key) }

// use makes the machines those of the set. A rule whose `correlate` is the same keeps its state; any other starts anew.
func (p *partition) useMachines(set *rule.Set) error {
	machines, byRule := make([]*machine, 0, len(set.Correlating())), map[string]*machine{}
	for _, r := range set.Correlating() {
		m := p.windows.byRule[r.Name]
		if m == nil || m.rule.Correlation().Identity != r.Correlation().Identity {
			next, err := p.newMachine(r, m != nil)
			if err != nil {
				return err
			}
			m = next
		}
		machines = append(machines, m)
		byRule[r.Name] = m
	}
	for i, r := range set.Correlating() { // now that nothing can fail
		m := machines[i]
		m.rule, m.order = r, i
		m.dirty = m.SetBounds(r.Correlation().Spec) || m.dirty
	}
	p.forget(byRule)
	p.windows.machines, p.windows.byRule, p.windows.stored = machines, byRule, nil
	p.windows.schedule()
	return nil
}

func (p *partition) newMachine(r *rule.Rule, changed bool) (*machine, error) {
	m, err := correlate.New(r.Correlation().Spec)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.Name, err)
	}
	was, there := p.windows.stored[r.Name]
	switch {
	case there && was.identity == r.Correlation().Identity:
		restored, err := correlate.Restore(bytes.NewReader(was.data), r.Correlation().Spec)
		if errors.Is(err, correlate.ErrNewerFormat) {
			return nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		if err == nil {
			return &machine{Machine: restored, rule: r, evicted: restored.Stats().Evicted}, nil
		}
		p.log.Error("the stored windows of a rule can't be read: they start anew", "rule", r.Name, "error", err)
		p.e.metrics.lost.WithLabelValues("rule").Inc()
	case there || changed:
		p.log.Warn("the windows of a rule start anew: its correlate changed", "rule", r.Name)
	}
	return &machine{Machine: m, rule: r, dirty: true}, nil
}

// forget removes the rules that are gone from the metric.
func (p *partition) forget(stay map[string]*machine) {
	for name := range p.windows.byRule {
		if stay[name] == nil {
			p.e.metrics.groups.DeleteLabelValues(name, strconv.Itoa(p.id))
		}
	}
}

// schedule finds when the next windows end.
func (w *windows) schedule() {
	w.due = nil
	for _, m := range w.machines {
		m.queue = 0
		w.due.update(m)
	}
}

// untilTick returns how long the partition can sleep before it must ask for a tick: because a window ends, or the gate has
// something to do.
func (p *partition) untilTick(now time.Time) (time.Duration, bool) {
	w, due := &p.windows, p.windows.due.first()
	if p.gate != nil {
		if next, ok := p.gate.Next(); ok && (due.IsZero() || next.Before(due)) {
			due = next
		}
	}
	if due.IsZero() {
		return 0, false
	}
	return max(due.Add(tickGrace).Sub(now), w.asked.Add(tickAgain).Sub(now), 0), true
}

// moveTo moves log time on, and returns what fires because windows have ended.
func (w *windows) moveTo(at time.Time) []fired {
	if at.After(w.log) {
		w.log = at
	}
	var ended []*machine
	for len(w.due) > 0 && !w.log.Before(w.due.first()) {
		ended = append(ended, heap.Pop(&w.due).(*machine))
	}
	slices.SortFunc(ended, func(a, b *machine) int { return a.order - b.order })
	var out []fired
	for _, m := range ended {
		for _, f := range m.Advance(w.log) {
			m.dirty = true
			out = append(out, fired{m.rule, f})
		}
		w.due.update(m)
	}
	return out
}

// take adds an event to a machine.
func (w *windows) take(m *machine, matches []correlate.Match) []fired {
	var out []fired
	for _, f := range m.Add(matches...) {
		out = append(out, fired{m.rule, f})
	}
	m.dirty = true
	w.due.update(m)
	return out
}

// correlate lets a record take part in what the rules wait for, and returns what fires.
func (p *partition) correlate(ctx context.Context, r *record) []fired {
	w := &p.windows
	out := w.moveTo(r.Record.Event.ReceivedAt)
	for _, j := range p.joins(ctx, r).List {
		var mine []correlate.Match
		for _, match := range j.Matches {
			if PartitionOf(groupID(j.Rule.Name, match.Key), p.e.Partitions) == p.id {
				match.ID, match.Pos, match.At = r.Record.Event.ID, r.Pos, w.log
				mine = append(mine, match)
			}
		}
		if m := w.byRule[j.Rule.Name]; len(mine) > 0 && m != nil {
			out = append(out, w.take(m, mine)...)
		}
	}
	return out
}

// shared is what partitions of this replica find out about a record once for all of them.
type shared struct {
	views  sync.Once
	unmade error // why there are no views
	asked  sync.Once
	joins  rule.Joins
}

// joins asks the correlating rules, once for all partitions: at one place of the log all have the same revision. What an
// event makes panic is the event's own fault: it takes part in nothing.
func (p *partition) joins(ctx context.Context, r *record) rule.Joins {
	if len(p.windows.machines) == 0 || ByHand(r.Record.Event) {
		return rule.Joins{}
	}
	r.asked.Do(func() {
		defer func() {
			if v := recover(); v != nil {
				p.log.Error("asking the correlating rules panicked", "event", r.Record.Event.ID, "panic", v)
			}
		}()
		if !p.set.Selects(r.Record.Event) {
			return
		}
		if err := p.views(r); err != nil {
			p.log.Error("the correlating rules could not be asked", "event", r.Record.Event.ID, "error", err)
			return
		}
		r.joins = p.set.Joins(ctx, r.Record.Event, r.Record.Event.ReceivedAt)
	})
	return r.joins
}

// views makes the event's views, once for all partitions.
func (p *partition) views(r *record) error {
	r.views.Do(func() { r.unmade = normalise(p.set, r.Record.Event) })
	return r.unmade
}

// fire records the runs of windows that ended at a place in the log where the partition decides no event.
func (p *partition) fire(ctx context.Context, r *record, all []fired) {
	if len(all) == 0 {
		return
	}
	pos := r.Pos
	en := run.Entry{At: p.e.Now(), Kind: run.Fired, Pos: &pos, Revision: p.revision}
	for _, f := range all {
		en.Runs = append(en.Runs, p.createFired(ctx, f, r.Record.Event))
	}
	for _, c := range p.enter(en) {
		p.begin(c, nil, p.set)
	}
}

// createFired names the run of a firing. Its id is made of rule, group and window, so that it is the same whoever finds it; read is the event that was read.
func (p *partition) createFired(ctx context.Context, f fired, read *event.Event) run.Created {
	c := run.Created{
		ID:   groupID(f.rule.Name, f.Key) + "-" + f.rule.Name + "-" + strings.ReplaceAll(f.Window, ".", "-"),
		Rule: f.rule.Name, Key: f.Key, Event: f.Event().ID, Rest: f.Rest,
	}
	refs := f.Events
	if over := len(refs) - maxRefs; over > 0 {
		refs, c.Rest = refs[over:], c.Rest+over
	}
	last := p.last(ctx, f, read)
	c.Alert = f.rule.AlertOf(last)
	c.Gated = f.rule.Gated(c.Alert)
	for _, ref := range refs {
		c.Events = append(c.Events, run.EventRef{Part: ref.Part, ID: ref.ID, Pos: ref.Pos})
	}
	p.hold(&c, f.rule, p.windows.log)
	p.causeOfFired(ctx, last).place(&c)
	return c
}

// countJoins counts what was absent, for the partition whose the event is.
func (p *partition) countJoins(joins rule.Joins) {
	for _, j := range joins.List {
		for _, v := range j.Verdicts {
			switch {
			case v.Truth != expression.Absent:
			case v.Failed:
				p.e.metrics.errors.WithLabelValues(j.Rule.Name).Inc()
			default:
				p.e.metrics.absent.WithLabelValues(j.Rule.Name).Inc()
			}
		}
	}
}

// joinReasons says in words how an event took part in what correlating rules wait for.
func joinReasons(joins rule.Joins) []string {
	var out []string
	for _, j := range joins.List {
		for _, v := range j.Verdicts {
			name := j.Rule.Name
			if v.Part != "" {
				name += "." + v.Part
			}
			out = append(out, name+": "+joinReason(v))
		}
	}
	untrue := joins.Untrue()
	if untrue > maxFalse {
		return append(out, fmt.Sprintf("%d that correlate, whose when is not true", untrue))
	}
	for _, name := range joins.False(untrue) {
		out = append(out, name+": when is not true")
	}
	return out
}

func joinReason(v rule.PartVerdict) string {
	switch {
	case v.Truth == expression.True && v.Key != "":
		return fmt.Sprintf("takes part, by %.64q", v.Key)
	case v.Truth == expression.True:
		return "takes part"
	case v.Absent() != "":
		return v.Absent() + " is absent"
	case v.By != nil:
		return v.By.Error()
	}
	return verdictReason(rule.Verdict{Clauses: v.Clauses})
}

// saveWindows stores what has changed, and returns the parts that the state consists of now.
func (p *partition) saveWindows(ctx context.Context) ([]string, error) {
	w := &p.windows
	const maxParts = 16
	whole := w.whole || len(w.parts) >= maxParts
	var out stateWriter
	for _, m := range w.machines {
		if !m.dirty && !whole {
			continue
		}
		if err := out.add(m, whole); err != nil {
			return nil, err
		}
	}
	if p.gate != nil && (p.gateDirty || whole) {
		if err := out.addGate(p.gate); err != nil {
			return nil, err
		}
	}
	if out.n == 0 {
		return w.parts, nil
	}
	name, err := p.e.States.Save(ctx, p.id, out.Bytes())
	if err != nil {
		w.whole = true // a delta that is missing must not be built upon
		return nil, fmt.Errorf("store the windows: %w", err)
	}
	w.whole, p.gateDirty = false, false
	for _, m := range w.machines {
		m.dirty = false
		p.showGroups(m)
		if n := m.Stats().Evicted; n > m.evicted {
			p.e.metrics.evicted.WithLabelValues(m.rule.Name).Add(float64(n - m.evicted))
			p.log.Warn("groups that waited were dropped: there are too many, or their keys are too long; see maxGroups", "rule", m.rule.Name, "dropped", n-m.evicted)
			m.evicted = n
		}
	}
	if whole {
		w.parts = nil
	}
	w.parts = append(slices.Clone(w.parts), name)
	return w.parts, nil
}

// showGroups puts what waits into the metric. Rules without any have no figure: they are many, in each partition.
func (p *partition) showGroups(m *machine) {
	n, id := m.Len(), strconv.Itoa(p.id)
	switch n {
	case m.shown:
		return
	case 0:
		p.e.metrics.groups.DeleteLabelValues(m.rule.Name, id)
	default:
		p.e.metrics.groups.WithLabelValues(m.rule.Name, id).Set(float64(n))
	}
	m.shown = n
}

// loadWindows reads the stored state; which of it is of use, the rules will tell.
func (p *partition) loadWindows(ctx context.Context, parts []string) error {
	p.windows.parts, p.windows.stored = parts, map[string]stored{}
	for _, name := range parts {
		data, err := p.e.States.Load(ctx, name)
		if errors.Is(err, event.ErrNotFound) {
			p.log.Error("a part of the stored windows is gone: they start anew", "part", name)
			p.e.metrics.lost.WithLabelValues("partition").Inc()
			p.windows.parts, p.windows.stored, p.windows.whole = nil, nil, true
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the windows: %w", err)
		}
		if err := readStates(data, p.windows.stored); err != nil {
			return fmt.Errorf("read the windows, part %s: %w", name, err)
		}
	}
	return nil
}

// oldestWaiting returns the oldest event that a group refers to, if that is older than pos.
func (w *windows) oldestWaiting(pos event.Pos) event.Pos {
	for _, m := range w.machines {
		if oldest, ok := m.Oldest(); ok && oldest.Compare(pos) < 0 {
			pos = oldest
		}
	}
	return pos
}

// A part of the state is a version byte and, for each machine, its rule's name, its identity and its bytes, each after its
// length in four bytes; a byte before the bytes says whether they are whole.
const statesVersion = 1

type stateWriter struct {
	bytes.Buffer
	n int
}

func (w *stateWriter) add(m *machine, whole bool) error {
	var data bytes.Buffer
	var err error
	if whole {
		err = m.Snapshot(&data)
	} else {
		whole, err = m.Checkpoint(&data)
	}
	if err != nil {
		return fmt.Errorf("write the windows of rule %s: %w", m.rule.Name, err)
	}
	w.part(m.rule.Name, m.rule.Correlation().Identity, whole, data.Bytes())
	return nil
}

func (w *stateWriter) addGate(g *gate.Gate) error {
	var data bytes.Buffer
	if err := g.Snapshot(&data); err != nil {
		return fmt.Errorf("write the state of the gate: %w", err)
	}
	w.part(gateState, gateState, true, data.Bytes())
	return nil
}

func (w *stateWriter) part(name, identity string, whole bool, data []byte) {
	if w.n == 0 {
		w.WriteByte(statesVersion)
	}
	w.n++
	w.field([]byte(name))
	w.field([]byte(identity))
	mark := byte(0)
	if whole {
		mark = 1
	}
	w.field(append([]byte{mark}, data...))
}

func (w *stateWriter) field(data []byte) {
	n := len(data)
	w.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	w.Write(data)
}

// errStates says that a stored part is not what was written.
var errStates = errors.New("stored windows are damaged")

func readStates(data []byte, into map[string]stored) error {
	if len(data) == 0 || data[0] == 0 {
		return errStates
	}
	if data[0] > statesVersion {
		return fmt.Errorf("it has format %d, and this version of riposte reads up to %d: a newer version wrote it, run that one", data[0], statesVersion)
	}
	for r := bytes.NewReader(data[1:]); r.Len() > 0; {
		var fields [3][]byte
		for i := range fields {
			var err error
			if fields[i], err = readField(r); err != nil {
				return err
			}
		}
		if len(fields[2]) == 0 {
			return errStates
		}
		s := stored{identity: string(fields[1]), data: fields[2][1:]}
		if before := into[string(fields[0])]; fields[2][0] == 0 && before.identity == s.identity {
			s.data = append(before.data, s.data...)
		}
		into[string(fields[0])] = s
	}
	return nil
}

func readField(r *bytes.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, errStates
	}
	n := int(size[0])<<24 | int(size[1])<<16 | int(size[2])<<8 | int(size[3])
	if n > r.Len() {
		return nil, errStates
	}
	out := make([]byte, n)
	_, err := io.ReadFull(r, out)
	return out, err
}
