package rule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

type kinds struct {
	Text   string         `yaml:"text"`
	Number int64          `yaml:"number"`
	Share  float64        `yaml:"share"`
	Yes    bool           `yaml:"yes"`
	List   []any          `yaml:"list"`
	Map    map[string]any `yaml:"map"`
	Any    any            `yaml:"any"`
}

type secretParams struct {
	Token *action.SecretRef `yaml:"token,omitempty"`
	Any   any               `yaml:"any,omitempty"`
}

// language is options with actions that change something, that ask, that tell and that take secrets.
func language() rule.Options {
	o := options()
	o.Actions["fix"] = action.Definition{Name: "fix", Params: &params{}, Outputs: outputs{}, Changes: true, Replaces: []string{"pod"}}
	o.Actions["ask"] = action.Definition{Name: "ask", Params: &params{}, Outputs: kinds{}}
	o.Actions["tell"] = action.Definition{Name: "tell", Params: &params{}, Changes: true, Tells: true}
	o.Actions["use"] = action.Definition{Name: "use", Params: &secretParams{}}
	return o
}

const onPush = "  trigger: {source: github, type: push}\n"

// workflowDoc is a Workflow document with the name.
func workflowDoc(name, spec string) string {
	return "apiVersion: riposte.dev/v1\nkind: Workflow\nmetadata: {name: " + name + "}\nspec:\n" + spec + "---\n"
}

// ship is a workflow that the cases use.
const ship = "  inputs: {to: {type: string}, times: {type: int, default: 1}, extra: {type: map, default: {}}}\n" +
	"  steps: [{id: a, uses: ask}]\n" +
	"  outputs: {n: {type: int, value: \"${{ steps.a.outputs.number }}\"}}\n"

// TestTheLanguageSaysWhatIsWrongAndWhere: ¦ marks the place of the one problem there is.
func TestTheLanguageSaysWhatIsWrongAndWhere(t *testing.T) {
	many := "  steps: [" + strings.Repeat("{uses: do}, ", 1000) + "¦{uses: do}]\n"
	long := "[" + strings.TrimSuffix(strings.Repeat("1, ", 501), ", ") + "]"
	limits := strings.Repeat("{runs: 1, per: 1h}, ", 20)
	for _, tc := range []struct{ name, doc, want string }{
		// steps and what they read
		{"a step below", onPush + "  steps: [{id: a, uses: do, if: steps.¦b.state == 'failed'}, {id: b, uses: do}]\n", "if: step b stands below"},
		{"the step itself", onPush + "  steps: [{id: a, uses: do, with: {any: \"${{ steps.¦a.state }}\"}}]\n", "with.any: step a can't read"},
		{"no such step", onPush + "  steps: [{id: alpha, uses: do}, {id: b, uses: do, if: steps.¦alpah.state == 'failed'}]\n", "if: there is no step alpah"},
		{"no step in verify", onPush + "  steps: [{id: a, uses: do}]\n  verify: {uses: ask, expect: steps.¦b.outputs.dir == ''}\n", "expect: there is no step b"},
		{"no step in what the probe is given", onPush + "  steps: [{id: a, uses: do}]\n  verify: {uses: ask, with: {any: \"${{ steps.¦b.state }}\"}, expect: probe.outputs.yes}\n", "with.any: there is no step b"},
		{"no step in onFailure", onPush + "  steps: [{id: a, uses: do}]\n  onFailure: [{uses: do, with: {any: \"${{ steps.¦b.state }}\"}}]\n", "with.any: there is no step b"},
		{"a step below in onFailure", onPush + "  steps: [{id: a, uses: do}]\n  onFailure: [{id: b, uses: do, if: steps.¦c.state == ''}, {id: c, uses: do}]\n", "if: step c stands below"},
		{"a step of onFailure in finally", onPush + "  steps: [{id: a, uses: do}]\n  onFailure: [{id: b, uses: do}]\n  finally: [{uses: do, if: steps.¦b.state == ''}]\n", "if: step b is one of onFailure"},
		{"an output of a step without it", onPush + "  steps: [{id: a, uses: ask}, {uses: do, if: steps.a.outputs.¦nummer == 1}]\n", "if: unknown field nummer of steps.a.outputs"},
		{"a step in when", onPush + "  when: ¦steps.a.state == ''\n  steps: [{id: a, uses: do}]\n", "when: steps can't be read here: no step has begun yet"},
		{"an input in a rule", onPush + "  steps: [{uses: do, if: ¦inputs.a}]\n", "if: inputs can't be read here"},
		{"correlated in a rule that does not correlate", onPush + "  steps: [{uses: do, if: ¦correlated.key == ''}]\n", "if: correlated can't be read here"},
		{"run.item outside of a forEach", onPush + "  steps: [{uses: do, if: run.¦item == 1}]\n", "if: run.item is known only in a step with forEach"},
		{"run.item in its own forEach", onPush + "  steps: [{uses: do, forEach: run.¦item}]\n", "forEach: run.item is known only"},
		{"run.item in verify", onPush + "  steps: [{uses: do, forEach: [1]}]\n  verify: {uses: ask, with: {any: \"${{ run.¦item }}\"}, expect: probe.outputs.yes}\n", "with.any: run.item is known only"},
		{"run.index in expect", onPush + "  steps: [{uses: do}]\n  verify: {uses: ask, expect: run.¦index == 1}\n", "expect: run.index is known only"},
		{"probe in a step", onPush + "  steps: [{uses: do, if: ¦probe.outputs.yes}]\n", "if: probe can't be read here"},
		{"outputs of one item", onPush + "  steps: [{id: a, uses: ask, forEach: [1]}, {uses: do, if: steps.a.outputs.¦number == 1}]\n", "if: unknown field number of steps.a.outputs"},
		{"too many steps", onPush + many, "with this step there are 1001"},

		// needs
		{"needs a step below", onPush + "  steps: [{id: a, uses: do, needs: [¦b]}, {id: b, uses: do}]\n", "needs: step b stands below"},
		{"needs itself", onPush + "  steps: [{id: a, uses: do, needs: ¦a}]\n", "needs: step a can't wait for itself"},
		{"needs what there is not", onPush + "  steps: [{id: alpha, uses: do}, {id: b, uses: do, needs: [alpha, ¦alhpa]}]\n", `needs: there is no step "alhpa" above`},
		{"onFailure needs a step of the rule", onPush + "  steps: [{id: a, uses: do}]\n  onFailure: [{uses: do, needs: [¦a]}]\n", "needs: step a is one of the rule's steps"},
		{"needs an empty name", onPush + "  steps: [{uses: do, needs: [¦\"\"]}]\n", "needs: a step has a name"},

		// retry, timeout, forEach
		{"retry on what there is not", onPush + "  steps: [{uses: do, retry: {attempts: 2, on: [failed, ¦timedout]}}]\n", `retry.on: "timedout" is none of`},
		{"retry on nothing", onPush + "  steps: [{uses: do, retry: {attempts: 2, on: ¦[]}}]\n", "retry.on is empty"},
		{"no attempts", onPush + "  steps: [{uses: do, retry: {attempts: ¦0}}]\n", "retry.attempts is 0"},
		{"too short a longest pause", onPush + "  steps: [{uses: do, retry: {attempts: 2, backoff: 1m, maxBackoff: ¦30s}}]\n", "retry.maxBackoff is 30s"},
		{"no time", onPush + "  steps: [{uses: do, timeout: ¦0s}]\n", "timeout must be longer than nothing"},
		{"no time for the run", onPush + "  timeout: ¦0s\n  steps: [{uses: do}]\n", "timeout must be longer than nothing"},
		{"forEach over a number", onPush + "  steps: [{uses: do, forEach: ¦3}]\n", "forEach must be an expression"},
		{"forEach over a text", onPush + "  steps: [{uses: do, forEach: ¦'\"a\"'}]\n", "forEach needs a list, and this is a string"},
		{"forEach without a list", onPush + "  steps: [{uses: do, forEach: ¦{parallel: 3}}]\n", "forEach: in is missing"},
		{"forEach of too many at once", onPush + "  steps: [{uses: do, forEach: {in: [1], parallel: ¦101}}]\n", "forEach.parallel is 101"},
		{"forEach of a misspelling", onPush + "  steps: [{uses: do, forEach: {in: [1], ¦atOnce: 2}}]\n", "forEach: unknown field atOnce"},
		{"forEach over too much", onPush + "  steps: [{uses: do, forEach: ¦" + long + "}]\n", "forEach has 501 items"},

		// limits and concurrency
		{"a limit's key of a step", onPush + "  limits: [{runs: 1, per: 1h, by: ¦steps.a.state}]\n  steps: [{id: a, uses: do}]\n", "limits[0].by: steps can't be read here"},
		{"a limit's key that is none", onPush + "  limits: [{runs: 1, per: 1h, by: ¦3}]\n  steps: [{uses: do}]\n", "limits[0].by must be an expression"},
		{"a limit without keys", onPush + "  limits: [{runs: 1, per: 1h, by: ¦[]}]\n  steps: [{uses: do}]\n", "limits[0].by is empty"},
		{"a limit's misspelt key", onPush + "  limits: [{runs: 1, per: 1h, by: [event.source, event.alert.¦lables]}]\n  steps: [{uses: do}]\n", "limits[0].by: unknown field lables"},
		{"a limit without a time", onPush + "  limits: [{runs: 1, per: ¦0s}]\n  steps: [{uses: do}]\n", "limits[0].per must be longer"},
		{"a limit of no run", onPush + "  limits: [{runs: ¦0, per: 1h}]\n  steps: [{uses: do}]\n", "limits[0].runs is 0"},
		{"many limits", onPush + "  limits: ¦[" + limits + "{runs: 1, per: 1h}]\n  steps: [{uses: do}]\n", "21 limits"},
		{"limits that are no list", onPush + "  limits: ¦{runs: 1, per: 1h}\n  steps: [{uses: do}]\n", "limits must be a list"},
		{"a group that is no text", onPush + "  concurrency: {group: ¦[a]}\n  steps: [{uses: do}]\n", "concurrency.group must be a text"},
		{"a number for a group", onPush + "  concurrency: {group: ¦3}\n  steps: [{uses: do}]\n", "concurrency.group must be a text"},
		{"an empty group", onPush + "  concurrency: {group: ¦\"\"}\n  steps: [{uses: do}]\n", "concurrency.group is empty"},
		{"no group", onPush + "  concurrency: ¦{policy: skip}\n  steps: [{uses: do}]\n", "concurrency.group is missing"},
		{"a policy that is none", onPush + "  concurrency: {group: a, policy: ¦newest}\n  steps: [{uses: do}]\n", `concurrency.policy is "newest"`},
		{"a group of a step", onPush + "  concurrency: {group: \"a ${{ ¦steps.a.state }}\"}\n  steps: [{id: a, uses: do}]\n", "concurrency.group: steps can't be read here"},
		{"concurrency of nothing", onPush + "  ¦concurrency:\n  steps: [{uses: do}]\n", "concurrency is empty"},

		// verify
		{"verify of nothing", onPush + "  steps: [{uses: do}]\n  ¦verify:\n", "verify is empty"},
		{"verify that asks nothing", onPush + "  steps: [{uses: do}]\n  verify: ¦{within: 1h}\n", "verify says nothing"},
		{"verify with both", onPush + "  steps: [{uses: do}]\n  verify: ¦{resolved: true, uses: ask, expect: true}\n", "verify has resolved and a probe"},
		{"verify with a change", onPush + "  steps: [{uses: do}]\n  verify: {uses: ¦fix, expect: probe.outputs.dir == ''}\n", "verify.uses: fix changes something"},
		{"verify with a message", onPush + "  steps: [{uses: do}]\n  verify: {uses: ¦tell, expect: true}\n", "verify.uses: tell changes something"},
		{"verify with a workflow", onPush + "  steps: [{uses: do}]\n  verify: {uses: ¦workflow/ship, expect: true}\n", "verify.uses must be an action"},
		{"verify with what there is not", onPush + "  steps: [{uses: do}]\n  verify: {uses: ¦aks, expect: probe.outputs.yes}\n", `there is no action "aks"`},
		{"verify that expects nothing", onPush + "  steps: [{uses: do}]\n  verify: ¦{uses: ask}\n", "verify does not say what to expect"},
		{"verify that expects a number", onPush + "  steps: [{uses: do}]\n  verify: {uses: ask, expect: '¦len(event.type)'}\n", "expect: condition is a number"},
		{"an output the probe has not", onPush + "  steps: [{uses: do}]\n  verify: {uses: ask, expect: probe.outputs.¦no}\n", "expect: unknown field no of probe.outputs"},
		{"verify longer than its time", onPush + "  steps: [{uses: do}]\n  verify: {resolved: true, for: ¦20m}\n", "verify.for is 20m0s"},
		{"verify in a flood", onPush + "  steps: [{uses: do}]\n  verify: {uses: ask, expect: probe.outputs.yes, every: ¦10ms}\n", "verify.every is 10ms"},
		{"verify in no time", onPush + "  steps: [{uses: do}]\n  verify: {resolved: true, within: ¦0s}\n", "within must be longer than nothing"},
		{"verify without attempts", onPush + "  steps: [{uses: do}]\n  verify: {resolved: true, attempts: ¦0}\n", "verify.attempts is 0"},
		{"what the probe is given is no map", onPush + "  steps: [{uses: do}]\n  verify: {uses: ask, with: ¦[], expect: probe.outputs.yes}\n", "verify.with must be a map"},
		{"resolved where several events count", onPush + "  correlate: {count: 2, within: 1h}\n  steps: [{uses: do}]\n  verify: {resolved: ¦true}\n", "verify.resolved knows the alert"},

		// workflows that are used
		{"no such workflow", onPush + "  steps: [{uses: ¦workflow/shop}]\n", `there is no Workflow "shop"`},
		{"a workflow without its kind", onPush + "  steps: [{uses: ¦ship}]\n", `there is no action "ship"`},
		{"an input there is not", onPush + "  steps: [{uses: workflow/ship, with: {to: a, ¦time: 2}}]\n", `workflow ship has no input "time"`},
		{"an input that is missing", onPush + "  steps: [{uses: workflow/ship, with: ¦{times: 2}}]\n", "input to of workflow ship is missing"},
		{"all inputs are missing", onPush + "  steps: [¦{uses: workflow/ship}]\n", "input to of workflow ship is missing"},
		{"an input of another type", onPush + "  steps: [{uses: workflow/ship, with: {to: ¦3}}]\n", "input to of workflow ship: it must be of type string, and is 3"},
		{"an expression of another type", onPush + "  steps: [{uses: workflow/ship, with: {to: ¦\"${{ len(event.type) }}\"}}]\n", "input to of workflow ship: it must be of type string, and is of type number"},
		{"a text with an expression in it", onPush + "  steps: [{uses: workflow/ship, with: {to: a, times: ¦\"a ${{ 1 }}\"}}]\n", "input times of workflow ship: it must be of type int, and is of type string"},
		{"an output of another type", onPush + "  steps: [{id: a, uses: ask}, {uses: workflow/ship, with: {to: ¦\"${{ steps.a.outputs.yes }}\"}}]\n", "input to of workflow ship: it must be of type string, and is of type bool"},
		{"outputs of items of another type", onPush + "  steps: [{id: a, uses: ask, forEach: [1]}, {uses: workflow/ship, with: {to: ¦\"${{ steps.a.outputs.items }}\"}}]\n", "of type list"},
		{"a workflow's output of another type", onPush + "  steps: [{id: a, uses: workflow/ship, with: {to: a}}, {uses: workflow/ship, with: {to: ¦\"${{ steps.a.outputs.n }}\"}}]\n", "of type int"},
		{"a workflow's output there is not", onPush + "  steps: [{id: a, uses: workflow/ship, with: {to: a}}, {uses: do, if: steps.a.outputs.¦m == 1}]\n", "if: unknown field m of steps.a.outputs"},
		{"outputs of a workflow's items", onPush + "  steps: [{id: a, uses: workflow/ship, forEach: [1], with: {to: a}}, {uses: do, if: steps.a.outputs.¦n == 1}]\n", "if: unknown field n of steps.a.outputs"},
		{"a workflow's inner steps", onPush + "  steps: [{id: w, uses: workflow/ship, with: {to: a}}, {uses: do, if: steps.¦a.state == ''}]\n", "if: there is no step a"},
		{"onInterrupt of a workflow", onPush + "  steps: [{uses: workflow/ship, onInterrupt: ¦retry, with: {to: a}}]\n", "onInterrupt says nothing of a workflow"},
		{"a misspelling in what is handed over", onPush + "  steps: [{uses: workflow/ship, with: {to: \"${{ event.git.¦brnch }}\"}}]\n", "with.to: unknown field brnch"},
		{"a secret that is not declared, handed over", onPush + "  steps: [{uses: workflow/ship, with: {to: a, extra: {token: {secret: ¦undeclared}}}}]\n", "secret undeclared is not declared"},
		{"a secret that is not declared", onPush + "  steps: [{uses: use, with: {token: {secret: ¦undeclared}}}]\n", "secret undeclared is not declared"},
		{"a variable", onPush + "  steps: [{uses: use, with: {token: {env: ¦HOME}}}]\n", "{env: HOME} is read only under serve --dev"},
	} {
		t.Run(tc.name, func(t *testing.T) { onlyProblem(t, workflowDoc("ship", ship)+ruleDoc(tc.doc), tc.want) })
	}
}

// onlyProblem loads a document with one problem, at the mark.
func onlyProblem(t *testing.T, doc, want string) {
	t.Helper()
	before, after, ok := strings.Cut(doc, "¦")
	if !ok {
		t.Fatal("no mark")
	}
	line := strings.Count(before, "\n") + 1
	column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
	_, problems := loadWith(t, before+after, language())
	if len(problems) != 1 {
		t.Fatalf("%d problems:\n%s", len(problems), problems)
	}
	if p := problems[0]; p.Line != line || p.Column != column || !strings.Contains(p.Msg, want) {
		t.Errorf("%d:%d: %s\nwant %d:%d: %s", p.Line, p.Column, p.Msg, line, column, want)
	}
}

func TestAWorkflowSaysWhatIsWrongAndWhere(t *testing.T) {
	const a = "  steps: [{id: a, uses: ask}]\n"
	for _, tc := range []struct{ name, doc, want string }{
		{"unused, and wrong", "  steps: [{uses: ¦nothing}]\n", `there is no action "nothing"`},
		{"the event", "  steps: [{uses: do, with: {any: \"${{ ¦event.type }}\"}}]\n", "with.any: a workflow does not know the event"},
		{"what was correlated", "  steps: [{uses: do, if: ¦correlated.key == ''}]\n", "if: correlated can't be read here"},
		{"what changed", "  steps: [{uses: do, if: ¦changed('a')}]\n", "a workflow does not know the event, and so not what it changed"},
		{"what changed, in a text", "  steps: [{uses: do, with: {any: ¦\"${{ changed('a') }}\"}}]\n", "a workflow does not know the event, and so not what it changed"},
		{"an input there is not", "  inputs: {dir: {type: string}}\n  steps: [{uses: do, with: {any: \"${{ inputs.¦dri }}\"}}]\n", "with.any: unknown field dri of inputs"},
		{"an input's name", "  inputs: {¦a-b: {type: string}}\n" + a, `input "a-b" is not letters`},
		{"an input's type", "  inputs: {a: {type: ¦number, default: 1}}\n" + a, `inputs.a.type is "number"`},
		{"a default of another type", "  inputs: {a: {type: int, default: ¦many}}\n" + a, "default of input a: it must be of type int, and is the text \"many\""},
		{"a default of null", "  inputs: {a: {type: int, default: ¦null}}\n" + a, "default of input a: it must be of type int, and is null"},
		{"a default with an expression", "  inputs: {a: {type: string, default: ¦\"${{ run.id }}\"}}\n" + a, "default of input a must not hold ${{ }}"},
		{"a default with an expression in it", "  inputs: {a: {type: list, default: ¦[{b: \"${{ run.id }}\"}]}}\n" + a, "default of input a must not hold ${{ }}"},
		{"a default secret that is not declared", "  inputs: {a: {type: map, default: {token: {secret: ¦undeclared}}}}\n" + a, "secret undeclared is not declared"},
		{"no steps", "  steps: ¦[]\n", "steps is empty"},
		{"no time", "  timeout: ¦0s\n" + a, "timeout must be longer"},
		{"an output's name", a + "  outputs: {¦a-b: {type: string, value: a}}\n", `output "a-b" is not letters`},
		{"an output without a value", a + "  outputs: {b: ¦{type: string}}\n", "outputs.b.value is missing"},
		{"an output of another type", a + "  outputs: {b: {type: int, value: ¦many}}\n", "output b: it must be of type int"},
		{"an output whose expression is of another type", a + "  outputs: {b: {type: bool, value: ¦\"${{ steps.a.outputs.number }}\"}}\n", "output b: it must be of type bool, and is of type int"},
		{"a comparison as a text", a + "  outputs: {b: {type: string, value: ¦\"${{ steps.a.outputs.number > 1 }}\"}}\n", "output b: it must be of type string, and is of type bool"},
		{"an input as another type", "  inputs: {x: {type: list}}\n" + a + "  outputs: {b: {type: string, value: ¦\"${{ inputs.x }}\"}}\n", "output b: it must be of type string, and is of type list"},
		{"an output of a step there is not", a + "  outputs: {b: {type: int, value: \"${{ steps.¦c.outputs.number }}\"}}\n", "outputs.b: there is no step c"},
		{"itself", "  steps: [{uses: ¦workflow/w}]\n", "workflow w uses itself: w → w"},
		{"a part that only rules have", "  ¦trigger: {source: github}\n" + a, "unknown field trigger"},
	} {
		t.Run(tc.name, func(t *testing.T) { onlyProblem(t, workflowDoc("w", tc.doc), tc.want) })
	}
	t.Run("a circle is told once", func(t *testing.T) {
		onlyProblem(t, workflowDoc("a", "  steps: [{id: b, uses: workflow/b}, {uses: do, if: steps.b.outputs.anything}]\n")+
			workflowDoc("b", "  steps: [{uses: ¦workflow/a}]\n")+
			ruleDoc(onPush+"  steps: [{id: a, uses: workflow/a, with: {x: 1}}, {uses: do, if: steps.a.outputs.anything}]\n"), "workflow a uses itself: a → b → a")
	})
}

// TestWorkflowsStandInOneAnotherOnlySoDeep loads chains of workflows, from either end.
func TestWorkflowsStandInOneAnotherOnlySoDeep(t *testing.T) {
	chain := func(deep int, mark string, names string) string {
		var docs []string
		for i := range deep {
			uses := "do"
			if i+1 < deep {
				uses = "workflow/" + names[i+1:i+2]
			}
			if i == 4 {
				uses = mark + uses
			}
			docs = append(docs, workflowDoc(names[i:i+1], "  steps: [{uses: "+uses+"}]\n"))
		}
		return strings.Join(docs, "")
	}
	if _, problems := loadWith(t, chain(5, "", "abcde")+ruleDoc(onPush+"  steps: [{uses: workflow/a}]\n"), language()); problems != nil {
		t.Errorf("five deep: %s", problems)
	}
	onlyProblem(t, chain(6, "¦", "abcdef"), "workflows stand more than 5 deep")
	docs := strings.SplitAfter(chain(6, "", "abcdef"), "---\n")
	for i, j := 0, len(docs)-1; i < j; i, j = i+1, j-1 {
		docs[i], docs[j] = docs[j], docs[i]
	}
	_, problems := loadWith(t, strings.Join(docs, ""), language())
	if len(problems) != 1 || !strings.Contains(problems[0].Msg, "more than 5 deep") {
		t.Errorf("from the innermost on: %s", problems)
	}
}

// TestWorkflowsThatMultiplyAreRefused: few lines must not become more steps than anything can hold.
func TestWorkflowsThatMultiplyAreRefused(t *testing.T) {
	var doc strings.Builder
	uses := "do"
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		doc.WriteString(workflowDoc(name, "  steps: ["+strings.Repeat("{uses: "+uses+"}, ", 100)+"]\n"))
		uses = "workflow/" + name
	}
	began := time.Now()
	_, problems := loadWith(t, doc.String()+ruleDoc(onPush+"  steps: [{uses: workflow/e}]\n"), language())
	if len(problems) != 1 || !strings.Contains(problems[0].Msg, "a rule has at most 1000") {
		t.Errorf("%d problems: %.300s", len(problems), problems)
	}
	if took := time.Since(began); took > 30*time.Second { // far beyond a busy machine
		t.Errorf("it took %s", took)
	}
	if _, problems := loadWith(t, workflowDoc("a", "  steps: ["+strings.Repeat("{uses: do}, ", 99)+"]\n")+
		ruleDoc(onPush+"  steps: ["+strings.Repeat("{uses: workflow/a}, ", 10)+"]\n"), language()); problems != nil {
		t.Errorf("a thousand steps: %s", problems)
	}
}

// TestWhatTheLanguageLeavesOpen loads rules with all of it, and looks at what the engine is told.
func TestWhatTheLanguageLeavesOpen(t *testing.T) {
	set, problems := loadWith(t, workflowDoc("ship", ship)+ruleDoc(onPush+`
  mode: approve
  correlate: {count: 2, within: 1h, by: event.git.repo}
  limits: [{runs: 2, per: 1h, by: [correlated.key, event.git.branch]}, {runs: 9, per: 1d}]
  concurrency: {group: "r-${{ correlated.key }}"}
  timeout: 2h
  steps:
    - {id: a, uses: do}
    - {id: b, uses: do, needs: []}
    - {id: c, uses: workflow/ship, needs: [a], with: {to: "${{ steps.b.outputs.dir }}"}, timeout: 5m, continueOnError: true}
    - {id: d, uses: fix, forEach: {in: "steps.c.outputs.n > 1 ? [1] : []", parallel: 3}, if: run.item == 1, retry: {attempts: 3, backoff: 0s, on: [timeout]}}
    - {id: e, uses: do, forEach: ["${{ steps.a.state }}", 2], if: steps.d.state == "succeeded", onInterrupt: fail}
  verify: {uses: ask, with: {any: "${{ steps.d.outputs.items }}"}, expect: probe.outputs.yes, backoff: 0s, attempts: 2}
  onFailure: [{id: a, uses: tell}, {uses: do, with: {any: "${{ steps.a.state }} ${{ steps.e.state }} ${{ run.reason }}"}}]
  finally: [{uses: do, if: steps.a.state == "succeeded"}]
`), language())
	if problems != nil {
		t.Fatal(problems)
	}
	r := set.Rule("r")
	var got []string
	for _, s := range r.Plan.Steps {
		got = append(got, fmt.Sprint(s.ID, s.Needs, s.Parallel, s.Changes, s.RetryInterrupted, s.Timeout, len(s.Steps)))
	}
	want := "a[] 0 false true 0s 0 b[] 0 false true 0s 0 c[a b] 0 false false 5m0s 1 d[c] 3 true false 0s 0 e[d a] 1 false false 0s 0"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("steps\n%s\nwant\n%s", s, want)
	}
	if d := r.Plan.Steps[3].Retry; d.Attempts != 3 || d.Backoff != 0 || len(d.On) != 1 {
		t.Errorf("retry %+v", d)
	}
	if v := r.Plan.Verify; v.Every != 30*time.Second || v.Within != 15*time.Minute || v.Backoff != 0 || v.Attempts != 2 || v.Probe.Timeout != time.Minute {
		t.Errorf("verify %+v", v)
	}
	if !r.Plan.Approve || !r.Heals() || !r.Limited() || r.Plan.Timeout != 2*time.Hour || r.Plan.Steps[3].Retry.Jitter == 0 {
		t.Errorf("plan %+v", r.Plan)
	}
	if told := set.Rule("r").Plan.OnFailure; told[0].Changes || len(told[1].Needs) != 1 {
		t.Errorf("onFailure %+v", told)
	}
}

func TestAdmissionNamesGroupsAndKeys(t *testing.T) {
	set, problems := loadWith(t, ruleDoc(onPush+`
  limits: [{runs: 2, per: 1h, by: event.data.env}, {runs: 9, per: 1d}]
  concurrency: {group: "${{ event.data.env }}", policy: skip}
  steps: [{uses: do}]
`), language())
	if problems != nil {
		t.Fatal(problems)
	}
	for body, want := range map[string]string{
		`{"env": "prod"}`: `prod ["r",0,"prod"]`,
		`{"env": ""}`:     `"" ["r",0,""]`, // not the same as no group
		`{"env": 3}`:      `3 ["r",0,"3"]`,
		`{"env": null}`:   `null ["r",0,"null"]`,
	} {
		a, err := set.Rule("r").Admission(t.Context(), rule.EventScope(push(body), time.Now()))
		if err != nil || a.Group+" "+a.Limits[0].Key != want || a.Limits[1].Key != `["r",1,""]` || a.Policy != "skip" {
			t.Errorf("%s: %+v, %v", body, a, err)
		}
	}
	a, err := set.Rule("r").Admission(t.Context(), rule.EventScope(push(`{"env": "`+strings.Repeat("é", 1<<20)+`"}`), time.Now()))
	if err != nil || len(a.Group) > 256 || len(a.Limits[0].Key) > 300 {
		t.Errorf("a key of 2 MB has %d bytes, and its group %d: %v", len(a.Limits[0].Key), len(a.Group), err)
	}
	if _, err := set.Rule("r").Admission(t.Context(), rule.EventScope(push(`{}`), time.Now())); err == nil || !strings.Contains(err.Error(), "concurrency.group: ") {
		t.Errorf("an absent group: %v", err)
	}
}

// TestAMapThatLooksLikeASecretIsNone: only where a parameter is one, a secret is looked for.
func TestAMapThatLooksLikeASecretIsNone(t *testing.T) {
	if _, problems := loadWith(t, ruleDoc(onPush+"  steps: [{uses: use, with: {any: {env: prod}}}, {uses: use, with: {any: [{secret: undeclared}]}}]\n"), language()); problems != nil {
		t.Error(problems)
	}
}

// TestARuleComesByNoSecretThroughAWorkflow: a workflow lends its own rights, and a name of a secret is none of them.
func TestARuleComesByNoSecretThroughAWorkflow(t *testing.T) {
	files := func(with string) []rule.File {
		return []rule.File{
			{Path: "platform/w.yaml", Data: []byte(workflowDoc("w", "  inputs: {token: {type: map}}\n  steps: [{id: a, uses: use, with: {token: \"${{ inputs.token }}\"}}]\n") + githubDoc)},
			{Path: "team/r.yaml", Data: []byte("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n" + onPush + "  steps: [{id: w, uses: workflow/w, with: {token: " + with + "}}]\n")},
		}
	}
	o := language()
	grants := grant.List{
		{Paths: []string{"platform/**"}, Allow: grant.Everything},
		{Paths: []string{"team/**"}, Sources: []string{"*"}, Actions: []string{"workflow/*"}, Secrets: []string{"team-*"}},
	}
	o.Grants = grants.Of
	if _, err := rule.Load(files("{secret: root}"), o); err == nil || !strings.Contains(err.Error(), "team/r.yaml:6:60: ") || !strings.Contains(err.Error(), "root") {
		t.Errorf("a secret of others, handed over: %v", err)
	}
	set, err := rule.Load(files(`"${{ {\"secret\": event.data.name} }}"`), o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"team-a": "", "root": "refused (NotGranted)"} {
		_, err := set.Rule("r").Inputs(t.Context(), run.Main, "w", rule.EventScope(push(`{"name": "`+name+`"}`), time.Now()))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("secret %s: %v", name, err)
		}
	}
}

func TestInputsAndOutputsKeepTheirTypes(t *testing.T) {
	set, problems := loadWith(t, workflowDoc("w", `
  inputs: {s: {type: string, default: x}, i: {type: int, default: 2.0}, f: {type: float, default: 3}, b: {type: bool, default: false}, l: {type: list, default: []}, m: {type: map, default: {}}}
  steps: [{id: a, uses: ask}]
  outputs: {i: {type: int, value: "${{ inputs.f }}"}, s: {type: string, value: "${{ inputs.s }}!"}}
`)+ruleDoc(onPush+"  steps: [{id: w, uses: workflow/w, with: {f: \"${{ event.data.f }}\"}}]\n"), language())
	if problems != nil {
		t.Fatal(problems)
	}
	for body, want := range map[string]string{
		`{"f": 4}`:                    "map[b:false f:4 i:2 l:[] m:map[] s:x]",
		`{"f": 36893488147419103232}`: "map[b:false f:3.6893488147419103e+19 i:2 l:[] m:map[] s:x]",
		`{"f": "4"}`:                  "input f of workflow w: it must be of type float, and is the text \"4\"",
		`{"f": null}`:                 "input f of workflow w: it must be of type float, and is null",
	} {
		in, err := set.Rule("r").Inputs(t.Context(), run.Main, "w", rule.EventScope(push(body), time.Now()))
		got := fmt.Sprint(map[string]any(in))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	scope := rule.EventScope(push(`{}`), time.Now())
	for f, want := range map[float64]string{4: "map[i:4 s:x!]", 4.5: "output i of workflow w: it must be of type int, and is 4.5", 1e300: "output i of workflow w: it must be of type int, and is 1e+300"} {
		scope.Vars["inputs"] = map[string]any{"f": f, "s": "x"}
		out, err := set.Rule("r").Outputs(t.Context(), run.Main, "w", scope)
		got := fmt.Sprint(map[string]any(out))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

// TestAWorkflowByHand: it takes its inputs from event.data.inputs, and may use what its own file may.
func TestAWorkflowByHand(t *testing.T) {
	set, problems := loadWith(t, workflowDoc("ship", ship)+githubDoc, language())
	if problems != nil {
		t.Fatal(problems)
	}
	r, ok := set.ByHand("workflow/ship")
	if _, unknown := set.ByHand("workflow/shop"); !ok || unknown {
		t.Fatal("it is not found, or one there is not")
	}
	for body, want := range map[string]string{
		`{"inputs": {"to": "a"}}`: "map[extra:map[] times:1 to:a]", `{"inputs": {"to": "a", "times": 3, "extra": {"secret": "s"}}}`: "map[extra:map[secret:s] times:3 to:a]",
		`{"inputs": {}}`: "event.data.inputs.to", `{}`: "event.data.inputs",
	} {
		in, err := r.Inputs(t.Context(), run.Main, "workflow", rule.EventScope(&event.Event{Source: event.OwnSource, Body: []byte(body)}, time.Now()))
		got := fmt.Sprint(map[string]any(in))
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}
