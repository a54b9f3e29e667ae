package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Integer is an integer of a JSON body that int64 can't hold, as its decimal text. Expressions compare it by value.
type Integer string

// MarshalJSON writes the integer as a JSON number.
func (i Integer) MarshalJSON() ([]byte, error) { return []byte(i), nil }

// MaxDepth is how deep a body may nest.
const MaxDepth = 1000

// SyntaxError says where a body is not JSON.
type SyntaxError struct {
	Offset int64 // in bytes, from 0
	Msg    string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Msg) }

// Validate reports whether the body is one JSON text: RFC 8259, in UTF-8, nested no deeper than MaxDepth. An error is a
// *SyntaxError. It takes constant memory.
func Validate(body []byte) error {
	s := scanner{b: body}
	if err := s.text(); err != nil {
		return err
	}
	return nil
}

// scanner walks a JSON text with a stack of one bit a level instead of recursion.
type scanner struct {
	b     []byte
	i     int
	depth int
	stack [MaxDepth/64 + 1]uint64 // a bit a level: 1 is an object
}

func (s *scanner) fail(msg string) error { return &SyntaxError{int64(s.i), msg} }

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) push(object bool) error {
	if s.depth == MaxDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d levels", MaxDepth))
	}
	bit := uint64(1) << (s.depth % 64)
	if object {
		s.stack[s.depth/64] |= bit
	} else {
		s.stack[s.depth/64] &^= bit
	}
	s.depth++
	return nil
}

func (s *scanner) inObject() bool {
	d := s.depth - 1
	return s.stack[d/64]&(1<<(d%64)) != 0
}

// text is the grammar as a loop: a value, then what may follow it at its level.
func (s *scanner) text() error {
	s.space()
	for {
		opened, err := s.value()
		if err != nil {
			return err
		}
		if opened {
			continue
		}
		done, err := s.after()
		if done || err != nil {
			return err
		}
	}
}

// value reads a scalar, or opens an object or array that is not empty; opened says that its first value follows.
func (s *scanner) value() (opened bool, err error) {
	if s.i >= len(s.b) {
		return false, s.fail("the text ends where a value should be")
	}
	switch c := s.b[s.i]; c {
	case '{', '[':
		return s.open(c == '{')
	case '"':
		return false, s.str()
	case 't':
		return false, s.word("true")
	case 'f':
		return false, s.word("false")
	case 'n':
		return false, s.word("null")
	default:
		return false, s.number()
	}
}

func (s *scanner) open(object bool) (bool, error) {
	if err := s.push(object); err != nil {
		return false, err
	}
	s.i++
	s.space()
	if s.i < len(s.b) && (object && s.b[s.i] == '}' || !object && s.b[s.i] == ']') {
		s.i++
		s.depth--
		return false, nil
	}
	if object {
		return true, s.key()
	}
	return true, nil
}

func (s *scanner) key() error {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return s.fail("an object's key should be here, in double quotes")
	}
	if err := s.str(); err != nil {
		return err
	}
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != ':' {
		return s.fail("a colon should follow the key")
	}
	s.i++
	s.space()
	return nil
}

// after reads what follows a value: a comma and the next, or ends of what surrounds it. done says that the text is over.
func (s *scanner) after() (done bool, err error) {
	for {
		s.space()
		if s.depth == 0 {
			if s.i < len(s.b) {
				return false, s.fail("more follows the value")
			}
			return true, nil
		}
		if s.i >= len(s.b) {
			return false, s.fail("the text ends inside an object or array")
		}
		object := s.inObject()
		switch c := s.b[s.i]; {
		case c == ',':
			s.i++
			s.space()
			if object {
				return false, s.key()
			}
			return false, nil
		case object && c == '}', !object && c == ']':
			s.i++
			s.depth--
		default:
			return false, s.fail("a comma or the end of the object or array should be here")
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("no JSON value begins like this")
	}
	s.i += len(w)
	return nil
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return s.fail("no JSON value begins like this")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.fail("a digit should follow the decimal point")
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("a digit should follow the exponent")
		}
	}
	return nil
}

// str reads a string. Its bytes are mostly plain, so it looks for the first that is not.
func (s *scanner) str() error {
	s.i++
	b := s.b
	for s.i < len(b) {
		c := b[s.i]
		switch {
		case c == '"':
			s.i++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return s.fail("a control character stands in a string")
		case c < utf8.RuneSelf:
			s.i++
		default:
			r, n := utf8.DecodeRune(b[s.i:])
			if r == utf8.RuneError && n <= 1 {
				return s.fail("a string is not UTF-8")
			}
			s.i += n
		}
	}
	return s.fail("the text ends inside a string")
}

func (s *scanner) escape() error {
	if s.i+1 >= len(s.b) {
		return s.fail("the text ends inside a string")
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return nil
	case 'u':
		for k := 2; k < 6; k++ {
			if s.i+k >= len(s.b) || !strings.ContainsRune("0123456789abcdefABCDEF", rune(s.b[s.i+k])) {
				return s.fail(`four hexadecimal digits should follow \u`)
			}
		}
		s.i += 6
		return nil
	}
	return s.fail("no escape in a string begins like this")
}

// Decode reads a body into map[string]any, []any, string, bool, nil, and for numbers int64 where the literal is an integer
// that fits, Integer where it is one that does not, float64 otherwise. Of a key that stands twice the last value counts.
func Decode(body []byte) (any, error) {
	if err := Validate(body); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, &SyntaxError{d.InputOffset(), err.Error()}
	}
	return exact(v), nil
}

func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(string(v))
	case map[string]any:
		for k, e := range v {
			v[k] = exact(e)
		}
	case []any:
		for i, e := range v {
			v[i] = exact(e)
		}
	}
	return v
}

func number(text string) any {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
		return Integer(text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text // beyond float64's range: kept as its text
	}
	return f
}
