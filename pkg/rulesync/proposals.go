package rulesync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// Proposal is the head of what somebody proposes for the rules: of a pull or merge request.
type Proposal struct {
	Ref    string // the full reference
	Commit string // that it stood for when it was listed or read
}

// ProposalOptions configure Proposals.
type ProposalOptions struct {
	// List returns the heads there are, those to be judged first before others. It bounds itself in time and number.
	List func(context.Context) ([]Proposal, error)
	// Read brings a head's commit with its files. It bounds itself in time and size.
	Read func(ctx context.Context, ref string) (Commit, error)
	// Verify and Load are as of GitOptions.
	Verify func(object []byte) (signer string, err error)
	Load   Load
	// Judge says what a commit's set would change, or what is wrong with the commit, to those who proposed it. After an
	// error it is called again, with a commit that was read again.
	Judge func(ctx context.Context, p Proposal, set *rule.Set, problem error) error
	// Turn says whether this replica judges now; nil for always.
	Turn func() bool

	File         string         // remembers what was judged over restarts
	Interval     time.Duration  // between two looks; default 1m
	MinGap       time.Duration  // after a look, however many ask for another; default 2s
	BuildTimeout time.Duration  // for building a set; default 30s
	Timeout      time.Duration  // for judging one head, all in all; default 15m
	MaxAge       time.Duration  // commits that are older are not judged; default 14 days
	Random       func() float64 // for jitter
	Logger       *slog.Logger
}

const (
	// maxWaiting is how many heads wait to be judged after a look; the rest is passed over for good.
	maxWaiting = 20
	// maxTries is how often a head is tried where judging it fails, or ends the process.
	maxTries = 3
)

func (o *ProposalOptions) withDefaults() error {
	switch {
	case o.List == nil || o.Read == nil || o.Load == nil || o.Judge == nil:
		return errors.New("rulesync: options List, Read, Load and Judge are required")
	case o.File == "" || o.Random == nil || o.Logger == nil:
		return errors.New("rulesync: options File, Random and Logger are required")
	}
	if o.Turn == nil {
		o.Turn = func() bool { return true }
	}
	for _, d := range []struct {
		of    *time.Duration
		value time.Duration
	}{
		{&o.Interval, time.Minute},
		{&o.MinGap, 2 * time.Second},
		{&o.BuildTimeout, 30 * time.Second},
		{&o.Timeout, 15 * time.Minute},
		{&o.MaxAge, 14 * 24 * time.Hour},
	} {
		if *d.of < 0 {
			return errors.New("rulesync: times in the options must not be negative")
		}
		if *d.of == 0 {
			*d.of = d.value
		}
	}
	return nil
}

// Proposals judges what is proposed for the rules, one head at a time, and each commit of it once. Nothing that it reads
// becomes active.
type Proposals struct {
	opts ProposalOptions
	log  *slog.Logger
	rounds

	// What follows is Run's.
	heads map[string]*head // by reference
	said  string           // the last error of a look
}

// head is what is remembered of a proposal.
type head struct {
	Commit string `json:"commit"`
	Tries  int    `json:"tries"` // that began
	Done   bool   `json:"done"`  // judged, or given up
}

// NewProposals makes a Proposals; the repository is not asked yet.
func NewProposals(o ProposalOptions) (*Proposals, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	p := &Proposals{opts: o, log: o.Logger, rounds: newRounds(o.Interval, o.MinGap, o.Random), heads: map[string]*head{}}
	text, err := os.ReadFile(o.File)
	if err == nil {
		err = json.Unmarshal(text, &p.heads)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.Logger.Warn("which proposals of rules were judged can't be read; the newest are judged again", "file", o.File, "error", err)
	}
	if err != nil || p.heads == nil {
		p.heads = map[string]*head{}
	}
	return p, nil
}

// Run looks for proposals now, then after each interval and after Poke, until ctx ends.
func (p *Proposals) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		if p.opts.Turn() {
			p.complain(ctx, p.look(ctx))
		}
		p.wait(ctx, began)
	}
	return nil
}

// complain logs why a look failed, once for the same reason.
func (p *Proposals) complain(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	said := p.said
	if p.said = ""; err == nil {
		return
	}
	if p.said = err.Error(); p.said != said {
		p.log.Warn("proposals of rules can't be listed; it is tried again", "error", err)
	}
}

func (p *Proposals) look(ctx context.Context) error {
	list, err := p.opts.List(ctx)
	if err != nil {
		return err
	}
	for _, one := range p.due(list) {
		if ctx.Err() == nil && p.opts.Turn() {
			p.judge(ctx, one.Ref)
		}
	}
	return nil
}

// due compares what is proposed with what was judged, and returns what is to be judged.
func (p *Proposals) due(list []Proposal) []Proposal {
	before := p.heads
	p.heads = make(map[string]*head, len(list))
	changed, passed := len(before) != len(list), 0
	var due []Proposal
	for _, one := range list {
		h := before[one.Ref]
		if h == nil || h.Commit != one.Commit {
			h, changed = &head{Commit: one.Commit}, true
		}
		p.heads[one.Ref] = h
		switch {
		case h.Done:
		case len(due) < maxWaiting:
			due = append(due, one)
		default:
			h.Done = true
			passed++
		}
	}
	if passed > 0 {
		p.log.Info("there are many proposals of rules; only the newest are judged", "passedOver", passed)
	}
	if changed {
		p.save()
	}
	return due
}

// judge tries a head. The try is remembered before it begins, so that one that ends the process is not tried for ever; one
// that a stop cuts off does not count.
func (p *Proposals) judge(ctx context.Context, ref string) {
	h := p.heads[ref]
	if h.Tries >= maxTries {
		p.log.Warn("a proposal of rules was not judged: the process ended each time", "ref", ref, "commit", h.Commit)
		h.Done = true
		p.save()
		return
	}
	h.Tries++
	p.save()
	err := p.try(ctx, ref, h)
	switch {
	case err == nil:
		h.Done = true
	case ctx.Err() != nil:
		h.Tries--
	default:
		h.Done = h.Tries >= maxTries
		p.log.Warn("a proposal of rules could not be judged", "ref", ref, "commit", h.Commit, "givenUp", h.Done, "error", err)
	}
	p.save()
}

var errSlowJudgement = errors.New("it takes too long")

// try judges a head. What it makes panic is its own fault.
func (p *Proposals) try(ctx context.Context, ref string, h *head) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("judging it panicked: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, p.opts.Timeout, fmt.Errorf("%w: over %s", errSlowJudgement, p.opts.Timeout))
	defer cancel()
	c, err := p.opts.Read(ctx, ref)
	if err != nil {
		return err
	}
	h.Commit = c.ID // it may have moved on
	if !c.Time.IsZero() && time.Since(c.Time) > p.opts.MaxAge {
		p.log.Debug("a proposal of rules is too old to be judged", "ref", ref, "commit", c.ID)
		return nil
	}
	set, problem := builder{p.opts.Verify, p.opts.Load, p.opts.BuildTimeout, p.log}.build(ctx, c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return p.opts.Judge(ctx, Proposal{ref, c.ID}, set, problem)
}

// save remembers the heads; where that fails, a restart judges them again.
func (p *Proposals) save() {
	text, err := json.Marshal(p.heads)
	if err == nil {
		err = os.WriteFile(p.opts.File+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(p.opts.File+".new", p.opts.File)
	}
	if err != nil {
		p.log.Warn("which proposals of rules were judged can't be remembered", "error", err)
	}
}
