package app_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/run"
)

const secret = "app-test-secret-0123456789"

// server is a whole server in this process, on a real embedded store.
type server struct {
	t      *testing.T
	data   string
	rules  string // directory
	listen client.Listen
	stop   func() error
	log    *lockedBuffer
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

const githubSource = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: hook}]}
---
`

func ruleDoc(name, spec string) string {
	return "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: " + name + "}\nspec:\n  trigger: {source: github, type: push}\n" + spec + "---\n"
}

// start runs a server on data with the rules; actions are added to the real ones.
func start(t *testing.T, data, rules string, actions ...action.Definition) *server {
	t.Helper()
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(rules)
	c := testConfig(t, data)
	c.Rules.Dirs = []string{dir}
	s := launch(t, c, actions...)
	s.rules = dir
	return s
}

func testConfig(t *testing.T, data string) *config.Config {
	t.Helper()
	c := config.Default()
	c.HooksListen, c.AdminListen, c.HealthListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.EventLog.ReserveBytes = data, 1<<20
	c.Engine.StopTimeout = 200 * time.Millisecond
	t.Setenv("APP_TEST_SECRET", secret)
	c.Secrets = map[string]config.Secret{"hook": {Env: "APP_TEST_SECRET"}}
	return c
}

func launch(t *testing.T, c *config.Config, actions ...action.Definition) *server {
	t.Helper()
	return launchWith(t, c, func(r *app.Registries) {
		for _, d := range actions {
			r.Actions[d.Name] = d
		}
	})
}

func launchWith(t *testing.T, c *config.Config, extend func(*app.Registries)) *server {
	t.Helper()
	return launchOptions(t, app.Options{Config: c, Extend: extend})
}

// launchOptions starts a server with more than a configuration.
func launchOptions(t *testing.T, o app.Options) *server {
	t.Helper()
	s := &server{t: t, data: o.Config.Data, log: &lockedBuffer{}}
	started := make(chan client.Listen, 1)
	o.Version, o.LogOutput, o.Started = "test", s.log, func(l client.Listen) { started <- l }
	a, err := app.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	var once sync.Once
	s.stop = func() (err error) {
		once.Do(func() {
			cancel()
			err = <-ended
		})
		return err
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	select {
	case s.listen = <-started:
	case err := <-ended:
		ended <- err
		t.Fatal("server ended", err)
	}
	return s
}

func (s *server) write(rules string) {
	s.t.Helper()
	name := filepath.Join(s.rules, "rules.yaml")
	if err := os.WriteFile(name+".new", []byte(rules), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		s.t.Fatal(err)
	}
}

// wait polls what the server tells over HTTP.
func (s *server) wait(what string, done func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("waited for %s", what)
		}
	}
}

type answer struct {
	Status    int
	ID        string
	Duplicate bool
	Retried   []string
	Error     string
}

func (s *server) push(body string) answer { s.t.Helper(); return s.deliver("push", body) }

// deliver posts an event of GitHub's.
func (s *server) deliver(kind, body string) answer {
	s.t.Helper()
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	req, err := http.NewRequest(http.MethodPost, "http://"+s.listen.Hooks+"/hooks/github", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-GitHub-Event", kind)
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{Status: resp.StatusCode}
	if err := json.Unmarshal(text, &a); err != nil {
		s.t.Fatalf("answer %q: %v", text, err)
	}
	return a
}

func (s *server) get(path string, into any) bool {
	s.t.Helper()
	resp, err := http.Get("http://" + s.listen.Admin + "/api/v1/" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
}

func (s *server) ended(id string) run.Run {
	s.t.Helper()
	var r run.Run
	s.wait("run "+id, func() bool { return s.get("runs/"+id, &r) && r.State.Ended() })
	return r
}

func (s *server) ready() (int, string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.listen.Health + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

type noParams struct {
	Text string `yaml:"text,omitempty"`
}

// probe is an action whose attempts the test watches and answers.
func probe(name string, retry bool, do func(ctx context.Context, call *action.Call) error) action.Definition {
	return action.Definition{Name: name, Params: &noParams{}, RetryInterrupted: retry, Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
		return action.Outputs{}, do(ctx, call)
	}}
}

func TestABadChangeOfRulesChangesNothing(t *testing.T) {
	s := start(t, t.TempDir(), githubSource+ruleDoc("one", "  steps: [{uses: exec.run, with: {command: [\"true\"]}}]\n"))
	if r := s.ended(s.push(`{"n":1}`).ID + "-one"); r.State != run.Succeeded {
		t.Fatalf("run: %+v", r)
	}
	var rules struct {
		Items []struct{ Name string }
		Error string
	}
	s.write("kind: [")
	s.wait("the failure to show", func() bool { return s.get("rules", &rules) && rules.Error != "" })
	if len(rules.Items) != 1 || !strings.Contains(rules.Error, "rules.yaml:") {
		t.Errorf("rules: %+v", rules)
	}
	if status, text := s.ready(); status != http.StatusOK {
		t.Errorf("a bad change made the server unready: %s", text)
	}
	if r := s.ended(s.push(`{"n":2}`).ID + "-one"); r.State != run.Succeeded {
		t.Errorf("the old rule no longer works: %+v", r)
	}
	s.write(githubSource + ruleDoc("two", "  steps: [{uses: exec.run, with: {command: [\"true\"]}}]\n"))
	rules.Error = ""
	s.wait("the new rules", func() bool { return s.get("rules", &rules) && len(rules.Items) == 1 && rules.Items[0].Name == "two" })
	if r := s.ended(s.push(`{"n":3}`).ID + "-two"); r.State != run.Succeeded {
		t.Errorf("the new rule does not work: %+v", r)
	}
}

func TestARedeliveryRevivesAFailedRunFromTheFailedStep(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	fails := true
	count := func(_ context.Context, call *action.Call) error {
		mu.Lock()
		defer mu.Unlock()
		calls[call.StepID]++
		if call.StepID == "b" && fails {
			return fmt.Errorf("not yet")
		}
		return nil
	}
	s := start(t, t.TempDir(), githubSource+ruleDoc("r", "  steps: [{id: a, uses: count}, {id: b, uses: count}]\n"), probe("count", false, count))
	first := s.push(`{"n":1}`)
	if r := s.ended(first.ID + "-r"); r.State != run.Failed || r.Reason != run.ReasonStepFailed {
		t.Fatalf("run: %+v", r)
	}
	mu.Lock()
	fails = false
	mu.Unlock()
	again := s.push(`{"n":1}`)
	if again.ID != first.ID || !again.Duplicate || len(again.Retried) != 1 {
		t.Fatalf("redelivery was answered %+v", again)
	}
	var r run.Run
	s.wait("the second attempt", func() bool { return s.get("runs/"+first.ID+"-r", &r) && r.State == run.Succeeded })
	if r.Attempt != 2 || calls["a"] != 1 || calls["b"] != 2 {
		t.Errorf("attempt %d, calls %v: want a once, b twice", r.Attempt, calls)
	}
	if third := s.push(`{"n":1}`); !third.Duplicate || len(third.Retried) != 0 {
		t.Errorf("a redelivery of what succeeded was answered %+v", third)
	}
}

func TestAStopInterruptsAndAStartResumes(t *testing.T) {
	data := t.TempDir()
	running := make(chan string, 10)
	var mu sync.Mutex
	block := true
	hang := func(ctx context.Context, call *action.Call) error {
		running <- call.StepID
		mu.Lock()
		wait := block
		mu.Unlock()
		if wait {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	rules := githubSource + ruleDoc("retried", "  steps: [{id: again, uses: hang, onInterrupt: retry}]\n") + ruleDoc("failed", "  steps: [{id: once, uses: hang, onInterrupt: fail}]\n")
	s := start(t, data, rules, probe("hang", false, hang))
	id := s.push(`{"n":1}`).ID
	<-running
	<-running
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	block = false
	mu.Unlock()
	s = start(t, data, rules, probe("hang", false, hang))
	if r := s.ended(id + "-retried"); r.State != run.Succeeded || r.Steps[0].Attempt != 2 || r.Steps[0].Interruptions != 1 {
		t.Errorf("the run that may be retried: %+v", r)
	}
	if r := s.ended(id + "-failed"); r.State != run.Failed || r.Reason != run.ReasonInterrupted {
		t.Errorf("the run that may not: %+v", r)
	}
	if again := s.push(`{"n":1}`); again.ID != id || !again.Duplicate {
		t.Errorf("after a restart the event is not known: %+v", again)
	}
}

func TestAPanicInAnActionFailsItsStepAlone(t *testing.T) {
	s := start(t, t.TempDir(), githubSource+ruleDoc("r", "  steps: [{uses: boom}]\n"), probe("boom", false, func(context.Context, *action.Call) error { panic("boom") }))
	r := s.ended(s.push(`{"n":1}`).ID + "-r")
	if r.State != run.Failed || !strings.Contains(r.Message, "panicked: boom") {
		t.Errorf("run: %+v", r)
	}
}

func TestASecretThatDoesNotResolveStopsItsSourceAlone(t *testing.T) {
	s := start(t, t.TempDir(), githubSource)
	if err := os.Unsetenv("APP_TEST_SECRET"); err != nil {
		t.Fatal(err)
	}
	if a := s.push(`{"n":1}`); a.Status != http.StatusServiceUnavailable || strings.Contains(a.Error, secret) {
		t.Errorf("answer %+v", a)
	}
	resp, err := http.Post("http://"+s.listen.Hooks+"/hooks/github", "application/json", strings.NewReader(`{"n":2}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a request without a signature: %d; nothing could have proved it", resp.StatusCode)
	}
	status, text := s.ready()
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "[-] secrets: secret hook: no value") || strings.Contains(text, "APP_TEST_SECRET") {
		t.Errorf("ready: %d\n%s", status, text)
	}
}

func TestRetriesAndCancel(t *testing.T) {
	started := make(chan struct{}, 10)
	n := 0
	flaky := func(context.Context, *action.Call) error {
		if n++; n < 3 {
			return fmt.Errorf("try %d", n)
		}
		return nil
	}
	forever := func(ctx context.Context, _ *action.Call) error {
		started <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s := start(t, t.TempDir(), githubSource+
		ruleDoc("flaky", "  steps: [{id: s, uses: flaky, retry: {attempts: 3, backoff: 10ms}}]\n")+
		ruleDoc("forever", "  steps: [{id: s, uses: forever}]\n"), probe("flaky", false, flaky), probe("forever", false, forever))
	id := s.push(`{"n":1}`).ID
	if r := s.ended(id + "-flaky"); r.State != run.Succeeded || r.Steps[0].Attempt != 3 {
		t.Errorf("flaky: %+v", r)
	}
	<-started
	resp, err := http.Post("http://"+s.listen.Admin+"/api/v1/runs/"+id+"-forever/cancel", "application/json", http.NoBody)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("cancel: %v %v", resp, err)
	}
	resp.Body.Close()
	if r := s.ended(id + "-forever"); r.State != run.Cancelled || r.Steps[0].State != run.StepCancelled {
		t.Errorf("forever: %+v", r)
	}
}

func TestNoSecretShows(t *testing.T) {
	data := t.TempDir()
	leak := "  steps:\n    - id: s\n      uses: exec.run\n      with:\n        script: 'echo \"$TOKEN\"; echo \"$TOKEN\" >&2; false'\n        secretEnv: {TOKEN: {secret: hook}}\n"
	s := start(t, data, githubSource+ruleDoc("leak", leak))
	id := s.push(`{"n":1}`).ID
	r := s.ended(id + "-leak")
	text, _ := json.Marshal(r)
	if strings.Contains(string(text), secret) {
		t.Errorf("the run shows it: %s", text)
	}
	if strings.Contains(s.log.String(), secret) {
		t.Error("the log shows it")
	}
	if !strings.Contains(string(text), "***") {
		t.Errorf("nothing was redacted: the test proves nothing: %s", text)
	}
}
