package engine

import (
	"bytes"
	"io"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/run"
)

type metrics struct {
	decisions, absent, errors, runs *prometheus.CounterVec
	steps                           *prometheus.HistogramVec
	evicted, diffs, notices, lost   *prometheus.CounterVec
	groups                          *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		decisions: counter("riposte_decisions_total", "Events decided, by what came of them.", "result"),
		absent:    counter("riposte_rule_absent_fields_total", "Events that a rule could not be decided for because a field was absent, by rule.", "rule"),
		errors:    counter("riposte_rule_errors_total", "Events that a rule could not be decided for because a clause failed, by rule.", "rule"),
		runs:      counter("riposte_runs_total", "Runs that ended, by rule and state.", "rule", "state"),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "riposte_step_duration_seconds", Help: "How long attempts at steps took, by action.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 11),
		}, []string{"uses"}),
	}
	m.evicted = counter("riposte_correlate_evicted_total", "Groups that waited and were dropped because there were too many or their keys too long, by rule.", "rule")
	m.lost = counter("riposte_correlate_lost_total", "Stored windows that were gone or could not be read, so that they started anew: of a rule, or of all rules of a partition.", "of")
	m.diffs = counter("riposte_changed_diffs_total", "Attempts to find an event's changed paths by a diff, by what came of them.", "result")
	m.notices = counter("riposte_bounds_total", "Times that a storm began or ended and that a rule's breaker opened or closed.", "type")
	m.groups = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "riposte_correlate_groups", Help: "Groups that wait, by rule and partition, as of the last checkpoint.",
	}, []string{"rule", "partition"})
	r.MustRegister(m.steps, m.groups)
	return m
}

// logSteps sends what actions say to the logger, a record a line.
func logSteps(logger *slog.Logger, redact func(string) string) func(runID string, phase run.Phase, step string, attempt int) io.WriteCloser {
	return func(runID string, phase run.Phase, step string, attempt int) io.WriteCloser {
		return &lineLogger{log: logger.With("run", runID, "phase", string(phase), "step", step, "attempt", attempt), redact: redact}
	}
}

type lineLogger struct {
	log    *slog.Logger
	redact func(string) string

	mu   sync.Mutex
	rest []byte
}

// maxLine bounds one line; a longer one is cut into several.
const maxLine = 8 << 10

func (l *lineLogger) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		switch {
		case i >= 0:
			l.say(l.rest[:i])
			l.rest = l.rest[i+1:]
		case len(l.rest) > maxLine:
			l.say(l.rest[:maxLine])
			l.rest = l.rest[maxLine:]
		default:
			return len(b), nil
		}
	}
}

func (l *lineLogger) say(line []byte) {
	if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
		l.log.Info(l.redact(string(line)))
	}
}

func (l *lineLogger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(l.rest)
	l.rest = nil
	return nil
}
