package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// groups writes what waits: key, parts that have come, missing parts and need.
func (w *Waiting) groups() string {
	var out []string
	for _, g := range w.Groups {
		text := g.Key
		for _, e := range g.Events {
			text += "+" + e.Part
		}
		out = append(out, fmt.Sprintf("%s %v %d %s", text, g.Missing, g.Need, g.Until.Sub(g.Since)))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestPartitionsSayWhatWaits(t *testing.T) {
	set := loadRules(t, windowRules)
	changed := loadRules(t, strings.Replace(windowRules, "within: 15m", "within: 20m", 1))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, set)
		r := w.boot("a").grantAll()
		w.append(occurs(1*time.Second, "deploy", "shop"), occurs(2*time.Second, "deploy", "cart"), occurs(3*time.Second, "error", "pay"))
		w.await("the decisions", w.settled)
		synctest.Wait()
		last := event.Pos{Seq: uint64(len(w.segments)), Index: 2}
		ask := func(set *rule.Set, name string, at event.Pos, keys ...string) Waiting {
			return r.engine.Waiting(t.Context(), at, []WaitingQuery{{set.Rule("plain"), []string{"x"}}, {set.Rule(name), keys}})[1]
		}
		for _, tc := range []struct {
			rule string
			keys []string
			want string
		}{
			{"rollback", []string{"shop"}, "shop+deploy [alert] 1 15m0s"},
			{"rollback", []string{"pay"}, ""},
			{"rollback", []string{"shop", "cart"}, "cart+deploy [alert] 1 15m0s; shop+deploy [alert] 1 15m0s"},
			{"rollback", nil, "cart+deploy [alert] 1 15m0s; shop+deploy [alert] 1 15m0s"},
			{"thrice", nil, "pay+ [] 2 10m0s"},
			{"digest", []string{""}, "+ [] 0 2m0s"},
		} {
			got := ask(set, tc.rule, last, tc.keys...)
			if got.groups() != tc.want || got.Total != len(got.Groups) || got.Behind || got.Changed || got.Busy != nil || got.Elsewhere != nil {
				t.Errorf("%s %q: %s (%+v), want %s", tc.rule, tc.keys, got.groups(), got, tc.want)
			}
		}
		if got := ask(set, "rollback", event.Pos{Seq: last.Seq + 1}, "shop"); !got.Behind {
			t.Errorf("a later position: %+v", got)
		}
		if got := ask(changed, "rollback", last, "shop"); !got.Changed || len(got.Groups) > 0 {
			t.Errorf("a rule that waits for something else: %+v", got)
		}
		answered, known := r.engine.Answered(t.Context(), "any", last)
		if later, knownToo := r.engine.Answered(t.Context(), "any", event.Pos{Seq: last.Seq + 1}); !answered || !known || later || !knownToo {
			t.Errorf("answered %t %t, later %t %t", answered, known, later, knownToo)
		}
		r.stop()
		if got := ask(set, "rollback", last); !slices.Equal(got.Elsewhere, []int{0, 1, 2}) {
			t.Errorf("after a stop: %+v", got)
		}
	})
}

// What another replica has is not made up, and a partition that is busy with its store keeps nobody waiting for long.
func TestWhatAPartitionCanNotSayIsLeftOut(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, set)
		one, two := w.boot("one"), w.boot("two")
		one.grant(0)
		two.grant(1)
		w.append(occurs(1*time.Second, "deploy", "shop"))
		w.await("the decision", w.settled)
		synctest.Wait()
		q := []WaitingQuery{{set.Rule("rollback"), nil}}
		a, b := one.engine.Waiting(t.Context(), event.Pos{}, q)[0], two.engine.Waiting(t.Context(), event.Pos{}, q)[0]
		if !slices.Equal(a.Elsewhere, []int{1}) || !slices.Equal(b.Elsewhere, []int{0}) || a.Total+b.Total != 1 {
			t.Errorf("one says %+v, two says %+v", a, b)
		}
		w.mu.Lock()
		two.gate = make(chan struct{})
		w.mu.Unlock()
		w.append(occurs(2*time.Second, "deploy", "cart"), occurs(2*time.Second, "deploy", "pay"), occurs(2*time.Second, "deploy", "site"))
		synctest.Wait()
		began := time.Now()
		got := two.engine.Waiting(t.Context(), event.Pos{}, q)[0]
		if !slices.Equal(got.Busy, []int{1}) || time.Since(began) > 2*askTime {
			t.Errorf("a busy partition says %+v after %s", got, time.Since(began))
		}
		if _, known := one.engine.Answered(t.Context(), ownedBy(1, 2), event.Pos{}); known {
			t.Error("it knows of another replica's partition")
		}
		w.mu.Lock()
		two.open()
		w.mu.Unlock()
		one.stop()
		two.stop()
	})
}

// ownedBy returns an id that belongs to the partition.
func ownedBy(partition, partitions int) string {
	for n := 0; ; n++ {
		if id := fmt.Sprint(n); PartitionOf(id, partitions) == partition {
			return id
		}
	}
}

// Questions while events are decided and partitions come and go disturb nothing.
func TestQuestionsDisturbNothing(t *testing.T) {
	set := loadRules(t, windowRules)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, set)
		one, two := w.boot("one").grantAll(), w.boot("two")
		ctx, stop := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for _, r := range []*replica{one, two} {
			asking.Go(func() {
				for ctx.Err() == nil {
					var queries []WaitingQuery
					for range maxAsked + 1 {
						queries = append(queries, WaitingQuery{set.Rule("rollback"), nil}, WaitingQuery{set.Rule("thrice"), []string{"shop"}})
					}
					r.engine.Waiting(ctx, event.Pos{}, queries)
					time.Sleep(time.Second)
				}
			})
		}
		w.incident()
		w.await("some of it", func() bool { return w.byRule()["rollback"] > 0 })
		one.kill()
		two.grantAll()
		w.await("the end of the incident", w.handled)
		w.checkIncident()
		stop()
		asking.Wait()
		two.stop()
	})
}
