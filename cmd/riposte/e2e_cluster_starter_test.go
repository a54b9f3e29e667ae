//go:build e2e

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// starterPack is the server with the starter pack's own files and the rights that its page asks the chart for, beside the
// disposable cluster of KUBECONFIG. Pods need not run there: troubles are what the API server is told of them.
type starterPack struct {
	*server
	namespace string
}

// serveStarterPack shortens what the files wait for in verify, and nothing else of them.
func serveStarterPack(t *testing.T) *starterPack {
	t.Helper()
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("KUBECONFIG names no cluster: give a disposable one, as `kind create cluster --kubeconfig FILE` makes it")
	}
	need(t, "kubectl", "see https://kubernetes.io/docs/tasks/tools/")
	files, err := filepath.Glob("../../rules/kubernetes-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.yaml") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(text))
	}
	rules := strings.Join(documents, "\n---\n")
	rules = regexp.MustCompile(`(?m)^    within: .*$`).ReplaceAllString(rules, "    within: 1m\n    every: 1s")
	rules = regexp.MustCompile(`(?m)^    for: .*$`).ReplaceAllString(rules, "    for: 2s")
	p := &starterPack{server: &server{t: t}, namespace: fmt.Sprintf("starter-%d", time.Now().UnixNano()%1e10)}
	p.kubectl("create", "namespace", p.namespace)
	t.Cleanup(func() { _ = exec.Command("kubectl", "delete", "namespace", p.namespace, "--wait=false").Run() })
	p.server = serve(t, t.TempDir(), rules, "--kubernetes-kubeconfig", p.account())
	return p
}

// account makes the chart's service account with the values of the page, and a kubeconfig that acts as it.
func (p *starterPack) account() string {
	p.t.Helper()
	helm := need(p.t, "helm", "go install helm.sh/helm/v4/cmd/helm@latest")
	page, err := os.ReadFile("../../rules/README.md")
	if err != nil {
		p.t.Fatal(err)
	}
	values := regexp.MustCompile("(?s)```yaml\n(# values.yaml\n.*?)```").FindStringSubmatch(string(page))
	if values == nil {
		p.t.Fatal("rules/README.md has no values of the chart")
	}
	manifests, err := p.run(values[1], helm, "template", p.namespace, "../../charts/riposte", "--namespace", p.namespace, "--values", "-", "--show-only", "templates/rbac.yaml")
	if err != nil {
		p.t.Fatal(manifests)
	}
	p.apply(manifests, "create", "-f", "-")
	p.t.Cleanup(func() {
		_, _ = p.run("", "kubectl", "delete", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/instance="+p.namespace, "--wait=false")
	})
	name := p.kubectl("get", "serviceaccount", "-l", "app.kubernetes.io/instance="+p.namespace, "-o", "jsonpath={.items[0].metadata.name}")
	file := filepath.Join(p.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(p.kubectl("config", "view", "--minify", "--raw", "--flatten")), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.kubectl("--kubeconfig", file, "config", "set-credentials", "starter", "--token="+strings.TrimSpace(p.kubectl("create", "token", name)))
	p.kubectl("--kubeconfig", file, "config", "set-context", "--current", "--user=starter")
	return file
}

func (p *starterPack) run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// kubectl acts in the test's namespace.
func (p *starterPack) kubectl(args ...string) string { p.t.Helper(); return p.apply("", args...) }

func (p *starterPack) apply(manifest string, args ...string) string {
	p.t.Helper()
	out, err := p.run(manifest, "kubectl", append([]string{"--namespace", p.namespace}, args...)...)
	if err != nil {
		p.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// until waits for what kubectl prints.
func (p *starterPack) until(want string, args ...string) {
	p.t.Helper()
	last := ""
	waitFor(p.t, time.Minute, fmt.Sprintf("kubectl %s to print %s", strings.Join(args, " "), want), func() bool {
		last, _ = p.run("", "kubectl", append([]string{"--namespace", p.namespace}, args...)...)
		return strings.TrimSpace(last) == want
	})
}

// alert sends one as Alertmanager does, by the command that people try things with, and returns the run of the rule.
func (p *starterPack) alert(rule, name, status string, labels map[string]string) string {
	p.t.Helper()
	labels["alertname"] = name
	body, err := json.Marshal(map[string]any{
		"version": "4", "status": status, "receiver": "riposte", "groupKey": "{}:{}", "groupLabels": labels, "commonLabels": labels,
		"alerts": []any{map[string]any{
			"status": status, "labels": labels, "annotations": map[string]string{"description": "said the alert"},
			"startsAt": "2026-11-23T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": fmt.Sprintf("%x", p.namespace+name), "generatorURL": "http://prometheus/graph",
		}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if out, err := p.run(string(body), binary(p.t), "send", "kubernetes-alerts", "-f", "-", "--data", p.data); err != nil {
		p.t.Fatalf("riposte send: %v\n%s", err, out)
	}
	if status == "resolved" {
		return ""
	}
	id := ""
	waitFor(p.t, time.Minute, "a run of "+rule, func() bool {
		for _, r := range p.runs("rule=" + rule) {
			id = r.ID
		}
		return id != ""
	})
	return id
}

// waits is the run once it asks for consent.
func (p *starterPack) waits(id, step string) runRecord {
	p.t.Helper()
	var r runRecord
	waitFor(p.t, time.Minute, "run "+id+" to ask", func() bool {
		r = runRecord{}
		if p.get("runs/"+id, &r) != nil {
			return false
		}
		if r.State == "failed" || r.State == "refused" || r.State == "succeeded" {
			p.t.Fatalf("the run asked nobody: %+v", r)
		}
		return r.State == "waiting"
	})
	if s := r.step(step); s.State == "succeeded" || s.State == "running" {
		p.t.Fatalf("step %s did not wait: %+v", step, s)
	}
	if s := r.step("ask"); s.State != "succeeded" {
		p.t.Fatalf("nobody was asked: %+v", r)
	}
	return r
}

// healed agrees to what a run asks for, and waits until it has succeeded.
func (p *starterPack) healed(id, step string) runRecord {
	p.t.Helper()
	p.waits(id, step)
	if out, err := p.run("", binary(p.t), "runs", "approve", id, "--data", p.data, "--comment", "looked at it", "--yes"); err != nil {
		p.t.Fatalf("riposte runs approve: %v\n%s", err, out)
	}
	var r runRecord
	waitFor(p.t, 2*time.Minute, "run "+id+" to end", func() bool {
		r = runRecord{}
		return p.get("runs/"+id, &r) == nil && r.State != "pending" && r.State != "running" && r.State != "verifying" && r.State != "waiting"
	})
	if r.State != "succeeded" || r.step(step).State != "succeeded" {
		p.t.Fatalf("%s: %s %s %s: %+v", id, r.State, r.Reason, r.Message, r.Steps)
	}
	return r
}

const starterDeployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  progressDeadlineSeconds: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "registry.k8s.io/pause:3.10"}]
`

func (p *starterPack) deployment() (pod string) {
	p.t.Helper()
	p.apply(starterDeployment, "apply", "-f", "-")
	p.kubectl("rollout", "status", "deployment/web", "--timeout=1m")
	return p.kubectl("get", "pod", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
}

// crash makes a pod look as one does whose container crashes again and again.
func (p *starterPack) crash(pod string) {
	p.t.Helper()
	p.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", `{"status": {
		"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
		"containerStatuses": [{"name": "web", "image": "pause", "imageID": "", "ready": false, "restartCount": 7,
			"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}}]}}`)
	p.until("1", "get", "deployment", "web", "-o", "jsonpath={.status.unavailableReplicas}")
}

func TestClusterStarterCrashLoop(t *testing.T) {
	p := serveStarterPack(t)
	pod := p.deployment()
	p.crash(pod)
	id := p.alert("kubernetes-crash-loop", "KubePodCrashLooping", "firing", map[string]string{"namespace": p.namespace, "pod": pod, "container": "web"})
	if text := fmt.Sprint(p.waits(id, "restart").step("pod").Outputs["message"]); !strings.Contains(text, "CrashLoopBackOff") {
		t.Errorf("whoever is asked sees %q", text)
	}
	p.healed(id, "restart")
	if now := p.kubectl("get", "pod", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"); strings.Contains(now, pod) {
		t.Errorf("there is still %s: %s", pod, now)
	}
}

func TestClusterStarterResolvedBeforeConsent(t *testing.T) {
	p := serveStarterPack(t)
	pod := p.deployment()
	p.crash(pod)
	labels := map[string]string{"namespace": p.namespace, "pod": pod, "container": "web"}
	id := p.alert("kubernetes-crash-loop", "KubePodCrashLooping", "firing", labels)
	p.waits(id, "restart")
	p.alert("", "KubePodCrashLooping", "resolved", labels)
	waitFor(t, time.Minute, "the run to be cancelled", func() bool {
		r := runRecord{}
		return p.get("runs/"+id, &r) == nil && r.State == "cancelled" && r.Reason == "Resolved"
	})
	if now := p.kubectl("get", "pod", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"); now != pod {
		t.Errorf("%s was replaced by %s", pod, now)
	}
}

func TestClusterStarterTargetDown(t *testing.T) {
	p := serveStarterPack(t)
	pod := p.deployment()
	p.kubectl("create", "service", "clusterip", "web", "--tcp=80")
	p.crash(pod)
	id := p.alert("kubernetes-target-down", "TargetDown", "firing", map[string]string{"namespace": p.namespace, "service": "web", "job": "web"})
	p.healed(id, "restart")
}

func TestClusterStarterRollout(t *testing.T) {
	p := serveStarterPack(t)
	p.deployment()
	bad := strings.Replace(starterDeployment, "    metadata: {labels: {app: web}}", "    metadata: {labels: {app: web}, annotations: {testbed/fail: ImagePullBackOff}}", 1)
	bad = strings.Replace(bad, "pause:3.10", "pause:nonsense", 1)
	p.apply(bad, "apply", "-f", "-")
	p.until("ProgressDeadlineExceeded", "get", "deployment", "web", "-o", `jsonpath={.status.conditions[?(@.type=="Progressing")].reason}`)
	id := p.alert("kubernetes-rollout", "KubeDeploymentRolloutStuck", "firing", map[string]string{"namespace": p.namespace, "deployment": "web"})
	p.healed(id, "rollback")
	p.until("registry.k8s.io/pause:3.10", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
}

// starterKubelet keeps what only plays kubelets from calling a node ready: there it is the user kwok.
const starterKubelet = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NODE}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [nodes/status], resourceNames: [NODE]}]
  validations: [{expression: "request.userInfo.username != 'kwok'", message: this node has no kubelet}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NODE}
spec: {policyName: NODE, validationActions: [Deny]}
---
apiVersion: v1
kind: Node
metadata: {name: NODE}
spec: {taints: [{key: starter, effect: NoSchedule}]}
`

func TestClusterStarterNode(t *testing.T) {
	p := serveStarterPack(t)
	node := p.namespace
	p.apply(strings.ReplaceAll(starterKubelet, "NODE", node), "create", "-f", "-")
	t.Cleanup(func() {
		_ = exec.Command("kubectl", "delete", "node/"+node, "validatingadmissionpolicybinding/"+node, "validatingadmissionpolicy/"+node, "--wait=false").Run()
	})
	ready := func(status string, args ...string) (string, error) {
		patch := fmt.Sprintf(`{"status": {"conditions": [{"type": "Ready", "status": %q, "reason": "Test", "message": "kubelet is %s"}]}}`, status, status)
		return p.run("", "kubectl", append([]string{"patch", "node", node, "--subresource=status", "--type=merge", "-p", patch}, args...)...)
	}
	waitFor(t, time.Minute, "the policy to hold", func() bool {
		out, err := ready("True", "--dry-run=server", "--as=kwok", "--as-group=system:masters")
		return err != nil && strings.Contains(out, "no kubelet")
	})
	if out, err := ready("False"); err != nil {
		t.Fatal(out)
	}
	id := p.alert("kubernetes-node", "KubeNodeNotReady", "firing", map[string]string{"node": node})
	p.waits(id, "cordon")
	p.until("", "get", "node", node, "-o", "jsonpath={.spec.unschedulable}")
	repaired := make(chan error, 1)
	go func() { // somebody sees to it once it is cordoned
		for range 600 {
			if out, _ := p.run("", "kubectl", "get", "node", node, "-o", "jsonpath={.spec.unschedulable}"); out == "true" {
				_, err := ready("True")
				repaired <- err
				return
			}
		}
		repaired <- errors.New("it was never cordoned")
	}()
	r := p.healed(id, "drain")
	if err := <-repaired; err != nil || r.step("cordon").State != "succeeded" {
		t.Errorf("%v %+v", err, r.Steps)
	}
	p.until("true", "get", "node", node, "-o", "jsonpath={.spec.unschedulable}")
}

func TestClusterStarterVolume(t *testing.T) {
	p := serveStarterPack(t)
	class := p.namespace
	p.apply(fmt.Sprintf(`apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: %[1]s}
provisioner: example.com/none
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: %[1]s
  hostPath: {path: /tmp/none}
  claimRef: {namespace: %[1]s, name: data}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, annotations: {riposte.dev/grow-to: 2Gi}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: %[1]s
  resources: {requests: {storage: 1Gi}}
`, class), "apply", "-f", "-")
	t.Cleanup(func() {
		_ = exec.Command("kubectl", "delete", "storageclass/"+class, "pv/"+class, "--wait=false").Run()
	})
	p.until("Bound", "get", "pvc", "data", "-o", "jsonpath={.status.phase}")
	id := p.alert("kubernetes-volume", "KubePersistentVolumeFillingUp", "firing", map[string]string{"namespace": p.namespace, "persistentvolumeclaim": "data"})
	p.waits(id, "grow")
	go func() { // what the driver of the storage does
		for range 600 {
			if out, _ := p.run("", "kubectl", "-n", p.namespace, "get", "pvc", "data", "-o", "jsonpath={.spec.resources.requests.storage}"); out == "2Gi" {
				_, _ = p.run("", "kubectl", "-n", p.namespace, "patch", "pvc", "data", "--subresource=status", "--type=merge", "-p", `{"status": {"capacity": {"storage": "2Gi"}}}`)
				return
			}
		}
	}()
	p.healed(id, "grow")
}

func TestClusterStarterJob(t *testing.T) {
	p := serveStarterPack(t)
	p.apply(`apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: 1
      template:
        metadata: {annotations: {testbed/fail: CrashLoopBackOff}}
        spec:
          restartPolicy: Never
          containers: [{name: nightly, image: "registry.example.invalid/nightly:1"}]
`, "apply", "-f", "-")
	p.kubectl("create", "job", "nightly-1", "--from=cronjob/nightly")
	p.kubectl("wait", "--for=condition=Failed", "job/nightly-1", "--timeout=1m")
	id := p.alert("kubernetes-job", "KubeJobFailed", "firing", map[string]string{"namespace": p.namespace, "job_name": "nightly-1"})
	p.healed(id, "delete")
	p.until("", "get", "jobs", "-o", "name")
	p.until("cronjob.batch/nightly", "get", "cronjobs", "-o", "name")
}

const starterCertificates = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, plural: certificates, singular: certificate}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
            status:
              type: object
              x-kubernetes-preserve-unknown-fields: true
              properties:
                conditions:
                  type: array
                  x-kubernetes-list-type: map
                  x-kubernetes-list-map-keys: [type]
                  items:
                    type: object
                    required: [type, status]
                    properties:
                      type: {type: string}
                      status: {type: string}
                      reason: {type: string}
                      message: {type: string}
                      lastTransitionTime: {type: string, format: date-time}
                      observedGeneration: {type: integer, format: int64}
`

// TestClusterStarterCertificate plays cert-manager, by the part of its definition that a renewal rests on.
func TestClusterStarterCertificate(t *testing.T) {
	p := serveStarterPack(t)
	if out, err := p.run("", "kubectl", "get", "crd", "certificates.cert-manager.io"); err != nil {
		p.apply(starterCertificates, "create", "-f", "-")
		t.Cleanup(func() {
			_ = exec.Command("kubectl", "delete", "crd", "certificates.cert-manager.io", "--wait=false").Run()
		})
		p.kubectl("wait", "--for=condition=Established", "crd/certificates.cert-manager.io", "--timeout=1m")
	} else if strings.Contains(out, "cert-manager") {
		t.Log("cert-manager's own definition is there")
	}
	p.apply("apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: web}\nspec: {secretName: web, issuerRef: {name: none}, dnsNames: [example.com]}\n", "apply", "-f", "-")
	status := func(text string) {
		if out, err := p.run("", "kubectl", "-n", p.namespace, "patch", "certificate", "web", "--subresource=status", "--type=merge", "-p", text); err != nil {
			t.Errorf("%v %s", err, out)
		}
	}
	status(`{"status": {"notAfter": "2026-12-01T00:00:00Z", "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}, {"type": "Issuing", "status": "False", "reason": "Failed", "message": "order failed"}]}}`)
	id := p.alert("kubernetes-certificate", "CertManagerCertExpirySoon", "firing", map[string]string{"exported_namespace": p.namespace, "namespace": "cert-manager", "name": "web"})
	p.waits(id, "renew")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 600 {
			out, _ := p.run("", "kubectl", "-n", p.namespace, "get", "certificate", "web", "-o", `jsonpath={.status.conditions[?(@.type=="Issuing")].reason}`)
			if strings.TrimSpace(out) == "ManuallyTriggered" {
				status(`{"status": {"notAfter": "2027-03-01T00:00:00Z", "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}]}}`)
				return
			}
		}
	}()
	r := p.healed(id, "renew")
	<-done
	if r.step("renew").Outputs["changed"] != true {
		t.Errorf("%+v", r.step("renew"))
	}
}
