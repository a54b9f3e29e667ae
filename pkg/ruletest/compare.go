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
	if e.Verify != nil {
		d.verify(e.Verify, r)
	}
	if e.OnFailure != nil {
		d.all(run.OnFailure, e.OnFailure, r)
	}
	if e.Finally != nil {
		d.all(run.Finally, e.Finally, r)
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
		if sp, ok := r.Of.Plan.Find(phase, e.ID); ok {
			s.Uses = sp.Uses
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

// verify compares the looks at whether the problem is gone.
func (d *differ) verify(e *rule.ExpectedLooks, r *simulate.Run) {
	v := r.Verified
	if v == nil {
		v = &run.Verified{}
	}
	if e.Looks != 0 && e.Looks != int64(v.Looks) {
		d.wrong("verify.looks", e.Looks, v.Looks)
	}
	if e.Verdict != "" && e.Verdict != v.Verdict {
		got := string(v.Verdict)
		if v.Note != "" {
			got += " (" + v.Note + ")"
		}
		d.wrong("verify.verdict", word(e.Verdict), word(got))
	}
	if e.With != nil {
		d.value("verify.with", e.With, plain(r.With(run.Verification, r.Of.Plan.Verify.Probe.ID)))
	}
}

// all compares all steps of a phase that were made or skipped, in order; of a group it is the group that counts.
func (d *differ) all(phase run.Phase, want []rule.ExpectedStep, r *simulate.Run) {
	var got []run.Step
	for _, s := range r.Steps {
		if s.Phase == phase && run.PlaceOf(s.ID) == (run.Place{}) {
			got = append(got, s)
		}
	}
	if len(want) != len(got) {
		d.wrong(string(phase), word(count(len(want), "step")), word(count(len(got), "step")+usesOf(got)))
		return
	}
	for i := range want {
		e, at := want[i], fmt.Sprintf("%s[%d]", phase, i)
		if e.ID != "" && e.ID != got[i].ID {
			d.wrong(at+".id", word(e.ID), word(got[i].ID))
			continue
		}
		e.ID = got[i].ID
		d.step(at, &e, r, phase)
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
