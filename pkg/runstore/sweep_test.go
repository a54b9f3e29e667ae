package runstore

import (
	"errors"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// fill appends entries of 100 KiB, each in a message of its own.
func fill(t *testing.T, j *Journal, n int) {
	t.Helper()
	for i := range n {
		e := big("r", 100<<10)
		e.Attempt = i
		mustAppend(t, j, e)
	}
}

func settled(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq() + 1}); err != nil {
		t.Fatal(err)
	}
}

func TestSweepKeepsWhatIsNeeded(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(2), maxBytes(minMaxBytes))
	busy, _, _ := take(t, s, 0, "a")
	idle, _, _ := take(t, s, 1, "a")
	settled(t, idle)
	fill(t, busy, 35)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, s, 0); len(got) != 35 {
		t.Fatalf("%d of 35 entries are left of a partition without a checkpoint", len(got))
	}
	if s.CarryBefore() == 0 {
		t.Error("it is not said that needed entries keep the journal from being purged")
	}

	if err := busy.Checkpoint(t.Context(), run.Checkpoint{Replay: busy.Seq() - 29}); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, s, 0); len(got) != 31 && len(got) != 30 {
		t.Errorf("%d entries are left, want the 30 that are needed and no more than one other", len(got))
	}
	_, got, _ := take(t, s, 0, "b")
	if len(got) != 30 || got[0].Attempt != 5 {
		t.Errorf("replayed %d entries, want the last 30 of 35", len(got))
	}
	mustAppend(t, idle, started("q", 1)) // names its predecessor, the oldest message of all
}

func TestSweepBySize(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1), maxBytes(minMaxBytes))
	j, _, _ := take(t, s, 0, "a")
	fill(t, j, 35)
	settled(t, j)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, s, 0); len(got) < 25 || len(got) > 31 {
		t.Errorf("%d of 35 entries are left in three quarters of the space", len(got))
	}
	if s.CarryBefore() != 0 {
		t.Error("something is said to be in the way")
	}
}

func TestSweepByAge(t *testing.T) {
	srv := startServer(t)
	s := openStore(t, srv.broker(), partitions(2))
	j, _, _ := take(t, s, 0, "a")
	take(t, s, 1, "a") // without a checkpoint it keeps its own entries only
	mustAppend(t, j, started("old", 1))
	mustAppend(t, j, started("old", 2))
	settled(t, j)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, s, 0); len(got) != 2 {
		t.Fatalf("%d of 2 young entries are left", len(got))
	}
	later := openStore(t, srv.broker(), at(time.Now().Add(defaultHistory+time.Hour)))
	if err := later.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, s, 0); len(got) != 1 || got[0].Attempt != 2 {
		t.Errorf("left are %+v, want only the last entry", got)
	}
	if last, err := s.lastSeq(t.Context(), 1); err != nil || last == 0 {
		t.Errorf("the other partition's last entry: %d, %v", last, err)
	}
	mustAppend(t, j, started("new", 1))
}

func TestFullJournal(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1), maxBytes(minMaxBytes))
	j, _, _ := take(t, s, 0, "a")
	e := big("r", 100<<10)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		e.Attempt = n
		err = j.Append(t.Context(), []run.Entry{e})
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d entries Append gives %v", n, err)
	}
	if !s.Tight() {
		t.Error("full journals are not tight")
	}
	if got := entriesOf(t, s, 0); len(got) != n-1 {
		t.Errorf("%d entries are left of %d that were acknowledged", len(got), n-1)
	}
	// Once some of it is not needed any more, the same entries find room without further ado.
	if err := j.store.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, _, err := s.checkpoint(t.Context(), 0); err != nil || c.Replay != 0 {
		t.Fatalf("the checkpoint is %+v, %v", c, err)
	}
	k, got, _ := take(t, s, 0, "b") // a claim is small enough
	if len(got) != n {
		t.Errorf("replayed %d entries, want a's claim and %d more", len(got), n-1)
	}
	settled(t, k)
	mustAppend(t, k, e)
	if err := s.Sweep(t.Context()); err != nil || s.Tight() {
		t.Errorf("after a sweep: %v, tight %v", err, s.Tight())
	}
}

func TestFullOfHistoryMakesRoom(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1), maxBytes(minMaxBytes))
	j, _, _ := take(t, s, 0, "a")
	for range 4 {
		fill(t, j, 20)
		settled(t, j)
	}
}
