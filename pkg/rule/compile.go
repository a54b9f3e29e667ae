package rule

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// stepCompiler compiles the steps of one rule, or of one workflow.
type stepCompiler struct {
	*loader
	doc     doc
	into    map[stepKey]*step
	noted   *Rule                         // of a rule: what its steps read is noted there
	roots   map[string]*expression.Schema // what the steps can read beside steps and run
	outputs map[string]*expression.Schema // of the steps above
}

func newStepCompiler(l *loader, d doc, r *Rule) *stepCompiler {
	c := &stepCompiler{loader: l, doc: d, into: r.steps, noted: r, outputs: map[string]*expression.Schema{}}
	c.roots = map[string]*expression.Schema{"event": l.event}
	if s := r.correlatedSchema(l.event); s != nil {
		c.roots["correlated"] = s
	}
	return c
}

// schema says what the expressions of a step can read; more are further names below run.
func (c *stepCompiler) schema(more ...string) *expression.Schema {
	root := &expression.Schema{Closed: true, Fields: maps.Clone(c.roots)}
	root.Fields["steps"] = &expression.Schema{Closed: true, Fields: maps.Clone(c.outputs)}
	root.Fields["run"] = closed(append([]string{"id", "rule", "attempt", "state", "reason", "message", "url"}, more...))
	return root
}

func (c *stepCompiler) steps(phase run.Phase, specs []stepSpec, at *document.Item) []run.StepPlan {
	var plans []run.StepPlan
	seen := map[string]bool{}
	previous := ""
	for n, spec := range specs {
		item := at.Elements[n]
		if spec.ID == "" {
			spec.ID = fmt.Sprintf("step%d", n+1)
		}
		if !isStepID(spec.ID) {
			c.problem(c.doc.file, item.Get("id"), "", "id %q is not letters, digits and _", spec.ID)
		}
		if seen[spec.ID] {
			c.problem(c.doc.file, orItem(item.Get("id"), item), "", "step %s is there already", spec.ID)
		}
		plan := run.StepPlan{ID: spec.ID, Uses: spec.Uses, Timeout: spec.Timeout, ContinueOnError: spec.ContinueOnError}
		plan.Retry = c.retry(item, spec.Retry)
		reads := c.step(phase, spec, item, &plan)
		plan.Needs = c.needs(item, spec, seen, previous, reads)
		plans = append(plans, plan)
		seen[spec.ID], previous = true, spec.ID
	}
	return plans
}

func orItem(a, b *document.Item) *document.Item {
	if a != nil {
		return a
	}
	return b
}

// needs are the steps that must have ended before a step starts: those it names, or the one above, and those it reads.
func (c *stepCompiler) needs(item *document.Item, spec stepSpec, seen map[string]bool, previous string, reads []string) []string {
	var out []string
	if item.Get("needs") == nil && previous != "" {
		out = append(out, previous)
	}
	for _, n := range spec.Needs {
		if !seen[n] {
			c.problem(c.doc.file, item.Get("needs"), didYouMean(n, slices.Sorted(maps.Keys(seen))), "needs: there is no step %q above", n)
			continue
		}
		out = append(out, n)
	}
	for _, n := range reads {
		if seen[n] && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (c *stepCompiler) retry(item *document.Item, r *retrySpec) run.Retry {
	if r == nil {
		return run.Retry{}
	}
	if given := item.Get("retry").Get("attempts").Any(); (r.Attempts < 1 || r.Attempts > 100) && (given == r.Attempts || given == float64(r.Attempts)) {
		c.problem(c.doc.file, item.Get("retry"), "", "retry.attempts is %d, and must be 1 to 100", r.Attempts)
	}
	if r.Backoff == 0 {
		r.Backoff = 10 * time.Second
	}
	out := run.Retry{Attempts: int(r.Attempts), Backoff: r.Backoff, MaxBackoff: r.MaxBackoff, Jitter: 0.2}
	for _, name := range r.On {
		o := run.Outcome(name)
		if o != run.OutcomeFailed && o != run.OutcomeTimeout {
			c.problem(c.doc.file, item.Get("retry").Get("on"), "", "retry.on: %q is none of %s, %s", name, run.OutcomeFailed, run.OutcomeTimeout)
		}
		out.On = append(out.On, o)
	}
	return out
}

// step compiles one step, and returns the names of the steps that it reads.
func (c *stepCompiler) step(phase run.Phase, spec stepSpec, item *document.Item, plan *run.StepPlan) []string {
	c.grantUses(item, spec.Uses)
	s := &step{grant: c.grants[c.doc.file]}
	var more []string
	if spec.ForEach != nil {
		c.forEach(s, spec.ForEach, plan)
		more = []string{"item", "index"}
	}
	schema := c.schema(more...)
	if spec.If != nil {
		if s.condition = c.condition(c.doc.file, spec.If, "if", schema); s.condition != nil {
			c.note(s, s.condition.Refs(), s.condition.CallsChanged())
			s.itemIf = spec.ForEach != nil && readsItem(s.condition.Refs())
		}
	}
	with := spec.With
	if with == nil {
		with = &document.Item{Kind: document.Map, Line: item.Line, Column: item.Column}
	}
	if with.Kind != document.Map {
		c.problem(c.doc.file, with, "", "with must be a map of parameters")
		return s.reads
	}
	var ok bool
	if name, is := strings.CutPrefix(spec.Uses, "workflow/"); is {
		ok = c.useWorkflow(s, name, spec, item, with, schema, plan)
	} else {
		ok = c.useAction(s, spec, item, with, schema, plan)
	}
	if !ok {
		return s.reads
	}
	c.into[stepKey{phase, spec.ID}] = s
	c.outputs[spec.ID] = s.schema()
	return s.reads
}

func (c *stepCompiler) useAction(s *step, spec stepSpec, item, with *document.Item, schema *expression.Schema, plan *run.StepPlan) bool {
	def, ok := c.opts.Actions[spec.Uses]
	if !ok && spec.Uses == "" && item.Get("uses").Any() != "" {
		return false // it is missing or no text, which is told
	}
	if !ok {
		known := slices.Sorted(maps.Keys(c.opts.Actions))
		c.problem(c.doc.file, item.Get("uses"), didYouMean(spec.Uses, known), "there is no action %q", spec.Uses)
		return false
	}
	plan.RetryInterrupted = spec.OnInterrupt == "retry" || spec.OnInterrupt == "" && def.RetryInterrupted
	plan.Changes = def.Changes && !def.Tells
	s.action = c.actions[spec.Uses]
	known := c.with(s, with, schema, document.Tagged(def.Params, "expr", "never"))
	c.checkLiteral(def, known)
	return true
}

// with compiles parameters; never are those that must hold no expression. It returns what is known of them now.
func (c *stepCompiler) with(s *step, with *document.Item, schema *expression.Schema, never []string) *document.Item {
	s.with = &template{members: map[string]*template{}}
	known := &document.Item{Kind: document.Map, Line: with.Line, Column: with.Column}
	for _, m := range with.Members {
		compiled, literal := c.value(s, m.Item, "with."+m.Name, schema)
		if compiled.text != nil && slices.Contains(never, m.Name) {
			c.problem(c.doc.file, m.Item, "hand values over through env, which a shell never reads as commands", "with.%s must not hold ${{ }}: an event's text would become part of a command", m.Name)
		}
		if quote := s.def().Quote[m.Name]; quote != nil {
			compiled.quoted(quote)
		}
		s.with.members[m.Name] = compiled
		known.Members = append(known.Members, document.Member{Name: m.Name, Line: m.Line, Column: m.Column, Item: literal})
	}
	return known
}

// note remembers what a step reads.
func (c *stepCompiler) note(s *step, refs [][]string, asksChanged bool) {
	for _, ref := range refs {
		if len(ref) > 1 && ref[0] == "steps" && !slices.Contains(s.reads, ref[1]) {
			s.reads = append(s.reads, ref[1])
		}
	}
	if c.noted != nil {
		c.noted.noteReads(refs)
		c.noted.stepsAsk = c.noted.stepsAsk || asksChanged
	}
}

func readsItem(refs [][]string) bool {
	return slices.ContainsFunc(refs, func(ref []string) bool {
		return len(ref) > 1 && ref[0] == "run" && (ref[1] == "item" || ref[1] == "index") || len(ref) == 1 && ref[0] == "run"
	})
}

type forEachSpec struct {
	In       *document.Item `yaml:"in" required:"true" doc:"expression for the list"`
	Parallel int64          `yaml:"parallel,omitempty" default:"1" doc:"items that go on at once"`
}

// forEach compiles what a step goes over.
func (c *stepCompiler) forEach(s *step, item *document.Item, plan *run.StepPlan) {
	spec := forEachSpec{In: item, Parallel: 1}
	if item.Kind == document.Map {
		spec.In = nil
		if !c.decode(c.doc.file, item, &spec) || spec.In == nil {
			return
		}
		if spec.Parallel < 1 || spec.Parallel > 100 {
			c.problem(c.doc.file, item.Get("parallel"), "", "forEach.parallel is %d, and must be 1 to 100", spec.Parallel)
			spec.Parallel = 1
		}
	}
	plan.Parallel = int(spec.Parallel)
	if spec.In.Kind == document.List {
		t, _ := c.value(s, spec.In, "forEach", c.schema())
		s.list = t
		return
	}
	if s.each = c.expressionIn(spec.In, "forEach", c.schema()); s.each != nil {
		c.note(s, s.each.Refs(), s.each.CallsChanged())
	}
}

// expressionIn compiles an expression that yields a value.
func (c *stepCompiler) expressionIn(i *document.Item, field string, schema *expression.Schema) *expression.Program {
	text, ok := i.Value.(string)
	if !ok || strings.TrimSpace(text) == "" {
		c.problem(c.doc.file, i, "", "%s must be an expression", field)
		return nil
	}
	p, err := expression.Compile(text, schema)
	if err != nil {
		c.compileProblem(c.doc.file, i, field, err)
		return nil
	}
	return p
}

// changes reports whether steps change something outside, and which labels mean something else afterwards.
func (c *stepCompiler) changes(plans []run.StepPlan) (heals bool, replaces []string) {
	for _, s := range c.into {
		for _, def := range s.actions() {
			replaces = append(replaces, def.Replaces...)
		}
	}
	slices.Sort(replaces)
	return changing(plans), slices.Compact(replaces)
}

func changing(plans []run.StepPlan) bool {
	return slices.ContainsFunc(plans, func(sp run.StepPlan) bool { return sp.Changes || changing(sp.Steps) })
}

// value compiles a value of `with`. literal is what is known of it now, with Unknown in the place of expressions.
func (c *stepCompiler) value(s *step, i *document.Item, field string, schema *expression.Schema) (*template, *document.Item) {
	literal := *i
	switch i.Kind {
	case document.Map:
		t := &template{members: map[string]*template{}}
		literal.Members = nil
		for _, m := range i.Members {
			v, known := c.value(s, m.Item, field+"."+m.Name, schema)
			t.members[m.Name] = v
			literal.Members = append(literal.Members, document.Member{Name: m.Name, Line: m.Line, Column: m.Column, Item: known})
		}
		c.secret(i)
		return t, &literal
	case document.List:
		t := &template{list: make([]*template, len(i.Elements))}
		literal.Elements = make([]*document.Item, len(i.Elements))
		for k, e := range i.Elements {
			t.list[k], literal.Elements[k] = c.value(s, e, fmt.Sprintf("%s[%d]", field, k), schema)
		}
		return t, &literal
	}
	text, ok := i.Value.(string)
	if !ok || !strings.Contains(text, "${{") {
		return &template{literal: i.Value}, &literal
	}
	compiled, err := expression.CompileText(text, schema)
	if err != nil {
		c.compileProblem(c.doc.file, i, field, err)
		return &template{literal: text}, &document.Item{Value: document.Unknown{}, Line: i.Line, Column: i.Column}
	}
	if plainText, ok := compiled.Literal(); ok {
		literal.Value = plainText
		return &template{literal: plainText}, &literal
	}
	c.note(s, compiled.Refs(), compiled.CallsChanged())
	return &template{text: compiled}, &document.Item{Value: document.Unknown{}, Line: i.Line, Column: i.Column}
}

// secret checks a map that names a secret.
func (c *stepCompiler) secret(i *document.Item) {
	if len(i.Members) != 1 || i.Members[0].Name != "secret" && i.Members[0].Name != "env" {
		return
	}
	name, ok := i.Members[0].Item.Value.(string)
	if !ok || strings.Contains(name, "${{") {
		return
	}
	ref := source.SecretRef{Secret: name}
	if i.Members[0].Name == "env" {
		ref = source.SecretRef{Env: name}
	}
	if err := c.checkSecret(ref); err != nil {
		c.problem(c.doc.file, i, "", "%v", err)
	}
}

// checkLiteral checks what is known of the parameters before any event.
func (c *stepCompiler) checkLiteral(def action.Definition, known *document.Item) {
	params := reflect.New(reflect.TypeOf(def.Params).Elem()).Interface()
	if problems := document.DecodeParams(c.doc.file, known, params); len(problems) > 0 {
		for _, p := range problems {
			p.Msg = def.Name + ": " + p.Msg
			c.problems = append(c.problems, p)
		}
		return
	}
	c.grantParams(def, params, known)
	for _, name := range document.Tagged(def.Params, "ref", "target") {
		i := known.Get(name)
		if i == nil {
			continue
		}
		if to, ok := i.Value.(string); ok && c.places["Target "+to] == "" {
			c.problem(c.doc.file, i, didYouMean(to, slices.Sorted(maps.Keys(c.set.Targets))), "there is no Target %q", to)
		}
	}
	if def.Check == nil {
		return
	}
	if err := def.Check(params); err != nil {
		c.problem(c.doc.file, known, "", "%s: %v", def.Name, err)
	}
}
