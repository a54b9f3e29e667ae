package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/rule"
)

const (
	// askTime bounds how long partitions are asked for what they wait for: people wait for the answer.
	askTime = time.Second
	// maxAsked is how many queries a partition answers at once, so that its own work waits for some milliseconds at most.
	maxAsked = 8
	// maxGroups is how many groups of a rule one partition lists.
	maxGroups = 10
)

// WaitingQuery asks what waits in the windows of a rule: in the groups with the keys, or, without any, in all.
type WaitingQuery struct {
	Rule *rule.Rule
	Keys []string
}

// Waiting is what waits in the windows of a rule, as far as this replica knows.
type Waiting struct {
	Groups []correlate.Waiting // of each partition those that were matched last
	Total  int                 // groups that there are, listed or not
	// Changed says that the active rules have no rule with this name that waits for the same.
	Changed bool
	// Behind says that a partition has not come to the position that was named.
	Behind bool
	// Elsewhere are partitions that this replica does not have, Busy those that did not answer in time.
	Elsewhere, Busy []int
}

// RuleSet returns the rules of a revision, as partitions load them.
func (e *Engine) RuleSet(ctx context.Context, revision string) (*rule.Set, error) {
	return e.set(ctx, revision)
}

// Waiting asks the partitions of this replica what waits, and whether they have come to a position of the log. It takes
// about a second at most, whatever the partitions do.
func (e *Engine) Waiting(ctx context.Context, at event.Pos, queries []WaitingQuery) []Waiting {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out := make([]Waiting, len(queries))
	byPartition := make([][]int, e.Partitions)
	for i, q := range queries {
		for _, p := range e.groupHomes(q) {
			byPartition[p] = append(byPartition[p], i)
		}
	}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for id, wanted := range byPartition {
		asked.Go(func() {
			for some := range slices.Chunk(wanted, maxAsked) {
				answers := e.askPartition(ctx, id, func(p *partition) []Waiting { return p.waiting(at, queries, some) })
				mu.Lock()
				for n, i := range some {
					out[i].add(&answers, n, id)
				}
				mu.Unlock()
			}
		})
	}
	asked.Wait()
	return out
}

// Answered reports whether this replica has answered an event at its position in the log, and not put it aside for a diff;
// known is whether it can tell: another replica may have the event's partition, or the partition no time.
func (e *Engine) Answered(ctx context.Context, eventID string, at event.Pos) (answered, known bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a := e.askPartition(ctx, PartitionOf(eventID, e.Partitions), func(p *partition) []Waiting {
		return []Waiting{{Behind: p.decided.Compare(at) < 0 || p.deferred[eventID] != nil}}
	})
	if a.list == nil {
		return false, false
	}
	return !a.list[0].Behind, true
}

// Reached says how far limits are reached; known is false where this replica does not know.
func (e *Engine) Reached(ctx context.Context, limits []gate.Limit) (reach []gate.Reach, known bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	said := make(chan []gate.Reach, 1)
	e.askPartition(ctx, gateHome, func(p *partition) []Waiting {
		out := make([]gate.Reach, len(limits))
		for i, l := range limits {
			out[i] = p.gate.Reach(p.e.Now(), l)
		}
		said <- out
		return []Waiting{}
	})
	select {
	case reach = <-said:
		return reach, true
	default:
		return nil, false
	}
}

// groupHomes returns the partitions that have the groups of a query.
func (e *Engine) groupHomes(q WaitingQuery) []int {
	var out []int
	for _, key := range q.Keys {
		if p := PartitionOf(groupID(q.Rule.Name, key), e.Partitions); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(q.Keys) == 0 {
		for p := range e.Partitions {
			out = append(out, p)
		}
	}
	return out
}

// answers is what a partition said, one for each query.
type answers struct {
	list      []Waiting
	elsewhere bool
}

func (w *Waiting) add(a *answers, n, partition int) {
	switch {
	case a.elsewhere:
		w.Elsewhere = append(w.Elsewhere, partition)
		slices.Sort(w.Elsewhere)
	case a.list == nil:
		w.Busy = append(w.Busy, partition)
		slices.Sort(w.Busy)
	default:
		more := a.list[n]
		w.Groups = append(w.Groups, more.Groups...)
		w.Total += more.Total
		w.Changed, w.Behind = w.Changed || more.Changed, w.Behind || more.Behind
	}
}

// askPartition has a partition's loop answer between two of its own works. A loop that ends, or has no time until ctx ends,
// does not.
func (e *Engine) askPartition(ctx context.Context, id int, ask func(*partition) []Waiting) answers {
	p := e.feed.member(id)
	if p == nil {
		return answers{elsewhere: true}
	}
	answered := make(chan []Waiting, 1) // who asks may be gone
	select {
	case p.asks <- func() { answered <- ask(p) }:
	case <-p.gone:
		return answers{elsewhere: true}
	case <-ctx.Done():
		return answers{}
	}
	select { // what a loop has taken it does, and at once
	case list := <-answered:
		return answers{list: list}
	case <-ctx.Done():
		return answers{}
	}
}

// member returns the partition with the id that this replica has, or nil.
func (f *feed) member(id int) *partition {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.members {
		if p.id == id {
			return p
		}
	}
	return nil
}

// waiting answers some of the queries. Only the partition's loop calls it.
func (p *partition) waiting(at event.Pos, queries []WaitingQuery, some []int) []Waiting {
	out := make([]Waiting, len(some))
	for n, i := range some {
		out[n] = p.waitingOf(queries[i])
		out[n].Behind = p.at.Compare(at) < 0
	}
	return out
}

func (p *partition) waitingOf(q WaitingQuery) Waiting {
	m := p.windows.byRule[q.Rule.Name]
	if m == nil || m.rule.Correlation().Identity != q.Rule.Correlation().Identity {
		return Waiting{Changed: true}
	}
	if len(q.Keys) == 0 {
		return Waiting{Groups: m.Groups(maxGroups), Total: m.Len()}
	}
	var w Waiting
	for _, key := range q.Keys[:min(len(q.Keys), maxGroups)] {
		if g, ok := m.Group(key); ok {
			w.Groups, w.Total = append(w.Groups, g), w.Total+1
		}
	}
	return w
}
