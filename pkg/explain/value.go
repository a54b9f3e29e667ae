package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/expression"
)

const (
	maxValue   = 400 // bytes of a value that are shown
	maxMembers = 64  // members of a map that are put in order to be shown
	maxText    = 600 // bytes of a message or a clause
)

// shown writes a value as JSON. One that is too long becomes a JSON text with its beginning. The work is bounded too, since
// a condition can read the whole body.
func shown(v any, redact func(string) string) (text json.RawMessage, long bool) {
	w := writer{room: maxValue}
	w.value(v)
	out := redact(w.b.String())
	if w.full || !json.Valid([]byte(out)) { // a secret may have been more than a text
		return quoted(out), w.full
	}
	return json.RawMessage(out), false
}

func quoted(s string) json.RawMessage {
	text, _ := json.Marshal(s) // a string can always be written
	return text
}

// writer writes the beginning of a value.
type writer struct {
	b    strings.Builder
	room int
	full bool
}

func (w *writer) put(s string) {
	switch {
	case w.full:
	case len(s) > w.room:
		w.b.WriteString(strings.ToValidUTF8(s[:w.room], ""))
		w.b.WriteString("...")
		w.full = true
	default:
		w.b.WriteString(s)
		w.room -= len(s)
	}
}

func (w *writer) value(v any) {
	if w.full {
		return
	}
	switch v := v.(type) {
	case string:
		w.text(v)
	case map[string]any:
		members(w, v)
	case map[string]string:
		members(w, v)
	case []any:
		elements(w, v)
	case []string:
		elements(w, v)
	case expression.Object:
		w.object(v)
	default:
		w.scalar(v)
	}
}

func (w *writer) text(s string) {
	if len(s) > w.room {
		s = s[:w.room+1] // one more than fits, so that it is cut where it should be
	}
	w.put(string(quoted(strings.ToValidUTF8(s, "\uFFFD"))))
}

func (w *writer) scalar(v any) {
	text, err := json.Marshal(v)
	if err != nil { // not a number, or infinite
		text = quoted(fmt.Sprint(v))
	}
	w.put(string(text))
}

func elements[T any](w *writer, list []T) {
	w.put("[")
	for i, v := range list {
		if i > 0 {
			w.put(",")
		}
		if w.value(v); w.full {
			return
		}
	}
	w.put("]")
}

func members[T any](w *writer, m map[string]T) {
	if len(m) > maxMembers {
		w.put("{" + strconv.Itoa(len(m)) + " members}")
		w.full = true
		return
	}
	w.fields(slices.Sorted(maps.Keys(m)), func(name string) any { return m[name] })
}

func (w *writer) object(o expression.Object) {
	w.fields(o.Fields(), func(name string) any {
		v, _ := o.Field(name) // it is among the fields
		return v
	})
}

func (w *writer) fields(names []string, value func(string) any) {
	w.put("{")
	for i, name := range names {
		if i > 0 {
			w.put(",")
		}
		w.text(name)
		w.put(":")
		if w.value(value(name)); w.full {
			return
		}
	}
	w.put("}")
}

// clip shortens a text.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
