package runstore

import "time"

// table is what a replica has observed of the leases: a pure state machine, to which times are handed in. Another
// replica counts as dead when its heartbeat did not change for the TTL. That is judged by this replica's own monotonic
// clock, from the moment it saw the last change, and only once it has seen a heartbeat of its own that it sent after the
// TTL: observations arrive in the order of the writes, so a heartbeat of the other one would have been seen before.
type table struct {
	session   string
	exclusive bool
	ttl       time.Duration
	replicas  map[string]heartbeat
	leases    []lease
	proven    time.Time // when the newest heartbeat of our own that was observed had been sent
}

// heartbeat is a replica's newest one.
type heartbeat struct {
	revision uint64
	leaving  bool
	seen     time.Time
}

// unreadable stands for the owner of a lease that a newer version wrote.
const unreadable = "?"

// lease is who holds a partition; the zero lease is free.
type lease struct {
	revision uint64
	owner    string
	session  string
	seen     time.Time
}

func newTable(session string, partitions int, o LeaseOptions) *table {
	return &table{session: session, exclusive: o.Exclusive, ttl: o.TTL, replicas: map[string]heartbeat{}, leases: make([]lease, partitions)}
}

func (t *table) observeHeartbeat(session string, h heartbeat) {
	if h.revision > t.replicas[session].revision {
		t.replicas[session] = h
	}
}

func (t *table) observeLease(partition int, l lease) {
	if partition < len(t.leases) && l.revision > t.leases[partition].revision {
		t.leases[partition] = l
	}
}

// dead reports whether a replica, last seen at a time, is certain to have given up its leases.
func (t *table) dead(seen time.Time) bool {
	return t.exclusive || t.proven.Sub(seen) >= t.ttl
}

// suspect reports whether a replica would count as dead if a heartbeat of our own were sent now and observed.
func (t *table) suspect(now time.Time) bool {
	for session, h := range t.replicas {
		if session != t.session && !t.dead(h.seen) && now.Sub(h.seen) >= t.ttl {
			return true
		}
	}
	return false
}

func (t *table) mine(partition int) bool { return t.leases[partition].session == t.session }

// takeable reports whether nobody alive holds the partition.
func (t *table) takeable(partition int) bool {
	l := t.leases[partition]
	switch l.session {
	case "":
		return true
	case t.session:
		return false
	case unreadable:
		return t.exclusive
	}
	seen := l.seen
	if h, ok := t.replicas[l.session]; ok && h.seen.After(seen) {
		seen = h.seen
	}
	return t.dead(seen)
}

// share is how many partitions this replica should hold: its part of all, rounded up, among the replicas that live and stay.
func (t *table) share() int {
	n := 1
	for session, h := range t.replicas {
		if session != t.session && !h.leaving && !t.dead(h.seen) {
			n++
		}
	}
	return (len(t.leases) + n - 1) / n
}

// buried returns the dead replicas that hold nothing, with the revisions of their last heartbeats.
func (t *table) buried() map[string]uint64 {
	dead := map[string]uint64{}
	for session, h := range t.replicas {
		if session != t.session && t.dead(h.seen) {
			dead[session] = h.revision
		}
	}
	for _, l := range t.leases {
		delete(dead, l.session)
	}
	return dead
}
