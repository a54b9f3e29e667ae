package rulesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// Commit is what a repository's reference stands for.
type Commit struct {
	ID     string
	Object []byte    // as Git stores it
	Time   time.Time // by the clock of who made it
	// Rewritten says that the commit does not follow the one asked for as known.
	Rewritten bool
	Files     []rule.File
	// Problem is why the files of the commit can't be read, where the commit itself is to blame.
	Problem error
}

// Query asks for a commit.
type Query struct {
	// Known is the commit that is known; its files are not needed again unless Reread is set.
	Known  string
	Reread bool
}

// GitOptions configure a Git.
type GitOptions struct {
	// Read brings the reference's commit with its files. It bounds itself in time and size.
	Read func(context.Context, Query) (Commit, error)
	// Verify checks a commit's signature, and returns who made it; nil accepts any commit.
	Verify func(object []byte) (signer string, err error)
	// Load builds a set; Activate returns what makes one active unless it is, on all replicas. It is called before the set is
	// read, and what it returns fails with ErrOvertaken where other rules were activated since. All are called again and again.
	Load     Load
	Activate func(context.Context) (func(context.Context, *rule.Set) error, error)
	// Report tells people at the repository what became of a commit; nil tells nobody. It is called again after an error.
	Report func(ctx context.Context, commit string, set *rule.Set, problem error) error
	// Active is the set that is active from before, or nil.
	Active *rule.Set

	Interval     time.Duration  // between two looks at the repository; default 1m
	MinGap       time.Duration  // after a look, however many ask for another; default 2s
	BuildTimeout time.Duration  // for building a set; default 30s
	Random       func() float64 // for jitter
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

func (o *GitOptions) withDefaults() error {
	switch {
	case o.Read == nil || o.Load == nil || o.Activate == nil:
		return errors.New("rulesync: options Read, Load and Activate are required")
	case o.Random == nil || o.Logger == nil || o.Registerer == nil:
		return errors.New("rulesync: options Random, Logger and Registerer are required")
	case o.Interval < 0 || o.MinGap < 0 || o.BuildTimeout < 0:
		return errors.New("rulesync: options Interval, MinGap and BuildTimeout must not be negative")
	}
	for _, d := range []struct {
		of    *time.Duration
		value time.Duration
	}{{&o.Interval, time.Minute}, {&o.MinGap, 2 * time.Second}, {&o.BuildTimeout, 30 * time.Second}} {
		if *d.of == 0 {
			*d.of = d.value
		}
	}
	return nil
}

// ErrOvertaken says that a set was read before others were activated, and may be older: the repository must be asked again.
var ErrOvertaken = errors.New("other rules were activated while these were read")

// Git follows a reference of a Git repository.
type Git struct {
	opts GitOptions
	*state
	rounds

	// What follows is Run's.
	known    string    // the last commit seen
	set      *rule.Set // built of it, or
	problem  error     // why it can't be
	rest     rest      // from building it
	reported string    // what Report took last
}

// NewGit makes a Git; nothing is read yet.
func NewGit(o GitOptions) (*Git, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	g := &Git{opts: o, state: newState(o.Logger, o.Registerer, true), rounds: newRounds(o.Interval, o.MinGap, o.Random)}
	if o.Active != nil {
		g.known, g.status.Revision = o.Active.Revision, o.Active.Revision
		g.info.WithLabelValues(o.Active.Revision).Set(1)
	}
	return g, nil
}

// Run looks at the repository now, then after each interval and after Poke, until ctx ends.
func (g *Git) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		_ = g.look(ctx) // fail has reported it
		g.wait(ctx, began)
	}
	return nil
}

// look brings what is new and makes it active. An error leaves everything as it was.
func (g *Git) look(ctx context.Context) error {
	err := g.update(ctx)
	if ctx.Err() != nil {
		return err
	}
	g.report(ctx)
	return err
}

func (g *Git) update(ctx context.Context) error {
	activate, err := g.opts.Activate(ctx)
	if err != nil {
		return g.failed(ctx, err)
	}
	c, err := g.opts.Read(ctx, Query{Known: g.known, Reread: g.set == nil && g.rest.of(g.known) == nil})
	if err != nil {
		return g.failed(ctx, err)
	}
	if err := g.rest.of(c.ID); err != nil {
		return g.failed(ctx, err)
	}
	if c.ID != g.known || g.set == nil {
		if c.Rewritten {
			g.log.Warn("the rules' history was rewritten, or many commits came at once; the new commit is followed", "from", g.known, "to", c.ID)
		}
		began := time.Now()
		set, err := g.builder().build(ctx, c)
		if ctx.Err() != nil {
			return err
		}
		g.known, g.set, g.problem = c.ID, set, err
		if err != nil {
			err = fmt.Errorf("commit %.12s: %w", c.ID, err)
			g.rest.failed(c.ID, began, err)
			return g.failed(ctx, err)
		}
	}
	if err := activate(ctx, g.set); errors.Is(err, ErrOvertaken) {
		g.log.Info("other rules were activated while a commit was read: the repository is asked again", "commit", c.ID)
		g.Poke()
		return nil
	} else if err != nil {
		return g.failed(ctx, fmt.Errorf("commit %.12s: %w", c.ID, err))
	}
	if status := g.Status(); status.Revision != c.ID || status.Err != nil || status.LastSuccess.IsZero() {
		g.succeed(g.set)
	}
	return nil
}

func (g *Git) builder() builder {
	return builder{g.opts.Verify, g.opts.Load, g.opts.BuildTimeout, g.log}
}

func (g *Git) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return g.fail(err.Error(), err)
}

// reportTime bounds a report.
const reportTime = 30 * time.Second

// report tells what became of the known commit, once. What says nothing about the commit itself, such as a repository
// that is gone or a store that does not answer, is not reported.
func (g *Git) report(ctx context.Context) {
	if g.opts.Report == nil || g.known == "" {
		return
	}
	text := g.known
	switch {
	case g.problem != nil:
		text += " " + g.problem.Error()
	case g.set == nil || g.Status().Err != nil:
		return
	}
	if text == g.reported {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	err := g.opts.Report(bounded, g.known, g.set, g.problem)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		g.log.Warn("the commit status of the rules could not be set; it is tried again", "commit", g.known, "error", err)
		return
	}
	g.reported = text
}

// IsRuleFile says whether a file of a repository, by its path below the directory of rules, holds rules or pauses them.
func IsRuleFile(name string) bool {
	ext := path.Ext(name)
	return name == rule.PausedFile || ext == ".yaml" || ext == ".yml"
}
