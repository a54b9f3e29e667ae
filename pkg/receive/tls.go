package receive

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Certificates holds a listener's certificate and loads it anew when its files change. What doesn't load leaves the
// last good one in use. It is safe for concurrent use and starts no goroutines: handshakes look, at most once a second.
type Certificates struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the one handshake that looks
	looked  time.Time
	seen    [2]stamp
	problem string // the last one that was logged
}

// stamp is what tells a file's contents from another's.
type stamp struct {
	changed time.Time
	size    int64
}

// LoadCertificates reads the PEM files of a certificate chain and its key. A nil logger discards what later reloads say.
func LoadCertificates(certFile, keyFile string, log *slog.Logger) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	c.looked = time.Now()
	return c, nil
}

// Get returns the certificate; it suits tls.Config.GetCertificate.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() { // who finds it locked uses what there is
		c.refresh(time.Now())
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

func (c *Certificates) refresh(now time.Time) {
	if d := now.Sub(c.looked); d >= 0 && d < time.Second {
		return
	}
	c.looked = now
	if seen, err := c.stamps(); err == nil && seen == c.seen {
		return
	}
	if err := c.load(); err != nil {
		if c.problem != err.Error() {
			c.log.Error("a changed certificate does not load; the last good one stays in use", "error", err)
		}
		c.problem = err.Error()
		return
	}
	c.problem = ""
	c.log.Info("certificate reloaded", "file", c.certFile)
}

func (c *Certificates) load() error {
	seen, err := c.stamps() // before reading: what changes meanwhile is seen next time
	if err != nil {
		return fmt.Errorf("loading the certificate: %w", err)
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("loading the certificate %s and its key %s: %w", c.certFile, c.keyFile, err)
	}
	c.seen = seen
	c.current.Store(&cert)
	return nil
}

func (c *Certificates) stamps() (seen [2]stamp, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return seen, err
		}
		seen[i] = stamp{info.ModTime(), info.Size()}
	}
	return seen, nil
}
