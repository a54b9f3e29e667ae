package rule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// maxDepth is how many workflows may stand in one another.
const maxDepth = 5

// Workflow is a compiled Workflow document: steps that rules and other workflows use as one. It knows its inputs, its
// steps and the run, and never the event.
type Workflow struct {
	Name   string
	File   string
	Line   int
	Inputs map[string]Input

	plans   []run.StepPlan
	steps   map[stepKey]*step
	outputs map[string]output
	timeout time.Duration
	grant   grant.Grant // of the file that it is written in
	depth   int
	denied  map[string]error // of targets that may not be
	size    int              // its steps, with those of the workflows that it uses
	broken  bool             // what is wrong with it is told, so that nothing of it can be used
}

// Input is what a workflow is given.
type Input struct {
	Type        string // string, int, float, bool, list or map
	Description string
	Required    bool
	Default     any // where it is not required
}

type output struct {
	kind  string
	value *template
}

type workflowSpec struct {
	Inputs  map[string]inputSpec  `yaml:"inputs,omitempty" doc:"what the workflow is given, by name"`
	Timeout time.Duration         `yaml:"timeout,omitempty" doc:"of the whole workflow, where the step that uses it has none"`
	Steps   []stepSpec            `yaml:"steps" required:"true" doc:"what to do, in order; expressions read inputs, steps and run, and no event"`
	Outputs map[string]outputSpec `yaml:"outputs,omitempty" doc:"what steps.ID.outputs of the step that uses it are, by name"`
}

type inputSpec struct {
	Type        string         `yaml:"type" required:"true" enum:"string,int,float,bool,list,map" doc:"what values fit"`
	Description string         `yaml:"description,omitempty" doc:"for people"`
	Default     *document.Item `yaml:"default,omitempty" doc:"without one, the input must be given"`
}

type outputSpec struct {
	Type  string         `yaml:"type" required:"true" enum:"string,int,float,bool,list,map" doc:"what the value must be"`
	Value *document.Item `yaml:"value" required:"true" doc:"the value, with expressions"`
}

// workflow compiles a workflow once, and those that it uses before it.
func (l *loader) workflow(name string) *Workflow {
	if w := l.set.Workflows[name]; w != nil || l.places["Workflow "+name] == "" {
		return w
	}
	at := slices.IndexFunc(l.docs, func(d doc) bool { return d.Kind == "Workflow" && d.Metadata.Name == name })
	if at < 0 || slices.Contains(l.compiling, name) {
		return nil
	}
	d := l.docs[at]
	l.compiling = append(l.compiling, name)
	defer func() { l.compiling = l.compiling[:len(l.compiling)-1] }()

	w := &Workflow{
		Name: name, File: d.file, Line: d.item.Line, Inputs: map[string]Input{}, steps: map[stepKey]*step{}, outputs: map[string]output{},
		grant: l.grants[d.file], denied: l.denied, depth: 1,
	}
	l.set.Workflows[name] = w
	var spec workflowSpec
	told := len(l.problems)
	defer func() { w.broken = w.broken || len(l.problems) > told }()
	if l.decode(d.file, d.Spec, &spec); d.Spec.Kind != document.Map {
		return w
	}
	w.timeout = spec.Timeout
	l.longer(d.file, d.Spec, "timeout")
	c := &stepCompiler{loader: l, doc: d, into: w.steps, inputs: w.Inputs, readable: map[string]readable{}}
	c.inputsOf(w, &spec)
	c.roots = map[string]*expression.Schema{"inputs": closed(slices.Sorted(maps.Keys(w.Inputs)))}
	steps := d.Spec.Get("steps")
	if steps != nil && steps.Kind == document.List && len(steps.Elements) == 0 {
		l.problem(d.file, steps, "", "steps is empty: a workflow does something")
	}
	w.plans = c.steps(run.Main, spec.Steps, steps)
	w.size, w.broken = c.total, c.broken
	for _, s := range w.steps {
		if s.workflow != nil {
			w.depth = max(w.depth, s.workflow.depth+1)
		}
	}
	c.outputsOf(w, &spec)
	return w
}

func (c *stepCompiler) inputsOf(w *Workflow, spec *workflowSpec) {
	all := c.doc.Spec.Get("inputs")
	for name, in := range spec.Inputs {
		if !isStepID(name) {
			c.problem(c.doc.file, keyOf(all, name), "", "input %q is not letters, digits and _", name)
		}
		out := Input{Type: in.Type, Description: in.Description, Required: in.Default == nil}
		if in.Default != nil {
			out.Default = c.defaultOf(name, &in)
		}
		w.Inputs[name] = out
	}
}

// defaultOf is the value of an input that is not given: written out, since nothing is known that it could be made of.
func (c *stepCompiler) defaultOf(name string, in *inputSpec) any {
	if holdsExpression(in.Default) {
		c.problem(c.doc.file, in.Default, "hand it over in with, or write the expression into the step", "default of input %s must not hold ${{ }}", name)
		return nil
	}
	v, err := typed(in.Type, in.Default.Any())
	if err != nil {
		c.problem(c.doc.file, in.Default, "", "default of input %s: %v", name, err)
	}
	c.checkSecrets(secretsIn(v), in.Default)
	return v
}

func holdsExpression(i *document.Item) bool {
	if text, ok := i.Value.(string); ok {
		return expression.HasExpression(text)
	}
	return slices.ContainsFunc(i.Elements, holdsExpression) ||
		slices.ContainsFunc(i.Members, func(m document.Member) bool { return holdsExpression(m.Item) })
}

func (c *stepCompiler) outputsOf(w *Workflow, spec *workflowSpec) {
	for name, out := range spec.Outputs {
		item := c.doc.Spec.Get("outputs").Get(name)
		if !isStepID(name) {
			c.problem(c.doc.file, keyOf(c.doc.Spec.Get("outputs"), name), "", "output %q is not letters, digits and _", name)
		}
		if out.Value == nil {
			continue // which is told
		}
		t, known := c.value(&step{}, out.Value, "outputs."+name, c.schema())
		if err := c.fits(out.Type, t, known); err != nil {
			c.problem(c.doc.file, item.Get("value"), "", "output %s: %v", name, err)
		}
		w.outputs[name] = output{out.Type, t}
	}
}

// fits says why a value can't be of a type, as far as that is known before any event.
func (c *stepCompiler) fits(typ string, t *template, known *document.Item) error {
	if kind := c.kindOf(t); !mayBe(kind, typ) {
		return fmt.Errorf("it must be of type %s, and is of type %s", typ, kind)
	}
	if _, unknown := known.Value.(document.Unknown); unknown || !t.constant() {
		return nil
	}
	_, err := typed(typ, known.Any())
	return err
}

// useWorkflow compiles a step that uses a workflow.
func (c *stepCompiler) useWorkflow(s *step, name string, spec stepSpec, item, with *document.Item, schema *expression.Schema, plan *run.StepPlan) bool {
	known := c.with(s, with, schema, nil)
	if spec.OnInterrupt != "" {
		c.problem(c.doc.file, item.Get("onInterrupt"), "write it at the steps of the workflow", "onInterrupt says nothing of a workflow, whose steps are cut off one by one")
	}
	w := c.workflowAt(name, item.Get("uses"))
	if w == nil || w.broken {
		c.broken = true
		return false
	}
	if !c.count(item, w.size) {
		return false
	}
	s.workflow = w
	plan.Workflow, plan.Steps = true, w.plans
	if plan.Timeout == 0 {
		plan.Timeout = w.timeout
	}
	for _, m := range with.Members {
		in, ok := w.Inputs[m.Name]
		if !ok {
			c.problem(c.doc.file, &document.Item{Line: m.Line, Column: m.Column}, didYouMean(m.Name, slices.Sorted(maps.Keys(w.Inputs))), "workflow %s has no input %q", name, m.Name)
			continue
		}
		if err := c.fits(in.Type, s.with.members[m.Name], known.Get(m.Name)); err != nil {
			c.problem(c.doc.file, m.Item, "", "input %s of workflow %s: %v", m.Name, name, err)
		}
	}
	for _, in := range slices.Sorted(maps.Keys(w.Inputs)) {
		if w.Inputs[in].Required && with.Get(in) == nil {
			c.problem(c.doc.file, orItem(item.Get("with"), item), "", "input %s of workflow %s is missing", in, name)
		}
	}
	c.lentSecrets(s, known)
	return true
}

// workflowAt returns the workflow that a step names, or nil where it can't be used there.
func (c *stepCompiler) workflowAt(name string, at *document.Item) *Workflow {
	if i := slices.Index(c.compiling, name); i >= 0 {
		chain := append(slices.Clone(c.compiling[i:]), name)
		c.problem(c.doc.file, at, "", "workflow %s uses itself: %s", name, strings.Join(chain, " → "))
		return nil
	}
	var w *Workflow
	if there := c.places["Workflow "+name] != ""; there && len(c.compiling) < maxDepth {
		w = c.workflow(name)
	} else if !there {
		c.problem(c.doc.file, at, didYouMean(name, c.workflowNames()), "there is no Workflow %q", name)
		return nil
	}
	if w == nil || c.noted == nil && w.depth >= maxDepth {
		c.problem(c.doc.file, at, "", "workflows stand more than %d deep in one another", maxDepth)
		return nil
	}
	return w
}

func (l *loader) workflowNames() []string {
	var out []string
	for _, d := range l.docs {
		if d.Kind == "Workflow" {
			out = append(out, d.Metadata.Name)
		}
	}
	return out
}

// lentSecrets checks the secrets that a step hands over to a workflow, which may have secrets of its own: by a name, a rule
// must not come by one that it may not have itself.
func (c *stepCompiler) lentSecrets(s *step, known *document.Item) {
	refs := secretsIn(known.Any())
	c.checkSecrets(refs, known)
	for _, ref := range refs {
		c.forbid(c.doc.file, secretItem(known, ref), maySecret(s.grant, ref))
	}
}

// secretsIn lists the secrets that a value names, as {secret: NAME} somewhere in it.
func secretsIn(v any) []source.SecretRef {
	var out []source.SecretRef
	switch v := v.(type) {
	case map[string]any:
		if name, ok := v["secret"].(string); ok && len(v) == 1 {
			return []source.SecretRef{{Secret: name}}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = append(out, secretsIn(v[name])...)
		}
	case []any:
		for _, e := range v {
			out = append(out, secretsIn(e)...)
		}
	}
	return out
}

// constant reports whether a value holds no expression.
func (t *template) constant() bool {
	if t.text != nil {
		return false
	}
	for _, m := range t.members {
		if !m.constant() {
			return false
		}
	}
	for _, m := range t.list {
		if !m.constant() {
			return false
		}
	}
	return true
}

// typed checks that a value is of a type that inputs and outputs have. A whole number is a float, and a float that is whole
// an int. Anything is of a type that there is not, which is told where it is written.
func typed(kind string, v any) (any, error) {
	ok := !slices.Contains(valueTypes(), kind)
	switch v := v.(type) {
	case string:
		ok = ok || kind == "string"
	case bool:
		ok = ok || kind == "bool"
	case int64:
		if kind == "float" {
			return float64(v), nil
		}
		ok = ok || kind == "int"
	case event.Integer:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil && kind == "float" {
			return f, nil
		}
		ok = ok || kind == "int"
	case float64:
		if kind == "int" && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil
		}
		ok = ok || kind == "float"
	case []any:
		ok = ok || kind == "list"
	case map[string]any:
		ok = ok || kind == "map"
	}
	if !ok {
		return v, fmt.Errorf("it must be of type %s, and is %s", kind, describe(v))
	}
	return v, nil
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	case string:
		return fmt.Sprintf("the text %.40q", v)
	}
	return fmt.Sprint(v)
}

// maxItems bounds what a forEach goes over.
const maxItems = 500

// Items evaluates what a forEach goes over. Its errors are those of the step: refused where a field is absent, and
// permanent otherwise.
func (r *Rule) Items(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) ([]any, error) {
	s := r.lookup(phase, path)
	if s == nil || !s.forEach() {
		return nil, action.Permanent(fmt.Errorf("rule %s has no forEach %s", r.Name, path))
	}
	var v any
	var err error
	if s.list != nil {
		v, err = s.list.eval(ctx, scope, false)
	} else {
		v, err = s.each.Eval(ctx, scope)
	}
	if err != nil {
		return nil, outcome(fmt.Errorf("forEach: %w", err))
	}
	items, ok := plain(v).([]any)
	switch {
	case !ok:
		return nil, action.Permanent(fmt.Errorf("forEach needs a list, and it is %s", describe(plain(v))))
	case len(items) > maxItems:
		return nil, action.Permanent(fmt.Errorf("forEach has %d items, and at most %d are possible", len(items), maxItems))
	}
	return items, nil
}

// outcome is what an evaluation's error means for its step.
func outcome(err error) error {
	var absent *expression.AbsentError
	if errors.As(err, &absent) {
		return action.Refused(run.ReasonAbsentField, err)
	}
	return action.Permanent(err)
}

// Inputs evaluates what a step gives to its workflow, and fills in the defaults. Its errors are those of the step.
func (r *Rule) Inputs(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) (run.Values, error) {
	s := r.lookup(phase, path)
	if s == nil || s.workflow == nil {
		return nil, action.Permanent(fmt.Errorf("rule %s has no workflow %s", r.Name, path))
	}
	value, err := s.with.eval(ctx, scope, false)
	if err != nil {
		return nil, outcome(fmt.Errorf("with: %w", err))
	}
	given, _ := plain(value).(map[string]any)
	for _, ref := range secretsIn(given) { // what an expression named, and what is not granted any more
		if err := maySecret(s.grant, ref); err != nil {
			return nil, action.Refused(run.ReasonNotGranted, err)
		}
	}
	return s.workflow.fill(given)
}

func (w *Workflow) fill(given map[string]any) (run.Values, error) {
	out := run.Values{}
	for name, in := range w.Inputs {
		v, there := given[name]
		switch {
		case !there && in.Required:
			return nil, action.Permanent(fmt.Errorf("input %s of workflow %s is missing", name, w.Name))
		case !there:
			v = in.Default
		}
		v, err := typed(in.Type, v)
		if err != nil {
			return nil, action.Permanent(fmt.Errorf("input %s of workflow %s: %w", name, w.Name, err))
		}
		out[name] = v
	}
	for name := range given {
		if _, known := w.Inputs[name]; !known {
			return nil, action.Permanent(fmt.Errorf("workflow %s has no input %q", w.Name, name))
		}
	}
	return out, nil
}

// Outputs evaluates what a workflow yields; scope is that of a step in it.
func (r *Rule) Outputs(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) (run.Values, error) {
	s := r.lookup(phase, path)
	if s == nil || s.workflow == nil {
		return nil, action.Permanent(fmt.Errorf("rule %s has no workflow %s", r.Name, path))
	}
	out := run.Values{}
	for name, o := range s.workflow.outputs {
		v, err := o.value.eval(ctx, scope, false)
		if err == nil {
			v, err = typed(o.kind, plain(v))
		}
		if err != nil {
			return nil, outcome(fmt.Errorf("output %s of workflow %s: %w", name, s.workflow.Name, err))
		}
		out[name] = v
	}
	return out, nil
}

// ByHand returns a rule, or, for workflow/NAME, what runs that workflow alone with the inputs in event.data.inputs.
func (s *Set) ByHand(name string) (*Rule, bool) {
	if r := s.byName[name]; r != nil {
		return r, true
	}
	bare, is := strings.CutPrefix(name, workflowPrefix)
	w := s.Workflows[bare]
	if !is || w == nil {
		return nil, false
	}
	return w.alone(s.Targets), true
}

// alone is a rule whose one step is the workflow.
func (w *Workflow) alone(targets map[string]action.Target) *Rule {
	const id = "workflow"
	used := &step{workflow: w, grant: w.grant, with: &template{members: map[string]*template{}}}
	for name, in := range w.Inputs {
		text := "event.data.inputs." + name
		if !in.Required {
			text = "event.data.inputs?." + name
		}
		if compiled, err := expression.CompileText("${{ "+text+" }}", nil); err == nil { // names of inputs are identifiers
			used.with.members[name] = &template{text: compiled, optional: !in.Required}
		}
	}
	r := &Rule{
		Name: workflowPrefix + w.Name, File: w.File, Line: w.Line, Mode: w.grant.MaxMode(), grant: w.grant, denied: w.denied, steps: map[stepKey]*step{{run.Main, id}: used}, targets: targets,
		Plan: run.Plan{Steps: []run.StepPlan{{ID: id, Uses: "workflow/" + w.Name, Workflow: true, Steps: w.plans, Timeout: w.timeout}}},
	}
	r.Plan.Approve = r.Mode == "approve"
	r.heals = changing(w.plans)
	return r
}

// workflowPrefix stands before the name of a workflow where a rule's could stand.
const workflowPrefix = "workflow/"

// CheckInputs reports what is wrong with what a person gives to a rule or, as workflow/NAME, to a workflow, which says what
// its inputs are; those of a rule may be anything. An error tells people what there is.
func (s *Set) CheckInputs(name string, inputs map[string]any) error {
	bare, is := strings.CutPrefix(name, workflowPrefix)
	w := s.Workflows[bare]
	switch {
	case is && w != nil:
		_, err := w.fill(inputs)
		return err
	case is:
		return &UnknownError{Name: name, Kind: "workflow", Hint: didYouMean(bare, slices.Sorted(maps.Keys(s.Workflows)))}
	case s.byName[name] == nil:
		hint := didYouMean(name, slices.Sorted(maps.Keys(s.byName)))
		if s.Workflows[name] != nil {
			hint = "there is a workflow of this name: " + workflowPrefix + name
		}
		return &UnknownError{Name: name, Kind: "rule", Hint: hint}
	}
	return nil
}

// UnknownError says that a set has no rule or workflow of a name.
type UnknownError struct {
	Name, Kind string
	Hint       string // what may be meant; may be empty
}

func (e *UnknownError) Error() string { return fmt.Sprintf("there is no %s %q", e.Kind, e.Name) }
