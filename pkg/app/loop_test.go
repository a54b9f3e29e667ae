package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// TestAnAutomationsOwnPushDoesNotTriggerItselfForEver has a rule push in answer to each push, and the host send each of its
// pushes back as a webhook, whose newest commit names the run.
func TestAnAutomationsOwnPushDoesNotTriggerItselfForEver(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.Loops.MaxDepth, c.Loops.Accounts = 2, []string{"Riposte-Bot"}
	c.Rules.Dirs = []string{t.TempDir()}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(githubSource + ruleDoc("fix", "  steps: [{uses: push}]\n"))
	pushed := make(chan string, 10)
	var s *server
	var n atomic.Int64
	push := func(message, sender string) string {
		text, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		return s.push(fmt.Sprintf(`{"ref":"refs/heads/main","after":"c%d","head_commit":{"message":%s},"sender":{"login":"%s"},"repository":{"full_name":"acme/shop"}}`,
			n.Add(1), text, sender)).ID
	}
	s = launch(t, c, probe("push", false, func(_ context.Context, call *action.Call) error {
		pushed <- push(event.WithTrailers("fix it", call.RunID, call.Rule), "riposte-bot")
		return nil
	}))
	id, above := push("by a person", "ana"), ""
	for depth := range 4 {
		r := s.ended(id + "-fix")
		if r.Depth != depth || r.CausedBy != above {
			t.Errorf("depth %d, caused by %q; want %d and %q", r.Depth, r.CausedBy, depth, above)
		}
		if depth == 3 {
			if r.State != run.Refused || r.Reason != run.ReasonLoop || !strings.Contains(r.Message, "fix (run "+r.CausedBy+")") {
				t.Errorf("%s %s %s", r.State, r.Reason, r.Message)
			}
			break
		}
		if r.State != run.Succeeded {
			t.Fatalf("depth %d is %s %s", depth, r.State, r.Message)
		}
		id, above = <-pushed, r.ID
	}
	var e struct{ CausedBy string }
	if s.get("events/"+id, &e); e.CausedBy != above {
		t.Errorf("the API says that the event was caused by %q", e.CausedBy)
	}
	select {
	case id := <-pushed:
		t.Errorf("event %s is one too many", id)
	default:
	}
	if r := s.ended(push("no trailer", "riposte-bot") + "-fix"); r.State != run.Refused || r.Reason != run.ReasonLoop || !strings.Contains(r.Message, "loops.accounts") {
		t.Errorf("a push of our own account: %s %s %s", r.State, r.Reason, r.Message)
	}
}
