package broker

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// PurgeObject removes an object's messages themselves: ObjectStore.Delete writes a marker, which takes room in the bucket and
// stays there for good. The description goes last, so that what is left when this fails is found again.
func PurgeObject(ctx context.Context, js jetstream.JetStream, bucket string, o *jetstream.ObjectInfo) error {
	stream, err := js.Stream(ctx, ObjectStream(bucket))
	if err != nil {
		return err
	}
	content, description := ObjectSubjects(bucket, o.Name, o.NUID)
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(content)); err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(description))
}
