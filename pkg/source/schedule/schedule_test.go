package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

func TestConformance(t *testing.T) { sourcetest.Run(t, Type(), nil) }

func made(t *testing.T, spec string) *schedule {
	t.Helper()
	return sourcetest.New(t, Type(), spec, sourcetest.Env(nil)).(*schedule)
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestDue(t *testing.T) {
	for _, tc := range []struct {
		spec       string
		after, now string
		want       string // hours with what was missed before them
		dropped    int
	}{
		{`cron: "0 * * * *"`, "2026-11-23T09:59:50Z", "2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z+0", 0},
		{`cron: "0 * * * *"`, "2026-11-23T10:00:00Z", "2026-11-23T10:59:59Z", "", 0},
		{`cron: "0 * * * *"`, "2026-11-23T06:30:00Z", "2026-11-23T10:30:00Z", "2026-11-23T10:00:00Z+3", 3},
		{`{cron: "0 * * * *", missed: all}`, "2026-11-23T08:30:00Z", "2026-11-23T10:30:00Z", "2026-11-23T09:00:00Z+0 2026-11-23T10:00:00Z+0", 0},
		{`{cron: "0 * * * *", missed: skip}`, "2026-11-23T08:30:00Z", "2026-11-23T10:30:00Z", "", 2},
		{`{cron: "0 * * * *", missed: skip}`, "2026-11-23T08:30:00Z", "2026-11-23T10:00:30Z", "2026-11-23T10:00:00Z+1", 1},
		{`{cron: "30 2 * * *", zone: Europe/Vienna}`, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-23T01:30:00Z+0", 0},
		// Clocks are put forward on 29 March 2026 and back on 25 October, at 01:00 UTC.
		{`{cron: "30 2 * * *", zone: Europe/Vienna, missed: all}`, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "2026-03-30T00:30:00Z+0", 0},
		{`{cron: "30 2 * * *", zone: Europe/Vienna, missed: all}`, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z+0 2026-10-25T01:30:00Z+0", 0},
		{`{cron: "@daily", zone: Europe/Vienna}`, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z+0", 0},
	} {
		due, dropped := made(t, tc.spec).Due(at(tc.after), at(tc.now))
		var got []string
		for _, d := range due {
			e := &event.Event{Body: d.Body}
			data, err := e.Data()
			if err != nil || d.Type != "tick" || d.Key == "" {
				t.Fatalf("%+v, %v", d, err)
			}
			m := data.(map[string]any)
			if d.Time.Format(time.RFC3339) != m["scheduledAt"] {
				t.Errorf("time %s, data %v", d.Time, m)
			}
			got = append(got, fmt.Sprintf("%s+%d", m["scheduledAt"], m["missed"]))
		}
		if strings.Join(got, " ") != tc.want || dropped != tc.dropped {
			t.Errorf("%s from %s to %s: %v, %d dropped; want %s, %d", tc.spec, tc.after, tc.now, got, dropped, tc.want, tc.dropped)
		}
	}
}

func TestWhatIsMissedIsBounded(t *testing.T) {
	due, dropped := made(t, `{cron: "* * * * *", missed: all}`).Due(at("2020-01-01T00:00:00Z"), at("2026-11-23T10:00:00Z"))
	if len(due) != mostAtOnce || dropped != 31*24*60-mostAtOnce || !due[len(due)-1].Time.Equal(at("2026-11-23T10:00:00Z")) {
		t.Errorf("%d events, the last at %s; %d dropped", len(due), due[len(due)-1].Time, dropped)
	}
}

func TestNobodySendsToASchedule(t *testing.T) {
	if err := made(t, `cron: "@daily"`).Verify(&source.Request{}); !errors.Is(err, source.ErrUnauthenticated) {
		t.Error(err)
	}
}

func TestAWrongScheduleIsRefused(t *testing.T) {
	for spec, want := range map[string]string{
		`cron: ""`:                          "cron",
		`cron: "* * *"`:                     "cron",
		`cron: "0 0 30 2 *"`:                "never comes",
		`cron: "@every 5m"`:                 "five fields",
		`cron: "TZ=UTC"`:                    "five fields",
		`{cron: "@daily", zone: Vienna}`:    "zone",
		`{cron: "@daily", zone: Local}`:     "zone",
		`{cron: "@dayly", zone: "../etc"}`:  "zone",
		`{cron: "61 * * * *", zone: "UTC"}`: "61",
	} {
		if _, err := build(sourcetest.Decode(spec), sourcetest.Env(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}

func FuzzCron(f *testing.F) {
	for _, seed := range []string{"* * * * *", "@daily", "0 22 * * mon-fri", "*/5 1,2 1-3 jan *", "TZ= ", "0 0 29 2 *"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(text)
		if err != nil {
			return
		}
		s := &schedule{cron: c, zone: time.UTC, missed: "all"}
		now := at("2026-11-23T10:00:00Z")
		due, _ := s.Due(now.Add(-48*time.Hour), now)
		for i := 1; i < len(due); i++ {
			if !due[i-1].Time.Before(due[i].Time) || due[i].Time.After(now) {
				t.Errorf("%q: %s after %s", text, due[i].Time, due[i-1].Time)
			}
		}
	})
}
