// Package rulesync brings rules from where people write them, directories or a Git repository, and follows their changes.
//
// A state of the files takes effect whole or not at all: the set is built first, then activated, and while that fails the
// last good one stays and the failure shows in Status, the log and the metrics. What a repository holds is not trusted: a
// commit may have to be signed, and reading and building it are bounded in time and size, however it is made. Who causes
// a repository to be looked at causes no more than that, and not more often than MinGap allows.
//
// Proposals builds what is proposed for the rules and has it judged; nothing of it takes effect.
//
// Dir, Git and Proposals are safe for concurrent use; Run is called once.
package rulesync

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// Load builds a set of files, which gets the revision as its name; empty names it by its content.
type Load func(ctx context.Context, files []rule.File, revision string) (*rule.Set, error)

// Status is what is active and what keeps a newer state from being so.
type Status struct {
	Revision    string
	LastSuccess time.Time
	Err         error // of the newest state of the files; nil when that is active
}

// state is what is known of the rules, and tells it to people and metrics. It is safe for concurrent use.
type state struct {
	log     *slog.Logger
	first   bool // whether a failure before any success is logged; otherwise it is the caller's
	success prometheus.Gauge
	stamp   prometheus.Gauge
	info    *prometheus.GaugeVec

	mu     sync.Mutex
	status Status
	failed string // what failed last, so that it is reported once
}

func newState(log *slog.Logger, r prometheus.Registerer, first bool) *state {
	s := &state{
		log:     log,
		first:   first,
		success: prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_rules_reload_success", Help: "Whether the newest state of the rules is active."}),
		stamp:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "riposte_rules_reload_success_timestamp_seconds", Help: "When rules were last activated."}),
		info:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "riposte_rules_info", Help: "The active revision of the rules."}, []string{"revision"}),
	}
	r.MustRegister(s.success, s.stamp, s.info)
	return s
}

// Status returns the state of the rules.
func (s *state) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// succeed notes that a set is active.
func (s *state) succeed(set *rule.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.failed = Status{Revision: set.Revision, LastSuccess: time.Now()}, ""
	s.success.Set(1)
	s.stamp.SetToCurrentTime()
	s.info.Reset()
	s.info.WithLabelValues(set.Revision).Set(1)
	s.log.Info("rules are active", "revision", set.Revision, "rules", len(set.Rules), "sources", len(set.Sources))
}

// fail notes why the newest state is not active, and says so unless the same was said before; an empty what is always said.
func (s *state) fail(what string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	repeated := what != "" && what == s.failed
	s.status.Err, s.failed = err, what
	s.success.Set(0)
	switch {
	case repeated:
	case s.status.Revision != "":
		s.log.Error("the rules were not changed: their new state can't be used", "active", s.status.Revision, "error", err)
	case s.first:
		s.log.Error("there are no rules yet", "error", err)
	}
	return err
}
