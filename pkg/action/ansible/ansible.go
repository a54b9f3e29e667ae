// Package ansible holds the action ansible.playbook, which runs ansible-playbook.
//
// Guarantees. No shell reads what the program is called with. Values of expressions can't widen the hosts that a playbook
// runs on, nor name a file outside of those that a rule names, and as variables they are never read as Jinja templates,
// which could run commands on the server. Variables and secrets stand in files that only this user can read, in a private
// directory that is removed when the step ends; none is on the command line. A playbook that ran on no host is a failure.
// When the step ends nothing of it is left running: connections are not kept open behind its back.
package ansible

import (
	"cmp"
	"context"
	_ "embed" // report.py
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

// reporter is a callback plugin that writes what readReport reads: the one named json is not part of ansible-core.
//
//go:embed report.py
var reporter []byte

// maxOutput is what of the program's output fits into a step's outputs.
const maxOutput = 60 << 10

// Options configure the action.
type Options struct {
	Runner *command.Runner
	// Binary is a path or a name on PATH; default ansible-playbook.
	Binary string
}

// Params are the parameters of ansible.playbook.
type Params struct {
	Playbook  string         `yaml:"playbook" required:"true" doc:"playbook, relative to dir"`
	Dir       string         `yaml:"dir,omitempty" doc:"directory with the playbook, and perhaps an ansible.cfg; a relative one is below the run's own, which is the default"`
	Inventory string         `yaml:"inventory,omitempty" doc:"inventory, relative to dir, or hosts with a comma behind each; default: as ansible.cfg says"`
	Limit     string         `yaml:"limit,omitempty" doc:"pattern of the hosts to run on; the value of an expression must be one name in it"`
	Target    string         `yaml:"target,omitempty" doc:"names what the playbook changes: two steps with the same target never overlap, cluster-wide; default: inventory and limit"`
	ExtraVars map[string]any `yaml:"extraVars,omitempty" doc:"variables, stronger than all others; texts are values, never templates"`
	Tags      []string       `yaml:"tags,omitempty" doc:"run only tasks with one of these tags"`
	SkipTags  []string       `yaml:"skipTags,omitempty" doc:"run no task with one of these tags"`
	Check     bool           `yaml:"check,omitempty" doc:"change nothing, and say what would change"`
	Diff      bool           `yaml:"diff,omitempty" doc:"show the changes in files"`

	PrivateKey    *action.SecretRef           `yaml:"privateKey,omitempty" doc:"secret with the SSH key to connect with"`
	KnownHosts    string                      `yaml:"knownHosts,omitempty" doc:"lines of known_hosts; default: those of the server's user"`
	VaultPassword *action.SecretRef           `yaml:"vaultPassword,omitempty" doc:"secret with the password of Ansible Vault"`
	SecretVars    map[string]action.SecretRef `yaml:"secretVars,omitempty" doc:"variables whose values are secrets"`
	Env           map[string]string           `yaml:"env,omitempty" doc:"environment variables"`
	SecretEnv     map[string]action.SecretRef `yaml:"secretEnv,omitempty" doc:"environment variables whose values are secrets"`
}

// Outputs are the outputs of ansible.playbook.
type Outputs struct {
	OK          int64          `yaml:"ok" doc:"tasks that went well, on all hosts together; those that changed something too"`
	Changed     int64          `yaml:"changed" doc:"tasks that changed something, or with check would"`
	Failed      int64          `yaml:"failed" doc:"tasks that failed: 0, for the step fails with them"`
	Unreachable int64          `yaml:"unreachable" doc:"hosts that could not be reached: 0, likewise"`
	Hosts       map[string]any `yaml:"hosts" doc:"{ok, changed, failed, unreachable, skipped, rescued, ignored} by host, the first 200"`
	Stdout      string         `yaml:"stdout" doc:"what it printed, its first 60 KiB"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	o.Binary = cmp.Or(o.Binary, "ansible-playbook")
	p := player{o}
	return []action.Definition{{
		Name:      "ansible.playbook",
		Doc:       "Runs an Ansible playbook, with ansible-playbook of the server. It fails where a task fails, a host can't be reached or no host matches. SSH connections are not shared between tasks, unless env sets ANSIBLE_SSH_ARGS.",
		Params:    &Params{},
		Outputs:   Outputs{},
		Changes:   true,
		Unbounded: true,
		Target:    target,
		TargetDoc: "`target`, or the inventory and the `limit`",
		Fenced:    "none: what a task does can't be called back. The process group is killed when the lease is lost.",
		Quote:     map[string]func(before, value string) (string, error){"limit": quoteHost, "playbook": quotePath, "inventory": quotePath},
		Check:     func(params any) error { return params.(*Params).check() },
		Run:       p.run,
	}}
}

// target is what a playbook changes. Two patterns that name the same host are not found to do so: that takes a target.
func target(call *action.Call) string {
	p := call.Params.(*Params)
	if p.Target != "" || p.Inventory == "" && p.Limit == "" {
		return p.Target
	}
	return "ansible " + cmp.Or(p.Inventory, "default") + " " + cmp.Or(p.Limit, "all")
}

// quoteHost lets a value be one name in a pattern: in one, all and * are every host, and :,!&~@[ mean something
// (docs.ansible.com, patterns).
func quoteHost(_, value string) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`).MatchString(value) {
		return "", errors.New("a value in limit must be a host's or group's name: letters, digits, dots, dashes and underscores; of host:port take split(…, \":\")[0]")
	}
	if value == "all" || value == "ungrouped" {
		return "", fmt.Errorf("a value in limit is %q, which is no host: write it into the rule if it is meant", value)
	}
	return value, nil
}

// quotePath lets a value be a part of a path that can't lead out of its directory: an inventory may be a program.
func quotePath(_, value string) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`).MatchString(value) {
		return "", errors.New("a value in playbook or inventory must be names with slashes between; the directory of a checkout belongs into dir")
	}
	return value, nil
}

// check looks at what is literal: a templated field is zero.
func (p *Params) check() error {
	var errs []error
	if p.Playbook != "" && !filepath.IsLocal(p.Playbook) {
		errs = append(errs, errors.New("playbook must be a path below dir"))
	}
	for field, list := range map[string][]string{"tags": p.Tags, "skipTags": p.SkipTags} {
		for _, tag := range list {
			if strings.ContainsAny(tag, ",\x00") {
				errs = append(errs, fmt.Errorf("%s: %q is no tag", field, tag))
			}
		}
	}
	for name := range p.SecretVars {
		if _, both := p.ExtraVars[name]; both {
			errs = append(errs, fmt.Errorf("%s stands in extraVars and in secretVars", name))
		}
	}
	errs = append(errs, checkEnv(p.Env), checkEnv(p.SecretEnv))
	return errors.Join(errs...)
}

// checkEnv refuses names that would change which program runs, or take away the report that its end is judged by.
func checkEnv[V any](env map[string]V) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(env)) {
		reserved := strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "PYTHON") || strings.HasPrefix(name, "RIPOSTE_") ||
			strings.HasPrefix(name, "ANSIBLE_CALLBACK") || name == "PATH"
		if reserved || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
			errs = append(errs, fmt.Errorf("env: %q cannot be set here", name))
		}
	}
	return errors.Join(errs...)
}

type player struct{ Options }

func (p player) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	params := call.Params.(*Params)
	if p.Runner == nil {
		return nil, action.Permanent(errors.New("ansible: Options.Runner is nil"))
	}
	if err := params.check(); err != nil {
		return nil, action.Permanent(err)
	}
	g, err := newGame(call, params)
	if err != nil {
		return nil, action.Permanent(err)
	}
	defer os.RemoveAll(g.private) //nolint:errcheck // the run's directory goes too
	cmd, err := g.command()
	if err != nil {
		return nil, action.Permanent(err)
	}
	cmd.Path = p.Binary
	stdout, last := &command.Head{Limit: maxOutput}, &command.Head{Limit: maxOutput}
	said, errs := command.Together(call.Log)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(stdout, said), io.MultiWriter(last, errs)
	result, err := p.Runner.Run(ctx, cmd)
	told, broken := readReport(g.reportFile())
	var exit *command.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		return nil, action.Permanent(fmt.Errorf("%w (is ansible-core installed on the server, and its PATH among exec.env?)", err))
	case errors.As(err, &exit):
		return nil, g.failure(told, result.ExitCode, err, last.String())
	case err != nil:
		return nil, fmt.Errorf("ansible-playbook: %w", err)
	case broken != nil:
		return nil, fmt.Errorf("ansible-playbook ended well and did not report what it did: %w", broken)
	case len(told.hosts) == 0:
		return nil, action.Permanent(errors.New("the playbook ran on no host: does its pattern match the inventory?"))
	}
	out := told.outputs()
	out["stdout"] = stdout.String()
	return out, nil
}

// game is one run of a playbook.
type game struct {
	call    *action.Call
	params  *Params
	dir     string
	private string // a directory that only this user can read
	secrets []string
}

func newGame(call *action.Call, p *Params) (*game, error) {
	dir := p.Dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(call.Dir, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("dir %s is no directory", dir)
	}
	if info, err := os.Stat(filepath.Join(dir, p.Playbook)); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("there is no playbook %s in %s", p.Playbook, dir)
	}
	own, err := call.Path()
	if err != nil {
		return nil, err
	}
	private := own + ".ansible"
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(private); err != nil {
		return nil, fmt.Errorf("clear what an earlier attempt left: %w", err)
	}
	g := &game{call: call, params: p, dir: dir, private: private}
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(private))
	}
	return g, nil
}

// prepare writes what every run needs.
func (g *game) prepare() error {
	for _, dir := range []string{g.private, filepath.Join(g.private, "tmp"), filepath.Join(g.private, "plugins")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make a private directory: %w", err)
		}
	}
	_, err := g.file(filepath.Join("plugins", "riposte.py"), reporter)
	return err
}

func (g *game) reportFile() string { return filepath.Join(g.private, "report") }

// file writes a file that only this user can read.
func (g *game) file(name string, text []byte) (string, error) {
	path := filepath.Join(g.private, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// secret reads a secret, and keeps it out of errors from now on.
func (g *game) secret(field string, ref action.SecretRef) (string, error) {
	value, err := g.call.Secret(ref)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	if strings.TrimSpace(value) == "" {
		return "", fmt.Errorf("%s: the secret is empty", field)
	}
	g.secrets = append(g.secrets, value)
	return value, nil
}

func (g *game) command() (command.Cmd, error) {
	args, err := g.arguments()
	if err != nil {
		return command.Cmd{}, err
	}
	env, err := g.environment()
	if err != nil {
		return command.Cmd{}, err
	}
	return command.Cmd{
		Args: args, Dir: g.dir, Env: env, Key: g.call.RunID + "/" + g.call.StepID,
		Stop: syscall.SIGINT, // on which it ends in order, and removes what it put on the hosts
	}, nil
}

func (g *game) arguments() ([]string, error) {
	p := g.params
	var args []string
	add := func(name, value string) {
		if value != "" {
			args = append(args, "--"+name+"="+value)
		}
	}
	add("inventory", p.Inventory)
	add("limit", p.Limit)
	add("tags", strings.Join(p.Tags, ","))
	add("skip-tags", strings.Join(p.SkipTags, ","))
	if p.Check {
		args = append(args, "--check")
	}
	if p.Diff {
		args = append(args, "--diff")
	}
	vars := maps.Clone(p.ExtraVars)
	for name, ref := range p.SecretVars {
		value, err := g.secret("secretVars."+name, ref)
		if err != nil {
			return nil, err
		}
		if vars == nil {
			vars = map[string]any{}
		}
		vars[name] = value
	}
	if len(vars) > 0 {
		text, err := values(vars)
		if err != nil {
			return nil, fmt.Errorf("extraVars: %w", err)
		}
		path, err := g.file("vars.yml", text)
		if err != nil {
			return nil, err
		}
		add("extra-vars", "@"+path)
	}
	for _, s := range []struct {
		ref           *action.SecretRef
		field, option string
	}{{p.PrivateKey, "privateKey", "private-key"}, {p.VaultPassword, "vaultPassword", "vault-password-file"}} {
		if s.ref == nil {
			continue
		}
		value, err := g.secret(s.field, *s.ref)
		if err != nil {
			return nil, err
		}
		path, err := g.file(s.option, []byte(strings.TrimRight(value, "\r\n")+"\n")) // ssh reads no key without a line break
		if err != nil {
			return nil, err
		}
		add(s.option, path)
	}
	return append(args, "--", filepath.Clean(p.Playbook)), nil
}

// environment is what stands beside the variables that children get.
func (g *game) environment() ([]string, error) {
	p := g.params
	ssh := "-o ControlMaster=no -o ControlPersist=no" // a shared connection would outlive the step
	if p.KnownHosts != "" {
		path, err := g.file("known_hosts", []byte(strings.TrimRight(p.KnownHosts, "\r\n")+"\n"))
		if err != nil {
			return nil, err
		}
		ssh += ` -o UserKnownHostsFile="` + path + `"`
	}
	env := []string{"ANSIBLE_SSH_ARGS=" + ssh, "ANSIBLE_NOCOLOR=1", "ANSIBLE_RETRY_FILES_ENABLED=0", "PYTHONUNBUFFERED=1"}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		env = append(env, name+"="+p.Env[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.SecretEnv)) {
		value, err := g.secret("secretEnv."+name, p.SecretEnv[name])
		if err != nil {
			return nil, err
		}
		env = append(env, name+"="+value)
	}
	if i := slices.IndexFunc(env, func(kv string) bool { return strings.Contains(kv, "\x00") }); i >= 0 {
		return nil, errors.New("env: a value has a NUL byte")
	}
	return append(env, // of a name that stands twice the last counts
		"ANSIBLE_LOCAL_TEMP="+filepath.Join(g.private, "tmp"), "ANSIBLE_CALLBACK_PLUGINS="+filepath.Join(g.private, "plugins"),
		"ANSIBLE_CALLBACKS_ENABLED=riposte", "RIPOSTE_ANSIBLE_REPORT="+g.reportFile(),
	), nil
}
