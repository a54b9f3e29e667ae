package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// listName is the ConfigMap that lists what belongs to a set.
func (p *plan) listName() string { return "riposte-set-" + p.set.Name }

// remember reads what belonged to the set, and finds of it what is not wanted any more.
func (p *plan) remember(ctx context.Context) (err error) {
	if !p.set.Prune {
		return nil
	}
	if p.store, err = p.client.Resolve(ctx, Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: p.set.Namespace}); err != nil {
		return err
	}
	p.list, err = p.store.Get(ctx, p.listName())
	if Is(err, NotFound) {
		p.list = nil
		return nil
	}
	if err != nil {
		return err
	}
	text, _, _ := unstructured.NestedString(p.list.Object, "data", "objects")
	if err := json.Unmarshal([]byte(text), &p.before); err != nil {
		return &Error{Malformed, true, fmt.Errorf("ConfigMap %s does not list objects: restore it, or delete it to prune nothing of what was applied before: %w", p.listName(), err)}
	}
	wanted := map[string]bool{}
	for _, ch := range p.changes {
		wanted[identity(ch.Ref)] = true
	}
	for _, ref := range p.before {
		if wanted[identity(ref)] {
			continue
		}
		r, err := p.client.Resolve(ctx, ref)
		if Is(err, KindMissing) {
			continue // with its CustomResourceDefinition the object is gone
		}
		if err != nil {
			return err
		}
		o, err := r.Get(ctx, ref.Name)
		if Is(err, NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if o.GetLabels()[SetLabel] == p.set.Name && o.GetDeletionTimestamp() == nil && !Protected(ref) {
			p.pruned = append(p.pruned, &Change{Ref: ref, resource: r, uid: o.GetUID()})
		}
	}
	return nil
}

// identity is what makes an object the same in another version of its API.
func identity(r Ref) string {
	group, _, found := strings.Cut(r.APIVersion, "/")
	if !found {
		group = ""
	}
	return group + "/" + r.Kind + "/" + r.Namespace + "/" + r.Name
}

func (p *plan) wanted() []Ref {
	refs := make([]Ref, len(p.changes))
	for i, ch := range p.changes {
		refs[i] = ch.Ref
	}
	slices.SortFunc(refs, func(a, b Ref) int { return cmp.Compare(identity(a), identity(b)) })
	return refs
}

// union is what may be there while the apply goes on: a crash in the middle leaves nothing that is not on the list.
func (p *plan) union() []Ref {
	refs, seen := p.wanted(), map[string]bool{}
	for _, r := range refs {
		seen[identity(r)] = true
	}
	for _, ch := range p.pruned {
		if !seen[identity(ch.Ref)] {
			refs = append(refs, ch.Ref)
		}
	}
	return refs
}

// keep writes the list, unless it says so already. A list that another apply has written meanwhile refuses it.
func (p *plan) keep(ctx context.Context, refs []Ref) error {
	if !p.set.Prune || reflect.DeepEqual(refs, p.before) {
		return nil
	}
	text, err := json.Marshal(refs)
	if err != nil {
		return err
	}
	if p.list == nil {
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": p.listName(), "namespace": p.set.Namespace},
			"data":     map[string]any{"objects": string(text)},
		}}
		p.list, err = p.store.Create(ctx, o)
	} else {
		p.list, err = p.store.Fenced(ctx, p.list, p.set.Note, map[string]any{"data": map[string]any{"objects": string(text)}})
	}
	if err != nil {
		return fmt.Errorf("write down what belongs to the set %s: %w", p.set.Name, err)
	}
	p.before = refs
	return nil
}
