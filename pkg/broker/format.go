package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
)

// Format is the number of all that is stored together: the streams, their names and what is in them. It grows when what is
// written can't be read by the versions before; a version reads the formats from 1 to its own.
const Format = 1

// format is the record that says which format a store has: a file in a data directory, a key in a NATS cluster.
type format struct {
	Format int `json:"format"`
}

// readFormat tells from the record of a store, which a place names, whether the formats up to known can be read, and whether the
// record is to be raised because what will be written is newer.
func readFormat(place string, text []byte, known int) (raise bool, err error) {
	var f format
	if err := json.Unmarshal(text, &f); err != nil {
		return false, fmt.Errorf("the record of the format of %s is damaged: %w: restore it from a backup", place, err)
	}
	switch {
	case f.Format > known:
		return false, fmt.Errorf("%s has format %d, and this version of riposte knows formats up to %d: use the newer version that wrote it", place, f.Format, known)
	case f.Format < 1:
		return false, fmt.Errorf("%s names format %d, which never existed: restore it from a backup", place, f.Format)
	}
	return f.Format < known, nil
}

// checkFormat refuses a directory that a newer version wrote, and marks one that is new or older.
func checkFormat(dir string, known int) error {
	name := filepath.Join(dir, "format.json")
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the data directory: %w", err)
	default:
		if raise, err := readFormat("data directory "+dir, text, known); err != nil || !raise {
			return err
		}
	}
	text, _ = json.Marshal(format{known})                                        // it always can
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil { // renamed: half a file would be refused for good
		return unusable(dir, err)
	}
	return os.Rename(name+".new", name)
}

// claimFormat does the same for the store of a cluster. Of several replicas that find none, one writes the record.
func (b *Broker) claimFormat(ctx context.Context, kv jetstream.KeyValue, known int) error {
	place := "the store in NATS at " + redactURL(b.opts.URL)
	text, _ := json.Marshal(format{known}) // it always can
	for {
		entry, err := kv.Get(ctx, FormatKey)
		var last uint64
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return fmt.Errorf("read which format %s has: %w", place, err)
		default:
			if raise, err := readFormat(place, entry.Value(), known); err != nil || !raise {
				return err
			}
			last = entry.Revision()
		}
		if _, err = kv.Update(ctx, FormatKey, text, last); err == nil {
			return nil
		}
		if !Refused(err) {
			return fmt.Errorf("write which format %s has: %w", place, err)
		}
	}
}

// Refused reports whether a write was declined because its predecessor is another one than it names. Servers with replicated
// streams have a code of their own for it.
// Source: nats.go v1.55.0, jetstream/errors.go.
func Refused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
