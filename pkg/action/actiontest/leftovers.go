package actiontest

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
)

// label marks the goroutines that a call starts; they inherit it (runtime/pprof).
const label = "actiontest"

// watch makes a call, and checks that it leaves no goroutine and no process behind.
func watch(t *testing.T, ctx context.Context, dir string, call func(context.Context) (action.Outputs, error)) (out action.Outputs, err error) {
	t.Helper()
	id := rand.Text()
	pprof.Do(ctx, pprof.Labels(label, id), func(ctx context.Context) { out, err = call(ctx) })
	checkProcesses(t, dir)
	if left := goroutines(id); left != "" {
		t.Errorf("the action returned and left goroutines running:\n%s", left)
	}
	return out, err
}

// goroutines returns the stacks of the marked goroutines that are still there after a while: one that has just told its
// owner that it is done may take a moment to be gone.
func goroutines(id string) string {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var left string
	for range 600 {
		if left = marked(id); left == "" {
			return ""
		}
		<-tick.C
	}
	return left
}

func marked(id string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	var left []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, id) && !idle(stack) && !strings.Contains(stack, "actiontest.watch") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// idle finds the goroutines of a client's pooled connections, which the client owns and closes.
func idle(stack string) bool {
	for _, name := range []string{"net/http.(*persistConn)", "net/http.(*http2ClientConn).readLoop", "net/http.(*Transport).startDialConn", "net/http/httptest"} {
		if strings.Contains(stack, name) {
			return true
		}
	}
	return false
}

func checkProcesses(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range processes(dir) {
		t.Errorf("the action returned and left process %s running", pid)
	}
}

// processes lists those that work in the directory or below. It sees them on Linux only.
func processes(dir string) []string {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is fine
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && (cwd == dir || strings.HasPrefix(cwd, dir+"/")) {
			found = append(found, filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}
