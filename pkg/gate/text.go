package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxText   = 256
	keptBytes = 96 // of a longer one, for people
)

// bounded returns texts of up to 256 bytes as they are, and of a longer one its beginning and its hash. What it returns
// shares no memory with a request, which may be part of a whole event.
func bounded(text string) string {
	if len(text) <= maxText {
		return strings.Clone(text)
	}
	n := keptBytes
	for n > keptBytes-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	sum := sha256.Sum256([]byte(text))
	return text[:n] + "…sha256:" + hex.EncodeToString(sum[:])
}

// later adds without running over the end of time, which a clock that was set wrong can reach.
func later(at, d int64) int64 {
	if d > 0 && at > math.MaxInt64-d {
		return math.MaxInt64
	}
	return at + d
}

func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time { return time.Unix(0, n).UTC() }

func stamp(n int64) string { return timeOf(n).Format(time.RFC3339) }

// span writes a duration without the parts that are zero: 1h, not 1h0m0s.
func span(n int64) string {
	s := time.Duration(n).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
