package kube

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// Selector chooses objects by labels and fields, each in the form that kubectl takes; empty chooses all.
type Selector struct{ Labels, Fields string }

// watchSeconds is after how long the server is to end a watch, so that one whose connection died unseen does not go on for ever.
const watchSeconds = 300

// Each hands over the objects that there are, a page at a time, and returns the version that all of them are of.
func (r *Resource) Each(ctx context.Context, s Selector, take func(*unstructured.Unstructured) error) (version string, err error) {
	o := metav1.ListOptions{LabelSelector: s.Labels, FieldSelector: s.Fields, Limit: 500}
	for {
		l, err := r.api.List(ctx, o)
		if err != nil {
			return "", r.client.words(err, r.what("list", ""))
		}
		for i := range l.Items {
			if err := take(&l.Items[i]); err != nil {
				return "", err
			}
		}
		if o.Continue = l.GetContinue(); o.Continue == "" {
			return l.GetResourceVersion(), nil
		}
	}
}

// Watch hands over what happens to objects after a version: ADDED, MODIFIED or DELETED and the object, and BOOKMARK with none
// where nothing happened up to a version (kubernetes.io/docs/reference/using-api/api-concepts). It returns nil when the server
// ends the watch, as it does every few minutes, and an *Error for the reason Expired where the version is too old.
func (r *Resource) Watch(ctx context.Context, s Selector, version string, take func(kind string, o *unstructured.Unstructured, version string) error) error {
	seconds := int64(watchSeconds)
	w, err := r.watching().Watch(ctx, metav1.ListOptions{
		LabelSelector: s.Labels, FieldSelector: s.Fields, ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
	})
	if err != nil {
		return r.client.words(err, r.what("watch", ""))
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if err := r.happened(e, take); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *Resource) watching() dynamic.ResourceInterface {
	all := r.client.watches.Resource(r.GVR)
	if r.Namespace == "" {
		return all
	}
	return all.Namespace(r.Namespace)
}

func (r *Resource) happened(e watch.Event, take func(kind string, o *unstructured.Unstructured, version string) error) error {
	if e.Type == watch.Error {
		return r.client.words(apierrors.FromObject(e.Object), r.what("watch", ""))
	}
	o, ok := e.Object.(*unstructured.Unstructured)
	switch {
	case !ok:
		return &Error{Other, false, fmt.Errorf("%s: %w", r.what("watch", ""), errors.New("the API server tells of something that is no object"))}
	case e.Type == watch.Bookmark:
		return take(string(e.Type), nil, o.GetResourceVersion())
	}
	return take(string(e.Type), o, o.GetResourceVersion())
}
