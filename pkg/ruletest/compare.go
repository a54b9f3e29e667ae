package ruletest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/simulate"
)

// differ collects what differs between one expectation and what there is.
type differ struct {
	start time.Time
	lines []string
}

func (d *differ) wrong(what string, want, got any) {
	d.lines = append(d.lines, fmt.Sprintf("- %s: %s", what, show(want)), fmt.Sprintf("+ %s: %s", what, show(got)))
}

// show prints a value in a line.
func show(v any) string {
	switch v := v.(type) {
	case word:
		return string(v)
	case time.Duration:
		return short(v)
	case fmt.Stringer:
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// word is a text that needs no quotes.
type word string

// short prints a duration as documents write it.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// run compares a run with what is expected of it.
func (d *differ) run(e *rule.ExpectedRun, r *simulate.Run) {
	if e.State != "" && e.State != r.State {
		d.wrong("state", word(e.State), word(stateOf(r)))
	}
	if e.Reason != nil && *e.Reason != r.Reason {
		d.wrong("reason", word(*e.Reason), word(r.Reason))
	}
	d.time("startedAt", e.StartedAt, startOf(r))
	d.time("endedAt", e.EndedAt, r.EndedAt)
	if e.Attempt != 0 && e.Attempt != int64(r.Attempt) {
		d.wrong("attempt", e.Attempt, r.Attempt)
	}
	if e.Key != nil && *e.Key != r.Key {
		d.wrong("key", *e.Key, r.Key)
	}
	for i := range e.Steps {
		d.step("steps."+e.Steps[i].ID, &e.Steps[i], r, run.Main)
	}
	if e.OnFailure != nil {
		d.onFailure(e.OnFailure, r)
	}
}

func startOf(r *simulate.Run) time.Time {
	if r.StartedAt.IsZero() {
		return r.At
	}
	return r.StartedAt
}

func stateOf(r *simulate.Run) string {
	if r.Message == "" {
		return string(r.State)
	}
	reason := r.Message
	if r.Reason != "" {
		reason = r.Reason + ", " + reason
	}
	return fmt.Sprintf("%s (%s)", r.State, reason)
}

func (d *differ) time(what string, want *time.Duration, got time.Time) {
	switch {
	case want == nil:
	case got.IsZero():
		d.wrong(what, *want, word("never"))
	case got.Sub(d.start) != *want:
		d.wrong(what, *want, got.Sub(d.start))
	}
}

func (d *differ) step(at string, e *rule.ExpectedStep, r *simulate.Run, phase run.Phase) {
	s := r.Step(phase, e.ID)
	if s == nil {
		s = &run.Step{ID: e.ID, State: run.StepPending}
		for _, sp := range r.Of.Plan.Of(phase) {
			if sp.ID == e.ID {
				s.Uses = sp.Uses
			}
		}
	}
	if e.Uses != "" && e.Uses != s.Uses {
		d.wrong(at+".uses", word(e.Uses), word(s.Uses))
	}
	if e.State != "" && e.State != s.State {
		d.wrong(at+".state", word(e.State), word(stepState(s)))
	}
	if e.Attempt != 0 && e.Attempt != int64(s.Attempt) {
		d.wrong(at+".attempt", e.Attempt, s.Attempt)
	}
	if e.Error != nil && (*e.Error == "" && s.Error != "" || !strings.Contains(s.Error, *e.Error)) {
		d.wrong(at+".error", *e.Error, s.Error)
	}
	d.time(at+".startedAt", e.StartedAt, s.StartedAt)
	d.time(at+".endedAt", e.EndedAt, s.EndedAt)
	if e.With != nil {
		d.value(at+".with", e.With, plain(r.With(phase, e.ID)))
	}
	if e.Outputs != nil {
		d.value(at+".outputs", e.Outputs, plain(map[string]any(s.Outputs)))
	}
}

func stepState(s *run.Step) string {
	if s.Error == "" {
		return string(s.State)
	}
	return fmt.Sprintf("%s (%s)", s.State, s.Error)
}

// onFailure compares all steps that were made or skipped, in order.
func (d *differ) onFailure(want []rule.ExpectedStep, r *simulate.Run) {
	var got []run.Step
	for _, s := range r.Steps {
		if s.Phase == run.OnFailure {
			got = append(got, s)
		}
	}
	if len(want) != len(got) {
		d.wrong("onFailure", word(count(len(want), "step")), word(count(len(got), "step")+usesOf(got)))
		return
	}
	for i := range want {
		e := want[i]
		if e.ID != "" && e.ID != got[i].ID {
			d.wrong(fmt.Sprintf("onFailure[%d].id", i), word(e.ID), word(got[i].ID))
			continue
		}
		e.ID = got[i].ID
		d.step(fmt.Sprintf("onFailure[%d]", i), &e, r, run.OnFailure)
	}
}

func usesOf(steps []run.Step) string {
	if len(steps) == 0 {
		return ""
	}
	names := make([]string, len(steps))
	for i, s := range steps {
		names[i] = s.Uses
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// plain is a value as JSON has it, with the numbers of expressions.
func plain(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	out, err := event.Decode(text)
	if err != nil {
		return string(text)
	}
	return out
}

// value compares values; of a map only the members that are named.
func (d *differ) value(at string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			d.wrong(at, want, got)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if v, there := g[name]; there {
				d.value(at+"."+name, w[name], v)
			} else {
				d.wrong(at+"."+name, w[name], word("absent"))
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			d.wrong(at, want, got)
			return
		}
		for i := range w {
			d.value(fmt.Sprintf("%s[%d]", at, i), w[i], g[i])
		}
	default:
		if !same(want, got) {
			d.wrong(at, want, got)
		}
	}
}

// same compares what is no map and no list. Whole numbers are the same however they are written.
func same(a, b any) bool {
	number := func(v any) (float64, bool) {
		switch v := v.(type) {
		case int64:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	}
	if i, ok := b.(event.Integer); ok {
		return fmt.Sprint(a) == string(i)
	}
	_, exact := a.(int64)
	_, both := b.(int64)
	x, isX := number(a)
	y, isY := number(b)
	if isX && isY && (!exact || !both) {
		return x == y
	}
	return a == b
}
