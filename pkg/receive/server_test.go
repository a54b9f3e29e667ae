package receive

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a new self-signed certificate with the serial number and its key, changed at the given time.
func writePair(t *testing.T, dir string, serial int64, changed time.Time) (certFile, keyFile string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePEM(t, certFile, "CERTIFICATE", cert, changed)
	writePEM(t, keyFile, "PRIVATE KEY", der, changed)
	return certFile, keyFile
}

func writePEM(t *testing.T, name, kind string, der []byte, changed time.Time) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, changed, changed); err != nil {
		t.Fatal(err)
	}
}

func serial(t *testing.T, c *Certificates) int64 {
	t.Helper()
	cert, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.Int64()
}

func TestCertificateReload(t *testing.T) {
	dir, at := t.TempDir(), time.Now().Add(-time.Hour)
	certFile, keyFile := writePair(t, dir, 1, at)
	var logged bytes.Buffer
	c, err := LoadCertificates(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	secondLater := func() { c.looked = c.looked.Add(-time.Second) }

	writePair(t, dir, 2, at.Add(time.Minute))
	secondLater()
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d after a change, want 2", got)
	}
	if err := os.WriteFile(keyFile, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		secondLater()
		if got := serial(t, c); got != 2 {
			t.Errorf("serial %d after a bad change, want 2", got)
		}
	}
	if n := strings.Count(logged.String(), "does not load"); n != 1 {
		t.Errorf("%d complaints, want 1: %s", n, &logged)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	secondLater()
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d without a file, want 2", got)
	}
	writePair(t, dir, 3, at.Add(2*time.Minute))
	secondLater()
	if got := serial(t, c); got != 3 {
		t.Errorf("serial %d after the repair, want 3", got)
	}
}

func TestCertificateThatDoesNotLoad(t *testing.T) {
	certFile, _ := writePair(t, t.TempDir(), 1, time.Now())
	_, otherKey := writePair(t, t.TempDir(), 1, time.Now())
	if _, err := LoadCertificates(certFile, otherKey, nil); err == nil || !strings.Contains(err.Error(), certFile) {
		t.Errorf("error %v does not name the file", err)
	}
	if _, err := LoadCertificates("no-such-file", otherKey, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func start(t *testing.T, h http.Handler, c *Certificates) (s *http.Server, addr string, served chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if c != nil {
		l = tls.NewListener(l, &tls.Config{GetCertificate: c.Get, NextProtos: []string{"h2", "http/1.1"}})
	}
	s, served = NewServer(h, slog.New(slog.DiscardHandler)), make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return s, addr, served
}

func stop(t *testing.T, s *http.Server, served chan error) {
	t.Helper()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestServerTLS(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), 7, time.Now())
	c, err := LoadCertificates(certFile, keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, nil)
	s, addr, served := start(t, f, c)
	for _, h2 := range []bool{false, true} {
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // self-signed
		body := `{"h2":true}` + strings.Repeat(" ", 100<<10)
		req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/hooks/one", strings.NewReader(body))
		req.Header.Set("X-Sig", sign(body))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted || resp.TLS.PeerCertificates[0].SerialNumber.Int64() != 7 || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("%s %d, serial %v", resp.Proto, resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber)
		}
		client.CloseIdleConnections()
	}
	stop(t, s, served)
}

func TestShutdownWaitsForRequests(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	s, addr, served := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		io.WriteString(w, "done")
	}), nil)
	got := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(t.Context()) }()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	close(finish)
	if answer := <-got; answer != "done" {
		t.Errorf("the unfinished request got %q", answer)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	f := newFixture(t, nil)
	s, addr, served := start(t, f, nil)
	req, _ := http.NewRequest(http.MethodPost, "http://"+addr+"/hooks/one", strings.NewReader("{}"))
	req.Header.Set("X-Long", strings.Repeat("x", 80<<10))
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop(t, s, served)
}

// deadlines notes the deadlines that a handler sets.
type deadlines struct {
	http.ResponseWriter
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

func TestDeadlinesMoveOnWithProgress(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Grace, o.MinRate = 10*time.Second, 1000 })
	d := &deadlines{}
	p := newPace(f.Receiver, d)
	for _, n := range []int64{0, 1, 999, 1000, 1500, 60_000} {
		p.allow(n)
	}
	for i, want := range []time.Duration{10 * time.Second, 11 * time.Second, 70 * time.Second} {
		if i >= len(d.read) || d.read[i].Sub(p.start) != want {
			t.Fatalf("read deadlines %v after %v", d.read, p.start)
		}
	}
	if len(d.read) != 3 || len(d.write) != 2 || !d.write[1].After(d.read[2]) {
		t.Errorf("read deadlines %v, write deadlines %v", d.read, d.write)
	}
}
