// Package alertmanager receives from Prometheus Alertmanager. One request carries any number of alerts; each becomes an
// event of its own.
package alertmanager

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

type spec struct {
	Auth *source.Auth `yaml:"auth" required:"true" doc:"how Alertmanager proves who it is: authorization or basic_auth of its http_config"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "alertmanager",
		Doc: "The webhook of Prometheus Alertmanager. It signs nothing, so it needs a bearer token or basic authentication. Each alert is an event " +
			"alert.firing or alert.resolved, whose data is the body with that one alert. What Alertmanager sends again every repeat_interval is the same event. " +
			"It repeats on 5xx, and never on 4xx.",
		Batch: true,
		Spec:  &spec{},
		New: func(decode func(any) error, env source.Env) (source.Source, error) {
			s := &alertmanager{env: env}
			if err := decode(&s.spec); err != nil {
				return nil, err
			}
			return s, s.spec.Auth.Check(&env)
		},
	}
}

type alertmanager struct {
	spec spec
	env  source.Env
}

func (a *alertmanager) Verify(r *source.Request) error { return a.spec.Auth.Verify(&a.env, r) }

// alert is what identifies one alert (prometheus/alertmanager template.Alert).
type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	StartsAt    string            `json:"startsAt"`
	Fingerprint string            `json:"fingerprint"`
}

func (a *alertmanager) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	envelope := map[string]json.RawMessage{}
	if err := json.Unmarshal(r.Body, &envelope); err != nil {
		return nil, fmt.Errorf("%w: it is no object as Alertmanager sends", source.ErrUnparsable)
	}
	var alerts []json.RawMessage
	if err := json.Unmarshal(envelope["alerts"], &alerts); err != nil || envelope["alerts"] == nil {
		return nil, fmt.Errorf("%w: it has no list of alerts as Alertmanager sends", source.ErrUnparsable)
	}
	var groupKey string
	_ = json.Unmarshal(envelope["groupKey"], &groupKey) // some other senders of this form have none
	head, tail := around(envelope)
	out := make([]source.Delivery, 0, len(alerts))
	for i, text := range alerts {
		var al alert
		if err := json.Unmarshal(text, &al); err != nil {
			return nil, fmt.Errorf("%w: alert %d is not as Alertmanager sends", source.ErrUnparsable, i+1)
		}
		if al.Status != "resolved" {
			al.Status = "firing"
		}
		out = append(out, source.Delivery{
			Key: key(groupKey, al), Type: "alert." + al.Status, Subject: al.Labels["alertname"],
			Body: bytes.Join([][]byte{head, text, tail}, nil),
		})
	}
	return out, nil
}

// around returns the envelope's text before and after its one alert.
func around(envelope map[string]json.RawMessage) (head, tail []byte) {
	head = []byte("{")
	for _, name := range slices.Sorted(maps.Keys(envelope)) {
		if name == "alerts" {
			continue
		}
		quoted, _ := json.Marshal(name) // a string always can
		head = append(append(append(append(head, quoted...), ':'), envelope[name]...), ',')
	}
	return append(head, `"alerts":[`...), []byte("]}")
}

// key joins what makes two reports of an alert one event, so that no two ways of dividing it are alike.
func key(groupKey string, a alert) string {
	print := a.Fingerprint
	if print == "" {
		print = fingerprint(a.Labels)
	}
	quoted, _ := json.Marshal([]string{groupKey, print, a.Status, a.StartsAt}) // strings always can
	return string(quoted)
}

func fingerprint(labels map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(h, "%q=%q,", name, labels[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (a *alertmanager) Normalise(e *event.Event) {
	alerts := source.Body(e).At("alerts").List()
	if len(alerts) != 1 {
		return
	}
	al := alerts[0]
	labels := al.At("labels").Texts()
	e.Alert = &event.Alert{
		Name: labels["alertname"], Status: strings.TrimPrefix(e.Type, "alert."), Severity: labels["severity"],
		Labels: labels, Annotations: al.At("annotations").Texts(), Fingerprint: source.Or(al.At("fingerprint").Str(), fingerprint(labels)),
		StartsAt: al.At("startsAt").Time(), EndsAt: al.At("endsAt").Time(), GeneratorURL: al.At("generatorURL").Str(),
	}
	e.Subject, e.Time = e.Alert.Name, e.Alert.StartsAt
	if e.Alert.Status == "resolved" && !e.Alert.EndsAt.IsZero() {
		e.Time = e.Alert.EndsAt
	}
}
