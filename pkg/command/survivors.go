package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Survivor is a process that an earlier server on the same directory left behind.
type Survivor struct {
	PID int
	Key string // of the Cmd it ran for; empty where only the marker told it
}

func (s Survivor) String() string { return strings.TrimSpace(strconv.Itoa(s.PID) + " " + s.Key) }

// KillSurvivors kills what children of an earlier server on the same directory are left, and returns them once they are
// gone. It must be called before the first Run. A child whose number has gone to another process is known by its start
// time and left alone; elsewhere than on Linux, where nothing tells the start time, nothing is killed.
func (r *Runner) KillSurvivors(ctx context.Context) ([]Survivor, error) {
	alive, err := r.register.running()
	if err != nil {
		return nil, fmt.Errorf("read the register of child processes: %w", err)
	}
	killed := map[int]string{}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, err := r.kill(alive, killed)
		if err != nil {
			return survivors(killed), err
		}
		if left == 0 { // in a whole round: what was killed can't have started others since
			return survivors(killed), r.register.forget()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return survivors(killed), fmt.Errorf("%d processes of the last run do not end: %w", left, context.Cause(ctx))
		}
	}
}

// kill kills what is left, adds it to killed, and returns how many it was.
func (r *Runner) kill(alive map[int]registered, killed map[int]string) (left int, err error) {
	for pgid, child := range alive {
		_, ours := killed[pgid] // then its leader may be dead and members not yet
		if !ours && !child.is(r.register.boot, startTime(pgid)) || !living(pgid) {
			continue
		}
		if err := syscall.Kill(-pgid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return left, fmt.Errorf("kill process group %d, which an earlier run of %s left: %w", pgid, child.key, err)
		}
		killed[pgid] = child.key
		left++
	}
	for _, pid := range marked(r.marker) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return left, fmt.Errorf("kill process %d, which an earlier run left: %w", pid, err)
		}
		killed[pid] += ""
		left++
	}
	return left, nil
}

func survivors(killed map[int]string) []Survivor {
	var out []Survivor
	for pid, key := range killed {
		out = append(out, Survivor{pid, key})
	}
	return out
}

// marked finds the processes, other than this one, that have the marker in their environment: those of our own user, on
// Linux. One that overwrote its environment (to show a title in ps) is not found.
func marked(marker string) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is fine
	want := []byte(marker)
	var pids []int
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, want) {
			continue // gone, another user's, or of no interest
		}
		for v := range bytes.SplitSeq(text, []byte{0}) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); bytes.Equal(v, want) && err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
