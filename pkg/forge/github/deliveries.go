package github

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/riposte-dev/riposte/pkg/forge"
)

const (
	maxHookPages     = 10
	maxDeliveryPages = 100
	onHooks          = "read the webhooks of the repository or organisation"
)

// MissedDeliveries implements forge.Deliveries. GitHub keeps deliveries for three days.
func (h *host) MissedDeliveries(ctx context.Context, owner, hook string, since time.Time, take func(forge.Delivery) error) error {
	hooks, err := h.hooksOf(owner)
	if err != nil {
		return err
	}
	id, err := h.find(ctx, hooks, owner, hook)
	if err != nil {
		return err
	}
	missed, all, err := h.missed(ctx, hooks, id, since)
	if err != nil {
		return err
	}
	for _, m := range missed {
		full, resp, err := hooks.get(ctx, id, m.GetID())
		if err := h.failed(resp, err, http.StatusOK, onHooks); err != nil {
			return fmt.Errorf("read delivery %s: %w", forge.Clip(m.GetGUID(), 64), err)
		}
		d := forge.Delivery{ID: m.GetGUID(), Event: m.GetEvent(), At: m.GetDeliveredAt().Time}
		if r := full.Request; r != nil {
			d.Headers = r.Headers
			if r.RawPayload != nil {
				d.Body = *r.RawPayload
			}
		}
		if err := take(d); err != nil {
			return err
		}
	}
	if !all {
		return fmt.Errorf("%w: of the deliveries since %s only the newest %d were looked at", forge.ErrTooMany, since.Format(time.RFC3339), maxDeliveryPages*perPage)
	}
	return nil
}

// hooks are the webhooks of a repository or of an organisation.
type hooks struct {
	list       func(context.Context, *github.ListOptions) ([]*github.Hook, *github.Response, error)
	deliveries func(context.Context, int64, *github.ListCursorOptions) ([]*github.HookDelivery, *github.Response, error)
	get        func(ctx context.Context, hook, delivery int64) (*github.HookDelivery, *github.Response, error)
}

func (h *host) hooksOf(owner string) (hooks, error) {
	org := owner
	if !strings.Contains(owner, "/") {
		owner += "/x" // to check the organisation's name as that of an owner
		if _, _, err := forge.OwnerName(owner); err != nil {
			return hooks{}, err
		}
		return hooks{
			func(ctx context.Context, o *github.ListOptions) ([]*github.Hook, *github.Response, error) {
				return h.gh.Organizations.ListHooks(ctx, org, o)
			},
			func(ctx context.Context, id int64, o *github.ListCursorOptions) ([]*github.HookDelivery, *github.Response, error) {
				return h.gh.Organizations.ListHookDeliveries(ctx, org, id, o)
			},
			func(ctx context.Context, hook, id int64) (*github.HookDelivery, *github.Response, error) {
				return h.gh.Organizations.GetHookDelivery(ctx, org, hook, id)
			},
		}, nil
	}
	owner, name, err := forge.OwnerName(owner)
	return hooks{
		func(ctx context.Context, o *github.ListOptions) ([]*github.Hook, *github.Response, error) {
			return h.gh.Repositories.ListHooks(ctx, owner, name, o)
		},
		func(ctx context.Context, id int64, o *github.ListCursorOptions) ([]*github.HookDelivery, *github.Response, error) {
			return h.gh.Repositories.ListHookDeliveries(ctx, owner, name, id, o)
		},
		func(ctx context.Context, hook, id int64) (*github.HookDelivery, *github.Response, error) {
			return h.gh.Repositories.GetHookDelivery(ctx, owner, name, hook, id)
		},
	}, err
}

// find returns the webhook that sends to an address.
func (h *host) find(ctx context.Context, of hooks, owner, address string) (int64, error) {
	for page := 1; page <= maxHookPages; page++ {
		list, resp, err := of.list(ctx, &github.ListOptions{Page: page, PerPage: perPage})
		if err := h.failed(resp, err, http.StatusOK, onHooks); err != nil {
			return 0, err
		}
		for _, hook := range list {
			if hook.Config != nil && strings.TrimRight(hook.Config.GetURL(), "/") == strings.TrimRight(address, "/") {
				return hook.GetID(), nil
			}
		}
		if resp.NextPage == 0 {
			break
		}
	}
	return 0, fmt.Errorf("%s has no webhook that sends to %s", owner, address)
}

// missed lists the first attempt at each delivery since a time that no attempt brought, the oldest first. all is false where
// there are more than can be asked for.
func (h *host) missed(ctx context.Context, of hooks, id int64, since time.Time) (missed []*github.HookDelivery, all bool, err error) {
	first, arrived := map[string]*github.HookDelivery{}, map[string]bool{}
	next := &github.ListCursorOptions{PerPage: perPage}
	for range maxDeliveryPages {
		list, resp, err := of.deliveries(ctx, id, next) // the newest first
		if err := h.failed(resp, err, http.StatusOK, onHooks); err != nil {
			return nil, false, err
		}
		old := false
		for _, d := range list {
			if d.GetDeliveredAt().Before(since) {
				old = true
				continue
			}
			first[d.GetGUID()] = d
			arrived[d.GetGUID()] = arrived[d.GetGUID()] || d.GetStatusCode()/100 == 2
		}
		if old || resp.Cursor == "" {
			return pending(first, arrived), true, nil
		}
		next.Cursor = resp.Cursor
	}
	return pending(first, arrived), false, nil
}

func pending(first map[string]*github.HookDelivery, arrived map[string]bool) (missed []*github.HookDelivery) {
	for id, d := range first {
		if !arrived[id] {
			missed = append(missed, d)
		}
	}
	slices.SortFunc(missed, func(a, b *github.HookDelivery) int {
		if c := a.GetDeliveredAt().Compare(b.GetDeliveredAt().Time); c != 0 {
			return c
		}
		return strings.Compare(a.GetGUID(), b.GetGUID())
	})
	return missed
}
