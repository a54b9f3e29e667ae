package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

func openEmpty(t *testing.T) *Log {
	t.Helper()
	b, err := broker.Open(t.Context(), broker.Options{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	l, err := Open(t.Context(), b, Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

func idsOf(from, to uint64) (list []savedID) {
	for seq := from; seq <= to; seq++ {
		list = append(list, savedID{keyOf(fmt.Sprint(seq)), pack(event.Pos{Seq: seq}), time.Unix(int64(seq), 0)})
	}
	return list
}

// Replicas that store ids at once, each as far as it has read, must leave no segment that is covered and whose ids are missing.
func TestReplicasThatStoreIDsAtOnceLoseNone(t *testing.T) {
	l := openEmpty(t)
	const rounds = 60
	for round := uint64(0); round < rounds; round++ {
		from := round*10 + 1
		var wg sync.WaitGroup
		for _, to := range []uint64{from + 4, from + 9, from + 7, from + 9} {
			wg.Go(func() {
				if err := l.storeIDs(t.Context(), to, idsOf(from, to)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	known := map[uint64]bool{}
	var end uint64
	if _, err := l.scan(t.Context(), broker.IDStream, 1, func(_ uint64, data []byte) error {
		covered, list, err := decodeIDs(data)
		for _, s := range list {
			known[s.pos>>16] = true
		}
		end = max(end, covered)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= end; seq++ {
		if !known[seq] {
			t.Fatalf("segment %d of %d is covered, and its ids are not stored", seq, end)
		}
	}
	if end != rounds*10 {
		t.Errorf("%d segments of %d are covered", end, rounds*10)
	}
}

func TestStoredIDsGoOnceTheIndexForgetsThem(t *testing.T) {
	l := openEmpty(t)
	l.ids = newIDs(7*time.Hour, 1_000_000)
	day := time.Unix(1_800_000_000, 0)
	for hour := range uint64(24) {
		id := savedID{keyOf(fmt.Sprint(hour)), pack(event.Pos{Seq: hour + 1}), day.Add(time.Duration(hour) * time.Hour)}
		l.ids.cover(hour+1, []savedID{id})
		if err := l.saveIDs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.purgeIDs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	loaded := newIDs(7*time.Hour, 1_000_000)
	if _, err := l.scan(t.Context(), broker.IDStream, 1, func(_ uint64, data []byte) error {
		_, list, err := decodeIDs(data)
		for _, s := range list {
			loaded.put(s)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for hour := range 24 {
		_, memory := l.ids.find(fmt.Sprint(hour))
		_, disk := loaded.find(fmt.Sprint(hour))
		if within := hour >= 24-7; memory != disk || within && !memory || hour < 24-10 && memory {
			t.Errorf("id of hour %d: known in memory %v, on the disk %v", hour, memory, disk)
		}
	}
}

// A clock that leaps to and fro must not make the index forget what came a moment ago.
func TestTheIndexOutlivesAClockThatLeaps(t *testing.T) {
	s, at := newIDs(7*24*time.Hour, 1_000_000), time.Unix(1_800_000_000, 0)
	s.add("first", event.Pos{Seq: 1}, at)
	for i, leap := range []time.Duration{-time.Hour, 24 * time.Hour, 0, 30 * 24 * time.Hour, 0, -365 * 24 * time.Hour, 24 * time.Hour} {
		s.add(fmt.Sprint(i), event.Pos{Seq: uint64(i) + 2}, at.Add(leap))
	}
	if _, ok := s.find("first"); !ok {
		t.Error("it is forgotten")
	}
}
