package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// RollbackParams are the parameters of kubernetes.rollback.
type RollbackParams struct {
	Kind       string        `yaml:"kind,omitempty" default:"deployment" doc:"Deployment, StatefulSet, DaemonSet, or a pod or ReplicaSet of one"`
	Name       string        `yaml:"name" required:"true" doc:"name of the object"`
	Namespace  string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object"`
	APIVersion string        `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough"`
	ToRevision int64         `yaml:"toRevision,omitempty" doc:"revision to go back to; default: the newest before the current one that no rollback has left"`
	Wait       time.Duration `yaml:"wait,omitempty" doc:"how long to wait until the rollout is done; default: not at all"`
}

func (p *RollbackParams) ref() kube.Ref {
	r := RestartParams{Kind: p.Kind, Name: p.Name, Namespace: p.Namespace, APIVersion: p.APIVersion}
	return r.ref()
}

// RollbackOutputs are the outputs of kubernetes.rollback.
type RollbackOutputs struct {
	Target       string `yaml:"target" doc:"the workload, as its lock is named: kubernetes:NAMESPACE/KIND/NAME"`
	Changed      bool   `yaml:"changed" doc:"it was rolled back by this step; false where the step had done so before"`
	FromRevision int64  `yaml:"fromRevision" doc:"revision that it had"`
	ToRevision   int64  `yaml:"toRevision" doc:"revision whose template it has now"`
	Images       []any  `yaml:"images" doc:"images of its containers now"`
	Healthy      bool   `yaml:"healthy" doc:"its rollout was done when the step ended"`
	Status       string `yaml:"status" doc:"how kstatus judged it then"`
}

func (a actions) rollbackDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.rollback",
		Doc:              "Gives a workload the pod template of an earlier revision, as `kubectl rollout undo` does. Without toRevision it never goes back to a revision that a rollback has left, so that two alerts in a row do not bring the bad one back. What applies the workload from Git brings the newer one back: revert the commit there, too.",
		Params:           &RollbackParams{},
		Outputs:          RollbackOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return workloadTarget(c.Params.(*RollbackParams).ref()) },
		TargetDoc:        "`kubernetes:NAMESPACE/KIND/NAME` of the workload, of a pod as for kubernetes.restart",
		Replaces:         []string{"pod", "instance", "container_id", "uid"},
		Rights:           watching(onWorkloads("get", "patch"), right("apps", verbs("get", "list"), "controllerrevisions", "replicasets")),
		Fenced:           "by the object's resourceVersion and the step's annotation: a step rolls back once",
		Check: func(params any) error {
			if p := params.(*RollbackParams); p.Wait < 0 || p.ToRevision < 0 {
				return errors.New("wait and toRevision are not negative")
			}
			return nil
		},
		Run: wrapped("kubernetes.rollback", a.rollback),
	}
}

func (a actions) rollback(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*RollbackParams)
	if err := checkRef(p.ref(), true); err != nil {
		return nil, action.Permanent(err)
	}
	client, named, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	var r *kube.Resource
	var b back
	if err := fenced(ctx, func() error {
		workload, found, err := client.Workload(ctx, named, p.Name)
		if err != nil {
			return err
		}
		r = workload
		b, err = p.put(ctx, call, client, r, found)
		return err
	}); err != nil {
		return nil, err
	}
	return b.outputs(ctx, call, r, p.Wait)
}

// back is what a rollback came to.
type back struct {
	object   *unstructured.Unstructured
	changed  bool
	from, to int64
}

// put gives a workload the template of an earlier revision, unless the step has done so before.
func (p *RollbackParams) put(ctx context.Context, call *action.Call, client *kube.Client, r *kube.Resource, o *unstructured.Unstructured) (back, error) {
	revisions, err := client.Revisions(ctx, o)
	if err != nil {
		return back{}, err
	}
	current, bad := current(o, revisions), left(o)
	if noted(call, o) && len(bad) > 0 { // it is done: the newest that was left is where it came from
		return back{o, false, bad[len(bad)-1], current}, nil
	}
	to, err := choose(revisions, current, bad, p.ToRevision)
	if err != nil {
		return back{}, action.Permanent(fmt.Errorf("%s: %w", kube.RefOf(o), err))
	}
	if to.Same(o) {
		return back{o, false, current, to.Number}, nil
	}
	notes := note(call)
	notes[kube.BadAnnotation] = remember(bad, current, to.Number)
	is, err := r.PutTemplate(ctx, o, to, notes)
	if err == nil {
		say(call, "%s goes back from revision %d to %d", kube.RefOf(o), current, to.Number)
	}
	return back{is, true, current, to.Number}, err
}

func (b back) outputs(ctx context.Context, call *action.Call, r *kube.Resource, wait time.Duration) (action.Outputs, error) {
	o := b.object
	h, err := settle(ctx, call, r, o, wait)
	if err != nil {
		return nil, err
	}
	images := []any{}
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			images = append(images, m["image"])
		}
	}
	return action.Outputs{
		"target": target(kube.RefOf(o)), "changed": b.changed, "fromRevision": b.from, "toRevision": b.to, "images": images,
		"healthy": h.Healthy(), "status": h.Status,
	}, nil
}

// current is the number of the revision that a workload has; where its controller has not made one yet, the next.
func current(o *unstructured.Unstructured, revisions []kube.Revision) int64 {
	for _, v := range revisions {
		if v.Same(o) {
			return v.Number
		}
	}
	if len(revisions) == 0 {
		return 1
	}
	return revisions[0].Number + 1
}

func choose(revisions []kube.Revision, current int64, bad []int64, wanted int64) (kube.Revision, error) {
	var numbers []string
	for _, v := range revisions {
		if wanted == v.Number || wanted == 0 && v.Number < current && !slices.Contains(bad, v.Number) {
			return v, nil
		}
		numbers = append(numbers, strconv.FormatInt(v.Number, 10))
	}
	if wanted != 0 {
		return kube.Revision{}, fmt.Errorf("there is no revision %d: there are %s", wanted, strings.Join(numbers, ", "))
	}
	why := "its history has none before " + strconv.FormatInt(current, 10)
	if len(bad) > 0 {
		why += " that no rollback has left (" + join(bad) + ")"
	}
	return kube.Revision{}, fmt.Errorf("there is no revision to go back to: %s: deploy a good one, or name one in toRevision", why)
}

// left are the revisions that rollbacks have left, the last one last.
func left(o *unstructured.Unstructured) []int64 {
	var out []int64
	for text := range strings.SplitSeq(o.GetAnnotations()[kube.BadAnnotation], ",") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// remember adds the revision that is left, and forgets that the one was left that is gone back to.
func remember(bad []int64, from, to int64) string {
	out := slices.DeleteFunc(slices.Clone(bad), func(n int64) bool { return n == from || n == to })
	const most = 20
	if out = append(out, from); len(out) > most {
		out = out[len(out)-most:]
	}
	return join(out)
}

func join(numbers []int64) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ",")
}
