package expression

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

const (
	maxPattern      = 2048      // bytes of a pattern
	maxInstructions = 2000      // of its compiled form: matching costs their number for each character
	maxMatched      = 256 << 10 // bytes of the text that is matched
	directWork      = 1 << 17   // instructions times bytes that are matched without a look at the clock: about 1 ms
)

// pattern is a compiled regular expression (RE2: linear in the text) and its cost for each character.
type pattern struct {
	re           *regexp.Regexp
	instructions int
}

func compilePattern(text string) (*pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("pattern is longer than %d bytes", maxPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, patternError(err)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, patternError(err)
	}
	if len(prog.Inst) > maxInstructions {
		return nil, errors.New("pattern is too large: it repeats too much")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, patternError(err)
	}
	return &pattern{re, len(prog.Inst)}, nil
}

func patternError(err error) error {
	var e *syntax.Error
	if errors.As(err, &e) {
		return fmt.Errorf("pattern is wrong: %s: %q", e.Code, clip(e.Expr, 80))
	}
	return fmt.Errorf("pattern is wrong: %w", err)
}

// matches compiles the operator; a pattern that is written out is compiled once, a computed one at each evaluation.
func (c *compiler) matches(n *ast.BinaryNode) *compiled {
	right := c.nested(n.Right)
	if !right.kind.maybe(kindString) {
		c.fail(n.Right.Location(), "the right side of matches must be text, it is "+right.kind.String(), "")
	}
	var fixed *pattern
	if text, ok := right.value.(string); ok {
		p, err := compilePattern(text)
		if err != nil {
			c.fail(n.Right.Location(), err.Error(), "")
		}
		fixed = p
	}
	return c.both(n, kindBool, func(e *evaluation, a, b any) (any, error) {
		if a == nil || b == nil {
			return false, nil
		}
		s, ok := a.(string)
		if !ok {
			return nil, wrongKind("the left side of matches", "text", a)
		}
		p := fixed
		if p == nil {
			var err error
			if p, err = e.pattern(b); err != nil {
				return nil, err
			}
		}
		return e.match(p, s)
	})
}

func (e *evaluation) pattern(v any) (*pattern, error) {
	text, ok := v.(string)
	if !ok {
		return nil, wrongKind("the right side of matches", "text", v)
	}
	if err := e.spend(1000 + 10*len(text)); err != nil { // compiling costs microseconds, like as many nodes
		return nil, err
	}
	return compilePattern(text)
}

// match matches short texts at once, and longer ones through a reader that looks at the budget.
func (e *evaluation) match(p *pattern, s string) (any, error) {
	if len(s) > maxMatched {
		return nil, fmt.Errorf("text of %d bytes is too long to be matched; the bound is %d", len(s), maxMatched)
	}
	work := len(s) * p.instructions
	if work <= directWork {
		if err := e.spend(work / 64); err != nil {
			return nil, err
		}
		return p.re.MatchString(s), nil
	}
	r := &meteredText{e: e, rest: s, cost: 1 + p.instructions/64}
	found := p.re.MatchReader(r)
	if r.err != nil {
		return nil, r.err
	}
	return found, nil
}

// meteredText hands out a text's characters as long as the evaluation may go on.
type meteredText struct {
	e    *evaluation
	rest string
	cost int
	err  error
}

// ReadRune implements io.RuneReader.
func (t *meteredText) ReadRune() (rune, int, error) {
	if t.rest == "" {
		return 0, 0, io.EOF
	}
	if t.err = t.e.spend(t.cost); t.err != nil {
		return 0, 0, io.EOF
	}
	r, n := utf8.DecodeRuneInString(t.rest)
	t.rest = t.rest[n:]
	return r, n, nil
}
