// Package broker opens JetStream: a server inside this process on a directory, or a NATS cluster by URL. What stands above
// it is the same for both.
//
// Embedded, every write is on the disk before it is acknowledged (fsync for each), the directory belongs to one process at
// a time, and nothing is accepted while free space is under a reserve. A disk that filled up leaves JetStream answering
// nothing; then the broker says so, waits for space and restarts the server inside the process, after which JetStream
// returns another handle. A Broker is safe for concurrent use.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Options configure a Broker.
type Options struct {
	Dir string // data directory; the embedded store is below it
	URL string // of a NATS cluster; empty embeds a server
	// Monitoring are addresses of the cluster's HTTP monitoring, which tell whether its servers sync. They may be left out.
	Monitoring []string
	// AllowLazySync takes servers that are known not to sync each write; what was accepted can then be lost with a machine.
	AllowLazySync bool
	// ReserveBytes of free space are left on the disk; 0 is the larger of 1 GiB and 5 % of the disk. Embedded only.
	ReserveBytes int64
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
	// FreeSpace returns the free and the total bytes of the disk that holds a path; nil asks the system.
	FreeSpace func(path string) (free, total uint64, err error)
}

func (o *Options) withDefaults() error {
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	switch {
	case o.Dir == "":
		return errors.New("broker: option Dir is required")
	case o.ReserveBytes < 0:
		return fmt.Errorf("broker: option ReserveBytes is %d: use 0 or more", o.ReserveBytes)
	case o.Logger == nil:
		return errors.New("broker: option Logger is required")
	case o.Registerer == nil:
		return errors.New("broker: option Registerer is required")
	}
	return nil
}

// Broker is an open JetStream.
type Broker struct {
	opts  Options
	lock  *os.File
	space *space

	suspicion chan struct{}
	closing   chan struct{}
	done      chan struct{}
	problem   atomic.Pointer[error]
	replicas  int
	closeOnce sync.Once
	closeErr  error
	backup    sync.RWMutex // read while something is purged, held by a backup

	mu     sync.Mutex
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

// Open starts the embedded server, or connects to the cluster.
func Open(ctx context.Context, o Options) (_ *Broker, err error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{opts: o, replicas: 1, suspicion: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	if o.URL != "" {
		if err := b.connect(ctx); err != nil {
			return nil, err
		}
		close(b.done)
		return b, nil
	}
	if b.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.lock.Close())
		}
	}()
	if err = checkFormat(o.Dir, Format); err != nil {
		return nil, err
	}
	b.space = &space{path: o.Dir, reserve: o.ReserveBytes, ask: o.FreeSpace}
	if err = b.start(); err != nil {
		return nil, err
	}
	go b.recoverer()
	return b, nil
}

// start starts a server on the directory and connects to it inside the process.
func (b *Broker) start() error {
	s, err := server.NewServer(&server.Options{
		ServerName: "riposte", DontListen: true, NoSigs: true, JetStream: true, StoreDir: storeDir(b.opts.Dir), SyncAlways: true,
		JetStreamMaxStore: 1 << 50, // the streams have bounds of their own
	})
	if err != nil {
		return fmt.Errorf("start the embedded store in %s: %w", b.opts.Dir, err)
	}
	s.SetLoggerV2(serverLog{b.opts.Logger, b.Suspect}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(time.Minute) || !s.JetStreamEnabled() {
		stop(s)
		return fmt.Errorf("start the embedded store in %s: it did not become ready (is the directory writable and is there space?)", b.opts.Dir)
	}
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.Name("riposte"), nats.MaxReconnects(-1))
	if err == nil {
		err = b.use(conn)
	}
	if err != nil {
		stop(s)
		return fmt.Errorf("connect to the embedded store: %w", err)
	}
	b.mu.Lock()
	b.server = s
	b.mu.Unlock()
	return nil
}

// stop returns when nothing of the server writes any more, so that another one can use its directory.
func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func (b *Broker) use(conn *nats.Conn) error {
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		conn.Close()
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, b.js = conn, js
	return nil
}

// openTime bounds what is asked of a cluster at the start; an election there takes seconds.
const openTime = 30 * time.Second

// connect connects to a cluster, and finds out whether and how it keeps what is stored.
func (b *Broker) connect(ctx context.Context) error {
	conn, err := nats.Connect(b.opts.URL, nats.Name("riposte"), nats.MaxReconnects(-1), nats.ReconnectWait(500*time.Millisecond),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("connect to NATS at %s: %w", redactURL(b.opts.URL), err)
	}
	if err := b.use(conn); err != nil {
		return fmt.Errorf("connect to NATS at %s: %w", redactURL(b.opts.URL), err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	for _, check := range []func(context.Context) error{patiently(b.askJetStream), b.checkSync, patiently(b.useCluster)} {
		if err := check(ctx); err != nil {
			conn.Close()
			return err
		}
	}
	return nil
}

func (b *Broker) askJetStream(ctx context.Context) error {
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask NATS at %s for JetStream (is it enabled there?): %w", redactURL(b.opts.URL), err)
	}
	return nil
}

// JetStream returns the context to use now. It changes when the embedded server was restarted, so do not keep it.
func (b *Broker) JetStream() jetstream.JetStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.js
}

// Conn returns the connection to use now, under the same condition.
func (b *Broker) Conn() *nats.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn
}

// Embedded reports whether the store is this process's own.
func (b *Broker) Embedded() bool { return b.opts.URL == "" }

// Replicas is how many servers keep each message.
func (b *Broker) Replicas() int { return b.replicas }

// Writable returns an error that wraps event.ErrLogFull while the disk has no space to spare, or event.ErrLogUnavailable
// while the store does not answer. It costs next to nothing.
func (b *Broker) Writable() error {
	if p := b.problem.Load(); p != nil {
		return *p
	}
	if b.space == nil {
		return nil
	}
	return b.space.check(time.Now())
}

// Ready says why nothing can be stored now, or nil.
func (b *Broker) Ready() error {
	if err := b.Writable(); err != nil {
		return err
	}
	if !b.Conn().IsConnected() {
		return fmt.Errorf("%w: not connected to NATS", event.ErrLogUnavailable)
	}
	return nil
}

// Suspect tells the broker that the store left a write unanswered, or complained. An embedded store that is found dead is
// restarted once there is space.
func (b *Broker) Suspect() {
	if !b.Embedded() {
		return
	}
	select {
	case b.suspicion <- struct{}{}:
	default:
	}
}

// recoverer restarts the embedded server after it stopped answering.
func (b *Broker) recoverer() {
	defer close(b.done)
	for {
		select {
		case <-b.closing:
			return
		case <-b.suspicion:
		}
		if b.answers() {
			continue
		}
		problem := fmt.Errorf("%w: the store in %s failed; it is restarted once the disk has at least %d MiB free", event.ErrLogUnavailable, b.opts.Dir, restartBytes>>20)
		b.problem.Store(&problem)
		b.opts.Logger.Error("the embedded store failed; it is restarted once the disk has space", "dir", b.opts.Dir)
		if !b.restart() {
			return
		}
		b.problem.Store(nil)
		b.opts.Logger.Info("the embedded store works again")
	}
}

// Purge calls fn, which removes what is needed no more, unless a backup is being made: its parts are copied one after the other,
// and what the first ones need must still be there for the last.
func (b *Broker) Purge(fn func() error) error {
	if !b.backup.TryRLock() {
		return nil
	}
	defer b.backup.RUnlock()
	return fn()
}

// answers reports whether all of the store works. A stream whose write failed stays dead while the others go on, so a
// write of our own to another stream proves nothing about it: the server is asked, too.
func (b *Broker) answers() bool {
	b.mu.Lock()
	s := b.server
	b.mu.Unlock()
	if s == nil || s.Healthz(nil).Status != "ok" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	kv, err := b.JetStream().CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: ProbeBucket, Storage: jetstream.FileStorage})
	if err != nil {
		return false
	}
	_, err = kv.Put(ctx, "probe", []byte(time.Now().Format(time.RFC3339Nano)))
	return err == nil
}

// restartBytes must be free before a store that failed is restarted, however small the reserve: with less the first
// write ends it again.
const restartBytes = 8 << 20

func (b *Broker) restart() bool {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if b.space.check(time.Now()) == nil && b.space.has(restartBytes) {
			b.shutdown()
			err := b.start()
			if err == nil && b.answers() {
				return true
			}
			b.opts.Logger.Error("the embedded store could not be restarted; it is tried again", "error", err)
		}
		select {
		case <-b.closing:
			return false
		case <-tick.C:
		}
	}
}

func (b *Broker) shutdown() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		stop(b.server)
		b.server = nil
	}
}

// Close stops the server or leaves the cluster. A second call waits for the first.
func (b *Broker) Close(context.Context) error {
	b.closeOnce.Do(func() {
		close(b.closing)
		<-b.done
		b.shutdown()
		if b.lock != nil {
			b.closeErr = b.lock.Close()
		}
	})
	return b.closeErr
}

func storeDir(dir string) string { return filepath.Join(dir, "store") }
