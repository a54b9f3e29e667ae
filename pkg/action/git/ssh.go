package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
)

var (
	errNoSSHKey     = errors.New("no SSH key is configured for this URL")
	errNoKnownHosts = errors.New("no known_hosts file is configured for this URL")
	errBadKey       = errors.New("the configured SSH key cannot be used")
)

// openSSH starts git-upload-pack or git-receive-pack. go-git's SSH transport dials by itself and reads the user's
// ssh_config, so this is its session over a connection of ours; the protocol's messages are go-git's.
func (r *remote) openSSH(ctx context.Context, service string) (*sshSession, error) {
	config, err := r.sshConfig()
	if err != nil {
		return nil, err
	}
	conn, err := r.dial(ctx, "tcp", r.addr.hostport())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	client, chans, reqs, err := ssh.NewClientConn(conn, r.addr.hostport(), config)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, err
	}
	s := &sshSession{client: ssh.NewClient(client, chans, reqs), stop: stop}
	if err := s.start(r.meter, service+" "+quote(r.addr.path)); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("start %s: %w", service, err)
	}
	return s, nil
}

func (r *remote) sshConfig() (*ssh.ClientConfig, error) {
	pem, err := r.sshKey()
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, errBadKey // the parser's error may quote the key
	}
	known, err := gitssh.NewKnownHostsDb(r.cred.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoKnownHosts, err)
	}
	return &ssh.ClientConfig{
		User:            r.addr.user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: known.HostKeyCallback(),
		// Only kinds of key that known_hosts holds: a server that prefers another kind would look like an impostor.
		HostKeyAlgorithms: known.HostKeyAlgorithms(r.addr.hostport()),
		Timeout:           30 * time.Second,
	}, nil
}

// sshKey returns the private key once everything that SSH needs is configured.
func (r *remote) sshKey() ([]byte, error) {
	if r.cred == nil || r.cred.SSHKey == nil {
		return nil, errNoSSHKey
	}
	if r.cred.KnownHosts == "" {
		return nil, errNoKnownHosts
	}
	pem, err := r.cred.SSHKey()
	if err != nil {
		return nil, fmt.Errorf("resolve the SSH key: %w", err)
	}
	return pem, nil
}

// quote makes s one word for the remote's shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

type sshSession struct {
	client  *ssh.Client
	session *ssh.Session
	stop    func() bool
	in      io.WriteCloser
	out     io.Reader
	said    tail
	refs    *packp.AdvRefs
}

func (s *sshSession) start(m *meter, command string) error {
	session, err := s.client.NewSession()
	if err != nil {
		return err
	}
	s.session, session.Stderr = session, &s.said
	if s.in, err = session.StdinPipe(); err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = m.reader(out)
	return session.Start(command)
}

func (s *sshSession) AdvertisedReferences() (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(context.Background())
}

func (s *sshSession) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	if s.refs != nil {
		return s.refs, nil
	}
	refs := packp.NewAdvRefs()
	if err := refs.Decode(&meteredReader{s.out, newMeter(maxAdvert)}); err != nil {
		return nil, s.explain(err)
	}
	transport.FilterUnsupportedCapabilities(refs.Capabilities)
	s.refs = refs
	return refs, nil
}

// explain turns what the remote said on its error stream into the error that HTTP would give.
func (s *sshSession) explain(err error) error {
	if errors.Is(err, packp.ErrEmptyAdvRefs) {
		return transport.ErrEmptyRemoteRepository
	}
	if !errors.Is(err, packp.ErrEmptyInput) && !errors.Is(err, io.EOF) {
		return err
	}
	_ = s.session.Wait() // for its error stream
	said := s.said.String()
	for _, phrase := range notFoundPhrases {
		if strings.Contains(strings.ToLower(said), phrase) {
			return fmt.Errorf("%w: %s", transport.ErrRepositoryNotFound, said)
		}
	}
	return fmt.Errorf("the remote ended without an answer: %s", said)
}

// notFoundPhrases are what git and the usual hosts answer over SSH to a repository that is missing or hidden.
var notFoundPhrases = []string{"does not appear to be a git repository", "not found", "no such repository", "does not exist", "could not be found", "access denied"}

func (s *sshSession) UploadPack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	var request bytes.Buffer
	if err := req.UploadRequest.Encode(&request); err != nil {
		return nil, err
	}
	if err := req.UploadHaves.Encode(&request, false); err != nil {
		return nil, err
	}
	if err := pktline.NewEncoder(&request).EncodeString("done\n"); err != nil {
		return nil, err
	}
	if _, err := request.WriteTo(s.in); err != nil {
		return nil, err
	}
	if err := s.in.Close(); err != nil {
		return nil, err
	}
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(io.NopCloser(s.out)); err != nil {
		return nil, fmt.Errorf("read the remote's answer: %w", err)
	}
	return res, nil
}

func (s *sshSession) ReceivePack(_ context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	if err := req.Encode(s.in); err != nil {
		return nil, s.refused(err)
	}
	if err := s.in.Close(); err != nil {
		return nil, s.refused(err)
	}
	report := packp.NewReportStatus()
	if err := report.Decode(demuxer(req.Capabilities, s.out, req.Progress)); err != nil {
		return nil, s.refused(err)
	}
	return report, report.Error()
}

// refused adds what the remote said when it hung up.
func (s *sshSession) refused(err error) error {
	_ = s.session.Wait()
	if said := s.said.String(); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// Close ends the connection. The remote's exit status says nothing more than the checked pack did.
func (s *sshSession) Close() error {
	s.stop()
	_ = s.client.Close()
	_ = s.client.Wait()
	return nil
}

// tail keeps the last bytes written to it. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
