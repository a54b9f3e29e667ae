package event

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep a body may nest.
const MaxDepth = 1000

// SyntaxError says where a body is not JSON.
type SyntaxError struct {
	Offset int64 // in bytes, from 0
	Msg    string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Msg) }

// Validate reports whether the body is one JSON text: RFC 8259, in UTF-8, nested no deeper than MaxDepth. An error is a
// *SyntaxError. It takes constant memory. A key may stand twice in an object, as RFC 8259 allows and GitLab sends.
func Validate(body []byte) error {
	s := scanner{b: body, arrays: 1} // as within an array, so that nothing is outlined
	s.space()
	return s.all()
}

// all scans the whole text.
func (s *scanner) all() error {
	for {
		if !s.value() {
			return s.err
		}
		if !s.after() {
			if s.err != nil {
				return s.err
			}
			return nil
		}
	}
}

// fullOutline stands for more arrays than can end.
const fullOutline = 2 * MaxDepth

// scanner walks a JSON text with a stack of one bit a level instead of recursion. Its methods report whether to go on;
// what they fail with is in err.
type scanner struct {
	b     []byte
	i     int
	depth int
	err   error
	stack [MaxDepth/64 + 1]uint64 // a bit a level: 1 is an object

	outline *outline
	arrays  int // around the cursor; in them nothing is outlined
}

func (s *scanner) fail(msg string) bool {
	s.err = &SyntaxError{int64(s.i), msg}
	return false
}

// at returns the byte at the cursor, or 0, which is no part of the grammar, at the end.
func (s *scanner) at() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// value reads a scalar or an empty object or array, having opened all that stand around it.
func (s *scanner) value() bool {
	for {
		switch c := s.at(); c {
		case '{', '[':
			if !s.open(c == '{') {
				return false
			}
			if c := s.at(); c == '}' || c == ']' {
				return true // after closes it
			}
			if s.inObject() && !s.key() {
				return false
			}
			continue
		case '"':
			return s.str()
		case 't':
			return s.word("true")
		case 'f':
			return s.word("false")
		case 'n':
			return s.word("null")
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			return s.number()
		}
		if s.i >= len(s.b) {
			return s.fail("the text ends where a value should be")
		}
		return s.fail("no JSON value begins like this")
	}
}

// open enters an object or array, and stops before what is in it.
func (s *scanner) open(object bool) bool {
	if s.depth == MaxDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d levels", MaxDepth))
	}
	bit := uint64(1) << (s.depth % 64)
	if object {
		s.stack[s.depth/64] |= bit
		if s.arrays == 0 {
			s.outline.enter()
		}
	} else {
		s.stack[s.depth/64] &^= bit
		s.arrays++
	}
	s.depth++
	s.i++
	s.space()
	return true
}

func (s *scanner) inObject() bool {
	d := s.depth - 1
	return s.stack[d/64]&(1<<(d%64)) != 0
}

func (s *scanner) key() bool {
	if s.at() != '"' {
		return s.fail("an object's key should be here, in double quotes")
	}
	from := s.i
	if !s.str() {
		return false
	}
	to := s.i
	s.space()
	if s.at() != ':' {
		return s.fail("a colon should follow the key")
	}
	s.i++
	s.space()
	if s.arrays == 0 && !s.outline.add(from, to, s.i) {
		s.arrays = fullOutline
	}
	return true
}

// after closes what ends behind a value, and reads the comma before the next one; false without an error is the end of
// the text.
func (s *scanner) after() bool {
	for {
		s.space()
		if s.depth == 0 {
			return s.i < len(s.b) && s.fail("more follows the value")
		}
		object := s.inObject()
		switch c := s.at(); {
		case c == ',':
			s.i++
			s.space()
			return !object || s.key()
		case object && c == '}', !object && c == ']':
			s.i++
			s.close(object)
		case s.i >= len(s.b):
			return s.fail("the text ends inside an object or array")
		default:
			return s.fail("a comma or the end of the object or array should be here")
		}
	}
}

func (s *scanner) close(object bool) {
	s.depth--
	switch {
	case !object:
		s.arrays--
	case s.arrays == 0:
		s.outline.leave()
	}
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("no JSON value begins like this")
	}
	s.i += len(w)
	return true
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > from
}

func (s *scanner) number() bool {
	if s.at() == '-' {
		s.i++
	}
	if s.at() == '0' {
		s.i++
	} else if !s.digits() {
		return s.fail("a digit should follow the minus sign")
	}
	if s.at() == '.' {
		s.i++
		if !s.digits() {
			return s.fail("a digit should follow the decimal point")
		}
	}
	if c := s.at(); c == 'e' || c == 'E' {
		s.i++
		if c := s.at(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.fail("a digit should follow the exponent")
		}
	}
	return true
}

// str reads a string.
func (s *scanner) str() bool {
	s.i++
	b := s.b
	for {
		s.i = plain(b, s.i)
		if s.i >= len(b) {
			return s.fail("the text ends inside a string")
		}
		switch c := b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < ' ':
			return s.fail("a control character stands in a string")
		default:
			r, n := utf8.DecodeRune(b[s.i:])
			if r == utf8.RuneError && n <= 1 {
				return s.fail("a string is not UTF-8")
			}
			s.i += n
		}
	}
}

// Of each byte of a word: the lowest bits, the highest bits.
const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns where the first byte from i on stands that a string can't hold as it is, or that is not ASCII. It looks
// at eight bytes at once: a borrow marks the byte that is below a bound, and only bytes behind it can be marked wrongly.
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, backslash := w^('"'*lows), w^('\\'*lows)
		special := ((w-' '*lows)&^w | (quote-lows)&^quote | (backslash-lows)&^backslash | w) & highs
		if special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' && b[i] < utf8.RuneSelf {
		i++
	}
	return i
}

func (s *scanner) escape() bool {
	if s.i+1 >= len(s.b) {
		return s.fail("the text ends inside a string")
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return true
	case 'u':
		if _, ok := hex4(s.b[s.i+2:]); !ok {
			return s.fail(`four hexadecimal digits should follow \u`)
		}
		s.i += 6
		return true
	}
	return s.fail("no escape in a string begins like this")
}

// hex4 reads the four hexadecimal digits that b begins with.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
