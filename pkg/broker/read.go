package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readAhead is how many messages a reader asks for at once, and holds in memory at most.
	readAhead = 64
	// readBeat is how often the server shows that it still has a reader; one that it lost is noticed after two of them.
	readBeat = time.Second
	// readWait is how long the server keeps a request for messages that are not there yet.
	readWait = 10 * time.Second
	// readOpen bounds the making of a reader, which nobody answers where it was given to a server that is gone.
	readOpen = 3 * time.Second
	// readIdle is after what time the server forgets a reader that asks for nothing more.
	readIdle = 30 * time.Second
	// readAgain is the time between a reader that was lost and the next one.
	readAgain = 50 * time.Millisecond
)

// From says what is read: the messages of a stream with subjects that match, from a sequence on.
type From struct {
	Stream, Subject string
	Seq             uint64
}

// Message is one that is read. Pending is how many there were behind it.
type Message struct {
	Seq, Pending uint64
	Subject      string
	Data         []byte
}

// errLost says that a reader does not deliver any more, or not all.
var errLost = errors.New("the server has lost its reader")

// Read calls fn with messages in order and without gaps, and then with new ones as they come, until ctx ends, fn fails or the
// store can't be read; fn's own error is returned as it is. A reader that its server lost is replaced by one with another
// name, so that it can be given to another server. (The client's ordered consumer asks for the same name again and waits
// for the server that is gone; its iterators wait for two heartbeats where a server does not know of a new reader yet:
// nats.go v1.55.0, jetstream/ordered.go and pull.go.)
func Read(ctx context.Context, js jetstream.JetStream, from From, fn func(Message) error) error {
	for {
		err := readOnce(ctx, js, &from, fn)
		if ctx.Err() != nil || !errors.Is(err, errLost) {
			return err
		}
		select {
		case <-time.After(readAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readOnce reads with one reader, and moves from on.
func readOnce(ctx context.Context, js jetstream.JetStream, from *From, fn func(Message) error) error {
	opening, cancel := context.WithTimeout(ctx, readOpen)
	defer cancel()
	reader, err := js.CreateConsumer(opening, from.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from.Seq, 1), FilterSubject: from.Subject,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readIdle,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", from.Stream, err)
	}
	known := false // the server that this client is connected to has heard of the reader
	for delivered := uint64(0); ; {
		n, err := fetch(ctx, reader, delivered, from, fn)
		delivered += n
		switch {
		case errors.Is(err, nats.ErrNoResponders) && !known && opening.Err() == nil:
			time.Sleep(5 * time.Millisecond)
		case errors.Is(err, nats.ErrNoResponders):
			return fmt.Errorf("%w: %w", errLost, err)
		case err != nil:
			return err
		default:
			known = true
		}
	}
}

// fetch asks once for messages and hands them to fn. delivered is how many this reader has had before, and n how many came now.
func fetch(ctx context.Context, reader jetstream.Consumer, delivered uint64, from *From, fn func(Message) error) (n uint64, err error) {
	waiting, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	opts := []jetstream.FetchOpt{jetstream.FetchContext(waiting)}
	if deadline, _ := waiting.Deadline(); time.Until(deadline) > 3*readBeat { // the client wants to wait for more than two
		opts = append(opts, jetstream.FetchHeartbeat(readBeat))
	}
	batch, err := reader.Fetch(readAhead, opts...)
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", from.Stream, err)
	}
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return n, fmt.Errorf("read stream %s: %w", from.Stream, err)
		}
		if n++; meta.Sequence.Consumer != delivered+n {
			return n, fmt.Errorf("%w: messages are missing before %d", errLost, meta.Sequence.Stream)
		}
		from.Seq = meta.Sequence.Stream + 1
		if err := fn(Message{meta.Sequence.Stream, meta.NumPending, msg.Subject(), msg.Data()}); err != nil {
			return n, err
		}
	}
	switch err := batch.Error(); {
	case ctx.Err() != nil:
		return n, ctx.Err()
	case err == nil || errors.Is(err, context.DeadlineExceeded): // there is nothing new
		return n, nil
	case errors.Is(err, nats.ErrNoResponders):
		return n, err
	default:
		return n, fmt.Errorf("%w: %w", errLost, err)
	}
}
