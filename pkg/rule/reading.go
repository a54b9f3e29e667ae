package rule

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// fields numbers the fields that an index asks for, so that each is read at most once from an event.
type fields struct {
	paths  [][]string       // by number, from the root event; nil where only a part below is asked for
	number map[string]int32 // by the path's names, each ended by a zero byte
	body   *bodyField       // those of event.data, as a tree
}

// bodyField is a member of the body, or of an object in it.
type bodyField struct {
	number  int32
	members map[string]*bodyField
}

func newFields() *fields {
	return &fields{number: map[string]int32{}, body: &bodyField{}}
}

// add returns the number of a path.
func (f *fields) add(path []string) int32 {
	name := strings.Join(path, "\x00") + "\x00"
	if n, ok := f.number[name]; ok {
		return n
	}
	var n int32
	if inBody(path) {
		n = f.addBody(path[2:])
		f.paths[n] = path
	} else {
		n = f.next(path)
	}
	f.number[name] = n
	return n
}

// inBody reports whether a path is of a member of the body.
func inBody(path []string) bool { return len(path) > 2 && path[0] == "event" && path[1] == "data" }

func (f *fields) next(path []string) int32 {
	f.paths = append(f.paths, path)
	return int32(len(f.paths) - 1)
}

func (f *fields) addBody(names []string) int32 {
	at := f.body
	for _, name := range names {
		if at.members == nil {
			at.members = map[string]*bodyField{}
		}
		next := at.members[name]
		if next == nil {
			next = &bodyField{number: f.next(nil)}
			at.members[name] = next
		}
		at = next
	}
	return at.number
}

// reading is what was read of an event so far.
type reading struct {
	fields *fields
	event  *event.Event
	states []fieldState
	walked bool
}

// fieldState is what is known of a field.
type fieldState struct {
	state byte
	part  event.Part
	value any
}

const (
	unread byte = iota
	absent
	present // value
	found   // part, not decoded yet
)

// start makes the reading one of another event.
func (r *reading) start(f *fields, e *event.Event) {
	r.fields, r.event, r.walked = f, e, false
	if len(r.states) < len(f.paths) {
		r.states = make([]fieldState, len(f.paths))
	}
}

// end forgets the event.
func (r *reading) end() {
	clear(r.states)
	r.event = nil
}

// value returns a field; ok is false where it is absent.
func (r *reading) value(n int32) (value any, ok bool) {
	s := &r.states[n]
	if s.state == unread {
		r.read(n)
	}
	if s.state == found {
		s.state, s.value = present, s.part.Value()
	}
	return s.value, s.state == present
}

func (r *reading) read(n int32) {
	path := r.fields.paths[n]
	if inBody(path) {
		if body, ok := r.event.Part(); ok {
			r.walk(body)
			if s := &r.states[n]; s.state == unread {
				s.state = absent
			}
			return
		}
	}
	s := &r.states[n]
	s.state = absent
	if v, ok := follow(r.event, path); ok {
		s.state, s.value = present, v
	}
}

// walk finds all fields that the body has: what it has may be less than what all rules ask for.
func (r *reading) walk(body event.Part) {
	if !r.walked {
		r.walked = true
		r.find(body, r.fields.body)
	}
}

func (r *reading) find(in event.Part, wanted *bodyField) {
	for key, part := range in.Members() {
		w := wanted.members[string(key)]
		if w == nil || r.states[w.number].state != unread {
			continue // of a key that stands twice the last counts, which comes first
		}
		r.states[w.number] = fieldState{state: found, part: part}
		if len(w.members) > 0 && part.IsObject() {
			r.find(part, w)
		}
	}
}

// follow reads a path from the event, as an expression does.
func follow(e *event.Event, path []string) (value any, ok bool) {
	if path[0] != "event" {
		return nil, false
	}
	value = e
	for _, name := range path[1:] {
		switch v := value.(type) {
		case map[string]any:
			value, ok = v[name]
		case expression.Object:
			value, ok = v.Field(name)
		case map[string]string:
			value, ok = v[name]
		default:
			return nil, false
		}
		if !ok {
			return nil, false
		}
	}
	return value, true
}

// valueKey is what values have in common that the operator == takes for equal.
type valueKey struct {
	kind byte
	n    int64
	s    string
}

// longestNumber is how many digits a number can have that an expression can write: those of the largest float64.
const longestNumber = 310

// scalarKey returns the key of a scalar; ok is false for what equals no constant.
func scalarKey(v any) (k valueKey, ok bool) {
	switch v := v.(type) {
	case nil:
		return valueKey{kind: '0'}, true
	case string:
		return valueKey{kind: 's', s: v}, true
	case bool:
		if v {
			return valueKey{kind: 'b', n: 1}, true
		}
		return valueKey{kind: 'b'}, true
	case int64:
		return valueKey{kind: 'i', n: v}, true
	case float64:
		return floatKey(v)
	case event.Integer:
		return integerKey(string(v))
	}
	return valueKey{}, false
}

func floatKey(f float64) (k valueKey, ok bool) {
	switch {
	case math.IsNaN(f):
		return valueKey{}, false
	case f != math.Trunc(f) || math.IsInf(f, 0):
		return valueKey{kind: 'f', n: int64(math.Float64bits(f))}, true
	case f >= -1<<63 && f < 1<<63:
		return valueKey{kind: 'i', n: int64(f)}, true
	}
	n, _ := big.NewFloat(f).Int(nil)
	return valueKey{kind: 'd', s: n.String()}, true
}

// integerKey is the key of an integer's decimal digits.
func integerKey(s string) (k valueKey, ok bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return valueKey{kind: 'i', n: n}, true
	}
	if len(s) > longestNumber {
		return valueKey{}, false
	}
	return valueKey{kind: 'd', s: s}, true
}
