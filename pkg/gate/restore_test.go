package gate_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/riposte-dev/riposte/pkg/gate"
)

func snapshot(t testing.TB, g *gate.Gate) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := g.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t testing.TB, state []byte, o gate.Options) *gate.Gate {
	t.Helper()
	g, err := gate.Restore(bytes.NewReader(state), o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// busy returns a gate after random requests, and the generator of more.
func busy(t testing.TB, seed uint64, requests int) (*gate.Gate, *generator) {
	t.Helper()
	n, g := newGenerator(seed), newGate(t, small())
	n.parallel = true
	for range requests {
		do(g, n.next(nil))
	}
	return g, n
}

func TestARestoredGateAnswersTheSame(t *testing.T) {
	for seed := range uint64(100) {
		n, g := newGenerator(seed), newGate(t, small())
		n.parallel = seed%2 == 0
		other := newGate(t, small())
		for i := range 300 {
			if n.rng.IntN(10) == 0 {
				state := snapshot(t, other)
				other.Notices()
				g.Notices()
				other = restore(t, state, small())
				if !bytes.Equal(snapshot(t, other), state) {
					t.Fatalf("seed %d, request %d: a restored gate is not written the same", seed, i)
				}
			}
			r := n.next(func(string) bool { return false })
			want, got := do(g, r), do(other, r)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, request %d: %+v\ngot  %v\nwant %v", seed, i, r, got, want)
			}
			if got, want := fmt.Sprint(other.Notices()), fmt.Sprint(g.Notices()); got != want {
				t.Fatalf("seed %d, request %d: notices %s, want %s", seed, i, got, want)
			}
		}
		if !bytes.Equal(snapshot(t, g), snapshot(t, other)) {
			t.Fatalf("seed %d: the states differ at the end", seed)
		}
	}
}

func TestRestoreRefusesWhatIsNotWhole(t *testing.T) {
	g, _ := busy(t, 3, 300)
	whole := snapshot(t, g)
	restore(t, whole, small())
	for i := range whole {
		if _, err := gate.Restore(bytes.NewReader(whole[:i]), small()); !errors.Is(err, gate.ErrDamaged) {
			t.Fatalf("cut off at %d of %d: %v", i, len(whole), err)
		}
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x40
		if _, err := gate.Restore(bytes.NewReader(damaged), small()); err == nil {
			t.Fatalf("a flipped bit at %d goes unseen", i)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "something else": []byte("PK\x03\x04 something else"), "two": append(bytes.Clone(whole), whole...)} {
		if _, err := gate.Restore(bytes.NewReader(data), small()); !errors.Is(err, gate.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(whole)
	newer[5]++
	if _, err := gate.Restore(bytes.NewReader(newer), small()); !errors.Is(err, gate.ErrNewerFormat) {
		t.Errorf("newer format: %v", err)
	}
	if _, err := gate.Restore(bytes.NewReader(whole), gate.Options{MaxQueue: -1}); err == nil {
		t.Error("options that make no sense are taken")
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestAWriteThatFailsIsTold(t *testing.T) {
	g, _ := busy(t, 3, 300)
	if err := g.Snapshot(&failing{40}); err == nil {
		t.Error("the failure is not told")
	}
}

func TestRestoreWithOtherOptions(t *testing.T) {
	radius := func(n int) gate.Options {
		return gate.Options{BlastRadius: []gate.BlastRadius{{Targets: []string{"svc/*"}, Max: n}}}
	}
	g := newGate(t, radius(1))
	for i := range 4 {
		g.Lock(second(0), gate.Lock{Run: fmt.Sprint("r", i), Target: fmt.Sprint("svc/", i)})
	}
	state := snapshot(t, g)
	nudge := gate.Release{Run: "nobody"}

	wider := restore(t, state, radius(3))
	expect(t, wider.Release(second(1), nudge), "r1 locked svc/1", "r2 locked svc/2")
	expect(t, wider.Release(second(1), nudge))
	none := restore(t, state, gate.Options{})
	expect(t, none.Release(second(1), nudge), "r1 locked svc/1", "r2 locked svc/2", "r3 locked svc/3")

	narrower := restore(t, snapshot(t, wider), radius(1))
	expect(t, narrower.Release(second(2), gate.Release{Run: "r0"}))
	expect(t, narrower.Release(second(2), gate.Release{Run: "r1"}))
	expect(t, narrower.Release(second(2), gate.Release{Run: "r2"}), "r3 locked svc/3")
}

func TestRestoreWithBoundsTurnedOff(t *testing.T) {
	g := newGate(t, small())
	for i := range 20 {
		g.Admit(second(0), gate.Admission{Run: fmt.Sprint("r", i), Rule: "x", Heals: true})
		g.Release(second(0), gate.Release{Run: fmt.Sprint("r", i), Outcome: gate.Failed})
	}
	if s := g.Stats(); !s.Storm || s.Breakers != 1 {
		t.Fatalf("%+v", s)
	}
	off := restore(t, snapshot(t, g), gate.Options{Storm: gate.Storm{Runs: -1}, Breaker: gate.Breaker{Runs: -1}})
	expect(t, off.Admit(second(1), gate.Admission{Run: "next", Rule: "x", Heals: true}), "next admitted")
	off.Release(second(90_000), gate.Release{Run: "next", Outcome: gate.Failed})
	if off.Stats().Storm {
		t.Error("a brake that is turned off is still on")
	}
}

func FuzzRestore(f *testing.F) {
	for seed := range uint64(8) {
		g, _ := busy(f, seed, 40+int(seed)*20)
		head, records := gate.Payloads(snapshot(f, g))
		f.Add(head, records)
	}
	f.Fuzz(func(t *testing.T, head, records []byte) {
		_, err := gate.Restore(bytes.NewReader(head), small())
		if !errors.Is(err, gate.ErrDamaged) && !errors.Is(err, gate.ErrNewerFormat) {
			t.Fatalf("what is no state: %v", err)
		}
		g, err := gate.Restore(bytes.NewReader(gate.Seal(head, records)), small())
		if err != nil {
			return
		}
		// What is taken must be usable, and stored again the same.
		state := snapshot(t, g)
		again := restore(t, state, small())
		if !bytes.Equal(snapshot(t, again), state) {
			t.Fatal("stored again it differs")
		}
		n := newGenerator(1)
		n.parallel = true
		for range 60 {
			r := n.next(nil)
			if want, got := do(g, r), do(again, r); !slices.Equal(got, want) {
				t.Fatalf("%+v: %v, and restored %v", r, want, got)
			}
		}
	})
}
