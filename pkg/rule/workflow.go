package rule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
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
	depth   int
}

// Input is what a workflow is given.
type Input struct {
	Type        string
	Description string
	Required    bool
	Default     any
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

	w := &Workflow{Name: name, File: d.file, Line: d.item.Line, Inputs: map[string]Input{}, steps: map[stepKey]*step{}, outputs: map[string]output{}, depth: 1}
	l.set.Workflows[name] = w
	var spec workflowSpec
	if l.decode(d.file, d.Spec, &spec); d.Spec.Kind != document.Map {
		return w
	}
	w.timeout = spec.Timeout
	l.inputs(d, w, &spec)
	c := &stepCompiler{loader: l, doc: d, into: w.steps, outputs: map[string]*expression.Schema{}, roots: map[string]*expression.Schema{
		"inputs": closed(slices.Sorted(maps.Keys(w.Inputs))),
	}}
	steps := d.Spec.Get("steps")
	if steps != nil && steps.Kind == document.List && len(steps.Elements) == 0 {
		l.problem(d.file, steps, "", "steps is empty: a workflow does something")
	}
	w.plans = c.steps(run.Main, spec.Steps, steps)
	for _, s := range w.steps {
		if s.workflow != nil {
			w.depth = max(w.depth, s.workflow.depth+1)
		}
	}
	if w.depth > maxDepth {
		l.problem(d.file, steps, "", "workflows stand %d deep in one another, and at most %d may", w.depth, maxDepth)
	}
	c.outputsOf(w, &spec)
	return w
}

func (l *loader) inputs(d doc, w *Workflow, spec *workflowSpec) {
	for name, in := range spec.Inputs {
		item := d.Spec.Get("inputs").Get(name)
		if !isStepID(name) {
			l.problem(d.file, keyOf(d.Spec.Get("inputs"), name), "", "input %q is not letters, digits and _", name)
		}
		out := Input{Type: in.Type, Description: in.Description, Required: in.Default == nil}
		if in.Default != nil {
			var err error
			if out.Default, err = typed(in.Type, in.Default.Any()); err != nil && in.Type != "" {
				l.problem(d.file, item.Get("default"), "", "default of input %s: %v", name, err)
			}
		}
		w.Inputs[name] = out
	}
}

func (c *stepCompiler) outputsOf(w *Workflow, spec *workflowSpec) {
	for name, out := range spec.Outputs {
		item := c.doc.Spec.Get("outputs").Get(name)
		if !isStepID(name) {
			c.problem(c.doc.file, keyOf(c.doc.Spec.Get("outputs"), name), "", "output %q is not letters, digits and _", name)
		}
		if out.Value == nil {
			continue
		}
		t, known := c.value(&step{}, out.Value, "outputs."+name, c.schema())
		if _, unknown := known.Value.(document.Unknown); !unknown && t.text == nil && t.members == nil && t.list == nil {
			if _, err := typed(out.Type, t.literal); err != nil {
				c.problem(c.doc.file, item.Get("value"), "", "output %s: %v", name, err)
			}
		}
		w.outputs[name] = output{out.Type, t}
	}
}

// useWorkflow compiles a step that uses a workflow.
func (c *stepCompiler) useWorkflow(s *step, name string, spec stepSpec, item, with *document.Item, schema *expression.Schema, plan *run.StepPlan) bool {
	if i := slices.Index(c.compiling, name); i >= 0 {
		chain := append(slices.Clone(c.compiling[i:]), name)
		c.problem(c.doc.file, item.Get("uses"), "", "workflow %s uses itself: %s", name, strings.Join(chain, " → "))
		return false
	}
	w := c.workflow(name)
	if w == nil {
		var known []string
		for _, d := range c.docs {
			if d.Kind == "Workflow" {
				known = append(known, d.Metadata.Name)
			}
		}
		c.problem(c.doc.file, item.Get("uses"), didYouMean(name, known), "there is no Workflow %q", name)
		return false
	}
	s.workflow = w
	plan.Workflow, plan.Steps = true, w.plans
	if plan.Timeout == 0 {
		plan.Timeout = w.timeout
	}
	if spec.OnInterrupt != "" {
		c.problem(c.doc.file, item.Get("onInterrupt"), "write it at the steps of the workflow", "onInterrupt says nothing of a workflow, whose steps are cut off one by one")
	}
	known := c.with(s, with, schema, nil)
	for _, m := range with.Members {
		in, ok := w.Inputs[m.Name]
		if !ok {
			c.problem(c.doc.file, &document.Item{Line: m.Line, Column: m.Column}, didYouMean(m.Name, slices.Sorted(maps.Keys(w.Inputs))), "workflow %s has no input %q", name, m.Name)
			continue
		}
		literal := known.Get(m.Name)
		if t := s.with.members[m.Name]; t.text != nil || !t.constant() {
			continue
		}
		if _, err := typed(in.Type, literal.Any()); err != nil {
			c.problem(c.doc.file, m.Item, "", "input %s of workflow %s: %v", m.Name, name, err)
		}
	}
	for _, in := range slices.Sorted(maps.Keys(w.Inputs)) {
		if w.Inputs[in].Required && with.Get(in) == nil {
			c.problem(c.doc.file, orItem(item.Get("with"), item), "", "input %s of workflow %s is missing", in, name)
		}
	}
	return true
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

// typed checks that a value is of a type that inputs and outputs have.
func typed(kind string, v any) (any, error) {
	ok := false
	switch v := v.(type) {
	case string:
		ok = kind == "string"
	case bool:
		ok = kind == "bool"
	case int64:
		if kind == "float" {
			return float64(v), nil
		}
		ok = kind == "int"
	case event.Integer:
		ok = kind == "int"
	case float64:
		if ok = kind == "float"; !ok && kind == "int" && v == float64(int64(v)) {
			return int64(v), nil
		}
	case []any:
		ok = kind == "list"
	case map[string]any:
		ok = kind == "map"
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

// schema says what can be read of a step.
func (s *step) schema() *expression.Schema {
	out := outputSchema(s.def())
	if s.workflow != nil {
		out.Fields["outputs"] = closed(slices.Sorted(maps.Keys(s.workflow.outputs)))
	}
	if s.forEach() {
		out.Fields["outputs"] = closed([]string{"items"})
	}
	return out
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
	bare, is := strings.CutPrefix(name, "workflow/")
	w := s.Workflows[bare]
	if !is || w == nil {
		return nil, false
	}
	return w.alone(s.Targets), true
}

// alone is a rule whose one step is the workflow.
func (w *Workflow) alone(targets map[string]action.Target) *Rule {
	const id = "workflow"
	used := &step{workflow: w, with: &template{members: map[string]*template{}}}
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
		Name: "workflow/" + w.Name, File: w.File, Line: w.Line, Mode: "auto", steps: map[stepKey]*step{{run.Main, id}: used}, targets: targets,
		Plan: run.Plan{Steps: []run.StepPlan{{ID: id, Uses: "workflow/" + w.Name, Workflow: true, Steps: w.plans, Timeout: w.timeout}}},
	}
	r.heals = changing(w.plans)
	return r
}
