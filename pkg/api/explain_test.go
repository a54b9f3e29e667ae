package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Explain answers with an explanation that has every field there is, so that the schema is held against all of them.
func (s *store) Explain(_ context.Context, id string, all bool) (*explain.Explanation, error) {
	if id != s.event().ID {
		return nil, fmt.Errorf("event %s: %w", id, event.ErrNotFound)
	}
	at := time.Unix(3, 0).UTC()
	absent := explain.Value{Text: "event.subject", Absent: "event.subject", Hint: []string{"did you mean event.source?"}, Error: "it failed"}
	v := explain.Verdict{
		Rule: "hello", File: "rules.yaml", Line: 4, Mode: "auto", Result: explain.Waits, Why: "takes part",
		Runs: []explain.Ran{{ID: id + "-hello", State: run.Succeeded, Reason: "None", StartedAt: &at, EndedAt: &at}, {ID: "R", State: run.Pending}},
		Parts: []explain.Asked{{
			Part: "a", Trigger: explain.Trigger{Selects: true, Source: []string{"github"}, Type: []string{"push"}, Why: "none"}, Verdict: "true", Cond: "true",
			When: []explain.Clause{{Text: "true", Verdict: "absent", Seen: []explain.Seen{{Path: "event.data", Value: json.RawMessage(`{"n":9007199254740993}`), Long: true}}, Absent: "x", Hint: []string{"y"}, Error: "z"}},
			By:   []explain.Value{{Text: "event.source", Value: json.RawMessage(`"github"`)}, absent}, State: &absent, Key: "github",
		}},
		Correlate: &explain.Correlated{Kind: "flapping", Within: "10m", Count: 3, Parts: []string{"a"}, Windows: &explain.Windows{
			Keys: []string{"github"}, More: 1, Behind: true, Changed: true,
			Groups:    []explain.Group{{Key: "github", Since: at, Until: at, Events: []explain.Took{{Part: "a", ID: id, At: at}}, Rest: 1, Missing: []string{"b"}, Need: 1, State: "up", Quiet: true}},
			Elsewhere: []explain.Elsewhere{{Partition: 1, Owner: "riposte-1", Busy: true}},
		}},
		Limits:      []explain.Limit{{Runs: 1, Per: "1h", By: []explain.Value{absent}, Default: true, State: &explain.LimitState{Runs: 1, Reached: true, Free: &at}}},
		Concurrency: &explain.Concurrency{Group: absent, Policy: "queue"},
	}
	x := &explain.Explanation{
		Event: explain.Head{ID: id, Source: "github", Type: "push", Subject: "acme/shop", Time: at, ReceivedAt: at},
		State: explain.Decided, Note: "a note", Revision: "abc", Loaded: 2, NotCandidates: 1, Rules: []explain.Verdict{v},
	}
	if all {
		x.Rules = append(x.Rules, explain.Verdict{Rule: "other", Result: explain.NoMatch})
	}
	return x, nil
}

// TestTheExplanationOfTheTestHasEveryField fails where a new field is not among what the schema is held against.
func TestTheExplanationOfTheTestHasEveryField(t *testing.T) {
	s := &store{}
	x, err := s.Explain(t.Context(), s.event().ID, false)
	if err != nil {
		t.Fatal(err)
	}
	filled := map[string]bool{}
	var look func(v reflect.Value)
	look = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				look(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				look(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				name := v.Type().Name() + "." + v.Type().Field(i).Name
				filled[name] = filled[name] || !v.Field(i).IsZero()
				if v.Type().PkgPath() == reflect.TypeFor[explain.Explanation]().PkgPath() {
					look(v.Field(i))
				}
			}
		}
	}
	look(reflect.ValueOf(x))
	for name, ok := range filled {
		if !ok && name[:5] != "Time." {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestExplain(t *testing.T) {
	id := (&store{}).event().ID
	for _, tc := range []struct {
		path  string
		want  int
		rules int
	}{
		{id + "/explain", 200, 1},
		{id + "/explain?all=true", 200, 2},
		{id + "/explain?all=0", 200, 1},
		{id + "/explain?all=maybe", 400, 0},
		{id + "/explain?al=true", 400, 0},
		{"NONE/explain", 404, 0},
	} {
		w := ask(handler(&store{}), "GET", "/api/v1/events/"+tc.path, nil)
		var x explain.Explanation
		err := json.Unmarshal(w.Body.Bytes(), &x)
		if w.Code != tc.want || err != nil || len(x.Rules) != tc.rules {
			t.Errorf("%s: %d, %d rules, %v: %s", tc.path, w.Code, len(x.Rules), err, w.Body)
		}
		if want, _ := (&store{}).Explain(t.Context(), id, tc.rules == 2); tc.want == 200 && !reflect.DeepEqual(&x, want) {
			t.Errorf("%s: read back it is %+v", tc.path, x)
		}
	}
}
