package command

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// register is a file that holds the children that run: a line "+ pid start" when one begins and "- pid" when it has
// ended. It is not synced: it must outlive this process, and no child outlives the machine.
type register struct {
	instance string

	mu    sync.Mutex
	file  *os.File
	alive int
	size  int64
}

// maxRegister is the size beyond which the file is emptied as soon as no child runs.
const maxRegister = 64 << 10

func openRegister(dir string) (*register, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the register of child processes: %w", err)
	}
	instance, err := instanceOf(filepath.Join(dir, "instance"))
	if err != nil {
		return nil, fmt.Errorf("open the register of child processes: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "processes"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the register of child processes: %w", err)
	}
	return &register{instance: instance, file: f}, nil
}

// instanceOf returns the directory's random name, making it once.
func instanceOf(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err == nil && len(bytes.TrimSpace(text)) > 0 {
		return string(bytes.TrimSpace(text)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	b := make([]byte, 16)
	rand.Read(b) // never fails since Go 1.24
	id := hex.EncodeToString(b)
	return id, os.WriteFile(name, []byte(id+"\n"), 0o600)
}

func (r *register) began(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive++
	r.line("+ %d %s\n", pid, startTime(pid))
}

func (r *register) ended(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alive--; r.alive == 0 && r.size > maxRegister {
		if r.file.Truncate(0) == nil {
			r.size = 0
		}
		return
	}
	r.line("- %d\n", pid)
}

// line writes a line. A failure leaves a survivor to the marker in its environment.
func (r *register) line(format string, args ...any) {
	n, _ := fmt.Fprintf(r.file, format, args...)
	r.size += int64(n)
}

func (r *register) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}

// running returns the children that the file says have not ended, with their start times.
func (r *register) running() (map[int]string, error) {
	text, err := os.ReadFile(r.file.Name())
	if err != nil {
		return nil, err
	}
	alive := map[int]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		switch {
		case err != nil:
		case f[0] == "+" && len(f) == 3:
			alive[pid] = f[2]
		case f[0] == "-":
			delete(alive, pid)
		}
	}
	return alive, nil
}

// startTime returns when a process started, in the kernel's ticks: field 22 of /proc/PID/stat (man 5 proc). It is "?" where
// that can't be told.
func startTime(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "?"
	}
	_, rest, _ := strings.Cut(string(text[max(0, bytes.LastIndexByte(text, ')')):]), " ")
	if f := strings.Fields(rest); len(f) > 19 {
		return f[19]
	}
	return "?"
}

// KillSurvivors kills the children of an earlier process on the same directory, and returns their pids once they are gone.
func (r *Runner) KillSurvivors(ctx context.Context) ([]int, error) {
	alive, err := r.register.running()
	if err != nil {
		return nil, fmt.Errorf("read the register of child processes: %w", err)
	}
	killed := map[int]bool{}
	for pid, started := range alive {
		if started != "?" && startTime(pid) == started {
			killed[pid] = true
			_ = syscall.Kill(-pid, syscall.SIGKILL) // it may have ended since
		}
	}
	for _, pid := range r.marked() {
		killed[pid] = true
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	var pids []int
	for pid := range killed {
		if err := waitGone(ctx, pid); err != nil {
			return pids, err
		}
		pids = append(pids, pid)
	}
	r.register.mu.Lock()
	defer r.register.mu.Unlock()
	return pids, r.register.file.Truncate(0)
}

// marked finds processes that carry this directory's marker in their environment.
func (r *Runner) marked() []int {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is fine
	want := []byte(Marker + "=" + r.register.instance)
	var pids []int
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // gone, or another user's
		}
		for v := range bytes.SplitSeq(text, []byte{0}) {
			if bytes.Equal(v, want) {
				if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && pid != os.Getpid() {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

func waitGone(ctx context.Context, pid int) error {
	for syscall.Kill(pid, 0) == nil && !zombie(pid) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("process %d of the last run does not end: %w", pid, ctx.Err())
		}
	}
	return nil
}

func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	rest := bytes.TrimSpace(text[bytes.LastIndexByte(text, ')')+1:])
	return len(rest) > 0 && rest[0] == 'Z'
}
