package event

import (
	"regexp"
	"strings"
)

// Trailers of the commits that runs make. They come back in the sender's events of the push, and tell what caused it.
const (
	TrailerRun  = "Riposte-Run"
	TrailerRule = "Riposte-Rule"
)

// maxTrailer bounds the value of a trailer: ids of runs and names of rules are shorter.
const maxTrailer = 256

// WithTrailers returns a commit's message with the run and the rule that made it at its end.
func WithTrailers(message, run, rule string) string {
	message = strings.TrimRight(message, " \t\r\n")
	if !endsInTrailers(message) {
		message += "\n"
	}
	message += "\n" + TrailerRun + ": " + run
	if rule != "" {
		message += "\n" + TrailerRule + ": " + rule
	}
	return message + "\n"
}

var trailer = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*: \S`)

// endsInTrailers reports whether the last paragraph, which is not the first, holds nothing else.
func endsInTrailers(message string) bool {
	at := strings.LastIndex(message, "\n\n")
	if at < 0 {
		return false
	}
	for line := range strings.SplitSeq(message[at+2:], "\n") {
		if !trailer.MatchString(line) {
			return false
		}
	}
	return true
}

// CommitRun returns the id of the run that made a commit, as its message says, or "". It looks at every line and takes the
// last: hosts put lines of their own behind when they squash. Whoever may push can write such a line, so it may only be
// taken to do less, never to allow something.
func CommitRun(message string) string { return trailerOf(message, TrailerRun) }

// CommitRule returns the rule whose run made a commit, likewise.
func CommitRule(message string) string { return trailerOf(message, TrailerRule) }

func trailerOf(message, name string) string {
	value := ""
	for line := range strings.SplitSeq(message, "\n") {
		key, rest, ok := strings.Cut(line, ":")
		if rest = strings.TrimSpace(rest); ok && strings.EqualFold(key, name) && trailerValue(rest) {
			value = rest
		}
	}
	return value
}

func trailerValue(v string) bool {
	return v != "" && len(v) <= maxTrailer && !strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd })
}
