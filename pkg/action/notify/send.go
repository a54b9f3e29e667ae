package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// Types of targets that this package sends to by itself; the rest are services of shoutrrr.
const (
	typeLog     = "log"
	typeWebhook = "webhook"
	typeSlack   = "slack"
	typeDiscord = "discord"
	typeTeams   = "teams"
)

func (s *Sender) send(ctx context.Context, d destination, m message, log io.Writer) error {
	if d.Type == typeLog {
		s.opts.Logger.WarnContext(ctx, m.text, "target", d.Name, "title", m.title, "severity", m.severity, "run", m.run, "rule", m.rule)
		logf(log, "%s", joined(m))
		return nil
	}
	if s.opts.Client == nil {
		return action.Permanent(errors.New("notify: Options.Client is nil"))
	}
	u, err := url.Parse(strings.TrimSpace(d.url))
	if err != nil || u.Scheme == "" {
		return action.Permanent(errors.New("its url secret is no address"))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		if d.Type == typeWebhook {
			return action.Permanent(errors.New("its url secret must begin with http:// or https://"))
		}
		return s.sendService(ctx, d, u, m)
	}
	body, ok := payload(d.Type, m)
	if !ok {
		return action.Permanent(fmt.Errorf("type %s needs a service address (%s://…) in its url secret", d.Type, d.Type))
	}
	return s.post(ctx, u, body)
}

// payload is what a webhook of the type takes.
func payload(typ string, m message) (any, bool) {
	text := joined(escaped(typ, m))
	switch typ {
	case typeWebhook:
		return map[string]any{
			"title": m.title, "text": m.text, "severity": m.severity, "dedupKey": m.dedupKey, "run": m.run, "rule": m.rule, "event": m.event,
		}, true
	case typeSlack: // docs.slack.dev, incoming webhooks
		return map[string]any{"text": text, "link_names": 0}, true
	case typeDiscord: // discord.com/developers, execute webhook: content has at most 2000 characters
		return map[string]any{"content": cut(text, 2000), "allowed_mentions": map[string]any{"parse": []string{}}}, true
	case typeTeams: // learn.microsoft.com, adaptive cards for incoming webhooks
		card := map[string]any{"type": "AdaptiveCard", "version": "1.4", "body": []any{map[string]any{"type": "TextBlock", "text": text, "wrap": true}}}
		return map[string]any{"type": "message", "attachments": []any{
			map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "content": card},
		}}, true
	}
	return nil, false
}

func (s *Sender) post(ctx context.Context, u *url.URL, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return action.Permanent(fmt.Errorf("write the message: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(text))
	if err != nil {
		return action.Permanent(errors.New("its url secret is no address"))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.opts.Client.HTTPClient().Do(req)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()                                       //nolint:errcheck // it was read
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	return action.Permanent(fmt.Errorf("answered %d", resp.StatusCode))
}

// unreachable leaves out the address, which net/http's error quotes.
func unreachable(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, outbound.ErrForbidden) {
		return action.Permanent(err)
	}
	return fmt.Errorf("can't be reached: %w", err)
}

// sendService sends through shoutrrr, whose errors quote the address and are therefore not passed on.
func (s *Sender) sendService(ctx context.Context, d destination, u *url.URL, m message) error {
	service, _, _ := strings.Cut(strings.ToLower(u.Scheme), "+")
	if err := s.checkHosts(ctx, service, u); err != nil {
		return err
	}
	svc, err := (&router.ServiceRouter{}).Locate(u.String())
	if err != nil {
		return action.Permanent(fmt.Errorf("its url secret is no address of service %q", service))
	}
	s.inject(svc)
	text, params := forService(service, u, escaped(service, m))
	return s.detached(ctx, func() error {
		if err := svc.Send(text, &params); err != nil {
			if errors.Is(err, outbound.ErrForbidden) {
				return action.Permanent(outbound.ErrForbidden)
			}
			return fmt.Errorf("service %s did not take the message", service)
		}
		return nil
	})
}

// detached runs what no context can stop, and returns when it is done or the context ends; Close waits for it.
func (s *Sender) detached(ctx context.Context, send func() error) error {
	select {
	case s.foreign <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	result := make(chan error, 1)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		<-s.foreign
		return errors.New("the server is stopping")
	}
	s.sending.Go(func() {
		defer func() { <-s.foreign }()
		result <- send()
	})
	s.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inject gives the service our HTTP client where it takes one.
func (s *Sender) inject(svc types.Service) {
	client := s.opts.Client.HTTPClient()
	switch svc := svc.(type) {
	case interface{ SetHTTPClient(*http.Client) }: // ntfy, pagerduty
		svc.SetHTTPClient(client)
	case *discord.Service:
		svc.HTTPClient = client
	case *rocketchat.Service:
		svc.Client = client
	case *pushover.Service:
		svc.Client = client
	case interface{ GetHTTPClient() *http.Client }: // gotify, mattermost
		if own := svc.GetHTTPClient(); own != nil {
			*own = *client
		}
	}
}

// vendorHosts returns where a service sends to that has no host, or another thing, in its address's place for one.
func vendorHosts(service string) []string {
	switch service {
	case "discord":
		return []string{"discord.com"}
	case "slack":
		return []string{"slack.com", "hooks.slack.com"}
	case "telegram":
		return []string{"api.telegram.org"}
	case "wecom":
		return []string{"qyapi.weixin.qq.com"}
	case "ifttt":
		return []string{"maker.ifttt.com"}
	case "join":
		return []string{"joinjoaomgcd.appspot.com"}
	case "notifiarr":
		return []string{"notifiarr.com"}
	case "pushbullet":
		return []string{"api.pushbullet.com"}
	case "pushover":
		return []string{"api.pushover.net"}
	}
	return nil
}

// hosts returns where a service's address leads to. A parameter named host overrides the address in some services.
func hosts(service string, u *url.URL) []string {
	list := vendorHosts(service)
	overridden := false
	for name, values := range u.Query() {
		if strings.EqualFold(name, "host") {
			overridden = true
			list = append(list, values...)
		}
	}
	if service == typeTeams { // the address's own host is a tenant
		return list
	}
	if len(vendorHosts(service)) > 0 {
		return list
	}
	switch {
	case u.Hostname() != "":
		list = append(list, u.Hostname())
	case overridden:
	case service == "pagerduty":
		list = append(list, "events.pagerduty.com")
	case service == "opsgenie":
		list = append(list, "api.opsgenie.com")
	case service == "ntfy":
		list = append(list, "ntfy.sh")
	case service == "lark":
		list = append(list, "open.larksuite.com")
	case service == "googlechat", service == "hangouts":
		list = append(list, "chat.googleapis.com")
	case service == "signal":
		list = append(list, "localhost")
	}
	return list
}

// checkHosts refuses a service any of whose addresses is forbidden.
func (s *Sender) checkHosts(ctx context.Context, service string, u *url.URL) error {
	names := hosts(service, u)
	if len(names) == 0 {
		return action.Permanent(fmt.Errorf("its url secret names no host for service %q", service))
	}
	slices.Sort(names)
	for _, host := range slices.Compact(names) {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return fmt.Errorf("the host of service %s can't be found", service)
		}
		if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return s.opts.Client.Check(a) != nil }); i >= 0 {
			return action.Permanent(s.opts.Client.Check(addrs[i]))
		}
	}
	return nil
}
