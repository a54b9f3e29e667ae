package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/netutil"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/receive"
)

// server is one listener with what answers on it.
type server struct {
	name     string
	listener net.Listener
	http     *http.Server
}

func (s *server) serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listen opens the listeners, so that a busy port is an error of the start.
func (a *App) listen(ctx context.Context, hooks, admin, health http.Handler) error {
	c := a.config
	for _, l := range []struct {
		name, address string
		server        *http.Server
		keys          config.KeyPair
	}{
		{"hooks", c.HooksListen, receive.NewServer(hooks, a.log), c.TLS.Hooks},
		{"admin", c.AdminListen, internalServer(admin), c.TLS.Admin},
		{"health", c.HealthListen, internalServer(health), config.KeyPair{}},
	} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w (--%s-listen names another address)", l.name, err, l.name)
		}
		listener = netutil.LimitListener(listener, receive.MaxConns) // below TLS: net/http must see what was negotiated
		if l.keys.Enabled() {
			certificates, err := receive.LoadCertificates(l.keys.Cert, l.keys.Key, a.log)
			if err != nil {
				return errors.Join(fmt.Errorf("certificate of the %s listener: %w", l.name, err), listener.Close())
			}
			listener = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificates.Get, NextProtos: []string{"h2", "http/1.1"}})
		}
		s := &server{name: l.name, listener: listener, http: l.server}
		a.servers = append(a.servers, s)
		a.teardown.add(l.name+" listener", 5*time.Second, func(context.Context) error {
			_ = s.listener.Close() // its server may have closed it
			return s.http.Close()
		})
	}
	return nil
}

func internalServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
}

// stopServers lets the servers finish what they answer, within bounds.
func (a *App) stopServers(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var errs []error
	for _, name := range names {
		for _, s := range a.servers {
			if s.name != name {
				continue
			}
			if err := s.http.Shutdown(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop the %s listener: %w", name, err), s.http.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// writeListen tells the commands on this machine where the server listens.
func (a *App) writeListen() error {
	l := client.Listen{Hooks: a.address("hooks"), Admin: a.address("admin"), Health: a.address("health")}
	var err error
	if l.Certificates.Hooks, err = certificate(a.config.TLS.Hooks); err != nil {
		return err
	}
	if l.Certificates.Admin, err = certificate(a.config.TLS.Admin); err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	name := filepath.Join(a.config.Data, client.ListenFile)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the addresses: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write the addresses: %w", err)
	}
	a.teardown.add("addresses", time.Second, func(context.Context) error { return os.Remove(name) })
	a.log.Info("listening", "hooks", l.Hooks, "admin", l.Admin, "health", l.Health, "version", a.o.Version)
	if a.o.Started != nil {
		a.o.Started(l)
	}
	return nil
}

// certificate names the file where commands that run elsewhere on this machine find a listener's certificate.
func certificate(pair config.KeyPair) (string, error) {
	if !pair.Enabled() {
		return "", nil
	}
	file, err := filepath.Abs(pair.Cert)
	if err != nil {
		return "", fmt.Errorf("write the addresses: %w", err)
	}
	return file, nil
}

// address returns where a listener can be reached from this machine.
func (a *App) address(name string) string {
	for _, s := range a.servers {
		if s.name != name {
			continue
		}
		host, port, err := net.SplitHostPort(s.listener.Addr().String())
		if err != nil {
			return s.listener.Addr().String()
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, port)
	}
	return ""
}

func tokens(configured []config.Token) []api.Token {
	out := make([]api.Token, 0, len(configured))
	for _, t := range configured {
		role, _ := api.ParseRole(t.Role) // config has validated it
		out = append(out, api.Token{Name: t.Name, SHA256: t.Sum(), Groups: t.Groups, Role: role})
	}
	return out
}

// instanceName names this process in the journals and leases.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := make([]byte, 4)
	rand.Read(b) // never fails since Go 1.24
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(b))
}
