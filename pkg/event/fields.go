package event

import (
	"maps"
	"net/textproto"
	"slices"
	"time"
)

// An event and its views are objects to expressions (Field, Fields): what the sender said nothing about is absent, which
// differs from an empty text. Values are string, bool, int64, time.Time, []string, map[string]string, what Decode
// returns, or such objects.

// field is one attribute, with its value where it is present.
type field struct {
	name    string
	value   any
	present bool
}

func always(name string, value any) field { return field{name, value, true} }

func optional(name, value string) field { return field{name, value, value != ""} }

func instant(name string, t time.Time) field { return field{name, t, !t.IsZero()} }

func lookUp(fields []field, name string) (any, bool) {
	for _, f := range fields {
		if f.name == name && f.present {
			return f.value, true
		}
	}
	return nil, false
}

func present(fields []field) []string {
	return names(slices.DeleteFunc(fields, func(f field) bool { return !f.present }))
}

func names(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// Field returns an attribute of the event by the name that rules use; ok is false where it is absent. The data of an
// event without a body is nil, and absent where the body can't be decoded.
func (e *Event) Field(name string) (value any, ok bool) {
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
		return v, err == nil
	}
	return lookUp(e.fields(), name)
}

// Fields lists the attributes that are present.
func (e *Event) Fields() []string {
	return slices.DeleteFunc(names(e.fields()), func(name string) bool {
		_, ok := e.Field(name)
		return !ok
	})
}

// fields lists all attributes. What Field knows by itself stands here by its name only.
func (e *Event) fields() []field {
	return []field{
		always("id", e.ID),
		always("source", nil),
		always("type", nil),
		instant("time", e.Time),
		instant("receivedAt", e.ReceivedAt),
		optional("subject", e.Subject),
		optional("deliveryID", e.DeliveryID),
		optional("causedBy", e.CausedBy),
		always("headers", Headers(e.Headers)),
		always("data", nil),
		always("git", nil),
		always("pullRequest", nil),
		always("alert", nil),
	}
}

// Headers are request headers by canonical name, found whatever the case of the name that is asked for.
type Headers map[string]string

// Field returns a header.
func (h Headers) Field(name string) (value any, ok bool) {
	value, ok = h[name]
	if !ok {
		value, ok = h[textproto.CanonicalMIMEHeaderKey(name)]
	}
	return value, ok
}

// Fields lists the names in order.
func (h Headers) Fields() []string { return slices.Sorted(maps.Keys(h)) }

// Field returns an attribute by the name that rules use; ok is false where it is absent.
func (g *Git) Field(name string) (value any, ok bool) {
	switch name { // what most conditions read, without building the list
	case "repo":
		return g.Repo, true
	case "branch":
		return g.Branch, g.Branch != ""
	case "ref":
		return g.Ref, g.Ref != ""
	case "commit":
		return g.Commit, g.Commit != ""
	case "deleted":
		return g.Deleted, true
	}
	return lookUp(g.fields(), name)
}

// Fields lists the attributes that are present.
func (g *Git) Fields() []string { return present(g.fields()) }

func (g *Git) fields() []field {
	return []field{
		always("repo", g.Repo),
		always("owner", g.Owner),
		always("cloneURL", g.CloneURL),
		optional("ref", g.Ref),
		optional("branch", g.Branch),
		optional("tag", g.Tag),
		optional("commit", g.Commit),
		optional("before", g.Before),
		always("forced", g.Forced),
		always("created", g.Created),
		always("deleted", g.Deleted),
		optional("pusher", g.Pusher),
		{"paths", g.Paths, len(g.Paths) > 0 || g.PathsComplete}, // no list does not mean that nothing changed
		always("pathsComplete", g.PathsComplete),
	}
}

// Field returns an attribute by the name that rules use; ok is false where it is absent.
func (p *PullRequest) Field(name string) (value any, ok bool) { return lookUp(p.fields(), name) }

// Fields lists the attributes that are present.
func (p *PullRequest) Fields() []string { return present(p.fields()) }

// What a comment on a pull request leaves out is absent, so that no condition takes it for an empty text.
func (p *PullRequest) fields() []field {
	return []field{
		always("number", p.Number),
		optional("action", p.Action),
		optional("base", p.Base),
		optional("head", p.Head),
		always("fork", p.Fork),
		always("merged", p.Merged),
		optional("author", p.Author),
		optional("url", p.URL),
	}
}

// Field returns an attribute by the name that rules use; ok is false where it is absent.
func (a *Alert) Field(name string) (value any, ok bool) {
	switch name { // as of Git
	case "name":
		return a.Name, true
	case "status":
		return a.Status, true
	case "labels":
		return a.Labels, true
	}
	return lookUp(a.fields(), name)
}

// Fields lists the attributes that are present.
func (a *Alert) Fields() []string { return present(a.fields()) }

func (a *Alert) fields() []field {
	return []field{
		always("name", a.Name),
		always("status", a.Status),
		optional("severity", a.Severity),
		always("labels", a.Labels),
		always("annotations", a.Annotations),
		optional("fingerprint", a.Fingerprint),
		instant("startsAt", a.StartsAt),
		instant("endsAt", a.EndsAt),
		optional("generatorURL", a.GeneratorURL),
	}
}

// ViewFields returns all names that the event and its closed views can have, so that a misspelling is found before any
// event. Its keys are event, git, pullRequest and alert; headers, data, labels and annotations are open.
func ViewFields() map[string][]string {
	return map[string][]string{
		"event":       names((&Event{}).fields()),
		"git":         names((&Git{}).fields()),
		"pullRequest": names((&PullRequest{}).fields()),
		"alert":       names((&Alert{}).fields()),
	}
}
