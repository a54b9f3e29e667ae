package rule

import (
	"fmt"
	"maps"
	"math"
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

// maxSteps bounds the steps of a rule, those of its workflows each time they are used among them; an item counts once. A
// record of a run holds them all.
const maxSteps = 1000

// stepCompiler compiles the steps of one rule, or of one workflow.
type stepCompiler struct {
	*loader
	doc    doc
	into   map[stepKey]*step
	noted  *Rule                         // of a rule: what its steps read is noted there; nil for a workflow
	roots  map[string]*expression.Schema // what the steps can read beside steps and run
	inputs map[string]Input              // of a workflow

	readable  map[string]readable // steps that can be read where the next one stands
	current   string              // the step that is being compiled,
	below     map[string]bool     // and those below it
	elsewhere map[string]bool     // steps of a part that can't be read

	total  int  // steps so far, with those of workflows
	broken bool // one of them uses a workflow that is wrong
}

func newStepCompiler(l *loader, d doc, r *Rule) *stepCompiler {
	c := &stepCompiler{loader: l, doc: d, into: r.steps, noted: r, readable: map[string]readable{}}
	c.roots = map[string]*expression.Schema{"event": l.event}
	if s := r.correlatedSchema(l.event); s != nil {
		c.roots["correlated"] = s
	}
	return c
}

func (c *stepCompiler) steps(phase run.Phase, specs []stepSpec, at *document.Item) []run.StepPlan {
	var plans []run.StepPlan
	c.below = ids(specs)
	seen := map[string]bool{}
	for n, spec := range specs {
		item := at.Elements[n]
		spec.ID = spec.id(n)
		if !isStepID(spec.ID) {
			c.problem(c.doc.file, item.Get("id"), "", "id %q is not letters, digits and _", spec.ID)
		}
		if seen[spec.ID] {
			c.problem(c.doc.file, orItem(item.Get("id"), item), "", "step %s is there already", spec.ID)
		}
		c.current = spec.ID
		delete(c.below, spec.ID)
		plan := run.StepPlan{ID: spec.ID, Uses: spec.Uses, Timeout: spec.Timeout, ContinueOnError: spec.ContinueOnError}
		plan.Retry = c.retry(spec.Retry, item.Get("retry"))
		c.longer(c.doc.file, item, "timeout")
		reads := c.step(phase, spec, item, &plan)
		plan.Needs = c.needs(item, spec, plans, seen, reads)
		plans = append(plans, plan)
		seen[spec.ID] = true
	}
	c.current, c.below = "", nil
	return plans
}

func orItem(a, b *document.Item) *document.Item {
	if a != nil {
		return a
	}
	return b
}

// element returns the n-th element of a list, or what stands alone in its place.
func element(i *document.Item, n int) *document.Item {
	if i != nil && i.Kind == document.List && n < len(i.Elements) {
		return i.Elements[n]
	}
	return i
}

// longer reports a duration that is written and is nothing.
func (l *loader) longer(file string, i *document.Item, name string) {
	if at := i.Get(name); isNothing(at) {
		l.problem(file, at, "leave it out for the default", "%s must be longer than nothing", name)
	}
}

// isNothing reports whether a duration of nothing is written.
func isNothing(i *document.Item) bool {
	text, _ := i.Any().(string)
	d, err := document.ParseDuration(text)
	return err == nil && d == 0
}

// isWhole reports whether an item is a number that a field for whole numbers takes; what does not fit is told.
func isWhole(i *document.Item) bool {
	switch v := i.Any().(type) {
	case int64:
		return true
	case float64:
		return v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return false
}

// needs are the steps that must have ended before a step starts: those it names, or the one above, and those it reads.
func (c *stepCompiler) needs(item *document.Item, spec stepSpec, above []run.StepPlan, seen map[string]bool, reads []string) []string {
	var out []string
	at := item.Get("needs")
	if at == nil && len(above) > 0 {
		out = append(out, above[len(above)-1].ID)
	}
	for n, name := range spec.Needs {
		switch i := element(at, n); {
		case seen[name]:
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		case name == "": // no text, which is told, or nothing that could be meant
			if i.Any() == "" {
				c.problem(c.doc.file, i, "", "needs: a step has a name")
			}
		case name == spec.ID:
			c.problem(c.doc.file, i, "", "needs: step %s can't wait for itself", name)
		case c.below[name]:
			c.problem(c.doc.file, i, "write step "+name+" above", "needs: step %s stands below, and steps are made in order", name)
		case c.readable[name].schema != nil:
			c.problem(c.doc.file, i, "leave it out", "needs: step %s is one of the rule's steps, which have ended when this part begins", name)
		default:
			c.problem(c.doc.file, i, didYouMean(name, slices.Sorted(maps.Keys(seen))), "needs: there is no step %q above", name)
		}
	}
	for _, n := range reads {
		if seen[n] && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (c *stepCompiler) retry(r *retrySpec, at *document.Item) run.Retry {
	if r == nil {
		return run.Retry{}
	}
	if i := at.Get("attempts"); isWhole(i) && (r.Attempts < 1 || r.Attempts > 100) {
		c.problem(c.doc.file, i, "", "retry.attempts is %d, and must be 1 to 100", r.Attempts)
	}
	out := run.Retry{Attempts: int(r.Attempts), Backoff: r.Backoff, MaxBackoff: r.MaxBackoff, Jitter: 0.2}
	if at.Get("backoff") == nil {
		out.Backoff = 10 * time.Second
	}
	c.longer(c.doc.file, at, "maxBackoff")
	if r.MaxBackoff > 0 && r.MaxBackoff < out.Backoff {
		c.problem(c.doc.file, at.Get("maxBackoff"), "", "retry.maxBackoff is %s, shorter than the first pause, which is %s", r.MaxBackoff, out.Backoff)
	}
	on := at.Get("on")
	if on != nil && on.Kind == document.List && len(on.Elements) == 0 {
		c.problem(c.doc.file, on, "leave it out to try again whatever happened", "retry.on is empty: nothing would be tried again")
	}
	for n, name := range r.On {
		o := run.Outcome(name)
		if i := element(on, n); o != run.OutcomeFailed && o != run.OutcomeTimeout && i.Any() == name {
			c.problem(c.doc.file, i, didYouMean(name, []string{string(run.OutcomeFailed), string(run.OutcomeTimeout)}), "retry.on: %q is none of %s, %s", name, run.OutcomeFailed, run.OutcomeTimeout)
		}
		out.On = append(out.On, o)
	}
	return out
}

// step compiles one step, and returns the names of the steps that it reads. Of one that is wrong anything can be read, so
// that what only follows from it is not told.
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
			c.note(s, spec.If, s.condition.Refs(), s.condition.CallsChanged())
			s.itemIf = spec.ForEach != nil && readsItem(s.condition.Refs())
		}
	}
	ok := c.count(item, 1)
	if with := c.withOf(spec.With, item, "with"); with != nil {
		if name, is := strings.CutPrefix(spec.Uses, "workflow/"); is {
			ok = c.useWorkflow(s, name, spec, item, with, schema, plan) && ok
		} else {
			ok = c.useAction(s, spec, item, with, schema, plan) && ok
		}
	} else {
		ok = false
	}
	c.readable[spec.ID] = readable{schema: &expression.Schema{}}
	if ok {
		c.into[stepKey{phase, spec.ID}] = s
		c.readable[spec.ID] = readable{s.schema(), s}
	}
	return s.reads
}

// count counts steps, and reports at the first one that is too many.
func (c *stepCompiler) count(item *document.Item, n int) bool {
	was := c.total
	c.total += n
	if was <= maxSteps && c.total > maxSteps {
		c.problem(c.doc.file, item, "a forEach makes one step of many", "with this step there are %d, and a rule has at most %d, those of its workflows among them", c.total, maxSteps)
	}
	return c.total <= maxSteps
}

// withOf returns the map of parameters, an empty one where none is written, or nil where it is no map.
func (c *stepCompiler) withOf(with, item *document.Item, field string) *document.Item {
	if with == nil {
		return &document.Item{Kind: document.Map, Line: item.Line, Column: item.Column}
	}
	if with.Kind != document.Map {
		c.problem(c.doc.file, with, "", "%s must be a map of parameters", field)
		return nil
	}
	return with
}

func (c *stepCompiler) useAction(s *step, spec stepSpec, item, with *document.Item, schema *expression.Schema, plan *run.StepPlan) bool {
	def, ok := c.opts.Actions[spec.Uses]
	if !ok && spec.Uses == "" && item.Get("uses").Any() != "" {
		return false // it is missing or no text, which is told
	}
	if !ok {
		hint := didYouMean(spec.Uses, slices.Sorted(maps.Keys(c.opts.Actions)))
		if c.places["Workflow "+spec.Uses] != "" {
			hint = "did you mean workflow/" + spec.Uses + "?"
		}
		c.problem(c.doc.file, item.Get("uses"), hint, "there is no action %q", spec.Uses)
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
		if slices.Contains(never, m.Name) && !compiled.constant() {
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

// note remembers what an expression of a step, which stands at an item, reads.
func (c *stepCompiler) note(s *step, at *document.Item, refs [][]string, asksChanged bool) {
	for _, ref := range refs {
		if len(ref) > 1 && ref[0] == "steps" && !slices.Contains(s.reads, ref[1]) {
			s.reads = append(s.reads, ref[1])
		}
	}
	switch {
	case c.noted != nil:
		c.noted.noteReads(refs)
		c.noted.stepsAsk = c.noted.stepsAsk || asksChanged
	case asksChanged:
		c.problem(c.doc.file, at, "declare an input, and hand over ${{ changed(…) }} in with", "a workflow does not know the event, and so not what it changed")
	}
}

func readsItem(refs [][]string) bool {
	return slices.ContainsFunc(refs, func(ref []string) bool {
		return len(ref) > 1 && ref[0] == "run" && (ref[1] == "item" || ref[1] == "index") || len(ref) == 1 && ref[0] == "run"
	})
}

type forEachSpec struct {
	In       *document.Item `yaml:"in" required:"true" doc:"expression for the list, or a list of values"`
	Parallel int64          `yaml:"parallel,omitempty" default:"1" doc:"items that go on at once, up to 100"`
}

// forEach compiles what a step goes over.
func (c *stepCompiler) forEach(s *step, item *document.Item, plan *run.StepPlan) {
	spec := forEachSpec{In: item}
	if item.Kind == document.Map {
		spec.In = nil
		for _, p := range document.Decode(c.doc.file, item, &spec) {
			p.Msg = "forEach: " + p.Msg
			c.problems = append(c.problems, p)
		}
	}
	plan.Parallel = 1
	switch i := item.Get("parallel"); {
	case isWhole(i) && (spec.Parallel < 1 || spec.Parallel > 100):
		c.problem(c.doc.file, i, "", "forEach.parallel is %d, and must be 1 to 100", spec.Parallel)
	case isWhole(i):
		plan.Parallel = int(spec.Parallel)
	}
	if spec.In == nil { // which is told
		s.list = &template{list: []*template{}}
		return
	}
	if spec.In.Kind == document.List {
		if n := len(spec.In.Elements); n > maxItems {
			c.problem(c.doc.file, spec.In, "", "forEach has %d items, and at most %d are possible", n, maxItems)
		}
		s.list, _ = c.value(s, spec.In, "forEach", c.schema())
		return
	}
	if s.each = c.expressionIn(c.doc.file, spec.In, "forEach", c.schema()); s.each == nil {
		s.list = &template{list: []*template{}}
		return
	}
	if kind := s.each.Kind(); kind != "" && kind != "list" {
		c.problem(c.doc.file, spec.In, "", "forEach needs a list, and this is a %s", kind)
	}
	c.note(s, spec.In, s.each.Refs(), s.each.CallsChanged())
}

// expressionIn compiles an expression that yields a value.
func (l *loader) expressionIn(file string, i *document.Item, field string, schema *expression.Schema) *expression.Program {
	if _, unknown := i.Value.(document.Unknown); unknown { // what is wrong with it is told
		return nil
	}
	text, ok := i.Value.(string)
	if !ok || strings.TrimSpace(text) == "" {
		l.problem(file, i, "", "%s must be an expression", field)
		return nil
	}
	p, err := expression.Compile(text, schema)
	if err != nil {
		l.compileProblem(file, i, field, err)
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
		return &template{literal: document.Unknown{}}, &document.Item{Value: document.Unknown{}, Line: i.Line, Column: i.Column}
	}
	if plainText, ok := compiled.Literal(); ok {
		literal.Value = plainText
		return &template{literal: plainText}, &literal
	}
	c.note(s, i, compiled.Refs(), compiled.CallsChanged())
	return &template{text: compiled}, &document.Item{Value: document.Unknown{}, Line: i.Line, Column: i.Column}
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
	c.checkSecrets(secretsOf(params), known)
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

// checkSecrets checks the secrets that a step names below an item.
func (c *stepCompiler) checkSecrets(refs []source.SecretRef, at *document.Item) {
	for _, ref := range refs {
		if err := c.checkSecret(ref); err != nil {
			c.problem(c.doc.file, secretItem(at, ref), "", "%v", err)
		}
	}
}
