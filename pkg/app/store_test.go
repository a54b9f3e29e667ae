package app_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
)

// storeConfig is that of a server on data; rules is a directory.
func storeConfig(t *testing.T, data, rules string) *config.Config {
	t.Helper()
	t.Setenv("APP_TEST_SECRET", secret)
	c := config.Default()
	c.HooksListen, c.AdminListen, c.HealthListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.Rules.Dirs, c.EventLog.ReserveBytes = data, []string{rules}, 1<<20
	c.Engine.StopTimeout = 200 * time.Millisecond
	c.Secrets = map[string]config.Secret{"hook": {Env: "APP_TEST_SECRET"}}
	return c
}

// startStore runs a server whose store the test maltreats.
func startStore(t *testing.T, data, rules string, reserve int64, actions ...action.Definition) *server {
	t.Helper()
	s := &server{t: t, data: data, rules: t.TempDir(), log: &lockedBuffer{}}
	s.write(rules)
	c := storeConfig(t, data, s.rules)
	c.EventLog.ReserveBytes = reserve
	started := make(chan client.Listen, 1)
	a, err := app.New(t.Context(), app.Options{
		Config: c, Version: "test", LogOutput: s.log, Started: func(l client.Listen) { started <- l },
		Extend: func(r *app.Registries) {
			for _, d := range actions {
				r.Actions[d.Name] = d
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	s.listen = <-started
	return s
}

// smallDisk mounts a filesystem of the size, on which a store can run out of space.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("needs root and the right to mount a tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast takes space away; the function returned gives it back.
func ballast(t *testing.T, dir string, bytes int) func() {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	if err := os.WriteFile(name, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// hook posts a large push and returns the answer with its Retry-After.
func (s *server) hook(n int) (answer, string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"n":%d,"pad":%q}`, n, strings.Repeat("x", 200<<10))
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.listen.Hooks+"/hooks/github", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.t.Fatal(err)
	}
	return a, resp.Header.Get("Retry-After")
}

// calls counts an action's calls by run.
type calls struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *calls) action(name string) action.Definition {
	c.n = map[string]int{}
	return probe(name, false, func(_ context.Context, call *action.Call) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n[call.RunID]++
		return nil
	})
}

func (c *calls) of(run string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[run]
}

// The disk fills up while events come. Whatever was answered 202 must be there with its one run, and the server must work
// again, without a restart, once there is space: whether the reserve kept the store from harm, or the disk ran out under it.
func TestADiskThatFillsUp(t *testing.T) {
	for name, reserve := range map[string]int64{"down to the reserve": 12 << 20, "to the last byte": 1} {
		t.Run(name, func(t *testing.T) {
			data := smallDisk(t, 64<<20)
			free := ballast(t, data, 44<<20)
			acted := &calls{}
			s := startStore(t, data, githubSource+ruleDoc("r", "  steps: [{uses: act}]\n"), reserve, acted.action("act"))
			accepted, refused := fill(t, s)
			status, text := s.ready()
			if status != http.StatusServiceUnavailable || !strings.Contains(text, "[-] store: ") {
				t.Errorf("with a full disk ready says %d\n%s", status, text)
			}
			free()
			for n := range refused { // their senders repeat
				s.wait("a refused event to be taken", func() bool {
					a, _ := s.hook(n)
					accepted[n] = a.ID
					return a.Status == http.StatusAccepted
				})
			}
			s.wait("the server to be ready", func() bool {
				status, _ := s.ready()
				return status == http.StatusOK
			})
			for n, id := range accepted {
				s.hasOneRun(n, id, acted)
			}
		})
	}
}

// fill posts events until several in a row were refused, and returns the ids of those that were accepted, and the others.
func fill(t *testing.T, s *server) (accepted map[int]string, refused map[int]bool) {
	t.Helper()
	accepted, refused = map[int]string{}, map[int]bool{}
	for n := 0; len(refused) < 3; n++ {
		if n > 1000 {
			t.Fatal("the disk does not fill up")
		}
		a, after := s.hook(n)
		switch a.Status {
		case http.StatusAccepted:
			accepted[n] = a.ID
		case http.StatusServiceUnavailable:
			if refused[n] = true; after == "" {
				t.Error("503 without Retry-After")
			}
		default:
			t.Fatalf("answer %+v", a)
		}
	}
	if len(accepted) < 5 {
		t.Fatalf("only %d events fitted", len(accepted))
	}
	return accepted, refused
}

func (s *server) hasOneRun(n int, id string, acted *calls) {
	s.t.Helper()
	s.ended(id + "-r")
	var runs struct{ Items []struct{ ID string } }
	if !s.get("runs?event="+id, &runs) || len(runs.Items) != 1 {
		s.t.Errorf("event %d has runs %+v", n, runs.Items)
	}
	if got := acted.of(id + "-r"); got != 1 {
		s.t.Errorf("event %d: its step was run %d times", n, got)
	}
	if a, _ := s.hook(n); a.ID != id || !a.Duplicate {
		s.t.Errorf("event %d is not known any more: %+v", n, a)
	}
}

// newError makes a server that must not start, and returns why.
func newError(t *testing.T, data string) error {
	t.Helper()
	rules := t.TempDir()
	if err := os.WriteFile(filepath.Join(rules, "r.yaml"), []byte(githubSource), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := app.New(t.Context(), app.Options{Config: storeConfig(t, data, rules), LogOutput: &lockedBuffer{}})
	if err == nil {
		t.Fatal("it starts")
	}
	return err
}

func TestAStoreThatCanNotBeUsedIsNamedWithAHint(t *testing.T) {
	t.Run("a second process", func(t *testing.T) {
		data := t.TempDir()
		start(t, data, githubSource)
		says(t, newError(t, data), data, fmt.Sprint("in use by process ", os.Getpid()), "--data")
	})
	t.Run("a newer version", func(t *testing.T) {
		data := t.TempDir()
		if err := os.WriteFile(filepath.Join(data, "format.json"), []byte(`{"format":99}`), 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, newError(t, data), data, "format 99", "use the newer version")
	})
	t.Run("read-only", func(t *testing.T) {
		data := smallDisk(t, 16<<20)
		if err := unix.Mount("", data, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skipf("needs the right to mount read-only: %v", err)
		}
		says(t, newError(t, data), data, "read-only", "--data")
	})
	t.Run("read-only after it was used", func(t *testing.T) {
		data := smallDisk(t, 64<<20)
		s := start(t, data, githubSource)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", data, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skipf("needs the right to mount read-only: %v", err)
		}
		says(t, newError(t, data), data, "read-only", "--data")
	})
}

func says(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v: a time-out says nothing to a person", err)
	}
}
