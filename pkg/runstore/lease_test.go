package runstore

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func testTable(session string, partitions int) (*table, time.Time) {
	return newTable(session, partitions, LeaseOptions{TTL: 8 * time.Second}), noon()
}

func TestTableTakesOnlyFromTheProvenDead(t *testing.T) {
	tb, now := testTable("me", 1)
	tb.observeHeartbeat("other", heartbeat{1, false, now})
	tb.observeLease(0, lease{2, "b", "other", now})
	sec := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }

	tb.proven = sec(7)
	if tb.takeable(0) {
		t.Error("a lease is taken before its TTL")
	}
	if !tb.suspect(sec(8)) || tb.suspect(sec(7)) {
		t.Error("a silent replica is to be suspected at its TTL")
	}
	// Time alone proves nothing: the watch may be stuck. Only a heartbeat of our own, sent after the TTL and seen, does.
	if tb.takeable(0) {
		t.Error("a lease is taken on the clock's word alone")
	}
	tb.observeHeartbeat("other", heartbeat{3, false, sec(8)})
	tb.proven = sec(15)
	if tb.takeable(0) {
		t.Error("a lease is taken although its holder gave a sign of life")
	}
	tb.observeHeartbeat("other", heartbeat{3, false, sec(16)}) // the same again, from a watch that began anew
	tb.proven = sec(16)
	if !tb.takeable(0) {
		t.Error("the lease of a dead replica is not taken")
	}
	if got := tb.buried(); len(got) != 0 {
		t.Errorf("a dead replica that still has a lease is buried: %v", got)
	}
	tb.observeLease(0, lease{4, "me", "me", sec(16)})
	if got := tb.buried(); got["other"] != 3 {
		t.Errorf("buried: %v", got)
	}
}

func TestTableWithoutHeartbeat(t *testing.T) {
	tb, now := testTable("me", 2)
	tb.observeLease(0, lease{2, "b", "gone", now})
	tb.observeLease(1, lease{3, unreadable, unreadable, now})
	tb.proven = now.Add(7 * time.Second)
	if tb.takeable(0) {
		t.Error("a lease is taken before its TTL")
	}
	tb.proven = now.Add(time.Hour)
	if !tb.takeable(0) {
		t.Error("a lease of a replica that was never seen stays for ever")
	}
	if tb.takeable(1) {
		t.Error("a lease that can't be read is taken")
	}
	tb.exclusive = true
	if !tb.takeable(1) {
		t.Error("a lease on a locked store is not taken")
	}
}

func TestTableShare(t *testing.T) {
	tb, now := testTable("me", 8)
	tb.proven = now
	steps := []struct {
		session string
		beat    heartbeat
		want    int
	}{
		{"me", heartbeat{1, false, now}, 8},
		{"b", heartbeat{2, false, now}, 4},
		{"c", heartbeat{3, false, now}, 3},
		{"b", heartbeat{4, true, now}, 4},
		{"d", heartbeat{5, false, now.Add(-9 * time.Second)}, 4},
	}
	for _, s := range steps {
		tb.observeHeartbeat(s.session, s.beat)
		if got := tb.share(); got != s.want {
			t.Errorf("after %s at revision %d the share is %d, want %d", s.session, s.beat.revision, got, s.want)
		}
	}
}

func TestLeaseOptions(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	for field, o := range map[string]LeaseOptions{
		"Owner": {}, "Renew": {Owner: "a", TTL: time.Second, Renew: time.Second},
	} {
		if _, err := NewLeases(t.Context(), s, o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: NewLeases gives %v", field, err)
		}
	}
}

// cluster watches over replicas: no partition may ever be worked on by two of them.
type cluster struct {
	t       *testing.T
	mu      sync.Mutex
	workers map[int]string
	changed chan struct{}
}

// replica is one process's leases.
type replica struct {
	name   string
	leases *Leases
	stop   context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	causes []error
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, workers: map[int]string{}, changed: make(chan struct{})}
}

func (c *cluster) start(b Broker, name string, o LeaseOptions) *replica {
	c.t.Helper()
	o.Owner = name
	l, err := NewLeases(c.t.Context(), openStore(c.t, b), o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(c.t.Context())
	r := &replica{name: name, leases: l, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := l.Run(ctx, func(ctx context.Context, p int, handover <-chan struct{}) { c.hold(ctx, r, p, handover) }); err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
	}()
	c.t.Cleanup(r.end)
	return r
}

func (r *replica) end() {
	r.stop()
	<-r.done
}

func (c *cluster) hold(ctx context.Context, r *replica, p int, handover <-chan struct{}) {
	c.change(func() {
		if other := c.workers[p]; other != "" {
			c.t.Errorf("%s works on partition %d while %s does", r.name, p, other)
		}
		c.workers[p] = r.name
	})
	select {
	case <-ctx.Done():
		r.mu.Lock()
		r.causes = append(r.causes, context.Cause(ctx))
		r.mu.Unlock()
	case <-handover:
	}
	c.change(func() { delete(c.workers, p) })
}

func (c *cluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits until the replicas work on so many partitions each.
func (c *cluster) until(want map[string]int) {
	c.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		got := map[string]int{}
		c.mu.Lock()
		for _, name := range c.workers {
			got[name]++
		}
		changed := c.changed
		c.mu.Unlock()
		if reflect.DeepEqual(got, want) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			c.t.Fatalf("partitions are worked on by %v, want %v", got, want)
		}
	}
}

// long returns options with which nothing happens by the passing of time.
func long() LeaseOptions { return LeaseOptions{TTL: time.Hour, Renew: 200 * time.Millisecond} }

func TestLeasesAreShared(t *testing.T) {
	srv := startServer(t)
	c := newCluster(t)
	a := c.start(srv.broker(), "a", long())
	c.until(map[string]int{"a": 8})
	if got := a.leases.Holding(); len(got) != 8 {
		t.Errorf("Holding: %v", got)
	}
	b := c.start(srv.broker(), "b", long())
	c.until(map[string]int{"a": 4, "b": 4})
	c.start(srv.broker(), "c", long())
	c.until(map[string]int{"a": 3, "b": 3, "c": 2})
	for _, p := range b.leases.Holding() {
		if got := b.leases.Owner(p); got != "b" {
			t.Errorf("partition %d is %q's, want b's", p, got)
		}
	}
	a.leases.Drain()
	c.until(map[string]int{"b": 4, "c": 4})
	b.end()
	c.until(map[string]int{"c": 8})
}

func TestCleanStopHandsOverAtOnce(t *testing.T) {
	srv := startServer(t)
	c := newCluster(t)
	a := c.start(srv.broker(), "a", long())
	c.until(map[string]int{"a": 8})
	c.start(srv.broker(), "b", long())
	c.until(map[string]int{"a": 4, "b": 4})
	a.end()
	c.until(map[string]int{"b": 8})
}

func TestExclusiveTakesAtOnce(t *testing.T) {
	srv := startServer(t)
	crashed := srv.broker()
	c := newCluster(t)
	a := c.start(crashed, "a", long())
	c.until(map[string]int{"a": 8})
	crashed.conn.Close() // what it leaves behind stays as it is
	a.end()

	o := long()
	o.Exclusive = true
	c.start(srv.broker(), "b", o)
	c.until(map[string]int{"b": 8})
}

func TestSilentHolderIsReplaced(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	c := newCluster(t)
	cut := srv.broker()
	o := LeaseOptions{TTL: 4 * time.Second, Renew: 200 * time.Millisecond}
	a := c.start(cut, "a", o)
	c.until(map[string]int{"a": 8})
	c.start(srv.broker(), "b", o)
	c.until(map[string]int{"a": 4, "b": 4})
	cut.conn.Close()
	// It gives up by its own clock, before the other one takes over: hold complains otherwise.
	c.until(map[string]int{"b": 8})
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.causes) == 0 {
		t.Error("a's work went on")
	}
	for _, cause := range a.causes {
		if !errors.Is(cause, errLeaseExpired) {
			t.Errorf("a's work ended because %v", cause)
		}
	}
}

func TestHoldThatReturnsIsTriedAgain(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1))
	l, err := NewLeases(t.Context(), s, LeaseOptions{Owner: "a", TTL: time.Second, Renew: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	err = l.Run(ctx, func(ctx context.Context, _ int, _ <-chan struct{}) {
		if n++; n < 3 {
			return
		}
		stop()
		<-ctx.Done()
	})
	if err != nil || n != 3 {
		t.Errorf("Run gives %v after %d tries", err, n)
	}
	if got := l.Owner(0); got != "" {
		t.Errorf("the partition is %q's after the end", got)
	}
}
