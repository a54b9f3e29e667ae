package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// SetLabel names the set that an object was applied with: what has it not, is never pruned.
const SetLabel = "riposte.dev/set"

// Set is objects that are applied together and pruned together.
type Set struct {
	Name      string // a label's value
	Namespace string // of the list of what belongs to the set, and of objects that name none
	Objects   []*unstructured.Unstructured
	Prune     bool              // delete what belonged to the set and is in Objects no longer
	Force     bool              // take fields over from other managers
	Note      map[string]string // annotations of what is created or changed: the run
}

// Change is what one object's apply comes to.
type Change struct {
	Ref    Ref
	Action string // created, changed, unchanged, deleted
	Fields []Field
	// Unsure says that the server could not be asked, because what the object needs is not there yet.
	Unsure bool

	wanted   *unstructured.Unstructured
	resource *Resource
	uid      types.UID
}

// What an apply does to an object.
const (
	Created   = "created"
	Altered   = "changed"
	Unchanged = "unchanged"
	Deleted   = "deleted"
)

// concurrent is how many requests of one apply are open at once.
const concurrent = 24

// Plan asks the server what an apply would do, by dry-runs: nothing is changed. The order is that of an apply.
func (c *Client) Plan(ctx context.Context, set Set) ([]Change, error) {
	p, err := c.plan(ctx, set)
	if err != nil {
		return nil, err
	}
	for _, stage := range p.stages() {
		if err := p.ask(ctx, stage, true); err != nil {
			return nil, err
		}
	}
	return p.all(), nil
}

// Apply brings the objects about: those that others need first, each only where a dry-run says that it would change. It
// returns what was done, also where it fails in the middle.
func (c *Client) Apply(ctx context.Context, set Set) ([]Change, error) {
	p, err := c.plan(ctx, set)
	if err != nil {
		return nil, err
	}
	if err := p.keep(ctx, p.union()); err != nil {
		return nil, err
	}
	for _, stage := range p.stages() {
		if err := p.ask(ctx, stage, false); err != nil {
			return p.done(), err
		}
		if err := p.put(ctx, stage); err != nil {
			return p.done(), err
		}
	}
	if err := p.prune(ctx); err != nil {
		return p.done(), err
	}
	return p.all(), p.keep(ctx, p.wanted())
}

type plan struct {
	client  *Client
	set     Set
	changes []*Change
	pruned  []*Change
	store   *Resource
	list    *unstructured.Unstructured // the list of what belongs to the set; nil where there is none
	before  []Ref
	applied map[*Change]bool
}

func (c *Client) plan(ctx context.Context, set Set) (*plan, error) {
	p := &plan{client: c, set: set, applied: map[*Change]bool{}}
	seen := map[Ref]bool{}
	for _, o := range set.Objects {
		o = o.DeepCopy()
		ch := &Change{wanted: o}
		r, err := c.Resolve(ctx, Ref{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: cmp.Or(o.GetNamespace(), set.Namespace)})
		switch {
		case err == nil:
			ch.resource = r
			o.SetNamespace(r.Namespace)
		case Is(err, KindMissing) && p.defines(o):
			o.SetNamespace(cmp.Or(o.GetNamespace(), set.Namespace))
		default:
			return nil, err
		}
		unstructured.RemoveNestedField(o.Object, "metadata", "managedFields")
		unstructured.RemoveNestedField(o.Object, "metadata", "resourceVersion")
		unstructured.RemoveNestedField(o.Object, "status")
		o.SetLabels(with(o.GetLabels(), SetLabel, set.Name))
		if ch.Ref = RefOf(o); seen[ch.Ref] {
			return nil, &Error{Malformed, true, fmt.Errorf("%s is there twice", ch.Ref)}
		}
		seen[ch.Ref] = true
		p.changes = append(p.changes, ch)
	}
	slices.SortStableFunc(p.changes, func(a, b *Change) int { return cmp.Compare(rank(a.Ref.Kind), rank(b.Ref.Kind)) })
	if err := p.remember(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func with(m map[string]string, key, value string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

// defines reports whether the set has the CustomResourceDefinition of an object.
func (p *plan) defines(o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(p.set.Objects, func(d *unstructured.Unstructured) bool {
		group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(d.Object, "spec", "names", "kind")
		return d.GetKind() == "CustomResourceDefinition" && group == o.GroupVersionKind().Group && kind == o.GetKind()
	})
}

// rank orders kinds by what needs what.
func rank(kind string) int {
	for i, kinds := range [][]string{
		{"Namespace", "CustomResourceDefinition"},
		{"PriorityClass", "StorageClass", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
		{"Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim", "LimitRange", "ResourceQuota"},
	} {
		if slices.Contains(kinds, kind) {
			return i
		}
	}
	return 3
}

// stages are the changes that can be made at once: Namespaces and CustomResourceDefinitions before what lives in them.
func (p *plan) stages() [][]*Change {
	n := 0
	for n < len(p.changes) && rank(p.changes[n].Ref.Kind) == 0 {
		n++
	}
	first, rest := p.changes[:n], p.changes[n:]
	return [][]*Change{first, rest}
}

// each does something for every change, several at once, and returns the errors of the first few that fail.
func each(ctx context.Context, changes []*Change, do func(context.Context, *Change) error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	next := make(chan *Change)
	for range min(concurrent, len(changes)) {
		wg.Go(func() {
			for ch := range next {
				if err := do(ctx, ch); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", ch.Ref, err))
					mu.Unlock()
				}
			}
		})
	}
	for _, ch := range changes {
		mu.Lock()
		stop := len(errs) >= 5
		mu.Unlock()
		if stop || ctx.Err() != nil {
			break
		}
		next <- ch
	}
	close(next)
	wg.Wait()
	if len(errs) == 0 && ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(errs...)
}

// ask makes a dry-run of each change.
func (p *plan) ask(ctx context.Context, stage []*Change, lenient bool) error {
	for _, ch := range stage {
		if ch.resource == nil { // its CustomResourceDefinition is of this set
			r, err := p.client.Resolve(ctx, Ref{APIVersion: ch.Ref.APIVersion, Kind: ch.Ref.Kind, Namespace: ch.Ref.Namespace})
			if err != nil && lenient && Is(err, KindMissing) {
				ch.Action, ch.Unsure = Created, true
				continue
			}
			if err != nil {
				return err
			}
			ch.resource = r
			ch.wanted.SetNamespace(r.Namespace)
		}
	}
	there, err := p.there(ctx, stage)
	if err != nil {
		return err
	}
	return each(ctx, stage, func(ctx context.Context, ch *Change) error {
		if ch.resource == nil {
			return nil
		}
		err := p.dry(ctx, ch, there[ch.Ref])
		if lenient && Is(err, NotFound) && p.makes(ch.Ref.Namespace) {
			ch.Action, ch.Unsure = Created, true
			return nil
		}
		return err
	})
}

// makes reports whether the set makes the namespace.
func (p *plan) makes(namespace string) bool {
	return slices.ContainsFunc(p.changes, func(ch *Change) bool {
		return ch.Ref.Kind == "Namespace" && ch.Ref.Name == namespace && ch.Action == Created
	})
}

// there lists what the set's label marks, with one request for each kind and namespace.
func (p *plan) there(ctx context.Context, stage []*Change) (map[Ref]*unstructured.Unstructured, error) {
	type where struct{ resource, namespace string }
	firsts, lists := map[where]*Change{}, []*Change{}
	for _, ch := range stage {
		if ch.resource == nil {
			continue
		}
		w := where{ch.resource.GVR.String(), ch.resource.Namespace}
		if firsts[w] == nil {
			firsts[w] = ch
			lists = append(lists, ch)
		}
	}
	var mu sync.Mutex
	out := map[Ref]*unstructured.Unstructured{}
	err := each(ctx, lists, func(ctx context.Context, ch *Change) error {
		items, err := ch.resource.List(ctx, SetLabel+"="+p.set.Name, "")
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for i := range items {
			ref := RefOf(&items[i])
			ref.APIVersion, ref.Kind = ch.Ref.APIVersion, ch.Ref.Kind
			out[ref] = &items[i]
		}
		return nil
	})
	return out, err
}

// dry asks what an apply would make of an object.
func (p *plan) dry(ctx context.Context, ch *Change, was *unstructured.Unstructured) error {
	p.annotate(ch, was)
	would, err := p.send(ctx, ch, true)
	if err != nil {
		return err
	}
	if was == nil && would.GetResourceVersion() != "" { // it is there, and was not of the set
		if was, err = ch.resource.Get(ctx, ch.Ref.Name); err != nil {
			return err
		}
		if p.annotate(ch, was); len(was.GetAnnotations()) > 0 {
			if would, err = p.send(ctx, ch, true); err != nil {
				return err
			}
		}
	}
	if was == nil {
		ch.Action = Created
		return nil
	}
	ch.uid = was.GetUID()
	ch.Fields = Diff(was, would)
	if ch.Action = Altered; len(ch.Fields) == 0 && sameManaged(was, would) {
		ch.Action = Unchanged
	}
	return nil
}

// annotate keeps the annotations of the run that changed the object last, so that they are no difference.
func (p *plan) annotate(ch *Change, was *unstructured.Unstructured) {
	a := maps.Clone(ch.wanted.GetAnnotations())
	for key := range p.set.Note {
		delete(a, key)
		if was == nil {
			continue
		}
		if v, ok := was.GetAnnotations()[key]; ok {
			if a == nil {
				a = map[string]string{}
			}
			a[key] = v
		}
	}
	ch.wanted.SetAnnotations(a)
}

func (p *plan) send(ctx context.Context, ch *Change, dry bool) (*unstructured.Unstructured, error) {
	body, err := ch.wanted.MarshalJSON()
	if err != nil {
		return nil, err
	}
	o := metav1.PatchOptions{FieldManager: Manager, Force: &p.set.Force}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	out, err := ch.resource.api.Patch(ctx, ch.Ref.Name, types.ApplyPatchType, body, o)
	if err != nil {
		return nil, p.client.words(err, "apply")
	}
	return out, nil
}

// put applies what a dry-run said would change, and waits for what the next stage needs.
func (p *plan) put(ctx context.Context, stage []*Change) error {
	var do []*Change
	for _, ch := range stage {
		if ch.Action != Unchanged {
			do = append(do, ch)
		}
	}
	var mu sync.Mutex
	if err := each(ctx, do, func(ctx context.Context, ch *Change) error {
		a := maps.Clone(ch.wanted.GetAnnotations())
		for k, v := range p.set.Note {
			a = with(a, k, v)
		}
		ch.wanted.SetAnnotations(a)
		if _, err := p.send(ctx, ch, false); err != nil {
			return err
		}
		mu.Lock()
		p.applied[ch] = true
		mu.Unlock()
		return nil
	}); err != nil {
		return err
	}
	return each(ctx, do, func(ctx context.Context, ch *Change) error {
		if ch.Ref.Kind != "CustomResourceDefinition" {
			return nil
		}
		ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it takes longer than a minute"))
		defer cancel()
		_, err := ch.resource.Wait(ctx, ch.Ref.Name)
		return err
	})
}

// prune deletes what belonged to the set and is not wanted any more, if it still has the set's label.
func (p *plan) prune(ctx context.Context) error {
	if !p.set.Prune {
		return nil
	}
	slices.Reverse(p.pruned) // what others need goes last
	return each(ctx, p.pruned, func(ctx context.Context, ch *Change) error {
		err := ch.resource.Delete(ctx, ch.Ref.Name, Deletion{UID: ch.uid})
		if err != nil && !Is(err, NotFound) {
			return err
		}
		ch.Action = Deleted
		return nil
	})
}

// all is every change; done those that were made.
func (p *plan) all() []Change {
	out := make([]Change, 0, len(p.changes)+len(p.pruned))
	for _, ch := range p.changes {
		out = append(out, *ch)
	}
	if p.set.Prune {
		for _, ch := range p.pruned {
			ch.Action = Deleted
			out = append(out, *ch)
		}
	}
	return out
}

func (p *plan) done() []Change {
	var out []Change
	for _, ch := range p.changes {
		if p.applied[ch] {
			out = append(out, *ch)
		}
	}
	for _, ch := range p.pruned {
		if ch.Action == Deleted {
			out = append(out, *ch)
		}
	}
	return out
}

// Protected reports whether an object is in a namespace of the cluster's own, or is such a namespace.
func Protected(r Ref) bool {
	system := []string{metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease"}
	return slices.Contains(system, r.Namespace) || strings.EqualFold(r.Kind, "Namespace") && slices.Contains(system, r.Name)
}

// DiffStatus lists the fields of the status that are not the same in both.
func DiffStatus(was, is *unstructured.Unstructured) []Field {
	var out []Field
	compare("status", was.Object["status"], is.Object["status"], func(path string, from, to any) {
		out = append(out, Field{path, from, to})
	})
	return out
}
