package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one that the cluster serves in one version.
type kind struct {
	gvr        schema.GroupVersionResource
	gvk        schema.GroupVersionKind
	namespaced bool
	names      []string // in lower case: of the kind, plural, singular
	short      []string
}

// kinds are those that the cluster serves, in its order of preference. They are the same whoever asks.
type kinds struct {
	mu    sync.Mutex
	known []kind
}

// find returns the kind that a reference means, from what is known; with fresh, the server is asked first.
func (k *kinds) find(ctx context.Context, c *Client, ref Ref, fresh bool) (kind, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if fresh || k.known == nil {
		known, err := c.discover(ctx)
		if err != nil {
			return kind{}, false, err
		}
		k.known = known
	}
	found, ok := pick(k.known, ref)
	return found, ok, nil
}

// pick chooses as kubectl does: the names of a kind before short ones, the server's preferred group and version first.
func pick(known []kind, ref Ref) (kind, bool) {
	name, group, qualified := strings.Cut(strings.ToLower(ref.Kind), ".")
	version, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return kind{}, false
	}
	for _, names := range []func(kind) []string{func(k kind) []string { return k.names }, func(k kind) []string { return k.short }} {
		for _, k := range known {
			switch {
			case !slices.Contains(names(k), name),
				ref.APIVersion != "" && k.gvk.GroupVersion() != version,
				ref.APIVersion == "" && qualified && k.gvk.Group != group:
			default:
				return k, true
			}
		}
	}
	return kind{}, false
}

// aggregated is the form of discovery that lists everything at once; every version of Kubernetes since 1.30 has it
// (kubernetes.io/docs/concepts/overview/kubernetes-api, "aggregated discovery").
const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

type groups struct {
	Kind  string `json:"kind"`
	Items []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Versions []struct {
			Version   string `json:"version"`
			Resources []struct {
				Resource     string `json:"resource"`
				ResponseKind struct {
					Group   string `json:"group"`
					Version string `json:"version"`
					Kind    string `json:"kind"`
				} `json:"responseKind"`
				Scope            string   `json:"scope"`
				SingularResource string   `json:"singularResource"`
				ShortNames       []string `json:"shortNames"`
			} `json:"resources"`
		} `json:"versions"`
	} `json:"items"`
}

// discover asks the server for all kinds.
func (c *Client) discover(ctx context.Context) ([]kind, error) {
	var out []kind
	for _, path := range []string{"/api", "/apis"} {
		answer := c.requests.Get().AbsPath(path).SetHeader("Accept", aggregated).Do(ctx)
		text, err := answer.Raw()
		if err != nil {
			return nil, c.words(answer.Error(), "ask for the kinds of objects that the cluster has") // which reads what the server says
		}
		var list groups
		if err := json.Unmarshal(text, &list); err != nil || list.Kind != "APIGroupDiscoveryList" {
			return nil, &Error{Other, true, fmt.Errorf("the API server does not list its kinds at once: Kubernetes 1.30 or newer is needed")}
		}
		out = append(out, list.kinds()...)
	}
	return out, nil
}

func (g groups) kinds() []kind {
	var out []kind
	for _, group := range g.Items {
		for _, v := range group.Versions {
			version := schema.GroupVersion{Group: group.Metadata.Name, Version: v.Version}
			for _, r := range v.Resources {
				if r.ResponseKind.Kind == "" {
					continue
				}
				out = append(out, kind{
					gvr: version.WithResource(r.Resource), gvk: version.WithKind(r.ResponseKind.Kind), namespaced: r.Scope == "Namespaced",
					names: []string{strings.ToLower(r.ResponseKind.Kind), r.Resource, r.SingularResource}, short: r.ShortNames,
				})
			}
		}
	}
	return out
}
