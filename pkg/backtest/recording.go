package backtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// maxValue bounds one event or page of a recording: a page holds a body of the largest size at most.
const maxValue = 256 << 20

// Recording is events as the API prints them, one after the other or in pages, in any order. Its reader is read when the
// events are asked for, in the order of their times.
type Recording struct {
	r     io.ReaderAt
	index []entry
}

// entry is where an event stands, and when it was accepted.
type entry struct {
	at     int64 // nanoseconds since 1970
	offset int64
	size   int
}

// Open finds the events of a recording. Those that stand there newest first, as the API lists them, are put in order.
func Open(r io.ReaderAt, size int64) (*Recording, error) {
	rec := &Recording{r: r}
	s := &splitter{in: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<20)}
	for {
		value, offset, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = rec.add(value, offset)
		}
		if err != nil {
			return nil, fmt.Errorf("what begins at byte %d of the events: %w", offset, err)
		}
	}
	if n := len(rec.index); n > 1 && rec.index[0].at > rec.index[n-1].at {
		slices.Reverse(rec.index)
	}
	slices.SortStableFunc(rec.index, func(a, b entry) int { return compare(a.at, b.at) })
	return rec, nil
}

// Len is the number of events.
func (r *Recording) Len() int { return len(r.index) }

// add notes an event, or those of a page.
func (r *Recording) add(value []byte, offset int64) error {
	if len(value) == 0 || value[0] != '{' {
		return errors.New("it is neither an event nor a page of events")
	}
	if _, isEvent := event.Field(value, "receivedAt"); isEvent {
		return r.note(value, offset)
	}
	items, isPage := event.Field(value, "items")
	if !isPage {
		return errors.New("it is neither an event nor a page of events: it has neither receivedAt nor items")
	}
	for item := range event.Elements(items) {
		at := offset + int64(cap(value)-cap(item)) // item is a part of value
		if err := r.note(item, at); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recording) note(value []byte, offset int64) error {
	raw, _ := event.Field(value, "receivedAt")
	at, err := time.Parse(time.RFC3339Nano, event.Text(raw))
	if err != nil {
		return errors.New("an event has no receivedAt")
	}
	r.index = append(r.index, entry{at.UnixNano(), offset, len(value)})
	return nil
}

// Each calls fn with the events accepted from since to before until, oldest first. The event's memory is used again for
// the next one.
func (r *Recording) Each(since, until time.Time, fn func(*Recorded) error) error {
	from, _ := slices.BinarySearchFunc(r.index, since.UnixNano(), func(e entry, at int64) int { return compare(e.at, at) })
	end, _ := slices.BinarySearchFunc(r.index, until.UnixNano(), func(e entry, at int64) int { return compare(e.at, at) })
	var b block
	for _, en := range r.index[from:max(from, end)] {
		text, err := b.read(r.r, en)
		if err != nil {
			return fmt.Errorf("read the events: %w", err)
		}
		rec, err := parse(text)
		if err != nil {
			return fmt.Errorf("the event at byte %d of the events: %w", en.offset, err)
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// block is a part of the file that was read, so that events that stand beside each other are read at once.
type block struct {
	data   []byte
	offset int64
}

const blockSize = 256 << 10

func (b *block) read(r io.ReaderAt, en entry) ([]byte, error) {
	if en.offset < b.offset || en.offset+int64(en.size) > b.offset+int64(len(b.data)) {
		start := en.offset
		if en.offset < b.offset { // backwards: what stands before it is asked for next
			start = max(0, en.offset+int64(en.size)-blockSize)
			start = min(start, en.offset)
		}
		if want := max(blockSize, int(en.offset-start)+en.size); cap(b.data) < want {
			b.data = make([]byte, want)
		}
		b.data, b.offset = b.data[:cap(b.data)], start
		n, err := r.ReadAt(b.data, start)
		b.data = b.data[:n]
		if int64(n) < en.offset-start+int64(en.size) {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	at := en.offset - b.offset
	return b.data[at : at+int64(en.size)], nil
}

// Recorded is an event of a recording, as far as it is read for all.
type Recorded struct {
	ID         string
	Source     string
	Type       string
	ReceivedAt time.Time
	text       []byte
	data       []byte
}

// parse reads what every event needs. The text was split off as one value, but may be no JSON inside.
func parse(text []byte) (*Recorded, error) {
	if err := event.Validate(text); err != nil {
		return nil, fmt.Errorf("it is not JSON %w", err)
	}
	r := &Recorded{text: text}
	for key, value := range event.Members(text) {
		switch string(key) {
		case `"id"`:
			r.ID = event.Text(value)
		case `"source"`:
			r.Source = event.Text(value)
		case `"type"`:
			r.Type = event.Text(value)
		case `"receivedAt"`:
			r.ReceivedAt, _ = time.Parse(time.RFC3339Nano, event.Text(value)) // it was read before
		case `"data"`:
			r.data = value
		}
	}
	if r.ID == "" || r.Source == "" {
		return nil, errors.New("it lacks id or source")
	}
	return r, nil
}

// event makes the event anew, without its views.
func (r *Recorded) event() *event.Event {
	e := &event.Event{ID: r.ID, Source: r.Source, Type: r.Type, ReceivedAt: r.ReceivedAt, Time: r.ReceivedAt}
	for key, value := range event.Members(r.text) {
		switch string(key) {
		case `"time"`:
			if at, err := time.Parse(time.RFC3339Nano, event.Text(value)); err == nil {
				e.Time = at
			}
		case `"deliveryID"`:
			e.DeliveryID = event.Text(value)
		case `"subject"`:
			e.Subject = event.Text(value)
		case `"causedBy"`:
			e.CausedBy = event.Text(value)
		case `"headers"`:
			e.Headers = map[string]string{}
			for name, v := range event.Members(value) {
				e.Headers[event.Text(name)] = event.Text(v)
			}
		}
	}
	if !bytes.Equal(r.data, []byte("null")) {
		e.Body = r.data
	}
	return e
}

// splitter cuts a stream of JSON objects into them, by their braces alone.
type splitter struct {
	in     *bufio.Reader
	offset int64
	value  []byte
}

// next returns the next object and where it begins; the memory is used again.
func (s *splitter) next() (value []byte, offset int64, err error) {
	for {
		c, err := s.in.ReadByte()
		if err != nil {
			return nil, s.offset, err
		}
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			s.offset++
			continue
		}
		if err := s.in.UnreadByte(); err != nil || c != '{' {
			return nil, s.offset, errors.Join(err, errors.New("it is no JSON object"))
		}
		break
	}
	offset, s.value = s.offset, s.value[:0]
	depth, inText, escaped := 0, false, false
	for {
		part, err := s.in.Peek(max(1, s.in.Buffered()))
		if err != nil {
			return nil, offset, fmt.Errorf("it ends too early: %w", io.ErrUnexpectedEOF)
		}
		n, done := scan(part, &depth, &inText, &escaped)
		s.value = append(s.value, part[:n]...)
		_, _ = s.in.Discard(n) // it is buffered
		s.offset += int64(n)
		if done {
			return s.value, offset, nil
		}
		if len(s.value) > maxValue {
			return nil, offset, fmt.Errorf("it is longer than %d MiB", maxValue>>20)
		}
	}
}

// scan goes to the end of the object that is open, or of the bytes.
func scan(part []byte, depth *int, inText, escaped *bool) (n int, done bool) {
	for n < len(part) {
		switch c := part[n]; {
		case *escaped:
			*escaped = false
		case *inText:
			skip := bytes.IndexAny(part[n:], `"\`)
			if skip < 0 {
				return len(part), false
			}
			n += skip
			*inText, *escaped = part[n] == '\\', part[n] == '\\'
		case c == '"':
			*inText = true
		case c == '{' || c == '[':
			*depth++
		case c == '}' || c == ']':
			if *depth--; *depth == 0 {
				return n + 1, true
			}
		}
		n++
	}
	return n, false
}
