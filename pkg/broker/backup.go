package broker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// A backup is a tar: format.json, then of each stream NAME.json (its configuration and state) and parts NAME.0, NAME.1, … of
// its snapshot, and last the SHA-256 of all contents before it.
const (
	formatEntry = "format.json"
	digestEntry = "sha256"
	// partBytes is the size of a part, so that a stream of any length is copied in bounded memory.
	partBytes = 4 << 20
)

// streamInfo is what restoring a stream needs beside its content.
type streamInfo struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// Backup writes a copy of the embedded store while it works. All that was acknowledged before the call is in it. Journals
// are copied before the events they speak of, so a journal never points beyond the log; what the log has in addition is
// decided after a restore.
func (b *Broker) Backup(ctx context.Context, w io.Writer) error {
	b.backup.Lock()
	defer b.backup.Unlock()
	names, err := b.streams(ctx)
	if err != nil {
		return err
	}
	out := &backupWriter{tar: tar.NewWriter(w), sum: sha256.New()}
	text, _ := json.Marshal(format{Format}) // it always can
	if err := out.entry(formatEntry, text); err != nil {
		return err
	}
	for _, name := range names {
		if err := b.backupStream(ctx, name, out); err != nil {
			return fmt.Errorf("copy stream %s: %w", name, err)
		}
	}
	if err := out.entry(digestEntry, []byte(hex.EncodeToString(out.sum.Sum(nil)))); err != nil {
		return err
	}
	return out.tar.Close()
}

// streams lists the streams, the event log and its bodies last.
func (b *Broker) streams(ctx context.Context) ([]string, error) {
	var names []string
	lister := b.JetStream().StreamNames(ctx)
	for name := range lister.Name() {
		names = append(names, name)
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	rank := func(name string) int {
		switch {
		case name == keyStreams+CheckpointBucket: // a checkpoint speaks of the journal: it must not be the newer one
			return 0
		case name == EventStream:
			return 2
		case strings.HasPrefix(name, objectStreams):
			return 3
		}
		return 1
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return names, nil
}

type backupWriter struct {
	tar *tar.Writer
	sum hash.Hash
}

func (w *backupWriter) entry(name string, data []byte) error {
	if err := w.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600, ModTime: time.Now(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	w.sum.Write([]byte(name))
	w.sum.Write(data)
	_, err := w.tar.Write(data)
	return err
}

// backupStream copies one stream by JetStream's snapshot protocol: chunks come to an inbox and each is acknowledged; an
// empty one is the end (nats-server, JSApiStreamSnapshot).
func (b *Broker) backupStream(ctx context.Context, name string, out *backupWriter) error {
	conn := b.Conn()
	inbox := conn.NewRespInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	request, _ := json.Marshal(map[string]any{"deliver_subject": inbox, "no_consumers": true}) // it always can
	reply, err := conn.RequestWithContext(ctx, snapshotSubject+name, request)
	if err != nil {
		return err
	}
	var info struct {
		streamInfo
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return err
	}
	if info.Error != nil {
		return info.Error
	}
	text, err := json.Marshal(info.streamInfo)
	if err != nil {
		return err
	}
	if err := out.entry(name+".json", text); err != nil {
		return err
	}
	return copyChunks(ctx, sub, name, out)
}

func copyChunks(ctx context.Context, sub *nats.Subscription, name string, out *backupWriter) error {
	var part bytes.Buffer
	for n := 0; ; {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		if status := msg.Header.Get("Status"); len(msg.Data) == 0 && status != "" && status != "204" && status != "200" {
			return fmt.Errorf("the store ended the copy: %s %s", status, msg.Header.Get("Description"))
		}
		last := len(msg.Data) == 0
		part.Write(msg.Data)
		if part.Len() >= partBytes || last && part.Len() > 0 {
			if err := out.entry(fmt.Sprintf("%s.%d", name, n), part.Bytes()); err != nil {
				return err
			}
			part.Reset()
			n++
		}
		if last {
			return nil
		}
		if msg.Reply == "" { // the last chunk that is not a whole one; no acknowledgement is expected
			continue
		}
		if err := msg.Respond(nil); err != nil {
			return err
		}
	}
}

// Restore makes a store in dir, which must be empty or missing, from a backup. When it fails, nothing is left in dir.
func Restore(ctx context.Context, r io.Reader, dir string, log *slog.Logger) (err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: restore into a new directory", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(dir))
		}
	}()
	b, err := Open(ctx, Options{Dir: dir, Logger: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	in := &backupReader{tar: tar.NewReader(r), sum: sha256.New(), conn: b.Conn()}
	return in.restore(ctx)
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

type backupReader struct {
	tar  *tar.Reader
	sum  hash.Hash
	conn *nats.Conn

	stream  string // being restored
	deliver string // where its chunks go
}

// chunkBytes is the size of the messages that carry a snapshot.
const chunkBytes = 256 << 10

func (r *backupReader) restore(ctx context.Context) error {
	for n := 0; ; n++ {
		head, err := r.tar.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the backup is cut off: its end is missing")
		}
		if err != nil {
			return fmt.Errorf("read the backup: %w", err)
		}
		if head.Size > 2*partBytes {
			return fmt.Errorf("read the backup: part %s is larger than any that is written", head.Name)
		}
		data, err := io.ReadAll(r.tar)
		if err != nil {
			return fmt.Errorf("read the backup: %w", err)
		}
		switch {
		case n == 0:
			if err := checkBackupFormat(head.Name, data); err != nil {
				return err
			}
		case head.Name == digestEntry:
			if string(data) != hex.EncodeToString(r.sum.Sum(nil)) {
				return errors.New("the backup is damaged: its content does not match its digest")
			}
			return r.finish(ctx)
		case strings.HasSuffix(head.Name, ".json"):
			if err := r.begin(ctx, strings.TrimSuffix(head.Name, ".json"), data); err != nil {
				return err
			}
		default:
			if err := r.part(ctx, data); err != nil {
				return err
			}
		}
		r.sum.Write([]byte(head.Name))
		r.sum.Write(data)
	}
}

func checkBackupFormat(name string, data []byte) error {
	var f format
	if name != formatEntry || json.Unmarshal(data, &f) != nil {
		return errors.New("this is no backup of riposte")
	}
	if f.Format != Format {
		return fmt.Errorf("the backup has format %d, and this version of riposte reads %d: use the version that wrote it", f.Format, Format)
	}
	return nil
}

func (r *backupReader) begin(ctx context.Context, stream string, info []byte) error {
	if err := r.finish(ctx); err != nil {
		return err
	}
	reply, err := r.conn.RequestWithContext(ctx, restoreSubject+stream, info)
	if err != nil {
		return fmt.Errorf("restore stream %s: %w", stream, err)
	}
	var answer struct {
		Deliver string              `json:"deliver_subject"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("restore stream %s: %w", stream, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("restore stream %s: %w", stream, answer.Error)
	}
	r.stream, r.deliver = stream, answer.Deliver
	return nil
}

func (r *backupReader) part(ctx context.Context, data []byte) error {
	for chunk := range slices.Chunk(data, chunkBytes) {
		if err := r.chunk(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (r *backupReader) chunk(ctx context.Context, data []byte) error {
	reply, err := r.conn.RequestWithContext(ctx, r.deliver, data)
	if err != nil {
		return fmt.Errorf("restore stream %s: %w", r.stream, err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if len(reply.Data) > 0 && json.Unmarshal(reply.Data, &answer) == nil && answer.Error != nil {
		return fmt.Errorf("restore stream %s: %w", r.stream, answer.Error)
	}
	return nil
}

// finish ends the stream that is being restored, with an empty chunk.
func (r *backupReader) finish(ctx context.Context) error {
	if r.stream == "" {
		return nil
	}
	err := r.chunk(ctx, nil)
	r.stream = ""
	return err
}
