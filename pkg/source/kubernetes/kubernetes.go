// Package kubernetes is the source of changes of objects in a cluster: those that a watch of its API tells of, the
// cluster's own Events among them.
//
// Nobody can send to such a source. A change is the same event whoever sees it and however often: its key is the object's
// uid and resource version. Sources are immutable and safe for concurrent use.
package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// ours is how long after a run changed an object further changes of it count as its doing: what a controller does about it.
const ours = 5 * time.Minute

type spec struct {
	APIVersion string   `yaml:"apiVersion,omitempty" default:"v1" doc:"of the objects: apps/v1"`
	Kind       string   `yaml:"kind" required:"true" doc:"of the objects: Deployment, Event. Secrets can't be watched"`
	Namespaces []string `yaml:"namespaces,omitempty" doc:"where they are; default: everywhere, which the account must be allowed to watch"`
	Labels     string   `yaml:"labels,omitempty" doc:"selector of labels, as kubectl's --selector has it"`
	Fields     string   `yaml:"fields,omitempty" doc:"selector of fields, as kubectl's --field-selector has it: type=Warning"`
	On         []string `yaml:"on,omitempty" enum:"added,modified,deleted" doc:"the changes that become events; default: all"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "kubernetes",
		Doc: "Changes of objects in a Kubernetes cluster, the cluster's own Events (kind: Event) among them. The type of an event is the kind in lower case and what " +
			"became of the object: deployment.modified, event.added. Its subject is namespace/name; of an Event it is what that is about, as kind/namespace/name. event.data is what a watch tells: type, and " +
			"object without its managedFields. Objects that are there when the server first looks are no events; from then on how far the changes are dealt with is kept, also while no server runs. Nobody can send to it. The " +
			"server, or the service account that the file is granted, must be allowed to list and watch the objects.",
		Spec:   &spec{},
		Fields: "* = type object*",
		New:    build,
	}
}

type kubernetes struct {
	selection source.Selection
	on        []string
}

var _ source.Watched = &kubernetes{}

func build(decode func(any) error, _ source.Env) (source.Source, error) {
	var s spec
	if err := decode(&s); err != nil {
		return nil, err
	}
	if s.APIVersion == "" {
		s.APIVersion = "v1"
	}
	if len(s.On) == 0 {
		s.On = []string{"added", "modified", "deleted"}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	selection := source.Selection{APIVersion: s.APIVersion, Kind: s.Kind, Namespaces: s.Namespaces, Labels: s.Labels, Fields: s.Fields}
	return &kubernetes{selection, s.On}, nil
}

func (s *spec) check() error {
	var errs []error
	if !regexp.MustCompile(`^([a-z0-9.-]+/)?v[a-z0-9]+$`).MatchString(s.APIVersion) {
		errs = append(errs, fmt.Errorf("apiVersion: %q is not of the form v1 or apps/v1", s.APIVersion))
	}
	switch {
	case !regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`).MatchString(s.Kind):
		errs = append(errs, fmt.Errorf("kind: %q is no kind such as Deployment, in its full form with a capital letter", s.Kind))
	case s.Kind == "Secret":
		errs = append(errs, errors.New("kind: what is in a Secret must not get into events: watch what uses it"))
	}
	for i, namespace := range s.Namespaces {
		if problems := validation.ValidateNamespaceName(namespace, false); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("namespaces[%d]: %q is no name of a namespace: %s", i, namespace, strings.Join(problems, "; ")))
		}
	}
	if _, err := labels.Parse(s.Labels); err != nil {
		errs = append(errs, fmt.Errorf("labels: %q is no selector such as app=shop: %w", s.Labels, err))
	}
	if _, err := fields.ParseSelector(s.Fields); err != nil {
		errs = append(errs, fmt.Errorf("fields: %q is no selector such as type=Warning: %w", s.Fields, err))
	}
	for _, on := range s.On {
		if !slices.Contains([]string{"added", "modified", "deleted"}, on) {
			errs = append(errs, fmt.Errorf("on: %q is none of added, modified, deleted", on))
		}
	}
	return errors.Join(errs...)
}

// Verify refuses everybody.
func (k *kubernetes) Verify(*source.Request) error {
	return fmt.Errorf("%w: nobody sends to a source that watches a cluster", source.ErrUnauthenticated)
}

// Split finds nothing.
func (k *kubernetes) Split(*source.Request) ([]source.Delivery, error) { return nil, nil }

// Normalise has nothing to add.
func (k *kubernetes) Normalise(*event.Event) {}

func (k *kubernetes) Selection() source.Selection { return k.selection }

func (k *kubernetes) Change(c source.Change) (d source.Delivery, causedBy string, ok bool) {
	o := object(c.Object)
	change := strings.ToLower(c.Type)
	if !slices.Contains(k.on, change) || o.text("metadata", "uid") == "" {
		return d, "", false
	}
	causedBy = o.causedBy()
	body, err := json.Marshal(struct {
		Type   string         `json:"type"`
		Object map[string]any `json:"object"`
	}{c.Type, o.told()})
	if err != nil {
		return d, "", false // objects come as JSON
	}
	version := o.text("metadata", "resourceVersion")
	if c.Type == "DELETED" {
		version = change
	}
	return source.Delivery{
		Key: o.text("metadata", "uid") + "/" + version, Type: strings.ToLower(k.selection.Kind) + "." + change,
		Subject: o.subject(k.selection.Kind), Time: o.time(c.Type), Body: body,
	}, causedBy, true
}

// object is one of the API's.
type object map[string]any

func (o object) text(path ...string) string {
	var v any = map[string]any(o)
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	text, _ := v.(string)
	return text
}

func (o object) timeAt(path ...string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, o.text(path...))
	return t.UTC()
}

// subject is what the change is about: of an Event, the object that it reports on
// (kubernetes.io/docs/reference/kubernetes-api, Event of v1 and of events.k8s.io/v1).
func (o object) subject(kind string) string {
	of := "metadata"
	for _, about := range []string{"involvedObject", "regarding"} {
		if kind == "Event" && o.text(about, "name") != "" {
			of = about
		}
	}
	name := o.text(of, "name")
	if namespace := o.text(of, "namespace"); namespace != "" {
		name = namespace + "/" + name
	}
	if of != "metadata" {
		name = o.text(of, "kind") + "/" + name
	}
	return name
}

// time is when the change was made, as far as the object says.
func (o object) time(change string) time.Time {
	if change == "DELETED" {
		return o.timeAt("metadata", "deletionTimestamp")
	}
	last := o.timeAt("metadata", "creationTimestamp")
	for _, at := range []time.Time{o.timeAt("lastTimestamp"), o.timeAt("eventTime"), o.timeAt("series", "lastObservedTime")} {
		if at.After(last) {
			last = at
		}
	}
	for _, f := range o.managed() {
		if at := f.timeAt("time"); at.After(last) {
			last = at
		}
	}
	return last
}

func (o object) managed() []object {
	metadata, _ := o["metadata"].(map[string]any)
	list, _ := metadata["managedFields"].([]any)
	out := make([]object, 0, len(list))
	for _, f := range list {
		if m, ok := f.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// causedBy is the run whose change this is, or that of a controller soon after one: the annotation alone stays for ever.
func (o object) causedBy() string {
	id := event.AnnotatedRun(o.text("metadata", "annotations", event.RunAnnotation))
	if id == "" {
		return ""
	}
	now := o.time("")
	for _, f := range o.managed() {
		if f.text("manager") == event.FieldManager && now.Sub(f.timeAt("time")) <= ours {
			return id
		}
	}
	return ""
}

// told is the object without what says how it came about.
func (o object) told() map[string]any {
	metadata, _ := o["metadata"].(map[string]any)
	if metadata == nil {
		return o
	}
	out, m := shallow(o), shallow(metadata)
	delete(m, "managedFields")
	if annotations, _ := m["annotations"].(map[string]any); annotations["kubectl.kubernetes.io/last-applied-configuration"] != nil {
		rest := shallow(annotations)
		delete(rest, "kubectl.kubernetes.io/last-applied-configuration") // the whole object once more
		m["annotations"] = rest
	}
	out["metadata"] = m
	return out
}

func shallow(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
