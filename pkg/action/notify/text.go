package notify

import (
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// A zero-width space after the @ keeps a mention readable, and makes it none.
const breaker = "@\u200b"

var mention = regexp.MustCompile(`(?i)@(channel|here|everyone|all|room)\b`)

// escaped is the message as a target of the type may show it.
func escaped(typ string, m message) message {
	m.title, m.text = escape(typ, m.title), escape(typ, m.text)
	return m
}

func escape(typ, text string) string {
	switch typ {
	case typeWebhook, typeLog, "smtp", "generic", "logger":
		return text // nothing there reads mentions
	}
	text = mention.ReplaceAllString(text, breaker+"$1")
	switch typ {
	case typeSlack, typeTeams, "googlechat", "hangouts": // docs.slack.dev, formatting: these three and no other
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	}
	return strings.ReplaceAll(text, "<@", "<"+breaker) // discord's users and roles
}

// joined is the message in one text.
func joined(m message) string {
	if m.title == "" {
		return m.text
	}
	return m.title + "\n" + m.text
}

// forService says what shoutrrr gets: few services have a title of their own, and an unknown parameter is an error there.
func forService(service string, u *url.URL, m message) (string, types.Params) {
	params := types.Params{}
	if service == "pagerduty" {
		if slices.Contains([]string{"critical", "error", "warning", "info"}, m.severity) {
			params["severity"] = m.severity
		}
		if m.dedupKey != "" {
			params["dedup_key"] = m.dedupKey
		}
	}
	if slices.Contains([]string{"smtp", "ntfy", "gotify", "pushover", "pushbullet", "bark"}, service) && m.title != "" {
		params.SetTitle(m.title)
		return m.text, params
	}
	text := joined(m)
	if service == "telegram" {
		if strings.EqualFold(u.Query().Get("parsemode"), "HTML") {
			text = html.EscapeString(text)
		}
		text = cut(text, 4096) // core.telegram.org/bots/api, sendMessage
	}
	return text, params
}

// oneLine has no line breaks, so that a title can't add headers or lines.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// cut keeps at most n bytes, and no half character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "…"
	end := n - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}
