// Package audit says what an audit log holds: who had what done, and what the server decided on its own. It is pure; an
// Entry is never changed once it is written, and its fields are only ever added to.
package audit

import (
	"context"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// Entry is one thing that changed something, or would have.
type Entry struct {
	At time.Time
	// Who is the name of a token, "loopback" where none is needed, or Server.
	Who string
	// From is the remote address of a request; behind a proxy it is the proxy's.
	From string
	// Action is what was asked for or done: the API's name of an operation such as cancelRun, or one of the words below.
	Action string
	Target string // what it was done to: the id of a run or an event, a revision of the rules
	Result string // OK, Refused or Failed; of a run that ended its state
	Reason string // of a result other than OK
	Detail map[string]string
}

// Server is who does what nobody ordered.
const Server = "riposte"

// Results of what people ask for.
const (
	OK      = "ok"
	Refused = "refused"
	Failed  = "failed"
)

// Actions of the server.
const (
	RunCreated     = "run.created"
	RunEnded       = "run.ended"   // Result is the state it ended in
	RunOrdered     = "run.ordered" // a run heard an order, and Reason says what came of it
	RulesActivated = "rules.activated"
)

// Writer takes entries. An entry is durable when Audit returns no error.
type Writer interface {
	Audit(ctx context.Context, e Entry) error
}

// Decisions returns what an entry of a run journal says for an audit log: runs that began, ended or were refused, and orders
// that were heard. Of steps and of events that started nothing it has none.
func Decisions(e run.Entry) []Entry {
	switch {
	case len(e.Runs) > 0:
		out := make([]Entry, len(e.Runs))
		for i, c := range e.Runs {
			out[i] = created(e, c)
		}
		return out
	case e.Kind == run.Ended && e.Phase == run.Main:
		return []Entry{{At: e.At, Who: Server, Action: RunEnded, Target: e.Run, Result: string(e.State), Reason: because(e.Reason, e.Error)}}
	case e.Kind == run.Commanded && e.Run != "":
		out := Entry{At: e.At, Who: Server, Action: RunOrdered, Target: e.Run, Result: OK, Reason: e.Why, Detail: map[string]string{"order": e.Command}}
		if c := e.Consent; c != nil {
			out.Who, out.Detail["via"] = c.Who, c.Via
			if c.Comment != "" {
				out.Detail["comment"] = c.Comment
			}
		}
		return []Entry{out}
	}
	return nil
}

func created(e run.Entry, c run.Created) Entry {
	out := Entry{
		At: e.At, Who: Server, Action: RunCreated, Target: c.ID, Result: OK, Reason: because(c.Reason, c.Message),
		Detail: map[string]string{"rule": c.Rule, "event": e.Event, "ruleRevision": e.Revision},
	}
	if c.Event != "" {
		out.Detail["event"] = c.Event
	}
	if c.State.Ended() { // refused or observed, and so over at once
		out.Action, out.Result = RunEnded, string(c.State)
	}
	for key, value := range out.Detail {
		if value == "" {
			delete(out.Detail, key)
		}
	}
	return out
}

// because joins a word and a sentence, of which either may be missing.
func because(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}
