package kubernetes

import (
	"context"
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

const (
	maxObject = 32 << 10 // bytes of JSON of an output object
	maxItems  = 100
)

// GetParams are the parameters of kubernetes.get.
type GetParams struct {
	Kind       string `yaml:"kind,omitempty" doc:"kind of object, as kubectl takes it: Deployment, deployments, deploy"`
	Name       string `yaml:"name,omitempty" doc:"name of the object; without it, selector chooses objects"`
	Namespace  string `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object, where its kind has one"`
	APIVersion string `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough: apps/v1"`
	Target     string `yaml:"target,omitempty" doc:"instead of kind, name and namespace: the output target of another step"`
	Selector   string `yaml:"selector,omitempty" doc:"labels of the objects, as kubectl takes them: app=web,tier!=cache"`
}

func (p *GetParams) ref() kube.Ref {
	if p.Target != "" {
		return parseTarget(p.Target)
	}
	return kube.Ref{APIVersion: p.APIVersion, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
}

// GetOutputs are the outputs of kubernetes.get.
type GetOutputs struct {
	Found         bool           `yaml:"found" doc:"there is such an object, or at least one that the selector chooses"`
	Count         int64          `yaml:"count" doc:"objects found"`
	Ready         bool           `yaml:"ready,omitempty" doc:"it can do its work now: all replicas that it should have are ready, or its condition Ready is true; of several, all are. Absent where none is found"`
	Healthy       bool           `yaml:"healthy,omitempty" doc:"it is as it was asked to be, with every rollout done; of several, all are. Absent where none is found"`
	Status        string         `yaml:"status,omitempty" doc:"how kstatus judges it: Current, InProgress, Failed, Terminating or Unknown; of several, the first that is not Current"`
	Message       string         `yaml:"message,omitempty" doc:"why, and what its pods wait for"`
	Replicas      int64          `yaml:"replicas,omitempty" doc:"replicas that a workload should have; of several, together"`
	ReadyReplicas int64          `yaml:"readyReplicas,omitempty" doc:"replicas of it that are ready"`
	Restarts      int64          `yaml:"restarts,omitempty" doc:"how often containers of the pods were started again"`
	Target        string         `yaml:"target,omitempty" doc:"what a change of it would lock: kubernetes:NAMESPACE/KIND/NAME; of a pod, its owner's. Absent with a selector"`
	Object        map[string]any `yaml:"object,omitempty" doc:"the object itself, where it is at most 32 KiB of JSON; values of Secrets are ***. Absent with a selector"`
	Items         []any          `yaml:"items" doc:"list of {name, namespace, ready, healthy, status} of the first 100 objects that the selector chooses"`
}

func (a actions) getDefinition() action.Definition {
	v := verbs("get", "list")
	return action.Definition{
		Name:             "kubernetes.get",
		Doc:              "Reads an object of a Kubernetes cluster, or those that a selector chooses, and judges their health. That there is none is no failure: `found` says so, and the other outputs are absent.",
		Params:           &GetParams{},
		Outputs:          GetOutputs{},
		NoDir:            true,
		RetryInterrupted: true,
		Rights:           append(usual(v), right("", v, "events", "pods"), right("apps", v, "replicasets"), clusterRight(v, "namespaces", "nodes")),
		Check: func(params any) error {
			p := params.(*GetParams)
			if _, err := labels.Parse(p.Selector); err != nil {
				return err
			}
			return nil
		},
		Run: wrapped("kubernetes.get", a.get),
	}
}

func (a actions) get(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*GetParams)
	if err := errors.Join(checkRef(p.ref(), false), p.check()); err != nil {
		return nil, action.Permanent(err)
	}
	client, r, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	if p.Name == "" && p.Target == "" {
		return a.list(ctx, client, r, p.Selector)
	}
	o, err := r.Get(ctx, p.ref().Name)
	if kube.Is(err, kube.NotFound) {
		say(call, "there is no %s", p.ref())
		return action.Outputs{"found": false, "count": int64(0), "items": []any{}}, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := judge(ctx, client, []unstructured.Unstructured{*o})
	if err != nil {
		return nil, err
	}
	out["items"] = []any{}
	ref := kube.RefOf(o)
	if out["target"] = target(ref); ref.Kind == "Pod" {
		if _, owner, err := client.Workload(ctx, r, p.ref().Name); err == nil {
			out["target"] = target(kube.RefOf(owner))
		}
	}
	if shown := show(o); shown != nil {
		out["object"] = shown
	}
	return out, nil
}

func (p *GetParams) check() error {
	if (p.ref().Name == "") == (p.Selector == "") {
		return errors.New("needs either name or selector")
	}
	_, err := labels.Parse(p.Selector)
	return err
}

func (a actions) list(ctx context.Context, client *kube.Client, r *kube.Resource, selector string) (action.Outputs, error) {
	found, err := r.List(ctx, selector, "")
	if err != nil {
		return nil, err
	}
	items := []any{}
	for i := range found[:min(len(found), maxItems)] {
		h := kube.HealthOf(&found[i])
		items = append(items, map[string]any{
			"name": found[i].GetName(), "namespace": found[i].GetNamespace(), "ready": h.Ready, "healthy": h.Healthy(), "status": h.Status,
		})
	}
	if len(found) == 0 {
		return action.Outputs{"found": false, "count": int64(0), "items": items}, nil
	}
	out, err := judge(ctx, client, found)
	if err != nil {
		return nil, err
	}
	out["items"] = items
	return out, nil
}

// judge sums up how objects are.
func judge(ctx context.Context, client *kube.Client, found []unstructured.Unstructured) (action.Outputs, error) {
	ready, healthy, status, message := true, true, "Current", ""
	var replicas, alive, restarts int64
	for i := range found {
		o := &found[i]
		h := kube.HealthOf(o)
		ready, healthy = ready && h.Ready, healthy && h.Healthy()
		if status == "Current" && !h.Healthy() {
			status, message = h.Status, client.Why(ctx, o)
		}
		replicas, alive = replicas+h.Replicas, alive+h.Alive
		pods, err := client.Pods(ctx, o)
		if err != nil {
			return nil, err
		}
		restarts += kube.Restarts(pods)
	}
	return action.Outputs{
		"found": true, "count": int64(len(found)), "ready": ready, "healthy": healthy, "status": status, "message": message,
		"replicas": replicas, "readyReplicas": alive, "restarts": restarts,
	}, nil
}

// show is an object as an output: without what only the server needs, and without secrets; nil where it is too large.
func show(o *unstructured.Unstructured) map[string]any {
	c := o.DeepCopy()
	unstructured.RemoveNestedField(c.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(c.Object, "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
	if c.GetKind() == "Secret" {
		for _, field := range []string{"data", "stringData"} {
			values, _, _ := unstructured.NestedMap(c.Object, field)
			for k := range values {
				_ = unstructured.SetNestedField(c.Object, "***", field, k)
			}
		}
	}
	if text, err := json.Marshal(c.Object); err != nil || len(text) > maxObject {
		return nil
	}
	return c.Object
}
