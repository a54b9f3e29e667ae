package expression

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// parse reads the expression whole[start:end].
func parse(whole string, start, end int) (_ *source, root ast.Node, toks tokens, err error) {
	if end-start > maxSource {
		line, column := newSource(whole, start, start).position(0)
		return nil, nil, tokens{}, &CompileError{Source: whole, Line: line, Column: column, Length: 1,
			Msg: fmt.Sprintf("expression is longer than %d bytes", maxSource), Hint: "split it, or move values into the data"}
	}
	src := newSource(whole, start, end)
	switch {
	case !utf8.ValidString(whole):
		return nil, nil, tokens{}, src.err(file.Location{}, "expression is not valid UTF-8", "")
	case strings.TrimSpace(src.text()) == "":
		return nil, nil, tokens{}, src.err(file.Location{}, "expression is empty", "")
	}
	toks, cerr := src.tokenise()
	if cerr != nil {
		return nil, nil, tokens{}, cerr
	}
	defer func() {
		if r := recover(); r != nil {
			err = src.err(file.Location{}, "expression can't be read", "")
		}
	}()
	tree, perr := parser.Parse(src.text())
	if perr != nil {
		return nil, nil, tokens{}, src.syntaxError(perr)
	}
	return src, tree.Node, toks, nil
}

// syntaxError puts the parser's words into ours.
func (s *source) syntaxError(err error) *CompileError {
	var e *file.Error
	if !errors.As(err, &e) {
		return s.err(file.Location{}, err.Error(), "")
	}
	msg, hint := e.Message, ""
	if rest, ok := strings.CutPrefix(msg, "unexpected token "); ok {
		msg, hint = unexpected(rest)
	}
	if strings.Contains(msg, "coalesce expressions") {
		msg, hint = "?? can't be mixed with other operators without parentheses", "write (a ?? b) == c"
	}
	if strings.HasPrefix(msg, "invalid integer literal") {
		msg, hint = "number does not fit into 64 bits", `larger ones can be compared: int("…")`
	}
	if msg == "literal not terminated" {
		msg = "text is not closed by its quote"
	}
	return s.err(e.Location, msg, hint)
}

// unexpected explains a token of the parser's form Kind("value").
func unexpected(token string) (msg, hint string) {
	_, value, quoted := strings.Cut(token, "(")
	value = strings.TrimSuffix(value, ")")
	switch {
	case !quoted:
		return "the expression ends too early", ""
	case value == `"="`:
		hint = "compare with =="
	case value == `"&"`:
		hint = "write && or and"
	case value == `"|"`:
		hint = "write || or or"
	}
	return "unexpected " + value, hint
}

// unwrap returns the range of the expression in text that may have ${{ }} around the whole.
func unwrap(text string) (start, end int, err error) {
	start = len(text) - len(strings.TrimLeft(text, " \t\r\n"))
	end = len(strings.TrimRight(text, " \t\r\n"))
	if start >= end {
		return 0, len(text), nil
	}
	if !strings.HasPrefix(text[start:], opening) {
		return start, end, nil
	}
	inner := start + len(opening)
	stop, ok := closing(text, inner)
	if !ok {
		return 0, 0, newSource(text, start, end).err(file.Location{To: len(opening)}, "${{ is not closed by }}", "")
	}
	if stop+2 != end {
		return 0, 0, newSource(text, start, end).err(file.Location{To: len(opening)}, "${{ }} stands around a part of the condition only",
			"write it around the whole or leave it out")
	}
	return inner, stop, nil
}
