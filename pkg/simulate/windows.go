package simulate

import (
	"context"
	"fmt"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

// correlate lets an event take part in what rules wait for, and returns the runs of what fires.
func (s *Simulation) correlate(e *event.Event, joins []rule.Join, pos event.Pos) []*Run {
	var created []*Run
	for _, j := range joins {
		m := s.byRule[j.Rule]
		if m == nil || len(j.Matches) == 0 {
			continue
		}
		for i := range j.Matches {
			j.Matches[i].ID, j.Matches[i].Pos, j.Matches[i].At = e.ID, pos, s.log
		}
		for _, f := range m.Add(j.Matches...) {
			created = append(created, s.fired(m.rule, f))
		}
		s.sooner(m)
	}
	return created
}

// endWindows ends the windows that are due at a time, and starts the runs of what fires.
func (s *Simulation) endWindows(ctx context.Context, at time.Time) {
	s.now, s.log = at, at
	s.due = time.Time{}
	var created []*Run
	for _, m := range s.machines {
		for _, f := range m.Advance(at) {
			created = append(created, s.fired(m.rule, f))
		}
		s.sooner(m)
	}
	s.begin(ctx, created)
}

// sooner notes when the machine's next window ends.
func (s *Simulation) sooner(m *machine) {
	if next, ok := m.Next(); ok && (s.due.IsZero() || next.Before(s.due)) {
		s.due = next
	}
}

// fired makes the run of a firing.
func (s *Simulation) fired(of *rule.Rule, f correlate.Firing) *Run {
	last := f.Event()
	alert := of.AlertOf(s.events[last.ID])
	id := fmt.Sprintf("%s-%s-%s", event.ID("correlate "+of.Name, f.Key), of.Name, f.Window)
	r := s.newRun(of, run.Created{ID: id, Rule: of.Name, Key: f.Key, Rest: f.Rest, Alert: alert, Gated: of.Gated(alert)}, last.ID, last.Pos)
	r.Took, r.Event = f.Events, s.events[last.ID]
	if r.Event == nil {
		return r
	}
	took := make([]rule.Participant, 0, len(f.Events))
	for _, ref := range f.Events {
		if e := s.events[ref.ID]; e != nil {
			took = append(took, rule.Participant{Part: ref.Part, Event: e})
		}
	}
	r.joined = rule.Correlated(f.Key, f.Rest, took)
	return r
}

// create makes the run of an event that alone decides.
func (s *Simulation) create(of *rule.Rule, e *event.Event, pos event.Pos) *Run {
	alert := of.AlertOf(e)
	r := s.newRun(of, run.Created{ID: e.ID + "-" + of.Name, Rule: of.Name, Alert: alert, Gated: of.Gated(alert)}, e.ID, pos)
	r.Event = e
	return r
}

func (s *Simulation) newRun(of *rule.Rule, c run.Created, eventID string, pos event.Pos) *Run {
	if message, observes := of.Observes(); observes {
		c.State, c.Message = run.Observed, message
	} else if s.o.Quiet != nil {
		if name, until, ok := s.o.Quiet(of.Labels, s.log); ok {
			c.KeepQuiet(name, until)
		}
	}
	decided := run.Entry{At: s.now, Kind: run.Decided, Event: eventID, Pos: &pos, Revision: s.o.Set.Revision}
	return &Run{Run: *run.New(c, decided), Of: of, At: s.now}
}
