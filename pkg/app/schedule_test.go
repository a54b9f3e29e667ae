package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// seconds is a schedule of one hour, which is soon.
type seconds struct {
	source.Source
	at time.Time
}

func (s seconds) Next(after time.Time) time.Time {
	if after.Before(s.at) {
		return s.at
	}
	return time.Time{}
}

func (s seconds) Due(after, now time.Time) ([]source.Delivery, int) {
	if s.at.After(after) && !s.at.After(now) {
		return []source.Delivery{{Key: s.at.String(), Type: "tick", Time: s.at, Body: []byte(`{"scheduledAt":"now"}`)}}, 0
	}
	return nil, 0
}

func TestAnHourMakesOneRun(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{t.TempDir()}
	at := time.Now().Add(300 * time.Millisecond)
	extend := func(r *app.Registries) {
		typ := r.Sources["schedule"]
		build := typ.New
		typ.New = func(decode func(any) error, env source.Env) (source.Source, error) {
			s, err := build(decode, env)
			return seconds{s, at}, err
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
