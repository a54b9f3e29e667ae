package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/riposte-dev/riposte/pkg/action"
)

func (a *actions) apply(ctx context.Context, call *action.Call) (action.Outputs, error) {
	params := call.Params.(*ApplyParams)
	if err := params.check(); err != nil {
		return nil, wrap("terraform.apply", action.Permanent(err))
	}
	s, err := a.unseal(call, params.Plan)
	if err != nil {
		return nil, wrap("terraform.apply", err)
	}
	t, err := a.tool(call, s.Binary, s.Dir, s.DataDir)
	if err != nil {
		return nil, wrap("terraform.apply", err)
	}
	if err := t.give(call, params.Env, params.SecretEnv); err != nil {
		return nil, wrap("terraform.apply", action.Permanent(err))
	}
	t.mask = t.mask.with(s.Secrets...)
	release, err := a.states.acquire(ctx, s.Base.State)
	if err != nil {
		return nil, wrap("terraform.apply", err)
	}
	defer release()
	if err := t.same(ctx, s); err != nil {
		return nil, wrap("terraform.apply", err)
	}
	done, err := t.apply(ctx, call, params, s.Plan)
	if err != nil {
		return nil, wrap("terraform.apply", err)
	}
	values, err := t.outputs(ctx)
	if err != nil { // what was to be done is done: reporting failure would have it done again
		fmt.Fprintf(call.Log, "the outputs cannot be read: %v\n", err)
		values = map[string]any{}
	}
	return action.Outputs{"outputs": values, "add": done.add, "change": done.change, "destroy": done.destroy}, nil
}

// unseal opens the run's own plan.
func (a *actions) unseal(call *action.Call, path string) (sealed, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(call.Dir, path)
	}
	s, err := a.vault.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, action.Permanent(errors.New("the plan file is not on this machine: run terraform.plan in the same run first"))
	}
	if err != nil {
		return s, action.Permanent(fmt.Errorf("%w: plan again", err))
	}
	if s.RunID != call.RunID {
		return s, stale("it was made by another run")
	}
	for _, dir := range []string{s.Dir, s.DataDir} {
		if _, err := os.Stat(dir); err != nil {
			return s, action.Permanent(fmt.Errorf("the planned directory is gone: plan again: %w", err))
		}
	}
	return s, nil
}

func stale(why string) error {
	return action.Refused("StalePlan", fmt.Errorf("the plan no longer fits: %s; plan again", why))
}

// same refuses a plan whose base has changed. Holds the state's lock of this process; terraform checks the serial once
// more under its own.
func (t *tool) same(ctx context.Context, s sealed) error {
	now, err := t.observe(ctx, s.DataDir)
	if err != nil {
		return err
	}
	was := s.Base
	switch {
	case now.State != was.State:
		return stale("another backend or workspace is selected")
	case now.Lineage != was.Lineage:
		return stale("the state was replaced by another one")
	case now.Serial != was.Serial:
		return stale(fmt.Sprintf("the state has serial %d now, and had %d", now.Serial, was.Serial))
	case now.Commit != was.Commit:
		return stale(fmt.Sprintf("the directory is at commit %q now, and was at %q", now.Commit, was.Commit))
	case now.Digest != was.Digest:
		return stale("the configuration's files have changed")
	}
	return nil
}

func (t *tool) apply(ctx context.Context, call *action.Call, params *ApplyParams, plan []byte) (counts, error) {
	dir, err := os.MkdirTemp(call.Dir, "apply-*") // 0700
	if err != nil {
		return counts{}, fmt.Errorf("make a private directory: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "plan")
	if err := os.WriteFile(path, plan, 0o600); err != nil {
		return counts{}, fmt.Errorf("decrypt the plan: %w", err)
	}
	args := []string{"apply", "-json", "-input=false", "-lock-timeout=" + seconds(params.LockTimeout)}
	if params.Parallelism > 0 {
		args = append(args, "-parallelism="+strconv.FormatInt(params.Parallelism, 10))
	}
	code, told, err := t.stream(ctx, append(args, path)...)
	if err != nil {
		return counts{}, err
	}
	if code == 0 {
		return told.counts, nil
	}
	f := &failure{t.name + " apply", told.errors}
	if f.says("Saved plan is stale") {
		return counts{}, stale("the state has changed")
	}
	return counts{}, f
}

// outputs reads the root module's outputs.
func (t *tool) outputs(ctx context.Context) (map[string]any, error) {
	text, err := t.answer(ctx, "output", "-json", "-no-color")
	if err != nil {
		return nil, err
	}
	var answer map[string]struct {
		Sensitive bool `json:"sensitive"`
		Value     any  `json:"value"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&answer); err != nil {
		return nil, errors.New("the answer is not JSON")
	}
	values := map[string]any{}
	for name, o := range answer {
		values[name] = t.value(o.Value)
		if o.Sensitive {
			values[name] = masked
		}
	}
	return values, nil
}

// value makes a JSON value what an action's output may be: integers exact, secrets masked.
func (t *tool) value(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	case string:
		return t.mask.text(v)
	case []any:
		for i := range v {
			v[i] = t.value(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = t.value(v[k])
		}
	}
	return v
}
