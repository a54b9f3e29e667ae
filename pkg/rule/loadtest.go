package rule

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/run"
)

// testCompiler checks one RuleTest against the rest of the set.
type testCompiler struct {
	*loader
	doc  doc
	test *Test
}

func (l *loader) test(d doc) {
	var spec testSpec
	if !l.decode(d.file, d.Spec, &spec) {
		return
	}
	c := &testCompiler{loader: l, doc: d, test: &Test{Name: d.Metadata.Name, File: d.file, Line: d.item.Line, Start: spec.Start, Cases: spec.Cases}}
	if c.test.Start.IsZero() {
		c.test.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	shared := c.outcomes(d.Spec.Get("actions"))
	cases := d.Spec.Get("cases")
	if len(spec.Cases) == 0 {
		c.problem(d.file, cases, "", "cases is empty: a test does something")
	}
	names := map[string]bool{}
	for i := range c.test.Cases {
		tc, item := &c.test.Cases[i], cases.Elements[i]
		if strings.TrimSpace(tc.Name) == "" || names[tc.Name] {
			c.problem(d.file, item.Get("name"), "", "name %q is empty, or another case has it", tc.Name)
		}
		names[tc.Name] = true
		tc.Line, tc.Outcomes = item.Line, maps.Clone(shared)
		maps.Copy(tc.Outcomes, c.outcomes(item.Get("actions")))
		c.timeline(tc, item.Get("timeline"))
		c.expected(tc, item.Get("expect"))
		c.verdicts(tc, item.Get("explain"))
	}
	l.set.Tests = append(l.set.Tests, c.test)
}

func (c *testCompiler) wrong(i *document.Item, format string, args ...any) {
	c.problem(c.doc.file, i, "", format, args...)
}

// outcomes reads a map of actions to an outcome or a list of them.
func (c *testCompiler) outcomes(item *document.Item) map[string][]Outcome {
	out := map[string][]Outcome{}
	if item == nil {
		return out
	}
	for _, m := range item.Members {
		def, ok := c.opts.Actions[m.Name]
		if !ok {
			c.problem(c.doc.file, &document.Item{Line: m.Line, Column: m.Column}, didYouMean(m.Name, slices.Sorted(maps.Keys(c.opts.Actions))), "there is no action %q", m.Name)
			continue
		}
		list := []*document.Item{m.Item}
		if m.Item.Kind == document.List {
			list = m.Item.Elements
		}
		if len(list) == 0 {
			c.wrong(m.Item, "the list of outcomes is empty")
		}
		for _, i := range list {
			out[m.Name] = append(out[m.Name], c.outcome(def, i))
		}
		if all := out[m.Name]; len(all) > 0 && all[len(all)-1].Wait > 0 {
			c.problem(c.doc.file, list[len(list)-1], "write a list, with what it comes to at last: [{wait: 10m}, {}]", "wait is the last outcome, and the last repeats: the step would wait for ever")
		}
	}
	return out
}

func (c *testCompiler) outcome(def action.Definition, i *document.Item) Outcome {
	var o Outcome
	if i.Kind == document.Scalar && i.Value == nil || !c.decode(c.doc.file, i, &o) {
		return o // an empty one succeeds
	}
	kinds := 0
	for _, is := range []bool{o.Permanent, o.Refused != "", o.Superseded, o.Outputs != nil, o.Wait != 0} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds > 1, o.Error != "" && (o.Outputs != nil || o.Wait != 0):
		c.wrong(i, "an outcome has outputs, or an error, or one of permanent, refused, superseded and wait: not several")
	case o.Wait < 0:
		c.wrong(i.Get("wait"), "wait must be longer than nothing")
	case o.Permanent && o.Error == "":
		c.wrong(i, "permanent says of an error that no retry can cure it: write error too")
	case o.Refused != "" && !isReason(o.Refused):
		c.wrong(i.Get("refused"), "refused is %q, and must be a reason in one CamelCase word", o.Refused)
	}
	c.outputs(def, i.Get("outputs"))
	return o
}

func isReason(s string) bool { return regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`).MatchString(s) }

// outputs refuses what the action never returns: a test that passes with it would prove nothing.
func (c *testCompiler) outputs(def action.Definition, i *document.Item) {
	if i == nil || def.Outputs == nil {
		return
	}
	t := reflect.TypeOf(def.Outputs)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for _, p := range document.Decode(c.doc.file, i, reflect.New(t).Interface()) {
		p.Msg = "outputs of " + def.Name + ": " + p.Msg
		c.problems = append(c.problems, p)
	}
}

func (c *testCompiler) timeline(tc *TestCase, item *document.Item) {
	if len(tc.Timeline) == 0 {
		c.wrong(item, "timeline is empty: something happens, or time passes")
	}
	var last time.Duration
	for i := range tc.Timeline {
		entry, at := &tc.Timeline[i], item.Elements[i]
		entry.Line = at.Line
		if entry.At < last {
			c.wrong(at.Get("at"), "at is before the entry above it")
		}
		last = max(last, entry.At)
		if entry.Event != nil {
			c.event(entry.Event, at.Get("event"))
		}
		c.consents(entry, at)
	}
}

// consents checks what people say at a point of the timeline.
func (c *testCompiler) consents(entry *TestEntry, item *document.Item) {
	kinds := 0
	for _, there := range []bool{entry.Event != nil, entry.Approve != nil, entry.Reject != nil} {
		if there {
			kinds++
		}
	}
	if kinds > 1 {
		c.problem(c.doc.file, item, "write one entry for each, at the same time", "the entry has more than one of event, approve and reject")
	}
	for name, said := range map[string]*TestConsent{"approve": entry.Approve, "reject": entry.Reject} {
		if said == nil {
			continue
		}
		if r := c.ruleOf(said.Rule, item.Get(name)); r != nil && !r.Plan.Approve {
			c.problem(c.doc.file, item.Get(name).Get("rule"), "mode: approve has runs wait for a person", "rule %s waits for nobody's consent: its mode is %s", r.Name, r.Mode)
		}
	}
}

func (c *testCompiler) event(e *TestEvent, item *document.Item) {
	if e.File != "" || e.Example != "" {
		c.delivered(e, item)
	} else if e.Type == "" {
		c.wrong(item, "the event has no type, and no file or example that says it")
	}
	if e.Source == "" && e.Example != "" {
		e.Source = c.onlySource(e.Example, item)
	}
	known := slices.Sorted(maps.Keys(c.set.Sources))
	switch {
	case e.Source == "" && e.Example == "":
		c.wrong(item, "source is missing")
	case e.Source != "" && c.places["Source "+e.Source] == "":
		c.problem(c.doc.file, item.Get("source"), didYouMean(e.Source, known), "there is no Source %q", e.Source)
	}
	if e.Git != nil && e.Git.Paths != nil && item.Get("git").Get("pathsComplete") == nil {
		e.Git.PathsComplete = true
	}
}

// delivered checks an event that is read as its sender sends it.
func (c *testCompiler) delivered(e *TestEvent, item *document.Item) {
	if e.File != "" && e.Example != "" {
		c.wrong(item, "the event has a file and an example")
	}
	if path.IsAbs(e.File) || strings.Contains(e.File, `\`) {
		c.wrong(item.Get("file"), "file %q must be a path from this document, with slashes", e.File)
	}
	for _, name := range []string{"type", "git", "alert", "pullRequest", "subject"} {
		if i := item.Get(name); i != nil {
			c.problem(c.doc.file, i, "change headers, or members of data", "%s is what the Source reads of the file or example", name)
		}
	}
	if e.Example == "" {
		return
	}
	typ, name, _ := strings.Cut(e.Example, "/")
	preset := c.opts.Sources[typ]
	var names []string
	if preset.Examples != nil {
		for _, ex := range preset.Examples() {
			names = append(names, typ+"/"+ex.Name)
		}
	}
	if slices.Contains(names, typ+"/"+name) {
		if s := c.set.Sources[e.Source]; s != nil && s.Type.Name != typ {
			c.wrong(item.Get("example"), "the example is one of type %s, and Source %s is of type %s", typ, e.Source, s.Type.Name)
		}
		return
	}
	hint := "type " + typ + " has none"
	if len(names) > 0 {
		hint = "there are " + strings.Join(names, ", ")
	} else if preset.Name == "" {
		hint = "write TYPE/NAME, such as github/push"
	}
	c.problem(c.doc.file, item.Get("example"), hint, "there is no example %q", e.Example)
}

// onlySource finds the Source that an example without one is for.
func (c *testCompiler) onlySource(example string, item *document.Item) string {
	typ, _, _ := strings.Cut(example, "/")
	var found []string
	for _, d := range c.docs {
		if d.Kind == "Source" && d.Spec.Get("type") != nil && d.Spec.Get("type").Value == typ {
			found = append(found, d.Metadata.Name)
		}
	}
	switch len(found) {
	case 0:
		c.wrong(item, "there is no Source of type %s that could receive the example", typ)
		return ""
	case 1:
		return found[0]
	}
	c.wrong(item, "source is missing: %s are of type %s", strings.Join(found, ", "), typ)
	return ""
}

// ruleOf finds the rule that an expectation names; nil where there is none, or it has problems of its own.
func (c *testCompiler) ruleOf(name string, item *document.Item) *Rule {
	if c.places["Rule "+name] == "" {
		c.problem(c.doc.file, item.Get("rule"), didYouMean(name, slices.Sorted(maps.Keys(c.set.byName))), "there is no Rule %q", name)
	}
	return c.set.byName[name]
}

func (c *testCompiler) expected(tc *TestCase, item *document.Item) {
	for i := range tc.Expect {
		e, at := &tc.Expect[i], item.Elements[i]
		e.Line = at.Line
		if at.Get("count") == nil {
			e.Count = 1
		}
		if e.Count < 1 || e.Count > 10_000 {
			c.wrong(at.Get("count"), "count is %d, and must be 1 to 10000: leave the run out where there is none", e.Count)
		}
		if r := c.ruleOf(e.Rule, at); r != nil {
			c.expectedRun(r, e, at)
		}
	}
}

func (c *testCompiler) expectedRun(r *Rule, e *ExpectedRun, item *document.Item) {
	if e.Key != nil && r.correlation == nil {
		c.wrong(item.Get("key"), "key: rule %s does not correlate", r.Name)
	}
	for k := range e.Steps {
		s, at := &e.Steps[k], item.Get("steps").Elements[k]
		if s.ID == "" {
			c.wrong(at, "the step has no id")
			continue
		}
		c.expectedStep(r, run.Main, s, at)
	}
	for k := range e.OnFailure {
		c.expectedStep(r, run.OnFailure, &e.OnFailure[k], item.Get("onFailure").Elements[k])
	}
	for k := range e.Finally {
		c.expectedStep(r, run.Finally, &e.Finally[k], item.Get("finally").Elements[k])
	}
	if v := e.Verify; v != nil {
		at := item.Get("verify")
		switch {
		case r.Plan.Verify == nil:
			c.wrong(at, "verify: rule %s has no verify", r.Name)
		case r.Plan.Verify.Resolved:
			c.wrong(at, "verify: rule %s waits until its alert is resolved, and makes no looks", r.Name)
		default:
			c.params(r.Plan.Verify.Probe.Uses, v.With, at.Get("with"))
		}
	}
}

// expectedStep refuses names that no step has: such an expectation could never be met, or says nothing.
func (c *testCompiler) expectedStep(r *Rule, phase run.Phase, s *ExpectedStep, item *document.Item) {
	uses := s.Uses
	if s.ID != "" {
		sp, ok := r.stepAt(phase, s.ID)
		if !ok {
			c.problem(c.doc.file, item.Get("id"), didYouMean(s.ID, r.paths(phase)), "rule %s has no step %q", r.Name, s.ID)
			return
		}
		uses = sp.Uses
	}
	if uses == "" {
		return
	}
	if name, is := strings.CutPrefix(uses, "workflow/"); is {
		c.inputsOf(name, s, item)
		return
	}
	c.usesParams(uses, s, item)
}

// stepAt finds the plan of a step by its path. What stands in a forEach stands in one of its items, which has a number.
func (r *Rule) stepAt(phase run.Phase, id string) (run.StepPlan, bool) {
	for at := id; at != ""; {
		place := run.PlaceOf(at)
		sp, ok := r.Plan.Find(phase, run.Template(at))
		switch item := place.Each != "" && place.Item >= 0; {
		case !ok || item && sp.Parallel == 0, !item && strings.HasSuffix(at, "]"), !item && at != id && sp.Parallel > 0:
			return sp, false
		}
		at = place.Parent
	}
	return r.Plan.Find(phase, id)
}

// paths lists the paths of all steps of a phase, as those of first items.
func (r *Rule) paths(phase run.Phase) []string {
	var out []string
	var add func(prefix string, plans []run.StepPlan)
	add = func(prefix string, plans []run.StepPlan) {
		for i := range plans {
			path := prefix + plans[i].ID
			if out = append(out, path); plans[i].Parallel > 0 {
				path += "[0]"
				out = append(out, path)
			}
			add(path+"/", plans[i].Steps)
		}
	}
	add("", r.Plan.Of(phase))
	return out
}

// inputsOf checks the parameters of a step that uses a workflow.
func (c *testCompiler) inputsOf(name string, s *ExpectedStep, item *document.Item) {
	w := c.set.Workflows[name]
	if w == nil {
		c.wrong(item.Get("uses"), "there is no Workflow %q", name)
		return
	}
	c.knownParams("workflow "+name, slices.Sorted(maps.Keys(w.Inputs)), s.With, item.Get("with"))
}

func (c *testCompiler) usesParams(name string, s *ExpectedStep, item *document.Item) {
	if _, ok := c.opts.Actions[name]; !ok {
		if s.Uses != "" {
			c.problem(c.doc.file, item.Get("uses"), didYouMean(name, slices.Sorted(maps.Keys(c.opts.Actions))), "there is no action %q", name)
		}
		return
	}
	c.params(name, s.With, item.Get("with"))
}

// params refuses parameters that an action does not have.
func (c *testCompiler) params(name string, with map[string]any, item *document.Item) {
	if def, ok := c.opts.Actions[name]; ok {
		c.knownParams(name, document.Names(def.Params), with, item)
	}
}

func (c *testCompiler) knownParams(what string, known []string, with map[string]any, item *document.Item) {
	for param := range with {
		if !slices.Contains(known, param) {
			c.problem(c.doc.file, keyOf(item, param), didYouMean(param, known), "%s has no parameter %s", what, param)
		}
	}
}

func (c *testCompiler) verdicts(tc *TestCase, item *document.Item) {
	for i := range tc.Explain {
		v, at := &tc.Explain[i], item.Elements[i]
		v.Line = at.Line
		verdict := fmt.Sprint(v.Verdict)
		if !slices.Contains([]string{"true", "false", "absent"}, verdict) {
			c.wrong(at.Get("verdict"), "verdict is %q, which is none of true, false, absent", verdict)
		}
		v.Verdict = verdict
		if v.Field != "" && verdict != "absent" {
			c.wrong(at.Get("field"), "field names what is absent, and the verdict is %s", verdict)
		}
		if r := c.ruleOf(v.Rule, at); r != nil && !r.asks(v.Clause) {
			c.problem(c.doc.file, at.Get("clause"), "there are "+strings.Join(r.placeNames(), ", ")+", and the text of each clause", "rule %s has no clause %q", r.Name, v.Clause)
		}
	}
}

func (r *Rule) placeNames() []string {
	var names []string
	for _, p := range r.Places() {
		names = append(names, p.Name)
	}
	return names
}

// asks reports whether the rule has a place with the name, or a clause with the text.
func (r *Rule) asks(clause string) bool {
	return slices.ContainsFunc(r.Places(), func(p Place) bool {
		return p.Name == clause || slices.ContainsFunc(p.Clauses, func(text string) bool { return SameText(text, clause) })
	})
}

// SameText reports whether two clauses are the same but for spaces and line breaks.
func SameText(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }
