package app

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/kube"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/watch"
)

// openWatch says how objects of the cluster are watched for the sources that do so. The owner of the first partition watches.
func (a *App) openWatch(context.Context) (err error) {
	a.watch, err = watch.New(watch.Options{
		Sources: a.rules.watchedSources, List: a.listObjects, Watch: a.watchObjects, Append: a.events.Append, Now: a.o.Now, Logger: a.log,
		Mine: func() bool { return a.leases.Owner(0) == a.engine.Owner },
		Place: func(ctx context.Context, key string) ([]byte, error) {
			return a.events.Place(ctx, broker.PlaceWatch+"."+key)
		},
		SetPlace: func(ctx context.Context, key string, place []byte) error {
			return a.events.SetPlace(ctx, broker.PlaceWatch+"."+key, place)
		},
	})
	if err != nil {
		return err
	}
	wake := a.rules.changed
	a.rules.changed, a.rules.problem = func() { wake(); a.watch.Wake() }, a.watch.Problem
	return nil
}

// objects are those that a request to watch names.
func (a *App) objects(ctx context.Context, r watch.Request) (*kube.Resource, kube.Selector, error) {
	s := kube.Selector{Labels: r.Selection.Labels, Fields: r.Selection.Fields}
	client, err := a.cluster.As(r.Account)
	if err != nil {
		return nil, s, err
	}
	objects, err := client.Resolve(ctx, kube.Ref{APIVersion: r.Selection.APIVersion, Kind: r.Selection.Kind, Namespace: r.Namespace})
	if err == nil && r.Namespace == "" {
		objects = objects.All()
	}
	return objects, s, err
}

func (a *App) listObjects(ctx context.Context, r watch.Request, take func(map[string]any) error) (string, error) {
	objects, selector, err := a.objects(ctx, r)
	if err != nil {
		return "", err
	}
	return objects.Each(ctx, selector, func(o *unstructured.Unstructured) error { return take(o.Object) })
}

func (a *App) watchObjects(ctx context.Context, r watch.Request, version string, take func(source.Change, string) error) error {
	objects, selector, err := a.objects(ctx, r)
	if err != nil {
		return err
	}
	err = objects.Watch(ctx, selector, version, func(kind string, o *unstructured.Unstructured, version string) error {
		c := source.Change{Type: kind}
		if o != nil {
			c.Object = o.Object
		}
		return take(c, version)
	})
	if kube.Is(err, kube.Expired) {
		return errors.Join(watch.ErrExpired, err)
	}
	return err
}
