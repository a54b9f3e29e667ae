package alertmanager

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/source"
)

// GroupsPath is what Alertmanager's API is asked for: the alerts that fire and would be notified of, by group
// (prometheus/alertmanager api/v2/openapi.yaml, getAlertGroups).
const GroupsPath = "/api/v2/alerts/groups?active=true&silenced=false&inhibited=false"

// Webhooks turns the answer to GroupsPath into the bodies of the webhooks that would tell a receiver of these alerts. past
// are bodies of events that were received, of which alerts are left out.
//
// The events get the ids that those of Alertmanager's own webhooks have, where past has an event of the same group: the API
// does not tell a group's key. Of a group that was never heard of the key is made up, so that what Alertmanager repeats of it
// is an event of its own.
func Webhooks(answer []byte, receiver string, past [][]byte) ([][]byte, error) {
	if err := source.ParseJSON(answer); err != nil {
		return nil, fmt.Errorf("alert groups: %w", err)
	}
	groups := source.Body(answer)
	if !groups.Is('[') {
		return nil, fmt.Errorf("alert groups: the answer is no list, as that of Alertmanager's API v2 is")
	}
	heard := hear(past, receiver)
	var out [][]byte
	for _, g := range groups.List() {
		if g.At("receiver", "name").Str() != receiver {
			continue
		}
		body, err := heard.webhook(g, receiver)
		if err != nil {
			return nil, err
		}
		if body != nil {
			out = append(out, body)
		}
	}
	return out, nil
}

// heard is what is known from events: keys of groups by their labels, and alerts.
type heard struct {
	keys   map[string]string
	alerts map[string]bool
}

func hear(past [][]byte, receiver string) heard {
	h := heard{map[string]string{}, map[string]bool{}}
	for _, raw := range past {
		body := source.Body(raw)
		if body.At("receiver").Str() == receiver {
			if labels := labelsText(body.At("groupLabels")); h.keys[labels] == "" { // the newest counts
				h.keys[labels] = body.At("groupKey").Str()
			}
		}
		for _, alert := range body.At("alerts").List() {
			if alert.At("status").Str() == "firing" {
				h.alerts[nameOf(alert)] = true
			}
		}
	}
	return h
}

// nameOf tells one firing of an alert from all others.
func nameOf(alert source.Node) string {
	return fingerprint(alert) + " " + instant(alert.At("startsAt"))
}

func labelsText(n source.Node) string {
	text, _ := json.Marshal(n.Texts()) // in the order of their names
	return string(text)
}

type webhookAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     string            `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// webhook returns the body for those alerts of a group that nobody has heard of, or nil where there are none.
func (h heard) webhook(g source.Node, receiver string) ([]byte, error) {
	var alerts []webhookAlert
	for _, a := range g.At("alerts").List() {
		if a.At("status", "state").Str() != "active" || h.alerts[nameOf(a)] {
			continue
		}
		alerts = append(alerts, webhookAlert{
			Status: "firing", Labels: a.At("labels").Texts(), Annotations: a.At("annotations").Texts(), StartsAt: a.At("startsAt").Str(),
			GeneratorURL: a.At("generatorURL").Str(), Fingerprint: fingerprint(a),
		})
	}
	if len(alerts) == 0 {
		return nil, nil
	}
	labels := labelsText(g.At("labels"))
	key := h.keys[labels]
	if key == "" {
		key = "riposte:" + labels
	}
	return json.Marshal(map[string]any{
		"version": "4", "groupKey": key, "truncatedAlerts": 0, "status": "firing", "receiver": receiver, "groupLabels": g.At("labels").Texts(),
		"commonLabels": map[string]string{}, "commonAnnotations": map[string]string{}, "externalURL": "", "alerts": alerts,
	})
}
