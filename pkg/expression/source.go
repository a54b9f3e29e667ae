package expression

import (
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

const (
	maxSource  = 16 << 10 // bytes of an expression
	maxNesting = 200      // brackets, closures and conditionals within each other
)

// source is an expression's text, inside the whole text that holds it: a template, or ${{ }} around it.
type source struct {
	whole      string
	start, end int    // the expression in whole
	runes      []rune // the expression while it is compiled: the parser counts characters
}

func newSource(whole string, start, end int) *source {
	return &source{whole, start, end, []rune(whole[start:end])}
}

// compiled frees what is only needed until then: rules are many.
func (s *source) compiled() { s.runes = nil }

func (s *source) chars() []rune {
	if s.runes == nil {
		return []rune(s.text())
	}
	return s.runes
}

func (s *source) text() string { return s.whole[s.start:s.end] }

func (s *source) all() file.Location { return file.Location{To: len(s.chars())} }

// cut returns characters of the expression; where each is a byte, they are not copied.
func (s *source) cut(from, to int) string {
	chars := s.chars()
	if len(chars) == s.end-s.start {
		return s.text()[from:to]
	}
	return string(chars[from:to])
}

// position returns the line and column in the whole text of a character of the expression.
func (s *source) position(at int) (line, column int) {
	chars := s.chars()
	before := s.whole[:s.start] + string(chars[:min(max(at, 0), len(chars))])
	line = 1 + strings.Count(before, "\n")
	return line, 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}

// err makes the compile error of a place.
func (s *source) err(loc file.Location, msg, hint string) *CompileError {
	line, column := s.position(loc.From)
	return &CompileError{Source: s.whole, Line: line, Column: column, Length: max(1, loc.To-loc.From), Msg: msg, Hint: hint}
}

// span is a range of characters of an expression.
type span struct{ from, to int }

// tokens is an expression in pieces, with which brackets belong together, to find the text of its clauses.
type tokens struct {
	list  []lexer.Token
	match map[int]int // index of an opening bracket to that of its closing one
}

// tokenise splits an expression that the parser will read, or says why it is nested too deeply to be read.
func (s *source) tokenise() (tokens, *CompileError) {
	list, err := lexer.Lex(file.NewSource(s.text()))
	if err != nil {
		return tokens{}, s.syntaxError(err)
	}
	t := tokens{list: list, match: map[int]int{}}
	var open []int
	prefixes := 0
	for i, tok := range list {
		if tok.Is(lexer.Operator, "!", "not", "-", "+") {
			prefixes++
		} else {
			prefixes = 0
		}
		if len(open) > maxNesting || prefixes > maxNesting {
			return tokens{}, s.err(tok.Location, "expression is nested too deeply", "")
		}
		if tok.Kind != lexer.Bracket {
			continue
		}
		if strings.Contains("([{", tok.Value) {
			open = append(open, i)
		} else if len(open) > 0 {
			t.match[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	return t, nil
}

// from returns the index of the first token that starts at a character or after it.
func (t tokens) from(at int) int {
	return sort.Search(len(t.list), func(i int) bool { return t.list[i].From >= at })
}

// within returns the first and last token of a span; ok is false where there is none.
func (t tokens) within(r span) (first, last int, ok bool) {
	first, last = t.from(r.from), t.from(r.to)-1
	for last >= first && (t.list[last].Kind == lexer.EOF || t.list[last].To > r.to) {
		last--
	}
	return first, last, last >= first
}

// strip narrows a span to its tokens, without the parentheses around all of it.
func (t tokens) strip(r span) span {
	first, last, ok := t.within(r)
	if !ok {
		return r
	}
	for first < last && t.list[first].Is(lexer.Bracket, "(") && t.match[first] == last {
		first, last = first+1, last-1
	}
	return span{t.list[first].From, t.list[last].To}
}

// text returns a span in one line and without comments.
func (t tokens) text(s *source, r span) string {
	first, last, ok := t.within(r)
	if !ok {
		return s.cut(r.from, r.to)
	}
	var b strings.Builder
	for i := first; i <= last; i++ {
		if i > first && t.list[i].From > t.list[i-1].To {
			b.WriteByte(' ')
		}
		b.WriteString(s.cut(t.list[i].From, t.list[i].To))
	}
	if as := s.cut(t.list[first].From, t.list[last].To); as == b.String() {
		return as // which is part of what is kept anyway
	}
	return b.String()
}

// after returns what follows the first top-level token of that value in a span.
func (t tokens) after(r span, value string) (span, bool) {
	first, last, ok := t.within(r)
	if !ok {
		return r, false
	}
	for i := first; i <= last; i++ {
		if end, opens := t.match[i]; opens {
			i = end
			continue
		}
		if t.list[i].Is(lexer.Operator, value) {
			return span{t.list[i].To, r.to}, true
		}
	}
	return r, false
}

// at returns the token that starts at a character.
func (t tokens) at(from int) string {
	if i := t.from(from); i < len(t.list) && t.list[i].From == from {
		return t.list[i].Value
	}
	return ""
}
