package broker

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// FirstSince returns the sequence from which on a stream's messages were stored at the time or later. All of the stream's
// subjects must match subject.
func FirstSince(ctx context.Context, stream jetstream.Stream, subject string, t time.Time) (uint64, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	state := info.State
	if state.Msgs == 0 {
		return state.LastSeq + 1, nil
	}
	var failed error
	n := sort.Search(int(state.LastSeq-state.FirstSeq+1), func(i int) bool {
		if failed != nil {
			return true
		}
		msg, err := stream.GetMsg(ctx, state.FirstSeq+uint64(i), jetstream.WithGetMsgSubject(subject))
		if err != nil {
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				failed = err
			}
			return true // beyond the last one
		}
		return !msg.Time.Before(t)
	})
	return state.FirstSeq + uint64(n), failed
}
