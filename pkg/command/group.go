package command

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// group is the process group of one child.
type group struct {
	id    int
	grace time.Duration
	first syscall.Signal // sent before KILL
	stuck bool           // it did not go although it was killed
}

// gonePatience is how long a killed group may take: the kernel frees its memory, and finishes what it does to the disk.
const gonePatience = 30 * time.Second

// end waits for the leader, reaps it, and returns when the group is gone. It ends the group when the context ends first, and
// returns true then.
func (g *group) end(ctx context.Context, cmd *exec.Cmd) (stopped bool) {
	var until time.Time // when the grace ends
	ended, done := make(chan struct{}), make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(done)
		until = time.Now().Add(g.grace)
		g.terminate(ended)
	})
	waitEnded(cmd)
	if stopped = !unregister(); stopped {
		close(ended)
		<-done
	} else {
		// The leader is dead and (on Linux) not reaped, so that the group's number can't be another's.
		_ = syscall.Kill(-g.id, syscall.SIGKILL) // nobody else may be there
	}
	_ = cmd.Wait() // the state is what counts
	if stopped && g.gone(time.Until(until)) {
		return true
	}
	_ = syscall.Kill(-g.id, syscall.SIGKILL) // it may be gone
	g.stuck = !g.gone(gonePatience)
	return stopped
}

// terminate sends the first signal, and KILL when the leader has not ended after the grace.
func (g *group) terminate(ended <-chan struct{}) {
	_ = syscall.Kill(-g.id, g.first) // it may have ended
	t := time.NewTimer(g.grace)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		_ = syscall.Kill(-g.id, syscall.SIGKILL)
	}
}

// gone reports whether nothing of the group is alive, or gets so in time. Dead orphans are init's to reap, which may take
// its time or never do it; those that came to us, because we are process 1 of a container, are reaped here.
func (g *group) gone(patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		if syscall.Kill(-g.id, 0) != nil || wait > time.Millisecond && !living(g.id) {
			return true
		}
		_, _ = syscall.Wait4(-g.id, nil, syscall.WNOHANG, nil)
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(wait)
	}
}
