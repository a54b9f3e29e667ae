package expression_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/expression"
)

func schema() *expression.Schema {
	closed := func(names ...string) *expression.Schema {
		s := &expression.Schema{Fields: map[string]*expression.Schema{}, Closed: true}
		for _, name := range names {
			s.Fields[name] = nil
		}
		return s
	}
	event := closed("id", "type", "data", "headers")
	event.Fields["git"] = closed("branch", "tag", "commit", "paths")
	event.Fields["alert"] = closed("name", "labels")
	root := closed("event", "steps", "run")
	root.Fields["event"] = event
	root.Fields["steps"] = closed("src", "plan")
	return root
}

func TestCompileErrors(t *testing.T) {
	for src, want := range map[string]string{
		``:                               `1:1 expression is empty`,
		"  \n ":                          `1:1 expression is empty`,
		`${{ }}`:                         `1:4 expression is empty`,
		`${{ true`:                       `1:1+3 ${{ is not closed by }}`,
		`${{ true }} && ${{ false }}`:    `1:1+3 ${{ }} stands around a part of the condition only (write it around the whole or leave it out)`,
		`event.git.brunch == "main"`:     `1:11+6 unknown field brunch of event.git (did you mean event.git.branch?)`,
		`event["git"]["brunch"] == "m"`:  `1:14+8 unknown field brunch of event.git (did you mean event.git.branch?)`,
		`event.git?.brunch == "main"`:    `1:12+6 unknown field brunch of event.git (did you mean event.git.branch?)`,
		`get(event.git, "brunch") == ""`: `1:16+8 unknown field brunch of event.git (did you mean event.git.branch?)`,
		`let g = event.git; g.brunch`:    `1:22+6 unknown field brunch of event.git (did you mean event.git.branch?)`,
		`evnt.type == "push"`:            `1:1+4 unknown name evnt (did you mean event?)`,
		`type == "push"`:                 `1:1+4 unknown name type (did you mean event.type?)`,
		`data.x == 1`:                    `1:1+4 unknown name data (did you mean event.data?)`,
		`event.type == push`:             `1:15+4 unknown name push (known: event, run, steps; text stands in quotes)`,
		`steps.scr.outputs`:              `1:7+3 unknown field scr of steps (did you mean steps.src?)`,
		`event.git.zzz`:                  `1:11+3 unknown field zzz of event.git (known: branch, commit, paths, tag)`,
		`$env`:                           `1:1+4 $env is not available (name the fields that are read)`,
		`$env["event"]`:                  `1:1+4 $env is not available (name the fields that are read)`,
		`uper(event.type)`:               `1:1+4 unknown function uper (did you mean upper()?)`,
		`event.type | chnged()`:          `1:14+6 unknown function chnged (did you mean changed()?)`,
		`event.git.branch()`:             `1:11+6 unknown method branch (only times and durations have methods; fields can't be called)`,
		`now().hour() > 3`:               `1:7+4 unknown method hour (did you mean Hour()?)`,
		`event.data.f(1)`:                `1:12 unknown method f (only times and durations have methods; fields can't be called)`,
		`changed()`:                      "1:1+7 changed needs at least one glob (changed(\"network/**\"))",
		`upper()`:                        `1:1+5 upper takes 1 argument, not 0`,
		`upper("a", "b")`:                `1:1+5 upper takes 1 argument, not 2`,
		`split("a")`:                     `1:1+5 split takes 2 to 3 arguments, not 1`,
		`get(event)`:                     `1:1+3 get takes 2 arguments, not 1`,
		`event.type = "push"`:            `1:12 unexpected "=" (compare with ==)`,
		`event.type === "push"`:          `1:14 unexpected "=" (compare with ==)`,
		`event.type == "push" & true`:    `1:22 unexpected "&" (write && or and)`,
		`event.type == "push`:            `1:20 text is not closed by its quote`,
		`event.type ==`:                  `1:13 the expression ends too early`,
		`(true`:                          `1:5 the expression ends too early`,
		`true)`:                          `1:5 unexpected ")"`,
		`true &&`:                        `1:7 the expression ends too early`,
		"true &&\n  event.git.brunch":    `2:13+6 unknown field brunch of event.git (did you mean event.git.branch?)`,
		"true &&\n\t\"é\" == event.tipe": `2:15+4 unknown field tipe of event (did you mean event.type?)`,
		`"main" && true`:                 `1:1+6 this is text, where true or false is needed (compare it with ==)`,
		`true || 1`:                      `1:9 this is a number, where true or false is needed (compare it with ==)`,
		`not "x"`:                        `1:5+3 this is text, where true or false is needed (compare it with ==)`,
		`!len("x")`:                      `1:2+3 this is a number, where true or false is needed (compare it with ==)`,
		`nil && true`:                    `1:1+3 this is nil, where true or false is needed (compare it with ==)`,
		`any([1], "x")`:                  `1:10+3 any's condition is text, not true or false`,
		`1 ? 2 : 3`:                      `1:1 this is a number, where true or false is needed (compare it with ==)`,
		`not event.type == "push"`:       `1:1+3 not belongs to what is left of == (write not (a == b))`,
		`event.type matches "("`:         `1:20+3 pattern is wrong: missing closing ): "("`,
		`event.type matches 1`:           `1:20 the right side of matches must be text, it is a number`,
		`#`:                              `1:1 unexpected "#"`,
		`map([1], #foo)`:                 `1:10 unknown name #foo (known: #, #index, #acc)`,
		`map([1], #acc)`:                 `1:10 #acc is known in reduce only`,
		`let x = 1; let x = 2; x`:        `1:16 variable x is declared twice`,
		`let event = 1; event`:           `1:5+5 event can't be declared: it is a name of the scope (choose another name)`,
		`let x = 1; y`:                   `1:12 unknown name y (known: event, run, steps; text stands in quotes)`,
		`{(1): 2}`:                       `1:3 a map's key must be text, it is a number`,
		`null ?? 1 + 2`:                  `1:11 ?? can't be mixed with other operators without parentheses (write (a ?? b) == c)`,
		"true\xff":                       `1:1 expression is not valid UTF-8`,
		`9223372036854775808 > 1`:        `1:21 number does not fit into 64 bits (larger ones can be compared: int("…"))`,
		`"\q"`:                           `1:3 invalid char escape`,
	} {
		t.Run(src, func(t *testing.T) {
			_, err := expression.Compile(src, schema())
			var e *expression.CompileError
			if !errors.As(err, &e) {
				t.Fatalf("error is %v", err)
			}
			length := ""
			if e.Length > 1 {
				length = fmt.Sprintf("+%d", e.Length)
			}
			if got := fmt.Sprintf("%d:%d%s %s", e.Line, e.Column, length, e.Error()); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if e.Source != src {
				t.Errorf("source is %q", e.Source)
			}
		})
	}
}

func TestCompileCondition(t *testing.T) {
	for src, want := range map[string]string{
		`event.type == "push"`: "",
		`event.data.flag`:      "",
		`first([true])`:        "",
		`"main"`:               "condition is text, not true or false",
		`len(event.type)`:      "condition is a number, not true or false",
		`[true]`:               "condition is a list, not true or false",
		`event.type ==`:        "the expression ends too early",
	} {
		_, err := expression.CompileCondition(src, schema())
		if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
			t.Errorf("%s: %v, want %s", src, err, want)
		}
	}
}

func TestSnippet(t *testing.T) {
	_, err := expression.Compile("true &&\n\tevent.git.brunch == \"x\"", schema())
	var e *expression.CompileError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if want := "\tevent.git.brunch == \"x\"\n\t          ^^^^^^"; e.Snippet() != want {
		t.Errorf("snippet is\n%s\nwant\n%s", e.Snippet(), want)
	}
	_, err = expression.Compile(strings.Repeat("true && ", 100)+"evnt.type", schema())
	errors.As(err, &e)
	lines := strings.Split(e.Snippet(), "\n")
	if len(lines) != 2 || len(lines[0]) > 130 || !strings.HasPrefix(lines[0][strings.Index(lines[1], "^"):], "evnt") {
		t.Errorf("snippet is\n%s", e.Snippet())
	}
}

func TestRefs(t *testing.T) {
	for src, want := range map[string]string{
		`steps.src.outputs.dir`:                                "steps/src/outputs/dir",
		`steps["src"].outputs["a b"].x == event.type`:          "steps/src/outputs/a b/x event/type",
		`event.data.list[0].x && event.data[event.type]`:       "event/data/list event/type event/data",
		`any(event.data.commits, .author == event.git.branch)`: "event/data/commits event/git/branch",
		`let s = steps; s.src.outputs.dir + s.plan.state`:      "steps steps/src/outputs/dir steps/plan/state",
		`get(steps, "src")`:                                    "steps/src",
		`steps.src?.outputs?.dir ?? steps.plan.error`:          "steps/src/outputs/dir steps/plan/error",
		`event.type == "a" || event.type == "b"`:               "event/type",
		`1 < event.data.n < 3`:                                 "event/data/n",
		`event`:                                                "event",
		`1 + 1`:                                                "",
		`{a: run.url, b: [run.id]}`:                            "run/url run/id",
		`event.data.x ? steps.src.state : steps.plan.state`:    "event/data/x steps/src/state steps/plan/state",
		`len(event.data.s[run.a:run.b])`:                       "event/data/s run/a run/b",
		`now().Hour() > event.data.h`:                          "event/data/h",
	} {
		p, err := expression.Compile(src, schema())
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got := joinRefs(p.Refs()); got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
}

func joinRefs(refs [][]string) string {
	var out []string
	for _, r := range refs {
		out = append(out, strings.Join(r, "/"))
	}
	return strings.Join(out, " ")
}
