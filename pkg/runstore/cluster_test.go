package runstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/run"
)

// replicated is a connection to a cluster that keeps each message three times.
type replicated struct{ *testBroker }

func (replicated) Replicas() int { return 3 }

// startCluster starts three servers that replicate to each other over loopback.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 { // the routes must be known beforehand
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	var servers []*server.Server
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			// Without a listener for clients a server does not start its routes.
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	return servers
}

func clusterBroker(t *testing.T, s *server.Server) replicated {
	t.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return replicated{&testBroker{conn, js}}
}

// TestReplicated goes through a partition's life on three servers, one of which goes away.
func TestReplicated(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers take a few seconds to elect a leader")
	}
	t.Parallel()
	servers := startCluster(t)
	b := clusterBroker(t, servers[0])
	limit := time.Now().Add(2 * time.Minute)
	for { // until the cluster has a leader, requests end after their time-out
		_, err := b.js.AccountInfo(t.Context())
		all := slices.ContainsFunc(servers, func(s *server.Server) bool { return len(s.JetStreamClusterPeers()) == 3 }) // only the leader knows
		if err == nil && all {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the cluster has no leader: %v", err)
		}
	}
	s := openStore(t, b, partitions(2))
	other := openStore(t, clusterBroker(t, servers[1]))
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, started("r", 1))
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: j.Seq()}); err != nil {
		t.Fatal(err)
	}
	k, got, from := take(t, other, 0, "b")
	if len(got) != 1 || from.Replay != j.Seq() {
		t.Errorf("replayed %+v from %+v", got, from)
	}
	if err := j.Append(t.Context(), []run.Entry{started("r", 2)}); !errors.Is(err, run.ErrFenced) {
		t.Errorf("the stale owner's write gives %v", err)
	}

	servers[2].Shutdown() // two of three are a quorum, perhaps after an election
	want := []run.Entry{started("r", 1)}
	for n := range 20 {
		e := started("r", n+10)
		err := ErrUnavailable
		for errors.Is(err, ErrUnavailable) && time.Now().Before(limit.Add(30*time.Second)) {
			err = k.Append(t.Context(), []run.Entry{e})
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	entries := entriesOf(t, s, 0)
	if len(entries) != len(want) {
		t.Fatalf("the journal has %d entries, want %d", len(entries), len(want))
	}
	for i := range want {
		if entries[i].Attempt != want[i].Attempt {
			t.Errorf("entry %d is attempt %d, want %d", i, entries[i].Attempt, want[i].Attempt)
		}
	}
}
