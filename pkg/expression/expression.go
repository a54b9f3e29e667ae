// Package expression compiles and evaluates Riposte's expressions: the syntax of expr-lang, with conditions that are
// true, false or absent, integers that keep their value, and bounds on nodes, memory and time that hold inside
// predicates too.
//
// A compiled Program or Template is immutable and safe for concurrent use. Evaluation has no side effects, reads no
// clock but Scope.Now, starts no goroutine and never panics. Values that it returns may be parts of the scope or of the
// program: they must not be modified.
package expression

import (
	"context"
	"time"
)

// Object is a value with named fields that expressions can read: an event, its views, a step's outputs. Maps with
// string keys are objects too.
type Object interface {
	// Field returns the named field; ok is false where it is absent, which differs from a nil value (JSON null).
	Field(name string) (value any, ok bool)
	// Fields lists the names that are present, for "did you mean".
	Fields() []string
}

// Lazy is an Object of which a part can be read at less cost than the whole.
type Lazy interface {
	Object
	// Lazily is Field, but in the place of an object it may return another Lazy that stands for it.
	Lazily(name string) (value any, ok bool)
	// Value returns what it stands for, as Field would.
	Value() any
}

// Schema says which names an expression may use, so that a misspelling in a closed view is found at load.
type Schema struct {
	// Fields maps the known names to their own schema. A nil Schema value is open: anything may be read below it.
	Fields map[string]*Schema
	// Closed makes a name that is not in Fields an error.
	Closed bool
	// Unknown says what is wrong with a name that is not in Fields, and what to try; without a message the usual words are
	// said. Optional.
	Unknown func(name string) (msg, hint string)
}

// Scope holds the roots that an expression reads: event, correlated, steps, inputs, run, probe.
type Scope struct {
	Vars map[string]any
	// Now is the evaluation clock that now() answers with.
	Now time.Time
	// Changed answers changed(globs…); nil makes the call fail.
	Changed func(globs []string) (bool, error)
	// Limits bound the evaluation.
	Limits Limits
}

// Limits bound one evaluation. The zero value means the defaults.
type Limits struct {
	Nodes  int           // evaluated nodes; default 1,000,000
	Memory int           // bytes of strings and 16 per element of lists made; default 16 MiB
	Time   time.Duration // default 100 ms
}

// Truth is the verdict of a condition or one of its clauses.
type Truth int

// The verdicts; Absent is the zero value.
const (
	Absent Truth = iota // reads an absent field, or fails
	False
	True
)

func (t Truth) String() string {
	switch t {
	case True:
		return "true"
	case False:
		return "false"
	}
	return "absent"
}

// Clause is what one operand of a condition came to, for explain.
type Clause struct {
	Text   string // the operand's source text
	Truth  Truth
	Absent string // path of the field that was absent: "event.alert.labels.service"
	Hint   string // what is there instead of the absent field, and what may be meant; a line for each
	Err    error  // why it failed otherwise
	Seen   []Seen // fields it read, in order; the first few
}

// Seen is a field that a clause read and the value it had.
type Seen struct {
	Path  string
	Value any
}

// Evaluator is what the rest of the engine needs of a compiled expression.
type Evaluator interface {
	// Eval returns the expression's value. An error is an *AbsentError or an *EvalError.
	Eval(ctx context.Context, s *Scope) (any, error)
	// Test evaluates it as a condition: only true matches. It never returns an error; clauses report what failed.
	Test(ctx context.Context, s *Scope) Truth
	// Explain is Test with the verdict of each clause; it evaluates every clause.
	Explain(ctx context.Context, s *Scope) (Truth, []Clause)
}

var _ Evaluator = (*Program)(nil)
