package quiet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/quiet"
)

func TestWhenItIsQuiet(t *testing.T) {
	nights := quiet.Time{Name: "nights", Cron: "0 22 * * *", Duration: 8 * time.Hour, Zone: "Europe/Vienna"}
	payments := quiet.Time{Name: "release", Cron: "30 9 23 11 *", Duration: time.Hour, Labels: map[string]string{"team": "payments"}}
	for _, tt := range []struct {
		name   string
		at     string // UTC
		labels map[string]string
		want   string
		until  string
	}{
		{"before the night", "2026-11-23T20:59:59Z", nil, "", ""},
		{"as it begins, by the zone's clock", "2026-11-23T21:00:00Z", nil, "nights", "2026-11-24T05:00:00Z"},
		{"past midnight", "2026-11-24T04:59:59Z", nil, "nights", "2026-11-24T05:00:00Z"},
		{"as it ends", "2026-11-24T05:00:00Z", nil, "", ""},
		{"in summer", "2026-07-01T20:00:00Z", nil, "nights", "2026-07-02T04:00:00Z"},
		{"another team's", "2026-11-23T09:45:00Z", map[string]string{"team": "shop"}, "", ""},
		{"no labels", "2026-11-23T09:45:00Z", nil, "", ""},
		{"its own", "2026-11-23T09:45:00Z", map[string]string{"team": "payments", "tier": "1"}, "release", "2026-11-23T10:30:00Z"},
		{"the night the clock is set back", "2026-10-25T01:30:00Z", nil, "nights", "2026-10-25T04:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			times, err := quiet.Compile([]quiet.Time{nights, payments})
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			name, until, ok := times.At(tt.labels, at)
			if name != tt.want || ok != (tt.want != "") || ok && until.UTC().Format(time.RFC3339) != tt.until {
				t.Errorf("%q until %s, %t; want %q until %s", name, until, ok, tt.want, tt.until)
			}
		})
	}
}

func TestOverlappingWindowsLastUntilTheLatestEnd(t *testing.T) {
	times, err := quiet.Compile([]quiet.Time{{Name: "hourly", Cron: "@hourly", Duration: 90 * time.Minute}, {Name: "short", Cron: "@hourly", Duration: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 10, 0, 30, 0, time.UTC)
	if name, until, _ := times.At(nil, at); name != "hourly" || !until.Equal(at.Truncate(time.Hour).Add(90*time.Minute)) {
		t.Errorf("%s until %s", name, until)
	}
}

func TestWhatIsWrongNamesItsField(t *testing.T) {
	for field, bad := range map[string]quiet.Time{
		"cron":     {Cron: "61 * * * *", Duration: time.Hour},
		"duration": {Cron: "@daily"},
		"zone":     {Cron: "@daily", Duration: time.Hour, Zone: "Mars/Olympus"},
	} {
		_, err := quiet.Compile([]quiet.Time{{Cron: "@daily", Duration: time.Hour}, bad})
		var fe *quiet.FieldError
		if !errors.As(err, &fe) || fe.Index != 1 || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, cron := range []string{"", "CRON_TZ=UTC 0 0 * * *", "@every 1h", "@reboot"} {
		if _, err := quiet.Compile([]quiet.Time{{Cron: cron, Duration: time.Hour}}); err == nil {
			t.Errorf("cron %q is taken", cron)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("0 22 * * *", int64(time.Hour), "Europe/Vienna", int64(1_795_000_000))
	f.Fuzz(func(t *testing.T, cron string, d int64, zone string, at int64) {
		times, err := quiet.Compile([]quiet.Time{{Cron: cron, Duration: time.Duration(d), Zone: zone}})
		if err != nil || at < 0 || at > 1<<33 || time.Duration(d) < time.Minute {
			return
		}
		now := time.Unix(at, 0)
		if _, until, ok := times.At(nil, now); ok && (!until.After(now) || until.Sub(now) > time.Duration(d)) {
			t.Errorf("%q at %s: until %s", cron, now, until)
		}
	})
}
