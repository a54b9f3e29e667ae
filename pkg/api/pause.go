package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Pauses are the pauses that people ordered. Errors wrap run.ErrUnavailable where the store does not answer.
type Pauses interface {
	List(now time.Time) []run.Pause
	Put(ctx context.Context, one run.Pause) error
	Remove(ctx context.Context, rule string) error
}

// Pause keeps a rule, or all, from starting runs.
type Pause struct {
	Rule   string     `json:"rule,omitempty"` // empty is all
	By     string     `json:"by"`
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since"`           // null where that is not known
	Until  *time.Time `json:"until,omitempty"` // missing is until somebody resumes it
}

// PauseRequest is what is to be paused.
type PauseRequest struct {
	Rule   string `json:"rule,omitempty"` // empty is all
	Reason string `json:"reason,omitempty"`
	Until  string `json:"until,omitempty"` // a time as 2006-01-02T15:04:05Z or a duration as 2h
}

// ResumeRequest is what is to go on.
type ResumeRequest struct {
	Rule string `json:"rule,omitempty"` // empty is what was paused as all
}

// ViewPause is a pause as the API shows it.
func ViewPause(p run.Pause) Pause {
	return Pause{Rule: p.Rule, By: p.By, Reason: p.Reason, Since: known(p.Since), Until: known(p.Until)}
}

const maxReason = 400

func (a *api) pause(w http.ResponseWriter, r *http.Request) error {
	var body PauseRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	note(r, body.Rule, "reason", body.Reason, "until", body.Until)
	if len(body.Reason) > maxReason {
		return &Error{http.StatusBadRequest, fmt.Sprintf("reason is longer than %d bytes", maxReason), ""}
	}
	if err := a.knownRule(body.Rule); err != nil {
		return err
	}
	now := time.Now()
	until, err := untilOf(body.Until, now)
	if err != nil {
		return err
	}
	one := run.Pause{Rule: body.Rule, By: identityOf(r.Context()).Name, Reason: body.Reason, Since: now.UTC().Truncate(time.Second), Until: until}
	if err := a.Pauses.Put(r.Context(), one); err != nil {
		return err
	}
	return a.listPauses(w)
}

func (a *api) resume(w http.ResponseWriter, r *http.Request) error {
	var body ResumeRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	note(r, body.Rule)
	now := a.Pauses.List(time.Now())
	there := func(rule string) bool {
		return slices.ContainsFunc(now, func(p run.Pause) bool { return p.Rule == rule })
	}
	if !there(body.Rule) {
		return a.notPaused(body.Rule, there(""))
	}
	if err := a.Pauses.Remove(r.Context(), body.Rule); err != nil {
		return err
	}
	return a.listPauses(w)
}

// notPaused says why there is nothing to resume.
func (a *api) notPaused(rule string, all bool) *Error {
	for _, p := range a.Rules().Paused {
		if p.Rule == rule && p.Since == nil { // nobody ordered it
			return &Error{http.StatusConflict, "it is paused by " + p.By, "change the file in the rules repository"}
		}
	}
	switch {
	case rule == "":
		return &Error{http.StatusConflict, "not all rules are paused", "riposte rules list shows what is; name a rule"}
	case all:
		return &Error{http.StatusConflict, "all rules are paused, not " + rule + " alone", "riposte resume lets all go on"}
	}
	return &Error{http.StatusConflict, "rule " + rule + " is not paused", "riposte rules list shows what is"}
}

func (a *api) listPauses(w http.ResponseWriter) error {
	var items []Pause
	for _, p := range a.Pauses.List(time.Now()) {
		items = append(items, ViewPause(p))
	}
	return writeList(w, items, "")
}

// paused reports whether an active rule starts no runs.
func (a *api) paused(rule string) bool {
	return slices.ContainsFunc(a.Rules().Items, func(rl Rule) bool { return rl.Name == rule && rl.Paused })
}

func (a *api) knownRule(name string) error {
	if name == "" {
		return nil
	}
	var names []string
	for _, rl := range a.Rules().Items {
		if rl.Name == name {
			return nil
		}
		names = append(names, rl.Name)
	}
	hint := "riposte rules list shows those there are"
	if best := document.Nearest(name, names); best != "" {
		hint = "did you mean " + best + "?"
	}
	return &Error{http.StatusNotFound, fmt.Sprintf("no active rule is called %q", name), hint}
}

// untilOf reads an instant, or a duration from now on.
func untilOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil && t.After(now) {
		return t.UTC(), nil
	}
	if d, err := document.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	return time.Time{}, &Error{http.StatusBadRequest, fmt.Sprintf("until %q is neither a time to come as 2006-01-02T15:04:05Z nor a duration as 2h", text), ""}
}
