package expression

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/expr-lang/expr/file"
)

// What opens an expression in a text; a $ before it makes it text.
const (
	opening = "${{"
	escaped = "$${{"
)

const (
	maxTemplate    = 1 << 20 // bytes of a text with expressions in it
	maxExpressions = 500     // in one text
)

// Template is a text with expressions in it. It is immutable and safe for concurrent use.
type Template struct {
	parts []part
	refs  [][]string
}

// part is a piece of text, or an expression.
type part struct {
	text    string
	program *Program
}

// HasExpression says whether a text has ${{ in it that opens an expression.
func HasExpression(s string) bool {
	return strings.Contains(strings.ReplaceAll(s, escaped, ""), opening)
}

// CompileText compiles a text with ${{ expression }} inside; $${{ stands for ${{. The error is a *CompileError, with its
// position in the whole text.
func CompileText(src string, schema *Schema) (*Template, error) {
	t := &Template{}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			t.parts = append(t.parts, part{text: text.String()})
			text.Reset()
		}
	}
	for at := 0; at < len(src); {
		i := strings.Index(src[at:], opening)
		if i < 0 {
			text.WriteString(src[at:])
			break
		}
		i += at
		if i > at && src[i-1] == '$' {
			text.WriteString(src[at:i-1] + opening)
			at = i + len(opening)
			continue
		}
		text.WriteString(src[at:i])
		flush()
		p, end, err := t.expression(src, i, schema)
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part{program: p})
		at = end
	}
	flush()
	return t, nil
}

// expression compiles the expression that opens at src[at] and returns where the text goes on.
func (t *Template) expression(src string, at int, schema *Schema) (*Program, int, error) {
	here := func(msg string) error {
		return newSource(src, at, at+len(opening)).err(file.Location{To: len(opening)}, msg, "")
	}
	if len(src) > maxTemplate {
		return nil, 0, here("text with expressions is longer than 1 MiB")
	}
	if len(t.parts) >= 2*maxExpressions {
		return nil, 0, here("text has too many expressions")
	}
	start := at + len(opening)
	end, ok := closing(src, start)
	if !ok {
		return nil, 0, here("${{ is not closed by }}")
	}
	p, err := compile(src, start, end, schema)
	if err != nil {
		return nil, 0, err
	}
	for _, ref := range p.refs {
		if !slices.ContainsFunc(t.refs, func(r []string) bool { return slices.Equal(r, ref) }) {
			t.refs = append(t.refs, ref)
		}
	}
	return p, end + 2, nil
}

// closing finds the }} that ends the expression at src[at:], over its texts, comments and braces.
func closing(src string, at int) (end int, ok bool) {
	depth := 0
	for i := at; i < len(src); i++ {
		switch c := src[i]; c {
		case '"', '\'', '`':
			i = quoted(src, i)
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i, strings.HasPrefix(src[i:], "}}")
			}
			depth--
		case '/':
			i = comment(src, i)
		}
	}
	return 0, false
}

// quoted returns the index of the quote that ends the text at src[i].
func quoted(src string, i int) int {
	quote := src[i]
	for i++; i < len(src) && src[i] != quote; i++ {
		if src[i] == '\\' && quote != '`' {
			i++
		}
	}
	return i
}

// comment returns the index of the last byte of the comment at src[i], or i.
func comment(src string, i int) int {
	stop := ""
	switch {
	case strings.HasPrefix(src[i:], "//"):
		stop = "\n"
	case strings.HasPrefix(src[i:], "/*"):
		stop = "*/"
	default:
		return i
	}
	end := strings.Index(src[i+2:], stop)
	if end < 0 {
		return len(src)
	}
	return i + 2 + end + len(stop) - 1
}

// Literal returns the text where it holds no expression, with its escapes resolved.
func (t *Template) Literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].program == nil:
		return t.parts[0].text, true
	}
	return "", false
}

// Whole returns the expression that the text is alone, or nil where there is more in it.
func (t *Template) Whole() *Program {
	if len(t.parts) != 1 {
		return nil
	}
	return t.parts[0].program
}

// Refs returns the paths that the expressions read, as Program.Refs does.
func (t *Template) Refs() [][]string { return t.refs }

// CallsChanged reports whether changed() stands in one of the expressions.
func (t *Template) CallsChanged() bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.program != nil && p.program.CallsChanged() })
}

// Eval returns the text with its expressions evaluated: texts as they are, numbers in plain decimals, maps and lists as
// compact JSON, nil as nothing. A text that is one expression alone keeps that expression's value and type. The limits
// hold for all expressions together. The error is an *AbsentError or an *EvalError.
func (t *Template) Eval(ctx context.Context, s *Scope) (any, error) {
	if text, ok := t.Literal(); ok {
		return text, nil
	}
	if len(t.parts) == 1 {
		return t.parts[0].program.Eval(ctx, s)
	}
	var b strings.Builder
	err := t.each(ctx, s, func(piece string, err error) error {
		b.WriteString(piece)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.String(), nil
}

// EvalQuoted is Eval for a text of a language in which values must not be more than values: quote writes each value,
// knowing the text before it. The result is always a text.
func (t *Template) EvalQuoted(ctx context.Context, s *Scope, quote func(before, value string) (string, error)) (string, error) {
	var b strings.Builder
	at := 0
	err := t.each(ctx, s, func(piece string, err error) error {
		if err == nil && t.parts[at].program != nil {
			piece, err = quote(b.String(), piece)
		}
		at++
		b.WriteString(piece)
		return err
	})
	if err != nil {
		return "", err
	}
	return b.String(), nil
}

// Render is Eval for texts that are sent in any case: what is absent is printed as <absent: path>, and what fails as
// <failed: message>.
func (t *Template) Render(ctx context.Context, s *Scope) string {
	var b strings.Builder
	_ = t.each(ctx, s, func(piece string, err error) error {
		var absent *AbsentError
		switch {
		case errors.As(err, &absent):
			piece = "<absent: " + absent.Path + ">"
		case err != nil:
			piece = "<failed: " + err.Error() + ">"
		}
		b.WriteString(piece)
		return nil
	})
	return b.String()
}

// each hands the text of every part to visit, or why there is none, until visit returns an error.
func (t *Template) each(ctx context.Context, s *Scope, visit func(piece string, err error) error) error {
	var e *evaluation
	for _, p := range t.parts {
		if p.program == nil {
			if err := visit(p.text, nil); err != nil {
				return err
			}
			continue
		}
		if e == nil {
			e = newEvaluation(ctx, p.program, s)
			e.detail = true
		}
		e.use(p.program)
		piece, err := e.piece()
		if err := visit(piece, err); err != nil {
			return err
		}
	}
	return nil
}

// piece is the text of the program's value, charged for standing in a longer one.
func (e *evaluation) piece() (string, error) {
	v, err := e.run()
	if err != nil {
		return "", err
	}
	text, err := e.text(v)
	if err != nil {
		return "", e.failure(0, err)
	}
	if err := e.charge(len(text)); err != nil {
		return "", err
	}
	return text, nil
}
