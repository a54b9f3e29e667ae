package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// OpenObjects makes a bucket of objects, or gives the one there is its configuration. It differs from what the client would
// make (nats.go v1.55.0, jetstream/object.go) in a cluster: there only the leader is asked what is in the bucket. The
// others can lag behind, and would say of what was just stored that it is not there.
func OpenObjects(ctx context.Context, js jetstream.JetStream, cfg jetstream.ObjectStoreConfig) error {
	bytes := cfg.MaxBytes
	if bytes == 0 {
		bytes = -1
	}
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: ObjectStream(cfg.Bucket), Description: cfg.Description, Subjects: []string{"$O." + cfg.Bucket + ".C.>", "$O." + cfg.Bucket + ".M.>"},
		MaxBytes: bytes, Storage: cfg.Storage, Replicas: cfg.Replicas, Discard: jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: cfg.Replicas == 1,
	})
	if err != nil {
		return fmt.Errorf("open object store %s: %w", cfg.Bucket, err)
	}
	return nil
}

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
