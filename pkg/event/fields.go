package event

import (
	"maps"
	"net/textproto"
	"slices"
	"time"
)

// The views are read by expressions through Field and Fields. An optional attribute that is empty is absent.

// field is one readable attribute; absent ones are left out.
type field struct {
	name  string
	value any
}

func lookUp(fields []field, name string) (any, bool) {
	for _, f := range fields {
		if f.name == name {
			return f.value, true
		}
	}
	return nil, false
}

func names(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// text adds an optional text.
func text(fields []field, name, value string) []field {
	if value == "" {
		return fields
	}
	return append(fields, field{name, value})
}

func instant(fields []field, name string, value time.Time) []field {
	if value.IsZero() {
		return fields
	}
	return append(fields, field{name, value})
}

// Field returns an attribute of the event by the name that rules use.
func (e *Event) Field(name string) (any, bool) {
	switch name { // without building the list: every condition comes through here
	case "git":
		return e.Git, e.Git != nil
	case "alert":
		return e.Alert, e.Alert != nil
	case "pullRequest":
		return e.PullRequest, e.PullRequest != nil
	case "source":
		return e.Source, true
	case "type":
		return e.Type, true
	case "data":
		v, err := e.Data()
		return v, err == nil && len(e.Body) > 0
	}
	return lookUp(e.fields(), name)
}

// Fields lists the attributes that are present.
func (e *Event) Fields() []string { return names(e.fields()) }

func (e *Event) fields() []field {
	f := []field{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"receivedAt", e.ReceivedAt}, {"headers", Headers(e.Headers)}}
	f = instant(f, "time", e.Time)
	f = text(f, "subject", e.Subject)
	f = text(f, "deliveryID", e.DeliveryID)
	f = text(f, "causedBy", e.CausedBy)
	if len(e.Body) > 0 {
		if v, err := e.Data(); err == nil {
			f = append(f, field{"data", v})
		}
	}
	if e.Git != nil {
		f = append(f, field{"git", e.Git})
	}
	if e.PullRequest != nil {
		f = append(f, field{"pullRequest", e.PullRequest})
	}
	if e.Alert != nil {
		f = append(f, field{"alert", e.Alert})
	}
	return f
}

// Headers are request headers, found whatever the case of the name.
type Headers map[string]string

// Field returns a header.
func (h Headers) Field(name string) (any, bool) {
	v, ok := h[textproto.CanonicalMIMEHeaderKey(name)]
	return v, ok
}

// Fields lists the names in order.
func (h Headers) Fields() []string { return slices.Sorted(maps.Keys(h)) }

// Field returns an attribute by the name that rules use.
func (g *Git) Field(name string) (any, bool) { return lookUp(g.fields(), name) }

// Fields lists the attributes that are present.
func (g *Git) Fields() []string { return names(g.fields()) }

func (g *Git) fields() []field {
	f := []field{
		{"repo", g.Repo}, {"owner", g.Owner}, {"cloneURL", g.CloneURL}, {"forced", g.Forced}, {"created", g.Created}, {"deleted", g.Deleted},
		{"pathsComplete", g.PathsComplete},
	}
	paths := g.Paths
	if paths == nil {
		paths = []string{}
	}
	f = append(f, field{"paths", paths})
	f = text(f, "ref", g.Ref)
	f = text(f, "branch", g.Branch)
	f = text(f, "tag", g.Tag)
	f = text(f, "commit", g.Commit)
	f = text(f, "before", g.Before)
	return text(f, "pusher", g.Pusher)
}

// Field returns an attribute by the name that rules use.
func (p *PullRequest) Field(name string) (any, bool) { return lookUp(p.fields(), name) }

// Fields lists the attributes that are present.
func (p *PullRequest) Fields() []string { return names(p.fields()) }

func (p *PullRequest) fields() []field {
	return []field{
		{"number", p.Number}, {"action", p.Action}, {"base", p.Base}, {"head", p.Head}, {"fork", p.Fork}, {"merged", p.Merged},
		{"author", p.Author}, {"url", p.URL},
	}
}

// Field returns an attribute by the name that rules use.
func (a *Alert) Field(name string) (any, bool) { return lookUp(a.fields(), name) }

// Fields lists the attributes that are present.
func (a *Alert) Fields() []string { return names(a.fields()) }

func (a *Alert) fields() []field {
	f := []field{{"name", a.Name}, {"status", a.Status}, {"labels", emptyMap(a.Labels)}, {"annotations", emptyMap(a.Annotations)}}
	f = text(f, "severity", a.Severity)
	f = text(f, "fingerprint", a.Fingerprint)
	f = text(f, "generatorURL", a.GeneratorURL)
	f = instant(f, "startsAt", a.StartsAt)
	return instant(f, "endsAt", a.EndsAt)
}

func emptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// ViewFields returns the names that event and its closed views can have, so that a misspelling is found before any event.
func ViewFields() map[string][]string {
	return map[string][]string{
		"event":       {"id", "source", "type", "time", "receivedAt", "subject", "deliveryID", "headers", "data", "git", "alert", "pullRequest", "causedBy"},
		"git":         {"repo", "owner", "cloneURL", "ref", "branch", "tag", "commit", "before", "forced", "created", "deleted", "pusher", "paths", "pathsComplete"},
		"pullRequest": {"number", "action", "base", "head", "fork", "merged", "author", "url"},
		"alert":       {"name", "status", "severity", "labels", "annotations", "fingerprint", "startsAt", "endsAt", "generatorURL"},
	}
}
