package terraform

import (
	"cmp"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
)

// maxMark is how much of a target's name fits into a file's name, which has 255 bytes and more in it.
const maxMark = 120

// targetMark names the root module and the workspace as a part of the plan's file name: so terraform.apply knows what it
// would change from its parameter alone, also on a machine that has no plan yet.
func targetMark(runDir, dir, workspace string) string {
	name := moduleName(runDir, dir) + "@" + cmp.Or(workspace, "default")
	if len(name) > maxMark {
		name = name[len(name)-maxMark:]
	}
	return base64.RawURLEncoding.EncodeToString([]byte(name))
}

// moduleName is the path of a root module within its checkout; without one within the run's directory, and outside of that
// its whole path.
func moduleName(runDir, dir string) string {
	runDir, err := filepath.Abs(runDir)
	within, wrong := filepath.Rel(runDir, dir)
	if err != nil || wrong != nil || !filepath.IsLocal(within) {
		return filepath.ToSlash(dir)
	}
	for at := dir; at != runDir; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			if rel, err := filepath.Rel(at, dir); err == nil {
				return filepath.ToSlash(rel)
			}
		}
	}
	return filepath.ToSlash(within)
}

// applyTarget is the repository of the event, if there is one, with what the plan's file name says.
func applyTarget(call *action.Call) string {
	plan := filepath.Base(call.Params.(*ApplyParams).Plan)
	parts := strings.Split(strings.TrimSuffix(plan, ".plan.age"), ".")
	name, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || !strings.HasSuffix(plan, ".plan.age") {
		return ""
	}
	repository := ""
	if call.Event != nil && call.Event.Repo != "" {
		repository = call.Event.Repo + "/"
	}
	return strings.ToValidUTF8("terraform "+repository+string(name), "�")
}
