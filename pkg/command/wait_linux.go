package command

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// waitEnded returns when the child has ended, and does not reap it (waitid(2), WNOWAIT).
func waitEnded(cmd *exec.Cmd) {
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
