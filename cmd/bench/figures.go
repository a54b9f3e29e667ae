package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

func (b *bench) size() error {
	info, err := os.Stat(b.binary)
	if err != nil {
		return err
	}
	b.report("binary_size", float64(info.Size())/1e6, "MB", 0, "")
	return nil
}

// start measures an empty store: start to ready, and the idle server's memory.
func (b *bench) start() error {
	var took []float64
	for range 5 {
		dir, done, err := tempDir()
		if err != nil {
			return err
		}
		s, d, err := b.startServer(dir, "")
		if err != nil {
			done()
			return err
		}
		took = append(took, ms(d))
		if len(took) == 5 {
			time.Sleep(3 * time.Second) // until start-up's garbage is gone
			rss, err := s.rss()
			if err != nil {
				return err
			}
			b.report("idle_memory", rss, "MiB", 0, "")
		}
		s.stop()
		done()
	}
	sort.Float64s(took)
	b.report("start_empty", took[2], "ms", 0, "")
	return nil
}

// rounds is how often each of several peers is loaded, in turn: a machine that others share drifts, and the median of the
// ratios of neighbours says more than one long look at each.
const rounds = 3

// accept loads the receiver and its peers alike, in turn.
func (b *bench) accept() error {
	var bare, webhook, accepted, ofWebhook, ofBare, p99 []float64
	failed := 0
	for range rounds {
		dir, done, err := tempDir()
		if err != nil {
			return err
		}
		r, err := b.acceptRound(dir)
		done()
		if err != nil {
			return err
		}
		bare, webhook, accepted = append(bare, r.bare), append(webhook, r.webhook), append(accepted, r.accepted)
		ofWebhook, ofBare = append(ofWebhook, r.accepted/r.webhook), append(ofBare, r.accepted/r.bare)
		p99, failed = append(p99, ms(r.load.p99)), failed+r.load.failed
	}
	b.report("bare_handler", median(bare), "answers/s", 0, "")
	b.report("webhook", median(webhook), "answers/s", 0, "")
	b.report("accepted", median(accepted), "events/s", median(ofWebhook), "webhook")
	b.report("accepted_of_bare", median(accepted), "events/s", median(ofBare), "bare handler")
	b.report("accept_p99", median(p99), "ms", 0, "")
	b.report("accept_failed", float64(failed), "requests", 0, "")
	return nil
}

// acceptRates are what one round saw, in answers a second; of ours only those count that were read back from the log.
type acceptRates struct {
	bare, webhook, accepted float64
	load                    wrkResult
}

func (b *bench) acceptRound(dir string) (r acceptRates, err error) {
	bare, err := b.loadPeer(dir, startBare, "/")
	if err != nil {
		return r, err
	}
	s, _, err := b.startServer(dir, "")
	if err != nil {
		return r, err
	}
	defer s.stop()
	if r.load, err = b.wrk(dir, "http://"+s.listen.Hooks, "/hooks/github", 0); err != nil {
		return r, err
	}
	stored, err := s.await("riposte_decisions_total", "", float64(r.load.requests-r.load.failed), 2*time.Minute)
	if err != nil {
		return r, fmt.Errorf("what was answered is not in the log: %w", err)
	}
	webhook, err := b.loadPeer(dir, func() (string, func(), error) { return startWebhook(dir) }, "/hooks/github")
	if err != nil {
		return r, err
	}
	r.bare, r.webhook, r.accepted = bare.rate(), webhook.rate(), stored/r.load.seconds
	return r, nil
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func (b *bench) loadPeer(dir string, start func() (string, func(), error), path string) (wrkResult, error) {
	address, end, err := start()
	if err != nil {
		return wrkResult{}, err
	}
	defer end()
	return b.wrk(dir, "http://"+address, path, 0)
}

const trueRule = `---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: bench}
spec:
  trigger: {source: github, type: push}
  steps:
    - uses: exec.run
      with: {command: [/bin/true]}
`

// runs measures whole runs of a command that does nothing, against the bare loop.
func (b *bench) runs() error {
	const n = 20_000
	before, err := execLoop(n / 4)
	if err != nil {
		return err
	}
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	s, _, err := b.startServer(dir, trueRule)
	if err != nil {
		return err
	}
	defer s.stop()
	began, err := send(s.listen.Hooks, 1, n)
	if err != nil {
		return err
	}
	if _, err := s.await("riposte_runs_total", `state="succeeded"`, n, 3*time.Minute); err != nil {
		return err
	}
	rate := n / time.Since(began).Seconds()
	after, err := execLoop(n / 4)
	if err != nil {
		return err
	}
	loop := (before + after) / 2 // the machine may have drifted meanwhile
	b.report("exec_loop", loop, "commands/s", 0, "")
	b.report("finished_runs", rate, "runs/s", rate/loop, "exec loop")
	return nil
}

const dateRule = `---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: bench}
spec:
  trigger: {source: github, type: push}
  steps:
    - id: date
      uses: exec.run
      with: {command: [date, +%s%N]}
`

// latency measures from before the webhook is sent until the child process reads the clock, on an idle machine.
func (b *bench) latency() error {
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	s, _, err := b.startServer(dir, dateRule)
	if err != nil {
		return err
	}
	defer s.stop()
	var took []float64
	body := bodies()
	for i := range 220 {
		sent := time.Now()
		id, err := post(http.DefaultClient, s.listen.Hooks, body(i))
		if err != nil {
			return err
		}
		at, err := s.printed(id)
		if err != nil {
			return err
		}
		if i >= 20 { // the first warm caches up
			took = append(took, ms(at.Sub(sent)))
		}
	}
	sort.Float64s(took)
	b.report("hook_to_process_p50", took[len(took)/2], "ms", 0, "")
	b.report("hook_to_process_p99", took[len(took)*99/100], "ms", 0, "")
	return nil
}

// printed waits for the event's run and returns the time that its command printed.
func (s *server) printed(event string) (time.Time, error) {
	var r struct {
		State string
		Steps []struct{ Outputs struct{ Stdout string } }
	}
	for range 2000 {
		time.Sleep(5 * time.Millisecond)
		resp, err := http.Get("http://" + s.listen.Admin + "/api/v1/runs/" + event + "-bench")
		if err != nil {
			return time.Time{}, err
		}
		err = json.NewDecoder(resp.Body).Decode(&r)
		resp.Body.Close()
		if err == nil && r.State == "succeeded" {
			ns, err := strconv.ParseInt(strings.TrimSpace(r.Steps[0].Outputs.Stdout), 10, 64)
			return time.Unix(0, ns), err
		}
	}
	return time.Time{}, fmt.Errorf("run of %s is %q", event, r.State)
}

// history measures the start after kill -9 on a store that holds 2 GiB.
func (b *bench) history() error {
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	s, _, err := b.startServer(dir, "")
	if err != nil {
		return err
	}
	n := 0
	for size := 0.0; size < 2<<30; n += 20_000 {
		if _, err := send(s.listen.Hooks, n, 20_000); err != nil {
			s.stop()
			return fmt.Errorf("%w\n%s", err, s.output.String())
		}
		if size, err = s.metric("riposte_eventlog_bytes", ""); err != nil {
			s.stop()
			return err
		}
	}
	s.kill()
	s, d, err := b.startServer(dir, "")
	if err != nil {
		return err
	}
	s.stop()
	b.report("start_2GiB_after_kill", ms(d), "ms", 0, "")
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func tempDir() (string, func(), error) {
	dir, err := os.MkdirTemp("", "riposte-bench-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}
