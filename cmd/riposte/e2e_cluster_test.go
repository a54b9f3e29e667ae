//go:build e2e

package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// link is a TCP proxy. While it is cut it behaves like a network that loses every packet: connections stay open, what was sent
// is held up, and arrives late once the link is mended.
type link struct {
	addr   string
	target string

	mu      sync.Mutex
	flowing chan struct{} // closed unless the link is cut
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{addr: l.Addr().String(), target: target, flowing: make(chan struct{})}
	close(k.flowing)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.carry(c)
		}
	}()
	t.Cleanup(func() { l.Close(); k.mend() })
	return k
}

func (k *link) carry(from net.Conn) {
	k.wait()
	to, err := net.DialTimeout("tcp", k.target, 5*time.Second)
	if err != nil {
		from.Close()
		return
	}
	go k.copy(to, from)
	k.copy(from, to)
}

// copy carries bytes, and the end of a connection too, only while the link is whole.
func (k *link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		k.wait()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (k *link) wait() {
	k.mu.Lock()
	flowing := k.flowing
	k.mu.Unlock()
	<-flowing
}

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flowing = make(chan struct{})
}

func (k *link) mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.flowing:
	default:
		close(k.flowing)
	}
}

// clusterSize is how many NATS servers and how many replicas there are.
const clusterSize = 3

// natsCluster is NATS servers that reach each other only through links, as replicas reach them.
type natsCluster struct {
	t      *testing.T
	nodes  [clusterSize]*natsServer
	health [clusterSize]string
	routes [clusterSize][clusterSize]*link // from, to
}

// newNATSCluster starts the servers. limit goes into their JetStream sections; dir returns the directory of a node's store.
func newNATSCluster(t *testing.T, limit string, dir func(node int) string) *natsCluster {
	t.Helper()
	bin := need(t, "nats-server", "go install github.com/nats-io/nats-server/v2@v2.15.2")
	c := &natsCluster{t: t}
	var inner [clusterSize]string
	for i := range c.nodes {
		inner[i], c.health[i] = freeAddress(t), freeAddress(t)
		c.nodes[i] = &natsServer{t: t, bin: bin, addr: freeAddress(t), conf: filepath.Join(t.TempDir(), "nats.conf")}
	}
	for i, n := range c.nodes {
		var routes []string
		for j := range c.nodes {
			if i != j {
				c.routes[i][j] = newLink(t, inner[j])
				routes = append(routes, `"nats-route://`+c.routes[i][j].addr+`"`)
			}
		}
		// Only the account APP may ask for the servers' settings; without advertisements nobody finds a way around the links.
		text := fmt.Sprintf(`
server_name: nats-%d
listen: %s
http: %s
jetstream: {store_dir: %q, sync_interval: always%s}
cluster: {name: e2e, listen: %s, no_advertise: true, routes: [%s]}
accounts {
  SYS: {users: [{user: sys, password: sys}], exports: [{service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream}]}
  APP: {jetstream: enabled, users: [{user: app, password: app}], imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}]}
}
system_account: SYS
no_auth_user: app
`, i+1, n.addr, c.health[i], dir(i), limit, inner[i], strings.Join(routes, ", "))
		if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.kill)
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.healthy()
	return c
}

// healthy waits until every server says that its streams are up to date.
func (c *natsCluster) healthy() {
	c.t.Helper()
	for i := range c.nodes {
		waitFor(c.t, time.Minute, fmt.Sprintf("NATS server %d to be up to date", i+1), func() bool {
			resp, err := http.Get("http://" + c.health[i] + "/healthz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

// cutOff cuts every link to and from a node, of servers and of replicas; the function returned mends them.
func (c *natsCluster) cutOff(node int, replicas []*replica) (mend func()) {
	var links []*link
	for i := range c.nodes {
		if i != node {
			links = append(links, c.routes[i][node], c.routes[node][i])
		}
	}
	for _, r := range replicas {
		links = append(links, r.links[node])
	}
	return cut(links...)
}

func cut(links ...*link) (mend func()) {
	for _, k := range links {
		k.cut()
	}
	return func() {
		for _, k := range links {
			k.mend()
		}
	}
}

// replica is a riposte server that can be started again.
type replica struct {
	data  string
	links [clusterSize]*link

	mu  sync.Mutex
	now *server
}

func (r *replica) server() *server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// fleet is replicas on a NATS cluster under load.
type fleet struct {
	t        *testing.T
	nats     *natsCluster
	rules    string
	ledger   string
	replicas []*replica

	mu       sync.Mutex
	accepted map[string]bool
	sent     int
	refused  int // answers other than 202, or none
}

// fleetRules do two things for an event: one must not be done twice, so that it is given up where it was cut off, the other
// may be, and so is finished. Each line is one append.
const fleetRules = githubSource + `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: once}
spec:
  trigger: {source: github, type: push}
  steps:
    - {id: first, uses: exec.run, with: {script: 'echo "$RUN first" >> "$LEDGER"', env: {RUN: "${{ run.id }}", LEDGER: "FILENAME"}}}
    - {id: second, uses: exec.run, with: {script: 'echo "$RUN second" >> "$LEDGER"', env: {RUN: "${{ run.id }}", LEDGER: "FILENAME"}}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: again}
spec:
  trigger: {source: github, type: push}
  steps:
    - {id: only, onInterrupt: retry, uses: exec.run, with: {script: 'echo "$RUN only" >> "$LEDGER"', env: {RUN: "${{ run.id }}", LEDGER: "FILENAME"}}}
`

func newFleet(t *testing.T, nats *natsCluster, size int) *fleet {
	t.Helper()
	f := &fleet{t: t, nats: nats, ledger: filepath.Join(t.TempDir(), "ledger"), accepted: map[string]bool{}}
	f.rules = strings.ReplaceAll(fleetRules, "FILENAME", f.ledger)
	for range size {
		r := &replica{data: t.TempDir()}
		for i, n := range nats.nodes {
			r.links[i] = newLink(t, n.addr)
		}
		f.replicas = append(f.replicas, r)
		f.start(r)
	}
	return f
}

func (f *fleet) start(r *replica) {
	f.t.Helper()
	var urls []string
	for _, k := range r.links {
		urls = append(urls, "nats://"+k.addr)
	}
	s := serve(f.t, r.data, f.rules, "--nats-url", strings.Join(urls, ","))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = s
}

// load sends events until the function returned is called, which waits until the last one is answered with 202: a sender that
// gets anything else sends the same delivery to the next replica.
func (f *fleet) load() (stop func()) {
	const senders, every = 3, 250 * time.Millisecond
	done := make(chan struct{})
	var all sync.WaitGroup
	for n := range senders {
		all.Go(func() {
			client := &http.Client{Timeout: 6 * time.Second}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				f.deliver(client, n)
				select {
				case <-done:
					return
				case <-tick.C:
				}
			}
		})
	}
	return func() {
		close(done)
		all.Wait()
	}
}

func (f *fleet) deliver(client *http.Client, first int) {
	f.mu.Lock()
	f.sent++
	body := []byte(fmt.Sprintf(`{"ref":"refs/heads/main","n":%d,"repository":{"full_name":"acme/shop"}}`, f.sent))
	f.mu.Unlock()
	for try := first; ; try++ {
		to := f.replicas[try%len(f.replicas)].server().Hooks
		status, id, err := push(client, to, body)
		f.mu.Lock()
		if err == nil && status == http.StatusAccepted {
			f.accepted[id] = true
			f.mu.Unlock()
			return
		}
		f.refused++
		f.mu.Unlock()
		select {
		case <-time.After(20 * time.Millisecond): // the pace of a sender that repeats
		case <-f.t.Context().Done():
			return
		}
	}
}

// until is waitFor that says, when it fails, what the replicas have to say and where their goroutines stand.
func (f *fleet) until(limit time.Duration, what string, done func() bool) {
	f.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(limit); !done(); {
		select {
		case <-tick.C:
			continue
		case <-deadline:
		}
		for i, r := range f.replicas {
			s := r.server()
			_ = s.cmd.Process.Signal(syscall.SIGCONT)
			_ = s.cmd.Process.Signal(syscall.SIGQUIT)
			<-s.exited
			var said []string
			for line := range strings.Lines(s.output.String()) {
				if !strings.Contains(line, "run ended") {
					said = append(said, line)
				}
			}
			f.t.Logf("replica %d said:\n%s", i+1, strings.Join(said, ""))
		}
		f.t.Fatalf("waited %s for %s", limit, what)
	}
}

// worksWithout waits until the replicas other than those given have done all that was accepted before the call and a part for
// each partition after it.
func (f *fleet) worksWithout(gone ...int) time.Duration {
	f.t.Helper()
	began := time.Now()
	var by *server
	for i, r := range f.replicas {
		if !slices.Contains(gone, i) {
			by = r.server()
			break
		}
	}
	want := map[string]bool{}
	f.until(time.Minute, "the others to take new events", func() bool {
		f.mu.Lock()
		f.sent++
		body := fmt.Sprintf(`{"ref":"refs/heads/main","n":%d,"repository":{"full_name":"acme/shop"}}`, f.sent)
		f.mu.Unlock()
		status, id, err := push(&http.Client{Timeout: 6 * time.Second}, by.Hooks, []byte(body))
		if err == nil && status == http.StatusAccepted {
			f.mu.Lock()
			f.accepted[id] = true
			f.mu.Unlock()
			want[id] = true
		}
		return len(want) >= 40
	})
	f.until(time.Minute, "the others to take over", func() bool {
		for id := range want {
			if !by.bothEnded(id) {
				return false
			}
			delete(want, id)
		}
		return true
	})
	return time.Since(began)
}

func ended(r runRecord) bool { return r.State != "pending" && r.State != "running" }

// bothEnded reports whether the runs of an event are over.
func (s *server) bothEnded(event string) bool {
	var page struct{ Items []runRecord }
	return s.get("runs?event="+event, &page) == nil && len(page.Items) == 2 && ended(page.Items[0]) && ended(page.Items[1])
}

// check waits until all runs are over, and counts: each accepted event has one run of each rule, and what the ledger holds is
// what the runs say. It returns how many runs were interrupted.
func (f *fleet) check() (interrupted int) {
	f.t.Helper()
	for i, r := range f.replicas {
		s := r.server()
		s.ready()
		var runs []runRecord
		f.until(time.Minute, fmt.Sprintf("all runs to end, as replica %d sees them", i+1), func() bool {
			runs = s.runs("")
			return f.over(runs)
		})
		if i == 0 {
			interrupted = f.count(runs)
		}
	}
	return interrupted
}

func (f *fleet) over(runs []runRecord) bool {
	have := map[string]int{}
	for _, r := range runs {
		if !ended(r) {
			return false
		}
		have[r.Event]++
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.accepted {
		if have[id] < 2 {
			return false
		}
	}
	return true
}

func (f *fleet) count(runs []runRecord) (interrupted int) {
	f.t.Helper()
	text, err := os.ReadFile(f.ledger)
	if err != nil {
		f.t.Fatal(err)
	}
	lines := map[string]int{}
	for line := range strings.Lines(string(text)) {
		lines[strings.TrimSpace(line)]++
	}
	seen := map[string]int{}
	for _, r := range runs {
		seen[r.Event+" "+r.Rule]++
		first, second, only := lines[r.ID+" first"], lines[r.ID+" second"], lines[r.ID+" only"]
		switch {
		case r.Rule == "again" && (r.State != "succeeded" || only == 0):
			f.t.Errorf("run %s is %s (%s %s) and did its work %d times", r.ID, r.State, r.Reason, r.Message, only)
		case r.Rule == "again" && only > 1+f.cutOffs(r.ID):
			f.t.Errorf("run %s did its work %d times, and was interrupted %d times", r.ID, only, f.cutOffs(r.ID))
		case r.Rule == "once" && r.State == "succeeded" && (first != 1 || second != 1):
			f.t.Errorf("run %s succeeded and did its steps %d and %d times", r.ID, first, second)
		case r.Rule == "once" && r.State == "failed" && (r.Reason != "Interrupted" || first > 1 || second > 1):
			f.t.Errorf("run %s failed (%s %s) and did its steps %d and %d times", r.ID, r.Reason, r.Message, first, second)
		case r.State != "succeeded" && r.State != "failed":
			f.t.Errorf("run %s is %s (%s %s)", r.ID, r.State, r.Reason, r.Message)
		}
		if r.State == "failed" {
			interrupted++
		}
	}
	for key, n := range seen {
		if n != 1 {
			f.t.Errorf("%s has %d runs", key, n)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.accepted {
		for _, rule := range []string{"once", "again"} {
			if n := seen[id+" "+rule]; n != 1 {
				f.t.Errorf("event %s has %d runs of rule %s", id, n, rule)
			}
		}
	}
	f.t.Logf("%d events accepted, %d answers were something else, %d runs, %d of them interrupted", len(f.accepted), f.refused, len(runs), interrupted)
	return interrupted
}

// cutOffs is how often the step of a run was begun beyond the first time.
func (f *fleet) cutOffs(run string) int {
	var r struct{ Steps []struct{ Attempt int } }
	if err := f.replicas[0].server().get("runs/"+run, &r); err != nil || len(r.Steps) == 0 {
		f.t.Errorf("run %s: %v", run, err)
		return 0
	}
	return r.Steps[0].Attempt - 1
}

// TestE2ECluster: three replicas on three NATS servers, under load, lose one after the other in all the ways that there are.
// What was answered with 202 is done once each time.
func TestE2ECluster(t *testing.T) {
	nats := newNATSCluster(t, "", func(int) string { return t.TempDir() })
	f := newFleet(t, nats, clusterSize)
	for _, want := range []string{"nats-1", "nats-2", "nats-3"} {
		if said := f.replicas[0].server().output.String(); !strings.Contains(said, "syncs each write") || !strings.Contains(said, want) {
			t.Errorf("nothing is said of whether %s syncs:\n%s", want, said)
		}
	}
	phase := func(name string, do func()) { // no subtests: what each starts is there for the next one; E2E_CLUSTER=TEXT chooses
		t.Helper()
		if only := os.Getenv("E2E_CLUSTER"); only != "" && !strings.Contains(name, only) {
			return
		}
		began := time.Now()
		stop := sync.OnceFunc(f.load())
		do()
		stop()
		interrupted := f.check()
		t.Logf("%s: %s", name, time.Since(began).Round(time.Second))
		if interrupted > 0 && name == "replicas are restarted" {
			t.Errorf("%d runs were interrupted by restarts in good order", interrupted)
		}
	}

	phase("replicas are restarted", func() {
		for i, r := range f.replicas {
			r.server().stop()
			t.Logf("without replica %d all was done after %s", i+1, f.worksWithout(i))
			f.start(r)
		}
	})
	phase("replicas are killed", func() {
		for i, r := range f.replicas {
			_ = syscall.Kill(r.server().cmd.Process.Pid, syscall.SIGKILL) // not its children
			<-r.server().exited
			t.Logf("without replica %d all was done after %s", i+1, f.worksWithout(i))
			f.start(r)
		}
	})
	phase("NATS servers are killed", func() {
		for i, n := range nats.nodes {
			n.kill()
			t.Logf("without NATS server %d all was done after %s", i+1, f.worksWithout())
			n.start()
			nats.healthy()
		}
	})
	phase("a replica and a NATS server are paused", func() {
		r, n := f.replicas[1].server().cmd.Process, nats.nodes[1].cmd.Process
		t.Cleanup(func() { _, _ = r.Signal(syscall.SIGCONT), n.Signal(syscall.SIGCONT) }) // or they could not be stopped
		_, _ = r.Signal(syscall.SIGSTOP), n.Signal(syscall.SIGSTOP)
		t.Logf("without both all was done after %s", f.worksWithout(1))
		_, _ = r.Signal(syscall.SIGCONT), n.Signal(syscall.SIGCONT)
		nats.healthy()
	})
	phase("a replica is cut off", func() {
		r := f.replicas[0]
		mend := cut(r.links[:]...)
		t.Cleanup(mend)
		t.Logf("without it all was done after %s", f.worksWithout(0))
		r.server().unready(t)
		mend()
	})
	phase("a NATS server is cut off", func() {
		mend := nats.cutOff(2, f.replicas)
		t.Cleanup(mend)
		t.Logf("without it all was done after %s", f.worksWithout())
		mend()
		nats.healthy()
	})
	phase("all NATS servers are gone", func() {
		for _, n := range nats.nodes {
			n.kill()
		}
		for _, r := range f.replicas {
			r.server().unready(t)
			refuses(t, r.server())
		}
		for _, n := range nats.nodes {
			n.start()
		}
		nats.healthy()
		t.Logf("all was done %s after NATS was there again", f.worksWithout())
	})
	said, err := exec.Command(binary(t), "pause", "once", "--reason", "the end", "--server", "http://"+f.replicas[0].server().Admin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for i, r := range f.replicas {
		f.until(time.Minute, fmt.Sprintf("replica %d to hear of a pause", i+1), func() bool {
			resp, err := http.Get("http://" + r.server().Health + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return err == nil && strings.Contains(string(text), "1 of 2 rules are paused")
		})
		if n := r.server().metric("riposte_partitions_held"); n == 0 {
			t.Errorf("replica %d works on nothing", i+1)
		}
	}
}

// unready waits until the server says that it is not ready.
func (s *server) unready(t *testing.T) {
	t.Helper()
	waitFor(t, time.Minute, "a replica without its store to be unready", func() bool {
		resp, err := http.Get("http://" + s.Health + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
}

// refuses waits until hooks are answered with 503, and when to come back.
func refuses(t *testing.T, s *server) {
	t.Helper()
	waitFor(t, time.Minute, "hooks to be answered with 503", func() bool { return refused(t, s) })
}

// refused sends an event that no rule is for, and reports whether the answer is 503.
func refused(t *testing.T, s *server) bool {
	t.Helper()
	body := fmt.Sprintf(`{"at":%d}`, time.Now().UnixNano()) // a new event each time: of a known one nothing is written
	req, err := http.NewRequest(http.MethodPost, "http://"+s.Hooks+"/hooks/github", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "ping2")
	req.Header.Set("X-Hub-Signature-256", sign([]byte(body)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	return resp.StatusCode == http.StatusServiceUnavailable
}

// TestE2ENATSOutOfDisk: while one of three NATS servers has no space the others go on; while none has any, hooks answer 503.
// Once there is space again and the servers were restarted, everything that was accepted is done.
func TestE2ENATSOutOfDisk(t *testing.T) {
	var disks [clusterSize]string
	for i := range disks {
		disks[i] = smallDisk(t, 64<<20)
	}
	nats := newNATSCluster(t, ", max_file_store: 10GB", func(node int) string { return disks[node] })
	f := newFleet(t, nats, 1)
	stop := f.load()
	free := fill(t, disks[0])
	t.Logf("with one full disk all was done after %s", f.worksWithout())
	free()
	frees := []func(){fill(t, disks[0]), fill(t, disks[1]), fill(t, disks[2])}
	s := f.replicas[0].server()
	f.until(time.Minute, "hooks to be answered with 503", func() bool { return refused(t, s) })
	s.unready(t)
	for i, free := range frees {
		free()
		resp, err := http.Get("http://" + nats.health[i] + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		t.Logf("NATS server %d, which had no space, says of its health: %s", i+1, resp.Status)
	}
	for _, n := range nats.nodes { // a server that ran out of space stays dead until it is restarted, whatever space there is
		n.kill()
		n.start()
	}
	nats.healthy()
	f.until(time.Minute, "hooks to be accepted again", func() bool { return !refused(t, s) })
	stop()
	f.check()
}

// TestE2ENATSWithoutRoom: a NATS server with less space than is reserved there is refused, with what to do about it.
func TestE2ENATSWithoutRoom(t *testing.T) {
	bin := need(t, "nats-server", "go install github.com/nats-io/nats-server/v2@v2.15.2")
	n := &natsServer{t: t, bin: bin, addr: freeAddress(t), conf: filepath.Join(t.TempDir(), "nats.conf")}
	text := fmt.Sprintf("listen: %s\njetstream: {store_dir: %q, sync_interval: always, max_file_store: 64MB}\n", n.addr, t.TempDir())
	if err := os.WriteFile(n.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, binary(t), "serve", "--data", t.TempDir(), "--nats-url", n.url()).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(said), "max_file_store") {
		t.Errorf("it ended with %v and said %s", err, said)
	}
}

// smallDisk mounts a filesystem of the size, on which a store can run out of space.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("needs root and the right to mount a tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_FORCE|2); err != nil { // 2 is MNT_DETACH
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space there is; the function returned gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for block := make([]byte, size); err == nil; _, err = f.Write(block) {
		}
		err = nil
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}
