package forge

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is what a Writer writes: Markdown, and below it what is shown as it is.
type Text struct {
	Title string // of an issue or pull request
	Body  string // Markdown
	Code  string // a code block below Body: a plan, a log
}

// breaker is a zero-width space: it keeps a text readable, and makes it mean nothing to the host.
const breaker = "\u200b"

var (
	entity = regexp.MustCompile(`(?i)&(#|commat)`)
	// closing are the words that GitHub, GitLab and Gitea take for an order to close or reopen an issue.
	closing = regexp.MustCompile(`(?i)\b(?:clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?|reopen(?:s|ed)?)\b`)
	// issue is what stands behind such a word, within reach of it: #1, acme/shop#1, !1, GH-1, an address, Jira's SHOP-1.
	issue   = regexp.MustCompile(`#\d|!\d|(?i:gh-\d|/(?:issues|pulls?|merge_requests|work_items)/\d)|\b[A-Z][A-Z0-9_]+-\d`)
	command = regexp.MustCompile(`(?m)^([ \t]*)/([A-Za-z])`)
	// hiding is HTML that makes a host show nothing of what follows.
	hiding = regexp.MustCompile(`(?i)<([!?]|/?(?:script|style|textarea|title|template|xmp|iframe|noembed|noframes|plaintext)\b)`)
	ticks  = regexp.MustCompile("`{8}")
	escape = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")
)

// reach is how far behind a closing word its issue may stand, in bytes.
const reach = 100

// inert makes a text address nobody, close nothing, give no commands and hide nothing of what stands around it. All else
// of its Markdown stays.
func inert(text string) string {
	text = entity.ReplaceAllString(text, "&"+breaker+"$1")
	text = hiding.ReplaceAllString(text, "<"+breaker+"$1")
	text = command.ReplaceAllString(text, "$1"+breaker+"/$2")
	return unmentioned(unclosing(text))
}

// unmentioned breaks mentions, and leaves mail addresses alone.
func unmentioned(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteByte(text[i])
		if text[i] == '@' && (i == 0 || !alphanumeric(text[i-1])) {
			b.WriteString(breaker)
		}
	}
	return b.String()
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func unclosing(text string) string {
	var b strings.Builder
	from := 0
	for _, at := range closing.FindAllStringIndex(text, -1) {
		if issue.MatchString(text[at[1]:min(at[1]+reach, len(text))]) {
			b.WriteString(text[from:at[0]+1] + breaker)
			from = at[0] + 1
		}
	}
	return b.String() + text[from:]
}

// clean drops what is no text: control characters, escape sequences of terminals, and what turns the direction of writing.
func clean(text string) string {
	text = escape.ReplaceAllString(strings.ReplaceAll(text, "\r\n", "\n"), "")
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// title is one line that fits.
func (w Writer) title(text string) string {
	return Clip(strings.Join(strings.Fields(inert(w.masked(text))), " "), w.Forge.Limits().Title)
}

// masked is a text without secrets, also where only the cleaning put one together.
func (w Writer) masked(text string) string { return w.Redact(clean(w.Redact(text))) }

// body is the whole text behind a marker, which stands in front so that nothing can hide it.
func (w Writer) body(marker string, t Text) string {
	// A text is masked before it is cut, or half a secret would be left.
	text, code := inert(w.masked(t.Body)), ticks.ReplaceAllString(w.masked(t.Code), "$0"+breaker)
	fence := fenceFor(code)
	room := w.Forge.Limits().Body - len(marker) - 2*len(fence) - len("\n\n\n\n\n\n")
	if code == "" {
		return marker + "\n" + cut(text, room)
	}
	text = cut(text, max(room/2, room-len(code)))
	code = cut(strings.TrimRight(code, "\n"), room-len(text))
	return marker + "\n" + text + "\n\n" + fence + "\n" + code + "\n" + fence + "\n"
}

// fenceFor is a fence that the code can't close.
func fenceFor(code string) string {
	longest, n := 2, 0
	for _, r := range code {
		if n++; r != '`' {
			n = 0
		}
		longest = max(longest, n)
	}
	return strings.Repeat("`", longest+1)
}

// cut keeps at most n bytes, no half character, and says what is missing.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const reserve = 80 // for the note
	end := max(n-reserve, 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s\n\n[cut: %d of %d bytes are left out here]", text[:end], len(text)-end, len(text))
}
