package schedule

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	hours "github.com/riposte-dev/riposte/pkg/source/schedule"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

// store is what outlives a driver: the log, the mark, and the sources that are active. Of all replicas it is the same.
type store struct {
	t       *testing.T
	mu      sync.Mutex
	marks   map[string]time.Time // by source
	events  []string             // by source and hour
	ids     map[string]bool
	broken  error
	sources map[string]Source
	drivers []*Driver
}

func (s *store) source(name, spec string) {
	typ := hours.Type()
	env := sourcetest.Env(nil)
	env.Name = name
	built := sourcetest.New(s.t, typ, spec, env)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]Source{name: {typ.Name, built.(source.Scheduled)}}
	for k, v := range s.sources {
		if k != name {
			next[k] = v
		}
	}
	s.sources = next
	for _, d := range s.drivers {
		d.Wake()
	}
}

func (s *store) append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	for _, r := range records {
		if e := r.Event; !s.ids[e.ID] {
			s.ids[e.ID] = true
			s.events = append(s.events, e.Source+" "+e.Time.Format("15:04"))
		}
	}
	return make([]event.Appended, len(records)), nil
}

func (s *store) start() (stop func()) {
	d, err := New(Options{
		Sources: func() (map[string]Source, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.sources, s.sources != nil
		},
		Append: s.append,
		Mark: func(_ context.Context, source string) (time.Time, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.marks[source], s.broken
		},
		SetMark: func(_ context.Context, source string, t time.Time) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.marks[source] = t
			return s.broken
		},
		Now: time.Now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.drivers = append(s.drivers, d)
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

func (s *store) want(events ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Join(s.events, ", ") != strings.Join(events, ", ") {
		s.t.Errorf("events: %s; want %s", strings.Join(s.events, ", "), strings.Join(events, ", "))
	}
	s.events = nil
}

func test(t *testing.T, f func(s *store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(&store{t: t, ids: map[string]bool{}, marks: map[string]time.Time{}}) }) // it begins at midnight, in UTC
}

func TestAnyNumberOfReplicasMakeOneEvent(t *testing.T) {
	test(t, func(s *store) {
		s.source("hourly", `cron: "0 * * * *"`)
		for range 3 {
			defer s.start()()
		}
		time.Sleep(3*time.Hour + time.Second)
		s.want("hourly 01:00", "hourly 02:00", "hourly 03:00")
	})
}

func TestHoursThatNobodySawAreMissed(t *testing.T) {
	test(t, func(s *store) {
		s.source("all", `{cron: "0 * * * *", missed: all}`)
		s.source("once", `{cron: "0 * * * *"}`)
		s.source("skip", `{cron: "0 * * * *", missed: skip}`)
		stop := s.start()
		time.Sleep(30 * time.Minute)
		stop()
		s.want()
		time.Sleep(3 * time.Hour)
		stop = s.start()
		time.Sleep(time.Second)
		s.want("all 01:00", "all 02:00", "all 03:00", "once 03:00")
		stop()
		stop = s.start() // what was made up for is not missed again
		time.Sleep(time.Minute)
		s.want()
		time.Sleep(30 * time.Minute)
		s.want("all 04:00", "once 04:00", "skip 04:00")
		stop()
	})
}

// TestASourceThatCameWhileNobodyRanHasMissedNothing: its hours count from when it is seen.
func TestASourceThatCameWhileNobodyRanHasMissedNothing(t *testing.T) {
	test(t, func(s *store) {
		s.source("old", `{cron: "0 * * * *", missed: all}`)
		stop := s.start()
		time.Sleep(30 * time.Minute)
		stop()
		time.Sleep(2 * time.Hour)
		s.source("new", `{cron: "0 * * * *", missed: all}`)
		stop = s.start()
		time.Sleep(time.Second)
		s.want("old 01:00", "old 02:00")
		time.Sleep(30 * time.Minute)
		s.want("new 03:00", "old 03:00")
		stop()
	})
}

func TestASourceCountsFromWhenItIsActive(t *testing.T) {
	test(t, func(s *store) {
		stop := s.start() // before any rules are loaded
		time.Sleep(90 * time.Minute)
		s.source("a", `cron: "0 * * * *"`)
		time.Sleep(time.Second)
		s.want()
		time.Sleep(10 * time.Minute)
		s.source("b", `cron: "41 * * * *"`)
		time.Sleep(2 * time.Minute)
		s.want("b 01:41")
		s.source("b", `cron: "50 * * * *"`)
		time.Sleep(10 * time.Minute)
		s.want("b 01:50")
		stop()
	})
}

func TestAnEventIsMadeOnceTheLogTakesIt(t *testing.T) {
	test(t, func(s *store) {
		s.source("a", `cron: "0 * * * *"`)
		stop := s.start()
		time.Sleep(59 * time.Minute)
		s.mu.Lock()
		s.broken = event.ErrLogFull
		s.mu.Unlock()
		time.Sleep(5 * time.Minute)
		s.want()
		s.mu.Lock()
		mark := s.marks["a"]
		s.broken = nil
		s.mu.Unlock()
		if mark.Hour() > 0 {
			t.Errorf("the hour counts as dealt with at %s", mark)
		}
		time.Sleep(5 * time.Second)
		s.want("a 01:00")
		stop()
	})
}

func TestOptionsAreNeeded(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a driver without anything is made")
	}
}
