package cli

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent spends memory on time: what lives is little, and each request leaves several copies of its body behind.
	gcPercent = 300
	// manyLive is from where on what lives is not little any more: runs that wait, groups of windows.
	manyLive = 64 << 20
	// leastRoom is what is always left for garbage, and roomEvery how often it is reckoned how much there should be.
	leastRoom = 16 << 20
	roomEvery = time.Second
	// restAfter is after how many such times of little work the memory of busier ones is given back.
	restAfter = 10
)

// PaceGarbage has the process's garbage collected about once a second where much lives, and not only when it has become three times that,
// until ctx ends. What a busy time has used is given back once it is over.
func PaceGarbage(ctx context.Context) {
	debug.SetGCPercent(gcPercent)
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	before, now, quiet := uint64(0), gcPercent, 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(samples)
		live, allocated := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		want := percentFor(live, allocated-before)
		if quiet++; allocated-before > leastRoom {
			quiet = 0
		}
		before = allocated
		if quiet == restAfter {
			debug.FreeOSMemory()
		}
		if change := want - now; change > now/4 || -change > now/4 { // to set it stops the world for a moment
			debug.SetGCPercent(want)
			now = want
		}
	}
}

// percentFor returns how much garbage there may be, in percent of what lives, where so many bytes were allocated in a
// second.
func percentFor(live, allocated uint64) int {
	if live < manyLive {
		return gcPercent
	}
	return int(min(gcPercent, max(allocated, leastRoom)*100/live))
}
