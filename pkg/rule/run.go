package rule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Admission is what a run must be admitted for.
type Admission struct {
	Group  string
	Policy string
	Limits []Limit
}

// Limit is one of a rule's limits, for one key.
type Limit struct {
	Key  string
	Runs int
	Per  time.Duration
}

func (r *Rule) Items(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) ([]any, error) {
	return nil, errors.New("stub")
}
func (r *Rule) Inputs(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) (run.Values, error) {
	return nil, errors.New("stub")
}
func (r *Rule) Outputs(ctx context.Context, phase run.Phase, path string, scope *expression.Scope) (run.Values, error) {
	return nil, errors.New("stub")
}
func (r *Rule) Expect(ctx context.Context, scope *expression.Scope, probe run.Values) (run.Verdict, string) {
	return run.Unknown, "stub"
}
func (r *Rule) Admission(ctx context.Context, scope *expression.Scope) (Admission, error) {
	return Admission{}, nil
}
func (r *Rule) Bounded() bool      { return false }
func (r *Rule) Limited() bool      { return false }
func (r *Rule) Heals() bool        { return false }
func (r *Rule) Replaces() []string { return nil }

// AlertKey names an alert and all that would take its place after the rule's steps have replaced what it is about.
func (r *Rule) AlertKey(e *event.Event) string {
	if e.Alert == nil {
		return ""
	}
	gone := r.Replaces()
	var parts []string
	for name, value := range e.Alert.Labels {
		if !slices.Contains(gone, name) {
			parts = append(parts, name+"="+value)
		}
	}
	slices.Sort(parts)
	return e.Source + " " + e.Alert.Name + " " + strings.Join(parts, ",")
}

// ByHand returns a rule, or for workflow/NAME what runs that workflow alone.
func (s *Set) ByHand(name string) (*Rule, bool) {
	r := s.Rule(name)
	return r, r != nil
}
