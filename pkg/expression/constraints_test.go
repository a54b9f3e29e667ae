package expression_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

func TestConstraints(t *testing.T) {
	for src, want := range map[string]string{
		`event.git.branch == "main"`:                               `event.git.branch = "main"`,
		`"main" == event.git.branch`:                               `event.git.branch = "main"`,
		`event.data.n == -3 && event.data["a-b"] == true`:          `event.data.n = -3; event.data.a-b = true`,
		`event.data.f == 1.5 and (event.type in ["a", 2, nil])`:    `event.data.f = 1.5; event.type = "a" 2 <nil>`,
		`event.type in []`:                                         `event.type =`,
		`event.git.tag startsWith "v" && changed("a/**", ["b"])`:   `event.git.tag ^ "v"; changed "a/**" "b"`,
		`event.data?.env == "prod"`:                                `event.data?.env = "prod"`,
		`get(event.data, "env") == "prod"`:                         `event.data?.env = "prod"`,
		`event.data.env == nil`:                                    `event.data?.env = <nil>`,
		`event.data?.env.name == "prod"`:                           ``,
		`event.data.a == event.data.b && event.data.list[0] == 1`:  ``,
		`event.data[event.type] == 1`:                              ``,
		`not (event.type == "push")`:                               ``,
		`event.type != "push" && event.type not in ["a"]`:          ``,
		`event.type == "push" || event.type == "tag"`:              ``,
		`let t = event.type; t == "push"`:                          ``,
		`event.data.x == [1] && event.data.x in [[1]]`:             ``,
		`event.data.x in {"a": 1} && event.data.x in event.data.l`: ``,
		`"a" startsWith event.type && event.type startsWith event`: ``,
		`event.type contains "a" && event.type matches "a"`:        ``,
		`changed(event.type) && event.git.forced`:                  ``,
		`1 < event.data.n < 3 && event.type == "x" && true`:        `event.type = "x"`,
		`any(event.data.items, .id == 1) && event == "x"`:          ``,
		`(event.data.x ?? "a") == "a"`:                             ``,
		`upper(event.type) == "PUSH"`:                              ``,
		`(event.type == "a" && event.source == "b") && 1 == 1`:     `event.type = "a"; event.source = "b"`,
		`${{ event.type == "push" }}`:                              `event.type = "push"`,
	} {
		if got := constraintTexts(compile(t, src).Constraints()); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
}

func constraintTexts(all []expression.Constraint) string {
	var out []string
	for _, c := range all {
		path := strings.Join(c.Path, ".")
		if n := len(c.Path) - 1; c.Asks {
			path = strings.Join(c.Path[:n], ".") + "?." + c.Path[n]
		}
		text := map[expression.Op]string{expression.Equals: path + " =", expression.StartsWith: path + " ^", expression.Changed: "changed"}[c.Op]
		for _, v := range c.Values {
			if s, ok := v.(string); ok {
				v = fmt.Sprintf("%q", s)
			}
			text += fmt.Sprint(" ", v)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestConstraintsSayWhatTheConjunctSays holds Verdict against evaluation, over values of all kinds.
func TestConstraintsSayWhatTheConjunctSays(t *testing.T) {
	values := []any{
		nil, true, false, "", "a", "ab", "A", "1", "true", int64(0), int64(1), int64(-1), int64(math.MaxInt64), int64(1<<53 + 1),
		0.0, math.Copysign(0, -1), 1.0, 1.5, float64(1 << 53), 9.223372036854775807e18, 1e20, math.NaN(), math.Inf(1),
		event.Integer("9223372036854775808"), event.Integer("100000000000000000000"), event.Integer("-100000000000000000000"),
		[]any{}, []any{"a"}, []string{"a"}, map[string]any{}, map[string]string{"a": "b"}, object{}, []byte("a"),
		time.Unix(0, 0), time.Second, time.Monday,
	}
	for _, right := range []string{
		`== "a"`, `== ""`, `== 1`, `== 1.0`, `== 0`, `== -0.0`, `== true`, `== nil`, `== 9223372036854775807`, `== 9223372036854775808.0`,
		`== 1e20`, `== 9007199254740993`, `== "1"`, `in ["a", "b"]`, `in [1, nil]`, `in [nil]`, `in []`, `in [1.5, true, "A"]`,
		`startsWith "a"`, `startsWith ""`, `startsWith "abc"`,
	} {
		for _, left := range []string{"event.data.x", "event.data?.x"} {
			p := compile(t, left+" "+right)
			c := p.Constraints()
			if len(c) != 1 {
				t.Fatalf("%s has %d constraints", p.Source(), len(c))
			}
			test := func(data map[string]any) {
				v, ok := data["x"]
				s := &expression.Scope{Vars: map[string]any{"event": object{"data": data}}}
				if got, want := c[0].Verdict(v, ok), p.Test(context.Background(), s); got != want {
					t.Errorf("%s of %#v is %s, the constraint says %s", p.Source(), data, want, got)
				}
			}
			test(map[string]any{})
			for _, v := range values {
				test(map[string]any{"x": v})
			}
		}
	}
}
