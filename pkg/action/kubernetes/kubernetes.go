// Package kubernetes holds the actions that act on a Kubernetes cluster: kubernetes.get, diff, apply, patch, delete, restart,
// scale, rollback, cordon, uncordon, drain and job.
//
// Guarantees. An action acts as the service account that the grant of its rule's path names, and never as anybody else. What
// changes an object names the run and the step in the object's annotations, so that a step that is made again after a crash
// does nothing twice: a restart, a relative scale and a rollback happen once for a step, a job is found by its name. Objects in
// the cluster's own namespaces are deleted only where the namespace is named for that. Values of Secrets are in no output and
// no log. Nothing is kept between calls but what the cluster said of its kinds.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// Options configure the actions.
type Options struct {
	Cluster *kube.Cluster
}

type actions struct{ Options }

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	a := actions{o}
	return []action.Definition{
		a.getDefinition(), a.diffDefinition(), a.applyDefinition(), a.patchDefinition(), a.deleteDefinition(), a.restartDefinition(),
		a.scaleDefinition(), a.rollbackDefinition(), a.cordonDefinition(), a.uncordonDefinition(), a.drainDefinition(), a.jobDefinition(),
	}
}

// client acts as whom the grant of the rule's path names.
func (a actions) client(call *action.Call) (*kube.Client, error) {
	return a.Cluster.As(call.ServiceAccount)
}

// resolve finds the object that parameters name.
func (a actions) resolve(ctx context.Context, call *action.Call, ref kube.Ref) (*kube.Client, *kube.Resource, error) {
	client, err := a.client(call)
	if err != nil {
		return nil, nil, err
	}
	r, err := client.Resolve(ctx, ref)
	return client, r, err
}

// outcome marks what no retry cures.
func outcome(err error) error {
	var e *kube.Error
	if errors.As(err, &e) && e.Final {
		return action.Permanent(err)
	}
	return err
}

// wrapped is Run with errors that say which action failed, and whether a retry may help.
func wrapped(name string, run func(context.Context, *action.Call) (action.Outputs, error)) func(context.Context, *action.Call) (action.Outputs, error) {
	return func(ctx context.Context, call *action.Call) (action.Outputs, error) {
		out, err := run(ctx, call)
		var refused *action.RefusedError
		if err == nil || errors.As(err, &refused) {
			return out, err
		}
		return nil, outcome(fmt.Errorf("%s: %w", name, err))
	}
}

// checkRef checks what names an object.
func checkRef(ref kube.Ref, named bool) error {
	switch {
	case ref.Kind == "":
		return errors.New("kind is empty")
	case strings.Contains(ref.Kind, "/"):
		return fmt.Errorf("kind: %q is no kind: write kind and name apart", ref.Kind)
	case named && ref.Name == "":
		return errors.New("name is empty")
	case strings.ContainsAny(ref.Name+ref.Namespace, "/ \n"):
		return errors.New("name and namespace have no spaces or slashes")
	}
	return nil
}

// note are the annotations of what a step changes.
func note(call *action.Call) map[string]string {
	return map[string]string{kube.RunAnnotation: call.RunID, kube.StepAnnotation: call.StepID}
}

// noted reports whether the step has changed the object before.
func noted(call *action.Call, o *unstructured.Unstructured) bool {
	a := o.GetAnnotations()
	return a[kube.RunAnnotation] == call.RunID && a[kube.StepAnnotation] == call.StepID
}

// settle waits for an object to be healthy where that is asked for, and judges it.
func settle(ctx context.Context, call *action.Call, r *kube.Resource, o *unstructured.Unstructured, wait time.Duration) (kube.Health, error) {
	if wait <= 0 {
		return kube.HealthOf(o), nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%s have passed", wait))
	defer cancel()
	say(call, "waits until %s is healthy", kube.RefOf(o))
	last, err := r.Wait(ctx, o.GetName())
	if err != nil {
		return kube.Health{}, err
	}
	return kube.HealthOf(last), nil
}

// fenced reads, decides and writes anew where somebody else has written meanwhile: controllers write status all the time.
func fenced(ctx context.Context, do func() error) error {
	const tries = 8
	var err error
	for i := range tries {
		if err = do(); !kube.Is(err, kube.Changed) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(i+1) * 50 * time.Millisecond):
		}
	}
	return err
}

func say(call *action.Call, format string, args ...any) {
	fmt.Fprintf(call.Log, format+"\n", args...) //nolint:errcheck // the log is best effort
}

// system refuses to touch what is the cluster's own unless its namespace is named.
func system(ref kube.Ref, allowed []string) error {
	namespace := ref.Namespace
	if namespace == "" {
		namespace = ref.Name
	}
	if kube.Protected(ref) && !slices.Contains(allowed, namespace) {
		return action.Refused("SystemNamespace", fmt.Errorf("%s is the cluster's own: name its namespace in allowSystem to delete it all the same", ref))
	}
	return nil
}
