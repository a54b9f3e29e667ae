package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Active names a set of rules: its revision, and what tells two contents of one revision apart.
type Active struct {
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
}

// claim is what the store keeps.
type claim struct {
	Active
	State claimState `json:"state"`
}

type claimState string

const (
	claimTaken claimState = "taken" // a replica is about to append the activation, or has died meanwhile
	claimOpen  claimState = "open"  // whether the activation was appended is not known: whoever comes appends it
	claimDone  claimState = "done"
)

const (
	// claimTime is how long a replica may take for an activation before another one does it.
	claimTime = 10 * time.Second
	// activateTime bounds an activation, so that it ends before its claim does.
	activateTime = 5 * time.Second
)

// ErrOvertaken says that another set was activated since the one that is to follow: what is newer is not known.
var ErrOvertaken = errors.New("other rules were activated meanwhile")

// errClaimed says that another replica changed the claim in between.
var errClaimed = errors.New("another replica is activating rules")

// Active returns the set that was activated last, or is just being so; its zero value where none was.
func (l *Log) Active(ctx context.Context) (Active, error) {
	c, _, err := l.claimed(ctx)
	return c.Active, err
}

// Activate appends the record that makes a set, which must be stored, the active one for what follows in the log. Of any
// number of replicas that activate the same set at once, one appends it, and the others return once it has. An error
// leaves it to a later call, of any replica, to go on; one that wraps ErrOvertaken says that what was active was not
// after, the set that was active when the new one was read.
func (l *Log) Activate(ctx context.Context, set, after Active) error {
	for {
		c, entry, err := l.claimed(ctx)
		switch {
		case err != nil:
			return err
		case c.State == claimDone && c.Active == set:
			return nil
		}
		if c.State == claimTaken {
			if left := time.Until(entry.Created().Add(claimTime)); left > 0 {
				if err := pause(ctx, min(left, 100*time.Millisecond)); err != nil {
					return fmt.Errorf("%w: %w", errClaimed, err)
				}
				continue
			}
		}
		if c.Active != set && c.Active != after {
			return fmt.Errorf("%w: %.12s", ErrOvertaken, c.Revision)
		}
		err = l.activate(ctx, set, entry)
		if !errors.Is(err, errClaimed) {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// activate claims the activation, appends it and says that it is done.
func (l *Log) activate(ctx context.Context, set Active, before jetstream.KeyValueEntry) error {
	ctx, cancel := context.WithTimeout(ctx, activateTime)
	defer cancel()
	var last uint64
	if before != nil {
		last = before.Revision()
	}
	taken, err := l.setClaim(ctx, claim{set, claimTaken}, last)
	if err != nil {
		return err
	}
	_, err = l.Append(ctx, []event.Record{{
		Kind:  event.KindActivate,
		Event: &event.Event{ID: event.RandomID(), Subject: set.Revision, DeliveryID: set.Digest, ReceivedAt: l.opts.Now()},
	}})
	if err != nil {
		_, _ = l.setClaim(context.WithoutCancel(ctx), claim{set, claimOpen}, taken) // otherwise the claim ends by its age
		return err
	}
	if _, err = l.setClaim(ctx, claim{set, claimDone}, taken); errors.Is(err, errClaimed) {
		return l.reopen(ctx)
	}
	return err
}

// reopen is for a replica so slow that another one took over: which record came last is not known, so that of the claim is
// appended once more.
func (l *Log) reopen(ctx context.Context) error {
	c, entry, err := l.claimed(ctx)
	if err != nil {
		return err
	}
	if _, err = l.setClaim(ctx, claim{c.Active, claimOpen}, entry.Revision()); err != nil {
		return err
	}
	return errClaimed
}

func (l *Log) claimed(ctx context.Context) (claim, jetstream.KeyValueEntry, error) {
	kv, err := l.activeBucket(ctx)
	if err != nil {
		return claim{}, nil, err
	}
	entry, err := kv.Get(ctx, broker.ActiveRules)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return claim{}, nil, nil
	}
	if err != nil {
		return claim{}, nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	var c claim
	if err := json.Unmarshal(entry.Value(), &c); err != nil {
		return claim{}, nil, fmt.Errorf("read which rules are active: %w", err)
	}
	return c, entry, nil
}

// setClaim writes a claim if the last one is still that of the sequence; 0 is none.
func (l *Log) setClaim(ctx context.Context, c claim, last uint64) (seq uint64, err error) {
	kv, err := l.activeBucket(ctx)
	if err != nil {
		return 0, err
	}
	text, _ := json.Marshal(c) // it always can
	seq, err = kv.Update(ctx, broker.ActiveRules, text, last)
	switch {
	case err == nil:
		return seq, nil
	case broker.Refused(err):
		return 0, errClaimed
	}
	return 0, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
}

func (l *Log) activeBucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := l.broker.JetStream().KeyValue(ctx, broker.ActiveBucket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrLogUnavailable, err)
	}
	return kv, nil
}
