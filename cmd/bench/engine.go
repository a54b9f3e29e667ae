package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/cli"
	"github.com/riposte-dev/riposte/pkg/config"
)

const (
	marksEnv   = "BENCH_MARKS"   // file to which bench.mark adds lines
	untilEnv   = "BENCH_UNTIL"   // when bench.hold goes on, in nanoseconds since 1970
	profileEnv = "BENCH_PROFILE" // file for a profile of the server's processor time; optional
)

// serveEngine is `riposte serve` with actions that do nothing, so that what is measured is the engine. Settings are
// NAME=VALUE, as flags have them.
func serveEngine(settings []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		go cli.PaceGarbage(ctx)
	}
	flags := map[string]string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		flags[name] = value
	}
	c, err := config.Load(config.Sources{Env: os.LookupEnv, Flags: flags})
	if err != nil {
		return err
	}
	if name := os.Getenv(profileEnv); name != "" {
		f, err := os.Create(fmt.Sprintf("%s.%d", name, os.Getpid()))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	m, err := openMarks(os.Getenv(marksEnv))
	if err != nil {
		return err
	}
	defer m.f.Close()
	server, err := app.New(ctx, app.Options{Config: c, Version: "bench", LogOutput: os.Stderr, Extend: func(r *app.Registries) {
		for _, d := range m.actions() {
			r.Actions[d.Name] = d
		}
	}})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// marks is a file that the actions add lines to.
type marks struct {
	mu sync.Mutex
	f  *os.File
}

func openMarks(name string) (*marks, error) {
	if name == "" {
		return nil, errors.New(marksEnv + " names no file")
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &marks{f: f}, err
}

func (m *marks) add(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := fmt.Fprintf(m.f, format+"\n", args...)
	return err
}

type noParams struct{}

type markParams struct {
	Sent string `yaml:"sent" doc:"when the event was sent, in nanoseconds since 1970, as 40 digits"`
}

func (m *marks) actions() []action.Definition {
	return []action.Definition{
		{Name: "bench.nop", Params: &noParams{}, RetryInterrupted: true, NoDir: true, Run: func(context.Context, *action.Call) (action.Outputs, error) {
			return nil, nil
		}},
		{Name: "bench.mark", Params: &markParams{}, RetryInterrupted: true, NoDir: true, Run: m.mark},
		{Name: "bench.hold", Params: &noParams{}, RetryInterrupted: true, NoDir: true, Run: m.hold},
		{Name: "bench.hang", Params: &noParams{}, RetryInterrupted: true, NoDir: true, Run: m.hang},
	}
}

// mark notes how long ago the event was sent.
func (m *marks) mark(_ context.Context, c *action.Call) (action.Outputs, error) {
	sent, err := strconv.ParseInt(strings.TrimLeft(c.Params.(*markParams).Sent, "0"), 10, 64)
	if err != nil {
		return nil, err
	}
	return nil, m.add("took %d %s", time.Now().UnixNano()-sent, c.RunID)
}

// hold waits until the time that the environment names.
func (m *marks) hold(_ context.Context, c *action.Call) (action.Outputs, error) {
	until, err := untilTime()
	if err != nil {
		return nil, err
	}
	if time.Now().Before(until) {
		return nil, action.Wait(until)
	}
	return nil, m.add("resumed %d %s", time.Now().UnixNano(), c.RunID)
}

// hang is in the middle of something until the time that the environment names.
func (m *marks) hang(ctx context.Context, c *action.Call) (action.Outputs, error) {
	until, err := untilTime()
	if err != nil {
		return nil, err
	}
	if err := m.add("hangs %d %s", time.Now().UnixNano(), c.RunID); err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Until(until)):
		return nil, m.add("resumed %d %s", time.Now().UnixNano(), c.RunID)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func untilTime() (time.Time, error) {
	ns, err := strconv.ParseInt(os.Getenv(untilEnv), 10, 64)
	return time.Unix(0, ns), err
}

// startEngine starts a server with the actions above on dir.
func (b *bench) startEngine(dir, rules string, until time.Time) (*server, time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	return start(dir, rules, []string{marksEnv + "=" + filepath.Join(dir, "marks"), fmt.Sprintf("%s=%d", untilEnv, until.UnixNano())},
		func(flags []string) []string { return append([]string{self, "-engine"}, flags...) })
}

// marks reads the lines of a kind: the number of each by the run.
func (s *server) marks(kind string) (map[string][]int64, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "marks"))
	if err != nil {
		return nil, err
	}
	found := map[string][]int64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != kind {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, err
		}
		found[f[2]] = append(found[f[2]], n)
	}
	return found, nil
}
