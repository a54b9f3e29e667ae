package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Health is how an object is, as kstatus judges it (sigs.k8s.io/cli-utils, pkg/kstatus).
type Health struct {
	Status  string // Current, InProgress, Failed, Terminating, NotFound, Unknown
	Message string
	// Ready says that it can do its work now: all replicas it should have are ready, or its condition Ready is true.
	Ready           bool
	Replicas, Alive int64 // wanted and ready ones, of a workload
}

// Healthy says that the object is as it was asked to be.
func (h Health) Healthy() bool { return h.Status == string(status.CurrentStatus) }

// Failed says that it will not get there.
func (h Health) Failed() bool { return h.Status == string(status.FailedStatus) }

// HealthOf judges an object as it was read.
func HealthOf(o *unstructured.Unstructured) Health {
	h := Health{Status: string(status.UnknownStatus)}
	if result, err := status.Compute(o); err == nil {
		h.Status, h.Message = string(result.Status), result.Message
	} else {
		h.Message = err.Error()
	}
	h.Ready = h.Healthy()
	switch o.GetKind() {
	case "Deployment", "StatefulSet", "ReplicaSet":
		h.Replicas, h.Alive = integer(o, 1, "spec", "replicas"), integer(o, 0, "status", "readyReplicas")
		h.Ready = h.Alive >= h.Replicas
	case "DaemonSet":
		h.Replicas, h.Alive = integer(o, 0, "status", "desiredNumberScheduled"), integer(o, 0, "status", "numberReady")
		h.Ready = h.Alive >= h.Replicas && integer(o, 0, "status", "observedGeneration") > 0
	default:
		if ready, ok := condition(o, "Ready"); ok {
			h.Ready = ready
		}
	}
	return h
}

func integer(o *unstructured.Unstructured, missing int64, path ...string) int64 {
	n, ok, err := unstructured.NestedInt64(o.Object, path...)
	if !ok || err != nil {
		return missing
	}
	return n
}

// condition reads one of status.conditions.
func condition(o *unstructured.Unstructured, kind string) (holds, found bool) {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == kind {
			return m["status"] == "True", true
		}
	}
	return false, false
}

// Pods reads the pods of a workload, or the pod itself. An object of another kind has none.
func (c *Client) Pods(ctx context.Context, o *unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	if o.GetKind() == "Pod" {
		return []unstructured.Unstructured{*o}, nil
	}
	raw, ok, err := unstructured.NestedMap(o.Object, "spec", "selector")
	if err != nil {
		return nil, fmt.Errorf("read the selector of %s: %w", RefOf(o), err)
	}
	if !ok || !slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}, o.GetKind()) {
		return nil, nil
	}
	selector, err := selectorOf(raw)
	if err != nil {
		return nil, err
	}
	pods, err := c.Resolve(ctx, Ref{APIVersion: "v1", Kind: "Pod", Namespace: o.GetNamespace()})
	if err != nil {
		return nil, err
	}
	return pods.List(ctx, selector.String(), "")
}

func selectorOf(raw map[string]any) (labels.Selector, error) {
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	if m, ok := raw["matchLabels"].(map[string]any); ok {
		for k, v := range m {
			s.MatchLabels[k] = fmt.Sprint(v)
		}
	}
	list, _ := raw["matchExpressions"].([]any)
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			continue
		}
		r := metav1.LabelSelectorRequirement{Key: fmt.Sprint(m["key"]), Operator: metav1.LabelSelectorOperator(fmt.Sprint(m["operator"]))}
		values, _ := m["values"].([]any)
		for _, v := range values {
			r.Values = append(r.Values, fmt.Sprint(v))
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return metav1.LabelSelectorAsSelector(s)
}

// Restarts counts how often containers of pods were started again.
func Restarts(pods []unstructured.Unstructured) int64 {
	n := int64(0)
	for _, st := range containers(pods) {
		if count, ok := st["restartCount"].(int64); ok {
			n += count
		}
	}
	return n
}

// Waiting says what keeps containers from running, each reason once: "CrashLoopBackOff: back-off 5m0s …".
func Waiting(pods []unstructured.Unstructured) string {
	var reasons []string
	for _, st := range containers(pods) {
		state, _ := st["state"].(map[string]any)
		waiting, ok := state["waiting"].(map[string]any)
		if !ok {
			continue
		}
		text := strings.TrimSuffix(fmt.Sprintf("%s: %s", orNone(waiting["reason"]), orNone(waiting["message"])), ": ")
		if text = clean(text); text != "" && text != "ContainerCreating" && !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	const most = 3
	return strings.Join(reasons[:min(most, len(reasons))], "; ")
}

func orNone(v any) string {
	text, _ := v.(string)
	return text
}

func containers(pods []unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	for i := range pods {
		for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
			list, _, _ := unstructured.NestedSlice(pods[i].Object, "status", field)
			for _, st := range list {
				if m, ok := st.(map[string]any); ok {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

// waitEvery is how often objects are looked at that somebody waits for.
const waitEvery = time.Second

// Wait looks at an object until it is healthy, has failed for good, or ctx ends; it returns what was read last.
func (r *Resource) Wait(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	var last *unstructured.Unstructured
	for {
		o, err := r.Get(ctx, name)
		switch {
		case err == nil && HealthOf(o).Healthy():
			return o, nil
		case err == nil && HealthOf(o).Failed():
			return o, &Error{Other, true, fmt.Errorf("%s/%s has failed: %s", r.GVR.Resource, name, r.client.Why(ctx, o))}
		case err == nil:
			last = o
		case !Late(ctx):
			return last, err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return nil, r.client.words(context.Cause(ctx), r.what("wait for", name))
			}
			return last, &Error{Other, false, fmt.Errorf("%s/%s is not healthy yet: %s: %w", r.GVR.Resource, name, r.client.Why(context.WithoutCancel(ctx), last), context.Cause(ctx))}
		case <-tick.C:
		}
	}
}

// Why says why an object is not healthy: what kstatus makes of it, what its pods wait for, the finalizers that hold it.
func (c *Client) Why(ctx context.Context, o *unstructured.Unstructured) string {
	h := HealthOf(o)
	text := strings.Trim(h.Status+": "+h.Message, ": ")
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) > 0 {
		text += "; it is being deleted, and held by " + Finalizers(o)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if pods, err := c.Pods(ctx, o); err == nil {
		if waiting := Waiting(pods); waiting != "" {
			text += "; its pods wait: " + waiting
		}
	}
	return text
}

// Finalizers names what must let an object go.
func Finalizers(o *unstructured.Unstructured) string {
	if len(o.GetFinalizers()) == 0 {
		return "no finalizer"
	}
	return "the finalizers " + strings.Join(o.GetFinalizers(), ", ")
}

// WaitAll looks at the objects of a set until all are healthy, one has failed for good, or ctx ends. It returns those that
// are not healthy.
func (c *Client) WaitAll(ctx context.Context, set Set, changes []Change) ([]Change, error) {
	p := &plan{client: c, set: set}
	var waits []*Change
	for i := range changes {
		if changes[i].Action != Deleted && changes[i].resource != nil {
			waits = append(waits, &changes[i])
		}
	}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	var last map[Ref]*unstructured.Unstructured
	for {
		there, err := p.there(ctx, waits)
		if err != nil && !Late(ctx) {
			return nil, err
		}
		var ill []Change
		if err == nil {
			last = there
		}
		var failed error
		for _, ch := range waits {
			o := last[ch.Ref]
			if o != nil && HealthOf(o).Healthy() {
				continue
			}
			ill = append(ill, *ch)
			if o != nil && HealthOf(o).Failed() && failed == nil {
				failed = &Error{Other, true, fmt.Errorf("%s has failed: %s", ch.Ref, c.Why(ctx, o))}
			}
		}
		if len(ill) == 0 || failed != nil {
			return ill, failed
		}
		select {
		case <-ctx.Done():
			why := "it is not there"
			if o := last[ill[0].Ref]; o != nil {
				why = c.Why(context.WithoutCancel(ctx), o)
			}
			return ill, &Error{Other, false, fmt.Errorf("%d of %d objects are not healthy yet, the first is %s: %s: %w", len(ill), len(waits), ill[0].Ref, why, context.Cause(ctx))}
		case <-tick.C:
		}
	}
}
