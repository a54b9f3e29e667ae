package terraform

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
)

func (b *bench) drift(p DriftParams) action.Outputs {
	b.t.Helper()
	p.Dir = b.dir
	var log bytes.Buffer
	out, err := Definitions(b.opts)[2].Run(b.t.Context(), b.call("drift", &p, &log))
	if err != nil {
		b.t.Fatalf("drift: %v\n%s", err, log.String())
	}
	return out
}

func TestDrift(t *testing.T) {
	b := newBench(t, `resource "terraform_data" "a" { input = "one" }`)
	if out := b.drift(DriftParams{}); out["drifted"] != true || out["changes"] != int64(1) || !reflect.DeepEqual(out["addresses"], []any{"terraform_data.a"}) {
		t.Errorf("before the first apply: %v", out)
	}
	if _, log, err := b.applyFile(b.mustPlan(PlanParams{})["file"]); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if out := b.drift(DriftParams{}); out["drifted"] != false || out["changes"] != int64(0) || len(out["addresses"].([]any)) != 0 || !strings.Contains(out["summary"].(string), "No changes") {
		t.Errorf("after it: %v", out)
	}
	state, err := os.ReadFile(filepath.Join(b.dir, "terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("main.tf", `resource "terraform_data" "a" { input = "two" }`)
	if out := b.drift(DriftParams{}); out["drifted"] != true || out["changes"] != int64(1) || !strings.Contains(out["summary"].(string), "terraform_data.a") {
		t.Errorf("with another configuration: %v", out)
	}
	if out := b.drift(DriftParams{RefreshOnly: true}); out["drifted"] != false {
		t.Errorf("with another configuration, which does not count: %v", out)
	}
	after, err := os.ReadFile(filepath.Join(b.dir, "terraform.tfstate"))
	if err != nil || !bytes.Equal(state, after) {
		t.Errorf("the state was changed: %v", err)
	}
	files, err := os.ReadDir(b.runDir)
	if err != nil || slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), "drift.") }) {
		t.Errorf("the step left files: %v, %v", files, err)
	}
}

// TestRefreshOnlySeesWhatChangedOutside uses the one thing outside that terraform reads without a provider: another state.
func TestRefreshOnlySeesWhatChangedOutside(t *testing.T) {
	b := newBench(t, "")
	other := filepath.Join(t.TempDir(), "other.tfstate")
	write := func(value string) {
		t.Helper()
		text := `{"version":4,"terraform_version":"1.0.0","serial":1,"lineage":"x","outputs":{"v":{"value":"` + value + `","type":"string"}},"resources":[]}`
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	b.write("main.tf", `
data "terraform_remote_state" "o" {
  backend = "local"
  config  = { path = "`+other+`" }
}
output "v" { value = data.terraform_remote_state.o.outputs.v }
`)
	if _, log, err := b.applyFile(b.mustPlan(PlanParams{})["file"]); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if out := b.drift(DriftParams{RefreshOnly: true}); out["drifted"] != false {
		t.Errorf("nothing changed: %v", out)
	}
	write("two")
	if out := b.drift(DriftParams{RefreshOnly: true}); out["drifted"] != true || out["outputChanges"] != int64(1) {
		t.Errorf("the other state changed: %v", out)
	}
}

func TestDifferences(t *testing.T) {
	change := func(address string, mode tfjson.ResourceMode, actions ...tfjson.Action) *tfjson.ResourceChange {
		return &tfjson.ResourceChange{Address: address, Mode: mode, Change: &tfjson.Change{Actions: actions}}
	}
	plan := &tfjson.Plan{
		ResourceChanges: []*tfjson.ResourceChange{
			change("a", tfjson.ManagedResourceMode, tfjson.ActionUpdate), change("b", tfjson.ManagedResourceMode, tfjson.ActionDelete, tfjson.ActionCreate),
			change("c", tfjson.ManagedResourceMode, tfjson.ActionNoop), change("data.d", tfjson.DataResourceMode, tfjson.ActionRead),
		},
		ResourceDrift: []*tfjson.ResourceChange{change("e", tfjson.ManagedResourceMode, tfjson.ActionDelete)},
	}
	if out := differences(plan, false); out.Changes != 2 || !reflect.DeepEqual(out.Addresses, []any{"a", "b"}) {
		t.Errorf("differences %+v", out)
	}
	if out := differences(plan, true); out.Changes != 1 || !reflect.DeepEqual(out.Addresses, []any{"e"}) {
		t.Errorf("differences of the state alone %+v", out)
	}
}

func TestDriftConformance(t *testing.T) {
	b := newBench(t, `
variable "v" {
  default   = "none"
  sensitive = true
}
resource "terraform_data" "a" {
  input = var.v
}
`)
	secrets := map[string]string{"db": secretText}
	actiontest.Run(t, Definitions(b.opts)[2], []actiontest.Case{
		{Name: "drift", Params: &DriftParams{Dir: b.dir, SecretEnv: map[string]action.SecretRef{"TF_VAR_v": {Secret: "db"}}}, Secrets: secrets,
			Outputs: action.Outputs{"drifted": true, "changes": int64(1)},
			Check: func(t *testing.T, out action.Outputs, log string, _ error) {
				noSecret(t, "outputs and log", []any{out, log})
			}},
		{Name: "no directory", Params: &DriftParams{Dir: "missing"}, Want: actiontest.Permanent, ErrorHas: []string{"missing"}},
		{Name: "a workspace that is not there is not made", Params: &DriftParams{Dir: b.dir, Workspace: "new"}, Want: actiontest.Fails, ErrorHas: []string{"new"}},
	})
}
