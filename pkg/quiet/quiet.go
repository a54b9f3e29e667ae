// Package quiet says when rules must leave things alone: maintenance windows that begin by a cron schedule, last for a
// time, and hold for the rules with certain labels. The package is pure: it is asked about an instant, and the answer
// depends on nothing else, so that every replica comes to the same. Times are immutable and safe for concurrent use.
package quiet

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// MaxDuration bounds a window, so that finding the one that holds looks no further back.
const MaxDuration = 31 * 24 * time.Hour

// Time is a quiet time as it is configured.
type Time struct {
	Name     string
	Cron     string        // when it begins: five fields as cron(8) has them, or @daily and its like
	Duration time.Duration // how long it lasts
	Zone     string        // whose clock Cron is about: a name of the IANA time zone database; empty is UTC
	// Labels selects rules: those that have all of them. None selects every rule.
	Labels map[string]string
}

// Times are quiet times, compiled.
type Times struct{ list []compiled }

type compiled struct {
	Time
	schedule cron.Schedule
	location *time.Location
}

// FieldError says which field of a quiet time is wrong.
type FieldError struct {
	Index int
	Field string // cron, duration or zone
	Err   error
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("quietTimes[%d].%s: %v", e.Index, e.Field, e.Err)
}
func (e *FieldError) Unwrap() error { return e.Err }

// Compile compiles quiet times. An error is a *FieldError.
func Compile(times []Time) (Times, error) {
	var out Times
	for i, t := range times {
		c := compiled{Time: t}
		if t.Duration <= 0 || t.Duration > MaxDuration {
			return out, &FieldError{i, "duration", fmt.Errorf("%s is not above 0 and at most 31d", t.Duration)}
		}
		var err error
		if strings.Contains(t.Cron, "TZ=") || strings.HasPrefix(strings.TrimSpace(t.Cron), "@every") {
			return out, &FieldError{i, "cron", fmt.Errorf("%q must be five fields, or @daily and its like: the zone has a field of its own, and an interval has no beginning", t.Cron)}
		}
		if c.schedule, err = cron.ParseStandard(t.Cron); err != nil {
			return out, &FieldError{i, "cron", err}
		}
		if c.location, err = time.LoadLocation(t.Zone); err != nil {
			return out, &FieldError{i, "zone", err}
		}
		out.list = append(out.list, c)
	}
	return out, nil
}

// At returns the name of the quiet time that holds for a rule with the labels, and when it ends; ok is false where none
// does. Of several that hold, the one that ends last counts. A window holds from its beginning up to, and without, its end.
func (t Times) At(labels map[string]string, now time.Time) (name string, until time.Time, ok bool) {
	for i := range t.list {
		c := &t.list[i]
		end := c.end(now)
		if c.selects(labels) && end.After(now) && end.After(until) {
			name, until, ok = cmp.Or(c.Name, c.Cron), end, true
		}
	}
	return name, until, ok
}

func (c *compiled) selects(labels map[string]string) bool {
	for k, v := range c.Labels {
		if got, there := labels[k]; !there || got != v {
			return false
		}
	}
	return true
}

// end returns when the latest window ends that has begun by now; zero if none has begun within its duration. It looks a
// little way back first, since a schedule can have a beginning each minute and its windows last for a month.
func (c *compiled) end(now time.Time) time.Time {
	local := now.In(c.location)
	for back := min(c.Duration, time.Hour); ; back = min(c.Duration, 24*back) {
		var last time.Time
		for begin := c.schedule.Next(local.Add(-back)); !begin.IsZero() && !begin.After(local); begin = c.schedule.Next(begin) {
			last = begin
		}
		if !last.IsZero() {
			return last.Add(c.Duration)
		}
		if back == c.Duration {
			return time.Time{}
		}
	}
}
