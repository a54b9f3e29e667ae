package rule_test

import (
	"errors"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
)

// TestTargetsAreCheckedByTheActionsThatUseThem: what only an action knows of a Target is wrong where the field stands.
func TestTargetsAreCheckedByTheActionsThatUseThem(t *testing.T) {
	bell := func(t action.Target) error {
		if t.Type == "log" {
			return nil
		}
		errs := []error{&action.FieldError{Field: "type", Msg: "type " + t.Type + " does not ring", Hint: "write bell"}}
		for key := range t.Options {
			errs = append(errs, &action.FieldError{Field: key, Msg: "unknown field " + key})
		}
		return errors.Join(append(errs, &action.FieldError{Field: "url", Msg: "url is missing"}, errors.New("it is out of order"))...)
	}
	const doc = "apiVersion: riposte.dev/v1\nkind: Target\nmetadata: {name: door}\nspec:\n  type: gong\n  tone: low\n"
	o := options()
	o.Actions["ring"] = action.Definition{Name: "ring", Params: &params{}, CheckTarget: bell}
	want := `rules.yaml:5:3: target door: type gong does not ring
    hint: write bell
rules.yaml:5:3: target door: url is missing
rules.yaml:5:3: target door: it is out of order
rules.yaml:6:3: target door: unknown field tone`
	if _, problems := loadWith(t, doc, o); problems.Error() != want {
		t.Errorf("problems\n%s\nwant\n%s", problems, want)
	}
	o.Actions["whistle"] = action.Definition{Name: "whistle", Params: &params{}, CheckTarget: func(t action.Target) error {
		if t.Type != "gong" {
			return errors.New("no gong")
		}
		return nil
	}}
	if _, problems := loadWith(t, doc, o); len(problems) > 0 {
		t.Errorf("a Target that suits one of two actions: %s", problems)
	}
}
