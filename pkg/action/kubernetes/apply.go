package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

const (
	defaultHealthy = 5 * time.Minute
	maxChanges     = 200
	maxSummary     = 60_000 // bytes
)

// ApplyParams are the parameters of kubernetes.apply.
type ApplyParams struct {
	Path      string        `yaml:"path,omitempty" doc:"file, directory or kustomization; a relative one is below the run's own directory"`
	Manifests string        `yaml:"manifests,omitempty" doc:"objects as YAML or JSON, instead of path"`
	Namespace string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of objects that name none, and of the list of what belongs to the set"`
	Set       string        `yaml:"set,omitempty" doc:"name of what is applied and pruned together, a label's value; default: the rule's name"`
	Prune     bool          `yaml:"prune,omitempty" doc:"delete what was applied with the set before and is in it no longer"`
	Force     bool          `yaml:"force,omitempty" doc:"take over fields that other managers own"`
	Wait      time.Duration `yaml:"wait,omitempty" default:"5m" doc:"how long to wait until all of it is healthy; a negative one does not wait"`
}

// DiffParams are the parameters of kubernetes.diff.
type DiffParams struct {
	Path      string `yaml:"path,omitempty" doc:"file, directory or kustomization; a relative one is below the run's own directory"`
	Manifests string `yaml:"manifests,omitempty" doc:"objects as YAML or JSON, instead of path"`
	Namespace string `yaml:"namespace,omitempty" default:"default" doc:"namespace of objects that name none, and of the list of what belongs to the set"`
	Set       string `yaml:"set,omitempty" doc:"name of what is applied and pruned together; default: the rule's name"`
	Prune     bool   `yaml:"prune,omitempty" doc:"as if what is in the set no longer were deleted"`
	Force     bool   `yaml:"force,omitempty" doc:"as if fields that other managers own were taken over"`
}

func (p *DiffParams) apply() *ApplyParams {
	return &ApplyParams{Path: p.Path, Manifests: p.Manifests, Namespace: p.Namespace, Set: p.Set, Prune: p.Prune, Force: p.Force}
}

var setName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,50}[a-z0-9])?$`)

// check looks at what is known of the parameters.
func (p *ApplyParams) check() error {
	if p.Path != "" && p.Manifests != "" {
		return errors.New("needs either path or manifests")
	}
	if p.Set != "" && !setName.MatchString(p.Set) {
		return fmt.Errorf("set: %q is no name of at most 52 lower-case letters, digits, dots and dashes", p.Set)
	}
	return nil
}

// ChangeOutputs are the outputs of kubernetes.apply and kubernetes.diff.
type ChangeOutputs struct {
	Changed   bool   `yaml:"changed" doc:"something was created, changed or deleted, or would be"`
	Created   int64  `yaml:"created" doc:"objects that were not there"`
	Updated   int64  `yaml:"updated" doc:"objects that differed"`
	Unchanged int64  `yaml:"unchanged" doc:"objects that were so already"`
	Deleted   int64  `yaml:"deleted" doc:"objects that were pruned"`
	Objects   []any  `yaml:"objects" doc:"list of {target, action, diff, unsure} of the first 200 objects that change; diff is a list of {path, from, to}, with values of Secrets as ***; unsure where the server could not be asked because what the object needs is not there yet"`
	Summary   string `yaml:"summary" doc:"the same as people read it, at most 60 KB"`
}

// ApplyOutputs are the outputs of kubernetes.apply.
type ApplyOutputs struct {
	Changed   bool   `yaml:"changed" doc:"something was created, changed or deleted"`
	Created   int64  `yaml:"created" doc:"objects that were not there"`
	Updated   int64  `yaml:"updated" doc:"objects that differed"`
	Unchanged int64  `yaml:"unchanged" doc:"objects that were so already"`
	Deleted   int64  `yaml:"deleted" doc:"objects that were pruned"`
	Objects   []any  `yaml:"objects" doc:"list of {target, action, diff, unsure} of the first 200 objects that changed, as of kubernetes.diff"`
	Summary   string `yaml:"summary" doc:"the same as people read it, at most 60 KB"`
	Healthy   bool   `yaml:"healthy" doc:"all of it was healthy when the step ended; false where it did not wait"`
}

func (a actions) diffDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.diff",
		Doc:              "Says what kubernetes.apply would do, by dry-runs that the server makes with all its defaults and admission. Changes nothing, so that it runs before consent in mode approve. The server asks for the same rights as for the apply.",
		Params:           &DiffParams{},
		Outputs:          ChangeOutputs{},
		RetryInterrupted: true,
		Rights:           usual(verbs("get", "list", "create", "patch")),
		Check:            func(params any) error { return params.(*DiffParams).apply().check() },
		Run: wrapped("kubernetes.diff", func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			client, set, err := a.set(call, call.Params.(*DiffParams).apply())
			if err != nil {
				return nil, err
			}
			changes, err := client.Plan(ctx, set)
			if err != nil {
				return nil, err
			}
			out := changeOutputs(changes)
			say(call, "%s", out["summary"])
			return out, nil
		}),
	}
}

func (a actions) applyDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.apply",
		Doc:              "Applies objects on the server's side, as field manager riposte, first by a dry-run of all: what one of them is refused for changes nothing of its stage. Namespaces and CustomResourceDefinitions come first. What is so already is left alone.",
		Params:           &ApplyParams{},
		Outputs:          ApplyOutputs{},
		Changes:          true,
		RetryInterrupted: true,
		Target: func(c *action.Call) string {
			p := c.Params.(*ApplyParams)
			return target(kube.Ref{Kind: "set", Namespace: cmp.Or(p.Namespace, kube.DefaultNamespace), Name: setOf(c, p)})
		},
		TargetDoc: "`kubernetes:NAMESPACE/set/SET`: what else changes an object of the set is not kept apart from it",
		Rights:    watching(usual(verbs("get", "list", "create", "patch", "delete"))...),
		Fenced:    "with prune, by the resourceVersion of the list of what belongs to the set; without, a stale owner may apply once more what it was to apply",
		Check:     func(params any) error { return params.(*ApplyParams).check() },
		Run:       wrapped("kubernetes.apply", a.apply),
	}
}

func setOf(call *action.Call, p *ApplyParams) string {
	if p.Set != "" {
		return p.Set
	}
	return strings.ToLower(call.Rule)
}

// set reads what is to be applied.
func (a actions) set(call *action.Call, p *ApplyParams) (*kube.Client, kube.Set, error) {
	s := kube.Set{
		Name: setOf(call, p), Namespace: cmp.Or(p.Namespace, kube.DefaultNamespace), Prune: p.Prune, Force: p.Force, Note: note(call),
	}
	named := *p
	named.Set = s.Name
	if err := named.check(); err != nil {
		return nil, s, action.Permanent(err)
	}
	var err error
	switch {
	case p.Manifests != "":
		s.Objects, err = kube.ParseManifests([]byte(p.Manifests))
	case p.Path == "":
		err = errors.New("needs path or manifests")
	default:
		s.Objects, err = read(call.Dir, p.Path)
	}
	if err == nil && len(s.Objects) == 0 {
		err = errors.New("there are no objects: with prune, that would delete all of them")
	}
	if err != nil {
		return nil, s, action.Permanent(err)
	}
	client, err := a.client(call)
	return client, s, err
}

// read reads manifests below the run's directory, which kustomize may not leave.
func read(dir, path string) ([]*unstructured.Unstructured, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return kube.ReadManifests(dir, path)
}

func (a actions) apply(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*ApplyParams)
	client, set, err := a.set(call, p)
	if err != nil {
		return nil, err
	}
	changes, err := client.Apply(ctx, set)
	out := changeOutputs(changes)
	say(call, "%s", out["summary"])
	if err != nil {
		return nil, err
	}
	if out["healthy"] = false; p.Wait >= 0 {
		wait := cmp.Or(p.Wait, defaultHealthy)
		ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%s have passed", wait))
		defer cancel()
		if _, err := client.WaitAll(ctx, set, changes); err != nil {
			return nil, err
		}
		out["healthy"] = true
	}
	return out, nil
}

func changeOutputs(changes []kube.Change) action.Outputs {
	counts, objects, summary := map[string]int64{}, []any{}, &strings.Builder{}
	for _, ch := range changes {
		counts[ch.Action]++
		if ch.Action == kube.Unchanged {
			continue
		}
		if len(objects) < maxChanges {
			objects = append(objects, map[string]any{"target": target(ch.Ref), "action": ch.Action, "diff": shownFields(ch.Fields), "unsure": ch.Unsure})
		}
		summarise(summary, ch)
	}
	text := summary.String()
	if len(text) > maxSummary {
		text = strings.ToValidUTF8(text[:maxSummary], "") + "…\n"
	}
	created, updated, deleted := counts[kube.Created], counts[kube.Altered], counts[kube.Deleted]
	text += fmt.Sprintf("%d created, %d changed, %d deleted, %d unchanged", created, updated, deleted, counts[kube.Unchanged])
	return action.Outputs{
		"changed": created+updated+deleted > 0, "created": created, "updated": updated, "unchanged": counts[kube.Unchanged], "deleted": deleted,
		"objects": bounded(objects), "summary": text,
	}
}

// bounded drops objects from the end until the list fits beside the summary into what is kept of a step.
func bounded(objects []any) []any {
	const most = 150_000 // bytes, roughly
	size := 0
	for i, o := range objects {
		if size += len(fmt.Sprint(o)); size > most {
			return objects[:i]
		}
	}
	return objects
}

func summarise(b *strings.Builder, ch kube.Change) {
	sign := map[string]string{kube.Created: "+", kube.Altered: "~", kube.Deleted: "-"}[ch.Action]
	fmt.Fprintf(b, "%s %s\n", sign, ch.Ref)
	for _, f := range shownFields(ch.Fields) {
		m := f.(map[string]any)
		fmt.Fprintf(b, "    %s: %v -> %v\n", m["path"], m["from"], m["to"])
	}
}
