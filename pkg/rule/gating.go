package rule

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/run"
)

// What a run asks of the gate is said here alone, for whoever serves runs: the engine, and simulations.

// The bound of an alert's rule that writes none: so many runs for each target.
const (
	alertRuns = 3
	alertPer  = time.Hour
)

// AlertOf is what a run that answers an alert knows of it at first; nil where it answers none, or neither changes anything
// nor waits for the alert to be resolved.
func (r *Rule) AlertOf(e *event.Event) *run.Alert {
	if e == nil || e.Alert == nil || e.Alert.Status != "firing" || !r.heals && !r.AwaitsResolved() {
		return nil
	}
	return &run.Alert{Key: r.AlertKey(e), Firing: []string{e.Alert.Fingerprint}}
}

// Gated reports whether a run, of an alert or nil, needs admission before its first step.
func (r *Rule) Gated(alert *run.Alert) bool { return alert != nil || r.Bounded() }

// GateAttempt numbers the attempts that the gate tells apart: steps that are made again because the run was not verified
// belong to the same.
func GateAttempt(of *run.Run) int { return of.Attempt - of.Tries }

// afterRefusal marks what a run asks for after the gate refused it, whose memory of the run is then that it is over.
const afterRefusal = "+"

// GateRun is the name by which the gate knows a run.
func GateRun(of *run.Run) string {
	if of.Gated && !of.Admitted && of.Outcome != "" {
		return of.ID + afterRefusal
	}
	return of.ID
}

// RunOf returns the id of the run that the gate knows by a name.
func RunOf(name string) string { return strings.TrimSuffix(name, afterRefusal) }

// AdmissionFor is what a run asks before its first step. An error means that it is refused, for the reason.
func (r *Rule) AdmissionFor(ctx context.Context, of *run.Run, scope *expression.Scope) (a gate.Admission, reason string, err error) {
	in, err := r.Admission(ctx, scope)
	if err != nil {
		var absent *expression.AbsentError
		if errors.As(err, &absent) {
			return a, run.ReasonAbsentField, err
		}
		return a, run.ReasonStepFailed, err
	}
	a = gate.Admission{
		Run: of.ID, Attempt: GateAttempt(of), Rule: of.Rule, Group: in.Group, Policy: gate.Policy(in.Policy), Heals: of.Alert != nil && r.heals,
	}
	for _, l := range in.Limits {
		a.Limits = append(a.Limits, gate.Limit{Key: l.Key, Runs: l.Runs, Per: l.Per})
	}
	return a, "", nil
}

// LockFor is what a run asks before a step that changes something; target is what the action says it would change, or "".
// There is nothing to ask where ok is false.
func (r *Rule) LockFor(of *run.Run, target string) (l gate.Lock, ok bool) {
	l = gate.Lock{Run: GateRun(of), Attempt: GateAttempt(of), Rule: of.Rule, Target: target}
	if of.Alert != nil && of.Phase == run.Main && len(r.limits) == 0 {
		if target == "" { // what an alert is about is what its repair changes
			l.Target = alertTarget(of.Alert)
		}
		limit := DefaultLimit(of.Rule, l.Target)
		l.Limit = &limit
	}
	return l, l.Target != ""
}

func alertTarget(a *run.Alert) string { return "alert " + a.Key }

// DefaultLimit bounds the runs of an alert's rule that writes no limits.
func DefaultLimit(name, target string) gate.Limit {
	return gate.Limit{Key: name + " of " + target, Runs: alertRuns, Per: alertPer}
}

// TellFor is what a run that failed asks before its onFailure: whether the failure was told already.
func (r *Rule) TellFor(ctx context.Context, of *run.Run, scope *expression.Scope) gate.Tell {
	return gate.Tell{Run: of.ID, Attempt: GateAttempt(of), Keys: r.tellKeys(ctx, of, scope)}
}

func (r *Rule) tellKeys(ctx context.Context, of *run.Run, scope *expression.Scope) []gate.Limit {
	switch {
	case len(r.limits) > 0:
		if in, err := r.Admission(ctx, scope); err == nil {
			l := slices.MinFunc(in.Limits, func(a, b Limit) int { return cmp.Compare(a.Per, b.Per) }) // so that no other key silences it for long
			return []gate.Limit{{Key: l.Key, Runs: l.Runs, Per: l.Per}}
		}
		return []gate.Limit{{Key: of.Rule, Runs: 1, Per: alertPer}}
	case of.Alert == nil:
		return nil
	case len(of.Targets) > 0:
		return []gate.Limit{DefaultLimit(of.Rule, of.Targets[0])}
	}
	return []gate.Limit{DefaultLimit(of.Rule, alertTarget(of.Alert))}
}

// LimitReach is how long a run of the rule counts for those after it.
func (r *Rule) LimitReach() time.Duration {
	if len(r.limits) == 0 && r.heals {
		return alertPer
	}
	var longest time.Duration
	for _, l := range r.limits {
		longest = max(longest, l.per)
	}
	return longest
}

// GateOutcome is how a run ended, as the gate sees it.
func GateOutcome(s run.State) gate.Outcome {
	switch s {
	case run.Succeeded:
		return gate.Succeeded
	case run.Failed:
		return gate.Failed
	}
	return gate.Other
}

// EventInfo is what an action may know of the event that started a run.
func EventInfo(e *event.Event) *action.EventInfo {
	if e == nil {
		return nil
	}
	info := &action.EventInfo{ID: e.ID, Source: e.Source}
	if e.Git != nil {
		info.Branch, info.Commit, info.Repo, info.CloneURL = e.Git.Branch, e.Git.Commit, e.Git.Repo, e.Git.CloneURL
	}
	if e.PullRequest != nil {
		info.Fork, info.PullRequest = e.PullRequest.Fork, e.PullRequest.Number
	}
	return info
}

// NoticeType is the type of the event of event.OwnSource that tells of the gate itself.
func NoticeType(k gate.NoticeKind) string {
	return map[gate.NoticeKind]string{
		gate.StormBegan: "storm.began", gate.StormEnded: "storm.ended", gate.BreakerOpened: "breaker.opened", gate.BreakerClosed: "breaker.closed",
	}[k]
}
