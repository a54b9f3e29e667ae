// Package action is the contract between the engine and the integrations that do something: what an action is called,
// which parameters it takes, what its outcome is. Each integration is a leaf package below this one that exports
// Definitions; the wiring lists them in a Registry. Parameters are typed structs, from which the reference pages and
// JSON Schemas are made (tags: yaml for the name, doc for the description, required:"true", default:"…").
//
// An action runs in its own goroutine, for one step of one run. It must stop when its context is cancelled, and return
// only when nothing it started is left running. It is called again for the same step only as OnInterrupt allows.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// Definition describes one action. It is immutable.
type Definition struct {
	Name string // "exec.run"
	Doc  string
	// Params is a pointer to the zero value of the parameter struct. Fields take string, bool, int64, float64,
	// time.Duration (as Prometheus writes it), []string, []any, map[string]string, map[string]any, SecretRef, or structs of these.
	Params any
	// Outputs is the zero value of a struct that names and types the outputs (yaml and doc tags). One with omitempty may be
	// missing, and is absent then to expressions that read it.
	Outputs any
	// Changes says that the action changes something outside; Tells, that it changes nothing but what people or other programs
	// are told, so that it needs no consent and no target.
	Changes bool
	Tells   bool
	// Target names what a step would change, for the one lock that all replicas keep for it; "" where that is not known. It
	// must be the same on every machine, and quick. Optional.
	Target func(*Call) string
	// TargetDoc says what Target names, for the reference page.
	TargetDoc string
	// NoDir says that the action does not look at Call.Dir: no directory is made for its sake.
	NoDir bool
	// LocalOutputs says that outputs name something on this machine (a directory, a file) that another replica lacks.
	LocalOutputs bool
	// RetryInterrupted says what to do with a step that a crash or stop cut off: true runs it again, false fails it.
	RetryInterrupted bool
	// Unbounded says that nothing ends an attempt that hangs but the step's own timeout.
	Unbounded bool
	// Causes are the events that it may make senders send, so that a rule that starts itself is found before it runs.
	Causes []Cause
	// Replaces names the labels and fields of an event that mean something else after the action: "pod", "instance",
	// "fingerprint".
	Replaces []string
	// Rights are what a Kubernetes cluster must allow whoever the action acts as.
	Rights []Right
	// Fenced says whether and how the outside effect is protected from a stale owner; for the reference page.
	Fenced string
	// Quote says, by the name of a parameter, how the value of a ${{ expression }} is written at its place in a text of that
	// parameter: a text of a language in which an event's value could mean something else than a value. before is the text up
	// to there. An error refuses the value. Texts of other parameters take values as they are.
	Quote map[string]func(before, value string) (string, error)
	// Check validates literal parameters at load, on a decoded Params value whose templated fields are zero; optional.
	Check func(params any) error
	// CheckTarget reports at load what is wrong with a Target document for this action: errors, joined where there are
	// several, that are *FieldError where a field is to blame. Optional, and only of actions that use targets.
	CheckTarget func(Target) error
	// Run does it. params is a pointer of Params' type.
	Run func(ctx context.Context, call *Call) (Outputs, error)
}

// Right is a rule of Kubernetes RBAC that an action needs (kubernetes.io/docs/reference/access-authn-authz/rbac).
type Right struct {
	APIGroup  string // "" is the core group
	Resources []string
	Verbs     []string
	// Cluster says that the objects have no namespace, or are those of all namespaces, so that only a ClusterRole can allow it.
	Cluster bool
}

// Cause is an event that an action makes a sender send.
type Cause struct {
	Sources []string // presets: "github"
	Types   []string // types of events: "push"
	// Fields are paths of the event whose value is that of a parameter: "event.git.branch" to "branch".
	Fields map[string]string
	// Tells are paths by which a condition can tell the event from those of others: "event.git.pusher".
	Tells []string
}

// Outputs are a step's results by name. Values are JSON values: nil, bool, int64, float64, string, []any, map[string]any.
type Outputs map[string]any

// Call is one attempt at a step.
type Call struct {
	RunID   string
	Rule    string
	StepID  string // path of the step: "restart", "deploy/apply" in a workflow, "restart[2]" of a forEach
	Attempt int    // 1 for the first
	// StartedAt is when the step began, the first time.
	StartedAt time.Time
	// Params is a pointer to the decoded parameter struct.
	Params any
	// Dir is the run's own directory on this machine; it exists, unless the action's NoDir says that it need not, and is removed
	// when the run has ended.
	Dir string
	// Log takes what the action has to say to people, line by line; secrets are redacted behind it. Safe for concurrent use.
	Log io.Writer
	// Event is what an action may know of the event that started the run; nil for a run started by hand.
	Event *EventInfo
	// EventJSON returns that event as the API shows it; nil for a run started by hand.
	EventJSON func() ([]byte, error)
	// Secret returns the value of a secret that the rule may use.
	Secret func(SecretRef) (string, error)
	// Target returns the named Target document.
	Target func(name string) (Target, error)
	// ServiceAccount is the Kubernetes service account that the grant of the step's path names, NAMESPACE/NAME, or NAME in the
	// server's own namespace; empty for the server's own.
	ServiceAccount string
}

// ErrInterrupted is in the cause of a context that ends because the server stops, or because another replica owns the run now:
// the step is made again, unless onInterrupt says otherwise.
var ErrInterrupted = errors.New("the step is interrupted")

// Interrupted reports whether a call's context has ended in a way that the step is made again, so that what it started
// elsewhere and can find again should be left to that attempt.
func Interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrInterrupted) }

// Path returns the path that is the step's own below Dir, for a directory or what files' names begin with. Steps of workflows,
// whose ids have slashes, stand beside the others.
func (c *Call) Path() (string, error) {
	name := strings.ReplaceAll(c.StepID, "/", ".")
	if c.Dir == "" || name == "." || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", Permanent(fmt.Errorf("no directory for step %q of the run", c.StepID))
	}
	return filepath.Abs(filepath.Join(c.Dir, name))
}

// EventInfo is the part of an event that actions may look at, to refuse a stale or foreign change.
type EventInfo struct {
	ID     string
	Source string
	Branch string // of event.git
	Commit string
	Repo   string
	// CloneURL is the address of the repository (event.git.cloneURL), which says what host it is on.
	CloneURL string
	// PullRequest is the number of the event's pull request; 0 where it has none.
	PullRequest int64
	Fork        bool // the change comes from another repository (event.pullRequest.fork)
}

// SecretRef names a secret of the server's configuration.
type SecretRef struct {
	Secret string `yaml:"secret" json:"secret" doc:"name of a secret in the server's configuration"`
	Env    string `yaml:"env,omitempty" json:"env,omitempty" doc:"environment variable; only under serve --dev"`
}

// Target is where notifications go: a Target document.
type Target struct {
	Name     string
	Type     string
	URL      SecretRef
	Rate     Rate
	Fallback string
	// Options holds the type's own keys.
	Options map[string]any
}

// FieldError is what is wrong with one field of a document.
type FieldError struct {
	Field string // below spec; the document as a whole where it lacks the field
	Msg   string
	Hint  string // what to try; may be empty
}

func (e *FieldError) Error() string { return e.Msg }

// Rate bounds messages per time; zero means no bound.
type Rate struct {
	Messages int
	Per      time.Duration
}

// The outcomes other than success are errors of these kinds. Any other error fails the attempt, and `retry` may repeat it.

// Permanent marks an error that no retry can cure: `retry` does not repeat the step.
func Permanent(err error) error { return &outcome{permanent, err} }

// Superseded says that newer work makes this run pointless: the run ends as superseded, which is no failure.
func Superseded(err error) error { return &outcome{superseded, err} }

// Refused says that policy forbids the step: the run ends as refused.
func Refused(reason string, err error) error { return &RefusedError{reason, err} }

// Wait says that the step goes on at a later time: until then it holds nothing, and the action is then called again for the
// same attempt. Call.StartedAt tells how long it has gone on.
func Wait(until time.Time) error { return &WaitError{until} }

// WaitError is the error that Wait returns.
type WaitError struct{ Until time.Time }

func (e *WaitError) Error() string { return "waits until " + e.Until.Format(time.RFC3339) }

// RefusedError is the error that Refused returns.
type RefusedError struct {
	Reason string // one CamelCase word, for run.reason
	Err    error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused (%s): %v", e.Reason, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// IsPermanent reports whether err says that a retry is pointless.
func IsPermanent(err error) bool { return is(err, permanent) }

// IsSuperseded reports whether err says that newer work made the run pointless.
func IsSuperseded(err error) bool { return is(err, superseded) }

type kind int

const (
	permanent kind = iota + 1
	superseded
)

type outcome struct {
	kind kind
	err  error
}

func (o *outcome) Error() string { return o.err.Error() }
func (o *outcome) Unwrap() error { return o.err }

func is(err error, k kind) bool {
	var o *outcome
	return errors.As(err, &o) && o.kind == k
}

// Registry holds the known actions by name.
type Registry map[string]Definition

// NewRegistry lists definitions; a name twice is a programming error and panics.
func NewRegistry(lists ...[]Definition) Registry {
	r := Registry{}
	for _, list := range lists {
		for _, d := range list {
			if _, dup := r[d.Name]; dup {
				panic("action " + d.Name + " is registered twice")
			}
			r[d.Name] = d
		}
	}
	return r
}
