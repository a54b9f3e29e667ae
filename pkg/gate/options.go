package gate

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// Bounds that are not options.
const (
	MaxRuns    = 10_000 // runs of a limit that are counted
	MaxLimits  = 64     // limits of one run
	MaxTargets = 1_000  // targets that one run holds and waits for

	maxRemembered = 50_000    // refused runs, and as many ended ones
	remembered    = time.Hour // for how long
)

// Options bound what is not bound by a rule. Zero values are the defaults.
type Options struct {
	MaxQueue  int // runs that wait in one group; 50,000
	MaxKeys   int // keys of limits; 200,000
	MaxCounts int // times that all limits remember together, 8 bytes each; 2,000,000
	Storm     Storm
	Breaker   Breaker
	// BlastRadius bounds the targets that are held at once.
	BlastRadius []BlastRadius
}

// Storm is the storm brake: above Runs (60) healing runs that ask in Per (1m), all are refused. Runs below zero turns it off.
type Storm struct {
	Runs int
	Per  time.Duration
}

// Breaker is the circuit breaker of each rule. It opens for Open (1h) when of the last Runs (10) healing runs that ended
// Within (24h) a smaller share than Success (0.3) succeeded. Runs below zero turns it off.
type Breaker struct {
	Runs    int
	Within  time.Duration
	Success float64
	Open    time.Duration
}

// BlastRadius says how many of the targets that match a glob may be held at once: Max, or Percent of Of, rounded down and
// at least one; the smaller of the two where both are set. Targets longer than 256 bytes are matched in their short form.
type BlastRadius struct {
	Targets []string
	Max     int
	Percent int
	Of      int
}

func (o Options) withDefaults() Options {
	set(&o.MaxQueue, 50_000)
	set(&o.MaxKeys, 200_000)
	set(&o.MaxCounts, 2_000_000)
	set(&o.Storm.Runs, 60)
	set(&o.Storm.Per, time.Minute)
	set(&o.Breaker.Runs, 10)
	set(&o.Breaker.Within, 24*time.Hour)
	set(&o.Breaker.Success, 0.3)
	set(&o.Breaker.Open, time.Hour)
	return o
}

func set[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// Validate returns all that is wrong with the options, each beginning with the name of the field.
func (o Options) Validate() []error {
	var list []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			list = append(list, fmt.Errorf(format, args...))
		}
	}
	check(o.MaxQueue >= 0, "maxQueue: must not be negative")
	check(o.MaxKeys >= 0, "maxKeys: must not be negative")
	check(o.MaxCounts >= 0, "maxCounts: must not be negative")
	check(o.Storm.Runs <= MaxRuns, "storm.runs: must be at most %d, is %d", MaxRuns, o.Storm.Runs)
	check(o.Storm.Per >= 0, "storm.per: must not be negative")
	check(o.Breaker.Runs <= MaxRuns, "breaker.runs: must be at most %d, is %d", MaxRuns, o.Breaker.Runs)
	check(o.Breaker.Within >= 0, "breaker.within: must not be negative")
	check(o.Breaker.Open >= 0, "breaker.open: must not be negative")
	check(o.Breaker.Success >= 0 && o.Breaker.Success <= 1, "breaker.success: must be from 0 to 1, is %v", o.Breaker.Success)
	for i, b := range o.BlastRadius {
		field := fmt.Sprintf("blastRadius[%d]", i)
		check(len(b.Targets) > 0, "%s.targets: must name the targets", field)
		for _, glob := range b.Targets {
			check(doublestar.ValidatePattern(glob), "%s.targets: %q is no glob", field, glob)
		}
		check(b.Max >= 0, "%s.max: must not be negative", field)
		check(b.Max > 0 || b.Percent > 0, "%s: must say max, or percent and of", field)
		check(b.Percent >= 0 && b.Percent <= 100, "%s.percent: must be from 1 to 100, is %d", field, b.Percent)
		check((b.Percent > 0) == (b.Of > 0), "%s: percent and of belong together, of being how many targets there are", field)
	}
	return list
}

// most is how many targets may be held.
func (b *BlastRadius) most() int {
	n := math.MaxInt
	if b.Max > 0 {
		n = b.Max
	}
	if b.Percent > 0 {
		n = min(n, max(1, int(int64(b.Of)*int64(b.Percent)/100)))
	}
	return n
}

func (o Options) check() error {
	if problems := o.Validate(); len(problems) > 0 {
		return fmt.Errorf("gate: %w", errors.Join(problems...))
	}
	return nil
}
