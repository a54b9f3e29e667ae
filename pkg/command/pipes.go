package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// drainPatience is how long what is left in a pipe may take once the group is gone. Only a process that escaped from the
// group can keep a pipe open longer.
const drainPatience = 500 * time.Millisecond

// pipes connect a child with its writers. They are ours, not those of os/exec, so that waiting for the child is not waiting
// for whoever holds its output.
type pipes struct {
	childs []*os.File // closed once the child is started
	in     *os.File
	stdin  []byte
	outs   []output
	all    sync.WaitGroup

	buffers *sync.Pool
}

type output struct {
	from *os.File
	to   io.Writer
	err  error
}

func (p *pipes) connect(cmd *exec.Cmd, c Cmd) error {
	if c.Stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p.childs, p.in, p.stdin = append(p.childs, r), w, c.Stdin
		cmd.Stdin = r
	}
	for _, o := range []struct {
		to    io.Writer
		child *io.Writer
	}{{c.Stdout, &cmd.Stdout}, {c.Stderr, &cmd.Stderr}} {
		if o.to == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p.childs, p.outs = append(p.childs, w), append(p.outs, output{from: r, to: o.to})
		*o.child = w
	}
	return nil
}

// abandon closes everything; nothing was started. What can't be closed matters no more, here and below.
func (p *pipes) abandon() {
	for _, f := range p.childs {
		_ = f.Close()
	}
	for i := range p.outs {
		_ = p.outs[i].from.Close()
	}
	if p.in != nil {
		_ = p.in.Close()
	}
}

// run moves data until finish is called.
func (p *pipes) run() {
	for _, f := range p.childs {
		_ = f.Close()
	}
	if p.in != nil {
		p.all.Go(func() {
			_, _ = p.in.Write(p.stdin) // the child need not read it
			_ = p.in.Close()
		})
	}
	for i := range p.outs {
		p.all.Go(func() { p.outs[i].copy(p.buffers) })
	}
}

// finish returns when all that the child wrote is with its writers, and the first of their errors.
func (p *pipes) finish() error {
	deadline := time.Now().Add(drainPatience)
	if p.in != nil {
		_ = p.in.SetDeadline(time.Now()) // closed already, most often
	}
	for i := range p.outs {
		_ = p.outs[i].from.SetReadDeadline(deadline)
	}
	p.all.Wait()
	for i := range p.outs {
		if p.outs[i].err != nil {
			return fmt.Errorf("take the child's output: %w", p.outs[i].err)
		}
	}
	return nil
}

func (o *output) copy(buffers *sync.Pool) {
	defer func() { _ = o.from.Close() }() // it was only read
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := *pooled
	for {
		n, err := o.from.Read(buf)
		if n > 0 && o.err == nil {
			_, o.err = o.to.Write(buf[:n])
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && o.err == nil {
				o.err = err
			}
			return
		}
	}
}
