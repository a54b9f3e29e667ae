package cli

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionOfABuildThatStampsNone(t *testing.T) {
	for module, want := range map[string]string{"": "dev", "(devel)": "dev", "v1.2.3": "v1.2.3"} {
		info := &debug.BuildInfo{Main: debug.Module{Version: module}}
		if got := builtVersion(info, true); got != want {
			t.Errorf("module version %q gives %q, not %q", module, got, want)
		}
	}
	if got := builtVersion(nil, false); got != "dev" {
		t.Errorf("without build information it is %q", got)
	}
}
