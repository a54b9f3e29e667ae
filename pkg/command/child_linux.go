package command

import (
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// waitEnded returns when the child has ended, and does not reap it (waitid(2), WNOWAIT).
func waitEnded(cmd *exec.Cmd) {
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// bootTicks returns the clock that processes' start times are taken from, in ticks of 10 ms: Linux counts so on every
// architecture that Go knows (USER_HZ, man 7 time).
func bootTicks() int64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return now.Nano() / int64(10*time.Millisecond)
}
