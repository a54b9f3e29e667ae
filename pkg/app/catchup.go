package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action/git"
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
		Askers: askers, Append: a.events.Append, Interval: c.Interval, Now: time.Now, Logger: a.log,
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
func (a *App) askAlertmanager(c config.CatchUpSource, api outbound.API) catchup.Asker {
	return func(ctx context.Context, _ time.Time, take func([]event.Record) error) error {
		s, err := a.receiving(c.Source)
		if err != nil {
			return err
		}
		answer, err := api.Do(ctx, http.MethodGet, alertmanager.GroupsPath, "", nil)
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

// askHost takes the webhooks that a host tried to send and could not.
func (a *App) askHost(c config.CatchUpSource) catchup.Asker {
	hook := strings.TrimRight(a.config.PublicURL, "/") + "/hooks/" + c.Source
	return func(ctx context.Context, since time.Time, take func([]event.Record) error) error {
		s, err := a.receiving(c.Source)
		if err != nil {
			return err
		}
		var errs []error
		for _, url := range c.Repositories {
			errs = append(errs, a.askRepository(ctx, url, hook, since, func(d forge.Delivery) error {
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
			}))
		}
		return errors.Join(errs...)
	}
}

func (a *App) askRepository(ctx context.Context, url, hook string, since time.Time, take func(forge.Delivery) error) error {
	f, path, err := a.hosts.forge(url)
	if err != nil {
		return err
	}
	host, keeps := f.(forge.Deliveries)
	if !keeps {
		place, _ := git.PlaceOf(url) // it was read before
		return fmt.Errorf("%s does not keep what it could not deliver; GitHub alone does", place.Web)
	}
	return host.MissedDeliveries(ctx, path, hook, since, take)
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
