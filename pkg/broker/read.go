package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readAhead is how many messages a reader holds in memory that it has not handled yet. A bound on their bytes would make
	// the server end each request with a status message, for which the client has no room when it is behind: it drops
	// messages then and begins again.
	readAhead = 64
	// readBeat is how often the server shows that it still has a reader; one that it lost is noticed after two of them.
	readBeat = 2 * time.Second
	// readOpen bounds the making of a reader, which nobody answers where it was given to a server that is gone.
	readOpen = 3 * time.Second
	// readIdle is after what time the server forgets a reader that asks for nothing more.
	readIdle = 30 * time.Second
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

// errGap says that messages were lost on the way to the client.
var errGap = errors.New("messages are missing")

// Read calls fn with messages in order and without gaps, and then with new ones as they come, until ctx ends, fn fails or the
// store can't be read; fn's own error is returned as it is. A reader that its server lost is replaced by one with another
// name, so that it can be given to another server. (The client's ordered consumer asks for the same name again, and waits
// for the server that is gone: nats.go v1.55.0, jetstream/ordered.go.)
func Read(ctx context.Context, js jetstream.JetStream, from From, fn func(Message) error) error {
	for {
		err := readOnce(ctx, js, &from, fn)
		lost := errors.Is(err, errGap) || errors.Is(err, jetstream.ErrNoHeartbeat) || errors.Is(err, jetstream.ErrConsumerDeleted) ||
			errors.Is(err, jetstream.ErrConsumerLeadershipChanged)
		if ctx.Err() != nil || !lost {
			return err
		}
	}
}

// readOnce reads with one reader, and moves from on.
func readOnce(ctx context.Context, js jetstream.JetStream, from *From, fn func(Message) error) error {
	opening, cancel := context.WithTimeout(ctx, readOpen)
	defer cancel()
	consumer, err := js.CreateConsumer(opening, from.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from.Seq, 1), FilterSubject: from.Subject,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readIdle,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", from.Stream, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(readAhead), jetstream.PullExpiry(5*readBeat), jetstream.PullHeartbeat(readBeat))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", from.Stream, err)
	}
	defer messages.Stop()
	for delivered := uint64(1); ; delivered++ {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", from.Stream, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", from.Stream, err)
		}
		if meta.Sequence.Consumer != delivered {
			return errGap
		}
		from.Seq = meta.Sequence.Stream + 1
		if err := fn(Message{meta.Sequence.Stream, meta.NumPending, msg.Subject(), msg.Data()}); err != nil {
			return err
		}
	}
}
