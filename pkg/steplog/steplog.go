// Package steplog keeps what the steps of runs have to say, redacted and bounded, in a stream of its own.
//
// Guarantees:
//   - Writing never waits for the store. Of each attempt of a step the first HeadBytes and about the last TailBytes are kept; what
//     is between them, and what a store that does not answer leaves no room for, is counted and left out.
//   - Secrets that the Redactor knows are masked, also where one is spread over several writes or cut by what is left out.
//   - What was written is in the store a second later (sooner while somebody follows the run), so that a crash loses no more.
//   - One goroutine, owned by the Store, redacts and stores for all steps; Close waits for it.
//   - The oldest is dropped when the stream is older than MaxAge or larger than MaxBytes.
//
// A Store is safe for concurrent use, as are its writers; a Reader belongs to one goroutine.
package steplog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/secret"
)

// What is kept of one attempt of a step, in bytes.
const (
	HeadBytes = 512 << 10
	TailBytes = 2 * tailPart
)

const (
	// tailPart is the size of one of the two halves of the end that is kept; they are written in turns.
	tailPart = 256 << 10
	// maxData bounds one message, which takes a whole half and its header.
	maxData = tailPart

	// maxMessages bounds the memory that the store's index takes.
	maxMessages = 200_000

	lazily     = time.Second // from a write to its place in the store
	publishers = 16          // messages on the way at once

	promptly = 100 * time.Millisecond // the same while somebody follows the run
	early    = 64 << 10               // bytes that do not wait for that

	answerTimeout = 2 * time.Second
	// giveUp is how long the end of a step's log waits for a store that does not answer.
	giveUp = time.Minute

	defaultMaxBytes = 512 << 20
	minMaxBytes     = 4 << 20
	defaultMaxAge   = 30 * 24 * time.Hour
	defaultBuffer   = 64 << 20
)

// Broker is what the store needs of the connection to JetStream.
type Broker interface {
	// JetStream returns the context to use now; it changes when an embedded server is restarted.
	JetStream() jetstream.JetStream
	// Replicas is how many servers keep each message.
	Replicas() int
}

// Options configure a Store.
type Options struct {
	Redactor    *secret.Redactor
	MaxBytes    int64         // of the stream; default 512 MiB, at least 4 MiB
	MaxAge      time.Duration // of what it holds; default 30 days
	BufferBytes int64         // of what is not stored yet, of all steps together; default 64 MiB
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

func (o *Options) withDefaults() error {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxAge == 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = defaultBuffer
	}
	switch {
	case o.Redactor == nil:
		return errors.New("steplog: option Redactor is required")
	case o.MaxBytes < minMaxBytes:
		return fmt.Errorf("steplog: option MaxBytes is %d: use %d or more", o.MaxBytes, minMaxBytes)
	case o.MaxAge < 0:
		return fmt.Errorf("steplog: option MaxAge is %s: use a positive duration", o.MaxAge)
	case o.BufferBytes < 0:
		return fmt.Errorf("steplog: option BufferBytes is %d: use a positive number", o.BufferBytes)
	case o.Logger == nil:
		return errors.New("steplog: option Logger is required")
	case o.Registerer == nil:
		return errors.New("steplog: option Registerer is required")
	}
	return nil
}

// Store keeps the logs of steps.
type Store struct {
	broker   Broker
	opts     Options
	metrics  *metrics
	buffered atomic.Int64 // bytes that are not stored yet

	wake    chan struct{}
	settles chan settle
	closing chan struct{}
	done    chan struct{}
	once    sync.Once

	mu       sync.Mutex
	dirty    map[*writer]bool // with something to store
	followed map[string]int   // readers that follow a run
}

// settle asks for all of a run's logs to be stored.
type settle struct {
	run  string
	done chan struct{}
}

// Open creates the stream on its first use and starts the goroutine that stores.
func Open(ctx context.Context, b Broker, o Options) (*Store, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	s := &Store{
		broker: b, opts: o, metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1), settles: make(chan settle),
		closing: make(chan struct{}), done: make(chan struct{}), dirty: map[*writer]bool{}, followed: map[string]int{},
	}
	_, err := b.JetStream().CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        broker.StepLogStream,
		Description: "Riposte: what steps had to say; parts 1 and 2 of a subject are the end of a long log",
		Subjects:    []string{broker.StepLogSubjects},
		Storage:     jetstream.FileStorage,
		Replicas:    b.Replicas(),
		MaxBytes:    o.MaxBytes,
		MaxAge:      o.MaxAge,
		MaxMsgs:     maxMessages,
		Discard:     jetstream.DiscardOld, // nothing rests on what is dropped
		AllowRollup: true,
		AllowDirect: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the steps' logs (stream %s): %w", broker.StepLogStream, err)
	}
	go s.work()
	return s, nil
}

// Close stores what is left, within ctx, and stops. What is written afterwards is lost; readers can go on.
func (s *Store) Close(ctx context.Context) error {
	s.once.Do(func() { close(s.closing) })
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store the last of the steps' logs: %w", ctx.Err())
	}
}

// Step returns what takes the log of an attempt of a step; close it at the attempt's end. Both its methods return no error.
func (s *Store) Step(runID string, phase run.Phase, step string, attempt int) io.WriteCloser {
	return newWriter(s, runID, label{Phase: phase, Step: step, Attempt: attempt})
}

// work stores what has waited long enough, until the store is closed.
func (s *Store) work() {
	defer close(s.done)
	for {
		wait := s.flush(time.Now(), "")
		select {
		case <-s.closing:
			s.flush(time.Now().Add(24*time.Hour), "") // everything is due
			return
		case ask := <-s.settles:
			s.flush(time.Now(), ask.run)
			close(ask.done)
		case <-s.wake:
		case <-time.After(wait):
		}
	}
}

// poke wakes the goroutine that stores.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settled waits until what a run's steps have said up to now is stored, or could not be.
func (s *Store) settled(ctx context.Context, runID string) {
	ask := settle{runID, make(chan struct{})}
	select {
	case s.settles <- ask:
	case <-s.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-ask.done:
	case <-ctx.Done():
	}
}

// flush stores what is due, and all of the run, and returns after what time there is more to do.
func (s *Store) flush(now time.Time, runID string) time.Duration {
	due, wait := s.due(now, runID)
	for batch := range slices.Chunk(due, publishers) {
		if !s.send(batch) {
			return lazily // nobody waits for a store that does not answer
		}
	}
	return wait
}

// due takes the writers whose bytes have waited long enough, and says when the next ones will have.
func (s *Store) due(now time.Time, runID string) (due []*writer, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	for w := range s.dirty {
		left := w.dueIn(now, s.followed[w.run] > 0)
		if left <= 0 || w.run == runID {
			due = append(due, w)
			continue
		}
		wait = min(wait, left)
	}
	return due, wait
}

// send stores what the writers hold, and reports whether the store took it. What it did not is kept for the next time.
func (s *Store) send(writers []*writer) bool {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	js := s.broker.JetStream()
	stored := make([]int, len(writers))
	var group sync.WaitGroup
	for i, w := range writers {
		w.prepare()
		group.Go(func() { stored[i] = s.publish(ctx, js, w) })
	}
	group.Wait()
	all := true
	for i, w := range writers {
		all = s.settle(w, stored[i]) && all
	}
	return all
}

// publish returns how many of a writer's messages are stored. An outcome that is unknown counts as none: readers know parts
// that they have seen.
func (s *Store) publish(ctx context.Context, js jetstream.JetStream, w *writer) int {
	for n, msg := range w.unsent {
		if _, err := js.PublishMsg(ctx, msg, jetstream.WithExpectStream(broker.StepLogStream)); err != nil {
			s.opts.Logger.Debug("a part of a step's log was not stored; it is tried again", "run", w.run, "error", err)
			return n
		}
	}
	return len(w.unsent)
}

// settle forgets the messages of a writer that are stored, and the writer once it holds nothing more.
func (s *Store) settle(w *writer, stored int) bool {
	w.sent(stored)
	if n := len(w.unsent); n > 0 && w.expired(time.Now()) {
		s.opts.Logger.Warn("the end of a step's log could not be stored", "run", w.run, "step", w.label.Step, "messages", n)
		s.metrics.failed.Inc()
		w.sent(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.clean() {
		delete(s.dirty, w)
	}
	return len(w.unsent) == 0
}
