package rulesync

import (
	"context"
	"time"
)

// rounds say when a repository is looked at again.
type rounds struct {
	interval, minGap time.Duration
	random           func() float64
	poke             chan struct{}
}

func newRounds(interval, minGap time.Duration, random func() float64) rounds {
	return rounds{interval, minGap, random, make(chan struct{}, 1)}
}

// Poke makes Run look at the repository soon. It never waits, and many calls are as good as one.
func (r rounds) Poke() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// wait returns when it is time to look again.
func (r rounds) wait(ctx context.Context, began time.Time) {
	// The jitter of a tenth keeps replicas and servers from asking all at once.
	poll := time.NewTimer(time.Duration(float64(r.interval) * (0.9 + 0.2*r.random())))
	defer poll.Stop()
	select {
	case <-ctx.Done():
		return
	case <-poll.C:
		return
	case <-r.poke:
	}
	gap := time.NewTimer(time.Until(began.Add(r.minGap)))
	defer gap.Stop()
	select {
	case <-ctx.Done():
	case <-gap.C:
	}
	select { // what came meanwhile is served too
	case <-r.poke:
	default:
	}
}
