package correlate_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

// stored returns a machine with some groups, and its state as a snapshot and a delta.
func stored(t testing.TB, s correlate.Spec) (m *correlate.Machine, snapshot, delta []byte) {
	t.Helper()
	m = newMachine(t, s)
	list := calls(rand.New(rand.NewPCG(5, 5)), s, 60, 4)
	var first, second bytes.Buffer
	for i, c := range list[:len(list)-1] {
		do(m, c)
		if i == 50 {
			if err := m.Snapshot(&first); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Delta(&second); err != nil {
		t.Fatal(err)
	}
	return m, first.Bytes(), second.Bytes()
}

func TestRestoreRefusesWhatIsNotWhole(t *testing.T) {
	spec := correlate.Spec{Kind: correlate.Count, Count: 3, Within: 10 * time.Second}
	_, snapshot, delta := stored(t, spec)
	whole := bytes.Join([][]byte{snapshot, delta}, nil)
	if _, err := correlate.Restore(bytes.NewReader(whole), spec); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i == len(snapshot) {
			continue // a snapshot alone is whole
		}
		if _, err := correlate.Restore(bytes.NewReader(whole[:i]), spec); !errors.Is(err, correlate.ErrDamaged) {
			t.Fatalf("cut off at %d of %d: %v", i, len(whole), err)
		}
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x40
		if _, err := correlate.Restore(bytes.NewReader(damaged), spec); err == nil {
			t.Fatalf("a flipped bit at %d goes unseen", i)
		}
	}
	for name, data := range map[string][]byte{
		"a delta alone": delta, "a delta twice": append(bytes.Clone(whole), delta...), "two snapshots": append(bytes.Clone(snapshot), snapshot...),
		"nothing": nil, "something else": []byte("PK\x03\x04 something else"),
	} {
		if _, err := correlate.Restore(bytes.NewReader(data), spec); !errors.Is(err, correlate.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(snapshot)
	newer[5]++
	if _, err := correlate.Restore(bytes.NewReader(newer), spec); !errors.Is(err, correlate.ErrNewerFormat) {
		t.Errorf("newer format: %v", err)
	}
}

func TestRestoreKeepsWindowsUnlessTheirMeaningChanges(t *testing.T) {
	spec := correlate.Spec{Kind: correlate.Count, Count: 50, Within: 10 * time.Minute}
	before, snapshot, delta := stored(t, spec)
	state := append(snapshot, delta...)
	if before.Len() < 2 {
		t.Fatal("too few groups to say anything")
	}
	narrow := spec
	narrow.MaxGroups = 1
	m, err := correlate.Restore(bytes.NewReader(state), narrow)
	if err != nil || m.Len() != 1 || m.Groups(1)[0].Key != before.Groups(1)[0].Key {
		t.Errorf("with room for one group: %v", err)
	}
	other := spec
	other.Within++
	if _, err := correlate.Restore(bytes.NewReader(state), other); !errors.Is(err, correlate.ErrOtherSpec) {
		t.Errorf("another window: %v", err)
	}
	if _, err := correlate.Restore(bytes.NewReader(state), correlate.Spec{}); err == nil {
		t.Error("a spec that says nothing is taken")
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestAWriteThatFailsLosesNothing(t *testing.T) {
	spec := correlate.Spec{Kind: correlate.Count, Count: 3, Within: time.Hour}
	m := newMachine(t, spec)
	var state bytes.Buffer
	if err := m.Snapshot(&state); err != nil {
		t.Fatal(err)
	}
	m.Add(match(1, "k", start))
	if err := m.Delta(&failing{20}); err == nil {
		t.Fatal("the failure is not told")
	}
	if err := m.Delta(&state); err != nil {
		t.Fatal(err)
	}
	again, err := correlate.Restore(&state, spec)
	if err != nil {
		t.Fatal(err)
	}
	sameState(t, again, m)
}

func TestCheckpointsStaySmall(t *testing.T) {
	spec := correlate.Spec{Kind: correlate.Count, Count: 3, Within: time.Hour}
	m := newMachine(t, spec)
	written, size := 0, 0
	for i := range uint64(50_000) {
		x := match(i+1, fmt.Sprint("service-", i%10_000), start.Add(time.Duration(i)*time.Millisecond))
		x.ID = event.ID("test", x.ID)
		m.Add(x)
		if i%1000 == 0 {
			var out bytes.Buffer
			whole, err := m.Checkpoint(&out)
			if err != nil {
				t.Fatal(err)
			}
			written += out.Len()
			if size += out.Len(); whole {
				size = out.Len()
			}
		}
	}
	// Each checkpoint changes 1000 groups of some 60 to 100 bytes; whole ones may double that.
	if written > 50*1000*220 || size > 3*10_000*100 {
		t.Errorf("%d bytes were written, %d are stored", written, size)
	}
}

func FuzzRestore(f *testing.F) {
	for _, s := range specs() {
		_, snapshot, delta := stored(f, s)
		f.Add(append(snapshot, delta...), uint8(0))
	}
	f.Add([]byte(strings.Repeat("rcorr\x01S", 3)), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		list := specs()
		s := list[int(kind)%len(list)]
		m, err := correlate.Restore(bytes.NewReader(correlate.Reseal(data)), s)
		if err != nil {
			return
		}
		// What is taken must be usable, and stored again the same.
		var out bytes.Buffer
		if err := m.Snapshot(&out); err != nil {
			t.Fatal(err)
		}
		again, err := correlate.Restore(&out, s)
		if err != nil {
			t.Fatal(err)
		}
		sameState(t, again, m)
		at := m.Position()
		for _, c := range calls(rand.New(rand.NewPCG(1, 1)), s, 20, 3) {
			for i := range c.matches {
				c.matches[i].Pos.Seq += at.Seq
			}
			do(m, c)
		}
	})
}
