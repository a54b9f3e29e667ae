package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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

// objectTime bounds the reading of an object, whose content may be gone already while its description is still there.
const objectTime = 30 * time.Second

// ReadObject returns what an object holds, whole and as it was stored, or an error that wraps jetstream.ErrObjectNotFound. (The
// client's own reader waits ten seconds where its server is gone, and takes what a server that lags behind has for all:
// nats.go v1.55.0, jetstream/object.go.)
func ReadObject(ctx context.Context, js jetstream.JetStream, bucket, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTime)
	defer cancel()
	stream, err := js.Stream(ctx, ObjectStream(bucket))
	if err != nil {
		return nil, fmt.Errorf("read object %s of bucket %s: %w", name, bucket, err)
	}
	_, description := ObjectSubjects(bucket, name, "")
	msg, err := stream.GetLastMsgForSubject(ctx, description)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = jetstream.ErrObjectNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read object %s of bucket %s: %w", name, bucket, err)
	}
	var info jetstream.ObjectInfo
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		return nil, fmt.Errorf("read object %s of bucket %s: its description is damaged: %w", name, bucket, err)
	}
	if info.Deleted {
		return nil, fmt.Errorf("read object %s of bucket %s: %w", name, bucket, jetstream.ErrObjectNotFound)
	}
	content, err := readContent(ctx, js, bucket, &info)
	if err != nil {
		return nil, fmt.Errorf("read object %s of bucket %s: %w", name, bucket, err)
	}
	return content, nil
}

// errWhole ends the reading of an object that is complete.
var errWhole = errors.New("all is read")

func readContent(ctx context.Context, js jetstream.JetStream, bucket string, info *jetstream.ObjectInfo) ([]byte, error) {
	content := make([]byte, 0, info.Size)
	if info.Size > 0 {
		subject, _ := ObjectSubjects(bucket, info.Name, info.NUID)
		err := Read(ctx, js, From{Stream: ObjectStream(bucket), Subject: subject}, func(m Message) error {
			content = append(content, m.Data...)
			if uint64(len(content)) >= info.Size {
				return errWhole
			}
			return nil
		})
		if !errors.Is(err, errWhole) {
			return nil, err
		}
	}
	sum := sha256.Sum256(content)
	if info.Digest != "SHA-256="+base64.URLEncoding.EncodeToString(sum[:]) { // ADR-20
		return nil, jetstream.ErrDigestMismatch
	}
	return content, nil
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
