package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

const secretText = "hunter2-correct-horse"

// bench is a root module, a run's directory and the two actions.
type bench struct {
	t           *testing.T
	dir, runDir string
	opts        Options
	plan, apply action.Definition
}

func newBench(t *testing.T, config string) *bench {
	t.Helper()
	if _, err := find(""); err != nil {
		t.Skip("neither terraform nor tofu is on PATH: install one")
	}
	b := &bench{t: t, dir: t.TempDir(), runDir: t.TempDir()}
	b.opts = Options{Dir: filepath.Join(t.TempDir(), "terraform"), Runner: newRunner(t)}
	b.use(b.opts)
	b.write("main.tf", config)
	return b
}

func (b *bench) use(o Options) {
	defs := Definitions(o)
	b.plan, b.apply = defs[0], defs[1]
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) call(step string, params any, log io.Writer) *action.Call {
	return &action.Call{RunID: "run1", StepID: step, Attempt: 1, Params: params, Dir: b.runDir, Log: log}
}

func (b *bench) planWith(p PlanParams) (action.Outputs, string, error) {
	b.t.Helper()
	p.Dir, p.Refresh = b.dir, true
	var log bytes.Buffer
	out, err := b.plan.Run(b.t.Context(), b.call("plan", &p, &log))
	return out, log.String(), err
}

func (b *bench) mustPlan(p PlanParams) action.Outputs {
	b.t.Helper()
	out, log, err := b.planWith(p)
	if err != nil {
		b.t.Fatalf("plan: %v\n%s", err, log)
	}
	return out
}

func (b *bench) applyFile(file any) (action.Outputs, string, error) {
	b.t.Helper()
	var log bytes.Buffer
	out, err := b.apply.Run(b.t.Context(), b.call("apply", &ApplyParams{Plan: file.(string)}, &log))
	return out, log.String(), err
}

func TestPlanAndApplyCycle(t *testing.T) {
	b := newBench(t, `
variable "size" { type = number }
resource "terraform_data" "a" { input = var.size }
resource "terraform_data" "b" {
  count = var.size
  input = count.index
}
output "size" { value = terraform_data.a.output }
output "list" { value = ["x", 1.5, true] }
`)
	out := b.mustPlan(PlanParams{Vars: map[string]any{"size": int64(2)}})
	want := map[string]any{"add": int64(3), "change": int64(0), "destroy": int64(0), "changes": int64(3), "serial": int64(0), "lineage": "", "commit": "", "outputChanges": int64(2)}
	for k, v := range want {
		if out[k] != v {
			t.Errorf("first plan: %s = %v, want %v", k, out[k], v)
		}
	}
	if list := out["json"].([]any); len(list) != 3 {
		t.Errorf("json = %v", list)
	} else if got := list[0].(map[string]any)["actions"].([]any)[0]; got != "create" {
		t.Errorf("first action is %v", got)
	}
	if !strings.Contains(out["summary"].(string), "3 to add") {
		t.Errorf("summary = %s", out["summary"])
	}

	done, log, err := b.applyFile(out["file"])
	if err != nil {
		t.Fatalf("apply: %v\n%s", err, log)
	}
	if done["add"] != int64(3) || done["change"] != int64(0) || done["destroy"] != int64(0) {
		t.Errorf("applied %v", done)
	}
	outputs := done["outputs"].(map[string]any)
	if outputs["size"] != int64(2) || fmt.Sprint(outputs["list"]) != "[x 1.5 true]" {
		t.Errorf("outputs = %v", outputs)
	}
	if !strings.Contains(log, "Apply complete") {
		t.Errorf("log does not show progress: %s", log)
	}

	again := b.mustPlan(PlanParams{Vars: map[string]any{"size": int64(2)}})
	if again["changes"] != int64(0) || again["lineage"] == "" || again["serial"] == int64(0) {
		t.Errorf("plan without changes: %v", again)
	}

	destroy := b.mustPlan(PlanParams{Destroy: true, Vars: map[string]any{"size": int64(2)}})
	if destroy["destroy"] != int64(3) || destroy["changes"] != int64(3) {
		t.Errorf("destroy plan: %v", destroy)
	}
	if done, _, err = b.applyFile(destroy["file"]); err != nil || done["destroy"] != int64(3) {
		t.Errorf("destroyed %v, %v", done, err)
	}
}

func TestStalePlanIsRefused(t *testing.T) {
	config := `resource "terraform_data" "a" { input = "one" }`
	tests := map[string]func(b *bench, file string){
		"the state changed": func(b *bench, _ string) {
			other := b.mustPlanAs("other")
			if _, log, err := b.applyFile(other["file"]); err != nil {
				b.t.Fatalf("%v\n%s", err, log)
			}
		},
		"the configuration changed": func(b *bench, _ string) { b.write("more.tf", `output "x" { value = 1 }`) },
		"another run's plan": func(b *bench, file string) {
			v := vault{path: filepath.Join(b.opts.Dir, "plan.key")}
			s, err := v.open(file)
			if err != nil {
				b.t.Fatal(err)
			}
			s.RunID = "run2"
			if err := v.seal(file, s); err != nil {
				b.t.Fatal(err)
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, config)
			out := b.mustPlan(PlanParams{})
			change(b, out["file"].(string))
			_, _, err := b.applyFile(out["file"])
			var refused *action.RefusedError
			if !errors.As(err, &refused) || refused.Reason != "StalePlan" {
				t.Fatalf("err = %v, want StalePlan", err)
			}
		})
	}
}

func (b *bench) mustPlanAs(step string) action.Outputs {
	b.t.Helper()
	out, err := b.plan.Run(b.t.Context(), b.call(step, &PlanParams{Dir: b.dir, Refresh: true}, io.Discard))
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestCommitChangedSincePlanIsRefused(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not on PATH: install git")
	}
	b := newBench(t, `resource "terraform_data" "a" {}`)
	commit := func() {
		for _, args := range [][]string{{"init", "-q"}, {"add", "main.tf"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"}} {
			cmd := exec.Command("git", args...)
			cmd.Dir = b.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
		}
	}
	commit()
	out := b.mustPlan(PlanParams{})
	if len(out["commit"].(string)) != 40 {
		t.Fatalf("commit = %v", out["commit"])
	}
	commit()
	var refused *action.RefusedError
	if _, _, err := b.applyFile(out["file"]); !errors.As(err, &refused) || !strings.Contains(err.Error(), "commit") {
		t.Fatalf("err = %v, want a refusal that names the commit", err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	b := newBench(t, `
variable "password" {
  type      = string
  sensitive = true
}
variable "nested" {
  type      = any
  sensitive = true
}
resource "terraform_data" "a" {
  input = { user = "admin", pass = var.password, more = var.nested }
  provisioner "local-exec" { command = "echo ${var.password}; test -e ok" }
}
output "password" {
  value     = var.password
  sensitive = true
}
output "plain" { value = "visible" }
`)
	vars := map[string]any{"password": secretText, "nested": []any{map[string]any{"k": "nested-" + secretText}}}
	out, log, err := b.planWith(PlanParams{Vars: vars})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	noSecret(t, "plan's outputs", out)
	noSecret(t, "plan's log", log)
	noSecretBelow(t, b.runDir)

	// terraform itself quotes the command in this error.
	_, log, err = b.applyFile(out["file"])
	if err == nil || !strings.Contains(err.Error(), "***") {
		t.Fatalf("err = %v, want the masked command", err)
	}
	noSecret(t, "apply's error", err.Error())
	noSecret(t, "apply's log", log)
	noSecretBelow(t, b.runDir)

	b.write("ok", "")
	out, log, err = b.planWith(PlanParams{Vars: vars})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	out, log, err = b.applyFile(out["file"])
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, "apply's outputs", out)
	noSecret(t, "apply's log", log)
	if outputs := out["outputs"].(map[string]any); outputs["password"] != "***" || outputs["plain"] != "visible" {
		t.Errorf("outputs = %v", outputs)
	}
}

func noSecret(t *testing.T, where string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(secretText)) {
		t.Errorf("%s hold the secret: %s", where, text)
	}
}

// noSecretBelow looks at every file, packed archives of plans included since they would be found as such.
func noSecretBelow(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte(secretText)) || bytes.HasPrefix(text, []byte("PK\x03\x04")) {
			t.Errorf("%s holds the secret, or a plan in clear", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFailedPlanMasksDeclaredSecrets(t *testing.T) {
	b := newBench(t, `
variable "password" {
  type      = string
  sensitive = true
}
resource "terraform_data" "a" {
  lifecycle {
    precondition {
      condition     = length(var.password) > 100
      error_message = "too short: ${nonsensitive(var.password)}"
    }
  }
}
`)
	_, log, err := b.planWith(PlanParams{Vars: map[string]any{"password": secretText}})
	if err == nil || !strings.Contains(err.Error(), "too short: ***") {
		t.Fatalf("err = %v, want a masked one", err)
	}
	noSecret(t, "error", err.Error())
	noSecret(t, "log", log)
}

func TestEnvTakesSecrets(t *testing.T) {
	b := newBench(t, `
variable "v" { type = string }
output "v" { value = var.v }
`)
	var log bytes.Buffer
	call := b.call("plan", &PlanParams{Dir: b.dir, SecretEnv: map[string]action.SecretRef{"TF_VAR_v": {Secret: "db"}}}, &log)
	call.Secret = func(r action.SecretRef) (string, error) { return secretText + r.Secret, nil }
	out, err := b.plan.Run(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, "outputs", out)
	noSecret(t, "log", log.String())
	out, _, err = b.applyFile(out["file"])
	if err != nil {
		t.Fatal(err)
	}
	if got := out["outputs"].(map[string]any)["v"]; got != "***" {
		t.Errorf("output = %v", got)
	}
}

func TestBadConfigurationIsPermanent(t *testing.T) {
	tests := map[string]struct{ config, want string }{
		"syntax":           {`resource "terraform_data" {`, "main.tf:1"},
		"unknown argument": {`resource "terraform_data" "a" { colour = "red" }`, "colour"},
		"missing variable": {`variable "needed" {}`, "needed"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.config)
			_, log, err := b.planWith(PlanParams{})
			if !action.IsPermanent(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want a permanent one that says %q\n%s", err, c.want, log)
			}
		})
	}
}

func TestLockedStateIsRetryable(t *testing.T) {
	b := newBench(t, `
resource "terraform_data" "a" {
  provisioner "local-exec" { command = "echo started; exec sleep 600" }
}`)
	out := b.mustPlan(PlanParams{})
	ctx, cancel := context.WithCancel(t.Context())
	started := newWatcher("started")
	ended := make(chan error, 1)
	go func() {
		_, err := b.apply.Run(ctx, b.call("apply", &ApplyParams{Plan: out["file"].(string)}, started))
		ended <- err
	}()
	<-started.seen
	// Another process, as it were: its own locks, so that terraform's decides.
	o := b.opts
	o.Dir = t.TempDir()
	second := Definitions(o)[0]
	_, err := second.Run(t.Context(), b.call("second", &PlanParams{Dir: b.dir}, io.Discard))
	if err == nil || action.IsPermanent(err) || !strings.Contains(err.Error(), "state lock") {
		t.Errorf("err = %v, want a retryable one about the state lock", err)
	}
	cancel()
	<-ended
}

// watcher is a log that tells when a text was seen.
type watcher struct {
	text string
	once sync.Once
	seen chan struct{}
	mu   sync.Mutex
	all  bytes.Buffer
}

func newWatcher(text string) *watcher { return &watcher{text: text, seen: make(chan struct{})} }

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if bytes.Contains(w.all.Bytes(), []byte("(local-exec): "+w.text)) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func TestCancelLeavesNothingRunning(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	b := newBench(t, fmt.Sprintf(`
resource "terraform_data" "done" {}
resource "terraform_data" "a" {
  depends_on = [terraform_data.done]
  provisioner "local-exec" { command = "echo $$ > %s; echo started; exec sleep 600" }
}`, pidFile))
	out := b.mustPlan(PlanParams{})
	ctx, cancel := context.WithCancelCause(t.Context())
	log := newWatcher("started")
	ended := make(chan error, 1)
	go func() {
		_, err := b.apply.Run(ctx, b.call("apply", &ApplyParams{Plan: out["file"].(string)}, log))
		ended <- err
	}()
	<-log.seen
	why := errors.New("the run was cancelled")
	cancel(why)
	err := <-ended
	if !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the provisioner is still there: %v", err)
	}
	// terraform had time to write what it had done and to release its lock.
	if _, err := os.Stat(filepath.Join(b.dir, ".terraform.tfstate.lock.info")); err == nil {
		t.Error("the state is still locked")
	}
	next := b.mustPlan(PlanParams{})
	if next["lineage"] == "" || next["add"] != int64(1) && next["destroy"] != int64(1) {
		t.Errorf("the state lacks what was done: %v", next)
	}
}

func TestAppliesOfOneStateDoNotOverlap(t *testing.T) {
	var l locks
	release, err := l.acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.acquire(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	release()
	if release, err = l.acquire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	release()
	if len(l.held) != 0 {
		t.Errorf("%d locks are kept", len(l.held))
	}
}

func TestOfTwoAppliesOneIsStale(t *testing.T) {
	b := newBench(t, `resource "terraform_data" "a" { input = timestamp() }`)
	files := []any{b.mustPlanAs("one")["file"], b.mustPlanAs("two")["file"]}
	var wg sync.WaitGroup
	errs := make([]error, len(files))
	for i, file := range files {
		wg.Go(func() {
			_, errs[i] = b.apply.Run(t.Context(), b.call("apply", &ApplyParams{Plan: file.(string)}, io.Discard))
		})
	}
	wg.Wait()
	var refused *action.RefusedError
	if (errs[0] == nil) == (errs[1] == nil) || !errors.As(errors.Join(errs...), &refused) || refused.Reason != "StalePlan" {
		t.Errorf("errs = %v, want one success and one StalePlan", errs)
	}
}

// A file of the local modules that the root calls belongs to the configuration too.
func TestChangedModuleIsStale(t *testing.T) {
	b := newBench(t, `
module "m" { source = "./m" }`)
	module := filepath.Join(b.dir, "m")
	if err := os.Mkdir(module, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("m/main.tf", `resource "terraform_data" "a" {}`)
	out := b.mustPlan(PlanParams{})
	b.write("m/main.tf", `resource "terraform_data" "b" {}`)
	var refused *action.RefusedError
	if _, _, err := b.applyFile(out["file"]); !errors.As(err, &refused) {
		t.Errorf("err = %v", err)
	}
}

func TestVarFilesAndTargets(t *testing.T) {
	b := newBench(t, `
variable "x" { type = string }
resource "terraform_data" "a" { input = var.x }
resource "terraform_data" "b" { input = var.x }
`)
	b.write("prod.tfvars", `x = "from a file"`)
	out := b.mustPlan(PlanParams{VarFiles: []string{"prod.tfvars"}, Targets: []string{"terraform_data.a"}})
	if out["add"] != int64(1) || !strings.Contains(out["summary"].(string), "from a file") {
		t.Errorf("%v", out)
	}
}

func TestPlanFromElsewhereIsRefused(t *testing.T) {
	b := newBench(t, `resource "terraform_data" "a" {}`)
	out := b.mustPlan(PlanParams{})
	o := b.opts
	o.Dir = t.TempDir() // another machine, with another key
	b.use(o)
	if _, _, err := b.applyFile(out["file"]); !action.IsPermanent(err) {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := b.applyFile("nowhere.plan.age"); !action.IsPermanent(err) {
		t.Errorf("no such plan: %v", err)
	}
}

func TestWorkspaceAndBackendConfig(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.json")
	b := newBench(t, `
terraform {
  backend "local" {}
}
output "w" { value = terraform.workspace }
`)
	p := PlanParams{BackendConfig: map[string]string{"path": state, "workspace_dir": filepath.Dir(state)}, Workspace: "prod"}
	out := b.mustPlan(p)
	done, log, err := b.applyFile(out["file"])
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got := done["outputs"].(map[string]any)["w"]; got != "prod" {
		t.Errorf("workspace = %v", got)
	}
}

func TestMissingProgram(t *testing.T) {
	o := Options{Dir: t.TempDir(), Runner: newRunner(t), Binary: "no-such-terraform"}
	_, err := Definitions(o)[0].Run(t.Context(), &action.Call{RunID: "r", StepID: "plan", Dir: t.TempDir(), Log: io.Discard, Params: &PlanParams{Dir: "."}})
	if !action.IsPermanent(err) || !strings.Contains(err.Error(), "install") {
		t.Fatalf("err = %v", err)
	}
}

func TestPlanKeyIsPrivateAndKept(t *testing.T) {
	v := vault{path: filepath.Join(t.TempDir(), "key")}
	file := filepath.Join(t.TempDir(), "plan")
	if err := v.seal(file, sealed{RunID: "r", Plan: []byte(secretText)}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(v.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	later := vault{path: v.path}
	s, err := later.open(file)
	if err != nil || string(s.Plan) != secretText {
		t.Errorf("opened %+v, %v", s, err)
	}
	stranger := vault{path: filepath.Join(t.TempDir(), "key")}
	if _, err := stranger.open(file); err == nil {
		t.Error("another key opens the plan")
	}
}

func TestDescribeCountsReplacementsTwice(t *testing.T) {
	change := func(mode tfjson.ResourceMode, actions ...tfjson.Action) *tfjson.ResourceChange {
		return &tfjson.ResourceChange{Address: "x", Mode: mode, Change: &tfjson.Change{Actions: actions}}
	}
	out := describe(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{
		change(tfjson.ManagedResourceMode, tfjson.ActionDelete, tfjson.ActionCreate),
		change(tfjson.ManagedResourceMode, tfjson.ActionUpdate),
		change(tfjson.ManagedResourceMode, tfjson.ActionNoop),
		change(tfjson.DataResourceMode, tfjson.ActionRead),
	}})
	if out.Add != 1 || out.Destroy != 1 || out.Change != 1 || out.Changes != 3 || len(out.JSON) != 2 {
		t.Errorf("%+v", out)
	}
}

func TestEnvNamesThatSteerTerraformAreRefused(t *testing.T) {
	for _, name := range []string{"TF_CLI_ARGS", "TF_DATA_DIR", "TF_LOG", "LD_PRELOAD", "PATH", "a b", "X=Y", ""} {
		if checkEnv(map[string]string{name: "x"}) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if err := checkEnv(map[string]string{"AWS_REGION": "eu", "TF_VAR_x": "1", "TF_TOKEN_app": "x"}); err != nil {
		t.Error(err)
	}
}

func newRunner(t *testing.T) *command.Runner {
	t.Helper()
	r, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
