// Package command runs child processes for actions.
//
// Guarantees. A child gets only the variables that it is given and an allow-list of the server's. It leads a process group
// of its own; when its context ends the group gets TERM and, after a grace, KILL. Run returns only when the leader is
// reaped and the group is gone, also what a leader that ended by itself left in it. Output that nobody takes, or that a
// process outside of the group holds open, blocks nothing.
//
// Children that outlive the whole server are found in a register and, on Linux, by a marker in their environment, and
// killed at the next start. A process that leaves its group (setsid) and outlives its leader is the one thing that Run does
// not end; it has the marker, so KillSurvivors does. A process that a setuid program or a container runtime started on the
// child's behalf has neither.
//
// A Runner is safe for concurrent use.
package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultGrace is how long a child has between TERM and KILL.
const DefaultGrace = 10 * time.Second

// Marker is the variable by which a child of this data directory is known, whatever group it moved to.
const Marker = "RIPOSTE_INSTANCE"

// DefaultEnv lists the server's variables that children get where Options do not say.
func DefaultEnv() []string {
	return []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
}

// Options configure a Runner.
type Options struct {
	Dir    string        // where the register of running children is; needed
	Env    []string      // names of the server's variables that children get; nil is DefaultEnv
	Grace  time.Duration // between TERM and KILL where a Cmd does not say; 0 is DefaultGrace
	Logger *slog.Logger  // needed
}

func (o Options) validate() error {
	switch {
	case o.Dir == "":
		return errors.New("command: Options.Dir is empty")
	case o.Logger == nil:
		return errors.New("command: Options.Logger is nil")
	case o.Grace < 0:
		return errors.New("command: Options.Grace is negative")
	}
	for _, name := range o.Env {
		if name == "" || strings.Contains(name, "=") || name == Marker {
			return fmt.Errorf("command: Options.Env: %q is no variable that children can get", name)
		}
	}
	return nil
}

// Runner starts children.
type Runner struct {
	env      []string
	marker   string
	grace    time.Duration
	register *register
	log      *slog.Logger
	null     *os.File // what children read that are given nothing
	buffers  sync.Pool
}

// New opens the register. Call KillSurvivors before the first Run. The variables are read now.
func New(o Options) (*Runner, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	reg, err := openRegister(o.Dir, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("open the register of child processes: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, reg.close())
	}
	r := &Runner{register: reg, log: o.Logger, marker: Marker + "=" + reg.instance, grace: o.Grace, null: null}
	r.buffers.New = func() any { b := make([]byte, 16<<10); return &b }
	if r.grace == 0 {
		r.grace = DefaultGrace
	}
	names := o.Env
	if names == nil {
		names = DefaultEnv()
	}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			r.env = append(r.env, name+"="+v)
		}
	}
	return r, nil
}

// Close closes the register; call it when nothing runs.
func (r *Runner) Close() error { return errors.Join(r.register.close(), r.null.Close()) }

// Cmd says what to run.
type Cmd struct {
	Path string   // a path, or a name that is looked up on the child's PATH
	Args []string // without the program itself
	Dir  string
	Env  []string // KEY=value, beside and above the allowed variables
	// Stdin is all that the child can read.
	Stdin []byte
	// Stdout and Stderr take the output as it comes; nil discards. Each is written to by one goroutine of its own. One that
	// fails takes no more; the child still runs to its end.
	// Their Write must not block for ever: Run waits for it.
	Stdout, Stderr io.Writer
	// Stop is what the group is sent first when the context ends; 0 is TERM. Programs whose own children end on TERM while
	// they need them to stop in order, as terraform's providers do, want INT.
	Stop syscall.Signal
	// Grace is the time between Stop and KILL; 0 is that of the Runner.
	Grace time.Duration
	// Key says in the register, for people, what the child runs for.
	Key string
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

// Run runs a child to its end. An error is one of these:
//   - why it did not start, which wraps exec.ErrNotFound, fs.ErrPermission and the like;
//   - an *ExitError: it ended by itself with a code other than 0, or by a signal;
//   - the context's cause, when that ended before the child, however the child took it.
func (r *Runner) Run(ctx context.Context, c Cmd) (Result, error) {
	if ctx.Err() != nil {
		return Result{-1}, context.Cause(ctx)
	}
	cmd, pipes, err := r.start(c)
	if err != nil {
		return Result{-1}, fmt.Errorf("start %s: %w", c.Path, err)
	}
	pgid := cmd.Process.Pid
	r.register.began(pgid, c.Key)
	grace := c.Grace
	if grace == 0 {
		grace = r.grace
	}
	g := &group{id: pgid, grace: grace, first: cmp.Or(c.Stop, syscall.SIGTERM)}
	stopped := g.end(ctx, cmd)
	r.register.ended(pgid)
	failed := pipes.finish()
	code := cmd.ProcessState.ExitCode()
	switch {
	case g.stuck:
		r.log.Error("a process does not end although it was killed", "pgid", pgid, "key", c.Key)
		return Result{code}, fmt.Errorf("processes of group %d did not end when they were killed: they hang in the kernel, on a dead network file system perhaps", pgid)
	case stopped:
		return Result{code}, fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
	if err := exitError(cmd.ProcessState); err != nil {
		return Result{code}, err
	}
	return Result{code}, failed
}

func (r *Runner) start(c Cmd) (*exec.Cmd, *pipes, error) {
	env := slices.Concat(r.env, c.Env, []string{r.marker}) // of a name that stands twice the last counts
	path, err := lookPath(c.Path, env)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: append([]string{c.Path}, c.Args...), Dir: c.Dir, Env: env, Stdin: r.null,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	p := &pipes{buffers: &r.buffers}
	if err := p.connect(cmd, c); err != nil {
		p.abandon()
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		p.abandon()
		if _, missing := os.Stat(c.Dir); c.Dir != "" && missing != nil {
			return nil, nil, missing // the kernel's answer blames the program
		}
		return nil, nil, err
	}
	p.run()
	return cmd, p, nil
}

func exitError(state *os.ProcessState) error {
	if state.Success() {
		return nil
	}
	e := &ExitError{Code: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// lookPath finds a program on the child's PATH, which may not be ours. Unlike exec.LookPath it never looks in the directory
// that is current by chance.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if !strings.HasPrefix(dir, "/") || name == "" {
			continue
		}
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: %q is not in PATH", exec.ErrNotFound, name)
}
