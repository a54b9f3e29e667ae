// Package schedule is the source of events that time alone makes: one at each hour that a cron schedule names.
//
// Nobody can send to such a source. Its events are the same whoever makes them: the key of each is its hour, so that any
// number of replicas make one event. Sources are immutable and safe for concurrent use.
package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

const (
	// onTime is how late an hour may be answered that was not missed.
	onTime = time.Minute
	// lookBack is how far back hours count that were missed, and mostAtOnce how many of them become events.
	lookBack   = 31 * 24 * time.Hour
	mostAtOnce = 100
)

type spec struct {
	Cron   string `yaml:"cron" required:"true" doc:"when: minute, hour, day of month, month and day of week as cron(8) has them, or @hourly, @daily, @weekly, @monthly, @yearly"`
	Zone   string `yaml:"zone,omitempty" default:"UTC" doc:"whose clock it is about, by the IANA time zone database"`
	Missed string `yaml:"missed,omitempty" default:"once" enum:"skip,once,all" doc:"what to do about hours at which no server ran: nothing, one event for all of them, or an event for each of the last 100"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "schedule",
		Doc: "Time: an event of the type tick at each hour that a cron schedule names, one for all replicas. event.time and event.data.scheduledAt are the " +
			"hour, event.data.missed the number of hours before it that became no event. Nobody can send to it. Where clocks are put forward, what is due in the hour that " +
			"there is not does not come; where they are put back, what is due in the hour that comes twice comes twice. UTC, the default, has neither.",
		Spec:   &spec{},
		Fields: "tick = scheduledAt missed",
		New:    build,
	}
}

type schedule struct {
	name   string
	cron   cron.Schedule
	zone   *time.Location
	missed string
}

var _ source.Scheduled = &schedule{}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	var spec spec
	if err := decode(&spec); err != nil {
		return nil, err
	}
	s := &schedule{name: env.Name, missed: spec.Missed}
	if s.missed == "" {
		s.missed = "once"
	}
	var errs []error
	var err error
	if s.zone, err = time.LoadLocation(spec.Zone); err != nil || spec.Zone == "Local" {
		errs = append(errs, fmt.Errorf("zone: %q is no name of the time zone database such as Europe/Vienna", spec.Zone))
	}
	if s.cron, err = parse(spec.Cron); err != nil {
		errs = append(errs, fmt.Errorf("cron: %w", err))
	}
	return s, errors.Join(errs...)
}

func parse(text string) (cron.Schedule, error) {
	if strings.Contains(text, "TZ=") || strings.HasPrefix(strings.TrimSpace(text), "@every") {
		return nil, fmt.Errorf("%q must be five fields, or @daily and its like: the zone has a field of its own, and an interval no hours", text)
	}
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes", text)
	}
	return s, nil
}

// Verify refuses everybody.
func (s *schedule) Verify(*source.Request) error {
	return fmt.Errorf("%w: nobody sends to a schedule", source.ErrUnauthenticated)
}

// Split finds nothing.
func (s *schedule) Split(*source.Request) ([]source.Delivery, error) { return nil, nil }

// Normalise has nothing to add.
func (s *schedule) Normalise(*event.Event) {}

// Next returns the first hour after a time; zero where there is none within five years.
func (s *schedule) Next(after time.Time) time.Time { return s.cron.Next(after.In(s.zone)).UTC() }

// Due returns the events of the hours after one time up to another, which is now. dropped is how many hours become none.
func (s *schedule) Due(after, now time.Time) (due []source.Delivery, dropped int) {
	hours, n := s.hours(after, now)
	if n == 0 {
		return nil, 0
	}
	last := hours[len(hours)-1]
	switch {
	case s.missed == "skip" && now.Sub(last) > onTime:
		return nil, n
	case s.missed != "all":
		hours = hours[len(hours)-1:]
	}
	dropped = n - len(hours)
	for i, at := range hours {
		missed := 0
		if i == 0 {
			missed = dropped
		}
		due = append(due, s.delivery(at, missed))
	}
	return due, dropped
}

// hours lists the last hours after one time up to another, and says how many there are.
func (s *schedule) hours(after, now time.Time) (last []time.Time, n int) {
	if oldest := now.Add(-lookBack); after.Before(oldest) {
		after = oldest
	}
	for at := s.Next(after); !at.IsZero() && !at.After(now); at = s.Next(at) {
		if last = append(last, at); len(last) > mostAtOnce {
			last = last[1:]
		}
		n++
	}
	return last, n
}

func (s *schedule) delivery(at time.Time, missed int) source.Delivery {
	hour := at.UTC().Format(time.RFC3339)
	body, _ := json.Marshal(struct { // it always can
		ScheduledAt string `json:"scheduledAt"`
		Missed      int    `json:"missed"`
	}{hour, missed})
	return source.Delivery{Key: "tick " + hour, Type: "tick", Subject: s.name, Time: at.UTC(), Body: body}
}
