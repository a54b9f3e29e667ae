package event

import (
	"strings"
	"testing"
)

func TestMarkerRun(t *testing.T) {
	const id = "01234567890123456789ABCDEF"
	for body, run := range map[string]string{
		"<!-- riposte:0a1b " + id + "_plan_on_request.comment -->\nPlan: 1 to add": id + "-plan-on-request",
		"<!-- riposte:0a1b " + id + "_plan.a_b -->\r\nPlan":                        id + "-plan",
		"": "", "looks good": "",
		"> <!-- riposte:0a1b " + id + "_plan.comment -->":          "", // quoted by a person
		"yes\n<!-- riposte:0a1b " + id + "_plan.comment -->":       "",
		"<!-- riposte:0a1b " + id + "_plan -->":                    "",
		"<!-- riposte:0a1b " + id + ".comment -->":                 "",
		"<!-- riposte:0a1b " + id + "_pl<n.comment -->":            "",
		"<!-- riposte:0a1b " + strings.Repeat("x", 300) + ".s -->": "",
	} {
		if got := MarkerRun(body); got != run {
			t.Errorf("%q is by %q, want %q", body, got, run)
		}
	}
}

func TestCausingRun(t *testing.T) {
	id := ID("a", "b")
	for causedBy, run := range map[string]string{"": "", id: "", id + "-heal": id + "-heal"} {
		if got := (&Event{CausedBy: causedBy}).CausingRun(); got != run {
			t.Errorf("%q names run %q", causedBy, got)
		}
	}
}

func FuzzMarkerRun(f *testing.F) {
	f.Add("<!-- riposte:0a1b 01234567890123456789ABCDEF_plan.comment -->\n")
	f.Fuzz(func(t *testing.T, body string) {
		if run := MarkerRun(body); strings.ContainsAny(run, " \n\x00/.") || len(run) > maxTrailer {
			t.Errorf("run %q", run)
		}
	})
}
