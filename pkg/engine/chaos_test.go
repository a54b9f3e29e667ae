package engine

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

var (
	firstSeed = flag.Uint64("chaos.seed", 1, "first seed of the random tests")
	seeds     = flag.Uint64("chaos.seeds", 15, "how many seeds are tried")
)

// chaos does to replicas what happens to them, in an order that its seed gives.
type chaos struct {
	*world
	rng      *rand.Rand
	sets     []*rule.Set
	replicas []*replica
	leases   []*grant // by partition
	stale    []*grant // taken from an owner that has not heard of it yet
}

func (c *chaos) any() *replica { return c.replicas[c.rng.IntN(len(c.replicas))] }

// happen makes one thing happen.
func (c *chaos) happen() {
	r, part := c.any(), c.rng.IntN(len(c.leases))
	switch c.rng.IntN(12) {
	case 0, 1, 2:
		c.events()
	case 3, 4:
		c.command()
	case 5:
		c.activate(c.sets[c.rng.IntN(len(c.sets))])
	case 6: // a handover in good order, which nobody can make whose writes wait
		if from := c.leases[part]; from.to.gate == nil {
			close(from.handover)
			<-from.done
			c.give(part, r)
		}
	case 7: // the old owner does not hear of it for a while
		c.stale = append(c.stale, c.leases[part])
		c.give(part, r)
	case 8:
		c.leases[part].lose(errors.New("not renewed"))
		c.give(part, r)
	case 9:
		c.faults(r)
	case 10:
		c.update(func() {
			if r.open(); c.rng.IntN(2) == 0 && !r.dead {
				r.gate = make(chan struct{})
			}
		})
	case 11:
		c.update(func() { c.skew = time.Duration(c.rng.IntN(7)-3) * time.Hour })
	}
}

// give leases a partition to a process. What that had of it before has ended by then: leases are not held twice.
func (c *chaos) give(part int, r *replica) {
	for _, g := range append(slices.Clone(c.stale), c.leases[part]) {
		if g.to == r && g.partition == part {
			c.update(r.open)
			g.lose(errors.New("leased again"))
			<-g.done
		}
	}
	c.leases[part] = r.grant(part)
}

// events appends a segment of events; some ids were there before.
func (c *chaos) events() {
	var records []event.Record
	for range 1 + c.rng.IntN(4) {
		r := eventOf([]string{"odd", "even", "none", "push.a", "alert.firing", "alert.resolved"}[c.rng.IntN(6)], c.rng.IntN(4))
		r.Event.Subject = fmt.Sprint("pod-", c.rng.IntN(2))
		records = append(records, r)
	}
	c.append(records...)
}

func (c *chaos) command() {
	c.mu.Lock()
	ids := append(slices.Sorted(maps.Keys(c.runs)), event.ID("no", "such")+"-run")
	c.mu.Unlock()
	id := ids[c.rng.IntN(len(ids))]
	order := []string{run.CommandCancel, run.CommandRetry, run.CommandRevive, run.CommandApprove, run.CommandReject}[c.rng.IntN(5)]
	if order != run.CommandApprove && order != run.CommandReject {
		c.order(order, id)
		return
	}
	digest := "none"
	if a := c.run(id).Approval; a != nil {
		digest = a.Digest
	}
	c.consent(order, id, Order{Who: "ana", Digest: digest})
}

// faults makes the store fail some times, or the process crash at one of its next operations.
func (c *chaos) faults(r *replica) {
	rng := rand.New(rand.NewPCG(c.rng.Uint64(), 0)) // operations come from many goroutines
	left, kinds := 1+c.rng.IntN(8), []fault{failBefore, failAfter}
	if c.rng.IntN(2) == 0 {
		kinds = []fault{crashBefore, crashAfter, crashWithin}
	}
	c.update(func() {
		r.fault = func(string) fault {
			if left--; left > 0 && kinds[0] == failBefore || left == 0 {
				return kinds[rng.IntN(len(kinds))]
			}
			return none
		}
	})
}

// recover starts crashed processes again; what they held goes to others.
func (c *chaos) recover() {
	for i, r := range c.replicas {
		c.mu.Lock()
		dead := r.dead
		c.mu.Unlock()
		if dead {
			<-r.done
			c.replicas[i] = c.boot(r.name)
		}
	}
	for part, g := range c.leases {
		select {
		case <-g.done:
			c.give(part, c.any())
		default:
		}
	}
}

// heal ends all that stands in the way, and gives each partition to one owner.
func (c *chaos) heal() {
	for _, r := range c.replicas {
		c.update(func() { r.fault = nil; r.open() })
	}
	for _, g := range append(c.stale, c.leases...) {
		g.lose(errors.New("somebody else's"))
		<-g.done
	}
	c.recover()
}

func (c *chaos) play() {
	for range 30 {
		c.happen()
		time.Sleep(time.Duration(c.rng.IntN(9000)) * time.Millisecond)
		if len(c.stale) > 0 && c.rng.IntN(3) == 0 {
			c.stale[0].lose(errors.New("somebody else's"))
			c.stale = c.stale[1:]
		}
		c.recover()
	}
	c.heal()
	c.await("an end of all runs", c.settled)
	for _, r := range c.replicas {
		r.stop()
	}
}

// boundedRules are what needs admission, targets, verification or consent, and what consists of other steps.
const boundedRules = `
---
apiVersion: riposte.dev/v1
kind: Workflow
metadata: {name: twice}
spec:
  inputs: {what: {type: string}}
  timeout: 1h
  steps: [{id: a, uses: do, with: {target: "${{ inputs.what }}"}}, {id: b, uses: do, with: {do: flaky}, retry: {attempts: 3, backoff: 3s}}]
  outputs: {n: {type: int, value: "${{ steps.a.outputs.n }}"}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: queued}
spec:
  trigger: {type: [odd, even]}
  concurrency: {group: g}
  steps: [{id: each, uses: workflow/twice, forEach: {in: '["x", "y", "z"]', parallel: 2}, with: {what: "${{ run.item }}"}}, {id: z, uses: do}]
  finally: [{id: clean, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: replaced}
spec:
  trigger: {type: odd}
  concurrency: {group: g, policy: cancel}
  steps: [{id: a, uses: do}, {id: b, uses: harm, with: {do: fail}}]
  onFailure: [{id: tell, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: coalesced}
spec:
  trigger: {type: even}
  concurrency: {group: h, policy: coalesce}
  limits: [{runs: 2, per: 1h, by: event.type}]
  steps: [{id: a, uses: do}, {id: b, uses: do, with: {do: refuse}}]
  onFailure: [{id: tell, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: healing}
spec:
  trigger: {type: alert.firing}
  steps: [{id: fix, uses: fix, with: {target: shop}}, {id: again, uses: fix, with: {target: cart}}]
  verify: {uses: do, with: {do: flaky}, expect: probe.outputs.n > 1, every: 30s, for: 30s, within: 2m, attempts: 2, backoff: 1m}
  onFailure: [{id: tell, uses: do}]
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: asking}
spec:
  mode: approve
  trigger: {type: alert.resolved}
  steps: [{id: look, uses: local}, {id: fix, uses: fix, with: {target: cart}}]
`

// TestWhateverHappensTheJournalKeepsItsPromises lets the audit of the harness watch over random lives: crashes in a row,
// owners that were paused or do not know that they are no longer, a store that does not answer, clocks that jump, rules
// that change, events sent twice, and orders at any time. A failure is played again with -chaos.seed=N -chaos.seeds=1.
func TestWhateverHappensTheJournalKeepsItsPromises(t *testing.T) {
	text := rulesText + pushRule + boundedRules
	sets := []*rule.Set{loadRules(t, text), loadRules(t, strings.ReplaceAll(text, "backoff: 10s", "backoff: 90s"))}
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 2))
				c := &chaos{world: newWorld(t, 1+rng.IntN(3), sets[0]), rng: rng, sets: sets}
				c.purge = rng.IntN(2) == 0
				c.diff = flakyDiff(seed)
				for i := range 1 + rng.IntN(3) {
					c.replicas = append(c.replicas, c.boot(fmt.Sprint("replica", i)))
				}
				for part := range c.parts {
					c.leases = append(c.leases, c.any().grant(part))
				}
				c.play()
			})
		})
	}
}
