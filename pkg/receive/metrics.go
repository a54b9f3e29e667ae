package receive

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/event"
)

type metrics struct {
	requests, events, duplicates *prometheus.CounterVec
	duration                     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, b *budget) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		requests:   counter("riposte_receive_requests_total", "Webhook requests by source (empty: no such source) and answer.", "source", "code"),
		events:     counter("riposte_receive_events_total", "Events added to the log, by source.", "source"),
		duplicates: counter("riposte_receive_duplicates_total", "Events that the log held before, by source.", "source"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "riposte_receive_duration_seconds", Help: "Time from a request's headers to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}),
	}
	bodies := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "riposte_receive_body_bytes", Help: "Memory that the bodies of unfinished requests hold.",
	}, func() float64 { return float64(b.used.Load()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.events, m.duplicates, m.duration, bodies} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// state is what is kept of one source over reloads: its counters, looked up once, and its limits.
type state struct {
	name               string
	requests           *prometheus.CounterVec
	accepted           prometheus.Counter
	events, duplicates prometheus.Counter

	mu     sync.Mutex
	rate   Rate
	limit  bucket
	log    bucket
	unsaid int // refusals that were not logged since the last one that was
}

func (m *metrics) source(name string) *state {
	return &state{
		name:       name,
		requests:   m.requests,
		accepted:   m.requests.WithLabelValues(name, strconv.Itoa(http.StatusAccepted)),
		events:     m.events.WithLabelValues(name),
		duplicates: m.duplicates.WithLabelValues(name),
	}
}

func (s *state) count(status int) {
	if status == http.StatusAccepted {
		s.accepted.Inc()
		return
	}
	s.requests.WithLabelValues(s.name, strconv.Itoa(status)).Inc()
}

func (s *state) countEvents(appended []event.Appended) {
	known := 0
	for _, a := range appended {
		if a.Duplicate {
			known++
		}
	}
	s.events.Add(float64(len(appended) - known))
	s.duplicates.Add(float64(known))
}

// take takes one of the source's tokens, or returns how long there will be none.
func (s *state) take(r Rate, now time.Time) time.Duration {
	if r.Requests <= 0 || r.Per <= 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != s.rate { // a reload changed it
		s.rate, s.limit = r, bucket{}
	}
	s.limit.refill(r, now)
	if wait := s.limit.wait(r); wait > 0 {
		return wait
	}
	s.limit.tokens--
	return 0
}

// mayLog reports whether a refusal may be logged now, and how many were not before it.
func (s *state) mayLog(now time.Time) (unsaid int, ok bool) {
	r := Rate{Requests: 1, Per: time.Second, Burst: 5}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.refill(r, now)
	if s.log.tokens < 1 {
		s.unsaid++
		return 0, false
	}
	s.log.tokens--
	unsaid, s.unsaid = s.unsaid, 0
	return unsaid, true
}
