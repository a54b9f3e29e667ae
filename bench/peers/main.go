// Command peers measures the index of rules beside other engines with the same rules and the same event, and prints each
// figure as a JSON line. It is a module of its own, so that the product does not depend on them.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

func main() {
	out := json.NewEncoder(os.Stdout)
	report := func(name string, value float64, unit string, ratio float64, peer string) {
		if err := out.Encode(map[string]any{"name": name, "value": value, "unit": unit, "ratio": ratio, "peer": peer}); err != nil {
			fail(err)
		}
	}
	for _, measure := range []func(reporter) error{loading, many, large, paths, absent, correlating} {
		if err := measure(report); err != nil {
			fail(err)
		}
	}
}

type reporter func(name string, value float64, unit string, ratio float64, peer string)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "peers:", err)
	os.Exit(1)
}

// contender is something that is measured: one call is one event.
type contender struct {
	name string
	call func() error
}

const (
	rounds = 7
	slice  = 150 * time.Millisecond
)

// race measures contenders in turns, so that whatever else the machine does meets them alike, and returns the time of a
// call of each in its best turn, in microseconds.
func race(contenders ...contender) ([]float64, error) {
	best := make([]float64, len(contenders))
	for range rounds {
		for i, c := range contenders {
			us, err := turn(c)
			if err != nil {
				return nil, err
			}
			if best[i] == 0 || us < best[i] {
				best[i] = us
			}
		}
	}
	return best, nil
}

func turn(c contender) (us float64, err error) {
	calls, began := 0, time.Now()
	for calls == 0 || time.Since(began) < slice {
		// A look at the clock costs little beside a call, but not nothing.
		for range 8 {
			if err := c.call(); err != nil {
				return 0, fmt.Errorf("%s: %w", c.name, err)
			}
			calls++
			if time.Since(began) > slice {
				break
			}
		}
	}
	return float64(time.Since(began).Nanoseconds()) / 1000 / float64(calls), nil
}
