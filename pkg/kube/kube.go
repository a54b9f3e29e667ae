// Package kube speaks with the API server of a Kubernetes cluster, for the actions that act on one: it finds what a kind means,
// walks from a pod to what controls it, judges health, knows the history of rollouts, and applies many objects at once.
//
// Guarantees. Nothing is connected to before it is first used, and what failed is tried anew at the next use. All clients of a
// Cluster share one limit of requests. A client that acts as a service account never acts as anybody else: it impersonates in
// every request. A request has a time limit, streams of logs have none but their context. Errors that come from the server
// are *Error values, which say in words what was tried, why it failed and what to do, and hold no credential. Everything is
// safe for concurrent use.
package kube

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// Manager is our name as a manager of fields (kubernetes.io/docs/reference/using-api/server-side-apply).
const Manager = event.FieldManager

// Options say how the cluster is reached.
type Options struct {
	// Kubeconfig is a file; empty means the service account of the pod that the server runs in, else what KUBECONFIG names or
	// ~/.kube/config.
	Kubeconfig string
	Context    string        // of the kubeconfig; empty for its current one
	Timeout    time.Duration // of one request; 30 s by default
	QPS        int           // requests a second of all clients together; 500 by default, with bursts of twice as many
	Version    string        // of the server, for its User-Agent
}

// Cluster makes clients of one cluster. Make one with New.
type Cluster struct {
	o       Options
	limiter flowcontrol.RateLimiter

	mu        sync.Mutex
	base      *rest.Config // nil before the first use
	namespace string       // that of the server's own account, or of the kubeconfig's context
	clients   map[string]*Client
	kinds     kinds
}

// New does not connect.
func New(o Options) *Cluster {
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.QPS = cmp.Or(o.QPS, 500)
	limiter := flowcontrol.NewTokenBucketRateLimiter(float32(o.QPS), 2*o.QPS)
	return &Cluster{o: o, limiter: limiter, clients: map[string]*Client{}}
}

// Client speaks as one account.
type Client struct {
	host     string
	account  string // the service account it acts as, NAMESPACE/NAME; empty for the server's own
	objects  dynamic.Interface
	watches  dynamic.Interface // the same, without a time limit
	requests rest.Interface    // for what is no object
	streams  rest.Interface    // without a time limit
	kinds    *kinds
}

// As returns the client that acts as a service account, NAMESPACE/NAME, or NAME in the server's own namespace; as the server
// itself where it is empty.
func (c *Cluster) As(account string) (*Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.clients[account]; client != nil {
		return client, nil
	}
	if c.base == nil {
		if err := c.load(); err != nil {
			return nil, err
		}
	}
	client, err := newClient(c.base, c.full(account), c.o.Timeout)
	if err != nil {
		return nil, fmt.Errorf("make a client of the Kubernetes cluster: %w", err)
	}
	client.kinds = &c.kinds
	c.clients[account] = client // as many as grants name
	return client, nil
}

// User is the name that a service account has as a user, for programs that impersonate; empty for the server itself.
func (c *Cluster) User(account string) (string, error) {
	if account == "" {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == nil {
		if err := c.load(); err != nil {
			return "", err
		}
	}
	return userOf(c.full(account)), nil
}

// full is a service account with its namespace. Holds mu.
func (c *Cluster) full(account string) string {
	if account == "" || strings.Contains(account, "/") {
		return account
	}
	return c.namespace + "/" + account
}

func userOf(account string) string {
	namespace, name, _ := strings.Cut(account, "/")
	return "system:serviceaccount:" + namespace + ":" + name
}

// namespaceFile is where a pod finds the namespace of its service account.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// load reads where the cluster is. Holds mu.
func (c *Cluster) load() error {
	config, err := rest.InClusterConfig()
	namespace := ""
	switch {
	case c.o.Kubeconfig == "" && c.o.Context == "" && err == nil:
		text, err := os.ReadFile(namespaceFile)
		if err == nil {
			namespace = strings.TrimSpace(string(text))
		}
	default:
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = c.o.Kubeconfig
		kubeconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.o.Context})
		if config, err = kubeconfig.ClientConfig(); err != nil {
			return fmt.Errorf("find the Kubernetes cluster: %w: set kubernetes.kubeconfig in the server's configuration, or run the server in the cluster with a service account", err)
		}
		namespace, _, _ = kubeconfig.Namespace()
	}
	config.UserAgent = strings.TrimSuffix(Manager+"/"+c.o.Version, "/")
	config.RateLimiter = c.limiter
	config.WarningHandler = rest.NoWarnings{}
	c.base, c.namespace = config, cmp.Or(namespace, "default")
	return nil
}

func newClient(base *rest.Config, account string, timeout time.Duration) (*Client, error) {
	config := rest.CopyConfig(base)
	if account != "" {
		config.Impersonate.UserName = userOf(account)
	}
	watches, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config.NegotiatedSerializer = negotiated()
	streams, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	config.Timeout = timeout
	requests, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Client{host: config.Host, account: account, objects: objects, watches: watches, requests: requests, streams: streams}, nil
}

// Logs writes what a container of a pod prints into w until it ends, and returns when it has.
func (c *Client) Logs(ctx context.Context, namespace, pod string, w func([]byte) error) error {
	stream, err := c.streams.Get().AbsPath("/api/v1").Namespace(namespace).Resource("pods").Name(pod).SubResource("log").Param("follow", "true").Stream(ctx)
	if err != nil {
		return c.words(err, "read the log of pod "+namespace+"/"+pod)
	}
	defer func() { _ = stream.Close() }() // it was only read
	buf := make([]byte, 32<<10)
	for {
		n, err := stream.Read(buf)
		if n > 0 {
			if werr := w(buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the pod's own state says how it ended; a log that is cut off is no failure
		}
	}
}
