package runstore

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

func TestTheBriefFormOfAnEntryLeavesOutOnlyWhyThereIsNoRun(t *testing.T) {
	full := run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Why: "no trigger matched"}
	for name, tc := range map[string]struct{ in, want run.Entry }{
		"a decision without runs": {full, run.Entry{Kind: run.Decided, Event: "e"}},
		"a decision with a run": {
			run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Runs: []run.Created{{ID: "e-r", Rule: "r"}}},
			run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Runs: []run.Created{{ID: "e-r", Rule: "r"}}},
		},
		"a step's end": {started("r", 1), started("r", 1)},
		"outputs that look like a decision": {
			run.Entry{At: noon(), Kind: run.Finished, Run: "r", Step: "s", Outputs: run.Values{"a": map[string]any{"kind": "decided", "z": "x"}}},
			run.Entry{At: noon(), Kind: run.Finished, Run: "r", Step: "s", Outputs: run.Values{"a": map[string]any{"kind": "decided", "z": "x"}}},
		},
	} {
		line, err := json.Marshal(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeBrief(line); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
