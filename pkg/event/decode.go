package event

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Integer is an integer of a JSON body that int64 can't hold, as its decimal text. Expressions compare it by value.
type Integer string

// MarshalJSON writes the integer as a JSON number.
func (i Integer) MarshalJSON() ([]byte, error) { return []byte(i), nil }

// Decode reads a body into map[string]any, []any, string, bool, nil, and for numbers int64 where the literal is an integer
// that fits, Integer where it is one that does not, float64 otherwise; a literal beyond float64's range is kept as a string.
// Of a key that stands twice the last value counts; half a surrogate pair becomes U+FFFD. What Validate refuses is refused
// with the same error. The result shares no memory with body.
func Decode(body []byte) (any, error) {
	if err := Validate(body); err != nil {
		return nil, err
	}
	r := reader{b: body}
	return r.decode(), nil
}

// reader reads a text that Validate passed, so that it need not look for errors, and can go down by recursion. Of any
// other text it returns something, without panicking; only decode needs a valid one.
type reader struct {
	b []byte
	i int
}

// next skips white space, and what stands between values, and returns the byte that follows; 0 is the end.
func (r *reader) next() byte {
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			r.i++
		default:
			return c
		}
	}
	return 0
}

func (r *reader) decode() any {
	switch r.next() {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		return unquote(r.raw())
	case 't':
		r.i += len("true")
		return true
	case 'f':
		r.i += len("false")
		return false
	case 'n':
		r.i += len("null")
		return nil
	}
	return number(string(r.raw()))
}

func (r *reader) object() map[string]any {
	m := map[string]any{}
	r.i++
	for r.next() != '}' {
		key := unquote(r.raw())
		m[key] = r.decode()
	}
	r.i++
	return m
}

func (r *reader) array() []any {
	l := []any{}
	r.i++
	for r.next() != ']' {
		l = append(l, r.decode())
	}
	r.i++
	return l
}

// raw returns the bytes of the value at the cursor, and goes behind it. It takes constant memory.
func (r *reader) raw() []byte {
	r.next()
	from, depth := r.i, 0
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case '"':
			r.skipString()
		case '{', '[':
			depth++
			r.i++
		case '}', ']':
			depth--
			r.i++
		default:
			if depth > 0 {
				r.skipTo()
				continue
			}
			r.skipScalar()
		}
		if depth <= 0 {
			break
		}
	}
	return r.b[from:r.i]
}

// skipTo goes to the next byte that opens, closes or quotes.
func (r *reader) skipTo() {
	for r.i++; r.i < len(r.b); r.i++ {
		switch r.b[r.i] {
		case '"', '{', '[', '}', ']':
			return
		}
	}
}

func (r *reader) skipScalar() {
	for r.i++; r.i < len(r.b); r.i++ {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r', ',', ':', '}', ']', '{', '[', '"':
			return
		}
	}
}

func (r *reader) skipString() {
	for r.i++; r.i < len(r.b); {
		n := bytes.IndexByte(r.b[r.i:], '"')
		if n < 0 {
			r.i = len(r.b)
			return
		}
		r.i += n + 1
		if !escaped(r.b[:r.i-1]) {
			return
		}
	}
}

// escaped says whether an odd number of backslashes ends b.
func escaped(b []byte) bool {
	n := 0
	for i := len(b) - 1; i >= 0 && b[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// unquote is the string that a quoted one stands for; "" where raw is no string.
func unquote(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	var s strings.Builder
	s.Grow(len(raw))
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 || n+1 == len(raw) {
			n = len(raw)
		}
		s.Write(raw[:n])
		raw = unescape(&s, raw[n:])
	}
	return s.String()
}

// unescape writes what the escape at the beginning of raw means, and returns the rest.
func unescape(s *strings.Builder, raw []byte) []byte {
	if len(raw) < 2 {
		return nil
	}
	switch c := raw[1]; c {
	case 'b':
		s.WriteByte('\b')
	case 'f':
		s.WriteByte('\f')
	case 'n':
		s.WriteByte('\n')
	case 'r':
		s.WriteByte('\r')
	case 't':
		s.WriteByte('\t')
	case 'u':
		return unescapeUnicode(s, raw[2:])
	default:
		s.WriteByte(c)
	}
	return raw[2:]
}

func unescapeUnicode(s *strings.Builder, raw []byte) []byte {
	r, ok := hex4(raw)
	if !ok {
		s.WriteRune(utf8.RuneError)
		return raw
	}
	raw = raw[4:]
	if utf16.IsSurrogate(r) {
		low := rune(0)
		if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
			low, _ = hex4(raw[2:])
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			raw = raw[6:]
		}
	}
	s.WriteRune(r)
	return raw
}

func number(literal string) any {
	if !strings.ContainsAny(literal, ".eE") {
		if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
			return n
		}
		return Integer(literal)
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return literal
	}
	return f
}
