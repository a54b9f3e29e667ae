package source

import (
	"bytes"
	"iter"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Node reads a JSON body without failing: what is missing or of another kind is absent, empty or zero. It looks at no
// more of the body than it is asked for, and keeps where the members of an object are, so that At is cheap on the same
// Node. The zero value is an absent one. A Node is not safe for concurrent use.
type Node struct {
	raw     []byte
	members *[]member
	// part is an object or array in the event's own outline, which is made for the rules anyway; raw is nil then.
	part event.Part
}

type member struct {
	key   []byte // quoted
	value Node
}

// Body returns a body as a Node. One that is not JSON is absent.
func Body(body []byte) Node {
	if event.Validate(body) != nil {
		return Node{}
	}
	return node(body)
}

// Stored returns the body of an event from the log as a Node. It was validated when it was received; of bytes that were not,
// what is read means nothing. The body must not be replaced any more.
func Stored(e *event.Event) Node {
	if part, ok := e.Part(); ok {
		return Node{part: part}
	}
	return node(e.Body)
}

func (n Node) outlined() bool { return n.part != event.Part{} }

func node(raw []byte) Node {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 || raw[0] == 'n' {
		return Node{}
	}
	if raw[0] != '{' {
		return Node{raw: raw}
	}
	return Node{raw: raw, members: new([]member)}
}

// At returns a member of nested objects. Of a key that stands twice the last counts.
func (n Node) At(path ...string) Node {
	for _, name := range path {
		n = n.member(name)
	}
	return n
}

func (n Node) member(name string) Node {
	if n.outlined() {
		return partOf(n.part.Member(name))
	}
	if n.members == nil {
		return Node{}
	}
	if *n.members == nil {
		*n.members = make([]member, 0, 8)
		for key, value := range event.Members(n.raw) {
			*n.members = append(*n.members, member{key, node(value)})
		}
	}
	all := *n.members
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].is(name) {
			return all[i].value
		}
	}
	return Node{}
}

// partOf makes a Node of a member in an outline.
func partOf(part event.Part, ok bool) Node {
	if !ok {
		return Node{}
	}
	if c := part.Begins(); c == '{' || c == '[' {
		return Node{part: part}
	}
	return node(part.Raw())
}

func (m *member) is(name string) bool { return isKey(m.key, name) }

// isKey compares a quoted key with a name; only one with escapes needs decoding.
func isKey(key []byte, name string) bool {
	inner := key[1 : len(key)-1]
	return string(inner) == name || bytes.IndexByte(inner, '\\') >= 0 && event.Text(key) == name
}

// Exists reports whether there is a value other than null.
func (n Node) Exists() bool { return n.outlined() || n.raw != nil }

// Is reports whether the value is an object ('{'), an array ('['), a string ('"') or begins like this otherwise.
func (n Node) Is(first byte) bool {
	if n.outlined() {
		return n.part.Begins() == first
	}
	return n.raw != nil && n.raw[0] == first
}

// Raw returns the value's JSON, nil where it is absent or null.
func (n Node) Raw() []byte {
	if n.outlined() {
		return n.part.Raw()
	}
	return n.raw
}

// Str returns a text, or the text of a number or truth value.
func (n Node) Str() string {
	switch {
	case n.Is('"'):
		return event.Text(n.raw)
	case n.raw == nil, n.Is('{'), n.Is('['):
		return ""
	}
	return string(n.raw)
}

// Int returns an integer; 0 where it is none or does not fit.
func (n Node) Int() int64 {
	v, err := strconv.ParseInt(string(n.raw), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// Bool returns a truth value.
func (n Node) Bool() bool { return string(n.raw) == "true" }

// List returns the elements of an array.
func (n Node) List() []Node {
	var out []Node
	for raw := range n.elements() {
		out = append(out, node(raw))
	}
	return out
}

func (n Node) elements() iter.Seq[[]byte] {
	if n.outlined() {
		return n.part.Elements()
	}
	return event.Elements(n.raw)
}

// Texts returns the texts of an object's members; it is never nil.
func (n Node) Texts() map[string]string {
	out := map[string]string{}
	for key, value := range event.Members(n.Raw()) {
		out[event.Text(key)] = node(value).Str()
	}
	return out
}

// Time returns an instant in UTC, of RFC 3339, of GitLab's "2026-11-23 10:00:00 UTC" and "2026-11-23 10:00:00 +0200", or
// of seconds since 1970. The year 1, which Go programs send for "none", is zero, as is a year that RFC 3339 can't write.
func (n Node) Time() time.Time {
	var t time.Time
	if n.Is('"') {
		t = parseTime(n.Str())
	} else if seconds := n.Int(); seconds != 0 {
		t = time.Unix(seconds, 0)
	}
	t = t.UTC()
	if t.Year() <= 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// SetTime makes the first of the times that is there the event's.
func SetTime(e *event.Event, candidates ...Node) {
	for _, c := range candidates {
		if t := c.Time(); !t.IsZero() {
			e.Time = t
			return
		}
	}
}

func parseTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 UTC", "2006-01-02 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}
