package rulesync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
)

// repository is what a Git is given in tests: it answers with the tip, and counts.
type repository struct {
	mu        sync.Mutex
	tip       rulesync.Commit
	err       error
	reads     []time.Duration // since the first
	began     time.Time
	queries   []rulesync.Query
	active    string
	activated []string
	failing   error // of Activate
	overtaken bool  // the next one is
	reports   []string
	refusing  error // of Report
	builds    int
	log       bytes.Buffer
}

func (r *repository) set(change func(*repository)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *repository) push(id, text string) {
	r.set(func(r *repository) {
		r.tip = rulesync.Commit{ID: id, Object: []byte(text), Files: []rule.File{{Path: "a.yaml", Data: []byte(text)}}}
	})
}

func (r *repository) read(_ context.Context, q rulesync.Query) (rulesync.Commit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.IsZero() {
		r.began = time.Now()
	}
	r.reads, r.queries = append(r.reads, time.Since(r.began)), append(r.queries, q)
	c := r.tip
	if q.Known == c.ID && !q.Reread {
		c.Files = nil
	}
	c.Rewritten = strings.Contains(string(c.Object), "rewritten")
	return c, r.err
}

// load understands what the test wrote.
func (r *repository) load(ctx context.Context, files []rule.File, revision string) (*rule.Set, error) {
	text := string(files[0].Data)
	r.set(func(r *repository) { r.builds++ })
	switch {
	case strings.HasPrefix(text, "slow"):
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case strings.HasPrefix(text, "broken"):
		var all document.Problems
		for i := range len(text) - len("broken") + 1 {
			all = append(all, document.Problem{File: "a.yaml", Line: i + 1, Column: 1, Msg: "is broken"})
		}
		return nil, all
	}
	return &rule.Set{Revision: revision, Digest: text, Files: files}, nil
}

func (r *repository) activation(context.Context) (func(context.Context, *rule.Set) error, error) {
	return r.activate, nil
}

func (r *repository) activate(_ context.Context, set *rule.Set) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.overtaken {
		r.overtaken = false
		return fmt.Errorf("activate: %w", rulesync.ErrOvertaken)
	}
	if r.failing != nil {
		return r.failing
	}
	if r.active != set.Revision {
		r.active, r.activated = set.Revision, append(r.activated, set.Revision)
	}
	return nil
}

func (r *repository) report(_ context.Context, commit string, _ *rule.Set, problem error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, fmt.Sprint(commit, ": ", problem))
	return r.refusing
}

// follow runs a Git in a synctest bubble.
func follow(t *testing.T, r *repository, change func(*rulesync.GitOptions), test func(g *rulesync.Git, metrics *prometheus.Registry)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		o := rulesync.GitOptions{
			Read: r.read, Load: r.load, Activate: r.activation, Report: r.report,
			Random: func() float64 { return 0.5 }, Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Registerer: metrics,
		}
		if change != nil {
			change(&o)
		}
		g, err := rulesync.NewGit(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- g.Run(ctx) }()
		synctest.Wait()
		test(g, metrics)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func later(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func TestARepositoryIsFollowed(t *testing.T) {
	r := &repository{}
	r.push("one", "1")
	follow(t, r, nil, func(g *rulesync.Git, metrics *prometheus.Registry) {
		if s := g.Status(); s.Revision != "one" || s.Err != nil || s.LastSuccess.IsZero() {
			t.Errorf("%+v", s)
		}
		later(time.Minute)
		r.push("two", "2")
		later(time.Minute)
		if fmt.Sprint(r.activated) != "[one two]" || fmt.Sprint(r.reads) != "[0s 1m0s 2m0s]" || fmt.Sprint(r.reports) != "[one: <nil> two: <nil>]" {
			t.Errorf("%v, %v, %v", r.activated, r.reads, r.reports)
		}
		if q := r.queries; q[0] != (rulesync.Query{Reread: true}) || q[1] != (rulesync.Query{Known: "one"}) {
			t.Errorf("queries %+v", q)
		}
		if gauge(t, metrics, "riposte_rules_reload_success") != 1 || gauge(t, metrics, "riposte_rules_info", "two") != 1 {
			t.Error("the metrics do not say so")
		}
		// Another replica, which lags behind, made the older commit active: the tip is made so again.
		r.set(func(r *repository) { r.active = "one" })
		later(time.Minute)
		if r.active != "two" {
			t.Errorf("active is %s", r.active)
		}
	})
}

// TestWhatWasReadBeforeOthersWereActivatedIsReadAgain, at once: it may be older than they are.
func TestWhatWasReadBeforeOthersWereActivatedIsReadAgain(t *testing.T) {
	r := &repository{}
	r.push("one", "1")
	follow(t, r, nil, func(g *rulesync.Git, _ *prometheus.Registry) {
		later(time.Minute)
		r.set(func(r *repository) { r.overtaken = true })
		r.push("two", "2")
		later(time.Minute)
		activated := func() (got string) {
			r.set(func(r *repository) { got = fmt.Sprint(r.activated) })
			return got
		}
		if got := activated(); got != "[one]" || g.Status().Err != nil {
			t.Errorf("activated %s, %v", got, g.Status().Err)
		}
		later(3 * time.Second)
		if got := activated(); got != "[one two]" {
			t.Errorf("activated %s", got)
		}
	})
}

func TestPokesAreServedSoonAndTogether(t *testing.T) {
	r := &repository{}
	r.push("one", "1")
	follow(t, r, nil, func(g *rulesync.Git, _ *prometheus.Registry) {
		later(10 * time.Second)
		g.Poke()
		synctest.Wait()
		for range 1000 {
			g.Poke()
		}
		later(time.Second)
		g.Poke()
		later(10 * time.Second)
		if got := fmt.Sprint(r.reads); got != "[0s 10s 12s]" {
			t.Errorf("looks at %s", got)
		}
	})
}

func TestThePollIsSpread(t *testing.T) {
	r := &repository{}
	r.push("one", "1")
	random := []float64{0, 1}
	follow(t, r, func(o *rulesync.GitOptions) {
		o.Interval = 100 * time.Second
		o.Random = func() float64 { return random[(len(r.reads)-1)%2] }
	}, func(*rulesync.Git, *prometheus.Registry) {
		later(201 * time.Second)
		if got := fmt.Sprint(r.reads); got != "[0s 1m30s 3m20s]" {
			t.Errorf("looks at %s", got)
		}
	})
}

func TestWhatIsWrongChangesNothing(t *testing.T) {
	errUnsigned := errors.New("the commit is not signed")
	for name, tt := range map[string]struct {
		breakIt  func(*repository)
		want     string
		reported bool
	}{
		"the repository is gone": {func(r *repository) { r.err = errors.New("repository not found") }, "repository not found", false},
		"no files":               {func(r *repository) { r.tip = rulesync.Commit{ID: "two"} }, "commit two: there are no rules", true},
		"broken":                 {func(r *repository) { r.tip = commit("two", "broken") }, "commit two: a.yaml:1:1: is broken", true},
		"slow":                   {func(r *repository) { r.tip = commit("two", "slow") }, "commit two: the rules take too long to build: over 30s", true},
		"unsigned":               {func(r *repository) { r.tip = commit("two", "unsigned") }, "commit two: the commit is not signed", true},
		"the store is away":      {func(r *repository) { r.tip = commit("two", "2"); r.failing = errors.New("no answer") }, "commit two: no answer", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &repository{}
			r.push("one", "1")
			follow(t, r, func(o *rulesync.GitOptions) {
				o.Verify = func(object []byte) (string, error) {
					if string(object) == "unsigned" {
						return "", errUnsigned
					}
					return "ana", nil
				}
			}, func(g *rulesync.Git, metrics *prometheus.Registry) {
				r.set(tt.breakIt)
				later(5 * time.Minute)
				s := g.Status()
				if s.Revision != "one" || s.Err == nil || !strings.Contains(s.Err.Error(), tt.want) || r.active != "one" {
					t.Errorf("status %+v, active %s", s, r.active)
				}
				if strings.Count(r.log.String(), "were not changed") != 1 {
					t.Errorf("the failure is not logged once:\n%s", &r.log)
				}
				if len(r.reports) != 1 && !tt.reported || tt.reported && (len(r.reports) != 2 || !strings.HasPrefix(r.reports[1], "two: ")) {
					t.Errorf("reports %q", r.reports)
				}
				if got := gauge(t, metrics, "riposte_rules_reload_success"); got != 0 {
					t.Errorf("reload_success is %v", got)
				}
				r.set(func(r *repository) { r.err, r.failing, r.tip = nil, nil, commit("three", "3") })
				later(2 * time.Minute)
				if s := g.Status(); s.Revision != "three" || s.Err != nil || gauge(t, metrics, "riposte_rules_reload_success") != 1 {
					t.Errorf("after the repair: %+v", s)
				}
			})
		})
	}
}

func commit(id, text string) rulesync.Commit {
	return rulesync.Commit{ID: id, Object: []byte(text), Files: []rule.File{{Path: "a.yaml", Data: []byte(text)}}}
}

// gauge reads the one gauge of a name, which has the labels' values.
func gauge(t *testing.T, metrics *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name || len(f.GetMetric()) != 1 {
			continue
		}
		m := f.GetMetric()[0]
		for i, l := range m.GetLabel() {
			if l.GetValue() != labels[i] {
				t.Errorf("%s is of %s", name, l.GetValue())
			}
		}
		return m.GetGauge().GetValue()
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestAFreshServerSaysWhyItHasNoRules(t *testing.T) {
	r := &repository{err: errors.New("repository not found")}
	follow(t, r, nil, func(g *rulesync.Git, _ *prometheus.Registry) {
		later(3 * time.Minute)
		if s := g.Status(); s.Revision != "" || s.Err == nil || strings.Count(r.log.String(), "repository not found") != 1 {
			t.Errorf("%+v\n%s", s, &r.log)
		}
		if len(r.reports) != 0 {
			t.Errorf("reports %q", r.reports)
		}
	})
}

func TestAServerGoesOnFromWhatWasActive(t *testing.T) {
	r := &repository{active: "one"}
	r.push("one", "1")
	follow(t, r, func(o *rulesync.GitOptions) { o.Active = &rule.Set{Revision: "one"} }, func(g *rulesync.Git, _ *prometheus.Registry) {
		// Its files are read again: the path may be another one now.
		if r.queries[0] != (rulesync.Query{Known: "one", Reread: true}) || len(r.activated) != 0 || g.Status().LastSuccess.IsZero() {
			t.Errorf("%+v, %v", r.queries, r.activated)
		}
		r.push("two", "rewritten")
		later(time.Minute)
		if !strings.Contains(r.log.String(), "history was rewritten") || r.active != "two" {
			t.Errorf("a rewritten history:\n%s", &r.log)
		}
	})
}

func TestAReportThatFailsIsRepeated(t *testing.T) {
	r := &repository{refusing: errors.New("403")}
	r.push("one", "broken")
	follow(t, r, nil, func(_ *rulesync.Git, _ *prometheus.Registry) {
		later(2*time.Minute + time.Second)
		r.set(func(r *repository) { r.refusing = nil })
		later(5 * time.Minute)
		if len(r.reports) != 4 {
			t.Errorf("reports %q", r.reports)
		}
		// A repository that goes away says nothing about its last commit.
		r.set(func(r *repository) { r.err = errors.New("gone") })
		later(5 * time.Minute)
		if len(r.reports) != 4 {
			t.Errorf("reports %q", r.reports)
		}
	})
}

// A commit that takes all the time there is to build it does not get it again at each look, unlike one that fails at once.
func TestASlowCommitIsLeftAlone(t *testing.T) {
	r := &repository{}
	r.push("one", "slow")
	follow(t, r, nil, func(g *rulesync.Git, _ *prometheus.Registry) {
		later(10*time.Minute + time.Second)
		if s := g.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "too long to build") {
			t.Errorf("%+v", s)
		}
		r.set(func(r *repository) {
			reread := slices.ContainsFunc(r.queries[1:], func(q rulesync.Query) bool { return q.Reread })
			if r.builds != 1 || len(r.reads) < 9 || reread {
				t.Errorf("%d builds at %d looks, files read again: %t", r.builds, len(r.reads), reread)
			}
		})
		later(2 * time.Minute)
		r.set(func(r *repository) {
			if r.builds != 2 {
				t.Errorf("it is tried again: %d builds", r.builds)
			}
		})
		r.push("two", "broken")
		later(5 * time.Minute)
		if s := g.Status(); !strings.Contains(s.Err.Error(), "is broken") {
			t.Errorf("%+v", s)
		}
		r.set(func(r *repository) {
			if r.builds < 6 {
				t.Errorf("one that fails at once is built at each look: %d builds", r.builds)
			}
		})
		r.push("three", "fine")
		later(time.Minute + time.Second)
		if s := g.Status(); s.Revision != "three" || s.Err != nil {
			t.Errorf("another commit: %+v", s)
		}
	})
}

func TestEndlessProblemsAreCutOff(t *testing.T) {
	r := &repository{}
	r.push("one", "broken"+strings.Repeat("x", 5000))
	follow(t, r, nil, func(g *rulesync.Git, _ *prometheus.Registry) {
		if err := g.Status().Err; err == nil || len(err.Error()) > 4000 || !strings.Contains(err.Error(), "and 4901 more problems") {
			t.Errorf("%.200v", err)
		}
	})
}

func TestOptionsOfAGit(t *testing.T) {
	r := &repository{}
	good := rulesync.GitOptions{
		Read: r.read, Load: r.load, Activate: r.activation, Random: func() float64 { return 0 },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for name, change := range map[string]func(*rulesync.GitOptions){
		"Read": func(o *rulesync.GitOptions) { o.Read = nil }, "Load": func(o *rulesync.GitOptions) { o.Load = nil },
		"Activate": func(o *rulesync.GitOptions) { o.Activate = nil }, "Random": func(o *rulesync.GitOptions) { o.Random = nil },
		"Interval": func(o *rulesync.GitOptions) { o.Interval = -1 },
	} {
		o := good
		change(&o)
		if _, err := rulesync.NewGit(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
