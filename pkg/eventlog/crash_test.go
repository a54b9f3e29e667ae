package eventlog_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

// crashDir names the store to a child process that this test kills.
const crashDir = "RIPOSTE_TEST_CRASH_DIR"

// TestCrashChild is no test of its own: it is the process that TestWhatWasAcknowledgedSurvivesAKill kills.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs as the child of another test")
	}
	l := openLog(t, openBroker(t, dir), eventlog.Options{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				out, err := l.Append(context.Background(), []event.Record{record(fmt.Sprint(w, "-", i), bytes.Repeat([]byte("x"), 7700))})
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Println("acknowledged", out[0].ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 2 { // the second child begins on what the first left
		killedAfter(t, dir, 100, acknowledged)
	}
	l, _ := open(t, dir, eventlog.Options{})
	add(t, l, record("the end", nil))
	end := event.ID("s", "the end")
	seen := map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := l.Follow(ctx, event.Pos{}, func(entries []event.Entry) error {
		for _, en := range entries {
			if !en.Duplicate {
				seen[en.Record.Event.ID]++
			}
			if en.Record.Event.ID == end {
				cancel()
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id := range acknowledged {
		if seen[id] != 1 {
			t.Errorf("acknowledged event %s is there %d times", id, seen[id])
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %s is there %d times", id, n)
		}
	}
}

// killedAfter runs a child on the directory and kills it after n acknowledged events, all of which it notes.
func killedAfter(t *testing.T, dir string, n int, acknowledged map[string]bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines, seen := bufio.NewReader(out), 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line that was cut off was not acknowledged to anyone
			break
		}
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "acknowledged "); ok {
			acknowledged[id] = true
			if seen++; seen == n {
				if err := child.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	_ = child.Wait() // it was killed
	if seen < n {
		t.Fatalf("the child ended after %d events", seen)
	}
}
