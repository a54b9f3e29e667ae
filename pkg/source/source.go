// Package source is the contract between the receiver and the presets that know a sender: how a request proves where
// it comes from, which events are in it, and what those events mean. Each preset is a leaf package below this one that
// holds its facts (signature, key, names, retry behaviour, header allow-list) beside its code and exports one Type;
// the wiring lists the Types in a Registry. Adding a sender edits no other package.
//
// The order of calls is fixed: Verify on the raw bytes, then Split, then the log, and later, on reading the log,
// Normalise. Everything here is pure and safe for concurrent use.
package source

import (
	"errors"
	"net/http"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Request is a webhook request as it arrived, its body read whole and not yet parsed.
type Request struct {
	Method     string
	Header     http.Header
	Query      string // raw query
	Body       []byte
	ReceivedAt time.Time
}

// Delivery is one event of a request, as the log stores it.
type Delivery struct {
	Key        string // what makes two deliveries one event; empty: each is an event of its own
	Type       string
	Subject    string
	DeliveryID string
	Time       time.Time         // zero where the sender says nothing
	Headers    map[string]string // allow-listed, canonical names
	Body       []byte            // JSON
}

// Source receives for one Source document. Implementations are immutable.
type Source interface {
	// Verify checks that the request comes from who holds the secret, on the raw bytes and in constant time. It returns
	// an error that wraps ErrUnauthenticated, or ErrUnavailable when a secret can't be resolved; its text carries no
	// secret and is safe to show to the sender.
	Verify(r *Request) error
	// Split returns the events of a verified request. An error wraps ErrUnparsable and says where the body is broken.
	// No events and no error answers a handshake such as GitHub's ping.
	Split(r *Request) ([]Delivery, error)
	// Normalise fills Time, Subject and the views of an event read back from the log, from its headers and body. An
	// event that lacks what a view needs keeps the view nil; it never fails and never panics on any body.
	Normalise(e *event.Event)
}

// Scheduled is implemented by a Source that nobody sends to: its events come of the time alone, and the same whoever makes
// them.
type Scheduled interface {
	Source
	// Due returns the events of the hours after one time up to now, in order; dropped is how many hours become none.
	Due(after, now time.Time) (due []Delivery, dropped int)
	// Next returns the first hour after a time; zero where none is known.
	Next(after time.Time) time.Time
}

// Watched is implemented by a Source that nobody sends to: its events are changes of a cluster's objects.
type Watched interface {
	Source
	// Selection names the objects that are watched.
	Selection() Selection
	// Change makes the event of a change; ok is false of one that is not wanted. causedBy is the run that made the change, or "".
	Change(c Change) (d Delivery, causedBy string, ok bool)
}

// Selection names objects of a Kubernetes cluster.
type Selection struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Namespaces []string `json:"namespaces,omitempty"` // none: all, and objects that have none
	Labels     string   `json:"labels,omitempty"`     // a selector
	Fields     string   `json:"fields,omitempty"`     // a selector
}

// Change is what became of an object, as a watch of the Kubernetes API tells it
// (kubernetes.io/docs/reference/using-api/api-concepts, "Efficient detection of changes").
type Change struct {
	Type   string // ADDED, MODIFIED or DELETED
	Object map[string]any
}

// Type describes one kind of source: a preset.
type Type struct {
	Name         string   // the document's `type`: "github"
	Doc          string   // one paragraph for the reference page
	Headers      []string // canonical names of the headers kept in event.headers
	RetriesOn429 bool     // the sender retries a 429; all others get 503
	Redelivers   bool     // a repeated delivery is a person's deliberate act, so it may revive a failed run
	Batch        bool     // one request carries any number of events, so the answer always lists ids
	SignsID      bool     // the delivery id is covered by the signature
	// Examples returns deliveries for tests of rules, which name them TYPE/NAME; nil where a sender has no form of its own.
	Examples func() []Example
	// Spec is a pointer to the zero value of the preset's own part of the document; the reference page and schema are
	// made from its yaml and doc tags.
	Spec any
	// Fields says which types of events there are and what is known of event.data for each, as ParseFields reads it, so that
	// a misspelling is found before any event; empty where the bodies are anyone's.
	Fields string
	// New builds the source. decode fills a value of Spec's type strictly and reports unknown or misshapen fields with
	// their position; an error of New itself is reported at the document's spec.
	New func(decode func(spec any) error, env Env) (Source, error)
}

// Env is what a source is built with.
type Env struct {
	Name string // the document's metadata.name
	// Secret returns a secret's current value; it is called at each verification, so that rotation needs no reload. It
	// fails where the reference does not resolve or the value is empty, and the error wraps ErrUnavailable.
	Secret func(SecretRef) ([]byte, error)
	// CheckSecret reports at load whether a reference may be used and is declared.
	CheckSecret func(SecretRef) error
	// Compile compiles an expression over `event` (headers and data).
	Compile func(expression string) (func(*event.Event) (any, error), error)
	// Now is the clock for signed times; nil is time.Now.
	Now func() time.Time
}

// SecretRef names a secret of the server's configuration, or, only under `serve --dev`, an environment variable.
type SecretRef struct {
	Secret string `yaml:"secret,omitempty" doc:"name of a secret in the server's configuration"`
	Env    string `yaml:"env,omitempty" doc:"environment variable; only under serve --dev"`
}

var (
	// ErrUnauthenticated is answered with 401.
	ErrUnauthenticated = errors.New("request is not authenticated")
	// ErrUnavailable is answered with 503: a secret does not resolve, so nothing can be verified.
	ErrUnavailable = errors.New("source is unavailable")
	// ErrUnparsable is answered with 415.
	ErrUnparsable = errors.New("body can't be parsed")
)

// Unavailable makes an error one that wraps ErrUnavailable, and leaves its text as it is.
func Unavailable(err error) error { return unavailable{err} }

type unavailable struct{ cause error }

func (u unavailable) Error() string   { return u.cause.Error() }
func (u unavailable) Unwrap() []error { return []error{ErrUnavailable, u.cause} }

// Registry holds the known types by name.
type Registry map[string]Type

// NewRegistry lists types; a name twice is a programming error and panics.
func NewRegistry(types ...Type) Registry {
	r := make(Registry, len(types))
	for _, t := range types {
		if _, dup := r[t.Name]; dup {
			panic("source type " + t.Name + " is registered twice")
		}
		r[t.Name] = t
	}
	return r
}
