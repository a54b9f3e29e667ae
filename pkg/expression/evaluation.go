package expression

import (
	"context"
	"fmt"
	"time"
)

const (
	defaultNodes  = 1_000_000
	defaultMemory = 16 << 20
	defaultTime   = 100 * time.Millisecond

	checkEvery  = 256 // nodes between two looks at the clock and the context
	elementSize = 16  // bytes that an element of a list is charged with
	maxDepth    = 10_000
)

func (l Limits) withDefaults() Limits {
	if l.Nodes <= 0 {
		l.Nodes = defaultNodes
	}
	if l.Memory <= 0 {
		l.Memory = defaultMemory
	}
	if l.Time <= 0 {
		l.Time = defaultTime
	}
	return l
}

// node is a compiled expression. Its error is an *AbsentError or an *EvalError; without detail it may be any error.
type node func(*evaluation) (any, error)

// evaluation is the state of one evaluation; it stays in one goroutine.
type evaluation struct {
	budget
	ctx     context.Context
	scope   *Scope
	program *Program
	limits  Limits
	vars    []binding
	frames  []frame
	detail  bool    // somebody reads the errors
	report  *report // of Explain
}

// binding is the value of a let variable; an absent one is absent when it is read.
type binding struct {
	value any
	err   error
}

// frame is what # stands for in a closure.
type frame struct {
	item  any
	index int
	acc   any   // the third argument, and what reduce makes of it
	list  *path // what is iterated, where it is a path
}

// budget is what an evaluation may still use. Once it is used up, the evaluation only fails.
type budget struct {
	fuel     int // nodes until the next check
	left     int // nodes after those
	memory   int // bytes
	deadline time.Time
	stop     error
}

func newBudget(l Limits) budget { return budget{left: l.Nodes, memory: l.Memory} }

// tick counts a node.
func (e *evaluation) tick() error {
	e.fuel--
	if e.fuel >= 0 {
		return nil
	}
	return e.refuel(1)
}

// spend counts the work of n nodes.
func (e *evaluation) spend(n int) error {
	if n <= e.fuel {
		e.fuel -= max(n, 0)
		return nil
	}
	return e.refuel(n - max(e.fuel, 0))
}

// refuel takes n nodes, checks all bounds, and takes the nodes until the next check. The clock starts at the first one,
// so that an expression that ends before the second never reads it twice.
func (e *evaluation) refuel(n int) error {
	e.fuel = 0
	if e.stop != nil {
		return e.stop
	}
	if n > e.left {
		return e.halt(ErrBudget, fmt.Sprintf("evaluates more than %d nodes", e.limits.Nodes))
	}
	now := time.Now()
	if e.deadline.IsZero() {
		e.deadline = now.Add(e.limits.Time)
	} else if now.After(e.deadline) {
		return e.halt(ErrDeadline, fmt.Sprintf("takes longer than %v", e.limits.Time))
	}
	if err := e.ctx.Err(); err != nil {
		return e.halt(err, "evaluation was stopped: "+err.Error())
	}
	e.left -= n
	e.fuel = min(checkEvery, e.left)
	e.left -= e.fuel
	return nil
}

// charge takes n bytes of memory, and work in proportion, before they are allocated.
func (e *evaluation) charge(n int) error {
	if e.stop != nil {
		return e.stop
	}
	if n < 0 || n > e.memory {
		return e.halt(ErrBudget, fmt.Sprintf("makes more than %d bytes of text and lists", e.limits.Memory))
	}
	e.memory -= n
	return e.spend(n / 64)
}

// chargeList takes the memory of a list of n elements.
func (e *evaluation) chargeList(n int) error {
	if n > e.memory/elementSize {
		return e.charge(e.memory + 1)
	}
	return e.charge(n * elementSize)
}

func (e *evaluation) halt(kind error, msg string) error {
	e.fuel = 0
	e.stop = &EvalError{Msg: msg, Err: kind}
	return e.stop
}

// newEvaluation starts an evaluation of p; a nil scope has no names.
func newEvaluation(ctx context.Context, p *Program, s *Scope) *evaluation {
	if s == nil {
		s = &Scope{}
	}
	l := s.Limits.withDefaults()
	e := &evaluation{budget: newBudget(l), ctx: ctx, scope: s, limits: l}
	e.use(p)
	return e
}

// use makes p the program that is evaluated, within what is left of the budget.
func (e *evaluation) use(p *Program) {
	e.program = p
	if p.slots > len(e.vars) {
		e.vars = make([]binding, p.slots)
	}
	e.frames = e.frames[:0]
}

// run evaluates the program. A panic is a bug of this package or of an Object; it fails only this evaluation.
func (e *evaluation) run() (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, &EvalError{Msg: "internal error: " + clip(fmt.Sprint(r), maxMessage)}
		}
	}()
	v, err = e.program.root(e)
	if err == nil && e.program.builds {
		err = e.measure(v, 0)
	}
	return v, err
}

// measure walks a value that the expression built, because what refers to itself often is larger than what was charged.
func (e *evaluation) measure(v any, depth int) error {
	if depth > maxDepth {
		return e.halt(ErrBudget, "value is nested too deeply")
	}
	if err := e.tick(); err != nil {
		return err
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := e.measure(item, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range v {
			if err := e.measure(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
