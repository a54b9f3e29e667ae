package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// ScaleParams are the parameters of kubernetes.scale.
type ScaleParams struct {
	Kind       string        `yaml:"kind,omitempty" default:"deployment" doc:"Deployment, StatefulSet or another kind with spec.replicas, or a pod of one"`
	Name       string        `yaml:"name" required:"true" doc:"name of the object"`
	Namespace  string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object"`
	APIVersion string        `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough"`
	Replicas   *int64        `yaml:"replicas,omitempty" doc:"replicas it shall have"`
	By         int64         `yaml:"by,omitempty" doc:"replicas more, or fewer where it is negative, instead"`
	Min        int64         `yaml:"min,omitempty" doc:"fewest replicas that the step leaves"`
	Max        int64         `yaml:"max,omitempty" doc:"most replicas that the step leaves; needed beside a positive by"`
	Wait       time.Duration `yaml:"wait,omitempty" doc:"how long to wait until all of them are ready; default: not at all"`
}

func (p *ScaleParams) ref() kube.Ref {
	r := RestartParams{Kind: p.Kind, Name: p.Name, Namespace: p.Namespace, APIVersion: p.APIVersion}
	return r.ref()
}

// check looks at what is known; a parameter that comes from an expression is missing when a rule is loaded.
func (p *ScaleParams) check() error {
	switch {
	case p.Replicas != nil && p.By != 0:
		return errors.New("needs either replicas or by")
	case p.Replicas != nil && *p.Replicas < 0, p.Min < 0, p.Max < 0:
		return errors.New("replicas, min and max are not negative")
	case p.Max > 0 && p.Max < p.Min:
		return errors.New("max is less than min")
	case p.Wait < 0:
		return errors.New("wait is negative")
	}
	return nil
}

// ScaleOutputs are the outputs of kubernetes.scale.
type ScaleOutputs struct {
	Target   string `yaml:"target" doc:"the object, as its lock is named: kubernetes:NAMESPACE/KIND/NAME"`
	From     int64  `yaml:"from" doc:"replicas it was to have before"`
	Replicas int64  `yaml:"replicas" doc:"replicas it is to have now"`
	Changed  bool   `yaml:"changed" doc:"the number was changed by this step"`
	Healthy  bool   `yaml:"healthy" doc:"all of them were ready when the step ended"`
	Status   string `yaml:"status" doc:"how kstatus judged it then"`
}

func (a actions) scaleDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.scale",
		Doc:              "Changes how many replicas a workload shall have, to a number or by one within bounds. A HorizontalPodAutoscaler of the same workload undoes it.",
		Params:           &ScaleParams{},
		Outputs:          ScaleOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return workloadTarget(c.Params.(*ScaleParams).ref()) },
		TargetDoc:        "`kubernetes:NAMESPACE/KIND/NAME` of the object, of a pod as for kubernetes.restart",
		Rights:           watching(right("apps", verbs("get", "patch"), "deployments", "statefulsets"), right("apps", verbs("get"), "replicasets")),
		Fenced:           "by the object's resourceVersion and the step's annotation: by counts once for a step",
		Check:            func(params any) error { return params.(*ScaleParams).check() },
		Run:              wrapped("kubernetes.scale", a.scale),
	}
}

func (a actions) scale(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*ScaleParams)
	err := errors.Join(checkRef(p.ref(), true), p.check())
	switch {
	case err != nil:
		return nil, action.Permanent(err)
	case p.Replicas == nil && p.By == 0:
		return nil, action.Permanent(errors.New("needs replicas or by"))
	case p.By > 0 && p.Max == 0:
		return nil, action.Permanent(errors.New("by needs a max, or an alert that goes on would scale without an end"))
	}
	client, named, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	var r *kube.Resource
	var o *unstructured.Unstructured
	var from, to int64
	if err := fenced(ctx, func() error {
		found, err := named.Get(ctx, p.Name)
		if r = named; err == nil && found.GetKind() == "Pod" {
			r, found, err = client.Workload(ctx, named, p.Name)
		}
		if err != nil {
			return err
		}
		o, from, to, err = p.put(ctx, call, r, found)
		return err
	}); err != nil {
		return nil, err
	}
	say(call, "%s has %d replicas to have, and had %d", kube.RefOf(o), to, from)
	h, err := settle(ctx, call, r, o, p.Wait)
	if err != nil {
		return nil, err
	}
	return action.Outputs{"target": target(kube.RefOf(o)), "from": from, "replicas": to, "changed": from != to, "healthy": h.Healthy(), "status": h.Status}, nil
}

// put writes the number of replicas, unless the step has done so before.
func (p *ScaleParams) put(ctx context.Context, call *action.Call, r *kube.Resource, o *unstructured.Unstructured) (is *unstructured.Unstructured, from, to int64, err error) {
	from, ok, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	if !ok {
		return nil, 0, 0, action.Permanent(fmt.Errorf("%s has no spec.replicas, and can't be scaled", kube.RefOf(o)))
	}
	if to = p.wanted(from); to == from || p.Replicas == nil && noted(call, o) {
		return o, from, from, nil
	}
	is, err = r.Fenced(ctx, o, note(call), map[string]any{"spec": map[string]any{"replicas": to}})
	return is, from, to, err
}

// wanted is the number of replicas within the bounds. One that is beyond them already is not moved further away.
func (p *ScaleParams) wanted(from int64) int64 {
	to := from + p.By
	if p.Replicas != nil {
		to = *p.Replicas
	}
	if p.Max > 0 {
		to = min(to, p.Max)
	}
	to = max(to, p.Min, 0)
	if p.By > 0 {
		return max(to, from)
	}
	if p.By < 0 {
		return min(to, from)
	}
	return to
}
