package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/catchup"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/outbound"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
)

// openCatchUp says how each sender that the configuration lists is asked for what was missed. The owner of the first
// partition asks.
func (a *App) openCatchUp(context.Context) (err error) {
	c := a.config.CatchUp
	if a.lister, err = git.NewLister(a.gitOptions(a.runner)); err != nil {
		return err
	}
	askers := map[string]catchup.Asker{}
	for _, s := range c.Sources {
		if s.Receiver != "" {
			askers[s.Source] = a.askAlertmanager(s, a.server(a.config.Alertmanager))
		} else {
			askers[s.Source] = a.askHost(s)
		}
	}
	key := func(source string) string { return broker.MarkCatchUp + "." + source }
	a.catchUp, err = catchup.New(catchup.Options{
		Askers: askers, Append: a.events.Append, Interval: c.Interval, Now: a.o.Now, Logger: a.log,
		Mine: func() bool { return a.leases.Owner(0) == a.engine.Owner },
		Mark: func(ctx context.Context, source string) (time.Time, error) { return a.events.Mark(ctx, key(source)) },
		SetMark: func(ctx context.Context, source string, t time.Time) error {
			return a.events.SetMark(ctx, key(source), t)
		},
	})
	return err
}

// receiving finds a source that events are to be taken for.
func (a *App) receiving(name string) (*rule.Source, error) {
	s := a.rules.current().Sources[name]
	switch {
	case s == nil || s.Source == nil:
		return nil, fmt.Errorf("the active rules have no Source %s", name)
	case s.Denied != nil:
		return nil, s.Denied
	}
	return s, nil
}

// maxPast bounds the events that are looked at for what is known of alerts.
const maxPast = 2000

// askAlertmanager takes the alerts that fire now and nobody has heard of; since when they do is told by each of them.
func (a *App) askAlertmanager(c config.CatchUpSource, server outbound.API) catchup.Asker {
	return func(ctx context.Context, _ time.Time, take func([]event.Record) error) error {
		s, err := a.receiving(c.Source)
		if err != nil {
			return err
		}
		answer, err := server.Do(ctx, http.MethodGet, alertmanager.GroupsPath, "", nil)
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("the Alertmanager of the configuration answers %d %s", answer.Status, http.StatusText(answer.Status))
		}
		if err != nil {
			return err
		}
		past, err := a.bodies(ctx, c.Source, "alert.firing")
		if err != nil {
			return err
		}
		bodies, err := alertmanager.Webhooks(answer.Body, c.Receiver, past)
		if err != nil {
			return err
		}
		for _, body := range bodies {
			if err := a.takeIn(s, &source.Request{Method: http.MethodPost, Body: body}, take); err != nil {
				return err
			}
		}
		return nil
	}
}

// bodies are those of the newest events of a source.
func (a *App) bodies(ctx context.Context, source, kind string) (out [][]byte, err error) {
	q := eventlog.Query{Source: source, Type: kind, Limit: 500}
	for len(out) < maxPast {
		entries, next, err := a.events.List(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read what was received: %w", err)
		}
		for _, en := range entries {
			out = append(out, en.Record.Event.Body)
		}
		if q.Cursor = next; next == "" {
			break
		}
	}
	return out, nil
}

// askHost takes the webhooks that a host tried to send and could not, where it keeps them, and then the branches that have
// moved and no event says so.
func (a *App) askHost(c config.CatchUpSource) catchup.Asker {
	hook := strings.TrimRight(a.config.PublicURL, "/") + "/hooks/" + c.Source
	return func(ctx context.Context, since time.Time, take func([]event.Record) error) error {
		s, err := a.receiving(c.Source)
		if err != nil {
			return err
		}
		var errs []error
		for _, url := range c.Repositories {
			errs = append(errs, a.askDeliveries(ctx, url, hook, since, func(d forge.Delivery) error {
				if limit := cmp.Or(s.MaxBodyBytes, a.config.Limits.MaxBodyBytes); int64(len(d.Body)) > limit {
					a.log.Warn("a missed delivery is larger than its source allows", "source", s.Name, "delivery", d.ID, "bytes", len(d.Body))
					return nil
				}
				header := http.Header{}
				for name, value := range d.Headers {
					header.Set(name, value)
				}
				header.Set("Content-Type", "application/json") // which the host hands over, however it was sent
				return a.takeIn(s, &source.Request{Method: http.MethodPost, Header: header, Body: d.Body}, take)
			}), a.askBranches(ctx, s, url, take))
		}
		return errors.Join(errs...)
	}
}

func (a *App) askDeliveries(ctx context.Context, url, hook string, since time.Time, take func(forge.Delivery) error) error {
	f, path, err := a.hosts.forge(url)
	if errors.Is(err, errLocal) {
		return nil
	}
	if err != nil {
		return err
	}
	host, keeps := f.(forge.Deliveries)
	if !keeps { // GitHub alone does
		return nil
	}
	err = host.MissedDeliveries(ctx, path, hook, since, take)
	if errors.Is(err, forge.ErrTooMany) { // to ask again would find no more of them
		a.log.Warn("what was missed longest ago is not asked for", "repository", path, "error", err)
		return nil
	}
	return err
}

// settle is how long a branch must have moved before that counts as missed: its webhook may be on its way. It is a part of
// the interval where that is short.
func (a *App) settle() time.Duration { return min(time.Minute, a.config.CatchUp.Interval/10) }

// moved is a branch with the commit of the newest event about it, and the one that it is at.
type moved struct{ branch, before, after string }

// askBranches takes the branches of a repository that are not where the newest event of a push says. Of a branch that no event
// on record is about nothing can be told.
func (a *App) askBranches(ctx context.Context, s *rule.Source, url string, take func([]event.Record) error) error {
	found, err := a.movedBranches(ctx, s.Name, url)
	if err != nil || len(found) == 0 {
		return err
	}
	select {
	case <-time.After(a.settle()):
	case <-ctx.Done():
		return ctx.Err()
	}
	still, err := a.movedBranches(ctx, s.Name, url)
	if err != nil {
		return err
	}
	var missed []source.Delivery
	for _, m := range still {
		if slices.Contains(found, m) {
			missed = append(missed, m.push(url))
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return take(catchup.Records(s.Name, s.Type.Name, missed, time.Now().UTC()))
}

func (a *App) movedBranches(ctx context.Context, source, url string) ([]moved, error) {
	place, err := git.PlaceOf(url)
	if err != nil {
		return nil, err
	}
	newest, seen := map[string]string{}, map[moved]bool{}
	view, q := eventView{a.events, a.rules, a.history}, api.EventQuery{Source: source, Type: "push", Limit: 500}
	for read := 0; read < maxPast; {
		events, next, err := view.List(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read what was received: %w", err)
		}
		for _, e := range events {
			if e.Git == nil || e.Git.Branch == "" || e.Git.Repo != place.Path && e.Git.CloneURL != url {
				continue
			}
			if _, known := newest[e.Git.Branch]; !known {
				newest[e.Git.Branch] = e.Git.Commit
			}
			seen[moved{branch: e.Git.Branch, after: e.Git.Commit}] = true
		}
		if read, q.Cursor = read+len(events), next; next == "" {
			break
		}
	}
	branches, err := a.lister.Branches(ctx, url)
	if err != nil {
		return nil, err
	}
	var out []moved
	for _, b := range branches {
		if before, known := newest[b.Name]; known && !seen[moved{branch: b.Name, after: b.Commit}] {
			out = append(out, moved{b.Name, before, b.Commit})
		}
	}
	return out, nil
}

// push is a push as GitHub, GitLab and Gitea tell of it, as far as anybody knows. It lists no commits, so that changed() asks
// a diff.
func (m moved) push(url string) source.Delivery {
	place, _ := git.PlaceOf(url) // it was read before
	const none = "0000000000000000000000000000000000000000"
	body, _ := json.Marshal(map[string]any{ // texts alone
		"ref": source.Heads + m.branch, "before": cmp.Or(m.before, none), "after": m.after, "checkout_sha": m.after,
		"repository": map[string]string{"full_name": place.Path, "clone_url": url},
		"project":    map[string]string{"path_with_namespace": place.Path, "git_http_url": url},
	})
	return source.Delivery{
		Key: "branch " + place.Path + " " + m.branch + " " + m.before + " " + m.after, Type: "push", Subject: place.Path, Body: body,
	}
}

// takeIn makes events of a request that needs no proof: we asked for it.
func (a *App) takeIn(s *rule.Source, r *source.Request, take func([]event.Record) error) error {
	r.ReceivedAt = time.Now().UTC()
	deliveries, err := s.Source.Split(r)
	switch {
	case err != nil:
		a.log.Warn("a missed delivery can't be read", "source", s.Name, "error", err) // nor could it later
		return nil
	case len(deliveries) == 0:
		return nil
	}
	return take(catchup.Records(s.Name, s.Type.Name, deliveries, r.ReceivedAt))
}
