package broker

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// CheckFormat and ClaimFormat are what another version does.
var CheckFormat = checkFormat

func ClaimFormat(ctx context.Context, b *Broker, kv jetstream.KeyValue, known int) error {
	return b.claimFormat(ctx, kv, known)
}
