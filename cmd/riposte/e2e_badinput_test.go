//go:build e2e

package main_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

const countedRule = `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: good}
spec:
  trigger: {source: github, type: push}
  steps:
    - uses: exec.run
      with: {command: ["true"]}
`

// shown is what the API says of an event.
type shown struct {
	Decision *struct {
		Runs []string
		Why  string
	}
}

// decided waits until an event is decided.
func (s *server) decided(id string) shown {
	s.t.Helper()
	var e shown
	waitFor(s.t, time.Minute, "event "+id+" to be decided", func() bool { return s.get("events/"+id, &e) == nil && e.Decision != nil })
	return e
}

// show is what `riposte events show` prints.
func (s *server) show(args ...string) string {
	s.t.Helper()
	out, err := exec.Command(binary(s.t), append([]string{"events", "show", "--data", s.data}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Errorf("events show %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestE2EBadBodies: JSON of any kind is an event, whatever its Content-Type; what can't be parsed is answered 415, whatever
// its Content-Type; and neither is in the way of what comes after it.
func TestE2EBadBodies(t *testing.T) {
	s := serve(t, t.TempDir(), githubSource+countedRule)
	deep := strings.Repeat(`{"a":[`, 5_000) + strings.Repeat("]}", 5_000)
	tests := []struct {
		what, contentType, body string
		status                  int
	}{
		{"nested 10,000 deep", "application/json", deep, 0}, // either, so long as it is decided
		{"nested 10,000 deep and not closed", "application/json", deep[:30_000], 415},
		{"arrays 10,000 deep", "application/json", strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), 0},
		{"invalid UTF-8", "application/json", "{\"a\":\"\xff\xfe\"}", 415},
		{"duplicate keys", "application/json", `{"ref":"refs/heads/a","ref":"refs/heads/main","ref":null}`, 202},
		{"an array", "application/json", `[1,2,3]`, 202},
		{"null", "application/json", `null`, 202},
		{"a text", "application/json", `"x"`, 202},
		{"a number beyond every float", "application/json", `1e999`, 202},
		{"not JSON", "application/json", `ref=main`, 415},
		{"nothing", "application/json", ``, 415},
		{"two documents", "application/json", `{} {}`, 415},
		{"HTML", "text/html", `<html>`, 415},
		{"JSON said to be text", "text/plain", `{"said":"text"}`, 202},
		{"JSON said to be nothing", "", `{"said":"nothing"}`, 202},
		{"JSON in a charset", "application/json; charset=latin1", `{"said":"latin1"}`, 202},
		{"views of other kinds", "application/json", `{"ref":1,"commits":{},"repository":{"full_name":[],"owner":"x"},"before":true}`, 202},
	}
	for _, tt := range tests {
		h := headers("X-GitHub-Event", "push", "X-Hub-Signature-256", sign([]byte(tt.body)), "Content-Type", tt.contentType)
		a := s.send(http.DefaultClient, "github", h, tt.body)
		if a.status != tt.status && (tt.status != 0 || a.status != 202 && a.status != 415) {
			t.Errorf("%s: got %d %s, want %d", tt.what, a.status, a.body, tt.status)
		}
		if a.status != http.StatusAccepted {
			continue
		}
		if e := s.decided(a.id); len(e.Decision.Runs) != 1 {
			t.Errorf("%s: the decision is %+v, want one run", tt.what, e.Decision)
		}
		if out := s.show(a.id); !strings.Contains(out, a.id) {
			t.Errorf("%s: events show prints %s", tt.what, out)
		}
	}
	if r := s.ended(s.push(string(numbered(1))) + "-good"); r.State != "succeeded" {
		t.Errorf("the run after all of them: %+v", r)
	}
}

// TestE2EBadRules: a rule that divides by zero, loops or allocates without end costs its own clause and a bounded time: the
// event is decided, the failure can be seen, and other rules and events go on.
func TestE2EBadRules(t *testing.T) {
	// Which of an evaluation's bounds is met first depends on the machine.
	const bounds = "evaluates more than|takes longer than|makes more than"
	tests := []struct{ name, when, says string }{
		{"divides", "event.data.n / (event.data.n - event.data.n) > 1", "by zero"},
		{"remainder", "event.data.n % (event.data.n - event.data.n) == 1", "zero"},
		{"loops", "all(event.data.list, all(event.data.list, all(event.data.list, # >= 0)))", bounds},
		{"counts", "count(event.data.list, any(event.data.list, count(event.data.list, # > 5000) > 0)) > 0", bounds},
		{"repeats", `len(repeat(event.data.text, 1000000000)) > 0`, bounds},
		{"repeats twice", `len(repeat(repeat(event.data.text, 100000), 100000)) > 0`, bounds},
		{"grows", `len(reduce(event.data.list, #acc + #acc, event.data.text)) > 0`, bounds},
		{"maps", "len(map(event.data.list, map(event.data.list, event.data.list))) > 0", bounds},
	}
	rules := githubSource + countedRule
	for _, tt := range tests {
		rules += fmt.Sprintf(`
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: %q}
spec:
  trigger: {source: github, type: %q}
  when: %q
  steps:
    - uses: exec.run
      with: {command: ["true"]}
`, strings.ReplaceAll(tt.name, " ", "-"), strings.ReplaceAll(tt.name, " ", "-"), tt.when)
	}
	s := serve(t, t.TempDir(), rules)
	body := `{"n":7,"text":"0123456789","list":[0` + strings.Repeat(",1", 899) + `]}`
	before := s.peakMemory()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := strings.ReplaceAll(tt.name, " ", "-")
			body := body + strings.Repeat(" ", i) // an event of its own
			a := s.send(http.DefaultClient, "github", headers("X-GitHub-Event", name, "X-Hub-Signature-256", sign([]byte(body))), body)
			if a.status != http.StatusAccepted {
				t.Fatalf("answered %d %s", a.status, a.body)
			}
			e := s.decided(a.id)
			if len(e.Decision.Runs) != 0 {
				t.Errorf("the runs are %v", e.Decision.Runs)
			}
			if out := s.show(a.id); !strings.Contains(out, "no run") || !strings.Contains(out, name+":") || !regexp.MustCompile(tt.says).MatchString(out) {
				t.Errorf("events show does not tell of it (%s): %s", tt.says, out[:min(len(out), 600)])
			}
			if failed := s.metric("riposte_rule_errors_total", `rule="`+name+`"`); failed < 1 {
				t.Errorf("%v failures are counted", failed)
			}
			if r := s.ended(s.push(string(numbered(i))) + "-good"); r.State != "succeeded" {
				t.Errorf("the next event's run: %+v", r)
			}
		})
	}
	if after := s.peakMemory(); after > before+(512<<20) {
		t.Errorf("the process took %d MiB, and %d MiB before", after>>20, before>>20)
	}
}
