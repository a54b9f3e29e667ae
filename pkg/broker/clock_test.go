package broker_test

import (
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/broker"
)

func TestASlowClockFollowsALeapInSteps(t *testing.T) {
	start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	now := start
	c := broker.NewSlowClock(func() time.Time { return now })
	for _, tc := range []struct {
		set, want time.Duration
		why       string
	}{
		{2 * time.Second, 2 * time.Second, "it goes on"},
		{24 * time.Hour, time.Minute + 2*time.Second, "a day ahead is followed by a minute"},
		{24 * time.Hour, 2*time.Minute + 2*time.Second, "and by another"},
		{4 * time.Second, 4 * time.Second, "set right again"},
		{-time.Hour, -time.Hour, "back at once"},
		{-time.Hour + 2*time.Second, -time.Hour + 2*time.Second, "and on"},
	} {
		now = start.Add(tc.set)
		if got := c.Now().Sub(start); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.why, got, tc.want)
		}
	}
}
