package consent

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Comment is an order that somebody gave by a comment on a pull request. It is no more than what the event says: who may
// give it is another question.
type Comment struct {
	Order   string // run.CommandApprove or run.CommandReject
	Run     string // the beginning of its id; empty for the one of the pull request that waits
	Digest  string // the beginning of the digest of what is answered; empty for what waited when the comment was made
	Text    string // what else was said
	Account string
	// At is when the comment was made, as the forge says, or else when it arrived.
	At time.Time
}

// commandWord is what a comment begins with that is meant for us.
const commandWord = "/riposte"

// maxText bounds what is kept of a comment's text, in bytes.
const maxText = 1000

// IsComment reports whether events of the type can hold comments, so that the bodies of all others need not be read.
func IsComment(typ string) bool {
	return typ == "issue_comment" || typ == "pull_request_comment" || typ == "note"
}

// ReadComment reads the order of a comment that has just been made on a pull request: "/riposte approve [RUN [DIGEST]]" or
// "/riposte reject [RUN [DIGEST]]" as its first line. The event has its views; kind is the type of its source. What was edited, replayed or
// is ambiguous is no order.
func ReadComment(kind string, e *event.Event) (c Comment, ok bool) {
	if !IsComment(e.Type) || e.PullRequest == nil || e.Git == nil || e.Git.Repo == "" || e.CausedBy != "" {
		return c, false
	}
	b := source.Body(e.Body)
	var text, at source.Node
	switch kind {
	case "github", "gitea":
		author := b.At("comment", "user")
		c.Account = source.Or(author.At("login").Str(), author.At("username").Str())
		sender := source.Or(b.At("sender", "login").Str(), b.At("sender", "username").Str())
		if b.At("action").Str() != "created" || sender != "" && !strings.EqualFold(sender, c.Account) {
			return c, false
		}
		text, at = b.At("comment", "body"), b.At("comment", "created_at")
	case "gitlab":
		attributes := b.At("object_attributes")
		if action := attributes.At("action").Str(); action != "create" && action != "" || attributes.At("system").Bool() {
			return c, false
		}
		c.Account, text, at = b.At("user", "username").Str(), attributes.At("note"), attributes.At("created_at")
	default:
		return c, false
	}
	if c.At = at.Time(); c.At.IsZero() {
		c.At = e.ReceivedAt
	}
	return c, c.Account != "" && c.read(text.Str())
}

// read reads the order from a comment's text.
func (c *Comment) read(text string) bool {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	words := strings.Fields(first)
	if len(words) < 2 || len(words) > 4 || words[0] != commandWord {
		return false
	}
	if len(words) == 4 {
		if c.Digest = words[3]; !isDigest(c.Digest) {
			return false
		}
	}
	switch words[1] {
	case "approve":
		c.Order = run.CommandApprove
	case "reject":
		c.Order = run.CommandReject
	default:
		return false
	}
	if len(words) > 2 {
		c.Run = words[2]
	}
	c.Text = strings.TrimSpace(rest)
	if len(c.Text) > maxText || !utf8.ValidString(c.Text) {
		c.Text = strings.ToValidUTF8(c.Text[:min(len(c.Text), maxText)], "")
	}
	return true
}

// minDigest is how much of a digest names one thing and no other that somebody could make.
const minDigest = 16

func isDigest(word string) bool {
	return len(word) >= minDigest && strings.Trim(word, "0123456789abcdef") == ""
}
