package rule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// metadata is what every document has.
type metadata struct {
	Name        string            `yaml:"name" required:"true" doc:"unique among documents of the kind: lower-case letters, digits and -"`
	Labels      map[string]string `yaml:"labels,omitempty" doc:"for selecting rules"`
	Annotations map[string]string `yaml:"annotations,omitempty" doc:"for people and tools"`
}

type envelope struct {
	APIVersion string         `yaml:"apiVersion" required:"true" doc:"riposte.dev/v1"`
	Kind       string         `yaml:"kind" required:"true" doc:"Rule, Workflow, Source, Target or RuleTest"`
	Metadata   metadata       `yaml:"metadata" required:"true" doc:"name and labels"`
	Spec       *document.Item `yaml:"spec" required:"true" doc:"see the kind"`
}

type sourceSpec struct {
	Type    string        `yaml:"type" required:"true" doc:"which sender: a preset"`
	MaxBody document.Size `yaml:"maxBody,omitempty" doc:"largest body; default: the server's limit"`
	Rate    *rateSpec     `yaml:"rate,omitempty" doc:"limit of verified requests; none by default"`
}

type rateSpec struct {
	Requests int64         `yaml:"requests" required:"true" doc:"so many"`
	Per      time.Duration `yaml:"per" required:"true" doc:"in this time"`
	Burst    int64         `yaml:"burst,omitempty" doc:"so many more at once"`
}

type targetSpec struct {
	Type     string            `yaml:"type" required:"true" doc:"slack, teams, pagerduty, smtp, webhook, log, …"`
	URL      *action.SecretRef `yaml:"url,omitempty" doc:"secret that holds the address"`
	Rate     *targetRate       `yaml:"rate,omitempty" doc:"above it, messages are collected into one digest"`
	Fallback string            `yaml:"fallback,omitempty" ref:"target" doc:"target that gets what this one can't be sent"`
}

type targetRate struct {
	Messages int64         `yaml:"messages" required:"true" doc:"so many"`
	Per      time.Duration `yaml:"per" required:"true" doc:"in this time"`
}

type ruleSpec struct {
	Mode    string         `yaml:"mode,omitempty" default:"auto" enum:"auto,observe,approve" doc:"auto acts; approve waits for a person before the first step that changes something; observe records what it would do"`
	Trigger *triggerSpec   `yaml:"trigger,omitempty" doc:"which events are asked at all"`
	When    *document.Item `yaml:"when,omitempty" doc:"condition over event"`

	Correlate   *correlateSpec   `yaml:"correlate,omitempty" doc:"what must come together over time before the rule runs; docs/correlation.md draws each kind"`
	Limits      []limitSpec      `yaml:"limits,omitempty" doc:"how many runs there may be; an alert's rule without any gets 3 an hour for each target"`
	Concurrency *concurrencySpec `yaml:"concurrency,omitempty" doc:"runs of one group never overlap, whatever their rule"`
	Timeout     time.Duration    `yaml:"timeout,omitempty" doc:"of the steps together"`
	Steps       []stepSpec       `yaml:"steps" required:"true" doc:"what to do, in order"`
	Verify      *verifySpec      `yaml:"verify,omitempty" doc:"how it is found out that the problem is gone; the run has succeeded only then"`
	OnFailure   []stepSpec       `yaml:"onFailure,omitempty" doc:"what to do when the run failed, was not verified or was refused: once for each limit key and window"`
	Finally     []stepSpec       `yaml:"finally,omitempty" doc:"what to do at the end of every run that began"`
}

type triggerSpec struct {
	Source document.Strings `yaml:"source,omitempty" doc:"names of sources, or globs; default: all"`
	Type   document.Strings `yaml:"type,omitempty" doc:"types of events, or globs; default: all"`
}

type stepSpec struct {
	ID              string           `yaml:"id,omitempty" doc:"name for steps.ID; default: step and its number"`
	Uses            string           `yaml:"uses" required:"true" doc:"the action, or workflow/NAME"`
	With            *document.Item   `yaml:"with,omitempty" doc:"the action's parameters, or the workflow's inputs"`
	If              *document.Item   `yaml:"if,omitempty" doc:"condition; the step is skipped unless it is true"`
	Needs           document.Strings `yaml:"needs,omitempty" doc:"steps above that must have ended, beside those that the step reads; default: the one above, [] is none"`
	Retry           *retrySpec       `yaml:"retry,omitempty" doc:"further attempts when the step fails; of a forEach: each item's own"`
	Timeout         time.Duration    `yaml:"timeout,omitempty" doc:"of one attempt; of a forEach: of one attempt at an item"`
	ContinueOnError bool             `yaml:"continueOnError,omitempty" doc:"go on when the step fails; of a forEach: when an item of it fails, which ends the forEach"`
	OnInterrupt     string           `yaml:"onInterrupt,omitempty" enum:"retry,fail" doc:"what to do with a step that a crash or a stop cut off; default: as the action says"`
	ForEach         *document.Item   `yaml:"forEach,omitempty" doc:"expression for a list, or {in: expression, parallel: n}: the step is made for each item, which is run.item and has the number run.index; outputs.items are the outputs of each"`
}

// id is the step's name; n is its number in the list, from 0.
func (s *stepSpec) id(n int) string { return cmp.Or(s.ID, fmt.Sprintf("step%d", n+1)) }

type retrySpec struct {
	Attempts   int64            `yaml:"attempts" required:"true" doc:"in all, up to 100"`
	Backoff    time.Duration    `yaml:"backoff,omitempty" default:"10s" doc:"pause before the second attempt; each further one is twice as long"`
	MaxBackoff time.Duration    `yaml:"maxBackoff,omitempty" default:"1h" doc:"longest pause"`
	On         document.Strings `yaml:"on,omitempty" doc:"failed, timeout: which outcomes are tried again; default: both"`
}

// loader collects what a set is made of, and all that is wrong with it.
type loader struct {
	opts     Options
	problems document.Problems
	set      *Set
	before   *reuse // nil: every rule is compiled
	docs     []doc
	places   map[string]string // by kind and name: where it is
	*terms

	pausedBy  []pausedBy
	compiling []string               // workflows that are being compiled, from the outermost
	grants    map[string]grant.Grant // by file
	paths     map[string]string      // by file: its path in the rules repository
	denied    map[string]error       // of targets that may not be
}

type doc struct {
	file string
	item *document.Item // nil where the rule is made and its file was not read
	made *Rule          // of the set before, from the same text
	envelope
}

// line is where the document begins.
func (d *doc) line() int {
	if d.item == nil {
		return d.made.Line
	}
	return d.item.Line
}

// Load builds a set. The error is document.Problems, everything that is wrong in all files, or that of Options.Stop.
func Load(files []File, o Options) (*Set, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	before, name := o.reusable(), digest(files)
	o.Before = nil // or each set would hold all sets before it
	if before != nil {
		if before.same(name, o.Revision) {
			return before.Set, nil
		}
		if set, err := load(files, name, o, before); err == nil {
			return set, nil
		}
		// Something is wrong, or what rules refer to has changed: built anew, it is told in full.
	}
	return load(files, name, o, nil)
}

func load(files []File, digest string, o Options, before *reuse) (*Set, error) {
	l := &loader{opts: o, before: before, places: map[string]string{}, grants: map[string]grant.Grant{}, paths: map[string]string{}, denied: map[string]error{}, set: &Set{
		Digest: digest, Files: files, Sources: map[string]*Source{}, Targets: map[string]action.Target{}, Workflows: map[string]*Workflow{}, byName: map[string]*Rule{}, lenient: o.WasActive,
	}}
	l.terms = before.terms()
	if l.terms == nil {
		l.terms = newTerms(o.Actions)
	}
	l.set.Revision, l.set.terms = cmp.Or(o.Revision, digest), l.terms
	if err := l.read(files); err != nil {
		return nil, err
	}
	l.set.basis = l.basis()
	if before != nil && before.basis != l.set.basis {
		return nil, errOtherBasis
	}
	for _, kind := range []string{"Source", "Target", "Workflow", "Rule", "RuleTest"} { // each refers to those before it
		if kind == "Rule" && before != nil { // so that rules of many sets hold one copy of what they refer to
			l.set.Targets, l.set.Workflows = before.Targets, before.Workflows
		}
		if err := l.buildAll(kind); err != nil {
			return nil, err
		}
	}
	l.checkFallbacks()
	l.pause()
	if len(l.problems) > 0 {
		l.problems.Sort()
		return nil, l.problems
	}
	l.noteFiles()
	l.set.index, l.set.parts = ruleIndex(l.set.Rules), newPartIndex(l.set.correlating)
	l.docs, l.places, l.before = nil, nil, nil // sources keep what compiles their expressions, and with it the loader
	return l.set, nil
}

// terms is what rules are compiled against that is the same for all sets of a server.
type terms struct {
	event   *expression.Schema
	actions map[string]*action.Definition // of Options.Actions, each once for all the steps that use it
}

func newTerms(actions action.Registry) *terms {
	t := &terms{event: eventFields(), actions: make(map[string]*action.Definition, len(actions))}
	for name, def := range actions {
		t.actions[name] = &def
	}
	return t
}

// errOtherBasis says that rules can't be taken over.
var errOtherBasis = errors.New("what the rules refer to has changed")

func (l *loader) stopped() error {
	if l.opts.Stop == nil {
		return nil
	}
	return l.opts.Stop()
}

func (l *loader) problem(file string, i *document.Item, hint, format string, args ...any) {
	p := document.Problem{File: file, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if i != nil {
		p.Line, p.Column = i.Line, i.Column
	}
	l.problems = append(l.problems, p)
}

// inParallel calls fn for each number below n, so many at a time, and returns when all calls have. Where Stop ends it
// before, at is the number that was next.
func (l *loader) inParallel(workers, n int, fn func(i int)) (at int, err error) {
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, workers)
	for i := range n {
		if err := l.stopped(); err != nil {
			return i, err
		}
		slots <- struct{}{}
		work.Go(func() {
			fn(i)
			<-slots
		})
	}
	return n, nil
}

// read reads all files, and takes their documents in the order of the files.
func (l *loader) read(files []File) error {
	parts := make([]loader, len(files))
	at, err := l.inParallel(runtime.GOMAXPROCS(0), len(files), func(i int) {
		parts[i].before = l.before
		parts[i].again(files[i])
	})
	if err != nil {
		return fmt.Errorf("reading the rules was stopped at %s: %w", files[at].Path, err)
	}
	for i, part := range parts {
		l.grants[files[i].Path], l.paths[files[i].Path] = l.opts.grantOf(files[i]), files[i].place()
		l.problems, l.pausedBy = append(l.problems, part.problems...), append(l.pausedBy, part.pausedBy...)
		for _, d := range part.docs {
			if l.known(d) {
				l.docs = append(l.docs, d)
			}
		}
	}
	return nil
}

// parse reads the documents of a file.
func (l *loader) parse(f File) {
	if f.place() == PausedFile {
		l.readPaused(f)
		return
	}
	items, problems := document.Parse(f.Path, f.Data)
	l.problems = problems
	for _, item := range items {
		d := doc{file: f.Path, item: item}
		l.decode(f.Path, item, &d.envelope)
		if d.APIVersion != "" && d.Kind != "" && d.Metadata.Name != "" && d.Spec != nil { // or what it is can't be told
			l.docs = append(l.docs, d)
		}
	}
}

// known checks what all documents have in common.
func (l *loader) known(d doc) bool {
	kinds := []string{"Source", "Target", "Workflow", "Rule", "RuleTest"}
	switch {
	case d.item == nil: // it was known
	case d.APIVersion != APIVersion:
		l.problem(d.file, d.item.Get("apiVersion"), "", "apiVersion is %q, and this version reads %s", d.APIVersion, APIVersion)
		return false
	case !slices.Contains(kinds, d.Kind):
		l.problem(d.file, d.item.Get("kind"), didYouMean(d.Kind, kinds), "kind %q is none of %s", d.Kind, strings.Join(kinds, ", "))
		return false
	case d.Kind == "Source" && d.Metadata.Name == event.OwnSource:
		l.problem(d.file, d.item.Get("metadata").Get("name"), "", "name %q is that of what Riposte itself sends", d.Metadata.Name)
		return false
	case !isName(d.Metadata.Name):
		l.problem(d.file, d.item.Get("metadata").Get("name"), "", "name %q is not lower-case letters, digits and -, up to 63", d.Metadata.Name)
	}
	id := d.Kind + " " + d.Metadata.Name
	if at, dup := l.places[id]; dup {
		l.problem(d.file, d.item.Get("metadata").Get("name"), "", "%s is there already, at %s", id, at)
		return false
	}
	l.places[id] = fmt.Sprintf("%s:%d", d.file, d.line())
	return true
}

// isName reports whether a document may have the name.
func isName(s string) bool {
	const letters, dash = "abcdefghijklmnopqrstuvwxyz0123456789", "-"
	return s != "" && len(s) <= 63 && strings.Trim(s, letters+dash) == "" && s[0] != '-' && s[len(s)-1] != '-'
}

// isStepID reports whether a step may have the id.
func isStepID(s string) bool {
	const digits, letters = "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	return s != "" && strings.Trim(s, letters+digits) == "" && !strings.Contains(digits, s[:1])
}

func didYouMean(name string, known []string) string {
	if best := document.Nearest(name, known); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

// buildAll builds the documents of a kind, in order. Rules are many and refer to none of their kind: each is built by a
// loader of its own, on all processors, and what they made is joined in order.
func (l *loader) buildAll(kind string) error {
	var docs []doc
	for _, d := range l.docs {
		if d.Kind == kind {
			docs = append(docs, d)
		}
	}
	var parts []*loader
	workers, build := 1, func(i int) { l.build(docs[i]) }
	if kind == "Rule" {
		parts = make([]*loader, len(docs))
		workers, build = runtime.GOMAXPROCS(0), func(i int) {
			if docs[i].made != nil {
				return
			}
			parts[i] = l.fork()
			parts[i].build(docs[i])
		}
	}
	if at, err := l.inParallel(workers, len(docs), build); err != nil {
		return fmt.Errorf("compiling the rules was stopped at %s:%d: %w", docs[at].file, docs[at].line(), err)
	}
	for i, part := range parts {
		if part == nil {
			l.adopt(docs[i].made)
			continue
		}
		l.join(part)
	}
	return nil
}

func (l *loader) build(d doc) {
	l.grantDocument(d)
	switch d.Kind {
	case "Source":
		l.source(d)
	case "Target":
		l.target(d)
	case "Workflow":
		l.workflow(d.Metadata.Name)
	case "Rule":
		l.rule(d)
	case "RuleTest":
		l.test(d)
	}
}

// fork makes a loader for one rule. It shares what was built before, to be read only.
func (l *loader) fork() *loader {
	set := *l.set
	set.Rules, set.correlating = nil, nil
	own := *l
	own.set, own.problems = &set, nil
	return &own
}

// join takes over what a fork has built.
func (l *loader) join(fork *loader) {
	l.problems = append(l.problems, fork.problems...)
	l.set.correlating = append(l.set.correlating, fork.set.correlating...)
	l.set.Rules = append(l.set.Rules, fork.set.Rules...)
	for _, r := range fork.set.Rules {
		l.set.byName[r.Name] = r
	}
}

// decode reads a part of a document, and reports whether all of it fits.
func (l *loader) decode(file string, item *document.Item, into any) bool {
	problems := document.Decode(file, item, into)
	l.problems = append(l.problems, problems...)
	return len(problems) == 0
}

func (l *loader) source(d doc) {
	common := []string{"type", "maxBody", "rate"}
	var spec sourceSpec
	if !l.decode(d.file, d.Spec.Without(except(d.Spec, common)...), &spec) && spec.Type == "" {
		return
	}
	t, ok := l.opts.Sources[spec.Type]
	if !ok {
		known := slices.Sorted(maps.Keys(l.opts.Sources))
		l.problem(d.file, d.Spec.Get("type"), didYouMean(spec.Type, known), "type %q is none of %s", spec.Type, strings.Join(known, ", "))
		return
	}
	s := &Source{Name: d.Metadata.Name, Type: t, MaxBodyBytes: int64(spec.MaxBody), File: d.file, Line: d.item.Line}
	if spec.Rate != nil {
		s.Rate = Rate{Requests: int(spec.Rate.Requests), Per: spec.Rate.Per, Burst: int(spec.Rate.Burst)}
	}
	fits := true
	env := l.sourceEnv(d)
	env.CheckSecret = func(ref source.SecretRef) error {
		s.Secrets = append(s.Secrets, ref)
		return l.checkSecret(ref)
	}
	built, err := t.New(func(into any) error {
		fits = l.decode(d.file, d.Spec.Without(common...), into)
		if !fits {
			return fmt.Errorf("its fields do not fit")
		}
		return nil
	}, env)
	if err != nil && fits {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			l.problem(d.file, d.Spec, "", "source %s: %s", s.Name, line)
		}
	}
	s.Source = built
	l.grantSource(d, s)
	l.set.Sources[s.Name] = s
}

// except lists the members of an item that are not named.
func except(i *document.Item, names []string) []string {
	var out []string
	for _, m := range i.Members {
		if !slices.Contains(names, m.Name) {
			out = append(out, m.Name)
		}
	}
	return out
}

func (l *loader) sourceEnv(d doc) source.Env {
	return source.Env{
		Name: d.Metadata.Name, Secret: l.opts.Secret, Now: l.opts.Now,
		Compile: func(text string) (func(*event.Event) (any, error), error) {
			p, err := expression.Compile(text, l.eventSchema(nil))
			if err != nil {
				return nil, err
			}
			return func(e *event.Event) (any, error) {
				return p.Eval(contextOf(), EventScope(e, e.ReceivedAt))
			}, nil
		},
	}
}

func (l *loader) checkSecret(ref source.SecretRef) error {
	switch {
	case (ref.Secret == "") == (ref.Env == ""):
		return fmt.Errorf("a secret is named {secret: NAME}")
	case ref.Env != "" && !l.opts.Dev:
		return fmt.Errorf("{env: %s} is read only under serve --dev: declare a secret in the server's configuration and write {secret: NAME}", ref.Env)
	case l.opts.CheckSecret != nil:
		return l.opts.CheckSecret(ref)
	}
	return nil
}

func (l *loader) target(d doc) {
	common := []string{"type", "url", "rate", "fallback"}
	var spec targetSpec
	fits := l.decode(d.file, d.Spec.Without(except(d.Spec, common)...), &spec)
	t := action.Target{Name: d.Metadata.Name, Type: spec.Type, Fallback: spec.Fallback}
	t.Options, _ = d.Spec.Without(common...).Any().(map[string]any)
	if spec.URL != nil {
		t.URL = *spec.URL
		if err := l.checkSecret(source.SecretRef(*spec.URL)); err != nil {
			l.problem(d.file, d.Spec.Get("url"), "", "url: %v", err)
		}
	}
	if spec.Rate != nil {
		t.Rate = action.Rate{Messages: int(spec.Rate.Messages), Per: spec.Rate.Per}
	}
	if fits {
		l.checkTarget(d, t)
	}
	l.set.Targets[t.Name] = l.grantTarget(d, t)
}

// checkTarget asks the actions that use targets. The document must suit one of them; otherwise the first says why it does not.
func (l *loader) checkTarget(d doc, t action.Target) {
	var first error
	for _, name := range slices.Sorted(maps.Keys(l.opts.Actions)) {
		check := l.opts.Actions[name].CheckTarget
		if check == nil {
			continue
		}
		err := check(t)
		if err == nil {
			return
		}
		if first == nil {
			first = err
		}
	}
	for _, err := range split(first) {
		l.fieldProblem(d, err)
	}
}

// fieldProblem reports an error at the field that it names.
func (l *loader) fieldProblem(d doc, err error) {
	at, hint := d.Spec, ""
	var fe *action.FieldError
	if errors.As(err, &fe) {
		at, hint = keyOf(d.Spec, fe.Field), fe.Hint
	}
	l.problem(d.file, at, hint, "%s %s: %v", strings.ToLower(d.Kind), d.Metadata.Name, err)
}

// split takes joined errors apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only what Join itself returned
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// keyOf returns the place of a member's name, or of the whole map that lacks it.
func keyOf(i *document.Item, name string) *document.Item {
	for _, m := range i.Members {
		if m.Name == name {
			return &document.Item{Line: m.Line, Column: m.Column}
		}
	}
	return i
}

// checkFallbacks follows each target's fallbacks to their end.
func (l *loader) checkFallbacks() {
	for _, d := range l.docs {
		if d.Kind != "Target" {
			continue
		}
		seen := map[string]bool{}
		for name := d.Metadata.Name; name != ""; {
			t, ok := l.set.Targets[name]
			if !ok || seen[name] {
				msg := "fallback: there is no Target %q"
				if ok {
					msg = "fallback: it leads back to %q"
				}
				l.problem(d.file, d.Spec.Get("fallback"), "", msg, name)
				break
			}
			seen[name] = true
			name = t.Fallback
		}
	}
}

func (l *loader) rule(d doc) {
	var spec ruleSpec
	if l.decode(d.file, d.Spec, &spec); d.Spec.Kind != document.Map {
		return
	}
	r := &Rule{
		Name: d.Metadata.Name, File: d.file, Path: l.paths[d.file], Line: d.item.Line, Labels: d.Metadata.Labels, Mode: spec.Mode,
		steps: map[stepKey]*step{}, targets: l.set.Targets,
	}
	if r.Mode == "" {
		r.Mode = "auto"
	}
	l.grantRule(d, r)
	if spec.Trigger != nil {
		r.trigger = l.triggerOf(d.file, spec.Trigger, d.Spec.Get("trigger"))
	}
	if spec.When != nil {
		r.when = l.condition(d.file, spec.When, "when", l.eventSchema(nil))
	}
	l.correlation(d, r, &spec)
	if spec.Trigger == nil && (r.correlation == nil || len(r.correlation.Spec.Parts) == 0) {
		l.problem(d.file, d.Spec, "", "trigger is missing: name a source, a type, or both")
	}
	if steps := d.Spec.Get("steps"); steps != nil && steps.Kind == document.List && len(steps.Elements) == 0 {
		l.problem(d.file, steps, "", "steps is empty: a rule does something")
	}
	for _, name := range []string{"correlate", "concurrency", "verify"} {
		if i := d.Spec.Get(name); i != nil && i.Kind == document.Scalar && i.Value == nil {
			l.problem(d.file, keyOf(d.Spec, name), "leave it out where nothing is meant", "%s is empty", name)
		}
	}
	c := newStepCompiler(l, d, r)
	r.Plan.Steps = c.steps(run.Main, spec.Steps, d.Spec.Get("steps"))
	r.Plan.Verify = c.verify(spec.Verify, d.Spec.Get("verify"))
	main := maps.Clone(c.readable) // what a step of onFailure came to is not known in finally
	r.Plan.OnFailure = c.steps(run.OnFailure, spec.OnFailure, d.Spec.Get("onFailure"))
	c.readable, c.elsewhere = main, ids(spec.OnFailure)
	r.Plan.Finally = c.steps(run.Finally, spec.Finally, d.Spec.Get("finally"))
	r.Plan.Timeout = spec.Timeout
	l.longer(d.file, d.Spec, "timeout")
	r.Plan.Approve = r.Mode == "approve"
	l.bounds(c, &spec)
	r.heals, r.replaces = c.changes(r.Plan.Steps)
	l.set.Rules = append(l.set.Rules, r)
}

func (l *loader) triggerOf(file string, t *triggerSpec, item *document.Item) trigger {
	if t == nil {
		return trigger{}
	}
	known := slices.Sorted(maps.Keys(l.set.Sources))
	for _, name := range t.Source {
		if !isGlob(name) && name != event.OwnSource && l.places["Source "+name] == "" {
			l.problem(file, item.Get("source"), didYouMean(name, known), "trigger: there is no Source %q", name)
		}
	}
	return l.grantTrigger(file, trigger{sources: t.Source, types: t.Type}, item)
}

// condition compiles an expression that must be true or false.
func (l *loader) condition(file string, i *document.Item, field string, schema *expression.Schema) *expression.Program {
	var text string
	switch v := i.Value.(type) {
	case string:
		text = v
	case bool:
		text = fmt.Sprint(v)
	case document.Unknown: // what is wrong with it is told
		return nil
	default:
		l.problem(file, i, "", "%s must be an expression", field)
		return nil
	}
	if strings.TrimSpace(text) == "" {
		l.problem(file, i, "leave it out where nothing is to be asked", "%s is empty", field)
		return nil
	}
	p, err := expression.CompileCondition(text, schema)
	if err != nil {
		l.compileProblem(file, i, field, err)
		return nil
	}
	return p
}

// compileProblem reports an expression's error at its place in the file.
func (l *loader) compileProblem(file string, i *document.Item, field string, err error) {
	p := document.Problem{File: file, Line: i.Line, Column: i.Column, Msg: field + ": " + err.Error()}
	if ce, ok := asCompileError(err); ok {
		p.Msg, p.Hint, p.Snippet = field+": "+ce.Msg, ce.Hint, ce.Snippet()
		p.Line, p.Column = l.set.Position(file, i, ce.Line, ce.Column)
	}
	if i.Comment != "" {
		p.Hint = "what follows # is a YAML comment: put the expression into quotes if it belongs to it"
	}
	l.problems = append(l.problems, p)
}
