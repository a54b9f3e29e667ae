package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// samples are what the benchmarks of a package printed, by benchmark and unit.
type samples map[string]map[string]float64

// packageBench runs benchmarks of a package, each for the time or number of turns given.
func packageBench(pkg, pattern, length string) (samples, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", length, pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of %s: %w\n%s", pkg, err, out)
	}
	all := samples{}
	for line := range strings.Lines(string(bytes.TrimSpace(out))) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(f[0], '-'); i > 0 { // the number of processors
			name = strings.TrimPrefix(f[0][:i], "Benchmark")
		}
		all[name] = map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if all[name][f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
				return nil, fmt.Errorf("benchmark %s printed %q: %w", name, line, err)
			}
		}
	}
	return all, nil
}

// correlate measures the state machines with a million groups that wait.
func (b *bench) correlate() error {
	const pkg = "./pkg/correlate"
	once, err := packageBench(pkg, "^Benchmark(Groups|Restore)$", "1x")
	if err != nil {
		return err
	}
	long, err := packageBench(pkg, "^BenchmarkCount$", "200000x")
	if err != nil {
		return err
	}
	b.report("correlate_1M_groups", once["Groups/count"]["B/group"]*1e6/(1<<20), "MiB", 0, "")
	b.report("correlate_count_events", long["Count/1000000-keys"]["events/s"], "events/s", 0, "")
	b.report("correlate_restore_1M_groups", once["Restore"]["ns/op"]/1e9, "s", 0, "")
	return nil
}

// backtest measures deciding recorded events again with 1,000 rules, against reading and scanning them.
func (b *bench) backtest() error {
	all, err := packageBench("./pkg/backtest", "^BenchmarkAgainstScan$", "2s")
	if err != nil {
		return err
	}
	s := all["AgainstScan"]
	b.report("backtest", s["µs/event"], "us/event", s["x-scan"], "scan")
	return nil
}
