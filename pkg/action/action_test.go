package action_test

import (
	"path/filepath"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
)

// TestEachStepHasAPathOfItsOwn: also in workflows and as an item, and never outside of the run's directory.
func TestEachStepHasAPathOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	for step, want := range map[string]string{"src": "src", "tf/plan": "tf.plan", "each[3]/deploy/apply": "each[3].deploy.apply", "": "", ".": "", "..": ""} {
		got, err := (&action.Call{Dir: dir, StepID: step}).Path()
		switch {
		case want == "" && !action.IsPermanent(err):
			t.Errorf("step %q has path %q, %v", step, got, err)
		case want != "" && (err != nil || got != filepath.Join(dir, want)):
			t.Errorf("step %q has path %q, %v", step, got, err)
		}
	}
	for _, step := range []string{"../a", "a/../../b", "/etc"} {
		got, err := (&action.Call{Dir: dir, StepID: step}).Path()
		if err == nil && filepath.Dir(got) != dir {
			t.Errorf("step %q has path %q", step, got)
		}
	}
	if _, err := (&action.Call{StepID: "src"}).Path(); err == nil {
		t.Error("there is a path without a directory")
	}
}
