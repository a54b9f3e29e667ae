package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

const (
	defaultDrain = 10 * time.Minute
	evictEvery   = 2 * time.Second // between two tries at a pod that a budget holds
)

// NodeParams are the parameters of kubernetes.cordon and uncordon.
type NodeParams struct {
	Node string `yaml:"node" required:"true" doc:"name of the node"`
}

// NodeOutputs are their outputs.
type NodeOutputs struct {
	Target  string `yaml:"target" doc:"the node, as its lock is named: kubernetes:node/NAME"`
	Changed bool   `yaml:"changed" doc:"it was not so before"`
}

// DrainParams are the parameters of kubernetes.drain.
type DrainParams struct {
	Node               string        `yaml:"node" required:"true" doc:"name of the node"`
	Timeout            time.Duration `yaml:"timeout,omitempty" default:"10m" doc:"how long to try, budgets and the pods' own grace included"`
	DeleteEmptyDirData bool          `yaml:"deleteEmptyDirData,omitempty" doc:"evict also pods whose emptyDir volumes are lost by that"`
	Force              bool          `yaml:"force,omitempty" doc:"evict also pods that nothing would make anew"`
}

// DrainOutputs are the outputs of kubernetes.drain.
type DrainOutputs struct {
	Target  string `yaml:"target" doc:"the node, as its lock is named: kubernetes:node/NAME"`
	Evicted int64  `yaml:"evicted" doc:"pods that left"`
	Left    int64  `yaml:"left" doc:"pods of DaemonSets and of the node itself, which stay"`
}

func nodeTarget(name string) string { return target(kube.Ref{Kind: "node", Name: name}) }

func (a actions) cordonDefinition() action.Definition {
	return a.marking("kubernetes.cordon", "Marks a node as unschedulable, so that no new pod is put there.", true)
}

func (a actions) uncordonDefinition() action.Definition {
	return a.marking("kubernetes.uncordon", "Lets new pods be put on a node again.", false)
}

func (a actions) marking(name, doc string, unschedulable bool) action.Definition {
	return action.Definition{
		Name:             name,
		Doc:              doc,
		Params:           &NodeParams{},
		Outputs:          NodeOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return nodeTarget(c.Params.(*NodeParams).Node) },
		TargetDoc:        "`kubernetes:node/NAME`",
		Rights:           []action.Right{clusterRight(verbs("get", "patch"), "nodes")},
		Fenced:           "by the node's resourceVersion",
		Run: wrapped(name, func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			node := call.Params.(*NodeParams).Node
			_, changed, err := a.mark(ctx, call, node, unschedulable)
			return action.Outputs{"target": nodeTarget(node), "changed": changed}, err
		}),
	}
}

// mark cordons a node, or takes that back.
func (a actions) mark(ctx context.Context, call *action.Call, node string, unschedulable bool) (*kube.Client, bool, error) {
	ref := kube.Ref{APIVersion: "v1", Kind: "Node", Name: node}
	if err := checkRef(ref, true); err != nil {
		return nil, false, action.Permanent(err)
	}
	client, r, err := a.resolve(ctx, call, ref)
	if err != nil {
		return nil, false, err
	}
	changed := false
	err = fenced(ctx, func() error {
		o, err := r.Get(ctx, node)
		if err != nil {
			return err
		}
		if is, _, _ := unstructured.NestedBool(o.Object, "spec", "unschedulable"); is == unschedulable {
			return nil
		}
		var value any
		if unschedulable {
			value = true
		}
		_, err = r.Fenced(ctx, o, note(call), map[string]any{"spec": map[string]any{"unschedulable": value}})
		changed = err == nil
		return err
	})
	return client, changed, err
}

func (a actions) drainDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.drain",
		Doc:              "Cordons a node and evicts its pods, as `kubectl drain --ignore-daemonsets` does. PodDisruptionBudgets are respected: a pod that one holds is tried again until the timeout. The node stays cordoned.",
		Params:           &DrainParams{},
		Outputs:          DrainOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target:           func(c *action.Call) string { return nodeTarget(c.Params.(*DrainParams).Node) },
		TargetDoc:        "`kubernetes:node/NAME`",
		Replaces:         []string{"pod", "instance", "container_id", "uid"},
		Rights: []action.Right{
			clusterRight(verbs("get", "patch"), "nodes"), clusterRight(verbs("get", "list"), "pods"), clusterRight(verbs("create"), "pods/eviction"),
		},
		Fenced: "by the node's resourceVersion and each pod's uid: a stale owner can only evict what is still on the node",
		Check: func(params any) error {
			if params.(*DrainParams).Timeout < 0 {
				return errors.New("timeout is negative")
			}
			return nil
		},
		Run: wrapped("kubernetes.drain", a.drain),
	}
}

func (a actions) drain(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*DrainParams)
	client, _, err := a.mark(ctx, call, p.Node, true)
	if err != nil {
		return nil, err
	}
	pods, err := client.Resolve(ctx, kube.Ref{APIVersion: "v1", Kind: "Pod"})
	if err != nil {
		return nil, err
	}
	timeout := cmp.Or(p.Timeout, defaultDrain)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s have passed", timeout))
	defer cancel()
	d := drain{action: call, params: p, pods: pods.All(), gone: map[string]bool{}}
	for {
		left, err := d.round(ctx)
		if err != nil {
			return nil, err
		}
		if len(left) == 0 {
			return action.Outputs{"target": nodeTarget(p.Node), "evicted": int64(len(d.gone)), "left": d.stays}, nil
		}
		select {
		case <-ctx.Done():
			return nil, d.overdue(left, context.Cause(ctx))
		case <-time.After(evictEvery):
		}
	}
}

// drain is what one call evicts.
type drain struct {
	action *action.Call
	params *DrainParams
	pods   *kube.Resource
	gone   map[string]bool // names of those that were evicted
	stays  int64
	held   []string // why pods could not be evicted in the last round
}

// round asks for every pod of the node to leave, and returns those that are still there.
func (d *drain) round(ctx context.Context) ([]string, error) {
	list, err := d.pods.List(ctx, "", fields.OneTermEqualSelector("spec.nodeName", d.params.Node).String())
	if err != nil {
		if kube.Late(ctx) {
			return []string{"unknown"}, nil //nolint:nilerr // the caller says that the time is over
		}
		return nil, err
	}
	leave, err := d.sort(list)
	if err != nil {
		return nil, action.Permanent(err)
	}
	d.held = nil
	var left []string
	for _, pod := range leave {
		name := pod.GetNamespace() + "/" + pod.GetName()
		left = append(left, name)
		if pod.GetDeletionTimestamp() != nil {
			if len(pod.GetFinalizers()) > 0 {
				d.held = append(d.held, name+" is going, and held by "+kube.Finalizers(pod))
			}
			continue
		}
		switch err := d.pods.Evict(ctx, pod); {
		case err == nil:
			d.gone[name] = true
			say(d.action, "%s is evicted", name)
		case kube.Is(err, kube.NotFound):
		case kube.Is(err, kube.Blocked), kube.Is(err, kube.Denied): // by a budget, a webhook, or since its namespace goes
			d.held = append(d.held, err.Error())
		case kube.Late(ctx):
			return left, nil //nolint:nilerr // likewise
		default:
			return nil, err
		}
	}
	return left, nil
}

// sort picks the pods that have to leave. It fails before the first eviction where one would be lost by it.
func (d *drain) sort(list []unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var leave []*unstructured.Unstructured
	var lost []string
	d.stays = 0
	for i := range list {
		pod := &list[i]
		owner := metav1.GetControllerOf(pod)
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		over := phase == "Succeeded" || phase == "Failed"
		name := pod.GetNamespace() + "/" + pod.GetName()
		switch {
		case pod.GetAnnotations()["kubernetes.io/config.mirror"] != "", owner != nil && owner.Kind == "DaemonSet" && !over:
			d.stays++
			continue
		case pod.GetDeletionTimestamp() != nil, over:
		case owner == nil && !d.params.Force:
			lost = append(lost, name+" is controlled by nothing that would make it anew (force: true evicts it)")
		case hasEmptyDir(pod) && !d.params.DeleteEmptyDirData:
			lost = append(lost, name+" has an emptyDir volume (deleteEmptyDirData: true gives it up)")
		}
		leave = append(leave, pod)
	}
	if len(lost) > 0 {
		return nil, fmt.Errorf("node %s is cordoned, and no pod was evicted: %s", d.params.Node, few(lost))
	}
	return leave, nil
}

func hasEmptyDir(pod *unstructured.Unstructured) bool {
	volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
	return slices.ContainsFunc(volumes, func(v any) bool {
		m, _ := v.(map[string]any)
		return m["emptyDir"] != nil
	})
}

func (d *drain) overdue(left []string, cause error) error {
	why := "they take their time to end"
	if len(d.held) > 0 {
		why = few(d.held)
	}
	return fmt.Errorf("node %s is cordoned, and %d of its pods are left (%s): %w: %s", d.params.Node, len(left), few(left), cause, why)
}

// few is a list for people.
func few(list []string) string {
	const most = 5
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(list, "; ")
}
