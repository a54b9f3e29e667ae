//go:build e2e

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Failures that other engines are known for, on the whole server.

// TestE2EAnAutomationsOwnPushDoesNotTriggerItselfForEver: a rule commits to the branch whose pushes start it, and nobody thought
// of excluding that. The host delivers every push; the chain ends where the server says, and its end is on record.
func TestE2EAnAutomationsOwnPushDoesNotTriggerItselfForEver(t *testing.T) {
	f := newForge(t, "acme/site", map[string]string{"log": "begun\n"})
	s := serve(t, t.TempDir(), githubSource+`
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: stamp}
spec:
  trigger: {source: github, type: push}
  when: event.git.branch == "main"
  steps:
    - {id: src, uses: git.pull, with: {url: "${{ event.git.cloneURL }}", ref: main}}
    - id: stamp
      uses: exec.run
      with: {script: "echo again >> log", dir: "${{ steps.src.outputs.dir }}"}
    - {id: commit, uses: git.commit, with: {dir: "${{ steps.src.outputs.dir }}", message: Stamp}}
    - {uses: git.push, with: {dir: "${{ steps.src.outputs.dir }}", branch: main, commit: "${{ steps.commit.outputs.commit }}"}}
`)
	f.listen(s.Hooks)
	f.push("by hand", map[string]string{"by-hand": "x"})
	var last runRecord
	waitFor(t, 2*time.Minute, "the chain to end", func() bool {
		for _, r := range s.runs("rule=stamp") {
			if r.State == "refused" {
				last = r
				return true
			}
		}
		return false
	})
	if last.Reason != "Loop" {
		t.Errorf("the last run is %+v", last)
	}
	pushes, all := f.events("push"), s.runs("rule=stamp")
	if len(pushes) != 5 || len(all) != 5 || strings.Count(f.show("main", "log"), "again") != 4 {
		t.Errorf("%d pushes made %d runs, and main has %q", len(pushes), len(all), f.show("main", "log"))
	}
}

// TestE2EAFullQueueNeverAnswersSuccess fills the log with events whose runs can't go on: from then on senders are told to come
// back, and whatever was answered with 202 is done in the end.
func TestE2EAFullQueueNeverAnswersSuccess(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "open")
	s := serve(t, t.TempDir(), githubSource+`
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: slow}
spec:
  trigger: {source: github, type: push}
  concurrency: {group: slow, policy: queue}
  steps:
    - uses: exec.run
      with: {script: "while ! test -e \"$GATE\"; do sleep 0.1; done", env: {GATE: "`+gate+`"}}
      timeout: 10m
`, "--config", configure(t, "limits: {maxBodyBytes: 1MiB}\neventLog: {maxBytes: 16MiB}\n"))
	filler := strings.Repeat("x", 250<<10)
	body := func(n int) []byte {
		text, _ := json.Marshal(map[string]any{
			"ref": "refs/heads/main", "n": n, "filler": filler, "repository": map[string]any{"full_name": "acme/shop"},
		})
		return text
	}
	accepted, refused := map[int]string{}, map[int]bool{}
	for n := 0; len(refused) < 5; n++ {
		if n > 500 {
			t.Fatal("the log does not fill up")
		}
		status, id, err := push(http.DefaultClient, s.Hooks, body(n))
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusAccepted:
			accepted[n] = id
		case status == http.StatusServiceUnavailable:
			refused[n] = true
		default:
			t.Fatalf("event %d was answered %d", n, status)
		}
	}
	t.Logf("%d events fitted", len(accepted))
	if len(accepted) < 5 {
		t.Fatal("next to nothing fitted: the test proves nothing")
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range refused { // their senders come back
		waitFor(t, 2*time.Minute, "room for a refused event", func() bool {
			status, id, err := push(http.DefaultClient, s.Hooks, body(n))
			accepted[n] = id
			return err == nil && status == http.StatusAccepted
		})
	}
	for n, id := range accepted {
		if r := s.finished(id, "slow"); r.State != "succeeded" {
			t.Errorf("event %d was accepted, and its run is %+v", n, r)
		}
	}
}

// TestE2EKillInTheMiddleOfVerification: the repair is done and being verified when the server is killed. It is not done again,
// and verified to the end, which is told once.
func TestE2EKillInTheMiddleOfVerification(t *testing.T) {
	var healthy atomic.Bool
	var looks atomic.Int64
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		looks.Add(1)
		answerQuery(w, map[bool]string{false: "0", true: "1"}[healthy.Load()])
	}))
	t.Cleanup(prometheus.Close)
	sink, data, repairs := collect(t), t.TempDir(), filepath.Join(t.TempDir(), "repairs")
	rules := githubSource + alertmanagerSource + oncall(t, sink) + `
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: heal}
spec:
  trigger: {source: alertmanager, type: alert.firing}
  steps:
    - id: repair
      uses: exec.run
      with: {script: "echo repaired >> \"$REPAIRS\"", env: {REPAIRS: "` + repairs + `"}}
  verify:
    uses: prometheus.query
    with: {query: "up{service='shop'}"}
    expect: probe.outputs.value == 1
    every: 1s
    for: 3s
    within: 2m
  finally:
    - uses: notify.send
      with: {to: oncall, text: "the run has ${{ run.state }}"}
`
	config := configure(t, "prometheus: {url: \""+prometheus.URL+"\"}\n")
	s := serve(t, data, rules, "--config", config)
	alert := fmt.Sprintf(`{"version":"4","groupKey":"x","status":"firing","receiver":"riposte","alerts":[{"status":"firing",
"labels":{"alertname":"Down","service":"shop"},"startsAt":%q,"fingerprint":"f1"}]}`, time.Now().UTC().Format(time.RFC3339))
	if status := postAlerts(t, s.Hooks, alert); status != http.StatusAccepted {
		t.Fatalf("the alert was answered %d", status)
	}
	seen := func(more int64) {
		from := looks.Load()
		waitFor(t, time.Minute, "looks at the service", func() bool { return looks.Load() >= from+more })
	}
	seen(2)
	s.kill()
	s = serve(t, data, rules, "--config", config)
	seen(1)
	healthy.Store(true)
	seen(1)
	s.kill() // once more, while it is to hold
	s = serve(t, data, rules, "--config", config)
	var r runRecord
	waitFor(t, time.Minute, "the run to end", func() bool {
		all := s.runs("rule=heal")
		return len(all) == 1 && over(all[0]) && s.get("runs/"+all[0].ID, &r) == nil
	})
	if r.State != "succeeded" {
		t.Errorf("the run is %+v", r)
	}
	if text, _ := os.ReadFile(repairs); string(text) != "repaired\n" {
		t.Errorf("the repairs are %q", text)
	}
	if told := sink.next(t, time.Minute); !strings.Contains(told, "the run has succeeded") {
		t.Errorf("people were told %s", told)
	}
	if n := len(s.runs("rule=heal")); n != 1 || len(sink.got) != 0 {
		t.Errorf("there are %d runs, and people were told %d times more", n, len(sink.got))
	}
}
