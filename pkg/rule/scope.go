package rule

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// What an expression can read depends on where it stands. This file says so, and why a name that exists is not known there.

// eventSchema is what is known before the first step: the event, and more roots that are known there.
func (l *loader) eventSchema(more map[string]*expression.Schema) *expression.Schema {
	s := &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{"event": l.event}, Unknown: unknownRoot}
	maps.Copy(s.Fields, more)
	return s
}

// unknownRoot says why a name that expressions know elsewhere is not known where it stands.
func unknownRoot(name string) (msg, hint string) {
	switch name {
	case "event":
		return "a workflow does not know the event", "declare an input, and hand the value over in with"
	case "correlated":
		return "correlated can't be read here", "the steps, limits and concurrency of a rule with correlate know it"
	case "steps", "run":
		return name + " can't be read here: no step has begun yet", ""
	case "inputs":
		return "inputs can't be read here", "the steps of a workflow know them"
	case "probe":
		return "probe can't be read here", "verify.expect knows it"
	}
	return "", ""
}

// readable is a step that others can read; step is nil where it is wrong.
type readable struct {
	schema *expression.Schema
	step   *step
}

// schema says what the expressions of a step can read; more are further names below run.
func (c *stepCompiler) schema(more ...string) *expression.Schema {
	root := &expression.Schema{Closed: true, Fields: maps.Clone(c.roots), Unknown: unknownRoot}
	steps := &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{}, Unknown: c.unknownStep}
	for id, r := range c.readable {
		steps.Fields[id] = r.schema
	}
	root.Fields["steps"] = steps
	fields := closed(append([]string{"id", "rule", "attempt", "state", "reason", "message", "url", "approveURLs"}, more...))
	fields.Unknown = unknownOfRun
	root.Fields["run"] = fields
	return root
}

func unknownOfRun(name string) (msg, hint string) {
	if name == "item" || name == "index" {
		return "run." + name + " is known only in a step with forEach, beside forEach itself", ""
	}
	return "", ""
}

// unknownStep says why a step can't be read by the one that is being compiled.
func (c *stepCompiler) unknownStep(name string) (msg, hint string) {
	switch {
	case name == c.current:
		return "step " + name + " can't read what it has not come to yet", ""
	case c.below[name]:
		return "step " + name + " stands below, and has not ended yet", "write it above"
	case c.elsewhere[name]:
		return "step " + name + " is one of onFailure, which is not known here", "after a failure, run.reason and run.message say what happened"
	}
	return "there is no step " + name, didYouMean(name, slices.Sorted(maps.Keys(c.readable)))
}

// ids are the names of the steps of a list, also of those that have none written.
func ids(specs []stepSpec) map[string]bool {
	out := map[string]bool{}
	for n := range specs {
		out[specs[n].id(n)] = true
	}
	return out
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

// outputSchema says what can be read of a step with the action.
func outputSchema(def action.Definition) *expression.Schema {
	s := &expression.Schema{Closed: true, Fields: map[string]*expression.Schema{"state": nil, "error": nil, "outputs": nil}}
	if t := outputsOf(def); t != nil {
		s.Fields["outputs"] = closed(document.Names(reflect.New(t).Interface()))
	}
	return s
}

// outputsOf returns the struct that describes an action's outputs, or nil.
func outputsOf(def action.Definition) reflect.Type {
	if def.Outputs == nil {
		return nil
	}
	t := reflect.TypeOf(def.Outputs)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

// kindOf says what a value will be, as far as it is known before any event: a kind of inputs and outputs, number, nil, time
// or duration; "" where it is not known.
func (c *stepCompiler) kindOf(t *template) string {
	switch {
	case t.members != nil:
		return "map"
	case t.list != nil:
		return "list"
	case t.text == nil:
		return ""
	}
	p := t.text.Whole()
	if p == nil {
		return "string"
	}
	if refs := p.Refs(); len(refs) == 1 && strings.Join(refs[0], ".") == p.Source() {
		return c.kindAt(refs[0])
	}
	return p.Kind()
}

// kindAt is the kind of what a path reads.
func (c *stepCompiler) kindAt(path []string) string {
	if len(path) == 2 && path[0] == "inputs" {
		return c.inputs[path[1]].Type
	}
	if len(path) != 4 || path[0] != "steps" || path[2] != "outputs" {
		return ""
	}
	switch s := c.readable[path[1]].step; {
	case s == nil:
	case s.forEach():
		return "list"
	case s.workflow != nil:
		return s.workflow.outputs[path[3]].kind
	default:
		return outputKind(s.def(), path[3])
	}
	return ""
}

// outputKind is the kind of an action's output.
func outputKind(def action.Definition, name string) string {
	t := outputsOf(def)
	if t == nil {
		return ""
	}
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); tag == name {
			return kindOfType(f.Type)
		}
	}
	return ""
}

func kindOfType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Float64:
		return "float"
	case reflect.Slice:
		return "list"
	case reflect.Map, reflect.Struct:
		return "map"
	}
	return ""
}

// mayBe reports whether a value of a kind that kindOf says can be one of a type of inputs and outputs.
func mayBe(kind, typ string) bool {
	number := func(s string) bool { return s == "int" || s == "float" || s == "number" }
	return kind == "" || kind == typ || number(kind) && number(typ) || !slices.Contains(valueTypes(), typ)
}

// valueTypes are the types that inputs and outputs of workflows have.
func valueTypes() []string { return []string{"string", "int", "float", "bool", "list", "map"} }
