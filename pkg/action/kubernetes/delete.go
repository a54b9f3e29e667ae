package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

const defaultDeletion = time.Minute

// DeleteParams are the parameters of kubernetes.delete.
type DeleteParams struct {
	Kind        string        `yaml:"kind" required:"true" doc:"kind of object, as kubectl takes it"`
	Name        string        `yaml:"name" required:"true" doc:"name of the object"`
	Namespace   string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of the object, where its kind has one"`
	APIVersion  string        `yaml:"apiVersion,omitempty" doc:"group and version of the kind, where its name is not enough"`
	UID         string        `yaml:"uid,omitempty" doc:"delete it only if it is still this one, and not one of the same name made anew"`
	Grace       *int64        `yaml:"grace,omitempty" doc:"seconds that a pod has to end; default: its own terminationGracePeriodSeconds"`
	Orphan      bool          `yaml:"orphan,omitempty" doc:"leave what the object controls"`
	Wait        time.Duration `yaml:"wait,omitempty" default:"1m" doc:"how long to wait until it is gone; a negative one does not wait"`
	AllowSystem []string      `yaml:"allowSystem,omitempty" doc:"namespaces of the cluster's own in which it may be deleted all the same: kube-system"`
}

func (p *DeleteParams) ref() kube.Ref {
	return kube.Ref{APIVersion: p.APIVersion, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
}

// DeleteOutputs are the outputs of kubernetes.delete.
type DeleteOutputs struct {
	Target  string `yaml:"target" doc:"the object, as its lock is named: kubernetes:NAMESPACE/KIND/NAME"`
	Existed bool   `yaml:"existed" doc:"it was there"`
	Gone    bool   `yaml:"gone" doc:"it was gone when the step ended"`
}

func (a actions) deleteDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.delete",
		Doc:              "Deletes an object, with what it controls, and waits until it is gone. What is not there is no failure. In kube-system, kube-public and kube-node-lease, and of these namespaces, it deletes only where allowSystem names the namespace.",
		Params:           &DeleteParams{},
		Outputs:          DeleteOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return target(c.Params.(*DeleteParams).ref()) },
		TargetDoc:        "`kubernetes:NAMESPACE/KIND/NAME` of the object",
		Replaces:         []string{"pod", "instance", "container_id", "uid"},
		Rights:           []action.Right{right("", verbs("get", "delete"), "pods"), right("batch", verbs("get", "delete"), "jobs")},
		Fenced:           "by the uid that was read, so that an object of the same name made anew meanwhile stays",
		Check: func(params any) error {
			if p := params.(*DeleteParams); p.Grace != nil && *p.Grace < 0 {
				return errors.New("grace is negative")
			}
			return nil
		},
		Run: wrapped("kubernetes.delete", a.delete),
	}
}

func (a actions) delete(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*DeleteParams)
	if err := checkRef(p.ref(), true); err != nil {
		return nil, action.Permanent(err)
	}
	_, r, err := a.resolve(ctx, call, p.ref())
	if err != nil {
		return nil, err
	}
	ref := kube.Ref{APIVersion: p.APIVersion, Kind: r.GVK.Kind, Namespace: r.Namespace, Name: p.Name}
	if err := system(ref, p.AllowSystem); err != nil {
		return nil, err
	}
	out := action.Outputs{"target": target(ref), "existed": false, "gone": true}
	o, err := r.Get(ctx, p.Name)
	if kube.Is(err, kube.NotFound) || err == nil && p.UID != "" && o.GetUID() != types.UID(p.UID) {
		say(call, "%s is not there", ref)
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out["existed"] = true
	err = r.Delete(ctx, p.Name, kube.Deletion{UID: o.GetUID(), Grace: p.Grace, Orphan: p.Orphan})
	if err != nil && !kube.Is(err, kube.NotFound) && !kube.Is(err, kube.Changed) {
		return nil, err
	}
	say(call, "%s is to be deleted", ref)
	if p.Wait < 0 {
		out["gone"] = false
		return out, nil
	}
	return out, gone(ctx, r, p.Name, o.GetUID(), cmp.Or(p.Wait, defaultDeletion))
}

// gone waits until an object is no longer there, and says what holds it where it stays.
func gone(ctx context.Context, r *kube.Resource, name string, uid types.UID, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%s have passed", wait))
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	holds := "nothing that it names"
	for {
		o, err := r.Get(ctx, name)
		switch {
		case kube.Is(err, kube.NotFound), err == nil && o.GetUID() != uid:
			return nil
		case err == nil && len(o.GetFinalizers()) > 0:
			holds = kube.Finalizers(o)
		case err != nil && !kube.Late(ctx):
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %s is being deleted, and not gone: %w: it is held by %s: see why their controller does not let it go, and never remove a finalizer without knowing what it guards", r.GVK.Kind, name, context.Cause(ctx), holds)
		case <-tick.C:
		}
	}
}
