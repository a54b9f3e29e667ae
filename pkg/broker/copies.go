package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// wantCopies of each message are kept where there are servers enough: one of three can be lost.
const wantCopies = 3

const (
	// askTime bounds what is asked of a cluster at once. A request that meets an election, or a server that is just gone, is
	// lost, and is made again after askAgain.
	askTime  = 4 * time.Second
	askAgain = 200 * time.Millisecond
)

// patiently repeats what nobody answers until its context ends.
func patiently(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			asking, cancel := context.WithTimeout(ctx, askTime)
			err := ask(asking)
			cancel()
			if err == nil || !unanswered(err) {
				return err
			}
			select {
			case <-time.After(askAgain):
			case <-ctx.Done():
				return err
			}
		}
	}
}

// unanswered reports whether a request failed because nobody who could answer it was there.
func unanswered(err error) bool {
	const notAvailable = 10008 // nats-server v2.15.2, server/errors.json
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) && api.ErrorCode == notAvailable
}

// useCluster finds out how many copies the cluster keeps, and whether the store that it holds can be used.
//
// An account is not told how many servers there are, so the bucket of the format, which is small, is made or given as many
// copies as we want: the cluster declines what it can't keep. A cluster that misses a server for now declines too, so what
// is there already never gets fewer copies.
func (b *Broker) useCluster(ctx context.Context) error {
	have, err := b.copiesOf(ctx, keyStreams+FormatBucket)
	if err != nil {
		return err
	}
	events, err := b.copiesOf(ctx, EventStream)
	if err != nil {
		return err
	}
	kv, copies, err := b.formatBucket(ctx, have)
	if err != nil {
		return err
	}
	b.replicas = max(copies, events)
	if events > 0 && events < b.replicas {
		b.opts.Logger.Info("the cluster has more servers than before: streams get more copies", "before", events, "now", b.replicas)
	}
	return b.claimFormat(ctx, kv, Format)
}

// copiesOf returns how many copies a stream has, 0 where there is no such stream.
func (b *Broker) copiesOf(ctx context.Context, name string) (int, error) {
	stream, err := b.JetStream().Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", name, err)
	}
	return stream.CachedInfo().Config.Replicas, nil
}

// formatBucket opens the bucket of the format, which has so many copies, with as many as the cluster can keep.
func (b *Broker) formatBucket(ctx context.Context, have int) (kv jetstream.KeyValue, copies int, err error) {
	for _, copies = range []int{max(have, wantCopies), max(have, 1)} {
		cfg := jetstream.KeyValueConfig{Bucket: FormatBucket, Description: "Riposte: the format of the store", Storage: jetstream.FileStorage, Replicas: copies}
		if kv, err = b.JetStream().CreateOrUpdateKeyValue(ctx, cfg); err == nil {
			return kv, copies, nil
		}
		if !fewServers(err) {
			break
		}
	}
	return nil, 0, fmt.Errorf("open bucket %s: %w", FormatBucket, err)
}

// fewServers reports whether a stream was declined because the cluster has fewer servers, or fewer that are up, than it asks for.
// Source: nats-server v2.15.2, server/errors.json and server/jetstream_cluster.go.
func fewServers(err error) bool {
	const (
		noPeers              = 10005
		insufficient         = 10023
		replicasNotUpdatable = 10061
		notClustered         = 10074
	)
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case noPeers, insufficient, replicasNotUpdatable, notClustered:
		return true
	}
	return false
}
