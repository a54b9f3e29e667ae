// Package alertmanager receives from Prometheus Alertmanager.
//
// A request carries any number of alerts, and each becomes an event of its own, with a key of its own: what Alertmanager
// sends again every repeat_interval is the event that was received before. Events stand in the order of the request.
// Sources are immutable and safe for concurrent use.
package alertmanager

import (
	"errors"
	"fmt"
	"hash/fnv"
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
		Batch:    true,
		Spec:     &spec{},
		Fields:   fields,
		Examples: examples,
		New:      build,
	}
}

type alertmanager struct {
	env  source.Env
	spec spec
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	a := &alertmanager{env: env}
	if err := decode(&a.spec); err != nil {
		return nil, err
	}
	if err := a.spec.Auth.Check(&env); err != nil {
		return nil, err
	}
	return a, nil
}

// Verify checks the Authorization header.
func (a *alertmanager) Verify(r *source.Request) error { return a.spec.Auth.Verify(&a.env, r) }

// Split returns an event for each alert.
func (a *alertmanager) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	body := source.Body(r.Body)
	if !body.At("alerts").Is('[') {
		return nil, fmt.Errorf("%w: it has no list of alerts as Alertmanager's webhook has", source.ErrUnparsable)
	}
	alerts := body.At("alerts").List()
	envelope := envelopeOf(r.Body)
	if err := envelope.fits(len(alerts), len(r.Body)); err != nil {
		return nil, err
	}
	group := group{key: body.At("groupKey").Str(), status: body.At("status").Str()}
	out := make([]source.Delivery, len(alerts))
	for i, alert := range alerts {
		d, err := group.delivery(alert)
		if err != nil {
			return nil, fmt.Errorf("%w: alerts[%d]: %w", source.ErrUnparsable, i, err)
		}
		d.Body = envelope.around(alert.Raw())
		out[i] = d
	}
	return out, nil
}

// group is what the alerts of a request share.
type group struct{ key, status string }

func (g group) delivery(alert source.Node) (source.Delivery, error) {
	if !alert.Is('{') {
		return source.Delivery{}, errors.New("it is no object")
	}
	status := source.Or(alert.At("status").Str(), g.status)
	if status != "firing" && status != "resolved" {
		return source.Delivery{}, fmt.Errorf("status is %.20q, neither firing nor resolved", status)
	}
	return source.Delivery{
		Key:     join(g.key, fingerprint(alert), status, instant(alert.At("startsAt"))),
		Type:    "alert." + status,
		Subject: alert.At("labels", "alertname").Str(),
	}, nil
}

// instant is when an alert began, in the milliseconds that all of Alertmanager's interfaces tell.
func instant(startsAt source.Node) string {
	if t := startsAt.Time(); !t.IsZero() {
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	return startsAt.Str()
}

// join makes one text of several, so that no two lists of texts give the same.
func join(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d:%s", len(p), p)
	}
	return b.String()
}

// fingerprint returns the alert's, or for senders that leave it out the one that Alertmanager would give: FNV-1a of the
// sorted labels (prometheus/common model/signature.go).
func fingerprint(alert source.Node) string {
	if f := alert.At("fingerprint").Str(); f != "" {
		return f
	}
	labels := alert.At("labels").Texts()
	h := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		h.Write([]byte(name + "\xff" + labels[name] + "\xff"))
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// envelope is the body around its alerts, byte for byte but for space between members.
type envelope struct{ head, tail []byte }

// envelopeOf cuts the body where its alerts are. Of a second member named alerts only the last counts, and stays.
func envelopeOf(body []byte) envelope {
	var v envelope
	part := &v.head
	for key, value := range event.Members(body) {
		if event.Text(key) == "alerts" {
			v.head = append(v.head, v.tail...)
			v.tail = nil
			part = &v.tail
			continue
		}
		*part = append(append(append(append(*part, ','), key...), ':'), value...)
	}
	if len(v.head) > 0 {
		v.head = append(v.head[1:], ',')
	}
	v.head = append(append([]byte{'{'}, v.head...), `"alerts":[`...)
	v.tail = append(append([]byte{']'}, v.tail...), '}')
	return v
}

func (v envelope) around(alert []byte) []byte {
	out := make([]byte, 0, len(v.head)+len(alert)+len(v.tail))
	return append(append(append(out, v.head...), alert...), v.tail...)
}

// A request's events may hold so much more than the request: what alerts share is sent once and stored for each. What
// Alertmanager puts around them is short, as it repeats parts of each alert (prometheus/alertmanager template.Data).
const (
	growth   = 16
	anyway   = 4 << 20
	mostEver = 256 << 20
)

// fits says whether the copies of the envelope stay within bounds.
func (v envelope) fits(alerts, body int) error {
	if total := (len(v.head) + len(v.tail)) * alerts; total > min(growth*body+anyway, mostEver) {
		return fmt.Errorf("%w: %d alerts with %d bytes around them would make %d bytes; group alerts less", source.ErrUnparsable,
			alerts, len(v.head)+len(v.tail), total)
	}
	return nil
}

// Normalise fills the alert view.
func (a *alertmanager) Normalise(e *event.Event) {
	alerts := source.Body(e.Body).At("alerts").List()
	if len(alerts) != 1 || !alerts[0].Is('{') {
		return
	}
	alert := alerts[0]
	labels := alert.At("labels").Texts()
	e.Alert = &event.Alert{
		Name:         labels["alertname"],
		Status:       strings.TrimPrefix(e.Type, "alert."),
		Severity:     labels["severity"],
		Labels:       labels,
		Annotations:  alert.At("annotations").Texts(),
		Fingerprint:  fingerprint(alert),
		StartsAt:     alert.At("startsAt").Time(),
		EndsAt:       alert.At("endsAt").Time(), // the year 1 while it fires
		GeneratorURL: alert.At("generatorURL").Str(),
	}
	e.Subject = e.Alert.Name
	if e.Alert.Status == "resolved" {
		source.SetTime(e, alert.At("endsAt"), alert.At("startsAt"))
	} else {
		source.SetTime(e, alert.At("startsAt"))
	}
}
