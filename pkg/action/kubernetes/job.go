package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/kube"
)

const (
	defaultJob = 10 * time.Minute
	maxTail    = 16 << 10 // bytes of a job's log that are an output
)

// JobParams are the parameters of kubernetes.job.
type JobParams struct {
	Image          string            `yaml:"image" required:"true" doc:"image of the container"`
	Command        []string          `yaml:"command,omitempty" doc:"program and arguments, without a shell; default: the image's own"`
	Args           []string          `yaml:"args,omitempty" doc:"arguments of the image's own program"`
	Env            map[string]string `yaml:"env,omitempty" doc:"environment variables"`
	SecretEnv      map[string]string `yaml:"secretEnv,omitempty" doc:"environment variables from Secrets of the namespace, as SECRET/KEY; Riposte never sees the values"`
	Namespace      string            `yaml:"namespace,omitempty" default:"default" doc:"namespace that it runs in"`
	ServiceAccount string            `yaml:"serviceAccount,omitempty" doc:"service account of the pod; without one, it gets no token"`
	Timeout        time.Duration     `yaml:"timeout,omitempty" default:"10m" doc:"how long it may run, the wait for a node included"`
	PodSpec        map[string]any    `yaml:"podSpec,omitempty" doc:"further fields of the pod's spec: resources are those of containers[0]; they win over what is written by default"`
	Target         string            `yaml:"target,omitempty" doc:"names what the job changes: two steps with the same target never overlap, cluster-wide; default: the job itself"`
}

func (p *JobParams) check() error {
	if p.Timeout < 0 {
		return errors.New("timeout is negative")
	}
	for name, from := range p.SecretEnv {
		if secret, key, ok := cut(from); !ok || secret == "" || key == "" {
			return fmt.Errorf("secretEnv.%s: %q is not SECRET/KEY", name, from)
		}
	}
	return nil
}

func cut(text string) (string, string, bool) {
	a, b, ok := bytes.Cut([]byte(text), []byte("/"))
	return string(a), string(b), ok
}

// JobOutputs are the outputs of kubernetes.job.
type JobOutputs struct {
	Name   string `yaml:"name" doc:"name of the job"`
	Log    string `yaml:"log" doc:"the last 16 KiB of what it printed"`
	Reused bool   `yaml:"reused" doc:"an earlier attempt at the step had started it"`
}

func (a actions) jobDefinition() action.Definition {
	return action.Definition{
		Name:             "kubernetes.job",
		Doc:              "Runs a container in the cluster once, with its output in the step's log, and removes it again. It runs under the restricted pod security standard unless podSpec says otherwise, and fails where the container does.",
		Params:           &JobParams{},
		Outputs:          JobOutputs{},
		NoDir:            true,
		Changes:          true,
		RetryInterrupted: true,
		Target: func(c *action.Call) string {
			p := c.Params.(*JobParams)
			return cmp.Or(p.Target, target(kube.Ref{Kind: "job", Namespace: p.Namespace, Name: jobName(c)}))
		},
		TargetDoc: "`target`, or `kubernetes:NAMESPACE/job/NAME` of the job",
		Rights: []action.Right{
			right("batch", verbs("get", "create", "delete"), "jobs"), right("", verbs("get", "list"), "pods"), right("", verbs("get"), "pods/log"),
		},
		Fenced: "by the job's name, which is the step's: an attempt that follows another one adopts its job, and never starts a second; what the container does is not fenced",
		Check:  func(params any) error { return params.(*JobParams).check() },
		Run:    wrapped("kubernetes.job", a.job),
	}
}

// jobName is the same for all attempts at a step. One that failed has removed its job.
func jobName(call *action.Call) string {
	sum := sha256.Sum256([]byte(call.RunID + "\x00" + call.StepID))
	return "riposte-" + hex.EncodeToString(sum[:8])
}

func (a actions) job(ctx context.Context, call *action.Call) (out action.Outputs, err error) {
	p := call.Params.(*JobParams)
	if err := p.check(); err != nil {
		return nil, action.Permanent(err)
	}
	client, r, err := a.resolve(ctx, call, kube.Ref{APIVersion: "batch/v1", Kind: "Job", Namespace: p.Namespace})
	if err != nil {
		return nil, err
	}
	name := jobName(call)
	made, reused, err := start(ctx, r, p.job(call, name))
	if err != nil {
		return nil, err
	}
	if reused {
		say(call, "job %s of an earlier attempt is adopted", name)
	}
	defer func() {
		if !action.Interrupted(ctx) { // whoever goes on adopts it
			err = errors.Join(err, a.clean(context.WithoutCancel(ctx), r, made))
		}
	}()
	timeout := cmp.Or(p.Timeout, defaultJob)
	limited, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s have passed", timeout))
	defer cancel()
	w := watcher{client: client, jobs: r, call: call, name: name}
	if err := w.follow(limited, made); err != nil {
		return nil, err
	}
	return action.Outputs{"name": name, "log": w.tail.String(), "reused": reused}, nil
}

// start makes a job, or finds the one that an earlier attempt has made. One that is going is waited for.
func start(ctx context.Context, r *kube.Resource, job *unstructured.Unstructured) (made *unstructured.Unstructured, reused bool, err error) {
	made, err = r.Create(ctx, job)
	if !kube.Is(err, kube.Exists) {
		return made, false, err
	}
	there, err := r.Get(ctx, job.GetName())
	if err == nil && there.GetDeletionTimestamp() == nil {
		return there, true, nil
	}
	if err == nil {
		err = gone(ctx, r, job.GetName(), there.GetUID(), time.Minute)
	}
	if err != nil && !kube.Is(err, kube.NotFound) {
		return nil, false, err
	}
	made, err = r.Create(ctx, job)
	return made, false, err
}

func (a actions) clean(ctx context.Context, r *kube.Resource, o *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := r.Delete(ctx, o.GetName(), kube.Deletion{UID: o.GetUID()})
	if kube.Is(err, kube.NotFound) || kube.Is(err, kube.Changed) {
		return nil
	}
	return err
}

// job is the object. A day after its end the cluster removes it, should nobody else.
func (p *JobParams) job(call *action.Call, name string) *unstructured.Unstructured {
	var env []any
	for _, k := range slices.Sorted(maps.Keys(p.Env)) {
		env = append(env, map[string]any{"name": k, "value": p.Env[k]})
	}
	for _, k := range slices.Sorted(maps.Keys(p.SecretEnv)) {
		secret, key, _ := cut(p.SecretEnv[k])
		env = append(env, map[string]any{"name": k, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": secret, "key": key}}})
	}
	container := map[string]any{
		"name": "main", "image": p.Image, "env": env, "command": texts(p.Command), "args": texts(p.Args),
		"securityContext": map[string]any{"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}}},
	}
	spec := map[string]any{
		"restartPolicy": "Never", "automountServiceAccountToken": p.ServiceAccount != "", "containers": []any{container},
		"securityContext": map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
	}
	if p.ServiceAccount != "" {
		spec["serviceAccountName"] = p.ServiceAccount
	}
	merge(spec, p.PodSpec)
	labels := map[string]any{"app.kubernetes.io/managed-by": kube.Manager}
	notes := map[string]any{}
	for k, v := range note(call) {
		notes[k] = v
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": map[string]any{"name": name, "namespace": cmp.Or(p.Namespace, kube.DefaultNamespace), "labels": labels, "annotations": notes},
		"spec": map[string]any{
			"backoffLimit": int64(0), "ttlSecondsAfterFinished": int64(86400), "activeDeadlineSeconds": int64(cmp.Or(p.Timeout, defaultJob).Seconds()) + 60,
			"template": map[string]any{"metadata": map[string]any{"labels": labels, "annotations": notes}, "spec": spec},
		},
	}}
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, t := range list {
		out[i] = t
	}
	return out
}

// merge puts what is given over what is there; of containers, the first is merged with ours.
func merge(into, given map[string]any) {
	for k, v := range given {
		old, isMap := into[k].(map[string]any)
		m, both := v.(map[string]any)
		ours, isList := into[k].([]any)
		theirs, lists := v.([]any)
		switch {
		case isMap && both:
			merge(old, m)
		case k == "containers" && isList && lists && len(theirs) > 0:
			if c, ok := theirs[0].(map[string]any); ok {
				merge(ours[0].(map[string]any), c)
			}
			into[k] = append(ours, theirs[1:]...)
		default:
			into[k] = v
		}
	}
}

// watcher follows one job.
type watcher struct {
	client *kube.Client
	jobs   *kube.Resource
	call   *action.Call
	name   string
	logged map[string]bool
	logs   sync.WaitGroup
	mu     sync.Mutex // guards tail
	tail   bytes.Buffer
}

// logGrace is how long a log may go on when the job is over: a kubelet may not notice the end.
const logGrace = 3 * time.Second

// follow prints the log of the job's pod and returns when the job is over.
func (w *watcher) follow(ctx context.Context, job *unstructured.Unstructured) error {
	w.logged = map[string]bool{}
	streams, stop := context.WithCancel(ctx)
	defer func() {
		ended := time.AfterFunc(logGrace, stop)
		w.logs.Wait()
		ended.Stop()
		stop()
	}()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	why := "no pod has been made"
	for {
		pods, err := w.client.Pods(ctx, job)
		if err != nil && !kube.Late(ctx) {
			return err
		}
		for i := range pods {
			w.log(streams, &pods[i])
		}
		if len(pods) > 0 {
			why = cmp.Or(kube.Waiting(pods), "it runs still")
		}
		now, err := w.jobs.Get(ctx, w.name)
		if err != nil && !kube.Late(ctx) {
			return err
		}
		if err == nil {
			job = now
			if over, err := w.verdict(ctx, job); over {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("job %s is not over: %w: %s", w.name, context.Cause(ctx), why)
		case <-tick.C:
		}
	}
}

// log begins to print what a pod's container says, once it has run.
func (w *watcher) log(ctx context.Context, pod *unstructured.Unstructured) {
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	if w.logged[pod.GetName()] || phase == "Pending" || phase == "" {
		return
	}
	w.logged[pod.GetName()] = true
	w.logs.Go(func() {
		err := w.client.Logs(ctx, pod.GetNamespace(), pod.GetName(), func(text []byte) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.tail.Write(text); w.tail.Len() > maxTail {
				w.tail.Next(w.tail.Len() - maxTail)
			}
			_, err := w.call.Log.Write(text)
			return err
		})
		if err != nil && ctx.Err() == nil { // the job itself says whether it went well
			say(w.call, "%v", err)
		}
	})
}

// verdict reports whether a job is over, and with what.
func (w *watcher) verdict(ctx context.Context, job *unstructured.Unstructured) (over bool, err error) {
	list, _, _ := unstructured.NestedSlice(job.Object, "status", "conditions")
	for _, c := range list {
		m, _ := c.(map[string]any)
		if m["status"] != "True" {
			continue
		}
		switch m["type"] {
		case "Complete":
			return true, nil
		case "Failed":
			return true, fmt.Errorf("job %s has failed: %v: %v%s", w.name, m["reason"], m["message"], w.exit(ctx, job))
		}
	}
	return false, nil
}

// exit is how the container of a job ended, for people.
func (w *watcher) exit(ctx context.Context, job *unstructured.Unstructured) string {
	pods, err := w.client.Pods(ctx, job)
	if err != nil || len(pods) == 0 {
		return ""
	}
	list, _, _ := unstructured.NestedSlice(pods[len(pods)-1].Object, "status", "containerStatuses")
	for _, c := range list {
		m, _ := c.(map[string]any)
		state, _ := m["state"].(map[string]any)
		if t, ok := state["terminated"].(map[string]any); ok {
			return fmt.Sprintf(": its container ended with exit code %v (%v)", t["exitCode"], t["reason"])
		}
	}
	return ""
}
