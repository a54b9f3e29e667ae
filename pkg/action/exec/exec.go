// Package exec runs commands: a list of arguments, or a script that gets values through its environment only, so that an
// event's text never becomes part of a command. A step ends when its command and all it started have ended.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Options configure the action.
type Options struct {
	Runner *command.Runner
	// OutputBytes are kept of each output stream; default 64 KiB, which is also the most.
	OutputBytes int64
}

// maxOutput is what of a stream fits into a step's outputs.
const maxOutput = 64 << 10

// Params are the parameters of exec.run.
type Params struct {
	Command   []string                    `yaml:"command,omitempty" doc:"program and arguments; no shell reads them"`
	Script    string                      `yaml:"script,omitempty" expr:"never" doc:"text for sh -eu; values reach it through env only"`
	Env       map[string]string           `yaml:"env,omitempty" doc:"variables of the command"`
	SecretEnv map[string]action.SecretRef `yaml:"secretEnv,omitempty" doc:"variables whose values are secrets"`
	Dir       string                      `yaml:"dir,omitempty" doc:"working directory; default: the run's own"`
	Stdin     string                      `yaml:"stdin,omitempty" doc:"what the command reads from its standard input"`

	Target string `yaml:"target,omitempty" doc:"names what the command changes: two steps with the same target never overlap, cluster-wide"`

	OutputLimit int64 `yaml:"outputLimit,omitempty" doc:"bytes kept of each output stream; default, and at most, the server's exec.outputBytes"`
}

// Outputs are the outputs of exec.run.
type Outputs struct {
	ExitCode int64  `yaml:"exitCode" doc:"0; a command that fails fails the step"`
	Stdout   string `yaml:"stdout" doc:"what it printed, without the last line break; its first 64 KiB"`
	Stderr   string `yaml:"stderr" doc:"what it printed as errors, likewise"`
	JSON     any    `yaml:"json" doc:"stdout as a value, where it is a JSON object or list; else null"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	if o.OutputBytes <= 0 || o.OutputBytes > maxOutput {
		o.OutputBytes = maxOutput
	}
	r := &runner{o}
	return []action.Definition{{
		Name:      "exec.run",
		Doc:       "Runs a command on the server, in a process group of its own that ends with the step. It sees only the variables that the server's configuration allows and those given here.",
		Params:    &Params{},
		Outputs:   Outputs{},
		Changes:   true,
		Unbounded: true,
		Target:    func(call *action.Call) string { return call.Params.(*Params).Target },
		TargetDoc: "`target`",
		Fenced:    "none: what a command does outside can't be called back. Its process group is killed when the lease is lost.",
		Check:     check,
		Run:       r.run,
	}}
}

// maxScript leaves room below what Linux takes as one argument, 128 KiB (execve(2), MAX_ARG_STRLEN).
const maxScript = 120 << 10

func check(params any) error {
	p := params.(*Params)
	switch {
	case len(p.Command) > 0 && p.Script != "":
		return errors.New("give command or script, not both")
	case len(p.Script) > maxScript:
		return fmt.Errorf("script has %d bytes, more than %d: put it into a file of the repository and run that", len(p.Script), maxScript)
	case p.OutputLimit < 0:
		return errors.New("outputLimit is negative")
	}
	return nil
}

type runner struct{ Options }

func (r *runner) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*Params)
	cmd, secrets, err := r.command(p, call)
	if err != nil {
		return nil, action.Permanent(err)
	}
	limit := r.OutputBytes
	if p.OutputLimit > 0 {
		limit = min(limit, p.OutputLimit)
	}
	stdout, stderr, last := &command.Head{Limit: int(limit)}, &command.Head{Limit: int(limit)}, &tail{}
	out, errs := command.Together(call.Log)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(stdout, out), io.MultiWriter(stderr, last, errs)
	result, err := r.Runner.Run(ctx, cmd)
	if err != nil {
		return nil, failure(cmd.Path, masked(last.String(), secrets), err)
	}
	text, errText := strings.TrimSuffix(string(stdout.Bytes()), "\n"), strings.TrimSuffix(string(stderr.Bytes()), "\n")
	if n := stdout.Dropped() + stderr.Dropped(); n > 0 {
		note := fmt.Sprintf("%d bytes of output are not kept: the limit is %d for each stream", n, limit)
		fmt.Fprintln(call.Log, note) //nolint:errcheck // the log is best effort
		errText = strings.TrimPrefix(errText+"\n"+note, "\n")
	}
	outputs := action.Outputs{
		"exitCode": int64(result.ExitCode), "stdout": strings.ToValidUTF8(text, "�"), "stderr": strings.ToValidUTF8(errText, "�"), "json": nil,
	}
	if t := strings.TrimSpace(text); strings.HasPrefix(t, "{") || strings.HasPrefix(t, "[") {
		if v, err := event.Decode([]byte(t)); err == nil {
			outputs["json"] = v
		}
	}
	return outputs, nil
}

func (r *runner) command(p *Params, call *action.Call) (cmd command.Cmd, secrets []string, err error) {
	if err := check(p); err != nil {
		return cmd, nil, err
	}
	switch {
	case p.Script != "":
		cmd = command.Cmd{Path: "/bin/sh", Args: []string{"-euc", p.Script}}
	case len(p.Command) > 0 && p.Command[0] != "":
		cmd = command.Cmd{Path: p.Command[0], Args: p.Command[1:]}
	default:
		return cmd, nil, errors.New("give a command or a script")
	}
	cmd.Key = call.RunID + "/" + call.StepID
	cmd.Dir = call.Dir
	if p.Dir != "" {
		cmd.Dir = p.Dir
		if !filepath.IsAbs(p.Dir) {
			cmd.Dir = filepath.Join(call.Dir, p.Dir)
		}
	}
	if info, err := os.Stat(cmd.Dir); err != nil || !info.IsDir() {
		return cmd, nil, fmt.Errorf("dir %s is no directory", cmd.Dir)
	}
	if p.Stdin != "" {
		cmd.Stdin = []byte(p.Stdin)
	}
	cmd.Env, secrets, err = environment(p, call)
	return cmd, secrets, err
}

func environment(p *Params, call *action.Call) (env, secrets []string, err error) {
	env = []string{"RIPOSTE_RUN=" + call.RunID, "RIPOSTE_STEP=" + call.StepID, "RIPOSTE_RULE=" + call.Rule}
	for name, value := range p.Env {
		if err := checkVariable(name, value); err != nil {
			return nil, nil, err
		}
		env = append(env, name+"="+value)
	}
	for name, ref := range p.SecretEnv {
		value, err := call.Secret(ref)
		if err != nil {
			return nil, nil, fmt.Errorf("secretEnv.%s: %w", name, err)
		}
		if err := checkVariable(name, value); err != nil {
			return nil, nil, err
		}
		env, secrets = append(env, name+"="+value), append(secrets, value)
	}
	sort.Strings(env[3:])
	return env, secrets, nil
}

func checkVariable(name, value string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return fmt.Errorf("env: %q is no name of a variable", name)
	}
	if strings.Contains(value, "\x00") {
		return fmt.Errorf("env: the value of %s has a NUL byte", name)
	}
	return nil
}

// failure says why a command failed, with the end of what it said.
func failure(name, stderr string, err error) error {
	if errors.Is(err, osexec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return action.Permanent(fmt.Errorf("%w (is the program installed on the server, and its PATH among exec.env?)", err))
	}
	if tail := lastBytes(strings.TrimSpace(stderr), 400); tail != "" {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(name), err, tail)
	} else {
		err = fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	var exit *command.ExitError
	if errors.As(err, &exit) && (exit.Code == 126 || exit.Code == 127) { // a shell's own: not executable, not found
		return action.Permanent(err)
	}
	return err
}

// masked is text without the secrets that the command was given; it may have printed them.
func masked(text string, secrets []string) string {
	for _, value := range secrets {
		if value != "" {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	return text
}

// tail keeps the last bytes that are written to it. It is written by one goroutine, and read after that.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-1024):]...)
	t.buf = append(t.buf[:0], t.buf[max(0, len(t.buf)-1024):]...)
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }

func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}
