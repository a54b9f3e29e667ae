package steplog

import (
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/secret"
)

// label says what a message is part of. It stands in the message's header as JSON.
type label struct {
	Phase   run.Phase `json:"phase,omitempty"`
	Step    string    `json:"step"`
	Attempt int       `json:"attempt"`
	// From is how many bytes of the attempt's log are before this part; where it is more than the parts before have, what
	// is between them was left out.
	From int64     `json:"from"`
	At   time.Time `json:"at"`
}

const labelHeader = "Riposte-Step-Log"

// Parts of a log, the last token of its subject: its beginning, and the two halves of its end. The first message of a half
// replaces what the half held before.
const (
	head = 0
	odd  = 2 // the other half is 1
)

// writer takes the log of one attempt. What a child writes goes to memory; the store's goroutine does the rest.
type writer struct {
	store *Store
	run   string
	label label
	id    string // tells the attempt from all others

	mu       sync.Mutex
	since    time.Time // when the oldest byte came that was not taken; zero without any
	begun    []byte    // of the head, not taken yet
	taken    int       // of the head, in all
	lost     int64     // left out before older
	older    []byte    // of the tail: the newest bytes, and what was the newest before them
	newer    []byte
	closed   bool
	closedAt time.Time

	// The rest belongs to the store's goroutine.
	redact  *secret.Writer
	out     buffer // redacted, not in a message yet
	from    int64  // bytes of the log that are in messages or left out
	skipped int64  // of those that redact dropped, how many are counted in from
	told    int64  // end of the last message
	part    int
	partLen int
	ended   bool
	unsent  []*nats.Msg
	size    int64 // of unsent
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func newWriter(s *Store, runID string, l label) *writer {
	w := &writer{store: s, run: runID, label: l, id: rand.Text()}
	w.redact = s.opts.Redactor.Writer(&w.out)
	return w
}

// Write never fails and never waits for the store.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(p) == 0 { // a child that outlives its step has nobody to tell
		w.mu.Unlock()
		return len(p), nil
	}
	before, begun := w.held(), len(w.begun)
	wake := w.since.IsZero()
	if wake {
		w.since = time.Now()
	}
	w.take(p)
	now := w.held()
	wake = wake || begun < early && len(w.begun) >= early // the tail is bounded: it can wait
	w.mu.Unlock()
	w.store.buffered.Add(int64(now - before))
	if wake {
		w.store.note(w)
	}
	return len(p), nil
}

func (w *writer) held() int { return len(w.begun) + len(w.older) + len(w.newer) }

// take keeps p in memory, or of the tail the newest part of it and what came before.
func (w *writer) take(p []byte) {
	if w.store.buffered.Load()+int64(len(p)) > w.store.opts.BufferBytes {
		w.taken = HeadBytes // the head ends here
		w.lost += int64(len(w.older) + len(w.newer) + len(p))
		w.older, w.newer = nil, nil
		return
	}
	n := min(len(p), HeadBytes-w.taken)
	w.begun, w.taken = append(w.begun, p[:n]...), w.taken+n
	p = p[n:]
	if over := len(p) - tailPart; over > 0 {
		w.lost += int64(len(w.older) + len(w.newer) + over)
		w.older, w.newer, p = nil, w.newer[:0], p[over:]
	}
	if len(w.newer)+len(p) > tailPart {
		w.lost += int64(len(w.older))
		w.older, w.newer = w.newer, w.older[:0]
	}
	w.newer = append(w.newer, p...)
}

// Close ends the log. It never fails and never waits for the store.
func (w *writer) Close() error {
	w.mu.Lock()
	again := w.closed
	w.closed, w.closedAt = true, time.Now()
	w.mu.Unlock()
	if !again {
		w.store.noteEnd(w)
	}
	return nil
}

// note makes the store's goroutine look at the writer.
func (s *Store) note(w *writer) {
	s.mu.Lock()
	s.dirty[w] = true
	s.mu.Unlock()
	s.poke()
}

// noteEnd does so for a writer that was closed, unless it never had anything to say or all of it is stored.
func (s *Store) noteEnd(w *writer) {
	w.mu.Lock()
	silent := w.since.IsZero() && w.taken == 0
	w.mu.Unlock()
	if !silent {
		s.note(w)
	}
}

// dueIn returns how long what the writer holds may still wait.
func (w *writer) dueIn(now time.Time, followed bool) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed || len(w.begun) >= early:
		return 0
	case w.since.IsZero(): // only messages that the store did not take
		return 0
	case followed:
		return w.since.Add(promptly).Sub(now)
	}
	return w.since.Add(lazily).Sub(now)
}

// prepare makes messages of what the writer holds.
func (w *writer) prepare() {
	w.mu.Lock()
	begun, lost, older, newer, closed := w.begun, w.lost, w.older, w.newer, w.closed
	held := w.held()
	w.begun, w.older, w.newer, w.lost, w.since = nil, nil, nil, 0, time.Time{}
	w.mu.Unlock()
	if w.ended {
		return
	}
	size := w.size
	if len(begun) > 0 {
		_, _ = w.redact.Write(begun) // to memory
		w.pack(false, false)
	}
	if lost > 0 {
		w.redact.Skip()
		w.pack(w.part != head, true)
		w.from += lost
		w.store.metrics.omitted.Add(float64(lost))
	}
	_, _ = w.redact.Write(older)
	_, _ = w.redact.Write(newer)
	if closed {
		_ = w.redact.Close()
		w.ended = true
	}
	tail := w.part != head || lost > 0 || len(older)+len(newer) > 0
	w.pack(tail, closed)
	if closed && w.from > w.told { // something is left out at the end
		w.message(tail, nil)
	}
	w.store.buffered.Add(w.size - size - int64(held))
}

// pack puts what is redacted into messages, but for a character that is not whole yet.
func (w *writer) pack(tail, all bool) {
	w.from += w.redact.Skipped() - w.skipped
	w.skipped = w.redact.Skipped()
	n := len(w.out)
	if !all {
		n = whole(w.out)
	}
	for data := w.out[:n]; len(data) > 0; {
		m := min(len(data), maxData)
		if m < len(data) {
			m = max(whole(data[:m]), 1)
		}
		w.message(tail, data[:m])
		data = data[m:]
	}
	w.out = append(w.out[:0], w.out[n:]...)
}

// whole returns the length of text without a last character of which bytes are missing.
func whole(text []byte) int {
	for i := len(text) - 1; i >= 0 && i >= len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// message makes one of data. In the tail the two halves take turns, so that at least one is full.
func (w *writer) message(tail bool, data []byte) {
	msg := &nats.Msg{Header: nats.Header{}, Data: append([]byte(nil), data...)}
	if tail {
		if w.part == head || w.partLen+len(data) > tailPart {
			w.part, w.partLen = 1+w.part%odd, 0
			msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
		}
		w.partLen += len(data)
	}
	l := w.label
	l.From, l.At = w.from, time.Now().UTC()
	text, _ := json.Marshal(l) // it always can
	msg.Header.Set(labelHeader, string(text))
	msg.Subject = broker.StepLogSubject(w.run, w.id, w.part)
	w.from += int64(len(data))
	w.told = w.from
	w.unsent, w.size = append(w.unsent, msg), w.size+int64(len(data))
	w.store.metrics.written.Add(float64(len(data)))
}

// sent forgets the first n messages.
func (w *writer) sent(n int) {
	for _, msg := range w.unsent[:n] {
		w.size -= int64(len(msg.Data))
		w.store.buffered.Add(-int64(len(msg.Data)))
	}
	w.unsent = w.unsent[n:]
	if len(w.unsent) == 0 {
		w.unsent = nil
	}
}

// expired reports whether the end has waited too long.
func (w *writer) expired(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && now.Sub(w.closedAt) > giveUp
}

// clean reports whether there is nothing to store.
func (w *writer) clean() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.unsent) == 0 && w.since.IsZero() && (!w.closed || w.ended)
}
