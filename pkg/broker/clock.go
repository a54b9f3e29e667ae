package broker

import (
	"sync"
	"time"
)

// maxLeap is how far a SlowClock goes on from one reading to the next.
const maxLeap = time.Minute

// SlowClock is the clock by which history is too old. A clock that is set a day ahead by mistake must not purge a day's
// history in the next second: a SlowClock follows in steps, so that there is time to set it right. It goes back at once.
type SlowClock struct {
	now func() time.Time

	mu   sync.Mutex
	last time.Time
}

// NewSlowClock begins at the time that it is.
func NewSlowClock(now func() time.Time) *SlowClock { return &SlowClock{now: now, last: now().Round(0)} }

// Now is to be read every few seconds.
func (c *SlowClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now().Round(0) // the wall clock: what is compared with it are times that were stored
	if now.Sub(c.last) > maxLeap {
		now = c.last.Add(maxLeap)
	}
	c.last = now
	return now
}
