// Command bench measures a built riposte beside its peers and prints a line for each figure:
//
//	name value unit [ratio peer]
//
// Load and servers share this machine and its loopback; every run is bounded. The peers are Debian's webhook, a bare
// net/http handler that checks the same signature, and a bare loop over os/exec; for the rules, the engines of bench/peers.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	binary := flag.String("binary", "bin/riposte", "riposte to measure")
	pattern := flag.String("run", "", "only figures whose group matches this expression")
	out := flag.String("json", "", "also write the figures to this file, as JSON lines")
	seconds := flag.Int("seconds", 5, "length of each load, in seconds")
	bare := flag.String("bare", "", "serve as the bare handler on this address (used by the command itself)")
	engine := flag.Bool("engine", false, "serve with the settings given, with actions that do nothing (used by the command itself)")
	chatter := flag.Duration("chatter", 0, "print 100 MB a second so long (used by the command itself)")
	flag.Parse()
	if *engine {
		fail(serveEngine(flag.Args()))
		return
	}
	if *chatter > 0 {
		fail(printFor(*chatter, flag.Arg(0)))
		return
	}
	if *bare != "" {
		fail(serveBare(*bare))
		return
	}
	path, err := filepath.Abs(*binary)
	fail(err)
	if _, err := os.Stat(path); err != nil {
		fail(fmt.Errorf("%w (make build makes it)", err))
	}
	chosen, err := regexp.Compile(*pattern)
	fail(err)
	b := &bench{binary: path, load: time.Duration(*seconds) * time.Second}
	if *out != "" {
		b.json, err = os.Create(*out)
		fail(err)
		defer b.json.Close()
	}
	for _, g := range []struct {
		name string
		run  func() error
	}{
		{"size", b.size}, {"start", b.start}, {"latency", b.latency}, {"accept", b.accept}, {"runs", b.runs}, {"history", b.history},
		{"engine_runs", b.engineRuns}, {"engine_latency", b.engineLatency}, {"engine_resume", b.engineResume},
		{"engine_waiting", b.engineWaiting}, {"engine_logs", b.engineLogs}, {"engine_group", b.engineGroup},
		{"rules", b.rules}, {"correlate", b.correlate}, {"backtest", b.backtest}, {"replicas", b.replicas}, {"kubernetes", b.kubeApply},
	} {
		if !chosen.MatchString(g.name) {
			continue
		}
		if err := g.run(); err != nil {
			fmt.Printf("%s: not measured: %v\n", g.name, err)
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	binary string
	load   time.Duration
	json   *os.File
}

// report prints a figure; ratio and peer may be empty.
func (b *bench) report(name string, value float64, unit string, ratio float64, peer string) {
	line := fmt.Sprintf("%-34s %12.1f %s", name, value, unit)
	if peer != "" {
		line += fmt.Sprintf("  %.2f %s", ratio, peer)
	}
	fmt.Println(line)
	if b.json == nil {
		return
	}
	text, err := json.Marshal(map[string]any{"name": name, "value": value, "unit": unit, "ratio": ratio, "peer": peer})
	fail(err)
	_, err = fmt.Fprintln(b.json, string(text))
	fail(err)
}
