package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// Types of targets that this package writes the messages for; services lists the others.
const (
	typeLog        = "log"
	typeWebhook    = "webhook"
	typeSlack      = "slack"
	typeDiscord    = "discord"
	typeTeams      = "teams"
	typeTelegram   = "telegram"
	typeGoogleChat = "googlechat"
	typePagerDuty  = "pagerduty"
	typeSMTP       = "smtp"
)

// Types lists the types of targets there are.
func Types() []string {
	types := []string{typeLog, typeWebhook, typeSlack, typeDiscord, typeTeams, typeTelegram, typeGoogleChat, typePagerDuty, typeSMTP}
	return append(types, services()...)
}

// CheckTarget reports all that is wrong with a Target document: a type there is not, keys that no type has, no url where one
// is needed, a rate that lets nothing pass. What the url leads to is known only when its secret is read.
func CheckTarget(t action.Target) error {
	errs := []error{checkURL(t)}
	for _, key := range slices.Sorted(maps.Keys(t.Options)) {
		errs = append(errs, &action.FieldError{Field: key, Msg: "unknown field " + key, Hint: didYouMean(key, []string{"type", "url", "rate", "fallback"})})
	}
	if t.Rate != (action.Rate{}) && (t.Rate.Messages < 1 || t.Rate.Per <= 0) {
		errs = append(errs, &action.FieldError{Field: "rate", Msg: "rate lets nothing pass: messages must be at least 1, and per longer than 0s"})
	}
	return errors.Join(errs...)
}

// checkURL checks that the type is one that there is, and that it has a url if it needs one.
func checkURL(t action.Target) error {
	none := t.URL == (action.SecretRef{})
	switch {
	case !slices.Contains(Types(), t.Type):
		return &action.FieldError{Field: "type", Msg: fmt.Sprintf("type %q is none of %s", t.Type, strings.Join(Types(), ", ")), Hint: didYouMean(t.Type, Types())}
	case none && t.Type != typeLog:
		return &action.FieldError{Field: "url", Msg: fmt.Sprintf("url is missing: type %s needs a secret with %s", t.Type, form(t.Type)), Hint: "write url: {secret: NAME}"}
	case !none && t.Type == typeLog:
		return &action.FieldError{Field: "url", Msg: "type log has no url: it writes into the server's own log"}
	}
	return nil
}

func didYouMean(name string, known []string) string {
	if best := document.Nearest(name, known); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

// form says what the url secret of a type holds.
func form(typ string) string {
	switch typ {
	case typeWebhook:
		return "an https address"
	case typeSlack:
		return "the https address of an incoming webhook, or slack://hook:TOKEN@webhook, or slack://BOT-TOKEN@CHANNEL"
	case typeDiscord:
		return "the https address of a webhook, or discord://TOKEN@ID"
	case typeTeams:
		return "the https address of a webhook or workflow, or teams://…?host=ORGANISATION.webhook.office.com"
	case typeTelegram:
		return "telegram://TOKEN@telegram?chats=CHAT"
	case typeGoogleChat:
		return "the https address of a webhook, or googlechat://chat.googleapis.com/v1/spaces/SPACE/messages?key=KEY&token=TOKEN"
	case typePagerDuty:
		return "an integration key of the Events API v2, alone or as pagerduty://HOST/KEY"
	case typeSMTP:
		return "smtp://USER:PASSWORD@HOST:PORT/?from=ADDRESS&to=ADDRESS"
	}
	return "the service's address in shoutrrr's form, " + typ + "://…"
}

// send sends the message to one target.
func (s *Sender) send(ctx context.Context, d destination, m message) error {
	if err := CheckTarget(d.Target); err != nil {
		return action.Permanent(err)
	}
	if d.Type == typeLog {
		s.opts.Logger.WarnContext(ctx, m.text, "target", d.Name, "title", m.title, "severity", m.severity, "run", m.run, "rule", m.rule)
		return nil // not into the step's log too, which may be the same one
	}
	if s.opts.Client == nil {
		return action.Permanent(errors.New("notify: Options.Client is nil"))
	}
	secret := strings.TrimSpace(d.url)
	m = escaped(d.Type, m)
	switch d.Type {
	case typeSMTP:
		return s.mail(ctx, secret, m)
	case typeTelegram:
		return s.telegram(ctx, secret, m)
	case typeSlack:
		return s.slack(ctx, secret, m)
	}
	if slices.Contains(services(), d.Type) {
		return s.service(ctx, d.Type, secret, m)
	}
	req, err := requestOf(d.Type, secret, m)
	if err != nil {
		return unsuitable(d.Type)
	}
	_, err = s.post(ctx, req)
	return err
}

// unsuitable says that the url secret is not what the type needs, and does not quote it.
func unsuitable(typ string) error {
	return action.Permanent(fmt.Errorf("its url secret does not fit type %s: it must hold %s", typ, form(typ)))
}

// request is a JSON body and where it goes.
type request struct {
	url    string
	bearer string
	body   any
}

// requestOf makes the request of a type that needs a single one. Its error may hold the secret.
func requestOf(typ, secret string, m message) (request, error) {
	if typ == typePagerDuty {
		return pagerDuty(secret, m)
	}
	to, err := webhookOf(typ, secret)
	return request{url: to, body: payload(typ, m)}, err
}

func payload(typ string, m message) any {
	switch typ {
	case typeDiscord: // discord.com/developers/docs/resources/webhook, execute: content has at most 2000 characters
		return map[string]any{"content": cut(joined(m), 2000), "allowed_mentions": map[string]any{"parse": []string{}}}
	case typeTeams:
		return card(m)
	case typeGoogleChat: // developers.google.com/workspace/chat, messages: at most 32,000 bytes
		return map[string]any{"text": cut(joined(m), 30_000)}
	}
	return map[string]any{
		"title": m.title, "text": m.text, "severity": m.severity, "dedupKey": m.dedupKey, "run": m.run, "rule": m.rule, "event": m.event,
	}
}

// card is an adaptive card. Runs of text, other than text blocks, hold no Markdown (adaptivecards.io/explorer/TextRun.html), so
// that nothing needs to be escaped. A message has at most 28 KB (learn.microsoft.com, limits of Teams).
func card(m message) any {
	var blocks []any
	line := func(text string, bold bool) {
		run := map[string]any{"type": "TextRun", "text": text}
		if bold {
			run["weight"] = "bolder"
		}
		blocks = append(blocks, map[string]any{"type": "RichTextBlock", "spacing": "none", "inlines": []any{run}})
	}
	if m.title != "" {
		line(cut(m.title, 1000), true)
	}
	lines := strings.Split(cut(m.text, 12_000), "\n")
	for i, text := range lines {
		if i == 99 {
			line(fmt.Sprintf("… and %d more lines", len(lines)-i), false)
			break
		}
		line(text, false)
	}
	return map[string]any{"type": "message", "attachments": []any{map[string]any{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content":     map[string]any{"type": "AdaptiveCard", "version": "1.4", "body": blocks},
	}}}
}

// slack sends to an incoming webhook, or with a bot's token to the API, whose answer tells in its body whether it worked.
func (s *Sender) slack(ctx context.Context, secret string, m message) error {
	text := cut(joined(m), 12_000) // docs.slack.dev, chat.postMessage: more than 40,000 characters are cut off there
	body := map[string]any{"text": text, "link_names": false}
	to, channel, token, err := slackOf(secret)
	if err != nil {
		return unsuitable(typeSlack)
	}
	if token == "" {
		_, err := s.post(ctx, request{url: to, body: body})
		return err
	}
	body["channel"] = channel
	answer, err := s.post(ctx, request{url: to, bearer: token, body: body})
	if err != nil {
		return err
	}
	var told struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	switch {
	case json.Unmarshal(answer, &told) != nil:
		return errors.New("its answer is no JSON")
	case told.OK:
		return nil
	case !regexp.MustCompile(`^[a-z_]{1,64}$`).MatchString(told.Error):
		return errors.New("did not take the message")
	case slices.Contains([]string{"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}, told.Error):
		return fmt.Errorf("did not take the message: %s", told.Error)
	}
	return action.Permanent(fmt.Errorf("did not take the message: %s", told.Error))
}

// telegram sends to each chat; plain text, which holds no markup there.
func (s *Sender) telegram(ctx context.Context, secret string, m message) error {
	to, chats, err := telegramOf(secret)
	if err != nil {
		return unsuitable(typeTelegram)
	}
	for _, chat := range chats {
		body := map[string]any{"chat_id": chat, "text": cut(joined(m), 4096)} // core.telegram.org/bots/api, sendMessage
		if _, err := s.post(ctx, request{url: to, body: body}); err != nil {
			return err
		}
	}
	return nil
}

// post sends a request and returns the beginning of what is answered. Redirects are not followed: none of the services needs
// them, and a message would go to where nobody meant it to.
func (s *Sender) post(ctx context.Context, r request) ([]byte, error) {
	text, err := json.Marshal(r.body)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("write the message: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(text))
	if err != nil {
		return nil, action.Permanent(errors.New("its url secret is no address"))
	}
	req.Header.Set("Content-Type", "application/json")
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	client := *s.opts.Client.HTTPClient()
	client.CheckRedirect = noRedirects
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer resp.Body.Close()                                      //nolint:errcheck // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // also so that the connection can be used again
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	// Teams' old webhooks answer 200 although they did not take the message (learn.microsoft.com, rate limiting for connectors).
	if bytes.Contains(answer, []byte("Microsoft Teams endpoint returned HTTP error 429")) {
		return nil, judge(http.StatusTooManyRequests)
	}
	return answer, judge(resp.StatusCode)
}

func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func judge(status int) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("answered %d %s", status, http.StatusText(status))
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		return err
	}
	return action.Permanent(err)
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
