package backtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
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

// Range returns when the first and the last event were accepted; ok is false where there are none.
func (r *Recording) Range() (first, last time.Time, ok bool) {
	if len(r.index) == 0 {
		return first, last, false
	}
	return time.Unix(0, r.index[0].at).UTC(), time.Unix(0, r.index[len(r.index)-1].at).UTC(), true
}

// add notes an event, or those of a page.
func (r *Recording) add(value []byte, offset int64) error {
	if len(value) == 0 || value[0] != '{' {
		return errors.New("it is neither an event nor a page of events")
	}
	if at, isEvent := event.Field(value, "receivedAt"); isEvent {
		return r.note(at, offset, len(value))
	}
	items, isPage := event.Field(value, "items")
	if !isPage {
		return errors.New("it is neither an event nor a page of events: it has neither receivedAt nor items")
	}
	for item := range event.Elements(items) {
		at, _ := event.Field(item, "receivedAt")
		if err := r.note(at, offset+int64(cap(value)-cap(item)), len(item)); err != nil { // item is a part of value
			return err
		}
	}
	return nil
}

func (r *Recording) note(receivedAt []byte, offset int64, size int) error {
	at, err := time.Parse(time.RFC3339Nano, event.Text(receivedAt))
	if err != nil {
		return errors.New("an event has no receivedAt")
	}
	r.index = append(r.index, entry{at.UnixNano(), offset, size})
	return nil
}

// Each calls fn with the events accepted from since to before until, oldest first. The event's memory is used again for
// the next one.
func (r *Recording) Each(since, until time.Time, fn func(*Recorded) error) error {
	var b block
	for _, en := range r.between(since, until) {
		rec, err := b.event(r.r, en)
		if err != nil {
			return err
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recording) between(since, until time.Time) []entry {
	from, _ := slices.BinarySearchFunc(r.index, since.UnixNano(), func(e entry, at int64) int { return compare(e.at, at) })
	end, _ := slices.BinarySearchFunc(r.index, until.UnixNano(), func(e entry, at int64) int { return compare(e.at, at) })
	return r.index[from:max(from, end)]
}

// batch is how many events are read ahead at a time.
const batch = 64

// part is a batch that was read and prepared.
type part struct {
	events []*Recorded
	err    error
}

// ahead says what is played, and how.
type ahead struct {
	since, until time.Time
	pause        func(context.Context) error
}

// ahead is Each, reading ahead of fn. prepare is called for each event, in several goroutines at once that have ended when
// ahead returns; fn is called in order. An event's memory is not used again. With a pause nothing is read ahead.
func (r *Recording) ahead(ctx context.Context, a ahead, prepare func(*Recorded), fn func(*Recorded)) error {
	ctx, cancel := context.WithCancel(ctx)
	batches := slices.Chunk(r.between(a.since, a.until), batch)
	queue := make(chan chan part, runtime.GOMAXPROCS(0))
	if a.pause != nil {
		queue = make(chan chan part)
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) { // the same ones for all, whose stacks have grown
		workers.Go(func() {
			for j := range jobs {
				j.done <- r.part(j.list, prepare)
			}
		})
	}
	workers.Go(func() {
		defer close(queue)
		defer close(jobs)
		for list := range batches {
			done := make(chan part, 1)
			select {
			case queue <- done:
				jobs <- job{list, done}
			case <-ctx.Done():
				return
			}
		}
	})
	defer func() {
		cancel()
		for done := range queue {
			<-done
		}
		workers.Wait()
	}()
	for done := range queue {
		p := <-done
		for _, rec := range p.events {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			fn(rec)
		}
		if p.err != nil {
			return p.err
		}
		if a.pause == nil {
			continue
		}
		if err := a.pause(ctx); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// job is a batch to read, and where it goes.
type job struct {
	list []entry
	done chan part
}

func (r *Recording) part(list []entry, prepare func(*Recorded)) part {
	b := block{keep: true}
	p := part{events: make([]*Recorded, 0, len(list))}
	for _, en := range list {
		rec, err := b.event(r.r, en)
		if err != nil {
			p.err = err
			break
		}
		prepare(rec)
		p.events = append(p.events, rec)
	}
	return p
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
	keep   bool // what was read is not written over, since events refer to it
}

const blockSize = 256 << 10

// event reads the event at a place.
func (b *block) event(r io.ReaderAt, en entry) (*Recorded, error) {
	text, err := b.read(r, en)
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	rec, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("the event at byte %d of the events: %w", en.offset, err)
	}
	return rec, nil
}

func (b *block) read(r io.ReaderAt, en entry) ([]byte, error) {
	if en.offset < b.offset || en.offset+int64(en.size) > b.offset+int64(len(b.data)) {
		start := en.offset
		if en.offset < b.offset { // backwards: what stands before it is asked for next
			start = max(0, en.offset+int64(en.size)-blockSize)
			start = min(start, en.offset)
		}
		if want := max(blockSize, int(en.offset-start)+en.size); b.keep || cap(b.data) < want {
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

	time, deliveryID, subject, causedBy, headers, data []byte // raw
	git, alert, pullRequest                            []byte // raw, as the API printed them
	decision                                           []byte // raw; of a single event that the API printed

	prepared []prepared // for each side
}

// parse reads what every event needs. The text was split off as one value, but may be no JSON inside.
func parse(text []byte) (*Recorded, error) {
	if err := event.Validate(text); err != nil {
		return nil, fmt.Errorf("it is not JSON %w", err)
	}
	r := &Recorded{}
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
		default:
			r.keep(string(key), value)
		}
	}
	if r.ID == "" || r.Source == "" {
		return nil, errors.New("it lacks id or source")
	}
	return r, nil
}

// keep notes where a member stands that not every event is asked for.
func (r *Recorded) keep(key string, value []byte) {
	switch key {
	case `"time"`:
		r.time = value
	case `"deliveryID"`:
		r.deliveryID = value
	case `"subject"`:
		r.subject = value
	case `"causedBy"`:
		r.causedBy = value
	case `"headers"`:
		r.headers = value
	case `"data"`:
		r.data = value
	case `"git"`:
		r.git = value
	case `"alert"`:
		r.alert = value
	case `"pullRequest"`:
		r.pullRequest = value
	case `"decision"`:
		r.decision = value
	}
}

// byHand reports whether the event started what it names, whatever the rules say.
func (r *Recorded) byHand() bool { return r.Source == event.OwnSource && r.Type == event.TypeRun }

// paths are those that the event changed: as a diff found them when it was decided, or else those that it lists.
func (r *Recorded) paths(e *event.Event) event.Paths {
	changed, ok := event.Field(r.decision, "changed")
	if !ok {
		return e.ListedPaths()
	}
	var found []string
	list, _ := event.Field(changed, "paths")
	for path := range event.Elements(list) {
		found = append(found, event.Text(path))
	}
	p := e.FoundPaths(found)
	more, _ := event.Field(changed, "more")
	p.Complete = len(more) == 0 || string(more) == "0"
	return p
}

// event makes the event anew, without its views.
func (r *Recorded) event() *event.Event {
	e := &event.Event{
		ID: r.ID, Source: r.Source, Type: r.Type, ReceivedAt: r.ReceivedAt, Time: r.ReceivedAt,
		DeliveryID: event.Text(r.deliveryID), Subject: event.Text(r.subject), CausedBy: event.Text(r.causedBy),
	}
	if at, err := time.Parse(time.RFC3339Nano, event.Text(r.time)); err == nil {
		e.Time = at
	}
	for name, value := range event.Members(r.headers) {
		if e.Headers == nil {
			e.Headers = map[string]string{}
		}
		e.Headers[event.Text(name)] = event.Text(value)
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
