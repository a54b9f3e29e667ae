package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/run"
)

const alertRules = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: am}
spec: {type: alertmanager, auth: {bearer: {secret: hook}}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: r}
spec:
  trigger: {source: am, type: alert.firing}
  steps: [{uses: exec.run, with: {command: [echo, "${{ event.alert.labels.pod }}"]}}]
`

// alert posts what Alertmanager sends of a pod.
func (s *server) alert(pod string) (answer struct{ IDs, Duplicates []string }) {
	s.t.Helper()
	body := fmt.Sprintf(`{"version":"4","groupKey":"{}:{alertname=\"Down\"}","status":"firing","receiver":"riposte","groupLabels":{"alertname":"Down"},"alerts":[`+
		`{"status":"firing","labels":{"alertname":"Down","pod":%q},"annotations":{},"startsAt":"2026-11-23T10:00:00.123456789Z","endsAt":"0001-01-01T00:00:00Z"}]}`, pod)
	req, err := http.NewRequest(http.MethodPost, "http://"+s.listen.Hooks+"/hooks/am", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusAccepted {
		s.t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return answer
}

// TestAlertsThatWereMissedAreTaken has two alerts fire, of which one began while no server ran.
func TestAlertsThatWereMissedAreTaken(t *testing.T) {
	asked := make(chan string, 10)
	am := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		group := func(pods ...string) string {
			var alerts []string
			for _, pod := range pods {
				alerts = append(alerts, fmt.Sprintf(`{"labels":{"alertname":"Down","pod":%q},"annotations":{},"startsAt":"2026-11-23T10:00:00.123Z","status":{"state":"active"}}`, pod))
			}
			return `{"labels":{"alertname":"Down"},"receiver":{"name":"riposte"},"alerts":[` + strings.Join(alerts, ",") + `]}`
		}
		_, _ = io.WriteString(w, "["+group("heard", "missed")+"]")
		asked <- r.URL.String()
	}))
	defer am.Close()
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{t.TempDir()}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(alertRules)
	s := launch(t, c)
	if r := s.ended(s.alert("heard").IDs[0] + "-r"); r.State != run.Succeeded {
		t.Fatalf("%+v", r)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	c.Alertmanager.URL = am.URL
	c.CatchUp = config.CatchUp{Interval: time.Hour, Sources: []config.CatchUpSource{{Source: "am", Receiver: "riposte"}}}
	s = launch(t, c)
	if path := <-asked; !strings.HasPrefix(path, "/api/v2/alerts/groups?") {
		t.Errorf("asked for %s", path)
	}
	var events struct {
		Items []struct {
			ID    string
			Alert struct{ Labels map[string]string }
		}
	}
	s.wait("the alert", func() bool { return s.get("events?source=am", &events) && len(events.Items) == 2 })
	e := events.Items[0]
	if r := s.ended(e.ID + "-r"); r.State != run.Succeeded {
		t.Errorf("%+v", r)
	}
	if s.get("events/"+e.ID, &e); e.Alert.Labels["pod"] != "missed" {
		t.Errorf("%+v", e)
	}
	if again := s.alert("missed"); len(again.Duplicates) != 1 || again.Duplicates[0] != e.ID {
		t.Errorf("Alertmanager's own webhook is answered %+v, want a duplicate of %s", again, e.ID)
	}
}

// TestPushesThatWereMissedAreTaken: what a host could not deliver, by its API, and what nobody tells of, by the branches.
func TestPushesThatWereMissedAreTaken(t *testing.T) {
	repo := newRepository(t)
	backend := repo.host.Config.Handler
	first := repo.commit("main", "one")
	var second string
	const guid = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
	repo.host.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, of := strings.CutPrefix(r.URL.Path, "/api/v3/repos/team/acme/hooks")
		switch {
		case !of:
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/team")
			backend.ServeHTTP(w, r)
		case path == "":
			_, _ = io.WriteString(w, `[{"id":1,"config":{"url":"https://hooks.example.com/hooks/github"}}]`)
		case path == "/1/deliveries":
			_, _ = fmt.Fprintf(w, `[{"id":5,"guid":%q,"event":"release","status_code":502,"delivered_at":%q}]`, guid, time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
		case path == "/1/deliveries/5":
			_, _ = fmt.Fprintf(w, `{"id":5,"guid":%q,"request":{"headers":{"X-GitHub-Event":"release","X-GitHub-Delivery":%q},"payload":{"action":"published","repository":{"full_name":"team/acme"}}}}`, guid, guid)
		default:
			http.NotFound(w, r)
		}
	})
	url := repo.host.URL + "/team/acme.git"
	c := testConfig(t, t.TempDir())
	c.Git.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Credentials = []config.Credential{{URL: repo.host.URL + "/team/", Token: "hook", Forge: "github"}}
	c.PublicURL = "https://hooks.example.com/"
	c.CatchUp = config.CatchUp{Interval: time.Second, Sources: []config.CatchUpSource{{Source: "github", Repositories: []string{url}}}}
	c.Rules.Dirs = []string{t.TempDir()}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(githubSource + ruleDoc("r", "  when: event.git.branch == \"main\"\n  steps: [{uses: exec.run, with: {command: [echo, \"${{ event.git.commit }}\"]}}]\n"))
	s := launch(t, c)
	s.ended(s.push(fmt.Sprintf(`{"ref":"refs/heads/main","after":%q,"repository":{"full_name":"team/acme","clone_url":%q}}`, first, url)).ID + "-r")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	second = repo.commit("main", "two")
	repo.commit("other", "three") // of which no event tells: it may be as old as the repository
	s = launch(t, c)
	type list struct {
		Items []struct {
			ID, Type, DeliveryID string
			Git                  struct{ Branch, Before, Commit string }
		}
	}
	var events list
	s.wait("what was missed, and decided", func() bool {
		events = list{}
		return s.get("events?source=github", &events) && len(events.Items) == 3 && events.Items[0].Git.Commit == second
	})
	for _, e := range events.Items[:2] {
		switch e.Type {
		case "push":
			if r := s.ended(e.ID + "-r"); r.State != run.Succeeded || e.Git.Branch != "main" || e.Git.Before != first || e.Git.Commit != second {
				t.Errorf("%+v, run %s", e, r.State)
			}
		case "release":
			if e.DeliveryID != guid {
				t.Errorf("%+v", e)
			}
		default:
			t.Errorf("%+v", e)
		}
	}
	asked := repo.asked.Load()
	s.wait("the next round", func() bool { return repo.asked.Load() > asked+1 })
	if s.get("events?source=github", &events); len(events.Items) != 3 {
		t.Errorf("asked again there are %d events", len(events.Items))
	}
}
