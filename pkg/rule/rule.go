// Package rule turns the documents of a rules repository into a Set: sources, targets and rules, compiled and checked as
// a whole. A Set is immutable and safe for concurrent use; building one has no side effects, so a broken repository
// leaves whatever ran before as it is. Everything that is wrong is reported at once, with file, line and column.
package rule

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// APIVersion is what every document names.
const APIVersion = "riposte.dev/v1"

// File is one file of a rules repository. Path is what people read and has slashes; Within is the path in the repository,
// which grants look at, where Path is another one.
type File struct {
	Path   string
	Within string `json:",omitempty"`
	Data   []byte
}

// Options are what documents can refer to.
type Options struct {
	Sources source.Registry
	Actions action.Registry
	// Secret resolves secrets when requests are verified.
	Secret func(source.SecretRef) ([]byte, error)
	// CheckSecret reports whether a reference may be used; nil checks nothing. It is called from several goroutines, as the
	// checks of actions are.
	CheckSecret func(source.SecretRef) error
	// Dev lets documents name environment variables.
	Dev bool
	Now func() time.Time
	// Revision names the set; empty for its digest.
	Revision string
	// Grants says what the documents of a file may use, by its path in the repository; nil allows everything.
	Grants func(path string) grant.Grant
	// WasActive says that the set was active before. What is not granted to it any more keeps it from loading no longer:
	// it is refused where it is used.
	WasActive bool
	// Before is a set that was loaded with the same options, apart from Revision, WasActive and Stop, or nil. Rules whose file
	// it has are not compiled again where their Sources, Targets and Workflows are the same; the result is what it is
	// without. Where nothing has changed, it is Before.
	Before *Set
	// Stop is asked before each document; its error ends the load. nil never stops.
	Stop func() error
}

// Set is a whole rules repository.
type Set struct {
	// Revision is the set's name: the commit it came from, or else its digest. Digest is the hash of all files.
	Revision string
	Digest   string
	Files    []File
	Rules    []*Rule
	Sources  map[string]*Source
	Targets  map[string]action.Target
	// Workflows by name; each is part of the rules that use it.
	Workflows map[string]*Workflow
	Tests     []*Test
	// Pauses are what the files say that pause rules.
	Pauses []run.Pause

	byName      map[string]*Rule
	correlating []*Rule
	index       *index
	parts       partIndex

	byFile  map[string]fileRules // for the next set
	basis   [sha256.Size]byte    // of what rules refer to
	lenient bool                 // it was loaded with WasActive
	terms   *terms
}

// Source is a Source document that is ready to receive.
type Source struct {
	Name         string
	Type         source.Type
	Source       source.Source
	MaxBodyBytes int64 // 0: the server's own limit
	Rate         Rate  // of verified requests; zero is no limit
	Secrets      []source.SecretRef
	// Denied says why the source may receive nothing: its file is not granted its name, a secret or an account any more.
	Denied error
	// Account is as whom a source that watches a cluster does so; empty for the server's own.
	Account string
	File    string
	Line    int
}

// Rate is so many requests per time, with room for a burst above it.
type Rate struct {
	Requests int
	Per      time.Duration
	Burst    int
}

// Rule is a compiled Rule document.
type Rule struct {
	Name   string
	File   string
	Path   string // of the file in the rules repository, by which grants and approvals hold
	Line   int
	Labels map[string]string
	Mode   string // auto, approve or observe
	Plan   run.Plan
	// Paused is set where a file beside the rules pauses this one.
	Paused *run.Pause

	trigger trigger
	when    *expression.Program
	steps   map[stepKey]*step
	targets map[string]action.Target
	// stepsAsk says that a step calls changed().
	stepsAsk bool

	correlation *Correlation

	limits []limit
	group  *template
	// groupText is the group as it is written.
	groupText string
	policy    string
	expect    *expression.Program
	heals     bool
	replaces  []string
	grant     grant.Grant
	overMode  error            // why it may not have the mode that it is written with
	denied    map[string]error // of targets that may not be
}

type stepKey struct {
	phase run.Phase
	id    string
}

// step is what the plan of a step leaves out: expressions, and the action or workflow.
type step struct {
	action    *action.Definition // nil: it has none
	workflow  *Workflow
	condition *expression.Program
	itemIf    bool                // of a forEach: the condition is asked for each item
	each      *expression.Program // of a forEach: the list,
	list      *template           // or its items
	with      *template
	reads     []string    // steps
	grant     grant.Grant // of the file that it is written in
}

// actions lists what a step does, also by way of workflows.
func (s *step) actions() []action.Definition {
	if s.workflow == nil {
		return []action.Definition{s.def()}
	}
	var out []action.Definition
	for _, inner := range s.workflow.steps {
		out = append(out, inner.actions()...)
	}
	return out
}

func (s *step) forEach() bool { return s.each != nil || s.list != nil }

// asks reports whether the step with the path, which may be an item of a forEach, has a condition to ask.
func (s *step) asks(path string) bool {
	return s.condition != nil && (!s.forEach() || s.itemIf == strings.HasSuffix(path, "]"))
}

// lookup finds what belongs to a step by its path.
func (r *Rule) lookup(phase run.Phase, path string) *step {
	head, rest, deeper := strings.Cut(run.Template(path), "/")
	s := r.steps[stepKey{phase, head}]
	for deeper && s != nil {
		if s.workflow == nil {
			return nil
		}
		head, rest, deeper = strings.Cut(rest, "/")
		s = s.workflow.steps[stepKey{run.Main, head}]
	}
	return s
}

// trigger selects events by source and type; an empty list selects all. granted bounds the sources; nil does not.
type trigger struct {
	sources, types []string
	granted        *grant.Grant
}

func (t *trigger) matches(e *event.Event) bool {
	return oneOf(t.sources, e.Source) && oneOf(t.types, e.Type) && t.mayRead(e.Source) == nil
}

// mayRead asks whether events of the source may start the rule.
func (t *trigger) mayRead(source string) error {
	if t.granted == nil {
		return nil
	}
	return t.granted.Source(source)
}

func oneOf(globs []string, name string) bool {
	if len(globs) == 0 {
		return true
	}
	for _, g := range globs {
		if g == name {
			return true
		}
		if isGlob(g) {
			if ok, err := path.Match(g, name); err == nil && ok {
				return true
			}
		}
	}
	return false
}

func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// Rule returns the rule with the name, or nil.
func (s *Set) Rule(name string) *Rule { return s.byName[name] }

// Verdict is what one rule says of one event.
type Verdict struct {
	Rule *Rule
	// Candidate says that the trigger selects the event; only then are there clauses.
	Candidate bool
	Truth     expression.Truth
	// Failed says of an absent verdict of Match that an evaluation that failed is the reason, and not an absent field.
	Failed bool
	// Clauses are those of the condition; Match gives them for the first few absent verdicts only.
	Clauses []expression.Clause
}

// Selects reports whether any rule's trigger selects the event, from its source and type alone: where none does, nothing
// else of it need be read.
func (s *Set) Selects(e *event.Event) bool {
	var room [4]*group
	return len(s.index.triggered(room[:0], e)) > 0 || len(s.parts.triggered(room[:0], e)) > 0
}

// Matches is what the rules of a set say of one event.
type Matches struct {
	// Verdicts are those that are true or absent, in the order of the set: exactly those of Explain that are not false.
	Verdicts []Verdict
	// Triggered is how many rules have a trigger that selects the event.
	Triggered int

	set    *Set
	groups []*group
}

// maxExplained is how many absent verdicts Match gives the clauses of: explaining is dear, and nobody reads more.
const maxExplained = 16

// Match asks those of the rules that one event decides that the index can't rule out. Of the body it reads what they ask for.
func (s *Set) Match(ctx context.Context, e *event.Event, now time.Time) Matches {
	return s.MatchPaths(ctx, e, e.ListedPaths(), now)
}

// MatchPaths is Match of an event that changed the paths.
func (s *Set) MatchPaths(ctx context.Context, e *event.Event, paths event.Paths, now time.Time) Matches {
	m := Matches{set: s, groups: s.index.triggered(nil, e)}
	for _, g := range m.groups {
		m.Triggered += len(g.rules)
	}
	var scope *expression.Scope
	explained := 0
	s.index.candidates(m.groups, e, paths, func(n int32, _ *reading) bool {
		if scope == nil {
			scope = PathsScope(e, paths, now)
		}
		v := s.Rules[n].ask(ctx, scope)
		if v.Truth == expression.Absent && explained < maxExplained {
			explained++
			_, v.Clauses = v.Rule.when.Explain(ctx, scope)
		}
		if v.Truth != expression.False {
			m.Verdicts = append(m.Verdicts, v)
		}
		return true
	})
	return m
}

// NeedsDiff reports whether a rule can't be decided, or its steps not be told what to do, without paths that the event does
// not list. A rule that another conjunct makes false or absent needs none, nor does one that the listed paths match.
func (s *Set) NeedsDiff(ctx context.Context, e *event.Event, now time.Time) bool {
	listed := e.ListedPaths()
	if e.Git == nil || listed.Complete || s.index == nil || !s.index.asks {
		return false
	}
	scope, unlisted := EventScope(e, now), false
	scope.Changed = func(globs []string) (bool, error) {
		ok, err := changed(e, listed, globs)
		unlisted = unlisted || errors.Is(err, errUnlisted)
		return ok, err
	}
	needs := false
	s.index.candidates(s.index.triggered(nil, e), e, listed, func(n int32, r *reading) bool {
		x := &s.index.rules[n]
		if !x.asks || x.absent(r) {
			return true
		}
		unlisted = false
		v := s.Rules[n].ask(ctx, scope)
		needs = v.Truth == expression.Absent && unlisted || v.Truth == expression.True && s.Rules[n].stepsAsk
		return !needs
	})
	return needs
}

// StepsAsk reports whether a step of the rule calls changed().
func (r *Rule) StepsAsk() bool { return r.stepsAsk }

func (r *Rule) ask(ctx context.Context, scope *expression.Scope) Verdict {
	v := Verdict{Rule: r, Candidate: true, Truth: expression.True}
	if r.when != nil {
		v.Truth, v.Failed = r.when.Decide(ctx, scope)
	}
	return v
}

// False returns up to n of the rules whose trigger selects the event and whose condition is false.
func (m Matches) False(n int) []*Rule {
	var out []*Rule
	other := map[*Rule]bool{}
	for _, v := range m.Verdicts {
		other[v.Rule] = true
	}
	for _, g := range m.groups {
		for _, x := range g.rules {
			if len(out) == n {
				return out
			}
			if r := m.set.Rules[x.rule]; !other[r] {
				out = append(out, r)
			}
		}
	}
	return out
}

// Explain asks every rule, and gives every clause. What a correlating rule says stands in Joins.
func (s *Set) Explain(ctx context.Context, e *event.Event, now time.Time) []Verdict {
	return s.ExplainPaths(ctx, e, e.ListedPaths(), now)
}

// ExplainPaths is Explain of an event that changed the paths.
func (s *Set) ExplainPaths(ctx context.Context, e *event.Event, paths event.Paths, now time.Time) []Verdict {
	scope := PathsScope(e, paths, now)
	out := make([]Verdict, len(s.Rules))
	for i, r := range s.Rules {
		out[i] = Verdict{Rule: r, Candidate: r.selects(e), Truth: expression.False}
		if !out[i].Candidate || r.correlation != nil {
			continue
		}
		out[i].Truth = expression.True
		if r.when != nil {
			out[i].Truth, out[i].Clauses = r.when.Explain(ctx, scope)
		}
	}
	return out
}

func (r *Rule) selects(e *event.Event) bool {
	if r.correlation != nil {
		return r.correlation.selects(e)
	}
	return r.trigger.matches(e)
}

// EventScope is what a condition can read: the event, and changed() of its list of paths.
func EventScope(e *event.Event, now time.Time) *expression.Scope {
	return PathsScope(e, e.ListedPaths(), now)
}

// PathsScope is EventScope of an event that changed the paths.
func PathsScope(e *event.Event, paths event.Paths, now time.Time) *expression.Scope {
	return &expression.Scope{
		Vars:    map[string]any{"event": e},
		Now:     now,
		Changed: func(globs []string) (bool, error) { return changed(e, paths, globs) },
	}
}

// errUnlisted says that nothing but a diff could tell.
var errUnlisted = errors.New("the event does not list all changed paths, and those that it lists do not match")

// changed answers from the paths that are known. That one matches is certain; that none does only if all are known.
func changed(e *event.Event, paths event.Paths, globs []string) (bool, error) {
	if e.Git == nil {
		return false, errors.New("the event is not about a Git repository")
	}
	for _, g := range globs {
		if !doublestar.ValidatePattern(g) {
			return false, fmt.Errorf("%q is no glob", g) // whatever the others match, so that a diff can't make it true
		}
	}
	for _, g := range globs {
		if slices.ContainsFunc(paths.List, func(p string) bool { return doublestar.MatchUnvalidated(g, p) }) {
			return true, nil
		}
	}
	if !paths.Complete {
		return false, errUnlisted
	}
	return false, nil
}

// Asks reports whether a step has a condition that If would evaluate.
func (r *Rule) Asks(phase run.Phase, id string) bool {
	s := r.lookup(phase, id)
	return s != nil && s.asks(id)
}

// If evaluates a step's condition; it is true where there is none. The error says why it is absent. The condition of a
// forEach is asked once, of the step itself, unless it reads the item.
func (r *Rule) If(ctx context.Context, phase run.Phase, id string, scope *expression.Scope) (expression.Truth, error) {
	s := r.lookup(phase, id)
	if s == nil || !s.asks(id) {
		return expression.True, nil
	}
	truth := s.condition.Test(ctx, scope)
	if truth != expression.Absent {
		return truth, nil
	}
	_, clauses := s.condition.Explain(ctx, scope)
	for _, c := range clauses {
		switch {
		case c.Absent != "":
			return truth, fmt.Errorf("%s is absent", c.Absent)
		case c.Err != nil:
			return truth, c.Err
		}
	}
	return truth, nil
}

// With evaluates a step's parameters into the struct of its action. An error that wraps *expression.AbsentError says which
// field was absent; after the main steps an absent field in a text prints its path instead. shown is what was evaluated.
func (r *Rule) With(ctx context.Context, phase run.Phase, id string, scope *expression.Scope) (params any, shown map[string]any, err error) {
	s := r.lookup(phase, id)
	if s == nil || s.workflow != nil {
		return nil, nil, fmt.Errorf("rule %s has no step %s with an action", r.Name, id)
	}
	value, err := s.with.eval(ctx, scope, phase == run.OnFailure || phase == run.Finally)
	if err != nil {
		return nil, nil, fmt.Errorf("with: %w", err)
	}
	shown, _ = plain(value).(map[string]any)
	params, err = decodeParams(s.def(), shown)
	return params, shown, err
}

// def is the step's action, or the zero Definition.
func (s *step) def() action.Definition {
	if s.action == nil {
		return action.Definition{}
	}
	return *s.action
}

// Action returns the action of a step.
func (r *Rule) Action(phase run.Phase, id string) action.Definition {
	if s := r.lookup(phase, id); s != nil {
		return s.def()
	}
	return action.Definition{}
}

// Target returns a Target document of the rule's set that the rule may send to, or that such a one falls back to.
func (r *Rule) Target(name string) (action.Target, error) {
	t, ok := r.targets[name]
	if !ok {
		return t, fmt.Errorf("there is no Target %q", name)
	}
	if err := r.mayTarget(name); err != nil {
		return action.Target{}, action.Refused(run.ReasonNotGranted, err)
	}
	return t, nil
}

// digest hashes the files, in the order of their paths.
func digest(files []File) string {
	h := sha256.New()
	for _, f := range files {
		var n [24]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(f.Path)))
		binary.BigEndian.PutUint64(n[8:], uint64(len(f.Within)))
		binary.BigEndian.PutUint64(n[16:], uint64(len(f.Data)))
		h.Write(n[:])
		h.Write([]byte(f.Path))
		h.Write([]byte(f.Within))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}
