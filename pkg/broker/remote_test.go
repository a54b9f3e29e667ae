package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/riposte-dev/riposte/pkg/broker"
)

func TestASuspectedStoreThatWorksIsLeftAlone(t *testing.T) {
	b := open(t, options(t.TempDir()))
	s, conn := stream(t, b, "RUNS"), b.Conn()
	for n := range 20 {
		b.Suspect()
		if err := b.Ready(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.JetStream().Publish(t.Context(), "runs", fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := s.Info(t.Context())
	if err != nil || info.State.Msgs != 20 || b.Conn() != conn {
		t.Errorf("%+v, %v; the same connection: %v", info, err, b.Conn() == conn)
	}
}

func TestClosingTwiceFreesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	b := open(t, options(dir))
	done := make(chan error)
	for range 4 {
		go func() { done <- b.Close(context.Background()) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	open(t, options(dir))
}

func TestABackupOfAnyLengthIsRestored(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 9 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := open(t, options(t.TempDir()))
			stream(t, b, "RUNS")
			for left := size; left > 0; left -= 512 << 10 {
				if _, err := b.JetStream().Publish(t.Context(), "runs", bytes.Repeat([]byte("x"), min(left, 512<<10))); err != nil {
					t.Fatal(err)
				}
			}
			var backup bytes.Buffer
			if err := b.Backup(t.Context(), &backup); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "restored")
			if err := broker.Restore(t.Context(), &backup, dir, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			s, err := open(t, options(dir)).JetStream().Stream(t.Context(), "RUNS")
			if err != nil {
				t.Fatal(err)
			}
			if want := uint64((size + 512<<10 - 1) / (512 << 10)); s.CachedInfo().State.Msgs != want {
				t.Errorf("%d messages of %d", s.CachedInfo().State.Msgs, want)
			}
		})
	}
}

// natsServer starts a NATS server process and returns its address.
func natsServer(t *testing.T, args ...string) string {
	t.Helper()
	name, err := exec.LookPath("nats-server")
	if err != nil {
		gopath, _ := exec.CommandContext(t.Context(), "go", "env", "GOPATH").Output() // without it the next line finds nothing
		if name, err = exec.LookPath(filepath.Join(strings.TrimSpace(string(gopath)), "bin", "nats-server")); err != nil {
			t.Skip("no nats-server: go install github.com/nats-io/nats-server/v2@v2.15.2")
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, append([]string{"-a", "127.0.0.1", "-p", port}, args...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.After(20 * time.Second); ; {
		conn, err := nats.Connect("nats://" + addr)
		if err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-ended:
			t.Fatalf("nats-server ended: %s", said.String())
		case <-deadline:
			t.Fatalf("nats-server does not answer: %v", err)
		case <-time.After(20 * time.Millisecond): // polls another process
		}
	}
}

func TestAServerElsewhere(t *testing.T) {
	addr := natsServer(t, "-js", "-sd", t.TempDir())
	o := options(t.TempDir())
	o.URL = "nats://" + addr
	b := open(t, o)
	if b.Embedded() || b.Replicas() != 1 {
		t.Errorf("embedded %v, %d replicas", b.Embedded(), b.Replicas())
	}
	stream(t, b, "RUNS")
	if _, err := b.JetStream().Publish(t.Context(), "runs", []byte("x")); err != nil {
		t.Error(err)
	}
	b.Suspect()
	if err := b.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "lock")); err == nil {
		t.Error("the directory is locked although nothing is stored there")
	}
}

func TestAServerThatCannotBeUsedIsRefused(t *testing.T) {
	o := options(t.TempDir())
	o.URL = "nats://user:secret@" + natsServer(t)
	b, err := broker.Open(t.Context(), o)
	if err == nil || b != nil || !strings.Contains(err.Error(), "JetStream") || strings.Contains(err.Error(), "secret") {
		t.Errorf("without JetStream: %v, %v", b, err)
	}
	o.URL = "nats://user:secret@127.0.0.1:1"
	if _, err := broker.Open(t.Context(), o); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody listens: %v", err)
	}
}

// natsConfig is a server where the account of the user "app" may ask the system account for JetStream's settings.
const natsConfig = `
jetstream { store_dir: %q, %s }
accounts {
  SYS: { users: [{user: sys, password: p}], exports: [{service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream}] }
  APP: { jetstream: enabled, users: [{user: app, password: p}], imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}] }
  BLIND: { jetstream: enabled, users: [{user: blind, password: p}] }
}
system_account: SYS
no_auth_user: app
`

func TestWhetherARemoteServerSyncsIsAskedWhereThatIsAllowed(t *testing.T) {
	for name, tc := range map[string]struct{ user, setting, want string }{
		"it does":     {"app", "sync_interval: always", "syncs each write"},
		"it does not": {"app", "sync_interval: 2m", "does not sync each write"},
		"not allowed": {"blind", "sync_interval: always", "not verified"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(file, fmt.Appendf(nil, natsConfig, t.TempDir(), tc.setting), 0o600); err != nil {
				t.Fatal(err)
			}
			o := options(t.TempDir())
			o.URL = "nats://" + tc.user + ":p@" + natsServer(t, "-c", file)
			var said bytes.Buffer
			o.Logger = slog.New(slog.NewTextHandler(&said, nil))
			open(t, o)
			if !strings.Contains(said.String(), tc.want) {
				t.Errorf("it says %q, want %q", said.String(), tc.want)
			}
		})
	}
}
