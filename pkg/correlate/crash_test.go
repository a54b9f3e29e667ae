package correlate_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/riposte-dev/riposte/pkg/correlate"
)

// storage plays what the engine stores: the last snapshot and the deltas after it, and which calls they hold.
type storage struct {
	data  []byte
	calls int
}

func (s *storage) checkpoint(t *testing.T, rng *rand.Rand, m *correlate.Machine, calls int) {
	t.Helper()
	var out bytes.Buffer
	whole, err := true, error(nil)
	if rng.IntN(4) == 0 {
		err = m.Snapshot(&out)
	} else {
		whole, err = m.Checkpoint(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if rng.IntN(5) == 0 { // written, but not stored: only a snapshot may follow
		out.Reset()
		if err := m.Snapshot(&out); err != nil {
			t.Fatal(err)
		}
		whole = true
	}
	if whole {
		s.data = nil
	}
	s.data = append(s.data, out.Bytes()...)
	s.calls = calls
}

func (s *storage) restore(t *testing.T, spec correlate.Spec) *correlate.Machine {
	t.Helper()
	m, err := correlate.Restore(bytes.NewReader(s.data), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCrashesChangeNothing kills the machine at random points. Whoever restores it and replays what came after the
// checkpoint must see the firings, and in the end the state, of a machine that never stopped. Few groups are allowed, so
// that evictions are part of it, and events are late at will.
func TestCrashesChangeNothing(t *testing.T) {
	eachSpec(t, func(t *testing.T, s correlate.Spec) {
		s.MaxGroups = 4
		evicted := uint64(0)
		for seed := range uint64(40) {
			rng := rand.New(rand.NewPCG(seed, 2))
			list := calls(rng, s, 150, 7)
			steady := newMachine(t, s)
			var want [][]correlate.Firing
			for _, c := range list {
				want = append(want, do(steady, c))
			}
			crashing := crash(t, rng, s, list, want)
			sameState(t, crashing, steady)
			evicted += steady.Stats().Evicted
		}
		if evicted == 0 && s.Count != 1 {
			t.Error("no group was evicted")
		}
	})
}

func crash(t *testing.T, rng *rand.Rand, s correlate.Spec, list []call, want [][]correlate.Firing) *correlate.Machine {
	t.Helper()
	m, stored := newMachine(t, s), storage{}
	stored.checkpoint(t, rng, m, 0)
	for i := 0; i < len(list); i++ {
		if got := do(m, list[i]); fmt.Sprint(got) != fmt.Sprint(want[i]) {
			t.Fatalf("call %d: fires %v, want %v", i, got, want[i])
		}
		switch rng.IntN(20) {
		case 0, 1, 2:
			stored.checkpoint(t, rng, m, i+1)
		case 3:
			m = stored.restore(t, s)
			again(t, rng, m, list[:stored.calls])
			i = stored.calls - 1
		}
	}
	return m
}

// again replays some of what the state holds already, which must do nothing.
func again(t *testing.T, rng *rand.Rand, m *correlate.Machine, before []call) {
	t.Helper()
	for _, c := range before[rng.IntN(len(before)+1):] {
		if got := do(m, c); len(got) > 0 {
			t.Fatalf("replaying what is in the state fires %v", got)
		}
	}
}

func sameState(t *testing.T, got, want *correlate.Machine) {
	t.Helper()
	if got.Stats() != want.Stats() || got.Position() != want.Position() {
		t.Fatalf("state is %+v at %v, want %+v at %v", got.Stats(), got.Position(), want.Stats(), want.Position())
	}
	if g, w := fmt.Sprint(got.Groups(100)), fmt.Sprint(want.Groups(100)); g != w {
		t.Fatalf("groups are %s, want %s", g, w)
	}
	gp, gok := got.Oldest()
	wp, wok := want.Oldest()
	gn, _ := got.Next()
	wn, _ := want.Next()
	if gp != wp || gok != wok || !gn.Equal(wn) {
		t.Fatalf("oldest %v, next %v; want %v, %v", gp, gn, wp, wn)
	}
}

// TestAdvanceMayBeCalledAtAnyTime: how often the engine passes log time makes no difference.
func TestAdvanceMayBeCalledAtAnyTime(t *testing.T) {
	eachSpec(t, func(t *testing.T, s correlate.Spec) {
		for seed := range uint64(40) {
			rng := rand.New(rand.NewPCG(seed, 3))
			list := calls(rng, s, 100, 3)
			neverBehindAdvance(list)
			sparse := slices.DeleteFunc(slices.Clone(list[:len(list)-1]), func(c call) bool { return c.matches == nil })
			sparse = append(sparse, list[len(list)-1])
			got, want := machineFirings(newMachine(t, s), sparse), machineFirings(newMachine(t, s), list)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d: without Advance %v, with %v", seed, got, want)
			}
		}
	})
}
