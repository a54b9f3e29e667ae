package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/riposte-dev/riposte/pkg/action"
)

const (
	// maxSummary and maxChanges keep the outputs small enough for the journal.
	maxSummary = 60 << 10
	maxChanges = 1000
)

// actions run terraform.plan, terraform.apply and terraform.drift. Safe for concurrent use.
type actions struct {
	Options
	vault  vault
	states locks
	// installs is held while providers and modules are installed: terraform's plugin cache takes one writer at a time
	// ("Provider Plugin Cache" in its documentation).
	installs locks
}

func newActions(o Options) *actions {
	return &actions{Options: o, vault: vault{path: filepath.Join(o.Dir, "plan.key")}}
}

// job is one plan.
type job struct {
	*tool
	params  *PlanParams
	call    *action.Call
	dataDir string
	private string // a directory for files in clear
	a       *actions

	refreshOnly bool // compare the state alone with what is there
	readOnly    bool // make no workspace
	differs     bool // the plan holds changes
}

func (a *actions) plan(ctx context.Context, call *action.Call) (action.Outputs, error) {
	j, err := a.newJob(call, call.Params.(*PlanParams))
	if err != nil {
		return nil, wrap("terraform.plan", err)
	}
	defer os.RemoveAll(j.private)
	out, err := j.run(ctx)
	if err != nil {
		return nil, wrap("terraform.plan", err)
	}
	return out.values(), nil
}

// wrap names the action; the kinds of outcome stay.
func wrap(name string, err error) error { return fmt.Errorf("%s: %w", name, err) }

func (a *actions) newJob(call *action.Call, params *PlanParams) (*job, error) {
	if err := params.check(); err != nil {
		return nil, action.Permanent(err)
	}
	binary, err := find(a.Binary)
	if err != nil {
		return nil, err
	}
	dir, err := moduleDir(call.Dir, params.Dir)
	if err != nil {
		return nil, err
	}
	base, err := call.Path()
	if err != nil {
		return nil, err
	}
	dataDir, private := base+".tfdata", base+".private"
	if err := errors.Join(os.RemoveAll(dataDir), os.RemoveAll(private)); err != nil {
		return nil, fmt.Errorf("clear what an earlier attempt left: %w", err)
	}
	if err := errors.Join(a.prepare(), os.Mkdir(dataDir, 0o700)); err != nil {
		return nil, err
	}
	t, err := a.tool(call, binary, dir, dataDir)
	if err != nil {
		return nil, err
	}
	if err := t.give(call, params.Env, params.SecretEnv); err != nil {
		return nil, action.Permanent(err)
	}
	t.mask = t.mask.with(declaredSecrets(dir, params.Vars)...)
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, fmt.Errorf("make a private directory: %w", err)
	}
	return &job{tool: t, params: params, call: call, dataDir: dataDir, private: private, a: a}, nil
}

func (a *actions) tool(call *action.Call, binary, dir, dataDir string) (*tool, error) {
	env, err := a.env(dataDir)
	if err != nil {
		return nil, err
	}
	return &tool{
		runner: a.Runner, binary: binary, name: filepath.Base(binary), dir: dir, env: env, grace: a.Grace,
		key: call.RunID + "/" + call.StepID, log: call.Log,
	}, nil
}

// moduleDir finds the root module.
func moduleDir(runDir, dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(runDir, dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find dir: %w", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", action.Permanent(fmt.Errorf("dir %s is not a directory: check the path below the checkout", dir))
	}
	return dir, nil
}

func (j *job) run(ctx context.Context) (PlanOutputs, error) {
	release, err := j.hold(ctx)
	if err != nil {
		return PlanOutputs{}, err
	}
	defer release()
	// The state's serial is read before the plan: a change in between makes the plan stale rather than unnoticed.
	from, err := j.observe(ctx, j.dataDir)
	if err != nil {
		return PlanOutputs{}, j.classify(ctx, err)
	}
	if err := j.make(ctx); err != nil {
		return PlanOutputs{}, j.classify(ctx, err)
	}
	return j.keep(ctx, from)
}

// hold installs what the module needs, and waits until nobody else in this process works on its state.
func (j *job) hold(ctx context.Context) (release func(), err error) {
	if err := j.install(ctx); err != nil {
		return nil, err
	}
	key, err := stateKey(j.dir, j.dataDir)
	if err != nil {
		return nil, err
	}
	return j.a.states.acquire(ctx, key)
}

// install runs init and chooses the workspace.
func (j *job) install(ctx context.Context) error {
	release, err := j.a.installs.acquire(ctx, "")
	if err != nil {
		return err
	}
	defer release()
	args := []string{"init", "-input=false", "-no-color", "-lock-timeout=" + seconds(j.params.LockTimeout)}
	if len(j.params.BackendConfig) > 0 {
		file, err := j.file("backend.tfvars.json", j.params.BackendConfig)
		if err != nil {
			return err
		}
		args = append(args, "-backend-config="+file)
	}
	if err := j.plain(ctx, args...); err != nil {
		return j.classify(ctx, err)
	}
	if j.params.Workspace == "" {
		return nil
	}
	return j.plain(ctx, "workspace", "select", "-no-color", fmt.Sprintf("-or-create=%t", !j.readOnly), j.params.Workspace)
}

// plain runs a command without machine-readable progress, and logs what it says.
func (j *job) plain(ctx context.Context, args ...string) error {
	lines := &lineWriter{each: func(line []byte) {
		if len(line) > 0 {
			fmt.Fprintln(j.log, j.mask.text(string(line)))
		}
	}}
	code, said, err := j.tool.run(ctx, lines, args...)
	lines.flush()
	if err != nil {
		return err
	}
	if code != 0 {
		return &failure{j.name + " " + args[0], []diagnostic{{Severity: "error", Summary: said}}}
	}
	return nil
}

// file keeps values where only terraform reads them: arguments can be read by every user of the machine.
func (j *job) file(name string, values any) (string, error) {
	text, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	path := filepath.Join(j.private, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

func (j *job) planFile() string { return filepath.Join(j.private, "plan") }

// make runs plan. Exit code 2 says that there are changes (-detailed-exitcode).
func (j *job) make(ctx context.Context) error {
	args := []string{"plan", "-json", "-input=false", "-detailed-exitcode", "-out=" + j.planFile(), "-lock-timeout=" + seconds(j.params.LockTimeout)}
	if !j.params.Refresh {
		args = append(args, "-refresh=false")
	}
	if j.refreshOnly {
		args = append(args, "-refresh-only")
	}
	if j.params.Destroy {
		args = append(args, "-destroy")
	}
	for _, target := range j.params.Targets {
		args = append(args, "-target="+target)
	}
	for _, file := range j.params.VarFiles {
		args = append(args, "-var-file="+file)
	}
	if len(j.params.Vars) > 0 {
		file, err := j.file("vars.tfvars.json", j.params.Vars)
		if err != nil {
			return err
		}
		args = append(args, "-var-file="+file)
	}
	code, told, err := j.stream(ctx, args...)
	if err != nil {
		return err
	}
	if code != 0 && code != 2 {
		return &failure{j.name + " plan", told.errors}
	}
	j.differs = code == 2
	return nil
}

// read returns the plan, and what it says to people. What it holds of secrets is masked from then on.
func (j *job) read(ctx context.Context) (*tfjson.Plan, string, error) {
	text, err := j.answer(ctx, "show", "-json", "-no-color", j.planFile())
	if err != nil {
		return nil, "", err
	}
	var plan tfjson.Plan
	if err := plan.UnmarshalJSON(text); err != nil {
		return nil, "", action.Permanent(errors.New("read the plan as JSON: this version of the program writes another format"))
	}
	j.mask = j.mask.with(planSecrets(&plan)...)
	summary, err := j.answer(ctx, "show", "-no-color", j.planFile())
	if err != nil {
		return nil, "", err
	}
	return &plan, limit(j.mask.text(string(summary)), maxSummary), nil
}

// keep encrypts the plan and says what it is.
func (j *job) keep(ctx context.Context, from base) (PlanOutputs, error) {
	plan, summary, err := j.read(ctx)
	if err != nil {
		return PlanOutputs{}, err
	}
	data, err := os.ReadFile(j.planFile())
	if err != nil {
		return PlanOutputs{}, fmt.Errorf("read the saved plan: %w", err)
	}
	path := j.private[:len(j.private)-len(".private")] + "." + targetMark(j.call.Dir, j.dir, j.params.Workspace) + ".plan.age"
	err = j.a.vault.seal(path, sealed{
		RunID: j.call.RunID, Binary: j.binary, Dir: j.dir, DataDir: j.dataDir, Base: from, Secrets: j.mask.secrets, Plan: data,
	})
	if err != nil {
		return PlanOutputs{}, err
	}
	out := describe(plan)
	out.File, out.Commit, out.Serial, out.Lineage = path, from.Commit, from.Serial, from.Lineage
	out.Summary = summary
	return out, nil
}

// describe counts as terraform does: a replacement is one destroyed and one added.
func describe(p *tfjson.Plan) PlanOutputs {
	out := PlanOutputs{JSON: []any{}}
	for _, rc := range p.ResourceChanges {
		if rc.Change == nil || rc.Mode != tfjson.ManagedResourceMode {
			continue
		}
		var names []any
		for _, act := range rc.Change.Actions {
			switch act {
			case tfjson.ActionCreate:
				out.Add++
			case tfjson.ActionUpdate:
				out.Change++
			case tfjson.ActionDelete:
				out.Destroy++
			case tfjson.ActionNoop, tfjson.ActionRead:
				continue
			}
			names = append(names, string(act))
		}
		if len(names) > 0 && len(out.JSON) < maxChanges {
			out.JSON = append(out.JSON, map[string]any{"address": rc.Address, "actions": names})
		}
	}
	for _, c := range p.OutputChanges {
		if c != nil && !c.Actions.NoOp() {
			out.OutputChanges++
		}
	}
	out.Changes = out.Add + out.Change + out.Destroy
	return out
}

func (o PlanOutputs) values() action.Outputs {
	return action.Outputs{
		"file": o.File, "changes": o.Changes, "add": o.Add, "change": o.Change, "destroy": o.Destroy,
		"outputChanges": o.OutputChanges, "summary": o.Summary, "json": o.JSON,
		"commit": o.Commit, "serial": o.Serial, "lineage": o.Lineage,
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int64(d.Seconds())) }

// noRetry are summaries of terraform's errors that validate does not find and no retry cures.
var noRetry = []string{"No value for required variable", "Invalid value for variable", "Invalid value for input variable", "Value for undeclared variable", "Too many command line arguments", "Failed to read variables file", "Failed to parse command-line flags"}

// classify marks what no retry cures: what validate finds wrong in the configuration too, without touching state or
// network. All else may be the network's or a provider's.
func (j *job) classify(ctx context.Context, err error) error {
	var f *failure
	if !errors.As(err, &f) || f.says("state lock") {
		return err
	}
	if f.says(noRetry...) {
		return action.Permanent(err)
	}
	wrong := j.validate(ctx)
	if len(wrong) == 0 {
		return err
	}
	return action.Permanent(&failure{f.what, wrong})
}

// validate returns the mistakes of the configuration itself: those that have a place in it. Providers and modules that
// could not be installed are none.
func (j *job) validate(ctx context.Context) []diagnostic {
	out := &bounded{left: maxOutput}
	if _, _, err := j.tool.run(ctx, out, "validate", "-json"); err != nil {
		return nil
	}
	var answer struct {
		Diagnostics []diagnostic `json:"diagnostics"`
	}
	if json.Unmarshal(out.Bytes(), &answer) != nil {
		return nil
	}
	var wrong []diagnostic
	for _, d := range answer.Diagnostics {
		missing := (&failure{found: []diagnostic{d}}).says("not installed", "Missing required provider", "initialization required")
		if d.Severity == "error" && d.Range != nil && !missing {
			d.Summary, d.Detail = j.mask.text(d.Summary), j.mask.text(d.Detail)
			wrong = append(wrong, d)
		}
	}
	return wrong
}
