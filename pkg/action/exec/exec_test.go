package exec_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/exec"
	"github.com/riposte-dev/riposte/pkg/command"
)

func definition(t *testing.T, outputBytes int64) action.Definition {
	t.Helper()
	runner, err := command.New(command.Options{Dir: t.TempDir(), Env: []string{"PATH"}, Grace: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
	return exec.Definitions(exec.Options{Runner: runner, OutputBytes: outputBytes})[0]
}

func TestRun(t *testing.T) {
	const hostile = `$(touch pwned); "'` + "`touch pwned`"
	noFile := func(t *testing.T, call *action.Call) {
		t.Cleanup(func() {
			if _, err := os.Stat(filepath.Join(call.Dir, "pwned")); err == nil {
				t.Error("text of an event was run")
			}
		})
	}
	secret := map[string]action.SecretRef{"TOKEN": {Secret: "token"}}
	actiontest.Run(t, definition(t, 0), []actiontest.Case{
		{Name: "command", Params: &exec.Params{Command: []string{"printf", "%s\n", hostile}}, Prepare: noFile,
			Outputs: action.Outputs{"stdout": hostile, "stderr": "", "exitCode": int64(0), "json": nil}},
		{Name: "text in env is not interpreted", Params: &exec.Params{Script: `printf '%s\n' "$TEXT"`, Env: map[string]string{"TEXT": hostile}}, Prepare: noFile,
			Outputs: action.Outputs{"stdout": hostile}},
		{Name: "one line break is trimmed", Params: &exec.Params{Script: `printf 'a\n\n'`}, Outputs: action.Outputs{"stdout": "a\n"}},
		{Name: "json", Params: &exec.Params{Script: `echo '{"n": 3}'`}, Outputs: action.Outputs{"json": map[string]any{"n": int64(3)}}},
		{Name: "broken json", Params: &exec.Params{Script: `echo '{"n": '`}, Outputs: action.Outputs{"json": nil}},
		{Name: "stdin", Params: &exec.Params{Command: []string{"cat"}, Stdin: "hello"}, Outputs: action.Outputs{"stdout": "hello"}},
		{Name: "secret", Params: &exec.Params{Script: `test "$TOKEN" = s3cr3t-value`, SecretEnv: secret}, Secrets: map[string]string{"token": "s3cr3t-value"}},
		{Name: "secret in what it says", Params: &exec.Params{Script: `echo "bad token $TOKEN" >&2; exit 1`, SecretEnv: secret}, Secrets: map[string]string{"token": "s3cr3t-value"},
			Want: actiontest.Fails, ErrorHas: []string{"bad token ***"}},
		{Name: "huge script", Params: &exec.Params{Script: "true #" + strings.Repeat("x", 1<<17)}, Want: actiontest.Permanent, ErrorHas: []string{"script has"}},
		{Name: "output limit", Params: &exec.Params{Script: "echo 123456", OutputLimit: 3}, Outputs: action.Outputs{"stdout": "123"}},
		{Name: "unknown secret", Params: &exec.Params{Script: "true", SecretEnv: secret}, Want: actiontest.Permanent, ErrorHas: []string{"secretEnv.TOKEN"}},
		{Name: "failure", Params: &exec.Params{Script: "echo bad >&2; exit 3"}, Want: actiontest.Fails, ErrorHas: []string{"exit status 3", "bad"}},
		{Name: "the end of long errors", Params: &exec.Params{Script: "head -c 200000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1"},
			Want: actiontest.Fails, ErrorHas: []string{"the end"}},
		{Name: "unset variable", Params: &exec.Params{Script: "echo $NOT_THERE"}, Want: actiontest.Fails},
		{Name: "not found", Params: &exec.Params{Command: []string{"no-such-program-here"}}, Want: actiontest.Permanent},
		{Name: "not found by the shell", Params: &exec.Params{Script: "no-such-program-here"}, Want: actiontest.Permanent},
		{Name: "not executable", Params: &exec.Params{Command: []string{"./plain"}}, Want: actiontest.Permanent, Prepare: func(t *testing.T, call *action.Call) {
			if err := os.WriteFile(filepath.Join(call.Dir, "plain"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			call.Params = &exec.Params{Command: []string{filepath.Join(call.Dir, "plain")}}
		}},
		{Name: "no directory", Params: &exec.Params{Script: "true", Dir: "missing"}, Want: actiontest.Permanent},
		{Name: "nothing", Params: &exec.Params{}, Want: actiontest.Permanent},
		{Name: "both", Params: &exec.Params{Script: "true", Command: []string{"true"}}, Want: actiontest.Permanent},
		{Name: "NUL", Params: &exec.Params{Script: "true", Env: map[string]string{"A": "\x00"}}, Want: actiontest.Permanent},
	})
}

func TestOutputCap(t *testing.T) {
	actiontest.Run(t, definition(t, 16), []actiontest.Case{{
		Name: "cut", Params: &exec.Params{Script: "printf '%020d' 7"},
		Check: func(t *testing.T, out action.Outputs, log string, _ error) {
			if text, _ := out["stdout"].(string); text != strings.Repeat("0", 16) {
				t.Errorf("stdout is %q, want its first 16 bytes", text)
			}
			if errs, _ := out["stderr"].(string); !strings.Contains(errs, "4 bytes of output are not kept") {
				t.Errorf("stderr says nothing of the cut: %q", errs)
			}
			if !strings.Contains(log, "00000000000000000007") {
				t.Errorf("the log is cut: %q", log)
			}
		},
	}})
}

func TestLeftBehind(t *testing.T) {
	actiontest.Run(t, definition(t, 0), []actiontest.Case{{
		Name: "child", Params: &exec.Params{Script: "sleep 1000 >/dev/null 2>&1 & echo $!"},
		Check: func(t *testing.T, out action.Outputs, _ string, _ error) { gone(t, out["stdout"].(string)) },
	}})
}

// TestCancel cancels a script that ignores TERM once it says that it is ready.
func TestCancel(t *testing.T) {
	ready := &signal{cancel: make(chan struct{})}
	actiontest.Run(t, definition(t, 0), []actiontest.Case{{
		Name: "TERM is ignored", Params: &exec.Params{Script: `trap "" TERM; echo $$; while :; do sleep 0.1; done`},
		Prepare: func(_ *testing.T, call *action.Call) { call.Log = ready },
		Cancel:  ready.cancel,
		Check:   func(t *testing.T, _ action.Outputs, _ string, _ error) { gone(t, ready.text) },
	}})
}

// signal closes cancel at the first line.
type signal struct {
	cancel chan struct{}
	once   sync.Once
	text   string
}

func (s *signal) Write(p []byte) (int, error) {
	s.once.Do(func() { s.text = string(p); close(s.cancel) })
	return len(p), nil
}

func gone(t *testing.T, text string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if syscall.Kill(pid, 0) != nil || zombie(pid) {
			return
		}
	}
	t.Errorf("process %d is left running", pid)
}

// zombie reports a dead process that init has yet to reap.
func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

func TestCheck(t *testing.T) {
	def := definition(t, 0)
	for _, c := range []struct {
		name string
		p    exec.Params
		ok   bool
	}{
		{"templated", exec.Params{}, true},
		{"script", exec.Params{Script: "true"}, true},
		{"both", exec.Params{Script: "true", Command: []string{"true"}}, false},
		{"output limit", exec.Params{OutputLimit: -1}, false},
	} {
		if err := def.Check(&c.p); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTarget(t *testing.T) {
	def := definition(t, 0)
	for _, target := range []string{"", "shop"} {
		if got := def.Target(&action.Call{Params: &exec.Params{Command: []string{"true"}, Target: target}}); got != target {
			t.Errorf("target %q, want %q", got, target)
		}
	}
}
