// Package command runs child processes for actions. A child gets only the variables it is given and an allow-list of the
// server's; it runs in a process group of its own; when its context ends the group gets TERM and, after a grace, KILL;
// Run returns only when the leader is reaped and the group is gone, so nothing outlives its step. Children that outlive
// the whole server are found in a register and by a marker in their environment, and killed at the next start.
// A Runner is safe for concurrent use.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// DefaultGrace is how long a child has between TERM and KILL.
const DefaultGrace = 10 * time.Second

// Marker is the variable by which a child of this data directory is known, whatever group it moved to.
const Marker = "RIPOSTE_INSTANCE"

// Options configure a Runner.
type Options struct {
	Dir    string   // where the register of running children is
	Env    []string // names of the server's variables that children get
	Logger *slog.Logger
}

// Runner starts children.
type Runner struct {
	env      []string
	register *register
	log      *slog.Logger
}

// New opens the register. Call KillSurvivors before the first Run.
func New(o Options) (*Runner, error) {
	switch {
	case o.Dir == "":
		return nil, errors.New("command: option Dir is required")
	case o.Logger == nil:
		return nil, errors.New("command: option Logger is required")
	}
	reg, err := openRegister(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &Runner{register: reg, log: o.Logger, env: []string{Marker + "=" + reg.instance}}
	for _, name := range o.Env {
		if v, ok := os.LookupEnv(name); ok {
			r.env = append(r.env, name+"="+v)
		}
	}
	return r, nil
}

// Close closes the register.
func (r *Runner) Close() error { return r.register.close() }

// Cmd says what to run.
type Cmd struct {
	Path   string   // a path, or a name looked up on the child's PATH
	Args   []string // without the program itself
	Dir    string
	Env    []string // KEY=value, beside and above the allowed variables
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer
	// Grace is the time between TERM and KILL; 0 is DefaultGrace.
	Grace time.Duration
}

// Result says how a child ended.
type Result struct {
	ExitCode int // -1 when it never started or a signal ended it
}

// ExitError says that a child ran and failed.
type ExitError struct {
	Code   int            // -1 when a signal ended it
	Signal syscall.Signal // 0 when it exited by itself
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return "ended by signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Run runs a child to its end. An error is an *ExitError, the context's cause when that ended it, or why it did not start,
// which wraps exec.ErrNotFound or fs.ErrPermission where it is that.
func (r *Runner) Run(ctx context.Context, c Cmd) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{-1}, context.Cause(ctx)
	}
	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // the context ends the whole group, below
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdin, c.Stdout, c.Stderr
	cmd.Env = append(append([]string(nil), r.env...), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A grandchild can hold the pipes open after the leader's end; the group is killed then, and this is the last resort.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		return Result{-1}, fmt.Errorf("start %s: %w", c.Path, err)
	}
	pid := cmd.Process.Pid
	r.register.began(pid)
	defer r.register.ended(pid)

	grace := c.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	over := make(chan struct{})
	var stopping sync.WaitGroup
	stopping.Go(func() { stopGroup(ctx, pid, grace, over) })
	err := cmd.Wait()
	close(over)
	stopping.Wait()
	endGroup(pid)
	return result(ctx, cmd, err)
}

func result(ctx context.Context, cmd *exec.Cmd, err error) (Result, error) {
	code := cmd.ProcessState.ExitCode()
	if err == nil {
		return Result{code}, nil
	}
	if ctx.Err() != nil {
		return Result{code}, fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if errors.Is(err, exec.ErrWaitDelay) { // the leader was done; who held its pipes is killed
			return Result{code}, nil
		}
		return Result{code}, err
	}
	e := &ExitError{Code: code}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return Result{code}, e
}

// stopGroup ends the group when the context does: TERM, and KILL after the grace.
func stopGroup(ctx context.Context, pgid int, grace time.Duration, over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-ctx.Done():
	}
	_ = syscall.Kill(-pgid, syscall.SIGTERM) // it may be gone
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-over:
	case <-t.C:
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
	}
}

// endGroup kills what a leader left behind, and returns once it is gone.
func endGroup(pgid int) {
	for wait := 100 * time.Microsecond; wait < 10*time.Second; wait *= 2 {
		if err := syscall.Kill(-pgid, syscall.SIGKILL); err != nil {
			return // nobody is left
		}
		time.Sleep(wait)
	}
}

// Head keeps the first bytes that are written to it, and counts the rest.
type Head struct {
	Limit   int
	buf     bytes.Buffer
	dropped int64
	mu      sync.Mutex
}

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	keep := min(len(p), max(0, h.Limit-h.buf.Len()))
	h.buf.Write(p[:keep])
	h.dropped += int64(len(p) - keep)
	return len(p), nil
}

// String returns what was kept.
func (h *Head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}

// Dropped is how many bytes were not kept.
func (h *Head) Dropped() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}
