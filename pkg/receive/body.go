package receive

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of body buffers. A connection that sent nothing yet holds a tiny one; most webhooks fit the small one.
const (
	tiny  = 4 << 10
	small = 32 << 10
	// large is the size above which a body may not use the part of the budget that is kept for small ones.
	large = 64 << 10
)

// budget bounds the memory of all unfinished bodies.
type budget struct {
	max, maxLarge int64
	used          atomic.Int64
}

func newBudget(size int64) *budget { return &budget{max: size, maxLarge: size / 4 * 3} }

// take adds n bytes for a body that then has total, or refuses.
func (b *budget) take(n, total int64) bool {
	most := b.max
	if total > large {
		most = b.maxLarge
	}
	if b.used.Add(n) <= most {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// buffers keeps buffers of the two usual sizes for reuse.
type buffers struct {
	tiny, small sync.Pool
}

func (p *buffers) get(size int64) []byte {
	var pool *sync.Pool
	switch size {
	case tiny:
		pool = &p.tiny
	case small:
		pool = &p.small
	default:
		return make([]byte, size)
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

func (p *buffers) put(b []byte) {
	switch len(b) {
	case tiny:
		p.tiny.Put(&b)
	case small:
		p.small.Put(&b)
	}
}

// body is a request's body and the memory it holds.
type body struct {
	bytes  []byte
	buffer []byte // whole; bytes is its beginning
}

// release gives the body's memory back. Only when the request was taken is it sure that nobody reads the buffer any
// more, so that it can serve another.
func (rc *Receiver) release(b *body, reuse bool) {
	rc.budget.give(int64(len(b.buffer)))
	if reuse {
		rc.buffers.put(b.buffer)
	}
	b.bytes, b.buffer = nil, nil
}

// read reads the request's body whole. The memory it holds grows with what has come, so that a slow sender reserves
// little, and the time it has grows too.
func (rc *Receiver) read(r *http.Request, ep *Endpoint, p *pace) (*body, error) {
	limit := orElse(ep.MaxBody, rc.MaxBody)
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b := &body{}
	if err := rc.fill(b, p, r, limit); err != nil {
		rc.release(b, true)
		return nil, err
	}
	return b, nil
}

func (rc *Receiver) fill(b *body, p *pace, r *http.Request, limit int64) error {
	n := int64(0)
	for r.ContentLength < 0 || n < r.ContentLength {
		if n == int64(len(b.buffer)) {
			if err := rc.grow(b, n, r.ContentLength, limit); err != nil {
				return err
			}
		}
		p.allow(n)
		got, err := r.Body.Read(b.buffer[n:])
		n += int64(got)
		b.bytes = b.buffer[:n]
		if n > limit {
			return tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readError(err)
		}
	}
	if n < r.ContentLength {
		return errCutOff
	}
	return nil
}

// grow gives the body a larger buffer, up to what it announced, or one byte more than it may have.
func (rc *Receiver) grow(b *body, n, announced, limit int64) error {
	size := int64(tiny)
	switch {
	case n >= small:
		size = min(4*n, limit+1)
	case n >= tiny:
		size = small
	}
	if announced >= 0 && size > small {
		size = min(size, announced)
	}
	if !rc.budget.take(size-n, size) {
		return errBudget
	}
	bigger := rc.buffers.get(size)
	copy(bigger, b.buffer)
	rc.buffers.put(b.buffer)
	b.buffer = bigger
	b.bytes = bigger[:n]
	return nil
}

func readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	return errCutOff
}

// answerTime is what is left for storing and answering once the body is there.
const answerTime = 30 * time.Second

// pace moves a connection's deadlines on as the body comes in.
type pace struct {
	ctl     *http.ResponseController
	start   time.Time
	grace   time.Duration
	rate    int64
	allowed int64 // bytes that the deadline was set for
	set     bool
}

func newPace(rc *Receiver, w http.ResponseWriter) *pace {
	return &pace{ctl: http.NewResponseController(w), start: time.Now(), grace: rc.Grace, rate: rc.MinRate}
}

// allow sets the deadline for the read after n bytes. Writers without deadlines, as in tests, have none.
func (p *pace) allow(n int64) {
	if p.set && n-p.allowed < p.rate { // less than a second more
		return
	}
	deadline := p.start.Add(p.grace + time.Duration(float64(n)/float64(p.rate)*float64(time.Second)))
	_ = p.ctl.SetReadDeadline(deadline)
	if p.set { // at first the server's own time-out is enough
		_ = p.ctl.SetWriteDeadline(deadline.Add(answerTime))
	}
	p.allowed, p.set = n, true
}
