package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Why a step's context ended before the step did.
var (
	errStopping  = fmt.Errorf("%w: the server is stopping", action.ErrInterrupted)
	errLost      = fmt.Errorf("%w: another replica owns the run now", action.ErrInterrupted)
	errCancelled = errors.New("the run was cancelled")
)

// overdueError is why the context of a step ended whose run or group took too long.
type overdueError struct{ error }

const (
	// maxOutputs bounds one step's outputs in the journal, in bytes of JSON.
	maxOutputs = 256 << 10
	// maxRecord bounds a run's record with all its outputs: it must fit into one entry when it is carried on.
	maxRecord = 768 << 10
	// maxText bounds an error's text.
	maxText = 8 << 10
)

// result is what an attempt at a step came to.
type result struct {
	run     string
	plan    run.StepPlan
	phase   run.Phase
	attempt int
	outputs action.Outputs
	rebuilt map[string]run.Values // local outputs of earlier steps, made again on this machine
	err     error
	cause   error // why the context ended early, if it did
	took    time.Duration
	look    *look // set where it is a look at whether the problem is gone
}

// attempt is all that a step needs to run in its own goroutine: a snapshot, so that the partition can go on.
type attempt struct {
	run   run.Run
	rule  *rule.Rule
	event *event.Event
	plan  run.StepPlan
	phase run.Phase
	n     int
	now   time.Time

	joined map[string]any
}

// startAll begins the steps. It reports whether any began, or was skipped, and whether there was a worker for each that
// needs one.
func (p *partition) startAll(ctx context.Context, a *active, steps []run.StepPlan) (started, free bool) {
	for _, sp := range steps {
		n := 1
		if s := a.run.Step(a.run.Phase, sp.ID); s != nil {
			n = s.Attempt + 1
		}
		switch {
		case n == 1 && p.skipped(ctx, a, sp):
		case sp.Group():
			p.openGroup(ctx, a, sp, n)
		case !p.locked(ctx, a, sp):
			continue
		case !p.e.slots.acquire(p):
			return started, false
		default:
			p.start(ctx, a, sp, n)
		}
		started = true
	}
	return started, true
}

// skipped evaluates a step's condition, and records the step as skipped where it is not true.
func (p *partition) skipped(ctx context.Context, a *active, sp run.StepPlan) bool {
	if why := run.Withheld(a.run, &a.rule.Plan, sp); why != "" {
		p.finishEntry(a, sp, a.run.Phase, 0, run.Entry{StepState: run.StepSkipped, Error: why})
		return true
	}
	if !a.rule.Asks(a.run.Phase, sp.ID) {
		return false
	}
	truth, err := a.rule.If(ctx, a.run.Phase, sp.ID, p.scope(a, sp.ID))
	if truth == expression.True {
		return false
	}
	en := run.Entry{StepState: run.StepSkipped}
	if err != nil {
		en.Error = "if: " + err.Error()
	}
	p.finishEntry(a, sp, a.run.Phase, 0, en)
	return true
}

func (p *partition) start(ctx context.Context, a *active, sp run.StepPlan, n int) {
	now := p.e.Now()
	p.record(a, run.Entry{
		At: now, Kind: run.Started, Run: a.run.ID, Phase: a.run.Phase, Step: sp.ID, Uses: sp.Uses, Attempt: n, Changes: sp.Changes,
	})
	a.dir = a.dir || !a.rule.Action(a.run.Phase, sp.ID).NoDir
	stepCtx, done := p.stoppable(ctx, a, stepKey{a.run.Phase, sp.ID})
	at := attempt{run: snapshot(a.run), rule: a.rule, event: a.event, joined: a.joined, plan: sp, phase: a.run.Phase, n: n, now: now}
	p.inBackground(func() { defer done(nil); p.work(stepCtx, at) })
}

// stoppable returns a context that ends when the step is to stop. Whoever is done with it ends it: the partition's context
// would keep it as long as the lease is held.
func (p *partition) stoppable(ctx context.Context, a *active, key stepKey) (context.Context, context.CancelCauseFunc) {
	stepCtx, cancel := context.WithCancelCause(ctx)
	if a.cancel == nil {
		a.cancel = map[stepKey]context.CancelCauseFunc{}
	}
	a.cancel[key] = cancel
	return stepCtx, cancel
}

// inBackground has a worker do something once all that is recorded is durable. It sends one result.
func (p *partition) inBackground(do func()) {
	p.starting++
	p.effects = append(p.effects, func() {
		p.starting--
		p.running++
		go do()
	})
}

// stopOverdue ends what has gone on for too long.
func (p *partition) stopOverdue(a *active, steps []run.Overdue) {
	for _, o := range steps {
		if cancel := a.cancel[stepKey{a.run.Phase, o.Step}]; cancel != nil {
			cancel(overdueError{o.Err})
		}
	}
}

func snapshot(r *run.Run) run.Run {
	c := *r
	c.Steps = append([]run.Step(nil), r.Steps...)
	return c
}

// fetch makes sure that a run has its events, which a restart forgot. It returns false where the run has to wait for one,
// or has ended because it is gone.
func (p *partition) fetch(ctx context.Context, a *active) bool {
	var err error
	if a.event == nil {
		a.event, err = p.get(ctx, a, a.run.Event)
	}
	if c := a.rule.Correlation(); err == nil && c != nil && a.joined == nil {
		a.joined, err = p.join(ctx, a, c)
	}
	if errors.Is(err, event.ErrNotFound) {
		p.end(ctx, a, run.Entry{At: p.e.Now(), Kind: run.Ended, Run: a.run.ID, State: run.Failed, Reason: run.ReasonEventGone, Error: err.Error()})
		return false
	}
	if err != nil {
		p.log.Warn("run's event can't be read; it is tried again in 1s", "run", a.run.ID, "error", err)
		p.askAgain(a, time.Time{}, time.Second)
		return false
	}
	return true
}

// get reads an event for a run.
func (p *partition) get(ctx context.Context, a *active, id string) (*event.Event, error) {
	en, err := p.e.Log.Read(ctx, id, a.run.PlaceOf(id))
	if err != nil {
		return nil, err
	}
	set, err := p.e.set(ctx, a.run.RuleRevision) // the partition's own may not have been read from the log yet
	if err != nil {
		return nil, err
	}
	p.keep(a, en.Record.Event)
	_ = normalise(set, en.Record.Event) // the views of an event that was decided before; one that can't be made now is absent
	return en.Record.Event, nil
}

// join makes what expressions read as `correlated`. Only those events are fetched that the rule's steps read.
func (p *partition) join(ctx context.Context, a *active, c *rule.Correlation) (map[string]any, error) {
	known := map[string]*event.Event{a.run.Event: a.event}
	read := func(id string) (*event.Event, error) {
		if known[id] == nil {
			e, err := p.get(ctx, a, id)
			if err != nil {
				return nil, err
			}
			known[id] = e
		}
		return known[id], nil
	}
	var took []rule.Participant
	for _, ref := range a.run.Events {
		if (ref.Part == "" || !c.Reads(ref.Part)) && !c.Reads("events") {
			continue
		}
		e, err := read(ref.ID)
		if err != nil {
			return nil, err
		}
		took = append(took, rule.Participant{Part: ref.Part, Event: e})
	}
	return rule.Correlated(a.run.Key, a.run.Rest, took), nil
}

// scope is what the expressions of a step of the run's current part can read.
func (p *partition) scope(a *active, step string) *expression.Scope {
	return p.moment(a.rule, a.run, a.event, a.joined).ScopeOf(a.run.Phase, step)
}

func (p *partition) moment(of *rule.Rule, r *run.Run, e *event.Event, joined map[string]any) rule.Moment {
	m := rule.Moment{Run: r, Event: e, Correlated: joined, Now: p.e.Now()}
	if p.e.RunURL != nil {
		m.URL = p.e.RunURL(r.ID)
	}
	if p.e.ApproveURLs != nil {
		m.ApproveURLs = p.e.ApproveURLs(of, askedBy(r, e))
	}
	return m
}

// work makes one attempt at a step, in its own goroutine.
func (p *partition) work(ctx context.Context, at attempt) {
	began := time.Now()
	r := result{run: at.run.ID, plan: at.plan, phase: at.phase, attempt: at.n}
	limited := ctx
	if at.plan.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, at.plan.Timeout)
		defer cancel()
	}
	r.outputs, r.rebuilt, r.err = p.act(limited, &at)
	if r.err != nil {
		r.cause = context.Cause(ctx)
		if r.cause == nil && limited.Err() != nil {
			r.err = at.plan.TimedOut(r.err)
		}
	}
	r.took = time.Since(began)
	p.e.slots.release()
	p.results <- r
}

// guarded runs an action. A panic in it is the step's failure and no one else's.
func (p *partition) guarded(at *attempt, act func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("action panicked", "run", at.run.ID, "step", at.plan.ID, "panic", v, "stack", string(debug.Stack()))
			err = action.Permanent(fmt.Errorf("%s panicked: %v", at.plan.Uses, v))
		}
	}()
	return act()
}

// act makes what the step needs on this machine, and runs the action.
func (p *partition) act(ctx context.Context, at *attempt) (out action.Outputs, rebuilt map[string]run.Values, err error) {
	err = p.guarded(at, func() error {
		if err := p.ensureDir(at); err != nil {
			return err
		}
		if rebuilt, err = p.rebuild(ctx, at); err != nil {
			return err
		}
		if err = p.stale(ctx, at); err != nil {
			return err
		}
		if out, err = p.call(ctx, at, at.phase, at.plan.ID); err != nil || !at.rule.Action(at.phase, at.plan.ID).LocalOutputs {
			return err
		}
		outputs, _, err := p.keepable(out)
		if err != nil {
			return err
		}
		return p.markLocal(at, at.plan.ID, outputs)
	})
	return out, rebuilt, err
}

// ensureDir makes the run's directory for an action that looks at it.
func (p *partition) ensureDir(at *attempt) error {
	if at.rule.Action(at.phase, at.plan.ID).NoDir {
		return nil
	}
	if err := p.e.dirs.ensure(at.run.ID); err != nil {
		return fmt.Errorf("make the run's directory: %w", err)
	}
	return nil
}

func (p *partition) markLocal(at *attempt, step string, outputs run.Values) error {
	mark := p.localMark(at, step)
	if err := os.MkdirAll(filepath.Dir(mark), 0o700); err != nil {
		return err
	}
	return os.WriteFile(mark, localText(outputs), 0o600)
}

// localMark names the file that says which outputs of a step were made on this machine. Another replica may have made
// them anew since, so that this one's are not what the run goes on with.
func (p *partition) localMark(at *attempt, step string) string {
	return filepath.Join(p.e.dirs.path(at.run.ID), ".local", filepath.FromSlash(step))
}

func localText(outputs run.Values) []byte {
	if len(outputs) == 0 {
		return []byte("{}") // the journal does not tell none from empty
	}
	text, _ := json.Marshal(outputs) // it was marshalled before
	return text
}

// rebuild makes the local outputs of earlier steps again where this machine lacks them: after a retry of a run that had
// ended, or when the run came from another replica.
func (p *partition) rebuild(ctx context.Context, at *attempt) (map[string]run.Values, error) {
	if at.phase != run.Main {
		return nil, nil
	}
	var rebuilt map[string]run.Values
	for i := range at.run.Steps {
		s := &at.run.Steps[i]
		if s.Phase != run.Main || s.State != run.StepSucceeded || s.Group || !at.rule.Action(s.Phase, s.ID).LocalOutputs {
			continue
		}
		if mark, err := os.ReadFile(p.localMark(at, s.ID)); err == nil && bytes.Equal(mark, localText(s.Outputs)) {
			continue
		}
		if err := p.e.dirs.ensure(at.run.ID); err != nil {
			return nil, fmt.Errorf("make the run's directory: %w", err)
		}
		out, err := p.call(ctx, at, s.Phase, s.ID)
		var outputs run.Values
		if err == nil {
			outputs, _, err = p.keepable(out)
		}
		if err == nil {
			err = p.markLocal(at, s.ID, outputs)
		}
		if err != nil {
			return nil, fmt.Errorf("make the local outputs of step %s again: %w", s.ID, err)
		}
		s.Outputs = outputs
		if rebuilt == nil {
			rebuilt = map[string]run.Values{}
		}
		rebuilt[s.ID] = s.Outputs
	}
	return rebuilt, nil
}

func (p *partition) call(ctx context.Context, at *attempt, phase run.Phase, step string) (action.Outputs, error) {
	params, _, err := at.rule.Prepare(ctx, phase, step, p.moment(at.rule, &at.run, at.event, at.joined).ScopeOf(phase, step))
	if err != nil {
		return nil, err
	}
	log := p.e.StepLog(at.run.ID, phase, step, at.n)
	defer log.Close()
	c := p.callOf(&at.run, at.rule, at.event, phase, step, params)
	c.Attempt, c.Log = at.n, log
	return at.rule.Action(phase, step).Run(ctx, c)
}

// callOf is an attempt at a step as the action sees it.
func (p *partition) callOf(r *run.Run, of *rule.Rule, e *event.Event, phase run.Phase, step string, params any) *action.Call {
	c := &action.Call{
		RunID: r.ID, Rule: r.Rule, StepID: step, StartedAt: p.e.Now(), Params: params,
		Dir: p.e.dirs.path(r.ID), Event: rule.EventInfo(e), Secret: of.Secrets(p.e.Secret), Target: of.Target,
		ServiceAccount: of.ServiceAccount(phase, step),
	}
	if e != nil {
		c.EventJSON = e.MarshalJSON
	}
	if s := r.Step(phase, step); s != nil && !s.StartedAt.IsZero() {
		c.StartedAt = s.StartedAt
	}
	return c
}

// finished records what an attempt came to and moves the run on.
func (p *partition) finished(ctx context.Context, r result) {
	p.running--
	a := p.runs[r.run]
	if a == nil {
		return
	}
	if r.look != nil {
		p.looked(ctx, a, r)
		return
	}
	delete(a.cancel, stepKey{r.phase, r.plan.ID})
	p.e.metrics.steps.WithLabelValues(r.plan.Uses).Observe(r.took.Seconds())
	for id, outputs := range r.rebuilt {
		if s := a.run.Step(run.Main, id); s != nil {
			s.Outputs = outputs
		}
	}
	p.finishEntry(a, r.plan, r.phase, r.attempt, p.outcome(a, r))
	p.advance(ctx, a)
}

// outcome turns an attempt's result into the entry that records it.
func (p *partition) outcome(a *active, r result) run.Entry {
	outputs, err := run.Values(nil), r.err
	if err == nil {
		outputs, err = p.outputs(a, r.outputs)
	}
	switch {
	case err == nil:
	case errors.Is(r.cause, errStopping) || errors.Is(r.cause, errLost):
		en := run.Interrupt(a.run, a.run.Step(r.phase, r.plan.ID), r.plan, p.e.Now())
		en.Error += " (" + err.Error() + ")"
		return en
	case errors.Is(r.cause, errCancelled):
		return run.Entry{StepState: run.StepCancelled, Error: err.Error()}
	}
	if late := (overdueError{}); errors.As(r.cause, &late) {
		return run.Entry{StepState: run.StepFailed, Error: late.Error() + ": " + err.Error()}
	}
	return run.Attempted{Plan: r.plan, Attempt: r.attempt, Outputs: outputs, Err: err, Now: p.e.Now(), Random: p.e.Random}.Entry()
}

// keepable redacts what an action returned, and says how many bytes the journal would keep of it.
func (p *partition) keepable(out action.Outputs) (kept run.Values, size int, err error) {
	if len(out) == 0 {
		return run.Values{}, 0, nil
	}
	redacted, _ := p.redact(map[string]any(out)).(map[string]any)
	text, err := json.Marshal(redacted)
	if err != nil {
		return nil, 0, action.Permanent(fmt.Errorf("outputs are not JSON: %w", err))
	}
	if len(text) > maxOutputs {
		return nil, 0, action.Permanent(fmt.Errorf("outputs are %d bytes of JSON, more than the %d that are kept", len(text), maxOutputs))
	}
	return redacted, len(text), nil
}

// outputs is what the journal keeps of what an action returned for a step of the run.
func (p *partition) outputs(a *active, out action.Outputs) (run.Values, error) {
	kept, size, err := p.keepable(out)
	if err == nil && !a.fits(size) {
		return nil, action.Permanent(fmt.Errorf("outputs are %d bytes of JSON, and with those of the other steps more than the %d that are kept of a run", size, maxRecord))
	}
	return kept, err
}

// stepBytes is about what the record of a step takes without its outputs.
const stepBytes = 512

// fits reports whether so many bytes of outputs fit into the run's record. Its size is measured when an estimate, which only
// grows, says that they might not: there may be thousands of steps, and this is asked at the end of each.
func (a *active) fits(bytes int) bool {
	bytes += stepBytes
	if a.size == 0 || a.size+bytes > maxRecord {
		record, err := json.Marshal(a.run)
		if err != nil {
			return true // as its entry will say
		}
		a.size = len(record)
	}
	if a.size+bytes > maxRecord {
		return false
	}
	a.size += bytes
	return true
}

// maxCarried bounds a whole record in an entry, in bytes of JSON. What maxRecord does not count is left: texts, and earlier attempts.
const maxCarried = 1000 << 10

// shortText is what is left of an error in a record that is too large.
const shortText = 200

// carried returns a copy of a run's record that fits into one entry. Where it must be made shorter, the steps of earlier
// attempts go first, the oldest before all, then the most of the errors' texts.
func carried(r *run.Run) (*run.Run, error) {
	c := snapshot(r)
	c.Tried = slices.Clone(c.Tried)
	size := sizeOf(&c)
	for i := 0; size > maxCarried && i < len(c.Tried); i++ {
		c.Tried[i].Steps = nil
		size = sizeOf(&c)
	}
	if size <= maxCarried {
		return &c, nil
	}
	for i := range c.Steps {
		if s := &c.Steps[i]; len(s.Error) > shortText {
			s.Error = strings.ToValidUTF8(s.Error[:shortText], "") + " …"
		}
	}
	if size = sizeOf(&c); size > maxCarried {
		return nil, fmt.Errorf("its record is %d bytes of JSON, and %d can be kept: start it anew, with fewer steps or smaller outputs", size, maxCarried)
	}
	return &c, nil
}

func sizeOf(r *run.Run) int {
	text, _ := json.Marshal(r) // of what was JSON before
	return len(text)
}

func (p *partition) redact(v any) any {
	switch v := v.(type) {
	case string:
		return p.e.Redact(v)
	case map[string]any:
		c := make(map[string]any, len(v))
		for k, e := range v {
			c[p.e.Redact(k)] = p.redact(e)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = p.redact(e)
		}
		return c
	}
	return v
}

func (p *partition) finishEntry(a *active, sp run.StepPlan, phase run.Phase, n int, en run.Entry) {
	en.At, en.Kind, en.Run, en.Phase, en.Step, en.Uses, en.Attempt = p.e.Now(), run.Finished, a.run.ID, phase, sp.ID, sp.Uses, n
	en.Error = clip(p.e.Redact(en.Error))
	p.record(a, en)
}

// clip bounds a text that is kept.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + fmt.Sprintf(" … (%d bytes in all)", len(text))
}
