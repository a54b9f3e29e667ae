package app

import (
	"context"
	"errors"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/engine"
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
