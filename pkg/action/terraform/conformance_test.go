package terraform

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
)

func TestConformance(t *testing.T) {
	b := newBench(t, `
variable "v" {
  default   = "none"
  sensitive = true
}
resource "terraform_data" "a" {
  input = var.v
}
output "v" {
  value     = var.v
  sensitive = true
}
`)
	secrets := map[string]string{"db": secretText}
	fromSecret := map[string]action.SecretRef{"TF_VAR_v": {Secret: "db"}}
	actiontest.Run(t, b.plan, []actiontest.Case{
		{Name: "plan", Params: &PlanParams{Dir: b.dir, Refresh: true, SecretEnv: fromSecret}, Secrets: secrets,
			Outputs: action.Outputs{"add": int64(1), "changes": int64(1)},
			Check: func(t *testing.T, out action.Outputs, log string, _ error) {
				noSecret(t, "outputs and log", []any{out, log})
			}},
		{Name: "no directory", Params: &PlanParams{Dir: "missing"}, Want: actiontest.Permanent, ErrorHas: []string{"missing"}},
		{Name: "unknown secret", Params: &PlanParams{Dir: b.dir, SecretEnv: map[string]action.SecretRef{"X": {Secret: "nope"}}}, Want: actiontest.Permanent, ErrorHas: []string{"secretEnv.X"}},
		{Name: "workspace that is an option", Params: &PlanParams{Dir: b.dir, Workspace: "-x"}, Want: actiontest.Permanent},
	})

	var file string
	// The plan stands in the call's own directory, as it does in a run.
	planned := func(config string) func(*testing.T, *action.Call) {
		return func(t *testing.T, call *action.Call) {
			b.write("main.tf", config)
			dir := call.Dir
			params := &PlanParams{Dir: b.dir, Refresh: true}
			out, err := b.plan.Run(t.Context(), &action.Call{RunID: call.RunID, StepID: "plan", Params: params, Dir: dir, Log: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			file = out["file"].(string)
			call.Params = &ApplyParams{Plan: file}
		}
	}
	started := newWatcher("started")
	actiontest.Run(t, b.apply, []actiontest.Case{
		{Name: "apply", Prepare: planned(`resource "terraform_data" "b" {}`), Outputs: action.Outputs{"add": int64(1), "destroy": int64(0)}},
		{Name: "failure", Prepare: planned("resource \"terraform_data\" \"c\" {\n  provisioner \"local-exec\" { command = \"exit 7\" }\n}"), Want: actiontest.Fails, ErrorHas: []string{"exit status 7"}},
		{Name: "no plan", Params: &ApplyParams{Plan: filepath.Join(t.TempDir(), "x")}, Want: actiontest.Permanent, ErrorHas: []string{"terraform.plan"}},
		{Name: "cancelled", Cancel: started.seen, Prepare: func(t *testing.T, call *action.Call) {
			planned("resource \"terraform_data\" \"d\" {\n  provisioner \"local-exec\" { command = \"echo started; exec sleep 600\" }\n}")(t, call)
			call.Log = started
		}},
	})
}
