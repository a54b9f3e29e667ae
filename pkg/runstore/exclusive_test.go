package runstore

import "testing"

// Nobody else can take the partitions of a locked store: that it does not answer for a while, its disk being full, must not
// end the work. That of a replica among others does end: TestSilentHolderIsReplaced.
func TestWorkOnALockedStoreOutlivesItsSilence(t *testing.T) {
	srv := startServer(t)
	c := newCluster(t)
	o := long()
	o.Exclusive = true
	r := c.start(srv.broker(), "a", o)
	c.until(map[string]int{"a": 8})
	r.leases.expire()
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	for p, h := range r.leases.held {
		if h.ended {
			t.Errorf("work on partition %d was ended", p)
		}
	}
	if len(r.leases.held) != 8 {
		t.Errorf("%d partitions are held", len(r.leases.held))
	}
}
