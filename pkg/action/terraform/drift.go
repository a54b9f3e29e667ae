package terraform

import (
	"context"
	"os"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/riposte-dev/riposte/pkg/action"
)

// plan is the plan that shows the drift.
func (p *DriftParams) plan() *PlanParams {
	return &PlanParams{
		Dir: p.Dir, Vars: p.Vars, VarFiles: p.VarFiles, Workspace: p.Workspace, BackendConfig: p.BackendConfig, Targets: p.Targets,
		Refresh: true, LockTimeout: p.LockTimeout, Env: p.Env, SecretEnv: p.SecretEnv,
	}
}

// drift plans, and keeps nothing of the plan but what it says.
func (a *actions) drift(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*DriftParams)
	j, err := a.newJob(call, p.plan())
	if err != nil {
		return nil, wrap("terraform.drift", err)
	}
	defer func() { _, _ = os.RemoveAll(j.private), os.RemoveAll(j.dataDir) }()
	j.refreshOnly, j.readOnly = p.RefreshOnly, true
	out, err := j.compare(ctx)
	if err != nil {
		return nil, wrap("terraform.drift", err)
	}
	return out.values(), nil
}

func (j *job) compare(ctx context.Context) (DriftOutputs, error) {
	release, err := j.hold(ctx)
	if err != nil {
		return DriftOutputs{}, err
	}
	defer release()
	if err := j.make(ctx); err != nil {
		return DriftOutputs{}, j.classify(ctx, err)
	}
	plan, summary, err := j.read(ctx)
	if err != nil {
		return DriftOutputs{}, err
	}
	out := differences(plan, j.refreshOnly)
	out.Drifted, out.Summary = j.differs, summary
	for i, address := range out.Addresses {
		out.Addresses[i] = j.mask.text(address.(string))
	}
	return out, nil
}

// differences lists what differs: what an apply would change, or what is no longer as the state says.
func differences(p *tfjson.Plan, refreshOnly bool) DriftOutputs {
	out := DriftOutputs{Addresses: []any{}}
	list := p.ResourceChanges
	if refreshOnly {
		list = p.ResourceDrift
	}
	for _, rc := range list {
		if rc.Change == nil || rc.Mode != tfjson.ManagedResourceMode || rc.Change.Actions.NoOp() || rc.Change.Actions.Read() {
			continue
		}
		out.Changes++
		if len(out.Addresses) < maxChanges {
			out.Addresses = append(out.Addresses, rc.Address)
		}
	}
	for _, c := range p.OutputChanges {
		if c != nil && !c.Actions.NoOp() {
			out.OutputChanges++
		}
	}
	return out
}

func (o DriftOutputs) values() action.Outputs {
	return action.Outputs{"drifted": o.Drifted, "changes": o.Changes, "outputChanges": o.OutputChanges, "addresses": o.Addresses, "summary": o.Summary}
}
