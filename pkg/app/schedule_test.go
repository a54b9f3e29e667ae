package app_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// soon is a schedule of one hour, which is shortly after somebody first asks what is due.
type soon struct {
	source.Source
	hour *hour
}

type hour struct {
	mu sync.Mutex
	at time.Time
}

func (s soon) Next(after time.Time) time.Time {
	s.hour.mu.Lock()
	defer s.hour.mu.Unlock()
	if after.Before(s.hour.at) {
		return s.hour.at
	}
	return time.Time{}
}

func (s soon) Due(after, now time.Time) ([]source.Delivery, int) {
	s.hour.mu.Lock()
	defer s.hour.mu.Unlock()
	if s.hour.at.IsZero() {
		s.hour.at = now.Add(200 * time.Millisecond)
	}
	if at := s.hour.at; at.After(after) && !at.After(now) {
		return []source.Delivery{{Key: at.String(), Type: "tick", Time: at, Body: []byte(`{"scheduledAt":"now"}`)}}, 0
	}
	return nil, 0
}

func TestAnHourMakesOneRun(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{t.TempDir()}
	at := &hour{}
	extend := func(r *app.Registries) {
		typ := r.Sources["schedule"]
		build := typ.New
		typ.New = func(decode func(any) error, env source.Env) (source.Source, error) {
			s, err := build(decode, env)
			return soon{s, at}, err
		}
		r.Sources["schedule"] = typ
	}
	(&server{t: t, rules: c.Rules.Dirs[0]}).write(`apiVersion: riposte.dev/v1
kind: Source
metadata: {name: nightly}
spec: {type: schedule, cron: "@daily"}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: clean}
spec:
  trigger: {source: nightly, type: tick}
  when: event.data.scheduledAt == "now"
  steps: [{uses: exec.run, with: {command: ["true"]}}]
`)
	s := launchWith(t, c, extend)
	var sources struct {
		Items []struct{ Name, Path, Next string }
	}
	if s.get("sources", &sources); len(sources.Items) != 1 || sources.Items[0].Path != "" {
		t.Errorf("sources: %+v", sources)
	}
	resp, err := http.Post("http://"+s.listen.Hooks+"/hooks/nightly", "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a schedule that is sent to answers %d", resp.StatusCode)
	}
	var runs struct{ Items []run.Run }
	s.wait("the run", func() bool { return s.get("runs", &runs) && len(runs.Items) > 0 })
	if r := s.ended(runs.Items[0].ID); r.State != run.Succeeded || r.Rule != "clean" {
		t.Errorf("%+v", r)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = launchWith(t, c, extend)
	var events struct{ Items []struct{ ID string } }
	s.wait("its history", func() bool { return s.get("runs", &runs) && len(runs.Items) > 0 })
	if s.get("events?source=nightly", &events); len(runs.Items) != 1 || len(events.Items) != 1 {
		t.Errorf("after a restart: %d runs of %d events", len(runs.Items), len(events.Items))
	}
}
