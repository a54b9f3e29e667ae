package alertmanager

import (
	"fmt"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	// What Alertmanager sends, and what its API says of the same alert: with fewer digits, and without the group's key.
	sentAlert = `{"version":"4","groupKey":"{}/{team=\"a\"}:{alertname=\"Down\"}","status":"firing","receiver":"riposte","groupLabels":{"alertname":"Down"},"alerts":[` +
		`{"status":"firing","labels":{"alertname":"Down","pod":"%s"},"annotations":{},"startsAt":"2026-11-23T10:00:00.123456789Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"%s"}]}`
	activeGroup = `{"labels":{"alertname":"Down"},"receiver":{"name":"riposte"},"alerts":[` +
		`{"labels":{"alertname":"Down","pod":"p1"},"annotations":{"a":"b"},"startsAt":"2026-11-23T10:00:00.123Z","endsAt":"2026-11-23T10:04:00.123Z","fingerprint":"f1","status":{"state":"active"}},` +
		`{"labels":{"alertname":"Down","pod":"p2"},"annotations":{},"startsAt":"2026-11-23T10:00:00.123Z","fingerprint":"f2","status":{"state":"active"}},` +
		`{"labels":{"alertname":"Down","pod":"p3"},"annotations":{},"startsAt":"2026-11-23T10:00:00.123Z","fingerprint":"f3","status":{"state":"suppressed"}}]}`
	elsewhere = `{"labels":{"alertname":"Down"},"receiver":{"name":"other"},"alerts":[{"labels":{},"startsAt":"2026-11-23T10:00:00Z","fingerprint":"f9","status":{"state":"active"}}]}`
)

func TestActiveAlertsGetTheIDsOfTheirWebhooks(t *testing.T) {
	past := [][]byte{fmt.Appendf(nil, sentAlert, "p2", "f2")}
	bodies, err := Webhooks([]byte("["+elsewhere+","+activeGroup+"]"), "riposte", past)
	if err != nil || len(bodies) != 1 {
		t.Fatalf("%d bodies, %v", len(bodies), err)
	}
	got := split(t, string(bodies[0]))
	want := split(t, fmt.Sprintf(sentAlert, "p1", "f1"))
	if len(got) != 1 || got[0].Key != want[0].Key || got[0].Type != "alert.firing" || got[0].Subject != "Down" {
		t.Errorf("%+v\nwant the key of %+v", got, want)
	}
	e := sourcetest.Event(got[0])
	(&alertmanager{}).Normalise(e)
	if a := e.Alert; a == nil || a.Status != "firing" || a.Labels["pod"] != "p1" || a.Annotations["a"] != "b" || !a.EndsAt.IsZero() || a.StartsAt.IsZero() {
		t.Errorf("%+v", e.Alert)
	}
}

func TestActiveAlertsOfAnUnknownGroup(t *testing.T) {
	bodies, err := Webhooks([]byte("["+activeGroup+"]"), "riposte", nil)
	if err != nil || len(bodies) != 1 {
		t.Fatalf("%d bodies, %v", len(bodies), err)
	}
	first := split(t, string(bodies[0]))
	if len(first) != 2 {
		t.Fatalf("%d events", len(first))
	}
	bodies, err = Webhooks([]byte("["+activeGroup+"]"), "riposte", [][]byte{first[0].Body, first[1].Body})
	if err != nil || len(bodies) != 0 {
		t.Errorf("asked again there are %d more, %v", len(bodies), err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, answer := range []string{"", "{}", "null", "<html>"} {
		if _, err := Webhooks([]byte(answer), "riposte", nil); err == nil || !strings.Contains(err.Error(), "alert groups") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func FuzzWebhooks(f *testing.F) {
	f.Add("["+activeGroup+"]", fmt.Sprintf(sentAlert, "p", "f"))
	f.Fuzz(func(t *testing.T, answer, past string) {
		bodies, err := Webhooks([]byte(answer), "riposte", [][]byte{[]byte(past)})
		for _, b := range bodies {
			if err == nil {
				split(t, string(b))
			}
		}
	})
}
