package event

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"sync"
)

// maxOutline is how many members an outline holds. A body with more is decoded as a whole where a part of it is read:
// an outline of all would take more memory than it saves.
const maxOutline = 4096

// outline says where the members of nested objects stand in a body, so that one of them is read without decoding what
// stands around it. What lies in arrays is not in it. It is made by the scan that validates.
type outline struct {
	body    []byte
	members []member // in the order of the body; the first stands for the whole
	current uint32   // the object that is being scanned
	full    bool
}

// member is a member of an object, and what links it with the others. 0 is no member: only the whole has that number.
type member struct {
	key, keyEnd uint32 // with its quotes
	value       uint32 // where it begins
	parent      uint32
	last        uint32 // of its own members
	before      uint32 // in the same object
}

// scanOutline validates a body and outlines it.
func scanOutline(body []byte) (*outline, error) {
	o := &outline{body: body, members: make([]member, 1, min(2+len(body)/32, maxOutline))}
	s := scanner{b: body, outline: o}
	s.space()
	o.members[0].value = uint32(s.i)
	if err := s.all(); err != nil {
		return nil, err
	}
	return o, nil
}

// add notes a member of the current object; false says that there is no more room.
func (o *outline) add(key, keyEnd, value int) bool {
	if len(o.members) == maxOutline {
		o.full = true
		return false
	}
	at := uint32(len(o.members))
	object := &o.members[o.current]
	o.members = append(o.members, member{
		key: uint32(key), keyEnd: uint32(keyEnd), value: uint32(value), parent: o.current, before: object.last,
	})
	o.members[o.current].last = at
	return true
}

// enter makes the member that was noted last, whose value begins here, the current object.
func (o *outline) enter() { o.current = uint32(len(o.members) - 1) }

func (o *outline) leave() { o.current = o.members[o.current].parent }

// Part is an object in a body of which nothing but what is asked for is decoded. It is an object to expressions, as the
// map that Value returns. A Part is safe for concurrent use.
type Part struct {
	event *Event
	at    uint32
}

// Part returns the event's body; ok is false where it is no object, can't be decoded, or has very many members. Data then
// says what it is.
func (e *Event) Part() (p Part, ok bool) {
	o, err := e.scanned()
	if err != nil || o == nil || o.full || o.body[o.members[0].value] != '{' {
		return Part{}, false
	}
	return Part{e, 0}, true
}

// scanned returns the outline of the body, nil where there is none.
func (e *Event) scanned() (*outline, error) {
	e.scan.Do(func() {
		if len(e.Body) != 0 {
			e.outline, e.scanErr = scanOutline(e.Body)
		}
	})
	return e.outline, e.scanErr
}

// Members yields the members of the object, the last one first: of a key that stands twice the first one yielded counts.
// The key is valid until the next one.
func (p Part) Members() iter.Seq2[[]byte, Part] {
	return func(yield func(key []byte, value Part) bool) {
		all := p.event.outline.members
		for at := all[p.at].last; at != 0; at = all[at].before {
			key := p.event.outline.body[all[at].key+1 : all[at].keyEnd-1]
			if bytes.IndexByte(key, '\\') >= 0 {
				key = []byte(unquote(p.event.outline.body[all[at].key:all[at].keyEnd]))
			}
			if !yield(key, Part{p.event, at}) {
				return
			}
		}
	}
}

// Member returns the member with the name; of a key that stands twice the last counts.
func (p Part) Member(name string) (Part, bool) {
	o := p.event.outline
	for at := o.members[p.at].last; at != 0; at = o.members[at].before {
		m := &o.members[at]
		key := o.body[m.key+1 : m.keyEnd-1]
		if string(key) == name || bytes.IndexByte(key, '\\') >= 0 && unquote(o.body[m.key:m.keyEnd]) == name {
			return Part{p.event, at}, true
		}
	}
	return Part{}, false
}

// Raw returns the part's JSON, a part of the body.
func (p Part) Raw() []byte {
	r := reader{b: p.rest()}
	return r.raw()
}

// Elements yields the raw values of an array, and nothing for other values.
func (p Part) Elements() iter.Seq[[]byte] { return Elements(p.rest()) }

// Begins returns the first byte of the part's JSON, which tells its kind.
func (p Part) Begins() byte { return p.rest()[0] }

// rest is the body from the part on.
func (p Part) rest() []byte {
	return p.event.outline.body[p.event.outline.members[p.at].value:]
}

// IsObject reports whether the part is an object; those that Members yields may be anything.
func (p Part) IsObject() bool { return p.Begins() == '{' }

// Field returns a member, decoded.
func (p Part) Field(name string) (value any, ok bool) {
	m, ok := p.Member(name)
	if !ok {
		return nil, false
	}
	return m.Value(), true
}

// Fields lists the members.
func (p Part) Fields() []string {
	names := map[string]bool{}
	for key := range p.Members() {
		names[string(key)] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Lazily is Field, but for an object that is a member it returns a Part.
func (p Part) Lazily(name string) (value any, ok bool) {
	m, ok := p.Member(name)
	switch {
	case !ok:
		return nil, false
	case m.IsObject():
		return m, true
	}
	return m.Value(), true
}

// maxShort is how long a value may be that is decoded each time, and not kept.
const maxShort = 64

// Value decodes the part, as Decode does. What is long is decoded once.
func (p Part) Value() any {
	r := reader{b: p.event.outline.body, i: int(p.event.outline.members[p.at].value)}
	switch r.b[r.i] {
	case '{', '[', '"':
		if raw := r; len(raw.peek(maxShort)) == maxShort {
			return p.event.parts.get(p.at, r.decode)
		}
	}
	return r.decode()
}

// peek returns the raw value at the cursor, or as much of it as it looks at.
func (r *reader) peek(n int) []byte {
	r.b = r.b[:min(len(r.b), r.i+n)]
	return r.raw()
}

// parts keeps what was decoded.
type parts struct {
	mu    sync.Mutex
	known map[uint32]any
}

func (p *parts) get(at uint32, decode func() any) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.known[at]
	if !ok {
		if p.known == nil {
			p.known = map[uint32]any{}
		}
		v = decode()
		p.known[at] = v
	}
	return v
}

// Lazily is Field, but for data that is an object it may return a Part.
func (e *Event) Lazily(name string) (value any, ok bool) {
	if name == "data" {
		if p, ok := e.Part(); ok {
			return p, true
		}
	}
	return e.Field(name)
}

// Value returns the event itself.
func (e *Event) Value() any { return e }
