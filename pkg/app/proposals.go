package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Bounds of what judging a proposal may take: anybody who can propose a change decides what it is made of.
const (
	proposalRuleBytes  = 16 << 20  // of its rule files
	proposalMirror     = 1 << 30   // of the mirror, which is begun anew above it
	proposalEventBytes = 256 << 20 // of the events that are decided again, the newest
	proposalRuns       = 200_000   // that start on both sides together
	proposalMemory     = 512 << 20 // that it adds to the process's
	proposalTime       = 5 * time.Minute
)

// backtestContext names the commit status of a backtest.
const backtestContext = "riposte/backtest"

// proposals tells those who propose a change of the rules what would come of it. Nothing of a proposal becomes active or is
// run: it is loaded, and recorded events are decided with it.
type proposals struct {
	git    *gitRules
	files  *git.Files // in mirrors of their own
	rules  *rules
	events eventView
	since  time.Duration
	limits backtest.Limits
	dir    string // for the events
	log    *slog.Logger
}

// openProposals prepares to judge proposals, where that is configured.
func (a *App) openProposals(g *gitRules) error {
	c := a.config.Rules.Git
	if c.Backtest.Since == 0 {
		return nil
	}
	if g.status == nil {
		return errors.New("backtest: it is told by commit statuses: set forge where the host's name does not tell its kind, and statusToken where no credential has a token for it")
	}
	limits, err := backtest.ParseLimits(c.Backtest.FailOn)
	if err != nil {
		return fmt.Errorf("backtest.failOn: %w", err)
	}
	o := a.gitOptions(a.runner)
	o.Dir = filepath.Join(a.config.Data, "rules-git-proposals")
	o.MaxBytes, o.CacheBytes = min(o.MaxBytes, maxRulesFetch), proposalMirror
	files, err := git.NewFiles(o)
	if err != nil {
		return err
	}
	p := &proposals{
		git: g, files: files, rules: a.rules, events: eventView{a.events, a.rules, a.history}, since: c.Backtest.Since, limits: limits,
		dir: a.config.Data, log: a.log,
	}
	a.proposals, err = rulesync.NewProposals(rulesync.ProposalOptions{
		List: p.list, Read: p.read, Verify: g.verify, Load: a.rules.loadProposal, Judge: p.judge,
		Turn: func() bool { return p.begun() && slices.Contains(a.leases.Holding(), 0) }, // one of all replicas
		File: filepath.Join(a.config.Data, "rules-git-proposals.json"), Interval: c.Interval, Random: rand.Float64, Logger: a.log,
	})
	return err
}

// begun says whether it is known what is active, and so what to compare with.
func (p *proposals) begun() bool {
	return p.rules.current().Revision != "" || p.rules.sync.Status().Err != nil
}

// isProposal tells by the words that the presets have for it.
func isProposal(e *event.Event) bool {
	return strings.Contains(e.Type, "pull_request") || strings.Contains(e.Type, "merge_request")
}

func (p *proposals) list(ctx context.Context) ([]rulesync.Proposal, error) {
	found, err := p.files.Proposals(ctx, p.git.config.URL, p.git.config.Ref)
	if err != nil {
		return nil, err
	}
	list := make([]rulesync.Proposal, len(found))
	for i, one := range found {
		list[i] = rulesync.Proposal{Ref: one.Ref, Commit: one.Commit}
	}
	return list, nil
}

func (p *proposals) read(ctx context.Context, ref string) (rulesync.Commit, error) {
	return readRules(ctx, p.files, git.FilesQuery{
		URL: p.git.config.URL, Ref: ref, Path: p.git.config.Path, Want: rulesync.IsRuleFile, MaxBytes: proposalRuleBytes,
	})
}

// judge sets the two statuses of a commit.
func (p *proposals) judge(ctx context.Context, at rulesync.Proposal, set *rule.Set, problem error) error {
	if problem != nil {
		return p.tell(ctx, at, statusContext, forge.Failure, summary(problem))
	}
	err := p.tell(ctx, at, statusContext, forge.Success, fmt.Sprintf("can be activated: %d rules, %d sources", len(set.Rules), len(set.Sources)))
	if err != nil {
		return err
	}
	if err := p.tell(ctx, at, backtestContext, forge.Pending, "deciding the events of the last "+config.FormatDuration(p.since)+" again"); err != nil {
		return err
	}
	state, text, err := p.backtest(ctx, set)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return errors.Join(err, p.tell(ctx, at, backtestContext, forge.Failure, "it could not be done; the server's log says why"))
	}
	return p.tell(ctx, at, backtestContext, state, text)
}

func (p *proposals) tell(ctx context.Context, at rulesync.Proposal, name string, state forge.State, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := p.git.status(ctx, at.Commit, forge.Status{Context: name, State: state, Description: p.git.redact(text), Ref: at.Ref})
	if err != nil {
		return fmt.Errorf("set the commit status %s: %w", name, err)
	}
	return nil
}

var (
	errSlowBacktest = errors.New("the events take too long to decide with these rules")
	errMemory       = errors.New("the rules take too much memory to decide the events")
)

// backtest compares a set with the active one over the recorded events. What the set itself is to blame for is a failure
// in words, and everything else an error.
func (p *proposals) backtest(ctx context.Context, set *rule.Set) (forge.State, string, error) {
	file, err := os.CreateTemp(p.dir, "backtest-*")
	if err != nil {
		return "", "", err
	}
	defer file.Close()
	_ = os.Remove(file.Name()) // where that is impossible while it is open, it is left to the system
	g := newGentle()
	o := backtest.Options{Candidate: set, Until: time.Now(), MaxRuns: proposalRuns, Pause: g.pause}
	o.Since = o.Until.Add(-p.since)
	if active := p.rules.current(); active.Revision != "" {
		o.Against = active
	}
	from, size, err := p.record(ctx, o.Since.Add(-backtest.Reach(o.Candidate, o.Against)), file, g)
	if err != nil {
		return "", "", err
	}
	note := ""
	if from.After(o.Since) {
		o.Since = from
		note = "of the last " + config.FormatDuration(o.Until.Sub(from).Round(time.Second)) + " only, for there are many events: "
	}
	rec, err := backtest.Open(file, size)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, proposalTime, fmt.Errorf("%w: over %s", errSlowBacktest, proposalTime))
	defer cancel()
	report, err := backtest.Run(ctx, rec, o)
	for _, blame := range []error{errSlowBacktest, errMemory, backtest.ErrTooManyRuns} {
		if errors.Is(err, blame) {
			return forge.Failure, err.Error(), nil
		}
	}
	if err != nil {
		return "", "", err
	}
	if said := p.limits.Exceeded(report); said != "" {
		return forge.Failure, said + "; " + note + report.Line(), nil
	}
	return forge.Success, note + report.Line(), nil
}

// record writes the events that were received since, newest first, as many as there is room for, and returns since when
// they are complete. Those that may end the process, and those that are not decided yet, are left out.
func (p *proposals) record(ctx context.Context, since time.Time, w io.Writer, g *gentle) (from time.Time, size int64, err error) {
	for cursor := ""; ; {
		if err := p.events.log.Ready(); err != nil {
			return from, size, fmt.Errorf("collect the events: %w", err) // a full disk, which this would make worse
		}
		entries, next, err := p.events.log.List(ctx, eventlog.Query{Since: since, Limit: 100, Cursor: cursor})
		if err != nil {
			return from, size, fmt.Errorf("collect the events: %w", err)
		}
		for _, en := range entries {
			line, err := p.line(en.Record.Event)
			if err != nil {
				return from, size, fmt.Errorf("collect the events: %w", err)
			}
			if size += int64(len(line)); size > proposalEventBytes {
				return from, size - int64(len(line)), nil
			}
			if _, err := w.Write(line); err != nil {
				return from, size, fmt.Errorf("collect the events: %w", err)
			}
			from = en.Record.Event.ReceivedAt
		}
		if cursor = next; cursor == "" {
			return since, size, nil
		}
		if err := g.pause(ctx); err != nil {
			return from, size, err
		}
	}
}

// line is an event as the API shows it alone; nothing where it is left out.
func (p *proposals) line(e *event.Event) ([]byte, error) {
	decision, ok := p.events.views(e)
	if !ok {
		return nil, nil
	}
	line, err := json.Marshal(e)
	if err != nil || decision.Changed == nil {
		return append(line, '\n'), err
	}
	changed, err := json.Marshal(api.Decision{Changed: viewPaths(decision.Changed)})
	return slices.Concat(line[:len(line)-1], []byte(`,"decision":`), changed, []byte("}\n")), err
}

func viewPaths(p *run.Paths) *api.Changed { return &api.Changed{Paths: p.List, More: p.More} }

// gentle keeps a backtest in the background: it waits as long as it worked, on one processor, and ends where it takes too
// much memory.
type gentle struct {
	began time.Time
	heap  uint64
}

func newGentle() *gentle { return &gentle{time.Now(), heapBytes()} }

func (g *gentle) pause(ctx context.Context) error {
	if heapBytes() > g.heap+proposalMemory {
		runtime.GC() // it may be garbage
		if heapBytes() > g.heap+proposalMemory {
			return errMemory
		}
	}
	rest := time.NewTimer(time.Since(g.began))
	defer rest.Stop()
	select {
	case <-rest.C:
		g.began = time.Now()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
