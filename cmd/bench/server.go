package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const secret = "bench-secret-0123456789"

// server is a riposte process on a directory of its own.
type server struct {
	cmd    *exec.Cmd
	dir    string
	listen struct{ Hooks, Admin, Health string }
	output bytes.Buffer
	exited chan struct{} // closed once it has ended, with err
	err    error
}

// startServer starts riposte on dir, with the rules given, and waits until it is ready.
func (b *bench) startServer(dir, rules string) (*server, time.Duration, error) {
	return start(dir, rules, nil, func(settings []string) []string {
		argv := []string{b.binary, "serve"}
		for _, s := range settings {
			argv = append(argv, "--"+s)
		}
		return argv
	})
}

// start starts a server with the rules; argv makes its command line of settings, which are NAME=VALUE.
func start(dir, rules string, env []string, argv func(settings []string) []string) (*server, time.Duration, error) {
	rulesDir := filepath.Join(dir, "rules")
	if err := os.MkdirAll(rulesDir, 0o700); err != nil {
		return nil, 0, err
	}
	doc := `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec:
  type: github
  secrets:
    - {env: BENCH_SECRET}
` + rules
	if err := os.WriteFile(filepath.Join(rulesDir, "rules.yaml"), []byte(doc), 0o600); err != nil {
		return nil, 0, err
	}
	data := filepath.Join(dir, "data")
	_ = os.Remove(filepath.Join(data, "listen.json")) // left by a killed server
	s := &server{dir: dir, exited: make(chan struct{})}
	line := argv([]string{
		"dev=true", "rules=" + rulesDir, "data=" + data,
		"hooks-listen=127.0.0.1:0", "admin-listen=127.0.0.1:0", "health-listen=127.0.0.1:0", "log-level=error", "event-log-max-bytes=16GiB",
	})
	s.cmd = exec.Command(line[0], line[1:]...)
	s.cmd.Env = append(append(os.Environ(), "BENCH_SECRET="+secret), env...)
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, &s.output
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, 0, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.waitReady(filepath.Join(data, "listen.json")); err != nil {
		s.kill()
		return nil, 0, err
	}
	return s, time.Since(began), nil
}

func (s *server) waitReady(listen string) error {
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		select {
		case <-s.exited:
			return fmt.Errorf("riposte ended: %w\n%s", s.err, s.output.String())
		default:
		}
		if text, err := os.ReadFile(listen); err == nil && json.Unmarshal(text, &s.listen) == nil {
			if resp, err := http.Get("http://" + s.listen.Health + "/readyz"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return nil
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("riposte did not become ready in 2 minutes\n%s", s.output.String())
}

func (s *server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.exited
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(40 * time.Second):
		s.kill()
	}
}

// metric sums the samples of a metric whose labels contain the text.
func (s *server) metric(name, labels string) (float64, error) {
	plain := &http.Client{Transport: &http.Transport{DisableCompression: true}} // what is measured should not pack for us
	defer plain.CloseIdleConnections()
	resp, err := plain.Get("http://" + s.listen.Health + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") || !strings.Contains(line, labels) {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, lines.Err()
}

// await polls until a metric has reached the value.
func (s *server) await(name, labels string, want float64, limit time.Duration) (float64, error) {
	deadline := time.Now().Add(limit)
	for {
		v, err := s.metric(name, labels)
		if err == nil && v >= want {
			return v, nil
		}
		if time.Now().After(deadline) {
			return v, fmt.Errorf("%s is %v after %s, want %v (last error: %w)", name, v, limit, want, err)
		}
		time.Sleep(100 * time.Millisecond) // to print all metrics costs some milliseconds
	}
}

// processor returns the processor time that the server has used.
func (s *server) processor() (time.Duration, error) {
	seconds, err := s.metric("process_cpu_seconds_total", "")
	return time.Duration(seconds * float64(time.Second)), err
}

func (s *server) rss() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS")
}
