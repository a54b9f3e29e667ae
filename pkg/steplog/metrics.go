package steplog

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	written, omitted, failed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "riposte_step_logs_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	return &metrics{
		written: counter("stored_bytes_total", "What was stored of steps' logs."),
		omitted: counter("omitted_bytes_total", "What was left out of steps' logs, for they were long or the store did not answer."),
		failed:  counter("failed_total", "Steps whose log could not be stored to its end."),
	}
}
