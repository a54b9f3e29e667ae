package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
