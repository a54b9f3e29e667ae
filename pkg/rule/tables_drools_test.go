package rule_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
)

// What the texts of this table have besides the conditions of ansible-rulebook: a path as an object, and a name for the
// event that matches, which only a condition on several events would use.
var (
	factPath = regexp.MustCompile(`\{"(\w+)": "([\w.]+)"\}`)
	factName = regexp.MustCompile(`\w+\.\w+ << `)
)

// playSteps compares how many rules fire at each step.
func (c *bookCase) playSteps() error {
	if c.temporal() {
		return errElsewhere
	}
	var conditions []string
	for _, r := range c.Ruleset.Rules {
		r.Condition = plainTexts(r.Condition)
		when, err := r.conditions(c.Vars)
		if err != nil {
			return err
		}
		conditions = append(conditions, when...)
	}
	for i, s := range c.Steps {
		if s.Op != "event" && s.Op != "fact" {
			return fmt.Errorf("%s: %w", s.Op, errUnsaid)
		}
		fired, err := firings(conditions, several(s.Data))
		if err != nil {
			return err
		}
		want := len(s.Rules)
		if s.Matches != nil {
			want = *s.Matches
		}
		if len(fired) != want {
			return fmt.Errorf("step %d, %s: %q fire %d times, want %d", i+1, s.Data, conditions, len(fired), want)
		}
	}
	return nil
}

// plainTexts writes the conditions in what is left of a rule as those of ansible-rulebook.
func plainTexts(condition any) any {
	switch c := condition.(type) {
	case map[string]any:
		for name, list := range c {
			c[name] = plainTexts(list)
		}
	case []any:
		for i, one := range c {
			c[i] = plainTexts(one)
		}
	case string:
		return factName.ReplaceAllString(factPath.ReplaceAllString(c, "event.$1.$2"), "")
	}
	return condition
}

// several returns the facts of a step that brings more than one.
func several(data json.RawMessage) []json.RawMessage {
	var list struct{ Facts []json.RawMessage }
	if json.Unmarshal(data, &list) == nil && list.Facts != nil {
		return list.Facts
	}
	return []json.RawMessage{data}
}

func TestCasesOfDrools(t *testing.T) {
	compare(t, "drools-ansible", func(c bookCase) string { return c.ID }, `
		AlphaTest.testEqualsWithNonAlphaRoot
		ArrayAccessWithoutIndexTest.testSelectAttrForArrayInArray
		ArrayAccessWithoutIndexTest.testSelectAttrForArrayInArrayInArray
		ArrayAccessWithoutIndexTest.testSelectAttrForArrayInArrayWithIndex
		ProcessEventTest.isNotDefinedExpression RetractTest.testRetract RetractTest.testRetractMatchingFacts`,
		func(c bookCase) error { return c.playSteps() })
}
