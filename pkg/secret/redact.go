package secret

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// MinRedacted is the length in bytes from which secrets are looked for in text. A shorter one would blot out ordinary
// words, and whoever can guess it needs no log; such a value does not deserve to be a secret.
const MinRedacted = 4

// mask stands where a secret was.
const mask = "***"

// Redactor replaces known secrets in text by ***: as they are, escaped as in JSON and in addresses, in hexadecimal and in
// base64, there also as a part of a longer text (user:secret). Of a secret of several lines each line is one too. It
// can't see through other encodings, nor base64 that was broken into lines inside the secret.
type Redactor struct {
	mu      sync.Mutex     // held while secrets changes
	secrets map[string]int // how many hold each
	current atomic.Pointer[matcher]
}

// NewRedactor returns a Redactor that knows no secret.
func NewRedactor() *Redactor {
	r := &Redactor{secrets: map[string]int{}}
	r.current.Store(newMatcher(nil))
	return r
}

// Add makes a secret known for good. Writers notice at their next Write.
func (r *Redactor) Add(secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change(secret, +1)
}

// replace makes a secret known, and forgets an older one that nothing else holds.
func (r *Redactor) replace(old, secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change(old, -1)
	r.change(secret, +1)
}

func (r *Redactor) change(secret []byte, by int) {
	if len(secret) < MinRedacted {
		return
	}
	s := string(secret)
	before := r.secrets[s]
	r.secrets[s] = before + by
	if before > 0 && before+by > 0 {
		return
	}
	if before+by <= 0 {
		delete(r.secrets, s)
	}
	forms := map[string]bool{}
	for s := range r.secrets {
		addForms(forms, s)
	}
	r.current.Store(newMatcher(forms))
}

// String returns s without secrets.
func (r *Redactor) String(s string) string {
	m := r.current.Load()
	spans := m.find([]byte(s), 0)
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	end := 0
	for _, span := range spans {
		b.WriteString(s[end:span.from])
		b.WriteString(mask)
		end = span.to
	}
	b.WriteString(s[end:])
	return b.String()
}

// Writer returns a writer to w that redacts, also what is spread over several writes. It holds back only what may be the
// beginning of a secret, at most the length of the longest; Close writes that, and does not close w. It is safe for
// concurrent use, but two writers' bytes that interleave inside a secret can't be recognised.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{redactor: r, w: w} }

// Writer is what Redactor.Writer returns.
type Writer struct {
	redactor *Redactor
	w        io.Writer

	mu      sync.Mutex
	held    []byte
	covered int  // leading bytes of held that belong to a secret whose mask is written already
	masked  bool // what was written last is a mask
	resumed bool // held begins after a gap: it may begin inside a secret
	skipped int64
	err     error
}

// Skip says that text is missing between what was written and what will be. Half a secret on either side of the gap can't be
// recognised, so what may be one is dropped: what is held back, and after the gap as much as the longest secret has, or the
// rest of the line if that is less.
func (w *Writer) Skip() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resumed {
		return // nothing was let through since the gap before
	}
	w.drop(len(w.held))
	w.covered, w.masked, w.resumed = 0, false, true
}

// Skipped returns how many bytes were dropped on account of Skip.
func (w *Writer) Skipped() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.skipped
}

func (w *Writer) drop(n int) {
	w.held = append(w.held[:0], w.held[n:]...)
	w.skipped += int64(n)
}

// Write takes a part of the text.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.held = append(w.held, p...)
	w.flush(false)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// Close writes what is held back, and says that nothing comes after it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.flush(true)
	}
	return w.err
}

// flush writes what is known to be safe; all of it at the end.
func (w *Writer) flush(all bool) {
	m := w.redactor.current.Load()
	if w.resumed && !w.resume(m, all) {
		return
	}
	safe := len(w.held)
	if !all {
		safe = m.safe(w.held)
	}
	var out []byte
	at, covered := 0, 0
	for _, s := range m.find(w.held, w.covered) {
		begun := s.from == 0 && w.covered > 0
		if s.from >= safe && !begun {
			break
		}
		out = append(out, w.held[at:s.from]...)
		if !begun && (s.from > 0 || !w.masked) {
			out = append(out, mask...)
		}
		at, covered = min(s.to, safe), max(s.to-safe, 0)
		w.masked = true
	}
	if at < safe {
		out = append(out, w.held[at:safe]...)
		w.masked = false
	}
	w.held = append(w.held[:0], w.held[safe:]...)
	w.covered = covered
	if len(out) > 0 {
		_, w.err = w.w.Write(out)
	}
}

// resume drops what may be the rest of a secret that began in a gap, once there is enough text to tell its end.
func (w *Writer) resume(m *matcher, all bool) bool {
	// Every line of a secret is one itself, so that none goes on unseen after a line's end.
	within := max(m.longest-1, 0)
	cut := within
	if i := bytes.IndexByte(w.held[:min(within, len(w.held))], '\n'); i >= 0 {
		cut = i + 1
	}
	if !all && (len(w.held) < cut || m.safe(w.held) < cut) {
		return false
	}
	cut = min(cut, len(w.held))
	covered := 0
	for _, s := range m.find(w.held, 0) { // another one must not be cut in two
		if s.from < cut && s.to > cut {
			covered = s.to - cut
		}
	}
	w.drop(cut)
	w.covered, w.resumed = covered, false
	return true
}

type span struct{ from, to int }

// matcher finds a fixed set of texts. It is immutable.
type matcher struct {
	// first tells by a hash of four bytes whether a text may begin with them; most positions end there.
	first  [1 << 10]uint64
	byHead map[uint32][]string // texts by their first four bytes, longest first
	heads  map[string]bool     // all beginnings shorter than four bytes
	// longest is the length of the longest text.
	longest int
}

func newMatcher(forms map[string]bool) *matcher {
	m := &matcher{byHead: map[uint32][]string{}, heads: map[string]bool{}}
	for f := range forms {
		h := head([]byte(f))
		m.byHead[h] = append(m.byHead[h], f)
		word, bit := slot(h)
		m.first[word] |= bit
		for n := 1; n < MinRedacted; n++ {
			m.heads[f[:n]] = true
		}
		m.longest = max(m.longest, len(f))
	}
	for _, texts := range m.byHead {
		slices.SortFunc(texts, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	}
	return m
}

// head returns the first four bytes, of which there must be as many.
func head(text []byte) uint32 { return binary.LittleEndian.Uint32(text) }

// slot is where first keeps a head: the upper 16 bits of a multiplicative hash.
func slot(h uint32) (word int, bit uint64) {
	h = h * 2654435761 >> 16
	return int(h >> 6), 1 << (h & 63)
}

// find returns where secrets are in text, in order, those that overlap or touch as one. The first covered bytes are
// known to belong to one.
func (m *matcher) find(text []byte, covered int) []span {
	var spans []span
	if covered > 0 {
		spans = append(spans, span{0, covered})
	}
	if m.longest == 0 {
		return spans
	}
	for i := 0; i+MinRedacted <= len(text); i++ {
		h := head(text[i:])
		if word, bit := slot(h); m.first[word]&bit == 0 {
			continue
		}
		for _, f := range m.byHead[h] {
			if len(text)-i >= len(f) && string(text[i:i+len(f)]) == f {
				spans = add(spans, span{i, i + len(f)})
				break
			}
		}
	}
	return spans
}

func add(spans []span, s span) []span {
	if n := len(spans); n > 0 && s.from <= spans[n-1].to {
		spans[n-1].to = max(spans[n-1].to, s.to)
		return spans
	}
	return append(spans, s)
}

// safe returns how much of text no secret can begin in that ends after text.
func (m *matcher) safe(text []byte) int {
	for i := max(len(text)-m.longest+1, 0); i < len(text); i++ {
		if m.begins(text[i:]) {
			return i
		}
	}
	return len(text)
}

// begins reports whether tail is the beginning, and not the whole, of a secret.
func (m *matcher) begins(tail []byte) bool {
	if len(tail) < MinRedacted {
		return m.heads[string(tail)]
	}
	h := head(tail)
	if word, bit := slot(h); m.first[word]&bit == 0 {
		return false
	}
	return slices.ContainsFunc(m.byHead[h], func(f string) bool {
		return len(f) > len(tail) && f[:len(tail)] == string(tail)
	})
}

// addForms adds the ways in which a secret may be written.
func addForms(forms map[string]bool, secret string) {
	parts := []string{secret}
	for line := range strings.Lines(secret) {
		parts = append(parts, strings.TrimSpace(line))
	}
	for _, part := range parts {
		if len(part) < MinRedacted {
			continue
		}
		forms[part] = true
		forms[url.QueryEscape(part)] = true
		forms[lowerEscapes(url.QueryEscape(part))] = true
		forms[url.PathEscape(part)] = true
		forms[lowerEscapes(url.PathEscape(part))] = true
		forms[url.UserPassword("", part).String()[1:]] = true
		forms[hex.EncodeToString([]byte(part))] = true
		forms[strings.ToUpper(hex.EncodeToString([]byte(part)))] = true
		addJSON(forms, part)
		addBase64(forms, part)
	}
}

// lowerEscapes writes the hexadecimal digits of %-escapes small, as some programs do.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

func addJSON(forms map[string]bool, part string) {
	for _, html := range []bool{true, false} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		if err := enc.Encode(part); err == nil {
			quoted := strings.TrimSuffix(b.String(), "\n")
			forms[quoted[1:len(quoted)-1]] = true
		}
	}
}

// addBase64 adds the secret's own base64, and what it looks like inside a longer encoded text: there its first byte may
// be the first, second or third of a group, and the characters that it shares with its neighbours are left out.
func addBase64(forms map[string]bool, part string) {
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		forms[enc.EncodeToString([]byte(part))] = true
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			text := enc.EncodeToString(append(make([]byte, shift), part...))
			inner := text[(shift*8+5)/6 : (shift+len(part))*8/6]
			if len(inner) >= MinRedacted {
				forms[inner] = true
			}
		}
	}
}
