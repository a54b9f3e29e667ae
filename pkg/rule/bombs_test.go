package rule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/rule"
)

const ruleHead = "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec:\n  trigger: {type: push}\n  steps: [{uses: do}]\n"

// TestBombs loads documents that try to take more time or memory than they are long.
func TestBombs(t *testing.T) {
	billion := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		billion += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, text := range map[string]string{
		"aliases":                 billion,
		"an alias of itself":      "a: &a [*a]\n",
		"brackets":                strings.Repeat("[", 1<<16),
		"braces":                  strings.Repeat("{a: ", 1<<16),
		"dashes":                  strings.Repeat("- ", 1<<17),
		"keys":                    strings.Repeat("? ", 1<<17),
		"anchors":                 strings.Repeat("&a ", 1<<16),
		"quotes":                  strings.Repeat(`"a" `, 1<<16),
		"indents":                 strings.Repeat("a:\n ", 1<<16),
		"documents":               strings.Repeat("---\n", 1<<16),
		"comments":                strings.Repeat("#\n", 1<<17),
		"nested predicates":       ruleHead + "  when: " + strings.Repeat("all(event.data, ", 150) + "true" + strings.Repeat(")", 150),
		"nested brackets":         ruleHead + "  when: " + strings.Repeat("(", 8000) + "true" + strings.Repeat(")", 8000),
		"many operands":           ruleHead + "  when: true" + strings.Repeat(" && true", 2000),
		"negations":               ruleHead + "  when: " + strings.Repeat("not ", 4000) + "true",
		"conditionals":            ruleHead + "  when: " + strings.Repeat("true ? true : ", 1000) + "true",
		"a range":                 ruleHead + "  when: len(1..1000000000) > 0",
		"repeated ranges":         ruleHead + "  when: all(1..100000, all(1..100000, all(1..100000, # > 0)))",
		"a constant power":        ruleHead + "  when: 9 ** 9 ** 9 ** 9 ** 9 > 1",
		"a repeated text":         ruleHead + "  when: repeat(repeat(repeat('aaaaaaaaaa', 100000), 100000), 100000) == ''",
		"a pattern":               ruleHead + "  when: event.type matches '" + strings.Repeat("(a{1,30}){1,30}", 400) + "'",
		"a pattern within itself": ruleHead + "  when: event.type matches '((((a{0,999}){0,999}){0,999}){0,999})'",
		"braces of a glob":        ruleHead + "  when: changed('" + strings.Repeat("{a,b,c,d}", 1500) + "')",
		"braces within braces":    ruleHead + "  when: changed('" + strings.Repeat("{a,", 1000) + strings.Repeat("}", 1000) + "')",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, _ = rule.Load([]rule.File{{Path: "a.yaml", Data: []byte(text)}}, options()) // right or wrong, but soon
			if took := time.Since(began); took > 30*time.Second {                          // far beyond a busy machine under the race detector
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestALoadStopsWhenItIsTold(t *testing.T) {
	errEnough := errors.New("enough")
	var text strings.Builder
	for i := range 100 {
		text.WriteString(strings.Replace(ruleHead, "name: r", fmt.Sprint("name: r", i), 1) + "---\n")
	}
	o := options()
	asked := 0
	o.Stop = func() error {
		if asked++; asked > 50 {
			return errEnough
		}
		return nil
	}
	_, err := rule.Load([]rule.File{{Path: "a.yaml", Data: []byte(text.String())}}, o)
	if !errors.Is(err, errEnough) || !strings.Contains(err.Error(), "a.yaml:") || asked != 51 {
		t.Errorf("%v after %d", err, asked)
	}
}
