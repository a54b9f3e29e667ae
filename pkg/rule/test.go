package rule

import (
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Test is a RuleTest document: what the rules of its set make of events, on a clock of its own. A Set only holds it;
// package ruletest runs it.
type Test struct {
	Name  string
	File  string
	Line  int
	Start time.Time // time 0 of each case
	Cases []TestCase
}

type testSpec struct {
	Start   time.Time                 `yaml:"start,omitempty" default:"2026-01-01T00:00:00Z" doc:"what time 0s of each case is"`
	Actions map[string]*document.Item `yaml:"actions,omitempty" doc:"what actions come to, by their name: an outcome, or a list of them, one for each call, of which the last repeats. Nothing real ever runs; an action that is met without an outcome fails the case"`
	Cases   []TestCase                `yaml:"cases" required:"true" doc:"each begins with no windows open and nothing run"`
}

// TestCase is a timeline of events, and what must come of them.
type TestCase struct {
	Name     string                    `yaml:"name" required:"true" doc:"unique in the document; -run chooses by it"`
	Actions  map[string]*document.Item `yaml:"actions,omitempty" doc:"outcomes that differ from those of the document; each takes the place of the action's whole list"`
	Timeline []TestEntry               `yaml:"timeline" required:"true" doc:"what happens, in order; the clock stops at the last entry, but runs go on to their end"`
	Expect   []ExpectedRun             `yaml:"expect" required:"true" doc:"every run there is, in any order; another run of any rule fails the case"`
	Explain  []ExpectedVerdict         `yaml:"explain,omitempty" doc:"what clauses must have said"`

	Line int
	// Outcomes are those of the document and the case together, by action.
	Outcomes map[string][]Outcome
}

// TestEntry is a point of a timeline.
type TestEntry struct {
	At    time.Duration `yaml:"at" required:"true" doc:"time since the start"`
	Event *TestEvent    `yaml:"event,omitempty" doc:"what arrives; without event, approve and reject only time passes"`
	// Approve and Reject are what a person says.
	Approve *TestConsent `yaml:"approve,omitempty" doc:"a person agrees to what the runs of a rule in mode approve wait for then"`
	Reject  *TestConsent `yaml:"reject,omitempty" doc:"a person refuses it"`

	Line int
}

// TestConsent is what a person says to the runs of a rule that wait.
type TestConsent struct {
	Rule    string `yaml:"rule" required:"true" doc:"name of the rule"`
	By      string `yaml:"by" required:"true" doc:"who says so"`
	Comment string `yaml:"comment,omitempty" doc:"why"`
}

// TestEvent is an event written out, a body in a file, or a sender's example.
type TestEvent struct {
	Source  string            `yaml:"source,omitempty" doc:"name of the Source; can be left out with an example that only one Source can receive"`
	Type    string            `yaml:"type,omitempty" doc:"the event's type; of a file and an example the sender's headers and body say it"`
	Headers map[string]string `yaml:"headers,omitempty" doc:"request headers as the sender sends them, signature left out; of an event without file and example, event.headers"`
	Data    *document.Item    `yaml:"data,omitempty" doc:"event.data; with a file or an example, members that differ from it (null removes one)"`
	File    string            `yaml:"file,omitempty" doc:"the request's body, by its path from this document; it is read as the Source reads a request"`
	Example string            `yaml:"example,omitempty" doc:"a delivery of the sender's preset, TYPE/NAME: github/push"`
	Subject string            `yaml:"subject,omitempty" doc:"event.subject"`

	Git         *event.Git         `yaml:"git,omitempty" doc:"event.git; without it, what the Source makes of data"`
	Alert       *event.Alert       `yaml:"alert,omitempty" doc:"event.alert; without it, what the Source makes of data"`
	PullRequest *event.PullRequest `yaml:"pullRequest,omitempty" doc:"event.pullRequest; without it, what the Source makes of data"`
}

// Outcome is what an action comes to in a test.
type Outcome struct {
	Outputs    map[string]any `yaml:"outputs,omitempty" doc:"the step's outputs"`
	Error      string         `yaml:"error,omitempty" doc:"the attempt fails with this text; retry makes another"`
	Permanent  bool           `yaml:"permanent,omitempty" doc:"with error: no retry can cure it"`
	Refused    string         `yaml:"refused,omitempty" doc:"the run ends as refused, for this reason: one CamelCase word"`
	Superseded bool           `yaml:"superseded,omitempty" doc:"the run ends as superseded"`
	Took       time.Duration  `yaml:"took,omitempty" default:"0s" doc:"how long it takes; longer than the step's timeout, the attempt times out"`
	Wait       time.Duration  `yaml:"wait,omitempty" default:"0s" doc:"the step waits so long and is then asked again, for the next outcome of the list"`
}

// ExpectedRun describes a run; what it leaves out can be anything.
type ExpectedRun struct {
	Rule      string         `yaml:"rule" required:"true" doc:"name of the rule"`
	State     run.State      `yaml:"state,omitempty" enum:"pending,running,waiting,verifying,succeeded,failed,cancelled,refused,superseded,observed" doc:"what it came to"`
	Reason    *string        `yaml:"reason,omitempty" doc:"why: StepFailed, AbsentField, …"`
	StartedAt *time.Duration `yaml:"startedAt,omitempty" doc:"time since the start"`
	EndedAt   *time.Duration `yaml:"endedAt,omitempty" doc:"time since the start"`
	Attempt   int64          `yaml:"attempt,omitempty" doc:"attempts at the run in all: more than one where a redelivery revived it"`
	Key       *string        `yaml:"key,omitempty" doc:"of a correlating rule: correlated.key"`
	Count     int64          `yaml:"count,omitempty" default:"1" doc:"so many runs are like this"`
	Steps     []ExpectedStep `yaml:"steps,omitempty" doc:"steps by their id, or by their path: tf/plan inside a workflow, restart[0] of a forEach; others can be anything"`
	Verify    *ExpectedLooks `yaml:"verify,omitempty" doc:"looks at whether the problem is gone, of the last attempt"`
	OnFailure []ExpectedStep `yaml:"onFailure,omitempty" doc:"every step of onFailure that was made or skipped, in order; [] is none"`
	Finally   []ExpectedStep `yaml:"finally,omitempty" doc:"likewise of finally"`

	Line int
}

// ExpectedLooks describes how it was found out whether the problem is gone; what it leaves out can be anything.
type ExpectedLooks struct {
	Looks   int64          `yaml:"looks,omitempty" doc:"how many there were"`
	Verdict run.Verdict    `yaml:"verdict,omitempty" enum:"holds,doesNotHold,unknown" doc:"of the last one"`
	With    map[string]any `yaml:"with,omitempty" doc:"the probe's parameters after evaluation; those that are not named can be anything"`
}

// ExpectedStep describes a step; what it leaves out can be anything.
type ExpectedStep struct {
	ID        string         `yaml:"id,omitempty" doc:"name or path of the step; below steps it is needed"`
	Uses      string         `yaml:"uses,omitempty" doc:"the action"`
	State     run.StepState  `yaml:"state,omitempty" enum:"pending,running,waiting,succeeded,failed,skipped,cancelled" doc:"what it came to; pending is one that was not reached"`
	Attempt   int64          `yaml:"attempt,omitempty" doc:"number of the last attempt"`
	With      map[string]any `yaml:"with,omitempty" doc:"parameters after evaluation; those that are not named can be anything, at every level"`
	Outputs   map[string]any `yaml:"outputs,omitempty" doc:"outputs; those that are not named can be anything"`
	Error     *string        `yaml:"error,omitempty" doc:"part of the error's text; an empty text is no error"`
	StartedAt *time.Duration `yaml:"startedAt,omitempty" doc:"time since the start"`
	EndedAt   *time.Duration `yaml:"endedAt,omitempty" doc:"time since the start"`
}

// ExpectedVerdict says what a clause must have said of an event.
type ExpectedVerdict struct {
	Rule    string         `yaml:"rule" required:"true" doc:"name of the rule"`
	Clause  string         `yaml:"clause" required:"true" doc:"trigger, when or correlate.by; of parts correlate.NAME.trigger, correlate.NAME.when or correlate.NAME.by; limits[N].by, concurrency.group, verify.expect; of steps steps.ID.if, onFailure.ID.if or finally.ID.if, with ID a path inside workflows; or the text of one clause of these"`
	Verdict any            `yaml:"verdict" required:"true" doc:"true, false or absent"`
	Field   string         `yaml:"field,omitempty" doc:"with absent: the field that was"`
	At      *time.Duration `yaml:"at,omitempty" doc:"of the event at this time; default: of any"`

	Line int
}
