package expression

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The kinds of failure that end an evaluation from outside the expression; test for them with errors.Is.
var (
	// ErrBudget says that an evaluation needs more nodes or memory than its Limits.
	ErrBudget = errors.New("expression exceeds its budget")
	// ErrDeadline says that an evaluation takes longer than its Limits.
	ErrDeadline = errors.New("expression exceeds its time")
)

// CompileError says why an expression can't be used, and where.
type CompileError struct {
	Source string // the whole text that was compiled
	Line   int    // 1-based
	Column int    // 1-based, in characters
	Length int    // characters at fault, at least 1
	Msg    string
	Hint   string // what to try; may be empty
}

// Error returns the message and the hint, without the position: callers put that into their own file's terms.
func (e *CompileError) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " (" + e.Hint + ")"
}

// snippetWidth is how much of a long line a snippet shows.
const snippetWidth = 120

// Snippet returns the line at fault, and a line with carets below what is wrong in it.
func (e *CompileError) Snippet() string {
	lines := strings.Split(e.Source, "\n")
	if e.Line < 1 || e.Line > len(lines) {
		return ""
	}
	line := []rune(strings.TrimRight(lines[e.Line-1], "\r"))
	at := min(max(e.Column-1, 0), len(line))
	from := 0
	if at > snippetWidth*3/4 {
		from = at - snippetWidth/2
	}
	to := min(len(line), from+snippetWidth)
	var b strings.Builder
	b.WriteString(string(line[from:to]))
	b.WriteByte('\n')
	for _, r := range line[from:at] {
		if r == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteByte(' ')
	}
	b.WriteString(strings.Repeat("^", max(1, min(e.Length, to-at))))
	return b.String()
}

// AbsentError says that an expression read a field that is not there.
type AbsentError struct {
	Path string // the whole path that was read: "event.alert.labels.service"
	Hint string // what is there instead, and what may be meant; a line for each
	// element says that the path starts at the element of a closure, so that any, all and the like take it for false.
	element bool
}

func (e *AbsentError) Error() string {
	if e.Hint == "" {
		return e.Path + " is absent"
	}
	return e.Path + " is absent (" + strings.ReplaceAll(e.Hint, "\n", "; ") + ")"
}

// Where nobody reads the text of an absence, these stand for it, so that it costs nothing.
var (
	errAbsent        = &AbsentError{}
	errAbsentElement = &AbsentError{element: true}
)

// absent returns the AbsentError that err is, or nil. Errors on their way through an evaluation are never wrapped.
func absent(err error) *AbsentError {
	a, _ := err.(*AbsentError) //nolint:errorlint // on the hot path, and never wrapped
	return a
}

// present returns the error unless it is an absence, for what asks whether something is there: it is nil then, as its value.
func present(err error) error {
	if absent(err) == nil {
		return err
	}
	return nil
}

// EvalError says why an expression failed for another reason than an absent field.
type EvalError struct {
	Msg    string
	Line   int   // 1-based; 0 where the failure has no place
	Column int   // 1-based, in characters
	Err    error // ErrBudget, ErrDeadline, the context's error, the error of Scope.Changed, or nil
}

func (e *EvalError) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("%s (%d:%d)", e.Msg, e.Line, e.Column)
}

// Unwrap makes errors.Is(err, ErrBudget) and its like work.
func (e *EvalError) Unwrap() error { return e.Err }

// maxMessage bounds what a failure quotes of a value.
const maxMessage = 300

// failure makes an EvalError of what an operation said, at a place of the source. Errors that know more pass unchanged.
func (e *evaluation) failure(at int, err error) error {
	switch err.(type) { //nolint:errorlint // as in absent
	case *AbsentError, *EvalError:
		return err
	}
	if !e.detail {
		return err
	}
	line, column := e.program.source.position(at)
	return &EvalError{Msg: clip(err.Error(), maxMessage), Line: line, Column: column, Err: errors.Unwrap(err)}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
