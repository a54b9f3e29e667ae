package git

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/riposte-dev/riposte/pkg/action"
)

// sshServer is a real sshd on a loopback port with its own configuration.
type sshServer struct {
	port     string
	user     string
	key      []byte // that may log in
	hostKey  ssh.PublicKey
	known    string
	stranger []byte
}

func newKey(t *testing.T) (private []byte, public ssh.PublicKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), key
}

func startSSH(t *testing.T) *sshServer {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if path, err := exec.LookPath("sshd"); err == nil {
		sshd = path
	}
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("there is no sshd: install openssh-server")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // sshd wants it, and only root can make it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("sshd's directory cannot be made: %v", err)
		}
	}
	s := &sshServer{user: me.Username}
	dir := t.TempDir()
	hostPrivate, hostKey := newKey(t)
	private, public := newKey(t)
	s.stranger, _ = newKey(t)
	s.key, s.hostKey = private, hostKey
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(listener.Addr().String())
	_ = listener.Close()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s.known = write("known_hosts", []byte(knownhosts.Line([]string{"[127.0.0.1]:" + s.port}, hostKey)+"\n"))
	config := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nStrictModes no\nPermitRootLogin prohibit-password\n",
		s.port, write("host", hostPrivate), write("authorized", ssh.MarshalAuthorizedKey(public)))
	cmd := exec.Command(sshd, "-D", "-e", "-f", write("config", []byte(config)))
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("sshd does not start: %v", err)
	}
	lines := bufio.NewScanner(out)
	ready, drained := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(drained)
		listening := false
		for lines.Scan() {
			if !listening && strings.Contains(lines.Text(), "listening on") {
				listening = true
				ready <- true
			}
		}
		if !listening {
			ready <- false
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	if !<-ready {
		t.Skip("sshd does not listen here")
	}
	return s
}

func (s *sshServer) url(path string) string {
	return "ssh://" + s.user + "@127.0.0.1:" + s.port + path
}

func TestPullOverSSH(t *testing.T) {
	server := startSSH(t)
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		first := o.commit("main", "f", "one")
		credential := Credential{
			URLPrefix: server.url("/"), KnownHosts: server.known,
			SSHKey: func() ([]byte, error) { return server.key, nil },
		}
		pull := func(change func(*Credential), params *PullParams) (action.Outputs, error) {
			c := credential
			if change != nil {
				change(&c)
			}
			o := opts
			o.Credentials = []Credential{c}
			out, _, err := pullWith(t, Definitions(o)[0], params, nil)
			return out, err
		}
		params := &PullParams{URL: server.url(o.bare), Depth: 1}
		out, err := pull(nil, params)
		if err != nil {
			t.Fatal(err)
		}
		if out["commit"] != first || out["url"] != server.url(o.bare) {
			t.Errorf("%v", out)
		}
		second := o.commit("main", "f", "two")
		if out, err = pull(nil, params); err != nil || read(t, out["dir"].(string), "f") != "two" {
			t.Errorf("%v, %v", out, err)
		}
		if out, err = pull(nil, &PullParams{URL: server.url(o.bare), Ref: first, Depth: 0, AllowStale: true}); err != nil || out["commit"] != first {
			t.Errorf("an older commit: %v, %v", out, err)
		}
		_ = second

		empty := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, otherKey := newKey(t)
		other := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(other, []byte(knownhosts.Line([]string{"[127.0.0.1]:" + server.port}, otherKey)), 0o600); err != nil {
			t.Fatal(err)
		}
		refusals := map[string]struct {
			change func(*Credential)
			want   string
		}{
			"no known_hosts":      {func(c *Credential) { c.KnownHosts = "" }, "knownHosts"},
			"missing known_hosts": {func(c *Credential) { c.KnownHosts = "/nowhere/known_hosts" }, "knownHosts"},
			"unknown host":        {func(c *Credential) { c.KnownHosts = empty }, "known_hosts"},
			"another host key":    {func(c *Credential) { c.KnownHosts = other }, "known_hosts"},
			"another key":         {func(c *Credential) { c.SSHKey = func() ([]byte, error) { return server.stranger, nil } }, "credential"},
			"not a key":           {func(c *Credential) { c.SSHKey = func() ([]byte, error) { return []byte("hunter2"), nil } }, "key"},
			"no key":              {func(c *Credential) { c.SSHKey = nil }, "sshKey"},
			"another prefix":      {func(c *Credential) { c.URLPrefix = server.url("/elsewhere") }, "sshKey"},
		}
		for name, r := range refusals {
			_, err := pull(r.change, params)
			if !action.IsPermanent(err) || !strings.Contains(err.Error(), r.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: err = %v, want a permanent one that says %q", name, err, r.want)
			}
		}
		if _, err := pull(func(c *Credential) { c.SSHKey = func() ([]byte, error) { return nil, errors.New("cannot be read") } }, params); err == nil {
			t.Error("a key that does not resolve: no error")
		}
		_, err = pull(nil, &PullParams{URL: server.url(o.bare + "-missing"), Depth: 1})
		if !action.IsPermanent(err) {
			t.Errorf("no repository: err = %v, want a permanent one", err)
		}
	})
}
