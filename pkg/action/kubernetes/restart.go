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

// RestartParams are the parameters of kubernetes.restart.
type RestartParams struct {
	Kind       string        `yaml:"kind,omitempty" default:"deployment" doc:"Deployment, StatefulSet, DaemonSet, or what one of them controls: a pod, a ReplicaSet"`
	Name       string        `yaml:"name,omitempty" doc:"name of the object; needed where pod is not given"`
	Pod        string        `yaml:"pod,omitempty" doc:"name of a pod, instead of kind and name: what controls it is restarted"`
	Namespace  string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object"`
	APIVersion string        `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough"`
	Wait       time.Duration `yaml:"wait,omitempty" doc:"how long to wait until the rollout is done; default: not at all"`
}

func (p *RestartParams) ref() kube.Ref {
	if p.Pod != "" {
		return kube.Ref{Kind: "pod", Namespace: p.Namespace, Name: p.Pod}
	}
	kind := p.Kind
	if kind == "" {
		kind = "deployment"
	}
	return kube.Ref{APIVersion: p.APIVersion, Kind: kind, Namespace: p.Namespace, Name: p.Name}
}

// RolloutOutputs are the outputs of actions that change a workload.
type RolloutOutputs struct {
	Target    string `yaml:"target" doc:"the workload that was changed, as its lock is named: kubernetes:NAMESPACE/KIND/NAME"`
	Kind      string `yaml:"kind" doc:"its kind"`
	Name      string `yaml:"name" doc:"its name"`
	Namespace string `yaml:"namespace" doc:"its namespace"`
	Changed   bool   `yaml:"changed" doc:"it was changed by this step; false where it was so already"`
	Healthy   bool   `yaml:"healthy" doc:"its rollout was done when the step ended"`
	Status    string `yaml:"status" doc:"how kstatus judged it then: Current, InProgress, Failed, Terminating or Unknown"`
}

func rolloutOutputs(o *unstructured.Unstructured, changed bool, h kube.Health) action.Outputs {
	return action.Outputs{
		"target": target(kube.RefOf(o)), "kind": o.GetKind(), "name": o.GetName(), "namespace": o.GetNamespace(),
		"changed": changed, "healthy": h.Healthy(), "status": h.Status,
	}
}

func (a actions) restartDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.restart",
		Doc:              "Restarts a workload as `kubectl rollout restart` does, pod by pod. A pod or ReplicaSet stands for the workload that controls it.",
		Params:           &RestartParams{},
		Outputs:          RolloutOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return workloadTarget(c.Params.(*RestartParams).ref()) },
		TargetDoc:        "`kubernetes:NAMESPACE/KIND/NAME` of the workload; a pod's is found by its name, where that is as a Deployment or StatefulSet makes it, and is the pod's own otherwise",
		Replaces:         []string{"pod", "instance", "container_id", "uid"},
		Rights:           watching(onWorkloads("get", "patch"), right("apps", verbs("get"), "replicasets")),
		Fenced:           "the time of the restart is that of the step's beginning, so that a stale owner restarts nothing once more; the object's resourceVersion is compared",
		Check: func(params any) error {
			if params.(*RestartParams).Wait < 0 {
				return errors.New("wait is negative")
			}
			return nil
		},
		Run: wrapped("kubernetes.restart", a.restart),
	}
}

// restartedAt is the annotation that kubectl rollout restart writes.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

func (a actions) restart(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*RestartParams)
	if err := checkRef(p.ref(), true); err != nil {
		return nil, action.Permanent(err)
	}
	client, named, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	var r *kube.Resource
	var o *unstructured.Unstructured
	var changed bool
	if err := fenced(ctx, func() error {
		workload, found, err := client.Workload(ctx, named, p.Name)
		if err != nil {
			return err
		}
		r = workload
		o, changed, err = stamp(ctx, call, r, found)
		return err
	}); err != nil {
		return nil, err
	}
	say(call, "%s is restarted", kube.RefOf(o))
	h, err := settle(ctx, call, r, o, p.Wait)
	if err != nil {
		return nil, err
	}
	return rolloutOutputs(o, changed, h), nil
}

// stamp writes the time of the restart into the template, unless the step has done so before.
func stamp(ctx context.Context, call *action.Call, r *kube.Resource, o *unstructured.Unstructured) (*unstructured.Unstructured, bool, error) {
	if paused, _, _ := unstructured.NestedBool(o.Object, "spec", "paused"); paused {
		return nil, false, action.Permanent(fmt.Errorf("the rollouts of %s are paused: nothing would be restarted before somebody resumes them", kube.RefOf(o)))
	}
	at := call.StartedAt.UTC().Format(time.RFC3339)
	if was, _, _ := unstructured.NestedString(o.Object, "spec", "template", "metadata", "annotations", restartedAt); was == at && noted(call, o) {
		return o, false, nil
	}
	o, err := r.Fenced(ctx, o, note(call), map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{restartedAt: at}}}}})
	return o, true, err
}
