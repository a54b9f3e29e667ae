//go:build e2e

package main_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// These tests drive the built binary (make build) together with real outside programs, as an operator would.

const webhookSecret = "e2e-webhook-secret-0123456789"

// need skips the test where a program is missing, saying what to install.
func need(t *testing.T, program, install string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed: %s", program, install)
	}
	return path
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/riposte")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v (make build makes it)", err)
	}
	return path
}

// server is a riposte process.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	data   string
	Hooks  string `json:"hooks"`
	Admin  string `json:"admin"`
	Health string `json:"health"`
	output *lockedBuffer
	exited chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts riposte on data with the rules, and waits until it is ready.
func serve(t *testing.T, data, rules string, args ...string) *server {
	t.Helper()
	return serveUnder(t, nil, data, rules, args...)
}

// serveUnder is serve below another program, such as a tracer.
func serveUnder(t *testing.T, wrapper []string, data, rules string, args ...string) *server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(data, "listen.json")) // left by a killed server
	argv := append(append(wrapper, binary(t), "serve", "--dev", "--rules", dir, "--data", data,
		"--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
		"--outbound-allow-private", "127.0.0.0/8"), args...)
	if !slices.Contains(args, "--git-allow-private") { // each one adds to those before
		argv = append(argv, "--git-allow-private", "127.0.0.0/8")
	}
	s := &server{t: t, data: data, output: &lockedBuffer{}, exited: make(chan struct{})}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), "E2E_SECRET="+webhookSecret)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("riposte said:\n%s", tail(s.output.String(), 6000))
		}
	})
	s.ready()
	return s
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (s *server) ready() {
	s.t.Helper()
	waitFor(s.t, time.Minute, "the server to be ready", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("riposte ended:\n%s", s.output.String())
		default:
		}
		text, err := os.ReadFile(filepath.Join(s.data, "listen.json"))
		if err != nil || json.Unmarshal(text, s) != nil {
			return false
		}
		resp, err := http.Get("http://" + s.Health + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// waitFor polls what only another process can tell.
func waitFor(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}

func (s *server) kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exited
}

func (s *server) stop() {
	select {
	case <-s.exited:
		return
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(45 * time.Second):
		s.kill()
	}
}

func sign(b []byte) string {
	m := hmac.New(sha256.New, []byte(webhookSecret))
	m.Write(b)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// push posts a signed GitHub push and returns the status and the event's id.
func push(client *http.Client, hooks string, body []byte) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+hooks+"/hooks/github", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", fmt.Sprintf("%x", sha256.Sum256(body)))
	req.Header.Set("X-Hub-Signature-256", sign(body))
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	var answer struct{ ID string }
	_ = json.Unmarshal(text, &answer)
	return resp.StatusCode, answer.ID, nil
}

func (s *server) push(body string) string {
	s.t.Helper()
	status, id, err := push(http.DefaultClient, s.Hooks, []byte(body))
	if err != nil || status != http.StatusAccepted {
		s.t.Fatalf("push: status %d, %v", status, err)
	}
	return id
}

// get reads a resource of the API.
func (s *server) get(path string, into any) error {
	resp, err := http.Get("http://" + s.Admin + "/api/v1/" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

type step struct {
	ID, Uses, State, Error string
	Outputs                map[string]any
}

type runRecord struct {
	ID, Rule, Event, State, Reason, Message string
	Steps                                   []step
}

func (r runRecord) step(id string) step {
	for _, s := range r.Steps {
		if s.ID == id {
			return s
		}
	}
	return step{}
}

// ended waits until a run is over.
func (s *server) ended(id string) runRecord {
	s.t.Helper()
	var r runRecord
	waitFor(s.t, 2*time.Minute, "run "+id+" to end", func() bool {
		if err := s.get("runs/"+id, &r); err != nil {
			return false
		}
		return r.State != "pending" && r.State != "running"
	})
	return r
}

// runs reads all runs of a query.
func (s *server) runs(query string) []runRecord {
	s.t.Helper()
	var all []runRecord
	for cursor := ""; ; {
		var page struct {
			Items []runRecord
			Next  string
		}
		if err := s.get("runs?limit=500&"+query+"&cursor="+cursor, &page); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

const githubSource = `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec:
  type: github
  secrets:
    - {env: E2E_SECRET}
`

// collector is an HTTP server that keeps what it is sent.
type collector struct {
	url  string
	got  chan string
	stop func()
}

func collect(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + l.Addr().String(), got: make(chan string, 1000)}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.got <- string(b)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return c
}

func (c *collector) next(t *testing.T, limit time.Duration) string {
	t.Helper()
	select {
	case s := <-c.got:
		return s
	case <-time.After(limit):
		t.Fatalf("nothing arrived in %s", limit)
		return ""
	}
}

// TestE2EReadme does what the README says a newcomer does.
func TestE2EReadme(t *testing.T) {
	need(t, "git", "apt-get install git")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if out, err := exec.Command(filepath.Join(root, "examples/hello/make-repository.sh"), filepath.Join(work, "data/hello-repository")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary(t), "serve", "--dev", "--rules", filepath.Join(root, "rules"), "--rules", filepath.Join(root, "examples"),
		"--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")
	cmd.Dir = work
	s := &server{t: t, cmd: cmd, data: filepath.Join(work, "data"), output: &lockedBuffer{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Log(s.output.String())
		}
	})
	s.ready()

	cli := func(args ...string) string {
		c := exec.Command(binary(t), args...)
		c.Dir = work
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("riposte %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	accepted := cli("send", "github", "--event", "push", "-f", filepath.Join(root, "examples/hello/push.json"))
	id := strings.Fields(accepted)[1]
	if r := s.ended(id + "-hello"); r.State != "succeeded" {
		t.Fatalf("the example's run: %+v", r)
	}
	if out := cli("runs", "list"); !strings.Contains(out, id+"-hello") || !strings.Contains(out, "succeeded") {
		t.Errorf("runs list printed:\n%s", out)
	}
	if out := s.output.String(); !strings.Contains(out, "Hello from a pulled repository.") {
		t.Errorf("the notification is not in the server's log")
	}
	if out := cli("send", "github", "--event", "push", "-f", filepath.Join(root, "examples/hello/push.json")); !strings.Contains(out, "duplicate "+id) {
		t.Errorf("the second send printed:\n%s", out)
	}
	if out := cli("events", "show", id[:10]); !strings.Contains(out, "hello") {
		t.Errorf("events show printed:\n%s", out)
	}
	if out := cli("rules", "list"); !strings.Contains(out, "hello") {
		t.Errorf("rules list printed:\n%s", out)
	}
}

// TestE2EAlertmanager lets a real Alertmanager fire and resolve an alert.
func TestE2EAlertmanager(t *testing.T) {
	am := need(t, "prometheus-alertmanager", "apt-get install prometheus-alertmanager")
	sink := collect(t)
	s := serve(t, t.TempDir(), `
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: alertmanager}
spec:
  type: alertmanager
  auth: {bearer: {env: E2E_SECRET}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: tell}
spec:
  trigger: {source: alertmanager, type: "alert.*"}
  when: event.alert.name == "DiskFilling" && event.alert.labels.instance == "db-1"
  steps:
    - id: call
      uses: http.request
      with:
        url: `+sink.url+`
        method: POST
        body: {status: "${{ event.alert.status }}", severity: "${{ event.alert.severity }}", summary: "${{ event.alert.annotations.summary }}"}
`)
	dir := t.TempDir()
	conf := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(conf, []byte(`
route: {receiver: riposte, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: riposte
    webhook_configs:
      - url: http://`+s.Hooks+`/hooks/alertmanager
        send_resolved: true
        http_config: {authorization: {type: Bearer, credentials: `+webhookSecret+`}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.Command(am, "--config.file="+conf, "--storage.path="+filepath.Join(dir, "store"), "--web.listen-address="+address, "--cluster.listen-address=")
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	post := func(ends string) {
		body := `[{"labels":{"alertname":"DiskFilling","instance":"db-1","severity":"critical"},"annotations":{"summary":"97 % full"}` + ends + `}]`
		waitFor(t, 30*time.Second, "Alertmanager to take an alert", func() bool {
			resp, err := http.Post("http://"+address+"/api/v2/alerts", "application/json", strings.NewReader(body))
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	post("")
	if got := sink.next(t, time.Minute); !strings.Contains(got, "firing") || !strings.Contains(got, "97 % full") || !strings.Contains(got, "critical") {
		t.Fatalf("the firing alert sent %s", got)
	}
	post(`,"endsAt":"` + time.Now().UTC().Format(time.RFC3339) + `"`)
	if got := sink.next(t, time.Minute); !strings.Contains(got, "resolved") {
		t.Fatalf("the resolved alert sent %s", got)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// gitServer serves a bare repository over HTTP with git http-backend, and returns its URL, a commit and a way to push.
func gitServer(t *testing.T, files map[string]string) (url, commit string) {
	t.Helper()
	need(t, "git", "apt-get install git")
	root := t.TempDir()
	git := func(dir string, args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	work := filepath.Join(t.TempDir(), "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		t.Fatal(err)
	}
	git(work, "init", "--quiet")
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git(work, "add", ".")
	git(work, "commit", "--quiet", "-m", "first")
	git(root, "clone", "--quiet", "--bare", work, "infra.git")
	git(filepath.Join(root, "infra.git"), "config", "http.receivepack", "true")
	return serveGit(t, root) + "/infra.git", git(work, "rev-parse", "HEAD")
}

// TestE2ETerraform is the main job: a signed push over a real Git server plans and applies real infrastructure as code.
func TestE2ETerraform(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		need(t, "tofu", "install terraform or tofu")
	}
	url, commit := gitServer(t, map[string]string{"network/main.tf": `
variable "name" { type = string }
resource "terraform_data" "net" { input = var.name }
output "name" { value = terraform_data.net.output }
`})
	sink := collect(t)
	s := serve(t, t.TempDir(), githubSource+`
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: apply-network}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "main" && changed("network/**")
  steps:
    - id: src
      uses: git.pull
      with: {url: "${{ event.git.cloneURL }}", ref: "${{ event.git.branch }}"}
    - id: plan
      uses: terraform.plan
      with:
        dir: ${{ steps.src.outputs.dir }}/network
        vars: {name: "${{ event.git.repo }}"}
    - id: apply
      if: steps.plan.outputs.changes > 0
      uses: terraform.apply
      with: {plan: "${{ steps.plan.outputs.file }}"}
    - id: check
      uses: exec.run
      with: {command: [test, -f, network/terraform.tfstate], dir: "${{ steps.src.outputs.dir }}"}
    - id: tell
      uses: http.request
      with: {url: `+sink.url+`, body: {commit: "${{ steps.src.outputs.commit }}", changes: "${{ steps.plan.outputs.changes }}"}}
`)
	body := fmt.Sprintf(`{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","after":%q,"created":false,"deleted":false,"forced":false,
"repository":{"id":1,"name":"infra","full_name":"acme/infra","owner":{"login":"acme"},"clone_url":%q},"pusher":{"name":"ana"},
"commits":[{"id":%q,"added":["network/main.tf"],"modified":[],"removed":[]}],"head_commit":{"id":%q}}`, commit, url, commit, commit)
	id := s.push(body)
	r := s.ended(id + "-apply-network")
	if r.State != "succeeded" {
		t.Fatalf("run: %+v", r)
	}
	if got := r.step("plan").Outputs["changes"]; got != float64(1) {
		t.Errorf("plan found %v changes, want 1", got)
	}
	if got := sink.next(t, 10*time.Second); !strings.Contains(got, commit) {
		t.Errorf("the call sent %s, want commit %s", got, commit)
	}
}

// startNATS starts a nats-server process with JetStream.
func startNATS(t *testing.T) string {
	t.Helper()
	bin := need(t, "nats-server", "go install github.com/nats-io/nats-server/v2@v2.15.2")
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("host: %s\nport: %s\njetstream: {store_dir: %q, sync_interval: always}\n", host, port, t.TempDir())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, 20*time.Second, "nats-server to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "nats://" + address
}

const countRule = `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: count}
spec:
  trigger: {source: github, type: push}
  steps:
    - uses: exec.run
      with:
        script: printf '%s\n' "$N" >> "$FILE"
        env: {N: "${{ event.data.n }}", FILE: "FILENAME"}
      onInterrupt: retry
`

func numbered(n int) []byte {
	return fmt.Appendf(nil, `{"ref":"refs/heads/main","n":%d,"repository":{"full_name":"acme/shop"}}`, n)
}

// TestE2ETwoReplicas: each event reaches both replicas on one NATS server, and makes exactly one run.
func TestE2ETwoReplicas(t *testing.T) {
	url := startNATS(t)
	file := filepath.Join(t.TempDir(), "ran")
	rules := githubSource + strings.ReplaceAll(countRule, "FILENAME", file)
	a := serve(t, t.TempDir(), rules, "--nats-url", url)
	b := serve(t, t.TempDir(), rules, "--nats-url", url)
	const n = 40
	ids := map[string]bool{}
	for i := range n {
		for _, s := range []*server{a, b} {
			ids[s.push(string(numbered(i)))] = true
		}
	}
	if len(ids) != n {
		t.Fatalf("%d ids for %d events", len(ids), n)
	}
	for id := range ids {
		if r := a.ended(id + "-count"); r.State != "succeeded" {
			t.Fatalf("run: %+v", r)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\n"); got != n {
		t.Fatalf("%d commands ran for %d events", got, n)
	}
	if got := len(b.runs("rule=count")); got != n {
		t.Fatalf("the other replica lists %d runs, want %d", got, n)
	}
}

// TestE2EKill: whatever was answered 202 before a kill -9 is there afterwards, with exactly one run.
func TestE2EKill(t *testing.T) {
	data := t.TempDir()
	rules := githubSource + `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: count}
spec:
  trigger: {source: github, type: push}
  steps:
    - uses: exec.run
      with: {command: ["true"]}
      onInterrupt: retry
`
	var mu sync.Mutex
	accepted := map[string]bool{}
	next := 0
	for range 20 {
		s := serve(t, data, rules)
		ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 10 * time.Second}
		var senders sync.WaitGroup
		for range 8 {
			senders.Go(func() {
				for {
					mu.Lock()
					next++
					n := next
					mu.Unlock()
					status, id, err := push(client, s.Hooks, numbered(n))
					if err != nil {
						return // the server is gone
					}
					if status == http.StatusAccepted {
						mu.Lock()
						accepted[id] = true
						mu.Unlock()
					}
				}
			})
		}
		<-ctx.Done()
		cancel()
		s.kill()
		senders.Wait()
		client.CloseIdleConnections()
	}
	s := serve(t, data, rules)
	t.Logf("%d events were accepted over 20 lives", len(accepted))
	if len(accepted) < 100 {
		t.Fatalf("only %d events were accepted: the test proves nothing", len(accepted))
	}
	// The log also holds events whose answer nobody heard, so that the number of runs says nothing.
	waitFor(t, 2*time.Minute, "each accepted event's run to end", func() bool {
		ended := map[string]bool{}
		for _, r := range s.runs("rule=count") {
			ended[r.Event] = ended[r.Event] || r.State == "succeeded"
		}
		for id := range accepted {
			if !ended[id] {
				return false
			}
		}
		return true
	})
	seen := map[string]int{}
	for _, r := range s.runs("rule=count") {
		seen[r.Event]++
	}
	lost := 0
	for id := range accepted {
		if seen[id] != 1 {
			lost++
			t.Logf("event %s has %d runs", id, seen[id])
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d accepted events do not have exactly one run", lost, len(accepted))
	}
}
