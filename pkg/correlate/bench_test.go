package correlate_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

const manyGroups = 1_000_000

// many returns count matches with keys and ids as they are in life, a hundred to a segment.
func many(from, n, keys int) []correlate.Match {
	list := make([]correlate.Match, n)
	for i := range list {
		k := from + i
		list[i] = correlate.Match{
			Key: fmt.Sprintf("production/shop-%07d", k*7919%keys), ID: event.ID("bench", fmt.Sprint(k)),
			Pos: event.Pos{Seq: uint64(k/100 + 1), Index: k % 100}, At: start.Add(time.Duration(k) * 20 * time.Microsecond),
		}
	}
	return list
}

func countSpec() correlate.Spec {
	return correlate.Spec{Kind: correlate.Count, Count: 3, Within: time.Hour, MaxGroups: manyGroups}
}

func full(b *testing.B, s correlate.Spec) *correlate.Machine {
	b.Helper()
	m := newMachine(b, s)
	for from := 0; from < manyGroups; from += 50_000 {
		for _, x := range many(from, 50_000, manyGroups) {
			m.Add(x)
		}
	}
	if m.Len() != manyGroups {
		b.Fatalf("%d groups", m.Len())
	}
	return m
}

// BenchmarkGroups reports what one of a million live groups takes: the heap that is left after a collection.
func BenchmarkGroups(b *testing.B) {
	sequence := correlate.Spec{Kind: correlate.Sequence, Parts: []string{"deploy", "alert"}, Within: time.Hour, MaxGroups: manyGroups}
	all := correlate.Spec{Kind: correlate.All, Parts: []string{"a", "b", "c"}, Within: time.Hour, MaxGroups: manyGroups}
	for _, s := range []correlate.Spec{countSpec(), sequence, all} {
		b.Run(string(s.Kind), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				m := full(b, s)
				b.ReportMetric(float64(heap()-before)/manyGroups, "B/group")
				runtime.KeepAlive(m)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkCount adds events to one count rule with a million groups, with a checkpoint each 5,000 events (ten a second at
// 50,000 events/s). Each event and its share of the checkpoints is one operation.
func BenchmarkCount(b *testing.B) {
	for _, keys := range []int{100, manyGroups} {
		b.Run(fmt.Sprintf("%d-keys", keys), func(b *testing.B) {
			m := newMachine(b, countSpec())
			if keys == manyGroups {
				m = full(b, countSpec())
			}
			benchmarkEvents(b, m, keys)
		})
	}
}

func benchmarkEvents(b *testing.B, m *correlate.Machine, keys int) {
	b.Helper()
	matches := many(manyGroups, 400_000, keys)
	var out bytes.Buffer
	if err := m.Snapshot(&out); err != nil {
		b.Fatal(err)
	}
	written, fired, n := 0, 0, 0
	b.ResetTimer()
	for b.Loop() {
		x := matches[n%len(matches)]
		again := n / len(matches) * len(matches)
		x.Pos.Seq += uint64(again)
		x.At = x.At.Add(time.Duration(again) * 20 * time.Microsecond)
		fired += len(m.Add(x))
		if n++; n%5000 == 0 {
			out.Reset()
			if _, err := m.Checkpoint(&out); err != nil {
				b.Fatal(err)
			}
			written += out.Len()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(written)/float64(n), "B-stored/event")
	b.ReportMetric(float64(fired)/float64(n), "firings/event")
}

func BenchmarkSnapshot(b *testing.B) {
	m := full(b, countSpec())
	b.ResetTimer()
	for b.Loop() {
		size := counter(0)
		if err := m.Snapshot(&size); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(size)/manyGroups, "B/group")
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkRestore reads a million groups: a snapshot, and deltas that are as long again.
func BenchmarkRestore(b *testing.B) {
	m := full(b, countSpec())
	var state bytes.Buffer
	if err := m.Snapshot(&state); err != nil {
		b.Fatal(err)
	}
	for from := manyGroups; from < 2*manyGroups; from += 50_000 {
		for _, x := range many(from, 50_000, manyGroups) {
			m.Add(x)
		}
		if err := m.Delta(&state); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		again, err := correlate.Restore(bytes.NewReader(state.Bytes()), countSpec())
		if err != nil || again.Len() != m.Len() {
			b.Fatal(err)
		}
		b.ReportMetric(float64(state.Len())/1e6, "MB")
	}
}

func BenchmarkOldest(b *testing.B) {
	m := full(b, countSpec())
	b.ResetTimer()
	for b.Loop() {
		if _, ok := m.Oldest(); !ok {
			b.Fatal("no event is needed")
		}
	}
}

func BenchmarkDelta(b *testing.B) {
	m := full(b, countSpec())
	if err := m.Snapshot(io.Discard); err != nil {
		b.Fatal(err)
	}
	n := manyGroups
	for b.Loop() {
		b.StopTimer()
		for _, x := range many(n, 5000, manyGroups) {
			m.Add(x)
		}
		n += 5000
		b.StartTimer()
		if err := m.Delta(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
