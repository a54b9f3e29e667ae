package expression_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// outline writes clauses as: text = truth [path=value …] [absent path].
func outline(clauses []expression.Clause) string {
	var b strings.Builder
	for _, c := range clauses {
		fmt.Fprintf(&b, "%s = %v", c.Text, c.Truth)
		for _, s := range c.Seen {
			fmt.Fprintf(&b, " %s=%v", s.Path, s.Value)
		}
		if c.Absent != "" {
			fmt.Fprintf(&b, " absent %s", c.Absent)
		}
		if c.Err != nil {
			fmt.Fprintf(&b, " failed %v", c.Err)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		src   string
		truth expression.Truth
		want  string
	}{
		{`event.type == "push"`, expression.True, `event.type == "push" = true event.type=push`},
		{`${{ (event.type == "push") }}`, expression.True, `event.type == "push" = true event.type=push`},
		{`event.type == "x" && event.git.branch == "main"`, expression.False,
			"event.type == \"x\" = false event.type=push\nevent.git.branch == \"main\" = true event.git.branch=main"},
		{"event.type == \"push\"\n  && (event.git.branch == \"main\"\n || event.data.missing)", expression.True,
			"event.type == \"push\" = true event.type=push\nevent.git.branch == \"main\" = true event.git.branch=main\nevent.data.missing = absent absent event.data.missing"},
		{`!event.git.forced && not (event.data.n == 4 or 1/0 == 1)`, expression.Absent,
			"!event.git.forced = true event.git.forced=false\nevent.data.n == 4 = false event.data.n=3\n1/0 == 1 = absent failed division by zero (1:49)"},
		{`not (event.git.forced)`, expression.True, `not (event.git.forced) = true event.git.forced=false`},
		{`event.data.text && true`, expression.Absent,
			"event.data.text = absent event.data.text=hi failed condition is text, not true or false: compare it with == (1:1)\ntrue = true"},
		{`let b = event.git.branch; b == "main" && (b != "dev")`, expression.True,
			"b == \"main\" = true event.git.branch=main\nb != \"dev\" = true event.git.branch=main"},
		{`let b = event.git.gone; b == "main"`, expression.Absent, `b == "main" = absent absent event.git.gone`},
		{`1 < event.data.n < 4 && true`, expression.True, "1 < event.data.n < 4 = true event.data.n=3\ntrue = true"},
		{`any(event.data.items, .id == 2 && true) || false`, expression.True,
			"any(event.data.items, .id == 2 && true) = true event.data.items=[map[id:1 name:one] map[id:2]] event.data.items[0].id=1 event.data.items[1].id=2\nfalse = false"},
		{`(event.type == "a") == false && "é" == "ü" /* a note */ && ("(" == ")")`, expression.False,
			"(event.type == \"a\") == false = true event.type=push\n\"é\" == \"ü\" = false\n\"(\" == \")\" = false"},
		{`event.data.missing == nil && event.data.n in [1, 3]`, expression.True,
			"event.data.missing == nil = true\nevent.data.n in [1, 3] = true event.data.n=3"},
		{`(true || false) && (true ? true : 1 == 2)`, expression.True, "true = true\nfalse = false\ntrue ? true : 1 == 2 = true"},
		{`event.data[event.type] == 1 and true`, expression.Absent,
			"event.data[event.type] == 1 = absent event.type=push absent event.data.push\ntrue = true"},
	} {
		t.Run(test.src, func(t *testing.T) {
			truth, clauses := compile(t, test.src).Explain(context.Background(), scope())
			if truth != test.truth {
				t.Errorf("truth is %v, want %v", truth, test.truth)
			}
			if got := outline(clauses); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestExplainHint(t *testing.T) {
	_, clauses := compile(t, `event.alert.labels.service == "x"`).Explain(context.Background(), scope())
	if want := "labels present: alertname, app, namespace, severity\ndid you mean event.alert.labels.app?"; clauses[0].Hint != want {
		t.Errorf("hint is %q", clauses[0].Hint)
	}
}

// A clause that no longer matters must not change the verdict by using up what the others need.
func TestExplainAgreesWithTestWithinLimits(t *testing.T) {
	huge := `len(1..900) > 0 && any(1..900, any(1..900, # < 0))`
	s := scope()
	s.Limits.Nodes = 5000
	for src, want := range map[string]expression.Truth{
		`(false && ` + huge + `) || event.type == "push"`: expression.True,
		`(true || ` + huge + `) && event.type == "push"`:  expression.True,
		huge + ` || event.type == "push"`:                 expression.Absent,
	} {
		p := compile(t, src)
		if got := p.Test(context.Background(), s); got != want {
			t.Errorf("Test of %s is %v, want %v", src, got, want)
		}
		got, clauses := p.Explain(context.Background(), s)
		if got != want {
			t.Errorf("Explain of %s is %v, want %v", src, got, want)
		}
		found := false
		for _, c := range clauses {
			found = found || errors.Is(c.Err, expression.ErrBudget)
		}
		if !found {
			t.Errorf("no clause reports the budget: %s", outline(clauses))
		}
	}
}

func TestConjuncts(t *testing.T) {
	for src, want := range map[string]string{
		`a == 1`:                             "a == 1",
		`(a == 1)`:                           "a == 1",
		`a == 1 && (b || c) && not d`:        "a == 1|b || c|not d",
		`${{ a and (b and c) }}`:             "a|b and c",
		`a || b`:                             "a || b",
		"a == \"x  y\" /* c */ &&\n   b > 1": `a == "x  y"|b > 1`,
		`1 < a < 3 && b`:                     "1 < a < 3|b",
	} {
		if got := strings.Join(compile(t, src).Conjuncts(), "|"); got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
}
