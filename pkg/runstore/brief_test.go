package runstore

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

func TestTheBriefFormOfAnEntryLeavesOutOnlyWhatTheHistoryDoesNotKeep(t *testing.T) {
	full := run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Why: "no trigger matched"}
	for name, tc := range map[string]struct{ in, want run.Entry }{
		"a decision without runs": {full, run.Entry{Kind: run.Decided, Event: "e"}},
		"a decision with a run": {
			run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Runs: []run.Created{{ID: "e-r", Rule: "r"}}},
			run.Entry{At: noon(), Kind: run.Decided, Event: "e", Revision: "r", Runs: []run.Created{{ID: "e-r", Rule: "r"}}},
		},
		"a step's end": {
			run.Entry{At: noon(), Kind: run.Finished, Run: "r", Phase: run.OnFailure, Step: "s", Uses: "u", Attempt: 2, StepState: run.StepFailed,
				Outputs: run.Values{"run": "x"}, State: run.Refused, Reason: "NotGranted", Error: "says \"no\"\n"},
			run.Entry{At: noon(), Kind: run.Finished, Run: "r", Phase: run.OnFailure, State: run.Refused, Reason: "NotGranted", Error: "says \"no\"\n"},
		},
		"a step's beginning": {
			run.Entry{At: noon(), Kind: run.Started, Run: "r", Step: "s", Uses: "u", Attempt: 2, Changes: true, Group: true, Items: run.List{"x"}},
			run.Entry{At: noon(), Kind: run.Started, Run: "r", Changes: true},
		},
		"outputs that look like a decision": {
			run.Entry{At: noon(), Kind: run.Finished, Run: "r", Step: "s", Outputs: run.Values{"a": map[string]any{"kind": "decided", "z": "x"}}},
			run.Entry{At: noon(), Kind: run.Finished, Run: "r"},
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

func BenchmarkDecodeBrief(b *testing.B) {
	line, err := json.Marshal(run.Entry{At: noon(), Kind: run.Finished, Run: "01JNZQ5T3S8F0123456789ABCD-rule", Step: "a", Uses: "bench.nop", Attempt: 1, StepState: run.StepSucceeded})
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func([]byte) (run.Entry, error){"brief": decodeBrief, "whole": decodeEntry} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := decode(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
