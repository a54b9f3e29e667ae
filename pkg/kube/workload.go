package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations that we write.
const (
	RunAnnotation  = event.RunAnnotation // the run that changed the object last
	StepAnnotation = "riposte.dev/step"  // and its step
	// BadAnnotation lists the revisions that a rollback left, so that the next one does not go back to them.
	BadAnnotation = "riposte.dev/rolled-back"
)

// IsWorkload reports whether objects of the kind run pods from a template and can be rolled out.
func IsWorkload(kind string) bool {
	return slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, kind)
}

// Workload walks from an object to the workload that controls it, which may be itself.
func (c *Client) Workload(ctx context.Context, r *Resource, name string) (*Resource, *unstructured.Unstructured, error) {
	o, err := r.Get(ctx, name)
	const deepest = 5
	for range deepest {
		if err != nil {
			return nil, nil, err
		}
		if IsWorkload(o.GetKind()) {
			return r, o, nil
		}
		owner := metav1.GetControllerOf(o)
		if owner == nil {
			break
		}
		if r, err = c.Resolve(ctx, Ref{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: o.GetNamespace()}); err == nil {
			o, err = r.Get(ctx, owner.Name)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, &Error{Other, true, fmt.Errorf("%s %s is controlled by no Deployment, StatefulSet or DaemonSet: nothing would make it anew", o.GetKind(), o.GetName())}
}

// Revision is one that a workload had.
type Revision struct {
	Number   int64
	Template map[string]any // of its pods

}

// Revisions are those that a workload can go back to, the newest first.
func (c *Client) Revisions(ctx context.Context, o *unstructured.Unstructured) ([]Revision, error) {
	kind := "ControllerRevision"
	if o.GetKind() == "Deployment" {
		kind = "ReplicaSet"
	}
	r, err := c.Resolve(ctx, Ref{APIVersion: "apps/v1", Kind: kind, Namespace: o.GetNamespace()})
	if err != nil {
		return nil, err
	}
	raw, _, _ := unstructured.NestedMap(o.Object, "spec", "selector")
	selector, err := selectorOf(raw)
	if err != nil {
		return nil, err
	}
	list, err := r.List(ctx, selector.String(), "")
	if err != nil {
		return nil, err
	}
	var out []Revision
	for i := range list {
		if !metav1.IsControlledBy(&list[i], o) {
			continue
		}
		if rev, ok := revisionOf(&list[i]); ok {
			out = append(out, rev)
		}
	}
	slices.SortFunc(out, func(a, b Revision) int { return int(b.Number - a.Number) })
	return out, nil
}

func revisionOf(o *unstructured.Unstructured) (Revision, bool) {
	if o.GetKind() == "ReplicaSet" {
		n, err := strconv.ParseInt(o.GetAnnotations()["deployment.kubernetes.io/revision"], 10, 64)
		template, ok, _ := unstructured.NestedMap(o.Object, "spec", "template")
		unstructured.RemoveNestedField(template, "metadata", "labels", "pod-template-hash")
		return Revision{Number: n, Template: template}, ok && err == nil
	}
	data, ok, _ := unstructured.NestedMap(o.Object, "data")
	template, has, _ := unstructured.NestedMap(data, "spec", "template")
	delete(template, "$patch")
	return Revision{Number: integer(o, 0, "revision"), Template: template}, ok && has
}

// Same reports whether a workload's template is that of the revision.
func (v Revision) Same(o *unstructured.Unstructured) bool {
	template, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
	a, errA := json.Marshal(template)
	b, errB := json.Marshal(v.Template)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// PutTemplate gives a workload the template of a revision with annotations beside; it is refused as Changed where the
// workload is not what was read.
func (r *Resource) PutTemplate(ctx context.Context, o *unstructured.Unstructured, v Revision, annotations map[string]string) (*unstructured.Unstructured, error) {
	all := map[string]string{}
	for k, v := range o.GetAnnotations() {
		all[k] = v
	}
	for k, v := range annotations {
		all[k] = v
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/resourceVersion", "value": o.GetResourceVersion()}, // makes the server compare it
		{"op": "replace", "path": "/spec/template", "value": v.Template},
		{"op": "add", "path": "/metadata/annotations", "value": all},
	})
	if err != nil {
		return nil, err
	}
	return r.Patch(ctx, o.GetName(), types.JSONPatchType, patch)
}

// Fenced is a merge patch that is refused as Changed where the object is not what was read.
func (r *Resource) Fenced(ctx context.Context, o *unstructured.Unstructured, annotations map[string]string, change map[string]any) (*unstructured.Unstructured, error) {
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": o.GetResourceVersion(), "annotations": annotations}}
	for k, v := range change {
		patch[k] = v
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return r.Patch(ctx, o.GetName(), types.MergePatchType, text)
}

// RefOf names an object, for people and as target of a change.
func RefOf(o *unstructured.Unstructured) Ref {
	return Ref{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// String is KIND/NAME with the namespace before it, where there is one.
func (r Ref) String() string {
	return strings.TrimPrefix(r.Namespace+"/"+strings.ToLower(r.Kind)+"/"+r.Name, "/")
}
