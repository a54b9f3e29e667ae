package notify

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/pagerduty"
)

// The errors of this file may hold a secret: none of them is passed on.

var errForm = errors.New("not an address of that type")

// parse reads an address in shoutrrr's form, whose scheme is the type.
func parse(typ, secret string) (*url.URL, error) {
	u, err := url.Parse(secret)
	if err != nil {
		return nil, err
	}
	if u.Scheme != typ {
		return nil, errForm
	}
	return u, nil
}

func isHTTP(secret string) bool {
	u, err := url.Parse(secret)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// webhookOf returns where a webhook of the type is.
func webhookOf(typ, secret string) (string, error) {
	secret = strings.TrimPrefix(secret, "generic+") // shoutrrr's name of a plain webhook
	if isHTTP(secret) {
		return secret, nil
	}
	u, err := parse(typ, secret)
	if err != nil {
		return "", err
	}
	switch typ {
	case typeDiscord:
		c := &discord.Config{}
		if err := c.SetURL(u); err != nil {
			return "", err
		}
		return discord.CreateAPIURLFromConfig(c), nil
	case typeTeams:
		c := &teams.Config{}
		if err := c.SetURL(u); err != nil {
			return "", err
		}
		to := teams.BuildWebhookURL(c.Host, c.Group, c.Tenant, c.AltID, c.GroupOwner, c.ExtraID)
		return to, teams.ValidateWebhookURL(to)
	case typeGoogleChat:
		if u.Host == "" {
			return "", errForm
		}
		u.Scheme = "https"
		return u.String(), nil
	}
	return "", errForm
}

// slackOf returns a webhook, or the API with a channel and a bot's token.
func slackOf(secret string) (to, channel, token string, err error) {
	if isHTTP(secret) {
		return secret, "", "", nil
	}
	u, err := parse(typeSlack, secret)
	if err != nil {
		return "", "", "", err
	}
	c, err := slack.CreateConfigFromURL(u)
	if err != nil {
		return "", "", "", err
	}
	if c.Token.IsAPIToken() {
		return "https://slack.com/api/chat.postMessage", c.Channel, strings.TrimPrefix(c.Token.Authorization(), "Bearer "), nil
	}
	return c.Token.WebhookURL(), "", "", nil
}

func telegramOf(secret string) (to string, chats []string, err error) {
	u, err := parse(typeTelegram, secret)
	if err != nil {
		return "", nil, err
	}
	c := &telegram.Config{}
	if err := c.SetURL(u); err != nil {
		return "", nil, err
	}
	return "https://api.telegram.org/bot" + c.Token + "/sendMessage", c.Chats, nil
}

// pagerDuty makes an event of the Events API v2 (developer.pagerduty.com). What the address sets beside the key, the
// message's severity and dedupKey are stronger than.
func pagerDuty(secret string, m message) (request, error) {
	if regexp.MustCompile(`^[0-9A-Za-z]{32}$`).MatchString(secret) {
		secret = "pagerduty:///" + secret
	}
	u, err := parse(typePagerDuty, secret)
	if err != nil {
		return request{}, err
	}
	c := &pagerduty.Config{Host: "events.pagerduty.com", Port: 443}
	if err := setDefaults(c); err != nil {
		return request{}, err
	}
	if err := c.SetURL(u); err != nil {
		return request{}, err
	}
	event := pagerduty.EventPayload{
		Payload:    pagerduty.Payload{Summary: cut(joined(m), 1024), Severity: c.Severity, Source: c.Source},
		RoutingKey: c.IntegrationKey, EventAction: c.Action, DedupKey: c.DedupKey, Client: c.Client, ClientURL: c.ClientURL,
	}
	switch m.severity {
	case "critical", "error", "warning", "info":
		event.Payload.Severity = m.severity
	}
	if m.dedupKey != "" {
		event.DedupKey = cut(m.dedupKey, 255)
	}
	if c.Source == "default" {
		event.Payload.Source = "riposte/" + m.rule
	}
	return request{url: (&url.URL{Scheme: "https", Host: hostPort(c.Host, c.Port), Path: "/v2/enqueue"}).String(), body: event}, nil
}
