package runstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
)

// reviewPauses is how often all pauses are read again, so that a watch which died unseen is not believed for long.
const reviewPauses = 10 * time.Second

// Pauses are the pauses that people ordered. They outlive the process and hold in the whole cluster: what one replica is
// told the others know within moments, and one that can't know says so by Ready. Its methods are safe for concurrent use;
// Follow is called once.
type Pauses struct {
	store *Store

	mu      sync.Mutex
	by      map[string]run.Pause // by rule; "" is all
	problem error
}

// OpenPauses reads the pauses there are; until Follow runs they stay as they are.
func OpenPauses(ctx context.Context, s *Store) (*Pauses, error) {
	p := &Pauses{store: s, by: map[string]run.Pause{}}
	cfg := jetstream.KeyValueConfig{Bucket: broker.PauseBucket, Description: "Riposte: rules that are paused", Storage: jetstream.FileStorage, Replicas: s.broker.Replicas()}
	if _, err := s.broker.JetStream().CreateOrUpdateKeyValue(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Bucket, err)
	}
	opening, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := p.watch(opening, func() bool { return false }); err != nil {
		return nil, fmt.Errorf("read which rules are paused: %w", err)
	}
	return p, nil
}

// Follow takes note of what any replica is told, until ctx ends.
func (p *Pauses) Follow(ctx context.Context) error {
	for {
		began := time.Now()
		err := p.watch(ctx, func() bool { return time.Since(began) < reviewPauses })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		p.mu.Lock()
		p.problem = err
		p.mu.Unlock()
		if err == nil {
			continue
		}
		p.store.opts.Logger.Warn("which rules are paused can't be followed; it is tried again", "in", rereadAfter, "error", err)
		select {
		case <-time.After(rereadAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch reads all pauses, and then what changes, for as long as on says.
func (p *Pauses) watch(ctx context.Context, on func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kv, err := p.bucket(ctx)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, broker.PauseBucket, err)
	}
	defer func() { _ = w.Stop() }() // it fails only when it has ended
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	limit := time.After(p.store.timeout)
	for all, complete := map[string]run.Pause{}, false; ; {
		select {
		case e, open := <-w.Updates():
			switch {
			case !open:
				return fmt.Errorf("%w: the watch of bucket %s ended", ErrUnavailable, broker.PauseBucket)
			case e == nil:
				complete = true
				p.replace(all)
				if !on() {
					return nil
				}
			case complete:
				p.mu.Lock()
				p.fold(p.by, e)
				p.mu.Unlock()
			default:
				p.fold(all, e)
			}
		case <-tick.C:
			if complete && !on() {
				return nil
			}
		case <-limit:
			if !complete {
				return fmt.Errorf("%w: bucket %s does not answer", ErrUnavailable, broker.PauseBucket)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *Pauses) replace(all map[string]run.Pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by, p.problem = all, nil
}

// fold takes note of one key. What can't be read pauses: whoever wrote it wanted that.
func (p *Pauses) fold(into map[string]run.Pause, e jetstream.KeyValueEntry) {
	name, ok := broker.KeyRule(e.Key())
	switch {
	case !ok:
	case e.Operation() != jetstream.KeyValuePut:
		delete(into, name)
	default:
		pause := run.Pause{}
		if err := json.Unmarshal(e.Value(), &pause); err != nil {
			pause = run.Pause{By: "somebody", Reason: "what was written of it can't be read"}
		}
		pause.Rule = name
		into[name] = pause
	}
}

// Ready says why it is not known which rules are paused, or nil.
func (p *Pauses) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problem != nil {
		return fmt.Errorf("which rules are paused is not known for sure: %w", p.problem)
	}
	return nil
}

// List returns the pauses that hold at a time: that of all rules first, then by rule.
func (p *Pauses) List(now time.Time) []run.Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.SortedFunc(maps.Values(p.by), func(a, b run.Pause) int { return strings.Compare(a.Rule, b.Rule) })
	return slices.DeleteFunc(list, func(one run.Pause) bool { return !one.Holds(now) })
}

// Of returns the pause that holds for a rule at a time.
func (p *Pauses) Of(rule string, now time.Time) (run.Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range []string{rule, ""} {
		if one, ok := p.by[name]; ok && one.Holds(now) {
			return one, true
		}
	}
	return run.Pause{}, false
}

// Put pauses a rule, or all; it replaces what was said of it before.
func (p *Pauses) Put(ctx context.Context, one run.Pause) error {
	return p.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		text, err := json.Marshal(one)
		if err == nil {
			_, err = kv.Put(ctx, broker.PauseKey(one.Rule), text)
		}
		if err == nil {
			p.mu.Lock()
			p.by[one.Rule] = one
			p.mu.Unlock()
		}
		return err
	})
}

// Remove lets a rule go on, or all that were paused as such; others stay paused.
func (p *Pauses) Remove(ctx context.Context, rule string) error {
	return p.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		err := kv.Delete(ctx, broker.PauseKey(rule))
		if err == nil || errors.Is(err, jetstream.ErrKeyNotFound) {
			p.mu.Lock()
			delete(p.by, rule)
			p.mu.Unlock()
			return nil
		}
		return err
	})
}

func (p *Pauses) write(ctx context.Context, do func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.store.timeout)
	defer cancel()
	kv, err := p.bucket(ctx)
	if err == nil {
		err = do(ctx, kv)
	}
	if err != nil {
		return fmt.Errorf("%w: write which rules are paused: %w", ErrUnavailable, err)
	}
	return nil
}

func (p *Pauses) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := p.store.broker.JetStream().KeyValue(ctx, broker.PauseBucket)
	if err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, broker.PauseBucket, err)
	}
	return kv, nil
}
