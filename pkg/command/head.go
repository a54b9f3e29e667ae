package command

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// Head keeps the first Limit bytes that are written to it, and counts the rest. It is safe for concurrent use.
type Head struct {
	Limit int

	mu      sync.Mutex
	buf     []byte
	dropped int64
}

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	keep := min(len(p), max(0, h.Limit-len(h.buf)))
	h.buf = append(h.buf, p[:keep]...)
	h.dropped += int64(len(p) - keep)
	return len(p), nil
}

// String returns what was kept, as valid UTF-8, and a note where it is not all.
func (h *Head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.buf
	if h.dropped > 0 {
		kept = wholeRunes(kept)
	}
	s := strings.ToValidUTF8(string(kept), "\uFFFD")
	if h.dropped > 0 {
		s += fmt.Sprintf("\n… truncated: %d more bytes", h.dropped+int64(len(h.buf)-len(kept)))
	}
	return s
}

// Bytes returns a copy of what was kept.
func (h *Head) Bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]byte(nil), h.buf...)
}

// Dropped is how many bytes were not kept.
func (h *Head) Dropped() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}

// wholeRunes cuts off a character of which the end is missing.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}
