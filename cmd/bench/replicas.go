package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	replicaCount   = 3
	replicaAccepts = 12_000
	replicaRuns    = 4_000
	// takeoverEvents are sent after something was killed; with so many every partition has some.
	takeoverEvents = 200
)

// replicas measures three replicas on three NATS servers against one on an embedded store, in one call, and then how long the
// rest needs when a replica and when a NATS server is killed.
func (b *bench) replicas() error {
	bin, err := exec.LookPath("nats-server")
	if err != nil {
		return fmt.Errorf("%w (go install github.com/nats-io/nats-server/v2@v2.15.2)", err)
	}
	one, err := b.fleetRates("", nil)
	if err != nil {
		return err
	}
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	nodes, err := startNodes(bin, dir)
	if err != nil {
		return err
	}
	defer nodes.stop()
	three, err := b.fleetRates(nodes.urls(), nodes)
	if err != nil {
		return err
	}
	b.report("embedded_accepted", one.accepted, "events/s", 0, "")
	b.report("replicas_accepted", three.accepted, "events/s", three.accepted/one.accepted, "embedded")
	b.report("embedded_finished_runs", one.finished, "runs/s", 0, "")
	b.report("replicas_finished_runs", three.finished, "runs/s", three.finished/one.finished, "embedded")
	b.report("takeover_replica", three.replica.Seconds(), "s", 0, "")
	b.report("takeover_nats", three.nats.Seconds(), "s", 0, "")
	b.report("replica_idle_memory_1000_rules", three.memory, "MiB", 0, "")
	return nil
}

type fleetRates struct {
	accepted, finished, memory float64
	replica, nats              time.Duration // until all works again
}

// fleetRates starts one server on an embedded store, or as many as there are NATS servers on these.
func (b *bench) fleetRates(urls string, nodes *natsNodes) (r fleetRates, err error) {
	count := 1
	if nodes != nil {
		count = replicaCount
	}
	rules := trueRule + idleRules(1000)
	var fleet []*server
	defer func() {
		for _, s := range fleet {
			s.stop()
		}
	}()
	for range count {
		dir, done, err := tempDir()
		if err != nil {
			return r, err
		}
		defer done()
		s, _, err := start(dir, rules, nil, func(settings []string) []string {
			argv := []string{b.binary, "serve"}
			for _, setting := range settings {
				argv = append(argv, "--"+setting)
			}
			if urls != "" {
				argv = append(argv, "--nats-url="+urls)
			}
			return argv
		})
		if err != nil {
			return r, err
		}
		fleet = append(fleet, s)
	}
	time.Sleep(20 * time.Second) // until what the start used is given back
	for _, s := range fleet {
		rss, err := s.rss()
		if err != nil {
			return r, err
		}
		r.memory = max(r.memory, rss)
	}
	began, err := sendTo(hooksOf(fleet), 1, replicaRuns)
	if err != nil {
		return r, err
	}
	if err := awaitRuns(fleet, replicaRuns, 3*time.Minute); err != nil {
		return r, err
	}
	r.finished = replicaRuns / time.Since(began).Seconds()
	if r.accepted, err = b.acceptedBy(fleet); err != nil || nodes == nil {
		return r, err
	}
	return r, takeovers(&r, fleet, nodes)
}

// acceptedBy sends events that no rule selects, and counts those that were read back from the log.
func (b *bench) acceptedBy(fleet []*server) (float64, error) {
	before, err := decisions(fleet)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	began := time.Now()
	if err := inParallel(replicaAccepts, func(i int) error {
		_, err := postAs(client, fleet[i%len(fleet)].listen.Hooks, "star", fmt.Appendf(nil, `{"action":"created","n":%d,"pad":%q}`, i, strings.Repeat("x", bodySize)))
		return err
	}); err != nil {
		return 0, err
	}
	rate := replicaAccepts / time.Since(began).Seconds()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		now, err := decisions(fleet)
		if err == nil && now-before >= replicaAccepts {
			return rate, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("of %d accepted events %v were decided: %w", replicaAccepts, now-before, err)
		}
	}
}

func takeovers(r *fleetRates, fleet []*server, nodes *natsNodes) error {
	before, err := runsOf(fleet[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	fleet[0].kill()
	if err := sendUntilAccepted(hooksOf(fleet[1:]), 1_000_000); err != nil {
		return err
	}
	if err := awaitRuns(fleet[1:], before+takeoverEvents, time.Minute); err != nil {
		return fmt.Errorf("a replica was killed: %w", err)
	}
	r.replica = time.Since(began)
	if before, err = runsOf(fleet[1:]); err != nil {
		return err
	}
	began = time.Now()
	nodes.kill(0)
	if err := sendUntilAccepted(hooksOf(fleet[1:]), 2_000_000); err != nil {
		return err
	}
	if err := awaitRuns(fleet[1:], before+takeoverEvents, time.Minute); err != nil {
		return fmt.Errorf("a NATS server was killed: %w", err)
	}
	r.nats = time.Since(began)
	return nil
}

// sendUntilAccepted sends each event until it is accepted, as a sender that repeats does.
func sendUntilAccepted(hooks []string, first int) error {
	body := bodies()
	client := &http.Client{Timeout: 6 * time.Second}
	defer client.CloseIdleConnections()
	return inParallel(takeoverEvents, func(i int) error {
		var err error
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if _, err = post(client, hooks[i%len(hooks)], body(first+i)); err == nil {
				return nil
			}
		}
		return err
	})
}

func hooksOf(fleet []*server) []string {
	var hooks []string
	for _, s := range fleet {
		hooks = append(hooks, s.listen.Hooks)
	}
	return hooks
}

func sum(fleet []*server, name, labels string) (float64, error) {
	total := 0.0
	for _, s := range fleet {
		v, err := s.metric(name, labels)
		if err != nil {
			return 0, err
		}
		total += v
	}
	return total, nil
}

func decisions(fleet []*server) (float64, error) { return sum(fleet, "riposte_decisions_total", "") }

func runsOf(fleet []*server) (float64, error) {
	return sum(fleet, "riposte_runs_total", `state="succeeded"`)
}

func awaitRuns(fleet []*server, want float64, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		n, err := runsOf(fleet)
		if err == nil && n >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v of %v runs ended in %s: %w", n, want, limit, err)
		}
	}
}

// idleRules are rules that no event of the load matches.
func idleRules(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: idle-%d}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "release-%d" && event.git.repo == "acme/service-%d"
  steps:
    - {id: tell, uses: exec.run, with: {command: [/bin/true]}}
`, i, i, i)
	}
	return b.String()
}

// natsNodes are NATS servers that form a cluster on loopback.
type natsNodes struct {
	cmds  []*exec.Cmd
	ports []string
}

func (n *natsNodes) urls() string {
	var urls []string
	for _, port := range n.ports {
		urls = append(urls, "nats://127.0.0.1:"+port)
	}
	return strings.Join(urls, ",")
}

func (n *natsNodes) kill(i int) {
	_ = n.cmds[i].Process.Kill()
	_ = n.cmds[i].Wait()
}

func (n *natsNodes) stop() {
	for i := range n.cmds {
		n.kill(i)
	}
}

func startNodes(bin, dir string) (n *natsNodes, err error) {
	ports, err := freePorts(3 * replicaCount)
	if err != nil {
		return nil, err
	}
	var routes []string
	for _, port := range ports[:replicaCount] {
		routes = append(routes, `"nats-route://127.0.0.1:`+port+`"`)
	}
	n = &natsNodes{ports: ports[replicaCount : 2*replicaCount]}
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	for i := range replicaCount {
		file := filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i))
		text := fmt.Sprintf("server_name: nats-%d\nlisten: \"127.0.0.1:%s\"\nhttp: \"127.0.0.1:%s\"\njetstream {store_dir: %q, sync_interval: always}\ncluster {name: bench, listen: \"127.0.0.1:%s\", routes: [%s]}\n",
			i, n.ports[i], ports[2*replicaCount+i], filepath.Join(dir, fmt.Sprintf("nats-%d", i)), ports[i], strings.Join(routes, ", "))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return n, err
		}
		cmd := exec.Command(bin, "-c", file)
		if err := cmd.Start(); err != nil {
			return n, err
		}
		n.cmds = append(n.cmds, cmd)
	}
	for _, port := range ports[2*replicaCount:] {
		if err := awaitHealthy("http://127.0.0.1:" + port + "/healthz"); err != nil {
			return n, err
		}
	}
	return n, nil
}

func awaitHealthy(url string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s does not say that it is well", url)
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}
