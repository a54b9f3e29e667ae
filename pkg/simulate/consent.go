package simulate

import (
	"context"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// consentTime is how long a run in mode approve waits for a person; a server's settings may say otherwise.
const consentTime = 24 * time.Hour

// waitsForConsent reports whether only a person's word is missing.
func (r *Run) waitsForConsent() bool {
	return r.Approval != nil && !r.Approval.Granted && r.Outcome == "" && !r.State.Ended()
}

// askConsent has the run wait until a person has agreed to a step, with the parameters that it would have. Nobody is asked
// about a step whose condition is not true.
func (s *Simulation) askConsent(ctx context.Context, r *Run, sp *run.StepPlan) {
	if s.skipped(ctx, r, *sp) {
		return
	}
	_, with, err := r.Of.Prepare(ctx, run.Main, sp.ID, s.scope(r, sp.ID))
	r.with[stepID{run.Main, sp.ID}] = with
	if err != nil { // the step would fail before it did anything
		run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Started, Run: r.ID, Step: sp.ID, Uses: sp.Uses, Attempt: 1})
		s.attempted(r, run.Main, *sp, 1, nil, err)
		return
	}
	run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Requested, Run: r.ID, Approval: &run.Approval{
		Step: sp.ID, Uses: sp.Uses, Shown: with, RequestedAt: s.now, ExpiresAt: s.now.Add(consentTime), Needed: 1,
	}})
}

// Consent has a person approve, or reject, what the runs of a rule wait for at the time of the clock. The error says why
// nobody heard it.
func (s *Simulation) Consent(ctx context.Context, rule, who, comment string, yes bool) error {
	command, heard := run.CommandReject, false
	if yes {
		command = run.CommandApprove
	}
	var why error
	for _, r := range s.runs {
		if r.Rule != rule || !r.waitsForConsent() {
			continue
		}
		c := run.Consent{Who: who, Comment: comment, At: s.now}
		if why = r.Consents(c, r.Approval.Digest); why != nil {
			continue
		}
		heard = true
		run.Apply(&r.Run, run.Entry{At: s.now, Kind: run.Commanded, Run: r.ID, Command: command, Consent: &c})
		s.advance(ctx, r)
	}
	s.settle(s.now)
	switch {
	case heard:
		return nil
	case why != nil:
		return fmt.Errorf("%s of %s by %s is not heard: %w", command, rule, who, why)
	}
	return fmt.Errorf("no run of %s waits for consent", rule)
}
