package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// serveBare reads, checks the signature and answers: the least that a receiver can do.
func serveBare(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m := hmac.New(sha256.New, []byte(secret))
		m.Write(b)
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		if err != nil || !hmac.Equal(given, m.Sum(nil)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
}

// peer starts a program that listens on a free port, waits until it does, and returns its address and its end.
func peer(name string, args func(host, port string) []string) (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	host, port, _ := net.SplitHostPort(address)
	l.Close()
	cmd := exec.Command(name, args(host, port)...)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address, end, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	end()
	return "", nil, fmt.Errorf("%s does not listen", name)
}

func startBare() (string, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	return peer(self, func(host, port string) []string { return []string{"-bare", host + ":" + port} })
}

// startWebhook starts Debian's webhook with a hook that checks the signature and whose other condition is never met, so
// that it answers without running anything.
func startWebhook(dir string) (string, func(), error) {
	bin, err := exec.LookPath("webhook")
	if err != nil {
		return "", nil, fmt.Errorf("%w (install webhook)", err)
	}
	hooks := filepath.Join(dir, "hooks.json")
	text := `[{"id":"github","execute-command":"/bin/true","http-methods":["POST"],"trigger-rule":{"and":[
{"match":{"type":"payload-hmac-sha256","secret":"` + secret + `","parameter":{"source":"header","name":"X-Hub-Signature-256"}}},
{"match":{"type":"value","value":"refs/heads/none","parameter":{"source":"payload","name":"ref"}}}]}}]`
	if err := os.WriteFile(hooks, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	return peer(bin, func(host, port string) []string { return []string{"-hooks", hooks, "-ip", host, "-port", port} })
}

// execLoop runs /bin/true as fast as os/exec can, on all processors, and returns how many a second.
func execLoop(n int) (float64, error) {
	work := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for range work {
				if err := exec.Command("/bin/true").Run(); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	return float64(n) / time.Since(began).Seconds(), failed
}
