package lint_test

import (
	"testing"

	"github.com/riposte-dev/riposte/pkg/lint"
	"github.com/riposte-dev/riposte/pkg/rule"
)

// FuzzCheck hands anything to what check does: an error of one part must not make another stumble.
func FuzzCheck(f *testing.F) {
	f.Add(base)
	f.Add(rules("trigger: {source: gh, type: push}\nwhen: event.git.branch == \"a\" && any(event.data.commits, .id == \"b\")\nsteps: [{id: a, uses: send, if: event.x, with: {to: chat, text: \"${{ event.data.y }}\"}, retry: {attempts: 3}, timeout: 5m}]"))
	f.Add(rules("correlate:\n  within: 15m\n  by: event.a\n  sequence:\n    - {as: a, trigger: {source: gh}, when: x, by: [event.b]}\nsteps: [{uses: look}]\nverify: {resolved: true, within: 5m}\nlimits: [{by: event.c}]"))
	f.Add("apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r}\nspec: {trigger: !t {source: !x a}, steps: [!y b, {uses: 3}, {}]}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		o := options()
		set, err := rule.Load([]rule.File{{Path: "a.yaml", Data: []byte(text)}}, rule.Options{Sources: o.Sources, Actions: o.Actions})
		if err == nil {
			_, _ = lint.Run(set, o)
		}
	})
}
