package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/kubernetes"
	"github.com/riposte-dev/riposte/pkg/kube"
)

// kubeObjects is how many are applied: three in five are ConfigMaps, the others Services and Deployments without pods.
const kubeObjects = 500

func kubeManifests() string {
	var b bytes.Buffer
	for i := range kubeObjects {
		switch i % 5 {
		case 3:
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d}\nspec: {selector: {app: a%d}, ports: [{name: http, port: 80}]}\n", i, i)
		case 4:
			fmt.Fprintf(&b, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d%d}
spec:
  replicas: 0
  selector: {matchLabels: {app: a%d}}
  template: {metadata: {labels: {app: a%d}}, spec: {containers: [{name: main, image: registry.k8s.io/pause:3.10}]}}
`, i, i, i)
		default:
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {key: value%d}\n", i, i)
		}
	}
	return b.String()
}

// kubeApply measures an apply of objects that are all new, and then of the same, each against kubectl on the same cluster.
func (b *bench) kubeApply() error {
	config := os.Getenv("KUBECONFIG")
	if config == "" {
		return errors.New("KUBECONFIG names no disposable cluster")
	}
	kubectl := filepath.Join(filepath.Dir(config), "kubectl")
	if _, err := os.Stat(kubectl); err != nil {
		if kubectl, err = exec.LookPath("kubectl"); err != nil {
			return fmt.Errorf("%w (install kubectl)", err)
		}
	}
	dir, done, err := tempDir()
	if err != nil {
		return err
	}
	defer done()
	file := filepath.Join(dir, "all.yaml")
	if err := os.WriteFile(file, []byte(kubeManifests()), 0o600); err != nil {
		return err
	}
	theirs := func(args ...string) (time.Duration, error) {
		cmd := exec.Command(kubectl, args...)
		cmd.Stderr = os.Stderr
		began := time.Now()
		err := cmd.Run()
		return time.Since(began), err
	}
	apply := action.NewRegistry(kubernetes.Definitions(kubernetes.Options{Cluster: kube.New(kube.Options{Kubeconfig: config})}))["kubernetes.apply"]
	ours := func(namespace string) (time.Duration, error) {
		began := time.Now()
		_, err := apply.Run(context.Background(), &action.Call{
			RunID: "bench", Rule: "bench", StepID: "apply", StartedAt: began, Dir: dir, Log: io.Discard,
			Params: &kubernetes.ApplyParams{Path: "all.yaml", Namespace: namespace, Prune: true, Wait: -1},
		})
		return time.Since(began), err
	}
	var took, ratios [2][]float64 // all new, unchanged
	for round := range rounds {
		mine, its := fmt.Sprintf("bench-%d-%d-a", os.Getpid(), round), fmt.Sprintf("bench-%d-%d-b", os.Getpid(), round)
		for _, namespace := range []string{mine, its} {
			if _, err := theirs("create", "namespace", namespace); err != nil {
				return err
			}
			defer theirs("delete", "namespace", namespace, "--wait=false")
		}
		for i := range took {
			a, err := ours(mine)
			if err != nil {
				return err
			}
			p, err := theirs("apply", "--server-side", "-n", its, "-f", file)
			if err != nil {
				return err
			}
			took[i], ratios[i] = append(took[i], a.Seconds()), append(ratios[i], a.Seconds()/p.Seconds())
		}
	}
	b.report("kubernetes_apply_new", median(took[0]), "s", median(ratios[0]), "kubectl")
	b.report("kubernetes_apply_unchanged", median(took[1]), "s", median(ratios[1]), "kubectl")
	return nil
}
