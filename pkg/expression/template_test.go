package expression_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/expression"
)

func TestTemplate(t *testing.T) {
	for src, want := range map[string]any{
		`plain`:                                "plain",
		``:                                     "",
		`a $ { } }} {{ x }}`:                   "a $ { } }} {{ x }}",
		`$${{ event.type }}`:                   "${{ event.type }}",
		`$${{ a }} ${{ event.type }} $${{`:     "${{ a }} push ${{",
		`$$${{ a }}`:                           "$${{ a }}",
		`${{ event.type }}`:                    "push",
		`${{event.type}}`:                      "push",
		`${{ event.data.n }}`:                  int64(3),
		`${{ event.data.null }}`:               nil,
		`${{ [1, "a"] }}`:                      []any{int64(1), "a"},
		`${{ {"a": {"b": 1}}}}`:                map[string]any{"a": map[string]any{"b": int64(1)}},
		`${{ {"a": 1} }}`:                      map[string]any{"a": int64(1)},
		` ${{ event.data.n }}`:                 " 3",
		`${{ event.data.n }}${{ event.type }}`: "3push",
		`plan-${{ event.data.n }}`:             "plan-3",
		`f=${{ event.data.f }}`:                "f=2.5",
		`f=${{ 2.0 * 3 }}`:                     "f=6",
		`f=${{ 1e21 }}`:                        "f=1000000000000000000000",
		`b=${{ event.git.forced }}`:            "b=false",
		`n=${{ event.data.null }}.`:            "n=.",
		`big=${{ event.data.big }}`:            "big=9223372036854775808",
		`t=${{ event.time }}`:                  "t=2026-11-23T11:00:00Z",
		`d=${{ duration("90s") }}`:             "d=1m30s",
		`w=${{ now().Weekday() }}`:             "w=Monday",
		`l=${{ event.alert.labels }}`:          `l={"alertname":"HighErrorRate","app":"shop","namespace":"prod","severity":"page"}`,
		`l=${{ event.git }}`:                   `l={"branch":"main","forced":false,"paths":["a.tf","b.go"]}`,
		`l=${{ event.data.list }}`:             `l=[1,null,"x"]`,
		`l=${{ [event.data.big, duration("1s"), event.time, 1.5, "<&>\"\\\n", now().Month()] }}`: `l=[9223372036854775808,"1s","2026-11-23T11:00:00Z",1.5,"<&>\"\\\n","November"]`,
		`j=${{ toJSON({a: 1}) }}`:                                 "j={\n  \"a\": 1\n}",
		`s=${{ "}}" + '}}' + ` + "`}}`" + ` }}`:                   "s=}}}}}}",
		`s=${{ "\"}}" }}`:                                         `s="}}`,
		"s=${{ 1 /* }} */ }}":                                     "s=1",
		"s=${{ 1 // }}\n }}":                                      "s=1",
		`service:errors{service='${{ event.alert.labels.app }}'}`: "service:errors{service='shop'}",
		`${{ event.data.missing ?? "none" }}!`:                    "none!",
	} {
		t.Run(src, func(t *testing.T) {
			tpl, err := expression.CompileText(src, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tpl.Eval(context.Background(), scope())
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %#v, %v, want %#v", got, err, want)
			}
			text, literal := tpl.Literal()
			if literal == expression.HasExpression(src) {
				t.Errorf("Literal says %v, HasExpression %v", literal, expression.HasExpression(src))
			}
			if literal && text != want {
				t.Errorf("literal is %q", text)
			}
		})
	}
}

func TestTemplateFailures(t *testing.T) {
	eval := func(src string) error {
		tpl, err := expression.CompileText(src, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpl.Eval(context.Background(), scope())
		return err
	}
	var absent *expression.AbsentError
	for _, src := range []string{`${{ event.data.missing }}`, `a ${{ event.data.missing }}`, `${{ event.type }}${{ event.data.missing.x }}`} {
		if err := eval(src); !errors.As(err, &absent) || !strings.HasPrefix(absent.Path, "event.data.missing") {
			t.Errorf("%s: %v", src, err)
		}
	}
	if err := eval("a\n b ${{ 1 / 0 }}"); err == nil || err.Error() != "division by zero (2:10)" {
		t.Errorf("error is %v", err)
	}
	if err := eval(strings.Repeat(`${{ repeat("x", 1000000) }}`, 20)); !errors.Is(err, expression.ErrBudget) {
		t.Errorf("error is %v", err)
	}
	if err := eval(`x ${{ [1 / 0.5, float("inf")] }}`); err == nil {
		t.Error("infinity has a form in JSON")
	}
}

func TestRender(t *testing.T) {
	for src, want := range map[string]string{
		`plain`:               "plain",
		`${{ event.data.n }}`: "3",
		`${{ event.alert.name }} in ${{ event.alert.labels.pod }}: ${{ run.reason }}`: "HighErrorRate in <absent: event.alert.labels.pod>: <absent: run.reason>",
		`${{ event.data.missing }}`:        "<absent: event.data.missing>",
		`x ${{ 1 / 0 }} y`:                 "x <failed: division by zero (1:9)> y",
		`x ${{ event.data.null }} y`:       "x  y",
		`$${{ x }} ${{ event.git.paths }}`: `${{ x }} ["a.tf","b.go"]`,
	} {
		tpl, err := expression.CompileText(src, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := tpl.Render(context.Background(), scope()); got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	for src, want := range map[string]string{
		`a ${{ event.type`:                       "1:3 ${{ is not closed by }}",
		"a\n b ${{ event.git.brunch }}":          "2:18 unknown field brunch of event.git (did you mean event.git.branch?)",
		`a ${{ }}`:                               "1:6 expression is empty",
		`a ${{ "x }}`:                            "1:3 ${{ is not closed by }}",
		`${{ 1 }} ${{ 1 + }}`:                    "1:17 the expression ends too early",
		`${{ 1 } }`:                              "1:1 ${{ is not closed by }}",
		strings.Repeat("${{ 1 }} ", 600):         "1:4501 text has too many expressions",
		strings.Repeat("x", 1<<20) + " ${{ 1 }}": "1:1048578 text with expressions is longer than 1 MiB",
	} {
		_, err := expression.CompileText(src, schema())
		var e *expression.CompileError
		if !errors.As(err, &e) {
			t.Errorf("%.40s: error is %v", src, err)
			continue
		}
		if got := fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Error()); got != want {
			t.Errorf("%.40s: got %s, want %s", src, got, want)
		}
	}
}

func TestTemplateRefs(t *testing.T) {
	tpl, err := expression.CompileText(`${{ steps.src.outputs.dir }}/${{ event.type }}/${{ steps.src.outputs.dir }}`, schema())
	if err != nil {
		t.Fatal(err)
	}
	if got := joinRefs(tpl.Refs()); got != "steps/src/outputs/dir event/type" {
		t.Errorf("refs are %s", got)
	}
}
