package broker

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Full reports whether JetStream declined a write for want of room, so that nothing was written. A failure of the store
// behind a stream has one code whatever it was: of those only the text tells.
// Source: nats-server v2.15.2, server/errors.json and server/store.go.
func Full(err error) bool {
	const (
		insufficientResources = 10023
		storageExceeded       = 10047
		storeFailed           = 10077
		maxBytesText          = "maximum bytes exceeded"
	)
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case insufficientResources, storageExceeded:
		return true
	case storeFailed:
		return api.Description == maxBytesText
	}
	return false
}
