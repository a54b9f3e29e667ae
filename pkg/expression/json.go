package expression

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/event"
)

// text is how a value stands in a text: a text as it is, numbers in plain decimals, maps and lists as compact JSON, nil
// as nothing.
func (e *evaluation) text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	}
	if s, ok := scalar(v); ok {
		return s, nil
	}
	return e.json(v, "")
}

// scalar is the text of what has one form in texts and in JSON, where quotes may stand around it.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case event.Integer:
		return string(v), true
	case time.Time:
		return v.Format(time.RFC3339Nano), true
	case fmt.Stringer: // durations, weekdays, months, locations
		return v.String(), true
	}
	return "", false
}

// json encodes a value, charging each piece before it is written.
func (e *evaluation) json(v any, indent string) (string, error) {
	w := jsonWriter{e: e, indent: indent}
	if err := w.value(v, 0); err != nil {
		return "", err
	}
	return string(w.buf), nil
}

type jsonWriter struct {
	e      *evaluation
	buf    []byte
	indent string
}

func (w *jsonWriter) value(v any, depth int) error {
	if depth > maxDepth {
		return w.e.halt(ErrBudget, "value is nested too deeply")
	}
	if err := w.e.charge(2 + depth*len(w.indent)); err != nil {
		return err
	}
	if err := w.e.tick(); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		w.buf = append(w.buf, "null"...)
		return nil
	case string:
		return w.string(v)
	case []byte:
		return w.string(string(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%v has no form in JSON", v)
		}
	}
	if l, ok := asList(v); ok {
		return w.list(l, depth)
	}
	if names, ok := fields(v); ok {
		return w.object(v, names, depth)
	}
	s, ok := scalar(v)
	if !ok {
		return fmt.Errorf("%s has no form in JSON", describe(v))
	}
	if kindOf(v) == kindBool || isNumber(v) && plain(v) == v {
		return w.raw(s)
	}
	return w.string(s)
}

func (w *jsonWriter) raw(s string) error {
	if err := w.e.charge(len(s)); err != nil {
		return err
	}
	w.buf = append(w.buf, s...)
	return nil
}

func (w *jsonWriter) list(l list, depth int) error {
	w.buf = append(w.buf, '[')
	for i := range l.len() {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.line(depth + 1)
		if err := w.value(l.at(i), depth+1); err != nil {
			return err
		}
	}
	if l.len() > 0 {
		w.line(depth)
	}
	w.buf = append(w.buf, ']')
	return nil
}

func (w *jsonWriter) object(v any, names []string, depth int) error {
	w.buf = append(w.buf, '{')
	for i, name := range names {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.line(depth + 1)
		if err := w.string(name); err != nil {
			return err
		}
		w.buf = append(w.buf, ':')
		if w.indent != "" {
			w.buf = append(w.buf, ' ')
		}
		field, _ := member(v, name)
		if err := w.value(field, depth+1); err != nil {
			return err
		}
	}
	if len(names) > 0 {
		w.line(depth)
	}
	w.buf = append(w.buf, '}')
	return nil
}

func (w *jsonWriter) line(depth int) {
	if w.indent == "" {
		return
	}
	w.buf = append(w.buf, '\n')
	for range depth {
		w.buf = append(w.buf, w.indent...)
	}
}

const hex = "0123456789abcdef"

// string writes a JSON text. Unlike encoding/json it leaves <, > and & alone, which messages and requests want as they are.
func (w *jsonWriter) string(s string) error {
	if err := w.e.charge(len(s) + 2); err != nil {
		return err
	}
	w.buf = append(w.buf, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			w.ascii(c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			w.buf = append(w.buf, `\ufffd`...)
		case r == '\u2028', r == '\u2029': // line ends in JavaScript
			w.buf = append(w.buf, `\u202`...)
			w.buf = append(w.buf, hex[r&0xf])
		default:
			w.buf = append(w.buf, s[i:i+n]...)
		}
		i += n
	}
	w.buf = append(w.buf, '"')
	return nil
}

func (w *jsonWriter) ascii(c byte) {
	switch {
	case c == '"' || c == '\\':
		w.buf = append(w.buf, '\\', c)
	case c == '\n':
		w.buf = append(w.buf, `\n`...)
	case c == '\r':
		w.buf = append(w.buf, `\r`...)
	case c == '\t':
		w.buf = append(w.buf, `\t`...)
	case c < 0x20:
		w.buf = append(w.buf, `\u00`...)
		w.buf = append(w.buf, hex[c>>4], hex[c&0xf])
	default:
		w.buf = append(w.buf, c)
	}
}
