package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

func ruleOf(name, rest string) string {
	return "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: " + name + "}\nspec:\n  trigger: {source: github, type: push}\n" + rest
}

const threeSteps = "  steps: [{id: a, uses: bench.nop}, {id: b, uses: bench.nop}, {id: c, uses: bench.nop}]\n"

// engineRuns measures durable runs of three steps that do nothing: one for each webhook, and ten for each.
func (b *bench) engineRuns() error {
	const n = 20_000
	for _, f := range []struct {
		name         string
		events, each int
	}{{"three_step_runs", n, 1}, {"three_step_runs_10_an_event", n / 10, 10}} {
		rate, processor, err := b.threeStepRuns(f.events, f.each)
		if err != nil {
			return err
		}
		b.report(f.name, rate, "runs/s", 0, "")
		b.report(f.name+"_processor", float64(processor.Microseconds())/n, "us/run", 0, "")
	}
	return nil
}

// threeStepRuns returns how many runs a second there were, and the processor time that the server took for all of them:
// where other work has the processors, too, it says more.
func (b *bench) threeStepRuns(events, each int) (rate float64, processor time.Duration, err error) {
	dir, done, err := tempDir()
	if err != nil {
		return 0, 0, err
	}
	defer done()
	var rules strings.Builder
	for i := range each {
		rules.WriteString(ruleOf(fmt.Sprint("bench-", i), threeSteps))
	}
	s, _, err := b.startEngine(dir, rules.String(), time.Now())
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	before, err := s.processor()
	if err != nil {
		return 0, 0, err
	}
	began, err := send(s.listen.Hooks, 1, events)
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.await("riposte_runs_total", `state="succeeded"`, float64(events*each), 5*time.Minute); err != nil {
		return 0, 0, err
	}
	rate = float64(events*each) / time.Since(began).Seconds()
	after, err := s.processor()
	return rate, after - before, err
}

var markedRule = ruleOf("marked", `  when: event.git.repo == "acme/shop" && not (event.git.commit startsWith "ffff")
  steps: [{id: a, uses: bench.nop}, {id: b, uses: bench.nop}, {id: c, uses: bench.mark, with: {sent: "${{ event.git.commit }}"}}]
`)

// engineLatency measures from before a webhook is sent until the last of its run's three steps, at 100 a second.
func (b *bench) engineLatency() error {
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	s, _, err := b.startEngine(dir, markedRule, time.Now())
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.sendSteadily(1); err != nil { // caches warm up
		return err
	}
	took, err := s.sendSteadily(1000)
	if err != nil {
		return err
	}
	b.report("hook_to_last_step_p50", took[len(took)/2], "ms", 0, "")
	b.report("hook_to_last_step_p99", took[len(took)*99/100], "ms", 0, "")
	return nil
}

// sendSteadily posts n events, 100 a second, and returns how long each took until the last step of its run, in milliseconds,
// sorted.
func (s *server) sendSteadily(n int) ([]float64, error) {
	before, err := s.marks("took")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	head, tail := push()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second / 100)
	defer tick.Stop()
	failed := make(chan error, n)
	for range n {
		<-tick.C
		go func() {
			_, err := post(client, s.listen.Hooks, []byte(head+fmt.Sprintf("%040d", time.Now().UnixNano())+tail))
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	for range 600 {
		all, err := s.marks("took")
		if err != nil {
			return nil, err
		}
		if len(all) < len(before)+n {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		var took []float64
		for id, ns := range all {
			if _, old := before[id]; !old {
				took = append(took, float64(ns[0])/1e6)
			}
		}
		sort.Float64s(took)
		return took, nil
	}
	return nil, fmt.Errorf("not all of %d runs came to their last step in 30s", n)
}

var heldRule = ruleOf("held", "  steps: [{id: a, uses: bench.nop}, {id: b, uses: bench.hold}, {id: c, uses: bench.nop}]\n")

const hangRule = "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: hung}\nspec:\n" +
	"  trigger: {source: github, type: push}\n  when: event.git.commit startsWith \"ffff\"\n" +
	"  steps: [{id: a, uses: bench.nop}, {id: b, uses: bench.hang}, {id: c, uses: bench.nop}]\n"

// engineResume kills a server with 10,000 unfinished runs. All of them are due when it starts again: those that wait for a
// timer between two steps, and those that the kill cut off within a step.
func (b *bench) engineResume() error {
	const waiting, middle, patience = 10_000, 50, 90 * time.Second
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	until := time.Now().Add(patience)
	rules := strings.Replace(heldRule, "  steps:", "  when: not (event.git.commit startsWith \"ffff\")\n  steps:", 1) + hangRule
	s, _, err := b.startEngine(dir, rules, until)
	if err != nil {
		return err
	}
	if err := s.fill(waiting, middle); err != nil {
		s.kill()
		return err
	}
	s.kill()
	if late := time.Since(until); late > 0 {
		return fmt.Errorf("%d runs were not made in %s", waiting+middle, patience)
	}
	time.Sleep(time.Until(until))
	began := time.Now()
	s, ready, err := b.startEngine(dir, rules, until)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.await("riposte_runs_total", `state="succeeded"`, waiting+middle, 2*time.Minute); err != nil {
		return err
	}
	ended := time.Since(began)
	processor, err := s.processor()
	if err != nil {
		return err
	}
	resumed, err := s.marks("resumed")
	if err != nil {
		return err
	}
	last, doubled := int64(0), 0
	for _, at := range resumed {
		last = max(last, at[len(at)-1])
		doubled += len(at) - 1
	}
	all, err := s.metric("riposte_runs_total", "")
	if err != nil {
		return err
	}
	b.report("resume_10k_ready", ms(ready), "ms", 0, "")
	b.report("resume_10k_runs", float64(last-began.UnixNano())/1e9, "s", 0, "")
	b.report("resume_10k_ended", ended.Seconds(), "s", 0, "")
	b.report("resume_10k_processor", processor.Seconds(), "s", 0, "")
	b.report("resume_10k_lost", float64(waiting+middle-len(resumed)), "runs", 0, "")
	b.report("resume_10k_doubled", float64(doubled)+all-waiting-middle, "runs", 0, "")
	return nil
}

// fill makes runs that wait, and some that are within a step.
func (s *server) fill(waiting, middle int) error {
	if _, err := send(s.listen.Hooks, 1, waiting); err != nil {
		return err
	}
	if _, err := s.await("riposte_step_duration_seconds_count", `uses="bench.hold"`, float64(waiting), 2*time.Minute); err != nil {
		return err
	}
	head, tail := push()
	for i := range middle {
		if _, err := post(http.DefaultClient, s.listen.Hooks, []byte(head+"ffff"+fmt.Sprintf("%036x", i)+tail)); err != nil {
			return err
		}
	}
	for range 600 {
		if hang, err := s.marks("hangs"); err == nil && len(hang) == middle {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%d runs did not come to their second step", middle)
}

// engineWaiting measures the memory of 100,000 runs that wait for a timer, and what is written meanwhile, before and after
// a restart.
func (b *bench) engineWaiting() error {
	const events, each = 10_000, 10
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	var rules strings.Builder
	for i := range each {
		rules.WriteString(strings.Replace(heldRule, "name: held", fmt.Sprint("name: held-", i), 1))
	}
	until := time.Now().Add(24 * time.Hour)
	s, _, err := b.startEngine(dir, rules.String(), until)
	if err != nil {
		return err
	}
	if _, err = send(s.listen.Hooks, 1, events); err == nil {
		_, err = s.await("riposte_step_duration_seconds_count", `uses="bench.hold"`, events*each, 5*time.Minute)
	}
	if err == nil {
		err = b.watchWaiting(s, "waiting_100k")
	}
	s.kill()
	if err != nil {
		return err
	}
	if s, _, err = b.startEngine(dir, rules.String(), until); err != nil {
		return err
	}
	defer s.kill()
	return b.watchWaiting(s, "waiting_100k_restarted")
}

// watchWaiting reports a server's memory once it has come to rest, and what it writes.
func (b *bench) watchWaiting(s *server, name string) error {
	time.Sleep(20 * time.Second) // checkpoints are written, and garbage of before is gone
	before, err := s.written()
	if err != nil {
		return err
	}
	time.Sleep(20 * time.Second)
	after, err := s.written()
	if err != nil {
		return err
	}
	rss, err := s.rss()
	if err != nil {
		return err
	}
	b.report(name+"_memory", rss, "MiB", 0, "")
	b.report(name+"_writes", (after-before)/20/1024, "KiB/s", 0, "")
	return nil
}

// written returns how many bytes the server has given to write calls.
func (s *server) written() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "wchar:" {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("no wchar")
}

// engineLogs measures the time to the last step of other runs while a step's child prints 100 MB a second, and without.
func (b *bench) engineLogs() error {
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const long = 15 * time.Second
	noisy := strings.Replace(hangRule, "bench.hang}", fmt.Sprintf("exec.run, with: {command: [%q, -chatter, %s, %q]}}", self, long, filepath.Join(dir, chatterFile)), 1)
	s, _, err := b.startEngine(dir, markedRule+strings.Replace(noisy, "name: hung", "name: noisy", 1), time.Now())
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.sendSteadily(200); err != nil {
		return err
	}
	quiet, err := s.sendSteadily(800)
	if err != nil {
		return err
	}
	head, tail := push()
	id, err := post(http.DefaultClient, s.listen.Hooks, []byte(head+"ffff"+strings.Repeat("0", 36)+tail))
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	loud, err := s.sendSteadily(800)
	if err != nil {
		return err
	}
	printed, err := s.printedBytes(id + "-noisy")
	if err != nil {
		return err
	}
	p50 := loud[len(loud)/2]
	b.report("last_step_p50_quiet", quiet[len(quiet)/2], "ms", 0, "")
	b.report("last_step_p50_100MB_s_of_logs", p50, "ms", p50/quiet[len(quiet)/2], "quiet")
	b.report("log_streamed", printed/1e6, "MB/s", 0, "")
	return nil
}

// chatterFile is where a child that printed says how many bytes a second that was.
const chatterFile = "printed"

// printFor prints lines, 100 MB a second, and writes into a file how many bytes those were a second.
func printFor(long time.Duration, file string) error {
	const perSecond = 100_000_000
	line := []byte(strings.Repeat("all work and no play makes a dull log ", 3) + "\n")
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	began, n := time.Now(), 0
	for time.Since(began) < long {
		for float64(n) < time.Since(began).Seconds()*perSecond {
			for range 512 {
				if _, err := out.Write(line); err != nil {
					return err
				}
				n += len(line)
			}
		}
		time.Sleep(time.Millisecond)
	}
	rate := fmt.Sprintf("%.0f", float64(n)/time.Since(began).Seconds())
	if err := os.WriteFile(file, []byte(rate), 0o600); err != nil {
		return err
	}
	return out.Flush()
}

// printedBytes waits for the end of a run whose child printed, and returns its rate.
func (s *server) printedBytes(runID string) (float64, error) {
	if _, err := s.awaitRun(runID, "succeeded", time.Minute); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(s.dir, chatterFile))
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(string(text), 64)
}

// awaitRun asks for a run until it is in a state, and returns when it was.
func (s *server) awaitRun(id, state string, limit time.Duration) (time.Time, error) {
	var r struct{ State, Message string }
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		resp, err := http.Get("http://" + s.listen.Admin + "/api/v1/runs/" + id)
		if err != nil {
			return time.Time{}, err
		}
		err = json.NewDecoder(resp.Body).Decode(&r)
		resp.Body.Close()
		if err == nil && r.State == state {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("run %s is %q after %s, want %q: %s", id, r.State, limit, state, r.Message)
}

var groupRule = ruleOf("grouped", "  concurrency: {group: one, policy: queue}\n  steps: [{id: a, uses: bench.hold}]\n")

// engineGroup measures from before a webhook is sent until its run is known to wait for its group, with few and with
// 10,000 runs that wait already.
func (b *bench) engineGroup() error {
	const queued, each = 10_000, 100
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	s, _, err := b.startEngine(dir, groupRule, time.Now().Add(24*time.Hour))
	if err != nil {
		return err
	}
	defer s.kill()
	id, err := post(http.DefaultClient, s.listen.Hooks, bodies()(0))
	if err != nil {
		return err
	}
	if _, err := s.awaitRun(id+"-grouped", "running", 30*time.Second); err != nil { // it holds the group
		return err
	}
	n := 0
	look := func() (float64, error) {
		var took []float64
		for range each {
			n++
			began := time.Now()
			id, err := post(http.DefaultClient, s.listen.Hooks, bodies()(n))
			if err != nil {
				return 0, err
			}
			at, err := s.awaitRun(id+"-grouped", "waiting", 30*time.Second)
			if err != nil {
				return 0, err
			}
			took = append(took, ms(at.Sub(began)))
		}
		return median(took), nil
	}
	first, err := look()
	if err != nil {
		return err
	}
	began, err := send(s.listen.Hooks, n+1, queued)
	if err != nil {
		return err
	}
	n += queued
	if id, err = post(http.DefaultClient, s.listen.Hooks, bodies()(n+each+1)); err != nil { // behind all of them
		return err
	}
	if _, err := s.awaitRun(id+"-grouped", "waiting", time.Minute); err != nil {
		return err
	}
	b.report("group_queued", queued/time.Since(began).Seconds(), "runs/s", 0, "")
	last, err := look()
	if err != nil {
		return err
	}
	b.report("group_wait_known_few_queued", first, "ms", 0, "")
	b.report("group_wait_known_10k_queued", last, "ms", last/first, "few queued")
	return nil
}
