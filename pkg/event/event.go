// Package event holds the normalised event: the CloudEvents attributes every event has, its body, and the closed
// views (git, pull request, alert) that a sender's preset fills in from that body.
//
// The package is pure: no I/O, no clock, no goroutines. An Event is written by one goroutine until it is handed on and
// is read-only afterwards; the body is decoded at most once, on first use, and that is safe from several goroutines.
package event

import (
	"encoding/json"
	"sync"
	"time"
)

// Event is one occurrence reported by a sender, in the form that rules, the API and the log share.
type Event struct {
	// ID identifies the event for good: the hash of its source and key (see ID), or random where the sender gives no key.
	ID string
	// Source is the name of the Source document that received it.
	Source string
	// Type is the kind of occurrence in the sender's own words: "push", "pull_request", "alert.firing".
	Type string
	// Subject is what the event is about, where the sender says so: a repository, an alert's name.
	Subject string
	// Time is when the sender says it happened; ReceivedAt where the sender says nothing.
	Time time.Time
	// ReceivedAt is when this server accepted it: log time, the only clock that windows run on.
	ReceivedAt time.Time
	// DeliveryID is the sender's own name for the delivery, for people comparing the two sides.
	DeliveryID string
	// Headers holds the preset's allow-list of request headers, under their canonical names. What proves identity is never in it.
	Headers map[string]string
	// Body is the raw JSON body; an absent body is nil. Once a view was made of it, or it was read, it stays as it is.
	Body []byte
	// CausedBy is the id of the event this one was replayed from, or of the run that caused it.
	CausedBy string

	Git         *Git
	PullRequest *PullRequest
	Alert       *Alert

	scan    sync.Once
	outline *outline
	scanErr error
	decode  sync.Once
	data    any
	parts   parts
}

// Data returns the decoded body (see Decode), decoding it on first use. Part reads less where only some of it is needed.
func (e *Event) Data() (any, error) {
	_, err := e.scanned()
	e.decode.Do(func() {
		if len(e.Body) != 0 && err == nil {
			r := reader{b: e.Body}
			e.data = r.decode()
		}
	})
	return e.data, err
}

// The views say with yaml and doc tags how tests write them.

// Git is what a Git host's event says about a repository and one of its refs.
type Git struct {
	Repo          string   `json:"repo" yaml:"repo" doc:"owner and name, as in the host's addresses: 'acme/shop'"`
	Owner         string   `json:"owner" yaml:"owner" doc:"the first part of repo; for nested groups all but the last"`
	CloneURL      string   `json:"cloneURL" yaml:"cloneURL" doc:"https address to fetch from"`
	Ref           string   `json:"ref,omitempty" yaml:"ref" doc:"full name: 'refs/heads/main'"`
	Branch        string   `json:"branch,omitempty" yaml:"branch" doc:"set when ref is a branch, or for a pull request its head branch"`
	Tag           string   `json:"tag,omitempty" yaml:"tag" doc:"set when ref is a tag"`
	Commit        string   `json:"commit,omitempty" yaml:"commit" doc:"object id after the change; empty when the ref was deleted"`
	Before        string   `json:"before,omitempty" yaml:"before" doc:"object id before the change; empty when the ref was created"`
	Forced        bool     `json:"forced" yaml:"forced" doc:"history was rewritten, where the sender says so"`
	Created       bool     `json:"created" yaml:"created" doc:"the ref is new"`
	Deleted       bool     `json:"deleted" yaml:"deleted" doc:"the ref is gone"`
	Pusher        string   `json:"pusher,omitempty" yaml:"pusher" doc:"account that caused it"`
	Paths         []string `json:"paths,omitempty" yaml:"paths" doc:"changed paths that the event lists, sorted, each once"`
	PathsComplete bool     `json:"pathsComplete" yaml:"pathsComplete" doc:"whether paths is all that changed; default in tests: true where there are paths"`
}

// PullRequest is a proposed change: a pull request, or GitLab's merge request.
type PullRequest struct {
	Number int64  `json:"number" yaml:"number" doc:"its number"`
	Action string `json:"action" yaml:"action" doc:"GitHub's words for all senders: opened, reopened, synchronize, closed, edited, …"`
	Base   string `json:"base" yaml:"base" doc:"branch it would change"`
	Head   string `json:"head" yaml:"head" doc:"branch it comes from"`
	Fork   bool   `json:"fork" yaml:"fork" doc:"head is in another repository than base"`
	Merged bool   `json:"merged" yaml:"merged" doc:"it was merged"`
	Author string `json:"author" yaml:"author" doc:"who proposed it"`
	URL    string `json:"url" yaml:"url" doc:"for people"`
}

// Alert is one alert of a monitoring system.
type Alert struct {
	Name         string            `json:"name" yaml:"name" doc:"the alert's name; default: the label alertname"`
	Status       string            `json:"status" yaml:"status" doc:"firing or resolved"`
	Severity     string            `json:"severity,omitempty" yaml:"severity" doc:"how bad it is; default: the label severity"`
	Labels       map[string]string `json:"labels" yaml:"labels" doc:"its labels"`
	Annotations  map[string]string `json:"annotations" yaml:"annotations" doc:"its annotations"`
	Fingerprint  string            `json:"fingerprint,omitempty" yaml:"fingerprint" doc:"what names it among all alerts"`
	StartsAt     time.Time         `json:"startsAt,omitzero" yaml:"startsAt" doc:"when it began"`
	EndsAt       time.Time         `json:"endsAt,omitzero" yaml:"endsAt" doc:"when it ended"`
	GeneratorURL string            `json:"generatorURL,omitempty" yaml:"generatorURL" doc:"what raised it"`
}

// MarshalJSON writes the event in the form of the API.
func (e *Event) MarshalJSON() ([]byte, error) {
	data := json.RawMessage(e.Body)
	if len(data) == 0 {
		data = json.RawMessage("null")
	}
	return json.Marshal(struct {
		ID          string            `json:"id"`
		Source      string            `json:"source"`
		Type        string            `json:"type"`
		Time        time.Time         `json:"time"`
		ReceivedAt  time.Time         `json:"receivedAt"`
		DeliveryID  string            `json:"deliveryID,omitempty"`
		Subject     string            `json:"subject,omitempty"`
		Headers     map[string]string `json:"headers,omitempty"`
		Git         *Git              `json:"git,omitempty"`
		Alert       *Alert            `json:"alert,omitempty"`
		PullRequest *PullRequest      `json:"pullRequest,omitempty"`
		Data        json.RawMessage   `json:"data"`
		CausedBy    string            `json:"causedBy,omitempty"`
	}{e.ID, e.Source, e.Type, e.Time, e.ReceivedAt, e.DeliveryID, e.Subject, e.Headers, e.Git, e.Alert, e.PullRequest, data, e.CausedBy})
}
