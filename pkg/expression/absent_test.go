package expression_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// object is an Object whose fields are those of a map.
type object map[string]any

func (o object) Field(name string) (any, bool) {
	v, ok := o[name]
	return v, ok
}

func (o object) Fields() []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	return names
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func scope() *expression.Scope {
	return &expression.Scope{
		Now:    noon,
		Limits: expression.Limits{Time: time.Hour}, // the tests say when time is at stake
		Vars: map[string]any{
			"event": object{
				"type": "push",
				"time": noon.Add(-time.Hour),
				"git":  object{"branch": "main", "forced": false, "paths": []string{"a.tf", "b.go"}},
				"alert": object{"name": "HighErrorRate", "labels": map[string]string{
					"alertname": "HighErrorRate", "app": "shop", "namespace": "prod", "severity": "page"}},
				"data": map[string]any{
					"null": nil, "n": int64(3), "f": 2.5, "text": "hi", "flag": true,
					"big": event.Integer("9223372036854775808"), "bigger": event.Integer("9223372036854775809"),
					"odd":   map[string]any{"a-b": int64(1), "sub": map[string]any{}},
					"items": []any{map[string]any{"id": int64(1), "name": "one"}, map[string]any{"id": int64(2)}},
					"empty": []any{}, "list": []any{int64(1), nil, "x"},
				},
			},
			"steps": map[string]any{"src": map[string]any{"outputs": map[string]any{"dir": "/work"}}},
		},
	}
}

func compile(t testing.TB, src string) *expression.Program {
	t.Helper()
	p, err := expression.Compile(src, nil)
	if err != nil {
		t.Fatalf("compile %s: %v", src, err)
	}
	return p
}

func TestTruth(t *testing.T) {
	const T, F, A = expression.True, expression.False, expression.Absent
	for src, want := range map[string]expression.Truth{
		// one clause
		`event.type == "push"`:               T,
		`event.type != "push"`:               F,
		`event.data.missing == 1`:            A,
		`event.data.missing != "prod"`:       A,
		`event.data.missing.deeper == 1`:     A,
		`event.data.text.login == "x"`:       A,
		`event.data.null.x == 1`:             A,
		`event.data.list[7] == 1`:            A,
		`nothing.there == 1`:                 A,
		`not (event.data.missing == 1)`:      A,
		`!event.data.missing`:                A,
		`not (event.type == "push")`:         F,
		`${{ event.type == "push" }}`:        T,
		"  ${{event.type == 'push'}}\n":      T,
		`event.data.flag`:                    T,
		`1 / 0 == 1`:                         A,
		`1 % 0 == 1`:                         A,
		`1.5 / 0 > 1`:                        A,
		`event.data.text > 1`:                A,
		`event.data.text`:                    A,
		`event.data.null`:                    A,
		`event.data.n + event.data.text > 1`: A,

		// and, or
		`event.type == "push" && event.git.branch == "main"`:            T,
		`event.type == "push" and event.git.branch == "dev"`:            F,
		`event.type == "x" && event.data.missing == 1`:                  F,
		`event.data.missing == 1 && event.type == "x"`:                  F,
		`event.data.missing == 1 && event.type == "push"`:               A,
		`event.data.missing == 1 || event.type == "push"`:               T,
		`event.type == "push" or event.data.missing == 1`:               T,
		`event.data.missing == 1 || event.type == "x"`:                  A,
		`event.type == "x" || event.data.missing == 1`:                  A,
		`event.type == "x" || event.type == "y"`:                        F,
		`not (event.data.missing == 1 && event.type == "x")`:            T,
		`not (event.data.missing == 1 || event.type == "push")`:         F,
		`not (event.data.missing == 1 || event.type == "x")`:            A,
		`not not (event.data.missing == 1)`:                             A,
		`1 / 0 == 1 || event.type == "push"`:                            T,
		`1 / 0 == 1 && event.type == "push"`:                            A,
		`event.data.null && event.type == "push"`:                       A,
		`event.data.text || event.type == "push"`:                       T,
		`(event.data.missing || true) && (true || event.data.missing)`:  T,
		`1 < event.data.n < 4`:                                          T,
		`1 < event.data.missing < 4`:                                    A,
		`let b = event.git.branch; b == "main" && event.type == "push"`: T,
		`let m = event.data.missing; m == 1`:                            A,
		`let m = event.data.missing; m == nil`:                          T,

		// asking without a report
		`event.data.missing == nil`:                                             T,
		`nil == event.data.missing`:                                             T,
		`event.data.missing != nil`:                                             F,
		`event.data.missing.deeper == nil`:                                      T,
		`event.data.null == nil`:                                                T,
		`event.data.null != nil`:                                                F,
		`event.data.null == "x"`:                                                F,
		`event.data.n != nil`:                                                   T,
		`(event.data.missing ?? "d") == "d"`:                                    T,
		`(event.data.null ?? "d") == "d"`:                                       T,
		`(event.data.text ?? "d") == "hi"`:                                      T,
		`(event.data.missing ?? event.data.gone) == 1`:                          A,
		`event.data?.missing == nil`:                                            T,
		`event.data.missing?.deeper == nil`:                                     T,
		`event.data.missing?.deeper.still == nil`:                               T,
		`event.data.missing?.deeper == 1`:                                       F,
		`event.data.gone.missing?.deeper == 1`:                                  F,
		`event.data.null?.x == "y"`:                                             F,
		`event.data.odd?.zz.x == 1`:                                             A,
		`event.data.list?.[9] == nil`:                                           T,
		`nothing?.there == nil`:                                                 T,
		`"app" in event.alert.labels`:                                           T,
		`"service" in event.alert.labels`:                                       F,
		`"x" in event.data.missing`:                                             F,
		`"x" not in event.data.missing`:                                         T,
		`event.data.missing in ["x"]`:                                           A,
		`"git" in event`:                                                        T,
		`get(event.data, "missing") == nil`:                                     T,
		`get(event.data, "text") == "hi"`:                                       T,
		`get(event.data.missing, "x") == nil`:                                   T,
		`get(event.data.missing, event.type) == nil`:                            T,
		`get(event.data, event.data.missing) == 1`:                              A,
		`get(event.data.list, 9) == nil`:                                        T,
		`event.data.missing ? true : false`:                                     A,
		`(event.data.missing ?? false) ? false : true`:                          T,
		`event.data.list == [1, nil, "x"]`:                                      T,
		`event.data["odd"]["a-b"] == 1`:                                         T,
		`event.data[event.type] == 1`:                                           A,
		`len(event.data.missing) == 0`:                                          A,
		`event.git.paths == ["a.tf", "b.go"]`:                                   T,
		`event.data.empty == []`:                                                T,
		`event.alert.labels == {a: 1}`:                                          F,
		`event.git == {branch: "main", forced: false, paths: ["a.tf", "b.go"]}`: T,

		// closures
		`any(event.data.items, .name == "one")`:                   T,
		`any(event.data.items, .name == "two")`:                   F,
		`all(event.data.items, .name == "one")`:                   F,
		`all(event.data.items, .id > 0)`:                          T,
		`all(event.data.items, .name != "x")`:                     F,
		`none(event.data.items, .name == "x")`:                    T,
		`one(event.data.items, .name == "one")`:                   T,
		`count(event.data.items, .name == "one") == 1`:            T,
		`len(filter(event.data.items, .name == "one")) == 1`:      T,
		`find(event.data.items, .name == "zz") == nil`:            T,
		`find(event.data.items, .name == "zz").id == 1`:           A,
		`findIndex(event.data.items, .name != "one") == nil`:      T,
		`any(event.data.items, .name == "zz" || .id == 2)`:        T,
		`any(event.data.items, not (.name == "one"))`:             F,
		`any(event.data.items, .name == nil)`:                     T,
		`any(event.data.items, (.name ?? "two") == "two")`:        T,
		`any(event.data.items, .name / 0 == 1)`:                   A,
		`any(event.data.items, .id > "x")`:                        A,
		`any(event.data.items, .id)`:                              A,
		`any(event.data.missing, .id == 1)`:                       A,
		`any(event.data.empty, .id == 1)`:                         F,
		`all(event.data.empty, .id == 1)`:                         T,
		`any(event.data.text, # == 1)`:                            A,
		`any(event.data.null, # == 1)`:                            A,
		`any(event.data.odd, # == 1)`:                             A,
		`none(event.data.items, .id == event.data.missing)`:       A, // not the element's field
		`any(event.data.items, .id == event.data.missing)`:        A,
		`any(event.data.items, any(.tags, # == 1))`:               F,
		`any(event.data.items, let o = #; o.name == "one")`:       T,
		`all(event.data.items, let o = #; o.name == "one")`:       F,
		`map(event.data.items, .name) == ["one"]`:                 A,
		`map(event.data.items, .name ?? "") == ["one", ""]`:       T,
		`sum(event.data.items, .id) == 3`:                         T,
		`sum(event.data.items, .size) == 3`:                       A,
		`len(groupBy(event.data.items, .name)) == 1`:              A,
		`sortBy(event.data.items, .name) == []`:                   A,
		`reduce(event.data.items, #acc + .size, 0) == 1`:          A,
		`any(event.data.items, .id == 2) && event.type == "push"`: T,
		`groupBy(event.data.items, .id)[2][0].id == 2`:            T,

		// numbers keep their value
		`event.data.big > 9223372036854775807`:                        T,
		`event.data.big == event.data.bigger`:                         F,
		`event.data.big < event.data.bigger`:                          T,
		`event.data.big == 9223372036854775808.0`:                     T,
		`event.data.bigger == 9223372036854775808.0`:                  F,
		`event.data.bigger > 9223372036854775808.0`:                   T,
		`-event.data.big < -9223372036854775807`:                      T,
		`event.data.big in [event.data.big]`:                          T,
		`max(event.data.big, 1) == event.data.big`:                    T,
		`sort([event.data.bigger, 1, event.data.big])[0] == 1`:        T,
		`event.data.big + 1 > 0`:                                      A,
		`event.data.big == "9223372036854775808"`:                     F,
		`string(event.data.big) == "9223372036854775808"`:             T,
		`float(event.data.big) > 9e18`:                                T,
		`9007199254740993 == 9007199254740992.0`:                      F,
		`9007199254740993 > 9007199254740992.0`:                       T,
		`floor(9007199254740993) == 9007199254740993`:                 T,
		`9223372036854775807 + 1 > 0`:                                 A,
		`-9223372036854775807 - 2 < 0`:                                A,
		`4611686018427387904 * 2 > 0`:                                 A,
		`-(-9223372036854775807 - 1) > 0`:                             A,
		`abs(-9223372036854775807 - 1) > 0`:                           A,
		`(-9223372036854775807 - 1) % -1 == 0`:                        T,
		`9223372036854775806 + 1 == 9223372036854775807`:              T,
		`sum([9223372036854775807, 1]) > 0`:                           A,
		`fromJSON("{\"n\": 9007199254740993}").n == 9007199254740993`: T,
		`3 == "3"`:            F,
		`3 < "3"`:             A,
		`"3" != 3`:            T,
		`true < false`:        A,
		`event.data.n == 3.0`: T,
		`7 / 2 == 3.5`:        T,

		// times
		`now() == date("2026-11-23T12:00:00Z")`:           T,
		`now() - event.time == duration("1h")`:            T,
		`now() - event.time > duration("59m")`:            T,
		`event.time < now()`:                              T,
		`now().Hour() >= 9 && now().Hour() < 17`:          T,
		`now().Weekday() == 1`:                            T,
		`now().Weekday().String() == "Monday"`:            T,
		`now(timezone("Europe/Zurich")).Hour() == 13`:     T,
		`duration("1h") * 2 == duration("2h")`:            T,
		`2 * duration("1h") == duration("2h")`:            T,
		`duration("1h") / 2 == duration("30m")`:           T,
		`duration("2h") / duration("1h") == 2`:            T,
		`duration("1h") / 0 == duration("1h")`:            A,
		`duration("2000000h") * 9999999 > duration("1h")`: A,
		`event.time > 3`:                                  A,
		`event.type.Hour() == 1`:                          A,
		`date("nonsense") < now()`:                        A,
		`duration("soon") > duration("1h")`:               A,

		// changed
		`changed("a/**")`: A,

		// patterns
		`event.git.branch matches "^ma"`:      T,
		`event.git.branch matches event.type`: F,
		`event.git.branch matches ("(" + "")`: A,
		`event.data.n matches "3"`:            A,
		`event.data.missing matches "3"`:      A,
		`event.data.missing contains "3"`:     A,
		`event.data.n contains "3"`:           A,
		`event.git.branch not matches "^dev"`: T,
	} {
		t.Run(src, func(t *testing.T) {
			p := compile(t, src)
			if got := p.Test(context.Background(), scope()); got != want {
				v, err := p.Eval(context.Background(), scope())
				t.Errorf("Test is %v, want %v; Eval: %v, %v", got, want, v, err)
			}
			if got, _ := p.Explain(context.Background(), scope()); got != want {
				t.Errorf("Explain is %v, want %v", got, want)
			}
			v, err := p.Eval(context.Background(), scope())
			if b, ok := v.(bool); ok && err == nil && b != (want == T) || err != nil && want != A {
				t.Errorf("Eval is %v, %v, want %v", v, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "internal") {
				t.Error(err)
			}
		})
	}
}

func TestAbsentPaths(t *testing.T) {
	for src, want := range map[string]struct{ path, hint string }{
		`event.alert.labels.service`: {"event.alert.labels.service",
			"labels present: alertname, app, namespace, severity\ndid you mean event.alert.labels.app?"},
		`event.alert.labels.namspace`: {"event.alert.labels.namspace",
			"labels present: alertname, app, namespace, severity\ndid you mean event.alert.labels.namespace?"},
		`event.data.odd["x-y"].z`:                    {`event.data.odd["x-y"].z`, "odd present: a-b, sub"},
		`event.data.odd["a_b"].z`:                    {`event.data.odd.a_b.z`, "odd present: a-b, sub\ndid you mean event.data.odd[\"a-b\"]?"},
		`event.data.odd.sub.x`:                       {`event.data.odd.sub.x`, "event.data.odd.sub is empty"},
		`event.data.text.login`:                      {"event.data.text.login", "event.data.text is text"},
		`event.data.null.x`:                          {"event.data.null.x", "event.data.null is nil"},
		`event.data.list[7]`:                         {"event.data.list[7]", "event.data.list has 3 elements"},
		`event.data.list[event.data.n + 4]`:          {"event.data.list[7]", "event.data.list has 3 elements"},
		`event.data[event.type].x`:                   {"event.data.push.x", ""},
		`nothing.there`:                              {"nothing.there", ""},
		`probe`:                                      {"probe", ""},
		`map(event.data.items, .name)`:               {"event.data.items[1].name", "fields present: id"},
		`map(event.data.items, #.name)`:              {"event.data.items[1].name", "fields present: id"},
		`let o = event.data; o.odd.c`:                {"event.data.odd.c", "odd present: a-b, sub"},
		`let o = event.data.gone; o.x`:               {"event.data.gone.x", ""},
		`let o = event.data.gone; o`:                 {"event.data.gone", ""},
		`map(event.data.items, let o = #; o.name)`:   {"event.data.items[1].name", "fields present: id"},
		`first(event.data.items).x`:                  {"first(…).x", "fields present: id, name"},
		`map([1], map(event.data.items, .name))`:     {"event.data.items[1].name", "fields present: id"},
		`event.type == event.data.a || event.data.b`: {"event.data.a", ""},
	} {
		t.Run(src, func(t *testing.T) {
			_, err := compile(t, src).Eval(context.Background(), scope())
			var absent *expression.AbsentError
			if !errors.As(err, &absent) {
				t.Fatalf("error is %v", err)
			}
			if absent.Path != want.path {
				t.Errorf("path is %s, want %s", absent.Path, want.path)
			}
			if want.hint != "" && absent.Hint != want.hint {
				t.Errorf("hint is %q, want %q", absent.Hint, want.hint)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for src, want := range map[string]string{
		`event.data.text && true`:           "condition is text, not true or false: compare it with == (1:12)",
		`event.data.null && true`:           "condition is nil, not true or false: compare it, or give a default with ?? (1:12)",
		`1 / 0`:                             "division by zero (1:3)",
		"1 +\n  9223372036854775807":        "result does not fit into 64 bits (1:3)",
		"true &&\n  (event.data.n / 0 > 1)": "division by zero (2:17)",
		`event.data.text < 1`:               "text can't be compared with a number (1:17)",
		`event.data.text + 1`:               "+ can't be calculated from text and a number (1:17)",
		`any(event.data.null, true)`:        "any needs a list, it is nil: give a default with ?? [] (1:1)",
		`upper(event.data.n)`:               "upper needs text as argument 1, it is a number (1:1)",
		`int("x")`:                          `"x" is not a whole number (1:1)`,
		`changed("x")`:                      "changed() can't be answered here: nothing knows the changed paths (1:1)",
		`reduce(event.data.empty, #acc)`:    "reduce of an empty list needs a start value (1:1)",
		`take([1], -1)`:                     "take can't take fewer than 0 elements (1:1)",
		`repeat("a", -1)`:                   "repeat can't repeat -1 times (1:1)",
		`sort([1, "a"])`:                    "text can't be compared with a number (1:1)",
		`1.5 % 2`:                           "% needs whole numbers (1:5)",
		`event.data.list["a"/1]`:            "/ can't be calculated from text and a number (1:20)",
	} {
		t.Run(src, func(t *testing.T) {
			_, err := compile(t, src).Eval(context.Background(), scope())
			var failed *expression.EvalError
			if !errors.As(err, &failed) || err.Error() != want {
				t.Errorf("error is %v, want %s", err, want)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	broken := errors.New("mirror is gone")
	var asked []string
	s := scope()
	s.Changed = func(globs []string) (bool, error) {
		asked = globs
		if globs[0] == "broken" {
			return true, broken
		}
		return globs[0] == "network/**", nil
	}
	for src, want := range map[string]expression.Truth{
		`changed("network/**", "*.tf")`:             expression.True,
		`changed("other")`:                          expression.False,
		`changed("broken")`:                         expression.Absent,
		`not changed("broken")`:                     expression.Absent,
		`changed(["network/**"], "x")`:              expression.True,
		`changed(event.git.branch + "/**")`:         expression.False,
		`event.type == "push" && changed("broken")`: expression.Absent,
		`changed(1)`:                                expression.Absent,
	} {
		if got := compile(t, src).Test(context.Background(), s); got != want {
			t.Errorf("%s is %v, want %v", src, got, want)
		}
	}
	compile(t, `changed("a", ["b", "c"])`).Test(context.Background(), s)
	if strings.Join(asked, " ") != "a b c" {
		t.Errorf("asked for %v", asked)
	}
	if _, err := compile(t, `changed("broken")`).Eval(context.Background(), s); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}
