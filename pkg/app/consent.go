package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/engine"
	"github.com/riposte-dev/riposte/pkg/receive"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/runstore"
)

// consents is whose consent a rule's runs need. Without tokens the admin listener is open to this machine alone, and
// whoever has that may.
func (a *App) consents(r *rule.Rule) engine.Consents {
	t := a.config.Approvals.Of(r.Name, r.Path, r.Labels)
	tokenless := len(a.config.Tokens) == 0
	return engine.Consents{Needed: t.Needed, Expires: t.Expires, May: func(who string, groups []string) error {
		if tokenless && who == consent.Loopback {
			return nil
		}
		return t.May(who, groups)
	}}
}

// hearTime is how long whoever decides waits for the run to hear of it.
const hearTime = 5 * time.Second

// hearing puts people's decisions into the log, and waits until they were heard.
type hearing struct {
	orders  *engine.Orders
	history *runstore.History
}

func (h hearing) consent(ctx context.Context, order, runID string, c api.Consent) (heard run.Entry, ok bool, err error) {
	by := engine.Order{Who: c.Who, Groups: c.Groups, Via: c.Via, Comment: c.Comment, Digest: c.Digest}
	id, err := h.orders.Consent(ctx, order, runID, by)
	if err != nil {
		return run.Entry{}, false, err
	}
	bounded, cancel := context.WithTimeout(ctx, hearTime)
	defer cancel()
	heard, err = h.history.Heard(bounded, id)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return run.Entry{}, false, nil
	}
	return heard, err == nil, err
}

// openLinks makes what signs links, where somebody has any.
func (a *App) openLinks(ctx context.Context) error {
	linked := false
	for _, p := range a.config.Approvals.People {
		linked = linked || len(p.Links) > 0
	}
	if !linked {
		return nil
	}
	key, err := a.store.LinkKey(ctx)
	if err == nil {
		a.signer, err = consent.NewSigner(key)
	}
	return err
}

// approveURLs are the links that a rule may hand out. Whoever has one can agree in the person's name, so that only rules get
// any whose files the configuration names.
func (a *App) approveURLs(r *rule.Rule, asked engine.Asked) map[string]string {
	if a.signer == nil {
		return nil
	}
	var urls map[string]string
	for _, name := range a.config.Approvals.Linked(r.Path) {
		if urls == nil {
			urls = map[string]string{}
		}
		token := a.signer.Token(consent.Link{Run: asked.Run, Attempt: asked.Attempt, Who: name, Digest: asked.Digest})
		urls[name] = strings.TrimRight(a.config.PublicURL, "/") + api.LinkPath + token
	}
	return urls
}

// withLinks lets the hooks listener answer links, too.
func (a *App) withLinks(hooks *receive.Receiver, events eventView, h hearing) http.Handler {
	if a.signer == nil {
		return hooks
	}
	page := hooks.Limited(api.Links(api.LinkOptions{
		Open: a.signer.Link, Run: a.history.Run, Event: events.Get, Consent: h.consent, Audit: a.audit, Now: a.o.Now, Logger: a.log,
		Groups: func(name string) ([]string, bool) {
			p, ok := a.config.Approvals.Person(name)
			return p.Groups, ok && len(p.Links) > 0
		},
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, api.LinkPath) {
			page.ServeHTTP(w, r)
			return
		}
		hooks.ServeHTTP(w, r)
	})
}

// redact removes secrets, and links that let people agree, from what is stored or shown.
func (a *App) redact(text string) string { return consent.Redact(a.redactor.String(text)) }
