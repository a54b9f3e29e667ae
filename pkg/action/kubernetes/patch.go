package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// PatchParams are the parameters of kubernetes.patch.
type PatchParams struct {
	Kind       string         `yaml:"kind" required:"true" doc:"kind of object, as kubectl takes it"`
	Name       string         `yaml:"name" required:"true" doc:"name of the object"`
	Namespace  string         `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object, where its kind has one"`
	APIVersion string         `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough"`
	Type       string         `yaml:"type,omitempty" enum:"strategic,merge" default:"strategic" doc:"how the patch is merged; custom resources know merge alone"`
	Patch      map[string]any `yaml:"patch,omitempty" doc:"the fields that are changed; null removes one"`
	Operations []any          `yaml:"operations,omitempty" doc:"operations of a JSON patch instead: list of {op, path, value}"`
	Status     bool           `yaml:"status,omitempty" doc:"change the object's status and nothing else of it, which only a controller usually does; RBAC calls it RESOURCE/status"`
	Wait       time.Duration  `yaml:"wait,omitempty" doc:"how long to wait until the object is healthy; default: not at all"`
}

func (p *PatchParams) ref() kube.Ref {
	return kube.Ref{APIVersion: p.APIVersion, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
}

func (p *PatchParams) check() error {
	switch {
	case (len(p.Patch) == 0) == (len(p.Operations) == 0):
		return errors.New("needs either patch or operations")
	case p.Wait < 0:
		return errors.New("wait is negative")
	}
	return nil
}

// PatchOutputs are the outputs of kubernetes.patch.
type PatchOutputs struct {
	Target  string `yaml:"target" doc:"the object, as its lock is named: kubernetes:NAMESPACE/KIND/NAME"`
	Changed bool   `yaml:"changed" doc:"a field was changed"`
	Diff    []any  `yaml:"diff" doc:"list of {path, from, to} of the first 100 fields that were changed; values of Secrets are ***"`
	Healthy bool   `yaml:"healthy" doc:"the object was as asked for when the step ended"`
	Status  string `yaml:"status" doc:"how kstatus judged it then"`
}

func (a actions) patchDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.patch",
		Doc:              "Changes fields of an object.",
		Params:           &PatchParams{},
		Outputs:          PatchOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return target(c.Params.(*PatchParams).ref()) },
		TargetDoc:        "`kubernetes:NAMESPACE/KIND/NAME` of the object",
		Rights:           watching(usual(verbs("get", "patch"))...),
		Fenced:           "none beyond what the patch itself tests: a stale owner may make the same change once more, which changes nothing unless operations add to a list",
		Run:              wrapped("kubernetes.patch", a.patch),
	}
}

func (a actions) patch(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*PatchParams)
	if err := errors.Join(checkRef(p.ref(), true), p.check()); err != nil {
		return nil, action.Permanent(err)
	}
	_, r, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	was, err := r.Get(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	text, kind, err := p.body()
	if err != nil {
		return nil, action.Permanent(err)
	}
	is, err := r.Patch(ctx, p.Name, kind, text, p.subresources()...)
	if err != nil {
		return nil, err
	}
	fields := kube.Diff(was, is)
	if p.Status {
		fields = kube.DiffStatus(was, is)
	}
	if len(fields) > 0 { // afterwards, so that a patch that changes nothing leaves no trace
		if is, err = r.Annotate(ctx, p.Name, note(call)); err != nil {
			return nil, err
		}
	}
	h, err := settle(ctx, call, r, is, p.Wait)
	if err != nil {
		return nil, err
	}
	return action.Outputs{"target": target(kube.RefOf(is)), "changed": len(fields) > 0, "diff": shownFields(fields), "healthy": h.Healthy(), "status": h.Status}, nil
}

func (p *PatchParams) body() ([]byte, types.PatchType, error) {
	if len(p.Operations) > 0 {
		text, err := json.Marshal(p.Operations)
		return text, types.JSONPatchType, err
	}
	kind := types.StrategicMergePatchType
	if p.Type == "merge" {
		kind = types.MergePatchType
	}
	text, err := json.Marshal(p.Patch)
	return text, kind, err
}

func (p *PatchParams) subresources() []string {
	if p.Status {
		return []string{"status"}
	}
	return nil
}

// shownFields are differences as an output.
func shownFields(fields []kube.Field) []any {
	const most, longest = 100, 500
	short := func(v any) any {
		if text, err := json.Marshal(v); err != nil || len(text) > longest {
			return fmt.Sprintf("%.*s…", longest, text)
		}
		return v
	}
	out := []any{}
	for _, f := range fields[:min(most, len(fields))] {
		out = append(out, map[string]any{"path": f.Path, "from": short(f.From), "to": short(f.To)})
	}
	return out
}
