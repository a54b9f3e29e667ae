package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

const (
	// maxOutput bounds what is read of terraform's JSON answers, which hold the whole state.
	maxOutput = 256 << 20
	// maxLine bounds one line of progress.
	maxLine = 1 << 20
	// maxDiagnostics bounds how many of terraform's errors one error repeats.
	maxDiagnostics = 10
)

// tool runs terraform in one root module for one call of an action.
type tool struct {
	runner *command.Runner
	binary string
	name   string // for people: terraform or tofu
	dir    string
	env    []string
	grace  time.Duration
	key    string // what it runs for, in the register of processes
	mask   masker
	log    io.Writer
}

// find returns the program's path.
func find(binary string) (string, error) {
	names := []string{"terraform", "tofu"}
	if binary != "" {
		names = []string{binary}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", action.Permanent(fmt.Errorf("no program %s on PATH: install terraform or tofu on the server, or name its path in the server's configuration", strings.Join(names, " or ")))
}

// run calls terraform with its output going to out, and returns its exit code. An error is one of starting it or of
// being stopped; what terraform said on its error stream is in said.
func (t *tool) run(ctx context.Context, out io.Writer, args ...string) (code int, said string, err error) {
	var stderr tail
	res, err := t.runner.Run(ctx, command.Cmd{
		Path: t.binary, Args: args, Dir: t.dir, Env: t.env, Stdout: out, Stderr: &stderr, Grace: t.grace, Key: t.key,
		Stop: syscall.SIGINT, // its providers ignore INT, and are needed to stop in order
	})
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Code > 0 {
		return exit.Code, t.mask.text(stderr.String()), nil
	}
	if err != nil {
		return res.ExitCode, "", fmt.Errorf("%s %s: %w", t.name, args[0], err)
	}
	return 0, t.mask.text(stderr.String()), nil
}

// answer calls terraform for what it prints.
func (t *tool) answer(ctx context.Context, args ...string) ([]byte, error) {
	out := &bounded{left: maxOutput}
	code, said, err := t.run(ctx, out, args...)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, &failure{t.name + " " + args[0], []diagnostic{{Severity: "error", Summary: said}}}
	}
	if out.over {
		return nil, action.Permanent(fmt.Errorf("%s %s printed more than %d MiB", t.name, args[0], maxOutput>>20))
	}
	return out.Bytes(), nil
}

// stream calls terraform with -json, whose lines it logs as people read them, and returns what they said.
func (t *tool) stream(ctx context.Context, args ...string) (code int, told report, err error) {
	lines := &lineWriter{each: func(line []byte) { told.take(line, t.mask, t.log) }}
	code, said, err := t.run(ctx, lines, args...)
	lines.flush()
	if err == nil && code == 1 && len(told.errors) == 0 {
		told.errors = append(told.errors, diagnostic{Severity: "error", Summary: said})
	}
	return code, told, err
}

// report is what terraform's machine-readable progress told ("Machine-Readable UI" in its documentation).
type report struct {
	errors []diagnostic
	counts counts // of the last summary: what was planned, then what was done
}

// counts are numbers of resources.
type counts struct{ add, change, destroy int64 }

type message struct {
	Message    string      `json:"@message"`
	Type       string      `json:"type"`
	Diagnostic *diagnostic `json:"diagnostic"`
	Changes    *struct {
		Operation string `json:"operation"`
		Add       int64  `json:"add"`
		Change    int64  `json:"change"`
		Remove    int64  `json:"remove"`
	} `json:"changes"`
}

type diagnostic struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	Address  string `json:"address"`
	Range    *struct {
		Filename string `json:"filename"`
		Start    struct {
			Line int `json:"line"`
		} `json:"start"`
	} `json:"range"`
}

func (d diagnostic) String() string {
	s := d.Summary
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	if d.Range != nil {
		s = fmt.Sprintf("%s:%d: %s", d.Range.Filename, d.Range.Start.Line, s)
	}
	return strings.TrimSpace(s)
}

func (r *report) take(line []byte, mask masker, log io.Writer) {
	var m message
	if json.Unmarshal(line, &m) != nil || m.Message == "" {
		fmt.Fprintln(log, mask.text(string(line)))
		return
	}
	if m.Changes != nil {
		r.counts = counts{m.Changes.Add, m.Changes.Change, m.Changes.Remove}
	}
	if m.Diagnostic == nil {
		fmt.Fprintln(log, mask.text(m.Message))
		return
	}
	d := *m.Diagnostic
	d.Summary, d.Detail = mask.text(d.Summary), mask.text(d.Detail)
	fmt.Fprintf(log, "%s: %s\n", d.Severity, d)
	if d.Severity == "error" {
		r.errors = append(r.errors, d)
	}
}

// failure is what terraform found wrong.
type failure struct {
	what  string
	found []diagnostic
}

func (f *failure) Error() string {
	var b strings.Builder
	b.WriteString(f.what + " failed")
	for i, d := range f.found {
		if i == maxDiagnostics {
			fmt.Fprintf(&b, "; and %d more", len(f.found)-i)
			break
		}
		b.WriteString(": " + limit(d.String(), 2<<10))
	}
	return b.String()
}

// says reports whether a diagnostic's summary begins with one of texts.
func (f *failure) says(texts ...string) bool {
	return slices.ContainsFunc(f.found, func(d diagnostic) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(d.Summary, s) })
	})
}

func limit(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// env is terraform's whole environment.
func (a *actions) env(dataDir string) ([]string, error) {
	cli := a.CLIConfig
	if cli == "" {
		cli = filepath.Join(a.Dir, "cli.tfrc")
	}
	cli, err := filepath.Abs(cli)
	if err != nil {
		return nil, err
	}
	plugins, err := filepath.Abs(filepath.Join(a.Dir, "plugins"))
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(a.Env),
		"TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1",
		"TF_CLI_CONFIG_FILE="+cli, "TF_DATA_DIR="+dataDir, "TF_PLUGIN_CACHE_DIR="+plugins,
	), nil
}

// prepare makes what every call expects below Options.Dir.
func (a *actions) prepare() error {
	if err := os.MkdirAll(filepath.Join(a.Dir, "plugins"), 0o700); err != nil {
		return fmt.Errorf("make terraform's directory: %w", err)
	}
	if a.CLIConfig != "" {
		return nil
	}
	path := filepath.Join(a.Dir, "cli.tfrc")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := writePrivate(path, []byte("disable_checkpoint = true\n")); err != nil {
		return fmt.Errorf("write terraform's CLI configuration: %w", err)
	}
	return nil
}

// give adds the parameters' variables to the environment, and masks the secrets among them from now on.
func (t *tool) give(call *action.Call, plain map[string]string, secret map[string]action.SecretRef) error {
	var env, secrets []string
	for name, value := range plain {
		env = append(env, name+"="+value)
	}
	for name, ref := range secret {
		value, err := call.Secret(ref)
		if err != nil {
			return fmt.Errorf("secretEnv.%s: %w", name, err)
		}
		env, secrets = append(env, name+"="+value), append(secrets, value)
	}
	slices.Sort(env)
	t.env, t.mask = slices.Concat(env, t.env), t.mask.with(secrets...) // of a name that stands twice the last counts
	return nil
}

// bounded keeps what is written to it up to a size.
type bounded struct {
	bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.over = b.over || n < len(p)
	_, _ = b.Buffer.Write(p[:n])
	return len(p), nil
}

// lineWriter hands on whole lines. A line beyond maxLine is cut in pieces. Not safe for concurrent use.
type lineWriter struct {
	each func(line []byte)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 && len(w.rest) < maxLine {
			return len(p), nil
		}
		if i < 0 {
			w.flush()
			return len(p), nil
		}
		w.each(bytes.TrimSuffix(w.rest[:i], []byte("\r")))
		w.rest = w.rest[i+1:]
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.each(w.rest)
		w.rest = nil
	}
}

// tail keeps the last bytes written to it.
type tail struct{ buf []byte }

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(t.buf), ""))
}
