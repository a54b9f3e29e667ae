package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Moves is what a run needs next.
type Moves struct {
	// Admit says that the run must be admitted before anything else.
	Admit bool
	// Approve is the step that a person must be asked about, or nil.
	Approve *StepPlan
	// Start lists steps whose next attempt is due now; a group among them is opened.
	Start []StepPlan
	// Close lists groups of steps that have come to their end.
	Close []Closing
	// Look says that a look at whether the problem is gone is due.
	Look bool
	// Stop lists running steps whose time, or that of what they belong to, is over.
	Stop []Overdue
	// Wake is when to ask again because something becomes due; zero if nothing waits for the clock.
	Wake time.Time
	// End is the entry that ends the run or its current part, or nil. Apply it and ask again.
	End *Entry

	open    bool // something is under way or held back, so that this is not the end
	retries bool // a step waits for its next attempt
}

// Closing is a group of steps that has come to its end, with an error where a step of it failed.
type Closing struct {
	Plan StepPlan
	Err  error
}

// Overdue is a running step that must stop.
type Overdue struct {
	Step string
	Err  error
}

// Next says what a run needs next, from its record, its plan and the time alone. It changes nothing. Nothing to start,
// nothing to wait for and no end means that running steps must end first, that the run waits for others, or that it is over.
func Next(r *Run, p *Plan, now time.Time) Moves {
	switch {
	case r.State.Ended():
		return Moves{}
	case r.Settled != nil:
		return nextSettled(r, now)
	case r.Phase == Verification:
		return nextLook(r, p, now)
	case r.Phase != Main:
		return nextAfter(r, p, now)
	}
	if end := settled(r, p, now); end != nil {
		if r.Busy() {
			return Moves{Stop: overdue(r, p, end)}
		}
		return Moves{End: end}
	}
	if r.Gated && !r.Admitted {
		return Moves{Admit: true}
	}
	if now.Before(r.NotBefore) && r.NotBefore.Sub(now) <= p.backoff() {
		return Moves{Wake: r.NotBefore}
	}
	m := due(r, Main, p.Steps, now)
	m.ask(r, p)
	if p.Timeout > 0 && !r.BeganAt.IsZero() {
		m.wakeAt(r.BeganAt.Add(p.Timeout))
	}
	if m.idle() && !r.Busy() {
		m.End = ended(r, p, now, Succeeded, "", "")
	}
	return m
}

func (p *Plan) backoff() time.Duration {
	if p.Verify == nil {
		return 0
	}
	return p.Verify.Backoff
}

// nextSettled ends a part of a run whatever has become of it since that was decided.
func nextSettled(r *Run, now time.Time) Moves {
	if r.Busy() {
		return Moves{Stop: running(r, r.Phase, "", errors.New("this part of the run is over"))}
	}
	s := r.Settled
	return Moves{End: &Entry{At: now, Kind: Ended, Run: r.ID, Phase: s.Next, State: s.State, Reason: s.Reason, Error: s.Message}}
}

// idle reports whether nothing is left that the run could do or wait for. A time-out is not something to wait for.
func (m *Moves) idle() bool {
	return len(m.Start) == 0 && len(m.Close) == 0 && m.Approve == nil && !m.open
}

func (m *Moves) wakeAt(at time.Time) {
	if m.Wake.IsZero() || at.Before(m.Wake) {
		m.Wake = at
	}
}

// ask holds back the steps that a person has not agreed to.
func (m *Moves) ask(r *Run, p *Plan) {
	if !p.Approve || r.Approval != nil && r.Approval.Granted {
		return
	}
	free := m.Start[:0:0]
	for _, sp := range m.Start {
		if !sp.Changes {
			free = append(free, sp)
			continue
		}
		m.open = true
		if r.Approval == nil && m.Approve == nil {
			m.Approve = &sp
		}
	}
	m.Start = free
	if len(free) > 0 || r.Busy() || m.retries || len(m.Close) > 0 { // people are shown all that is known
		m.Approve = nil
	}
	if r.Approval != nil {
		m.wakeAt(r.Approval.ExpiresAt)
	}
}

// Withheld says why a step after the main part is left out, or "": what changes something needs the consent that the run had
// to have, and did not get.
func Withheld(r *Run, p *Plan, sp StepPlan) string {
	if r.Phase == Main || !p.Approve || !sp.Changes || r.Approval != nil && r.Approval.Granted {
		return ""
	}
	return "nobody has consented to what the run changes"
}

// settled returns the main part's end where it is decided although steps may be left: a failure, a refusal, an order.
func settled(r *Run, p *Plan, now time.Time) *Entry {
	switch {
	case r.Outcome != "":
		return ended(r, p, now, r.Outcome, r.Reason, r.Message)
	case r.Cancelling:
		return ended(r, p, now, Cancelled, ReasonCancelled, "cancelled by order")
	case r.Alert != nil && !r.Acted && !r.Alert.ResolvedAt.IsZero():
		return ended(r, p, now, Cancelled, ReasonResolved, "the alert was resolved before anything was done")
	case r.Approval != nil && !r.Approval.Granted && !now.Before(r.Approval.ExpiresAt):
		return ended(r, p, now, Refused, ReasonApprovalExpired, "nobody who may has consented in time")
	case p.Timeout > 0 && !r.BeganAt.IsZero() && !now.Before(r.BeganAt.Add(p.Timeout)): // before the steps that failed for it
		return ended(r, p, now, Failed, ReasonTimeout, "the run's timeout of "+p.Timeout.String()+" is over")
	}
	for i := range p.Steps {
		sp := &p.Steps[i]
		s := r.Step(Main, sp.ID)
		if s != nil && s.State == StepFailed && !sp.ContinueOnError {
			reason := ReasonStepFailed
			if s.Interruptions > 0 && !sp.RetryInterrupted || s.Interruptions > MaxInterruptions {
				reason = ReasonInterrupted
			}
			return ended(r, p, now, Failed, reason, "step "+s.ID+": "+s.Error)
		}
	}
	return nil
}

// overdue lists the running steps of a run whose time is over.
func overdue(r *Run, p *Plan, end *Entry) []Overdue {
	if end.Reason != ReasonTimeout {
		return nil
	}
	return running(r, r.Phase, "", fmt.Errorf("the run's timeout of %s is over", p.Timeout))
}

// running lists the steps of a group that run; the empty path is the whole phase.
func running(r *Run, phase Phase, path string, err error) []Overdue {
	var out []Overdue
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Phase == phase && s.State == StepRunning && !s.Group && (path == "" || below(s.ID, path)) {
			out = append(out, Overdue{s.ID, err})
		}
	}
	return out
}

// nextAfter moves on in onFailure and finally, where a failed step does not stop the ones after it.
func nextAfter(r *Run, p *Plan, now time.Time) Moves {
	m := due(r, r.Phase, p.Of(r.Phase), now)
	if m.idle() && !r.Busy() {
		m.End = ended(r, p, now, r.Outcome, r.Reason, r.Message)
	}
	return m
}

// nextLook moves on while it is found out whether the problem is gone. The last look is made when the time is over, so
// that the verdict is never older than that.
func nextLook(r *Run, p *Plan, now time.Time) Moves {
	v, deadline := r.Verified, r.Verified.Since.Add(p.Verify.Within)
	if r.Cancelling {
		return Moves{End: ended(r, p, now, Cancelled, ReasonCancelled, "cancelled by order while it was verified")}
	}
	if p.Verify.Resolved {
		return nextResolved(r, p, now, deadline)
	}
	held := v.Verdict == Holds && !v.HeldSince.IsZero()
	switch {
	case held && v.LookedAt.Sub(v.HeldSince) >= p.Verify.For:
		return Moves{End: ended(r, p, now, Succeeded, "", "")}
	case !v.LookedAt.Before(deadline):
		return Moves{End: unverified(r, p, now)}
	}
	next := v.Since
	if v.Looks > 0 {
		next = v.LookedAt.Add(p.Verify.Every)
		if full := v.HeldSince.Add(p.Verify.For); held && full.Before(next) {
			next = full
		}
		if deadline.Before(next) {
			next = deadline
		}
	}
	if next.After(now) && next.Sub(now) <= max(p.Verify.Every, p.Verify.For) { // otherwise the clock went back
		return Moves{Wake: next}
	}
	return Moves{Look: true}
}

func nextResolved(r *Run, p *Plan, now, deadline time.Time) Moves {
	if r.Alert != nil && !r.Alert.ResolvedAt.IsZero() {
		since := r.Verified.Since
		if r.Alert.ResolvedAt.After(since) {
			since = r.Alert.ResolvedAt
		}
		full := since.Add(p.Verify.For)
		if !full.After(now) {
			return Moves{End: ended(r, p, now, Succeeded, "", "")}
		}
		if !full.After(deadline) {
			return Moves{Wake: full}
		}
	}
	if !now.Before(deadline) {
		return Moves{End: unverified(r, p, now)}
	}
	return Moves{Wake: deadline}
}

// unverified returns the entry that makes the steps again, or ends the run.
func unverified(r *Run, p *Plan, now time.Time) *Entry {
	reason, message := ReasonUnverified, "the problem was still there "+p.Verify.Within.String()+" after the steps"
	switch v := r.Verified; {
	case p.Verify.Resolved:
		message = "the alert was not resolved within " + p.Verify.Within.String() + " after the steps"
	case v.Verdict == Unknown:
		reason, message = ReasonInconclusive, "whether the problem is gone could not be found out: "+v.Note
	case v.Verdict == Holds:
		message = fmt.Sprintf("it did not hold for %s within %s after the steps", p.Verify.For, p.Verify.Within)
	case v.Note != "":
		message += ": " + v.Note
	}
	if r.Tries+1 < p.Verify.Attempts {
		return &Entry{At: now, Kind: Repeated, Run: r.ID, NotBefore: now.Add(p.Verify.Backoff), Reason: reason, Error: message}
	}
	return ended(r, p, now, Failed, reason, message)
}

// Look returns the entry of a look that began at a time. One that comes long after the last breaks what held before:
// nobody knows what was in between.
func Look(r *Run, p *Plan, began, now time.Time, verdict Verdict, note string, outputs Values) Entry {
	e := Entry{At: now, Kind: Looked, Run: r.ID, NotBefore: began, Verdict: verdict, Error: note, Outputs: outputs}
	if v := r.Verified; v != nil && v.Looks > 0 {
		e.Broken = began.Sub(v.LookedAt) > 3*p.Verify.Every+p.Verify.Probe.Timeout
	}
	return e
}

// finder lists the steps of a phase that can start, in order; a step needs those it names to have ended.
type finder struct {
	*Moves
	r     *Run
	phase Phase
	now   time.Time
}

func due(r *Run, phase Phase, steps []StepPlan, now time.Time) Moves {
	var m Moves
	f := finder{&m, r, phase, now}
	for _, sp := range steps {
		f.step(sp)
	}
	return m
}

func (f *finder) step(sp StepPlan) {
	s := f.r.Step(f.phase, sp.ID)
	switch {
	case s != nil && s.State == StepRunning && s.Group:
		f.open = true
		f.group(sp, s)
	case s != nil && s.State != StepPending && s.State != StepWaiting:
	case s != nil && f.now.Before(s.NotBefore) && s.NotBefore.Sub(f.now) <= max(s.Pause, sp.Retry.Wait(s.Attempt, 0)):
		// Were it longer than any wait before this attempt, the clock would have gone back: how much of it is over is
		// then not known, and the step is not held up.
		f.open, f.retries = true, true
		f.wakeAt(s.NotBefore)
	case f.met(sp.Needs):
		f.Start = append(f.Start, sp)
	}
}

func (f *finder) met(needs []string) bool {
	for _, id := range needs {
		if s := f.r.Step(f.phase, id); s == nil || !s.State.Ended() {
			return false
		}
	}
	return true
}

// group moves on in the steps of a group, or finds that it has come to its end.
func (f *finder) group(sp StepPlan, s *Step) {
	if sp.Parallel > 0 {
		f.forEach(sp, s)
		return
	}
	err, left := error(nil), false
	children := sp.children()
	for i := range children {
		c := f.r.Step(f.phase, children[i].ID)
		switch {
		case c == nil || !c.State.Ended():
			left = true
		case c.State == StepFailed && !children[i].ContinueOnError && err == nil:
			err = failedWithin(sp, c)
		}
	}
	if limit := s.BeganAt.Add(sp.Timeout); sp.Timeout > 0 {
		if err == nil && !f.now.Before(limit) {
			err = sp.TimedOut(errors.New("not all of its steps had ended"))
			f.Stop = append(f.Stop, running(f.r, f.phase, sp.ID, err)...)
		}
		f.wakeAt(limit)
	}
	if f.closes(sp, err, left) {
		return
	}
	for _, c := range children {
		f.step(c)
	}
}

func failedWithin(sp StepPlan, c *Step) error {
	return fmt.Errorf("step %s: %s", strings.TrimPrefix(c.ID[len(sp.ID):], "/"), c.Error)
}

// closes reports whether nothing more begins in a group: it has come to its end, or does so when what runs has ended.
func (f *finder) closes(sp StepPlan, err error, left bool) bool {
	if err != nil && len(running(f.r, f.phase, sp.ID, nil)) > 0 {
		return true
	}
	if err != nil || !left {
		f.Close = append(f.Close, Closing{sp, err})
		return true
	}
	return false
}

// forEach moves on in the items of a forEach, of which no more than allowed are under way. There may be many, and this is
// asked whenever one of them has ended: those that have ended or not begun cost next to nothing.
func (f *finder) forEach(sp StepPlan, s *Step) {
	err, left, going := error(nil), false, 0
	items := f.r.items(f.phase, sp.ID, len(s.Items))
	for _, c := range items {
		switch {
		case c == nil:
			left = true
		case !c.State.Ended():
			left = true
			going++
		case c.State == StepFailed && err == nil:
			err = failedWithin(sp, c)
		}
	}
	if f.closes(sp, err, left) {
		return
	}
	for i, c := range items {
		switch {
		case c != nil && c.State.Ended():
			continue
		case c == nil && going >= sp.Parallel:
			continue
		case c == nil:
			going++
		}
		f.step(sp.item(i))
	}
}

// items returns the steps that are the n items of a forEach; those that have not begun are nil.
func (r *Run) items(phase Phase, id string, n int) []*Step {
	out := make([]*Step, n)
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Phase != phase || len(s.ID) <= len(id) || s.ID[len(id)] != '[' || s.ID[:len(id)] != id {
			continue
		}
		if each, item, ok := cutItem(s.ID); ok && len(each) == len(id) && item < n {
			out[item] = s
		}
	}
	return out
}

// ended makes the entry that ends the run's current part with the outcome, naming the part that follows.
func ended(r *Run, p *Plan, now time.Time, outcome State, reason, message string) *Entry {
	e := &Entry{At: now, Kind: Ended, Run: r.ID, Phase: after(r, r.Phase, p, outcome), State: outcome, Reason: reason, Error: message}
	if e.Phase == Verification {
		e.State = ""
	}
	return e
}

// after returns the phase that follows, or Main when the run is over. A run that never began has nothing to clean up.
func after(r *Run, phase Phase, p *Plan, outcome State) Phase {
	switch {
	case phase == Main && outcome == Succeeded && p.Verify != nil:
		return Verification
	case (phase == Main || phase == Verification) && len(p.OnFailure) > 0 && (outcome == Failed || outcome == Refused):
		return OnFailure
	case phase != Finally && len(p.Finally) > 0 && slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Phase == Main }):
		return Finally
	}
	return Main
}

// Refuse returns the entry that ends a run before its first step.
func Refuse(r *Run, p *Plan, now time.Time, state State, reason, message string) Entry {
	return *ended(r, p, now, state, reason, message)
}

// BreakOff returns the entry that ends the current part of a run that can't go on for a defect of the engine's own. Where
// the part was to end already, nothing follows it: what follows may be at fault.
func BreakOff(r *Run, p *Plan, now time.Time, message string) Entry {
	e := *ended(r, p, now, Failed, ReasonInternalError, message)
	e.Kind = Settled
	if r.Settled != nil {
		e.Phase = Main
	}
	return e
}

// Silent returns the end of a part without the onFailure that would follow it.
func Silent(r *Run, p *Plan, e Entry) Entry {
	if e.Phase == OnFailure {
		e.Phase = after(r, OnFailure, p, e.State)
	}
	return e
}
