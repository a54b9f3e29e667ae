package source

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// ParseJSON checks that a body is JSON; an error wraps ErrUnparsable and says where it is not.
func ParseJSON(body []byte) error {
	if err := event.Validate(body); err != nil {
		return fmt.Errorf("%w: it is not JSON: %w", ErrUnparsable, err)
	}
	return nil
}

// FormPayload returns the JSON of a body that is a form with the field payload, as GitHub and Gitea can send it, or the
// body itself where the Content-Type says nothing of a form.
func FormPayload(h http.Header, body []byte) ([]byte, error) {
	if t, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return body, nil
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: it is not a form: %w", ErrUnparsable, err)
	}
	if len(form["payload"]) != 1 {
		return nil, fmt.Errorf("%w: the form has %d fields payload, not one", ErrUnparsable, len(form["payload"]))
	}
	return []byte(form["payload"][0]), nil
}

// Node reads decoded JSON without failing: what is missing or of another kind is nil, empty or zero.
type Node struct{ v any }

// Body returns an event's body as a Node.
func Body(e *event.Event) Node {
	v, err := e.Data()
	if err != nil {
		return Node{}
	}
	return Node{v}
}

// At returns a member of nested objects.
func (n Node) At(path ...string) Node {
	for _, p := range path {
		m, ok := n.v.(map[string]any)
		if !ok {
			return Node{}
		}
		n = Node{m[p]}
	}
	return n
}

// Exists reports whether there is a value other than null.
func (n Node) Exists() bool { return n.v != nil }

// Str returns a text, or a number's text.
func (n Node) Str() string {
	switch v := n.v.(type) {
	case string:
		return v
	case int64:
		return fmt.Sprint(v)
	case event.Integer:
		return string(v)
	}
	return ""
}

// Int returns an integer.
func (n Node) Int() int64 {
	v, _ := n.v.(int64)
	return v
}

// Bool returns a truth value.
func (n Node) Bool() bool {
	v, _ := n.v.(bool)
	return v
}

// List returns the elements of an array.
func (n Node) List() []Node {
	list, _ := n.v.([]any)
	out := make([]Node, len(list))
	for i, v := range list {
		out[i] = Node{v}
	}
	return out
}

// Texts returns the texts of an object's members.
func (n Node) Texts() map[string]string {
	m, _ := n.v.(map[string]any)
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = Node{v}.Str()
	}
	return out
}

// Time returns an instant in RFC 3339. The year 1, which Go programs send for "none", is zero.
func (n Node) Time() time.Time {
	t, err := time.Parse(time.RFC3339, n.Str())
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// Or returns the first of texts that is not empty.
func Or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// SetRef fills a view's ref, branch and tag from a ref's full name.
func SetRef(g *event.Git, ref string) {
	g.Ref = ref
	if b, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		g.Branch = b
	} else if t, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		g.Tag = t
	}
}

// SetChange fills a view's commits; an object id of zeros says that the ref was not there before, or is not any more.
func SetChange(g *event.Git, before, after string) {
	if zero(before) {
		g.Created = true
	} else {
		g.Before = before
	}
	if zero(after) {
		g.Deleted = true
	} else {
		g.Commit = after
	}
}

func zero(oid string) bool { return oid != "" && strings.Trim(oid, "0") == "" }

// Owner returns all of a repository's full name but the last part.
func Owner(repo string) string {
	if i := strings.LastIndexByte(repo, '/'); i >= 0 {
		return repo[:i]
	}
	return ""
}

// ChangedPaths returns the paths that a push's commits list, sorted, each once.
func ChangedPaths(commits []Node) []string {
	var paths []string
	for _, c := range commits {
		for _, kind := range []string{"added", "modified", "removed"} {
			for _, p := range c.At(kind).List() {
				paths = append(paths, p.Str())
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
