package notify

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// breaker is a zero-width space: behind the sign that begins a mention it keeps the text readable, and makes it none.
const breaker = "\u200b"

// maxText bounds the text of any message, in bytes.
const maxText = 64 << 10

var (
	mention = regexp.MustCompile(`@(\w)`)
	address = regexp.MustCompile(`https?://[^\s<>\[\](){}"'\\|*` + "`" + `]+`)
)

// escaped is the message as a target of the type may show it: it addresses nobody, and holds no markup.
func escaped(typ string, m message) message {
	m.title, m.text = escape(typ, m.title), escape(typ, m.text)
	return m
}

func escape(typ, text string) string {
	switch typ {
	case typeSlack: // docs.slack.dev, formatting text: these three and no other; mentions and links are written with <
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(unmentioned(text))
	case typeGoogleChat: // developers.google.com/workspace/chat/format-messages: mentions and links are written with <
		return strings.ReplaceAll(text, "<", "<"+breaker)
	case typeDiscord, "mattermost", "rocketchat":
		return outsideAddresses(unmentioned(text), markdown)
	case typeTelegram:
		return unmentioned(text)
	}
	return text // nothing there reads mentions or markup
}

// unmentioned breaks mentions. A mail address that is broken by it still reads the same.
func unmentioned(text string) string { return mention.ReplaceAllString(text, "@"+breaker+"$1") }

// markdown puts a backslash before what means anything in Markdown (CommonMark 2.4).
func markdown(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "#", `\#`).Replace(text)
}

// outsideAddresses changes the text around the addresses in it, which must stay what they are.
func outsideAddresses(text string, change func(string) string) string {
	var b strings.Builder
	from := 0
	for _, at := range address.FindAllStringIndex(text, -1) {
		b.WriteString(change(text[from:at[0]]))
		b.WriteString(text[at[0]:at[1]])
		from = at[1]
	}
	b.WriteString(change(text[from:]))
	return b.String()
}

// clean drops what is no text: control characters, and those that turn the direction of writing.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(strings.ReplaceAll(text, "\r\n", "\n"), "\uFFFD"))
}

// joined is the message in one text.
func joined(m message) string {
	if m.title == "" {
		return m.text
	}
	return m.title + "\n" + m.text
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
