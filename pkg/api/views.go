package api

import (
	"encoding/json"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// The types of this file are the API's promise: what the log and the journals hold can change without them.

// Event is an event as the API shows it.
type Event struct {
	ID          string             `json:"id"`
	Source      string             `json:"source"`
	Type        string             `json:"type"`
	Time        time.Time          `json:"time"`
	ReceivedAt  time.Time          `json:"receivedAt"`
	DeliveryID  string             `json:"deliveryID"`
	Subject     string             `json:"subject"`
	Headers     map[string]string  `json:"headers,omitempty"`
	Git         *event.Git         `json:"git,omitempty"`
	Alert       *event.Alert       `json:"alert,omitempty"`
	PullRequest *event.PullRequest `json:"pullRequest,omitempty"`
	Data        json.RawMessage    `json:"data"`
	CausedBy    string             `json:"causedBy,omitempty"`
	// Decision is shown of a single event, once it is made, and in lists where a diff found the changed paths.
	Decision *Decision `json:"decision,omitempty"`
}

// Decision is what was decided about an event.
type Decision struct {
	At       time.Time `json:"at"`
	Revision string    `json:"ruleRevision"`
	Runs     []string  `json:"runs"`
	Why      string    `json:"why,omitempty"` // there are no runs
	// Changed are the changed paths that a diff found, where the event does not list them all.
	Changed *Changed `json:"changed,omitempty"`
}

// Changed are changed paths, of which the first ones are listed.
type Changed struct {
	Paths []string `json:"paths"`
	More  int      `json:"more,omitempty"` // paths that are not listed
}

func viewChanged(p *run.Paths) *Changed {
	if p == nil {
		return nil
	}
	return &Changed{append([]string{}, p.List...), p.More}
}

func viewEvent(e *event.Event) Event {
	v := Event{
		ID: e.ID, Source: e.Source, Type: e.Type, Time: e.Time, ReceivedAt: e.ReceivedAt, DeliveryID: e.DeliveryID, Subject: e.Subject,
		Headers: e.Headers, Git: e.Git, Alert: viewAlert(e.Alert), PullRequest: e.PullRequest, Data: json.RawMessage(e.Body), CausedBy: e.CausedBy,
	}
	if v.Time.IsZero() { // an event whose views are not made, for it may be what ended the process
		v.Time = v.ReceivedAt
	}
	if len(v.Data) == 0 {
		v.Data = json.RawMessage("null")
	}
	return v
}

// viewAlert gives an alert without labels or annotations empty ones, so that nobody stumbles over null.
func viewAlert(a *event.Alert) *event.Alert {
	if a == nil {
		return nil
	}
	v := *a
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if v.Annotations == nil {
		v.Annotations = map[string]string{}
	}
	return &v
}

// Run is a run as the API shows it. What has not begun or ended is null.
type Run struct {
	ID           string     `json:"id"`
	Rule         string     `json:"rule"`
	RuleRevision string     `json:"ruleRevision"`
	Event        string     `json:"event"`
	State        run.State  `json:"state"`
	Reason       string     `json:"reason,omitempty"`
	Message      string     `json:"message,omitempty"`
	Key          string     `json:"key,omitempty"` // group of a correlating rule
	Events       []Part     `json:"events,omitempty"`
	Rest         int        `json:"rest,omitempty"`       // events that took part and are not listed
	CausedBy     string     `json:"causedBy,omitempty"`   // the run that caused the event
	Depth        int        `json:"depth,omitempty"`      // runs above it in that chain
	Cancelling   bool       `json:"cancelling,omitempty"` // ordered to stop, with steps that have not ended yet
	Attempt      int        `json:"attempt"`
	CreatedAt    time.Time  `json:"createdAt"`
	StartedAt    *time.Time `json:"startedAt"`
	EndedAt      *time.Time `json:"endedAt"`
	Steps        []Step     `json:"steps"`
	// Approval is what it waits for a person to agree to, or waited for.
	Approval *Approval `json:"approval,omitempty"`
}

// Part is an event that took part in a correlation.
type Part struct {
	Part string `json:"part,omitempty"` // of the rule that it matched
	ID   string `json:"id"`
}

// Step is a step of a run as the API shows it.
type Step struct {
	ID            string        `json:"id"`
	Uses          string        `json:"uses"`
	Phase         run.Phase     `json:"phase,omitempty"`
	State         run.StepState `json:"state"`
	Attempt       int           `json:"attempt"`
	Interruptions int           `json:"interruptions,omitempty"` // attempts that a crash or a stop cut off
	StartedAt     *time.Time    `json:"startedAt"`
	EndedAt       *time.Time    `json:"endedAt"`
	NotBefore     *time.Time    `json:"notBefore,omitempty"` // of a step that waits for its next attempt
	Outputs       run.Values    `json:"outputs"`
	Error         string        `json:"error,omitempty"`
}

func viewRun(r *run.Run) Run {
	v := Run{
		ID: r.ID, Rule: r.Rule, RuleRevision: r.RuleRevision, Event: r.Event, State: r.State, Reason: r.Reason, Message: r.Message,
		Key: r.Key, Rest: r.Rest, CausedBy: r.CausedBy, Depth: r.Depth, Cancelling: r.Cancelling, Attempt: r.Attempt, CreatedAt: r.CreatedAt, StartedAt: known(r.StartedAt), EndedAt: known(r.EndedAt),
		Steps: make([]Step, len(r.Steps)), Approval: viewApproval(r.Approval),
	}
	for _, ref := range r.Events {
		v.Events = append(v.Events, Part{ref.Part, ref.ID})
	}
	for i := range r.Steps {
		v.Steps[i] = viewStep(&r.Steps[i])
	}
	return v
}

func viewStep(s *run.Step) Step {
	v := Step{
		ID: s.ID, Uses: s.Uses, Phase: s.Phase, State: s.State, Attempt: s.Attempt, Interruptions: s.Interruptions,
		StartedAt: known(s.StartedAt), EndedAt: known(s.EndedAt), NotBefore: known(s.NotBefore), Outputs: s.Outputs, Error: s.Error,
	}
	if v.Outputs == nil {
		v.Outputs = run.Values{}
	}
	return v
}

// known makes null of a time that is not there.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Rule is a rule as the API shows it.
type Rule struct {
	Name     string            `json:"name"`
	File     string            `json:"file"`
	Line     int               `json:"line"`
	Labels   map[string]string `json:"labels,omitempty"`
	Mode     string            `json:"mode"`
	Steps    []string          `json:"steps"`
	Revision string            `json:"revision"`
	Paused   bool              `json:"paused,omitempty"` // it starts no runs; RuleSet.Paused says why
}

// Source is a source as the API shows it.
type Source struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Path    string `json:"path"`              // empty where nobody sends to it
	Problem string `json:"problem,omitempty"` // why it can't receive now
	// Next is when time makes an event of it, of a schedule.
	Next *time.Time `json:"next,omitempty"`
}

// RuleSet is the active rules and how they came to be.
type RuleSet struct {
	Items    []Rule    `json:"items"`
	Revision string    `json:"revision"`         // the commit, where they come from Git
	Origin   string    `json:"origin,omitempty"` // the repository, where they come from Git
	LoadedAt time.Time `json:"loadedAt,omitzero"`
	// Paused is what keeps rules from starting runs.
	Paused []Pause `json:"paused,omitempty"`
	// Error is why a newer state of the rules is not active, with all its problems.
	Error string `json:"error,omitempty"`
}

// Named is the answer to an order: what it made, or is about.
type Named struct {
	ID string `json:"id"`
}

// LogChunk is a part of what an attempt of a step had to say. It may begin and end inside a line.
type LogChunk struct {
	At      time.Time `json:"time"` // when it was stored
	Step    string    `json:"step"`
	Phase   run.Phase `json:"phase,omitempty"`
	Attempt int       `json:"attempt"`
	Omitted int64     `json:"omitted,omitempty"` // bytes that are left out before the text
	Text    string    `json:"text"`
}

// AuditEntry is one thing that changed something, or would have.
type AuditEntry struct {
	At     time.Time         `json:"time"`
	Who    string            `json:"who"`            // name of a token, loopback where none is needed, or riposte
	From   string            `json:"from,omitempty"` // remote address of a request
	Action string            `json:"action"`
	Target string            `json:"target,omitempty"`
	Result string            `json:"result"` // ok, refused or failed; of a run that ended its state
	Reason string            `json:"reason,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Version is the server's version.
type Version struct {
	Version string `json:"version"`
}

// List is a page of a list; Next is the cursor of the one after it.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// Failure is every answer other than success.
type Failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}
