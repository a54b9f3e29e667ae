//go:build !linux

package command

import "os/exec"

// waitEnded returns when the child has ended. It reaps it, since nothing else waits elsewhere than on Linux; the state is in
// cmd, and a later Wait does nothing.
func waitEnded(cmd *exec.Cmd) { _ = cmd.Wait() }

// bootTicks is 0: nothing tells a process's start time here, so nothing need be compared with it.
func bootTicks() int64 { return 0 }
