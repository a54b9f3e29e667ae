package rule_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// keyParams name secrets where actions do: alone, in a map and in a list of structs.
type keyParams struct {
	Key  *action.SecretRef           `yaml:"key,omitempty"`
	Keys map[string]action.SecretRef `yaml:"keys,omitempty"`
	To   []string                    `yaml:"to,omitempty" ref:"target"`
	Deep []struct {
		Ref action.SecretRef `yaml:"ref,omitempty"`
	} `yaml:"deep,omitempty"`
}

func granting(l grant.List) rule.Options {
	o := options()
	o.Actions["unlock"] = action.Definition{Name: "unlock", Params: &keyParams{}, Outputs: outputs{}}
	o.Grants = l.Of
	return o
}

// platformFile declares what the team's rules of these tests refer to; its path is granted everything.
var platformFile = rule.File{Path: "platform/all.yaml", Data: []byte(`apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: other}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: chat}
spec: {type: log, url: {secret: chat-url}, fallback: pager}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: pager}
spec: {type: log, url: {secret: pager-url}}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: boss}
spec: {type: log, url: {secret: boss-url}}
`)}

func teamGrants() grant.List {
	return grant.List{
		{Paths: []string{"team/**"}, Sources: []string{"github"}, Actions: []string{"do", "unlock"}, Secrets: []string{"team-*"}, Targets: []string{"chat"}},
		{Paths: []string{"watchers/**"}, Sources: []string{"*"}, Actions: []string{"*"}, MaxMode: "observe"},
		{Paths: []string{"platform/**"}, Allow: grant.Everything},
	}
}

func teamRule(spec string) string {
	return "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n" + spec
}

// TestADocumentUsesWhatItsPathIsGranted: all that is not granted is told at its place, with the grant and what to do.
func TestADocumentUsesWhatItsPathIsGranted(t *testing.T) {
	const does = "  steps: [{uses: do}]\n"
	for name, c := range map[string]struct{ path, text, want string }{
		"granted": {"", teamRule("  trigger: {source: github}\n  steps: [{uses: do, with: {to: chat}}, {uses: unlock, with: {key: {secret: team-a}}}]\n"), ""},
		"source": {"", teamRule("  trigger:\n    source: [github, other]\n" + does),
			"team/x.yaml:6:13: team/x.yaml may not use the source other: grants[0] (team/**) does not list it\n    hint: add it to sources of that grant in the server's configuration"},
		"glob of which one source is granted":      {"", teamRule("  trigger: {source: '*'}\n" + does), ""},
		"all sources, of which one is granted":     {"", teamRule("  trigger: {type: push}\n" + does), ""},
		"glob of which none is granted":            {"", teamRule("  trigger: {source: 'o*'}\n" + does), "team/x.yaml:5:21: team/x.yaml may not use the source other"},
		"a source that there is not is told alone": {"", teamRule("  trigger: {source: gitlab}\n" + does), `team/x.yaml:5:21: trigger: there is no Source "gitlab"`},
		"source of a part": {"", teamRule("  correlate:\n    within: 1m\n    all:\n      - {as: a, trigger: {source: github}}\n      - {as: b, trigger: {source: other}}\n" + does),
			"team/x.yaml:9:35: team/x.yaml may not use the source other"},
		"action": {"sub/x.yaml", teamRule("  trigger: {source: github}\n  steps:\n    - uses: do\n      needs: []\n  onFailure:\n    - uses: unlock\n"), "sub/x.yaml:2:1: no grant"},
		"secret": {"", teamRule("  trigger: {source: github}\n  steps:\n    - uses: unlock\n      with:\n        keys: {A: {secret: team-a}, B: {secret: s}}\n"),
			"team/x.yaml:9:49: team/x.yaml may not use the secret s: grants[0]"},
		"secret in a list": {"", teamRule("  trigger: {source: github}\n  steps:\n    - uses: unlock\n      with:\n        deep: [{ref: {secret: s, env: ''}}]\n"), "team/x.yaml:9:31: team/x.yaml may not use the secret s"},
		"target":           {"", teamRule("  trigger: {source: github}\n  steps:\n    - uses: do\n      with: {to: boss}\n"), "team/x.yaml:8:18: team/x.yaml may not use the target boss"},
		"fallback of a granted target, named itself": {"", teamRule("  trigger: {source: github}\n  steps:\n    - uses: unlock\n      with: {to: [chat, pager]}\n"), "team/x.yaml:8:18: team/x.yaml may not use the target pager"},
		"default mode": {"watchers/x.yaml", teamRule("  trigger: {source: github}\n" + does), "watchers/x.yaml:5:3: watchers/x.yaml may not have the mode auto: grants[1] (watchers/**) has maxMode observe\n    hint: write mode: observe, or raise maxMode of that grant in the server's configuration"},
		"mode":         {"watchers/x.yaml", teamRule("  mode: auto\n  trigger: {source: github}\n" + does), "watchers/x.yaml:5:9: "},
		"lower mode":   {"watchers/x.yaml", teamRule("  mode: observe\n  trigger: {source: github}\n" + does), ""},
		"nothing is said once": {"elsewhere.yaml", teamRule("  trigger: {source: github}\n  steps: [{uses: unlock, with: {key: {secret: s}, to: [boss]}}]\n"),
			"elsewhere.yaml:2:1: no grant of the server's configuration matches elsewhere.yaml, so nothing is allowed there\n    hint: add a grant with paths: [\"elsewhere.yaml\"] in the server's configuration, or move the file below the paths of one"},
		"a test uses nothing": {"elsewhere.yaml", "apiVersion: riposte.dev/v1\nkind: RuleTest\nmetadata: {name: t}\nspec: {cases: [{name: a, timeline: [{at: 0s, event: {source: github, type: push, data: {}}}], expect: []}]}\n", ""},
		"source document": {"", "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: mine}\nspec: {type: github, secrets: [{secret: team-a}]}\n",
			"team/x.yaml:3:18: team/x.yaml may not use the source mine"},
		"secret of a source document": {"watchers/x.yaml", "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: mine}\nspec: {type: github, secrets: [{secret: team-a}]}\n",
			"watchers/x.yaml:4:41: watchers/x.yaml may not use the secret team-a"},
		"a document twice is told as ever": {"", "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: github}\nspec: {type: github, secrets: [{secret: team-a}]}\n", "Source github is there already, at platform/all.yaml:1"},
		"target document": {"", "apiVersion: riposte.dev/v1\nkind: Target\nmetadata: {name: mine}\nspec: {type: log, url: {secret: s}, fallback: boss}\n",
			"team/x.yaml:3:18: team/x.yaml may not use the target mine: grants[0] (team/**) does not list it\n    hint: add it to targets of that grant in the server's configuration\n" +
				"team/x.yaml:4:33: team/x.yaml may not use the secret s: grants[0] (team/**) does not list it\n    hint: add it to secrets of that grant in the server's configuration\n" +
				"team/x.yaml:4:47: team/x.yaml may not use the target boss"},
		"climbing out":                      {"team/../platform/x.yaml", teamRule("  trigger: {source: github}\n" + does), "no grant of the server's configuration matches team/../platform/x.yaml"},
		"from the root of the file system":  {"/platform/x.yaml", teamRule("  trigger: {source: github}\n" + does), "no grant"},
		"the grants' path is below another": {"x/platform/x.yaml", teamRule("  trigger: {source: github}\n" + does), "no grant"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.path == "" {
				c.path = "team/x.yaml"
			}
			_, err := rule.Load([]rule.File{platformFile, {Path: c.path, Data: []byte(c.text)}}, granting(teamGrants()))
			var problems document.Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatal(err)
			}
			if c.want == "" && len(problems) > 0 || !strings.Contains(problems.Error(), c.want) {
				t.Errorf("problems\n%s\nwant\n%s", problems, c.want)
			}
			if want := strings.Count(c.want, "hint:") + 1; c.want != "" && len(problems) > want {
				t.Errorf("more problems than there are:\n%s", problems)
			}
			if _, err := rule.Load([]rule.File{platformFile, {Path: c.path, Data: []byte(c.text)}}, granting(nil)); (err != nil) != (strings.Contains(c.want, "there is no") || strings.Contains(c.want, "is there already")) {
				t.Errorf("without grants: %v", err)
			}
		})
	}
}

// TestThePathIsThatInTheRepository, whatever directory it is shown with.
func TestThePathIsThatInTheRepository(t *testing.T) {
	text := []byte(teamRule("  trigger: {source: github}\n  steps: [{uses: do}]\n"))
	load := func(f rule.File) (*rule.Set, error) {
		return rule.Load([]rule.File{platformFile, f}, granting(teamGrants()))
	}
	shown, err := load(rule.File{Path: "/etc/rules/team/x.yaml", Within: "team/x.yaml", Data: text})
	if err != nil {
		t.Fatal(err)
	}
	if g := shown.Rule("r").Grant(); g.Number() != 0 || shown.Rule("r").File != "/etc/rules/team/x.yaml" {
		t.Errorf("grant %d", g.Number())
	}
	if _, err := load(rule.File{Path: "platform/x/other/x.yaml", Within: "other/x.yaml", Data: text}); err == nil {
		t.Error("the directory that rules are in grants something")
	}
	same, err := load(rule.File{Path: "/etc/rules/team/x.yaml", Within: "platform/team/x.yaml", Data: text})
	if err != nil || same.Digest == shown.Digest {
		t.Errorf("two sets with other rights have one digest: %v", err)
	}
}

// TestOnlyGrantedSourcesStartARule: what a trigger does not name it selects from the granted sources only, also of events
// whose source has no document any more; the index and the explanation agree.
func TestOnlyGrantedSourcesStartARule(t *testing.T) {
	grants := append(teamGrants(), grant.Spec{Paths: []string{"second/**"}, Sources: []string{"other"}, Actions: []string{"*"}})
	wide := "  trigger: {type: push}\n  steps: [{uses: do}]\n"
	set, err := rule.Load([]rule.File{
		platformFile,
		{Path: "team/x.yaml", Data: []byte(teamRule(wide))},
		{Path: "second/x.yaml", Data: []byte(strings.Replace(teamRule(wide), "name: r", "name: second", 1))},
		{Path: "platform/x.yaml", Data: []byte(strings.Replace(teamRule(wide), "name: r", "name: all", 1))},
		{Path: "team/y.yaml", Data: []byte(strings.Replace(teamRule("  trigger: {type: push}\n  correlate: {count: 2, within: 1h}\n  steps: [{uses: do}]\n"), "name: r", "name: twice", 1))},
	}, granting(grants))
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string][]string{"github": {"all", "r"}, "other": {"all", "second"}, "gone": {"all"}} {
		e := &event.Event{ID: "1", Source: source, Type: "push", Body: []byte("{}")}
		var matched, explained []string
		for _, v := range set.Match(t.Context(), e, time.Now()).Verdicts {
			matched = append(matched, v.Rule.Name)
		}
		for _, a := range set.Accounts(t.Context(), e, event.Paths{}, time.Now()) {
			switch p := a.Parts[0]; {
			case p.Selected && a.Rule.Name != "twice":
				explained = append(explained, a.Rule.Name)
			case !p.Selected && (p.NotGranted == nil || !strings.Contains(p.NotGranted.Error(), "may not use the source "+source)):
				t.Errorf("%s of %s: %v", a.Rule.Name, source, p.NotGranted)
			}
		}
		slices.Sort(matched)
		slices.Sort(explained)
		if !slices.Equal(matched, want) || !slices.Equal(explained, want) {
			t.Errorf("%s: %v start a run, %v are explained to, want %v", source, matched, explained, want)
		}
		if joins := set.Joins(t.Context(), e, time.Now()); len(joins.List) > 0 != (source == "github") {
			t.Errorf("%s: %d joins", source, len(joins.List))
		}
	}
}

// TestWhatAnExpressionNamesIsAskedWhenItIsUsed.
func TestWhatAnExpressionNamesIsAskedWhenItIsUsed(t *testing.T) {
	set, err := rule.Load([]rule.File{platformFile, {Path: "team/x.yaml", Data: []byte(teamRule(`  trigger: {source: github}
  steps:
    - {id: a, uses: unlock, with: {key: {secret: "${{ event.data.secret }}"}, to: ["${{ event.data.to }}"]}}
    - {id: b, uses: do, with: {to: "${{ event.data.to }}"}}
`))}}, granting(teamGrants()))
	if err != nil {
		t.Fatal(err)
	}
	r := set.Rule("r")
	for _, c := range []struct{ step, data, want string }{
		{"a", `{"secret": "team-a", "to": "chat"}`, ""},
		{"a", `{"secret": "s", "to": "chat"}`, "may not use the secret s"},
		{"a", `{"secret": "team-a", "to": "boss"}`, "may not use the target boss"},
		{"b", `{"to": "chat"}`, ""},
		{"b", `{"to": "pager"}`, "may not use the target pager"},
		{"b", `{"to": "nowhere"}`, "may not use the target nowhere"},
	} {
		e := &event.Event{ID: "1", Source: "github", Type: "push", Body: []byte(c.data)}
		_, _, err := r.Prepare(t.Context(), run.Main, c.step, rule.EventScope(e, time.Now()))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s %s: %v", c.step, c.data, err)
			}
			continue
		}
		refused(t, err, c.want)
	}

	// A target lends its secret, and its fallback, to those that may send to it.
	resolve := r.Secrets(func(ref action.SecretRef) (string, error) { return "value of " + ref.Secret, nil })
	for secret, want := range map[string]string{"team-b": "", "chat-url": "", "pager-url": "", "boss-url": "may not use the secret boss-url", "s": "may not use the secret s"} {
		value, err := resolve(action.SecretRef{Secret: secret})
		if want == "" && (err != nil || value != "value of "+secret) {
			t.Errorf("secret %s: %q, %v", secret, value, err)
		} else if want != "" {
			refused(t, err, want)
		}
	}
	for target, want := range map[string]string{"chat": "", "pager": "", "boss": "may not use the target boss"} {
		got, err := r.Target(target)
		if want == "" && (err != nil || got.Name != target) {
			t.Errorf("target %s: %v, %v", target, got, err)
		} else if want != "" {
			refused(t, err, want)
		}
	}
	if _, err := r.Secrets(nil)(action.SecretRef{Env: "HOME"}); err == nil {
		t.Error("a variable is read")
	}
}

// TestWhatWasActiveIsHeldToTheGrantsOfNow: rules that were activated with other grants load, and do nothing that these forbid.
func TestWhatWasActiveIsHeldToTheGrantsOfNow(t *testing.T) {
	files := []rule.File{platformFile, {Path: "team/x.yaml", Data: []byte(`apiVersion: riposte.dev/v1
kind: Source
metadata: {name: mine}
spec: {type: github, secrets: [{secret: s}]}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: bell}
spec: {type: log, url: {secret: s}}
---
apiVersion: riposte.dev/v1
kind: Target
metadata: {name: chain}
spec: {type: log, fallback: boss}
---
` + teamRule(`  trigger: {source: [github, other]}
  steps:
    - {id: a, uses: do}
    - {id: b, uses: unlock, with: {key: {secret: s}, to: [chat]}}
`))}}
	load := func(l grant.List) *rule.Set {
		o := granting(l)
		o.WasActive = true
		set, err := rule.Load(files, o)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	prepare := func(r *rule.Rule, step string) error {
		_, _, err := r.Prepare(context.Background(), run.Main, step, rule.EventScope(&event.Event{}, time.Now()))
		return err
	}
	now := teamGrants()
	now[0].Actions, now[0].Sources, now[0].Targets = []string{"unlock"}, []string{"github"}, []string{"bell", "chain"}
	set := load(now)
	r := set.Rule("r")
	for source, want := range map[string]int{"github": 1, "other": 0} {
		e := &event.Event{ID: "1", Source: source, Type: "push", Body: []byte("{}")}
		if m := set.Match(t.Context(), e, time.Now()); len(m.Verdicts) != want {
			t.Errorf("%s: %d rules", source, len(m.Verdicts))
		}
	}
	if _, observes := r.Observes(); observes {
		t.Error("it only observes")
	}
	refused(t, prepare(r, "a"), "may not use the action do")
	refused(t, prepare(r, "b"), "may not use the secret s")
	refused(t, prepare(r, "b"), "may not use the target chat")
	if err := set.Sources["mine"].Denied; err == nil || !strings.Contains(err.Error(), "the source mine") || !strings.Contains(err.Error(), "the secret s") {
		t.Errorf("the source: %v", err)
	}
	if err := set.Sources["github"].Denied; err != nil {
		t.Errorf("the source of another file: %v", err)
	}
	_, err := r.Target("bell")
	refused(t, err, "target bell: team/x.yaml may not use the secret s")
	if chain, err := r.Target("chain"); err != nil || chain.Fallback != "" {
		t.Errorf("a fallback that may not be: %+v, %v", chain, err)
	}
	_, err = r.Target("boss")
	refused(t, err, "may not use the target boss")

	// A rule that was activated with more than maxMode asks a person, where it may.
	now[0] = grant.Spec{Paths: []string{"team/**"}, Allow: grant.Everything, MaxMode: "approve"}
	r = load(now).Rule("r")
	if _, observes := r.Observes(); observes || !r.Plan.Approve {
		t.Errorf("it observes: %t, and asks: %t", observes, r.Plan.Approve)
	}

	// Otherwise it only observes, and runs of before go no further.
	now[0].MaxMode = "observe"
	r = load(now).Rule("r")
	if message, observes := r.Observes(); !observes || !strings.Contains(message, "has maxMode observe") {
		t.Errorf("%q, %t", message, observes)
	}
	refused(t, prepare(r, "a"), "may not have the mode auto")

	// Where no grant matches the file any more, nothing is left.
	set = load(now[1:])
	if m := set.Match(t.Context(), &event.Event{ID: "1", Source: "github", Type: "push", Body: []byte("{}")}, time.Now()); len(m.Verdicts) != 0 {
		t.Error("a rule without any grant is started")
	}
	refused(t, prepare(set.Rule("r"), "a"), "no grant matches it")
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	var r *action.RefusedError
	if !errors.As(err, &r) || r.Reason != run.ReasonNotGranted || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want a refusal with %q", err, want)
	}
}

// TestAStepActsAsTheAccountOfItsPath, and on no cluster where the grant of its path names none.
func TestAStepActsAsTheAccountOfItsPath(t *testing.T) {
	file := func(path string) []rule.File {
		return []rule.File{platformFile, {Path: path, Data: []byte(teamRule("  trigger: {source: github}\n  steps: [{id: a, uses: mend}, {id: b, uses: do}]\n"))}}
	}
	grants := grant.List{
		{Paths: []string{"team/**"}, Sources: []string{"github"}, Actions: []string{"*"}, Targets: []string{"*"}, Kubernetes: grant.Kubernetes{ServiceAccount: "shop/healer"}},
		{Paths: []string{"poor/**"}, Sources: []string{"github"}, Actions: []string{"*"}, Targets: []string{"*"}},
		{Paths: []string{"**"}, Allow: grant.Everything},
	}
	load := func(path string, l grant.List, wasActive bool) (*rule.Set, error) {
		o := granting(l)
		o.Actions["mend"] = action.Definition{Name: "mend", Params: &struct{}{}, Rights: []action.Right{{Resources: []string{"pods"}, Verbs: []string{"get"}}}}
		o.WasActive = wasActive
		return rule.Load(file(path), o)
	}
	for path, want := range map[string]string{"team/x.yaml": "shop/healer", "platform/x.yaml": ""} {
		set, err := load(path, grants, false)
		if err != nil {
			t.Fatal(err)
		}
		r := set.Rule("r")
		if got := r.ServiceAccount(run.Main, "a"); got != want {
			t.Errorf("%s acts as %q, want %q", path, got, want)
		}
		if got := r.ServiceAccount(run.Main, "b"); got != "" {
			t.Errorf("a step that acts on no cluster acts as %q", got)
		}
	}
	if _, err := load("poor/x.yaml", grants, false); err == nil || !strings.Contains(err.Error(), "may not act on Kubernetes") || !strings.Contains(err.Error(), "kubernetes.serviceAccount") {
		t.Errorf("error is %v", err)
	}
	set, err := load("poor/x.yaml", grants, true)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = set.Rule("r").Prepare(t.Context(), run.Main, "a", rule.EventScope(&event.Event{ID: "1", Source: "github", Type: "push", Body: []byte("{}")}, time.Now()))
	refused(t, err, "may not act on Kubernetes")
}
