package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/runstore"
)

const (
	// maxHeardComments is how many comments wait to be looked at; each costs a request to a forge.
	maxHeardComments = 64
	// commentTime bounds what one comment takes.
	commentTime = 30 * time.Second
	// lastComments bounds what those take that wait when the server stops.
	lastComments = 5 * time.Second
)

// comments gives the orders that people write on pull requests. A comment proves by its webhook's signature whose it is; it
// counts only for somebody whom the configuration names, and who may write to the repository, as its forge itself says.
type comments struct {
	spec    *consent.Spec
	kind    func(sourceName string) string // the type of a source
	history *runstore.History
	events  eventView
	hear    hearing
	forge   func(repository string) (forge.Forge, string, error)
	audit   audit.Writer
	log     *slog.Logger
	queue   chan *event.Event
}

func (a *App) newComments(events eventView, hear hearing) *comments {
	return &comments{
		spec: &a.config.Approvals, history: a.history, events: events, hear: hear, forge: a.hosts.forge, audit: a.audit, log: a.log,
		queue: make(chan *event.Event, maxHeardComments),
		kind: func(name string) string {
			if s := a.rules.current().Sources[name]; s != nil {
				return s.Type.Name
			}
			return ""
		},
	}
}

// andComments adds comments to what is told of events that are decided.
func (a *App) andComments(c *comments) (watches func(*event.Event) bool, watched func(*event.Event)) {
	rules := a.rules
	if len(c.spec.Comments) == 0 {
		return rules.watches, rules.watched
	}
	theirs := func(e *event.Event) bool { return rules.watches != nil && rules.watches(e) }
	return func(e *event.Event) bool { return c.watches(e) || theirs(e) }, func(e *event.Event) {
		if c.watches(e) {
			c.watched(e)
		}
		if theirs(e) {
			rules.watched(e)
		}
	}
}

// watches reports whether an event may hold a comment that counts.
func (c *comments) watches(e *event.Event) bool {
	return slices.Contains(c.spec.Comments, e.Source) && consent.IsComment(e.Type)
}

// watched takes an event that was decided. It never waits: beyond a bound comments are lost, and people told so in the log.
func (c *comments) watched(e *event.Event) {
	select {
	case c.queue <- e:
	default:
		c.log.Warn("too many comments on pull requests at once: one is not looked at; repeat it", "event", e.ID)
	}
}

// run looks at comments, one after the other, until ctx ends, and then at those that wait, for a while.
func (c *comments) run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case e := <-c.queue:
			c.hearOne(context.WithoutCancel(ctx), e)
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastComments)
	defer cancel()
	for last.Err() == nil {
		select {
		case e := <-c.queue:
			c.hearOne(last, e)
		default:
			return nil
		}
	}
	return nil
}

func (c *comments) hearOne(ctx context.Context, e *event.Event) {
	said, ok := consent.ReadComment(c.kind(e.Source), e)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commentTime)
	defer cancel()
	who, target, err := c.answer(ctx, e, said)
	entry := audit.Entry{At: time.Now(), Who: who, Action: said.Order + "Run", Target: target, Result: audit.OK, Detail: map[string]string{
		"via": "comment", "event": e.ID, "account": e.Source + ":" + said.Account, "repository": e.Git.Repo, "comment": said.Text,
	}}
	if err != nil {
		entry.Result, entry.Reason = audit.Refused, err.Error()
	}
	log := c.log.With("event", e.ID, "order", said.Order, "by", who, "run", target, "result", entry.Result, "reason", entry.Reason)
	log.Info("order by a comment on a pull request")
	if err := c.audit.Audit(ctx, entry); err != nil {
		log.Error("it is missing in the audit log", "error", err)
	}
}

// answer gives the order, if whoever wrote the comment may.
func (c *comments) answer(ctx context.Context, e *event.Event, said consent.Comment) (who, runID string, err error) {
	who = e.Source + ":" + said.Account
	person, ok := c.spec.Account(e.Source, said.Account)
	if !ok {
		return who, said.Run, fmt.Errorf("%s is the account of nobody in approvals.people of the server's configuration", who)
	}
	who = person.Name
	if err := c.mayWrite(ctx, e, said.Account); err != nil {
		return who, said.Run, err
	}
	r, err := c.find(ctx, e, said)
	if err != nil {
		return who, said.Run, err
	}
	if said.At.Before(r.Approval.RequestedAt.Truncate(time.Second)) {
		return who, r.ID, errors.New("the comment is older than what it would answer: look at that, and comment again")
	}
	if !strings.HasPrefix(r.Approval.Digest, said.Digest) {
		return who, r.ID, errors.New("what the comment answers is not what the run waits for now: look at that, and comment again")
	}
	heard, ok, err := c.hear.consent(ctx, said.Order, r.ID, api.Consent{
		Who: person.Name, Groups: person.Groups, Via: "comment of " + e.Source + ":" + said.Account, Comment: said.Text, Digest: r.Approval.Digest,
	})
	if err == nil && ok && heard.Run == "" {
		err = errors.New(heard.Why)
	}
	return who, r.ID, err
}

// mayWrite asks the forge itself whether the account may write to the repository.
func (c *comments) mayWrite(ctx context.Context, e *event.Event, account string) error {
	f, repo, err := c.forge(e.Git.CloneURL)
	if err != nil {
		return fmt.Errorf("what %s may do in %s can't be asked: %w", account, e.Git.Repo, err)
	}
	has, err := f.Rights(ctx, repo, account)
	if err != nil {
		return fmt.Errorf("what %s may do in %s can't be asked: %w", account, e.Git.Repo, err)
	}
	if has < forge.Write {
		return fmt.Errorf("%s has the right %s in %s, and needs %s", account, has, e.Git.Repo, forge.Write)
	}
	return nil
}

// find returns the run that a comment is about: one of its own repository, and of its pull request unless it names the run.
func (c *comments) find(ctx context.Context, e *event.Event, said consent.Comment) (run.Run, error) {
	if said.Run != "" {
		r, err := c.history.Run(ctx, said.Run)
		if err == nil && !c.about(ctx, &r, e, false) {
			err = fmt.Errorf("run %s is not about %s", r.ID, e.Git.Repo)
		}
		if err == nil && !r.Asks() {
			err = fmt.Errorf("run %s waits for nobody's consent: it is %s", r.ID, r.State)
		}
		return r, err
	}
	var found []run.Run
	for cursor, more := "", true; more; more = cursor != "" {
		var page []run.Run
		var err error
		if page, cursor, err = c.history.Runs(runstore.Query{State: run.Waiting, Limit: 200, Cursor: cursor}); err != nil {
			return run.Run{}, err
		}
		for i := range page {
			if page[i].Asks() && c.about(ctx, &page[i], e, true) {
				found = append(found, page[i])
			}
		}
	}
	switch len(found) {
	case 0:
		return run.Run{}, fmt.Errorf("no run of pull request %d in %s waits for consent", e.PullRequest.Number, e.Git.Repo)
	case 1:
		return found[0], nil
	}
	return run.Run{}, fmt.Errorf("%d runs of pull request %d in %s wait: name one in the comment", len(found), e.PullRequest.Number, e.Git.Repo)
}

// about reports whether a run's event is about the same repository as another event of its source, or the same pull request.
func (c *comments) about(ctx context.Context, r *run.Run, e *event.Event, samePull bool) bool {
	of, err := c.events.Get(ctx, r.Event)
	if err != nil || of.Source != e.Source || of.Git == nil || of.Git.Repo != e.Git.Repo {
		return false
	}
	return !samePull || of.PullRequest != nil && of.PullRequest.Number == e.PullRequest.Number
}
