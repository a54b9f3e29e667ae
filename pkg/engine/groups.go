package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// maxSteps bounds the steps that a run's record holds, and with them what a list of an event can make of a forEach.
const maxSteps = 2000

// openGroup begins a step that consists of others: what it goes on with is evaluated once, and kept.
func (p *partition) openGroup(ctx context.Context, a *active, sp run.StepPlan, n int) {
	en := run.Entry{
		At: p.e.Now(), Kind: run.Started, Run: a.run.ID, Phase: a.run.Phase, Step: sp.ID, Uses: sp.Uses, Attempt: n, Group: true,
	}
	var err error
	scope := p.scope(a, sp.ID)
	if sp.Parallel > 0 {
		en.Items, err = a.rule.Items(ctx, a.run.Phase, sp.ID, scope)
	} else {
		en.Inputs, err = a.rule.Inputs(ctx, a.run.Phase, sp.ID, scope)
	}
	if n := len(a.run.Steps) + sp.Below(len(en.Items)); err == nil && n > maxSteps {
		err = action.Permanent(fmt.Errorf("with its steps there would be %d, and a run has at most %d", n, maxSteps))
	}
	if err == nil {
		en.Items, en.Inputs, err = p.kept(a, en.Items, en.Inputs)
	}
	if err != nil {
		en.Items, en.Inputs = nil, nil
	}
	p.record(a, en)
	if err != nil {
		p.attempted(a, sp, n, nil, err)
	}
}

// kept is what the journal keeps of what a group goes on with.
func (p *partition) kept(a *active, items run.List, inputs run.Values) (run.List, run.Values, error) {
	redactedItems, _ := p.redact([]any(items)).([]any)
	redactedInputs, _ := p.redact(map[string]any(inputs)).(map[string]any)
	text, err := json.Marshal([]any{redactedItems, redactedInputs})
	if err == nil && len(text) > maxOutputs {
		err = fmt.Errorf("they are %d bytes of JSON, more than the %d that are kept", len(text), maxOutputs)
	}
	if err == nil && !a.fits(len(text)) {
		err = fmt.Errorf("they are %d bytes of JSON, and with the rest of the run more than the %d that are kept of it", len(text), maxRecord)
	}
	if err != nil {
		return nil, nil, action.Permanent(fmt.Errorf("the step's inputs can't be kept: %w", err))
	}
	var both [2]json.RawMessage // as a reader of the journal has them, whatever they were made of
	_ = json.Unmarshal(text, &both)
	list, _ := event.Decode(both[0])
	values, _ := event.Decode(both[1])
	out, _ := list.([]any)
	in, _ := values.(map[string]any)
	return out, in, nil
}

// closeGroups ends groups of steps that have come to their end, with their outputs.
func (p *partition) closeGroups(ctx context.Context, a *active, groups []run.Closing) {
	for _, c := range groups {
		s := a.run.Step(a.run.Phase, c.Plan.ID)
		outputs, err := run.Values(nil), c.Err
		if err == nil {
			outputs, err = p.groupOutputs(ctx, a, c.Plan, s)
		}
		p.attempted(a, c.Plan, s.Attempt, outputs, err)
	}
}

func (p *partition) groupOutputs(ctx context.Context, a *active, sp run.StepPlan, s *run.Step) (run.Values, error) {
	var out run.Values
	if sp.Parallel > 0 {
		items := make([]any, len(s.Items))
		for i := range items {
			if c := a.run.Step(a.run.Phase, fmt.Sprintf("%s[%d]", sp.ID, i)); c != nil && c.Outputs != nil {
				items[i] = map[string]any(c.Outputs)
			}
		}
		out = run.Values{"items": items}
	} else {
		var err error
		if out, err = a.rule.Outputs(ctx, a.run.Phase, sp.ID, p.scope(a, sp.ID+"/outputs")); err != nil {
			return nil, err
		}
	}
	return p.outputs(a, action.Outputs(out))
}

// attempted records what an attempt came to that needed no worker.
func (p *partition) attempted(a *active, sp run.StepPlan, n int, outputs run.Values, err error) {
	en := run.Attempted{Plan: sp, Attempt: n, Outputs: outputs, Err: err, Now: p.e.Now(), Random: p.e.Random}.Entry()
	p.finishEntry(a, sp, a.run.Phase, n, en)
}
