package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func newRunner(t testing.TB) *Runner {
	t.Helper()
	return open(t, t.TempDir())
}

func open(t testing.TB, dir string) *Runner {
	t.Helper()
	r, err := New(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func shell(script string) Cmd { return Cmd{Path: "sh", Args: []string{"-c", script}} }

// said runs a script and returns what it printed.
func said(t *testing.T, r *Runner, c Cmd) string {
	t.Helper()
	out := &Head{Limit: 1 << 16}
	c.Stdout = out
	if _, err := r.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func alive(pid int) bool { return startTime(pid) != 0 }

func linux(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("this needs Linux's /proc")
	}
}

func TestOutcomes(t *testing.T) {
	r := newRunner(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cmd  Cmd
		code int
		is   error
		text string
	}{
		{"success", shell("exit 0"), 0, nil, ""},
		{"exit code", shell("exit 3"), 3, nil, "exit status 3"},
		{"signal", shell("kill -9 $$"), -1, nil, "ended by signal killed"},
		{"unknown program", Cmd{Path: "no-such-program"}, -1, exec.ErrNotFound, "start no-such-program"},
		{"no name", Cmd{}, -1, exec.ErrNotFound, ""},
		{"missing file", Cmd{Path: "/no/such/program"}, -1, fs.ErrNotExist, ""},
		{"not executable", Cmd{Path: plain}, -1, fs.ErrPermission, ""},
		{"missing directory", Cmd{Path: "sh", Dir: "/no/such/dir"}, -1, fs.ErrNotExist, "/no/such/dir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := r.Run(t.Context(), tt.cmd)
			if res.ExitCode != tt.code {
				t.Errorf("exit code %d, want %d", res.ExitCode, tt.code)
			}
			if (err == nil) != (tt.code == 0) || tt.is != nil && !errors.Is(err, tt.is) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v %q", err, tt.is, tt.text)
			}
			var exit *ExitError
			if ran := tt.is == nil && tt.code != 0; errors.As(err, &exit) != ran {
				t.Errorf("%v is an ExitError: %t, want %t", err, !ran, ran)
			}
		})
	}
	if n := len(r.register.alive); n != 0 {
		t.Errorf("%d children are registered after their end", n)
	}
}

func TestEnvironmentIsAnAllowList(t *testing.T) {
	t.Setenv("RIPOSTE_TEST_SECRET", "hunter2")
	t.Setenv("TZ", "Europe/Vienna")
	r := newRunner(t)
	env := said(t, r, Cmd{Path: "env", Env: []string{"GIVEN=1", "HOME=/given", Marker + "=forged"}})
	for _, want := range []string{"TZ=Europe/Vienna\n", "GIVEN=1\n", "HOME=/given\n", Marker + "=" + r.register.instance + "\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("%q is missing in %q", want, env)
		}
	}
	if strings.Contains(env, "hunter2") || strings.Contains(env, "forged") || strings.Count(env, "HOME=") != 1 {
		t.Errorf("the environment is %q", env)
	}
}

func TestProgramIsFoundOnTheChildsPath(t *testing.T) {
	r := newRunner(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("#!/bin/sh\necho mine\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := said(t, r, Cmd{Path: "mine", Env: []string{"PATH=" + dir}}); got != "mine\n" {
		t.Errorf("said %q", got)
	}
	if _, err := r.Run(t.Context(), Cmd{Path: "mine", Dir: dir, Env: []string{"PATH=.:"}}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program of the current directory: %v", err)
	}
}

func TestStdinIsAllThatIsRead(t *testing.T) {
	r := newRunner(t)
	large := strings.Repeat("x", 1<<20)
	if got := said(t, r, Cmd{Path: "wc", Args: []string{"-c"}, Stdin: []byte(large)}); strings.TrimSpace(got) != strconv.Itoa(1<<20) {
		t.Errorf("read %q bytes", got)
	}
	if got := said(t, r, Cmd{Path: "echo", Args: []string{"unread"}, Stdin: []byte(large)}); got != "unread\n" {
		t.Errorf("said %q", got)
	}
	if got := said(t, r, Cmd{Path: "cat"}); got != "" {
		t.Errorf("nothing is read as %q", got)
	}
}

// started runs c until it prints a line, and returns the line; finish cancels and returns what Run returned.
func started(t *testing.T, r *Runner, c Cmd) (line string, finish func() (Result, error)) {
	t.Helper()
	read, write := io.Pipe()
	c.Stdout = write
	ctx, cancel := context.WithCancelCause(t.Context())
	var res Result
	var err error
	var running sync.WaitGroup
	running.Go(func() {
		res, err = r.Run(ctx, c)
		write.Close()
	})
	lines := bufio.NewReader(read)
	line, readErr := lines.ReadString('\n')
	if readErr != nil {
		t.Fatalf("the child printed nothing: %v", readErr)
	}
	running.Go(func() { _, _ = io.Copy(io.Discard, lines) })
	return strings.TrimSpace(line), func() (Result, error) {
		cancel(errors.New("that is enough"))
		running.Wait()
		return res, err
	}
}

func TestContextEndsTheGroup(t *testing.T) {
	linux(t)
	r := newRunner(t)
	for _, tt := range []struct {
		name, script string
		grace        time.Duration
	}{
		{"one that heeds TERM", `echo $$ ; exec sleep 1000`, time.Minute},
		{"one that ignores TERM", `trap "" TERM; echo $$ ; while :; do sleep 1; done`, 50 * time.Millisecond},
		{"one that ends well on TERM", `trap "exit 0" TERM; echo $$ ; while :; do sleep 0.01; done`, time.Minute},
		{"its child ignores TERM", `sh -c 'trap "" TERM; echo $$; while :; do sleep 1; done' & wait`, 50 * time.Millisecond},
		{"it is stopped", `sh -c 'echo $$; kill -STOP $$' & wait`, 50 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := shell(tt.script)
			cmd.Grace = tt.grace
			line, finish := started(t, r, cmd)
			_, err := finish()
			var exit *ExitError
			if err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), "that is enough") {
				t.Errorf("error is %v, want the context's cause", err)
			}
			if pid, _ := strconv.Atoi(line); pid == 0 || alive(pid) {
				t.Errorf("process %q still runs", line)
			}
		})
	}
}

func TestGroupHasItsGraceThoughTheLeaderIsGone(t *testing.T) {
	r := newRunner(t)
	file := filepath.Join(t.TempDir(), "saved")
	cmd := shell(`(trap 'sleep 0.1; echo saved > "$FILE"; exit 0' TERM; echo ready; while :; do sleep 0.01; done) & wait`)
	cmd.Env, cmd.Grace = []string{"FILE=" + file}, time.Minute
	_, finish := started(t, r, cmd)
	if _, err := finish(); err == nil {
		t.Error("no error")
	}
	if text, err := os.ReadFile(file); string(text) != "saved\n" {
		t.Errorf("a member of the group did not finish its work: %q, %v", text, err)
	}
}

func TestContextThatEndedStartsNothing(t *testing.T) {
	r := newRunner(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too late"))
	file := filepath.Join(t.TempDir(), "ran")
	if _, err := r.Run(ctx, Cmd{Path: "touch", Args: []string{file}}); err == nil || err.Error() != "too late" {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it ran")
	}
}

func TestBackgroundChildrenEndWithTheLeader(t *testing.T) {
	linux(t)
	r := newRunner(t)
	got := said(t, r, shell(`sleep 1000 & echo $!`))
	if pid, _ := strconv.Atoi(strings.TrimSpace(got)); pid == 0 || alive(pid) {
		t.Errorf("process %q still runs", got)
	}
}

// A process that leaves the group keeps the pipe open. Run must not wait for it, and KillSurvivors finds it by its marker.
func TestEscapedProcess(t *testing.T) {
	linux(t)
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is not on PATH: install util-linux")
	}
	r := newRunner(t)
	escape := shell(`setsid sh -c 'echo $$ > escaped; exec sleep 1000' & while [ ! -s escaped ]; do sleep 0.01; done; cat escaped`)
	escape.Dir = t.TempDir()
	got := said(t, r, escape)
	pid, _ := strconv.Atoi(strings.TrimSpace(got))
	if pid == 0 {
		t.Fatalf("said %q", got)
	}
	if !alive(pid) {
		t.Fatal("Run ended a process outside of the group; the package comment says otherwise")
	}
	killed, err := r.KillSurvivors(t.Context())
	if err != nil || alive(pid) {
		t.Errorf("process %d is alive: %t, error %v", pid, alive(pid), err)
	}
	if len(killed) != 1 || killed[0].PID != pid {
		t.Errorf("killed %v, want %d", killed, pid)
	}
}

func TestWriterThatFails(t *testing.T) {
	r := newRunner(t)
	cmd := shell(`yes | head -c 1000000; exit 0`)
	cmd.Stdout = failing{}
	if _, err := r.Run(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("error is %v, want the writer's", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestHead(t *testing.T) {
	for _, tt := range []struct {
		limit int
		parts []string
		want  string
	}{
		{10, []string{"abc", "def"}, "abcdef"},
		{6, []string{"abc", "def"}, "abcdef"},
		{4, []string{"abc", "def"}, "abcd\n… truncated: 2 more bytes"},
		{0, []string{"abc"}, "\n… truncated: 3 more bytes"},
		{2, []string{"a€"}, "a\n… truncated: 3 more bytes"},
		{4, []string{"a\xffb"}, "a\uFFFDb"},
	} {
		h := &Head{Limit: tt.limit}
		for _, p := range tt.parts {
			if n, err := h.Write([]byte(p)); n != len(p) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
		if h.String() != tt.want {
			t.Errorf("limit %d of %q: %q, want %q", tt.limit, tt.parts, h.String(), tt.want)
		}
	}
}

func TestOptionsNameTheField(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for field, o := range map[string]Options{
		"Dir": {Logger: log}, "Logger": {Dir: "x"}, "Grace": {Dir: "x", Logger: log, Grace: -1}, "Env": {Dir: "x", Logger: log, Env: []string{"A=B"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestRegisterStaysSmall(t *testing.T) {
	r := newRunner(t)
	for i := range 20000 {
		r.register.began(1<<22+1+i, "key")
		if i%2 == 0 {
			r.register.ended(1<<22 + 1 + i)
		}
		if i > 100 && i%2 == 1 {
			r.register.ended(1<<22 + 1 + i - 100)
		}
	}
	info, err := os.Stat(r.register.name)
	if err != nil || info.Size() > 2*maxRegister {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	left, err := r.register.running()
	if err != nil || len(left) != len(r.register.alive) || len(left) == 0 {
		t.Errorf("%d are registered, %d alive, %v", len(left), len(r.register.alive), err)
	}
}

func TestRegisterThatMakesNoSense(t *testing.T) {
	dir := t.TempDir()
	boot, own := bootID(), strconv.Itoa(os.Getpid())
	now := strconv.FormatInt(bootTicks(), 10)
	text := "+ 1 " + boot + " " + now + " \"init\"\n+ 0 5 \"\"\n+ -1 5 \"\"\n+ x y z\n+\n\x00\x00\x00\n+ 99999999 " + boot + " " + now + " \"gone\"\n" +
		"+ " + own + " " + boot + " 1 \"number went to another\"\n+ " + own + " another-boot " + now + " \"before the machine started\"\n- x\n+ 12"
	if err := os.WriteFile(filepath.Join(dir, "processes"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	killed, err := open(t, dir).KillSurvivors(t.Context())
	if err != nil || len(killed) != 0 {
		t.Errorf("killed %v, %v", killed, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "processes")); err != nil || len(text) != 0 {
		t.Errorf("the register is not empty: %q, %v", text, err)
	}
}

// TestMain makes the test binary a server that can be killed: it runs a command that outlives it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COMMAND_TEST_SERVER"); dir != "" {
		server(dir)
	}
	os.Exit(m.Run())
}

func server(dir string) {
	r, err := New(Options{Dir: dir, Logger: slog.Default()})
	if err != nil {
		panic(err)
	}
	_, err = r.Run(context.Background(), Cmd{
		Path: "sh", Args: []string{"-c", `sleep 1000 & echo $$ $!; trap "" TERM; wait`}, Stdout: os.Stdout, Key: "run/step",
	})
	panic(err)
}

func TestSurvivorsOfAKilledServer(t *testing.T) {
	linux(t)
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, dir string) // what the crash lost
	}{
		{"register and marker", func(*testing.T, string) {}},
		{"the crash came before the record", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "processes"), 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"without the marker", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "instance"), []byte("another\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			leader, child := crash(t, dir)
			tt.lose(t, dir)
			killed, err := open(t, dir).KillSurvivors(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if alive(leader) || alive(child) {
				t.Errorf("leader alive: %t, its child: %t; killed %v", alive(leader), alive(child), killed)
			}
			if tt.name == "register and marker" && !strings.Contains(fmt.Sprint(killed), fmt.Sprintf("%d run/step", leader)) {
				t.Errorf("killed %v, want %d run/step among them", killed, leader)
			}
			if again, err := open(t, dir).KillSurvivors(t.Context()); err != nil || len(again) != 0 {
				t.Errorf("the second time: %v, %v", again, err)
			}
		})
	}
}

// crash kills a server in the middle of a command, and returns the numbers of the processes that it leaves.
func crash(t *testing.T, dir string) (leader, child int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "COMMAND_TEST_SERVER="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fscan(out, &leader, &child)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait() // it was killed
	if err != nil {
		t.Fatalf("the server did not say what it started: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(-leader, syscall.SIGKILL)
		}
	})
	if !alive(leader) || !alive(child) {
		t.Fatal("nothing survived: the test shows nothing")
	}
	return leader, child
}

func BenchmarkTrue(b *testing.B) {
	path, err := exec.LookPath("true")
	if err != nil {
		b.Skip("true is not on PATH")
	}
	b.Run("os-exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command(path).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("runner", func(b *testing.B) {
		r := newRunner(b)
		for b.Loop() {
			if _, err := r.Run(b.Context(), Cmd{Path: path, Key: "run/step"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os-exec-output", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(path)
			cmd.Stdout, cmd.Stderr = io.MultiWriter(io.Discard), io.MultiWriter(io.Discard)
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("runner-output", func(b *testing.B) {
		r := newRunner(b)
		for b.Loop() {
			if _, err := r.Run(b.Context(), Cmd{Path: path, Stdout: &Head{Limit: 1024}, Stderr: &Head{Limit: 1024}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
