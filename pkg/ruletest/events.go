package ruletest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
)

// arrival is a point of a timeline: an event, what a person says, or only time that passes.
type arrival struct {
	at    time.Time
	event *event.Event
	entry *rule.TestEntry
}

// builder makes the events of one case.
type builder struct {
	set    *rule.Set
	read   func(document, file string) ([]byte, error)
	test   *rule.Test
	number int // of the case
}

func (b *builder) arrivals() ([]arrival, document.Problems) {
	var out []arrival
	var problems document.Problems
	for i := range b.test.Cases[b.number].Timeline {
		entry := &b.test.Cases[b.number].Timeline[i]
		at := b.test.Start.Add(entry.At)
		if entry.Event == nil {
			out = append(out, arrival{at: at, entry: entry})
			continue
		}
		events, err := b.events(entry.Event, at, i)
		if err != nil {
			problems = append(problems, document.Problem{File: b.test.File, Line: entry.Line, Column: 1, Msg: err.Error()})
		}
		for _, e := range events {
			out = append(out, arrival{at, e, entry})
		}
	}
	return out, problems
}

func (b *builder) events(spec *rule.TestEvent, at time.Time, entry int) ([]*event.Event, error) {
	s := b.set.Sources[spec.Source]
	if s == nil {
		return nil, fmt.Errorf("there is no Source %q", spec.Source)
	}
	if spec.File == "" && spec.Example == "" {
		e, err := b.written(s, spec, at, entry)
		return []*event.Event{e}, err
	}
	return b.delivered(s, spec, at, entry)
}

// id names an event whose sender does not.
func (b *builder) id(entry, n int) string {
	return event.ID("test "+b.test.Name, fmt.Sprintf("%d/%d/%d", b.number, entry, n))
}

// written makes an event of what the test writes out. A view that it leaves out is made from the data, as always.
func (b *builder) written(s *rule.Source, spec *rule.TestEvent, at time.Time, entry int) (*event.Event, error) {
	e := &event.Event{ID: b.id(entry, 0), Source: s.Name, Type: spec.Type, Subject: spec.Subject, Time: at, ReceivedAt: at, Headers: canonical(spec.Headers)}
	if spec.Data != nil {
		body, err := json.Marshal(spec.Data.Any())
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		e.Body = body
		s.Source.Normalise(e)
	}
	if spec.Git != nil {
		e.Git = completeGit(*spec.Git)
	}
	if spec.Alert != nil {
		e.Alert = completeAlert(*spec.Alert, spec.Type)
	}
	if spec.PullRequest != nil {
		pr := *spec.PullRequest
		e.PullRequest = &pr
	}
	if spec.Subject != "" {
		e.Subject = spec.Subject
	}
	return e, nil
}

func canonical(headers map[string]string) map[string]string {
	out := make(map[string]string, len(headers))
	for name, value := range headers {
		out[http.CanonicalHeaderKey(name)] = value
	}
	return out
}

// completeGit adds what follows from the rest of the view, as it does in all presets.
func completeGit(g event.Git) *event.Git {
	if g.Owner == "" {
		g.Owner = source.Owner(g.Repo)
	}
	switch {
	case g.Ref != "" && g.Branch == "" && g.Tag == "":
		source.SetRef(&g, g.Ref)
	case g.Ref == "" && g.Branch != "":
		g.Ref = source.Heads + g.Branch
	case g.Ref == "" && g.Tag != "":
		g.Ref = source.Tags + g.Tag
	}
	return &g
}

func completeAlert(a event.Alert, typ string) *event.Alert {
	labels := maps.Clone(a.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if a.Name == "" {
		a.Name = labels["alertname"]
	}
	if labels["alertname"] == "" && a.Name != "" {
		labels["alertname"] = a.Name
	}
	if a.Severity == "" {
		a.Severity = labels["severity"]
	}
	if a.Annotations == nil {
		a.Annotations = map[string]string{}
	}
	if status, ok := strings.CutPrefix(typ, "alert."); ok && a.Status == "" {
		a.Status = status
	}
	a.Labels = labels
	return &a
}

// delivered reads a body as the Source reads a request of its sender. A file that is sent twice is one event where its
// sender's key says so; an example is another event each time.
func (b *builder) delivered(s *rule.Source, spec *rule.TestEvent, at time.Time, entry int) ([]*event.Event, error) {
	body, headers, err := b.body(spec)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, h := range []map[string]string{headers, spec.Headers} {
		for name, value := range h {
			header.Set(name, value)
		}
	}
	deliveries, err := s.Source.Split(&source.Request{Method: http.MethodPost, Header: header, Body: body, ReceivedAt: at})
	if err != nil {
		return nil, fmt.Errorf("source %s can't read it: %w", s.Name, err)
	}
	if len(deliveries) == 0 {
		return nil, fmt.Errorf("source %s answers it without making an event of it", s.Name)
	}
	out := make([]*event.Event, len(deliveries))
	for i, d := range deliveries {
		e := &event.Event{
			ID: b.id(entry, i), Source: s.Name, Type: d.Type, Subject: d.Subject, Time: d.Time, ReceivedAt: at,
			DeliveryID: d.DeliveryID, Headers: d.Headers, Body: d.Body,
		}
		if d.Key != "" && spec.Example == "" {
			e.ID = event.ID(s.Name, d.Key)
		}
		if e.Time.IsZero() {
			e.Time = at
		}
		s.Source.Normalise(e)
		out[i] = e
	}
	return out, nil
}

// body returns the body of a file or an example, with what the test changes in it, and the example's headers.
func (b *builder) body(spec *rule.TestEvent) (body []byte, headers map[string]string, err error) {
	if spec.File != "" {
		if body, err = b.read(b.test.File, spec.File); err != nil {
			return nil, nil, fmt.Errorf("file: %w", err)
		}
	} else if body, headers, err = b.example(spec.Example); err != nil {
		return nil, nil, err
	}
	if spec.Data == nil {
		return body, headers, nil
	}
	before, err := event.Decode(body)
	if err != nil {
		return nil, nil, fmt.Errorf("data: what it changes is not JSON: %w", err)
	}
	body, err = json.Marshal(merge(before, spec.Data.Any()))
	return body, headers, err
}

func (b *builder) example(name string) ([]byte, map[string]string, error) {
	typ, name, _ := strings.Cut(name, "/")
	for _, s := range b.set.Sources {
		if s.Type.Name != typ || s.Type.Examples == nil {
			continue
		}
		for _, e := range s.Type.Examples() {
			if e.Name == name {
				return e.Body, e.Headers, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("there is no example %s/%s", typ, name)
}

// merge puts the members of with in the place of those that were there; nil removes one (RFC 7396).
func merge(into, with any) any {
	changes, ok := with.(map[string]any)
	if !ok {
		return with
	}
	out := map[string]any{}
	if before, ok := into.(map[string]any); ok {
		maps.Copy(out, before)
	}
	for name, value := range changes {
		if value == nil {
			delete(out, name)
			continue
		}
		out[name] = merge(out[name], value)
	}
	return out
}
