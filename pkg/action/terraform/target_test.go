package terraform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
)

// TestTheTargetOfAnApplyIsTheModuleAndItsWorkspace, by the plan's name alone and wherever the run's directory is.
func TestTheTargetOfAnApplyIsTheModuleAndItsWorkspace(t *testing.T) {
	run := t.TempDir()
	checkout := filepath.Join(run, "src")
	if err := os.MkdirAll(filepath.Join(checkout, ".git"), 0o700); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("modules/", 40) + "network"
	for _, tc := range []struct{ dir, workspace, want string }{
		{filepath.Join(checkout, "network"), "", "terraform acme/infra/network@default"},
		{filepath.Join(checkout, "network"), "prod", "terraform acme/infra/network@prod"},
		{checkout, "", "terraform acme/infra/.@default"},
		{filepath.Join(run, "other", "a.plan.age"), "", "terraform acme/infra/other/a.plan.age@default"},
		{"/srv/terraform", "", "terraform acme/infra//srv/terraform@default"},
		{filepath.Join(checkout, deep), "", "terraform acme/infra/" + (deep + "@default")[len(deep)+8-maxMark:]},
	} {
		for _, step := range []string{"plan", "tf.plan", "each[0].plan"} {
			file := filepath.Join("/elsewhere", step+"."+targetMark(run, tc.dir, tc.workspace)+".plan.age")
			got := applyTarget(&action.Call{Params: &ApplyParams{Plan: file}, Event: &action.EventInfo{Repo: "acme/infra"}})
			if got != tc.want || len(filepath.Base(file)) > 255 {
				t.Errorf("%s: target %q, want %q", file, got, tc.want)
			}
		}
	}
	for _, file := range []string{"", "plan", "plan.age", "x.plan.age", "plan.****.plan.age"} {
		got := applyTarget(&action.Call{Params: &ApplyParams{Plan: file}})
		if got != "" && file != "x.plan.age" {
			t.Errorf("%q has target %q", file, got)
		}
	}
}
