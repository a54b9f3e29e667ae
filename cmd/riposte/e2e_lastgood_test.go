//go:build e2e

package main_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestE2ELastGood is the example: a commit that CI found good is promoted, deployed and verified; a bad one is put into
// quarantine and production goes back, also when CI says again that it is good; the next good one moves production on.
func TestE2ELastGood(t *testing.T) {
	f := newForge(t, "acme/site", map[string]string{"version": "good 1\n", "deploy.sh": deployScript})
	sink, shop := collect(t), newShop(t)
	// In place of Prometheus: its answer is what the site's version makes it.
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		value := "0.001"
		if strings.HasPrefix(shop.version(), "bad") {
			value = "0.5"
		}
		answerQuery(w, value)
	}))
	t.Cleanup(prometheus.Close)
	rules := githubSource + oncall(t, sink) + example(t, "last-good/last-good.yaml",
		"for: 10m", "every: 1s\n    for: 1s", "within: 15m", "within: 5s")
	s := serve(t, t.TempDir(), rules, "--config", configure(t, "exec: {env: [SHOP_DIR]}\nprometheus: {url: \""+prometheus.URL+"\"}\n"))
	f.listen(s.Hooks)
	// green says that CI found a commit good, and waits for what comes of it.
	green := func(commit string) runRecord {
		t.Helper()
		f.send("workflow_run", map[string]any{"action": "completed", "workflow_run": map[string]any{
			"id": 1, "conclusion": "success", "status": "completed", "event": "push", "head_branch": "main", "head_sha": commit,
			"head_repository": map[string]any{"full_name": f.repo}, "updated_at": time.Now().UTC().Format(time.RFC3339)}})
		ids := f.events("workflow_run")
		return s.finished(ids[len(ids)-1], "promote")
	}
	deployed := func(commit, state string) {
		t.Helper()
		waitFor(t, time.Minute, "the deploy of "+commit+" to be "+state, func() bool {
			for _, id := range f.events("push") {
				var r runRecord
				if s.get("runs/"+id+"-deploy-production", &r) == nil && r.step("src").Outputs["commit"] == commit && r.State == state {
					return true
				}
			}
			return false
		})
	}
	good := f.at("main")
	if r := green(good); r.State != "succeeded" {
		t.Fatalf("promote: %+v", r)
	}
	deployed(good, "succeeded")
	waitFor(t, time.Minute, "the last good commit", func() bool { return f.at("last-good") == good })

	bad := f.push("worse", map[string]string{"version": "bad 2\n"})
	green(bad)
	deployed(bad, "failed")
	waitFor(t, time.Minute, "production to be back", func() bool { return f.at("production") == good && shop.version() == "good 1" })
	if f.at("quarantine/"+bad) != bad || f.at("last-good") != good || f.at("main") != bad {
		t.Errorf("the branches are %v", f.branches())
	}
	if told := sink.next(t, time.Minute); !strings.Contains(told, bad+" of site is bad: Unverified") {
		t.Errorf("people were told %s", told)
	}
	if r := green(bad); r.step("promote").State != "skipped" || f.at("production") != good {
		t.Errorf("what is in quarantine was promoted: %+v", r)
	}

	better := f.push("better", map[string]string{"version": "good 3\n"})
	green(better)
	deployed(better, "succeeded")
	waitFor(t, time.Minute, "the new last good commit", func() bool { return f.at("last-good") == better })
	if text, _ := os.ReadFile(filepath.Join(shop.dir, "version")); f.at("production") != better || string(text) != "good 3\n" {
		t.Errorf("the branches are %v, and the site %q", f.branches(), text)
	}
	// The way back was deployed like any other push, and nothing else was.
	pushes := 0
	for _, id := range f.events("push") {
		var r runRecord
		if s.get("runs/"+id+"-deploy-production", &r) == nil {
			pushes++
		}
	}
	if pushes != 4 {
		t.Errorf("%d pushes were deployed: want the first, the bad one, the way back and the better one", pushes)
	}
}

// answerQuery answers as Prometheus does where there is one series.
func answerQuery(w http.ResponseWriter, value string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"` + value + `"]}]}}`))
}
