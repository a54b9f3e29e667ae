package steplog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Chunk is a part of what an attempt of a step had to say. It may begin and end inside a line, but not inside a character.
type Chunk struct {
	At      time.Time // when it was stored
	Phase   run.Phase
	Step    string
	Attempt int
	// Omitted is how many bytes are left out before Text; Text may be empty then.
	Omitted int64
	Text    string
}

// Reader reads the logs of one run's steps in the order they were stored. Close it.
type Reader struct {
	store  *Store
	run    string
	after  uint64
	ends   map[string]int64 // by writer: where what was read ends
	follow bool

	js     jetstream.JetStream
	stream jetstream.Stream
}

// Reader returns a reader of a run's logs from their beginning. What was written on this replica before the call is among
// what it reads. One that follows has what is written on this replica stored promptly until it is closed.
func (s *Store) Reader(ctx context.Context, runID string, follow bool) *Reader {
	r := &Reader{store: s, run: runID, ends: map[string]int64{}, follow: follow}
	if follow {
		s.mu.Lock()
		s.followed[runID]++
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	s.settled(ctx, runID)
	return r
}

// Close says that nobody reads any more.
func (r *Reader) Close() {
	if !r.follow {
		return
	}
	r.follow = false
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followed[r.run]--; s.followed[r.run] == 0 {
		delete(s.followed, r.run)
	}
}

// Next returns the next chunk that is stored, or false where there is none now; more may come. An error wraps
// event.ErrLogUnavailable.
func (r *Reader) Next(ctx context.Context) (Chunk, bool, error) {
	for {
		msg, err := r.message(ctx)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return Chunk{}, false, nil
		case err != nil:
			return Chunk{}, false, fmt.Errorf("%w: read the logs of run %s: %w", event.ErrLogUnavailable, r.run, err)
		}
		r.after = msg.Sequence
		if c, ok := r.chunk(msg); ok {
			return c, true, nil
		}
	}
}

func (r *Reader) message(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if js := r.store.broker.JetStream(); js != r.js {
		stream, err := js.Stream(ctx, broker.StepLogStream)
		if err != nil {
			return nil, err
		}
		r.js, r.stream = js, stream
	}
	return r.stream.GetMsg(ctx, r.after+1, jetstream.WithGetMsgSubject(broker.StepLogsOf(r.run)))
}

// chunk reads a message, unless it was stored twice.
func (r *Reader) chunk(msg *jetstream.RawStreamMsg) (Chunk, bool) {
	var l label
	if json.Unmarshal([]byte(msg.Header.Get(labelHeader)), &l) != nil {
		return Chunk{}, false // a later version's
	}
	writer := msg.Subject[:strings.LastIndexByte(msg.Subject, '.')]
	omitted := l.From - r.ends[writer]
	if omitted < 0 {
		return Chunk{}, false
	}
	r.ends[writer] = l.From + int64(len(msg.Data))
	return Chunk{At: l.At, Phase: l.Phase, Step: l.Step, Attempt: l.Attempt, Omitted: omitted, Text: string(msg.Data)}, true
}
