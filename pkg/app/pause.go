package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/runstore"
)

// openPauses reads what is paused, before anything is decided.
func (a *App) openPauses(ctx context.Context) (err error) {
	a.pauses, err = runstore.OpenPauses(ctx, a.store)
	if err != nil {
		return err
	}
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "riposte_rules_paused", Help: "Active rules that start no runs because somebody, or a file beside the rules, paused them.",
	}, func() float64 { return float64(a.rules.pausedNow()) }))
	return nil
}

// pausedBy returns what pauses a rule now: people, or a file beside the rules.
func (r *rules) pausedBy(rl *rule.Rule) (run.Pause, bool) {
	if p, ok := r.pauses.Of(rl.Name, time.Now()); ok {
		return p, true
	}
	if rl.Paused != nil {
		return *rl.Paused, true
	}
	return run.Pause{}, false
}

// paused tells the engine whether a rule may start no runs, and how it can again.
func (r *rules) paused(rl *rule.Rule) (message string, paused bool) {
	p, paused := r.pausedBy(rl)
	switch {
	case !paused:
		return "", false
	case p.Since.IsZero():
		return p.String() + "; changing that file lets it go on", true
	case p.Rule == "":
		return p.String() + "; riposte resume lets it go on", true
	}
	return p.String() + "; riposte resume " + p.Rule + " lets it go on", true
}

func (r *rules) pausedNow() (n int) {
	for _, rl := range r.current().Rules {
		if _, ok := r.pausedBy(rl); ok {
			n++
		}
	}
	return n
}

// pausedNotes tells of pauses where people look whether the server is well.
func (r *rules) pausedNotes() []string {
	n := r.pausedNow()
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d rules are paused; riposte rules list says why", n, len(r.current().Rules))}
}

// viewPauses lists what pauses rules.
func (r *rules) viewPauses(set *rule.Set) []api.Pause {
	var out []api.Pause
	for _, p := range slices.Concat(r.pauses.List(time.Now()), set.Pauses) {
		out = append(out, api.ViewPause(p))
	}
	return out
}
