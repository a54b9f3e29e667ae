package rule_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// repository is files of rules that are edited at random: by name, each a list of documents.
type repository struct {
	maker
	files map[string][]string
	next  int
}

func newRepository(m maker) *repository {
	r := &repository{m, map[string][]string{"sources.yaml": {githubDoc}, "workflow.yaml": {aWorkflow("a")}}, 0}
	for range 4 {
		r.files[fmt.Sprintf("rules-%d.yaml", r.IntN(20))] = r.rules()
	}
	return r
}

func aWorkflow(text string) string {
	return "---\napiVersion: riposte.dev/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  inputs: {in: {type: string}}\n  steps: [{uses: do, with: {any: \"" + text + " ${{ inputs.in }}\"}}]\n"
}

func (r *repository) rules() []string {
	out := make([]string, 1+r.IntN(5))
	for i := range out {
		out[i] = r.newRule()
	}
	return out
}

func (r *repository) newRule() string {
	r.next++
	text := r.rule(r.next)
	if r.IntN(3) == 0 {
		text = strings.Replace(text, "{uses: do}", `{id: s, uses: workflow/w, with: {in: "${{ event.source }}"}}, {uses: do, with: {any: "${{ event.type }} x"}}`, 1)
	}
	return text
}

// edit changes something.
func (r *repository) edit() {
	name := slices.Sorted(maps.Keys(r.files))[r.IntN(len(r.files))]
	docs := slices.Clone(r.files[name])
	switch r.IntN(14) {
	case 0:
		r.files[fmt.Sprintf("rules-%d.yaml", r.IntN(20))] = r.rules()
	case 1:
		if strings.HasPrefix(name, "rules") {
			delete(r.files, name)
		}
	case 2: // one moves
		delete(r.files, name)
		r.files["moved-"+name[max(0, len(name)-12):]] = docs
	case 3: // what rules use is another
		r.files["workflow.yaml"] = []string{aWorkflow(r.one("a", "b"))}
	case 4: // rules beside something else
		r.files["workflow.yaml"] = append([]string{aWorkflow(r.one("a", "b"))}, r.rules()...)
	case 5:
		r.files["more.yaml"] = []string{strings.ReplaceAll(strings.SplitAfter(githubDoc, "---\n")[0], "github}", r.one("xyz}", "abc}"))}
	case 6:
		r.files["PAUSED"] = []string{r.one("", "# all of them\n", "r1\n", "# one\nr2\n")}
	case 7:
		delete(r.files, "PAUSED")
	case 8: // a mistake
		r.files["wrong.yaml"] = []string{r.one("---\nkind: Rule\n", "a: [", strings.Replace(r.newRule(), "uses: do", "uses: doo", 1))}
	case 9: // the same rule twice
		r.files["wrong.yaml"] = docs
	case 10:
		delete(r.files, "wrong.yaml")
	case 11:
		r.files["test.yaml"] = []string{fmt.Sprintf("apiVersion: riposte.dev/v1\nkind: RuleTest\nmetadata: {name: t}\nspec:\n  cases:\n    - name: %s\n      timeline: [{at: 0s, event: {source: github, type: push, data: {}}}]\n      expect: []\n", r.one("one", "two"))}
	default: // a rule is another
		if i := r.IntN(len(docs)); strings.Contains(docs[i], "kind: Rule\n") {
			docs[i] = r.newRule()
			r.files[name] = docs
		}
	}
}

func (r *repository) list() []rule.File {
	var out []rule.File
	for name, docs := range r.files {
		out = append(out, rule.File{Path: "dir/" + name, Within: name, Data: []byte(strings.Join(docs, ""))})
	}
	return out
}

// compareSets holds a set that took rules over against one that was built anew from the same files.
func compareSets(t *testing.T, got, want *rule.Set, m maker) {
	t.Helper()
	if got.Digest != want.Digest || got.Revision != want.Revision || !reflect.DeepEqual(got.Pauses, want.Pauses) || len(got.Rules) != len(want.Rules) || len(got.Correlating()) != len(want.Correlating()) {
		t.Fatalf("set %s %s, pauses %v, %d rules is not %s %s %v %d", got.Revision, got.Digest, got.Pauses, len(got.Rules), want.Revision, want.Digest, want.Pauses, len(want.Rules))
	}
	if !reflect.DeepEqual(got.Targets, want.Targets) || !slices.Equal(slices.Sorted(maps.Keys(got.Workflows)), slices.Sorted(maps.Keys(want.Workflows))) || len(got.Tests) != len(want.Tests) {
		t.Fatalf("targets %v, workflows %v", got.Targets, got.Workflows)
	}
	e := m.event()
	for i, w := range want.Rules {
		g := got.Rules[i]
		type shown struct {
			Name, File, Path, Mode string
			Line                   int
			Plan                   run.Plan
			Paused                 *run.Pause
		}
		show := func(r *rule.Rule) shown { return shown{r.Name, r.File, r.Path, r.Mode, r.Line, r.Plan, r.Paused} }
		if !reflect.DeepEqual(show(g), show(w)) || got.Rule(g.Name) != g {
			t.Fatalf("rule %+v is not %+v", show(g), show(w))
		}
		for _, s := range w.Plan.Steps {
			path := s.ID
			scope := rule.EventScope(e, time.Unix(0, 0))
			if s.Steps != nil {
				path, scope = s.ID+"/"+s.Steps[0].ID, &expression.Scope{Vars: map[string]any{"inputs": map[string]any{"in": "x"}}}
			}
			_, with, err := g.With(t.Context(), run.Main, path, scope)
			_, wanted, wantErr := w.With(t.Context(), run.Main, path, scope)
			if !reflect.DeepEqual(with, wanted) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("step %s of rule %s gets %v, %v, and not %v, %v", path, w.Name, with, err, wanted, wantErr)
			}
		}
	}
	compareAnswers(t, got, want, e)
}

func compareAnswers(t *testing.T, got, want *rule.Set, e *event.Event) {
	t.Helper()
	say := func(s *rule.Set) string {
		var b strings.Builder
		for _, v := range s.Explain(t.Context(), e, time.Unix(0, 0)) {
			fmt.Fprintln(&b, v.Rule.Name, v.Candidate, v.Truth, v.Clauses)
		}
		for _, v := range s.Match(t.Context(), e, time.Unix(0, 0)).Verdicts {
			fmt.Fprintln(&b, v.Rule.Name, v.Truth)
		}
		for _, j := range s.Joins(t.Context(), e, time.Unix(0, 0)).List {
			fmt.Fprintln(&b, j.Rule.Name, j.Matches, j.Verdicts, j.Rule.Correlation().Identity)
		}
		return b.String()
	}
	if g, w := say(got), say(want); g != w {
		t.Fatalf("the set says\n%s\nand built anew\n%s", g, w)
	}
}

func TestASetThatTookRulesOverIsTheOneBuiltAnew(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	repositories := 6
	if testing.Short() {
		repositories = 3
	}
	loaded, wrong := 0, 0
	for n := range repositories {
		r := newRepository(maker{rand.New(rand.NewPCG(seed, uint64(n)))})
		var before *rule.Set
		for range 25 {
			for range r.IntN(3) {
				r.edit()
			}
			o := options()
			o.Revision, o.WasActive = r.one("", "one", "two"), r.IntN(4) == 0
			want, wantErr := rule.Load(r.list(), o)
			o.Before = before
			got, err := rule.Load(r.list(), o)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("the error is\n%v\nand built anew\n%v", err, wantErr)
			}
			if wrong++; err == nil {
				wrong--
				loaded++
				compareSets(t, got, want, r.maker)
				compareAll(t, got, r.event(), event.Paths{})
				compareJoins(t, got, r.event())
				before = got
			}
		}
	}
	if loaded < repositories || wrong < repositories {
		t.Errorf("%d sets were loaded, %d were wrong: the edits try too little", loaded, wrong)
	}
}

func TestOnlyWhatChangedIsCompiled(t *testing.T) {
	const one = "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: %s}\nspec:\n  trigger: {source: github}\n  correlate: {count: 2, within: %s}\n  steps: [{uses: do}]\n"
	files := func(within string, more ...rule.File) []rule.File {
		return append([]rule.File{
			{Path: "a.yaml", Data: []byte(githubDoc + fmt.Sprintf(one, "beside", "1h"))},
			{Path: "b.yaml", Data: fmt.Appendf(nil, one, "alone", "1h")},
			{Path: "c.yaml", Data: fmt.Appendf(nil, one, "other", within)},
		}, more...)
	}
	load := func(files []rule.File, change func(*rule.Options)) *rule.Set {
		t.Helper()
		o := options()
		change(&o)
		set, err := rule.Load(files, o)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	before := load(files("1h"), func(*rule.Options) {})
	taken := func(set *rule.Set) string { // what is compiled is shared
		var out []string
		for _, name := range []string{"beside", "alone", "other"} {
			if set.Rule(name).Correlation() == before.Rule(name).Correlation() {
				out = append(out, name)
			}
		}
		return strings.Join(out, " ")
	}
	after := func(o *rule.Options) { o.Before = before }
	if set := load(files("1h"), after); set != before {
		t.Error("the same files make another set")
	}
	if set := load(files("2h"), after); taken(set) != "beside alone" || set.Rule("alone") == before.Rule("alone") {
		t.Errorf("with one rule changed, taken over are: %s", taken(set))
	}
	if set := load(files("1h"), func(o *rule.Options) { after(o); o.Revision = "other" }); taken(set) != "beside alone other" || set.Revision != "other" {
		t.Errorf("with another name, taken over are: %s", taken(set))
	}
	workflow := rule.File{Path: "w.yaml", Data: []byte(aWorkflow("a"))}
	if set := load(files("1h", workflow), after); taken(set) != "" {
		t.Errorf("with another workflow, taken over are: %s", taken(set))
	}
	lenient := load(files("1h"), func(o *rule.Options) { o.WasActive = true })
	if set := load(files("1h"), func(o *rule.Options) { o.Before = lenient }); set.Rule("alone").Correlation() == lenient.Rule("alone").Correlation() {
		t.Error("a set that may lack grants is taken over without a check")
	}
}
