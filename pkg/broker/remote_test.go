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
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

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
	addr, _ := startNATS(t, args...)
	return addr
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// startNATS is natsServer with a way to end it.
func startNATS(t *testing.T, args ...string) (addr string, stop func()) {
	t.Helper()
	name, err := exec.LookPath("nats-server")
	if err != nil {
		gopath, _ := exec.CommandContext(t.Context(), "go", "env", "GOPATH").Output() // without it the next line finds nothing
		if name, err = exec.LookPath(filepath.Join(strings.TrimSpace(string(gopath)), "bin", "nats-server")); err != nil {
			t.Skip("no nats-server: go install github.com/nats-io/nats-server/v2@v2.15.2")
		}
	}
	port := freePort(t)
	addr = net.JoinHostPort("127.0.0.1", port)
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, append([]string{"-a", "127.0.0.1", "-p", port}, args...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	t.Cleanup(func() { // once it has ended
		if t.Failed() {
			t.Logf("nats-server at %s said: %s", addr, said.String())
		}
	})
	t.Cleanup(stop)
	for deadline := time.After(20 * time.Second); ; {
		conn, err := nats.Connect("nats://" + addr)
		if err == nil {
			conn.Close()
			return addr, stop
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
	for name, tc := range map[string]struct {
		user, setting     string
		monitoring, allow bool
		want              string // in the log
		refused           string // in the error
	}{
		"it does":                             {user: "app", setting: "sync_interval: always", want: "syncs each write"},
		"it does not":                         {user: "app", setting: "sync_interval: 2m", refused: "--nats-allow-lazy-sync"},
		"it does not, and may":                {user: "app", setting: "sync_interval: 2m", allow: true, want: "does not sync each write"},
		"nobody may ask":                      {user: "blind", setting: "sync_interval: always", want: "not verified"},
		"nobody may ask and it does not":      {user: "blind", setting: "sync_interval: 2m", want: "not verified"},
		"its monitoring says that it does":    {user: "blind", setting: "sync_interval: always", monitoring: true, want: "syncs each write"},
		"its monitoring says that it doesn't": {user: "blind", setting: "sync_interval: 2m", monitoring: true, refused: "does not sync each write"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(file, fmt.Appendf(nil, natsConfig, t.TempDir(), tc.setting), 0o600); err != nil {
				t.Fatal(err)
			}
			monitor := freePort(t)
			o := options(t.TempDir())
			o.URL = "nats://" + tc.user + ":p@" + natsServer(t, "-c", file, "-m", monitor)
			if tc.monitoring {
				o.Monitoring = []string{"http://127.0.0.1:" + monitor}
			}
			o.AllowLazySync = tc.allow
			var said bytes.Buffer
			o.Logger = slog.New(slog.NewTextHandler(&said, nil))
			if tc.refused != "" {
				if _, err := broker.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("it is opened with %v, want an error about %q", err, tc.refused)
				}
				return
			}
			open(t, o)
			if !strings.Contains(said.String(), tc.want) {
				t.Errorf("it says %q, want %q", said.String(), tc.want)
			}
		})
	}
}

func TestMonitoringThatDoesNotAnswerIsToldOfWithoutItsPassword(t *testing.T) {
	o := options(t.TempDir())
	o.URL = "nats://" + natsServer(t, "-js", "-sd", t.TempDir())
	o.Monitoring = []string{"http://user:secret@127.0.0.1:" + freePort(t)}
	var said bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	open(t, o)
	if !strings.Contains(said.String(), "can't be asked") || strings.Contains(said.String(), "secret") {
		t.Errorf("it says %q", said.String())
	}
}

func TestAStoreInNATSOfANewerFormatIsRefusedAndAnOlderOneRaised(t *testing.T) {
	url := "nats://" + natsServer(t, "-js", "-sd", t.TempDir())
	o := options(t.TempDir())
	o.URL = url
	b := open(t, o)
	kv, err := b.JetStream().KeyValue(t.Context(), broker.FormatBucket)
	if err != nil {
		t.Fatal(err)
	}
	record := func() string {
		e, err := kv.Get(t.Context(), broker.FormatKey)
		if err != nil {
			t.Fatal(err)
		}
		return string(e.Value())
	}
	if got, want := record(), fmt.Sprintf(`{"format":%d}`, broker.Format); got != want {
		t.Errorf("a new store has the record %s, want %s", got, want)
	}
	if err := broker.ClaimFormat(t.Context(), b, kv, broker.Format+1); err != nil { // as the next version does
		t.Fatal(err)
	}
	o.URL, o.Registerer = url+",nats://user:secret@"+strings.TrimPrefix(url, "nats://"), prometheus.NewRegistry()
	_, err = broker.Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("format ", broker.Format+1)) || !strings.Contains(err.Error(), "use the newer version") || strings.Contains(err.Error(), "secret") {
		t.Errorf("it says %v", err)
	}
	if _, err := kv.Put(t.Context(), broker.FormatKey, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err = broker.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("of a damaged record it says %v", err)
	}
}

func TestADirectoryOfAnOlderFormatIsRaised(t *testing.T) {
	dir := t.TempDir()
	for _, known := range []int{1, 2, 2} {
		if err := broker.CheckFormat(dir, known); err != nil {
			t.Fatalf("version %d: %v", known, err)
		}
	}
	if err := broker.CheckFormat(dir, 1); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("the older version says %v", err)
	}
}

// TestAClusterThatGrows: streams get a copy on each of three servers once there are three, and keep them while one is away.
func TestAClusterThatGrows(t *testing.T) {
	var routes, names []string
	var ports [3]string
	for i := range ports {
		ports[i] = freePort(t)
		routes = append(routes, `"nats-route://127.0.0.1:`+ports[i]+`"`)
	}
	var stops [3]func()
	for i := range ports {
		file := filepath.Join(t.TempDir(), "nats.conf")
		text := fmt.Sprintf("server_name: n%d\njetstream {store_dir: %q, sync_interval: always}\ncluster {name: c, listen: \"127.0.0.1:%s\", routes: [%s]}\n",
			i, t.TempDir(), ports[i], strings.Join(routes, ", "))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var name string
		name, stops[i] = startNATS(t, "-c", file)
		names = append(names, name)
	}
	conn, err := nats.Connect(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for try := 0; ; try++ { // as a store from before that has one copy; the cluster needs a moment for its first election
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: broker.EventStream, Subjects: []string{broker.EventSubject}, Replicas: 1})
		if err == nil {
			break
		}
		if try == 20 {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // polls other processes
	}
	o := options(t.TempDir())
	o.URL = "nats://" + names[0] // the others are not named
	if n := open(t, o).Replicas(); n != 3 {
		t.Errorf("three servers keep %d copies", n)
	}
	stops[2]()
	o.Registerer = prometheus.NewRegistry()
	if n := open(t, o).Replicas(); n != 3 {
		t.Errorf("of three servers one is away, and %d copies are kept", n)
	}
}
