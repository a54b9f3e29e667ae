package rule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// errUnsaid is why a case can't be written as a rule of ours.
var errUnsaid = errors.New("there is no such thing in ours")

// errElsewhere skips a case that pkg/correlate plays.
var errElsewhere = errors.New("pkg/correlate plays it")

// compare plays the cases of a table. Each must be as its authors expect, or be among those that differ; what differs
// stands in docs/semantics.md with the reason, and is not the same after all.
func compare[R any](t *testing.T, table string, id func(R) string, differ string, play func(R) error) {
	t.Helper()
	compareRows(t, table, rowsOf[R](t, table), id, differ, play)
}

func compareRows[R any](t *testing.T, table string, rows []R, id func(R) string, differ string, play func(R) error) {
	t.Helper()
	page, err := os.ReadFile("../../docs/semantics.md")
	if err != nil {
		t.Fatal(err)
	}
	differs := map[string]bool{}
	for _, name := range strings.Fields(differ) {
		differs[name] = true
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/semantics.md does not say why %s differs", name)
		}
	}
	equal, listed := 0, 0
	for _, r := range rows {
		name := id(r)
		switch err := play(r); {
		case errors.Is(err, errElsewhere):
		case err == nil && differs[name]:
			t.Errorf("%s is listed as different, and is the same", name)
		case err == nil:
			equal++
		case differs[name]:
			listed++
		default:
			t.Errorf("%s is neither the same nor listed: %v", name, err)
		}
		delete(differs, name)
	}
	for name := range differs {
		t.Errorf("%s is listed, but no case", name)
	}
	t.Logf("%s: %d the same, %d differ on purpose", table, equal, listed)
}

func rowsOf[R any](t *testing.T, name string) []R {
	t.Helper()
	dir := os.Getenv("RIPOSTE_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "corpus", "dev")
	}
	text, err := os.ReadFile(filepath.Join(dir, "tables", name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the tables of other engines' cases are not here; set RIPOSTE_CORPUS to the corpus's folder dev")
	}
	var table struct{ Rows []R }
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	return table.Rows
}

// ruleSet loads one rule for each condition, named r0, r1, …
func ruleSet(conditions ...string) (*rule.Set, error) {
	var doc strings.Builder
	for i, when := range conditions {
		fmt.Fprintf(&doc, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r%d}\nspec:\n"+
			"  trigger: {source: \"*\"}\n  when: %s\n  steps: [{uses: do}]\n", i, quoted(when))
	}
	return rule.Load([]rule.File{{Path: "rules.yaml", Data: []byte(doc.String())}}, options())
}

// matching returns the verdicts of the conditions on an event.
func matching(set *rule.Set, e *event.Event) []expression.Truth {
	out := make([]expression.Truth, len(set.Rules))
	for i := range out {
		out[i] = expression.False
	}
	for _, v := range set.Match(context.Background(), e, time.Unix(1, 0)).Verdicts {
		n, _ := strconv.Atoi(strings.TrimPrefix(v.Rule.Name, "r"))
		out[n] = v.Truth
	}
	return out
}

// decided compares what one condition says of an event with what is expected. Where theirs is an error, ours is absent or
// refused at load; where theirs is no match, ours is false, lest a condition that reads the wrong field goes unseen.
func decided(when string, e *event.Event, matched, failed bool) error {
	want := expression.False
	switch {
	case matched:
		want = expression.True
	case failed:
		want = expression.Absent
	}
	set, err := ruleSet(when)
	if err != nil {
		if want == expression.Absent {
			return nil
		}
		return err
	}
	if got := matching(set, e)[0]; got != want {
		return fmt.Errorf("%s: %v, want %v", when, got, want)
	}
	return nil
}

// value is what an expression gives for an event.
func value(src string, e *event.Event) (any, error) {
	p, err := expression.Compile(src, nil)
	if err != nil {
		return nil, err
	}
	return p.Eval(context.Background(), rule.EventScope(e, time.Unix(1, 0)))
}

// quoted writes a text as it stands in expressions, and in YAML.
func quoted(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// dotted writes a dotted path below a root: a number is an index.
func dotted(root, path string) string {
	for name := range strings.SplitSeq(path, ".") {
		if _, err := strconv.Atoi(name); err != nil {
			name = quoted(name)
		}
		root += "[" + name + "]"
	}
	return root
}
