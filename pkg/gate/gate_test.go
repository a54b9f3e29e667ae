package gate_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/gate"
)

// expect compares answers with lines of run, verdict, and what there is of target, reason, behind= and first.
func expect(t *testing.T, got []gate.Answer, want ...string) {
	t.Helper()
	var list []string
	for _, a := range got {
		words := []string{a.Run, string(a.Verdict)}
		for _, word := range []string{a.Target, a.Reason} {
			if word != "" {
				words = append(words, word)
			}
		}
		if a.First {
			words = append(words, "first")
		}
		list = append(list, strings.Join(words, " "))
		if (a.Verdict == gate.Refused || a.Verdict == gate.Superseded || a.Verdict == gate.Queued || a.Verdict == gate.LockWaits) && a.Message == "" {
			t.Errorf("%v has no message", list[len(list)-1])
		}
	}
	if !slices.Equal(list, want) {
		t.Errorf("got  %q\nwant %q", list, want)
	}
}

func notices(g *gate.Gate) string {
	var list []string
	for _, n := range g.Notices() {
		list = append(list, strings.TrimSpace(strings.Join(strings.Fields(fmt.Sprintf("%s %s at %d", n.Kind, n.Rule, int(n.At.Sub(start)/time.Second))), " ")))
	}
	return strings.Join(list, "; ")
}

func admit(g *gate.Gate, at int, run string, policy gate.Policy) []gate.Answer {
	return g.Admit(second(at), gate.Admission{Run: run, Rule: "rule", Group: "group", Policy: policy})
}

func release(g *gate.Gate, at int, run string) []gate.Answer {
	return g.Release(second(at), gate.Release{Run: run, Outcome: gate.Succeeded})
}

func lock(g *gate.Gate, run, target string) []gate.Answer {
	return g.Lock(second(0), gate.Lock{Run: run, Rule: "rule", Target: target})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	g := newGate(t, gate.Options{})
	expect(t, admit(g, 0, "a", ""), "a admitted")
	expect(t, admit(g, 0, "b", gate.Queue), "b queued")
	expect(t, admit(g, 0, "c", "unheard of"), "c queued")
	if a := admit(g, 0, "c", gate.Queue); a[0].Behind != "b" {
		t.Errorf("c waits behind %q", a[0].Behind)
	}
	expect(t, release(g, 1, "b")) // one that waits may go
	expect(t, release(g, 1, "a"), "c admitted")
	expect(t, release(g, 1, "a"))
	expect(t, admit(g, 1, "d", gate.Queue), "d queued")
	expect(t, release(g, 1, "c"), "d admitted")
	expect(t, release(g, 1, "d"))
	if s := g.Stats(); s.Runs != 0 || s.Groups != 0 {
		t.Errorf("something is left: %+v", s)
	}
}

func TestAFullQueueNeverAnswersSuccess(t *testing.T) {
	g := newGate(t, gate.Options{MaxQueue: 2})
	for _, run := range []string{"a", "b", "c"} {
		admit(g, 0, run, gate.Queue)
	}
	expect(t, admit(g, 0, "d", gate.Queue), "d refused QueueFull first")
	expect(t, admit(g, 0, "e", gate.Coalesce), "e refused QueueFull")
	expect(t, admit(g, 0, "d", gate.Queue), "d refused QueueFull first")
	expect(t, release(g, 1, "a"), "b admitted")
	expect(t, admit(g, 1, "d", gate.Queue), "d refused QueueFull first")
	expect(t, admit(g, 1, "f", gate.Coalesce), "f queued")
	expect(t, admit(g, 1, "g", gate.Cancel), "f superseded Superseded", "b stop", "g queued")
	expect(t, admit(g, 1, "h", gate.Queue), "h refused QueueFull first")
}

func TestSkip(t *testing.T) {
	g := newGate(t, gate.Options{})
	expect(t, admit(g, 0, "a", gate.Skip), "a admitted")
	expect(t, admit(g, 0, "b", gate.Skip), "b superseded GroupBusy")
	expect(t, release(g, 1, "a"))
	expect(t, admit(g, 1, "b", gate.Skip), "b superseded GroupBusy")
	expect(t, admit(g, 1, "c", gate.Skip), "c admitted")
}

func TestCoalesceLetsOnlyTheNewestWait(t *testing.T) {
	g := newGate(t, gate.Options{})
	admit(g, 0, "a", gate.Coalesce)
	expect(t, admit(g, 0, "b", gate.Coalesce), "b queued")
	expect(t, admit(g, 0, "q", gate.Queue), "q queued")
	expect(t, admit(g, 0, "c", gate.Coalesce), "b superseded Superseded", "c queued")
	expect(t, admit(g, 0, "b", gate.Coalesce), "b superseded Superseded")
	expect(t, release(g, 1, "a"), "q admitted") // a queue's runs are not for others to supersede
	expect(t, release(g, 1, "q"), "c admitted")
}

func TestCancelStopsTheRunningOneOnce(t *testing.T) {
	g := newGate(t, gate.Options{})
	admit(g, 0, "a", gate.Cancel)
	expect(t, admit(g, 0, "b", gate.Cancel), "a stop", "b queued")
	expect(t, admit(g, 0, "b", gate.Cancel), "a stop", "b queued") // the same answer again
	expect(t, admit(g, 0, "c", gate.Cancel), "b superseded Superseded", "c queued")
	expect(t, release(g, 1, "a"), "c admitted")
	expect(t, admit(g, 1, "d", gate.Cancel), "c stop", "d queued")
}

func limited(run string, limits ...gate.Limit) gate.Admission {
	return gate.Admission{Run: run, Rule: "rule", Limits: limits}
}

func TestLimitsSlideOverLogTime(t *testing.T) {
	g := newGate(t, gate.Options{})
	l := gate.Limit{Key: "rule/0/shop", Runs: 2, Per: 10 * time.Second}
	expect(t, g.Admit(second(0), limited("a", l)), "a admitted")
	expect(t, g.Admit(second(0), limited("a", l)), "a admitted")
	expect(t, g.Admit(second(4), limited("b", l)), "b admitted")
	expect(t, g.Admit(second(9), limited("c", l)), "c refused LimitReached first")
	expect(t, g.Admit(second(9), limited("d", l)), "d refused LimitReached")
	expect(t, g.Admit(second(10), limited("e", l)), "e admitted")
	expect(t, g.Admit(second(10), limited("c", l)), "c refused LimitReached first")
	expect(t, g.Admit(second(2), limited("f", l)), "f refused LimitReached") // late: counts as of now
	expect(t, g.Admit(second(14), limited("g", l)), "g admitted")
	a := g.Admit(second(19), limited("h", l))
	expect(t, a, "h refused LimitReached first") // told at 9s, so the window of telling is over
	if a[0].Key != l.Key || !strings.Contains(a[0].Message, "2 runs per 10s") || !strings.Contains(a[0].Message, "12:00:20Z") {
		t.Errorf("%+v", a[0])
	}
	g.Release(second(60), gate.Release{})
	if n := g.Stats().Keys; n != 0 {
		t.Errorf("%d keys are kept that are over", n)
	}
}

func TestNothingIsCountedIfOneLimitRefuses(t *testing.T) {
	g := newGate(t, gate.Options{})
	one := gate.Limit{Key: "one", Runs: 1, Per: time.Minute}
	three := gate.Limit{Key: "three", Runs: 3, Per: time.Minute}
	none := gate.Limit{Key: "none", Per: time.Minute}
	expect(t, g.Admit(second(0), limited("a", three, one)), "a admitted")
	expect(t, g.Admit(second(0), limited("b", three, one)), "b refused LimitReached first")
	expect(t, g.Admit(second(0), limited("c", three)), "c admitted")
	expect(t, g.Admit(second(0), limited("d", three)), "d admitted")
	expect(t, g.Admit(second(0), limited("e", three)), "e refused LimitReached first")
	expect(t, g.Admit(second(0), limited("f", none)), "f refused LimitReached first")
	twice := gate.Limit{Key: "twice", Runs: 2, Per: time.Minute}
	expect(t, g.Admit(second(0), limited("g", twice, twice)), "g admitted")
	expect(t, g.Admit(second(0), limited("h", twice)), "h admitted")
	expect(t, g.Admit(second(0), limited("i", make([]gate.Limit, gate.MaxLimits+1)...)), "i refused LimitReached first")
}

func TestAQueuedRunCountsWhenItsTurnComes(t *testing.T) {
	g := newGate(t, gate.Options{})
	ask := func(run string) []gate.Answer {
		a := limited(run, gate.Limit{Key: "k", Runs: 2, Per: time.Minute})
		a.Group = "group"
		return g.Admit(second(0), a)
	}
	expect(t, ask("a"), "a admitted")
	expect(t, ask("b"), "b queued")
	expect(t, ask("c"), "c queued")
	expect(t, ask("d"), "d queued")
	expect(t, admit(g, 0, "e", gate.Queue), "e queued")
	expect(t, release(g, 1, "a"), "b admitted")
	expect(t, release(g, 2, "b"), "c refused LimitReached first", "d refused LimitReached", "e admitted")
	expect(t, ask("c"), "c refused LimitReached first")
}

func TestABoundThatHoldsIsNeverForgotten(t *testing.T) {
	g := newGate(t, gate.Options{MaxKeys: 2, MaxCounts: 4})
	limit := func(key string) gate.Limit { return gate.Limit{Key: key, Runs: 10, Per: time.Minute} }
	expect(t, g.Admit(second(0), limited("a", limit("x"), limit("y"))), "a admitted")
	crowded := g.Admit(second(0), limited("b", limit("z")))
	expect(t, crowded, "b refused LimitReached first")
	if !strings.Contains(crowded[0].Message, "too many values") {
		t.Errorf("the message is %q", crowded[0].Message)
	}
	expect(t, g.Admit(second(0), limited("c", limit("z"))), "c refused LimitReached")
	expect(t, g.Admit(second(1), limited("d", limit("x"), limit("y"))), "d admitted")
	expect(t, g.Admit(second(1), limited("e", limit("x"))), "e refused LimitReached")
	expect(t, g.Tell(second(1), gate.Tell{Run: "t", Keys: []gate.Limit{limit("z")}}), "t tell")
	expect(t, g.Admit(second(61), limited("f", limit("z"))), "f admitted")
}

func TestLongKeysAreHashed(t *testing.T) {
	g := newGate(t, gate.Options{})
	long := strings.Repeat("é", 500_000)
	l := gate.Limit{Key: long, Runs: 1, Per: time.Minute}
	g.Admit(second(0), gate.Admission{Run: "a", Rule: long, Group: long, Limits: []gate.Limit{l}})
	expect(t, g.Admit(second(0), limited("b", l)), "b refused LimitReached first")
	l.Key += "!"
	expect(t, g.Admit(second(0), limited("c", l)), "c admitted")
	g.Lock(second(0), gate.Lock{Run: "a", Target: long})
	if a := g.Lock(second(0), gate.Lock{Run: "c", Target: long}); a[0].Verdict != gate.LockWaits || len(a[0].Target) > 256 {
		t.Errorf("%.300v", a)
	}
	if n := len(snapshot(t, g)); n > 4000 {
		t.Errorf("%d bytes are kept", n)
	}
}

func healing(run string) gate.Admission { return gate.Admission{Run: run, Rule: "rule", Heals: true} }

func TestStormBrake(t *testing.T) {
	g := newGate(t, gate.Options{Storm: gate.Storm{Runs: 2, Per: 10 * time.Second}})
	expect(t, g.Admit(second(0), healing("a")), "a admitted")
	expect(t, g.Admit(second(0), healing("a")), "a admitted") // no new run
	expect(t, g.Admit(second(1), gate.Admission{Run: "deploy"}), "deploy admitted")
	expect(t, g.Admit(second(2), healing("b")), "b admitted")
	expect(t, g.Admit(second(4), healing("c")), "c refused StormBrake first")
	expect(t, g.Admit(second(5), healing("d")), "d refused StormBrake")
	expect(t, g.Admit(second(5), gate.Admission{Run: "deploy2"}), "deploy2 admitted")
	if got := notices(g); got != "storm began at 4" {
		t.Error(got)
	}
	expect(t, g.Admit(second(13), healing("e")), "e refused StormBrake") // 4, 5 were within
	if due, ok := g.Next(); !ok || !due.Equal(second(15)) {
		t.Errorf("%v %v", due, ok)
	}
	g.MoveTo(second(14))
	if got := notices(g); got != "" {
		t.Error(got)
	}
	g.MoveTo(second(100))
	if got := notices(g); got != "storm ended at 15" {
		t.Error(got)
	}
	expect(t, g.Admit(second(16), healing("f")), "f admitted")
	if _, ok := g.Next(); ok {
		t.Error("something is due")
	}
	expect(t, g.Admit(second(17), healing("g")), "g refused StormBrake first")
}

func TestAStormRefusesWhatWaits(t *testing.T) {
	g := newGate(t, gate.Options{Storm: gate.Storm{Runs: 2, Per: 10 * time.Second}})
	a := healing("a")
	b := healing("b")
	a.Group, b.Group = "group", "group"
	g.Admit(second(0), a)
	expect(t, g.Admit(second(0), b), "b queued")
	expect(t, admit(g, 0, "d", gate.Queue), "d queued")
	g.Admit(second(0), healing("c"))
	expect(t, release(g, 1, "a"), "b refused StormBrake", "d admitted")
}

func TestStormDefaults(t *testing.T) {
	g := newGate(t, gate.Options{})
	for i := range 60 {
		expect(t, g.Admit(second(0), healing(fmt.Sprint(i))), fmt.Sprint(i, " admitted"))
	}
	expect(t, g.Admit(second(0), healing("more")), "more refused StormBrake first")
	off := newGate(t, gate.Options{Storm: gate.Storm{Runs: -1}})
	for i := range 100 {
		expect(t, off.Admit(second(0), healing(fmt.Sprint(i))), fmt.Sprint(i, " admitted"))
	}
}

func TestCircuitBreaker(t *testing.T) {
	g := newGate(t, gate.Options{Breaker: gate.Breaker{Runs: 4, Within: time.Hour, Success: 0.5, Open: time.Minute}})
	n := 0
	end := func(at int, o gate.Outcome) {
		t.Helper()
		n++
		run := fmt.Sprint("run", n)
		expect(t, g.Admit(second(at), healing(run)), run+" admitted")
		expect(t, g.Release(second(at), gate.Release{Run: run, Outcome: o}))
	}
	end(0, gate.Failed)
	end(4000, gate.Failed) // the first one is too old
	end(4000, gate.Succeeded)
	end(4000, gate.Other)
	end(4000, gate.Failed)
	g.Admit(second(4000), healing("late"))
	end(4010, gate.Failed)
	if got := notices(g); got != "breaker opened rule at 4010" {
		t.Error(got)
	}
	g.Release(second(4011), gate.Release{Run: "late", Outcome: gate.Succeeded}) // begun before: no trial
	expect(t, g.Admit(second(4069), healing("a")), "a refused CircuitOpen first")
	expect(t, g.Admit(second(4069), healing("b")), "b refused CircuitOpen")
	expect(t, g.Admit(second(4069), gate.Admission{Run: "other", Rule: "other", Heals: true}), "other admitted")
	expect(t, g.Admit(second(4069), gate.Admission{Run: "push", Rule: "rule"}), "push admitted")

	expect(t, g.Admit(second(4070), healing("trial")), "trial admitted")
	expect(t, g.Admit(second(4070), healing("c")), "c refused CircuitOpen")
	g.Release(second(4071), gate.Release{Run: "trial", Outcome: gate.Other}) // says nothing: another trial
	expect(t, g.Admit(second(4071), healing("trial2")), "trial2 admitted")
	g.Release(second(4072), gate.Release{Run: "trial2", Outcome: gate.Failed})
	expect(t, g.Admit(second(4131), healing("d")), "d refused CircuitOpen first")
	expect(t, g.Admit(second(4132), healing("trial3")), "trial3 admitted")
	g.Release(second(4133), gate.Release{Run: "trial3", Outcome: gate.Succeeded})
	if got := notices(g); got != "breaker opened rule at 4072; breaker closed rule at 4133" {
		t.Error(got)
	}
	end(4134, gate.Failed)
	end(4134, gate.Failed)
	end(4134, gate.Failed) // three of four would be enough, had the past not been forgotten
	end(4134, gate.Succeeded)
}

func TestLocks(t *testing.T) {
	g := newGate(t, gate.Options{})
	expect(t, lock(g, "a", "x"), "a locked x")
	expect(t, lock(g, "a", "x"), "a locked x")
	expect(t, lock(g, "a", "y"), "a locked y")
	expect(t, lock(g, "b", "x"), "b lockWaits x")
	expect(t, lock(g, "c", "x"), "c lockWaits x")
	expect(t, lock(g, "d", "x"), "d lockWaits x")
	expect(t, lock(g, "b", "x"), "b lockWaits x")
	if a := lock(g, "c", "x"); a[0].Behind != "b" {
		t.Errorf("c waits behind %s", a[0].Behind)
	}
	expect(t, release(g, 1, "c"))
	expect(t, release(g, 1, "a"), "b locked x")
	expect(t, release(g, 1, "a"))
	expect(t, lock(g, "a", "x"), "a refused x Ended")
	expect(t, release(g, 1, "b"), "d locked x")
	expect(t, release(g, 1, "d"))
	if s := g.Stats(); s.Targets != 0 || s.Runs != 0 {
		t.Errorf("something is left: %+v", s)
	}
}

func TestARunThatWaitsForItsTurnLocksNothing(t *testing.T) {
	g := newGate(t, gate.Options{})
	admit(g, 0, "a", gate.Queue)
	admit(g, 0, "b", gate.Queue)
	expect(t, lock(g, "b", "x"), "b refused x NotAdmitted first")
	release(g, 0, "a")
	expect(t, lock(g, "b", "x"), "b locked x")
}

func TestALockCountsWhenItIsHad(t *testing.T) {
	g := newGate(t, gate.Options{})
	ask := func(run string) []gate.Answer {
		return g.Lock(second(0), gate.Lock{Run: run, Target: "x", Limit: &gate.Limit{Key: "rule/x", Runs: 2, Per: time.Hour}})
	}
	expect(t, ask("a"), "a locked x")
	expect(t, ask("b"), "b lockWaits x")
	expect(t, ask("a"), "a locked x")
	expect(t, ask("c"), "c lockWaits x")
	expect(t, lock(g, "d", "x"), "d lockWaits x")
	expect(t, release(g, 1, "a"), "b locked x")
	expect(t, release(g, 2, "b"), "c refused x LimitReached first", "d locked x")
	expect(t, release(g, 3, "d"))
	expect(t, ask("e"), "e refused x LimitReached")
	expect(t, g.Lock(second(3600), gate.Lock{Run: "c", Target: "x", Limit: &gate.Limit{Key: "rule/x", Runs: 2, Per: time.Hour}}), "c locked x")
}

func TestDeadlocksAreRefused(t *testing.T) {
	g := newGate(t, gate.Options{})
	lock(g, "a", "x")
	lock(g, "b", "y")
	lock(g, "c", "z")
	expect(t, lock(g, "a", "y"), "a lockWaits y")
	expect(t, lock(g, "b", "z"), "b lockWaits z")
	expect(t, lock(g, "c", "x"), "c refused x Deadlock first")
	expect(t, lock(g, "d", "x"), "d lockWaits x")
	expect(t, release(g, 1, "c"), "b locked z")
	expect(t, release(g, 1, "b"), "a locked y")
	expect(t, release(g, 1, "a"), "d locked x")

	// One that is before another in a queue is in the circle as well.
	g = newGate(t, gate.Options{})
	lock(g, "a", "x")
	lock(g, "c", "y")
	expect(t, lock(g, "b", "x"), "b lockWaits x")
	expect(t, lock(g, "b", "y"), "b lockWaits y") // two steps in parallel
	expect(t, lock(g, "c", "x"), "c refused x Deadlock first")
}

func TestBlastRadius(t *testing.T) {
	g := newGate(t, gate.Options{BlastRadius: []gate.BlastRadius{{Targets: []string{"svc/*", "job/*"}, Percent: 25, Of: 11}}})
	expect(t, lock(g, "a", "svc/1"), "a locked svc/1")
	expect(t, lock(g, "b", "job/1"), "b locked job/1")
	waits := lock(g, "c", "svc/2")
	expect(t, waits, "c lockWaits svc/2")
	if !strings.Contains(waits[0].Message, "fewer than 2 of the targets svc/*, job/*") {
		t.Errorf("the message is %q", waits[0].Message)
	}
	expect(t, lock(g, "d", "svc/1"), "d lockWaits svc/1")
	expect(t, lock(g, "e", "node/1"), "e locked node/1")
	expect(t, lock(g, "a", "svc/1"), "a locked svc/1")
	expect(t, release(g, 1, "a"), "c locked svc/2")
	expect(t, release(g, 1, "b"), "d locked svc/1")

	one := newGate(t, gate.Options{BlastRadius: []gate.BlastRadius{{Targets: []string{"**"}, Percent: 10, Of: 5}}})
	expect(t, lock(one, "a", "svc/1"), "a locked svc/1")
	expect(t, lock(one, "a", "svc/2"), "a refused svc/2 BlastRadius first")
	expect(t, lock(one, "b", "svc/2"), "b lockWaits svc/2")
}

func TestWhatWaitsInABlastRadiusIsNotStuck(t *testing.T) {
	g := newGate(t, gate.Options{BlastRadius: []gate.BlastRadius{{Targets: []string{"svc/*"}, Max: 2}}})
	lock(g, "a", "svc/1")
	lock(g, "b", "svc/2")
	expect(t, lock(g, "a", "svc/3"), "a lockWaits svc/3")
	expect(t, lock(g, "b", "svc/4"), "b refused svc/4 BlastRadius first")
	expect(t, release(g, 1, "b"), "a locked svc/3")
}

func TestTellOnceForEachKeyAndWindow(t *testing.T) {
	g := newGate(t, gate.Options{})
	shop := gate.Limit{Key: "shop", Runs: 3, Per: 10 * time.Second}
	all := gate.Limit{Key: "all", Runs: 30, Per: time.Minute}
	tell := func(at int, run string, keys ...gate.Limit) []gate.Answer {
		return g.Tell(second(at), gate.Tell{Run: run, Keys: keys})
	}
	expect(t, tell(0, "a", shop), "a tell")
	for i := range 38 {
		run := fmt.Sprint("r", i)
		expect(t, tell(1, run, shop), run+" silent")
	}
	expect(t, tell(2, "a", shop), "a tell")
	expect(t, tell(2, "b"), "b tell")
	expect(t, tell(2, "c"), "c tell")
	expect(t, tell(2, "d", all), "d tell")
	expect(t, tell(10, "e", shop, all), "e silent")
	expect(t, tell(10, "f", shop), "f tell")
	expect(t, tell(30, "r1", shop), "r1 silent") // the same answer, although the window is over
	expect(t, tell(62, "e", shop, all), "e silent")
	expect(t, tell(62, "g", shop, all), "g tell")
}

func TestARefusalIsToldLikeAFailure(t *testing.T) {
	g := newGate(t, gate.Options{})
	l := gate.Limit{Key: "k", Runs: 1, Per: time.Minute}
	g.Admit(second(0), limited("a", l))
	g.Release(second(1), gate.Release{Run: "a", Outcome: gate.Failed})
	expect(t, g.Tell(second(1), gate.Tell{Run: "a", Keys: []gate.Limit{l}}), "a tell")
	expect(t, g.Admit(second(2), limited("b", l)), "b refused LimitReached")
	expect(t, g.Tell(second(2), gate.Tell{Run: "b", Keys: []gate.Limit{l}}), "b silent")
}

func TestAttempts(t *testing.T) {
	g := newGate(t, gate.Options{})
	try := func(n int) []gate.Answer {
		return g.Admit(second(0), gate.Admission{Run: "a", Attempt: n, Group: "group"})
	}
	expect(t, try(1), "a admitted")
	expect(t, admit(g, 0, "b", gate.Queue), "b queued")
	expect(t, try(2), "b admitted", "a queued") // the first attempt is over
	expect(t, try(1), "a superseded Ended")
	expect(t, g.Release(second(0), gate.Release{Run: "a", Attempt: 1})) // late, and of no matter to the second
	expect(t, release(g, 0, "b"), "a admitted")
	expect(t, g.Release(second(0), gate.Release{Run: "a", Attempt: 2}))
	expect(t, try(2), "a superseded Ended")
	expect(t, try(3), "a admitted")
}

func TestMemoryOfRunsThatAreOverIsBounded(t *testing.T) {
	g := newGate(t, gate.Options{})
	none := gate.Limit{Key: "none", Per: time.Minute}
	for i := range gate.MaxRemembered + 10 {
		g.Admit(second(i/100), limited(fmt.Sprint("r", i), none))
	}
	ask := func(at int, run string) []gate.Answer { return g.Admit(second(at), limited(run)) }
	expect(t, ask(500, "r0"), "r0 admitted")
	expect(t, ask(500, "r10"), "r10 refused LimitReached")
	expect(t, ask(4098, "r49999"), "r49999 refused LimitReached")
	expect(t, ask(4099, "r49999"), "r49999 admitted")
}

// TestEveryRunCanEnd lets runs with parallel steps ask for whatever they like, and then ends all that wait for nothing.
func TestEveryRunCanEnd(t *testing.T) {
	for seed := range uint64(200) {
		g, n := newGate(t, small()), newGenerator(seed)
		waits, attempts, holder := map[string]map[string]bool{}, map[string]int{}, map[string]string{}
		take := func(list []gate.Answer) {
			for _, a := range list {
				switch a.Verdict {
				case gate.Locked:
					if h := holder[a.Target]; h != "" && h != a.Run {
						t.Fatalf("seed %d: %s and %s hold %s", seed, h, a.Run, a.Target)
					}
					holder[a.Target] = a.Run
					delete(waits[a.Run], a.Target)
				case gate.LockWaits:
					waits[a.Run][a.Target] = true
				}
			}
			held := map[string]int{}
			for target := range holder {
				held[target[:1]]++
			}
			if held["a"] > 2 || held["c"] > 1 {
				t.Fatalf("seed %d: too many are held: %v", seed, holder)
			}
		}
		end := func(run string) {
			for target, h := range holder {
				if h == run {
					delete(holder, target)
				}
			}
			delete(waits, run)
			take(g.Release(second(0), gate.Release{Run: run, Attempt: attempts[run]}))
			attempts[run]++
		}
		for range 150 {
			run := fmt.Sprint("r", n.rng.IntN(8))
			if n.rng.IntN(12) == 0 {
				end(run)
				continue
			}
			if waits[run] == nil {
				waits[run] = map[string]bool{}
			}
			target := n.pick("a1", "a2", "a3", "ab1", "ab2", "b1", "b2", "b3", "c1", "c2", "d1", "d2")
			take(g.Lock(second(0), gate.Lock{Run: run, Attempt: attempts[run], Target: target}))
		}
		for len(waits) > 0 {
			before := len(waits)
			for i := range 8 {
				if run := fmt.Sprint("r", i); waits[run] != nil && len(waits[run]) == 0 {
					end(run)
				}
			}
			if len(waits) == before {
				t.Fatalf("seed %d: %v wait for ever while %v", seed, waits, holder)
			}
		}
		if s := g.Stats(); s.Runs+s.Targets != 0 {
			t.Fatalf("seed %d: something is left: %+v", seed, s)
		}
	}
}

func TestManyWaitingRunsNeedLittleMemory(t *testing.T) {
	const n = 100_000
	before := heap()
	g := waitingRuns(t, n)
	used := heap() - before
	t.Logf("%d B for each run", used/n)
	if used > 28<<20 {
		t.Errorf("%d waiting runs take %d MiB", n, used>>20)
	}
	if s := g.Stats(); s.Runs != n+2 {
		t.Errorf("%+v", s)
	}
}

// waitingRuns are in two groups, with ids as they are in life and a limit each.
func waitingRuns(t testing.TB, n int) *gate.Gate {
	g := newGate(t, gate.Options{MaxQueue: n})
	for i := range n + 2 {
		l := gate.Limit{Key: fmt.Sprintf("restart-when-stuck/0/production/shop-%04d", i%5000), Runs: 3, Per: time.Hour}
		g.Admit(second(0), gate.Admission{
			Run: fmt.Sprintf("01JNZQ5T3S8F%014d", i), Rule: "restart-when-stuck", Group: fmt.Sprint("production/", i%2), Limits: []gate.Limit{l},
		})
	}
	return g
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := gate.New(gate.Options{
		MaxQueue: -1, Breaker: gate.Breaker{Success: 2},
		BlastRadius: []gate.BlastRadius{{}, {Targets: []string{"[a"}, Max: 1}, {Targets: []string{"a"}, Percent: 10}},
	})
	for _, want := range []string{"maxQueue", "breaker.success", "blastRadius[0].targets", "blastRadius[0]: must say max", "[a", "blastRadius[2]: percent and of"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
