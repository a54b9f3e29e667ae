package runstore

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	append  prometheus.Histogram
	entries prometheus.Counter
	errors  *prometheus.CounterVec
	bytes   prometheus.Gauge
	purged  prometheus.Counter
	held    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		append: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "riposte_journal_write_seconds", Help: "Time that one durable write to a run journal took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{Name: "riposte_journal_entries_total", Help: "Entries written to the run journals."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "riposte_journal_errors_total", Help: "Writes to the run journals that failed, by kind: fenced, full, unavailable.",
		}, []string{"kind"}),
		bytes:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_journal_bytes", Help: "Size of the run journals at the last sweep."}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{Name: "riposte_journal_swept_messages_total", Help: "Messages that sweeps removed from the run journals."}),
		held:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_partitions_held", Help: "Partitions that this replica holds."}),
	}
	for _, kind := range []string{"fenced", "full", "unavailable"} {
		m.errors.WithLabelValues(kind)
	}
	r.MustRegister(m.append, m.entries, m.errors, m.bytes, m.purged, m.held)
	return m
}
