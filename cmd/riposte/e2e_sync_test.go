//go:build e2e

package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestE2ESyncedBeforeAnswered traces the server's system calls: between the write of an event to the store and the write of
// its 202 there must be an fsync of the file that was written. A kill can't show this, since the kernel keeps what a killed
// process wrote.
func TestE2ESyncedBeforeAnswered(t *testing.T) {
	strace := need(t, "strace", "apt-get install strace")
	trace := filepath.Join(t.TempDir(), "trace")
	s := serveUnder(t, []string{strace, "-f", "-qq", "-y", "-s", "200000", "-e", "trace=write,pwrite64,writev,fsync,fdatasync", "-o", trace}, t.TempDir(), githubSource)
	marker := "traced-0123456789"
	status, id, err := push(http.DefaultClient, s.Hooks, []byte(`{"ref":"refs/heads/main","marker":"`+marker+`","repository":{"full_name":"acme/shop"}}`))
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("push: %d %v", status, err)
	}
	var lines []string
	waitFor(t, 30*time.Second, "the answer to stand in the trace", func() bool {
		text, err := os.ReadFile(trace)
		lines = strings.Split(string(text), "\n")
		return err == nil && strings.Contains(string(text), "202 Accepted") && strings.Contains(string(text), id)
	})
	written, synced, answered := -1, -1, -1
	file := ""
	for i, line := range lines {
		switch {
		case strings.Contains(line, marker) && strings.Contains(line, ".blk>") && written < 0:
			written, file = i, regexp.MustCompile(`<([^>]*\.blk)>`).FindStringSubmatch(line)[1]
		case written >= 0 && synced < 0 && strings.Contains(line, "fsync(") && strings.Contains(line, file):
			synced = i
			if strings.Contains(line, "<unfinished") { // it is over where it resumes
				pid := strings.Fields(line)[0]
				for k := i + 1; k < len(lines); k++ {
					if strings.HasPrefix(lines[k], pid+" ") && strings.Contains(lines[k], "fsync resumed>") {
						synced = k
						break
					}
				}
			}
		case answered < 0 && strings.Contains(line, "202 Accepted"):
			answered = i
		}
	}
	if written < 0 || synced < written || answered < synced {
		t.Fatalf("written at line %d of the trace, synced at %d, answered at %d", written, synced, answered)
	}
}
