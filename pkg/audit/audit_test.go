package audit_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/run"
)

func TestDecisions(t *testing.T) {
	at := time.Unix(1, 0)
	for name, tc := range map[string]struct {
		entry run.Entry
		want  []audit.Entry
	}{
		"runs of a decision": {
			run.Entry{At: at, Kind: run.Decided, Event: "E", Revision: "abc", Runs: []run.Created{{ID: "E-a", Rule: "a"}, {ID: "E-b", Rule: "b", State: run.Refused, Reason: "AbsentField", Message: "by is absent"}}},
			[]audit.Entry{
				{At: at, Who: "riposte", Action: "run.created", Target: "E-a", Result: "ok", Detail: map[string]string{"rule": "a", "event": "E", "ruleRevision": "abc"}},
				{At: at, Who: "riposte", Action: "run.ended", Target: "E-b", Result: "refused", Reason: "AbsentField: by is absent", Detail: map[string]string{"rule": "b", "event": "E", "ruleRevision": "abc"}},
			},
		},
		"a window's run": {
			run.Entry{At: at, Kind: run.Fired, Runs: []run.Created{{ID: "W-a", Rule: "a", State: run.Pending, Event: "F"}}},
			[]audit.Entry{{At: at, Who: "riposte", Action: "run.created", Target: "W-a", Result: "ok", Detail: map[string]string{"rule": "a", "event": "F"}}},
		},
		"no run":       {run.Entry{Kind: run.Decided, Event: "E", Why: "no rule"}, nil},
		"a step":       {run.Entry{Kind: run.Finished, Run: "E-a", StepState: run.StepFailed}, nil},
		"a part's end": {run.Entry{Kind: run.Ended, Run: "E-a", Phase: run.OnFailure, State: run.Failed}, nil},
		"a run's end":  {run.Entry{At: at, Kind: run.Ended, Run: "E-a", State: run.Failed, Reason: "StepFailed"}, []audit.Entry{{At: at, Who: "riposte", Action: "run.ended", Target: "E-a", Result: "failed", Reason: "StepFailed"}}},
		"an order":     {run.Entry{At: at, Kind: run.Commanded, Run: "E-a", Command: "cancel"}, []audit.Entry{{At: at, Who: "riposte", Action: "run.ordered", Target: "E-a", Result: "ok", Detail: map[string]string{"order": "cancel"}}}},
		"a consent": {run.Entry{At: at, Kind: run.Commanded, Run: "E-a", Command: "approve", Consent: &run.Consent{Who: "ana", Via: "link", Comment: "fine"}},
			[]audit.Entry{{At: at, Who: "ana", Action: "run.ordered", Target: "E-a", Result: "ok", Detail: map[string]string{"order": "approve", "via": "link", "comment": "fine"}}}},
		"order, no run": {run.Entry{Kind: run.Commanded, Command: "cancel"}, nil},
	} {
		if got := audit.Decisions(tc.entry); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
