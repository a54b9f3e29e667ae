package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// negotiated reads no other type than the server's Status: client-go's own scheme would bring every API group.
func negotiated() serializer.WithoutConversionCodecFactory {
	known := runtime.NewScheme()
	metav1.AddToGroupVersion(known, schema.GroupVersion{Version: "v1"})
	return serializer.WithoutConversionCodecFactory{CodecFactory: serializer.NewCodecFactory(known)}
}

// DefaultNamespace is that of objects that have one and are named without.
const DefaultNamespace = "default"

// Ref names an object, or where Name is empty a kind of objects, in Kubernetes' own terms.
type Ref struct {
	APIVersion string // "apps/v1"; empty for the server's preferred one
	Kind       string // Deployment, deployment, deployments, deploy, deployments.apps
	Namespace  string // DefaultNamespace where it is empty and the kind has namespaces
	Name       string
}

// Resource is a kind of objects in a namespace, resolved.
type Resource struct {
	client     *Client
	GVR        schema.GroupVersionResource
	GVK        schema.GroupVersionKind
	Namespaced bool
	Namespace  string
	api        dynamic.ResourceInterface
}

// Resolve asks the server what a kind means; what it says is kept, and asked for anew where something is not known.
func (c *Client) Resolve(ctx context.Context, ref Ref) (*Resource, error) {
	if _, err := schema.ParseGroupVersion(ref.APIVersion); err != nil {
		return nil, &Error{Malformed, true, fmt.Errorf("apiVersion %q is not of the form group/version: %w", ref.APIVersion, err)}
	}
	k, ok, err := c.kinds.find(ctx, c, ref, false)
	if err == nil && !ok { // it may be of a CustomResourceDefinition that is newer
		k, ok, err = c.kinds.find(ctx, c, ref, true)
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Error{KindMissing, true, fmt.Errorf(
			"the cluster has no kind %s: check its spelling, or install its CustomResourceDefinition first", strings.Trim(ref.APIVersion+" "+ref.Kind, " "))}
	}
	r := &Resource{client: c, GVR: k.gvr, GVK: k.gvk, Namespaced: k.namespaced, api: c.objects.Resource(k.gvr)}
	if r.Namespaced {
		r.Namespace = cmp.Or(ref.Namespace, DefaultNamespace)
		r.api = c.objects.Resource(k.gvr).Namespace(r.Namespace)
	}
	return r, nil
}

// All returns the resource in all namespaces.
func (r *Resource) All() *Resource {
	all := *r
	all.Namespace, all.api = "", r.client.objects.Resource(r.GVR)
	return &all
}

func (r *Resource) what(verb, name string) string {
	where := ""
	if r.Namespace != "" {
		where = " in namespace " + r.Namespace
	}
	return strings.TrimSuffix(verb+" "+r.GVR.Resource+"/"+name, "/") + where
}

// Get reads an object.
func (r *Resource) Get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	o, err := r.api.Get(ctx, name, metav1.GetOptions{})
	return o, r.client.words(err, r.what("get", name))
}

// List reads the objects that selectors choose, a page at a time; empty selectors choose all.
func (r *Resource) List(ctx context.Context, labels, fields string) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	o := metav1.ListOptions{LabelSelector: labels, FieldSelector: fields, Limit: 500}
	for {
		l, err := r.api.List(ctx, o)
		if err != nil {
			return nil, r.client.words(err, r.what("list", ""))
		}
		all = append(all, l.Items...)
		if o.Continue = l.GetContinue(); o.Continue == "" {
			return all, nil
		}
	}
}

// Patch changes an object, as our field manager.
func (r *Resource) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, subresources ...string) (*unstructured.Unstructured, error) {
	o, err := r.api.Patch(ctx, name, kind, patch, metav1.PatchOptions{FieldManager: Manager}, subresources...)
	return o, r.client.words(err, r.what("patch", name))
}

// Create makes an object.
func (r *Resource) Create(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	made, err := r.api.Create(ctx, o, metav1.CreateOptions{FieldManager: Manager})
	return made, r.client.words(err, r.what("create", o.GetName()))
}

// Deletion says how an object goes.
type Deletion struct {
	// UID protects an object of the same name that is made meanwhile; empty does not.
	UID   types.UID
	Grace *int64 // seconds; nil for the object's own
	// Orphan leaves what the object controls.
	Orphan bool
}

// Delete asks for an object to go; what it controls goes in the background.
func (r *Resource) Delete(ctx context.Context, name string, d Deletion) error {
	policy := metav1.DeletePropagationBackground
	if d.Orphan {
		policy = metav1.DeletePropagationOrphan
	}
	o := metav1.DeleteOptions{PropagationPolicy: &policy, GracePeriodSeconds: d.Grace}
	if d.UID != "" {
		o.Preconditions = &metav1.Preconditions{UID: &d.UID}
	}
	return r.client.words(r.api.Delete(ctx, name, o), r.what("delete", name))
}

// Evict asks for a pod to leave its node, which a PodDisruptionBudget may refuse for now: such an error has the Reason Blocked.
func (r *Resource) Evict(ctx context.Context, pod *unstructured.Unstructured) error {
	uid := pod.GetUID()
	eviction := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]any{"name": pod.GetName(), "namespace": pod.GetNamespace()},
		"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": string(uid)}},
	}}
	// Not through the dynamic client, which waits and tries again where the server answers 429.
	req := r.client.requests.Post().AbsPath("/api/v1").Namespace(pod.GetNamespace()).Resource("pods").Name(pod.GetName()).SubResource("eviction").
		MaxRetries(0).SetHeader("Content-Type", "application/json")
	body, err := eviction.MarshalJSON()
	if err != nil {
		return err
	}
	err = req.Body(body).Do(ctx).Error()
	return r.client.words(err, "evict pod "+pod.GetNamespace()+"/"+pod.GetName())
}

// Annotate adds annotations to an object.
func (r *Resource) Annotate(ctx context.Context, name string, annotations map[string]string) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return nil, err
	}
	return r.Patch(ctx, name, types.MergePatchType, text)
}
