//go:build e2e

package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// deployScript copies what is deployed to where the shop serves it from; see shop.
const deployScript = "#!/bin/sh\nset -e\ncp version \"$SHOP_DIR/version.new\"\nmv \"$SHOP_DIR/version.new\" \"$SHOP_DIR/version\"\n"

// example reads a file of examples/ and makes replacements in it, each of which must be wanted.
func example(t *testing.T, file string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../examples", file))
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(out, replace[i]) {
			t.Fatalf("%s has no %q any more", file, replace[i])
		}
		out = strings.ReplaceAll(out, replace[i], replace[i+1])
	}
	return out
}

// alertmanagerSource and oncall stand where other examples have them.
const alertmanagerSource = `
---
apiVersion: riposte.dev/v1
kind: Source
metadata: {name: alertmanager}
spec:
  type: alertmanager
  auth: {bearer: {env: E2E_SECRET}}
`

func oncall(t *testing.T, sink *collector) string {
	t.Setenv("E2E_ONCALL", sink.url)
	return "---\napiVersion: riposte.dev/v1\nkind: Target\nmetadata: {name: oncall}\nspec: {type: webhook, url: {env: E2E_ONCALL}}\n---\n"
}

// shop is the service that is deployed: it answers a share of its requests with errors, as its version says.
type shop struct{ dir, url string }

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{dir: t.TempDir()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ratio := "0.001"
		if strings.HasPrefix(s.version(), "bad") {
			ratio = "0.5"
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "shop_errors_ratio{service=\"shop\"} %s\n", ratio)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	t.Setenv("SHOP_DIR", s.dir)
	return s
}

func (s *shop) version() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "version"))
	return strings.TrimSpace(string(text))
}

// process starts a program and ends it with the test.
func process(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), tail(out.String(), 3000))
		}
	})
}

// monitor starts Prometheus on the shop and Alertmanager, which sends to the hooks listener what Prometheus fires. Their
// clocks are short: an alert fires a second or two after the shop goes bad.
func monitor(t *testing.T, prometheus, hooks string, s *shop) {
	t.Helper()
	alertmanager := need(t, "prometheus-alertmanager", "apt-get install prometheus-alertmanager")
	program := need(t, "prometheus", "apt-get install prometheus")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	am := freeAddress(t)
	process(t, alertmanager, "--config.file="+write("am.yml", `
route: {receiver: riposte, group_by: [alertname, service], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: riposte
    webhook_configs:
      - url: http://`+hooks+`/hooks/alertmanager
        http_config: {authorization: {type: Bearer, credentials: `+webhookSecret+`}}
`), "--storage.path="+filepath.Join(dir, "am"), "--web.listen-address="+am, "--cluster.listen-address=")
	write("rules.yml", `
groups:
  - name: shop
    interval: 1s
    rules:
      - {record: "service:errors:ratio5m", expr: shop_errors_ratio}
      - {alert: HighErrorRate, expr: "service:errors:ratio5m > 0.05", labels: {severity: critical}, annotations: {summary: many errors}}
`)
	process(t, program, "--config.file="+write("prometheus.yml", `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [`+filepath.Join(dir, "rules.yml")+`]
alerting: {alertmanagers: [{static_configs: [{targets: ["`+am+`"]}]}]}
scrape_configs:
  - {job_name: shop, metrics_path: /, static_configs: [{targets: ["`+strings.TrimPrefix(s.url, "http://")+`"]}]}
`), "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+prometheus)
	waitFor(t, time.Minute, "Prometheus to be ready", func() bool {
		resp, err := http.Get("http://" + prometheus + "/-/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// finished waits until the run of a rule for an event is over: verified, too.
func (s *server) finished(event, rule string) runRecord {
	s.t.Helper()
	var r runRecord
	waitFor(s.t, 2*time.Minute, "the run of "+rule+" for "+event+" to end", func() bool {
		return s.get("runs/"+event+"-"+rule, &r) == nil && over(r)
	})
	return r
}

func over(r runRecord) bool {
	switch r.State {
	case "succeeded", "failed", "cancelled", "refused", "superseded", "observed":
		return true
	}
	return false
}

// rollbackRules is the example with short clocks, against the forge of the test.
func rollbackRules(t *testing.T, f *exampleForge, sink *collector, within string) string {
	return githubSource + alertmanagerSource + oncall(t, sink) + example(t, "rollback/rollback.yaml",
		"https://api.github.com", f.url+"/api", "for: 5m", "every: 1s\n    for: 3s", "within: 20m", "within: "+within)
}

func rollbackConfig(t *testing.T, prometheus string) string {
	t.Setenv("E2E_FORGE_TOKEN", forgeToken)
	return configure(t, "secrets: {github-token: {env: E2E_FORGE_TOKEN}}\n"+
		"exec: {env: [SHOP_DIR]}\nprometheus: {url: \"http://"+prometheus+"\"}\n")
}

// TestE2ERollback is the example rule from end to end: a push is deployed, the alert fires, the commit is reverted on the
// host, the revert is deployed, and the run has succeeded once Prometheus says that the errors are gone.
func TestE2ERollback(t *testing.T) {
	f := newForge(t, "acme/shop", map[string]string{"version": "good 1\n", "deploy.sh": deployScript})
	sink, shop, prometheus := collect(t), newShop(t), freeAddress(t)
	s := serve(t, t.TempDir(), rollbackRules(t, f, sink, "1m"), "--config", rollbackConfig(t, prometheus))
	monitor(t, prometheus, s.Hooks, shop)
	f.listen(s.Hooks)

	f.push("better", map[string]string{"version": "good 2\n"})
	if r := s.finished(f.events("push")[0], "deploy-shop"); r.State != "succeeded" || shop.version() != "good 2" {
		t.Fatalf("the first deploy is %+v, and the shop at %q", r, shop.version())
	}
	bad := f.push("worse", map[string]string{"version": "bad 3\n", "notes": "kept out of it\n"})
	if r := s.finished(f.events("push")[1], "deploy-shop"); r.State != "succeeded" {
		t.Fatalf("the second deploy is %+v", r)
	}
	var rollback runRecord
	waitFor(t, 2*time.Minute, "the rollback to end", func() bool {
		all := s.runs("rule=rollback-on-errors")
		if len(all) == 0 || !over(all[0]) {
			return false
		}
		return s.get("runs/"+all[0].ID, &rollback) == nil // the list leaves the steps out
	})
	if rollback.State != "succeeded" || rollback.step("revert").Outputs["reverted"] != bad {
		t.Fatalf("the rollback is %+v, and should have reverted %s", rollback, bad)
	}
	if v := f.show("main", "version"); v != "good 2" || shop.version() != "good 2" {
		t.Errorf("main is at %q and the shop at %q", v, shop.version())
	}
	revert := f.at("main")
	if rollback.step("revert").Outputs["commit"] != revert || !strings.Contains(f.message(revert), "Riposte-Run: "+rollback.ID) {
		t.Errorf("the revert is %s: %s", revert, f.message(revert))
	}
	// The revert's own push was deployed, once, and nothing came of that.
	pushes := f.events("push")
	if len(pushes) != 3 {
		t.Fatalf("there were %d pushes", len(pushes))
	}
	if r := s.finished(pushes[2], "deploy-shop"); r.State != "succeeded" {
		t.Errorf("the deploy of the revert is %+v", r)
	}
	if n, m := len(s.runs("rule=deploy-shop")), len(s.runs("rule=rollback-on-errors")); n != 3 || m != 1 {
		t.Errorf("there are %d deploys and %d rollbacks", n, m)
	}
	select {
	case text := <-sink.got:
		t.Errorf("people were told %s", text)
	default:
	}
}

// TestE2ERollbackThatDoesNotHelp: the errors stay although the commit is reverted. The run has failed, people hear of it once,
// and the revert is not reverted.
func TestE2ERollbackThatDoesNotHelp(t *testing.T) {
	f := newForge(t, "acme/shop", map[string]string{"version": "bad 1\n", "deploy.sh": deployScript})
	sink, shop, prometheus := collect(t), newShop(t), freeAddress(t)
	s := serve(t, t.TempDir(), rollbackRules(t, f, sink, "6s"), "--config", rollbackConfig(t, prometheus))
	monitor(t, prometheus, s.Hooks, shop)
	f.listen(s.Hooks)
	f.push("no better", map[string]string{"version": "bad 2\n"})
	told := sink.next(t, 2*time.Minute)
	if !strings.Contains(told, "rollback of shop: Unverified") {
		t.Errorf("people were told %s", told)
	}
	var all []runRecord
	waitFor(t, time.Minute, "the rollback to end", func() bool {
		all = s.runs("rule=rollback-on-errors")
		return len(all) > 0 && over(all[0])
	})
	if len(all) != 1 || all[0].State != "failed" || all[0].Reason != "Unverified" {
		t.Fatalf("the rollbacks are %+v", all)
	}
	if v := f.show("main", "version"); v != "bad 1" {
		t.Errorf("main is at %q", v)
	}
	// What the alert says again is answered and told to nobody.
	again := fmt.Sprintf(`{"version":"4","groupKey":"x","status":"firing","receiver":"riposte","alerts":[{"status":"firing",
"labels":{"alertname":"HighErrorRate","service":"shop"},"startsAt":%q,"fingerprint":"another"}]}`, time.Now().UTC().Format(time.RFC3339))
	if status := postAlerts(t, s.Hooks, again); status != http.StatusAccepted {
		t.Fatalf("the alert was answered %d", status)
	}
	waitFor(t, time.Minute, "the second rollback to be refused", func() bool {
		all = s.runs("rule=rollback-on-errors")
		return len(all) == 2 && over(all[0])
	})
	if all[0].State != "refused" || all[0].Reason != "LimitReached" {
		t.Errorf("the second rollback is %+v", all[0])
	}
	if n := len(f.events("push")); n != 2 {
		t.Errorf("there were %d pushes", n)
	}
	select {
	case text := <-sink.got:
		t.Errorf("people were told again: %s", text)
	default:
	}
}

func postAlerts(t *testing.T, hooks, body string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+hooks+"/hooks/alertmanager", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+webhookSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
