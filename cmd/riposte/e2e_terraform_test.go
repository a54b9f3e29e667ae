//go:build e2e

package main_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// network is a root module whose state stays where the test can read it. A plan of it needs the file `ready` there.
func network(state, name string) map[string]string {
	return map[string]string{"network/main.tf": `
terraform {
  backend "local" { path = "` + state + `/terraform.tfstate" }
}
resource "terraform_data" "net" { input = "` + name + `" }
resource "terraform_data" "ready" { input = file("` + state + `/ready") }
`}
}

// applied is what the state says that the network is named.
func applied(t *testing.T, state string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "terraform.tfstate"))
	if err != nil {
		return ""
	}
	var s struct {
		Resources []struct {
			Name      string
			Instances []struct {
				Attributes struct{ Input struct{ Value string } }
			}
		}
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Resources {
		if r.Name == "net" {
			return r.Instances[0].Attributes.Input.Value
		}
	}
	return ""
}

// planAndApply serves the example with a forge of its own.
func planAndApply(t *testing.T) (f *exampleForge, s *server, state string) {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		need(t, "tofu", "install terraform or tofu")
	}
	state = t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "ready"), []byte("yes"), 0o600); err != nil {
		t.Fatal(err)
	}
	f = newForge(t, "acme/infra", network(state, "first"))
	t.Setenv("E2E_FORGE_TOKEN", forgeToken)
	config := configure(t, fmt.Sprintf(`secrets: {forge: {env: E2E_FORGE_TOKEN}}
credentials:
  - {url: "%s/", token: forge, forge: github, api: "%s/api", account: riposte}
`, f.url, f.url))
	s = serve(t, t.TempDir(), githubSource+"---\n"+example(t, "plan-and-apply/plan-and-apply.yaml"), "--config", config)
	f.listen(s.Hooks)
	return f, s, state
}

// propose sends the event of a pull request, and returns its id.
func (f *exampleForge) propose(action, branch string) string {
	head, base := f.at(branch), f.at("main")
	f.mu.Lock()
	f.head = head
	f.mu.Unlock()
	repo := map[string]any{"full_name": f.repo, "clone_url": f.webURL}
	f.send("pull_request", map[string]any{"action": action, "number": 7, "pull_request": map[string]any{
		"number": 7, "state": "open", "merged": false, "html_url": f.url + "/7", "user": map[string]any{"login": "ana"},
		"head": map[string]any{"ref": branch, "sha": head, "repo": repo}, "base": map[string]any{"ref": "main", "sha": base, "repo": repo},
	}})
	ids := f.events("pull_request")
	return ids[len(ids)-1]
}

// TestE2EPlanAndApply is the example: the plan of a pull request is a comment on it, which the next push edits; the merge is
// applied, and what would destroy something is not.
func TestE2EPlanAndApply(t *testing.T) {
	f, s, state := planAndApply(t)
	f.commit("wider", network(state, "wider"))
	f.git(f.work, "push", "--quiet", "origin", "HEAD:wider")
	if r := s.finished(f.propose("opened", "wider"), "plan-network"); r.State != "succeeded" {
		t.Fatalf("the plan is %+v", r)
	}
	f.commit("even wider", network(state, "widest"))
	f.git(f.work, "push", "--quiet", "origin", "HEAD:wider")
	if r := s.finished(f.propose("synchronize", "wider"), "plan-network"); r.State != "succeeded" {
		t.Fatalf("the second plan is %+v", r)
	}
	f.mu.Lock()
	comments, statuses := f.comments, strings.Join(f.statuses, ", ")
	f.mu.Unlock()
	if len(comments) != 1 || !strings.Contains(comments[0].Body, "2 to add") || !strings.Contains(comments[0].Body, f.at("wider")) {
		t.Errorf("the comments are %+v", comments)
	}
	if statuses != "riposte/plan-network success, riposte/plan-network success" {
		t.Errorf("the statuses are %s", statuses)
	}
	if got := applied(t, state); got != "" {
		t.Fatalf("%q is applied before the merge", got)
	}
	f.git(f.work, "push", "--quiet", "origin", "HEAD:main")
	pushes := f.events("push")
	if r := s.finished(pushes[len(pushes)-1], "apply-network"); r.State != "succeeded" {
		t.Fatalf("the apply is %+v", r)
	}
	if got := applied(t, state); got != "widest" {
		t.Errorf("%q is applied", got)
	}
	empty, _, _ := strings.Cut(network(state, "")["network/main.tf"], "resource")
	f.push("nothing", map[string]string{"network/main.tf": empty})
	pushes = f.events("push")
	r := s.finished(pushes[len(pushes)-1], "apply-network")
	if got := applied(t, state); r.State != "failed" || !strings.Contains(r.Message, "destroys 2 resources") || got != "widest" {
		t.Errorf("what destroys is %+v, and %q is applied", r, got)
	}
}

// TestE2EAnOldPushRetriedAppliesNoOldCommit: the run of a push fails, at its plan or at its apply, a newer push is applied, and
// the old one is delivered again by hand, which revives its run.
func TestE2EAnOldPushRetriedAppliesNoOldCommit(t *testing.T) {
	f, s, state := planAndApply(t)
	deliverPush := func(before, commit, delivery string) string {
		owner, name, _ := strings.Cut(f.repo, "/")
		body, err := json.Marshal(map[string]any{"ref": "refs/heads/main", "before": before, "after": commit, "pusher": map[string]any{"name": "ana"},
			"repository": map[string]any{"id": 42, "name": name, "full_name": f.repo, "owner": map[string]any{"login": owner}, "clone_url": f.webURL},
			"commits":    []any{map[string]any{"id": commit, "added": []any{}, "modified": []any{"network/main.tf"}, "removed": []any{}}}})
		if err != nil {
			t.Fatal(err)
		}
		return deliver(t, s.Hooks, "push", delivery, body)
	}
	f.listen("") // the test delivers
	first := f.at("main")
	if r := s.finished(deliverPush(nobody, first, rand.Text()), "apply-network"); r.State != "succeeded" || applied(t, state) != "first" {
		t.Fatalf("the first apply is %+v", r)
	}
	// The old push can't be planned, for something is missing.
	if err := os.Remove(filepath.Join(state, "ready")); err != nil {
		t.Fatal(err)
	}
	old, delivery := f.push("old", network(state, "old")), rand.Text()
	id := deliverPush(first, old, delivery)
	if r := s.finished(id, "apply-network"); r.State != "failed" || r.step("tf/plan").State != "failed" {
		t.Fatalf("the old push's run is %+v", r)
	}
	if err := os.WriteFile(filepath.Join(state, "ready"), []byte("yes"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := f.push("newer", network(state, "newer"))
	if r := s.finished(deliverPush(old, newer, rand.Text()), "apply-network"); r.State != "succeeded" || applied(t, state) != "newer" {
		t.Fatalf("the newer push's run is %+v, and %q is applied", r, applied(t, state))
	}
	if again := deliverPush(first, old, delivery); again != id {
		t.Fatalf("the redelivery is event %s, not %s", again, id)
	}
	var r struct {
		runRecord
		Attempt int
	}
	waitFor(t, 2*time.Minute, "the second attempt to end", func() bool {
		return s.get("runs/"+id+"-apply-network", &r) == nil && r.Attempt == 2 && over(r.runRecord)
	})
	if got := applied(t, state); got != "newer" {
		t.Errorf("%q is applied over the newer commit by %+v", got, r)
	}
}
