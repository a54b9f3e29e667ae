package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/source"
)

// killer is a preset that ends the process when it reads a certain event, as a fatal error of the runtime would.
type killer struct{}

func (killer) Verify(*source.Request) error { return nil }
func (killer) Split(r *source.Request) ([]source.Delivery, error) {
	return []source.Delivery{{Key: string(r.Body), Type: "event", Body: r.Body}}, nil
}
func (killer) Normalise(e *event.Event) {
	if string(e.Body) == `"die"` {
		os.Exit(9)
	}
}

const killerRules = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: killer}
spec: {type: killer}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: r}
spec:
  trigger: {source: killer}
  steps: [{uses: exec.run, with: {command: ["true"]}}]
`

// TestMain is the server that an event kills, when this test starts itself again.
func TestMain(m *testing.M) {
	dir := os.Getenv("APP_TEST_KILLER")
	if dir == "" {
		os.Exit(m.Run())
	}
	c := config.Default()
	c.HooksListen, c.AdminListen, c.HealthListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.Rules.Dirs, c.EventLog.ReserveBytes = filepath.Join(dir, "data"), []string{filepath.Join(dir, "rules")}, 1<<20
	a, err := app.New(context.Background(), app.Options{
		Config: c, LogOutput: os.Stderr,
		Started: func(l client.Listen) { _ = json.NewEncoder(os.Stdout).Encode(l) },
		Extend: func(r *app.Registries) {
			r.Sources["killer"] = source.Type{Name: "killer", Spec: &struct{}{}, New: func(func(any) error, source.Env) (source.Source, error) { return killer{}, nil }}
		},
	})
	if err == nil {
		err = a.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// startKiller starts the process; wait returns its end.
func startKiller(t *testing.T, dir string) (l client.Listen, wait func() int, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "APP_TEST_KILLER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan() {
		_ = json.Unmarshal(lines.Bytes(), &l)
	}
	wait = func() int {
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
	return l, wait, func() { _ = cmd.Process.Kill() }
}

func TestAnEventThatKillsTheProcessIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rules", "r.yaml"), []byte(killerRules), 0o600); err != nil {
		t.Fatal(err)
	}
	post := func(l client.Listen, body string) string {
		resp, err := http.Post("http://"+l.Hooks+"/hooks/killer", "application/json", strings.NewReader(body))
		if err != nil {
			return "" // it was fast to die
		}
		defer resp.Body.Close()
		var a answer
		_ = json.NewDecoder(resp.Body).Decode(&a)
		return a.ID
	}
	l, wait, kill := startKiller(t, dir)
	post(l, `"die"`)
	id := event.ID("killer", `"die"`)
	deaths := 1
	for wait() == 9 {
		if l, wait, kill = startKiller(t, dir); deaths > 5 {
			t.Fatal("it kills the process again and again")
		}
		s := &server{t: t, listen: l, log: &lockedBuffer{}}
		if quarantined(s, id) {
			break
		}
		deaths++
	}
	defer func() {
		kill()
		wait()
	}()
	t.Logf("the process died %d times", deaths)
	if deaths < 2 || deaths > 3 {
		t.Errorf("the process died %d times before the event was set aside", deaths)
	}
	s := &server{t: t, listen: l, log: &lockedBuffer{}}
	if x := s.explained(id, ""); x.State != explain.Quarantined || !strings.Contains(x.Note, "nothing is evaluated") || len(x.Rules) > 0 {
		t.Errorf("explained as %+v", x)
	}
	if r := s.ended(post(l, `"live"`) + "-r"); r.State != "succeeded" {
		t.Errorf("another event's run: %+v", r)
	}
}

// quarantined waits until the event is set aside, or the process has died of it.
func quarantined(s *server, id string) bool {
	for {
		resp, err := http.Get("http://" + s.listen.Admin + "/api/v1/events/" + id)
		if err != nil {
			return false
		}
		var e struct{ Decision *struct{ Why string } }
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if err == nil && e.Decision != nil {
			return strings.Contains(e.Decision.Why, "quarantined")
		}
	}
}
