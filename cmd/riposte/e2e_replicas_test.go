//go:build e2e

package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// natsServer is a nats-server process that can be killed and started again on the same store and address.
type natsServer struct {
	t    *testing.T
	bin  string
	conf string
	addr string
	cmd  *exec.Cmd
}

func newNATS(t *testing.T) *natsServer {
	t.Helper()
	bin := need(t, "nats-server", "go install github.com/nats-io/nats-server/v2@v2.15.2")
	n := &natsServer{t: t, bin: bin, addr: freeAddress(t), conf: filepath.Join(t.TempDir(), "nats.conf")}
	host, port, _ := net.SplitHostPort(n.addr)
	text := fmt.Sprintf("host: %s\nport: %s\njetstream: {store_dir: %q, sync_interval: always}\n", host, port, t.TempDir())
	if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *natsServer) url() string { return "nats://" + n.addr }

func (n *natsServer) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.bin, "-c", n.conf)
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	waitFor(n.t, 30*time.Second, "nats-server to listen", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (n *natsServer) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
}

// replicasRule has a command that writes which run it is for, its process and its server's, waits where the event says so
// until the test lets it go, and writes that it is done. Each line is one append.
const replicasRule = `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: work}
spec:
  trigger: {source: github, type: push}
  steps:
    - id: work
      uses: exec.run
      timeout: 10m
      with:
        script: |
          printf 'begin %s %s %s\n' "$RUN" "$$" "$PPID" >> "$FILE"
          while [ "$LONG" = true ] && [ ! -e "$FILE.go" ]; do sleep 0.05; done
          printf 'end %s %s %s\n' "$RUN" "$$" "$PPID" >> "$FILE"
        env: {RUN: "${{ run.id }}", LONG: "${{ event.data.long }}", FILE: "FILENAME"}
`

// worked is one command that began.
type worked struct {
	run         string
	pid, server int
	begun, done int
}

// ledger is what the commands wrote.
type ledger struct {
	t    *testing.T
	file string
}

func (l ledger) read() map[string]*worked {
	l.t.Helper()
	text, err := os.ReadFile(l.file)
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	all := map[string]*worked{}
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		w := all[f[1]]
		if w == nil {
			w = &worked{run: f[1]}
			all[f[1]] = w
		}
		if w.pid, _ = strconv.Atoi(f[2]); f[0] == "begin" {
			w.begun++
			w.server, _ = strconv.Atoi(f[3])
		} else {
			w.done++
		}
	}
	return all
}

// waiting returns the commands of a server that wait to be let go.
func (l ledger) waiting(s *server) []*worked {
	var out []*worked
	for _, w := range l.read() {
		if w.server == s.cmd.Process.Pid && w.done == 0 {
			out = append(out, w)
		}
	}
	return out
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ") // a zombie writes nothing
}

// cluster is the replicas with what was accepted.
type cluster struct {
	t        *testing.T
	accepted map[string]bool
	n        int
}

// post sends an event to all of the servers given; it must be one event for all of them.
func (c *cluster) post(long bool, to ...*server) {
	c.t.Helper()
	c.n++
	body := fmt.Sprintf(`{"ref":"refs/heads/main","n":%d,"long":%t,"repository":{"full_name":"acme/shop"}}`, c.n, long)
	first := ""
	for _, s := range to {
		id := s.push(body)
		if first != "" && id != first {
			c.t.Fatalf("one event has the ids %s and %s", first, id)
		}
		first = id
	}
	c.accepted[first] = true
}

// try sends an event and returns the answer's status, 0 for none.
func (c *cluster) try(s *server) int {
	c.n++
	body := fmt.Sprintf(`{"ref":"refs/heads/main","n":%d,"long":false,"repository":{"full_name":"acme/shop"}}`, c.n)
	client := &http.Client{Timeout: 30 * time.Second}
	status, id, err := push(client, s.Hooks, []byte(body))
	if err != nil {
		return 0
	}
	if status == http.StatusAccepted {
		c.accepted[id] = true
	}
	return status
}

// TestE2EReplicasFail: of three replicas on one NATS server one is killed, one is paused for longer than its lease, and
// then the NATS server is killed and started again. What was accepted has one run each, and no command ran twice.
func TestE2EReplicasFail(t *testing.T) {
	nats := newNATS(t)
	l := ledger{t, filepath.Join(t.TempDir(), "ledger")}
	rules := githubSource + strings.ReplaceAll(replicasRule, "FILENAME", l.file)
	t.Cleanup(func() { // children outlive a server that was killed
		for _, w := range l.read() {
			if w.done == 0 && alive(w.pid) {
				_ = syscall.Kill(-w.pid, syscall.SIGKILL)
			}
		}
	})
	dataA := t.TempDir()
	a := serve(t, dataA, rules, "--nats-url", nats.url())
	b := serve(t, t.TempDir(), rules, "--nats-url", nats.url())
	c := serve(t, t.TempDir(), rules, "--nats-url", nats.url())
	all := &cluster{t: t, accepted: map[string]bool{}}
	for range 30 {
		all.post(false, a, b, c)
	}
	waitFor(t, time.Minute, "each replica to run a command that waits", func() bool {
		if len(l.waiting(a)) > 0 && len(l.waiting(b)) > 0 && len(l.waiting(c)) > 0 {
			return true
		}
		if all.n < 200 {
			all.post(true, a, b, c)
		}
		return false
	})

	orphans, paused := l.waiting(a), l.waiting(b)
	_ = syscall.Kill(a.cmd.Process.Pid, syscall.SIGKILL) // not its children
	<-a.exited
	_ = b.cmd.Process.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = b.cmd.Process.Signal(syscall.SIGCONT) }) // or it could not be stopped
	for range 30 {
		all.post(false, c)
	}
	takenOver(t, c, append(orphans, paused...))

	for _, w := range paused {
		if !alive(w.pid) {
			t.Errorf("the command of run %s ended while its server was paused", w.run)
		}
	}
	before := records(c, paused)
	_ = b.cmd.Process.Signal(syscall.SIGCONT)
	waitFor(t, time.Minute, "the paused replica's commands to be killed", func() bool { return !anyAlive(paused) })
	b.ready()
	a = serve(t, dataA, rules, "--nats-url", nats.url())
	if anyAlive(orphans) {
		t.Error("commands of the killed replica outlive its next start")
	}

	all.cutOff(nats, a, b, c)
	if err := os.WriteFile(l.file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var runs []runRecord
	waitFor(t, 3*time.Minute, "all runs to end", func() bool {
		runs = c.runs("rule=work")
		return all.over(runs)
	})
	all.check(runs, l)
	if after := records(c, paused); after != before {
		t.Errorf("a replica that had lost its lease wrote on: its runs were\n%s\nand are\n%s", before, after)
	}
}

// records returns runs as they are recorded.
func records(s *server, of []*worked) string {
	s.t.Helper()
	var b strings.Builder
	for _, w := range of {
		var r json.RawMessage
		if err := s.get("runs/"+w.run, &r); err != nil {
			s.t.Fatal(err)
		}
		b.Write(r)
	}
	return b.String()
}

// cutOff kills the NATS server and starts it again: hooks answer 503 meanwhile, and recover by themselves.
func (c *cluster) cutOff(nats *natsServer, replicas ...*server) {
	c.t.Helper()
	nats.kill()
	for _, s := range replicas {
		waitFor(c.t, time.Minute, "hooks to answer 503 without the store", func() bool { return c.try(s) == http.StatusServiceUnavailable })
	}
	nats.start()
	for _, s := range replicas {
		waitFor(c.t, 2*time.Minute, "hooks to recover by themselves", func() bool { return c.try(s) == http.StatusAccepted })
	}
}

// takenOver waits until the runs of replicas that are gone are over, recorded as interrupted by who took them over.
func takenOver(t *testing.T, by *server, lost []*worked) {
	t.Helper()
	for _, w := range lost {
		var r runRecord
		waitFor(t, time.Minute, "run "+w.run+" to be taken over", func() bool {
			return by.get("runs/"+w.run, &r) == nil && r.State == "failed"
		})
		if r.Reason != "Interrupted" {
			t.Errorf("run %s failed with reason %q: %s", w.run, r.Reason, r.Message)
		}
	}
}

func anyAlive(commands []*worked) bool {
	for _, w := range commands {
		if alive(w.pid) {
			return true
		}
	}
	return false
}

// over says whether each accepted event has a run, and no run goes on. What was answered 503 may be in the log all the same,
// so that there can be more runs than events were accepted, and later.
func (c *cluster) over(runs []runRecord) bool {
	have := map[string]bool{}
	for _, r := range runs {
		if r.State == "pending" || r.State == "running" {
			return false
		}
		have[r.Event] = true
	}
	for id := range c.accepted {
		if !have[id] {
			return false
		}
	}
	return true
}

// check: each accepted event has exactly one run, and each run's command ran once, or is known to have been interrupted.
func (c *cluster) check(all []runRecord, l ledger) {
	c.t.Helper()
	commands, runs := l.read(), map[string]int{}
	interrupted := 0
	for _, r := range all {
		runs[r.Event]++
		w := commands[r.ID]
		if w == nil {
			w = &worked{}
		}
		switch {
		case r.State == "succeeded" && (w.begun != 1 || w.done != 1):
			c.t.Errorf("run %s succeeded; its command began %d times and ended %d times", r.ID, w.begun, w.done)
		case r.State == "failed" && (r.Reason != "Interrupted" || w.begun > 1 || w.done > 1):
			c.t.Errorf("run %s failed with reason %q; its command began %d times and ended %d times", r.ID, r.Reason, w.begun, w.done)
		case r.State != "succeeded" && r.State != "failed":
			c.t.Errorf("run %s is %s", r.ID, r.State)
		}
		if r.State == "failed" {
			interrupted++
		}
	}
	for id := range c.accepted {
		if runs[id] != 1 {
			c.t.Errorf("event %s has %d runs", id, runs[id])
		}
	}
	c.t.Logf("%d events, %d of their runs interrupted", len(c.accepted), interrupted)
}
