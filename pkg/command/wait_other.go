//go:build !linux

package command

import "os/exec"

// waitEnded returns when the child has ended. It reaps it, since nothing else waits elsewhere than on Linux; the state is in
// cmd, and a later Wait does nothing.
func waitEnded(cmd *exec.Cmd) { _ = cmd.Wait() }
