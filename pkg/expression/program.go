package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	source      *source
	root        node
	result      kind
	slots       int  // let variables
	builds      bool // makes lists or maps
	changed     bool // calls changed()
	refs        [][]string
	conjuncts   []string
	constraints []Constraint
	clauses     []string
}

// Compile compiles an expression; ${{ }} around the whole is accepted. A nil schema knows no names, so that any is
// allowed. The error is a *CompileError.
func Compile(src string, schema *Schema) (*Program, error) {
	start, end, err := unwrap(src)
	if err != nil {
		return nil, err
	}
	return compile(src, start, end, schema)
}

// CompileCondition is Compile for what Test will evaluate: an expression that can't be true or false is an error.
func CompileCondition(src string, schema *Schema) (*Program, error) {
	p, err := Compile(src, schema)
	if err != nil {
		return nil, err
	}
	if !p.result.maybe(kindBool) {
		return nil, p.source.err(p.source.all(), "condition is "+p.result.String()+", not true or false", "")
	}
	return p, nil
}

// Source returns the expression's text, without ${{ }}.
func (p *Program) Source() string { return strings.TrimSpace(p.source.text()) }

// Kind says what the expression's value is, as far as it is known without evaluating: nil, bool, number, string, list,
// map, time or duration; "" where it is not.
func (p *Program) Kind() string {
	return [...]string{"", "nil", "bool", "number", "string", "list", "map", "time", "duration"}[p.result]
}

// Refs returns the paths that the expression reads, each from its root up to the first part that only evaluation can
// know: ["steps", "src", "outputs", "dir"]. Each path is there once, in the order of the text.
func (p *Program) Refs() [][]string { return p.refs }

// CallsChanged reports whether changed() stands in the expression.
func (p *Program) CallsChanged() bool { return p.changed }

// Conjuncts returns the texts of the operands of && at the top of the expression, all of which must be true for the
// whole to be true; for any other expression its own text alone.
func (p *Program) Conjuncts() []string { return p.conjuncts }

// Clauses returns the texts of the clauses that Explain gives verdicts of, in the order of the text.
func (p *Program) Clauses() []string { return p.clauses }

// Eval returns the expression's value. The error is an *AbsentError or an *EvalError. Integers are int64, or
// event.Integer where they don't fit; the value must not be modified.
func (p *Program) Eval(ctx context.Context, s *Scope) (any, error) {
	e := newEvaluation(ctx, p, s)
	e.detail = true
	return e.run()
}

// Test evaluates the expression as a condition: only true matches.
func (p *Program) Test(ctx context.Context, s *Scope) Truth {
	e := newEvaluation(ctx, p, s)
	return truth(e.run())
}

// Decide is Test, and says of what is absent whether an evaluation that failed is the reason, and not an absent field.
func (p *Program) Decide(ctx context.Context, s *Scope) (t Truth, failed bool) {
	e := newEvaluation(ctx, p, s)
	v, err := e.run()
	t = truth(v, err)
	return t, t == Absent && absent(err) == nil
}

// truth is what a value means as a condition.
func truth(v any, err error) Truth {
	b, ok := v.(bool)
	switch {
	case err != nil || !ok:
		return Absent
	case b:
		return True
	}
	return False
}

// Explain is Test with the verdict of each clause. It evaluates every clause, also those that can't change the verdict;
// these have their own budget, and together at most ten times the time limit.
func (p *Program) Explain(ctx context.Context, s *Scope) (Truth, []Clause) {
	e := newEvaluation(ctx, p, s)
	e.detail = true
	e.report = &report{left: 10 * e.limits.Time, noted: map[*path]bool{}}
	t := truth(e.run())
	return t, e.report.clauses
}

// report collects what Explain tells.
type report struct {
	clauses []Clause
	seen    []Seen         // by the clause that is being evaluated
	noted   map[*path]bool // whose value does not change within the clause
	left    time.Duration  // for clauses that don't decide
}

// maxSeen is how many fields a clause reports.
const maxSeen = 8

// note adds a field that was read to the report, once.
func (e *evaluation) note(p *path, v any) {
	r := e.report
	if len(r.seen) == maxSeen || r.noted[p] {
		return
	}
	r.noted[p] = !p.element
	text := p.text(e, len(p.steps))
	for _, s := range r.seen {
		if s.Path == text {
			return
		}
	}
	r.seen = append(r.seen, Seen{text, v})
}

// record evaluates a clause and notes its verdict.
func (e *evaluation) record(text string, at int, n node) (any, error) {
	r := e.report
	r.seen, r.noted = nil, map[*path]bool{}
	v, err := n(e)
	if err == nil {
		if _, ok := v.(bool); !ok {
			err = e.failure(at, notBoolean(v))
		}
	}
	c := Clause{Text: text, Truth: truth(v, err), Seen: r.seen, Err: err}
	var absent *AbsentError
	if errors.As(err, &absent) {
		c.Absent, c.Hint, c.Err = absent.Path, absent.Hint, nil
	}
	r.clauses = append(r.clauses, c)
	return v, err
}

// aside evaluates clauses that no longer change the verdict, without touching what the others may use.
func (e *evaluation) aside(clauses []node) {
	saved, began := e.budget, time.Now()
	for _, n := range clauses {
		e.budget = newBudget(e.limits)
		start := time.Now()
		if e.report.left <= 0 {
			_ = e.halt(ErrDeadline, fmt.Sprintf("explaining takes longer than %v", 10*e.limits.Time))
		}
		n(e) //nolint:errcheck // the report has it
		e.report.left -= time.Since(start)
	}
	e.budget = saved
	if !e.deadline.IsZero() {
		e.deadline = e.deadline.Add(time.Since(began))
	}
}
